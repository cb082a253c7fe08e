//! Connections: what there is, and asking the owner to sign in. No code, address or account ever comes this way.

use super::caller::Caller;
use super::problem::Problem;
use super::strict::{Named, Object};
use super::{Api, body, handlers};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oauth3_core::{ApiId, ConnectionView, SignInAsked};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What stands in a path where a connection's name should.
pub(super) type NamePath = Result<Path<String>, PathRejection>;

/// The answer of the record for a sign-in that is there.
const SIGNED_IN: &str = "signed_in";

/// `GET /connections`.
pub(super) async fn list(State(api): State<Api>, Caller(_): Caller) -> Result<Response, Problem> {
    let views = api.port.connections().await?;
    let connections = views.iter().map(ConnectionItem::from).collect();
    Ok(Json(ConnectionsResponse { connections }).into_response())
}

/// `GET /connections/{name}`.
pub(super) async fn one(State(api): State<Api>, Caller(_): Caller, name: NamePath) -> Result<Response, Problem> {
    let id = connection_in(&name)?;
    let views = api.port.connections().await?;
    let view = views.iter().find(|view| view.name == id.name()).ok_or_else(no_connection)?;
    Ok(Json(ConnectionItem::from(view)).into_response())
}

/// `POST /connections/{name}/login`: the owner is asked. There is nothing that the agent could choose.
pub(super) async fn login(
    State(api): State<Api>,
    caller: Result<Caller, Problem>,
    name: NamePath,
    request: Request,
) -> Result<Response, Problem> {
    let (agent, bytes) = body::read_of(caller, request).await?;
    if !bytes.is_empty() {
        let wrong = |_| Problem::invalid("the body is empty or {}: what is signed in to, and how, is the owner's");
        serde_json::from_slice::<Object<Nothing>>(&bytes).map_err(wrong)?;
    }
    let id = connection_in(&name)?;
    let port = Arc::clone(&api.port);
    let asked = handlers::unhurried(async move { port.ask_sign_in(&agent, &id).await }).await?;
    let status = if asked.view.status.as_deref() == Some(SIGNED_IN) { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(LoginResponse::from(&asked))).into_response())
}

/// Reads the name of a connection. One of the wrong form cannot exist, and is not there like any other.
fn connection_in(path: &NamePath) -> Result<ApiId, Problem> {
    let id = path.as_ref().ok().and_then(|Path(name)| ApiId::connection(name).ok());
    id.ok_or_else(no_connection)
}

fn no_connection() -> Problem {
    Problem::not_found("there is no such connection; GET /connections lists them")
}

/// A body without fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Named for Nothing {
    const WHAT: &'static str = "an object without fields";
}

#[derive(Serialize)]
struct ConnectionsResponse<'a> {
    connections: Vec<ConnectionItem<'a>>,
}

/// A connection as agents see it. `secret` is what a request names to use it.
#[derive(Serialize)]
struct ConnectionItem<'a> {
    name: &'a str,
    base_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    scopes: &'a BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl<'a> From<&'a ConnectionView> for ConnectionItem<'a> {
    fn from(view: &'a ConnectionView) -> Self {
        Self {
            name: &view.name,
            base_url: &view.base_url,
            provider: view.provider.as_deref(),
            from: view.from.as_deref(),
            status: view.status.as_deref(),
            scopes: &view.scopes,
            secret: view.provider.as_ref().map(|_| format!("connection:{}", view.name)),
            expires_at: view.expires_at.map(|at| at.unix_seconds()),
        }
    }
}

/// The answer to a wish to have the owner sign in.
#[derive(Serialize)]
struct LoginResponse<'a> {
    status: &'a str,
    connection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    message: String,
}

impl<'a> From<&'a SignInAsked> for LoginResponse<'a> {
    fn from(asked: &'a SignInAsked) -> Self {
        let SignInAsked { view, asked } = asked;
        let status = view.status.as_deref().unwrap_or_default();
        let message = if status == SIGNED_IN {
            "The owner is signed in already".to_owned()
        } else if asked.is_empty() {
            format!("Waiting for the owner: `oauth3 login {}` on the owner's machine", view.name)
        } else {
            format!(
                "The owner was asked to sign in on {}",
                asked.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")
            )
        };
        Self { status, connection: &view.name, expires_at: view.expires_at.map(|at| at.unix_seconds()), message }
    }
}

/// A channel's name as people write it.
fn shown(channel: &str) -> &str {
    if channel == "telegram" { "Telegram" } else { channel }
}
