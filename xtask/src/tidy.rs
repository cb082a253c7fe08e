//! `cargo xtask tidy`: house rules that no compiler checks.

mod dependencies;
mod docs;
mod edges;
mod files;

use crate::metadata::Tree;
use crate::shell;
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;

/// A text file of the tree.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

pub(crate) fn run(tree: &Tree) -> Result<()> {
    let files = read(tree)?;
    let mut problems = Vec::new();
    files::check(&files, &mut problems);
    dependencies::check(&files, &mut problems);
    edges::check(tree, &files, &mut problems);
    docs::check(tree, &files, &mut problems);
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} house rules are broken", problems.len());
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

/// Whether any documentation comment of a library holds code to run.
pub(crate) fn has_doc_tests(tree: &Tree) -> Result<bool> {
    Ok(read(tree)?.iter().filter(|file| file.is_rust()).any(|file| docs::has_doc_test(&file.text)))
}

/// Every text file that git knows or would add.
fn read(tree: &Tree) -> Result<Vec<File>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let list = shell::quiet(shell::command("git").args(list).current_dir(&tree.root))?;
    let mut paths: Vec<&str> = list.split('\0').filter(|path| !path.is_empty()).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths {
        // A file that was removed and not yet committed, or that is no text, has nothing to check.
        if let Ok(text) = fs::read_to_string(tree.root.join(PathBuf::from(path))) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}
