//! The vault as the keeper uses it: keys on disk, sealing, the audit key.
#![allow(clippy::unwrap_used)]

mod keys;
mod seal;

use oauth3_vault::{KeySource, Vault};
use std::path::Path;

fn file_source(dir: &Path) -> KeySource {
    KeySource::File { dir: dir.to_owned() }
}

/// A vault with a fresh key file, and the directory that holds it.
fn vault() -> (Vault, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let source = file_source(dir.path());
    source.create().unwrap();
    (Vault::open(&source).unwrap(), dir)
}
