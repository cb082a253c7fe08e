//! kill -9 anywhere: nothing is lost, nothing runs twice, the chain verifies.

use e2e::{Agent, Standin, World, eventually, world};
use serde_json::json;

const HANGS: &str = "// @runtime embedded\nawait fetch('https://api.example.com/started'); await new Promise(r => setTimeout(r, 60000))";

async fn hanging() -> (World, Agent, world::Serve, Standin, String, String) {
    let api = Standin::echo("api.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let waiting = agent.submit("console.log(1)", json!({})).await;
    let running = agent.submit(HANGS, json!({ "network": ["api.example.com"], "timeout": 100 })).await;
    assert_eq!(world.cli(&["approve", &running]).await.code(), 0);
    eventually("the code runs", || api.seen().len() == 1).await;
    std::fs::write(world.home().join("token"), token).unwrap();
    (world, agent, serve, api, waiting, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_gateway_loses_nothing_and_runs_nothing_twice() {
    let (world, _, serve, api, waiting, running) = hanging().await;
    let (gateway, keeper) = (serve.pid(), serve.keeper_pid());
    let sandboxes: Vec<u32> = world::descendants(gateway).into_iter().filter(|pid| *pid != keeper).collect();
    assert!(sandboxes.len() > 1, "the helper and the sandbox are there");
    serve.kill().await;
    eventually("keeper and sandboxes end with the gateway", || {
        !world::is_alive(keeper) && sandboxes.iter().all(|pid| !world::is_alive(*pid))
    })
    .await;
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0, "while serve is stopped");

    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &std::fs::read_to_string(world.home().join("token")).unwrap());
    let status = agent.finished(&running).await;
    assert_eq!(status["status"], "failed");
    assert!(status["error"].as_str().unwrap().starts_with("interrupted"), "{status}");
    assert_eq!(agent.status(&waiting).await["status"], "pending");
    assert_eq!(world.cli(&["approve", &waiting]).await.code(), 0);
    assert_eq!(agent.finished(&waiting).await["status"], "success");
    assert_eq!(api.seen().len(), 1, "the interrupted run did not run again");
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_keeper_fails_the_run_and_a_new_keeper_takes_over() {
    let (world, agent, serve, api, waiting, running) = hanging().await;
    let keeper = serve.keeper_pid();
    world::signal(keeper, "KILL").await;
    let status = agent.finished(&running).await;
    assert_eq!(status["status"], "failed");
    assert!(status["error"].as_str().unwrap().starts_with("interrupted"), "{status}");
    let healthy = async || agent.call(reqwest::Method::GET, "/health", None).await.status == 200;
    while !healthy().await {}
    assert_ne!(serve.keeper_pid(), keeper);
    assert_eq!(world.cli(&["approve", &waiting]).await.code(), 0);
    assert_eq!(agent.finished(&waiting).await["status"], "success");
    assert_eq!(api.seen().len(), 1);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_sandbox_fails_the_run_only() {
    let (world, agent, serve, _api, waiting, running) = hanging().await;
    let keeper = serve.keeper_pid();
    // Below the gateway is the helper, and below that the guard of each sandbox.
    for helper in world::children(serve.pid()).into_iter().filter(|pid| *pid != keeper) {
        for guard in world::children(helper) {
            world::signal(guard, "KILL").await;
        }
    }
    assert_eq!(agent.finished(&running).await["status"], "failed");
    assert_eq!(agent.status(&waiting).await["status"], "pending");
    assert_eq!(serve.keeper_pid(), keeper);
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_runs_and_keeps_what_waits() {
    let (world, _, serve, _api, waiting, running) = hanging().await;
    assert!(serve.stop().await.success());
    let list = world.cli(&["requests", "--all", "--json"]).await.json();
    let status = |id: &str| {
        list["requests"].as_array().unwrap().iter().find(|r| r["request_id"] == id).unwrap()["status"].clone()
    };
    assert_eq!((status(&waiting), status(&running)), (json!("pending"), json!("failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_with_the_audit_is_found() {
    let (world, _, serve, _api, _, _) = hanging().await;
    serve.stop().await;
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
    sqlite(&world, "SELECT 1");
    let copy = std::fs::read(world.db()).unwrap();
    let edits = [
        "UPDATE audit SET at = at + 1 WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        "DELETE FROM audit",
    ];
    for edit in edits {
        sqlite(&world, edit);
        let done = world.cli(&["audit", "verify"]).await;
        assert_eq!(done.code(), 1, "{edit}: {done:?}");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(world.home().join(format!("oauth3.db{suffix}")));
        }
        std::fs::write(world.db(), &copy).unwrap();
        assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0, "the copy holds");
    }
}

/// Runs one statement on the stopped database, as somebody with the file would, and folds the log into the file.
fn sqlite(world: &World, text: &str) {
    statement(world, text);
    statement(world, "PRAGMA wal_checkpoint(TRUNCATE)");
}

/// Runs one statement on the database.
fn statement(world: &World, statement: &str) {
    const SCRIPT: &str =
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=30)\nc.execute(sys.argv[2])\nc.commit()";
    let status =
        std::process::Command::new("python3").args(["-c", SCRIPT]).arg(world.db()).arg(statement).status().unwrap();
    assert!(status.success(), "{statement}");
}

/// It may go by what was, so it is not left alone with that: the next one reads everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_does_not_answer_to_a_change_is_replaced() {
    let (world, _) = World::ready("").await;
    let serve = world.serve().await;
    let hung = serve.keeper_pid();
    world::signal(hung, "STOP").await;
    // Has the keeper look again.
    assert_eq!(world.cli(&["usage"]).await.code(), 0);
    eventually("it is gone", || !world::is_alive(hung)).await;
    e2e::eventually_async("another one is there", async || world.cli(&["doctor"]).await.code() == 0).await;
    assert_ne!(serve.keeper_pid(), hung);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_could_not_read_who_may_do_what_permits_nothing_until_it_can() {
    let (world, api, token) = crate::proxy::openai(crate::proxy::completion).await;
    crate::proxy::grant(&world, &[]).await;
    let serve = world.serve().await;
    assert_eq!(crate::proxy::chat(&serve, &token, "gpt-4o-mini").await.0, 200);
    statement(&world, "ALTER TABLE connections RENAME TO elsewhere");
    // Has the keeper look again.
    world.cli(&["usage"]).await;
    assert_eq!(crate::proxy::chat(&serve, &token, "gpt-4o-mini").await.0, 401);
    assert_eq!(api.seen().len(), 1);
    statement(&world, "ALTER TABLE elsewhere RENAME TO connections");
    let answered = async || crate::proxy::chat(&serve, &token, "gpt-4o-mini").await.0 == 200;
    e2e::eventually_async("it has read everything", answered).await;
}
