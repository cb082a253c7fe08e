//! Approved with a secret missing: it waits, and goes on by itself when the last one is there.

use e2e::{Agent, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_last_missing_secret_resumes_the_request_over_restarts() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let code = "console.log(process.env.KEY_A.length > 0, process.env.KEY_B.length > 0)";
    let metadata = json!({ "secrets": ["KEY_A", "KEY_B"], "runtime": "embedded" });
    let id = agent.submit(code, metadata.clone()).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.status(&id).await["status"], "awaiting_secrets");
    assert_eq!(world.cli(&["approve", &id]).await.code(), 1, "decided once");
    world.add_secret("KEY_A", "value-of-key-a-1234567890", &[]).await;
    assert_eq!(agent.status(&id).await["status"], "awaiting_secrets", "one is still missing");

    serve.kill().await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    assert_eq!(agent.status(&id).await["status"], "awaiting_secrets", "over a crash");
    world.add_secret("KEY_B", "value-of-key-b-1234567890", &[]).await;
    let status = agent.finished(&id).await;
    assert_eq!(
        (&status["status"], &status["result"]["stdout"]),
        (&json!("success"), &json!("true true\n")),
        "{status}"
    );

    // The secret may also come while nobody runs.
    let id = agent.submit(code, json!({ "secrets": ["KEY_A", "KEY_B", "KEY_C"], "runtime": "embedded" })).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    serve.stop().await;
    world.add_secret("KEY_C", "value-of-key-c-1234567890", &[]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    assert_eq!(agent.finished(&id).await["status"], "success");
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_whose_secret_was_removed_waits_for_it() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let request = json!({ "skill_id": "s", "code": "console.log(process.env.KEY_A.length > 0)", "secrets": ["KEY_A"],
                          "metadata": { "runtime": "embedded" } });
    world.add_secret("KEY_A", "value-of-key-a-1234567890", &[]).await;
    let id = agent.execute(request.clone()).await.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");

    assert_eq!(world.cli(&["secret", "remove", "KEY_A"]).await.code(), 0);
    let reply = agent.execute(request).await;
    assert_eq!((reply.status, &reply.json["missing_secrets"]), (202, &json!(["KEY_A"])), "{reply:?}");
    assert_eq!(reply.json["status"], "awaiting_secrets");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    world.add_secret("KEY_A", "another-value-of-key-a-123", &[]).await;
    assert_eq!(agent.finished(&id).await["status"], "success", "no second question");
}
