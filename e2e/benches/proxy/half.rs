//! How long the slowest calls take when a side has half of the work that the bare proxy can do.

use crate::Amount;
use crate::load::{CONNECTIONS, Shape, pace};
use crate::sides::{BARE, OURS, Side};
use crate::table::{self, Times, verdict};

/// The target: our p99 of the bare proxy's.
const P99_OF_BARE: f64 = 1.5;
/// Turns of each side, each a part of its time. The median of their figures counts, so that what else happens on the
/// machine for a moment spoils one turn only.
const TURNS: usize = 5;

/// What a side did in its turns.
#[derive(Default)]
struct Paced {
    per_second: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
}

/// `saturated`: the bare proxy's calls/s when it is driven with all that it can do.
pub async fn half_load(sides: &[Side], shape: Shape, saturated: f64, amount: Amount) {
    let mut all: Vec<(&Side, Paced)> =
        sides.iter().filter(|side| !side.slow).map(|side| (side, Paced::default())).collect();
    for _ in 0..TURNS {
        for (side, paced) in &mut all {
            table::quiet();
            let (taken, took) = pace(&side.http, shape, saturated / 2.0, amount.driven / TURNS as u32).await;
            paced.per_second.push(taken.len() as f64 / took.as_secs_f64());
            let mut times = Times::default();
            taken.into_iter().for_each(|time| times.add(time));
            paced.p50_ms.push(times.p50().unwrap());
            paced.p99_ms.push(times.at(0.99).unwrap());
        }
    }
    let bare = all.iter().find(|(side, _)| side.name == BARE).map(|(_, paced)| median(&paced.p99_ms)).unwrap();
    println!(
        "\n### {}: {:.0} calls/s, half of what bare hyper can do, on {CONNECTIONS} kept connections, medians of {TURNS} turns, {:.1} s each\n",
        shape.name(),
        saturated / 2.0,
        amount.driven.as_secs_f64() / TURNS as f64
    );
    println!("| | calls/s | p50 | p99 | p99 of bare | target |");
    println!("|---|--:|--:|--:|--:|---|");
    for (side, paced) in &all {
        let p99 = median(&paced.p99_ms);
        let of_bare = p99 / bare;
        let target = match side.name {
            OURS => verdict(of_bare <= P99_OF_BARE, &format!("p99 ≤ {P99_OF_BARE} of bare")),
            _ => String::new(),
        };
        println!(
            "| {} | {:.0} | {:.2} ms | {p99:.2} ms | {of_bare:.2} | {target} |",
            side.name,
            median(&paced.per_second),
            median(&paced.p50_ms),
        );
    }
    for side in sides.iter().filter(|side| side.slow) {
        println!("\n{} does not reach that.", side.name);
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
