//! Who may decide, on what, and how often.

use crate::world::{OWNER, STRANGER, World, execution, finished, with_secrets};
use oauth3_core::{Status, Trust, Verdict};
use std::sync::atomic::Ordering;
use std::time::Duration;

const LATE: Option<&str> = Some("already decided");

#[tokio::test]
async fn each_button_gives_its_verdict() {
    let world = World::new().await;
    for (label, verdict) in [
        ("Run once", Verdict::Approve { trust: Trust::Once }),
        ("Trust 24h", Verdict::Approve { trust: Trust::Day }),
        ("Always trust", Verdict::Approve { trust: Trust::Forever }),
        ("Deny", Verdict::Deny { reason: None }),
    ] {
        let id = world.submit(execution());
        let card = world.card(&id, "Approval wanted").await;
        let labels: Vec<_> = card.buttons.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["✅ Run once", "🕐 Trust 24h", "🔒 Always trust", "❌ Deny"]);
        world.tap(&card, label).await;
        let given = world.broker.verdicts.lock().unwrap().pop().unwrap();
        assert_eq!(given, (id, verdict, format!("telegram:{OWNER}")));
    }
}

#[tokio::test]
async fn nonces_are_random_and_hold_no_ids() {
    let world = World::new().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let id = world.submit(execution());
        for (_, data) in world.card(&id, "Approval wanted").await.buttons {
            assert_eq!(data.len(), 32, "192 bits in base64url");
            assert!(!id.as_str().contains(&data) && !data.contains("req"));
            assert!(seen.insert(data), "every button has a nonce of its own");
        }
    }
}

#[tokio::test]
async fn a_stranger_in_the_chat_decides_nothing() {
    let mut world = World::stopped().await;
    world.chat = -500;
    world.bot_api.add_group(-500);
    world.start();
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    let tap = world.bot_api.tap(STRANGER, -500, card.message_id, "Run once").unwrap();
    assert_eq!(world.bot_api.answer(&tap).await.unwrap(), None, "a quiet answer");
    assert_eq!(world.broker.strangers.lock().unwrap()[0].0, format!("telegram:{STRANGER}"));
    assert!(world.broker.verdicts.lock().unwrap().is_empty());
    // The nonce is not used up: the owner may still decide.
    assert_eq!(world.tap(&card, "Run once").await.as_deref(), Some("approved"));
}

