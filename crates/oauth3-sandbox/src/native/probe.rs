//! What the doctor asks: does a whole sandbox work here, and what is it made of.

use super::lane::{NativeLane, Task};
use super::runtimes::PROGRAMS;
use super::{NativeConfig, NativeRunner};
use crate::SandboxError;
use oauth3_core::{ExitReason, Job, Lane, LaneSpec, Limits, Runtime};
use std::fs::File;
use std::io::Read;

/// Limits of a trial: 15 seconds, 512 MiB, 64 processes.
const TRIAL: Limits = Limits { timeout_ms: 15_000, memory_mb: 512, output_bytes: 4096, ..Limits::STANDARD };
/// Bytes read of a runtime's version.
const MAX_VERSION_BYTES: u64 = 200;

/// One line of the doctor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeLine {
    /// What was looked at.
    pub name: String,
    /// Whether it works. A runtime or an extra wall that is not there is not ok, and still nothing to fear.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not ok; empty when there is nothing to do.
    pub mend: String,
}

/// Builds a real sandbox, locks it down, and says what it had; then asks each runtime for its version inside one.
pub async fn probe(config: NativeConfig) -> Vec<ProbeLine> {
    let runner = match NativeRunner::new(config) {
        Ok(runner) => runner,
        Err(error) => return vec![failed("sandbox", &error)],
    };
    let lane = match runner.make(spec(Runtime::Embedded), Task::Nothing).await {
        Ok(lane) => lane,
        Err(error) => return vec![failed("sandbox", &error)],
    };
    let mut lines = features(&lane);
    let exit = Box::new(lane).run(nothing()).await;
    let ok = exit.reason == ExitReason::Exited && exit.code == 0;
    let detail = if ok {
        format!(
            "namespaces, mounts, network, seccomp: built and locked ({})",
            if rustix::process::geteuid().is_root() { "a host user of its own per run" } else { "as this user" }
        )
    } else {
        exit.error.unwrap_or_else(|| "the trial run failed".to_owned())
    };
    lines.insert(0, ProbeLine { name: "sandbox".to_owned(), ok, detail, mend: String::new() });
    for runtime in PROGRAMS {
        lines.push(version(&runner, runtime).await);
    }
    lines
}

fn features(lane: &NativeLane) -> Vec<ProbeLine> {
    let line = |name: &str, ok: bool, detail: String, mend: &str| ProbeLine {
        name: name.to_owned(),
        ok,
        detail,
        mend: if ok { String::new() } else { mend.to_owned() },
    };
    let abi = lane.features.landlock_abi;
    let has_cgroup = lane.cgroup != "none";
    let limits = if has_cgroup { lane.cgroup.clone() } else { "limits per process only".to_owned() };
    vec![
        line("landlock", abi > 0, format!("ABI {abi}"), "A second wall is missing: boot a kernel with lsm=landlock"),
        line(
            "cgroup",
            has_cgroup,
            limits,
            "Give oauth3 a control group: systemd Delegate=memory pids with DelegateSubgroup=gateway, or run as root",
        ),
        line(
            "private /proc",
            lane.features.private_proc,
            "own processes only".to_owned(),
            "Use Linux 5.8 or newer to hide more of /proc",
        ),
    ]
}

async fn version(runner: &NativeRunner, runtime: Runtime) -> ProbeLine {
    let name = format!("runtime {runtime}");
    let Some(installed) = runner.shared.installed.get(&runtime) else {
        let mend = "Install it or set its path in the configuration".to_owned();
        return ProbeLine { name, ok: false, detail: "not found".to_owned(), mend };
    };
    let path = installed.host_path.display().to_string();
    let mut lane = match runner.make(spec(runtime), Task::Version).await {
        Ok(lane) => lane,
        Err(error) => return failed(&name, &error),
    };
    let fds = lane.take_fds();
    let exit = Box::new(lane).run(nothing()).await;
    let mut text = String::new();
    if let Ok(fds) = fds {
        let _ = File::from(fds.stdout).take(MAX_VERSION_BYTES).read_to_string(&mut text);
    }
    let ok = exit.reason == ExitReason::Exited && exit.code == 0;
    let detail = match exit.error {
        Some(error) => error,
        None => format!("{} at {path}", text.lines().next().unwrap_or("no version")),
    };
    let mend = if ok { String::new() } else { "Set the runtime's path in the configuration".to_owned() };
    ProbeLine { name, ok, detail, mend }
}

fn failed(name: &str, error: &SandboxError) -> ProbeLine {
    let mend = match error {
        SandboxError::Build { mend, .. } => mend.clone(),
        _ => String::new(),
    };
    ProbeLine { name: name.to_owned(), ok: false, detail: error.to_string(), mend }
}

const fn spec(runtime: Runtime) -> LaneSpec {
    LaneSpec { hosts: Vec::new(), limits: TRIAL, runtime }
}

const fn nothing() -> Job {
    Job { code: Vec::new(), layer: Vec::new(), env: Vec::new(), revealed: Vec::new(), ca_pem: String::new() }
}
