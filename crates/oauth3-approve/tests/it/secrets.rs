//! Values: asked for, deleted at once, handed over, kept nowhere.

use crate::world::{OWNER, STRANGER, TOKEN, World, record, with_secrets};
use e2e::telegram_emulator::{Fault, Traffic};
use oauth3_core::{Host, Status};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const VALUE: &str = "sk-proj-1234567890abcdefSECRET";

fn hosts(names: &[&str]) -> BTreeSet<Host> {
    names.iter().map(|n| Host::parse(n).unwrap()).collect()
}

/// The value is in no message, no note and no call; only in the updates that Telegram itself sent.
fn nowhere(world: &World) {
    for message in world.bot_api.messages(world.chat) {
        assert!(!message.raw.to_string().contains(VALUE), "{message:?}");
    }
    let notes = serde_json::to_string(&*world.broker.notes.lock().unwrap()).unwrap();
    assert!(!notes.contains(VALUE), "{notes}");
    for item in world.bot_api.traffic() {
        if let Traffic::Call { method, params, .. } = item {
            assert!(!params.to_string().contains(VALUE), "{method}");
        }
    }
}

#[tokio::test]
async fn a_secret_from_a_card_is_bound_to_the_hosts_of_its_request() {
    let world = World::new().await;
    let id = world.submit(with_secrets(&["API_KEY"]));
    let card = world.card(&id, "Approval wanted").await;
    assert!(card.text.contains("API_KEY MISSING; added here it goes to: api.example.com"));
    world.tap(&card, "Run once").await;
    world.status(&id, Status::AwaitingSecrets).await;
    let card = world.card(&id, "waits for API_KEY").await;
    world.tap(&card, "Add API_KEY").await;
    let prompt = world.says("Reply to this message").await;
    assert!(prompt.force_reply && prompt.text.contains("api.example.com"));
    let reply = world.reply(&prompt, VALUE);
    world.bot_api.gone(OWNER, reply).await.unwrap();
    world.status(&id, Status::Approved).await;
    world.says("is stored").await;
    let values = world.broker.values.lock().unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!(values[0].0.hosts, hosts(&["api.example.com"]));
    assert_eq!(values[0].0.by, format!("telegram:{OWNER}"));
    assert!(values[0].0.uses == Default::default() && !values[0].0.replace);
    assert_eq!(values[0].1, VALUE.as_bytes());
    drop(values);
    nowhere(&world);
}

#[tokio::test]
async fn what_waits_for_a_secret_can_be_denied_but_not_by_the_button_of_before() {
    let world = World::new().await;
    let id = world.submit(with_secrets(&["API_KEY"]));
    let card = world.card(&id, "Approval wanted").await;
    let old = card.buttons.iter().find(|(label, _)| label.contains("Deny")).unwrap().1.clone();
    world.tap(&card, "Run once").await;
    let card = world.card(&id, "waits for API_KEY").await;
    let labels: Vec<_> = card.buttons.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["❌ Deny", "🔑 Add API_KEY"]);
    let late = world.bot_api.tap_data(OWNER, OWNER, card.message_id, &old);
    assert_eq!(world.bot_api.answer(&late).await.unwrap().as_deref(), Some("already decided"));
    assert_eq!(world.broker.get(&id).unwrap().status, Status::AwaitingSecrets);
    assert_eq!(world.tap(&card, "Deny").await.as_deref(), Some("denied"));
    world.status(&id, Status::Denied).await;
    assert!(world.card(&id, "Denied").await.buttons.is_empty());
}

#[tokio::test]
async fn the_question_is_still_open_after_a_restart() {
    let mut world = World::new().await;
    let id = world.submit(with_secrets(&["API_KEY"]));
    let card = world.card(&id, "Approval wanted").await;
    world.tap(&card, "Add API_KEY").await;
    let prompt = world.says("Reply to this message").await;
    let key = format!("prompt:{}", prompt.message_id);
    world.broker.until("the note", |b| b.notes.lock().unwrap().get(&key).cloned()).await;
    world.stop();
    let reply = world.reply(&prompt, VALUE);
    world.start();
    world.bot_api.gone(OWNER, reply).await.unwrap();
    world.broker.until("the value", |b| b.values.lock().unwrap().first().map(|_| ())).await;
    nowhere(&world);
}

