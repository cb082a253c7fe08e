//! What may not pass from one connection to the next (RFC 9110 §7.6.1), and what is refused outright.

use crate::decode::Codings;
use crate::limits::MAX_HEADERS;
use crate::reply::Refusal;
use http::header::{
    self, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, COOKIE, ETAG, EXPECT, HeaderName, IF_RANGE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::str::FromStr;

/// Fields that belong to one connection.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Fields that no connection option may take away (RFC 9110 §7.6.1): a check saw them, and the host would not.
static END_TO_END: [HeaderName; 8] = [
    AUTHORIZATION,
    header::CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    TRANSFER_ENCODING,
];
/// Fields that mean nothing, or something else, after a body (RFC 9110 §6.5.1): they frame, route, authenticate,
/// condition or describe the message, and whoever puts trailers among the fields of the head would believe them.
static NOT_IN_TRAILERS: [HeaderName; 34] = [
    header::ACCEPT_RANGES,
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
];
/// Would send the code past the egress, or make it try.
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");
/// What a reply says about the sum of its bytes.
static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];
/// Character sets that do not write ASCII as ASCII: a value in them is in no form that is looked for.
const UNREADABLE_CHARSETS: [&str; 7] = ["utf-16", "utf16", "utf-32", "utf32", "utf-7", "ucs-", "ebcdic"];

/// Refuses what the egress does not do, and what two readers could read differently.
pub(crate) fn check_request(head: &Parts) -> Result<(), Refusal> {
    let refuse = |status, sentence: &'static str| Err(Refusal::denied(status, "", sentence));
    // PRI is how a connection begins HTTP/2 (RFC 9113 §11.5); as a method it has no meaning but to confuse.
    if head.method == Method::CONNECT || head.method == Method::TRACE || head.method.as_str() == "PRI" {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "CONNECT, TRACE and PRI are refused here");
    }
    if head.headers.contains_key(UPGRADE) {
        return refuse(StatusCode::NOT_IMPLEMENTED, "upgrades other than to WebSocket are not supported");
    }
    // HTTP/1.1 counts fields while it reads; HTTP/2 bounds their bytes only.
    if head.headers.len() > MAX_HEADERS {
        return refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many fields");
    }
    // What else HTTP/2 could carry here would become a part of another thing in HTTP/1.1.
    let path = head.uri.path();
    if !(path.starts_with('/') || path == "*" && head.method == Method::OPTIONS) {
        return refuse(StatusCode::BAD_REQUEST, "the request's path does not begin with a slash");
    }
    if head.headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return refuse(StatusCode::BAD_REQUEST, "the request has more than one Authorization field");
    }
    if head.headers.get_all(CONTENT_LENGTH).iter().count() > 1
        || head.headers.contains_key(CONTENT_LENGTH) && head.headers.contains_key(TRANSFER_ENCODING)
    {
        return refuse(StatusCode::BAD_REQUEST, "the request says twice how long its body is");
    }
    if head.headers.contains_key(CONNECTION)
        && END_TO_END.iter().any(|name| listed(&head.headers, CONNECTION, name.as_str()))
    {
        return refuse(StatusCode::BAD_REQUEST, "the Connection field lists a field that is meant for the host");
    }
    if !only(&head.headers, TRANSFER_ENCODING, "chunked") {
        return refuse(StatusCode::NOT_IMPLEMENTED, "transfer codings other than chunked are not supported");
    }
    Ok(())
}

/// Makes the fields of a request fit for the next connection.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    // The one thing that TE says beyond the connection: the code can read trailers (RFC 9110 §6.5.1).
    let trailers = listed(headers, TE, "trailers");
    strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // Our own server has answered it, or will.
    headers.remove(EXPECT);
    join_cookies(headers);
}

/// HTTP/2 may cut the field into crumbs, which HTTP/1.1 must not see (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// Makes a request ask for a reply that can be scrubbed as it comes. It asks for no compression, though what comes
/// compressed is decoded: how far text of the code's choosing agrees with a secret beside it shows in the compressed
/// length, and what is not compressed cannot tell it. Of a host that may know a secret (`whole`) it asks no pieces, for
/// a value that comes a byte at a time is never seen; a server without ranges answers the same (RFC 9110 §14.2).
pub(crate) fn ask_for_plain(headers: &mut HeaderMap, whole: bool) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(ACCEPT_CHARSET);
    if whole {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
    }
}

/// Leaves of trailers, either way, what may be one.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    for name in NOT_IN_TRAILERS.iter().chain(&HOP_BY_HOP).chain([&ALT_SVC, &WWW_AUTHENTICATE]) {
        trailers.remove(name);
    }
}

/// Makes the fields of a reply fit for the code.
pub(crate) fn clean_reply(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(ALT_SVC);
}

/// Makes the fields of a reply say what is handed on of it once its codings are undone. Lengths, digests and ranges
/// were about the coded bytes (RFC 9110 §8.6, §14.3, RFC 9530 §2, §3), and so was a strong validator (RFC 9110 §8.8.1).
pub(crate) fn say_decoded(headers: &mut HeaderMap) {
    for name in [CONTENT_ENCODING, CONTENT_LENGTH, ACCEPT_RANGES].iter().chain(&DIGESTS) {
        headers.remove(name);
    }
    if let Some(tag) = headers.get_mut(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        *tag = weak;
    }
}

