//! Silence is a no, on time, whatever the request waits for and whoever was away.

use e2e::{Agent, World};
use serde_json::json;

/// A bit more than a second.
const SHORT: &str = "[limits]\npending_minutes = 0.02\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_expires_on_time_and_stays_so() {
    let (world, token) = World::ready(SHORT).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let pending = agent.submit("console.log(1)", json!({ "runtime": "embedded" })).await;
    let awaiting = agent.submit("console.log(2)", json!({ "secrets": ["NEVER_COMES"], "runtime": "embedded" })).await;
    assert_eq!(world.cli(&["approve", &awaiting]).await.code(), 0);
    assert_eq!(agent.status(&awaiting).await["status"], "awaiting_secrets");
    for id in [&pending, &awaiting] {
        let status = agent.finished(id).await;
        assert_eq!(status["status"], "expired", "{status}");
        assert!(status["error"].as_str().unwrap().starts_with("expired"), "{status}");
        assert!(status["result"].is_null(), "nothing ran: {status}");
        assert_eq!(world.cli(&["approve", id]).await.code(), 1, "too late");
        assert_eq!(world.cli(&["deny", id]).await.code(), 1, "too late");
    }
    world.add_secret("NEVER_COMES", "it-came-too-late-123", &[]).await;
    assert_eq!(agent.status(&awaiting).await["status"], "expired", "a secret that comes too late resumes nothing");
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_while_nobody_ran_is_expired_at_the_next_start() {
    let (world, token) = World::ready(SHORT).await;
    let serve = world.serve().await;
    let id = Agent::new(&serve.base, &token).submit("1", json!({})).await;
    serve.kill().await;
    let over = || {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        now.as_millis()
    };
    let due = over() + 1_300;
    e2e::eventually("its time goes by", || over() > due).await;
    // Nobody could say yes in between, and a longer time now does not bring it back.
    world.write_config("");
    let serve = world.serve().await;
    assert_eq!(Agent::new(&serve.base, &token).status(&id).await["status"], "expired");
}
