//! The main job, measured from outside: a granted `/execute` beside the bare start of the same runtime,
//! memory at rest, size of the binary. Ratios are taken within one run, pair by pair.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs
)]

use e2e::{Agent, World, world};
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Pairs that are measured, after a tenth as many that are not counted.
const PAIRS: usize = 200;

#[tokio::main]
async fn main() {
    let deno = std::env::var("OAUTH3_TEST_DENO").ok();
    let (world, token) = World::ready(&format!(
        "[limits]\nrequests_per_minute = 1000000\nmemory_mb = 1024\n[runtimes]\ndeno = {:?}\n",
        deno.clone().unwrap_or_default()
    ))
    .await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);

    println!("| what | p50 | p95 | beside | p50 | p95 | ratio of p50 |");
    println!("|---|---|---|---|---|---|---|");
    let bare = world.home().join("hello.js");
    std::fs::write(&bare, "console.log('hello')").unwrap();
    let bare = bare.display().to_string();
    let mut cases =
        vec![("embedded", vec![world::binary().display().to_string(), "bare-runtime".into(), bare.clone()])];
    if let Some(deno) = deno {
        cases.push(("deno", vec![deno, "run".into(), "--no-prompt".into(), "--no-remote".into(), bare.clone()]));
    }
    if std::path::Path::new("/usr/bin/node").exists() {
        cases.push(("node", vec!["/usr/bin/node".into(), bare]));
    }
    for (runtime, bare) in cases {
        grant(&world, &agent, runtime).await;
        let (mut ours, mut theirs) = (vec![], vec![]);
        for round in 0..PAIRS + PAIRS / 10 {
            let start = Instant::now();
            let reply = agent.execute(body(runtime)).await;
            let mine = start.elapsed();
            assert_eq!((reply.status, &reply.json["stdout"]), (200, &json!("hello\n")), "{reply:?}");
            let other = bare_start(&bare);
            if round >= PAIRS / 10 {
                ours.push(mine);
                theirs.extend(other);
            }
        }
        let (a, b) = (quantiles(&mut ours), quantiles(&mut theirs));
        println!(
            "| granted /execute, {runtime}, hello | {} | {} | bare {runtime} | {} | {} | {:.2} |",
            show(a.0),
            show(a.1),
            show(b.0),
            show(b.1),
            a.0.as_secs_f64() / b.0.as_secs_f64()
        );
    }
    drop(serve);
    let serve = world.serve().await;
    let (gateway, keeper) = (memory(serve.pid()), memory(serve.keeper_pid()));
    println!("\n| at rest | resident | proportional |\n|---|---|---|");
    println!("| gateway | {:.1} MB | {:.1} MB |", gateway.0, gateway.1);
    println!("| keeper | {:.1} MB | {:.1} MB |", keeper.0, keeper.1);
    println!("| together | {:.1} MB | {:.1} MB |", gateway.0 + keeper.0, gateway.1 + keeper.1);
    println!("| binary on disk | {:.1} MB | |", std::fs::metadata(world::binary()).unwrap().len() as f64 / 1e6);
}

fn body(runtime: &str) -> serde_json::Value {
    json!({ "skill_id": "hello", "code": "console.log('hello')", "metadata": { "runtime": runtime } })
}

async fn grant(world: &World, agent: &Agent, runtime: &str) {
    let reply = agent.execute(body(runtime)).await;
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
}

/// The same program without anything around it; `None` when it cannot be run bare.
fn bare_start(command: &[String]) -> Option<Duration> {
    let start = Instant::now();
    let status = Command::new(&command[0])
        .args(&command[1..])
        .env("DENO_NO_UPDATE_CHECK", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.success().then(|| start.elapsed())
}

fn quantiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |q: f64| times.get(((times.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(Duration::MAX);
    (at(0.5), at(0.95))
}

fn show(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Resident and proportional set size in MB.
fn memory(pid: u32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    (field("Rss:"), field("Pss:"))
}
