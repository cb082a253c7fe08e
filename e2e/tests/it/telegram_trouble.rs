//! The Telegram conversation with the real binary when things go wrong: time runs out, the server is away or slow,
//! the gateway is killed, the code does not fit.

use crate::telegram_chat::{Chat, DECIDED, OWNER, TOKEN, VERDICTS, labels};
use e2e::Agent;
use e2e::telegram_emulator::Fault;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Within this time `/health` must say that Telegram is down.
const SEEN_DOWN: Duration = Duration::from_secs(12);
/// Between two looks at `/health`.
const LOOK: Duration = Duration::from_millis(50);

async fn until_telegram_is(agent: &Agent, state: &str) {
    let reached = async {
        while agent.call(Method::GET, "/health", None).await.json["telegram"] != state {
            tokio::time::sleep(LOOK).await;
        }
    };
    let outcome = tokio::time::timeout(SEEN_DOWN, reached).await;
    assert!(outcome.is_ok(), "/health never said {state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_no_and_the_card_says_so() {
    let chat = Chat::new("[limits]\npending_minutes = 0.1\n").await;
    let (serve, agent) = chat.serve().await;
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    let waits = agent.submit("1", json!({ "secrets": ["NO_KEY"], "runtime": "embedded" })).await;
    let (card, other) = (chat.asks(&id).await, chat.asks(&waits).await);
    assert_eq!(chat.tap(&other, "Always trust").await.as_deref(), Some("approved"));
    for (id, card) in [(&id, &card), (&waits, &other)] {
        assert_eq!(agent.finished(id).await["status"], "expired");
        let expired = chat.card(id, "⌛ Expired").await;
        assert!(expired.buttons.is_empty() && expired.message_id == card.message_id, "{expired:?}");
        for label in VERDICTS {
            assert_eq!(chat.tap_late(card, label).await.as_deref(), DECIDED, "{label}");
        }
        assert_eq!(agent.status(id).await["status"], "expired");
    }
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_a_429_and_a_crash_delay_cards_and_lose_none() {
    let chat = Chat::new("").await;
    let (serve, agent) = chat.serve().await;
    let before = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    let card = chat.asks(&before).await;
    until_telegram_is(&agent, "connected").await;

    chat.telegram.set_down(true);
    until_telegram_is(&agent, "error").await;
    let meanwhile = agent.submit("// @runtime embedded\nconsole.log(2)", json!({})).await;
    assert_eq!(agent.status(&meanwhile).await["status"], "pending");
    chat.telegram.fail_next(Some("sendMessage"), Fault::TooMany { retry_after: 1 });
    chat.telegram.set_down(false);
    let late = chat.asks(&meanwhile).await;
    assert_eq!(chat.telegram.faults_left(), 0, "the 429 was met");
    assert_eq!(chat.cards(&meanwhile).len(), 1);
    until_telegram_is(&agent, "connected").await;

    // Killed with two cards open: both messages stay the ones that are edited. The server's answer to the second may
    // still be on its way when the test sees the card; the bot says nothing else before it has noted that answer.
    chat.write("/id");
    chat.says("Your id").await;
    serve.kill().await;
    let (serve, agent) = chat.serve().await;
    assert_eq!(chat.tap(&card, "Deny").await.as_deref(), Some("denied"));
    assert_eq!(chat.tap(&late, "Run once").await.as_deref(), Some("approved"));
    assert_eq!(agent.finished(&meanwhile).await["status"], "success");
    assert_eq!(chat.card(&before, "❌ Denied").await.message_id, card.message_id);
    assert_eq!(chat.card(&meanwhile, "✅ Success").await.message_id, late.message_id);
    assert_eq!((chat.cards(&before).len(), chat.cards(&meanwhile).len()), (1, 1), "edited in place");
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_fit_is_a_document_with_its_exact_bytes() {
    let mut chat = Chat::new("").await;
    // The token from a file this time.
    let file = chat.world.home().join("bot-token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    chat.world.set("TELEGRAM_BOT_TOKEN", "");
    chat.world.set("TELEGRAM_BOT_TOKEN_FILE", file.display().to_string());
    let (serve, agent) = chat.serve().await;
    let code =
        format!("// @runtime embedded\n// \u{202e}<b>é\u{200b}\n{}console.log('end')", "void 0; // 🔑\r\n".repeat(900));
    let id = agent.submit(&code, json!({})).await;
    let card = chat.asks(&id).await;
    let uploads = chat.telegram.uploads();
    assert_eq!(uploads.len(), 1);
    assert_eq!((uploads[0].chat, uploads[0].bytes.as_slice()), (OWNER, code.as_bytes()));
    assert!(card.text.contains(&uploads[0].file_name), "{}", card.text);
    assert_eq!(labels(&card), VERDICTS);
    assert_eq!(chat.tap(&card, "Run once").await.as_deref(), Some("approved"));
    let status = agent.finished(&id).await;
    assert_eq!(
        (&status["status"], &status["result"]["stdout"]),
        (&json!("success"), &Value::from("end\n")),
        "{status}"
    );
    chat.card(&id, "✅ Success").await;
    assert_eq!(chat.telegram.uploads().len(), 1, "sent once");
    chat.end(serve).await;
}
