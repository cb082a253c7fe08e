//! Measures the sandbox itself: from nothing to the end of a program that does nothing.
//!
//! `spawn RUNS PROGRAM [ARGUMENT]…` prints milliseconds: median, best, and the 90th of 100. The program is one of
//! the system directories, best a static one. This executable is its own helper.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a measuring tool")]

use oauth3_core::{ExitReason, Job, LaneSpec, Limits, Runtime};
use oauth3_sandbox::{NativeConfig, NativeRunner, become_helper};
use std::time::Instant;

/// Limits that a program which does nothing never meets.
const LIMITS: Limits = Limits { timeout_ms: 10_000, output_bytes: 4096, processes: 32, ..Limits::STANDARD };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    arguments.first().map(std::ffi::OsStr::new).into_iter().for_each(become_helper);
    let runs: usize = arguments.first().and_then(|runs| runs.parse().ok()).unwrap_or(100);
    let program: Vec<String> =
        arguments.get(1..).filter(|rest| !rest.is_empty()).map_or(vec!["/bin/true".into()], <[_]>::to_vec);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = NativeConfig { helper: std::env::current_exe().unwrap(), ..NativeConfig::default() };
    let runner = NativeRunner::new(config).unwrap();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            runtime.block_on(once(&runner, &program));
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("median {:.2} ms, best {:.2}, p90 {:.2}", times[runs / 2], times[0], times[runs * 9 / 10]);
}

async fn once(runner: &NativeRunner, program: &[String]) {
    let spec = LaneSpec { hosts: Vec::new(), limits: LIMITS, runtime: Runtime::Embedded };
    let mut lane = runner.prepare_program(spec, program.to_vec()).await.unwrap();
    let _fds = lane.take_fds().unwrap();
    let exit = lane
        .run(Job { code: Vec::new(), layer: Vec::new(), env: Vec::new(), revealed: Vec::new(), ca_pem: String::new() })
        .await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Exited), "{exit:?}");
}
