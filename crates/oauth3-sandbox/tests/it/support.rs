//! Runs code in a real sandbox and collects what came out.

use oauth3_core::{Exit, Host, Job, Lane, LaneFds, LaneSpec, Limits, Runner, Runtime};
use oauth3_sandbox::{NativeConfig, NativeRunner};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::thread::JoinHandle;

pub(crate) const LIMITS: Limits = Limits { timeout_ms: 20_000, ..Limits::STANDARD };

pub(crate) fn helper() -> PathBuf {
    env!("CARGO_BIN_EXE_sandbox-helper").into()
}

/// Deno may be named by a variable; it is not everywhere.
pub(crate) fn config() -> NativeConfig {
    let runtimes = std::env::var_os("OAUTH3_TEST_DENO").map(|path| (Runtime::Deno, path.into())).into_iter().collect();
    NativeConfig { helper: helper(), runtimes, search: std::env::var_os("PATH").unwrap_or_default(), spare: false }
}

pub(crate) fn runner() -> NativeRunner {
    NativeRunner::new(config()).unwrap()
}

pub(crate) fn spec(runtime: Runtime) -> LaneSpec {
    LaneSpec { hosts: Vec::new(), limits: LIMITS, runtime }
}

pub(crate) fn hosts(names: &[&str]) -> Vec<Host> {
    names.iter().map(|name| Host::parse(name).unwrap()).collect()
}

pub(crate) fn job(code: &str) -> Job {
    Job {
        code: code.into(),
        layer: Vec::new(),
        env: vec![("SKILL_ARGS".into(), "{}".into())],
        revealed: Vec::new(),
        ca_pem: "a certificate\n".into(),
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Reads a pipe to its end, elsewhere; keeps the first MiB, as the keeper does.
pub(crate) fn drain(fd: std::os::fd::OwnedFd) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut file = File::from(fd);
        let (mut kept, mut buffer) = (Vec::new(), [0; 65536]);
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            if kept.len() < 1 << 20 {
                kept.extend_from_slice(&buffer[..count]);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

pub(crate) async fn finish(lane: Box<dyn Lane>, job: Job) -> Outcome {
    // The pipe for values stays open during the run: who has none to take waits for nobody.
    finish_with(lane, job, std::convert::identity).await
}

/// With somebody who has values to give, as the keeper has.
pub(crate) async fn finish_with<T: Send + 'static>(
    mut lane: Box<dyn Lane>,
    job: Job,
    give: impl FnOnce(File) -> T + Send + 'static,
) -> Outcome {
    let LaneFds { stdout, stderr, listeners, reveal } = lane.take_fds().unwrap();
    let (stdout, stderr) = (drain(stdout), drain(stderr));
    let giver = std::thread::spawn(move || give(File::from(reveal)));
    let exit = lane.run(job).await;
    drop((listeners, giver.join().unwrap()));
    Outcome { exit, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// A job that takes values of these names.
pub(crate) fn job_with_values(code: &str, names: &[&str]) -> Job {
    Job { revealed: names.iter().map(|name| name.parse().unwrap()).collect(), ..job(code) }
}

/// Gives `block` and hangs up.
pub(crate) fn giving(block: &[u8]) -> impl FnOnce(File) + Send + 'static + use<> {
    let block = block.to_vec();
    // Whoever does not take all of it has gone.
    move |mut pipe| drop(std::io::Write::write_all(&mut pipe, &block))
}

pub(crate) async fn run_with(spec: LaneSpec, job: Job) -> Outcome {
    finish(runner().prepare(spec).await.unwrap(), job).await
}

pub(crate) async fn run(runtime: Runtime, code: &str) -> Outcome {
    run_with(spec(runtime), job(code)).await
}

/// Runs Python code and expects it to come to its end.
pub(crate) async fn python(code: &str) -> String {
    let outcome = run(Runtime::Python, code).await;
    assert_eq!(outcome.exit.code, 0, "{outcome:?}");
    outcome.stdout
}
