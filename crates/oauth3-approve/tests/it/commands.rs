//! Commands, and who may give them.

use crate::world::{OWNER, STRANGER, World, execution, record};
use oauth3_core::{AuditEvent, AuditKind, AuditRow, Grant, GrantId, Timestamp, Trust};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn strangers_learn_their_ids_and_nothing_else() {
    let world = World::new().await;
    world.submit(execution());
    for text in ["/pending", "/secrets", "/grants", "/audit", "/kill", "/add_secret A_KEY x", "/delete_secret A_KEY"] {
        world.bot_api.write(STRANGER, STRANGER, text, None).unwrap();
    }
    world.bot_api.write(STRANGER, STRANGER, "/id", None).unwrap();
    let answer = world.bot_api.message(STRANGER, |m| m.from.is_none()).await.unwrap();
    assert_eq!(answer.text, format!("This chat's id: {STRANGER}\nYour id: {STRANGER}"));
    let answers = world.bot_api.messages(STRANGER).into_iter().filter(|m| m.from.is_none()).count();
    assert_eq!(answers, 1);
    assert!(!world.broker.kill.load(Ordering::SeqCst));
    assert_eq!(world.broker.strangers.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn strangers_cannot_fill_the_audit() {
    let world = World::new().await;
    for _ in 0..60 {
        world.bot_api.write(STRANGER, STRANGER, "/kill", None).unwrap();
    }
    world.write("/id");
    world.says("Your id").await;
    let strangers = world.broker.strangers.lock().unwrap().len();
    assert_eq!(strangers, 20);
}

#[tokio::test]
async fn lists_show_what_there_is() {
    let world = World::new().await;
    world.write("/secrets");
    world.says("No secret is stored.").await;
    world.write("/grants");
    world.says("Nothing is trusted.").await;
    world.write("/pending");
    world.says("Nothing waits for you.").await;

    world.broker.secrets.lock().unwrap().push(record("API_KEY", &["api.example.com"]));
    world.write("/list_secrets@oauth3_test_bot");
    world.says("API_KEY → api.example.com · version 1").await;
    let asked = world.submit(execution());
    world.card(&asked, "Approval wanted").await;
    world.write("/pending");
    let pending = world.says("Waiting for you").await;
    assert!(pending.text.contains(asked.as_str()) && pending.text.contains("bot · greet · pending"));
    let event = AuditEvent::new(AuditKind::Asked, "agent:bot").request(&asked);
    world.broker.audit.lock().unwrap().push(AuditRow {
        seq: 1,
        at: Timestamp::from_millis(1_790_000_000_000),
        event,
        mac: "00".to_owned(),
    });
    world.write("/audit");
    assert!(world.says("Last audit rows").await.text.contains("asked by agent:bot"));
}

#[tokio::test]
async fn commands_for_another_bot_are_not_ours() {
    let world = World::new().await;
    world.write("/kill@another_bot");
    world.write("/id");
    world.says("Your id").await;
    assert!(!world.broker.kill.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_long_list_is_sent_in_parts() {
    let world = World::new().await;
    let hosts: Vec<String> = (0..20).map(|n| format!("a-rather-long-host-name-{n}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for n in 0..12 {
        world.broker.secrets.lock().unwrap().push(record(&format!("KEY_{n}"), &hosts));
    }
    world.write("/secrets");
    world.says("KEY_11").await;
    let all: String = world.bot_api.messages(OWNER).into_iter().map(|m| m.text).collect();
    for n in 0..12 {
        assert!(all.contains(&format!("KEY_{n} →")), "KEY_{n}");
    }
}

#[tokio::test]
async fn grants_are_listed_and_revoked() {
    let world = World::new().await;
    let grant = Grant {
        id: GrantId::random().unwrap(),
        intent: execution().intent,
        trust: Trust::Forever,
        granted_at: Timestamp::from_millis(0),
        expires_at: None,
        revoked_at: None,
        granted_by: "cli".to_owned(),
    };
    world.broker.grants.lock().unwrap().push(grant.clone());
    world.write("/grants");
    assert!(world.says("Trusted").await.text.contains(grant.id.as_str()));
    world.write("/revoke nonsense");
    world.says("Usage").await;
    world.write(&format!("/revoke {}", GrantId::random().unwrap()));
    world.says("there is no such grant").await;
    world.write(&format!("/revoke {}", grant.id));
    world.says("is revoked").await;
    assert!(world.broker.grants.lock().unwrap()[0].revoked_at.is_some());
    world.write("/grants");
    world.says("Nothing is trusted.").await;
}

#[tokio::test]
async fn the_kill_switch_goes_on_at_once_and_off_with_a_second_look() {
    let world = World::new().await;
    world.write("/kill");
    world.says("The kill switch is on").await;
    assert!(world.broker.kill.load(Ordering::SeqCst));
    world.write("/kill off");
    let question = world.says("Turn the kill switch off?").await;
    assert!(world.broker.kill.load(Ordering::SeqCst));
    let forged = world.bot_api.tap_data(STRANGER, OWNER, question.message_id, &question.buttons[0].1);
    assert_eq!(world.bot_api.answer(&forged).await.unwrap(), None);
    assert!(world.broker.kill.load(Ordering::SeqCst));
    world.tap(&question, "Turn it off").await;
    assert!(!world.broker.kill.load(Ordering::SeqCst));
    let settled = world.says("The kill switch is off").await;
    assert_eq!(settled.message_id, question.message_id);
    assert!(settled.buttons.is_empty());
    let again = world.bot_api.tap_data(OWNER, OWNER, question.message_id, &question.buttons[0].1);
    assert_eq!(world.bot_api.answer(&again).await.unwrap().as_deref(), Some("already decided"));
}

#[tokio::test]
async fn deleting_a_secret_takes_a_second_look() {
    let world = World::new().await;
    world.write("/delete_secret API_KEY");
    world.says("No secret is named").await;
    world.broker.secrets.lock().unwrap().push(record("API_KEY", &["api.example.com"]));
    world.write("/delete_secret API_KEY");
    let question = world.says("Delete API_KEY?").await;
    assert_eq!(world.broker.secrets.lock().unwrap().len(), 1);
    // "Keep it" uses up both buttons.
    assert_eq!(world.tap(&question, "Keep").await.as_deref(), Some("Nothing was changed"));
    let late = world.bot_api.tap_data(OWNER, OWNER, question.message_id, &question.buttons[0].1);
    assert_eq!(world.bot_api.answer(&late).await.unwrap().as_deref(), Some("already decided"));
    world.write("/delete_secret API_KEY");
    let question = world.bot_api.message(OWNER, |m| m.buttons.len() == 2).await.unwrap();
    world.tap(&question, "Delete API_KEY").await;
    assert!(world.broker.secrets.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unknown_commands_get_help() {
    let world = World::new().await;
    world.write("/frobnicate");
    assert!(world.says("do not know that command").await.text.contains("/add_secret NAME"));
    world.write("/start");
    world.says("asks you here").await;
    world.write("just talking");
    world.write("/id");
    world.says("Your id").await;
}
