//! The API proxy with token check, policy, budget, scrubbing, usage and durable audit, beside a direct call, a bare
//! reverse proxy (`bare.rs`), one that does the least that ours must (`duties.rs`), nginx, LiteLLM and Portkey: one
//! client, one upstream, one run.
//!
//! Needs `OAUTH3_TEST_BIN` (the release binary); `OAUTH3_TEST_NGINX`, `OAUTH3_TEST_LITELLM` (its program),
//! `OAUTH3_TEST_PORTKEY` (the folder that it is installed in) and `OAUTH3_TEST_NODE` for what they name.
//! With `OAUTH3_BENCH_TRIAL` set, little of everything: whether it works, after a change to it. Those numbers say nothing.
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
mod calls;
#[path = "../support/disk.rs"]
mod disk;
mod duties;
mod half;
mod load;
mod memory;
mod others;
mod sides;
#[path = "../support/table.rs"]
mod table;
mod tls;
mod upstream;

use load::Shape;
use sides::Scheme;
use std::path::Path;
use std::time::Duration;

/// How much of everything is done.
#[derive(Clone, Copy)]
pub struct Amount {
    /// Calls one after the other over one kept connection, of each side in turn, after those that do not count.
    pub rounds: usize,
    pub warm_up: usize,
    /// How long each side is driven over many connections.
    pub driven: Duration,
    /// Calls of the measurement of memory.
    pub many: usize,
}

const HTTP: Amount = Amount { rounds: 2_000, warm_up: 200, driven: Duration::from_secs(5), many: 100_000 };
/// The same over TLS to the upstream, in less time.
const HTTPS: Amount = Amount { rounds: 500, warm_up: 50, driven: Duration::from_secs(2), many: 0 };
const TRIAL: Amount = Amount { rounds: 20, warm_up: 2, driven: Duration::from_millis(500), many: 640 };

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream", dir] => runtime.block_on(upstream::serve(sides::VALUE, Path::new(dir))),
        ["bare", http, https, ca] => {
            let (http, https) = (http.parse().unwrap(), https.parse().unwrap());
            runtime.block_on(bare::serve(http, https, Path::new(ca), sides::VALUE));
        }
        ["duties", http, dir] => {
            runtime.block_on(duties::serve(http.parse().unwrap(), Path::new(dir), sides::VALUE));
        }
        _ => runtime.block_on(measure()),
    }
}

async fn measure() {
    let trial = std::env::var_os("OAUTH3_BENCH_TRIAL").is_some();
    let [http, https] = if trial { [TRIAL; 2] } else { [HTTP, HTTPS] };
    let dir = tempfile::tempdir().unwrap();
    let (_upstream, upstream) = sides::upstream(dir.path());
    let sides = sides::start(dir.path(), &upstream);
    let sync_us = disk::sync_us(dir.path());
    for shape in [Shape::Json, Shape::Sse] {
        calls::one_connection(&sides, Scheme::Http, shape, http, sync_us).await;
        let saturated = calls::rates(&sides, Scheme::Http, shape, http).await;
        half::half_load(&sides, shape, saturated, http).await;
    }
    for shape in [Shape::Json, Shape::Sse] {
        calls::one_connection(&sides, Scheme::Https, shape, https, sync_us).await;
        calls::rates(&sides, Scheme::Https, shape, https).await;
    }
    memory::many_calls(&sides, http).await;
    memory::idle_streams(&sides).await;
}
