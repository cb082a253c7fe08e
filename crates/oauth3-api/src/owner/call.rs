//! What crosses the owner's socket.

use oauth3_core::{
    Access, AgentName, ApiId, ApiKey, Connection, Draft, Fault, GrantId, RequestId, SecretName, SignInOrder, Status,
    Tag, Verdict,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
    TagAgent {
        name: AgentName,
        tags: BTreeSet<Tag>,
    },
    ApiKeys,
    PutApiKey {
        key: ApiKey,
    },
    RemoveApiKey {
        api: ApiId,
        secret: SecretName,
    },
    CheckApi {
        api: ApiId,
    },
    Connections,
    PutConnection {
        connection: Box<Connection>,
    },
    RemoveConnection {
        api: ApiId,
    },
    GrantAccess {
        agent: AgentName,
        access: Box<Access>,
        /// None: until it is revoked.
        lifetime_ms: Option<u64>,
    },
    Usage {
        since_day: i64,
    },
    SignIns,
    OrderSignIn {
        connection: ApiId,
        order: SignInOrder,
    },
    WaitSignIn {
        connection: ApiId,
        seen: u32,
        patience_ms: u64,
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
