//! Calls one after the other, and as many at once as a side can answer.

use crate::Amount;
use crate::load::{CONNECTIONS, Shape, Way, drive};
use crate::others::NGINX;
use crate::sides::{BARE, OURS, SOON, Scheme, Side};
use crate::table::{self, Times, verdict};
use std::time::{Duration, Instant};

/// The targets: calls/s and CPU of the bare proxy's.
const RATE_OF_BARE: f64 = 0.85;
const CPU_OF_BARE: f64 = 1.3;
/// What a call takes longer than a direct one, beyond an `fdatasync`.
const ADDED_US: f64 = 60.0;
/// How much later the first piece of a stream comes.
const FIRST_CHUNK_US: f64 = 300.0;
/// A slow side is called once while the others are so often, and driven for half as long.
const SLOW_SHARE: usize = 10;
/// Rounds between two looks whether the machine is quiet: before each would take longer than all of them.
const LOOK_EVERY: usize = 20;

/// Turns of each side, each a part of its time.
const TURNS: u32 = 5;

/// What a side did in its turns.
#[derive(Default)]
struct Sum {
    calls: usize,
    took: Duration,
    /// None for what has no process.
    cpu: Option<Duration>,
}

impl Sum {
    fn rate(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }

    /// CPU time for each call.
    fn cpu_us(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.calls as f64)
    }
}

const fn upstream(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "",
        Scheme::Https => ", upstream over TLS",
    }
}

/// Side by side, a call of each in turn.
pub async fn one_connection(sides: &[Side], scheme: Scheme, shape: Shape, amount: Amount, sync_us: f64) {
    let mut kept = Vec::new();
    for side in sides {
        if let Some(way) = side.way(scheme) {
            kept.push((side, way, way.open().await, Times::default(), Times::default()));
        }
    }
    for round in 0..amount.warm_up + amount.rounds {
        if round % LOOK_EVERY == 0 {
            table::quiet();
        }
        for (side, way, kept, whole, first) in &mut kept {
            if side.slow && round % SLOW_SHARE != 0 {
                continue;
            }
            let start = Instant::now();
            let chunk = way.once(kept, shape).await;
            if round >= amount.warm_up {
                whole.add(start.elapsed());
                first.add(chunk);
            }
        }
    }
    let us = |times: &Times, share: f64| times.at(share).unwrap() * 1e3;
    let (direct, direct_first) = (us(&kept[0].3, 0.5), us(&kept[0].4, 0.5));
    let fewer = match kept.iter().any(|(side, ..)| side.slow) {
        true => format!(" (of the slow ones {})", amount.rounds / SLOW_SHARE),
        false => String::new(),
    };
    println!(
        "\n### {}{}: one kept connection, {} calls of each in turn{fewer}\n",
        shape.name(),
        upstream(scheme),
        amount.rounds,
    );
    println!("| | p50 | p95 | p99 | added p50 | first piece later by | target |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    for (side, _, _, whole, first) in &kept {
        let (added, later) = (us(whole, 0.5) - direct, us(first, 0.5) - direct_first);
        let most = match side.name {
            OURS => Some(sync_us + ADDED_US),
            SOON => Some(ADDED_US),
            _ => None,
        };
        let mut target = most.map_or_else(String::new, |most| verdict(added <= most, &format!("added ≤ {most:.0} us")));
        if shape == Shape::Sse && side.name == OURS {
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

/// Many at once; the bare proxy's calls/s. In turns, for a machine is not equally fast all the time.
pub async fn rates(sides: &[Side], scheme: Scheme, shape: Shape, amount: Amount) -> f64 {
    let mut sums: Vec<(&Side, &Way, Sum)> =
        sides.iter().filter_map(|side| Some((side, side.way(scheme)?, Sum::default()))).collect();
    for turn in 0..TURNS {
        for (side, way, sum) in &mut sums {
            // A slow side is warm after a long turn only.
            let time = match side.slow {
                true if turn == 0 => amount.driven / 2,
                true => continue,
                false => amount.driven / TURNS,
            };
            table::quiet();
            drive(way, shape, time / 5, usize::MAX).await;
            let before = side.cpu();
            let (calls, took) = drive(way, shape, time, usize::MAX).await;
            sum.calls += calls;
            sum.took += took;
            sum.cpu = before.zip(side.cpu()).map(|(before, after)| sum.cpu.unwrap_or_default() + (after - before));
        }
    }
    let rates: Vec<_> = sums.into_iter().map(|(side, _, sum)| (side, sum.rate(), sum.cpu_us())).collect();
    let of = |name: &str| rates.iter().find(|(side, ..)| side.name == name).map(|(_, rate, cpu)| (*rate, *cpu));
    let bare = of(BARE).unwrap();
    let nginx = of(NGINX);
    println!(
        "\n### {}{}: {CONNECTIONS} kept connections, {TURNS} turns, {:.1} s in all for each\n",
        shape.name(),
        upstream(scheme),
        amount.driven.as_secs_f64()
    );
    println!("| | calls/s | of bare | of nginx | CPU for each | of bare | target |");
    println!("|---|--:|--:|--:|--:|--:|---|");
    for (side, rate, cpu) in &rates {
        let of_bare = rate / bare.0;
        let of_nginx = nginx.map_or("–".into(), |nginx| format!("{:.3}", rate / nginx.0));
        let cpu_of_bare = cpu.zip(bare.1).map(|(cpu, bare)| cpu / bare);
        let target = match (side.name, cpu_of_bare) {
            (OURS, Some(cpu)) => {
                let rate = verdict(of_bare >= RATE_OF_BARE, &format!("rate ≥ {RATE_OF_BARE}"));
                format!("{rate}; {}", verdict(cpu <= CPU_OF_BARE, &format!("CPU ≤ {CPU_OF_BARE}")))
            }
            _ => String::new(),
        };
        let text = |value: Option<f64>, unit: &str, digits: usize| {
            value.map_or("–".into(), |value| format!("{value:.digits$}{unit}"))
        };
        println!(
            "| {} | {rate:.0} | {of_bare:.3} | {of_nginx} | {} | {} | {target} |",
            side.name,
            text(*cpu, " us", 1),
            text(cpu_of_bare, "", 2)
        );
    }
    bare.0
}
