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
    let mut todo = vec![root.as_raw_nonzero().get()];
    let (mut bytes, mut seen) = (0_u64, 0);
    while let Some(pid) = todo.pop() {
        seen += 1;
        if seen > MAX_PROCESSES {
            return u64::MAX;
        }
        bytes = bytes.saturating_add(fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |text| held(&text)));
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            todo.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    bytes
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
