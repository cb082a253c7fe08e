//! Medians of interleaved pairs, and how they are shown. Used by every measurement.

use std::time::{Duration, Instant};

/// Times of one side of the pairs.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that `share` (0 to 1) of the runs did not exceed, in milliseconds; `None` without runs.
    pub fn at(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        sorted.get((last as f64 * share).round() as usize).map(|time| time.as_secs_f64() * 1e3)
    }

    /// The median, in milliseconds.
    pub fn p50(&self) -> Option<f64> {
        self.at(0.5)
    }
}

/// How long a pair waits for a moment in which nothing else runs on this machine, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(2);
/// Looks in a row that must find nothing.
const LOOKS: u32 = 5;

/// Waits until nothing else runs; false when something still does after 2 seconds. Other work makes a chain of many
/// processes wait more often than a single one, so that a busy machine measures itself.
pub fn quiet() -> bool {
    let start = Instant::now();
    let mut found = 0;
    while found < LOOKS {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(LOOK);
        found = if alone() { found + 1 } else { 0 };
    }
    true
}

fn alone() -> bool {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let running = stat.lines().find_map(|line| line.strip_prefix("procs_running ")?.trim().parse::<u32>().ok());
    running.is_none_or(|running| running <= 1)
}

/// What a measurement is held against.
#[allow(dead_code, reason = "each measurement uses some")]
pub enum Target {
    /// Our median over the other's.
    Ratio(f64),
    /// Our median, in milliseconds.
    Milliseconds(f64),
    /// Reported only.
    None,
}

/// A target's text and whether it is met.
#[allow(dead_code, reason = "each measurement uses some")]
pub fn verdict(met: bool, text: &str) -> String {
    format!("{text}: {}", if met { "met" } else { "**missed**" })
}

/// The first two lines of the table, after how much of it was measured on a busy machine.
#[allow(dead_code, reason = "each measurement uses some")]
pub fn head(pairs: usize, busy: usize) {
    println!("Of {pairs} pairs {busy} began while something else was running.\n");
    println!("| ours | p50 | p95 | beside | p50 | p95 | ratio | target |");
    println!("|---|--:|--:|---|--:|--:|--:|---|");
}

/// One line of it.
#[allow(dead_code, reason = "each measurement uses some")]
pub fn line(what: &str, ours: &Times, beside: &str, theirs: &Times, target: &Target) {
    let show = |times: &Times, share: f64| times.at(share).map_or_else(|| "–".into(), |ms| format!("{ms:.2} ms"));
    let ratio = ours.p50().zip(theirs.p50()).map(|(a, b)| a / b);
    let verdict = |met: Option<bool>, text: String| match met {
        Some(met) => verdict(met, &text),
        None => format!("{text}: not measured"),
    };
    let said = match target {
        Target::Ratio(most) => verdict(ratio.map(|ratio| ratio <= *most), format!("≤ {most:.2} of it")),
        Target::Milliseconds(most) => verdict(ours.p50().map(|ms| ms <= *most), format!("≤ {most} ms")),
        Target::None => "reported".into(),
    };
    let ratio = ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
    println!(
        "| {what} | {} | {} | {beside} | {} | {} | {ratio} | {said} |",
        show(ours, 0.5),
        show(ours, 0.95),
        show(theirs, 0.5),
        show(theirs, 0.95),
    );
}
