//! The limits that a request may name, each by itself: its name, its unit, what it may be.

use crate::{Limits, SubmissionError};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

/// Milliseconds in the unit of `cpu_seconds`.
const MS: f64 = 1000.0;

/// A limit that a request may name. The wall clock is not among them: it is `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Memory of the tree, in MiB.
    MemoryMb,
    /// CPU time of the tree, in seconds; fractions allowed. Kept in milliseconds.
    CpuSeconds,
    /// Processes and threads.
    Processes,
    /// Size of one file, in MiB.
    FileMb,
    /// Open files of one process.
    OpenFiles,
    /// Bytes kept of stdout and of stderr each.
    OutputBytes,
    /// Bytes sent and received together, in MiB.
    EgressMb,
    /// Requests over the network.
    EgressRequests,
}

impl Limit {
    /// Every one, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::MemoryMb,
        Self::CpuSeconds,
        Self::Processes,
        Self::FileMb,
        Self::OpenFiles,
        Self::OutputBytes,
        Self::EgressMb,
        Self::EgressRequests,
    ];

    /// The name that the outside uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemoryMb => "memory_mb",
            Self::CpuSeconds => "cpu_seconds",
            Self::Processes => "processes",
            Self::FileMb => "file_mb",
            Self::OpenFiles => "open_files",
            Self::OutputBytes => "output_bytes",
            Self::EgressMb => "egress_mb",
            Self::EgressRequests => "egress_requests",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.as_str() == name)
    }

    /// What it may be at all, as it is kept (`cpu_seconds` in milliseconds): the owner's ceiling is within.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u64> {
        match self {
            // Up to a TiB.
            Self::MemoryMb => 16..=1 << 20,
            // Up to a day of 64 processors.
            Self::CpuSeconds => 100..=64 * 24 * 60 * 60 * 1000,
            Self::Processes => 1..=32_768,
            // All of /tmp is 64 MiB.
            Self::FileMb => 1..=64,
            // A runtime opens a dozen before the code begins. Each may be a socket, with buffers in the kernel.
            Self::OpenFiles => 16..=4096,
            // It is held in memory and stored: up to 64 MiB.
            Self::OutputBytes => 1..=64 << 20,
            // Up to a TiB.
            Self::EgressMb => 1..=1 << 20,
            Self::EgressRequests => 1..=1_000_000_000,
        }
    }

    /// Its value among these, as it is kept.
    #[must_use]
    pub fn of(self, limits: &Limits) -> u64 {
        match self {
            Self::MemoryMb => limits.memory_mb,
            Self::CpuSeconds => limits.cpu_ms,
            Self::Processes => limits.processes.into(),
            Self::FileMb => limits.file_mb,
            Self::OpenFiles => limits.open_files,
            Self::OutputBytes => limits.output_bytes,
            Self::EgressMb => limits.egress_mb,
            Self::EgressRequests => limits.egress_requests,
        }
    }

    pub(crate) fn set(self, limits: &mut Limits, value: u64) {
        match self {
            Self::MemoryMb => limits.memory_mb = value,
            Self::CpuSeconds => limits.cpu_ms = value,
            Self::Processes => limits.processes = u32::try_from(value).unwrap_or(u32::MAX),
            Self::FileMb => limits.file_mb = value,
            Self::OpenFiles => limits.open_files = value,
            Self::OutputBytes => limits.output_bytes = value,
            Self::EgressMb => limits.egress_mb = value,
            Self::EgressRequests => limits.egress_requests = value,
        }
    }

    /// A value as it is kept, in the unit of the name.
    #[must_use]
    pub fn in_its_unit(self, value: u64) -> f64 {
        // Exact: every range ends far below where f64 loses whole numbers.
        #[allow(clippy::cast_precision_loss)]
        let value = value as f64;
        if self == Self::CpuSeconds { value / MS } else { value }
    }

    /// A value as it is named, as it is kept.
    fn kept(self, value: f64) -> Result<u64, SubmissionError> {
        let kept = if self == Self::CpuSeconds { (value * MS).round() } else { value };
        let range = self.range();
        let (least, most) = (self.in_its_unit(*range.start()), self.in_its_unit(*range.end()));
        // NaN and infinity are in no range.
        if !(least..=most).contains(&value) || kept.fract() != 0.0 {
            let whole = if self == Self::CpuSeconds { "a number" } else { "a whole number" };
            return Err(SubmissionError::Invalid(format!("limit {self} is {whole} from {least} to {most}")));
        }
        // In range and whole, so the cast neither wraps nor loses anything.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(kept as u64)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits that a request names, each within what it may be at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedLimits(BTreeMap<Limit, u64>);

impl AskedLimits {
    /// Reads names and values.
    ///
    /// # Errors
    /// When a name is none of [`Limit::ALL`], or a value is not within the range of its limit.
    pub fn parse(named: &BTreeMap<String, f64>) -> Result<Self, SubmissionError> {
        let read = named.iter().map(|(name, value)| {
            let limit = Limit::parse(name).ok_or_else(|| unknown(name))?;
            Ok((limit, limit.kept(*value)?))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Limit, u64)> + '_ {
        self.0.iter().map(|(limit, value)| (*limit, *value))
    }
}

fn unknown(name: &str) -> SubmissionError {
    let name: String = name.chars().take(40).collect();
    let all = Limit::ALL.map(Limit::as_str).join(", ");
    SubmissionError::Invalid(format!("limit {name:?} is unknown; there are {all}; the wall clock is `timeout`"))
}
