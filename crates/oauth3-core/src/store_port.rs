//! Durable state, as the other parts see it.

use crate::ports::{AuditMac, Fault, no_apis, no_sign_ins};
use crate::{
    AgentName, AgentRecord, ApiId, ApiKey, AuditEvent, AuditRow, ChainReport, Connection, Digest, Execution, Grant,
    GrantId, RequestId, SecretName, SecretRecord, SignInRecord, Status, Tag, Timestamp, TokenHash, TokenId, UsageRow,
};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// A sealed value, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Everything but the value.
    pub record: SecretRecord,
    /// The ciphertext with its header; meaningless without the keeper's key.
    pub sealed: Vec<u8>,
}

/// A sign-in, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSignIn {
    /// Everything but the tokens.
    pub record: SignInRecord,
    /// The ciphertext of refresh token, client secret and device code; empty: there are none.
    pub sealed: Vec<u8>,
}

/// What becomes of a connection's access token, which stands among the secrets, when its sign-in changes.
#[derive(Debug, Clone, Copy)]
pub enum TokenChange<'a> {
    /// Nothing.
    Keep,
    /// It is replaced.
    Put(&'a SealedSecret),
    /// It is destroyed.
    Remove,
}

/// What policy goes by, as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether the kill switch is on.
    pub kill_switch: bool,
    /// Whether there is such an agent, not revoked.
    pub agent_active: bool,
    /// How many requests of the agent wait for a verdict or a secret.
    pub open_requests: u32,
    /// The newest grant of the intent that is not revoked. It may have expired: the PDP looks.
    pub grant: Option<Grant>,
    /// Whether the grant that was asked about is revoked, or not there. False when none was asked about.
    pub grant_revoked: bool,
}

/// Durable state. Every method is atomic, and what it wrote is on disk when it returns.
///
/// # Errors
/// [`Fault::Unavailable`] when the store cannot be read or written; other faults where said.
#[async_trait]
pub trait Store: Send + Sync {
    /// Answers when the store can be read.
    async fn check(&self) -> Result<(), Fault>;

    /// Adds an agent; [`Fault::Exists`] when one of that name is there, revoked ones included.
    async fn insert_agent(&self, name: &AgentName, id: &TokenId, hash: &TokenHash, now: Timestamp)
    -> Result<(), Fault>;
    /// Replaces a token; [`Fault::NotFound`] when there is no such agent or it is revoked.
    async fn replace_token(
        &self,
        name: &AgentName,
        id: &TokenId,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<(), Fault>;
    /// Revokes an agent for good; [`Fault::NotFound`] when there is none.
    async fn revoke_agent(&self, name: &AgentName, now: Timestamp) -> Result<(), Fault>;
    /// Every agent, by name.
    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault>;
    /// One agent.
    async fn agent(&self, name: &AgentName) -> Result<Option<AgentRecord>, Fault>;
    /// The agent whose token has this public part, with the hash to compare against.
    async fn agent_by_token(&self, id: &TokenId) -> Result<Option<(AgentRecord, TokenHash)>, Fault>;
    /// Notes when an agent's token was last accepted. For the owner's eyes only, so a store may leave it out.
    async fn set_agent_seen(&self, _name: &AgentName, _at: Timestamp) -> Result<(), Fault> {
        Ok(())
    }

    /// Every agent that is not revoked, with what its token is compared against.
    async fn active_agents(&self) -> Result<Vec<(AgentRecord, TokenId, TokenHash)>, Fault> {
        Err(no_apis())
    }
    /// Replaces an agent's tags; [`Fault::NotFound`] when there is no such agent or it is revoked.
    async fn set_agent_tags(&self, _name: &AgentName, _tags: &BTreeSet<Tag>) -> Result<(), Fault> {
        Err(no_apis())
    }

    /// Assigns a key to an API; one that the same secret had there is replaced.
    async fn put_api_key(&self, _key: &ApiKey) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Every key, in the order in which they were assigned.
    async fn api_keys(&self) -> Result<Vec<ApiKey>, Fault> {
        Err(no_apis())
    }
    /// Takes a key away; false when there is none.
    async fn remove_api_key(&self, _api: &ApiId, _secret: &SecretName) -> Result<bool, Fault> {
        Err(no_apis())
    }
    /// Defines a connection, new or replacing.
    async fn put_connection(&self, _connection: &Connection) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Every connection, by name.
    async fn connections(&self) -> Result<Vec<Connection>, Fault> {
        Err(no_apis())
    }
    /// Removes one, with the keys that are assigned to it, its sign-in and its access token; false when there is none.
    async fn remove_connection(&self, _api: &ApiId) -> Result<bool, Fault> {
        Err(no_apis())
    }
    /// Every sign-in, by connection.
    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        Ok(Vec::new())
    }
    /// One, with what is sealed.
    async fn sealed_sign_in(&self, _connection: &ApiId) -> Result<Option<SealedSignIn>, Fault> {
        Ok(None)
    }
    /// Writes a sign-in over its version `from` (0: there must be none), and its access token with it. False, and
    /// nothing written, when another version is there.
    async fn put_sign_in(&self, _next: &SealedSignIn, _from: u32, _token: TokenChange<'_>) -> Result<bool, Fault> {
        Err(no_sign_ins())
    }
    /// Notes when a token was last lent.
    async fn set_sign_in_used(&self, _connection: &ApiId, _at: Timestamp) -> Result<(), Fault> {
        Ok(())
    }
    /// Adds to the sums of calls, all rows or none.
    async fn add_usage(&self, _rows: &[UsageRow]) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Every sum from this day on (days since the Unix epoch), oldest first.
    async fn usage(&self, _since_day: i64) -> Result<Vec<UsageRow>, Fault> {
        Err(no_apis())
    }

