//! What agents get. Field names are those of the contract; times are Unix seconds, durations milliseconds.

use oauth3_core::{ChannelHealth, Execution, Health, Host, RequestId, SecretName, SecretRecord, Status, Trust};
use serde::Serialize;
use std::collections::BTreeSet;

/// The channel whose name the message to the agent may say.
const TELEGRAM: &str = "telegram";

/// The answer to `POST /execute` while the request is open: 202.
#[derive(Serialize)]
pub(super) struct AcceptedResponse<'a> {
    status: Status,
    request_id: &'a RequestId,
    message: String,
    expires_at: i64,
    missing_secrets: &'a [SecretName],
}

impl<'a> AcceptedResponse<'a> {
    pub(super) fn new(execution: &'a Execution, missing_secrets: &'a [SecretName], asked: &[String]) -> Self {
        let message = match execution.status {
            Status::Pending if asked.iter().any(|name| name == TELEGRAM) => "Approval request sent to Telegram".into(),
            Status::Pending => {
                format!("Waiting for the owner's approval: `oauth3 approve {}` on the owner's machine", execution.id)
            }
            Status::AwaitingSecrets => "Approved; waiting for the owner to add the missing secrets".into(),
            _ => "Running; ask for the status".into(),
        };
        Self {
            status: execution.status,
            request_id: &execution.id,
            message,
            expires_at: execution.expires_at.unix_seconds(),
            missing_secrets,
        }
    }
}

/// The answer to `POST /execute` when the request is final: 200.
#[derive(Serialize)]
pub(super) struct FinishedResponse<'a> {
    status: Status,
    request_id: &'a RequestId,
    #[serde(flatten)]
    output: Option<OutputFields<'a>>,
    trusted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// What a run left; absent when nothing ran.
#[derive(Serialize)]
struct OutputFields<'a> {
    stdout: &'a str,
    stderr: &'a str,
    exit_code: i32,
    duration: u64,
    truncated: bool,
}

impl<'a> From<&'a Execution> for FinishedResponse<'a> {
    fn from(execution: &'a Execution) -> Self {
        let output = execution.result.as_ref().map(|result| OutputFields {
            stdout: &result.stdout,
            stderr: &result.stderr,
            exit_code: result.exit_code,
            duration: result.duration_ms,
            truncated: result.truncated,
        });
        Self {
            status: execution.status,
            request_id: &execution.id,
            output,
            trusted: execution.trusted,
            error: execution.error.as_deref(),
        }
    }
}

/// The answer to `GET /execute/{id}/status` and to `DELETE /execute/{id}`.
#[derive(Serialize)]
pub(super) struct StatusResponse<'a> {
    request_id: &'a RequestId,
    status: Status,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executed_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// Camel case here only: scripts of the older systems read it so.
#[derive(Serialize)]
struct ResultFields<'a> {
    success: bool,
    stdout: &'a str,
    stderr: &'a str,
    #[serde(rename = "exitCode")]
    exit_code: i32,
    duration: u64,
    truncated: bool,
}

impl<'a> From<&'a Execution> for StatusResponse<'a> {
    fn from(execution: &'a Execution) -> Self {
        let result = execution.result.as_ref().map(|result| ResultFields {
            success: execution.status == Status::Success,
            stdout: &result.stdout,
            stderr: &result.stderr,
            exit_code: result.exit_code,
            duration: result.duration_ms,
            truncated: result.truncated,
        });
        Self {
            request_id: &execution.id,
            status: execution.status,
            created_at: execution.created_at.unix_seconds(),
            approved_at: execution.approved_at.map(|at| at.unix_seconds()),
            executed_at: execution.executed_at.map(|at| at.unix_seconds()),
            trust: execution.trust,
            result,
            error: execution.error.as_deref(),
        }
    }
}

/// The answer to `GET /secrets`.
#[derive(Serialize)]
pub(super) struct SecretsResponse<'a> {
    secrets: Vec<SecretItem<'a>>,
}

#[derive(Serialize)]
struct SecretItem<'a> {
    name: &'a SecretName,
    hosts: &'a BTreeSet<Host>,
    set: bool,
}

impl<'a> From<&'a [SecretRecord]> for SecretsResponse<'a> {
    fn from(records: &'a [SecretRecord]) -> Self {
        let item = |record: &'a SecretRecord| SecretItem { name: &record.name, hosts: &record.hosts, set: true };
        Self { secrets: records.iter().map(item).collect() }
    }
}

/// The answer to `GET /health`.
#[derive(Serialize)]
pub(super) struct HealthResponse<'a> {
    status: &'static str,
    telegram: ChannelHealth,
    database: &'static str,
    keeper: &'static str,
    executor: &'a str,
    version: &'a str,
}

impl<'a> HealthResponse<'a> {
    pub(super) fn new(health: &'a Health, version: &'a str) -> Self {
        let word = |fine: bool| if fine { "ok" } else { "error" };
        Self {
            status: if is_ok(health) { "ok" } else { "degraded" },
            telegram: health.telegram,
            database: word(health.database),
            keeper: word(health.keeper),
            executor: &health.executor,
            version,
        }
    }
}

/// Whether requests can be taken and run. Without the chat they can: messages are delivered later, and the
/// command line answers meanwhile.
pub(super) fn is_ok(health: &Health) -> bool {
    health.database && health.keeper
}
