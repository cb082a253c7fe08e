//! The official SDKs as an agent's clients: what they get, what they say when they are refused, and that no key shows.

use crate::runtimes::installed;
use e2e::llm::{APIS, SEND_KEY_BACK, USED};
use e2e::sdks::{Sdks, without_keys};
use e2e::{Standin, World, llm};
use serde_json::{Value, json};

/// Calls of the driver and the model that each asks for.
const CALLS: [(&str, &str); 12] = [
    ("chat", "gpt-4o"),
    ("chat-stream", "gpt-4o-mini"),
    ("chat-stream-usage", "gpt-4.1"),
    ("responses", "gpt-5"),
    ("responses-stream", "gpt-5-mini"),
    ("embeddings", "text-embedding-3-small"),
    ("azure", "my-deployment"),
    ("azure-stream", "other-deployment"),
    ("messages", "claude-sonnet-4-5"),
    ("messages-stream", "claude-haiku-4-5"),
    ("generate", "gemini-2.5-flash"),
    ("generate-stream", "gemini-2.5-pro"),
];

/// A gateway whose providers are the stand-in, each with its key.
pub(crate) async fn world(api: &Standin) -> (World, String) {
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let azure = "[azure]\nvariables = { resource = \"res\" }\nstream_usage = true\n";
    std::fs::write(world.home().join("providers.toml"), azure).unwrap();
    for (provider, host, _, _, key) in APIS {
        let secret = format!("{}_KEY", provider.to_uppercase());
        world.add_secret(&secret, key, &[host]).await;
        let done = world.cli(&["provider", "key", "add", provider, &secret]).await;
        assert_eq!(done.code(), 0, "{done:?}");
    }
    (world, token)
}

