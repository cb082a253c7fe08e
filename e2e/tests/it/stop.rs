//! The gateway's ends: signals, and a keeper that dies again and again.

use e2e::{Agent, Standin, World, eventually, world};
use serde_json::json;

const HANGS: &str = "// @runtime embedded\nawait fetch('https://api.example.com/started'); await new Promise(r => setTimeout(r, 60000))";

#[tokio::test(flavor = "multi_thread")]
async fn every_stop_signal_winds_down_in_good_order() {
    let api = Standin::echo("api.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    for (n, name) in ["TERM", "INT", "HUP"].into_iter().enumerate() {
        let mut serve = world.serve().await;
        let agent = Agent::new(&serve.base, &token);
        let id = agent.submit(HANGS, json!({ "network": ["api.example.com"], "timeout": 100 })).await;
        assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
        eventually("the code runs", || api.seen().len() == n + 1).await;
        let below = world::descendants(serve.pid());
        // A terminal or a service manager signals every process of the group at once.
        for pid in [serve.keeper_pid(), serve.pid()] {
            world::signal(pid, name).await;
        }
        assert!(serve.ended().await.success(), "{name}: {}", serve.log());
        assert!(!serve.log().contains("ERROR"), "{name}: {}", serve.log());
        eventually("nothing is left", || below.iter().all(|pid| !world::is_alive(*pid))).await;
        let list = world.cli(&["requests", "--all", "--json"]).await.json();
        let found = list["requests"].as_array().unwrap().iter().find(|r| r["request_id"] == *id).unwrap().clone();
        assert_eq!(found["status"], "failed", "{name}");
        assert!(found["error"].as_str().unwrap().starts_with("interrupted"), "{name}: {found}");
        assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
    }
    // At once after it listens.
    let serve = world.serve().await;
    assert!(serve.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_dies_is_replaced_each_time_until_none_can_start() {
    let (world, token) = World::ready("").await;
    let mut serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    for _ in 0..2 {
        let old = serve.keeper_pid();
        world::signal(old, "KILL").await;
        eventually("it is gone", || !world::is_alive(old)).await;
        let healthy = async || agent.call(reqwest::Method::GET, "/health", None).await.status == 200;
        let back = async { while !healthy().await {} };
        tokio::time::timeout(e2e::PATIENCE, back).await.expect("a new one takes over");
        assert_ne!(serve.keeper_pid(), old);
    }
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");

    // A key that cannot be read any more ends the gateway, with the reason.
    let key = world.home().join("master.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    world::signal(serve.keeper_pid(), "KILL").await;
    assert_eq!(serve.ended().await.code(), Some(1));
    let log = serve.log();
    assert!(log.contains("chmod 600") && log.contains("cannot be started again"), "{log}");

    // What it left behind, stale sockets too, hinders nobody.
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let _serve = world.serve().await;
    world.add_secret("API_KEY", "some-value-1234567890", &["api.example.com"]).await;
}
