//! Sign-ins in the chat.

use crate::world::{OWNER, STRANGER, World, ceilings, record, with_secrets};
use e2e::telegram_emulator::ChatMessage;
use oauth3_approve::{Card, SignIns, render_text};
use oauth3_core::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) fn mail() -> ApiId {
    ApiId::connection("my-mail").unwrap()
}

pub(crate) fn attempt(by: &str, now: Timestamp) -> Attempt {
    let address = "https://login.example.com/device".to_owned();
    let prompt = Prompt { address, code: Some("ABCD-EFGH".to_owned()), address_with_code: None };
    let expires_at = now.plus(Duration::from_secs(900));
    Attempt { asked_by: by.to_owned(), began_at: now, expires_at, prompt, other_account: None }
}

fn account(name: &str) -> Account {
    let email = Some(format!("{}@example.com", name.to_lowercase()));
    Account { subject: name.to_lowercase(), name: Some(name.to_owned()), email }
}

fn connection() -> Connection {
    Connection {
        api: mail(),
        base_url: "https://graph.example.com/v1.0".to_owned(),
        place: KeyPlace::Bearer,
        rules: [].into(),
        sign_in: Some(SignInSetup {
            provider: "microsoft".to_owned(),
            parameters: [].into(),
            client_id: "client".to_owned(),
            scopes: ["Mail.Read".to_owned(), "offline_access".to_owned()].into(),
            hosts: [Host::parse("graph.example.com").unwrap()].into(),
            from: None,
        }),
        created_at: Timestamp::from_millis(0),
    }
}

fn signed_in(world: &World, who: Account) -> SignInRecord {
    let now = Clock::now(&*world.broker);
    let before = world.broker.sign_in(&mail());
    SignInRecord {
        attempt: None,
        failure: None,
        state: SignInState::SignedIn,
        account: Some(who),
        signed_in_at: Some(now),
        refreshable: true,
        expires_at: Some(now.plus(Duration::from_secs(3600))),
        ..before
    }
}

fn needed(world: &World, reason: &str) -> SignInRecord {
    SignInRecord { state: SignInState::Needed(reason.to_owned()), ..world.broker.sign_in(&mail()) }
}

fn failed(world: &World, end: AttemptEnd, sentence: &str) -> SignInRecord {
    let at = Clock::now(&*world.broker);
    let failure = Some(FailedAttempt { at, end, sentence: sentence.to_owned() });
    SignInRecord { attempt: None, failure, ..world.broker.sign_in(&mail()) }
}

async fn world() -> World {
    let world = World::new().await;
    world.broker.connections.lock().unwrap().push(connection());
    world
}

impl World {
    fn begins(&self, by: &str) {
        let attempt = attempt(by, Clock::now(&*self.broker));
        self.broker.set_sign_in(SignInRecord { attempt: Some(attempt), ..self.broker.sign_in(&mail()) });
    }

    /// The text of a message as it was last sent or edited.
    fn markup(&self, message: &ChatMessage) -> String {
        message.text.clone()
    }

    /// How many messages of the bot's there are.
    fn count(&self) -> usize {
        self.bot_api.messages(OWNER).into_iter().filter(|m| m.from.is_none()).count()
    }

    fn orders(&self) -> Vec<String> {
        self.broker.orders.lock().unwrap().clone()
    }
}

fn labels(message: &ChatMessage) -> Vec<&str> {
    message.buttons.iter().map(|(label, _)| label.as_str()).collect()
}

#[tokio::test]
async fn one_message_says_who_asked_and_what_for_and_then_who_signed_in() {
    let world = world().await;
    world.begins("agent:bot");
    let asked = world.says("Sign-in wanted").await;
    insta::assert_snapshot!("wanted", format!("{}\n{:?}", world.markup(&asked), labels(&asked)));
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    let done = world.says("Signed in as Ann (ann@example.com)").await;
    insta::assert_snapshot!("signed_in", format!("{}\n{:?}", world.markup(&done), labels(&done)));
    assert_eq!((done.message_id, world.count()), (asked.message_id, 1));
}

