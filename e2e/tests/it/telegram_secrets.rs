//! Secrets in the Telegram conversation with the real binary: typed, deleted, sealed, and never seen again.

use crate::canary::forms;
use crate::telegram_chat::{Chat, DECIDED, VERDICTS, labels};
use e2e::Standin;
use serde_json::json;
use std::path::Path;

const CANARY: &str = "sk-proj-T3l3gr4m+/=Zq8Wv2Xk5Lm9\"Rt3&Yp7";

fn assert_clean(place: &str, bytes: &[u8]) {
    for form in forms(CANARY) {
        let found = bytes.windows(form.len()).any(|w| w == form.as_bytes());
        assert!(!found, "the value shows in {place} as {form}");
    }
}

/// Looks through every file below.
fn assert_clean_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => assert_clean_below(&entry.path()),
            kind if kind.is_file() => {
                assert_clean(&entry.path().display().to_string(), &std::fs::read(entry.path()).unwrap());
                1
            }
            _ => 0,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_from_the_card_resumes_the_request_over_crashes_and_never_shows() {
    let api = Standin::echo("api.example.com").await;
    let chat = Chat::new("").await;
    chat.world.write_config(&api.egress(chat.world.home()));
    let (serve, agent) = chat.serve().await;
    let code = "// @runtime embedded\nconst key = Deno.env.get('NEW_KEY');\nconst r = await fetch('https://api.example.com/', {headers: {Authorization: `Bearer ${key}`}});\nconsole.log(key, await r.text())";
    let id = agent.submit(code, json!({ "secrets": ["NEW_KEY"], "network": ["api.example.com"] })).await;
    let card = chat.asks(&id).await;
    assert!(card.text.contains("NEW_KEY MISSING; added here it goes to: api.example.com"), "{}", card.text);
    assert_eq!(labels(&card), [&VERDICTS[..], &["🔑 Add NEW_KEY"]].concat());
    assert_eq!(chat.tap(&card, "Run once").await.as_deref(), Some("approved"));
    let waiting = chat.card(&id, "🔑 Approved once by telegram:42; waits for NEW_KEY").await;
    assert_eq!(labels(&waiting), ["❌ Deny", "🔑 Add NEW_KEY"]);
    serve.kill().await;

    // The buttons of before the crash still work.
    let (serve, agent) = chat.serve().await;
    assert_eq!(agent.status(&id).await["status"], "awaiting_secrets");
    assert_eq!(chat.tap(&waiting, "Add NEW_KEY").await.as_deref(), Some("Reply with the value of NEW_KEY"));
    let question = chat.says("Reply to this message with the value of NEW_KEY").await;
    assert!(question.force_reply && question.text.contains("api.example.com"), "{question:?}");
    // The bot says nothing else before it has noted which message asks; the crash comes after that.
    chat.write("/id");
    chat.says("Your id").await;
    serve.kill().await;

    // The answer comes while nothing runs.
    let typed = chat.reply(&question, CANARY);
    let (serve, agent) = chat.serve().await;
    chat.telegram.gone(crate::telegram_chat::OWNER, typed).await.unwrap();
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status} {}", serve.log());
    let done = chat.card(&id, "✅ Success").await;
    assert_eq!((done.message_id, done.buttons.len(), chat.cards(&id).len()), (card.message_id, 0, 1));
    let seen = api.seen();
    assert_eq!(seen.len(), 1, "it ran once");
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {CANARY}").as_str()), "the API got the value");
    let list = chat.world.cli(&["secret", "list", "--json"]).await;
    assert_eq!(list.json()["secrets"][0]["hosts"], json!(["api.example.com"]), "bound to the request's hosts");
    chat.says("NEW_KEY is stored").await;

    // A value in the command itself: deleted at once, held until the hosts are known.
    let typed = chat.write(&format!("/add_secret OTHER_KEY {CANARY}"));
    chat.telegram.gone(crate::telegram_chat::OWNER, typed).await.unwrap();
    let question = chat.says("Which hosts may OTHER_KEY go to?").await;
    chat.reply(&question, "files.example.com");
    chat.says("OTHER_KEY is stored").await;

    assert_clean("what the agent sees", status.to_string().as_bytes());
    assert_clean("what the bot sent", chat.sent().as_bytes());
    for message in chat.telegram.messages(crate::telegram_chat::OWNER) {
        assert_clean("the chat", message.raw.to_string().as_bytes());
    }
    assert_clean("the log", serve.log().as_bytes());
    for command in [["audit", "export"], ["requests", "--all"], ["secret", "list"]] {
        let done = chat.world.cli(&command).await;
        assert_clean(&command.join(" "), format!("{}{}", done.stdout, done.stderr).as_bytes());
    }
    let world = chat.end(serve).await;
    assert!(assert_clean_below(world.home()) >= 4, "database, key, head and log were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_follows_secrets_that_come_and_go_elsewhere() {
    let chat = Chat::new("").await;
    let (serve, agent) = chat.serve().await;
    let metadata = json!({ "secrets": ["A_KEY"], "network": ["api.example.com"] });
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", metadata.clone()).await;
    let card = chat.asks(&id).await;
    assert!(card.text.contains("A_KEY MISSING"), "{}", card.text);
    chat.world.add_secret("A_KEY", "the-value-of-a-key", &["other.example"]).await;
    let like = |text: &'static str| chat.says(text);
    let there = like("A_KEY → other.example · bound to none of the hosts of this request").await;
    assert_eq!((there.message_id, labels(&there)), (card.message_id, VERDICTS.to_vec()), "nothing to add any more");
    let done = chat.world.cli(&["secret", "remove", "A_KEY"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let gone = like("A_KEY MISSING").await;
    assert_eq!((gone.message_id, gone.buttons.len()), (card.message_id, 5));

    // A yes that waits for a secret can be taken back, but not by a button of the question.
    assert_eq!(chat.tap(&gone, "Always trust").await.as_deref(), Some("approved"));
    let waiting = chat.card(&id, "🔑 Always trusted by telegram:42; waits for A_KEY").await;
    assert_eq!(chat.tap_late(&gone, "Deny").await.as_deref(), DECIDED);
    assert_eq!(agent.status(&id).await["status"], "awaiting_secrets");
    assert_eq!(chat.tap(&waiting, "Deny").await.as_deref(), Some("denied"));
    assert_eq!(agent.finished(&id).await["status"], "denied");
    assert!(chat.card(&id, "❌ Denied").await.buttons.is_empty());

    // And added elsewhere while it waits: it runs, and the card says so.
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", metadata).await;
    let card = chat.asks(&id).await;
    assert_eq!(chat.tap(&card, "Run once").await.as_deref(), Some("approved"));
    chat.card(&id, "🔑 Approved once").await;
    chat.world.add_secret("A_KEY", "the-value-of-a-key", &["api.example.com"]).await;
    assert_eq!(agent.finished(&id).await["status"], "success");
    assert_eq!(chat.card(&id, "✅ Success").await.message_id, card.message_id);
    chat.end(serve).await;
}
