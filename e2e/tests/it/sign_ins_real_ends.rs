//! How sign-ins end, and what becomes of them when somebody has their tokens, at the identity providers that others
//! wrote. oidc-provider never answers `slow_down`, so glewlwyd does.

use crate::sign_ins_real::{ALL, Provider, another, api, begin, ready, run, sign_in, state, submit, use_token};
use e2e::world::Done;
use e2e::{Agent, Serve, Standin, World, eventually_async};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const READ: [&str; 1] = ["api.read"];
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Exit codes of `oauth3 login`.
const DENIED: i32 = 3;
const EXPIRED: i32 = 4;
/// Between two polls, and what a `slow_down` adds to it (RFC 8628 §3.5), in milliseconds.
const INTERVAL: u64 = 3_000;
const SLOWER: u64 = 5_000;

/// What the keeper was answered of this kind.
fn answers(said: &[Value], grant_type: &str) -> Vec<Value> {
    said.iter().filter(|one| one["asked"]["grant_type"] == grant_type).cloned().collect()
}

/// Signs in and waits; what the person does is `does`, in the browser, as soon as there is a code.
async fn login(world: &World, provider: &Provider, does: Option<&str>) -> Done {
    let before = provider.said().await.len();
    let person = async {
        let Some(does) = does else { return };
        let code = loop {
            let said = provider.said().await;
            let code = said.iter().skip(before).find_map(|one| one["answered"]["user_code"].as_str());
            if let Some(code) = code {
                break code.to_owned();
            }
        };
        provider.browse(&format!("user_code={code}&{does}")).await;
    };
    tokio::join!(world.cli(&["login", "my-mail"]), person).0
}