#[tokio::test]
async fn an_owner_in_another_chat_decides_nothing() {
    let world = World::new().await;
    world.bot_api.add_group(-9);
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    let nonce = &card.buttons[0].1;
    let tap = world.bot_api.tap_data(OWNER, -9, card.message_id, nonce);
    assert_eq!(world.bot_api.answer(&tap).await.unwrap(), None);
    assert_eq!(world.broker.strangers.lock().unwrap().len(), 1);
    assert!(world.broker.verdicts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_nonce_counts_on_its_own_message_only() {
    let world = World::new().await;
    let (first, second) = (world.submit(execution()), world.submit(execution()));
    let (card, other) = (world.card(&first, "wanted").await, world.card(&second, "wanted").await);
    let tap = world.bot_api.tap_data(OWNER, OWNER, other.message_id, &card.buttons[0].1);
    assert_eq!(world.bot_api.answer(&tap).await.unwrap().as_deref(), LATE);
    assert!(world.broker.verdicts.lock().unwrap().is_empty());
    assert_eq!(world.tap(&card, "Run once").await.as_deref(), Some("approved"));
}

#[tokio::test]
async fn the_second_tap_finds_it_decided() {
    let world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    let taps: Vec<_> =
        (0..2).map(|_| world.bot_api.tap_data(OWNER, OWNER, card.message_id, &card.buttons[0].1)).collect();
    assert_eq!(world.bot_api.answer(&taps[0]).await.unwrap().as_deref(), Some("approved"));
    assert_eq!(world.bot_api.answer(&taps[1]).await.unwrap().as_deref(), LATE);
    assert_eq!(world.broker.verdicts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn approve_after_deny_is_too_late() {
    let world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    let deny = world.bot_api.tap(OWNER, OWNER, card.message_id, "Deny").unwrap();
    let approve = world.bot_api.tap_data(OWNER, OWNER, card.message_id, &card.buttons[0].1);
    assert_eq!(world.bot_api.answer(&deny).await.unwrap().as_deref(), Some("denied"));
    assert_eq!(world.bot_api.answer(&approve).await.unwrap().as_deref(), LATE);
    let denied = world.card(&id, "Denied").await;
    assert!(denied.buttons.is_empty(), "a final card has no buttons");
    assert_eq!(denied.message_id, card.message_id, "edited in place");
    assert_eq!(world.broker.get(&id).unwrap().status, Status::Denied);
    // And once more when the card is final.
    let again = world.bot_api.tap_data(OWNER, OWNER, card.message_id, &card.buttons[0].1);
    assert_eq!(world.bot_api.answer(&again).await.unwrap().as_deref(), LATE);
}

#[tokio::test]
async fn a_tap_on_an_expired_request_is_too_late() {
    let world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    world.broker.advance(Duration::from_secs(3600));
    assert_eq!(world.tap(&card, "Run once").await.as_deref(), LATE);
    let mut expired = world.broker.get(&id).unwrap();
    expired.status = Status::Expired;
    world.broker.set(expired);
    assert!(world.card(&id, "Expired").await.buttons.is_empty());
}

#[tokio::test]
async fn a_verdict_that_could_not_be_given_can_be_given_again() {
    let world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    world.broker.unavailable.store(true, Ordering::SeqCst);
    assert!(world.tap(&card, "Run once").await.unwrap().contains("nothing was changed"));
    world.broker.unavailable.store(false, Ordering::SeqCst);
    let old = card.buttons.clone();
    let renewed =
        world.bot_api.message(OWNER, |m| m.message_id == card.message_id && m.buttons[0] != old[0]).await.unwrap();
    let stale = world.bot_api.tap_data(OWNER, OWNER, card.message_id, &old[0].1);
    assert_eq!(world.bot_api.answer(&stale).await.unwrap().as_deref(), LATE, "the old nonce is used up");
    assert_eq!(world.tap(&renewed, "Run once").await.as_deref(), Some("approved"));
}

#[tokio::test]
async fn an_unknown_or_strange_nonce_changes_nothing() {
    let world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    for data in ["approve", &format!("approve:{id}"), "A".repeat(32).as_str(), "../card:x", "é".repeat(16).as_str()] {
        let tap = world.bot_api.tap_data(OWNER, OWNER, card.message_id, data);
        assert_eq!(world.bot_api.answer(&tap).await.unwrap().as_deref(), LATE, "{data}");
    }
    assert!(world.broker.verdicts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_owner_ids_a_private_chat_decides_and_a_group_does_not() {
    let mut world = World::stopped().await;
    world.owners.clear();
    world.start();
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    assert_eq!(world.tap(&card, "Run once").await.as_deref(), Some("approved"));

    let mut world = World::stopped().await;
    world.owners.clear();
    world.chat = -500;
    world.bot_api.add_group(-500);
    world.start();
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    assert_eq!(world.tap(&card, "Run once").await, None);
    assert!(world.broker.verdicts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_card_goes_through_its_states_in_one_message() {
    let world = World::new().await;
    let id = world.submit(with_secrets(&["API_KEY"]));
    let first = world.card(&id, "Approval wanted").await;
    world.tap(&first, "Run once").await;
    let waiting = world.card(&id, "waits for API_KEY").await;
    let labels: Vec<_> = waiting.buttons.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["❌ Deny", "🔑 Add API_KEY"]);
    world.tap(&waiting, "Add API_KEY").await;
    let prompt = world.says("Reply to this message").await;
    world.reply(&prompt, "sk-value");
    world.card(&id, "about to run").await;
    let mut running = world.broker.get(&id).unwrap();
    running.status = Status::Executing;
    world.broker.set(running.clone());
    world.card(&id, "runs now").await;
    world.broker.set(finished(running, 0));
    let done = world.card(&id, "Success").await;
    assert!(done.text.contains("exit code 0 after 1234 ms"));
    assert!(!done.text.contains("the output"));
    assert!(done.buttons.is_empty());
    assert_eq!(done.message_id, first.message_id);
    let cards = world.bot_api.messages(OWNER).into_iter().filter(|m| m.text.contains(id.as_str())).count();
    assert_eq!(cards, 1, "one message per request");
}
