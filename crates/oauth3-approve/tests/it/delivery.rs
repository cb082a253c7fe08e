//! Delivery over trouble and restarts.

use crate::world::{OWNER, STRANGER, World, execution, finished};
use e2e::telegram_emulator::{Fault, Traffic};
use oauth3_core::{Channel as _, ChannelHealth, Status};
use serde_json::json;

fn calls(world: &World, of: &str) -> Vec<serde_json::Value> {
    let call = |t: Traffic| match t {
        Traffic::Call { method, params, .. } if method == of => Some(params),
        _ => None,
    };
    world.bot_api.traffic().into_iter().filter_map(call).collect()
}

async fn health(world: &World, wanted: ChannelHealth) {
    let channel = world.channel.as_ref().unwrap();
    // Health is a snapshot, there is no event to wait for.
    let reached = async {
        while channel.health() != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reached).await.unwrap();
}

#[tokio::test]
async fn a_429_is_waited_out_and_loses_nothing() {
    let world = World::new().await;
    world.bot_api.fail_next(Some("sendMessage"), Fault::TooMany { retry_after: 1 });
    let id = world.submit(execution());
    world.card(&id, "Approval wanted").await;
    assert_eq!(calls(&world, "sendMessage").len(), 1);
}

#[tokio::test]
async fn failures_of_every_kind_lose_nothing() {
    let world = World::new().await;
    for fault in [Fault::Status(500), Fault::Page(502), Fault::Drop] {
        world.bot_api.fail_next(Some("sendMessage"), fault);
        let id = world.submit(execution());
        world.card(&id, "Approval wanted").await;
    }
}

#[tokio::test]
async fn a_card_that_was_sent_twice_counts_once() {
    let world = World::new().await;
    world.bot_api.fail_next(Some("sendMessage"), Fault::DropAfter);
    let id = world.submit(execution());
    world
        .bot_api
        .wait_for("the second sending", |e| {
            (e.messages(OWNER).iter().filter(|m| m.text.contains(id.as_str())).count() == 2).then_some(())
        })
        .await
        .unwrap();
    let cards: Vec<_> = world.bot_api.messages(OWNER).into_iter().filter(|m| m.text.contains(id.as_str())).collect();
    assert_eq!(world.tap(&cards[0], "Run once").await.as_deref(), Some("already decided"));
    assert_eq!(world.tap(&cards[1], "Run once").await.as_deref(), Some("approved"));
}

#[tokio::test]
async fn an_outage_shows_in_health_and_is_caught_up_with() {
    let world = World::new().await;
    health(&world, ChannelHealth::Connected).await;
    world.bot_api.set_down(true);
    let id = world.submit(execution());
    health(&world, ChannelHealth::Error).await;
    world.bot_api.set_down(false);
    world.card(&id, "Approval wanted").await;
    health(&world, ChannelHealth::Connected).await;
}

#[tokio::test]
async fn a_poll_ends_before_an_outage_must_be_told() {
    let world = World::new().await;
    health(&world, ChannelHealth::Connected).await;
    let timeouts = world.http.timeouts.lock().unwrap();
    assert!(timeouts.iter().all(|t| t.as_secs() < 12), "{timeouts:?}");
}

#[tokio::test]
async fn a_wrong_token_is_an_error() {
    let mut world = World::stopped().await;
    world.bot_api = e2e::telegram_emulator::Emulator::start("1:another").await.unwrap();
    world.start();
    world.http.until_answered(401).await;
    assert_eq!(world.channel.as_ref().unwrap().health(), ChannelHealth::Error);
}

#[tokio::test]
async fn a_second_poller_is_an_error() {
    let world = World::new().await;
    health(&world, ChannelHealth::Connected).await;
    let other = World::beside(&world);
    world.http.until_answered(409).await;
    health(&world, ChannelHealth::Error).await;
    drop(other);
}