#[tokio::test]
async fn each_end_is_told_in_a_plain_sentence_in_the_same_message() {
    let world = world().await;
    for (end, sentence, says) in [
        (AttemptEnd::Denied, "You said no at the provider.", "❌ Sign-in denied"),
        (AttemptEnd::Expired, "Nobody signed in in time.", "⌛ Sign-in expired"),
        (AttemptEnd::Failed, "The provider answered HTML.", "⚠️ Sign-in failed"),
    ] {
        world.broker.advance(Duration::from_secs(1));
        world.begins("cli");
        let asked = world.says("Sign-in wanted").await;
        assert!(asked.text.contains("Asked by: you, on the command line"), "{}", asked.text);
        world.broker.set_sign_in(failed(&world, end, sentence));
        let over = world.says(says).await;
        assert_eq!((over.message_id, over.buttons.len()), (asked.message_id, 0));
        assert!(over.text.contains(sentence) && over.text.contains("/login my-mail"), "{}", over.text);
        assert!(!over.text.contains("ABCD-EFGH"), "a code that is of no use is not shown on");
    }
}

#[tokio::test]
async fn cancel_counts_once_from_the_owner_and_for_the_sign_in_that_it_stands_under() {
    let world = world().await;
    world.begins("agent:bot");
    let first = world.says("Sign-in wanted").await;
    let stranger = world.bot_api.tap_data(STRANGER, OWNER, first.message_id, &first.buttons[0].1);
    assert_eq!(world.bot_api.answer(&stranger).await.unwrap(), None);
    assert!(world.orders().is_empty());
    assert_eq!(world.tap(&first, "Cancel").await.as_deref(), Some("cancelled"));
    let over = world.says("🚫 Sign-in cancelled").await;
    assert_eq!((over.message_id, over.buttons.len()), (first.message_id, 0));
    assert_eq!(world.orders(), ["Cancel my-mail telegram:42"]);

    // The next one has a message of its own, and the old button does nothing to it.
    world.broker.advance(Duration::from_secs(1));
    world.begins("agent:bot");
    let second = world.says("Sign-in wanted").await;
    assert_ne!(second.message_id, first.message_id);
    for data in [&first.buttons[0].1, &second.buttons[0].1] {
        let late = world.bot_api.tap_data(OWNER, OWNER, first.message_id, data);
        assert_eq!(world.bot_api.answer(&late).await.unwrap().as_deref(), Some("already decided"));
    }
    assert_eq!(world.orders().len(), 1);
}

#[tokio::test]
async fn another_account_is_used_only_after_a_tap_that_was_meant_for_it() {
    let world = world().await;
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    let swapped = |name: &str| {
        let mut other = attempt("agent:bot", Clock::now(&*world.broker));
        other.other_account = Some(account(name));
        world.broker.set_sign_in(SignInRecord { attempt: Some(other), ..world.broker.sign_in(&mail()) });
    };
    swapped("Mallory");
    let asked = world.says("Another account signed in").await;
    insta::assert_snapshot!("other_account", format!("{}\n{:?}", world.markup(&asked), labels(&asked)));
    let stranger = world.bot_api.tap_data(STRANGER, OWNER, asked.message_id, &asked.buttons[0].1);
    assert_eq!(world.bot_api.answer(&stranger).await.unwrap(), None);
    assert_eq!(world.tap(&asked, "Keep the old one").await.as_deref(), Some("the old account stays"));
    world.says("❌ Sign-in denied").await;
    assert_eq!(world.broker.sign_in(&mail()).account, Some(account("Ann")));

    world.broker.advance(Duration::from_secs(1));
    swapped("Bob");
    let asked = world.bot_api.message(OWNER, |m| m.text.contains("Bob") && m.buttons.len() == 2).await.unwrap();
    // Meanwhile the keeper has begun another attempt: the tap was meant for the one that was shown.
    world.broker.advance(Duration::from_secs(1));
    let mut later = attempt("agent:bot", Clock::now(&*world.broker));
    later.other_account = Some(account("Eve"));
    let quiet = SignInRecord { attempt: Some(later), ..world.broker.sign_in(&mail()) };
    *world.broker.sign_ins.lock().unwrap() = vec![quiet];
    assert_eq!(world.tap(&asked, "Use the new account").await.as_deref(), Some("already decided"));
    assert_eq!(world.orders(), ["RefuseAccount my-mail telegram:42"]);
    let asked = world.bot_api.message(OWNER, |m| m.text.contains("Eve") && m.buttons.len() == 2).await.unwrap();
    assert_eq!(world.tap(&asked, "Use the new account").await.as_deref(), Some("the new account is used"));
    world.says("Signed in as Eve").await;
}

