//! Key files and passphrases.

use super::file_source;
use oauth3_core::AuditMac;
use oauth3_vault::{KeySource, Vault, VaultError};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn passphrase(dir: &Path, text: &str) -> KeySource {
    KeySource::Passphrase { dir: dir.to_owned(), passphrase: text.to_owned().into() }
}

#[test]
fn a_key_file_is_for_its_owner_only_and_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let source = file_source(dir.path());
    assert!(!source.exists());
    assert!(matches!(Vault::open(&source), Err(VaultError::KeyMissing(_))));
    source.create().unwrap();
    assert!(source.exists());
    let path = dir.path().join("master.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    assert!(matches!(source.create(), Err(VaultError::KeyExists(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    Vault::open(&source).unwrap();
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    let source = file_source(dir.path());
    source.create().unwrap();
    let path = dir.path().join("master.key");
    for mode in [0o640, 0o604, 0o660, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Vault::open(&source).unwrap_err();
        assert!(matches!(error, VaultError::KeyExposed(_)), "{mode:o}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    Vault::open(&source).unwrap();
}

#[test]
fn a_damaged_key_file_is_refused_and_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let source = file_source(dir.path());
    source.create().unwrap();
    let path = dir.path().join("master.key");
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["", "oauth3-master-key-1 ", "oauth3-master-key-1 00ff\n", good.trim_start_matches('o'), &good[..80]] {
        fs::write(&path, bad).unwrap();
        let error = Vault::open(&source).unwrap_err();
        assert!(matches!(error, VaultError::KeyMalformed(_)), "{bad:?}");
        assert!(!error.to_string().contains(&good[30..50]));
    }
}

#[test]
fn a_passphrase_opens_the_same_vault_again_and_a_wrong_one_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let right = passphrase(dir.path(), "correct horse battery");
    assert!(matches!(Vault::open(&right), Err(VaultError::KeyMissing(_))));
    right.create().unwrap();
    let mac = Vault::open(&right).unwrap().mac(b"x");
    assert_eq!(Vault::open(&right).unwrap().mac(b"x"), mac);
    let wrong = Vault::open(&passphrase(dir.path(), "correct horse batterx")).unwrap_err();
    assert_eq!(wrong.to_string(), "the passphrase is wrong");
    assert!(matches!(right.create(), Err(VaultError::KeyExists(_))));
    assert!(!fs::read_to_string(dir.path().join("vault.json")).unwrap().contains("horse"));
}

#[test]
fn weak_parameters_and_passphrases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(passphrase(dir.path(), "short").create(), Err(VaultError::WeakPassphrase(_))));
    let source = passphrase(dir.path(), "correct horse battery");
    source.create().unwrap();
    let path = dir.path().join("vault.json");
    let good = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"memory_kib\": 65536", "\"memory_kib\": 8"),
        ("\"memory_kib\": 65536", "\"memory_kib\": 4294967295"),
        ("\"passes\": 3", "\"passes\": 0"),
        ("\"format\": 1", "\"format\": 2"),
        ("argon2id", "none"),
    ] {
        assert!(good.contains(from));
        fs::write(&path, good.replace(from, to)).unwrap();
        assert!(matches!(Vault::open(&source), Err(VaultError::KeyMalformed(_))), "{to}");
    }
}

#[test]
fn one_directory_has_one_kind_of_key() {
    let dir = tempfile::tempdir().unwrap();
    file_source(dir.path()).create().unwrap();
    let other = passphrase(dir.path(), "correct horse battery");
    assert!(matches!(other.create(), Err(VaultError::OtherKeyKind(_))));
    assert!(matches!(Vault::open(&other), Err(VaultError::OtherKeyKind(_))));
}
