//! What crosses the owner's socket.

use oauth3_core::{AgentName, Draft, Fault, GrantId, RequestId, SecretName, Status, Verdict};
use serde::{Deserialize, Serialize};

/// Largest call, in bytes (16 MiB): a draft with the largest code, spelled as a list of numbers.
pub(super) const MAX_CALL_BYTES: u64 = 16 << 20;
/// Largest reply, in bytes (256 MiB).
pub(super) const MAX_REPLY_BYTES: u64 = 256 << 20;

/// One call. Identities are not in it: see [`super::OWNER_IDENTITY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Call {
    Verdict {
        id: RequestId,
        verdict: Verdict,
    },
    Show {
        id: RequestId,
    },
    /// Without code and output: lists stay small.
    Requests {
        statuses: Vec<Status>,
        limit: u32,
    },
    Wait {
        id: RequestId,
        seen: Status,
        patience_ms: u64,
    },
    Submit {
        draft: Box<Draft>,
    },
    Grants,
    RevokeGrant {
        id: GrantId,
    },
    Secrets,
    /// Values changed in the keeper: requests may go on.
    SecretsChanged,
    RemoveSecret {
        name: SecretName,
    },
    Agents,
    AddAgent {
        name: AgentName,
    },
    RotateAgent {
        name: AgentName,
    },
    RevokeAgent {
        name: AgentName,
    },
    Overview,
    SetKillSwitch {
        on: bool,
    },
    AuditAfter {
        seq: i64,
        limit: u32,
    },
    AuditHead,
    VerifyAudit,
    ReportStranger {
        by: String,
        what: String,
    },
}

/// The reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply<T> {
    Done(T),
    Fault(Fault),
}