#[tokio::test]
async fn tokens_that_became_useless_are_told_once_with_a_button() {
    let world = world().await;
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    world.broker.set_sign_in(needed(&world, "The provider revoked the sign-in."));
    let told = world.says("Sign-in needed").await;
    insta::assert_snapshot!("needed", format!("{}\n{:?}", world.markup(&told), labels(&told)));
    world.broker.sign_in_changed(&mail());
    world.write("/id");
    world.says("Your id").await;
    assert_eq!(world.count(), 2, "not told again");

    world.broker.unavailable.store(true, Ordering::SeqCst);
    let answer = world.tap(&told, "Sign in").await.unwrap();
    assert!(answer.contains("tap again"), "{answer}");
    world.broker.unavailable.store(false, Ordering::SeqCst);
    let old = told.buttons[0].1.clone();
    let again = world
        .bot_api
        .message(OWNER, |m| m.message_id == told.message_id && m.buttons.iter().any(|(_, data)| *data != old))
        .await
        .unwrap();
    assert_eq!(world.tap(&again, "Sign in").await.as_deref(), Some("The code is in a message of its own"));
    let asked = world.says("Sign-in wanted").await;
    assert_ne!(asked.message_id, told.message_id, "a message that comes is noticed");
    assert!(asked.text.contains("Ann (ann@example.com), as before"), "{}", asked.text);
    assert!(world.says("has begun; see below").await.buttons.is_empty());
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    world.says("Signed in as Ann").await;
    // The same reason another time is news.
    world.broker.set_sign_in(needed(&world, "The provider revoked the sign-in."));
    world.says("Sign-in needed").await;
}

#[tokio::test]
async fn commands_sign_in_and_out_and_say_when_there_is_nothing_to_do() {
    let world = World::new().await;
    world.write("/login");
    world.says("There is no connection to sign in at yet").await;
    world.write("/logins");
    world.says("No connection is signed in to").await;
    world.broker.connections.lock().unwrap().push(connection());
    world.write("/login");
    world.says("Usage: /login NAME with one of: my-mail").await;
    world.write("/login nobody");
    world.says("There are: my-mail").await;
    world.write("/logout my-mail");
    world.says("Nobody is signed in to my-mail").await;
    world.write("/login my-mail");
    let asked = world.says("Sign-in wanted").await;
    assert!(asked.text.contains("Asked by: you, in this chat"), "{}", asked.text);
    world.write("/login my-mail");
    world.says("is under way until").await;
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    world.says("Signed in as Ann").await;
    world.write("/login my-mail");
    world.says("Already authenticated. Ann (ann@example.com)").await;
    world.write("/logins");
    let list = world.says("my-mail: signed in · refreshed by itself").await;
    assert!(list.text.contains("Microsoft account Ann (ann@example.com) · scopes: Mail.Read (read your mail)"));
    world.write("/logout my-mail");
    world.says("Signed out of my-mail").await;
    // What is on its way is called off also when nobody is signed in.
    let out = "SignOut my-mail telegram:42";
    assert_eq!(world.orders(), [out, "Begin my-mail telegram:42", out]);
    world.bot_api.write(STRANGER, STRANGER, "/login my-mail", None).unwrap();
    world.bot_api.drained().await.unwrap();
    assert_eq!(world.orders().len(), 3);
}

#[tokio::test]
async fn a_sign_in_is_shown_on_over_a_restart_and_an_outage() {
    let mut world = World::stopped().await;
    world.broker.connections.lock().unwrap().push(connection());
    world.begins("agent:bot");
    world.start();
    let asked = world.says("Sign-in wanted").await;
    // The bot says nothing else before it has noted which message it was.
    world.write("/id");
    world.says("Your id").await;
    world.stop();
    world.start();
    assert_eq!(world.tap(&asked, "Cancel").await.as_deref(), Some("cancelled"), "buttons outlive a restart");
    world.says("Sign-in cancelled").await;
    world.broker.advance(Duration::from_secs(1));

    world.bot_api.fail_next(Some("sendMessage"), e2e::telegram_emulator::Fault::TooMany { retry_after: 0 });
    world.begins("cli");
    let asked = world.says("Sign-in wanted").await;
    world.write("/help");
    world.says("asks you here").await;
    world.stop();
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    world.start();
    let done = world.says("Signed in as Ann").await;
    assert_eq!(done.message_id, asked.message_id, "what happened meanwhile is said in its message");
}

