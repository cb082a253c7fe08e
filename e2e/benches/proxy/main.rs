//! The API proxy with token check, policy, budget, scrubbing, usage and durable audit, beside a direct call, a bare
//! reverse proxy (`bare.rs`) and nginx: one client, one upstream, one run.
//!
//! Needs `OAUTH3_TEST_BIN` (the release binary); `OAUTH3_TEST_NGINX` for nginx.
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

mod bare;
mod load;
mod sides;
#[path = "../support/table.rs"]
mod table;

use load::{Shape, Way};
use sides::Side;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use table::Times;

/// Calls one after the other over one kept connection, of each side in turn, after those that do not count.
const ROUNDS: usize = 2_000;
const WARM_UP: usize = 200;
/// Connections of the second measurement, and how long each side is driven.
const CONNECTIONS: usize = 64;
const DRIVEN: Duration = Duration::from_secs(5);
/// Calls of the measurement of memory.
const MANY: usize = 100_000;
/// Writes that the disk is asked to keep.
const SYNCS: usize = 300;

/// The targets.
const RATE_OF_BARE: f64 = 0.85;
const CPU_OF_BARE: f64 = 1.3;
const ADDED_US: f64 = 60.0;
const FIRST_CHUNK_US: f64 = 300.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream"] => runtime.block_on(load::upstream(sides::VALUE)),
        ["bare", upstream] => runtime.block_on(bare::serve(upstream.to_owned().leak(), sides::VALUE)),
        _ => runtime.block_on(measure()),
    }
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let (_upstream, address) = sides::role(&["upstream"]);
    let sides = sides::start(dir.path(), address);
    let sync_us = sync_us(dir.path());
    println!("\nOne fdatasync of 4 KiB: p50 {sync_us:.0} us ({SYNCS} of them).");
    for shape in [Shape::Json, Shape::Sse] {
        one_connection(&sides, shape, sync_us).await;
        rates(&sides, shape).await;
    }
    memory(&sides).await;
}

const fn name(shape: Shape) -> &'static str {
    match shape {
        Shape::Json => "JSON",
        Shape::Sse => "a stream of events",
    }
}

/// Side by side, a call of each in turn.
async fn one_connection(sides: &[Side], shape: Shape, sync_us: f64) {
    let mut kept = Vec::new();
    for side in sides {
        kept.push((side, side.way.open().await, Times::default(), Times::default()));
    }
    for round in 0..WARM_UP + ROUNDS {
        if round % 20 == 0 {
            table::quiet();
        }
        for (side, kept, whole, first) in &mut kept {
            let start = Instant::now();
            let chunk = side.way.once(kept, shape).await;
            if round >= WARM_UP {
                whole.add(start.elapsed());
                first.add(chunk);
            }
        }
    }
    let us = |times: &Times, share: f64| times.at(share).unwrap() * 1e3;
    let (direct, direct_first) = (us(&kept[0].2, 0.5), us(&kept[0].3, 0.5));
    println!("\n### {}: one kept connection, {ROUNDS} calls of each in turn\n", name(shape));
    println!("| | p50 | p95 | p99 | added p50 | first piece later by | target |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    for (side, _, whole, first) in &kept {
        let (added, later) = (us(whole, 0.5) - direct, us(first, 0.5) - direct_first);
        let most = match side.name {
            sides::OURS => Some(sync_us + ADDED_US),
            sides::SOON => Some(ADDED_US),
            _ => None,
        };
        let mut target = most.map_or_else(String::new, |most| verdict(added <= most, &format!("added ≤ {most:.0} us")));
        if shape == Shape::Sse && side.name == sides::OURS {
            target += &verdict(later <= FIRST_CHUNK_US, &format!("; first piece ≤ {FIRST_CHUNK_US} us"));
        }
        println!(
            "| {} | {:.0} us | {:.0} us | {:.0} us | {added:.0} us | {later:.0} us | {target} |",
            side.name,
            us(whole, 0.5),
            us(whole, 0.95),
            us(whole, 0.99),
        );
    }
}

