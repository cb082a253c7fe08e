//! The sandbox that waits for the next run, and the engine that waits in it.

use crate::ending::{Own, no_group_stays, parent, quick, reader};
use crate::support::*;
use oauth3_core::{ExitReason, Job, LaneSpec, Limits, Runner, Runtime};
use oauth3_sandbox::{NativeConfig, NativeRunner};
use rustix::process::Pid;
use std::fs;
use std::time::Duration;

/// The guards that there are: children of the helper.
fn guards(own: &Own) -> Vec<i32> {
    let helper = own.helper().as_raw_nonzero().get();
    own.all().into_iter().filter(|pid| parent(*pid) == Some(helper)).collect()
}

/// Runs a job, and waits until the next sandbox is there; gives its guard.
async fn run_on(own: &Own, runner: &NativeRunner, spec: LaneSpec, job: Job) -> (Outcome, i32) {
    let lane = runner.prepare(spec).await.unwrap();
    let used = guards(own);
    let outcome = finish(lane, job).await;
    (outcome, spare_beside(own, &used).await)
}

/// Waits until one sandbox is there besides those of these guards, and they are gone.
async fn spare_beside(own: &Own, used: &[i32]) -> i32 {
    for _ in 0..400 {
        // A guard is a spare once it has made its process 1.
        match guards(own)[..] {
            [guard] if !used.contains(&guard) && !children(guard).is_empty() => return guard,
            _ => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
    panic!("no spare was made: {:?}", own.all());
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn spare_runner(own: &Own) -> NativeRunner {
    NativeRunner::new(NativeConfig { helper: own.program(), spare: true, ..config() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_is_used_once_and_takes_on_the_limits_and_hosts_of_its_run() {
    let own = Own::new();
    let runner = spare_runner(&own);
    let code = "import os, resource, socket\n\
                print(sorted(os.listdir('/tmp')), resource.getrlimit(resource.RLIMIT_CPU)[0])\n\
                open('/tmp/left', 'w').close()\n\
                try: print(socket.gethostbyname('api.example.com'))\n\
                except OSError: print('unknown')";
    let (first, spare) = run_on(&own, &runner, quick(Runtime::Python, 20_000), job(code)).await;
    assert_eq!((first.exit.code, first.stdout.as_str()), (0, "[] 60\nunknown\n"), "{first:?}");

    let mut spec = quick(Runtime::Python, 7_000);
    spec.limits.cpu_ms = 7_000;
    spec.hosts = hosts(&["api.example.com"]);
    let lane = runner.prepare(spec).await.unwrap();
    assert_eq!(guards(&own), [spare], "it is this one that runs");
    let second = finish(lane, job(code)).await;
    assert_eq!((second.exit.code, second.stdout.as_str()), (0, "[] 7\n127.18.0.10\n"), "{second:?}");
    spare_beside(&own, &[spare]).await;

    // A host on a port of its own needs listeners that no spare has.
    let mut spec = quick(Runtime::Python, 7_000);
    spec.hosts = hosts(&["api.example.com:8443"]);
    let mut lane = runner.prepare(spec).await.unwrap();
    let roles = lane.take_fds().unwrap().listeners.into_iter().map(|listener| listener.role).collect::<Vec<_>>();
    assert!(roles.contains(&oauth3_core::ListenerRole::Tls { port: 8443 }), "{roles:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_that_died_is_not_used_and_none_stays_when_the_runner_goes() {
    let own = Own::new();
    let runner = spare_runner(&own);
    let run = async || run_on(&own, &runner, spec(Runtime::Embedded), job("console.log(1)")).await;
    let (outcome, spare) = run().await;
    assert_eq!(outcome.stdout, "1\n");
    kill(spare).await;
    assert_eq!(run().await.0.stdout, "1\n");
    drop(runner);
    while !own.all().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    no_group_stays().await;
}

/// Kills a process and waits until its sockets are closed: it is dead, or gone altogether.
async fn kill(pid: i32) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    // The first thread may be dead while another still has them open.
    let alive = || status(pid, "State").starts_with(|state| state != 'Z') || status(pid, "Threads") != "1";
    while fs::exists(format!("/proc/{pid}")).unwrap() && alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What `/proc` says of a process under this name.
fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
        .unwrap_or_default()
}

/// Runs once in the engine, and waits until a spare is there in which the next engine waits, locked. Gives process 1
/// and the engine's process.
async fn engine_of(own: &Own, runner: &NativeRunner) -> (i32, i32) {
    let (first, guard) = run_on(own, runner, spec(Runtime::Embedded), job("console.log(1)")).await;
    assert_eq!(first.stdout, "1\n", "{first:?}");
    let process_1 = children(guard)[0];
    for _ in 0..400 {
        if let Some(engine) = children(process_1).first().filter(|engine| status(**engine, "Seccomp") == "2") {
            return (process_1, *engine);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no engine waits: {:?}", own.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_waits_has_no_rights_and_knows_nothing() {
    let own = Own::new();
    let runner = spare_runner(&own);
    let (process_1, engine) = engine_of(&own, &runner).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status(engine, set), 16), Ok(0), "{set}");
    }
    assert_eq!((status(engine, "NoNewPrivs").as_str(), status(engine, "Seccomp").as_str()), ("1", "2"));
    let namespace = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}"));
    for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        // Without root nobody may look, which is as well.
        let (Ok(own), Ok(its)) = (fs::read_link(format!("/proc/self/ns/{name}")), namespace(engine, name)) else {
            continue;
        };
        assert_ne!(own, its, "{name}");
        assert_eq!(namespace(process_1, name).unwrap(), its, "{name}");
    }
    let groups = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(engine), groups(process_1), "born in the group of process 1");
    assert_eq!(fs::read(format!("/proc/{engine}/environ")).unwrap_or_default(), b"");
    // The standard ones, the two sockets to its makers, the pipe for values, and what its event loop is made of.
    let open = fs::read_dir(format!("/proc/{engine}/fd")).map(|all| all.flatten().map(|fd| fs::read_link(fd.path())));
    for link in open.into_iter().flatten().flatten() {
        let link = link.to_string_lossy().into_owned();
        let known = ["pipe:", "socket:", "anon_inode:", "/dev/null"].iter().any(|kind| link.starts_with(kind));
        assert!(known, "{link}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_waits_runs_one_job_under_the_limits_of_that() {
    let own = Own::new();
    let runner = spare_runner(&own);
    let (process_1, engine) = engine_of(&own, &runner).await;
    let mut spec = spec(Runtime::Embedded);
    spec.limits = Limits { open_files: 24, file_mb: 3, cpu_ms: 7_000, processes: 9, ..spec.limits };
    let mut lane = runner.prepare(spec).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let (_all, mut seen) = reader(fds.stdout);
    let looked = async {
        seen.recv_up().await;
        (children(process_1), fs::read_to_string(format!("/proc/{engine}/limits")).unwrap())
    };
    let (inside, limits) = tokio::select! {
        _ = lane.run(job("console.log('up'); await new Promise((done) => setTimeout(done, 60_000))")) => panic!("it waits"),
        looked = looked => looked,
    };
    assert_eq!(inside, [engine], "it is this one that runs, and nothing else does");
    let limit = |name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(limit("Max open files"), ["24", "24"]);
    assert_eq!(limit("Max file size"), ["3145728", "3145728"]);
    assert_eq!(limit("Max cpu time"), ["7", "8"]);
    assert_eq!(limit("Max processes"), ["10", "10"]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    // The run was dropped, and the engine with it.
    while own.all().contains(&engine) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_processor_time_bind_an_engine_that_waited() {
    let own = Own::new();
    let runner = spare_runner(&own);
    engine_of(&own, &runner).await;
    let mut small = spec(Runtime::Embedded);
    small.limits.memory_mb = 32;
    let hoard = "const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1));";
    let outcome = finish(runner.prepare(small).await.unwrap(), job(hoard)).await;
    assert_ne!(outcome.exit.code, 0, "{outcome:?}");
    assert!(outcome.exit.memory_bytes.is_none_or(|most| most <= 32 << 20), "{outcome:?}");

    engine_of(&own, &runner).await;
    let mut short = spec(Runtime::Embedded);
    short.limits.cpu_ms = 1_000;
    let outcome = finish(runner.prepare(short).await.unwrap(), job("for (;;) {}")).await;
    assert_eq!(outcome.exit.reason, ExitReason::OutOfCpu, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_another_runtime_puts_the_engine_aside() {
    let own = Own::new();
    let runner = spare_runner(&own);
    let (process_1, engine) = engine_of(&own, &runner).await;
    let mut lane = runner.prepare(spec(Runtime::Python)).await.unwrap();
    let fds = lane.take_fds().unwrap();
    let (_all, mut seen) = reader(fds.stdout);
    let inside = tokio::select! {
        _ = lane.run(job("import time; print('up', flush=True); time.sleep(600)")) => panic!("it sleeps"),
        inside = async { seen.recv_up().await; children(process_1) } => inside,
    };
    assert_eq!(inside.len(), 1);
    assert_ne!(inside, [engine]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_died_while_it_waited_is_made_anew() {
    let own = Own::new();
    let runner = spare_runner(&own);
    let (_, engine) = engine_of(&own, &runner).await;
    kill(engine).await;
    let outcome = finish(runner.prepare(spec(Runtime::Embedded)).await.unwrap(), job("console.log(2)")).await;
    assert_eq!((outcome.exit.code, outcome.stdout.as_str()), (0, "2\n"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_the_next_one_is_made_waits_for_it() {
    let own = Own::new();
    let runner = spare_runner(&own);
    for number in 0..10 {
        let lane = runner.prepare(spec(Runtime::Embedded)).await.unwrap();
        let outcome = finish(lane, job(&format!("console.log({number})"))).await;
        assert_eq!(outcome.stdout, format!("{number}\n"), "{outcome:?}");
    }
}