#[tokio::test]
async fn the_add_button_can_be_used_again() {
    let world = World::new().await;
    let id = world.submit(with_secrets(&["API_KEY"]));
    let card = world.card(&id, "Approval wanted").await;
    world.tap(&card, "Add API_KEY").await;
    let old = card.buttons.last().unwrap().clone();
    let renewed = world
        .bot_api
        .message(OWNER, |m| m.message_id == card.message_id && m.buttons.last() != Some(&old))
        .await
        .unwrap();
    assert!(world.tap(&renewed, "Add API_KEY").await.unwrap().contains("Reply with the value"));
}

#[tokio::test]
async fn add_secret_asks_for_hosts_and_then_for_the_value() {
    let world = World::new().await;
    world.write("/add_secret API_KEY");
    let question = world.says("Which hosts may API_KEY").await;
    assert!(question.force_reply);
    let wrong = world.reply(&question, VALUE);
    world.bot_api.gone(OWNER, wrong).await.unwrap();
    let question = world.says("not a list of plain host names").await;
    world.reply(&question, "api.example.com, files.example.com:8443");
    let question = world.says("with the value of API_KEY").await;
    let value = world.reply(&question, VALUE);
    world.bot_api.gone(OWNER, value).await.unwrap();
    world.says("API_KEY is stored").await;
    {
        let values = world.broker.values.lock().unwrap();
        assert_eq!(values[0].0.hosts, hosts(&["api.example.com", "files.example.com:8443"]));
        assert_eq!(values[0].1, VALUE.as_bytes());
    }
    nowhere(&world);
}

#[tokio::test]
async fn an_answer_may_come_without_being_a_reply() {
    let world = World::new().await;
    world.write("/add_secret API_KEY");
    world.says("Which hosts may API_KEY").await;
    world.write("api.example.com");
    world.says("with the value of API_KEY").await;
    let value = world.write(VALUE);
    world.bot_api.gone(OWNER, value).await.unwrap();
    world.says("API_KEY is stored").await;
    nowhere(&world);
}

#[tokio::test]
async fn a_value_in_the_command_is_deleted_and_held_until_its_hosts_are_known() {
    let world = World::new().await;
    let command = world.write(&format!("/add_secret API_KEY {VALUE}"));
    world.bot_api.gone(OWNER, command).await.unwrap();
    let question = world.says("Which hosts may API_KEY").await;
    assert!(world.broker.values.lock().unwrap().is_empty());
    nowhere(&world);
    world.reply(&question, "api.example.com");
    world.says("API_KEY is stored").await;
    assert_eq!(world.broker.values.lock().unwrap()[0].1, VALUE.as_bytes());
    nowhere(&world);
}

