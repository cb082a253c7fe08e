//! Sign-ins in the owner's chat, with the real binary and a strict identity provider.

use crate::sign_ins::{SKILL, assert_no_token, define, metadata};
use crate::telegram_chat::{Chat, DECIDED, OWNER, VERDICTS, labels};
use e2e::identity::{LOGIN_HOST, Poll, USER_CODE};
use e2e::{Agent, IdentityProvider, Serve};
use reqwest::Method;
use serde_json::json;

async fn ready() -> (IdentityProvider, Chat, Serve, Agent) {
    let idp = IdentityProvider::start().await;
    let chat = Chat::new("").await;
    chat.world.write_config(&idp.egress(chat.world.home()));
    define(&chat.world).await;
    let (serve, agent) = chat.serve().await;
    (idp, chat, serve, agent)
}

async fn login(agent: &Agent) -> e2e::Reply {
    agent.call(Method::POST, "/connections/my-mail/login", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_phone_gets_the_code_and_says_who_signed_in() {
    let (idp, chat, serve, agent) = ready().await;
    let asked = login(&agent).await;
    assert_eq!((asked.status, &asked.json["message"]), (202, &json!("The owner was asked to sign in on Telegram")));
    let message = chat.says("Sign-in wanted").await;
    for said in [
        "Asked by: the agent agent",
        "Connection: my-mail",
        &format!("Go to: https://{LOGIN_HOST}/activate"),
        &format!("Enter code: {USER_CODE}"),
        "mail.read",
        "offline_access (stay signed in)",
    ] {
        assert!(message.text.contains(said), "{said}: {}", message.text);
    }
    assert_eq!(labels(&message), ["❌ Cancel"]);
    idp.will([Poll::SlowDown, Poll::person("Ann")]);
    let done = chat.says("Signed in as Ann (ann@example.com)").await;
    assert_eq!((done.message_id, done.buttons.len()), (message.message_id, 0), "in the same message");
    assert_eq!(login(&agent).await.status, 200);
    chat.write("/login my-mail");
    chat.says("Already authenticated. Ann (ann@example.com)").await;
    chat.write("/logins");
    chat.says("my-mail: signed in").await;
    chat.write("/secrets");
    chat.says("access token, kept by your sign-in").await;
    chat.write("/logout my-mail");
    chat.says("Signed out of my-mail. Its tokens are revoked and destroyed.").await;
    assert_eq!(idp.revoked().len(), 2);

    // From the chat, and stopped there; a second tap is too late.
    chat.write("/login my-mail");
    let second = chat.telegram.message(OWNER, |m| m.text.contains("Sign-in wanted") && m.message_id > done.message_id);
    let second = second.await.unwrap();
    assert!(second.text.contains("Asked by: you, in this chat"), "{}", second.text);
    assert_eq!(chat.tap(&second, "Cancel").await.as_deref(), Some("cancelled"));
    chat.says("🚫 Sign-in cancelled").await;
    assert_eq!(chat.tap_late(&second, "Cancel").await.as_deref(), DECIDED);
    assert_no_token(&idp, "the chat", &chat.sent());
    assert_no_token(&idp, "the log", &serve.log());
    assert!(!serve.log().contains(USER_CODE), "{}", serve.log());
    assert_eq!(idp.faults(), [""; 0]);
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_request_asks_for_the_sign_in_that_it_misses_and_goes_on_by_itself() {
    let (idp, chat, serve, agent) = ready().await;
    let id = agent.submit(SKILL, metadata()).await;
    let card = chat.asks(&id).await;
    assert!(card.text.contains("connection:my-mail NOT SIGNED IN; then it goes to: api.example.com"), "{}", card.text);
    assert_eq!(labels(&card), [&VERDICTS[..], &["🔑 Sign in to my-mail"]].concat());
    assert_eq!(idp.counts().0, 0, "nobody is asked to sign in for what was not approved");
    assert_eq!(chat.tap(&card, "Run once").await.as_deref(), Some("approved"));
    let message = chat.says("Sign-in wanted").await;
    assert!(message.text.contains("Asked by: the agent agent"), "{}", message.text);
    // The bot says nothing else before it has noted which message it was; the crash comes after that.
    chat.write("/id");
    chat.says("Your id").await;
    serve.kill().await;

    // Over a crash, too.
    let (serve, agent) = chat.serve().await;
    idp.will([Poll::person("Ann")]);
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status} {}", serve.log());
    let done = chat.says("Signed in as Ann").await;
    assert_eq!(done.message_id, message.message_id);
    let card = chat.card(&id, "✅ Success").await;
    assert!(card.text.contains("account Ann (ann@example.com)"), "{}", card.text);
    assert_eq!((idp.counts().0, idp.faults()), (1, Vec::new()));
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_waits_for_a_tap_and_the_old_one_stays_without_it() {
    let (idp, chat, serve, agent) = ready().await;
    login(&agent).await;
    idp.will([Poll::person("Ann")]);
    chat.says("Signed in as Ann").await;
    let account = async || chat.world.cli(&["status", "my-mail", "--json"]).await.json()["account"]["name"].clone();
    let begin = async || assert_eq!(chat.world.cli(&["login", "my-mail", "--again", "--no-wait"]).await.code(), 0);

    idp.will([Poll::person("Mallory")]);
    begin().await;
    let asked = chat.says("Another account signed in").await;
    assert!(asked.text.contains("Before: Ann (ann@example.com)"), "{}", asked.text);
    assert!(asked.text.contains("Now: Mallory (mallory@example.com)"), "{}", asked.text);
    assert_eq!(labels(&asked), ["✅ Use the new account", "❌ Keep the old one"]);
    assert_eq!(account().await, "Ann", "until a tap nothing is changed");
    assert_eq!(chat.tap(&asked, "Keep the old one").await.as_deref(), Some("the old account stays"));
    chat.says("❌ Sign-in denied").await;
    assert_eq!((account().await, idp.revoked().len()), (json!("Ann"), 2));

    idp.will([Poll::person("Bob")]);
    begin().await;
    let asked = chat.telegram.message(OWNER, |m| m.text.contains("Now: Bob") && m.buttons.len() == 2).await.unwrap();
    assert_eq!(chat.tap(&asked, "Use the new account").await.as_deref(), Some("the new account is used"));
    chat.says("Signed in as Bob").await;
    assert_eq!(account().await, "Bob");
    assert_eq!(idp.faults(), [""; 0]);
    chat.end(serve).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_became_useless_are_told_with_the_reason_and_a_button() {
    let (idp, chat, serve, agent) = ready().await;
    idp.tokens_last(1);
    idp.refuse_refresh();
    login(&agent).await;
    idp.will([Poll::person("Ann")]);
    let first = chat.says("Signed in as Ann").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let id = agent.submit(SKILL, metadata()).await;
    assert_eq!(chat.tap(&chat.asks(&id).await, "Run once").await.as_deref(), Some("approved"));
    let told = chat.says("Sign-in needed").await;
    assert_eq!(labels(&told), ["🔑 Sign in"]);
    assert!(chat.world.cli(&["doctor"]).await.stdout.contains("my-mail: sign-in needed"));
    assert_eq!(chat.tap(&told, "Sign in").await.as_deref(), Some("The code is in a message of its own"));
    let again = chat.telegram.message(OWNER, |m| m.text.contains("Sign-in wanted")).await.unwrap();
    assert!(again.message_id > first.message_id && again.text.contains("as before"), "{}", again.text);
    idp.will([Poll::person("Ann")]);
    chat.telegram.message(OWNER, |m| m.message_id == again.message_id && m.text.contains("Signed in")).await.unwrap();
    chat.end(serve).await;
}
