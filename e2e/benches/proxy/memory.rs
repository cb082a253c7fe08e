//! What memory a side holds after many calls, and while many streams are open.

use crate::Amount;
use crate::load::{CONNECTIONS, Shape, drive};
use crate::sides::{OURS, SOON, Side};
use crate::table::verdict;
use futures::FutureExt;
use http_body_util::BodyExt;
use std::time::Duration;

/// Streams that are open at once, each on a connection of its own.
const STREAMS: usize = 1_000;
/// The target: what gateway and keeper hold together while those are open, in MB.
const IDLE_MB: f64 = 100.0;
/// Open files that a proxy of that many streams needs: both sides of each, and its own.
const FILES: usize = 2 * STREAMS + 200;
/// Longest that the many calls may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Memory before and after many calls.
pub async fn many_calls(sides: &[Side], amount: Amount) {
    println!("\n### Memory over {} calls\n\n| | before | after |\n|---|--:|--:|", amount.many);
    for side in sides.iter().filter(|side| side.is_fast_process()) {
        let before = side.resident();
        drive(&side.http, Shape::Json, PATIENCE, amount.many / CONNECTIONS).await;
        println!("| {} | {before:.1} MB | {:.1} MB |", side.name, side.resident());
    }
}

/// Memory of all processes of a side while streams are open that said one event and nothing since.
pub async fn idle_streams(sides: &[Side]) {
    println!("\n### {STREAMS} idle streams, memory of all processes of a side\n");
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files = files.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    if files < FILES {
        println!("Not measured: {files} open files are allowed, {FILES} are needed (`ulimit -n {FILES}`).");
        return;
    }
    println!("| | before | with them | target |\n|---|--:|--:|---|");
    for side in sides.iter().filter(|side| side.is_fast_process()) {
        let before = side.resident_in_all();
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            open.push(side.http.idle().await);
        }
        let with = side.resident_in_all();
        let silent = open.iter_mut().filter_map(|(_, body)| body.frame().now_or_never()).count() == 0;
        assert!(silent, "a stream of {} did not stay open and silent", side.name);
        let target = match side.name {
            OURS | SOON => verdict(with < IDLE_MB, &format!("< {IDLE_MB} MB")),
            _ => String::new(),
        };
        println!("| {} | {before:.1} MB | {with:.1} MB | {target} |", side.name);
    }
}
