//! The main job: an agent asks, the owner approves, the code runs, the secret never shows.

use e2e::{Agent, Standin, World};
use serde_json::json;

const KEY: &str = "sk-proj-4f9Qk2ZzL0pXv7TtB1nRw8YcD3mHs6Ua";

/// The code of seed 002, unchanged.
const OPENAI: &str = "const response = await fetch('https://api.openai.com/v1/chat/completions', {\n  method: 'POST',\n  headers: {\n    'Authorization': `Bearer ${Deno.env.get('OPENAI_API_KEY')}`,\n    'Content-Type': 'application/json'\n  },\n  body: JSON.stringify({model: 'gpt-4', messages: [{role: 'user', content: 'Hello!'}]})\n});\nconsole.log(await response.json());";

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_keeps_every_promise() {
    let world = World::new();
    let done = world.cli(&["demo", "--yes"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    for word in ["placeholder", "success", "audit"] {
        assert!(done.stdout.contains(word), "{word} is not in {}", done.stdout);
    }
    assert_ne!(world.cli(&["demo"]).await.code(), 0, "without a terminal nobody can approve");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_skill_runs_unchanged_on_the_embedded_runtime() {
    openai_skill("embedded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openai_skill_runs_unchanged_on_deno() {
    openai_skill("deno").await;
}

async fn openai_skill(runtime: &str) {
    let api = Standin::echo("api.openai.com").await;
    let (world, token) = World::ready("").await;
    let deno = crate::runtimes::installed("OAUTH3_TEST_DENO");
    world.write_config(&format!("{}[runtimes]\ndeno = {deno:?}\n", api.egress(world.home())));
    world.add_secret("OPENAI_API_KEY", KEY, &["api.openai.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);

    let code = format!("console.log(Deno.env.get(\"OPENAI_API_KEY\"));\n{OPENAI}");
    let reply = agent
        .execute(json!({
            "skill_id": "openai-completion", "code": code, "secrets": ["OPENAI_API_KEY"],
            "metadata": { "description": "Send a chat completion request to OpenAI", "secrets": ["OPENAI_API_KEY"],
                          "network": ["api.openai.com"], "timeout": 30, "runtime": runtime }
        }))
        .await;
    assert_eq!((reply.status, &reply.json["status"]), (202, &json!("pending")), "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);

    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
    let stdout = status["result"]["stdout"].as_str().unwrap();
    let placeholder = stdout.lines().next().unwrap();
    assert!(placeholder.starts_with("sk-") && placeholder.len() == KEY.len() && placeholder != KEY, "{stdout}");
    assert!(!stdout.contains(KEY), "{stdout}");
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}