pub(crate) async fn grant(world: &World, provider: &str, more: &[&str]) {
    let done = world.cli(&[&["provider", "grant", provider, "--agent", "agent"], more].concat()).await;
    assert_eq!(done.code(), 0, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_works_with_the_agents_token() {
    let api = llm::start().await;
    let (world, token) = world(&api).await;
    for (provider, ..) in APIS {
        grant(&world, provider, &[]).await;
    }
    let serve = world.serve().await;
    let mut sdks = Sdks::start(&installed("OAUTH3_TEST_SDKS"), &[]);
    let lines = sdks.ask(Some(&serve.proxy), &token, "hi", &CALLS).await;
    sdks.stop().await;
    assert_eq!(lines.len(), CALLS.len());
    for (line, (name, _)) in lines.iter().zip(CALLS) {
        assert_eq!(line["call"], name, "{line}");
        let text = if name == "embeddings" { "[0.5, -0.25]" } else { "hello" };
        let (tokens, pieces) = match name {
            "embeddings" => (json!(USED.0), 1),
            // Nobody asked for them.
            "chat-stream" | "azure-stream" => (Value::Null, 2),
            name => (json!(USED.0 + USED.1), if name.contains("stream") { 2 } else { 1 }),
        };
        assert_eq!(
            (&line["text"], &line["pieces"], &line["tokens"]),
            (&json!(text), &json!(pieces), &tokens),
            "{line}"
        );
    }
    let seen = api.seen();
    assert_eq!(seen.len(), CALLS.len(), "each with the right key in the right place, at the first try");
    for (seen, (name, _)) in seen.iter().zip(CALLS) {
        assert!(!format!("{seen:?}").contains(&token), "{name}");
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let asks = name.starts_with("chat-stream") || name == "azure-stream";
        assert_eq!(body["stream_options"]["include_usage"] == true, asks, "{name}: {body}");
    }

    let usage = world.cli(&["usage", "--by", "model", "--json"]).await.json();
    for (name, model) in CALLS {
        let item = usage["usage"].as_array().unwrap().iter().find(|item| item["model"] == model).expect(model);
        let out = if name == "embeddings" { 0 } else { USED.1 };
        assert_eq!((&item["tokens_in"], &item["tokens_out"]), (&json!(USED.0), &json!(out)), "{name}: {item}");
        assert_eq!((&item["calls"], &item["estimated"], &item["failed"]), (&json!(1), &json!(0), &json!(0)), "{item}");
    }
    without_keys(&world.cli(&["audit", "export"]).await.stdout);
    without_keys(&serve.log());
    assert!(serve.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_shows_a_refusal_as_its_own_exception() {
    let api = llm::start().await;
    let (world, token) = world(&api).await;
    let one_of_each = [
        ("chat", "gpt-4o", "openai"),
        ("chat-stream", "gpt-4o", "openai"),
        ("responses", "gpt-4o", "openai"),
        ("azure", "gpt-4o", "openai"),
        ("messages", "claude-sonnet-4-5", "anthropic"),
        ("messages-stream", "claude-sonnet-4-5", "anthropic"),
        ("generate", "gemini-2.5-flash", "google"),
        ("generate-stream", "gemini-2.5-flash", "google"),
    ];
    let calls = one_of_each.map(|(call, model, _)| (call, model));
    let check = |lines: &[Value], status: u64, openai: &str, sentence: &str| {
        assert_eq!(lines.len(), calls.len());
        for (line, (call, _, module)) in lines.iter().zip(one_of_each) {
            let exception = match module {
                "google" => "google.ClientError".to_owned(),
                module => format!("{module}.{openai}"),
            };
            assert_eq!((&line["call"], &line["status"]), (&json!(call), &json!(status)), "{line}");
            assert_eq!(line["error"], exception, "{line}");
            assert!(line["message"].as_str().unwrap().contains(sentence), "{line}");
        }
    };

    for (provider, ..) in APIS {
        grant(&world, provider, &["--model", "nothing"]).await;
    }
    let serve = world.serve().await;
    let (mut sdks, proxy) = (Sdks::start(&installed("OAUTH3_TEST_SDKS"), &[]), Some(serve.proxy.as_str()));
    let wrong = sdks.ask(proxy, "oa3_aaaaaaaa_bbbb", "hi", &calls).await;
    check(&wrong, 401, "AuthenticationError", "this token is not valid");
    let model = sdks.ask(proxy, &token, "hi", &calls).await;
    check(&model, 403, "PermissionDeniedError", "is not among what the owner granted");
    let unknown = sdks.ask(proxy, &token, "hi", &[("litellm", "gpt-4o")]).await;
    assert_eq!((&unknown[0]["error"], &unknown[0]["status"]), (&json!("openai.NotFoundError"), &json!(404)));
    assert!(api.seen().is_empty());

    // One token is spent by the first call of each provider.
    for (provider, ..) in APIS {
        grant(&world, provider, &["--tokens-per-day", "1"]).await;
    }
    let first = [calls[0], calls[3], calls[4], calls[6]];
    for line in sdks.ask(proxy, &token, "hi", &first).await {
        assert_eq!(line["text"], "hello", "{line}");
    }
    let spent = sdks.ask(proxy, &token, "hi", &calls).await;
    check(&spent, 429, "RateLimitError", "this grant allows 1 tokens a day");

    // An API that sends the key back: the SDK shows its sentence, without the key (`ask` looks).
    for (provider, ..) in APIS {
        grant(&world, provider, &[]).await;
    }
    let echoes = sdks.ask(proxy, &token, SEND_KEY_BACK, &calls).await;
    check(&echoes, 400, "BadRequestError", "your key is ");
    assert_eq!(api.seen().len(), first.len() + calls.len());
    sdks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sdk_needs_nothing_but_the_variables() {
    let api = llm::start().await;
    let (world, token) = world(&api).await;
    for (provider, ..) in APIS {
        grant(&world, provider, &[]).await;
    }
    let serve = world.serve().await;
    let file = world.home().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let env = ["env", "--proxy-url", &serve.proxy, "--token-file", file.to_str().unwrap()];
    let lines = world.cli(&env).await;
    let object = world.cli_with(&["env", "--proxy-url", &serve.proxy, "--json"], &token).await.json();
    let of_line = |line: &str| {
        let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    let variables: Vec<(String, String)> = lines.stdout.lines().map(of_line).collect();
    assert_eq!(object.as_object().unwrap().len(), variables.len());
    assert!(variables.iter().all(|(name, value)| object[name] == *value), "{object} {lines:?}");
    assert_eq!(object["OAUTH3_TOKEN"], token);
    assert!(variables.iter().all(|(name, _)| !name.starts_with("GROQ")), "there is no key of it");
    let mut sdks = Sdks::start(&installed("OAUTH3_TEST_SDKS"), &variables);
    let calls = [CALLS[0], CALLS[7], CALLS[8], CALLS[11]];
    for line in sdks.ask(None, "", "hi", &calls).await {
        assert_eq!(line["text"], "hello", "{line}");
    }
    sdks.stop().await;
    assert_eq!(api.seen().len(), calls.len());
    // A key in the place of a token goes no further.
    let refused = world.cli_with(&["env"], APIS[0].4).await;
    assert_eq!((refused.code(), refused.stdout.as_str()), (1, ""), "{refused:?}");
    without_keys(&refused.stderr);
}
