//! Credentials that the code brought itself, beside one of ours.

use super::head::{Filler, basic, decoded};
use crate::messages::{KEY_FIELDS, KEY_PARAMETERS};
use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use oauth3_core::Slot;

/// Fields that say who calls, with a scheme before the key. A cookie says it only when a secret stands in it: sessions
/// that a host gave the code itself go on beside a key.
static SCHEMED: [HeaderName; 2] = [AUTHORIZATION, PROXY_AUTHORIZATION];

/// Every field that says who calls.
fn fields() -> impl Iterator<Item = &'static HeaderName> {
    SCHEMED.iter().chain(&KEY_FIELDS)
}

/// When a secret goes into a place that says who calls, the others of those places that hold no secret are cleared:
/// a server may believe any one of them, and it must be ours. Two of the same name are refused.
pub(super) fn clear(filler: &Filler<'_>, head: &mut Parts) -> Result<(), &'static str> {
    join_cookies(&mut head.headers);
    let ours = |value: &HeaderValue| {
        holds(filler, value.as_bytes(), Slot::Header)
            || basic(value).is_some_and(|pair| holds(filler, &pair, Slot::Header))
    };
    let query = head.uri.query().unwrap_or_default().to_owned();
    let parameters = || query.split('&').filter_map(|pair| Some((parameter(pair)?, pair)));
    let our_parameter = |pair: &str| {
        let value = pair.split_once('=').map(|(_, value)| decoded(value)).unwrap_or_default();
        holds(filler, &value, Slot::Query)
    };
    let signed = query.split('&').any(|pair| {
        pair.split_once('=').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("x-amz-credential") && holds(filler, &decoded(value), Slot::Query)
        })
    });
    let any = signed
        || fields().chain([&COOKIE]).any(|name| head.headers.get_all(name).iter().any(ours))
        || parameters().any(|(_, pair)| our_parameter(pair));
    if !any {
        return Ok(());
    }
    for name in fields() {
        let mut values = head.headers.get_all(name).iter();
        let Some(first) = values.next() else { continue };
        if values.next().is_some() {
            return Err("a field that says who calls stands twice beside a secret; send it once");
        }
        if !ours(first) {
            head.headers.remove(name);
        }
    }
    let twice = KEY_PARAMETERS.iter().any(|name| parameters().filter(|(found, _)| found == name).count() > 1);
    if twice {
        return Err("a parameter that says who calls stands twice beside a secret; send it once");
    }
    if parameters().all(|(_, pair)| our_parameter(pair)) {
        return Ok(());
    }
    let kept = query.split('&').filter(|pair| parameter(pair).is_none() || our_parameter(pair));
    let kept = kept.collect::<Vec<_>>().join("&");
    let path = head.uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    head.uri = PathAndQuery::try_from(target).map(Uri::from).map_err(|_| "the address cannot be read")?;
    Ok(())
}

fn holds(filler: &Filler<'_>, text: &[u8], slot: Slot) -> bool {
    filler.held.marks.places(text).any(|(_, index)| filler.covers(index, slot))
}

/// The name of a parameter that says who calls.
fn parameter(pair: &str) -> Option<&'static str> {
    let name = decoded(pair.split('=').next().unwrap_or_default());
    KEY_PARAMETERS.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Several Cookie fields are one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let values: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if values.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}
