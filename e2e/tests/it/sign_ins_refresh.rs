//! Access tokens that end, are refused, or are being renewed when the keeper is killed.

use crate::sign_ins::{SKILL, metadata, ready, sign_in};
use e2e::{Agent, IdentityProvider, World, eventually_async};
use reqwest::Method;
use serde_json::Value;

/// Runs the skill; what came of it.
async fn run(world: &World, agent: &Agent) -> Value {
    let id = agent.submit(SKILL, metadata()).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    agent.finished(&id).await
}

fn worked(status: &Value) -> bool {
    status["result"]["stdout"].as_str().is_some_and(|stdout| stdout.starts_with("200 "))
}

async fn state(world: &World) -> Value {
    world.cli(&["logins", "--json"]).await.json()["logins"][0].clone()
}

fn refreshes(idp: &IdentityProvider) -> usize {
    idp.counts().2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_api_refuses_is_renewed_once_and_tried_again() {
    let (idp, world, serve, agent) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    idp.end_access_tokens();
    let status = run(&world, &agent).await;
    assert!(worked(&status), "{status} {}", serve.log());
    let calls = idp.api_calls();
    assert_eq!((calls.len(), refreshes(&idp)), (2, 1), "one call with each token");
    assert_ne!(calls[0].header("authorization"), calls[1].header("authorization"));
    for call in &calls {
        let token = call.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        assert!(!status.to_string().contains(token), "{status}");
    }
    assert_eq!(idp.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_renews_a_refused_token_and_hands_on_what_stays_refused() {
    let (idp, world, serve, agent) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    assert_eq!(world.cli(&["connection", "grant", "my-mail", "--agent", "agent"]).await.code(), 0);
    let proxy = agent.at(&serve.proxy);
    let call = async || proxy.send(Method::GET, "/api/my-mail/me", None).await.status().as_u16();
    assert_eq!(call().await, 200);
    idp.end_access_tokens();
    assert_eq!((call().await, refreshes(&idp)), (200, 1));
    // Right after a renewal it is the API's word that counts, and no loop.
    idp.end_access_tokens();
    assert_eq!((call().await, refreshes(&idp)), (401, 1));
    assert_eq!(idp.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_in_trouble_is_asked_again_later() {
    let (idp, world, _serve, agent) = ready().await;
    idp.tokens_last(1);
    idp.refresh_troubles(2);
    sign_in(&idp, &world, "Ann").await;
    eventually_async("the token is renewed", async || {
        let status = run(&world, &agent).await;
        worked(&status) && refreshes(&idp) > 0
    })
    .await;
    assert_eq!(state(&world).await["status"], "signed_in");
    assert_eq!(idp.faults(), [""; 0], "no refresh token that was taken was sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sign_in_does_not_wait_out_the_troubles_of_the_one_before() {
    let (idp, world, serve, agent) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    assert_eq!(world.cli(&["connection", "grant", "my-mail", "--agent", "agent"]).await.code(), 0);
    let proxy = agent.at(&serve.proxy);
    let call = async || proxy.send(Method::GET, "/api/my-mail/me", None).await.status().as_u16();
    idp.asks_for_patience(3600);
    idp.refresh_troubles(1);
    idp.end_access_tokens();
    assert_eq!((call().await, refreshes(&idp)), (401, 0));
    idp.will([e2e::identity::Poll::person("Ann")]);
    let done = world.cli(&["login", "my-mail", "--again"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(call().await, 200);
    idp.end_access_tokens();
    assert_eq!((call().await, refreshes(&idp)), (200, 1), "the new refresh token is tried at once");
    assert_eq!(idp.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_setup_are_not_used() {
    let (idp, world, _serve, agent) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    assert!(worked(&run(&world, &agent).await));
    let issuer = IdentityProvider::issuer();
    let mut add = vec!["connection", "add", "my-mail", "--provider", "generic", "--issuer", &issuer];
    add.extend(["--client-id", e2e::identity::CLIENT_ID, "--scope", "mail.send", "--host", "evil.example.net"]);
    assert_eq!(world.cli(&add).await.code(), 0);
    let before = idp.api_calls().len();
    let status = run(&world, &agent).await;
    assert!(status["error"].as_str().is_some_and(|error| error.contains("oauth3 login my-mail")), "{status}");
    assert_eq!(idp.api_calls().len(), before, "nothing went out with the old token");
    let now = state(&world).await;
    assert_eq!(now["status"], "sign_in_needed", "{now}");
    assert!(now["reason"].as_str().is_some_and(|reason| reason.contains("settings")), "{now}");
}

/// Killed around a refresh, six times at another moment: no refresh token is ever sent twice, and either the new token
/// is there or the owner is asked to sign in again, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_is_killed_around_a_refresh_sends_no_refresh_token_twice() {
    let (idp, world, serve, agent) = ready().await;
    idp.tokens_last(1);
    for round in 0..6u64 {
        if state(&world).await["status"] != "signed_in" {
            sign_in(&idp, &world, "Ann").await;
        }
        let before = refreshes(&idp);
        let kill = async {
            idp.until("a refresh", |(_, _, refreshed)| refreshed > before).await;
            // The reply is on its way, is being stored, or is stored.
            tokio::time::sleep(std::time::Duration::from_micros(round * 500)).await;
            e2e::world::signal(serve.keeper_pid(), "KILL").await;
        };
        let work = async {
            while refreshes(&idp) == before {
                let id = agent.submit(SKILL, metadata()).await;
                world.cli(&["approve", &id]).await;
                agent.finished(&id).await;
            }
        };
        tokio::join!(kill, work);
        eventually_async("the keeper is there again", async || world.cli(&["doctor"]).await.code() == 0).await;
        let status = run(&world, &agent).await;
        let now = state(&world).await;
        if !worked(&status) {
            assert_eq!(now["status"], "sign_in_needed", "{status} {now}");
            assert!(now["reason"].as_str().is_some_and(|reason| reason.contains("interrupted")), "{now}");
        }
    }
    assert_eq!(idp.faults(), [""; 0]);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
    serve.stop().await;
}

/// Whoever asked hangs up as soon as the provider has answered: the new token is stored all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_in_a_refresh_loses_no_token() {
    let (idp, world, serve, agent) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    assert_eq!(world.cli(&["connection", "grant", "my-mail", "--agent", "agent"]).await.code(), 0);
    let proxy = agent.at(&serve.proxy);
    idp.tokens_last(1);
    for _ in 0..8 {
        let before = refreshes(&idp);
        idp.end_access_tokens();
        while refreshes(&idp) == before {
            tokio::select! {
                reply = proxy.send(Method::GET, "/api/my-mail/me", None) => drop(reply),
                () = idp.until("a refresh", |(_, _, refreshed)| refreshed > before) => {}
            }
        }
        let reply = proxy.send(Method::GET, "/api/my-mail/me", None).await;
        let status = reply.status();
        assert_eq!(status, 200, "{} {}", reply.text().await.unwrap(), state(&world).await);
    }
    assert_eq!(idp.faults(), [""; 0]);
}
