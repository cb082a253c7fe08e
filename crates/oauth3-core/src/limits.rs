//! What a run may use, what the owner allows at most, and the fixed bounds of a request.

use crate::SubmissionError;
use crate::limit::{AskedLimits, Limit};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Largest code that a request may carry or a `skill_url` may give, all files together, in bytes (1 MiB).
pub const MAX_CODE_BYTES: usize = 1 << 20;
/// Most files that a skill may have.
pub const MAX_SKILL_FILES: usize = 200;
/// Largest arguments object, in bytes of JSON (64 KiB); all variables of a run must fit into one exec.
pub const MAX_ARGS_BYTES: usize = 64 << 10;
/// Most secrets that one request may name.
pub const MAX_SECRETS: usize = 32;
/// Most hosts that one request may name.
pub const MAX_HOSTS: usize = 64;
/// Most bytes of the variables with real values that one run gets (512 KiB); they must fit into that exec too.
pub const MAX_REVEALED_BYTES: usize = 512 << 10;
/// Longest that a call may wait for a change, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 120;

/// CPU time of a run that names none, for each unit of its wall clock: two processors busy all the time. So what
/// merely computes for too long is ended by the clock, and what spreads over the machine is not.
const CPU_PER_WALL: u64 = 2;

/// What one run may use, the whole tree of its processes together where not said otherwise. Part of what a
/// standing grant binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Limits {
    /// Wall clock, in milliseconds.
    pub timeout_ms: u64,
    /// Memory, in MiB.
    pub memory_mb: u64,
    /// Bytes kept of stdout and of stderr each; what comes after is dropped and marked truncated.
    pub output_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// CPU time, in milliseconds.
    pub cpu_ms: u64,
    /// Size of one file, in MiB.
    pub file_mb: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes over the run's network, sent and received together, in MiB.
    pub egress_mb: u64,
    /// Requests over the run's network.
    pub egress_requests: u64,
}

/// [`Limits`] as they are stored. The first version had four figures; what it did about the others is what a
/// request of that time keeps.
#[derive(Deserialize)]
struct Stored {
    timeout_ms: u64,
    memory_mb: u64,
    output_bytes: u64,
    processes: u32,
    cpu_ms: Option<u64>,
    file_mb: Option<u64>,
    open_files: Option<u64>,
    egress_mb: Option<u64>,
    egress_requests: Option<u64>,
}

impl From<Stored> for Limits {
    fn from(stored: Stored) -> Self {
        let Stored { timeout_ms, memory_mb, output_bytes, processes, .. } = stored;
        let first = Self::of_first_version(timeout_ms, memory_mb, output_bytes, processes);
        Self {
            cpu_ms: stored.cpu_ms.unwrap_or(first.cpu_ms),
            file_mb: stored.file_mb.unwrap_or(first.file_mb),
            open_files: stored.open_files.unwrap_or(first.open_files),
            egress_mb: stored.egress_mb.unwrap_or(first.egress_mb),
            egress_requests: stored.egress_requests.unwrap_or(first.egress_requests),
            ..first
        }
    }
}

impl Limits {
    /// What a request gets that names nothing, unless the owner's configuration says otherwise.
    pub const STANDARD: Self = Self {
        timeout_ms: 30_000,
        memory_mb: 256,
        output_bytes: 1 << 20,
        processes: 64,
        cpu_ms: 30_000 * CPU_PER_WALL,
        file_mb: 64,
        open_files: 512,
        egress_mb: 1024,
        egress_requests: 10_000,
    };

    /// The wall clock limit.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// What a run could use whose request named these four figures, when there were no others.
    const fn of_first_version(timeout_ms: u64, memory_mb: u64, output_bytes: u64, processes: u32) -> Self {
        Self {
            timeout_ms,
            memory_mb,
            output_bytes,
            processes,
            cpu_ms: timeout_ms,
            file_mb: 64,
            open_files: 512,
            egress_mb: *Limit::EgressMb.range().end(),
            egress_requests: *Limit::EgressRequests.range().end(),
        }
    }

    /// Whether the first version's four figures say all of it.
    pub(crate) fn is_of_first_version(&self) -> bool {
        *self == Self::of_first_version(self.timeout_ms, self.memory_mb, self.output_bytes, self.processes)
    }
}

/// The owner's bounds: the most that a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// The most of each. What a request does not name it gets whole, except for time.
    pub most: Limits,
    /// The wall clock of a request that names none, in milliseconds; never above the most.
    pub default_timeout_ms: u64,
}

impl Ceilings {
    /// What a request gets that names no limit.
    #[must_use]
    pub fn usual(&self) -> Limits {
        self.with_timeout(self.default_timeout_ms.min(self.most.timeout_ms))
    }

    /// What a request gets that names these.
    ///
    /// # Errors
    /// When one is above its ceiling; the sentence names it.
    pub fn limits(&self, timeout_ms: Option<u64>, asked: &AskedLimits) -> Result<Limits, SubmissionError> {
        if timeout_ms.is_some_and(|ms| ms > self.most.timeout_ms) {
            let most = Duration::from_millis(self.most.timeout_ms).as_secs();
            return Err(SubmissionError::Invalid(format!("timeout is at most {most} seconds here")));
        }
        let mut limits = timeout_ms.map_or_else(|| self.usual(), |ms| self.with_timeout(ms));
        for (limit, value) in asked.iter() {
            let most = limit.of(&self.most);
            if value > most {
                let text = format!("limit {limit} is at most {} here", limit.in_its_unit(most));
                return Err(SubmissionError::Invalid(text));
            }
            limit.set(&mut limits, value);
        }
        Ok(limits)
    }

    fn with_timeout(&self, timeout_ms: u64) -> Limits {
        let cpu_ms = timeout_ms.saturating_mul(CPU_PER_WALL).min(self.most.cpu_ms);
        Limits { timeout_ms, cpu_ms, ..self.most }
    }
}

/// What one run used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of all its processes, in milliseconds; absent when somebody ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory that it held at a time, in bytes; absent where nothing measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What went over its network.
    #[serde(flatten)]
    pub egress: EgressUsage,
}

/// What went over the network of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressUsage {
    /// Bytes that its code sent, heads, bodies and TLS.
    pub egress_sent_bytes: u64,
    /// Bytes that its code was sent.
    pub egress_received_bytes: u64,
    /// Requests, refused ones too.
    pub egress_requests: u64,
    /// Different things that were refused to its code; nothing in what earlier versions stored.
    #[serde(default)]
    pub egress_refused: u64,
}
