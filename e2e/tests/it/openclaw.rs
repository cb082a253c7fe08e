//! OpenClaw's real gateway: our wake call reaches its agent, a wrong token costs nothing but the wake, the command
//! form works, and it accepts our skill. Its models go through the proxy, and it never has a key.

use crate::runtimes::installed;
use crate::sdks::{grant, world as models};
use e2e::llm::{self, APIS};
use e2e::openclaw::{GATEWAY_TOKEN, HOOK_TOKEN, OpenClaw};
use e2e::{Agent, World, eventually};
use serde_json::{Value, json};
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn the_real_gateway_is_woken_by_hook_and_by_command() {
    let (peer, node) = (installed("OAUTH3_TEST_OPENCLAW"), installed("OAUTH3_TEST_NODE"));
    let (mut world, token) = World::ready("").await;
    let skill = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integrations/openclaw/oauth3");
    let entry = json!({ "oauth3": { "enabled": true, "apiKey": "agent-token", "env": { "OAUTH3_URL": "http://127.0.0.1:1" } } });
    let mut openclaw = OpenClaw::new(&peer, &node, &[&skill], entry).await;
    openclaw.start().await;
    let address = openclaw.address();
    world.set("PATH", openclaw.path());
    let hook = format!("openclaw_url = \"http://{address}\"\nopenclaw_token_file = \"hook-token\"\n");

    // A wrong token: the request succeeds, the wake is tried again and again, and the log says why without the token.
    let wrong = "wrong-hook-token-9876543210";
    std::fs::write(world.home().join("hook-token"), wrong).unwrap();
    world.write_config(&format!("[notify]\n{hook}"));
    let serve = world.serve().await;
    let id = succeed(&world, &Agent::new(&serve.base, &token)).await;
    eventually("the second try is refused too", || serve.log().contains("attempt=2")).await;
    let log = serve.log();
    let line = log.lines().find(|line| line.contains("could not be woken")).unwrap_or_default();
    for part in [id.as_str(), "openclaw", "answered 401", "attempt=1"] {
        assert!(line.contains(part), "{part}: {log}");
    }
    assert!(!log.contains(wrong), "the token stays out of the log: {log}");
    assert_eq!(request(&world, &id).await["notified_at"], Value::Null);
    serve.stop().await;

    // The right one, and the command form beside it: what was not delivered is delivered by the next start.
    std::fs::write(world.home().join("hook-token"), HOOK_TOKEN).unwrap();
    let text = "oauth3 by command: {request_id} {status}";
    let command = json!([
        "openclaw",
        "system",
        "event",
        "--text",
        text,
        "--mode",
        "now",
        "--url",
        format!("ws://{address}"),
        "--token",
        GATEWAY_TOKEN
    ]);
    world.write_config(&format!("[notify]\n{hook}command = {command}\n"));
    let serve = world.serve().await;
    openclaw.agent_reads(&format!("final state; read its status. Request id: {id}")).await;
    openclaw.agent_reads(&format!("oauth3 by command: {id} success")).await;
    notified(&world, &id).await;
    serve.stop().await;

    let listed: Value = serde_json::from_str(&openclaw.cli(&["skills", "info", "oauth3", "--json"]).await).unwrap();
    assert_eq!((&listed["name"], &listed["eligible"]), (&json!("oauth3"), &json!(true)), "{listed}");
    openclaw.stop().await;
}

async fn succeed(world: &World, agent: &Agent) -> String {
    let id = agent.submit("// @runtime embedded\nconsole.log('output-that-stays-inside')", json!({})).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
    id
}

async fn request(world: &World, id: &str) -> Value {
    let list = world.cli(&["requests", "--all", "--json"]).await.json();
    list["requests"].as_array().unwrap().iter().find(|r| r["request_id"] == id).unwrap().clone()
}

