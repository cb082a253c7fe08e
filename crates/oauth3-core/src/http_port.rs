//! HTTP to the outside, as the parts see it that only need a whole reply.

use async_trait::async_trait;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// One HTTP request to the outside, made by oauth3 itself: chat, wake calls, skills, sign-ins.
///
/// Fields and body may be credentials: they are wiped when it is done with, and nothing prints them.
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Absolute address.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// Longest time for the whole exchange.
    pub timeout: Duration,
    /// Largest reply body; a longer one is an error.
    pub max_reply_bytes: usize,
    /// Whether the address is the owner's own configuration, so that plain http and private addresses
    /// are fine (a self-hosted Bot API, an agent on the same machine). Never for anything an agent named.
    pub owner_configured: bool,
}

/// Its reply. Redirects are not followed. The body is wiped when it is done with, and nothing prints it.
#[derive(Clone)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The `location` field.
    pub location: Option<String>,
    /// The `content-type` field.
    pub content_type: Option<String>,
    /// The `retry-after` field, when it is a number of seconds.
    pub retry_after: Option<u64>,
    /// The body, whole.
    pub body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for HttpRequest {
    /// Without the address too, which may have a token in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpRequest({}, {} bytes)", self.method, self.body.len())
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpResponse({}, {} bytes)", self.status, self.body.len())
    }
}

/// Speaks HTTP to the outside through checked addresses.
#[async_trait]
pub trait HttpPort: Send + Sync {
    /// Sends one request.
    ///
    /// # Errors
    /// A sentence that names the host and what failed, never the path, query or any field: those may hold credentials.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_exchange_is_printed() {
        let secret = || "canary-token".to_owned();
        let request = HttpRequest {
            method: "POST",
            url: format!("https://api.example.com/{}", secret()),
            headers: vec![("authorization", secret().into())],
            body: secret().into_bytes().into(),
            timeout: Duration::ZERO,
            max_reply_bytes: 0,
            owner_configured: false,
        };
        let body = secret().into_bytes().into();
        let response =
            HttpResponse { status: 200, location: Some(secret()), content_type: None, retry_after: None, body };
        assert_eq!(format!("{request:?} {response:?}"), "HttpRequest(POST, 12 bytes) HttpResponse(200, 12 bytes)");
    }
}