/// It ended so, with the sentence for it, and somebody can sign in.
async fn ended(world: &World, done: &Done, code: i32, end: &str, sentence: &str) {
    assert!(done.code() == code && format!("{done:?}").contains(sentence), "{done:?}");
    let now = state(world).await;
    assert_eq!((&now["status"], &now["last_failure"]["end"]), (&json!("signed_out"), &json!(end)), "{now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_at_oidc_provider_is_heard() {
    let (provider, api) = (Provider::oidc(300).await, api().await);
    let (world, _serve, _) = ready(&provider, &api, &ALL).await;
    let done = login(&world, &provider, Some("login=ann&deny=1")).await;
    ended(&world, &done, DENIED, "denied", "the sign-in was declined").await;
    let polls = answers(&provider.said().await, DEVICE);
    assert_eq!(polls.last().unwrap()["answered"]["error"], "access_denied");
    sign_in(&provider, &world, "ann").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_oidc_provider_ends() {
    // Its device answer names no interval, so that it is asked once, after five seconds.
    let (provider, api) = (Provider::oidc_with(300, 7).await, api().await);
    let (world, _serve, _) = ready(&provider, &api, &ALL).await;
    let done = login(&world, &provider, None).await;
    ended(&world, &done, EXPIRED, "expired", "the code has expired").await;
    let polls = answers(&provider.said().await, DEVICE);
    assert!(polls.len() <= 1, "{polls:?}");
    assert!(polls.iter().all(|poll| poll["answered"]["error"] == "authorization_pending"), "{polls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyd_says_no_or_that_a_code_has_ended_and_is_asked_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, api) = (Provider::glewlwyd(folder.path(), 60).await, api().await);
    let (world, _serve, _) = ready(&provider, &api, &READ).await;
    let done = login(&world, &provider, Some("deny=1")).await;
    ended(&world, &done, DENIED, "denied", "the sign-in was declined").await;
    // Sooner than it had said itself.
    let done = login(&world, &provider, Some("end=1")).await;
    ended(&world, &done, EXPIRED, "expired", "the code has expired").await;
    sign_in(&provider, &world, "ann").await;
    let polls = answers(&provider.said().await, DEVICE);
    let codes: BTreeSet<&str> = polls.iter().filter_map(|poll| poll["asked"]["device_code"].as_str()).collect();
    assert_eq!(codes.len(), 3);
    for code in codes {
        let answered = polls.iter().filter(|poll| poll["asked"]["device_code"] == code);
        let answered: Vec<&Value> = answered.map(|poll| &poll["answered"]["error"]).collect();
        let over = answered.iter().position(|error| *error != "authorization_pending").unwrap();
        assert_eq!(over + 1, answered.len(), "nothing is asked once it is over: {answered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyd_has_the_keeper_slow_down() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, api) = (Provider::glewlwyd(folder.path(), 60).await, api().await);
    let (world, _serve, agent) = ready(&provider, &api, &READ).await;
    let user_code = begin(&world).await;
    let said = provider.said().await;
    assert_eq!(said[0]["answered"]["interval"], 3, "{said:?}");
    // Somebody else has the code and asks all the time, so that the keeper's poll is one too many.
    let stolen = [
        ("grant_type", DEVICE),
        ("client_id", "oauth3"),
        ("device_code", said[0]["answered"]["device_code"].as_str().unwrap()),
    ];
    eventually_async("the keeper is told to slow down", async || {
        provider.http.post(&provider.token).form(&stolen).send().await.unwrap();
        let polls = answers(&provider.said().await, DEVICE);
        polls.iter().any(|poll| poll["answered"]["error"] == "slow_down")
    })
    .await;
    provider.browse(&format!("user_code={user_code}")).await;
    assert_eq!(world.cli(&["login", "my-mail"]).await.code(), 0);
    use_token(&world, &agent, &api).await;
    let polls = answers(&provider.said().await, DEVICE);
    let mut wait = INTERVAL;
    for pair in polls.windows(2) {
        if pair[0]["answered"]["error"] == "slow_down" {
            wait += SLOWER;
        }
        // A busy machine makes it longer, never shorter.
        let waited = pair[1]["at"].as_u64().unwrap() - pair[0]["at"].as_u64().unwrap();
        assert!(waited >= wait, "{waited} ms of {wait}");
    }
    assert!(wait > INTERVAL && polls.last().unwrap()["answered"]["access_token"].is_string(), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn glewlwyd_refreshes_and_each_refresh_token_is_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, api) = (Provider::glewlwyd(folder.path(), 2).await, api().await);
    let (world, _serve, agent) = ready(&provider, &api, &READ).await;
    sign_in(&provider, &world, "ann").await;
    let first = use_token(&world, &agent, &api).await;
    let second = another(&world, &agent, &api, &first).await;
    another(&world, &agent, &api, &second).await;
    let said = provider.said().await;
    let refreshes = answers(&said, "refresh_token");
    assert!(refreshes.len() >= 2 && refreshes.iter().all(|one| one["status"] == 200), "{refreshes:?}");
    let sent: BTreeSet<&str> = refreshes.iter().filter_map(|one| one["asked"]["refresh_token"].as_str()).collect();
    assert_eq!(sent.len(), refreshes.len(), "it rotates, and none is sent twice");
}

/// Posts a refresh token to the provider as a thief would; the status and what came.
async fn steal(provider: &Provider, refresh_token: &str) -> (u16, Value) {
    let fields = [("grant_type", "refresh_token"), ("client_id", "oauth3"), ("refresh_token", refresh_token)];
    let reply = provider.http.post(&provider.token).form(&fields).send().await.unwrap();
    let status = reply.status().as_u16();
    (status, serde_json::from_str(&reply.text().await.unwrap()).unwrap_or_default())
}

/// Refresh tokens that the provider gave the keeper, the newest last.
async fn given(provider: &Provider) -> Vec<String> {
    let said = provider.said().await;
    said.iter().filter_map(|one| one["answered"]["refresh_token"].as_str().map(str::to_owned)).collect()
}

/// The token is used until it cannot be renewed: then the owner is told to sign in, with the reason, and no refresh token
/// is sent any more. The next request has the owner asked, and goes on.
async fn found_out(provider: &Provider, world: &World, serve: &Serve, agent: &Agent, reason: &str) {
    let mut now = state(world).await;
    while now["status"] == "signed_in" {
        run(world, agent).await;
        now = state(world).await;
    }
    assert_eq!(now["status"], "sign_in_needed", "{now}");
    assert!(now["reason"].as_str().unwrap().contains(reason), "{now}");
    let doctor = world.cli(&["doctor"]).await;
    assert!(doctor.stdout.contains("my-mail"), "{doctor:?}");
    let refreshes = answers(&provider.said().await, "refresh_token");
    assert_eq!(refreshes.last().unwrap()["status"], 400, "{refreshes:?}");
    let next = submit(world, agent).await;
    eventually_async("the owner is asked", async || state(world).await["status"] == "pending").await;
    assert_eq!(answers(&provider.said().await, "refresh_token"), refreshes, "nothing is left to be sent");
    sign_in(provider, world, "ann").await;
    assert_eq!(agent.finished(&next).await["status"], "success");
    let told = serve.log() + &world.cli(&["audit", "export"]).await.stdout;
    assert!(given(provider).await.iter().all(|token| !told.contains(token.as_str())));
}

/// A refresh token that was used before comes to light, then one that the thief uses first.
async fn thefts(provider: &Provider, api: &Standin, scopes: &[&str], reason: &str) {
    let (world, serve, agent) = ready(provider, api, scopes).await;
    sign_in(provider, &world, "ann").await;
    let first = use_token(&world, &agent, api).await;
    another(&world, &agent, api, &first).await;
    let old = given(provider).await.remove(0);
    assert_eq!(steal(provider, &old).await.0, 400, "the provider sees that it was used");
    found_out(provider, &world, &serve, &agent, reason).await;

    let newest = given(provider).await.pop().unwrap();
    let (status, loot) = steal(provider, &newest).await;
    assert_eq!(status, 200, "nobody can tell a thief who comes first");
    found_out(provider, &world, &serve, &agent, reason).await;
    let loot = loot["refresh_token"].as_str().unwrap();
    assert_eq!(steal(provider, loot).await.0, 400, "the keeper's refresh ended what the thief had");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_refresh_token_ends_the_sign_in_at_oidc_provider() {
    let provider = Provider::oidc(2).await;
    thefts(&provider, &api().await, &ALL, "no longer good: it was used up, revoked or has expired (invalid_grant)")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_refresh_token_ends_the_sign_in_at_glewlwyd() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::glewlwyd(folder.path(), 2).await;
    // It refuses with a status and no word.
    thefts(&provider, &api().await, &READ, "the provider refused").await;
}
