//! Streams through the API proxy: nothing waits, nothing goes on that may not.

use e2e::{Agent, World};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Client;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

const KEY: &str = "sk-proj-5yH8kQ2wZt7RbX4cVn9MfL1D";
/// A path that the API never answers at.
const SILENT: &str = "/silent";
/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One stream that somebody asked the upstream for.
struct Asked {
    /// What is sent next; dropped, the stream ends.
    send: mpsc::UnboundedSender<Bytes>,
    /// Hears when nobody wants it any more.
    gone: oneshot::Receiver<()>,
}

/// A body that says when it is dropped.
struct Watched {
    events: mpsc::UnboundedReceiver<Bytes>,
    _gone: oneshot::Sender<()>,
}

/// An API that streams what a test tells it to.
async fn upstream() -> (u16, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, streams) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let asked = asked.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    assert_eq!(request.headers()["authorization"], format!("Bearer {KEY}"));
                    let silent = request.uri().path().ends_with(SILENT);
                    let (send, events) = mpsc::unbounded_channel();
                    let (dropped, gone) = oneshot::channel();
                    asked.send(Asked { send, gone }).unwrap();
                    let watched = Watched { events, _gone: dropped };
                    let body = futures::stream::unfold(watched, async |mut watched| {
                        let event = watched.events.recv().await?;
                        Some((Ok::<_, Infallible>(Frame::data(event)), watched))
                    });
                    let reply = Response::builder().header("content-type", "text/event-stream");
                    async move {
                        if silent {
                            std::future::pending::<()>().await;
                        }
                        reply.body(StreamBody::new(Box::pin(body)))
                    }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (port, streams)
}

/// A gateway whose provider `here` is that API, and the grant of its agent.
async fn world(port: u16) -> (World, String, String) {
    let (world, token) = World::ready("").await;
    let provider = format!(
        "[here]\ntitle = \"Here\"\nbase = \"http://localhost:{port}/v1\"\ncredential = \"bearer\"\ndialect = \"openai\"\nsecret = \"HERE_KEY\"\nstream_usage = true\ndocs = \"https://example.com\"\n"
    );
    std::fs::write(world.home().join("providers.toml"), provider).unwrap();
    world.add_secret("HERE_KEY", KEY, &[&format!("localhost:{port}")]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "here", "HERE_KEY"]).await.code(), 0);
    let granted = world.cli(&["provider", "grant", "here", "--agent", "agent", "--json"]).await;
    assert_eq!(granted.code(), 0, "{granted:?}");
    let grant = granted.json()["id"].as_str().unwrap().to_owned();
    (world, token, grant)
}

fn event(text: &str) -> Bytes {
    let chunk = json!({ "object": "chat.completion.chunk", "model": "m", "choices": [{ "index": 0, "delta": { "content": text } }] });
    Bytes::from(format!("data: {chunk}\n\n"))
}

async fn ask(proxy: &str, token: &str) -> reqwest::Response {
    asked(Client::new().post(format!("{proxy}/v1/here/chat/completions")).bearer_auth(token)).await
}

/// The same by a client that has the proxy set and keeps the API's own address.
async fn ask_through(proxy: &str, token: &str, port: u16) -> reqwest::Response {
    let proxy = reqwest::Proxy::http(proxy).unwrap().basic_auth("agent", token);
    let client = Client::builder().proxy(proxy).build().unwrap();
    asked(client.post(format!("http://localhost:{port}/v1/chat/completions")).bearer_auth(KEY)).await
}

