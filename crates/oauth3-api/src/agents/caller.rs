//! Who calls. A handler that works for an agent asks for a [`Caller`], and there is no other way to one.

use super::Api;
use super::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use oauth3_core::{AgentName, AgentToken, Fault};
use std::net::IpAddr;

/// The mend for a missing or wrong token.
const SEND_A_TOKEN: &str =
    "send `Authorization: Bearer <agent token>`; the owner makes one with `oauth3 agent add NAME`";

/// The agent that the port recognised.
pub(super) struct Caller(pub(super) AgentName);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        // Without a token the port may know an anonymous agent. Then a page of the open web could reach us
        // under a name of its own that it lets point here (DNS rebinding); such a name is never plain.
        if token.is_none() && !is_home(&parts.headers, &parts.uri, &api.config.public_url) {
            return Err(Problem::no_token(SEND_A_TOKEN));
        }
        match api.port.authenticate(token.as_ref()).await {
            Ok(agent) => Ok(Self(agent)),
            Err(Fault::InvalidToken(_)) if token.is_none() => Err(Problem::no_token(SEND_A_TOKEN)),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// The token that was sent. Anything that is there and is not exactly one bearer token is an error.
fn bearer(headers: &HeaderMap) -> Result<Option<AgentToken>, Problem> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let token = field.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| AgentToken::parse(token.trim_matches(' ')))?
    });
    match (token, fields.next()) {
        (Some(token), None) => Ok(Some(token)),
        _ => Err(Problem::bad_token(SEND_A_TOKEN)),
    }
}

/// Whether the caller used an address that nobody on the open web can make point here: a literal address, a
/// single label such as `oauth3` or `localhost`, a name that public DNS does not hold, or our own public one.
fn is_home(headers: &HeaderMap, uri: &Uri, public_url: &str) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let host = name_of(host);
    // An absolute request line must not name anything else.
    uri.host().is_none_or(|named| name_of(named).eq_ignore_ascii_case(host))
        && (host.parse::<IpAddr>().is_ok()
            || is_private_name(host)
            || public_url.parse::<Uri>().is_ok_and(|own| own.host().is_some_and(|h| h.eq_ignore_ascii_case(host))))
}

/// Without port and brackets.
fn name_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

fn is_private_name(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    !host.is_empty()
        && (!host.contains('.')
            || [".localhost", ".internal", ".local", ".home.arpa"].iter().any(|zone| host.ends_with(zone)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_names_that_nobody_else_can_own_are_home() {
        let check = |host: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            let found = is_home(&headers, &Uri::from_static("/secrets"), "https://oauth3.example.com");
            assert_eq!(found, expected, "{host}");
        };
        for host in
            ["127.0.0.1:3737", "[::1]:3737", "localhost", "oauth3-proxy:3737", "box.local", "Oauth3.Example.com"]
        {
            check(host, true);
        }
        for host in [
            "evil.example",
            "evil.example:3737",
            "127.0.0.1.evil.example",
            "",
            ":3737",
            "[",
            "oauth3.example.com.evil.example",
        ] {
            check(host, false);
        }
        assert!(!is_home(&HeaderMap::new(), &Uri::from_static("/"), ""));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        assert!(!is_home(&headers, &Uri::from_static("http://evil.example/secrets"), ""));
    }
}
