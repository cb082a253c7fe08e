//! The ports through which the parts reach each other. Implementations are wired in the binary.

use crate::{
    Access, AgentName, AgentRecord, AgentToken, ApiCheck, ApiId, ApiKey, AuditEvent, AuditRow, ChainReport, Connection,
    ConnectionView, Draft, EgressUsage, Execution, Grant, GrantId, Host, Limits, NewSecret, OwnerOverview, ProxyKey,
    RequestId, RunResult, Runtime, SecretName, SecretRecord, SignInAsked, SignInOrder, SignInRecord, Status, Tag,
    Timestamp, Usage, UsageRow, Verdict, WriteOnly,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Why a port could not do what was asked. One registered code and one short sentence, both fit for
/// whoever asked; causes go to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", content = "text", rename_all = "snake_case")]
pub enum Fault {
    /// The request is malformed or breaks a rule.
    #[error("{0}")]
    InvalidRequest(String),
    /// Two places name different values.
    #[error("{0}")]
    ConflictingMetadata(String),
    /// The runtime does not exist or is not installed.
    #[error("{0}")]
    UnknownRuntime(String),
    /// No valid token.
    #[error("{0}")]
    InvalidToken(String),
    /// Policy says no.
    #[error("{0}")]
    DeniedByPolicy(String),
    /// There is none, or the caller may not know that there is.
    #[error("{0}")]
    NotFound(String),
    /// It was decided before.
    #[error("{0}")]
    AlreadyDecided(String),
    /// One of that name exists.
    #[error("{0}")]
    Exists(String),
    /// Larger than its bound.
    #[error("{0}")]
    TooLarge(String),
    /// The skill could not be fetched.
    #[error("{0}")]
    SkillFetchFailed(String),
    /// Too many of something.
    #[error("{text}")]
    RateLimited {
        /// The sentence.
        text: String,
        /// When trying again makes sense, in seconds.
        retry_after: u64,
    },
    /// A part of oauth3 that is needed does not answer: nothing is permitted.
    #[error("{0}")]
    Unavailable(String),
}

impl Fault {
    /// The registered code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::ConflictingMetadata(_) => "conflicting_metadata",
            Self::UnknownRuntime(_) => "unknown_runtime",
            Self::InvalidToken(_) => "invalid_token",
            Self::DeniedByPolicy(_) => "denied_by_policy",
            Self::NotFound(_) => "not_found",
            Self::AlreadyDecided(_) => "already_decided",
            Self::Exists(_) => "exists",
            Self::TooLarge(_) => "too_large",
            Self::SkillFetchFailed(_) => "skill_fetch_failed",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Tells the time. Tests bring their own.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Computes the keyed digest of the audit chain. Only the keeper has the key.
pub trait AuditMac: Send + Sync {
    /// The keyed digest of these bytes.
    fn mac(&self, bytes: &[u8]) -> [u8; 32];
}

/// What a part says that has nothing to do with APIs.
pub(crate) fn no_apis() -> Fault {
    Fault::Unavailable("APIs are not kept here".into())
}

/// What a part says that has nothing to do with sign-ins.
pub(crate) fn no_sign_ins() -> Fault {
    Fault::Unavailable("nobody can sign in here".into())
}

/// An agent waits at the proxy for the owner's word on an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAsk {
    /// Tells it from others of this keeper.
    pub number: u64,
    /// Who.
    pub agent: AgentName,
    /// What.
    pub api: ApiId,
    /// The host that it is at.
    pub host: Host,
    /// What the API is called, for people.
    pub title: String,
    /// Its address, for people.
    pub base: String,
    /// The model that the call names.
    pub model: Option<String>,
}

/// What the keeper wants of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeeperEvent {
    /// Ask the owner.
    Ask(AccessAsk),
    /// The one call that the owner said yes to has been made.
    Used {
        /// The request.
        id: RequestId,
        /// What went wrong, when something did.
        error: Option<String>,
    },
    /// A sign-in went on: its record in the store is another one.
    SignIn(ApiId),
}

