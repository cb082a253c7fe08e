//! Waking the agent: a signed webhook, a command, OpenClaw's hook.

use data_encoding::HEXLOWER;
use e2e::{Agent, World, eventually};
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

type Posts = Arc<Mutex<Vec<(String, String, Vec<u8>)>>>;

/// A plain HTTP sink that answers 500 to the first post of each path and 200 to the rest.
async fn sink() -> (SocketAddr, Posts) {
    let posts: Posts = Posts::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let all = posts.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let posts = all.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let posts = posts.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let field = |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
                    let proof = field("authorization").or_else(|| field("x-oauth3-signature")).unwrap_or_default();
                    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                    let mut posts = posts.lock().unwrap();
                    let first = !posts.iter().any(|(p, _, _)| *p == path);
                    posts.push((path, proof, body));
                    let status = if first { 500 } else { 200 };
                    Ok::<_, hyper::Error>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, posts)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_woken_with_the_id_and_never_the_output() {
    let (address, posts) = sink().await;
    let (world, token) = World::ready("").await;
    let note = world.home().join("woken");
    std::fs::write(world.home().join("hook-token"), "hook-token-123\n").unwrap();
    std::fs::write(world.home().join("webhook-key"), "webhook-key-456\n").unwrap();
    world.write_config(&format!(
        "[notify]\nopenclaw_url = \"http://{address}\"\nopenclaw_token_file = \"hook-token\"\nwebhook_url = \"http://{address}/webhook\"\nwebhook_secret_file = \"webhook-key\"\ncommand = [\"sh\", \"-c\", \"echo \\\"$1 $2\\\" > {}; exit 0\", \"x\", \"{{request_id}}; touch /tmp/never\", \"{{status}}\"]\n",
        note.display()
    ));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let id = agent.submit("// @runtime embedded\nconsole.log('output-that-stays-inside')", json!({})).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");

    eventually("both posts are tried again after a 500", || posts.lock().unwrap().len() >= 4).await;
    eventually("the command ran", || note.exists() && !std::fs::read_to_string(&note).unwrap().is_empty()).await;
    assert_eq!(
        std::fs::read_to_string(&note).unwrap(),
        format!("{id}; touch /tmp/never success\n"),
        "no shell sees the id"
    );
    for (path, proof, body) in posts.lock().unwrap().iter() {
        let text = String::from_utf8(body.clone()).unwrap();
        assert!(text.contains(&id) && !text.contains("output-that-stays-inside"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        if path == "/hooks/wake" {
            assert_eq!(proof, "Bearer hook-token-123");
            assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["text", "mode"]);
            assert_eq!(value["mode"], "now");
        } else {
            assert_eq!(path, "/webhook");
            let mut mac = Hmac::<Sha256>::new_from_slice(b"webhook-key-456").unwrap();
            mac.update(body);
            assert_eq!(*proof, format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes())));
            assert_eq!((&value["request_id"], &value["status"]), (&json!(id), &json!("success")));
        }
    }
    assert_eq!(agent.status(&id).await["status"], "success", "a failed wake never fails the request");
}
