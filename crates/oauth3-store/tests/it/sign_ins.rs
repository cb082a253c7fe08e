//! Sign-ins: written over the version that they were made from, with their token or not at all.

use super::support::{Files, at, sealed, secret_name};
use oauth3_core::{
    ApiId, Connection, Host, KeyPlace, SealedSecret, SealedSignIn, SignInRecord, SignInSetup, SignInState, Store,
    TokenChange,
};

fn api() -> ApiId {
    ApiId::connection("my-mail").unwrap()
}

fn sign_in(version: u32, state: SignInState) -> SealedSignIn {
    SealedSignIn {
        record: SignInRecord { version, state, ..SignInRecord::new(api()) },
        sealed: vec![version.to_le_bytes()[0]; 9],
    }
}

fn token(version: u32) -> SealedSecret {
    sealed("connection:my-mail", version, b"sealed")
}

#[tokio::test]
async fn a_change_is_written_over_its_own_version_only() {
    let files = Files::new();
    let store = files.open().await;
    let first = sign_in(1, SignInState::SignedIn);
    assert!(!store.put_sign_in(&sign_in(2, SignInState::SignedIn), 1, TokenChange::Put(&token(1))).await.unwrap());
    assert!(store.put_sign_in(&first, 0, TokenChange::Put(&token(1))).await.unwrap());
    assert!(!store.put_sign_in(&sign_in(1, SignInState::SignedOut), 0, TokenChange::Remove).await.unwrap());
    assert_eq!(store.sealed_sign_in(&api()).await.unwrap(), Some(first));
    let name = secret_name("connection:my-mail");
    assert_eq!(store.sealed_secret(&name).await.unwrap(), Some(token(1)), "what lost the race took nothing along");

    let second = sign_in(2, SignInState::Needed("it was revoked".into()));
    store.set_sign_in_used(&api(), at(77)).await.unwrap();
    assert!(store.put_sign_in(&second, 1, TokenChange::Remove).await.unwrap());
    assert_eq!(store.sealed_secret(&name).await.unwrap(), None);
    let shown = SignInRecord { used_at: Some(at(77)), ..second.record };
    assert_eq!(store.sign_ins().await.unwrap(), [shown]);
}

#[tokio::test]
async fn a_connection_that_goes_takes_its_tokens_along() {
    let files = Files::new();
    let store = files.open().await;
    let setup = SignInSetup {
        provider: "generic".into(),
        parameters: [("issuer".to_owned(), "https://id.example.com".to_owned())].into(),
        client_id: "client".into(),
        scopes: ["mail.read".to_owned()].into(),
        hosts: Host::parse("api.example.com").into_iter().collect(),
        from: None,
    };
    let connection = Connection {
        api: api(),
        base_url: "https://api.example.com".into(),
        place: KeyPlace::Bearer,
        rules: [].into(),
        sign_in: Some(setup),
        created_at: at(1),
    };
    store.put_connection(&connection).await.unwrap();
    assert_eq!(store.connections().await.unwrap(), [connection]);
    assert!(store.put_sign_in(&sign_in(1, SignInState::SignedIn), 0, TokenChange::Put(&token(1))).await.unwrap());
    assert!(store.remove_connection(&api()).await.unwrap());
    assert_eq!(store.sign_ins().await.unwrap(), []);
    assert_eq!(store.secrets().await.unwrap(), []);
}
