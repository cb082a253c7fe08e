//! What the doctor asks: does a locked-down process work here, and what holds it.

use super::{DirectConfig, DirectRunner};
use crate::{ProbeLine, SandboxError};
use oauth3_core::{ExitReason, Job, Lane, LaneSpec, Limits, Runtime};

/// Limits of a trial: 15 seconds, 512 MiB, 64 threads.
const TRIAL: Limits = Limits { timeout_ms: 15_000, memory_mb: 512, output_bytes: 4096, ..Limits::STANDARD };

/// A program that does nothing.
const NOTHING: &[u8] = b"// nothing\n";

/// Runs a program that does nothing in each runtime, locked down as a job would be.
pub async fn probe_direct(config: DirectConfig) -> Vec<ProbeLine> {
    let runner = match DirectRunner::new(config) {
        Ok(runner) => runner,
        Err(error) => return vec![failed("sandbox", &error)],
    };
    let line = |name: &str, ok: bool, detail: String, mend: &str| {
        let mend = if ok { String::new() } else { mend.to_owned() };
        ProbeLine { name: name.to_owned(), ok, detail, mend }
    };
    let mut lines = Vec::new();
    match trial(&runner, Runtime::Embedded).await {
        Ok((abi, cgroup)) => {
            let who = if rustix::process::geteuid().is_root() { "a user of its own per run" } else { "this user" };
            let detail = format!("one process, Landlock ABI {abi}, system call filter, {who}; no namespaces");
            lines.push(line("sandbox", true, detail, ""));
            let mend = "Let oauth3 write its control group, so that the kernel bounds memory";
            lines.push(line("cgroup", cgroup != "none", cgroup, mend));
        }
        Err(error) => lines.push(failed("sandbox", &error)),
    }
    lines.push(match &runner.shared.deno {
        None => line("runtime deno", false, "not found".to_owned(), "Install Deno or set [runtimes] deno"),
        Some(deno) => match trial(&runner, Runtime::Deno).await {
            Ok(_) => line("runtime deno", true, format!("starts locked down, {}", deno.host_path.display()), ""),
            Err(error) => failed("runtime deno", &error),
        },
    });
    lines
}

async fn trial(runner: &DirectRunner, runtime: Runtime) -> Result<(i32, String), SandboxError> {
    let (lane, features, cgroup) = runner.make(LaneSpec { hosts: Vec::new(), limits: TRIAL, runtime }).await?;
    let exit = Box::new(lane)
        .run(Job {
            code: NOTHING.into(),
            layer: Vec::new(),
            env: Vec::new(),
            revealed: Vec::new(),
            ca_pem: String::new(),
        })
        .await;
    match exit.error {
        Some(error) => Err(SandboxError::Config(error)),
        None if exit.reason == ExitReason::Exited && exit.code == 0 => Ok((features.landlock_abi, cgroup)),
        None => Err(SandboxError::Config(format!("{runtime} ended with {} in a trial", exit.code))),
    }
}

fn failed(name: &str, error: &SandboxError) -> ProbeLine {
    let mend = match error {
        SandboxError::Build { mend, .. } => mend.clone(),
        _ => String::new(),
    };
    ProbeLine { name: name.to_owned(), ok: false, detail: error.to_string(), mend }
}
