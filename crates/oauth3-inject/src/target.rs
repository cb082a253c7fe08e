//! Where a request goes: one host that everything in the request agrees on and that the permit allows.

use crate::limits::MAX_NAMED_BYTES;
use crate::reply::Refusal;
use http::header::HOST;
use http::request::Parts;
use http::uri::{Scheme, Uri};
use http::{HeaderMap, StatusCode};
use oauth3_core::{Host, ProxyKey};
use std::collections::BTreeSet;

/// How a request came in.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Over TLS that named this host on this port. `asked` is what CONNECT named before, if there was one.
    Tls {
        /// The name in the ClientHello, in lower case.
        name: String,
        /// The port that was dialled or named.
        port: u16,
        /// The host of the CONNECT.
        asked: Option<Host>,
    },
    /// In clear, at the proxy. Each request must bring the key, when there is one.
    Proxy(Option<ProxyKey>),
    /// In clear, at port 80.
    Plain,
}

const NOT_ALLOWED: &str =
    "this host is not allowed for this run; name it in the request's network list so that the owner can allow it";
const USE_HTTPS: &str = "plain http is refused; use https";

/// Finds the one host that a request is for.
pub(crate) fn target(entry: &Entry, head: &Parts, allowed: &BTreeSet<Host>) -> Result<Host, Refusal> {
    let host = match entry {
        Entry::Plain => return Err(Refusal::denied(StatusCode::FORBIDDEN, named_host(head), USE_HTTPS)),
        Entry::Proxy(_) => proxied(head)?,
        Entry::Tls { name, port, asked } => {
            // The name of nearly every request stands in the list as it is, and need not be read anew.
            let known = allowed.iter().find(|host| host.port() == *port && host.name() == name);
            let host = known.map_or_else(|| allow(&format!("{name}:{port}"), allowed), |host| Ok(host.clone()))?;
            if asked.as_ref().is_some_and(|asked| *asked != host) {
                let sentence = "the name in the TLS handshake is not the one that CONNECT asked for";
                return Err(Refusal::denied(StatusCode::MISDIRECTED_REQUEST, clean(name), sentence));
            }
            if head.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
                return Err(Refusal::denied(StatusCode::FORBIDDEN, host.to_string(), USE_HTTPS));
            }
            host
        }
    };
    let agrees = |text: &str| host.is(text);
    let header = host_header(&head.headers)?;
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    // Only a request that carries its authority in full can do without the field.
    if header.is_none() && authority.is_none() {
        return Err(Refusal::denied(StatusCode::BAD_REQUEST, host.to_string(), "the request has no Host field"));
    }
    if !header.is_none_or(&agrees) || !authority.is_none_or(&agrees) {
        let sentence = "the request names another host than the connection that it came over";
        return Err(Refusal::denied(StatusCode::MISDIRECTED_REQUEST, host.to_string(), sentence));
    }
    if allowed.contains(&host) { Ok(host) } else { Err(not_allowed(&host.to_string())) }
}

/// Reads `name:port` and refuses what the permit does not name.
pub(crate) fn allow(text: &str, allowed: &BTreeSet<Host>) -> Result<Host, Refusal> {
    match Host::parse(text) {
        Ok(host) if allowed.contains(&host) => Ok(host),
        Ok(host) => Err(not_allowed(&host.to_string())),
        Err(_) => Err(not_allowed(text)),
    }
}

/// Text of the code's choosing, cut and reduced to what names are made of.
pub(crate) fn clean(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || ".-_:[]".contains(c) { c } else { '?' };
    text.chars().take(MAX_NAMED_BYTES).map(letter).collect()
}

fn not_allowed(host: &str) -> Refusal {
    Refusal::denied(StatusCode::FORBIDDEN, clean(host), NOT_ALLOWED)
}

fn proxied(head: &Parts) -> Result<Host, Refusal> {
    let Some(scheme) = head.uri.scheme() else {
        let sentence = "this is a proxy: send CONNECT host:port, or GET https://host/path";
        return Err(Refusal::denied(StatusCode::BAD_REQUEST, "", sentence));
    };
    if *scheme != Scheme::HTTPS {
        return Err(Refusal::denied(StatusCode::FORBIDDEN, named_host(head), USE_HTTPS));
    }
    let authority = head.uri.authority().map_or("", http::uri::Authority::as_str);
    Host::parse(authority).map_err(|_| not_allowed(authority.rsplit('@').next().unwrap_or_default()))
}

/// The one Host field; two of them, or one that is no text, are refused.
fn host_header(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let refuse = |sentence| Refusal::denied(StatusCode::BAD_REQUEST, "", sentence);
    let mut fields = headers.get_all(HOST).iter();
    let first = fields.next();
    if fields.next().is_some() {
        return Err(refuse("the request has more than one Host field"));
    }
    first.map(|value| value.to_str().map_err(|_| refuse("the Host field is not a host name"))).transpose()
}

fn named_host(head: &Parts) -> String {
    let named = |uri: &Uri| uri.host().map(str::to_owned);
    let field = || head.headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    clean(&named(&head.uri).or_else(field).unwrap_or_default())
}
