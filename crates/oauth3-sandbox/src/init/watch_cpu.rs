//! The CPU time of the whole tree.
//!
//! The limit of one process (`RLIMIT_CPU`) starts anew with each fork. So the guard adds up: a control group
//! counts everything that ever ran in it; where there is none, `/proc` shows what runs now and what was waited for.

use super::cgroup::Group;
use super::watch_memory::processes;
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Shortest time between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// Longest time between two looks at a control group.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two looks at `/proc`, where what ends in between is not seen.
const LONGEST_PAUSE_IN_PROC: Duration = Duration::from_millis(50);
/// Ticks in a second (`USER_HZ` in `/proc/<pid>/stat`), the same on every architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Adds up the CPU time of a tree since it was made.
#[derive(Debug, Default)]
pub(super) struct CpuWatch {
    /// What the tree had used before the code began.
    before: Duration,
    /// The most that was seen so far.
    used: Duration,
    /// Whether a control group counts.
    exact: bool,
    /// Ticks of each process that was ever seen, by its number and its start.
    seen: BTreeMap<(i32, u64), u64>,
}

impl CpuWatch {
    /// Begins now: what was used before is not the code's.
    pub(super) fn start(root: Pid, group: Option<&Group>) -> Self {
        let mut watch = Self::default();
        watch.look(root, group);
        Self { before: watch.used, ..watch }
    }

    /// Looks again.
    pub(super) fn look(&mut self, root: Pid, group: Option<&Group>) -> Duration {
        let counted = group.and_then(Group::cpu);
        self.exact = counted.is_some();
        let now = counted.unwrap_or_else(|| self.in_proc(root));
        self.at_least(now)
    }

    /// Somebody else counted at least this much since the tree was made. Returns what the code used.
    pub(super) fn at_least(&mut self, counted: Duration) -> Duration {
        self.used = self.used.max(counted);
        self.used.saturating_sub(self.before)
    }

    /// How long the next look can wait when this much is left.
    pub(super) fn pause(&self, left: Duration) -> Duration {
        let longest = if self.exact { LONGEST_PAUSE } else { LONGEST_PAUSE_IN_PROC };
        let processors =
            std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        (left / processors).clamp(SHORTEST_PAUSE, longest)
    }

    /// Two sums that each miss something and count nothing twice: what each process used that was ever seen, and
    /// what those that are there now used with what they waited for. A parent that ignores `SIGCHLD` waits for none.
    fn in_proc(&mut self, root: Pid) -> Duration {
        let mut with_waited_for = 0_u64;
        for pid in processes(root).unwrap_or_default() {
            let Some(times) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| times(&text)) else {
                continue;
            };
            self.seen.insert((pid, times.start), times.own);
            with_waited_for = with_waited_for.saturating_add(times.own).saturating_add(times.waited_for);
        }
        let each = self.seen.values().fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
        Duration::from_millis(each.max(with_waited_for).saturating_mul(1000 / TICKS_PER_SECOND))
    }
}

/// Times of a process, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    own: u64,
    waited_for: u64,
    start: u64,
}

/// Reads `/proc/<pid>/stat` (proc(5)): fields 14 to 17 and 22, counted behind the name, which may hold anything.
fn times(stat: &str) -> Option<Times> {
    let (_, rest) = stat.rsplit_once(')')?;
    // The first of these is field 3.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Times {
        own: field(14)?.saturating_add(field(15)?),
        waited_for: field(16)?.saturating_add(field(17)?),
        start: field(22)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_process_is_called() {
        let stat = "7 (a) 9 ) R 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5555 1000 10";
        assert_eq!(times(stat), Some(Times { own: 33, waited_for: 77, start: 5555 }));
        assert_eq!(times("7 (cut off) R 1"), None);
        assert_eq!(times(""), None);
    }

    #[test]
    fn what_was_used_before_is_not_counted_and_nothing_is_forgotten() {
        let mut watch =
            CpuWatch { before: Duration::from_secs(1), used: Duration::from_secs(1), ..CpuWatch::default() };
        assert_eq!(watch.at_least(Duration::from_secs(3)), Duration::from_secs(2));
        assert_eq!(watch.at_least(Duration::from_secs(2)), Duration::from_secs(2));
    }

    #[test]
    fn this_process_without_a_group_is_seen_in_proc() {
        let own = rustix::process::getpid();
        let mut watch = CpuWatch::default();
        // Until the clock of ticks has noticed that we do something.
        while watch.look(own, None).is_zero() {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
        assert!(watch.seen.keys().any(|(pid, _)| *pid == own.as_raw_nonzero().get()));
    }
}