/// Many at once.
async fn rates(sides: &[Side], shape: Shape) {
    let mut rates = Vec::new();
    for side in sides {
        table::quiet();
        drive(&side.way, shape, Duration::from_secs(1), usize::MAX).await;
        let before = side.cpu();
        let (calls, took) = drive(&side.way, shape, DRIVEN, usize::MAX).await;
        let cpu = before.zip(side.cpu()).map(|(before, after)| (after - before).as_secs_f64() * 1e6 / calls as f64);
        rates.push((side, calls as f64 / took.as_secs_f64(), cpu));
    }
    let of = |name: &str| rates.iter().find(|(side, ..)| side.name == name).map(|(_, rate, cpu)| (*rate, *cpu));
    let bare = of(sides::BARE).unwrap();
    let nginx = of(sides::NGINX);
    println!("\n### {}: {CONNECTIONS} kept connections, {} s each\n", name(shape), DRIVEN.as_secs());
    println!("| | calls/s | of bare | of nginx | CPU for each | of bare | target |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    for (side, rate, cpu) in &rates {
        let of_bare = rate / bare.0;
        let of_nginx = nginx.map_or("–".into(), |nginx| format!("{:.2}", rate / nginx.0));
        let cpu_of_bare = cpu.zip(bare.1).map(|(cpu, bare)| cpu / bare);
        let target = match (side.name, cpu_of_bare) {
            (sides::OURS, Some(cpu)) => {
                let rate = verdict(of_bare >= RATE_OF_BARE, &format!("rate ≥ {RATE_OF_BARE}"));
                format!("{rate}; {}", verdict(cpu <= CPU_OF_BARE, &format!("CPU ≤ {CPU_OF_BARE}")))
            }
            _ => String::new(),
        };
        let text = |value: Option<f64>, unit: &str, digits: usize| {
            value.map_or("–".into(), |value| format!("{value:.digits$}{unit}"))
        };
        println!(
            "| {} | {rate:.0} | {of_bare:.2} | {of_nginx} | {} | {} | {target} |",
            side.name,
            text(*cpu, " us", 1),
            text(cpu_of_bare, "", 2)
        );
    }
}

/// Memory before and after many calls.
async fn memory(sides: &[Side]) {
    println!("\n### Memory over {MANY} calls\n\n| | before | after |\n|---|--:|--:|");
    for side in sides.iter().filter(|side| side.cpu().is_some()) {
        let before = side.resident();
        drive(&side.way, Shape::Json, Duration::from_secs(600), MANY / CONNECTIONS).await;
        println!("| {} | {before:.1} MB | {:.1} MB |", side.name, side.resident());
    }
}

/// Calls that were answered, and the time that they took; each client makes at most `most`.
async fn drive(way: &Way, shape: Shape, time: Duration, most: usize) -> (usize, Duration) {
    let start = Instant::now();
    let clients = (0..CONNECTIONS).map(|_| {
        let way = way.clone();
        tokio::spawn(async move {
            let (mut kept, mut calls) = (way.open().await, 0);
            while start.elapsed() < time && calls < most {
                way.once(&mut kept, shape).await;
                calls += 1;
            }
            calls
        })
    });
    let mut calls = 0;
    for client in clients.collect::<Vec<_>>() {
        calls += client.await.unwrap();
    }
    (calls, start.elapsed())
}

fn verdict(met: bool, text: &str) -> String {
    format!("{text}: {}", if met { "met" } else { "**missed**" })
}

/// The median of what it takes until 4 KiB are on disk, in microseconds.
fn sync_us(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("sync")).unwrap();
    let mut times = Times::default();
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096]).unwrap();
        let start = Instant::now();
        file.sync_data().unwrap();
        times.add(start.elapsed());
    }
    times.p50().unwrap() * 1e3
}
