//! Sealed values and what they are bound to.

use super::vault;
use oauth3_core::{AuditMac, Host, SealedSecret, SecretName, SecretRecord, Timestamp};
use oauth3_vault::{SecretBytes, VaultError};

fn record() -> SecretRecord {
    SecretRecord {
        name: SecretName::parse("API_KEY").unwrap(),
        hosts: [Host::parse("api.example.com").unwrap(), Host::parse("b.example.com:8443").unwrap()].into(),
        reveal: false,
        version: 3,
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(2),
    }
}

#[test]
fn opens_what_it_sealed_and_never_seals_alike() {
    let (vault, _dir) = vault();
    let value = SecretBytes::new(b"the value".to_vec());
    let (one, two) = (vault.seal(&record(), &value).unwrap(), vault.seal(&record(), &value).unwrap());
    assert_ne!(one, two);
    assert!(!one.windows(5).any(|w| w == b"value"));
    let opened = vault.unseal(&SealedSecret { record: record(), sealed: one }).unwrap();
    assert!(opened.equals(b"the value"));
}

#[test]
fn a_row_that_was_edited_does_not_open() {
    let (vault, _dir) = vault();
    let sealed = vault.seal(&record(), &SecretBytes::new(b"the value".to_vec())).unwrap();
    type Edit = fn(&mut SecretRecord);
    let edits: [(&str, Edit); 6] = [
        ("another name", |r| r.name = SecretName::parse("API_KEZ").unwrap()),
        ("another version", |r| r.version = 2),
        ("one host more", |r| r.hosts.extend(Host::parse("evil.example"))),
        ("another port", |r| r.hosts = [Host::parse("api.example.com:444").unwrap()].into()),
        ("no hosts", |r| r.hosts.clear()),
        ("reveal", |r| r.reveal = true),
    ];
    for (what, edit) in edits {
        let mut record = record();
        edit(&mut record);
        let error = vault.unseal(&SealedSecret { record, sealed: sealed.clone() }).unwrap_err();
        assert!(matches!(error, VaultError::Unsealable(_)), "{what}");
    }
    // Times are shown and not bound: they may be touched.
    let record = SecretRecord { updated_at: Timestamp::from_millis(9), ..record() };
    vault.unseal(&SealedSecret { record, sealed }).unwrap();
}

#[test]
fn a_changed_byte_or_another_key_does_not_open() {
    let (vault, _dir) = vault();
    let sealed = vault.seal(&record(), &SecretBytes::new(b"v".to_vec())).unwrap();
    let open = |sealed: Vec<u8>| vault.unseal(&SealedSecret { record: record(), sealed });
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(open(changed).is_err(), "byte {at}");
        assert!(open(sealed[..at].to_vec()).is_err(), "cut at {at}");
    }
    assert!(matches!(open(vec![9; 200]), Err(VaultError::UnknownFormat(_))));
    let (other, _dir) = super::vault();
    assert!(other.unseal(&SealedSecret { record: record(), sealed }).is_err());
}

#[test]
fn the_audit_key_is_of_the_vault() {
    let ((one, _a), (two, _b)) = (vault(), vault());
    assert_eq!(one.mac(b"row"), one.mac(b"row"));
    assert_ne!(one.mac(b"row"), one.mac(b"rox"));
    assert_ne!(one.mac(b"row"), two.mac(b"row"));
}
