//! HMAC-SHA256 over what a request says (RFC 2104), for webhooks and APIs that want a signature with each call.

use crate::fill::{Filler, decoded};
use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use http::HeaderValue;
use http::header::HeaderName;
use http::request::Parts;
use oauth3_core::{HmacEncoding, HmacOver, Kind};
use std::borrow::Cow;

/// Longest time that the code may give, in digits.
const MAX_TIMESTAMP_DIGITS: usize = 20;

/// Whether this secret signs bodies.
pub(super) fn needs_body(filler: &Filler<'_>, index: usize) -> bool {
    let kind = filler.lease(index).map(|lease| &lease.uses.kind);
    matches!(kind, Some(Kind::HmacSha256 { over: HmacOver::Body | HmacOver::TimestampBody, .. }))
}

/// The signature of this request, as text.
pub(super) fn sign(
    filler: &Filler<'_>,
    index: usize,
    head: &mut Parts,
    body: &[u8],
) -> Result<String, Cow<'static, str>> {
    let unknown = || Cow::from("a signature was asked for that is none");
    let lease = filler.lease(index).ok_or_else(unknown)?;
    let Kind::HmacSha256 { over, encoding, timestamp_header } = &lease.uses.kind else { return Err(unknown()) };
    let key = lease.value.with(|key| hmac::Key::new(hmac::HMAC_SHA256, key));
    let mut context = hmac::Context::with_key(&key);
    match over {
        HmacOver::Body => context.update(body),
        HmacOver::TimestampBody => {
            context.update(timestamp(filler, head, timestamp_header)?.as_bytes());
            context.update(b".");
            context.update(body);
        }
        HmacOver::Query => context.update(query_without(&lease.placeholder, head).as_bytes()),
    }
    let tag = context.sign();
    Ok(match encoding {
        HmacEncoding::Hex => HEXLOWER.encode(tag.as_ref()),
        HmacEncoding::Base64 => BASE64.encode(tag.as_ref()),
    })
}

/// The time in its field: the code's own, which must be nothing but digits so that no body can pass for another,
/// or now.
fn timestamp(filler: &Filler<'_>, head: &mut Parts, field: &str) -> Result<String, Cow<'static, str>> {
    let name = HeaderName::from_bytes(field.as_bytes()).map_err(|_| "the field of the time is none")?;
    let mut values = head.headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            let fine = (1..=MAX_TIMESTAMP_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            if fine { Ok(text.to_owned()) } else { Err(format!("{field} is a time in digits, or left out").into()) }
        }
        (None, _) => {
            let now = filler.now.unix_seconds();
            head.headers.insert(name, HeaderValue::from(now));
            Ok(now.to_string())
        }
        _ => Err(format!("{field} stands twice").into()),
    }
}

/// The query as it is sent, but for the parameter that holds the placeholder.
fn query_without(placeholder: &str, head: &Parts) -> String {
    let holds = |pair: &&str| {
        let pair = decoded(pair);
        pair.windows(placeholder.len().max(1)).any(|window| window == placeholder.as_bytes())
    };
    let query = head.uri.query().unwrap_or_default();
    query.split('&').filter(|pair| !holds(pair)).collect::<Vec<_>>().join("&")
}