#[tokio::test]
async fn an_unreachable_chat_is_an_error_until_it_can_be_reached() {
    let mut world = World::stopped().await;
    world.chat = 4242;
    world.owners = vec![4242];
    world.start();
    let id = world.submit(execution());
    health(&world, ChannelHealth::Error).await;
    world.bot_api.add_private_chat(4242);
    world.bot_api.write(4242, 4242, "/start", None).unwrap();
    world.card(&id, "Approval wanted").await;
    health(&world, ChannelHealth::Connected).await;
}

#[tokio::test]
async fn a_server_that_never_waits_makes_no_busy_loop() {
    let world = World::stopped().await;
    world.bot_api.set_lax(true);
    let mut world = world;
    world.start();
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    // Edits and answers are `null` here.
    let tap = world.bot_api.tap(OWNER, OWNER, card.message_id, "Run once").unwrap();
    assert_eq!(world.bot_api.answer(&tap).await.unwrap().as_deref(), Some("approved"));
    world.card(&id, "about to run").await;
    let polls = world.http.timeouts.lock().unwrap().len();
    assert!(polls < 100, "{polls} calls");
}

#[tokio::test]
async fn a_restart_sends_what_was_not_sent_and_edits_what_changed() {
    let mut world = World::new().await;
    let shown = world.submit(execution());
    let card = world.card(&shown, "Approval wanted").await;
    world.broker.until("the note", |b| b.notes.lock().unwrap()[&format!("card:{shown}")]["message_id"].as_i64()).await;
    world.stop();
    let unsent = world.submit(execution());
    let mut denied = world.broker.get(&shown).unwrap();
    denied.status = Status::Denied;
    denied.decided_by = Some("cli".to_owned());
    world.broker.set_quietly(denied);
    world.start();
    world.card(&unsent, "Approval wanted").await;
    let edited = world.card(&shown, "Denied by cli").await;
    assert_eq!(edited.message_id, card.message_id);
    assert!(edited.buttons.is_empty());
}

#[tokio::test]
async fn buttons_work_over_a_restart() {
    let mut world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    world.broker.until("the note", |b| b.notes.lock().unwrap()[&format!("card:{id}")]["message_id"].as_i64()).await;
    world.stop();
    world.start();
    assert_eq!(world.tap(&card, "Run once").await.as_deref(), Some("approved"));
    let messages = world.bot_api.messages(OWNER);
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test]
async fn buttons_work_after_a_crash_right_after_the_message_was_noted() {
    let mut world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    let key = format!("card:{id}");
    world.broker.until("the note", |b| b.notes.lock().unwrap()[&key]["message_id"].as_i64()).await;
    world.stop();
    // The first note that has the message is all that a crash leaves.
    let nonces = {
        let mut notes = world.broker.notes.lock().unwrap();
        notes.get_mut(&key).unwrap()["shown"] = json!("");
        notes.iter().filter(|(key, _)| key.starts_with("nonce:")).map(|(_, note)| note.clone()).collect::<Vec<_>>()
    };
    assert!(nonces.len() == 4 && nonces.iter().all(|note| note["message_id"].is_null()), "{nonces:?}");
    world.start();
    assert_eq!(world.tap(&card, "Run once").await.as_deref(), Some("approved"));
    assert_eq!(world.bot_api.messages(OWNER).len(), 1);
}

