//! No dependency without a use: neither in a crate nor in the workspace's list.

use super::File;
use std::collections::BTreeSet;

pub(super) fn check(files: &[File], problems: &mut Vec<String>) {
    let mut used = BTreeSet::new();
    for manifest in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let folder = manifest.path.trim_end_matches("Cargo.toml");
        let sources = || files.iter().filter(|file| file.is_rust() && file.path.starts_with(folder));
        for name in names(&manifest.text, &["[dependencies]", "[dev-dependencies]", "[build-dependencies]"]) {
            used.insert(name);
            let word = name.replace('-', "_");
            if !sources().any(|file| says(&file.text, &word)) {
                problems.push(format!("{}: nothing uses {name}; remove it", manifest.path));
            }
        }
    }
    let root = files.iter().find(|file| file.path == "Cargo.toml");
    for name in root.into_iter().flat_map(|file| names(&file.text, &["[workspace.dependencies]"])) {
        if !used.contains(name) {
            problems.push(format!("Cargo.toml: no crate uses {name}; remove it"));
        }
    }
}

/// Names of the entries of these tables.
fn names<'a>(manifest: &'a str, tables: &[&str]) -> Vec<&'a str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = tables.contains(&line.trim());
        } else if inside && line.starts_with(|c: char| c.is_ascii_lowercase()) {
            names.extend(line.split(['.', ' ', '=']).next());
        }
    }
    names
}

/// Whether the word stands in the text by itself.
fn says(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(root: &str, manifest: &str, source: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let mut problems = Vec::new();
        let files =
            [file("Cargo.toml", root), file("crates/a/Cargo.toml", manifest), file("crates/a/src/lib.rs", source)];
        check(&files, &mut problems);
        problems
    }

    #[test]
    fn what_is_used_passes_and_what_is_not_is_named() {
        let root = "[workspace.dependencies]\nhttp-body = \"1\"\n";
        let manifest = "[package]\nname = \"a\"\n[dependencies]\nhttp-body.workspace = true\n";
        assert_eq!(problems(root, manifest, "use http_body::Body;"), Vec::<String>::new());
        assert_eq!(
            problems(root, manifest, "use http_body_util::Full;"),
            ["crates/a/Cargo.toml: nothing uses http-body; remove it"]
        );
        assert_eq!(problems(root, "[dependencies]\n", ""), ["Cargo.toml: no crate uses http-body; remove it"]);
    }
}
