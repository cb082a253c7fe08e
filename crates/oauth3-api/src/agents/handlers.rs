//! One function per route.

use super::caller::Caller;
use super::problem::Problem;
use super::request::{ExecuteRequest, IdPath, id_in, wait_in};
use super::response::{AcceptedResponse, FinishedResponse, HealthResponse, SecretsResponse, StatusResponse, is_ok};
use super::{Api, body};
use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oauth3_core::{AgentName, AgentPort, ChannelHealth, Execution, Fault, Health, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long the answer to a request under a standing grant waits beyond the run's own time limit, in seconds.
const GRANT_SLACK_SECONDS: u64 = 30;
/// Longest that the parts may take to say how they are, in seconds; after that they are not well.
const HEALTH_SECONDS: u64 = 5;

/// `POST /execute`: authenticate, read, decide (in the port), and answer with the result or a promise.
pub(super) async fn execute(
    State(api): State<Api>,
    caller: Result<Caller, Problem>,
    request: Request,
) -> Result<Response, Problem> {
    let (agent, bytes) = body::read_of(caller, request).await?;
    let call = ExecuteRequest::parse(&bytes)?;
    if call.dry_run {
        return Ok(Json(api.port.dry_run(&agent, call.draft).await?).into_response());
    }
    let submitted = {
        let (port, agent) = (Arc::clone(&api.port), agent.clone());
        unhurried(async move { port.submit(&agent, call.draft).await }).await?
    };
    let execution = settle(api.port.as_ref(), &agent, submitted.execution, call.wait).await;
    Ok(if execution.status.is_final() {
        (StatusCode::OK, Json(FinishedResponse::from(&execution))).into_response()
    } else {
        let accepted = AcceptedResponse::new(&execution, &submitted.missing_secrets, &submitted.asked);
        (StatusCode::ACCEPTED, Json(accepted)).into_response()
    })
}

/// `GET /execute/{id}/status`.
pub(super) async fn status(
    State(api): State<Api>,
    Caller(agent): Caller,
    id: IdPath,
    query: RawQuery,
) -> Result<Response, Problem> {
    let id = id_in(&id)?;
    let wait = wait_in(&query)?;
    let mut execution = api.port.execution(&agent, &id).await?;
    if !wait.is_zero() && !execution.status.is_final() {
        execution = api.port.wait_change(&agent, &id, execution.status, wait).await?;
    }
    Ok(Json(StatusResponse::from(&execution)).into_response())
}

/// `DELETE /execute/{id}`.
pub(super) async fn cancel(State(api): State<Api>, Caller(agent): Caller, id: IdPath) -> Result<Response, Problem> {
    let id = id_in(&id)?;
    let port = Arc::clone(&api.port);
    let execution = unhurried(async move { port.cancel(&agent, &id).await }).await?;
    Ok((StatusCode::ACCEPTED, Json(StatusResponse::from(&execution))).into_response())
}

/// `GET /secrets`: names, hosts, and whether set; never values.
pub(super) async fn secrets(State(api): State<Api>, Caller(_): Caller) -> Result<Response, Problem> {
    let records = api.port.secrets().await?;
    Ok(Json(SecretsResponse::from(records.as_slice())).into_response())
}

/// `GET /health`: public, and 503 when no request could be taken or run.
pub(super) async fn health(State(api): State<Api>) -> Response {
    let silent = Health { telegram: ChannelHealth::Error, database: false, keeper: false, executor: String::new() };
    let health = timeout(Duration::from_secs(HEALTH_SECONDS), api.port.health()).await.unwrap_or(silent);
    let status = if is_ok(&health) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(HealthResponse::new(&health, &api.config.version))).into_response()
}

/// Waits for the final state: as long as the agent said, and for what a standing grant allows until its run
/// has ended. An error on the way leaves what is known: the request is in, and its id must reach the agent.
async fn settle(port: &dyn AgentPort, agent: &AgentName, mut execution: Execution, wait: Duration) -> Execution {
    let patience = if is_granted_run(&execution) {
        wait.max(execution.intent.limits.timeout().saturating_add(Duration::from_secs(GRANT_SLACK_SECONDS)))
    } else {
        wait
    };
    let begun = Instant::now();
    while !execution.status.is_final() {
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            break;
        }
        match port.wait_change(agent, &execution.id, execution.status, left).await {
            Ok(next) if next.status == execution.status => return next,
            Ok(next) => execution = next,
            Err(error) => {
                tracing::warn!(code = error.code(), "cannot wait for a request; its id is answered");
                break;
            }
        }
    }
    execution
}

fn is_granted_run(execution: &Execution) -> bool {
    execution.trusted && matches!(execution.status, Status::Approved | Status::Executing)
}

/// Brings a call that changes something to its end even when the client hangs up in the middle of it.
pub(super) async fn unhurried<T: Send + 'static>(
    call: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(call).await {
        Ok(answer) => Ok(answer?),
        Err(error) => {
            tracing::error!(panicked = error.is_panic(), "a call to the port did not end");
            Err(Problem::unavailable())
        }
    }
}
