//! Ends: by the clock, by dropping, by the death of the gateway. Nothing stays behind.

use crate::support::*;
use oauth3_core::{ExitReason, LaneSpec, Runner, Runtime};
use std::fs;
use std::os::fd::OwnedFd;

fn quick(runtime: Runtime, timeout_ms: u64) -> LaneSpec {
    let mut spec = spec(runtime);
    spec.limits.timeout_ms = timeout_ms;
    spec
}

/// Children of this process (helpers) that are still there.
fn helpers() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let after = stat.rsplit(") ").next().unwrap_or_default();
        if after.split(' ').nth(1) == Some(&own) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Control groups of this process's sandboxes, wherever they are.
fn groups() -> Vec<String> {
    let prefix = format!("oauth3-{}-", std::process::id());
    let mut found = Vec::new();
    let mut look = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                look.push(entry.path());
                let name = entry.file_name().to_string_lossy().into_owned();
                found.extend(name.starts_with(&prefix).then_some(name));
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
    let outcome = run_with(quick(Runtime::Python, 700), job(SLEEPERS)).await;
    assert_eq!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");
    assert_eq!(outcome.stdout, "up\n", "what was printed before the end is kept");
    assert!(outcome.exit.duration.as_millis() >= 700);
    assert_eq!(helpers(), Vec::<String>::new());
    assert_eq!(groups(), Vec::<String>::new());
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
    let outcome = run(Runtime::Python, code).await;
    assert_eq!((outcome.exit.code, outcome.exit.reason), (0, ExitReason::Exited));
    assert!(outcome.exit.duration.as_secs() < 15, "did not wait for the child");
    assert_eq!(helpers(), Vec::<String>::new());
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
fn reader(fd: OwnedFd) -> (Reader, Seen) {
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

struct Reader(Option<std::thread::JoinHandle<String>>);
struct Seen(Option<tokio::sync::oneshot::Receiver<()>>);

impl Reader {
    fn finish(&mut self) -> String {
        self.0.take().unwrap().join().unwrap()
    }
}

impl Seen {
    async fn recv_up(&mut self) {
        self.0.take().unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn killing_the_guard_ends_everything_inside() {
    let mut lane = runner().prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let (mut all, mut seen) = reader(fds.stdout);
    let guard = helpers();
    assert_eq!(guard.len(), 1);
    let run = lane.run(job(SLEEPERS));
    let kill = async {
        seen.recv_up().await;
        let pid = rustix::process::Pid::from_raw(guard[0].parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    let (exit, ()) = tokio::join!(run, kill);
    assert_eq!(exit.reason, ExitReason::NotStarted, "{exit:?}");
    assert!(exit.error.is_some());
    assert_eq!(all.finish(), "up\n");
    assert_eq!(groups(), Vec::<String>::new());
}

#[tokio::test]
async fn many_run_at_once() {
    let runner = runner();
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
    assert_eq!(helpers(), Vec::<String>::new());
    assert_eq!(groups(), Vec::<String>::new());
}
