//! Values coming in.

use super::home::{Home, NOW, VALUE, host, new_secret, value};
use oauth3_core::{Fault, Keeper, SecretName, Store, WriteOnly};
use oauth3_keeper::MAX_VALUE_BYTES;

#[tokio::test]
async fn a_value_is_sealed_recorded_and_nowhere_in_the_clear() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "api.example.com").await;
    let records = home.store.secrets().await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].version, records[0].uses.is_default(), records[0].created_at), (1, true, NOW));
    assert_eq!(records[0].hosts, [host("api.example.com")].into());
    let rows = home.rows().await;
    let row = &rows.last().unwrap().event;
    assert_eq!((row.kind.as_str(), row.actor.as_str()), ("secret_changed", "telegram:42"));
    assert_eq!(
        serde_json::to_string(&row.detail).unwrap(),
        r#"{"change":"added","secret":"API_KEY","version":1,"hosts":["api.example.com"]}"#
    );
    for file in std::fs::read_dir(home.dir.path()).unwrap() {
        let path = file.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        assert!(!bytes.windows(VALUE.len()).any(|w| w == VALUE.as_bytes()), "{path:?}");
    }
}

#[tokio::test]
async fn add_and_rotate_differ() {
    let home = Home::new().await;
    let (add, mut rotate) = (|| new_secret("API_KEY", &["api.example.com"]), new_secret("API_KEY", &[]));
    rotate.replace = true;
    let missing = home.keeper.put_secret(rotate.clone(), value(VALUE)).await;
    assert!(matches!(missing, Err(Fault::NotFound(_))));
    home.keeper.put_secret(add(), value(VALUE)).await.unwrap();
    assert!(matches!(home.keeper.put_secret(add(), value("other")).await, Err(Fault::Exists(_))));
    let before = home.store.sealed_secret(&add().name).await.unwrap().unwrap();

    home.keeper.put_secret(rotate.clone(), value("the next")).await.unwrap();
    let after = home.store.sealed_secret(&add().name).await.unwrap().unwrap();
    assert_eq!((after.record.version, &after.record.hosts), (2, &before.record.hosts));
    assert_ne!(after.sealed, before.sealed);

    rotate.hosts = [host("b.example.com:8443")].into();
    home.keeper.put_secret(rotate.clone(), value("the third")).await.unwrap();
    let bound = home.store.sealed_secret(&add().name).await.unwrap().unwrap();
    assert_eq!((bound.record.version, bound.record.hosts), (3, rotate.hosts));
}

#[tokio::test]
async fn values_out_of_bounds_and_uses_without_sense_are_refused() {
    let home = Home::new().await;
    let put = |value: Vec<u8>| home.keeper.put_secret(new_secret("API_KEY", &[]), WriteOnly::new(value));
    assert!(matches!(put(Vec::new()).await, Err(Fault::InvalidRequest(_))));
    assert!(matches!(put(vec![7; MAX_VALUE_BYTES + 1]).await, Err(Fault::TooLarge(_))));
    for change in [
        (|s: &mut oauth3_core::NewSecret| s.uses.slots = Some([].into())) as fn(&mut oauth3_core::NewSecret),
        |s| s.by.clear(),
        |s| s.by = "two\nlines".into(),
        |s| s.hosts = (0..65).map(|n| host(&format!("h{n}.example.com"))).collect(),
    ] {
        let mut secret = new_secret("API_KEY", &[]);
        change(&mut secret);
        assert!(matches!(home.keeper.put_secret(secret, value(VALUE)).await, Err(Fault::InvalidRequest(_))));
    }
    assert_eq!(home.kinds().await, ["started"], "nothing was recorded, for nothing was done");
    put(vec![0xff; MAX_VALUE_BYTES]).await.unwrap();
    let stored = home.store.sealed_secret(&SecretName::parse("API_KEY").unwrap()).await.unwrap().unwrap();
    assert!(stored.sealed.len() > MAX_VALUE_BYTES);
}

/// Who can write the database binds a secret to a host of their own, and waits for the next value.
#[tokio::test]
async fn a_new_value_inherits_nothing_from_an_edited_row() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "api.example.com").await;
    let mut stored = home.store.sealed_secret(&SecretName::parse("API_KEY").unwrap()).await.unwrap().unwrap();
    stored.record.hosts.extend([host("evil.example.com")]);
    home.store.put_secret(&stored).await.unwrap();
    let mut rotate = new_secret("API_KEY", &[]);
    rotate.replace = true;
    let refused = home.keeper.put_secret(rotate, value("the next")).await;
    assert!(matches!(refused, Err(Fault::InvalidRequest(text)) if text.contains("remove it and add it anew")));
}

#[tokio::test]
async fn of_many_at_once_one_is_first() {
    let home = Home::new().await;
    let put = || home.keeper.put_secret(new_secret("API_KEY", &[]), value(VALUE));
    let (a, b, c) = tokio::join!(put(), put(), put());
    let done = [a, b, c].into_iter().filter(Result::is_ok).count();
    assert_eq!(done, 1);
    assert_eq!(home.kinds().await, ["started", "secret_changed"]);
}
