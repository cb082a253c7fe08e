//! Tokens that npm's oidc-provider, which is certified, gives for a sign-in that is there already.

use crate::derived::run;
use crate::sign_ins_real::{ALL, API, Provider, api, ready, sign_in};
use e2e::{Agent, Standin, World};
use serde_json::{Value, json};

/// Has the API called with the token of this connection; what the provider's account endpoint says to that token: the
/// claims of its scopes (OpenID Connect Core §5.4).
async fn claims(provider: &Provider, world: &World, agent: &Agent, api: &Standin, name: &str) -> (String, Value) {
    let status = run(world, agent, name, API).await;
    let stdout = status["result"]["stdout"].as_str().unwrap_or_default();
    assert!(stdout.starts_with("200 "), "{status}");
    let credential = api.seen().last().unwrap().header("authorization").unwrap().to_owned();
    assert!(!status.to_string().contains(credential.strip_prefix("Bearer ").unwrap()), "the token shows: {status}");
    let me = provider.http.get(format!("{}/me", provider.issuer)).header("authorization", &credential);
    let text = me.send().await.unwrap().text().await.unwrap();
    (credential, serde_json::from_str(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_gives_a_token_with_fewer_scopes_and_leaves_the_others_to_the_sign_in() {
    let (provider, api) = (Provider::oidc(2).await, api().await);
    let (world, serve, agent) = ready(&provider, &api, &ALL).await;
    let add = ["connection", "add", "narrow", "--from", "my-mail", "--scope", "openid"];
    assert_eq!(world.cli(&add).await.code(), 0);
    sign_in(&provider, &world, "ann").await;
    let (mut narrow, mut all) = (Vec::new(), Vec::new());
    // Tokens live for two seconds, so that both need another one now and then, and the refresh token changes each time.
    while narrow.len() < 3 || all.len() < 3 {
        let (token, claims_of_narrow) = claims(&provider, &world, &agent, &api, "narrow").await;
        assert_eq!(claims_of_narrow, json!({ "sub": "ann" }));
        narrow.push(token);
        narrow.dedup();
        let (token, claims_of_all) = claims(&provider, &world, &agent, &api, "my-mail").await;
        assert_eq!(claims_of_all["email"], "ann@example.com", "{claims_of_all}");
        all.push(token);
        all.dedup();
    }
    assert!(narrow.iter().all(|token| !all.contains(token)));
    let shown = world.cli(&["status", "my-mail", "--json"]).await.json();
    assert_eq!(shown["scopes_granted"], shown["scopes_asked"], "{shown}");
    assert_eq!(world.cli(&["logout", "my-mail"]).await.code(), 0);
    assert_eq!(world.cli(&["status", "narrow", "--json"]).await.json()["status"], "signed_out");
    for credential in narrow.iter().chain(&all) {
        assert!(!serve.log().contains(credential.strip_prefix("Bearer ").unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_provider_exchanges_a_token() {
    let (provider, api) = (Provider::oidc(300).await, api().await);
    let (world, _serve, agent) = ready(&provider, &api, &ALL).await;
    let add =
        ["connection", "add", "narrow", "--from", "my-mail", "--exchange", "audience=backend", "--scope", "openid"];
    assert_eq!(world.cli(&add).await.code(), 0);
    sign_in(&provider, &world, "ann").await;
    let (narrow, claims_of_narrow) = claims(&provider, &world, &agent, &api, "narrow").await;
    assert_eq!(claims_of_narrow, json!({ "sub": "ann" }));
    let (all, claims_of_all) = claims(&provider, &world, &agent, &api, "my-mail").await;
    assert_eq!(claims_of_all["email"], "ann@example.com", "{claims_of_all}");
    assert_ne!(narrow, all);
}
