//! The words of oauth3: names, ids, digests, intents, executions, verdicts, grants, audit events,
//! and the ports through which the parts reach each other.
//!
//! No I/O, no async runtime, no plaintext: nothing here opens a file or a socket, and the only
//! type that may carry a secret on its way in ([`WriteOnly`]) cannot be printed, cloned or compared.

mod access;
mod address;
mod archive;
mod audit;
mod credential;
mod detail;
mod digest;
mod execution;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grant;
mod header;
mod host;
mod host_pattern;
mod http_port;
mod ids;
mod intent;
mod limit;
mod limits;
mod names;
mod owner;
mod ports;
mod proxy_key;
mod rule;
mod sign_in;
mod skill;
mod store_port;
mod submission;
mod time;
mod token;
mod uses;

pub use access::{
    Access, ApiCheck, ApiId, ApiInfo, ApiKey, Budget, Connection, KeyPlace, MAX_MODELS, MicroUsd, ModelPattern, Tag,
    Tally, UsageRow,
};
pub use address::{AddressClass, classify, is_public};
pub use archive::{read_archive, write_archive};
pub use audit::{AuditEvent, AuditKind, AuditRow, ChainReport};
pub use credential::{Credential, WriteOnly};
pub use detail::Detail;
pub use digest::{Digest, DigestBuilder};
pub use execution::{Execution, RunResult, Status};
pub use grant::{Grant, Trust, Verdict};
pub use header::parse_header;
pub use host::{Host, synthetic_address, synthetic_addresses};
pub use host_pattern::HostPattern;
pub use http_port::{HttpPort, HttpRequest, HttpResponse};
pub use ids::{GrantId, RequestId};
pub use intent::Intent;
pub use limit::{AskedLimits, Limit};
pub use limits::{
    Ceilings, EgressUsage, Limits, MAX_ARGS_BYTES, MAX_CODE_BYTES, MAX_HOSTS, MAX_REVEALED_BYTES, MAX_SECRETS,
    MAX_SKILL_FILES, MAX_WAIT_SECONDS, Usage,
};
pub use names::{AgentName, ArgName, InvalidName, Runtime, SecretName, SkillId};
pub use owner::{AgentRecord, NewSecret, OwnerOverview, SecretRecord};
pub use ports::{
    AccessAsk, AgentPort, AuditMac, Channel, ChannelHealth, Clock, DryRun, Exit, ExitReason, Fault, Health, Job,
    Keeper, KeeperEvent, Lane, LaneFds, LaneSpec, ListenerFd, ListenerRole, OpenedRun, OwnerPort, RunOutput, Runner,
    Submitted,
};
pub use proxy_key::ProxyKey;
pub use rule::{InvalidRule, Rule};
pub use sign_in::{
    Account, Attempt, AttemptEnd, ConnectionView, Derived, DerivedWay, FailedAttempt, MAX_CLIENT_ID_BYTES,
    MAX_SCOPE_BYTES, MAX_SCOPES, Prompt, SignInAsked, SignInOrder, SignInRecord, SignInSetup, SignInState,
};
pub use skill::{Bundle, Package, Packages, Skill, SkillFile};
pub use store_port::{SealedSecret, SealedSignIn, Standing, Store, TokenChange};
pub use submission::{Declared, Draft, Parts, Resolved, Several, Source, SubmissionError};
pub use time::Timestamp;
pub use token::{AgentToken, TokenHash, TokenId};
pub use uses::{
    DEFAULT_JWT_LIFETIME_SECONDS, DEFAULT_TIMESTAMP_HEADER, HmacEncoding, HmacOver, JwtAlgorithm, Kind, MAX_RULES,
    Reveal, Slot, Uses, UsesChange,
};
