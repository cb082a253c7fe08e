//! What the API says about itself: the guide at `/` and `/openapi.json`. Both are public.

use super::Api;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// The guide; `{url}` stands for the address of this API.
const GUIDE: &str = include_str!("guide.md");
/// The description of every route, kept by hand; a test compares it with the router.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
/// Shown when neither the owner nor the caller says where this is.
const DEFAULT_URL: &str = "http://127.0.0.1:3737";
/// Longest `Host` that the guide repeats, in bytes.
const MAX_HOST_BYTES: usize = 255;

/// `GET /`: a short guide for agents.
pub(super) async fn guide(State(api): State<Api>, headers: HeaderMap) -> Response {
    let url = match api.config.public_url.trim_end_matches('/') {
        "" => called_as(&headers).unwrap_or_else(|| DEFAULT_URL.to_owned()),
        own => own.to_owned(),
    };
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], GUIDE.replace("{url}", &url)).into_response()
}

/// `GET /openapi.json`.
pub(super) async fn openapi(State(api): State<Api>) -> Json<Value> {
    // The document is part of this program and a test parses it.
    let mut document: Value = serde_json::from_str(OPENAPI).unwrap_or_default();
    if let Some(info) = document.get_mut("info").and_then(Value::as_object_mut) {
        info.insert("version".into(), api.config.version.clone().into());
    }
    if !api.config.public_url.is_empty()
        && let Some(root) = document.as_object_mut()
    {
        root.insert("servers".into(), serde_json::json!([{ "url": api.config.public_url }]));
    }
    Json(document)
}

/// The address that the caller used, when it is a plain one: it is repeated in a text that agents follow.
fn called_as(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let plain = !host.is_empty()
        && host.len() <= MAX_HOST_BYTES
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    plain.then(|| format!("http://{host}"))
}