/// What a listener inside the sandbox's network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerRole {
    /// TLS to be intercepted, on this port.
    Tls {
        /// The port that the code dialled.
        port: u16,
    },
    /// Plain HTTP on port 80: refused with a sentence.
    Plain,
    /// An HTTP proxy: CONNECT, and absolute `https://` requests in clear, for which the keeper speaks TLS.
    Proxy,
    /// The same, on a loopback that others share: every request on it must bring this key.
    KeyedProxy {
        /// The run's own.
        key: ProxyKey,
    },
    /// A datagram socket that answers names.
    Dns,
}

/// One socket that was bound inside the sandbox's network and is served by the keeper.
#[derive(Debug)]
pub struct ListenerFd {
    /// What it is for.
    pub role: ListenerRole,
    /// The socket.
    pub fd: OwnedFd,
}

/// What the keeper takes over when a run opens.
#[derive(Debug)]
pub struct LaneFds {
    /// The sandbox's only network.
    pub listeners: Vec<ListenerFd>,
    /// Read end of the code's standard output: only the keeper reads it unscrubbed.
    pub stdout: OwnedFd,
    /// Read end of its standard error.
    pub stderr: OwnedFd,
    /// Write end of the pipe from which the code's process takes the real values of revealed secrets, right before
    /// the code starts. The read end never leaves the sandbox.
    pub reveal: OwnedFd,
}

/// What the keeper gives when a run opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedRun {
    /// The placeholder of each secret that is not revealed, and where SDKs find them besides.
    pub placeholders: Vec<(SecretName, String)>,
    /// The secrets whose values the code's process takes from its pipe, in the order in which they come there.
    pub revealed: Vec<SecretName>,
    /// The certificate of the CA made for this run, PEM.
    pub ca_pem: String,
}

/// What the keeper gives when a run closes: scrubbed and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutput {
    /// Standard output, lossy UTF-8.
    pub stdout: String,
    /// Standard error, lossy UTF-8.
    pub stderr: String,
    /// Whether anything beyond the limit was dropped.
    pub truncated: bool,
    /// Sentences about what the egress refused, for the agent; no values.
    pub refusals: Vec<String>,
    /// What went over the run's network.
    pub egress: EgressUsage,
}

/// The keeper, as the gateway sees it. When it does not answer, nothing is permitted.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Answers when the keeper can unseal.
    async fn ping(&self) -> Result<(), Fault>;
    /// Appends to the audit chain; durable when it returns.
    async fn audit(&self, event: AuditEvent) -> Result<(), Fault>;
    /// Checks the whole chain.
    async fn verify_audit(&self) -> Result<ChainReport, Fault>;
    /// Seals and stores a value. [`Fault::Exists`] or [`Fault::NotFound`] by [`NewSecret::replace`].
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault>;
    /// Opens the run of an approved request: the keeper reads it from the store, decides again, writes the
    /// audit, moves it to `executing` (so that it can never run twice), and serves the lane's sockets.
    async fn open_run(&self, id: &RequestId, lane: LaneFds) -> Result<OpenedRun, Fault>;
    /// Ends the run's network and hands out what the code wrote. What comes of it is recorded together with its end.
    async fn close_run(&self, id: &RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault>;
    /// Agents, grants, keys, secrets, connections or the kill switch changed: the proxy reads them anew. When this
    /// returns, calls that may not go on have ended, and the sums of usage are stored. A keeper that does not answer in
    /// time is ended, and its calls with it: what it goes by is not known.
    async fn refresh(&self) -> Result<(), Fault> {
        Ok(())
    }
    /// Waits until the keeper wants something of the gateway.
    async fn next_event(&self) -> Result<KeeperEvent, Fault> {
        std::future::pending().await
    }
    /// Where agents reach the proxy; nothing when there is none.
    async fn proxy_address(&self) -> Result<Option<SocketAddr>, Fault> {
        Ok(None)
    }
    /// Tries each key of an API.
    async fn check_api(&self, _api: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        Err(no_apis())
    }
    /// Says what became of an ask: the request that the owner now sees, or why there is none.
    async fn answer_ask(&self, _number: u64, _answer: Result<RequestId, Fault>) -> Result<(), Fault> {
        Ok(())
    }
    /// Does something with the sign-in of a connection; gives the record as it then is. `by` asked for it.
    async fn order_sign_in(&self, _connection: &ApiId, _order: SignInOrder, _by: &str) -> Result<SignInRecord, Fault> {
        Err(no_sign_ins())
    }
    /// Seals the client secret of a connection's setup (RFC 6749 §2.3.1); an empty one takes it away.
    async fn put_client_secret(&self, _connection: &ApiId, _value: WriteOnly, _by: &str) -> Result<(), Fault> {
        Err(no_sign_ins())
    }
}

