//! Reads a request's body within its bounds.

use super::caller::Caller;
use super::problem::Problem;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use oauth3_core::AgentName;
use std::time::Duration;
use tokio::time::timeout;

/// Largest request body, in bytes (2 MiB): the largest code as a JSON string, its arguments, and room.
pub const MAX_BODY_BYTES: usize = 2 << 20;
/// Longest that a body may take to come in, in seconds.
const BODY_READ_SECONDS: u64 = 30;
/// How much of a body that is too large is read and thrown away, in bytes (64 MiB), so that a client which
/// sends everything before it listens still gets the answer.
const MAX_DRAINED_BYTES: usize = 64 << 20;

/// The whole body, of a caller that is known; what another one still sends is read and thrown away.
///
/// # Errors
/// Who the caller is not, and as [`read`].
pub(super) async fn read_of(caller: Result<Caller, Problem>, request: Request) -> Result<(AgentName, Bytes), Problem> {
    match caller {
        Ok(Caller(agent)) => Ok((agent, read(request).await?)),
        Err(problem) => {
            discard(request.into_body()).await;
            Err(problem)
        }
    }
}

/// The whole body.
///
/// # Errors
/// 413 when it is larger than [`MAX_BODY_BYTES`], 408 when it takes too long, 400 when it breaks off or is
/// encoded.
pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    if is_encoded(request.headers()) {
        discard(request.into_body()).await;
        return Err(Problem::invalid("send the body as it is, without a content-encoding"));
    }
    let late = |_| {
        let text = format!("the body did not come within {BODY_READ_SECONDS} seconds");
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", text)
    };
    timeout(Duration::from_secs(BODY_READ_SECONDS), collect(request.into_body())).await.map_err(late)?
}

/// Reads and throws away what a refused client still sends, within the same bounds: one that writes everything
/// before it listens would otherwise see a broken connection instead of the answer.
pub(super) async fn discard(body: Body) {
    // Whatever went wrong here, the answer is the refusal.
    let _ = timeout(Duration::from_secs(BODY_READ_SECONDS), collect(body)).await;
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|field| !field.as_bytes().eq_ignore_ascii_case(b"identity"))
}

async fn collect(mut body: Body) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    let mut seen = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::invalid("the body broke off; send it again"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= MAX_BODY_BYTES {
            whole.extend_from_slice(&data);
        } else if seen <= MAX_DRAINED_BYTES {
            whole = BytesMut::new();
        } else {
            break;
        }
    }
    if seen > MAX_BODY_BYTES {
        let text = format!("the body is larger than {MAX_BODY_BYTES} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
    }
    Ok(whole.freeze())
}
