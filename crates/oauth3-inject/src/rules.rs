//! Which placeholders a request may hold: bindings to hosts, and rules about methods and paths.

use crate::fill::Held;
use http::HeaderMap;
use http::header::HeaderName;
use http::request::Parts;
use oauth3_core::Host;
use std::cell::LazyCell;

/// Why a placeholder ends the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bar {
    /// Its secret is not bound to the host.
    Unbound,
    /// It has rules, and none allows this method and path.
    NoRule,
    /// It has rules, and two servers could read this path differently.
    Ambiguous,
    /// It has rules, and a field asks the server for another method or path.
    Override,
}

impl Bar {
    /// For the code, the agent and the owner; the secret's name follows.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Unbound => {
                "the request holds the placeholder of a secret that is not bound to this host; nothing was put in its place"
            }
            Self::NoRule => "no rule of the secret allows this method and path; nothing was put in its place",
            Self::Ambiguous => {
                "the secret has rules, and the path could be read in two ways (encoded or doubled slashes, dot segments, \
                 escapes of escapes); write it plainly"
            }
            Self::Override => "the secret has rules, and the request asks for another method or path in a field",
        }
    }
}

/// For each lease of a run, why its placeholder would end one request.
#[derive(Debug)]
pub(crate) struct Bars(Vec<Option<Bar>>);

/// Fields by which some servers let a client replace the method or the path.
static OVERRIDES: [HeaderName; 6] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-forwarded-prefix"),
];
/// The same in the query: Rails, Symfony, Laravel and their like.
const METHOD_PARAMETER: &str = "_method";

impl Bars {
    /// Looks at method, path and fields of a request to this host.
    pub(crate) fn of(held: Held<'_>, host: &Host, head: &Parts) -> Self {
        let path = LazyCell::new(|| plain_path(head.uri.path()));
        let overridden =
            LazyCell::new(|| overrides(&head.headers) || head.uri.query().is_some_and(has_method_parameter));
        let bar = |lease: &oauth3_vault::Lease| {
            let rules = &lease.uses.rules;
            if !lease.hosts.contains(host) {
                return Some(Bar::Unbound);
            }
            if rules.is_empty() {
                return None;
            }
            let Some(path) = &*path else { return Some(Bar::Ambiguous) };
            if *overridden {
                return Some(Bar::Override);
            }
            let allowed = rules.iter().any(|rule| rule.allows(host, head.method.as_str(), path));
            (!allowed).then_some(Bar::NoRule)
        };
        Self(held.leases.iter().map(bar).collect())
    }

    /// Why this lease's placeholder ends the request.
    pub(crate) fn get(&self, index: usize) -> Option<Bar> {
        self.0.get(index).copied().unwrap_or(Some(Bar::Unbound))
    }

    /// Whether there is any placeholder to look for.
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

/// The decoded path, when there is one way only to read it.
fn plain_path(path: &str) -> Option<String> {
    if path.contains('\\') || path.contains("//") {
        return None;
    }
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let decoded = digit(bytes.next())? << 4 | digit(bytes.next())?;
        // Encoded, these mean one thing to a server that decodes before it splits and another to one that does not.
        if b"/\\%?#;".contains(&decoded) || decoded.is_ascii_control() {
            return None;
        }
        plain.push(decoded);
    }
    let plain = String::from_utf8(plain).ok()?;
    // What stands after a semicolon is a parameter to some servers, and what is left may be a dot segment.
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    (!plain.split('/').any(dots)).then_some(plain)
}

fn overrides(headers: &HeaderMap) -> bool {
    OVERRIDES.iter().any(|name| headers.contains_key(name))
}

fn has_method_parameter(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_encoding::percent_decode_str(name)
            .collect::<Vec<u8>>()
            .eq_ignore_ascii_case(METHOD_PARAMETER.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_none() {
        for path in [
            "/repos/acme/../evil",
            "/repos/acme/%2e%2e/evil",
            "/repos/acme/.%2E/evil",
            "/repos/acme/..;/evil",
            "/repos/acme/..;a=b/evil",
            "/repos/acme/./x",
            "/repos//acme",
            "//repos/acme",
            "/repos/acme%2fevil",
            "/repos/acme%2Fevil",
            "/repos/acme%5cevil",
            "/repos/acme\\evil",
            "/repos/acme/%252e%252e/evil",
            "/repos/acme/x%00",
            "/repos/acme/x%3Fy",
            "/repos/acme/x%23y",
            "/repos/acme/x%3By",
            "/repos/acme/%",
            "/repos/acme/%2",
            "/repos/acme/%zz",
            "/repos/acme/%c0%af",
            "/repos/acme/%e0%80%af",
        ] {
            assert_eq!(plain_path(path), None, "{path}");
        }
        assert_eq!(plain_path("/repos/%61cme/a%20b/%C3%A4/...").as_deref(), Some("/repos/acme/a b/ä/..."));
        assert_eq!(plain_path("/").as_deref(), Some("/"));
    }

    #[test]
    fn another_method_cannot_be_asked_for_on_the_side() {
        assert!(has_method_parameter("a=b&_method=DELETE") && has_method_parameter("%5Fmethod=DELETE"));
        assert!(!has_method_parameter("a=_method&payment_method=x"));
        let mut headers = HeaderMap::new();
        assert!(!overrides(&headers));
        headers.insert("X-HTTP-Method-Override", http::HeaderValue::from_static("DELETE"));
        assert!(overrides(&headers));
    }
}
