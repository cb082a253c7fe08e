//! Limits that a request may set, against code that tries to get around each.

use crate::support::*;
use oauth3_core::{Exit, ExitReason, LaneSpec, Limits, Runtime};

fn within(limits: Limits) -> LaneSpec {
    LaneSpec { limits: Limits { timeout_ms: 60_000, ..limits }, ..spec(Runtime::Python) }
}

/// Whether a control group counts the CPU time of runs here.
async fn counted() -> bool {
    oauth3_sandbox::probe(config()).await.into_iter().any(|line| line.name == "cgroup" && line.detail.contains("cpu"))
}

#[track_caller]
fn out_of_cpu(exit: &Exit, cpu_ms: u64) {
    assert_eq!(exit.reason, ExitReason::OutOfCpu, "{exit:?}");
    // It ran to its limit, and the guard did not sleep for long after it.
    assert!(exit.cpu_ms.is_some_and(|used| (cpu_ms * 9 / 10..cpu_ms + 2_000).contains(&used)), "{exit:?}");
}

#[tokio::test]
async fn cpu_time_is_the_trees_and_not_each_processs() {
    let limits = within(Limits { cpu_ms: 1_000, ..Limits::STANDARD });
    // Each child burns less than the limit, and is waited for.
    let code = "import os, time\n\
        while True:\n    \
            pid = os.fork()\n    \
            if pid == 0:\n        \
                while time.process_time() < 0.2: pass\n        \
                os._exit(0)\n    \
            os.waitpid(pid, 0)";
    out_of_cpu(&run_with(limits.clone(), job(code)).await.exit, 1_000);
    // All at once.
    let code = "import os\nfor i in range(8):\n    if os.fork() == 0: break\nwhile True: pass";
    out_of_cpu(&run_with(limits, job(code)).await.exit, 1_000);
}

/// The kernel takes such children away without adding their time to anybody's.
#[tokio::test]
async fn children_that_nobody_waits_for_count_too() {
    if !counted().await {
        // SECURITY.md says so: without a control group, what ends between two looks is not seen.
        return;
    }
    let code = "import os, signal, time\n\
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
        while True:\n    \
            pids = [os.fork() for i in range(1)]\n    \
            if 0 in pids:\n        \
                while time.process_time() < 0.01: pass\n        \
                os._exit(0)\n    \
            try: os.waitpid(pids[0], 0)\n    \
            except ChildProcessError: pass";
    let outcome = run_with(within(Limits { cpu_ms: 1_000, ..Limits::STANDARD }), job(code)).await;
    out_of_cpu(&outcome.exit, 1_000);
}

#[tokio::test]
async fn waiting_costs_no_cpu_time_and_what_was_used_is_reported() {
    let code = "import time\nx = bytearray(32 << 20)\ntime.sleep(1.5)\nprint('done')";
    let outcome = run_with(within(Limits { cpu_ms: 1_000, ..Limits::STANDARD }), job(code)).await;
    assert_eq!((outcome.stdout.as_str(), outcome.exit.reason), ("done\n", ExitReason::Exited), "{outcome:?}");
    assert!(outcome.exit.cpu_ms.is_some_and(|used| used < 1_000), "{outcome:?}");
    assert!(outcome.exit.memory_bytes.is_some_and(|most| most > 32 << 20), "{outcome:?}");
}

#[tokio::test]
async fn no_file_grows_beyond_its_limit_however_it_is_made_to() {
    let limits = within(Limits { file_mb: 1, ..Limits::STANDARD });
    let code = "import os\n\
        def attempt(f):\n    \
            try: print('ok', f())\n    \
            except OSError as e: print(e.strerror)\n\
        fd = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\n\
        attempt(lambda: os.pwrite(fd, b'x', (1 << 20) - 1))\n\
        attempt(lambda: os.pwrite(fd, b'x', 1 << 20))\n\
        attempt(lambda: os.ftruncate(fd, (1 << 20) + 1))\n\
        attempt(lambda: os.posix_fallocate(fd, 0, 2 << 20))\n\
        print(os.fstat(fd).st_size)";
    let large = "File too large\n";
    let outcome = run_with(limits, job(code)).await;
    assert_eq!(outcome.stdout, format!("ok 1\n{large}{large}{large}{}\n", 1 << 20), "{outcome:?}");
}

#[tokio::test]
async fn no_process_opens_more_files_than_it_may_nor_raises_that() {
    let limits = within(Limits { open_files: 24, ..Limits::STANDARD });
    let code = "import os, resource, socket\n\
        try: resource.setrlimit(resource.RLIMIT_NOFILE, (25, 25)); print('raised')\n\
        except ValueError: print('kept')\n\
        kept = []\n\
        try:\n    \
            while len(kept) < 1000: kept.append(os.dup(0) if len(kept) % 2 else socket.socket().detach())\n\
        except OSError as e: print(e.strerror, max(kept))";
    let outcome = run_with(limits, job(code)).await;
    assert_eq!(outcome.stdout, "kept\nToo many open files 23\n", "{outcome:?}");
}
