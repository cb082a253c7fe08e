//! The opening handshake (RFC 6455 §4): the client's with us, and ours with the host.

use crate::hygiene::listed;
use data_encoding::BASE64;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use sha1::{Digest, Sha1};
use std::fmt;

/// Appended to a key before it is hashed (RFC 6455 §1.3).
const PROOF_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;
const PROTOCOL: HeaderValue = HeaderValue::from_static("websocket");
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// A WebSocket that a client asked for.
pub struct Opening {
    /// What the client waits for.
    proof: HeaderValue,
    /// What the host has to answer, once it was asked.
    expected: Option<HeaderValue>,
    /// The protocols that the client offered, and those that the host was sent in their place.
    offered: Vec<String>,
    sent: Vec<String>,
}

impl Opening {
    /// Whether these fields ask for a WebSocket and nothing else.
    #[must_use]
    pub fn is_wanted(headers: &HeaderMap) -> bool {
        let mut asked = headers.get_all(UPGRADE).iter();
        let first = asked.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()));
        first && asked.next().is_none()
    }

    /// Checks the client's half (RFC 6455 §4.2.1) and takes it out of the request. What is offered of protocols stays
    /// there, and extensions do not: what is compressed cannot be scrubbed.
    ///
    /// # Errors
    /// The status and a sentence.
    pub fn take(head: &mut Parts) -> Result<Self, (StatusCode, &'static str)> {
        let proof = check(head)?;
        for name in [UPGRADE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS, CONTENT_LENGTH] {
            head.headers.remove(name);
        }
        Ok(Self { proof, expected: None, offered: protocols(&head.headers), sent: Vec::new() })
    }

    /// Puts our half into a request to the host, with a key of our own.
    ///
    /// # Errors
    /// A sentence, when this machine has no randomness.
    pub fn ask(&mut self, headers: &mut HeaderMap) -> Result<(), &'static str> {
        let key = new_key().ok_or("this machine has no randomness")?;
        self.expected = Some(proof_of(key.as_bytes()));
        self.sent = protocols(headers);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, PROTOCOL);
        headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
        headers.insert(SEC_WEBSOCKET_KEY, key);
        Ok(())
    }

    /// Checks the half of a host that switches protocols (RFC 6455 §4.1), and makes the answer for the client
    /// (§4.2.2).
    ///
    /// # Errors
    /// A sentence, when the host agreed to something else.
    pub fn answer(&self, headers: &HeaderMap) -> Result<Response<()>, &'static str> {
        let chosen = agreed(headers, self.expected.as_ref(), &self.sent)?;
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = response.headers_mut();
        fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(UPGRADE, PROTOCOL);
        fields.insert(SEC_WEBSOCKET_ACCEPT, self.proof.clone());
        // What the host was sent may hold a value; the client gets what it offered itself.
        if let Some(name) = chosen.and_then(|at| HeaderValue::try_from(self.offered.get(at)?).ok()) {
            fields.insert(SEC_WEBSOCKET_PROTOCOL, name);
        }
        Ok(response)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}

/// Checks the client's half, and makes the proof that it waits for.
fn check(head: &Parts) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let one = |name: HeaderName| {
        let mut fields = head.headers.get_all(name).iter();
        fields.next().filter(|_| fields.next().is_none())
    };
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return Err((StatusCode::BAD_REQUEST, "a WebSocket begins with GET and HTTP/1.1"));
    }
    if !listed(&head.headers, CONNECTION, "upgrade") {
        return Err((StatusCode::BAD_REQUEST, "a WebSocket begins with Connection: Upgrade"));
    }
    let empty = one(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if !empty || head.headers.get_all(CONTENT_LENGTH).iter().count() > 1 || head.headers.contains_key(TRANSFER_ENCODING)
    {
        return Err((StatusCode::BAD_REQUEST, "the request for a WebSocket has a body"));
    }
    if one(SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 of the WebSocket protocol is supported"));
    }
    let key =
        one(SEC_WEBSOCKET_KEY).filter(|key| BASE64.decode(key.as_bytes()).is_ok_and(|key| key.len() == KEY_BYTES));
    match key {
        Some(key) => Ok(proof_of(key.as_bytes())),
        None => Err((StatusCode::BAD_REQUEST, "the Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

/// Checks the host's half; which of the protocols that it was offered it chose.
fn agreed(headers: &HeaderMap, proof: Option<&HeaderValue>, sent: &[String]) -> Result<Option<usize>, &'static str> {
    if !listed(headers, CONNECTION, "upgrade") || !listed(headers, UPGRADE, "websocket") {
        return Err("the host wants another protocol");
    }
    let mut proofs = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    if proof.is_none() || proofs.next() != proof || proofs.next().is_some() {
        return Err("the host did not answer the WebSocket's key");
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err("the host insists on an extension of WebSocket that was not asked for");
    }
    let mut chosen = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    match (chosen.next(), chosen.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => match sent.iter().position(|offered| offered.as_bytes() == one.as_bytes()) {
            Some(at) => Ok(Some(at)),
            None => Err("the host chose a WebSocket protocol that it was not offered"),
        },
        _ => Err("the host chose more than one WebSocket protocol"),
    }
}

fn new_key() -> Option<HeaderValue> {
    let mut key = [0; KEY_BYTES];
    let filled = getrandom::fill(&mut key).is_ok();
    HeaderValue::from_str(&BASE64.encode(&key)).ok().filter(|_| filled)
}

/// What proves that a key was read (RFC 6455 §4.2.2).
fn proof_of(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(PROOF_SUFFIX).finalize();
    // Base64 is always a field's value.
    HeaderValue::from_str(&BASE64.encode(&digest)).unwrap_or(HeaderValue::from_static(""))
}

/// The protocols that are offered, in order.
fn protocols(headers: &HeaderMap) -> Vec<String> {
    let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = fields.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    texts.flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        // RFC 6455 §1.3.
        assert_eq!(proof_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
