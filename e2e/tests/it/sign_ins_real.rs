//! Sign-ins against identity providers that others wrote: npm's oidc-provider, which is certified, and Debian's
//! glewlwyd. Their own pages are gone through as a person would.

use crate::runtimes::installed;
use e2e::{Agent, PATIENCE, Serve, Standin, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Sends the token to the API, and prints what it sees of it and of the reply.
const SKILL: &str = "// @runtime embedded\nconst token = Deno.env.get('MY_MAIL_TOKEN');\n\
    const r = await fetch('https://api.example.com/mail', {headers: {Authorization: `Bearer ${token}`}});\n\
    console.log(r.status, token, await r.text());";
pub(crate) const API: &str = "api.example.com";

/// A provider that runs, with the browser of whoever signs in. It ends when its input does, which this holds.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    browser: String,
    /// Its token endpoint, for others than the keeper: what goes there is not in [`Provider::said`].
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
    _child: Child,
}

/// How long codes are good where nobody waits for their end, in seconds.
const LONG: u32 = 600;

impl Provider {
    async fn start(script: &str, argument: &Path, access_token_seconds: u32, code_seconds: u32) -> Self {
        let mut child = Command::new(installed("OAUTH3_TEST_NODE"))
            .arg(format!("{}/peers/{script}", env!("CARGO_MANIFEST_DIR")))
            .arg(argument)
            .env("ACCESS_TOKEN_SECONDS", access_token_seconds.to_string())
            .env("CODE_SECONDS", code_seconds.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let told: Value = serde_json::from_str(&line.expect("the provider starts")).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let (issuer, browser, token) = (text("issuer"), text("browser"), text("token"));
        Self { issuer, browser, token, http: reqwest::Client::new(), _child: child }
    }

    /// npm's, whose access tokens live so long.
    pub(crate) async fn oidc(access_token_seconds: u32) -> Self {
        Self::oidc_with(access_token_seconds, LONG).await
    }

    /// npm's, whose access tokens and codes live so long.
    pub(crate) async fn oidc_with(access_token_seconds: u32, code_seconds: u32) -> Self {
        let package = installed("OAUTH3_TEST_OIDC_PROVIDER");
        Self::start("identity_server.mjs", &package, access_token_seconds, code_seconds).await
    }

    /// Debian's, whose access tokens live so long, with its files in `folder`. Where it cannot be had, `cargo xtask test`
    /// leaves the tests out that have it in their names.
    pub(crate) async fn glewlwyd(folder: &Path, access_token_seconds: u32) -> Self {
        // The script finds it on the PATH.
        installed("OAUTH3_TEST_GLEWLWYD");
        Self::start("glewlwyd_server.mjs", folder, access_token_seconds, LONG).await
    }

    /// What the keeper asked its device and token endpoints, and was answered.
    pub(crate) async fn said(&self) -> Vec<Value> {
        let reply = self.http.get(format!("{}/said", self.browser)).send().await.unwrap();
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    }

    /// Goes through the pages with this query.
    pub(crate) async fn browse(&self, query: &str) {
        let reply = self.http.get(format!("{}/?{query}", self.browser)).send().await.unwrap();
        let (status, text) = (reply.status(), reply.text().await.unwrap());
        assert!(status.is_success(), "{text}");
    }

    /// What the provider says of an access token: the status of its account endpoint.
    async fn judges(&self, authorization: &str) -> u16 {
        let me = self.http.get(format!("{}/me", self.issuer)).header("authorization", authorization);
        me.send().await.unwrap().status().as_u16()
    }
}

/// An API that answers with what was sent as a credential, so that a reply that is not scrubbed shows.
pub(crate) async fn api() -> Standin {
    Standin::echo(API).await
}

pub(crate) async fn ready(provider: &Provider, api: &Standin, scopes: &[&str]) -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    // A quick machine asks more often than once a second until a token has ended.
    world.write_config(&format!("{}[limits]\nrequests_per_minute = 10000\n", api.egress(world.home())));
    let mut add = vec!["connection", "add", "my-mail", "--provider", "generic", "--issuer", &provider.issuer];
    add.extend(["--client-id", "oauth3", "--host", API]);
    add.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let done = world.cli(&add).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

/// Begins a sign-in; its code.
pub(crate) async fn begin(world: &World) -> String {
    let begun = world.cli(&["login", "my-mail", "--no-wait", "--json"]).await;
    assert_eq!(begun.code(), 0, "{begun:?}");
    begun.json()["code"].as_str().unwrap_or_else(|| panic!("{begun:?}")).to_owned()
}

pub(crate) async fn sign_in(provider: &Provider, world: &World, login: &str) {
    let code = begin(world).await;
    provider.browse(&format!("user_code={code}&login={login}")).await;
    let done = world.cli(&["login", "my-mail"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
}

/// Submits the skill, and approves it.
pub(crate) async fn submit(world: &World, agent: &Agent) -> String {
    let id = agent.submit(SKILL, json!({ "secrets": ["connection:my-mail"], "network": [API] })).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    id
}

/// Runs the skill; how it ended.
pub(crate) async fn run(world: &World, agent: &Agent) -> Value {
    agent.finished(&submit(world, agent).await).await
}

/// Runs the skill; the credential that the API got.
pub(crate) async fn use_token(world: &World, agent: &Agent, api: &Standin) -> String {
    let before = api.seen().len();
    let status = run(world, agent).await;
    let stdout = status["result"]["stdout"].as_str().unwrap_or_default();
    assert!(stdout.starts_with("200 "), "{status}");
    let seen = api.seen();
    assert_eq!(seen.len(), before + 1, "{status}");
    let credential = seen.last().unwrap().header("authorization").unwrap().to_owned();
    let token = credential.strip_prefix("Bearer ").unwrap();
    assert!(!status.to_string().contains(token), "the token shows: {status}");
    credential
}

/// Runs the skill until its token is another one than this; that one.
pub(crate) async fn another(world: &World, agent: &Agent, api: &Standin, before: &str) -> String {
    for _ in 0..100 {
        let now = use_token(world, agent, api).await;
        if now != before {
            return now;
        }
    }
    panic!("the token stayed the same")
}

pub(crate) async fn state(world: &World) -> Value {
    world.cli(&["logins", "--json"]).await.json()["logins"][0].clone()
}

pub(crate) const ALL: [&str; 5] = ["openid", "offline_access", "email", "profile", "mail.read"];

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_signs_in_refreshes_and_revokes() {
    let (provider, api) = (Provider::oidc(2).await, api().await);
    let (world, serve, agent) = ready(&provider, &api, &ALL).await;
    sign_in(&provider, &world, "ann").await;
    let shown = state(&world).await;
    assert_eq!(shown["account"]["email"], "ann@example.com", "{shown}");
    assert_eq!(shown["scopes_granted"], shown["scopes_asked"], "{shown}");

    // Tokens live for two seconds, so that each use needs another one, and the refresh token changes each time.
    let first = use_token(&world, &agent, &api).await;
    let second = another(&world, &agent, &api, &first).await;
    let third = another(&world, &agent, &api, &second).await;
    assert_eq!(provider.judges(&third).await, 200);

    let out = world.cli(&["logout", "my-mail"]).await;
    assert_eq!(out.code(), 0, "{out:?}");
    assert_eq!(provider.judges(&third).await, 401, "the provider took it back");
    assert_eq!(state(&world).await["status"], "signed_out");
    for secret in [&first, &second, &third].map(|credential| credential.strip_prefix("Bearer ").unwrap()) {
        assert!(!serve.log().contains(secret));
        assert!(!world.cli(&["audit", "export"]).await.stdout.contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_calls_an_api_with_the_token_of_a_sign_in() {
    let (provider, api) = (Provider::oidc(2).await, api().await);
    let (world, serve, agent) = ready(&provider, &api, &ALL).await;
    let asked = agent.call(Method::POST, "/connections/my-mail/login", None).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let code = begin(&world).await;
    assert!(!asked.json.to_string().contains(&code), "the agent learns no code: {asked:?}");
    provider.browse(&format!("user_code={code}&login=ann")).await;
    assert_eq!(world.cli(&["login", "my-mail"]).await.code(), 0);

    let grant = world.cli(&["connection", "grant", "my-mail", "--agent", "agent"]).await;
    assert_eq!(grant.code(), 0, "{grant:?}");
    let proxy = agent.at(&serve.proxy);
    let mut credentials = std::collections::BTreeSet::new();
    while credentials.len() < 3 {
        let reply = proxy.send(Method::GET, "/api/my-mail/messages", None).await;
        assert_eq!(reply.status(), 200);
        let text = reply.text().await.unwrap();
        let credential = api.seen().last().unwrap().header("authorization").unwrap().to_owned();
        assert_eq!(provider.judges(&credential).await, 200);
        assert!(!text.contains(credential.strip_prefix("Bearer ").unwrap()), "{text}");
        credentials.insert(credential);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_at_oidc_provider_waits_for_the_owner() {
    let (provider, api) = (Provider::oidc(300).await, api().await);
    let (world, _serve, agent) = ready(&provider, &api, &ALL).await;
    sign_in(&provider, &world, "ann").await;
    let anns = use_token(&world, &agent, &api).await;
    let code = begin_again(&world).await;
    provider.browse(&format!("user_code={code}&login=bob")).await;
    e2e::eventually_async("bob is held back", async || {
        world.cli(&["audit", "export"]).await.stdout.contains("\"other_account\"")
    })
    .await;
    assert_eq!(use_token(&world, &agent, &api).await, anns, "nothing changes without a word");
    let refused = world.cli(&["login", "my-mail", "--cancel"]).await;
    assert_eq!(refused.code(), 0, "{refused:?}");
    assert_eq!(state(&world).await["account"]["email"], "ann@example.com");
    let code = begin_again(&world).await;
    provider.browse(&format!("user_code={code}&login=bob")).await;
    let kept = world.cli(&["login", "my-mail", "--any-account"]).await;
    assert_eq!(kept.code(), 0, "{kept:?}");
    assert_eq!(state(&world).await["account"]["email"], "bob@example.com");
    assert_ne!(use_token(&world, &agent, &api).await, anns);
}

/// Begins a sign-in where somebody is signed in already.
async fn begin_again(world: &World) -> String {
    let begun = world.cli(&["login", "my-mail", "--again", "--no-wait", "--json"]).await;
    begun.json()["code"].as_str().unwrap_or_else(|| panic!("{begun:?}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyd_signs_in_and_revokes() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::glewlwyd(folder.path(), 60).await;
    let api = api().await;
    let (world, _serve, agent) = ready(&provider, &api, &["api.read"]).await;
    sign_in(&provider, &world, "ann").await;
    let first = use_token(&world, &agent, &api).await;
    assert!(first.len() > 100, "a JWT: {}", first.len());
    assert_eq!(world.cli(&["logout", "my-mail"]).await.code(), 0);
    assert_eq!(state(&world).await["status"], "signed_out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_without_codes_is_signed_in_at_in_the_browser() {
    let (provider, api) = (Provider::oidc(300).await, api().await);
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let at = |path: &str| format!("{}{path}", provider.issuer);
    let (authorization, tokens, userinfo) = (at("/auth"), at("/token"), at("/me"));
    let mut add = vec!["connection", "add", "my-mail", "--provider", "generic", "--client-id", "oauth3-browser"];
    add.extend(["--authorization-endpoint", &authorization, "--token-endpoint", &tokens]);
    add.extend(["--userinfo-endpoint", &userinfo, "--host", API, "--scope", "openid", "--scope", "email"]);
    let done = world.cli(&add).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let serve = world.serve().await;
    let begun = world.cli(&["login", "my-mail", "--no-wait", "--json"]).await;
    let begun = begun.json();
    assert!(begun["code"].is_null(), "{begun}");
    let address = reqwest::Url::parse(begun["address"].as_str().unwrap()).unwrap();
    // Somebody else calls first, with a state of his own: it changes nothing.
    let redirect = address.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    let stranger = provider.http.get(format!("{redirect}?code=evil&state=guessed")).send().await.unwrap();
    assert_eq!(stranger.status(), 400);
    let query =
        reqwest::Url::parse_with_params("http://x/", [("address", address.as_str()), ("login", "ann")]).unwrap();
    provider.browse(query.query().unwrap()).await;
    e2e::eventually_async("she is signed in", async || state(&world).await["status"] == "signed_in").await;
    assert_eq!(state(&world).await["account"]["email"], "ann@example.com");
    let credential = use_token(&world, &Agent::new(&serve.base, &token), &api).await;
    assert_eq!(provider.judges(&credential).await, 200);
}
