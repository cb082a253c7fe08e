//! What the documents promise must be in the tree: tests that they name, files that they link.

use super::File;
use crate::metadata::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Documents in which every numbered row must name what holds it.
const PROMISES: &[&str] = &["docs/threat-model.md", "docs/past-incidents.md", "ARCHITECTURE.md"];

/// What besides a test may hold a promise.
const HOLDERS: &[&str] = &["`cargo xtask deny`", "`cargo xtask tidy`", "`clippy`"];

pub(super) fn check(tree: &Tree, files: &[File], problems: &mut Vec<String>) {
    let tests = tests_by_crate(tree, files);
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let promises = PROMISES.contains(&file.path.as_str());
        let mut numbers = BTreeSet::new();
        for (number, line) in file.text.lines().enumerate() {
            let place = format!("{}:{}", file.path, number + 1);
            if promises {
                promise(&tests, line, &place, problems);
                if row_number(line).is_some_and(|row| !numbers.insert(row)) {
                    problems.push(format!("{place}: another row has this number"));
                }
            }
            for link in links(line) {
                let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
                if !tree.root.join(folder).join(link).exists() {
                    problems.push(format!("{place}: there is no {link}"));
                }
            }
        }
    }
}

fn promise(tests: &BTreeMap<String, BTreeSet<String>>, line: &str, place: &str, problems: &mut Vec<String>) {
    let mut named = 0;
    for (package, test) in line.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")) {
        let Some(of_package) = tests.get(package) else { continue };
        named += 1;
        let function = test.rsplit("::").next().unwrap_or(test);
        if !of_package.contains(function) {
            problems.push(format!("{place}: {package} has no test {function}"));
        }
    }
    if row_number(line).is_some() && named == 0 && !HOLDERS.iter().any(|holder| line.contains(holder)) {
        problems.push(format!("{place}: name the test that holds this, as `crate::test`"));
    }
}

/// The number that a row of a table begins with.
fn row_number(line: &str) -> Option<u32> {
    line.strip_prefix("| ")?.split(' ').next()?.parse().ok()
}

/// The names of test functions, by crate.
fn tests_by_crate(tree: &Tree, files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, package) in &tree.members {
        let folder = package.manifest.parent().and_then(|folder| folder.strip_prefix(&tree.root).ok());
        let of_package = tests.entry(name.clone()).or_default();
        for file in files.iter().filter(|file| file.is_rust()) {
            if folder.is_some_and(|folder| Path::new(&file.path).starts_with(folder)) {
                of_package.extend(test_functions(&file.text).map(str::to_owned));
            }
        }
    }
    tests
}

/// Functions after a `#[test]` or `#[tokio::test…]`.
fn test_functions(text: &str) -> impl Iterator<Item = &str> {
    let mut pending = false;
    text.lines().map(str::trim).filter_map(move |line| {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            pending = true;
            return None;
        }
        if line.starts_with("#[") || line.starts_with("//") || line.is_empty() {
            return None;
        }
        let name = line.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).map(|(name, _)| name);
        std::mem::take(&mut pending).then_some(name).flatten()
    })
}

/// Targets of links into the tree.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split_once(')')?.0;
        let file = target.split('#').next().unwrap_or_default();
        (!file.is_empty() && !file.contains(':')).then_some(file)
    })
}

/// Whether a comment of the documentation holds code that `cargo test --doc` would run.
pub(super) fn has_doc_test(text: &str) -> bool {
    let mut open = false;
    text.lines().map(str::trim).any(|line| {
        let Some(kind) = line.strip_prefix("/// ```").or_else(|| line.strip_prefix("//! ```")) else { return false };
        open = !open;
        let runs = ["rust", "no_run", "should_panic", "compile_fail"];
        open && (kind.is_empty() || runs.iter().any(|word| kind.contains(word)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_functions_are_found_and_others_are_not() {
        let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(flavor = \"x\")]\n// why\n#[allow(x)]\nasync fn three() {}\n";
        assert_eq!(test_functions(text).collect::<Vec<_>>(), ["one", "three"]);
    }

    #[test]
    fn a_promise_needs_a_test_that_exists() {
        let tests = [("oauth3-dial".to_owned(), ["here".to_owned()].into())].into();
        let check = |line: &str, count: usize| {
            let mut problems = Vec::new();
            promise(&tests, line, "a.md:1", &mut problems);
            assert_eq!(problems.len(), count, "{line}: {problems:?}");
        };
        check("| 1 | attack | `oauth3-dial::here` |", 0);
        check("| 1 | attack | `oauth3-dial::tls::here` |", 0);
        check("| 1 | attack | `oauth3-dial::gone` |", 1);
        check("| 1 | attack | none |", 1);
        check("| 1 | attack | `cargo xtask deny` |", 0);
        check("prose about `std::mem`", 0);
    }

    #[test]
    fn documentation_tests_are_told_from_pictures() {
        assert!(has_doc_test("/// ```\n/// let a = 1;\n/// ```"));
        assert!(!has_doc_test("/// ```text\n/// a picture\n/// ```\n// ```"));
    }

    #[test]
    fn only_links_into_the_tree_are_followed() {
        let line = "[a](docs/a.md#part) [b](https://example.com) [c](#here) ![d](d.png)";
        assert_eq!(links(line).collect::<Vec<_>>(), ["docs/a.md", "d.png"]);
    }
}
