//! The egress with substitution, scrubbing and durable audit, beside a direct call, a bare interception (`bare.rs`),
//! mitmproxy with an add-on and the proxy of sandbox-runtime: one client, one upstream, one run.
//!
//! Needs `OAUTH3_BENCH_EGRESS` (the keeper's `examples/egress.rs`); `OAUTH3_TEST_MITMPROXY` (`mitmdump`),
//! `OAUTH3_TEST_SANDBOX_RUNTIME` (the package's folder) and `OAUTH3_TEST_NODE` for what they name.
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

mod bare;
mod client;
#[path = "../support/disk.rs"]
mod disk;
mod sides;
#[path = "../support/table.rs"]
mod table;

use client::{STREAM_BYTES, Way};
use sides::Side;
use std::time::{Duration, Instant};
use table::{Times, verdict};

/// Requests one after the other over one kept connection, of each side in turn, after those that do not count.
const ROUNDS: usize = 2_000;
const WARM_UP: usize = 200;
/// A slow side is asked once while the others are so often.
const SLOW_SHARE: usize = 10;
/// Connections of the second measurement, and how long each side is driven: in turns, for a machine is not equally fast
/// all the time.
const CONNECTIONS: usize = 64;
const TURNS: u32 = 5;
const DRIVEN: Duration = Duration::from_secs(1);
/// Before each turn, without counting.
const BEGUN: Duration = Duration::from_millis(300);
/// Clients that open a connection for each request.
const OPENERS: usize = 16;
/// Streams of each side; the median counts.
const STREAMS: usize = 3;

/// The targets.
const CPU_OF_BARE: f64 = 1.5;
const TIMES_MITMPROXY: f64 = 25.0;
const TIMES_MITMPROXY_NEW: f64 = 6.0;
const OF_TUNNEL: f64 = 0.8;
const ADDED_US: f64 = 100.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let [role @ ("bare" | "tunnel"), upstream, ca_file] = &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        let trust = client::trusting(&[&std::fs::read_to_string(ca_file).unwrap()]);
        let upstream: &'static str = upstream.to_string().leak();
        return runtime.block_on(bare::serve(client::NAME, upstream, trust, *role == "tunnel"));
    }
    runtime.block_on(measure());
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let (upstream, ca) = client::upstream(sides::VALUE).await;
    let sides = sides::start(dir.path(), upstream, &ca);
    let sync_us = disk::sync_us(dir.path());
    one_connection(&sides, sync_us).await;
    rates(&sides, false).await;
    rates(&sides, true).await;
    streams(&sides).await;
}

/// Side by side, a request of each in turn.
async fn one_connection(sides: &[Side], sync_us: f64) {
    let mut kept = Vec::new();
    for side in sides {
        kept.push((side, side.way.open().await, Times::default()));
    }
    let mut busy = 0;
    for round in 0..WARM_UP + ROUNDS {
        // Not before each: that would take longer than all of them.
        if round % 20 == 0 {
            busy += usize::from(!table::quiet());
        }
        for (side, kept, times) in &mut kept {
            if side.is_slow() && round % SLOW_SHARE != 0 {
                continue;
            }
            let start = Instant::now();
            side.way.once(kept).await;
            if round >= WARM_UP {
                times.add(start.elapsed());
            }
        }
    }
    let us = |times: &Times, share: f64| times.at(share).unwrap() * 1e3;
    let direct: [f64; 2] = [0.5, 0.95].map(|share| us(&kept[0].2, share));
    let groups = (WARM_UP + ROUNDS) / 20;
    println!(
        "\n### One kept connection, {ROUNDS} requests of each in turn, of the slow ones {} ({busy} of {groups} groups began while something else ran)\n",
        ROUNDS / SLOW_SHARE
    );
    println!("| | p50 | p95 | added p50 | added p95 | target |");
    println!("|---|--:|--:|--:|--:|---|");
    for (side, _, times) in &kept {
        let (p50, p95) = (us(times, 0.5), us(times, 0.95));
        let most = sync_us + ADDED_US;
        let target = side.is_ours().then(|| verdict(p50 - direct[0] <= most, &format!("added p50 ≤ {most:.0} us")));
        let target = target.unwrap_or_default();
        println!(
            "| {} | {p50:.0} us | {p95:.0} us | {:.0} us | {:.0} us | {target} |",
            side.name,
            p50 - direct[0],
            p95 - direct[1]
        );
    }
}

/// What one side did while it was driven.
struct Rate {
    per_second: f64,
    /// CPU time of the side's processes for each request, in microseconds; none for what has no process.
    cpu_us: Option<f64>,
}

