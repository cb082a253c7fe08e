//! Errors as agents see them, and the one place where every answer passes on its way out.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use futures::FutureExt as _;
use oauth3_core::Fault;
use serde::Serialize;
use std::panic::AssertUnwindSafe;

/// Names the HTTP call; not to be confused with the id of a request to execute something.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Random bytes in a call's id.
const CALL_ID_BYTES: usize = 10;

/// An error on its way to the agent: a status, a registered code, a short sentence.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    text: String,
    /// For 429, in seconds.
    retry_after: Option<u64>,
    /// For 401: what the client has to show (RFC 6750 §3).
    challenge: Option<&'static str>,
}

impl Problem {
    /// An error without special fields.
    pub(super) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), retry_after: None, challenge: None }
    }

    /// 400 `invalid_request`.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", text)
    }

    /// 404 `not_found`.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// 503 `unavailable`.
    pub(super) fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "oauth3 cannot answer now; nothing was permitted")
    }

    /// 401 because no token came.
    pub(super) fn no_token(text: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "invalid_token", text);
        Self { challenge: Some(r#"Bearer realm="oauth3""#), ..problem }
    }

    /// 401 because what came is no valid token.
    pub(super) fn bad_token(text: impl Into<String>) -> Self {
        let challenge = Some(r#"Bearer realm="oauth3", error="invalid_token""#);
        Self { challenge, ..Self::no_token(text) }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let status = match &fault {
            Fault::InvalidRequest(_) | Fault::ConflictingMetadata(_) | Fault::UnknownRuntime(_) => {
                StatusCode::BAD_REQUEST
            }
            Fault::InvalidToken(text) => return Self::bad_token(text),
            Fault::DeniedByPolicy(_) => StatusCode::FORBIDDEN,
            Fault::NotFound(_) => StatusCode::NOT_FOUND,
            Fault::AlreadyDecided(_) | Fault::Exists(_) => StatusCode::CONFLICT,
            Fault::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Fault::SkillFetchFailed(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Fault::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Fault::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let retry_after = match &fault {
            // "Now" is no answer to "too many".
            Fault::RateLimited { retry_after, .. } => Some((*retry_after).max(1)),
            _ => None,
        };
        Self { retry_after, ..Self::new(status, fault.code(), fault.to_string()) }
    }
}

/// Leaves the rendering to [`finish`], which knows the call's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Serialize)]
struct ErrorResponse<'a> {
    error: &'static str,
    error_description: &'a str,
    request_id: &'a str,
}

/// The outermost layer: refuses web pages, survives panics, renders errors, and sets the fields that every
/// answer has.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let id = call_id();
    let response = if request.headers().contains_key(ORIGIN) {
        super::body::discard(request.into_body()).await;
        let text = "web pages may not call this API; call it from the agent, without an Origin field";
        Problem::new(StatusCode::FORBIDDEN, "denied_by_policy", text).into_response()
    } else {
        // A panic is a defect of one handler; it must not take the other calls of the connection with it.
        AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(call = %id, "a handler panicked");
            Problem::unavailable().into_response()
        })
    };
    let mut response = render(response, &id);
    tracing::debug!(call = %id, status = response.status().as_u16(), "answered an agent");
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// For paths that do not exist.
pub(super) async fn no_such_route() -> Problem {
    Problem::not_found("there is no such path; GET / shows what there is")
}

/// For paths that exist under another method.
pub(super) async fn method_not_allowed() -> Problem {
    let text = "this path has no such method; GET / shows what there is";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}

fn render(mut response: Response, id: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let body = ErrorResponse { error: problem.code, error_description: &problem.text, request_id: id };
    let mut rendered = (problem.status, Json(body)).into_response();
    // The router tells here which methods a path has.
    if let Some(allow) = response.headers_mut().remove(axum::http::header::ALLOW) {
        rendered.headers_mut().insert(axum::http::header::ALLOW, allow);
    }
    if let Some(seconds) = problem.retry_after {
        rendered.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = problem.challenge {
        rendered.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    rendered
}

/// A random name for this call. A system without randomness still answers.
fn call_id() -> String {
    let mut bytes = [0u8; CALL_ID_BYTES];
    match getrandom::fill(&mut bytes) {
        Ok(()) => format!("call_{}", HEXLOWER.encode(&bytes)),
        Err(_) => "call_unnamed".to_owned(),
    }
}
