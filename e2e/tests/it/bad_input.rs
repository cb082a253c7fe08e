//! What is malformed, too much or not allowed: a documented error each, and the gateway unmoved.

use e2e::{Agent, World};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_request_gets_its_documented_error() {
    let (world, token) = World::ready("[limits]\nrequests_per_minute = 1000\n").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let with = |change: Value| {
        let mut body = json!({ "skill_id": "s", "code": "1" });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let cases = [
        (with(json!({ "colour": 1 })), 400, "invalid_request"),
        (with(json!({ "metadata": { "colour": 1 } })), 400, "invalid_request"),
        (with(json!({ "code": 7 })), 400, "invalid_request"),
        (with(json!({ "skill_url": "data:text/javascript,1" })), 400, "invalid_request"),
        (json!({ "code": "1" }), 400, "invalid_request"),
        (json!({ "skill_id": "s" }), 400, "invalid_request"),
        (with(json!({ "skill_id": "a b" })), 400, "invalid_request"),
        (with(json!({ "wait": 121 })), 400, "invalid_request"),
        (with(json!({ "args": { "a-b": "1" } })), 400, "invalid_request"),
        (with(json!({ "args": { "LD_PRELOAD; x": "1" } })), 400, "invalid_request"),
        (with(json!({ "args": { "a": "\u{0}" } })), 400, "invalid_request"),
        (with(json!({ "secrets": ["lower"] })), 400, "invalid_request"),
        (with(json!({ "secrets": ["LD_PRELOAD"] })), 400, "invalid_request"),
        (with(json!({ "secrets": ["NODE_OPTIONS"] })), 400, "invalid_request"),
        (with(json!({ "metadata": { "network": ["https://a.example"] } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "network": ["127.0.0.1"] } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "network": ["*.example"] } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "network": ["0x7f.1"] } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "timeout": 0 } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "timeout": -1 } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "timeout": 601 } })), 400, "invalid_request"),
        (with(json!({ "metadata": { "runtime": "perl" } })), 400, "unknown_runtime"),
        (with(json!({ "secrets": ["A"], "metadata": { "secrets": ["A", "B"] } })), 400, "conflicting_metadata"),
        (with(json!({ "secrets": ["A"], "metadata": { "secrets": [] } })), 400, "conflicting_metadata"),
        (with(json!({ "code": "// @skill other\n1" })), 400, "conflicting_metadata"),
        (
            with(json!({ "code": "// @network b.example\n1", "metadata": { "network": ["a.example"] } })),
            400,
            "conflicting_metadata",
        ),
        (
            with(json!({ "code": "// @runtime deno\n1", "metadata": { "runtime": "embedded" } })),
            400,
            "conflicting_metadata",
        ),
        (json!({ "skill_id": "s", "skill_url": "http://a.example/x" }), 422, "skill_fetch_failed"),
        (json!({ "skill_id": "s", "skill_url": "https://127.0.0.1/x" }), 422, "skill_fetch_failed"),
        (json!({ "skill_id": "s", "skill_url": "https://localhost/x" }), 422, "skill_fetch_failed"),
        (json!({ "skill_id": "s", "skill_url": "file:///etc/passwd" }), 422, "skill_fetch_failed"),
        (with(json!({ "code": "x".repeat((1 << 20) + 1) })), 413, "too_large"),
    ];
    for (body, status, code) in cases {
        let reply = agent.execute(body.clone()).await;
        let text: String = body.to_string().chars().take(200).collect();
        assert_eq!((reply.status, reply.json["error"].as_str()), (status, Some(code)), "{text}: {reply:?}");
        assert!(reply.json["error_description"].as_str().is_some_and(|d| !d.is_empty()), "{text}");
        assert!(reply.json["request_id"].is_string(), "{text}");
    }
    for raw in ["", "{", "[]", "null", "\"x\"", "{\"skill_id\":\"s\",\"code\":\"1\"} trailing", &"[".repeat(100_000)] {
        let response = agent.send(Method::POST, "/execute", Some(raw.to_owned())).await;
        assert_eq!(response.status().as_u16(), 400, "{}", raw.chars().take(40).collect::<String>());
    }
    let huge = agent.send(Method::POST, "/execute", Some("x".repeat(8 << 20))).await;
    assert_eq!(huge.status().as_u16(), 413);
    assert_eq!(world.cli(&["requests", "--all", "--json"]).await.json()["requests"], json!([]), "nothing was stored");
    assert_eq!(agent.call(Method::GET, "/health", None).await.status, 200, "the gateway is unmoved");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_public_pages_answers_without_a_token() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let id = Agent::new(&serve.base, &token).submit("1", json!({})).await;
    let status = format!("/execute/{id}/status");
    let one = format!("/execute/{id}");
    for bad in ["", "wrong", "oa3_aaaaaaaa_aaaa", &token[..token.len() - 1], &format!("{token}x")] {
        let stranger = Agent::new(&serve.base, bad);
        for (method, path) in
            [(Method::POST, "/execute"), (Method::GET, &*status), (Method::DELETE, &*one), (Method::GET, "/secrets")]
        {
            let reply = stranger.call(method, path, Some(json!({}))).await;
            assert_eq!((reply.status, reply.json["error"].as_str()), (401, Some("invalid_token")), "{path} {bad:?}");
        }
    }
    let stranger = Agent::new(&serve.base, "");
    for path in ["/", "/openapi.json", "/health"] {
        assert_eq!(stranger.call(Method::GET, path, None).await.status, 200, "{path}");
    }
    let other = world.cli(&["agent", "add", "other", "--json"]).await.json()["token"].as_str().unwrap().to_owned();
    let other = Agent::new(&serve.base, &other);
    assert_eq!(other.call(Method::GET, &status, None).await.status, 404, "another agent's");
    assert_eq!(other.call(Method::DELETE, &one, None).await.status, 404, "another agent's");
    assert_eq!(Agent::new(&serve.base, &token).call(Method::DELETE, &one, None).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_told_when_to_come_back() {
    let (world, token) = World::ready("[limits]\nrequests_per_minute = 4\npending_per_agent = 2\n").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let body = json!({ "skill_id": "s", "code": "1" });
    assert_eq!(agent.execute(body.clone()).await.status, 202);
    assert_eq!(agent.execute(body.clone()).await.status, 202);
    let full = agent.execute(body.clone()).await;
    assert_eq!((full.status, full.json["error"].as_str()), (429, Some("rate_limited")), "{full:?}");
    let dry = json!({ "skill_id": "s", "code": "1", "dry_run": true });
    agent.execute(dry.clone()).await;
    let response = agent.send(Method::POST, "/execute", Some(dry.to_string())).await;
    assert_eq!(response.status().as_u16(), 429, "dry runs count");
    assert!(response.headers().contains_key("retry-after"));
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_agent_exists_only_when_the_owner_named_it() {
    let (world, _) = World::ready("anonymous_agent = \"agent\"\n").await;
    let serve = world.serve().await;
    let response = reqwest::Client::new()
        .post(format!("{}/execute", serve.base))
        .body(json!({ "skill_id": "s", "code": "1" }).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 202);
    let wrong = Agent::new(&serve.base, "wrong").call(Method::GET, "/secrets", None).await;
    assert_eq!(wrong.status, 401, "a wrong token is not no token");
    drop(world);
}