/// Many at once: over kept connections, or with a new one for each request.
async fn rates(sides: &[Side], new: bool) {
    let mut sums = vec![(0, Duration::ZERO, Some(Duration::ZERO)); sides.len()];
    for _ in 0..TURNS {
        for (side, (requests, time, cpu)) in sides.iter().zip(&mut sums) {
            // A moment to begin in, as ours would otherwise be the first after something else each time.
            table::quiet();
            drive(&side.way, new, BEGUN).await;
            let before = side.cpu();
            let (answered, took) = drive(&side.way, new, DRIVEN).await;
            let spent = before.zip(side.cpu()).map(|(before, after)| after - before);
            *requests += answered;
            *time += took;
            *cpu = cpu.zip(spent).map(|(cpu, spent)| cpu + spent);
        }
    }
    let rate = |(requests, time, cpu): (usize, Duration, Option<Duration>)| Rate {
        per_second: requests as f64 / time.as_secs_f64(),
        cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / requests as f64),
    };
    let rates: Vec<(&Side, Rate)> = sides.iter().zip(sums.into_iter().map(rate)).collect();
    let of = |name: &str| rates.iter().find(|(side, _)| side.name.starts_with(name)).map(|(_, rate)| rate);
    let (ours, bare, mitmproxy) = (of(sides::OURS).unwrap(), of(sides::BARE).unwrap(), of(sides::MITMPROXY));
    let what = if new {
        format!("A new connection for each request, {OPENERS} clients")
    } else {
        format!("{CONNECTIONS} kept connections")
    };
    println!("\n### {what}, {TURNS} turns of {} s each\n", DRIVEN.as_secs());
    println!("| | requests/s | of bare | of mitmproxy | CPU for each | of bare |");
    println!("|---|--:|--:|--:|--:|--:|");
    let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map_or("–".into(), |(a, b)| format!("{:.2}", a / b));
    for (side, rate) in &rates {
        let cpu = rate.cpu_us.map_or("–".into(), |us| format!("{us:.0} us"));
        let of_bare = ratio(Some(rate.per_second), Some(bare.per_second));
        let of_mitmproxy = ratio(Some(rate.per_second), mitmproxy.map(|m| m.per_second));
        println!(
            "| {} | {:.0} | {of_bare} | {of_mitmproxy} | {cpu} | {} |",
            side.name,
            rate.per_second,
            ratio(rate.cpu_us, bare.cpu_us)
        );
    }
    println!();
    if !new {
        let times = ours.cpu_us.unwrap() / bare.cpu_us.unwrap();
        println!(
            "Target, CPU for each request: {}",
            verdict(times <= CPU_OF_BARE, &format!("{times:.2} ≤ {CPU_OF_BARE} of bare"))
        );
    }
    let least = if new { TIMES_MITMPROXY_NEW } else { TIMES_MITMPROXY };
    match mitmproxy.map(|m| ours.per_second / m.per_second) {
        Some(times) => {
            println!("Target, rate: {}", verdict(times >= least, &format!("{times:.1} ≥ {least} times mitmproxy")))
        }
        None => println!("Target, rate: not measured, mitmproxy is not there"),
    }
}

/// Requests that were answered, and the time that they took.
async fn drive(way: &Way, new: bool, time: Duration) -> (usize, Duration) {
    let start = Instant::now();
    let clients = (0..if new { OPENERS } else { CONNECTIONS }).map(|_| {
        let way = way.clone();
        tokio::spawn(async move {
            let mut kept = if new { None } else { Some(way.open().await) };
            let mut requests = 0;
            while start.elapsed() < time {
                match &mut kept {
                    Some(kept) => way.once(kept).await,
                    None => way.once(&mut way.open().await).await,
                }
                requests += 1;
            }
            requests
        })
    });
    let mut requests = 0;
    for client in clients.collect::<Vec<_>>() {
        requests += client.await.unwrap();
    }
    (requests, start.elapsed())
}

async fn streams(sides: &[Side]) {
    let mut all: Vec<(&Side, Vec<f64>)> = sides.iter().map(|side| (side, Vec::new())).collect();
    for _ in 0..STREAMS {
        for (side, rates) in &mut all {
            table::quiet();
            let mut kept = side.way.open().await;
            let start = Instant::now();
            assert_eq!(side.way.ask(&mut kept, "/stream").await, STREAM_BYTES);
            rates.push(STREAM_BYTES as f64 / 1e6 / start.elapsed().as_secs_f64());
        }
    }
    let median = |rates: &[f64]| {
        let mut sorted = rates.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let tunnel = all.iter().find(|(side, _)| side.name == sides::TUNNEL).map(|(_, rates)| median(rates)).unwrap();
    println!("\n### A stream of 1 GiB, median of {STREAMS}\n");
    println!("| | MB/s | of the blind tunnel | target |");
    println!("|---|--:|--:|---|");
    for (side, rates) in &all {
        let (rate, of) = (median(rates), median(rates) / tunnel);
        let target = if side.is_ours() { verdict(of >= OF_TUNNEL, &format!("≥ {OF_TUNNEL}")) } else { String::new() };
        println!("| {} | {rate:.0} | {of:.2} | {target} |", side.name);
    }
}
