//! What the audit chain records.

use crate::{AgentName, Detail, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

/// The kinds of audit events. Stored by name; a name never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditKind {
    /// A gateway or keeper started.
    Started,
    /// A request came in and was put to the owner.
    Asked,
    /// A request was allowed by a standing grant.
    Granted,
    /// A request was refused by policy.
    Refused,
    /// A dry run was answered.
    DryRun,
    /// The owner said yes.
    Approved,
    /// The owner said no.
    Denied,
    /// Nobody said anything in time.
    Expired,
    /// The agent took its request back.
    Cancelled,
    /// The keeper is about to hand out placeholders and open the egress of a run.
    RunOpened,
    /// A secret's value is about to go to a host for the first time in this run.
    SecretUsed,
    /// The code of this run is about to get a secret's real value.
    SecretRevealed,
    /// The egress refused a connection or a request.
    EgressRefused,
    /// A run came to its end.
    RunClosed,
    /// A request reached its final state.
    Finished,
    /// A secret was stored, given a new value, bound anew or removed.
    SecretChanged,
    /// An agent was added, given a new token or revoked.
    AgentChanged,
    /// A standing grant was made or revoked.
    GrantChanged,
    /// The kill switch was turned.
    KillSwitch,
    /// Somebody who may not decide tried to.
    VerdictRefused,
    /// Calls of APIs are about to be made through the proxy, one entry each.
    ApiCalled,
    /// WebSockets that such calls opened have ended, with what went to and fro, one entry each.
    ApiEnded,
    /// The proxy refused calls of agents, one entry each.
    ApiRefused,
    /// Requests are about to go through the proxy to hosts that are no API, one entry each.
    HostReached,
    /// Such requests have ended, with what went to and fro, one entry each.
    HostLeft,
    /// A key was assigned to an API or taken from it, or a connection was defined or removed.
    ApiChanged,
    /// A sign-in began, succeeded, failed, or waits for the owner to confirm an account.
    SignIn,
    /// A refresh token is about to be sent to its provider, or the reply was stored.
    TokenRefresh,
    /// Tokens are about to be revoked and destroyed.
    SignedOut,
}

impl AuditKind {
    /// The stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Asked => "asked",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::DryRun => "dry_run",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::RunOpened => "run_opened",
            Self::SecretUsed => "secret_used",
            Self::SecretRevealed => "secret_revealed",
            Self::EgressRefused => "egress_refused",
            Self::RunClosed => "run_closed",
            Self::Finished => "finished",
            Self::SecretChanged => "secret_changed",
            Self::AgentChanged => "agent_changed",
            Self::GrantChanged => "grant_changed",
            Self::KillSwitch => "kill_switch",
            Self::VerdictRefused => "verdict_refused",
            Self::ApiCalled => "api_called",
            Self::ApiEnded => "api_ended",
            Self::ApiRefused => "api_refused",
            Self::HostReached => "host_reached",
            Self::HostLeft => "host_left",
            Self::ApiChanged => "api_changed",
            Self::SignIn => "sign_in",
            Self::TokenRefresh => "token_refresh",
            Self::SignedOut => "signed_out",
        }
    }
}

/// One thing that is about to happen, or did. Holds names and digests, never values, code or output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// What kind of thing.
    pub kind: AuditKind,
    /// Who: `agent:NAME`, `cli`, `telegram:ID`, `keeper`, `gateway`.
    pub actor: String,
    /// The request that it is about.
    pub request_id: Option<RequestId>,
    /// The agent that it is about.
    pub agent: Option<AgentName>,
    /// The rest: names, hosts, digests, reasons.
    pub detail: Detail,
}

impl AuditEvent {
    /// An event without subject or detail.
    #[must_use]
    pub fn new(kind: AuditKind, actor: impl Into<String>) -> Self {
        Self { kind, actor: actor.into(), request_id: None, agent: None, detail: Detail::new() }
    }

    /// About this request.
    #[must_use]
    pub fn request(mut self, id: &RequestId) -> Self {
        self.request_id = Some(id.clone());
        self
    }

    /// About this agent.
    #[must_use]
    pub fn agent(mut self, name: &AgentName) -> Self {
        self.agent = Some(name.clone());
        self
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.detail.insert(name, value);
        self
    }
}

/// One row of the chain, as `audit export` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Position; 1 is the first.
    pub seq: i64,
    /// When it was written.
    pub at: Timestamp,
    /// What was recorded.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// Keyed digest over the row before and this row, in hex.
    pub mac: String,
}

/// What a check of the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainReport {
    /// Rows that were read.
    pub rows: i64,
    /// The first thing that is wrong, in a sentence; `None` when the chain holds.
    pub fault: Option<String>,
}
