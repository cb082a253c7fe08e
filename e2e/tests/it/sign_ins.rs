//! Sign-ins by code from the command line and for agents, against a strict identity provider.

use crate::terminal::at_shell;
use e2e::identity::{API_HOST, CLIENT_ID, LOGIN_HOST, Poll, USER_CODE};
use e2e::{Agent, Done, IdentityProvider, Serve, World};
use reqwest::Method;
use serde_json::{Value, json};

/// Reads the account's name from the API with the token of the connection, and prints what it sees of both.
pub(crate) const SKILL: &str = "// @runtime embedded\nconst token = Deno.env.get('MY_MAIL_TOKEN');\n\
    const r = await fetch('https://api.example.com/me', {headers: {Authorization: `Bearer ${token}`}});\n\
    console.log(r.status, token, await r.text())";

pub(crate) fn metadata() -> Value {
    json!({ "secrets": ["connection:my-mail"], "network": [API_HOST] })
}

/// Defines the connection `my-mail` at the provider.
pub(crate) async fn define(world: &World) {
    let issuer = IdentityProvider::issuer();
    let add = ["connection", "add", "my-mail", "--provider", "generic", "--issuer", &issuer, "--client-id", CLIENT_ID];
    let scopes = ["--scope", "openid", "--scope", "mail.read", "--scope", "offline_access", "--host", API_HOST];
    let done = world.cli(&[&add[..], &scopes].concat()).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.stdout.contains("oauth3 login my-mail"), "{done:?}");
}

/// A gateway with the connection `my-mail`, not signed in.
pub(crate) async fn ready() -> (IdentityProvider, World, Serve, Agent) {
    let idp = IdentityProvider::start().await;
    let (world, token) = World::ready("").await;
    // A quick machine asks more often than once a second until a token has ended.
    world.write_config(&format!("{}[limits]\nrequests_per_minute = 10000\n", idp.egress(world.home())));
    define(&world).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (idp, world, serve, agent)
}