#[tokio::test]
async fn a_held_value_is_forgotten_in_time() {
    let world = World::new().await;
    world.write(&format!("/add_secret API_KEY {VALUE}"));
    let question = world.says("Which hosts may API_KEY").await;
    world.broker.advance(Duration::from_secs(6 * 60));
    world.reply(&question, "api.example.com");
    world.says("not held any more").await;
    assert!(world.broker.values.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_late_answer_is_deleted_and_not_stored() {
    let world = World::new().await;
    world.broker.secrets.lock().unwrap().push(record("API_KEY", &["api.example.com"]));
    world.write("/add_secret API_KEY");
    let question = world.says("is stored already").await;
    world.broker.advance(Duration::from_secs(11 * 60));
    let value = world.reply(&question, VALUE);
    world.bot_api.gone(OWNER, value).await.unwrap();
    world.says("came too late").await;
    assert!(world.broker.values.lock().unwrap().is_empty());
    nowhere(&world);
}

#[tokio::test]
async fn an_existing_secret_gets_a_new_value_and_keeps_its_hosts() {
    let world = World::new().await;
    world.broker.secrets.lock().unwrap().push(record("API_KEY", &["api.example.com"]));
    world.write("/add_secret API_KEY");
    let question = world.says("is stored already").await;
    assert!(question.text.contains("replaces the old one") && question.text.contains("api.example.com"));
    world.reply(&question, VALUE);
    world.says("has a new value").await;
    let command = world.write(&format!("/add_secret API_KEY {VALUE}"));
    world.bot_api.gone(OWNER, command).await.unwrap();
    world.broker.until("the second value", |b| b.values.lock().unwrap().get(1).map(|_| ())).await;
    let values = world.broker.values.lock().unwrap();
    assert!(values.iter().all(|(secret, _)| secret.replace && secret.hosts.is_empty()));
    drop(values);
    nowhere(&world);
}

#[tokio::test]
async fn what_may_be_a_value_is_deleted_even_when_the_name_is_wrong() {
    let world = World::new().await;
    for text in
        [format!("/add_secret {VALUE}"), format!("/add_secret lower_case {VALUE}"), format!("/add_secret PATH {VALUE}")]
    {
        let command = world.write(&text);
        world.bot_api.gone(OWNER, command).await.unwrap();
        world.says("no name for a secret").await;
    }
    nowhere(&world);
}

#[tokio::test]
async fn a_deletion_that_fails_is_done_later() {
    let mut world = World::new().await;
    world.bot_api.fail_next(Some("deleteMessage"), Fault::Status(500));
    let command = world.write(&format!("/add_secret API_KEY {VALUE}"));
    world.bot_api.gone(OWNER, command).await.unwrap();

    // Also when the process ends before it worked.
    for _ in 0..3 {
        world.bot_api.fail_next(Some("deleteMessage"), Fault::Drop);
    }
    let command = world.write(&format!("/add_secret OTHER_KEY {VALUE}"));
    world
        .broker
        .until("the note", |b| b.notes.lock().unwrap().get(&format!("doomed:{OWNER}:{command}")).cloned())
        .await;
    world.stop();
    world.start();
    world.bot_api.gone(OWNER, command).await.unwrap();
    nowhere(&world);
}

#[tokio::test]
async fn the_owner_is_told_of_a_value_that_cannot_be_deleted() {
    let world = World::new().await;
    // At once, and from the queue.
    world.bot_api.fail_next(Some("deleteMessage"), Fault::Status(400));
    world.bot_api.fail_next(Some("deleteMessage"), Fault::Status(400));
    world.write(&format!("/add_secret API_KEY {VALUE}"));
    world.says("Please delete it yourself").await;
    assert!(!world.broker.notes.lock().unwrap().keys().any(|key| key.starts_with("doomed:")));
}

#[tokio::test]
async fn nobody_else_can_answer_a_question() {
    let mut world = World::stopped().await;
    world.chat = -500;
    world.owners = vec![OWNER, 43];
    world.bot_api.add_group(-500);
    world.start();
    world.bot_api.write(OWNER, -500, "/add_secret API_KEY", None).unwrap();
    let question = world.says("Which hosts may API_KEY").await;
    for other in [STRANGER, 43] {
        world.bot_api.write(other, -500, "evil.example.com", Some(question.message_id)).unwrap();
    }
    world.bot_api.write(OWNER, -500, "/id", None).unwrap();
    world.says("Your id").await;
    assert!(world.bot_api.messages(-500).iter().all(|m| !m.text.contains("with the value of")));
}

#[tokio::test]
async fn a_value_that_looks_like_a_command_is_a_value() {
    let world = World::new().await;
    world.broker.secrets.lock().unwrap().push(record("API_KEY", &["api.example.com"]));
    world.write("/add_secret API_KEY");
    let question = world.says("is stored already").await;
    world.reply(&question, "/kill");
    world.says("has a new value").await;
    assert_eq!(world.broker.values.lock().unwrap()[0].1, b"/kill");
    assert!(!world.broker.kill.load(std::sync::atomic::Ordering::SeqCst));
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_values_nor_the_token_are_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    // Everything that can go wrong around a value.
    for fault in [Fault::Status(500), Fault::Page(502), Fault::Drop] {
        world.bot_api.fail_next(Some("deleteMessage"), fault);
        world.bot_api.fail_next(Some("sendMessage"), fault);
        world.bot_api.fail_next(Some("getUpdates"), fault);
    }
    world.bot_api.feed(json!({"message": {"text": VALUE, "chat": {"id": "not a number"}}}));
    world.bot_api.feed(json!({"callback_query": {"data": VALUE}}));
    world.write(&format!("/add_secret API_KEY {VALUE}"));
    let question = world.says("Which hosts may API_KEY").await;
    world.reply(&question, VALUE);
    let question = world.says("not a list of plain host names").await;
    world.reply(&question, "api.example.com");
    world.says("API_KEY is stored").await;
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("telegram: "), "something was logged: {logged}");
    for hidden in [VALUE, TOKEN, "AAtesttoken"] {
        assert!(!logged.contains(hidden), "{logged}");
    }
}
