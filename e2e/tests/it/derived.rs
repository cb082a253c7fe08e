//! Connections whose token is got from another connection's sign-in, against a strict server: fewer scopes, exchange,
//! and Auth0's Token Vault.

use e2e::deriving::{API, AUDIENCE, LINKED, LINKED_API, LINKED_SCOPE, TENANT};
use e2e::deriving::{TokenServer, Ways};
use e2e::{Agent, Done, Seen, Serve, World, eventually_async};
use reqwest::Method;
use serde_json::{Value, json};

const CLIENT: &str = "oauth3-test-client";
const ALL: &str = "mail.read mail.send offline_access openid";

/// A gateway with the connection `my-mail` at a provider of this kind, not signed in.
async fn ready(provider: &str) -> (TokenServer, World, Serve, Agent) {
    let server = TokenServer::start().await;
    let (world, token) = World::ready("").await;
    world.write_config(&server.egress(world.home()));
    let at = TokenServer::at;
    let (device, tokens, userinfo, revoke) =
        (at("/oauth/device/code"), at("/oauth/token"), at("/userinfo"), at("/oauth/revoke"));
    let mut add = vec!["connection", "add", "my-mail", "--provider", provider, "--client-id", CLIENT, "--host", API];
    add.extend(ALL.split(' ').flat_map(|scope| ["--scope", scope]));
    match provider {
        "auth0" => add.extend(["--domain", TENANT, "--client-secret-stdin"]),
        _ => add.extend(["--device-endpoint", &device, "--token-endpoint", &tokens]),
    }
    if provider != "auth0" {
        add.extend(["--userinfo-endpoint", &userinfo, "--revocation-endpoint", &revoke]);
    }
    let done = world.cli_with(&add, "the-secret-of-the-app\n").await;
    assert_eq!(done.code(), 0, "{done:?}");
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (server, world, serve, agent)
}

async fn derive(world: &World, more: &[&str]) -> Done {
    world.cli(&[&["connection", "add", "narrow", "--from", "my-mail"], more].concat()).await
}

/// Defines `narrow`, with `mail.read` alone.
async fn define(world: &World) {
    let done = derive(world, &["--scope", "mail.read"]).await;
    assert!(done.code() == 0 && done.stdout.contains("from my-mail with fewer scopes"), "{done:?}");
}

async fn login(world: &World, name: &str) {
    let done = world.cli(&["login", name]).await;
    assert!(done.code() == 0 && done.stdout.contains("Signed in as Ann (ann@example.com)."), "{done:?}");
}

/// Runs code that calls an API with the token of a connection; what became of the request.
pub(crate) async fn run(world: &World, agent: &Agent, name: &str, api: &str) -> Value {
    let id = submit(agent, name, api).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    agent.finished(&id).await
}

async fn submit(agent: &Agent, name: &str, api: &str) -> String {
    let variable = format!("{}_TOKEN", name.to_uppercase().replace('-', "_"));
    let code = format!(
        "// @runtime embedded\nconst token = Deno.env.get('{variable}');\n\
         const r = await fetch('https://{api}/x', {{headers: {{Authorization: `Bearer ${{token}}`}}}});\n\
         console.log(r.status, token, await r.text())"
    );
    agent.submit(&code, json!({ "secrets": [format!("connection:{name}")], "network": [api] })).await
}

/// The scopes with which an API was called by `name`, and the token.
async fn used(server: &TokenServer, world: &World, agent: &Agent, name: &str, api: &str) -> (String, String) {
    let status = run(world, agent, name, api).await;
    let stdout = status["result"]["stdout"].as_str().unwrap_or_default();
    assert!(stdout.starts_with("200 "), "{status}");
    let scope = stdout.split(r#""scope":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    for secret in server.secrets() {
        assert!(!status.to_string().contains(&secret), "{secret} shows: {status}");
    }
    (scope.to_owned(), token(server.calls(api).last().unwrap()))
}

fn token(call: &Seen) -> String {
    call.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned()
}

async fn state(world: &World, name: &str) -> Value {
    world.cli(&["status", name, "--json"]).await.json()
}

fn sorted(scope: &str) -> Vec<&str> {
    let mut scopes: Vec<&str> = scope.split(' ').collect();
    scopes.sort_unstable();
    scopes
}

