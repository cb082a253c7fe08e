//! Much at once, and kill -9 at any moment in between.

use e2e::{Agent, Standin, World, world};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

const GENEROUS: &str = "[limits]\nrequests_per_minute = 10000\npending_per_agent = 1000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_at_once_and_of_rival_verdicts_one_each() {
    let (world, token) = World::ready(GENEROUS).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let codes: Vec<String> = (0..100).map(|n| format!("// @runtime embedded\nconsole.log({n})")).collect();
    let mut ids = join_all(codes.iter().map(|code| agent.submit(code, json!({})))).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 100);
    for id in ids.iter().take(3) {
        let verdicts = [["approve", id.as_str()], ["approve", id.as_str()], ["deny", id.as_str()]];
        let done = join_all(verdicts.iter().map(|args| world.cli(args))).await;
        let mut codes: Vec<i32> = done.iter().map(e2e::Done::code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [0, 1, 1], "{done:?}");
    }
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_keeps_nobody_waiting() {
    use tokio::io::AsyncWriteExt;
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut stream = tokio::net::TcpStream::connect(serve.base.trim_start_matches("http://")).await.unwrap();
        let head =
            format!("POST /execute HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 9999");
        let text = if n % 2 == 0 { head } else { head + "\r\n\r\n{" };
        stream.write_all(text.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let reply = agent.execute(json!({ "skill_id": "s", "code": "1" })).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(slow.len(), 200, "they all still hang there");
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_run_nothing_twice() {
    const REQUESTS: usize = 24;
    const KILLS: usize = 8;
    let api = Standin::echo("api.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&format!("{GENEROUS}{}", api.egress(world.home())));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let mut ids = Vec::new();
    for n in 0..REQUESTS {
        let code = format!("// @runtime embedded\nawait fetch('https://api.example.com/{n}')");
        ids.push(agent.submit(&code, json!({ "network": ["api.example.com"] })).await);
    }
    // Somebody approves one after the other, again after whatever went wrong, while the processes die around it.
    let approve_all = async {
        for id in &ids {
            while {
                let done = world.cli(&["approve", id]).await;
                done.code() != 0 && !done.stderr.contains("already decided")
            } {}
        }
    };
    let kill = async {
        let mut serve = serve;
        for n in 0..KILLS {
            // No event to wait for: any moment is the point.
            tokio::time::sleep(Duration::from_millis(40 + 53 * n as u64 % 170)).await;
            if n % 2 == 0 {
                let keeper = world::children(serve.pid()).into_iter().find(|pid| {
                    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l.contains("keeper"))
                });
                if let Some(keeper) = keeper {
                    world::signal(keeper, "KILL").await;
                }
            } else {
                serve.kill().await;
                serve = world.serve().await;
            }
        }
        serve
    };
    let ((), serve) = tokio::join!(approve_all, kill);
    let agent = Agent::new(&serve.base, &token);
    let mut arrived: HashMap<String, usize> = HashMap::new();
    let finals: Vec<Value> = join_all(ids.iter().map(|id| agent.finished(id))).await;
    for seen in api.seen() {
        *arrived.entry(seen.target).or_default() += 1;
    }
    for (n, status) in finals.iter().enumerate() {
        let times = arrived.get(&format!("/{n}")).copied().unwrap_or(0);
        assert!(times <= 1, "{n} ran {times} times: {status}");
        match status["status"].as_str() {
            Some("success") => assert_eq!(times, 1, "{status}"),
            Some("failed") => {}
            _ => panic!("lost: {status}"),
        }
    }
    assert_eq!(serve.stop().await.code(), Some(0));
    let verified = world.cli(&["audit", "verify"]).await;
    assert_eq!(verified.code(), 0, "{verified:?}");
}
