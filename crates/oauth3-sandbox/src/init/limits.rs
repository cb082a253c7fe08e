//! Resource limits of the sandbox's processes (setrlimit(2)).

use super::{Step, StepError};
use crate::wire::Terms;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Size of `/tmp`, in bytes.
pub(super) const TMP_BYTES: u64 = 64 << 20;
/// Stack of one thread, in bytes, unless it asks for another.
const STACK_BYTES: u64 = 8 << 20;
/// Signals that may wait.
const MAX_PENDING_SIGNALS: u64 = 512;
/// Added to the limit of processes: process 1 is ours.
const OWN_PROCESSES: u64 = 1;

/// Applies every limit. They hold for each process; the sum over the tree is the cgroup's business.
pub(super) fn apply(terms: &Terms, cgroup: bool) -> Result<(), StepError> {
    // Of each process; the guard adds them up.
    let cpu_seconds = terms.cpu_ms.div_ceil(1000);
    let mut all = vec![
        (Resource::Core, 0, 0),
        (Resource::Nofile, terms.open_files, terms.open_files),
        (Resource::Fsize, terms.file_bytes, terms.file_bytes),
        // The soft limit signals SIGXCPU, the hard one kills who ignores it.
        (Resource::Cpu, cpu_seconds, cpu_seconds + 1),
        (Resource::Nproc, u64::from(terms.processes) + OWN_PROCESSES, u64::from(terms.processes) + OWN_PROCESSES),
        (Resource::Memlock, 0, 0),
        (Resource::Stack, STACK_BYTES, STACK_BYTES),
        (Resource::Sigpending, MAX_PENDING_SIGNALS, MAX_PENDING_SIGNALS),
        (Resource::Msgqueue, 0, 0),
        (Resource::Nice, 0, 0),
        (Resource::Rtprio, 0, 0),
    ];
    if !cgroup {
        all.push((Resource::Data, terms.data_bytes, terms.data_bytes));
    }
    for (resource, soft, hard) in all {
        let current = rustix::process::getrlimit(resource);
        // Lower than ours already: keep it, raising would need a right that we gave up.
        let hard = current.maximum.map_or(hard, |maximum| maximum.min(hard));
        setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })
            .step(&format!("limit {resource:?}"))?;
    }
    Ok(())
}
