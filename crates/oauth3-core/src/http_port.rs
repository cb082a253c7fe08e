//! HTTP to the outside, as the parts see it that only need a whole reply.

use async_trait::async_trait;
use std::time::Duration;

/// One HTTP request to the outside, made by oauth3 itself: chat, wake calls, skills, sign-ins.
#[derive(Debug)]
pub struct HttpRequest {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Absolute address.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Longest time for the whole exchange.
    pub timeout: Duration,
    /// Largest reply body; a longer one is an error.
    pub max_reply_bytes: usize,
    /// Whether the address is the owner's own configuration, so that plain http and private addresses
    /// are fine (a self-hosted Bot API, an agent on the same machine). Never for anything an agent named.
    pub owner_configured: bool,
}

/// Its reply. Redirects are not followed.
#[derive(Debug, Clone)]
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
    pub body: Vec<u8>,
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
