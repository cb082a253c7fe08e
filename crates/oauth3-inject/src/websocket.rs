//! WebSocket (RFC 6455): the opening handshake, twice, and frames that are looked at on their way.
//!
//! The handshake is a request like any other: its host is checked, its fields may hold placeholders, uses are
//! recorded before a value leaves. The key toward the host is our own, and so is the proof toward the code, so
//! that neither side can pass off something else as a handshake. No extension is agreed on, for what is
//! compressed cannot be scrubbed.

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod inspect;
mod pipe;
mod relay;
mod utf8;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzzing::fuzz;

use crate::body::Body;
use crate::fill;
use crate::forward::{hand_back, prepare};
use crate::hygiene::listed;
use crate::limits::{HANDSHAKE_TIMEOUT, REPLY_TIMEOUT};
use crate::pool::Sender;
use crate::reply::{Refusal, switching};
use crate::run::Run;
use crate::serve::Place;
use crate::target::Entry;
use crate::upstream;
use data_encoding::BASE64;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use oauth3_core::Host;
use sha1::{Digest, Sha1};
use std::sync::Arc;
use tokio::time::timeout;

/// Appended to a key before it is hashed (RFC 6455 §1.3).
const PROOF_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;
const PROTOCOL: HeaderValue = HeaderValue::from_static("websocket");
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// Whether a request asks for a WebSocket and nothing else.
pub(crate) fn wanted<B>(request: &Request<B>) -> bool {
    let mut asked = request.headers().get_all(UPGRADE).iter();
    let first = asked.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()));
    first && asked.next().is_none()
}

/// Opens a WebSocket to the host that the request names, and answers the code when the host has agreed. Any other
/// answer of the host is handed back as it is for any request.
pub(crate) async fn open(
    run: &Arc<Run>,
    entry: &Entry,
    place: &Place,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    match handshake(run, entry, place, head, body, upgrade).await {
        Ok(reply) => reply,
        Err(refusal) => {
            run.refuse(&refusal).await;
            refusal.into_response()
        }
    }
}

async fn handshake(
    run: &Arc<Run>,
    entry: &Entry,
    place: &Place,
    mut head: Parts,
    body: Incoming,
    upgrade: OnUpgrade,
) -> Result<Response<Body>, Refusal> {
    let proof = check(&head)?;
    for name in [UPGRADE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    let offered = protocols(&head.headers);
    let (host, bars) = prepare(run, entry, &mut head)?;
    let (watched, _) = fill::fill(run, &host, &bars, &mut head, &mut Some(body)).await?;
    let sent = protocols(&head.headers);
    let key = new_key(&host)?;
    head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(UPGRADE, PROTOCOL);
    head.headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());

    let asked = upstream::send_alone(run, &host, Request::from_parts(head, watched));
    let (mut reply, sender) = timeout(REPLY_TIMEOUT, asked).await.unwrap_or_else(|_| {
        let sentence = "the host did not answer in time";
        Err(Refusal::failed(StatusCode::GATEWAY_TIMEOUT, host.to_string(), sentence))
    })?;
    if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        return hand_back(run, host, reply, sender).await;
    }
    let chosen = agreed(reply.headers(), &proof_of(key.as_bytes()), &sent)
        .map_err(|sentence| Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), sentence))?
        // What the host was sent may hold a value; the code gets what it offered itself.
        .and_then(|at| offered.get(at).cloned());
    let upstream = hyper::upgrade::on(&mut reply);
    run.tasks.spawn(carry(Arc::clone(run), host, Arc::clone(place), sender, upgrade, upstream));
    Ok(switching(proof, chosen))
}

/// Waits until both sides have switched, and carries frames from then on.
async fn carry(run: Arc<Run>, host: Host, place: Place, sender: Sender, code: OnUpgrade, upstream: OnUpgrade) {
    // Both count toward the bounds of the run for as long as the connection stands.
    let _held = (place, sender);
    let switched = timeout(HANDSHAKE_TIMEOUT, async { tokio::try_join!(code, upstream) });
    match switched.await {
        Ok(Ok((code, upstream))) => relay::relay(&run, &host, TokioIo::new(code), TokioIo::new(upstream)).await,
        Ok(Err(error)) => tracing::debug!(%error, "the upgrade was not followed"),
        Err(_) => tracing::debug!("the upgrade took too long"),
    }
}

/// Checks the code's half (RFC 6455 §4.2.1) and makes the proof that it waits for.
fn check(head: &Parts) -> Result<HeaderValue, Refusal> {
    let refuse = |status, sentence: &'static str| Err(Refusal::denied(status, "", sentence));
    let one = |name: HeaderName| {
        let mut fields = head.headers.get_all(name).iter();
        fields.next().filter(|_| fields.next().is_none())
    };
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return refuse(StatusCode::BAD_REQUEST, "a WebSocket begins with GET and HTTP/1.1");
    }
    if !listed(&head.headers, CONNECTION, "upgrade") {
        return refuse(StatusCode::BAD_REQUEST, "a WebSocket begins with Connection: Upgrade");
    }
    let empty = one(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if !empty || head.headers.get_all(CONTENT_LENGTH).iter().count() > 1 || head.headers.contains_key(TRANSFER_ENCODING)
    {
        return refuse(StatusCode::BAD_REQUEST, "the request for a WebSocket has a body");
    }
    if one(SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return refuse(StatusCode::UPGRADE_REQUIRED, "only version 13 of the WebSocket protocol is supported");
    }
    let key =
        one(SEC_WEBSOCKET_KEY).filter(|key| BASE64.decode(key.as_bytes()).is_ok_and(|key| key.len() == KEY_BYTES));
    match key {
        Some(key) => Ok(proof_of(key.as_bytes())),
        None => refuse(StatusCode::BAD_REQUEST, "the Sec-WebSocket-Key is not 16 bytes in base64"),
    }
}

/// Checks the host's half (RFC 6455 §4.1); which of the protocols that it was offered it chose.
fn agreed(headers: &HeaderMap, proof: &HeaderValue, sent: &[String]) -> Result<Option<usize>, &'static str> {
    if !listed(headers, CONNECTION, "upgrade") || !listed(headers, UPGRADE, "websocket") {
        return Err("the host wants another protocol");
    }
    let mut proofs = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    if proofs.next() != Some(proof) || proofs.next().is_some() {
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

fn new_key(host: &Host) -> Result<HeaderValue, Refusal> {
    let mut key = [0; KEY_BYTES];
    let filled = getrandom::fill(&mut key).is_ok();
    let key = HeaderValue::from_str(&BASE64.encode(&key)).ok().filter(|_| filled);
    key.ok_or_else(|| Refusal::failed(StatusCode::BAD_GATEWAY, host.to_string(), "this machine has no randomness"))
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