    /// Stores a sealed value, new or replacing.
    async fn put_secret(&self, secret: &SealedSecret) -> Result<(), Fault>;
    /// One sealed value.
    async fn sealed_secret(&self, name: &SecretName) -> Result<Option<SealedSecret>, Fault>;
    /// Every secret, by name, without values.
    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault>;
    /// Removes one, ciphertext and all; [`Fault::NotFound`] when there is none.
    async fn remove_secret(&self, name: &SecretName) -> Result<(), Fault>;

    /// Adds a request.
    async fn insert_execution(&self, execution: &Execution) -> Result<(), Fault>;
    /// Keeps the files that a skill imports from elsewhere, by their digest, in the place of what may be there. Beyond
    /// a bound of its own a store forgets those that were used the longest time ago, and never one of `needed`. A store
    /// may keep none.
    async fn put_layer(&self, _digest: &Digest, _layer: &[u8], _needed: &BTreeSet<Digest>) -> Result<(), Fault> {
        Err(Fault::Unavailable("imports from elsewhere cannot be kept".into()))
    }
    /// What was kept under this digest, which is used by that. Whoever uses it checks that it still has that digest.
    async fn layer(&self, _digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
    /// The code with this digest, if a request ever had it. Whoever uses it checks that it still has that digest.
    async fn code(&self, _digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }
    /// One request.
    async fn execution(&self, id: &RequestId) -> Result<Option<Execution>, Fault>;
    /// Requests in one of these states (all states when empty), newest first, at most `limit`.
    async fn executions(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault>;
    /// Requests in a final state whose agent was not woken yet, oldest first.
    async fn unnotified(&self, limit: u32) -> Result<Vec<Execution>, Fault>;
    /// How many requests of this agent wait for a verdict or a secret.
    async fn open_count(&self, agent: &AgentName) -> Result<u32, Fault>;
    /// Writes `execution` over the stored one if that one's status is still `from`. False, and nothing
    /// written, when it is not: somebody else was first. The only way a status changes.
    async fn transition(&self, execution: &Execution, from: Status) -> Result<bool, Fault>;
    /// Notes that the agent was woken.
    async fn set_notified(&self, id: &RequestId, at: Timestamp) -> Result<(), Fault>;

    /// Adds a standing grant.
    async fn insert_grant(&self, grant: &Grant) -> Result<(), Fault>;
    /// What policy goes by: about this agent, the intent of this digest, and `grant` if a request relies on one.
    async fn standing(
        &self,
        agent: &AgentName,
        intent_digest: &Digest,
        grant: Option<&GrantId>,
    ) -> Result<Standing, Fault>;
    /// One grant.
    async fn grant(&self, id: &GrantId) -> Result<Option<Grant>, Fault>;
    /// Every grant, newest first, revoked and expired ones too.
    async fn grants(&self) -> Result<Vec<Grant>, Fault>;
    /// Revokes one; false when there is none or it was revoked before.
    async fn revoke_grant(&self, id: &GrantId, now: Timestamp) -> Result<bool, Fault>;

    /// Whether the kill switch is on.
    async fn kill_switch(&self) -> Result<bool, Fault>;
    /// Turns it.
    async fn set_kill_switch(&self, on: bool) -> Result<(), Fault>;

    /// A channel's own note; channels keep which message shows which request.
    async fn note(&self, channel: &str, key: &str) -> Result<Option<serde_json::Value>, Fault>;
    /// Every note of a channel whose key begins so.
    async fn notes(&self, channel: &str, prefix: &str) -> Result<Vec<(String, serde_json::Value)>, Fault>;
    /// Writes a note; `None` removes it.
    async fn set_note(&self, channel: &str, key: &str, value: Option<&serde_json::Value>) -> Result<(), Fault>;

    /// Appends to the audit chain, all or nothing; gives the last row's position. Only the keeper can, for only it
    /// has the key.
    async fn append_audit(&self, events: &[AuditEvent], at: Timestamp, mac: &dyn AuditMac) -> Result<i64, Fault>;
    /// [`Store::append_audit`] and [`Store::transition`] as one: neither happens without the other. False, and nothing
    /// at all, when the request is not in `from`.
    async fn append_audit_and_transition(
        &self,
        events: &[AuditEvent],
        at: Timestamp,
        mac: &dyn AuditMac,
        execution: &Execution,
        from: Status,
    ) -> Result<bool, Fault>;
    /// Rows after `seq`, oldest first, at most `limit`.
    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault>;
    /// What the egress refused in the run of a request, oldest first, at most `limit` rows. For the owner's eyes
    /// only, so a store may leave it out.
    async fn refusals(&self, _id: &RequestId, _limit: u32) -> Result<Vec<AuditRow>, Fault> {
        Ok(Vec::new())
    }
    /// The last row's position; 0 when there is none.
    async fn audit_head(&self) -> Result<i64, Fault>;
    /// Checks every row, and the head that is kept outside the table.
    async fn verify_audit(&self, mac: &dyn AuditMac) -> Result<ChainReport, Fault>;
}
