//! What may not pass from one connection to the next (RFC 9110 §7.6.1), and what is refused outright.

use crate::reply::Refusal;
use http::header::{
    ACCEPT_CHARSET, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT,
    HeaderName, IF_RANGE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::str::FromStr;

/// Fields that belong to one connection.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Would send the code past the egress, or make it try.
const ALT_SVC: HeaderName = HeaderName::from_static("alt-svc");
/// Character sets that do not write ASCII as ASCII: a value in them is in no form that is looked for.
const UNREADABLE_CHARSETS: [&str; 7] = ["utf-16", "utf16", "utf-32", "utf32", "utf-7", "ucs-", "ebcdic"];

/// Refuses what the egress does not do, and what two readers could read differently.
pub(crate) fn check_request(head: &Parts) -> Result<(), Refusal> {
    let refuse = |status, sentence: &'static str| Err(Refusal::denied(status, "", sentence));
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "CONNECT and TRACE are refused here");
    }
    if head.headers.contains_key(UPGRADE) {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "upgrades, WebSocket among them, are not supported yet; use ordinary https requests",
        );
    }
    if head.headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return refuse(StatusCode::BAD_REQUEST, "the request has more than one Authorization field");
    }
    if head.headers.get_all(CONTENT_LENGTH).iter().count() > 1
        || head.headers.contains_key(CONTENT_LENGTH) && head.headers.contains_key(TRANSFER_ENCODING)
    {
        return refuse(StatusCode::BAD_REQUEST, "the request says twice how long its body is");
    }
    if !only(&head.headers, TRANSFER_ENCODING, "chunked") {
        return refuse(StatusCode::NOT_IMPLEMENTED, "transfer codings other than chunked are not supported");
    }
    Ok(())
}

/// Makes the fields of a request fit for the next connection.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    strip(headers);
    // Our own server has answered it, or will.
    headers.remove(EXPECT);
}

/// Makes a request ask for a reply that can be scrubbed: what cannot be read cannot be. Of a host that may know
/// a secret (`whole`) it asks no pieces either, for a value that comes a byte at a time is never seen; a server
/// without ranges answers the same (RFC 9110 §14.2).
pub(crate) fn ask_for_plain(headers: &mut HeaderMap, whole: bool) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(ACCEPT_CHARSET);
    if whole {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
    }
}

/// Makes the fields of a reply fit for the code.
pub(crate) fn clean_reply(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(ALT_SVC);
}

/// Whether the body of a reply is what it seems, so that it can be scrubbed.
pub(crate) fn readable(headers: &HeaderMap) -> bool {
    let ascii = headers.get_all(CONTENT_TYPE).iter().all(|value| {
        let text = value.as_bytes().to_ascii_lowercase();
        !UNREADABLE_CHARSETS.iter().any(|name| text.windows(name.len()).any(|part| part == name.as_bytes()))
    });
    ascii && only(headers, CONTENT_ENCODING, "identity") && only(headers, TRANSFER_ENCODING, "chunked")
}

/// Whether a field is absent or lists nothing but this word.
fn only(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers.get_all(name).iter().all(|value| {
        value.to_str().is_ok_and(|text| text.split(',').all(|part| part.trim().eq_ignore_ascii_case(word)))
    })
}

fn strip(headers: &mut HeaderMap) {
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
            ("te", "trailers"),
            ("accept-encoding", "br"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        clean_request(&mut sent);
        assert_eq!(sent, headers(&[("accept-encoding", "br"), ("accept", "*/*")]));
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
    fn only_plain_bodies_are_readable() {
        assert!(readable(&headers(&[("content-encoding", "Identity"), ("transfer-encoding", "chunked")])));
        assert!(readable(&HeaderMap::new()));
        assert!(!readable(&headers(&[("content-encoding", "gzip")])));
        assert!(!readable(&headers(&[("content-encoding", "identity, br")])));
        assert!(!readable(&headers(&[("transfer-encoding", "gzip, chunked")])));
        assert!(readable(&headers(&[("content-type", "text/plain; charset=UTF-8")])));
        assert!(!readable(&headers(&[("content-type", "text/plain; charset=UTF-16LE")])));
    }
}