#[tokio::test]
async fn updates_are_not_handled_twice_after_a_restart() {
    let mut world = World::new().await;
    world.write("/kill");
    world.says("kill switch is on").await;
    world.broker.until("the offset", |b| b.notes.lock().unwrap().get("offset").cloned()).await;
    world.stop();
    world.broker.kill.store(false, std::sync::atomic::Ordering::SeqCst);
    world.start();
    world.write("/id");
    world.says("Your id").await;
    assert!(!world.broker.kill.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test]
async fn the_noted_offset_counts_after_a_restart_and_not_for_ever() {
    const WEEK: i64 = 7 * 24 * 60 * 60 * 1000;
    for (age, killed) in [(0, false), (WEEK, true)] {
        let mut world = World::stopped().await;
        let now = oauth3_core::Clock::now(&*world.broker).millis();
        // Handled before the crash, and not confirmed to the server any more.
        world.write("/kill");
        let handled = json!({"next": 500_002, "at": now - age});
        world.broker.notes.lock().unwrap().insert("offset".to_owned(), handled);
        world.write("/id");
        world.start();
        world.says("Your id").await;
        assert_eq!(world.broker.kill.load(std::sync::atomic::Ordering::SeqCst), killed, "{age}");
    }
}

#[tokio::test]
async fn a_message_that_is_gone_is_sent_anew() {
    let world = World::new().await;
    let id = world.submit(execution());
    let card = world.card(&id, "Approval wanted").await;
    world.bot_api.delete(OWNER, card.message_id);
    let mut running = world.broker.get(&id).unwrap();
    running.status = Status::Executing;
    world.broker.set(running);
    let anew = world.card(&id, "runs now").await;
    assert_ne!(anew.message_id, card.message_id);
}

#[tokio::test]
async fn what_did_not_change_is_not_edited() {
    let world = World::new().await;
    let id = world.submit(execution());
    world.card(&id, "Approval wanted").await;
    for _ in 0..3 {
        world.broker.set(world.broker.get(&id).unwrap());
    }
    // Work that is done in order after the changes above.
    let other = world.submit(execution());
    world.card(&other, "Approval wanted").await;
    assert!(calls(&world, "editMessageText").is_empty());
}

#[tokio::test]
async fn not_modified_is_a_success() {
    let mut world = World::new().await;
    let id = world.submit(execution());
    world.card(&id, "Approval wanted").await;
    let key = format!("card:{id}");
    world.broker.until("the note", |b| b.notes.lock().unwrap()[&key]["message_id"].as_i64()).await;
    world.stop();
    // As after a crash between the edit and its note.
    world.broker.notes.lock().unwrap().get_mut(&key).unwrap()["shown"] = json!("");
    world.start();
    world.broker.until("the note", |b| (b.notes.lock().unwrap()[&key]["shown"] != json!("")).then_some(())).await;
    assert_eq!(calls(&world, "editMessageText").len(), 1);
    assert_eq!(world.bot_api.messages(OWNER).len(), 1);
}

#[tokio::test]
async fn what_ran_under_a_standing_grant_is_not_shown() {
    let world = World::new().await;
    let mut trusted = execution();
    trusted.trusted = true;
    let trusted = world.submit(finished(trusted, 0));
    let asked = world.submit(execution());
    world.card(&asked, "Approval wanted").await;
    assert!(world.bot_api.messages(OWNER).iter().all(|m| !m.text.contains(trusted.as_str())));
}

#[tokio::test]
async fn strange_and_broken_updates_are_passed_over() {
    let world = World::new().await;
    world.bot_api.feed(json!({"message": {"no": "id"}}));
    world.bot_api.feed(json!({"callback_query": {"id": 5}}));
    world.bot_api.feed(json!({"message": {"message_id": 900, "date": 1, "chat": {"id": OWNER, "type": "private"},
        "from": {"id": OWNER, "is_bot": false, "first_name": "U"}, "sticker": {"emoji": "x"}}}));
    world.bot_api.feed(json!({"poll": {"id": "1"}}));
    world.write("/id");
    world.says("Your id").await;
    let id = world.submit(execution());
    world.card(&id, "Approval wanted").await;
}

#[tokio::test]
async fn many_requests_all_arrive() {
    let world = World::new().await;
    let ids: Vec<_> = (0..8).map(|_| world.submit(execution())).collect();
    for id in &ids {
        world.card(id, "Approval wanted").await;
    }
    assert_eq!(world.bot_api.messages(OWNER).len(), ids.len());
    assert!(world.bot_api.messages(STRANGER).is_empty());
}
