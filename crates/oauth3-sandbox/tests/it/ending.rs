//! Ends: by the clock, by dropping, by the death of the gateway. Nothing stays behind.

use crate::support::*;
use oauth3_core::{ExitReason, LaneSpec, Runner, Runtime};
use oauth3_sandbox::{NativeConfig, NativeRunner};
use std::fs;
use std::os::fd::OwnedFd;

pub(crate) fn quick(runtime: Runtime, timeout_ms: u64) -> LaneSpec {
    let mut spec = spec(runtime);
    spec.limits.timeout_ms = timeout_ms;
    spec
}

/// A helper of this test's own, so that its processes can be told from those of tests beside it.
pub(crate) struct Own {
    directory: tempfile::TempDir,
}

impl Own {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(helper(), directory.path().join("own-helper")).unwrap();
        Self { directory }
    }

    pub(crate) fn program(&self) -> std::path::PathBuf {
        self.directory.path().join("own-helper")
    }

    fn runner(&self) -> NativeRunner {
        NativeRunner::new(NativeConfig { helper: self.program(), ..config() }).unwrap()
    }

    /// Processes that run the helper and are not children of this one: guards, and as root also the processes 1
    /// inside. The helper itself, which waits for more work, is a child. The dead do not count.
    fn processes(&self) -> Vec<i32> {
        let own = std::process::id().cast_signed();
        self.all().into_iter().filter(|pid| parent(*pid) != Some(own)).collect()
    }

    pub(crate) fn all(&self) -> Vec<i32> {
        let program = self.program();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)).collect()
    }

    /// Waits until guards and processes 1 are gone, which happens a moment after a run returned.
    pub(crate) async fn gone(&self) {
        while !self.processes().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// The guard: the child of the helper, which is a child of this process.
    fn guard(&self) -> rustix::process::Pid {
        let helper = self.helper().as_raw_nonzero().get();
        let guards: Vec<i32> = self.all().into_iter().filter(|pid| parent(*pid) == Some(helper)).collect();
        assert_eq!(guards.len(), 1);
        rustix::process::Pid::from_raw(guards[0]).unwrap()
    }

    /// The helper that waits for work.
    pub(crate) fn helper(&self) -> rustix::process::Pid {
        let own = std::process::id().cast_signed();
        let found = self.all().into_iter().find(|pid| parent(*pid) == Some(own)).unwrap();
        rustix::process::Pid::from_raw(found).unwrap()
    }
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// Asserts that no empty control group of this process stays. (Groups of tests beside this one are empty for a
/// moment before and after their use, so one look is not enough.)
pub(crate) async fn no_group_stays() {
    let mut left = empty_groups();
    for _ in 0..200 {
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        let now = empty_groups();
        left.retain(|group| now.contains(group));
    }
    panic!("left behind: {left:?}");
}

fn empty_groups() -> Vec<std::path::PathBuf> {
    let prefix = format!("oauth3-{}-", std::process::id());
    let mut found = Vec::new();
    let mut look = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
                if ours && fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|text| text.is_empty()) {
                    found.push(path.clone());
                }
                look.push(path);
            }
        }
    }
    found
}

/// Waits for the end of the pipe: nobody inside holds it any more.
fn wait_for_end(fd: OwnedFd) -> String {
    drain(fd).join().unwrap()
}

const SLEEPERS: &str = "import os, time, signal\n\
    for i in range(5):\n    \
        if os.fork() == 0:\n        \
            os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)\n\
    print('up', flush=True); time.sleep(600)";

#[tokio::test]
async fn a_loop_is_ended_by_the_clock_with_everything_it_started() {
    let own = Own::new();
    let runner = own.runner();
    let lane = runner.prepare(quick(Runtime::Python, 700)).await.unwrap();
    let outcome = finish(lane, job(SLEEPERS)).await;
    assert_eq!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");
    assert_eq!(outcome.stdout, "up\n", "what was printed before the end is kept");
    assert!(outcome.exit.duration.as_millis() >= 700);
    own.gone().await;
    no_group_stays().await;
}

#[tokio::test]
async fn burning_the_processor_ends_too_on_every_runtime() {
    for (runtime, code) in
        [(Runtime::Embedded, "for (;;) {}"), (Runtime::Node, "for (;;) {}"), (Runtime::Python, "while True: pass")]
    {
        let outcome = run_with(quick(runtime, 600), job(code)).await;
        assert_eq!(outcome.exit.reason, ExitReason::TimedOut, "{runtime}: {outcome:?}");
    }
}

#[tokio::test]
async fn background_processes_end_with_the_main_one() {
    let code = "import os, time\n\
        if os.fork() == 0:\n    os.setsid(); time.sleep(600)\n\
        print('done')";
    let own = Own::new();
    let runner = own.runner();
    let lane = runner.prepare(spec(Runtime::Python)).await.unwrap();
    let outcome = finish(lane, job(code)).await;
    assert_eq!((outcome.exit.code, outcome.exit.reason), (0, ExitReason::Exited));
    assert!(outcome.exit.duration.as_secs() < 15, "did not wait for the child");
    own.gone().await;
}

#[tokio::test]
async fn when_a_run_returns_no_process_of_the_code_is_left() {
    let code = "import os, signal, time\n\
        for i in range(20):\n    \
            if os.fork() == 0:\n        \
                os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        \
                if os.fork() != 0: os._exit(0)\n        \
                time.sleep(600)\n\
        print('done')";
    let mut lane = runner().prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let exit = lane.run(job(code)).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Exited), "{exit:?}");
    // Each of them had the pipe: it is at its end already, so that nobody is waited for.
    rustix::io::ioctl_fionbio(&fds.stdout, true).unwrap();
    let mut all = String::new();
    std::io::Read::read_to_string(&mut fs::File::from(fds.stdout), &mut all).unwrap();
    assert_eq!(all, "done\n");
}

