//! The other runtimes, each the real one: Deno, Node, Python, the shell.

use e2e::{Agent, Standin, World};
use serde_json::{Value, json};
use std::path::PathBuf;

const KEY: &str = "sk-proj-9aB8cD7eF6gH5iJ4kL3mN2oP1qR0sT";

/// A runtime that the test set-up installed.
pub(crate) fn installed(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set; run the tests with `cargo xtask test`"))
        .into()
}

async fn start(api: &Standin) -> (World, e2e::Serve, Agent) {
    let (world, token) = World::ready("").await;
    let deno = installed("OAUTH3_TEST_DENO");
    world.write_config(&format!("{}[runtimes]\ndeno = {deno:?}\n", api.egress(world.home())));
    world.add_secret("API_KEY", KEY, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

async fn run(world: &World, agent: &Agent, code: &str, metadata: Value) -> Value {
    let id = agent.submit(code, metadata).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    agent.finished(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_runtime_calls_the_api_through_its_own_client() {
    let api = Standin::echo("api.example.com").await;
    let (world, serve, agent) = start(&api).await;
    let js = "const key = process.env.API_KEY;\nconst r = await fetch('https://api.example.com/x', {headers: {Authorization: `Bearer ${key}`}});\nconst body = await r.json();\nconsole.log(key.length, body.ok, body.echo === `Bearer ${key}`);";
    let deno = js.replace("process.env.API_KEY", "Deno.env.get('API_KEY')");
    let python = "import os, json, urllib.request\nkey = os.environ['API_KEY']\nr = urllib.request.urlopen(urllib.request.Request('https://api.example.com/x', headers={'Authorization': 'Bearer ' + key}))\nbody = json.load(r)\nprint(len(key), str(body['ok']).lower(), str(body['echo'] == 'Bearer ' + key).lower())";
    let shell = "body=$(curl -sS https://api.example.com/x -H \"Authorization: Bearer $API_KEY\")\ncase $body in *'\"ok\":true'*) ok=true;; esac\ncase $body in *\"Bearer $API_KEY\"*) echo=true;; esac\necho ${#API_KEY} $ok $echo";
    for (runtime, code) in [("embedded", js), ("node", js), ("deno", &*deno), ("python", python), ("shell", shell)] {
        let metadata = json!({ "secrets": ["API_KEY"], "network": ["api.example.com"], "runtime": runtime });
        let status = run(&world, &agent, code, metadata).await;
        assert_eq!(status["status"], "success", "{runtime}: {status}\n{}", serve.log());
        assert_eq!(status["result"]["stdout"], format!("{} true true\n", KEY.len()), "{runtime}: {status}");
    }
    let seen = api.seen();
    assert_eq!(seen.len(), 5);
    assert!(
        seen.iter().all(|s| s.header("authorization") == Some(&format!("Bearer {KEY}"))),
        "the API got the real value"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_runtime_reaches_another_host_or_imports_from_one() {
    let api = Standin::echo("api.example.com").await;
    let (world, _serve, agent) = start(&api).await;
    let js = "try { const r = await fetch('https://other.example.com/'); console.log('got', r.status) } catch { console.log('refused') }";
    let python = "import urllib.request\ntry:\n  print('got', urllib.request.urlopen('https://other.example.com/').status)\nexcept Exception: print('refused')";
    let shell = "curl -sS https://other.example.com/ && echo got || echo refused";
    for (runtime, code) in [("node", js), ("deno", js), ("python", python), ("shell", shell)] {
        let status = run(&world, &agent, code, json!({ "network": ["api.example.com"], "runtime": runtime })).await;
        assert_eq!(status["result"]["stdout"], "refused\n", "{runtime}: {status}");
    }
    for import in ["import x from 'https://api.example.com/x.js'", "import x from 'npm:left-pad'"] {
        let code = format!("{import}; console.log('imported')");
        let metadata = json!({ "network": ["api.example.com"], "runtime": "deno" });
        let reply = agent.execute(json!({ "skill_id": "test", "code": code, "metadata": metadata })).await;
        assert_eq!((reply.status, &reply.json["error"]), (400, &json!("invalid_request")), "{reply:?}");
    }
    // What only shows when it runs is refused then.
    for import in ["https://api.example.com/x.js", "npm:left-pad"] {
        let code = format!("const name = '{import}'; await import(name); console.log('imported')");
        let status = run(&world, &agent, &code, json!({ "network": ["api.example.com"], "runtime": "deno" })).await;
        assert_eq!(status["status"], "failed", "{status}");
    }
    assert!(api.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deno_is_the_default_when_it_is_there_and_a_missing_runtime_is_told() {
    let api = Standin::echo("api.example.com").await;
    let (world, _serve, agent) = start(&api).await;
    let status =
        run(&world, &agent, "const n: number = 1; console.log(Deno.version.v8 !== undefined, n)", json!({})).await;
    assert_eq!(status["result"]["stdout"], "true 1\n", "{status}");

    let (mut bare, token) = World::ready("").await;
    bare.set("PATH", "/nonexistent");
    let serve = bare.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let reply = agent.execute(json!({ "skill_id": "s", "code": "1", "metadata": { "runtime": "deno" } })).await;
    assert_eq!((reply.status, reply.json["error"].as_str()), (400, Some("unknown_runtime")), "{reply:?}");
    assert_eq!(agent.execute(json!({ "skill_id": "s", "code": "1" })).await.status, 202, "embedded needs nothing");
}
