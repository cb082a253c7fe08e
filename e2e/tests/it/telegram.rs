//! The Telegram conversation with the real binary: cards, verdicts, trust, strangers, commands.

use crate::telegram_chat::{Chat, DECIDED, OWNER, STRANGER, VERDICTS, audit, data, labels};
use serde_json::json;
use sha2::{Digest, Sha256};

#[tokio::test(flavor = "multi_thread")]
async fn a_card_shows_what_will_run_and_one_tap_runs_it_once() {
    let chat = Chat::new("").await;
    chat.world.add_secret("API_KEY", "value-of-the-api-key", &["api.example.com"]).await;
    let (serve, agent) = chat.serve().await;
    let code = "// @runtime embedded\nconsole.log('<b>hi</b> & bye')";
    let request = json!({ "skill_id": "greeter", "code": code, "args": { "n": "7" }, "metadata": {
        "description": "says hello", "secrets": ["API_KEY"], "network": ["api.example.com", "b.example"] } });
    let reply = agent.execute(request).await;
    assert_eq!((reply.status, &reply.json["message"]), (202, &json!("Approval request sent to Telegram")), "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap();

    let card = chat.asks(id).await;
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(code.as_bytes()));
    let name = chat.world.cli(&["agent", "list", "--json"]).await.json()["agents"][0]["name"].clone();
    let wanted =
        [name.as_str().unwrap(), "greeter", "says hello", "API_KEY → api.example.com", "b.example", &digest[..16]];
    for part in wanted.into_iter().chain([code, "\"n\": \"7\"", "embedded"]) {
        assert!(card.text.contains(part), "{part} is not in {}", card.text);
    }
    assert_eq!(labels(&card), VERDICTS);
    for (label, data) in &card.buttons {
        assert!(data.len() <= 64 && !data.contains(id) && !id.contains(data.as_str()), "{label}: {data}");
    }

    // A double tap: both are on their way before anything was answered.
    let first = chat.telegram.tap(OWNER, OWNER, card.message_id, "Run once").unwrap();
    let second = chat.telegram.tap(OWNER, OWNER, card.message_id, "Run once").unwrap();
    assert_eq!(chat.telegram.answer(&first).await.unwrap().as_deref(), Some("approved"));
    assert_eq!(chat.telegram.answer(&second).await.unwrap().as_deref(), DECIDED);
    let status = agent.finished(id).await;
    assert_eq!((&status["status"], &status["result"]["stdout"]), (&json!("success"), &json!("<b>hi</b> & bye\n")));
    let done = chat.card(id, "✅ Success").await;
    assert!(done.buttons.is_empty() && done.text.contains("Approved once by telegram:42"), "{done:?}");
    assert_eq!((done.message_id, chat.cards(id).len()), (card.message_id, 1), "one message, edited in place");
    for label in VERDICTS {
        assert_eq!(chat.tap_late(&card, label).await.as_deref(), DECIDED, "{label}");
    }
    assert_eq!(agent.status(id).await, status, "a late tap changes nothing");
    for kind in ["approved", "finished"] {
        assert_eq!(audit(&chat.world, kind).await.len(), 1, "{kind}");
    }
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_stays_a_no() {
    let chat = Chat::new("").await;
    let (serve, agent) = chat.serve().await;
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    let card = chat.asks(&id).await;
    let no = chat.telegram.tap(OWNER, OWNER, card.message_id, "Deny").unwrap();
    let yes = chat.telegram.tap(OWNER, OWNER, card.message_id, "Always trust").unwrap();
    assert_eq!(chat.telegram.answer(&no).await.unwrap().as_deref(), Some("denied"));
    assert_eq!(chat.telegram.answer(&yes).await.unwrap().as_deref(), DECIDED);
    let denied = chat.card(&id, "❌ Denied by telegram:42").await;
    assert!(denied.buttons.is_empty() && denied.message_id == card.message_id, "{denied:?}");
    assert_eq!(agent.finished(&id).await["status"], "denied");

    // Decided on the command line meanwhile: the card follows, and its old buttons are of no use.
    let id = agent.submit("// @runtime embedded\nconsole.log(2)", json!({})).await;
    let card = chat.asks(&id).await;
    assert_eq!(chat.world.cli(&["deny", &id]).await.code(), 0);
    chat.card(&id, "❌ Denied by cli").await;
    assert_eq!(chat.tap_late(&card, "Run once").await.as_deref(), DECIDED);
    assert_eq!(agent.status(&id).await["status"], "denied");
    assert!(audit(&chat.world, "approved").await.is_empty());
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_for_a_day_is_not_asked_again_until_it_is_revoked() {
    let chat = Chat::new("").await;
    let (serve, agent) = chat.serve().await;
    let request = json!({ "skill_id": "daily", "code": "// @runtime embedded\nconsole.log('ran')" });
    let id = agent.execute(request.clone()).await.json["request_id"].as_str().unwrap().to_owned();
    let card = chat.asks(&id).await;
    assert_eq!(chat.tap(&card, "Trust 24h").await.as_deref(), Some("approved"));
    assert_eq!(agent.finished(&id).await["status"], "success");
    chat.card(&id, "✅ Success").await;

    let reply = agent.execute(request.clone()).await;
    assert_eq!((reply.status, &reply.json["trusted"]), (200, &json!(true)), "{reply:?}");
    let granted = reply.json["request_id"].as_str().unwrap();
    chat.write("/grants");
    let list = chat.says("Trusted\n").await;
    assert!(list.text.contains("daily"), "{}", list.text);
    assert!(chat.cards(granted).is_empty(), "what is granted has no card");
    let grants = chat.world.cli(&["grants", "--json"]).await.json();
    let grant = grants["grants"][0]["id"].as_str().unwrap();
    assert!(list.text.contains(grant), "{}", list.text);

    chat.write(&format!("/revoke {grant}"));
    chat.says("is revoked").await;
    let reply = agent.execute(request).await;
    assert_eq!(reply.status, 202, "asks again: {reply:?}");
    chat.asks(reply.json["request_id"].as_str().unwrap()).await;
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_other_chats_and_other_messages_change_nothing() {
    let chat = Chat::new("").await;
    chat.telegram.add_group(-500);
    let (serve, agent) = chat.serve().await;
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    let card = chat.asks(&id).await;
    let other = chat.write("/id");
    let ids = chat.says("Your id").await;
    let yes = data(&card, "Run once");

    let tries = [
        (STRANGER, OWNER, card.message_id, None),
        (STRANGER, STRANGER, card.message_id, None),
        (OWNER, STRANGER, card.message_id, None),
        (OWNER, -500, card.message_id, None),
        (OWNER, OWNER, ids.message_id, DECIDED),
        (OWNER, OWNER, other, DECIDED),
    ];
    for (user, from, message, answer) in tries {
        let tap = chat.telegram.tap_data(user, from, message, yes);
        let given = chat.telegram.answer(&tap).await.unwrap();
        assert_eq!(given.as_deref(), answer, "{user} in {from} on {message}");
    }
    for made_up in ["", "x", id.as_str(), &"A".repeat(32), &"A".repeat(64)] {
        let tap = chat.telegram.tap_data(OWNER, OWNER, card.message_id, made_up);
        assert_eq!(chat.telegram.answer(&tap).await.unwrap().as_deref(), DECIDED, "{made_up}");
    }
    for (user, from, text) in [
        (STRANGER, STRANGER, "/kill"),
        (STRANGER, OWNER, "/kill"),
        (OWNER, -500, "/kill"),
        (STRANGER, OWNER, "/pending"),
    ] {
        chat.telegram.write(user, from, text, None).unwrap();
    }
    chat.telegram.drained().await.unwrap();
    assert_eq!(agent.status(&id).await["status"], "pending");
    assert_eq!(chat.cards(&id), std::slice::from_ref(&card), "the card is as it was");
    assert!(chat.telegram.messages(STRANGER).iter().all(|m| m.from.is_some()), "strangers are not answered");
    assert!(chat.telegram.messages(-500).iter().all(|m| m.from.is_some()));
    let refused = audit(&chat.world, "verdict_refused").await;
    assert_eq!(refused.len(), 8, "each is on record: {refused:?}");

    assert_eq!(chat.tap(&card, "Run once").await.as_deref(), Some("approved"), "the owner's tap counts");
    assert_eq!(agent.finished(&id).await["status"], "success");
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_show_and_stop() {
    let chat = Chat::new("").await;
    chat.world.add_secret("API_KEY", "value-of-the-api-key", &["api.example.com"]).await;
    let (serve, agent) = chat.serve().await;
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    chat.asks(&id).await;
    chat.write("/pending");
    let pending = chat.says("Waiting for you").await;
    assert!(pending.text.contains(&id), "{}", pending.text);
    chat.write("/secrets");
    let secrets = chat.says("Stored secrets").await;
    assert!(secrets.text.contains("API_KEY → api.example.com"), "{}", secrets.text);
    chat.write("/audit");
    let rows = chat.says("Last audit rows").await;
    assert!(rows.text.contains("asked by agent:") && rows.text.contains(&id), "{}", rows.text);

    chat.write("/delete_secret API_KEY");
    let question = chat.says("Delete API_KEY?").await;
    assert_eq!(chat.tap(&question, "Delete").await.as_deref(), Some("API_KEY deleted"));
    assert_eq!(chat.world.cli(&["secret", "list", "--json"]).await.json()["secrets"], json!([]));

    chat.write("/kill");
    chat.says("The kill switch is on").await;
    assert_eq!(agent.finished(&id).await["status"], "denied");
    assert!(chat.card(&id, "❌ Denied").await.buttons.is_empty());
    let reply = agent.execute(json!({ "skill_id": "s", "code": "1" })).await;
    assert_eq!((reply.status, &reply.json["error"]), (403, &json!("denied_by_policy")), "{reply:?}");
    chat.write("/kill off");
    let question = chat.says("Turn the kill switch off?").await;
    assert!(chat.tap(&question, "Turn it off").await.unwrap().contains("is off"));
    assert_eq!(agent.execute(json!({ "skill_id": "s", "code": "1" })).await.status, 202);
    chat.end(serve).await;
}
