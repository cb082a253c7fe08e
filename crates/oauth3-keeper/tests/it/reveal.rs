//! Real values: who gets them, what has to be approved for that, and what is on record before.

use super::home::{Home, VALUE, approved, new_secret, value};
use super::lane::TestLane;
use super::upstream;
use oauth3_core::{
    Execution, Fault, Grant, GrantId, Intent, Keeper, Reveal, SealedSecret, SecretName, Status, Store, Timestamp,
    Trust, UsesChange, WriteOnly,
};
use std::io::{Read, Write};

async fn store(home: &Home, reveal: Reveal, replace: bool) {
    let mut secret = new_secret("API_KEY", &["api.example.com"]);
    secret.uses = UsesChange { reveal: Some(reveal), ..UsesChange::default() };
    secret.replace = replace;
    home.keeper.put_secret(secret, value(VALUE)).await.unwrap();
}

/// Asks for the real value.
fn revealed(execution: &mut Execution) {
    execution.intent.revealed = execution.intent.secrets.clone();
    execution.intent_digest = execution.intent.digest();
}

/// What came out of a lane's pipe for values, to its end.
fn taken(mut lane: TestLane) -> String {
    let mut text = String::new();
    lane.values.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_value_goes_to_the_code_alone_and_is_on_record_before() {
    let (dial, _heads) = upstream::start("api.example.com").await;
    let home = Home::dialling(dial).await;
    store(&home, Reveal::Once, false).await;
    let id = home.request(revealed).await;
    let (mut lane, fds) = TestLane::new();
    let opened = home.keeper.open_run(&id, fds).await.unwrap();
    assert_eq!(opened.placeholders, [], "one or the other");
    assert_eq!(opened.revealed, [SecretName::parse("API_KEY").unwrap()]);
    assert_eq!(home.kinds().await[2..], ["run_opened", "secret_revealed"]);
    let row = &home.rows().await[3].event;
    assert_eq!((row.actor.as_str(), &row.detail.fields()["secret"]), ("keeper", &"API_KEY".into()));

    // It is scrubbed where it comes back, as far as it can be known.
    let reply = lane.fetch("api.example.com", &format!("Bearer {VALUE}")).await;
    assert!(reply.starts_with("HTTP/1.1 200") && !reply.contains(VALUE), "{reply}");
    write!(lane.stdout, "got {VALUE}").unwrap();
    assert_eq!(taken(lane), format!("API_KEY={VALUE}\0"));
    let output = home.keeper.close_run(&id, Vec::new()).await.unwrap();
    assert!(output.stdout.starts_with("got ") && !output.stdout.contains(VALUE), "{}", output.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_for_placeholders_gets_no_real_value() {
    let home = Home::new().await;
    store(&home, Reveal::Never, false).await;
    let before = home.request(|_| ()).await;
    let asked = home.request(revealed).await;
    let refused = async |id| {
        let (lane, fds) = TestLane::new();
        let fault = home.keeper.open_run(id, fds).await.expect_err("it must not open");
        assert_eq!((home.status(id).await, taken(lane).as_str()), (Status::Approved, ""));
        assert!(matches!(&fault, Fault::DeniedByPolicy(text) if text.contains("REAL VALUE")), "{fault}");
    };
    refused(&asked).await;
    store(&home, Reveal::Standing, true).await;
    refused(&before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_once_needs_the_owners_word_for_that_secret() {
    let home = Home::new().await;
    store(&home, Reveal::Once, false).await;
    let mut shown = approved();
    revealed(&mut shown);
    let grant = |intent: Intent| Grant {
        id: GrantId::random().unwrap(),
        intent,
        trust: Trust::Forever,
        granted_at: Timestamp::from_millis(0),
        expires_at: None,
        revoked_at: None,
        granted_by: "cli".into(),
    };
    let standing = grant(shown.intent);
    home.store.insert_grant(&standing).await.unwrap();
    let request = |trusted: bool| {
        let id = standing.id.clone();
        home.request(move |execution| {
            revealed(execution);
            (execution.trust, execution.grant_id, execution.trusted) = (Some(Trust::Forever), Some(id), trusted);
        })
    };
    for trusted in [true, false] {
        let id = request(trusted).await;
        let (lane, fds) = TestLane::new();
        assert!(matches!(home.keeper.open_run(&id, fds).await, Err(Fault::DeniedByPolicy(_))));
        assert_eq!(taken(lane), "");
    }
    store(&home, Reveal::Standing, true).await;
    for trusted in [true, false] {
        let id = request(trusted).await;
        let (lane, fds) = TestLane::new();
        home.keeper.open_run(&id, fds).await.unwrap();
        assert_eq!(taken(lane), format!("API_KEY={VALUE}\0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_made_to_reveal_in_the_database_reveals_nothing() {
    let home = Home::new().await;
    let name = SecretName::parse("API_KEY").unwrap();
    for (sealed_as, edited_to) in
        [(Reveal::Never, Reveal::Once), (Reveal::Never, Reveal::Standing), (Reveal::Once, Reveal::Standing)]
    {
        let there = home.store.sealed_secret(&name).await.unwrap().is_some();
        if there {
            home.store.remove_secret(&name).await.unwrap();
        }
        store(&home, sealed_as, false).await;
        let SealedSecret { mut record, sealed } = home.store.sealed_secret(&name).await.unwrap().unwrap();
        record.uses.reveal = edited_to;
        home.store.put_secret(&SealedSecret { record, sealed }).await.unwrap();
        let id = home.request(revealed).await;
        let (lane, fds) = TestLane::new();
        let fault = home.keeper.open_run(&id, fds).await.expect_err("it must not open");
        assert!(matches!(fault, Fault::Unavailable(_)), "{fault}");
        assert_eq!((taken(lane).as_str(), home.status(&id).await), ("", Status::Executing));
    }
}

#[tokio::test]
async fn a_value_that_is_no_text_cannot_be_stored_to_be_revealed() {
    let home = Home::new().await;
    let mut secret = new_secret("API_KEY", &["api.example.com"]);
    secret.uses = UsesChange { reveal: Some(Reveal::Once), ..UsesChange::default() };
    for wrong in [&b"a\0b"[..], b"\xff"] {
        let refused = home.keeper.put_secret(secret.clone(), WriteOnly::new(wrong.to_vec())).await;
        assert!(matches!(refused, Err(Fault::InvalidRequest(_))), "{wrong:?}");
    }
    assert!(home.store.secrets().await.unwrap().is_empty());
}
