//! The proxy's other side: APIs that speak HTTP/2, and what is on disk when the keeper is killed.

use crate::proxy::{KEY, completion, grant, openai};
use e2e::{World, eventually, world};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Client;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[]}"#;
/// Calls that go on at once.
const AT_ONCE: usize = 8;

async fn chat(proxy: &str, token: &str) -> reqwest::Response {
    let call = Client::new().post(format!("{proxy}/v1/openai/chat/completions")).bearer_auth(token);
    call.header("content-type", "application/json").body(CHAT).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_share_a_connection_to_an_api_that_speaks_http2() {
    let certificate = e2e::certificate::Certificate::new(&["api.openai.com"]);
    let mut config = certificate.server_config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, connections) = (TlsAcceptor::from(Arc::new(config)), Arc::new(AtomicUsize::new(0)));
    // Nobody is answered before all are there; the first call is alone.
    let all = Arc::new(Barrier::new(AT_ONCE));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, counted, all) = (tls.clone(), counted.clone(), all.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(move |request: Request<Incoming>| {
                    let all = all.clone();
                    async move {
                        assert_eq!(request.version(), Version::HTTP_2);
                        assert_eq!(request.uri().authority().unwrap(), "api.openai.com", "as a client names it");
                        assert_eq!(request.headers()["authorization"], format!("Bearer {KEY}"));
                        let alone = request.headers().contains_key("x-alone");
                        let body = request.into_body().collect().await?.to_bytes();
                        if !alone {
                            all.wait().await;
                        }
                        let reply =
                            Response::builder().header("content-type", "application/json").header("x-echo", KEY);
                        Ok::<_, hyper::Error>(reply.body(Full::<Bytes>::from(body)).unwrap())
                    }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let (world, token) = World::ready("").await;
    world.write_config(&certificate.egress(world.home(), address));
    world.add_secret("OPENAI_API_KEY", KEY, &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let first = Client::new().get(format!("{}/v1/openai/models", serve.proxy)).bearer_auth(&token);
    assert_eq!(first.header("x-alone", "1").send().await.unwrap().status(), 200);
    let calls = (0..AT_ONCE).map(|_| chat(&serve.proxy, &token));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.status(), 200);
        assert_ne!(reply.headers()["x-echo"], KEY);
        assert_eq!(reply.text().await.unwrap(), CHAT);
    }
    // The keeper has a thread for each processor, and each its own connections.
    let threads = std::thread::available_parallelism().unwrap().get();
    assert!(connections.load(Ordering::SeqCst) <= threads);
}

/// Calls that the audit has.
async fn recorded(world: &World) -> usize {
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
    let export = world.cli(&["audit", "export"]).await.stdout;
    let rows = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls =
        rows.filter(|row| row["kind"] == "api_called").flat_map(|row| row["detail"]["calls"].as_array().cloned());
    // Those that are the same are told once.
    calls.flatten().map(|call| call.get("times").map_or(1, |times| times.as_u64().unwrap() as usize)).sum()
}

/// Kills the gateway and its keeper in the midst of calls; how many were answered before, and are recorded.
async fn killed(durable: bool) -> (World, String, usize, usize) {
    let (world, api, token) = openai(completion).await;
    let config = std::fs::read_to_string(world.home().join("oauth3.toml")).unwrap();
    world.write_config(&format!("{config}[proxy]\ndurable_audit = {durable}\n"));
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let keeper = serve.keeper_pid();
    let answered = Arc::new(AtomicUsize::new(0));
    for _ in 0..AT_ONCE {
        let (proxy, token, answered) = (serve.proxy.clone(), token.clone(), answered.clone());
        tokio::spawn(async move {
            let call = || Client::new().post(format!("{proxy}/v1/openai/chat/completions")).bearer_auth(&token);
            while let Ok(reply) = call().header("content-type", "application/json").body(CHAT).send().await {
                assert_eq!(reply.status(), 200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    eventually("calls are answered", || answered.load(Ordering::SeqCst) >= 5 * AT_ONCE).await;
    // What is answered up to here must be recorded; more may be.
    let before = answered.load(Ordering::SeqCst);
    world::signal(keeper, "KILL").await;
    serve.kill().await;
    eventually("the keeper is gone", || !world::is_alive(keeper)).await;
    let in_audit = recorded(&world).await;
    assert!(in_audit <= api.seen().len() + AT_ONCE, "nothing is recorded that nobody asked for");
    (world, token, before, in_audit)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_keeper_has_recorded_every_call_that_was_answered() {
    let (_world, _token, answered, in_audit) = killed(true).await;
    assert!(in_audit >= answered, "{in_audit} of {answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_durable_audit_a_killed_keeper_leaves_a_chain_that_holds_and_goes_on() {
    let (world, token, answered, in_audit) = killed(false).await;
    assert!(in_audit > 0, "none of {answered}");
    let serve = world.serve().await;
    assert_eq!(chat(&serve.proxy, &token).await.status(), 200);
    assert!(serve.stop().await.success());
    assert_eq!(recorded(&world).await, in_audit + 1);
}