async fn asked(call: reqwest::RequestBuilder) -> reqwest::Response {
    let body = json!({ "model": "m", "stream": true, "messages": [] }).to_string();
    let reply = call.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_goes_on_as_it_comes_and_is_counted_at_the_end() {
    let (port, mut streams) = upstream().await;
    let (world, token, _) = world(port).await;
    let serve = world.serve().await;
    let asking = tokio::spawn({
        let (proxy, token) = (serve.proxy.clone(), token.clone());
        async move { ask(&proxy, &token).await }
    });
    let asked = streams.recv().await.unwrap();
    // The head goes on before there is anything of the body.
    let mut body = asking.await.unwrap();
    for word in ["one", "two", KEY, "four"] {
        asked.send.send(event(word)).unwrap();
        let piece = timeout(PATIENCE, body.chunk()).await.unwrap().unwrap().unwrap();
        let text = String::from_utf8(piece.to_vec()).unwrap();
        assert!(text.ends_with("\n\n") && !text.contains(KEY), "{text}");
        assert_eq!(text.contains(word), word != KEY, "{text}");
    }
    let usage = json!({ "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": { "prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9 } });
    asked.send.send(Bytes::from(format!("data: {usage}\n\ndata: [DONE]\n\n"))).unwrap();
    drop(asked);
    // The usage was asked for by the proxy, not by the client, who does not see it.
    let mut rest = Vec::new();
    while let Some(piece) = timeout(PATIENCE, body.chunk()).await.unwrap().unwrap() {
        rest.extend_from_slice(&piece);
    }
    assert_eq!(String::from_utf8(rest).unwrap(), "data: [DONE]\n\n");
    let usage = world.cli(&["usage", "--by", "agent", "--json"]).await.json();
    let item = &usage["usage"][0];
    assert_eq!(
        (&item["tokens_in"], &item["tokens_out"], &item["estimated"]),
        (&json!(5), &json!(4), &json!(0)),
        "{usage}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_takes_the_right_away_ends_open_streams() {
    let (port, mut streams) = upstream().await;
    for how in ["grant", "key", "agent", "secret", "switch"] {
        let (world, token, grant) = world(port).await;
        let serve = world.serve().await;
        let asking = tokio::spawn({
            let (proxy, token) = (serve.proxy.clone(), token.clone());
            async move { ask(&proxy, &token).await }
        });
        let asked = streams.recv().await.unwrap();
        let mut body = asking.await.unwrap();
        asked.send.send(event("hello")).unwrap();
        assert!(timeout(PATIENCE, body.chunk()).await.unwrap().unwrap().is_some());
        let command: &[&str] = match how {
            "grant" => &["grants", "revoke", &grant],
            "key" => &["provider", "key", "remove", "here", "HERE_KEY"],
            "agent" => &["agent", "revoke", "agent"],
            "secret" => &["secret", "remove", "HERE_KEY"],
            _ => &["kill-switch", "on"],
        };
        assert_eq!(world.cli(command).await.code(), 0);
        // Nothing more is sent: it ends by itself, on both sides.
        assert!(timeout(PATIENCE, body.chunk()).await.unwrap().is_err(), "{how}");
        let _ = timeout(PATIENCE, asked.gone).await.expect(how);
        let call = Client::new().get(format!("{}/v1/here/models", serve.proxy)).bearer_auth(&token);
        let status = call.header("prefer", "respond-async").send().await.unwrap().status();
        let expected = match how {
            "agent" => 401,
            "grant" => 202,
            _ => 403,
        };
        assert_eq!(status, expected, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_grant_and_so_does_a_call_that_waits_for_its_reply() {
    let (port, mut streams) = upstream().await;
    let (world, token, _) = world(port).await;
    let serve = world.serve().await;
    let granted = world.cli(&["provider", "grant", "here", "--agent", "agent", "--for", "10s"]).await;
    assert_eq!(granted.code(), 0, "{granted:?}");
    let mut body = ask(&serve.proxy, &token).await;
    let asked = streams.recv().await.unwrap();
    asked.send.send(event("hello")).unwrap();
    assert!(timeout(PATIENCE, body.chunk()).await.unwrap().unwrap().is_some());
    let call = Client::new().post(format!("{}/v1/here{SILENT}", serve.proxy)).bearer_auth(&token);
    let call = tokio::spawn(call.header("content-type", "application/json").body(r#"{"model":"m"}"#).send());
    let silent = streams.recv().await.unwrap();
    // Nobody does anything: both end by themselves, on both sides.
    let refused = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
    assert_eq!(refused.status(), 403);
    let text = refused.text().await.unwrap();
    assert!(text.contains("the owner took the right to this back"), "{text}");
    let _ = timeout(PATIENCE, silent.gone).await.expect("the API is told");
    assert!(timeout(PATIENCE, body.chunk()).await.unwrap().is_err());
    let _ = timeout(PATIENCE, asked.gone).await.expect("the API is told");
    let usage = world.cli(&["usage", "--json"]).await.json();
    assert_eq!((&usage["usage"][0]["calls"], &usage["usage"][0]["failed"]), (&json!(2), &json!(2)), "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_takes_the_right_away_ends_streams_of_a_forward_proxy_too() {
    let (port, mut streams) = upstream().await;
    for how in ["grant", "agent", "switch", "opened host"] {
        let (world, token, grant) = world(port).await;
        if how == "opened host" {
            assert_eq!(world.cli(&["provider", "key", "remove", "here", "HERE_KEY"]).await.code(), 0);
            let open =
                format!("[egress]\nallow_private = [\"localhost\"]\n[proxy]\nforward_hosts = [\"localhost:{port}\"]\n");
            world.write_config(&open);
        }
        let serve = world.serve().await;
        let asking = tokio::spawn({
            let (proxy, token) = (serve.proxy.clone(), token.clone());
            async move { ask_through(&proxy, &token, port).await }
        });
        let asked = streams.recv().await.unwrap();
        let mut body = asking.await.unwrap();
        asked.send.send(event("hello")).unwrap();
        assert!(timeout(PATIENCE, body.chunk()).await.unwrap().unwrap().is_some());
        let command: &[&str] = match how {
            "grant" => &["grants", "revoke", &grant],
            "agent" => &["agent", "revoke", "agent"],
            _ => &["kill-switch", "on"],
        };
        assert_eq!(world.cli(command).await.code(), 0);
        assert!(timeout(PATIENCE, body.chunk()).await.unwrap().is_err(), "{how}");
        let _ = timeout(PATIENCE, asked.gone).await.expect(how);
    }
}

/// The yes is spent whatever becomes of the call, and its request never stays under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_allowed_once_ends_with_its_client_and_with_the_keeper() {
    let (port, mut streams) = upstream().await;
    let (world, token, grant) = world(port).await;
    assert_eq!(world.cli(&["grants", "revoke", &grant]).await.code(), 0);
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    for (who, error) in [
        ("client", "failed: the client went away before the API answered"),
        ("keeper", "interrupted: the keeper stopped in the middle of the call; it is not made again"),
    ] {
        let call = Client::new().post(format!("{}/v1/here{SILENT}", serve.proxy)).bearer_auth(&token);
        let call = tokio::spawn(call.header("content-type", "application/json").body(r#"{"model":"m"}"#).send());
        let id = crate::proxy::asked(&world).await;
        assert_eq!(world.cli(&["approve", &id, "--trust", "once"]).await.code(), 0);
        // The API has it, and does not answer.
        let asked = timeout(PATIENCE, streams.recv()).await.unwrap().unwrap();
        assert_eq!(agent.status(&id).await["status"], "executing");
        match who {
            "client" => call.abort(),
            _ => e2e::world::signal(serve.keeper_pid(), "KILL").await,
        }
        let _ = timeout(PATIENCE, asked.gone).await.expect("the API is told");
        let ended = agent.finished(&id).await;
        assert_eq!((&ended["status"], &ended["error"]), (&json!("failed"), &json!(error)), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_call() {
    let (port, mut streams) = upstream().await;
    let (world, token, _) = world(port).await;
    let serve = world.serve().await;
    let asking = tokio::spawn({
        let (proxy, token) = (serve.proxy.clone(), token.clone());
        async move { ask(&proxy, &token).await }
    });
    let asked = streams.recv().await.unwrap();
    let mut body = asking.await.unwrap();
    asked.send.send(event("hello")).unwrap();
    assert!(timeout(PATIENCE, body.chunk()).await.unwrap().unwrap().is_some());
    drop(body);
    let _ = timeout(PATIENCE, asked.gone).await.expect("the call ends");
    // What it used is counted all the same.
    let calls = async {
        loop {
            let usage = world.cli(&["usage", "--json"]).await.json();
            if usage["usage"][0]["calls"] == 1 {
                return usage;
            }
        }
    };
    let usage = timeout(PATIENCE, calls).await.unwrap();
    assert_eq!((&usage["usage"][0]["estimated"], &usage["usage"][0]["failed"]), (&json!(1), &json!(0)), "{usage}");
}