#[tokio::test]
async fn what_a_provider_says_is_neither_markup_nor_invisible_nor_endless() {
    let world = world().await;
    let evil = Account {
        subject: "x".to_owned(),
        name: Some(format!("<b>Ann</b>\u{202e}\u{200b}\n{}", "a".repeat(5000))),
        email: Some("https://evil.example/?x=<a>".to_owned()),
    };
    world.broker.connections.lock().unwrap()[0].sign_in.as_mut().unwrap().scopes =
        (0..64).map(|n| format!("{n}{}", "s".repeat(250))).collect();
    world.broker.set_sign_in(SignInRecord { account: Some(evil.clone()), ..world.broker.sign_in(&mail()) });
    let mut odd = attempt("agent:bot", Clock::now(&*world.broker));
    odd.prompt.address = "javascript:alert(1)\u{202e}".to_owned();
    odd.prompt.code = Some("<i>\u{200b}".to_owned() + &"9".repeat(5000));
    world.broker.set_sign_in(SignInRecord { attempt: Some(odd), ..world.broker.sign_in(&mail()) });
    let asked = world.says("Sign-in wanted").await;
    for bad in ['\u{202e}', '\u{200b}'] {
        assert!(!asked.text.contains(bad), "{}", asked.text);
    }
    assert!(asked.text.contains("<b>Ann</b>") && asked.text.contains("more"), "{}", asked.text);
    world.broker.set_sign_in(signed_in(&world, evil));
    world.says("Signed in as <b>Ann").await;
}

#[tokio::test]
async fn a_card_offers_the_sign_in_that_its_request_misses_and_shows_the_account() {
    let world = world().await;
    let id = world.submit(with_secrets(&["connection:my-mail", "A_KEY"]));
    let card = world.card(&id, "Approval wanted").await;
    assert!(
        card.text.contains("connection:my-mail NOT SIGNED IN; then it goes to: graph.example.com"),
        "{}",
        card.text
    );
    assert_eq!(labels(&card)[4..], ["🔑 Add A_KEY", "🔑 Sign in to my-mail"]);
    assert_eq!(world.tap(&card, "Sign in to my-mail").await.as_deref(), Some("The code is in a message of its own"));
    world.says("Sign-in wanted").await;
    world.broker.secrets.lock().unwrap().push(record("connection:my-mail", &["graph.example.com"]));
    world.broker.set_sign_in(signed_in(&world, account("Ann")));
    world.broker.set(world.broker.get(&id).unwrap());
    let card = world.card(&id, "Microsoft account Ann (ann@example.com) · scopes: Mail.Read (read your mail)").await;
    assert_eq!(labels(&card)[4..], ["🔑 Add A_KEY"]);
    world.write("/secrets");
    world.says("connection:my-mail → graph.example.com · access token, kept by your sign-in").await;
}

#[test]
fn a_card_without_markup_says_the_same() {
    let mut execution = with_secrets(&["connection:my-mail", "connection:nobody"]);
    execution.id = RequestId::parse("req_aaaabbbbccccdddd").unwrap();
    let mut record = SignInRecord::new(mail());
    let missing: Vec<SecretName> = execution.intent.secrets.iter().cloned().collect();
    let show = |record: &SignInRecord, execution: &Execution| {
        let words = Arc::new(crate::world::FakeWords);
        let sign_ins = SignIns { connections: vec![connection()], records: vec![record.clone()], words };
        render_text(&Card::new(execution, &[], &missing, &ceilings()).with_sign_ins(execution, &sign_ins))
    };
    let before = show(&record, &execution);
    record.account = Some(account("Ann"));
    record.state = SignInState::SignedIn;
    execution.intent.secrets.clear();
    execution.intent.access =
        Some(Access { api: mail(), models: [].into(), rules: [].into(), budget: Budget::default() });
    insta::assert_snapshot!("plain", format!("{before}\n{}", show(&record, &execution)));
}
