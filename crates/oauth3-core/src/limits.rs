//! What a run may use, and the fixed bounds of a request.

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
/// Longest that a call may wait for a change, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 120;

/// What one run may use. Part of what a standing grant binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall clock, in milliseconds; CPU time is bounded by the same figure.
    pub timeout_ms: u64,
    /// Memory of the whole process tree, in MiB.
    pub memory_mb: u64,
    /// Bytes kept of stdout and of stderr each; what comes after is dropped and marked truncated.
    pub output_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
}

impl Limits {
    /// The wall clock limit.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