pub(crate) async fn sign_in(idp: &IdentityProvider, world: &World, name: &str) {
    idp.will([Poll::person(name)]);
    let done = world.cli(&["login", "my-mail"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
}

fn lines(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Nothing that only the keeper may know is anywhere where others look.
pub(crate) fn assert_no_token(idp: &IdentityProvider, place: &str, text: &str) {
    for secret in idp.secrets() {
        assert!(!text.contains(&secret), "{secret} shows in {place}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_signed_in_used_and_signed_out() {
    let (idp, world, serve, agent) = ready().await;
    let early = world.cli(&["logins", "--json"]).await.json();
    assert_eq!(early["logins"][0]["status"], "signed_out", "{early}");
    assert!(world.cli(&["doctor"]).await.stdout.contains("my-mail: signed out"), "what needs a sign-in is said");

    // The code at once, without waiting; a second login while it runs is the same one.
    let begun = world.cli(&["login", "my-mail", "--no-wait", "--json"]).await.json();
    assert_eq!((begun["status"].as_str(), begun["code"].as_str()), (Some("pending"), Some(USER_CODE)), "{begun}");
    assert_eq!(begun["address"], format!("https://{LOGIN_HOST}/activate"));
    idp.will([Poll::Pending, Poll::Down, Poll::person("Ann")]);
    let done = world.cli(&["login", "my-mail"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    for said in [&format!("Enter code: {USER_CODE}"), "Signed in as Ann (ann@example.com)", "mail.read"] {
        assert!(done.stdout.contains(said), "{said}: {done:?}");
    }
    assert_eq!(idp.counts().0, 1, "one sign-in was begun");
    let again = world.cli(&["login", "my-mail"]).await;
    assert!(again.code() == 0 && again.stdout.contains("Already authenticated."), "{again:?}");

    // The code sees a placeholder, the API the token, the agent neither.
    let id = agent.submit(SKILL, metadata()).await;
    let shown = world.cli(&["show", &id]).await;
    assert!(shown.stdout.contains("connection:my-mail → api.example.com"), "{shown:?}");
    assert!(shown.stdout.contains("account Ann (ann@example.com)") && shown.stdout.contains("mail.read"), "{shown:?}");
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    let stdout = status["result"]["stdout"].as_str().unwrap_or_default();
    assert!(stdout.starts_with("200 ") && stdout.contains(r#""hello":"Ann""#), "{status} {}", serve.log());
    let call = idp.api_calls().pop().unwrap();
    assert!(call.header("authorization").unwrap().starts_with("Bearer access-C4n4ry"), "{call:?}");

    let list = world.cli(&["connection", "list", "--json"]).await.json();
    let item = &list["connections"][0];
    assert_eq!((item["name"].as_str(), item["status"].as_str()), (Some("my-mail"), Some("signed_in")), "{item}");
    assert_eq!(
        (&item["account"]["email"], &item["scopes_granted"]),
        (&json!("ann@example.com"), &item["scopes_asked"])
    );
    assert!(item["last_used_at"].is_i64() && item["token_expires_at"].is_i64(), "{item}");
    let text = world.cli(&["status", "my-mail"]).await;
    assert!(text.stdout.contains("Ann (ann@example.com)") && text.stdout.contains("granted"), "{text:?}");
    let secrets = world.cli(&["secret", "list"]).await;
    assert!(secrets.stdout.contains("connection:my-mail") && secrets.stdout.contains("sign-in"), "{secrets:?}");
    assert!(!world.cli(&["doctor"]).await.stdout.contains("my-mail"));

    let out = world.cli(&["logout", "my-mail"]).await;
    assert!(out.code() == 0 && out.stdout.contains("Signed out of my-mail"), "{out:?}");
    assert_eq!(idp.revoked().len(), 2, "refresh and access token");
    let out = world.cli(&["logout", "my-mail"]).await;
    assert!(out.code() == 0 && out.stdout.contains("Nobody is signed in"), "{out:?}");
    for args in [&["audit", "export"][..], &["requests", "--all", "--json"], &["logins", "--json"], &["secret", "list"]]
    {
        assert_no_token(&idp, &args.join(" "), &world.cli(args).await.stdout);
    }
    assert_no_token(&idp, "the result", &status.to_string());
    assert_no_token(&idp, "the log", &serve.log());
    assert_eq!(idp.faults(), [""; 0]);
    assert_eq!(world.cli(&["connection", "remove", "my-mail"]).await.code(), 0);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_has_its_exit_code_and_a_plain_sentence() {
    let (idp, world, serve, _) = ready().await;
    for (poll, code, status) in [(Poll::Denied, 3, "denied"), (Poll::Expired, 4, "expired")] {
        idp.will([poll.clone()]);
        let done = world.cli(&["login", "my-mail", "--json"]).await;
        assert_eq!(done.code(), code, "{done:?}");
        let said = lines(&done);
        assert_eq!((&said[0]["status"], &said[1]["status"]), (&json!("pending"), &json!(status)), "{done:?}");
        idp.will([poll]);
        let done = world.cli(&["login", "my-mail"]).await;
        assert!(done.code() == code && done.stderr.contains("Begin another with `oauth3 login my-mail`"), "{done:?}");
        assert!(!done.stderr.contains("<script>"), "{done:?}");
    }
    let token_type = "DPoP".to_owned();
    let odd = Poll::SignedIn { subject: "ann".into(), name: "Ann".into(), token_type, scope: None };
    for (poll, says) in [(odd, "not of the type Bearer"), (Poll::Html, "no OAuth server")] {
        idp.will([poll]);
        let done = world.cli(&["login", "my-mail"]).await;
        assert!(done.code() == 1 && done.stderr.contains(says), "{done:?}");
        assert!(!done.stderr.contains("Wi-Fi"), "{done:?}");
    }

    let begun = world.cli(&["login", "my-mail", "--no-wait"]).await;
    assert_eq!(begun.code(), 0, "{begun:?}");
    let stopped = world.cli(&["login", "my-mail", "--cancel"]).await;
    assert!(stopped.code() == 0 && stopped.stdout.contains("is stopped"), "{stopped:?}");
    assert_eq!(world.cli(&["status", "my-mail", "--json"]).await.json()["last_failure"]["end"], "cancelled");
    for (args, says) in [
        (&["login", "nobody"][..], "there is no connection nobody"),
        (&["secret", "rotate", "connection:my-mail", "--stdin"], "sign"),
        (&["secret", "remove", "connection:my-mail"], "oauth3 logout my-mail"),
    ] {
        let done = world.cli_with(args, "value-of-nothing-123\n").await;
        assert!(done.code() == 1 && done.stderr.contains(says), "{args:?} {done:?}");
    }
    serve.stop().await;
    let done = world.cli(&["login", "my-mail"]).await;
    assert!(done.code() == 1 && done.stderr.contains("oauth3 serve"), "{done:?}");
    assert_eq!(idp.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_the_owner_asked_and_learns_neither_code_nor_account() {
    let (idp, world, serve, agent) = ready().await;
    let login = async |body: Option<Value>| agent.call(Method::POST, "/connections/my-mail/login", body).await;
    for body in [json!({ "scopes": ["mail.send"] }), json!({ "issuer": "https://evil.example" }), json!([])] {
        assert_eq!(login(Some(body)).await.status, 400);
    }
    assert_eq!(idp.counts().0, 0, "the provider hears nothing of what an agent would like");
    let asked = login(None).await;
    assert_eq!((asked.status, asked.json["status"].as_str()), (202, Some("pending")), "{asked:?}");
    let joined = login(Some(json!({}))).await;
    assert_eq!((joined.status, idp.counts().0), (202, 1), "{joined:?}");
    let shown = world.cli(&["logins", "--json"]).await.json();
    assert_eq!(shown["logins"][0]["status"], "pending", "{shown}");
    idp.will([Poll::person("Ann")]);
    let done = world.cli(&["login", "my-mail", "--json"]).await;
    assert_eq!(lines(&done)[0]["asked_by"], "agent:agent", "{done:?}");
    let there = login(None).await;
    assert_eq!((there.status, there.json["status"].as_str()), (200, Some("signed_in")), "{there:?}");
    let list = agent.call(Method::GET, "/connections", None).await;
    assert_eq!(list.json["connections"][0]["secret"], "connection:my-mail", "{list:?}");
    let one = agent.call(Method::GET, "/connections/my-mail", None).await;
    for reply in [asked, joined, there, list, one] {
        let text = reply.json.to_string();
        for private in [USER_CODE, LOGIN_HOST, "Ann", "ann@example.com"] {
            assert!(!text.contains(private), "{private}: {text}");
        }
        assert_no_token(&idp, "what an agent is told", &text);
    }
    assert_eq!(agent.call(Method::GET, "/connections/nobody", None).await.status, 404);
    assert_eq!(agent.call(Method::POST, "/connections/nobody/login", None).await.status, 404);
    assert_no_token(&idp, "the log", &serve.log());
    assert!(!serve.log().contains(USER_CODE), "the code is for the owner's channels only");
    assert_eq!(idp.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_have_the_owner_asked_again_right_after_a_no() {
    let (idp, world, _serve, agent) = ready().await;
    let login = async || agent.call(Method::POST, "/connections/my-mail/login", None).await;
    idp.will([Poll::Denied]);
    assert_eq!(login().await.status, 202);
    idp.until("the poll that is declined", |(_, polled, _)| polled == 1).await;
    let mut status = Value::Null;
    while status["last_failure"]["end"] != "denied" {
        status = world.cli(&["status", "my-mail", "--json"]).await.json();
    }
    let again = login().await;
    assert_eq!((again.status, again.json["error"].as_str()), (429, Some("rate_limited")), "{again:?}");
    assert_eq!(idp.counts().0, 1);
    sign_in(&idp, &world, "Ann").await;
    assert_eq!(login().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_asked_about_at_the_terminal() {
    let (idp, world, _serve, _) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    let account = async || world.cli(&["status", "my-mail", "--json"]).await.json()["account"]["name"].clone();

    idp.will([Poll::person("Mallory")]);
    let question = "Use the new one? [y/N]";
    let (code, screen) = at_shell(&world, &[(question, "n\r")], &["login", "my-mail", "--again"]).await;
    assert_eq!((code, account().await), (3, json!("Ann")), "{screen}");
    assert!(screen.contains("Before: Ann (ann@example.com). Now: Mallory (mallory@example.com)"), "{screen}");
    assert!(screen.contains("█") && screen.contains("left (Ctrl-C"), "a picture and a countdown: {screen}");
    assert_eq!(idp.revoked().len(), 2, "the other account's tokens are given back");

    idp.will([Poll::person("Bob")]);
    let (code, screen) = at_shell(&world, &[(question, "y\r")], &["login", "my-mail", "--again"]).await;
    assert_eq!((code, account().await), (0, json!("Bob")), "{screen}");

    idp.will([Poll::person("Eve")]);
    let done = world.cli(&["login", "my-mail", "--again", "--any-account", "--json"]).await;
    assert_eq!((done.code(), account().await), (0, json!("Eve")), "{done:?}");
    assert_eq!(lines(&done)[1]["status"], "other_account", "{done:?}");

    // Ctrl-C ends the waiting and not the sign-in.
    let (code, screen) = at_shell(&world, &[("left (Ctrl-C", "\u{3}")], &["login", "my-mail", "--again"]).await;
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("the sign-in goes on"), "{screen}");
    assert_eq!(world.cli(&["logins", "--json"]).await.json()["logins"][0]["status"], "pending");
    assert_eq!(idp.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_lacks_is_said_before_anything_is_stored() {
    let (world, _) = World::ready("").await;
    let issuer = IdentityProvider::issuer();
    let add = async |more: &[&str]| world.cli(&[&["connection", "add", "my-mail", "--provider"], more].concat()).await;
    for (args, says) in [
        (&["nobody", "--client-id", "c"][..], "there are auth0, aws"),
        (&["microsoft"], "--client-id"),
        (&["generic", "--issuer", &issuer, "--client-id", "c"], "--host"),
        (&["generic", "--client-id", "c", "--host", API_HOST], "--issuer"),
        (&["generic", "--issuer", "http://login.example.com", "--client-id", "c", "--host", API_HOST], "https://"),
        (&["microsoft", "--client-id", "c", "--scope", "a b"], "a scope is"),
        (
            &["microsoft", "--client-id", "c", "--host", API_HOST, "--base-url", "https://other.example"],
            "--host other.example",
        ),
    ] {
        let done = add(args).await;
        assert!(matches!(done.code(), 1 | 2) && done.stderr.contains(says), "{args:?}: {done:?}");
    }
    assert_eq!(world.cli(&["connection", "list", "--json"]).await.json()["connections"], json!([]));
    assert_eq!(add(&["microsoft", "--client-id", "c", "--scope-set", "mail-read"]).await.code(), 0);
    let providers = world.cli(&["connection", "providers", "microsoft"]).await;
    assert!(providers.stdout.contains("--scope-set mail-read: Read your mail. Cannot send"), "{providers:?}");
    let secret = world
        .cli_with(
            &["connection", "add", "drive", "--provider", "google", "--client-id", "c", "--client-secret-stdin"],
            "GOCSPX-of-nobody\n",
        )
        .await;
    assert_eq!(secret.code(), 0, "{secret:?}");
    assert!(!std::fs::read(world.db()).unwrap().windows(16).any(|w| w == b"GOCSPX-of-nobody"), "it is sealed");
}
