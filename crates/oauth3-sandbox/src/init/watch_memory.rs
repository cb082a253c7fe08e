//! The memory of the whole tree, where no control group bounds it: looked at from outside, now and then.
//!
//! Limits per process do not add up over a tree, and shared memory escapes them. So the guard sums up what the
//! processes hold. Memory that is shared after a fork counts for each: this is a bound, not an account.

use rustix::process::Pid;
use std::fs;
use std::time::Duration;

/// How often the guard looks.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);
/// Most processes that are looked at; there cannot be that many.
const MAX_PROCESSES: usize = 4096;

/// Bytes of private and shared memory (not of mapped files) that `root` and everything below it hold.
pub(super) fn tree_bytes(root: Pid) -> u64 {
    let Some(processes) = processes(root) else { return u64::MAX };
    let held = |pid: i32| fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |text| held(&text));
    processes.into_iter().fold(0, |bytes, pid| bytes.saturating_add(held(pid)))
}

/// `root` and everything below it; `None` when there are more than there can be.
pub(super) fn processes(root: Pid) -> Option<Vec<i32>> {
    let mut found = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        if next > MAX_PROCESSES {
            return None;
        }
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    Some(found)
}

/// The bytes of a `/proc/<pid>/status` (proc(5)): anonymous and shared memory that is resident, and swap.
fn held(status: &str) -> u64 {
    let kilobytes = status.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counts = matches!(name, "RssAnon" | "RssShmem" | "VmSwap");
        counts.then(|| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).flatten()
    });
    kilobytes.sum::<u64>().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_that_files_do_not_back_counts() {
        let status = "Name:\tnode\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  700 kB\nRssShmem:\t   20 kB\nVmSwap:\t 3 kB\n";
        assert_eq!(held(status), 123 << 10);
    }

    #[test]
    fn this_process_holds_something() {
        assert!(tree_bytes(rustix::process::getpid()) > 1 << 16);
    }
}