/// The codings of a reply's body. `None` when it cannot be read, and so not be scrubbed.
pub(crate) fn codings(headers: &HeaderMap) -> Option<Codings> {
    let ascii = headers.get_all(CONTENT_TYPE).iter().all(|value| !names_unreadable_charset(value.as_bytes()));
    let framed = only(headers, TRANSFER_ENCODING, "chunked");
    (ascii && framed).then(|| Codings::of(headers)).flatten()
}

/// Whether one of [`UNREADABLE_CHARSETS`] stands anywhere in there.
fn names_unreadable_charset(text: &[u8]) -> bool {
    let begins = |rest: &[u8]| {
        let is = |name: &&str| rest.get(..name.len()).is_some_and(|part| part.eq_ignore_ascii_case(name.as_bytes()));
        // One look at the first letter does for nearly every place.
        matches!(rest, [b'u' | b'U' | b'e' | b'E', ..]) && UNREADABLE_CHARSETS.iter().any(is)
    };
    (0..text.len()).filter_map(|at| text.get(at..)).any(begins)
}

/// Whether a field is absent or lists nothing but this word.
fn only(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers.get_all(name).iter().all(|value| {
        value.to_str().is_ok_and(|text| text.split(',').all(|part| part.trim().eq_ignore_ascii_case(word)))
    })
}

/// Whether a field lists a word.
pub(crate) fn listed(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// Removes the fields of which this is so. A message has few fields: one look at each costs less than one look for each
/// of many names.
pub(crate) fn remove_where(headers: &mut HeaderMap, is_one: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_one(name)).cloned() {
        headers.remove(name);
    }
}

fn strip(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| HeaderName::from_str(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&listed) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_belongs_to_one_connection_does_not_pass() {
        let mut sent = headers(&[
            ("connection", "x-mine, close"),
            ("x-mine", "1"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "gzip, trailers;q=0.5, trailers"),
            ("accept-encoding", "br"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        clean_request(&mut sent);
        assert_eq!(sent, headers(&[("te", "trailers"), ("accept-encoding", "br"), ("accept", "*/*")]));
        let mut came = headers(&[("alt-svc", "h3=\":443\""), ("keep-alive", "5"), ("etag", "1")]);
        clean_reply(&mut came);
        assert_eq!(came, headers(&[("etag", "1")]));
    }

    #[test]
    fn nothing_is_asked_for_that_could_not_be_scrubbed() {
        let sent = [("accept-encoding", "br"), ("accept-charset", "utf-16"), ("range", "bytes=0-3"), ("if-range", "1")];
        let asked = |whole| {
            let mut asked = headers(&sent);
            ask_for_plain(&mut asked, whole);
            asked
        };
        assert_eq!(asked(true), headers(&[("accept-encoding", "identity")]));
        let piece = [("accept-encoding", "identity"), ("range", "bytes=0-3"), ("if-range", "1")];
        assert_eq!(asked(false), headers(&piece), "a host without a secret has none to give in pieces");
    }

    #[test]
    fn trailers_bring_nothing_that_belongs_in_a_head() {
        let mut came = headers(&[
            ("grpc-status", "0"),
            ("x-sum", "1"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("host", "other.test"),
            ("authorization", "Bearer x"),
            ("set-cookie", "a=b"),
            ("location", "/"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("alt-svc", "h3"),
            ("www-authenticate", "Basic"),
        ]);
        clean_trailers(&mut came);
        assert_eq!(came, headers(&[("grpc-status", "0"), ("x-sum", "1")]));
    }

    #[test]
    fn a_decoded_reply_says_what_it_is() {
        let mut came = headers(&[
            ("content-encoding", "gzip"),
            ("content-length", "9"),
            ("accept-ranges", "bytes"),
            ("repr-digest", "sha-256=:AA==:"),
            ("content-digest", "sha-256=:AA==:"),
            ("etag", "\"1\""),
            ("vary", "accept-encoding"),
        ]);
        say_decoded(&mut came);
        assert_eq!(came, headers(&[("etag", "W/\"1\""), ("vary", "accept-encoding")]));
        say_decoded(&mut came);
        assert_eq!(came["etag"], "W/\"1\"");
    }

    #[test]
    fn only_bodies_that_can_be_read_are_readable() {
        let readable = |headers: &HeaderMap| codings(headers).is_some();
        assert!(codings(&headers(&[("content-encoding", "identity,")])).is_some_and(|codings| codings.is_identity()));
        for known in ["gzip", "X-GZip", "deflate", "br", "zstd", "identity, br", "gzip, gzip , br"] {
            let codings = codings(&headers(&[("content-encoding", known)]));
            assert!(codings.is_some_and(|codings| !codings.is_identity()), "{known}");
        }
        for unknown in ["compress", "dcb", "aws-chunked", "gzip;q=1", "gzip, gzip, gzip, gzip"] {
            assert!(!readable(&headers(&[("content-encoding", unknown)])), "{unknown}");
        }
        assert!(readable(&headers(&[("content-encoding", "Identity"), ("transfer-encoding", "chunked")])));
        assert!(readable(&HeaderMap::new()));
        assert!(!readable(&headers(&[("transfer-encoding", "gzip, chunked")])));
        assert!(readable(&headers(&[("content-type", "text/plain; charset=UTF-8")])));
        for name in UNREADABLE_CHARSETS {
            for name in [name.to_owned(), name.to_ascii_uppercase()] {
                let mut came = headers(&[("content-type", "text/plain; charset=UTF-8")]);
                came.append(CONTENT_TYPE, HeaderValue::from_str(&format!("text/plain; charset={name}LE")).unwrap());
                assert!(!readable(&came), "{name}");
            }
        }
    }
}
