//! One request to execute something, from submission to its final state.

use crate::{Digest, GrantId, Intent, RequestId, SecretName, Timestamp, Trust, Usage};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a request stands. The names are those of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The owner has been asked.
    Pending,
    /// The owner said yes, and a secret is not there yet.
    AwaitingSecrets,
    /// May run; about to.
    Approved,
    /// Runs now.
    Executing,
    /// Ran, and its code ended with 0.
    Success,
    /// Ran and did not end with 0, or could not run.
    Failed,
    /// The owner said no.
    Denied,
    /// Nobody said anything in time.
    Expired,
    /// The agent took it back.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::AwaitingSecrets,
        Self::Approved,
        Self::Executing,
        Self::Success,
        Self::Failed,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
    ];

    /// The name that the outside uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::AwaitingSecrets => "awaiting_secrets",
            Self::Approved => "approved",
            Self::Executing => "executing",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Denied | Self::Expired | Self::Cancelled)
    }

    /// The owner's verdict is still wanted, or secrets are.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::AwaitingSecrets)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or(())
    }
}

/// What came out of a run; scrubbed before it got here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// Standard output, lossy UTF-8.
    pub stdout: String,
    /// Standard error, lossy UTF-8.
    pub stderr: String,
    /// Exit code; 128 plus the signal when one ended it.
    pub exit_code: i32,
    /// Wall clock from start to exit, in milliseconds.
    pub duration_ms: u64,
    /// Whether output beyond the limit was dropped.
    pub truncated: bool,
    /// What the run used; absent from runs before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// One request, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// Its name.
    pub id: RequestId,
    /// What is asked for.
    pub intent: Intent,
    /// [`Intent::digest`], as persisted.
    pub intent_digest: Digest,
    /// The agent's claim of what this does.
    pub description: String,
    /// Where the code came from, when it was fetched.
    pub skill_url: Option<String>,
    /// The bytes that run: one file, or several in one archive; see [`crate::Skill`].
    pub code: Vec<u8>,
    /// The arguments, in the agent's order.
    pub args: serde_json::Map<String, serde_json::Value>,
    /// Where it stands.
    pub status: Status,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When silence becomes a no.
    pub expires_at: Timestamp,
    /// When the owner said yes, or the standing grant was found.
    pub approved_at: Option<Timestamp>,
    /// When the code started.
    pub executed_at: Option<Timestamp>,
    /// When the final state was reached.
    pub finished_at: Option<Timestamp>,
    /// The trust of the approval.
    pub trust: Option<Trust>,
    /// The standing grant that it ran under or created.
    pub grant_id: Option<GrantId>,
    /// Whether it ran without asking, under a standing grant.
    pub trusted: bool,
    /// The identity that decided, such as `cli` or `telegram:42`.
    pub decided_by: Option<String>,
    /// What came out.
    pub result: Option<RunResult>,
    /// Why there is no result, in a sentence fit for the agent. Begins with a fixed word:
    /// `timeout`, `interrupted`, `denied`, `expired`, `cancelled`, `failed`.
    pub error: Option<String>,
    /// When the agent was woken about the final state.
    pub notified_at: Option<Timestamp>,
}

impl Execution {
    /// The secrets that it needs and that are not in `present`.
    pub fn missing_secrets<'a>(&'a self, present: &'a [SecretName]) -> impl Iterator<Item = &'a SecretName> {
        self.intent.secrets.iter().filter(move |name| !present.contains(name))
    }
}
