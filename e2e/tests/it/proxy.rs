//! The API proxy from outside: an agent's token in, the real key out, within a grant and its budget.

use e2e::{Agent, Seen, Serve, Standin, World};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Response, StatusCode};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

pub(crate) const KEY: &str = "sk-proj-9fQ2mXv7LrT4bNs8HdKw3ZpC";

/// What OpenAI answers, with usage, and with the key where an API that means ill would put it.
pub(crate) fn completion(seen: &Seen) -> Response<Full<Bytes>> {
    let model: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": model["model"],
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hello" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 },
    });
    Response::builder().header("content-type", "application/json").body(Full::from(body.to_string())).unwrap()
}

pub(crate) async fn openai(
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> (World, Standin, String) {
    let api = Standin::start("api.openai.com", answer).await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    world.add_secret("OPENAI_API_KEY", KEY, &["api.openai.com"]).await;
    let done = world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    (world, api, token)
}

pub(crate) async fn grant(world: &World, more: &[&str]) -> String {
    let args = [&["provider", "grant", "openai", "--agent", "agent", "--json"], more].concat();
    let done = world.cli(&args).await;
    assert_eq!(done.code(), 0, "{done:?}");
    done.json()["id"].as_str().unwrap().to_owned()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// A POST of JSON.
fn post(base: &str, path: &str, body: &Value) -> RequestBuilder {
    let post = Client::new().post(format!("{base}{path}"));
    post.header("content-type", "application/json").body(body.to_string())
}

pub(crate) async fn chat(serve: &Serve, token: &str, model: &str) -> (StatusCode, Value) {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    let reply = post(&serve.proxy, "/v1/openai/chat/completions", &body).bearer_auth(token).send().await.unwrap();
    (reply.status(), json_of(&reply.text().await.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_call_goes_out_with_the_real_key_and_is_counted() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &["--for", "24h"]).await;
    let serve = world.serve().await;
    for path in ["/v1/openai/chat/completions", "/v1/openai/v1/chat/completions"] {
        let body = json!({ "model": "gpt-4o-mini", "messages": [] });
        let call = post(&serve.proxy, path, &body).header("x-api-key", &token).header("openai-organization", "org-1");
        let reply = call.send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let body = json_of(&reply.text().await.unwrap());
        assert_eq!(body["choices"][0]["message"]["content"], "hello");
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 2);
    for seen in &seen {
        assert_eq!(seen.target, "/v1/chat/completions");
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {KEY}")));
        assert_eq!(seen.header("openai-organization"), Some("org-1"));
        assert_eq!(seen.header("x-api-key"), None);
        assert!(!format!("{seen:?}").contains(&token));
    }
    let usage = world.cli(&["usage", "--by", "model", "--json"]).await.json();
    let item = &usage["usage"][0];
    assert_eq!((&item["model"], &item["calls"]), (&json!("gpt-4o-mini"), &json!(2)), "{usage}");
    assert_eq!((&item["tokens_in"], &item["tokens_out"]), (&json!(22), &json!(14)), "{usage}");
    assert!(item["usd"].as_f64().unwrap() > 0.0, "{usage}");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert_eq!(audit.matches("\"api_called\"").count(), 2, "{audit}");
    assert!(!audit.contains(KEY) && !serve.log().contains(KEY));
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
    assert!(serve.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_asks_the_owner_and_the_grant_covers_the_rest() {
    let (world, api, token) = openai(completion).await;
    let serve = world.serve().await;
    let first = {
        let (proxy, token) = (serve.proxy.clone(), token.clone());
        tokio::spawn(async move {
            let body = json!({ "model": "gpt-4o-mini", "messages": [] });
            let call = post(&proxy, "/v1/openai/chat/completions", &body).bearer_auth(token);
            call.send().await.unwrap().status()
        })
    };
    let id = asked(&world).await;
    let shown = world.cli(&["show", &id]).await.stdout;
    assert!(shown.contains("OpenAI") && shown.contains("api.openai.com") && shown.contains("NO LIMIT"), "{shown}");
    assert!(api.seen().is_empty());
    assert_eq!(world.cli(&["approve", &id, "--trust", "24h"]).await.code(), 0);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(chat(&serve, &token, "gpt-4o").await.0, 200);
    let grants = world.cli(&["grants", "--json"]).await.json();
    let grant = grants["grants"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["grants", "revoke", &grant]).await.code(), 0);
    let body = json!({ "model": "gpt-4o", "messages": [] });
    let call = post(&serve.proxy, "/v1/openai/chat/completions", &body).bearer_auth(&token);
    let reply = call.header("prefer", "respond-async").send().await.unwrap();
    assert_eq!(reply.status(), 202, "it asks anew");
    let id = reply.headers()["x-oauth3-request-id"].to_str().unwrap().to_owned();
    let status = Agent::new(&serve.base, &token).status(&id).await;
    assert_eq!(status["status"], "pending");
    assert_eq!(world.cli(&["deny", &id]).await.code(), 0);
    assert_eq!(api.seen().len(), 2);
}

/// The one request that waits for the owner.
pub(crate) async fn asked(world: &World) -> String {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let list = world.cli(&["requests", "--json"]).await.json();
        if let Some(id) = list["requests"][0]["request_id"].as_str() {
            return id.to_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_to_one_call_is_for_one_call_and_a_no_is_told() {
    let (world, api, token) = openai(completion).await;
    let serve = world.serve().await;
    for (trust, expected) in [(Some("once"), 200), (None, 403)] {
        let call = {
            let (proxy, token) = (serve.proxy.clone(), token.clone());
            tokio::spawn(async move {
                let body = json!({ "model": "gpt-4o-mini", "messages": [] });
                let call = post(&proxy, "/v1/openai/chat/completions", &body).bearer_auth(token);
                let reply = call.send().await.unwrap();
                (reply.status().as_u16(), reply.text().await.unwrap())
            })
        };
        let id = asked(&world).await;
        let done = match trust {
            Some(trust) => world.cli(&["approve", &id, "--trust", trust]).await,
            None => world.cli(&["deny", &id, "--reason", "not today"]).await,
        };
        assert_eq!(done.code(), 0, "{done:?}");
        let (status, text) = call.await.unwrap();
        assert_eq!(status, expected, "{text}");
        if trust.is_none() {
            assert!(text.contains("not today"), "{text}");
        } else {
            let agent = Agent::new(&serve.base, &token);
            assert_eq!(agent.finished(&id).await["status"], "success");
        }
    }
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_and_models_are_kept_to_in_the_words_of_the_provider() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &["--model", "gpt-4o*", "--tokens-per-day", "30"]).await;
    let serve = world.serve().await;
    let (status, body) = chat(&serve, &token, "o3").await;
    assert_eq!(status, 403);
    assert!(body["error"]["message"].as_str().unwrap().contains("o3") && body["error"]["type"].is_string(), "{body}");
    assert_eq!(chat(&serve, &token, "gpt-4o").await.0, 200);
    assert_eq!(chat(&serve, &token, "gpt-4o-mini").await.0, 200);
    let (status, body) = chat(&serve, &token, "gpt-4o").await;
    assert_eq!(status, 429, "36 of 30 tokens are spent: {body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("30 tokens a day"), "{body}");
    assert_eq!(api.seen().len(), 2);
    // It is spent after a restart too.
    assert!(serve.stop().await.success());
    let serve = world.serve().await;
    assert_eq!(chat(&serve, &token, "gpt-4o").await.0, 429);
    // A new grant is a new budget, by the minute.
    grant(&world, &["--requests-per-minute", "1"]).await;
    assert_eq!(chat(&serve, &token, "o3").await.0, 200);
    assert_eq!(chat(&serve, &token, "o3").await.0, 429);
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.contains("api_refused"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_and_nothing_leaves() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let client = Client::new();
    let get = |path: &str, token: &str| {
        let url = format!("{}{path}", serve.proxy);
        client.get(url).bearer_auth(token).send()
    };
    assert_eq!(get("/v1/nobody/models", &token).await.unwrap().status(), 404);
    assert_eq!(get("/api/nothing/x", &token).await.unwrap().status(), 404);
    assert_eq!(get("/elsewhere", &token).await.unwrap().status(), 404);
    let injection = "oa3_' OR '1'='1";
    for bad in ["sk-real", "", "oa3_aaaaaaaa_bbbb", injection, &"a".repeat(60_000)] {
        let reply = get("/v1/openai/models", bad).await.unwrap();
        assert_eq!(reply.status(), 401, "{bad:.20}");
        let body = json_of(&reply.text().await.unwrap());
        assert!(body["error"]["message"].is_string(), "{body}");
    }
    // A token of a megabyte is more than any head may have.
    let reply = get("/v1/openai/models", &"a".repeat(1 << 20)).await;
    assert!(reply.is_err() || reply.unwrap().status() == 431);
    // And so are more than a hundred fields; the client adds some of its own.
    for (fields, status) in [(90, 404), (100, 431)] {
        let call = client.get(format!("{}/elsewhere", serve.proxy)).bearer_auth(&token);
        let call = (0..fields).fold(call, |call, number| call.header(format!("x-{number}"), "1"));
        assert_eq!(call.send().await.unwrap().status(), status, "{fields} fields");
    }
    // Whoever has no token learns nothing of what there is.
    assert_eq!(get("/v1/nobody/models", "x").await.unwrap().status(), 401);
    for path in
        ["/v1/openai/a%2fb", "/v1/openai/a%2e%2e/b", "/v1/openai//models", "/v1/openai/..%5cx", "/v1/openai/a;b@c"]
    {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        let reply = raw(&serve.proxy, &head).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{path}: {reply}");
    }
    // A whole address is for a forward proxy, which wants credentials of its own kind.
    let head = format!(
        "GET http://evil.example/v1/openai/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    let reply = raw(&serve.proxy, &head).await;
    assert!(reply.starts_with("HTTP/1.1 407"), "{reply}");
    for path in ["/v1/openai/../admin", "/v1/openai/models/./x"] {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        let reply = raw(&serve.proxy, &head).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{path}: {reply}");
    }
    let head =
        format!("POST /v1/openai/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {token}\r\nconnection: close");
    for lengths in ["content-length: 2\r\ncontent-length: 3", "transfer-encoding: gzip, chunked", "content-length: +2"]
    {
        let reply = raw(&serve.proxy, &format!("{head}\r\n{lengths}\r\n\r\n{{}}")).await;
        assert!(reply.starts_with("HTTP/1.1 4") || reply.starts_with("HTTP/1.1 501"), "{lengths}: {reply}");
    }
    let doubled = r#"{"model":"gpt-4o","\u006dodel":"o3","messages":[]}"#;
    let reply = client
        .post(format!("{}/v1/openai/chat/completions", serve.proxy))
        .bearer_auth(&token)
        .header("content-type", "application/json")
        .body(doubled)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 400);
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    assert_eq!(get("/v1/openai/models", &token).await.unwrap().status(), 200, "and it still works");
}

/// Sends bytes as they are; what comes back.
async fn raw(base: &str, bytes: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_sends_the_key_back_sends_a_placeholder() {
    let (world, api, token) = openai(|seen| {
        let sent = seen.header("authorization").unwrap_or_default().to_owned();
        let body = json!({ "error": { "message": format!("invalid key {sent}"), "type": "invalid_request_error" } });
        Response::builder()
            .status(if seen.target.ends_with("models") { 200 } else { 400 })
            .header("content-type", "application/json")
            .header("x-echo", &sent)
            .header("set-cookie", "session=owner")
            .body(Full::from(body.to_string()))
            .unwrap()
    })
    .await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let call = post(&serve.proxy, "/v1/openai/embeddings", &json!({ "model": "x", "input": "y" })).bearer_auth(&token);
    let reply = call.send().await.unwrap();
    assert_eq!(reply.status(), 400);
    assert!(!reply.headers().contains_key("set-cookie"));
    let echo = reply.headers()["x-echo"].to_str().unwrap().to_owned();
    let text = reply.text().await.unwrap();
    assert!(!echo.contains(KEY) && !text.contains(KEY) && text.contains("invalid key"), "{echo} {text}");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_take_turns_and_stand_in_for_each_other() {
    let (world, api, token) = openai(|seen| {
        let tired = seen.header("authorization").is_some_and(|key| key.ends_with("tired"));
        let status = if tired { 429 } else { 200 };
        Response::builder().status(status).header("retry-after", "60").body(Full::from("{}")).unwrap()
    })
    .await;
    for (name, value) in [
        ("SECOND", "sk-second-key-0123456789"),
        ("TIRED", "sk-the-third-key-is-tired"),
        ("OWN", "sk-of-another-agent-0123"),
    ] {
        world.add_secret(name, value, &["api.openai.com"]).await;
    }
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "SECOND"]).await.code(), 0);
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "TIRED"]).await.code(), 0);
    assert_eq!(world.cli(&["agent", "add", "other"]).await.code(), 0);
    assert_eq!(world.cli(&["agent", "tag", "other", "research"]).await.code(), 0);
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OWN", "--tag", "research"]).await.code(), 0);
    grant(&world, &[]).await;
    let serve = world.serve().await;
    for _ in 0..6 {
        assert_eq!(chat(&serve, &token, "gpt-4o").await.0, 200);
    }
    let keys: Vec<String> = api.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    let with = |part: &str| keys.iter().filter(|key| key.contains(part)).count();
    assert_eq!(with("tired"), 1, "it rests for as long as the API said: {keys:?}");
    assert!(with(KEY) >= 2 && with("second") >= 2 && with("another") == 0, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_http_api_can_be_a_connection() {
    let api = Standin::echo("crm.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    world.add_secret("CRM_KEY", "crm-key-0123456789abcdef", &["crm.example.com"]).await;
    let rule = "crm.example.com GET /rest/people/*";
    let add = [
        "connection",
        "add",
        "crm",
        "--base-url",
        "https://crm.example.com/rest",
        "--secret",
        "CRM_KEY",
        "--allow",
        rule,
    ];
    let done = world.cli(&add).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(world.cli(&["connection", "grant", "crm", "--agent", "agent"]).await.code(), 0);
    let serve = world.serve().await;
    let client = Client::new();
    let url = |path: &str| format!("{}/api/crm{path}", serve.proxy);
    let call = |method: Method, path: &str| client.request(method, url(path)).bearer_auth(&token).send();
    let reply = call(Method::GET, "/people/7?full=1").await.unwrap();
    assert_eq!(reply.status(), 200);
    let text = reply.text().await.unwrap();
    assert!(text.contains("/rest/people/7?full=1") && !text.contains("crm-key"), "{text}");
    assert_eq!(call(Method::DELETE, "/people/7").await.unwrap().status(), 403);
    assert_eq!(call(Method::GET, "/invoices/7").await.unwrap().status(), 403);
    assert_eq!(api.seen().len(), 1);
    assert_eq!(api.seen()[0].header("authorization"), Some("Bearer crm-key-0123456789abcdef"));
    assert_eq!(world.cli(&["connection", "remove", "crm"]).await.code(), 0);
    assert_eq!(call(Method::GET, "/people/7").await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_compressed_is_scrubbed_and_a_bomb_is_cut() {
    let (world, _api, token) = openai(|seen| {
        let gzip = |bytes: &[u8]| {
            let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut coder, bytes).unwrap();
            coder.finish().unwrap()
        };
        assert_eq!(seen.header("accept-encoding"), Some("identity"), "it is not asked for");
        let (coding, body) = match seen.target.as_str() {
            "/v1/models/plain" => ("gzip", gzip(format!("{{\"key\":\"{KEY}\"}}").as_bytes())),
            "/v1/models/bomb" => ("gzip", gzip(&vec![b'a'; 300 << 20])),
            _ => ("snappy", b"what is this".to_vec()),
        };
        let reply = Response::builder().header("content-type", "application/json").header("content-encoding", coding);
        reply.body(Full::from(body)).unwrap()
    })
    .await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let get = |path: &str| Client::new().get(format!("{}/v1/openai{path}", serve.proxy)).bearer_auth(&token).send();
    let plain = get("/models/plain").await.unwrap();
    assert!(plain.status() == 200 && !plain.headers().contains_key("content-encoding"));
    let text = plain.text().await.unwrap();
    assert!(text.starts_with("{\"key\":\"") && !text.contains(KEY), "{text}");
    let mut bomb = get("/models/bomb").await.unwrap();
    let (mut came, mut cut) = (0, false);
    while !cut {
        match bomb.chunk().await {
            Ok(Some(piece)) => came += piece.len(),
            Ok(None) => break,
            Err(_) => cut = true,
        }
    }
    assert!(cut && came < 300 << 20, "{came} bytes came of it");
    let odd = get("/models/odd").await.unwrap();
    assert_eq!(odd.status(), 502);
    assert!(json_of(&odd.text().await.unwrap())["error"]["message"].as_str().unwrap().contains("encoding"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_without_a_good_certificate_never_gets_the_key() {
    let api = Standin::start("api.openai.com", completion).await;
    let (world, token) = World::ready("").await;
    // Its name leads there, and nobody trusts who signed for it.
    world.write_config(&format!("[egress]\nresolve = {{ \"api.openai.com\" = \"{}\" }}\n", api.address));
    world.add_secret("OPENAI_API_KEY", KEY, &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let (status, body) = chat(&serve, &token, "gpt-4o").await;
    assert_eq!(status, 502, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("cannot be reached"), "{body}");
    assert!(api.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_no_host_that_it_was_not_sealed_for() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let elsewhere = ["provider", "key", "add", "anthropic", "OPENAI_API_KEY"];
    let refused = world.cli(&elsewhere).await;
    assert!(refused.code() == 1 && refused.stderr.contains("api.anthropic.com"), "{refused:?}");
    // The owner's file says that the provider is elsewhere now: the key stays.
    let moved = "[openai]\nbase = \"https://api.evil.example/v1\"\n";
    std::fs::write(world.home().join("providers.toml"), moved).unwrap();
    let config = std::fs::read_to_string(world.home().join("oauth3.toml")).unwrap();
    let config = config.replace("\"api.openai.com\"", "\"api.evil.example\"");
    std::fs::write(world.home().join("oauth3.toml"), config).unwrap();
    let serve = world.serve().await;
    let (status, body) = chat(&serve, &token, "gpt-4o").await;
    assert_eq!(status, 403, "{body}");
    assert!(api.seen().is_empty(), "{:?}", api.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_for_what_its_own_rules_say_and_nothing_else() {
    let api = Standin::echo("crm.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let rule = "crm.example.com GET /rest/people/*";
    let secret = ["secret", "add", "CRM_KEY", "--host", "crm.example.com", "--allow", rule, "--stdin"];
    assert_eq!(world.cli_with(&secret, "crm-key-0123456789abcdef").await.code(), 0);
    let add = ["connection", "add", "crm", "--base-url", "https://crm.example.com/rest", "--secret", "CRM_KEY"];
    assert_eq!(world.cli(&add).await.code(), 0);
    assert_eq!(world.cli(&["connection", "grant", "crm", "--agent", "agent"]).await.code(), 0);
    let serve = world.serve().await;
    let call = |method: Method, path: &str| {
        Client::new().request(method, format!("{}/api/crm{path}", serve.proxy)).bearer_auth(&token).send()
    };
    assert_eq!(call(Method::GET, "/people/7").await.unwrap().status(), 200);
    for (method, path) in [(Method::DELETE, "/people/7"), (Method::GET, "/invoices/7"), (Method::GET, "/people/7/x")] {
        let reply = call(method, path).await.unwrap();
        assert_eq!(reply.status(), 403, "{path}");
        assert!(reply.text().await.unwrap().contains("CRM_KEY is not for"));
    }
    assert_eq!(api.seen().len(), 1);
}