/// What a sandbox's network and pipes are made from, before anything is known to it.
#[derive(Debug, Clone)]
pub struct LaneSpec {
    /// The hosts that names resolve for.
    pub hosts: Vec<Host>,
    /// What the run may use.
    pub limits: Limits,
    /// What will run the code.
    pub runtime: Runtime,
}

/// What runs in a prepared sandbox.
#[derive(Debug, Clone)]
pub struct Job {
    /// The stored bytes; [`crate::Skill::read`] says which files they are.
    pub code: Vec<u8>,
    /// The archive of what the code imports from elsewhere, laid out beside it; empty: nothing.
    pub layer: Vec<u8>,
    /// Variables for the code: placeholders and arguments. The runner adds its own.
    pub env: Vec<(String, String)>,
    /// Variables whose values the code's process takes from [`LaneFds::reveal`]: exactly these, in this order.
    pub revealed: Vec<SecretName>,
    /// The run's CA certificate, PEM.
    pub ca_pem: String,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The code ended by itself, or by a signal of its own.
    Exited,
    /// The wall clock ended it.
    TimedOut,
    /// The CPU limit ended it.
    OutOfCpu,
    /// The memory limit ended it.
    OutOfMemory,
    /// The sandbox could not be built or the runtime not started.
    NotStarted,
}

/// How a run ended. Every process of the code is gone when this exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 plus the signal when one ended it.
    pub code: i32,
    /// Why.
    pub reason: ExitReason,
    /// From start to exit.
    pub duration: Duration,
    /// CPU time of the whole tree, in milliseconds; absent where nothing measures it.
    pub cpu_ms: Option<u64>,
    /// The most memory that the tree held at a time, in bytes; absent where nothing measures it.
    pub memory_bytes: Option<u64>,
    /// What went wrong, when the sandbox itself did; fit for the agent.
    pub error: Option<String>,
}

/// Builds sandboxes.
#[async_trait]
pub trait Runner: Send + Sync {
    /// `native`, `docker` or `direct`.
    fn executor(&self) -> &'static str;
    /// Whether this runtime can be used.
    fn has(&self, runtime: Runtime) -> bool;
    /// What runs code that names no runtime: Deno when installed, else embedded.
    fn default_runtime(&self) -> Runtime;
    /// Makes a sandbox with its network and pipes; nothing runs in it yet.
    async fn prepare(&self, spec: LaneSpec) -> Result<Box<dyn Lane>, Fault>;
}

/// A prepared sandbox. Dropping it, or the future of [`Lane::run`], ends everything inside.
#[async_trait]
pub trait Lane: Send {
    /// The sockets and pipes for the keeper. Once only.
    fn take_fds(&mut self) -> Result<LaneFds, Fault>;
    /// Runs the job to its end.
    async fn run(self: Box<Self>, job: Job) -> Exit;
}

/// Where an approval channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelHealth {
    /// Not configured.
    Disabled,
    /// Works.
    Connected,
    /// Does not answer; messages are kept and delivered later.
    Error,
}

/// A way to reach the owner.
pub trait Channel: Send + Sync {
    /// Its name: `telegram`.
    fn name(&self) -> &'static str;
    /// Where it stands.
    fn health(&self) -> ChannelHealth;
    /// Something about this request changed: show it. Never blocks; delivery, order and retries are the
    /// channel's own, from what the store holds.
    fn changed(&self, id: &RequestId);
    /// The same for the sign-in of a connection.
    fn sign_in_changed(&self, _connection: &ApiId) {}
}

