//! The main job, measured from outside: a granted `/execute` beside the bare start of the same runtime,
//! memory at rest, size of the binary. Pair by pair, in one run.
//!
//! Needs `OAUTH3_TEST_BIN`; `OAUTH3_BENCH_BARE` (the embedded runtime alone, `examples/bare_embedded.rs` of the
//! sandbox), `OAUTH3_TEST_DENO` and `OAUTH3_TEST_NODE` for what they name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    unreachable_pub,
    reason = "a measuring tool"
)]

#[path = "support/table.rs"]
mod table;

use e2e::{Agent, World, world};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use table::{Target, Times};

/// Pairs that count, after those that do not.
const PAIRS: usize = 200;
const WARM_UP: usize = 20;
/// Megabytes (10^6 bytes) that both processes may hold at rest, and that the binary may have.
const MEMORY_MB: f64 = 40.0;
const BINARY_MB: f64 = 40.0;
/// How long the gateway is left alone before its memory counts.
const REST: Duration = Duration::from_secs(3);

/// One runtime: its name, the bare start of it, and what ours is held against.
type Case = (&'static str, Vec<String>, Target);

#[tokio::main]
async fn main() {
    let runtimes: String =
        ["deno", "node"].iter().filter_map(|name| Some(format!("{name} = {:?}\n", path_of(name)?))).collect();
    let config = format!("[limits]\nrequests_per_minute = 1000000\nmemory_mb = 1024\n[runtimes]\n{runtimes}");
    let (world, token) = World::ready(&config).await;
    let serve = world.serve().await;
    at_rest(&serve).await;

    let agent = Agent::new(&serve.base, &token);
    let hello = world.home().join("hello.js");
    std::fs::write(&hello, "console.log('hello')").unwrap();
    let (mut lines, mut pairs, mut busy) = (Vec::new(), 0, 0);
    for (runtime, bare, target) in cases(&hello) {
        grant(&world, &agent, runtime).await;
        let (mut ours, mut theirs) = (Times::default(), Times::default());
        for round in 0..WARM_UP + PAIRS {
            pairs += 1;
            busy += usize::from(!table::quiet());
            let start = Instant::now();
            let reply = agent.execute(body(runtime)).await;
            let mine = start.elapsed();
            assert_eq!((reply.status, &reply.json["stdout"]), (200, &json!("hello\n")), "{reply:?}");
            let other = (!bare.is_empty()).then(|| bare_start(&bare));
            if round >= WARM_UP {
                ours.add(mine);
                other.into_iter().for_each(|other| theirs.add(other));
            }
        }
        lines.push((runtime, ours, theirs, target));
    }
    println!();
    table::head(pairs, busy);
    for (runtime, ours, theirs, target) in lines {
        let (what, beside) = (format!("granted `/execute`, {runtime}, hello world"), format!("bare {runtime}"));
        table::line(&what, &ours, &beside, &theirs, &target);
    }
    println!();
    let binary = std::fs::metadata(world::binary()).unwrap().len() as f64 / 1e6;
    println!("Binary on disk: {binary:.1} MB; target ≤ {BINARY_MB} MB: {}", verdict(binary <= BINARY_MB));
    drop(serve);
}

fn cases(hello: &Path) -> Vec<Case> {
    let hello = hello.display().to_string();
    let bare = std::env::var("OAUTH3_BENCH_BARE").map(|bare| vec![bare, hello.clone()]).unwrap_or_default();
    let mut cases = vec![("embedded", bare, Target::Milliseconds(15.0))];
    if let Some(deno) = path_of("deno") {
        cases.push(("deno", vec![deno, "run".into(), hello.clone()], Target::Ratio(1.5)));
    }
    if let Some(node) = path_of("node") {
        cases.push(("node", vec![node, hello], Target::None));
    }
    cases
}

fn path_of(runtime: &str) -> Option<String> {
    std::env::var(format!("OAUTH3_TEST_{}", runtime.to_uppercase())).ok().filter(|path| !path.is_empty())
}

fn body(runtime: &str) -> Value {
    json!({ "skill_id": "hello", "code": "console.log('hello')", "metadata": { "runtime": runtime } })
}

async fn grant(world: &World, agent: &Agent, runtime: &str) {
    let reply = agent.execute(body(runtime)).await;
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
}

/// The same program without anything around it.
fn bare_start(command: &[String]) -> Duration {
    let mut bare = Command::new(&command[0]);
    bare.args(&command[1..]).env("DENO_NO_UPDATE_CHECK", "1");
    bare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    assert!(bare.status().unwrap().success(), "{command:?}");
    start.elapsed()
}

/// What both processes hold when nothing goes on.
async fn at_rest(serve: &world::Serve) {
    tokio::time::sleep(REST).await;
    let (gateway, keeper) = (resident(serve.pid()), resident(serve.keeper_pid()));
    println!("| at rest | resident | proportional |\n|---|--:|--:|");
    for (name, pid, resident) in [("gateway", serve.pid(), gateway), ("keeper", serve.keeper_pid(), keeper)] {
        let proportional = proportional(pid).map_or_else(|| "–".to_owned(), |mb| format!("{mb:.1} MB"));
        println!("| {name} | {resident:.1} MB | {proportional} |");
    }
    let together = gateway + keeper;
    println!("| together | {together:.1} MB | |");
    println!("\nTarget, resident together, ≤ {MEMORY_MB} MB: {}", verdict(together <= MEMORY_MB));
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

/// Resident memory in MB.
fn resident(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    field(&text, "VmRSS:").unwrap()
}

/// Resident memory in MB, with shared pages shared out; only root may read that of the keeper.
fn proportional(pid: u32) -> Option<f64> {
    field(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}
