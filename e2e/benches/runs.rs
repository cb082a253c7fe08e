//! A hundred granted runs at once: that none fails, how long all take, and what one holds while it waits.
//!
//! Needs `OAUTH3_TEST_BIN`; `OAUTH3_TEST_DENO` for Deno. Root, to read the memory of processes that hide theirs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    unreachable_pub,
    reason = "a measuring tool"
)]

use e2e::{Agent, World, world};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Runs at once.
const RUNS: usize = 100;
/// How long the code of the first measurement waits: all that it does.
const WAIT: Duration = Duration::from_secs(1);
/// Runs whose memory is looked at together, and how long they wait for that.
const IDLE_RUNS: usize = 20;
const IDLE: Duration = Duration::from_secs(20);
/// How often the processes are looked at until they are the same, and how often that must be so in a row.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 8;
/// Longest that a call waits for its run, in seconds.
const PATIENCE_SECONDS: u64 = 120;

#[tokio::main]
async fn main() {
    let deno = std::env::var("OAUTH3_TEST_DENO").ok().filter(|path| !path.is_empty());
    let runtimes = deno.as_ref().map_or(String::new(), |deno| format!("[runtimes]\ndeno = {deno:?}\n"));
    let limits = format!("[limits]\nrequests_per_minute = 1000000\nruns = {RUNS}\nmemory_mb = 1024\n");
    let (world, token) = World::ready(&format!("{limits}{runtimes}")).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);

    println!(
        "\n| {RUNS} runs at once, each waits {WAIT:?} | failed | all done after | memory of an idle run (PSS, {IDLE_RUNS} at once) |"
    );
    println!("|---|--:|--:|--:|");
    for runtime in ["embedded", "deno"].into_iter().filter(|runtime| *runtime != "deno" || deno.is_some()) {
        let (wait, idle) = (body(runtime, WAIT), body(runtime, IDLE));
        grant(&world, &agent, &wait).await;
        let start = Instant::now();
        let failed = together(&agent, &wait, RUNS).await;
        let took = start.elapsed();

        grant(&world, &agent, &idle).await;
        let empty = inside(&serve);
        let (failed_idle, megabytes) = tokio::join!(together(&agent, &idle, IDLE_RUNS), settled(&serve, &empty));
        assert_eq!(failed_idle, 0);
        let each = megabytes.map_or("–".to_owned(), |all| format!("{:.1} MB", all / IDLE_RUNS as f64));
        println!("| {runtime} | {failed} | {:.2} s | {each} |", took.as_secs_f64());
        println!("\nTarget, no failure: {}", if failed == 0 { "met" } else { "**missed**" });
    }
}

fn body(runtime: &str, wait: Duration) -> Value {
    let code = format!("await new Promise(done => setTimeout(done, {})); console.log('waited')", wait.as_millis());
    let metadata = json!({ "runtime": runtime, "timeout": PATIENCE_SECONDS });
    json!({ "skill_id": "wait", "code": code, "metadata": metadata, "wait": PATIENCE_SECONDS })
}

async fn grant(world: &World, agent: &Agent, body: &Value) {
    let mut first = body.clone();
    first["wait"] = json!(0);
    let id = agent.execute(first).await.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
}

/// Asks for all of them at once; how many did not end well.
async fn together(agent: &Agent, body: &Value, runs: usize) -> usize {
    let replies = futures::future::join_all((0..runs).map(|_| agent.execute(body.clone()))).await;
    let failed = replies.iter().filter(|reply| reply.json["stdout"] != "waited\n");
    failed.inspect(|reply| println!("  {reply:?}")).count()
}

/// The processes that sandboxes are made of: all below the gateway but the keeper.
fn inside(serve: &world::Serve) -> BTreeSet<u32> {
    let keeper = serve.keeper_pid();
    world::descendants(serve.pid()).into_iter().filter(|pid| *pid != keeper).collect()
}

/// Waits until the processes stay the same; the memory of those that are not `empty` sandboxes and what waits for
/// them, in megabytes (10^6 bytes), shared pages shared out.
async fn settled(serve: &world::Serve, empty: &BTreeSet<u32>) -> Option<f64> {
    let (mut before, mut same) = (BTreeSet::new(), 0);
    while same < LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = inside(serve);
        same = if now == before && now.len() > empty.len() + IDLE_RUNS { same + 1 } else { 0 };
        before = now;
    }
    let pss = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
    };
    before.difference(empty).map(pss).sum()
}