/// Waits until the wake is noted as delivered.
async fn notified(world: &World, id: &str) {
    let noted = async { while request(world, id).await["notified_at"].is_null() {} };
    tokio::time::timeout(e2e::PATIENCE, noted).await.expect("the wake is noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_models_go_through_the_proxy_and_it_never_has_a_key() {
    let (peer, node) = (installed("OAUTH3_TEST_OPENCLAW"), installed("OAUTH3_TEST_NODE"));
    let api = llm::start().await;
    let (world, token) = models(&api).await;
    for provider in ["openai", "anthropic"] {
        grant(&world, provider, &[]).await;
    }
    let serve = world.serve().await;
    let skill = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integrations/openclaw/oauth3");
    let openclaw = OpenClaw::new(&peer, &node, &[&skill], json!({})).await;
    let file = openclaw.config_file();
    let file = file.to_str().unwrap();
    let setup = ["openclaw", "setup", "--url", &serve.base, "--proxy-url", &serve.proxy];
    let models = ["--model", "openai/gpt-4o", "--model", "anthropic/claude-sonnet-4-5", "--write", file];
    let done = world.cli_with(&[&setup[..], &models].concat(), &token).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(!std::fs::read_to_string(file).unwrap().contains(&token), "the token is asked for, and not written down");

    // OpenClaw's own word on it: what we gave it leads to a value.
    let audit = openclaw.cli(&["secrets", "audit", "--allow-exec"]).await;
    assert!(audit.contains("unresolved=0"), "{audit}");

    for (model, target) in
        [("oauth3-openai/gpt-4o", "/v1/chat/completions"), ("oauth3-anthropic/claude-sonnet-4-5", "/v1/messages")]
    {
        openclaw.use_model(model);
        let before = api.seen().len();
        let said = openclaw.turn("hi").await;
        assert!(said.contains("hello"), "{model}: {said}");
        let seen = api.seen().split_off(before);
        assert!(seen.iter().any(|seen| seen.target.starts_with(target)), "{model}: {seen:?}");
        assert!(!format!("{seen:?}").contains(&token), "{model}");
    }
    // The stand-in answers the right key only, so each of them saw it; OpenClaw did not.
    let mut files = 0;
    for path in all_files(openclaw.home()) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(APIS.iter().all(|(.., key)| !holds(key)), "{}", path.display());
        files += 1;
    }
    assert!(files > 5, "it has a state");
    let usage = world.cli(&["usage", "--by", "provider", "--json"]).await.json();
    assert!(usage["usage"].as_array().unwrap().iter().all(|item| item["estimated"] == 0), "{usage}");
    assert!(serve.stop().await.success());
}

pub(crate) fn all_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => all_files(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    below.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_secret_provider_hands_out_the_agents_token_and_nothing_else() {
    let (world, token) = World::ready("").await;
    let ask =
        json!({ "protocolVersion": 1, "provider": "oauth3", "ids": ["agent/token", "OPENAI_API_KEY"] }).to_string();
    let secrets = ["openclaw", "secrets"];
    let early = world.cli_with(&secrets, &ask).await;
    assert!(early.code() == 1 && early.stderr.contains("openclaw setup"), "{early:?}");
    let key = "sk-proj-Xw2Vc8Nm4Qz6Lp1Ks9Jd";
    world.add_secret("OPENAI_API_KEY", key, &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
    let setup = ["openclaw", "setup", "--model", "openai/gpt-4o"];
    let refused = world.cli_with(&setup, key).await;
    assert!(refused.code() == 1 && !format!("{refused:?}").contains(key), "a key is no token: {refused:?}");
    let printed = world.cli_with(&setup, &token).await.json();
    let provider = &printed["models"]["providers"]["oauth3-openai"];
    assert_eq!(provider["api"], "openai-completions", "{printed}");
    assert_eq!(provider["apiKey"], json!({ "source": "exec", "provider": "oauth3", "id": "agent/token" }));
    assert_eq!(world.cli_with(&["openclaw", "setup", "--model", "google/gemini"], &token).await.code(), 1);
    let skills_only = world.cli_with(&["openclaw", "setup"], &token).await.json();
    assert_eq!((&skills_only["skills"], &skills_only["secrets"]), (&printed["skills"], &printed["secrets"]));
    assert!(skills_only["models"].is_null(), "what is there of models stays: {skills_only}");

    // A configuration with comments would lose them: it stays as it is.
    let config = world.home().join("openclaw.json");
    std::fs::write(&config, "// mine\n{}").unwrap();
    let merge = [&setup[..], &["--write", config.to_str().unwrap()]].concat();
    let done = world.cli_with(&merge, &token).await;
    assert!(done.code() == 1 && done.stderr.contains("--print"), "{done:?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "// mine\n{}");

    let answer = world.cli_with(&secrets, &ask).await.json();
    let expected = json!({ "protocolVersion": 1, "values": { "agent/token": token },
                           "errors": { "OPENAI_API_KEY": { "code": "NOT_FOUND" } } });
    assert_eq!(answer, expected);
    for wrong in ["", "[]", &ask.replace(":1,", ":2,")] {
        let done = world.cli_with(&secrets, wrong).await;
        assert!(done.code() == 1 && done.stdout.is_empty(), "{wrong}: {done:?}");
    }
    // Whatever else comes to be in that file is not handed out, and neither is a file that others can read.
    let file = world.home().join("openclaw.token");
    let mode = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions()) & 0o777, 0o600);
    mode(0o644);
    assert_eq!(world.cli_with(&secrets, &ask).await.code(), 1);
    mode(0o600);
    std::fs::write(&file, key).unwrap();
    let done = world.cli_with(&secrets, &ask).await;
    assert!(done.code() == 1 && !format!("{done:?}").contains(key), "{done:?}");
}
