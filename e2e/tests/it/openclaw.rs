//! OpenClaw's real gateway: our wake call reaches its agent, a wrong token costs nothing but the wake, the command
//! form works, and it accepts our skill.

use crate::runtimes::installed;
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
