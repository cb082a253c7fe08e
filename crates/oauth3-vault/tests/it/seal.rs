//! Sealed values and what they are bound to.

use super::vault;
use oauth3_core::{
    ApiId, AuditMac, Derived, DerivedWay, Host, Kind, Reveal, SealedSecret, SecretName, SecretRecord, SignInSetup,
    Slot, Timestamp, Uses,
};
use oauth3_vault::{KeySource, SecretBytes, Vault, VaultError};

fn record() -> SecretRecord {
    SecretRecord {
        name: SecretName::parse("API_KEY").unwrap(),
        hosts: [Host::parse("api.example.com").unwrap(), Host::parse("b.example.com:8443").unwrap()].into(),
        uses: Uses::default(),
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
    let edits: [(&str, Edit); 9] = [
        ("another name", |r| r.name = SecretName::parse("API_KEZ").unwrap()),
        ("another version", |r| r.version = 2),
        ("one host more", |r| r.hosts.extend(Host::parse("evil.example"))),
        ("another port", |r| r.hosts = [Host::parse("api.example.com:444").unwrap()].into()),
        ("no hosts", |r| r.hosts.clear()),
        ("revealed", |r| r.uses.reveal = Reveal::Once),
        ("one slot more", |r| r.uses.slots.extend([Slot::Body])),
        ("a rule", |r| r.uses.rules.extend("api.example.com * /**".parse())),
        ("another kind", |r| r.uses.kind = Kind::AwsSigv4),
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

/// Made by version 0.1.0 before there were uses: its key file, and a value sealed with it.
const OLD_KEY: &str = "oauth3-master-key-1 43a3c29952f991ce8cc2e08f7cab494b9116cf8bfcb06a3480322557b7392f14\n";
const OLD_SEALED: &str = "0194d10707b867f255ccbe14259798489160748b3550e41cb7cf923ee2b720f126fae0469485170e6cec7022e5ba23\
    fcaaf49af0d6b51fae98ee36aab4ba0f70ecdd7d7307cf60565e8a3fb489a15ee837f6f52b9d8acfeefe95362eef935c817da7aea8c5593b7ac\
    9205d98f121a75969c891dbe0fec41efcbf18cf97f7001a";

#[test]
fn what_an_older_version_sealed_opens_with_the_uses_that_there_were() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("master.key");
    std::fs::write(&file, OLD_KEY).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let vault = Vault::open(&KeySource::File { dir: dir.path().to_owned() }).unwrap();
    let sealed = data_encoding::HEXLOWER.decode(OLD_SEALED.as_bytes()).unwrap();
    let open = |record| vault.unseal(&SealedSecret { record, sealed: sealed.clone() });
    assert!(open(record()).unwrap().equals(b"sealed by 0.1.0"));
    for uses in [
        Uses { reveal: Reveal::Standing, ..Uses::default() },
        Uses { slots: [Slot::Header, Slot::Body].into(), ..Uses::default() },
    ] {
        assert!(matches!(open(SecretRecord { uses, ..record() }), Err(VaultError::Unsealable(_))));
    }
    // Told to be of the other format, it is not what that one would be.
    let mut renamed = sealed.clone();
    renamed[0] = 2;
    assert!(vault.unseal(&SealedSecret { record: record(), sealed: renamed }).is_err());
}

#[test]
fn tokens_of_a_sign_in_open_under_their_own_setup_only() {
    let (vault, _dir) = vault();
    let api = ApiId::connection("my-mail").unwrap();
    let setup = SignInSetup {
        provider: "generic".into(),
        parameters: [("issuer".to_owned(), "https://id.example.com".to_owned())].into(),
        client_id: "client".into(),
        scopes: ["mail.read".to_owned()].into(),
        hosts: Host::parse("api.example.com").into_iter().collect(),
        from: None,
    };
    let sealed = vault.seal_sign_in(&api, 3, &setup, &SecretBytes::new(b"refresh".to_vec())).unwrap();
    assert!(vault.unseal_sign_in(&api, 3, &setup, &sealed).unwrap().equals(b"refresh"));
    type Edit = fn(&mut SignInSetup);
    let edits: [(&str, Edit); 7] = [
        ("got from another sign-in", |s| s.from = Some(derived("work", DerivedWay::FewerScopes))),
        ("another provider", |s| s.provider = "google".into()),
        ("another issuer", |s| drop(s.parameters.insert("issuer".into(), "https://evil.example".into()))),
        ("one parameter more", |s| drop(s.parameters.insert("token_endpoint".into(), "https://evil.example".into()))),
        ("another client", |s| s.client_id = "other".into()),
        ("one scope more", |s| s.scopes.extend(["mail.send".to_owned()])),
        ("one host more", |s| s.hosts.extend(Host::parse("evil.example"))),
    ];
    for (what, edit) in edits {
        let mut setup = setup.clone();
        edit(&mut setup);
        assert!(vault.unseal_sign_in(&api, 3, &setup, &sealed).is_err(), "{what}");
    }
    assert!(vault.unseal_sign_in(&api, 4, &setup, &sealed).is_err());
    assert!(vault.unseal_sign_in(&ApiId::connection("mail").unwrap(), 3, &setup, &sealed).is_err());
    assert!(vault.unseal_sign_in(&api, 3, &setup, &[]).is_err());
}

fn derived(parent: &str, way: DerivedWay) -> Derived {
    Derived { parent: ApiId::connection(parent).unwrap(), way }
}

#[test]
fn a_derived_token_opens_under_its_own_parent_and_way_only() {
    let (vault, _dir) = vault();
    let api = ApiId::connection("narrow").unwrap();
    let text = |text: &str| Some(text.to_owned());
    let exchange = |audience, resource| DerivedWay::Exchange { audience, resource };
    let ways = [
        derived("mail", DerivedWay::FewerScopes),
        derived("work", DerivedWay::FewerScopes),
        derived("mail", exchange(text("a"), None)),
        derived("mail", exchange(None, text("a"))),
        derived("mail", exchange(text("a"), text("b"))),
        derived("mail", DerivedWay::Vault { connection: "a".into() }),
        derived("mail", DerivedWay::Vault { connection: "b".into() }),
    ];
    let setup = |from: Option<&Derived>| SignInSetup {
        provider: "generic".into(),
        parameters: [].into(),
        client_id: "client".into(),
        scopes: ["mail.read".to_owned()].into(),
        hosts: Host::parse("api.example.com").into_iter().collect(),
        from: from.cloned(),
    };
    for sealed_as in &ways {
        let sealed = vault.seal_sign_in(&api, 1, &setup(Some(sealed_as)), &SecretBytes::new(b"x".to_vec())).unwrap();
        for opened_as in ways.iter().map(Some).chain([None]) {
            let opens = vault.unseal_sign_in(&api, 1, &setup(opened_as), &sealed).is_ok();
            assert_eq!(opens, opened_as == Some(sealed_as), "{sealed_as:?} as {opened_as:?}");
        }
    }
}
