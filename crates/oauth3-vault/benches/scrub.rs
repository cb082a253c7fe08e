//! What scrubbing costs: text without any value, in the pieces that replies come in, beside copying it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measuring tool"
)]

use oauth3_core::SecretName;
use oauth3_vault::{Lease, Scrubber, SecretBytes, make_placeholder};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

/// Bytes that are scrubbed in one round, and the pieces that they come in.
const ROUND_BYTES: usize = 64 << 20;
const PIECE_BYTES: usize = 64 << 10;
/// Rounds; the median counts.
const ROUNDS: usize = 5;

fn main() {
    let text = b"{\"model\":\"m\",\"text\":\"It is a sunny day, with a light breeze.\",\"n\":0.125},\n";
    let json: Vec<u8> = text.iter().copied().cycle().take(PIECE_BYTES).collect();
    let random: Vec<u8> =
        (0..PIECE_BYTES as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    println!("\n| values | JSON | random bytes | of copying, JSON |\n|--:|--:|--:|--:|");
    let copying = rate(&json, |piece, out| out.extend_from_slice(piece));
    for count in [1usize, 8, 32] {
        let leases: Vec<Lease> = (0..count).map(lease).collect();
        let scrubber = Scrubber::new(&leases);
        let scrub = |piece: &[u8]| {
            let mut stream = scrubber.stream();
            rate(piece, |piece, out| {
                black_box(stream.push_around(piece, false, out));
            })
        };
        let (json, random) = (scrub(&json), scrub(&random));
        println!("| {count} | {json:.0} MB/s | {random:.0} MB/s | {:.2} |", json / copying);
    }
}

fn lease(n: usize) -> Lease {
    let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let key = (0..40).map(|at| letters.iter().cycle().nth(at * 7 + n * 13 + at * n).copied().unwrap());
    let value = SecretBytes::new(b"sk-proj-".iter().copied().chain(key).collect::<Vec<u8>>());
    let placeholder = make_placeholder(&value).unwrap();
    Lease::of_value(SecretName::parse(&format!("KEY_{n}")).unwrap(), BTreeSet::new(), placeholder, value)
}

/// The median of what goes through in a second, in megabytes.
fn rate(piece: &[u8], mut through: impl FnMut(&[u8], &mut Vec<u8>)) -> f64 {
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let mut out = Vec::with_capacity(PIECE_BYTES * 2);
            let start = Instant::now();
            for _ in 0..ROUND_BYTES / PIECE_BYTES {
                out.clear();
                through(black_box(piece), &mut out);
                black_box(&out);
            }
            ROUND_BYTES as f64 / 1e6 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates.get(ROUNDS / 2).copied().unwrap_or_default()
}
