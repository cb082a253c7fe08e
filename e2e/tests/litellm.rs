//! LiteLLM, another proxy with made-up models behind it, as a provider of the owner's own. It takes minutes to install,
//! so that this is run by `cargo xtask litellm` alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use e2e::sdks::Sdks;
use e2e::{PATIENCE, World};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};

const KEY: &str = "sk-litellm-Vn3Xq8Rt5Yw1Kc7Bm";

fn installed(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; run `cargo xtask litellm`")).into()
}

/// Starts it on a free port, and waits until it takes calls.
async fn litellm(world: &World) -> (Child, u16) {
    let config = json!({
        "model_list": [{ "model_name": "gpt-mock", "litellm_params":
            { "model": "openai/gpt-4o", "api_key": "sk-nobody", "mock_response": "hello from a mock" } }],
        "general_settings": { "master_key": KEY },
        "litellm_settings": { "telemetry": false },
    });
    let file = world.home().join("litellm.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    // Nothing can hand it a bound socket, so the port is free only a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = installed("OAUTH3_TEST_LITELLM");
    let mut command = Command::new(&program);
    command.arg("--config").arg(&file).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.env_clear().env("HOME", world.home()).env("PATH", program.parent().unwrap());
    // Its prices would come from the network otherwise.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").kill_on_drop(true);
    let log = std::fs::File::create(world.home().join("litellm.log")).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}/health/liveliness");
    let deadline = tokio::time::Instant::now() + 2 * PATIENCE;
    while !reqwest::get(&url).await.is_ok_and(|reply| reply.status().is_success()) {
        let log = || std::fs::read_to_string(world.home().join("litellm.log")).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it ended: {}", log());
        assert!(tokio::time::Instant::now() < deadline, "it does not start: {}", log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    (child, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn litellm_is_a_provider_of_the_owners_own() {
    let (world, token) = World::ready("").await;
    let (_litellm, port) = litellm(&world).await;
    let provider = format!(
        "[litellm]\ntitle = \"LiteLLM\"\nbase = \"http://localhost:{port}/v1\"\ncredential = \"bearer\"\ndialect = \"openai\"\nstream_usage = true\nsecret = \"LITELLM_KEY\"\ndocs = \"https://docs.litellm.ai\"\n"
    );
    std::fs::write(world.home().join("providers.toml"), provider).unwrap();
    world.add_secret("LITELLM_KEY", KEY, &[&format!("localhost:{port}")]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "litellm", "LITELLM_KEY"]).await.code(), 0);
    let grant = ["provider", "grant", "litellm", "--agent", "agent", "--model", "gpt-mock"];
    assert_eq!(world.cli(&grant).await.code(), 0);
    let serve = world.serve().await;
    let mut sdks = Sdks::start(&installed("OAUTH3_TEST_SDKS"), &[]);
    let calls = [("litellm", "gpt-mock"), ("litellm-stream", "gpt-mock"), ("litellm", "o3")];
    let lines = sdks.ask(Some(&serve.proxy), &token, "hi", &calls).await;
    sdks.stop().await;
    assert!(!json!(lines).to_string().contains(KEY), "{lines:?}");
    let (whole, stream) = (&lines[0], &lines[1]);
    assert_eq!((&whole["text"], &stream["text"]), (&json!("hello from a mock"), &json!("hello from a mock")));
    // What it used comes in a chunk that has a choice too, which stays.
    assert!(stream["pieces"].as_u64() > Some(1), "{stream}");
    assert_eq!(lines[2]["error"], "openai.PermissionDeniedError", "{lines:?}");
    let usage = world.cli(&["usage", "--by", "model", "--json"]).await.json();
    let item = &usage["usage"][0];
    assert_eq!(
        (&item["model"], &item["calls"], &item["estimated"]),
        (&json!("gpt-mock"), &json!(2), &json!(0)),
        "{usage}"
    );
    let tokens: Value = whole["tokens"].clone();
    let counted = item["tokens_in"].as_u64().unwrap() + item["tokens_out"].as_u64().unwrap();
    assert!(tokens.as_u64().is_some_and(|one| counted >= one), "{usage} {whole}");
}
