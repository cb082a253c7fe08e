//! Answers of the egress itself.

use crate::body::Body;
use crate::refusals::Kind;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use std::borrow::Cow;

/// Why a request ends here. The sentence is fit for the code, the agent and the audit: it holds no value.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// What the code named, when it named something.
    pub(crate) host: String,
    pub(crate) sentence: Cow<'static, str>,
    pub(crate) kind: Kind,
}

impl Refusal {
    /// The code asked for what it may not have.
    pub(crate) fn denied(status: StatusCode, host: impl Into<String>, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { status, host: host.into(), sentence: sentence.into(), kind: Kind::Denied }
    }

    /// Something that the request needs did not work.
    pub(crate) fn failed(status: StatusCode, host: impl Into<String>, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { status, host: host.into(), sentence: sentence.into(), kind: Kind::Failed }
    }

    /// The answer that the code reads.
    pub(crate) fn into_response(self) -> Response<Body> {
        let text = if self.host.is_empty() {
            format!("oauth3 egress: {}\n", self.sentence)
        } else {
            format!("oauth3 egress: {}: {}\n", self.host, self.sentence)
        };
        let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The answer to a CONNECT that is allowed, or to a WebSocket: nothing follows it that is a body.
pub(crate) fn connected() -> Response<Body> {
    Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync())
}
