//! Standing grants and the kill switch.

use e2e::{Agent, Serve, World};
use serde_json::{Value, json};

const CODE: &str = "// @runtime embedded\nconsole.log('ran', Deno.env.get('ARG_n') ?? '')";

async fn start() -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

async fn approved(world: &World, agent: &Agent, body: Value, trust: &str) -> Value {
    let reply = agent.execute(body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", trust]).await.code(), 0);
    agent.finished(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn once_is_once() {
    let (world, _serve, agent) = start().await;
    let body = json!({ "skill_id": "s", "code": CODE });
    assert_eq!(approved(&world, &agent, body.clone(), "once").await["status"], "success");
    assert_eq!(agent.execute(body).await.status, 202, "asks again");
    assert_eq!(world.cli(&["grants", "--json"]).await.json()["grants"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_covers_the_same_and_nothing_else() {
    let (world, serve, agent) = start().await;
    let body = json!({ "skill_id": "s", "code": CODE, "metadata": { "network": ["a.example"], "timeout": 20 } });
    assert_eq!(approved(&world, &agent, body.clone(), "24h").await["status"], "success");
    let mut with_args = body.clone();
    with_args["args"] = json!({ "n": "7" });
    let reply = agent.execute(with_args).await;
    assert_eq!(
        (reply.status, &reply.json["trusted"], &reply.json["stdout"]),
        (200, &json!(true), &json!("ran 7\n")),
        "{reply:?}"
    );

    let changes: [(&str, Value); 5] = [
        ("code", json!(format!("{CODE} "))),
        ("skill_id", json!("other")),
        ("metadata", json!({ "network": ["a.example", "b.example"], "timeout": 20 })),
        ("metadata", json!({ "network": ["a.example"], "timeout": 21 })),
        ("metadata", json!({ "network": [], "timeout": 20 })),
    ];
    for (key, value) in changes {
        let mut changed = body.clone();
        changed[key] = value;
        assert_eq!(agent.execute(changed.clone()).await.status, 202, "{changed}");
    }
    let other = world.cli(&["agent", "add", "other", "--json"]).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(Agent::new(&serve.base, &other).execute(body.clone()).await.status, 202, "another agent's");

    // It survives a restart, is listed, and ends when revoked.
    serve.stop().await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token_of(&world).await);
    assert_eq!(agent.execute(body.clone()).await.status, 202, "the new agent is not covered");
    let grants = world.cli(&["grants", "--json"]).await.json();
    let id = grants["grants"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["grants", "revoke", &id]).await.code(), 0);
    assert_eq!(world.cli(&["grants", "revoke", &id]).await.code(), 1);
}

async fn token_of(world: &World) -> String {
    world.cli(&["agent", "add", "third", "--json"]).await.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forever_grant_survives_a_restart_and_revoking_ends_its_run() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let body = json!({ "skill_id": "s", "code": "// @runtime embedded\nconsole.log(1); if (Deno.env.get('ARG_stay')) await new Promise(r => setTimeout(r, 60000))", "metadata": { "timeout": 100 } });
    assert_eq!(approved(&world, &agent, body.clone(), "forever").await["status"], "success");
    serve.stop().await;

    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    assert_eq!(agent.execute(body.clone()).await.status, 200, "stands after a restart");
    let mut long = body.clone();
    long["args"] = json!({ "stay": "1" });
    let running = tokio::spawn({
        let agent = agent.clone();
        async move { agent.execute(long).await }
    });
    let id = loop {
        let list = world.cli(&["requests", "--json"]).await.json();
        if let Some(one) = list["requests"].as_array().unwrap().iter().find(|r| r["status"] == "executing") {
            break one["request_id"].as_str().unwrap().to_owned();
        }
    };
    let grant = world.cli(&["grants", "--json"]).await.json()["grants"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["grants", "revoke", &grant]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "failed", "the run ended with its grant");
    let _ = running.await.unwrap();
    assert_eq!(agent.execute(body).await.status, 202, "asks again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_denies_everything_and_ends_runs() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let open = agent.submit("1", json!({})).await;
    let long = agent
        .submit("// @runtime embedded\nawait new Promise(r => setTimeout(r, 60000))", json!({ "timeout": 100 }))
        .await;
    assert_eq!(world.cli(&["approve", &long]).await.code(), 0);
    while agent.status(&long).await["status"] != "executing" {}

    assert_eq!(world.cli(&["kill-switch", "on"]).await.code(), 0);
    assert_eq!(agent.finished(&long).await["status"], "failed");
    assert_eq!(agent.finished(&open).await["status"], "denied");
    let reply = agent.execute(json!({ "skill_id": "s", "code": "1" })).await;
    assert_eq!((reply.status, &reply.json["error"]), (403, &json!("denied_by_policy")), "{reply:?}");
    let dry = agent.execute(json!({ "skill_id": "s", "code": "1", "dry_run": true })).await;
    assert_eq!((dry.status, &dry.json["decision"]), (200, &json!("deny")), "{dry:?}");
    serve.stop().await;

    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    assert_eq!(agent.execute(json!({ "skill_id": "s", "code": "1" })).await.status, 403, "survives a restart");
    assert_eq!(world.cli(&["kill-switch", "off"]).await.code(), 0);
    assert_eq!(agent.execute(json!({ "skill_id": "s", "code": "1" })).await.status, 202);
}