#[tokio::test]
async fn a_dropped_lane_ends_its_sandbox() {
    let mut lane = runner().prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    drop(lane);
    assert_eq!(wait_for_end(fds.stdout), "");
}

#[tokio::test]
async fn a_dropped_run_ends_everything_inside() {
    let mut lane = runner().prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let (mut started, mut saw) = reader(fds.stdout);
    tokio::select! {
        _ = lane.run(job(SLEEPERS)) => panic!("it sleeps"),
        () = saw.recv_up() => {}
    }
    // The run's future is gone: the end of the pipe comes when the last process inside is.
    assert_eq!(started.finish(), "up\n");
}

/// Reads a pipe on a thread; tells when something came, and what all of it was.
pub(crate) fn reader(fd: OwnedFd) -> (Reader, Seen) {
    use std::io::Read;
    let (tx, rx) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let mut file = fs::File::from(fd);
        let mut text = [0; 3];
        file.read_exact(&mut text).unwrap();
        tx.send(()).unwrap();
        let mut rest = String::from_utf8_lossy(&text).into_owned();
        file.read_to_string(&mut rest).unwrap();
        rest
    });
    (Reader(Some(thread)), Seen(Some(rx)))
}

pub(crate) struct Reader(Option<std::thread::JoinHandle<String>>);
pub(crate) struct Seen(Option<tokio::sync::oneshot::Receiver<()>>);

impl Reader {
    pub(crate) fn finish(&mut self) -> String {
        self.0.take().unwrap().join().unwrap()
    }
}

impl Seen {
    pub(crate) async fn recv_up(&mut self) {
        self.0.take().unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn killing_the_guard_ends_everything_inside() {
    let own = Own::new();
    let runner = own.runner();
    let mut lane = runner.prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let (mut all, mut seen) = reader(fds.stdout);
    let guard = own.guard();
    let run = lane.run(job(SLEEPERS));
    let kill = async {
        seen.recv_up().await;
        rustix::process::kill_process(guard, rustix::process::Signal::KILL).unwrap();
    };
    let (exit, ()) = tokio::join!(run, kill);
    assert_eq!(exit.reason, ExitReason::NotStarted, "{exit:?}");
    assert!(own.processes().is_empty(), "process 1 is gone when the run returns");
    assert!(exit.error.is_some());
    assert_eq!(all.finish(), "up\n");
    no_group_stays().await;
}

#[tokio::test]
async fn a_killed_helper_is_started_again_and_lanes_live_on() {
    let own = Own::new();
    let runner = own.runner();
    let waiting = runner.prepare(spec(Runtime::Python)).await.unwrap();
    let helper = own.helper();
    rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitid(
        rustix::process::WaitId::Pid(helper),
        rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
    )
    .unwrap();
    assert_eq!(finish(waiting, job("print(1)")).await.stdout, "1\n");
    let lane = runner.prepare(spec(Runtime::Python)).await.unwrap();
    assert_eq!(finish(lane, job("print(2)")).await.stdout, "2\n");
    assert_ne!(own.helper(), helper);
}

#[tokio::test]
async fn many_run_at_once() {
    let own = Own::new();
    let runner = own.runner();
    let runs: Vec<_> = (0..40)
        .map(|number| {
            let runner = runner.clone();
            tokio::spawn(async move {
                let lane = runner.prepare(spec(Runtime::Embedded)).await.unwrap();
                finish(lane, job(&format!("console.log({number})"))).await
            })
        })
        .collect();
    for (number, run) in runs.into_iter().enumerate() {
        let outcome = run.await.unwrap();
        assert_eq!(outcome.stdout, format!("{number}\n"), "{outcome:?}");
    }
    own.gone().await;
    no_group_stays().await;
}

/// Set for the process of the test below that plays the gateway: the helper that it is to start.
const GATEWAY_ROLE: &str = "OAUTH3_TEST_PLAYS_GATEWAY";

/// Prepares and runs until it is killed.
async fn play_gateway(helper: std::ffi::OsString) {
    let config = NativeConfig { helper: helper.into(), ..config() };
    let runner = NativeRunner::new(config).unwrap();
    let _idle = runner.prepare(spec(Runtime::Python)).await.unwrap();
    let mut lane = runner.prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let (_all, mut seen) = reader(fds.stdout);
    let up = async {
        seen.recv_up().await;
        println!("gateway is up");
        std::future::pending::<()>().await;
    };
    tokio::join!(lane.run(job(SLEEPERS)), up);
}

#[tokio::test]
async fn killing_the_gateway_ends_everything_inside() {
    use std::io::{BufRead, BufReader};
    if let Some(helper) = std::env::var_os(GATEWAY_ROLE) {
        return play_gateway(helper).await;
    }
    let own = Own::new();
    let mut gateway = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "ending::killing_the_gateway_ends_everything_inside"])
        .env(GATEWAY_ROLE, own.program())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gateway.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("gateway is up")));
    assert!(own.processes().len() >= 2, "one runs, one waits");
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    // The guards see it and leave last; there is no event of theirs that reaches us.
    for _ in 0..400 {
        if own.processes().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("still there: {:?}", own.processes());
}
