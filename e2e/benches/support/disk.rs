//! What the disk takes, for measurements of what is durable before it is done.

use crate::table::Times;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Writes that the disk is asked to keep.
const SYNCS: usize = 300;

/// The median of what it takes until 4 KiB are on disk, in microseconds; says it too.
pub fn sync_us(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("sync")).unwrap();
    let mut times = Times::default();
    for _ in 0..SYNCS {
        file.write_all(&[7; 4096]).unwrap();
        let start = Instant::now();
        file.sync_data().unwrap();
        times.add(start.elapsed());
    }
    let sync_us = times.p50().unwrap() * 1e3;
    println!("\nOne fdatasync of 4 KiB: p50 {sync_us:.0} us ({SYNCS} of them).");
    sync_us
}
