//! Answers of the proxy itself, in the words of the API that the client thinks it speaks with.

use crate::answer::Reply;
use crate::limits::RETRY_AFTER_SECONDS;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use oauth3_core::{Fault, RequestId};
use oauth3_provider::Dialect;
use std::borrow::Cow;

/// Says which request of the owner's an answer is about.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-oauth3-request-id");

/// Why a call ends here. The sentence holds no value of a secret.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// A registered code, as the agents' API has it.
    pub(crate) code: &'static str,
    pub(crate) sentence: Cow<'static, str>,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
    /// What the owner was asked.
    pub(crate) request: Option<RequestId>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, code: &'static str, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, sentence: sentence.into(), retry_after: None, request: None }
    }

    /// The client may not.
    pub(crate) fn denied(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied_by_policy", sentence)
    }

    /// The client asks for what cannot be.
    pub(crate) fn invalid(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", sentence)
    }

    /// Something that the call needs does not work.
    pub(crate) fn unavailable(sentence: impl Into<Cow<'static, str>>) -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", sentence);
        Self { retry_after: Some(RETRY_AFTER_SECONDS), ..refused }
    }

    /// The API did not answer as it should.
    pub(crate) fn upstream(status: StatusCode, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, "upstream_failed", sentence)
    }

    /// The answer, in the shape of the API's own errors.
    pub(crate) fn into_response(self, dialect: Dialect) -> Response<Reply> {
        let refusal = dialect.refusal(self.status.as_u16(), self.code, &self.sentence);
        let mut response = Response::new(Reply::whole(Bytes::from(refusal.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(refusal.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in refusal.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"oauth3\""));
        }
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"oauth3\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(id) = self.request.and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let (code, sentence) = (fault.code(), fault.to_string());
        match fault {
            Fault::RateLimited { retry_after, .. } => {
                Self { retry_after: Some(retry_after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, sentence) }
            }
            Fault::InvalidToken(_) => Self::new(StatusCode::UNAUTHORIZED, code, sentence),
            Fault::NotFound(_) => Self::new(StatusCode::NOT_FOUND, code, sentence),
            Fault::DeniedByPolicy(_) => Self::denied(sentence),
            Fault::AlreadyDecided(_) => Self { retry_after: Some(1), ..Self::denied(sentence) },
            Fault::Unavailable(_) => Self::unavailable(sentence),
            _ => Self::invalid(sentence),
        }
    }
}
