//! Rules about single files.

use super::File;

/// Most lines of a file before its tests.
const MAX_LINES: usize = 600;
/// The crate that may have `unsafe` code.
const UNSAFE_HOME: &str = "crates/oauth3-sandbox/";

/// What no file may contain, and why. Joined from halves, so that this file passes.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/tmp/", "bash_jobs"), "a path of one machine"),
    (concat!("/tmp/", "team"), "a path of one machine"),
    (concat!("registry.", "npmjs"), "the address of a package registry"),
    (concat!("files.", "pythonhosted"), "the address of a package registry"),
    (concat!("pypi", ".org"), "the address of a package registry"),
    (concat!("static.", "crates.io"), "the address of a package registry"),
    (concat!("deb.", "debian.org"), "the address of a package registry"),
];

/// What no Rust file may contain.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("#[", "ignore"), "a test that does not run tells nothing"),
    (concat!("todo", "!("), "unfinished"),
    (concat!("unimplemented", "!("), "unfinished"),
    (concat!("FIX", "ME"), "unfinished: mend it or file it"),
];

pub(super) fn check(files: &[File], problems: &mut Vec<String>) {
    for file in files {
        words(file, FORBIDDEN, problems);
        if file.is_rust() {
            words(file, UNFINISHED, problems);
            rust(file, problems);
        }
    }
}

fn words(file: &File, forbidden: &[(&str, &str)], problems: &mut Vec<String>) {
    for (number, line) in file.text.lines().enumerate() {
        for (word, why) in forbidden {
            let whole = |at: usize| !line[..at].ends_with(|c: char| c.is_ascii_lowercase());
            if line.match_indices(word).any(|(at, _)| whole(at)) {
                problems.push(format!("{}:{}: `{word}`: {why}", file.path, number + 1));
            }
        }
    }
}

fn rust(file: &File, problems: &mut Vec<String>) {
    let path = &file.path;
    if !file.text.starts_with("//!") {
        problems.push(format!("{path}:1: begin the file with a `//!` line that says what it is for"));
    }
    let lines = lines_before_tests(&file.text);
    if lines > MAX_LINES {
        problems.push(format!("{path}: {lines} lines before its tests; split it, {MAX_LINES} are the most"));
    }
    if file.text.contains(concat!("(unsafe", "_code")) && !path.starts_with(UNSAFE_HOME) {
        problems.push(format!("{path}: unsafe code is for oauth3-sandbox; use rustix's safe calls"));
    }
}

fn lines_before_tests(text: &str) -> usize {
    let next = text.lines().skip(1);
    let tests = text.lines().zip(next).position(|(line, next)| line == "#[cfg(test)]" && next.starts_with("mod "));
    tests.unwrap_or_else(|| text.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check(&[File { path: path.into(), text: text.into() }], &mut problems);
        problems
    }

    #[test]
    fn a_good_file_passes() {
        let long_tests = format!("//! Good.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    // x\n".repeat(700));
        assert_eq!(problems("crates/a/src/lib.rs", &long_tests), Vec::<String>::new());
        assert_eq!(problems("docs/a.md", "crates/network/src and framework/ are fine"), Vec::<String>::new());
    }

    #[test]
    fn each_rule_bites() {
        let check = |path: &str, text: String, word: &str| {
            let found = problems(path, &text);
            assert!(found.len() == 1 && found[0].contains(word), "{found:?}");
        };
        check("a.rs", "fn main() {}\n".into(), "//!");
        check("a.rs", "//! A.\n".repeat(601), "601 lines");
        check("a.md", concat!("see /wo", "rk/main").into(), "a.md:1");
        check("a.rs", concat!("//! A.\n#[", "ignore]\n").into(), "a.rs:2");
        check("crates/oauth3-api/a.rs", concat!("//! A.\n#![allow(unsafe", "_code)]\n").into(), "unsafe");
        check("a.toml", concat!("x = \"https://pypi", ".org/simple\"").into(), "registry");
    }
}