fn nothing_shows(server: &TokenServer, serve: &Serve) {
    for secret in server.secrets() {
        assert!(!serve.log().contains(&secret), "{secret} shows in the log");
    }
    assert_eq!(server.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_fewer_scopes_leaves_the_sign_in_with_all_of_its_own() {
    let (server, world, serve, agent) = ready("generic").await;
    define(&world).await;
    assert_eq!(state(&world, "narrow").await["status"], "signed_out");
    // Whoever signs in there signs in to the parent, and has both.
    login(&world, "narrow").await;
    eventually_async("the derived token is there", async || state(&world, "narrow").await["status"] == "signed_in")
        .await;
    let shown = state(&world, "narrow").await;
    assert_eq!((&shown["from"], &shown["scopes_granted"]), (&json!("my-mail"), &json!(["mail.read"])), "{shown}");
    assert_eq!(shown["account"]["email"], "ann@example.com");
    let again = world.cli(&["login", "narrow"]).await;
    assert!(again.stdout.contains("Already authenticated. Signed in as Ann"), "{again:?}");

    let id = submit(&agent, "narrow", API).await;
    let card = world.cli(&["show", &id]).await.stdout;
    for said in [
        "connection:narrow → api.example.com",
        "account Ann (ann@example.com)",
        "from my-mail with fewer scopes",
        "scopes: mail.read",
    ] {
        assert!(card.contains(said), "{said}: {card}");
    }
    assert!(!card.contains("mail.send"), "{card}");
    for args in [&["logins"][..], &["status", "narrow"], &["connection", "list"]] {
        let text = world.cli(args).await.stdout;
        assert!(text.contains("from my-mail with fewer scopes"), "{args:?}: {text}");
    }
    let seen = agent.call(Method::GET, "/connections/narrow", None).await.json;
    assert_eq!((&seen["from"], &seen["scopes"]), (&json!("my-mail"), &json!(["mail.read"])), "{seen}");
    assert!(!seen.to_string().contains("Ann"), "{seen}");

    let (scope, narrow) = used(&server, &world, &agent, "narrow", API).await;
    assert_eq!(scope, "mail.read");
    let (scope, all) = used(&server, &world, &agent, "my-mail", API).await;
    assert_eq!(sorted(&scope), sorted(ALL));
    assert_ne!(narrow, all);
    assert_eq!(server.counts().0, 1, "one refresh, for the one with fewer scopes");

    // The refresh token that came back is the parent's, with all of its scopes.
    server.end_access_tokens();
    assert_eq!(sorted(&used(&server, &world, &agent, "my-mail", API).await.0), sorted(ALL));
    assert_eq!(used(&server, &world, &agent, "narrow", API).await.0, "mail.read");
    let parent = state(&world, "my-mail").await;
    assert_eq!(parent["scopes_granted"], parent["scopes_asked"], "{parent}");
    assert_eq!(server.counts().0, 3);

    // The proxy lends it too.
    assert_eq!(world.cli(&["connection", "grant", "narrow", "--agent", "agent"]).await.code(), 0);
    let reply = agent.at(&serve.proxy).send(Method::GET, "/api/narrow/me", None).await;
    assert!(reply.text().await.unwrap().contains(r#""scope":"mail.read""#));
    nothing_shows(&server, &serve);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged_for_one_of_another_api() {
    let (server, world, serve, agent) = ready("generic").await;
    login(&world, "my-mail").await;
    let audience = format!("audience={AUDIENCE}");
    let done = derive(&world, &["--exchange", &audience, "--scope", "mail.read"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    // A request that was approved has it got.
    assert_eq!(used(&server, &world, &agent, "narrow", API).await.0, "mail.read");
    assert!(world.cli(&["status", "narrow"]).await.stdout.contains("from my-mail by exchange for backend"));
    assert_eq!(server.counts(), (0, 1), "no refresh token was sent");
    // When the subject is no longer good either, that one is renewed first.
    server.end_access_tokens();
    assert_eq!(used(&server, &world, &agent, "narrow", API).await.0, "mail.read");
    assert_eq!(server.counts(), (1, 3));
    nothing_shows(&server, &serve);
}

/// Nobody asks again: the request goes on by itself, and so does what a sign-in gets for the connections below it.
#[tokio::test(flavor = "multi_thread")]
async fn a_derived_token_that_cannot_be_got_now_is_tried_again_until_it_is_there() {
    let (server, world, serve, agent) = ready("generic").await;
    login(&world, "my-mail").await;
    define(&world).await;
    server.will(|ways| ways.troubles = 2);
    assert_eq!(used(&server, &world, &agent, "narrow", API).await.0, "mail.read");
    server.will(|ways| ways.troubles = 1);
    assert_eq!(world.cli(&["login", "my-mail", "--again"]).await.code(), 0);
    eventually_async("both are signed in", async || state(&world, "narrow").await["status"] == "signed_in").await;
    assert_eq!(used(&server, &world, &agent, "narrow", API).await.0, "mail.read");
    nothing_shows(&server, &serve);
}

/// What is refused for good is not asked for again and again, nor what the owner signed out of meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_any_more_is_not_tried_again() {
    let (server, world, _serve, agent) = ready("generic").await;
    login(&world, "my-mail").await;
    define(&world).await;
    let other = ["connection", "add", "other", "--from", "my-mail", "--scope", "mail.send"];
    assert_eq!(world.cli(&other).await.code(), 0);
    server.will(|ways| ways.troubles = 1);
    for name in ["narrow", "other"] {
        let asked = agent.call(Method::POST, &format!("/connections/{name}/login"), None).await;
        assert_eq!(asked.status, 503, "{asked:?}");
        assert!(asked.json.to_string().contains(&format!("a token of {name} cannot be got now")), "{asked:?}");
    }
    assert_eq!(world.cli(&["logout", "narrow"]).await.code(), 0);
    // The one that was asked for later is there, so the other's time is over.
    eventually_async("it is there", async || state(&world, "other").await["status"] == "signed_in").await;
    assert_eq!((server.counts().0, state(&world, "narrow").await["status"].clone()), (1, json!("signed_out")));
    assert_eq!(server.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_vault_gives_what_is_linked() {
    let (server, world, serve, agent) = ready("auth0").await;
    login(&world, "my-mail").await;
    let linked = format!("connection={LINKED}");
    let done = derive(&world, &["--exchange", &linked]).await;
    assert!(done.code() != 0 && done.stderr.contains("--host"), "{done:?}");
    server.will(|ways| ways.linked = false);
    assert_eq!(derive(&world, &["--exchange", &linked, "--host", LINKED_API]).await.code(), 0);
    let done = world.cli(&["login", "narrow"]).await;
    assert!(done.code() == 3 && done.stderr.contains("the account has no usable link"), "{done:?}");
    assert_eq!(state(&world, "narrow").await["status"], "sign_in_needed");
    assert_eq!(state(&world, "my-mail").await["status"], "signed_in");

    server.will(|ways| ways.linked = true);
    eventually_async("it is asked again after a pause", async || world.cli(&["login", "narrow"]).await.code() == 0)
        .await;
    let (scope, token) = used(&server, &world, &agent, "narrow", LINKED_API).await;
    assert_eq!(scope, LINKED_SCOPE);
    assert_eq!(state(&world, "narrow").await["scopes_granted"], json!([LINKED_SCOPE]));
    // The token of the linked account goes to its own API only, and the parent's not there.
    let astray = run(&world, &agent, "narrow", API).await;
    assert!(
        !server.calls(API).iter().any(|call| call.header("authorization").is_some_and(|a| a.contains(&token))),
        "{astray}"
    );
    let out = world.cli(&["logout", "narrow"]).await;
    assert!(out.code() == 0 && out.stdout.contains("its token is destroyed here"), "{out:?}");
    assert_eq!(server.revoked(), [""; 0]);
    assert_eq!(world.cli(&["login", "narrow"]).await.code(), 0);
    let out = world.cli(&["logout", "my-mail"]).await;
    assert_eq!(out.code(), 0, "{out:?}");
    assert!(!server.revoked().contains(&token), "what is another provider's is not Auth0's to revoke");
    assert_eq!(state(&world, "narrow").await["status"], "signed_out");
    nothing_shows(&server, &serve);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_derived_has_more_than_its_parent() {
    let (server, world, _serve, agent) = ready("generic").await;
    // At once, by what the parent asks for.
    for (more, says) in [
        (&["--scope", "mail.read", "--scope", "mail.delete"][..], "does not ask for mail.delete"),
        (&[], "--scope"),
        (&["--exchange", "audience=backend", "--scope", "admin"], "does not ask for admin"),
        (&["--exchange", "connection=google-oauth2", "--host", LINKED_API], "Token Vault"),
        (&["--exchange", "audience=a", "--exchange", "audience=b"], "twice"),
        (&["--exchange", "colour=blue"], "audience, resource or connection"),
    ] {
        let done = derive(&world, more).await;
        assert!(matches!(done.code(), 1 | 2) && done.stderr.contains(says), "{more:?}: {done:?}");
    }
    let google = ["connection", "add", "drive", "--provider", "google", "--client-id", "c", "--host", API];
    assert_eq!(world.cli(&google).await.code(), 0);
    let done = world.cli(&["connection", "add", "narrow", "--from", "drive", "--scope", "openid"]).await;
    assert!(done.code() == 1 && done.stderr.contains("Google gives no token with fewer scopes"), "{done:?}");
    assert!(done.stderr.contains("--provider google"), "{done:?}");

    // By what was granted.
    assert_eq!(derive(&world, &["--scope", "mail.send"]).await.code(), 0);
    let nested = world.cli(&["connection", "add", "nested", "--from", "narrow", "--scope", "mail.send"]).await;
    assert!(nested.code() == 1 && nested.stderr.contains("no sign-in of its own"), "{nested:?}");
    server.will(|ways| ways.grants = Some("mail.read offline_access openid".to_owned()));
    login(&world, "my-mail").await;
    let done = world.cli(&["login", "narrow"]).await;
    assert!(done.code() == 3 && done.stderr.contains("was not granted mail.send"), "{done:?}");
    assert_eq!(server.counts().0, 0);

    // By what came.
    define(&world).await;
    let more: [fn(&mut Ways); 2] = [|ways| ways.ignores_scope = true, |ways| ways.grants = Some(ALL.to_owned())];
    more.iter().for_each(|change| server.will(change));
    assert_eq!(world.cli(&["login", "my-mail", "--again"]).await.code(), 0);
    eventually_async("it is refused", async || state(&world, "narrow").await["status"] == "sign_in_needed").await;
    let shown = state(&world, "narrow").await;
    assert!(
        shown["reason"].as_str().is_some_and(|reason| reason.contains("more than was asked for (mail.send")),
        "{shown}"
    );
    assert_eq!(server.calls(API).len(), 0);

    // A token of another kind.
    let done = derive(&world, &["--exchange", "audience=backend"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    server.will(|ways| (ways.ignores_scope, ways.issued) = (false, "refresh_token"));
    eventually_async("it is refused as what it is", async || {
        let done = world.cli(&["login", "narrow"]).await;
        done.code() == 3 && done.stderr.contains("not of the type Bearer")
    })
    .await;
    // The parent has lost nothing of it all.
    assert_eq!(sorted(&used(&server, &world, &agent, "my-mail", API).await.0), sorted(ALL));
    server.end_access_tokens();
    assert_eq!(sorted(&used(&server, &world, &agent, "my-mail", API).await.0), sorted(ALL));
    assert_eq!(server.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_derived_token_goes_with_its_parents_sign_in() {
    let (server, world, serve, agent) = ready("generic").await;
    define(&world).await;
    let signed_in = async || {
        login(&world, "my-mail").await;
        eventually_async("both are", async || state(&world, "narrow").await["status"] == "signed_in").await;
        used(&server, &world, &agent, "narrow", API).await.1
    };
    let stored = async || world.cli(&["secret", "list", "--json"]).await.stdout.contains("connection:narrow");
    let first = signed_in().await;
    assert!(stored().await);
    assert_eq!(world.cli(&["logout", "my-mail"]).await.code(), 0);
    assert_eq!((state(&world, "narrow").await["status"].clone(), stored().await), (json!("signed_out"), false));
    assert!(server.revoked().contains(&first), "{:?}", server.revoked());

    // Another account: nothing of the one before is used.
    let before = signed_in().await;
    server.will(|ways| ways.person = "Bob".to_owned());
    assert_eq!(world.cli(&["login", "my-mail", "--again", "--any-account"]).await.code(), 0);
    eventually_async("it is Bob's", async || state(&world, "narrow").await["account"]["name"] == "Bob").await;
    let bobs = used(&server, &world, &agent, "narrow", API).await.1;
    assert_ne!(bobs, before);
    assert!(server.calls(API).iter().filter(|call| token(call) == before).count() == 1, "not used again");

    // The parent with other scopes: what was derived from the sign-in before is not used.
    let done = world.cli(&["connection", "remove", "my-mail"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!((state(&world, "narrow").await["status"].clone(), stored().await), (json!("signed_out"), false));
    assert!(server.revoked().contains(&bobs));
    let calls = server.calls(API).len();
    let done = world.cli(&["login", "narrow"]).await;
    assert!(done.code() == 1 && done.stderr.contains("there is no connection my-mail"), "{done:?}");
    assert_eq!(server.calls(API).len(), calls);
    nothing_shows(&server, &serve);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_has_ended_takes_what_is_derived_with_it() {
    let (server, world, _serve, agent) = ready("generic").await;
    define(&world).await;
    login(&world, "my-mail").await;
    eventually_async("both are signed in", async || state(&world, "narrow").await["status"] == "signed_in").await;
    // The parent's grant is gone at the provider: found out by the one with fewer scopes.
    server.forget_refresh();
    let done = world.cli(&["login", "narrow", "--again"]).await;
    assert!(done.code() == 3 && done.stderr.contains("oauth3 login my-mail"), "{done:?}");
    assert_eq!(state(&world, "my-mail").await["status"], "sign_in_needed");
    assert_eq!(state(&world, "narrow").await["status"], "signed_out");
    let id = submit(&agent, "narrow", API).await;
    let card = world.cli(&["show", &id]).await.stdout;
    assert!(card.contains("from my-mail"), "{card}");
    assert_eq!(server.faults(), [""; 0]);
}

/// What the owner took away an agent does not get back by asking.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_not_undo_that_the_owner_signed_out_of_a_derived_connection() {
    let (server, world, _serve, agent) = ready("generic").await;
    define(&world).await;
    login(&world, "my-mail").await;
    eventually_async("both are signed in", async || state(&world, "narrow").await["status"] == "signed_in").await;
    let narrow = used(&server, &world, &agent, "narrow", API).await.1;
    let out = world.cli(&["logout", "narrow"]).await;
    assert!(out.code() == 0 && out.stdout.contains("Its tokens are revoked and destroyed"), "{out:?}");
    assert_eq!(server.revoked(), [narrow], "its own, and none of the parent's");
    let before = server.counts();
    let asked = agent.call(Method::POST, "/connections/narrow/login", None).await;
    assert_eq!((asked.status, asked.json["error"].as_str()), (403, Some("denied_by_policy")), "{asked:?}");
    assert_eq!(server.counts(), before, "{asked:?}");
    assert_eq!(state(&world, "my-mail").await["status"], "signed_in", "the parent's stays");
    assert_eq!(sorted(&used(&server, &world, &agent, "my-mail", API).await.0), sorted(ALL));
    let done = world.cli(&["login", "narrow"]).await;
    assert!(done.code() == 0 && done.stdout.contains("Signed in as Ann"), "{done:?}");
    assert_eq!(used(&server, &world, &agent, "narrow", API).await.0, "mail.read");
    assert_eq!(server.faults(), [""; 0]);
}

/// Killed around a refresh that asks for fewer scopes, each time at another moment: no refresh token is sent twice, and
/// the sign-in is there still, or the owner is asked to sign in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_is_killed_while_it_derives_loses_no_sign_in_quietly() {
    let (server, world, serve, agent) = ready("generic").await;
    define(&world).await;
    server.will(|ways| ways.lifetime = 1);
    for round in 0..6u64 {
        if state(&world, "my-mail").await["status"] != "signed_in" {
            login(&world, "my-mail").await;
        }
        let before = server.counts().0;
        let kill = async {
            server.refreshed(before).await;
            // The reply is on its way, is being stored, or is stored.
            tokio::time::sleep(std::time::Duration::from_micros(round * 500)).await;
            e2e::world::signal(serve.keeper_pid(), "KILL").await;
        };
        let work = async {
            while server.counts().0 == before {
                world.cli(&["login", "narrow", "--again"]).await;
            }
        };
        tokio::join!(kill, work);
        eventually_async("the keeper is there again", async || world.cli(&["doctor"]).await.code() == 0).await;
        let status = run(&world, &agent, "my-mail", API).await;
        if !status["result"]["stdout"].as_str().is_some_and(|stdout| stdout.starts_with("200 ")) {
            let now = state(&world, "my-mail").await;
            assert_eq!(now["status"], "sign_in_needed", "{status} {now}");
            assert!(now["reason"].as_str().is_some_and(|reason| reason.contains("interrupted")), "{now}");
        }
    }
    assert_eq!(server.faults(), [""; 0]);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
    serve.stop().await;
}