/// What happened to a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The request as it stands.
    pub execution: Execution,
    /// Secrets that are named and not stored.
    pub missing_secrets: Vec<SecretName>,
    /// Where the owner was asked: names of channels, empty when only the command line can answer.
    pub asked: Vec<String>,
}

/// The answer to a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// `permit`, `ask` or `deny`.
    pub decision: String,
    /// Why, in a sentence.
    pub reason: String,
    /// Secrets that are named and not stored.
    pub missing_secrets: Vec<SecretName>,
}

/// The state of the parts, for `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The chat.
    pub telegram: ChannelHealth,
    /// Whether the store answers.
    pub database: bool,
    /// Whether the keeper answers.
    pub keeper: bool,
    /// The executor's name.
    pub executor: String,
}

/// What an agent may do. A surface that holds only this cannot decide anything.
#[async_trait]
pub trait AgentPort: Send + Sync {
    /// The agent that holds this token; [`Fault::InvalidToken`] for anybody else.
    async fn authenticate(&self, token: Option<&AgentToken>) -> Result<AgentName, Fault>;
    /// Takes a request in: decides, then runs it or asks the owner.
    async fn submit(&self, agent: &AgentName, draft: Draft) -> Result<Submitted, Fault>;
    /// Says what would happen. Stores nothing but audit.
    async fn dry_run(&self, agent: &AgentName, draft: Draft) -> Result<DryRun, Fault>;
    /// One of the agent's own requests; [`Fault::NotFound`] for others' too.
    async fn execution(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault>;
    /// Waits until the status differs from `seen`, or for `patience`; returns what then is.
    async fn wait_change(
        &self,
        agent: &AgentName,
        id: &RequestId,
        seen: Status,
        patience: Duration,
    ) -> Result<Execution, Fault>;
    /// Takes a request back, or ends its run.
    async fn cancel(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault>;
    /// The secrets that exist, without values.
    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault>;
    /// The connections that exist.
    async fn connections(&self) -> Result<Vec<ConnectionView>, Fault> {
        Err(no_sign_ins())
    }
    /// Asks the owner to sign in; the agent learns no code. Joins a sign-in that is under way.
    async fn ask_sign_in(&self, _agent: &AgentName, _connection: &ApiId) -> Result<SignInAsked, Fault> {
        Err(no_sign_ins())
    }
    /// The state of the parts.
    async fn health(&self) -> Health;
}

/// What the owner may do. `by` is the identity for the audit, such as `cli` or `telegram:42`.
#[async_trait]
pub trait OwnerPort: Send + Sync {
    /// Gives a verdict; [`Fault::AlreadyDecided`] when there is one, or it is too late. What was approved and still
    /// waits for a secret can be denied.
    async fn verdict(&self, id: &RequestId, verdict: Verdict, by: &str) -> Result<Execution, Fault>;
    /// One request, code and all.
    async fn show(&self, id: &RequestId) -> Result<Execution, Fault>;
    /// Requests in one of these states (all when empty), newest first.
    async fn requests(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault>;
    /// Waits until the status differs from `seen`, or for `patience`.
    async fn wait(&self, id: &RequestId, seen: Status, patience: Duration) -> Result<Execution, Fault>;
    /// Submits code as the owner's own agent. It is decided like any other.
    async fn submit(&self, draft: Draft) -> Result<Submitted, Fault>;

    /// Every grant, newest first.
    async fn grants(&self) -> Result<Vec<Grant>, Fault>;
    /// Revokes a grant and ends the runs that use it.
    async fn revoke_grant(&self, id: &GrantId, by: &str) -> Result<(), Fault>;

    /// Every secret, without values.
    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault>;
    /// Stores or replaces a value, and resumes the requests that waited for it.
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault>;
    /// Removes a secret.
    async fn remove_secret(&self, name: &SecretName, by: &str) -> Result<(), Fault>;

    /// Every agent.
    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault>;
    /// Adds an agent; its token is in the answer and nowhere else.
    async fn add_agent(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault>;
    /// Replaces an agent's token.
    async fn rotate_agent(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault>;
    /// Revokes an agent, its open requests and its runs.
    async fn revoke_agent(&self, name: &AgentName, by: &str) -> Result<(), Fault>;

    /// The state of the whole.
    async fn overview(&self) -> Result<OwnerOverview, Fault>;
    /// Replaces an agent's tags.
    async fn tag_agent(&self, _name: &AgentName, _tags: BTreeSet<Tag>, _by: &str) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Every key that is assigned to an API.
    async fn api_keys(&self) -> Result<Vec<ApiKey>, Fault> {
        Err(no_apis())
    }
    /// Assigns a stored secret to an API; its hosts must hold the API's.
    async fn put_api_key(&self, _key: ApiKey, _by: &str) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Takes a key from an API; calls with it end.
    async fn remove_api_key(&self, _api: &ApiId, _secret: &SecretName, _by: &str) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Tries each key of an API with a call of its own.
    async fn check_api(&self, _api: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        Err(no_apis())
    }
    /// Every connection.
    async fn connections(&self) -> Result<Vec<Connection>, Fault> {
        Err(no_apis())
    }
    /// Defines one, new or replacing.
    async fn put_connection(&self, _connection: Connection, _by: &str) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Removes one; its keys and calls end with it.
    async fn remove_connection(&self, _api: &ApiId, _by: &str) -> Result<(), Fault> {
        Err(no_apis())
    }
    /// Grants an API without being asked, in place of what the agent was granted of it before. `lifetime`: `None` is
    /// until it is revoked.
    async fn grant_access(
        &self,
        _agent: &AgentName,
        _access: Access,
        _lifetime: Option<Duration>,
        _by: &str,
    ) -> Result<Grant, Fault> {
        Err(no_apis())
    }
    /// The sums of calls from this day on (days since the Unix epoch), current when this returns.
    async fn usage(&self, _since_day: i64) -> Result<Vec<UsageRow>, Fault> {
        Err(no_apis())
    }

    /// Every connection's sign-in that ever was begun.
    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        Err(no_sign_ins())
    }
    /// Does something with the sign-in of a connection; gives its record as it then is.
    async fn order_sign_in(&self, _connection: &ApiId, _order: SignInOrder, _by: &str) -> Result<SignInRecord, Fault> {
        Err(no_sign_ins())
    }
    /// Waits until a sign-in's version differs from `seen`, or for `patience`; gives what then is.
    async fn wait_sign_in(&self, _connection: &ApiId, _seen: u32, _patience: Duration) -> Result<SignInRecord, Fault> {
        Err(no_sign_ins())
    }
    /// Stores the client secret of a connection's setup; an empty one takes it away.
    async fn put_client_secret(&self, _connection: &ApiId, _value: WriteOnly, _by: &str) -> Result<(), Fault> {
        Err(no_sign_ins())
    }

    /// Turns the kill switch; on also denies what is open and ends what runs.
    async fn set_kill_switch(&self, on: bool, by: &str) -> Result<(), Fault>;

    /// Audit rows after `seq`, oldest first.
    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault>;
    /// The last audit row's position.
    async fn audit_head(&self) -> Result<i64, Fault>;
    /// Checks the whole chain.
    async fn verify_audit(&self) -> Result<ChainReport, Fault>;
    /// Records that somebody who may not decide tried to.
    async fn report_stranger(&self, by: &str, what: &str) -> Result<(), Fault>;
}

impl Exit {
    /// From start to exit, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }
}

impl RunOutput {
    /// Joined with how the run ended.
    #[must_use]
    pub fn into_result(self, exit: &Exit) -> RunResult {
        RunResult {
            stdout: self.stdout,
            stderr: self.stderr,
            exit_code: exit.code,
            duration_ms: exit.duration_ms(),
            truncated: self.truncated,
            usage: Some(Usage { cpu_ms: exit.cpu_ms, memory_bytes: exit.memory_bytes, egress: self.egress }),
        }
    }
}
