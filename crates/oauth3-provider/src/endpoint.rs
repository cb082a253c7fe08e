//! Addresses of authorization servers.

use oauth3_core::{Host, InvalidName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest address of an endpoint, in bytes.
pub const MAX_ENDPOINT_BYTES: usize = 2048;
/// The port of plain HTTP.
pub(crate) const PLAIN_PORT: u16 = 80;
/// The one name that may be spoken to without TLS: nothing of it leaves this machine.
const LOOPBACK: &str = "localhost";
/// Its addresses, as they are written in addresses of the web.
const LOOPBACK_ADDRESSES: [&str; 2] = ["127.0.0.1", "[::1]"];

/// Why an address was refused. Fit for the owner; the address itself is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Too long.
    #[error("an address has at most {MAX_ENDPOINT_BYTES} bytes")]
    Long,
    /// Neither `https://` nor, for this machine, `http://localhost`.
    #[error("an address begins with https:// (http:// only for localhost and 127.0.0.1)")]
    Scheme,
    /// No host name.
    #[error("{0}")]
    Host(String),
    /// A fragment, a backslash, a control character, or anything beyond ASCII.
    #[error("an address has letters, digits and the usual marks only, and no '#'")]
    Character,
    /// `.` or `..` as a segment, as it is or encoded.
    #[error("an address has no segment that is '.' or '..'")]
    Dots,
}

/// One address that oauth3 sends a request to: `https://host[:port]/path[?query]`, or `http://localhost…`.
///
/// Read strictly, so that what was checked is what is dialled: host names only (no addresses of digits but this
/// machine's own), no user information, no fragment. The text stays byte for byte as it was written, for an issuer is
/// compared so.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    text: String,
    secure: bool,
    host: Host,
    /// Where path and query begin in the text.
    path_at: usize,
}

impl Endpoint {
    /// Reads one.
    ///
    /// # Errors
    /// When it is anything but the form above.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > MAX_ENDPOINT_BYTES {
            return Err(EndpointError::Long);
        }
        let (secure, rest) = split_scheme(text).ok_or(EndpointError::Scheme)?;
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let host = host_of(authority, secure).map_err(|why| EndpointError::Host(why.to_string()))?;
        if !secure && host.name() != LOOPBACK {
            return Err(EndpointError::Scheme);
        }
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%?".contains(&byte);
        if !path.bytes().all(fine) {
            return Err(EndpointError::Character);
        }
        let segments = path.split('?').next().unwrap_or_default().split('/');
        if segments.into_iter().any(|segment| matches!(decoded_dots(segment).as_str(), "." | "..")) {
            return Err(EndpointError::Dots);
        }
        Ok(Self { text: text.to_owned(), secure, host, path_at: text.len() - path.len() })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is spoken to with TLS.
    #[must_use]
    pub const fn secure(&self) -> bool {
        self.secure
    }

    /// Where it is. The port is 80 where plain HTTP names none.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// What the request line says: path and query, beginning with `/`.
    #[must_use]
    pub fn target(&self) -> String {
        let rest = self.text.get(self.path_at..).unwrap_or_default();
        if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
    }

    /// This address with one more parameter in its query, percent-encoded.
    ///
    /// # Errors
    /// When it grows too long.
    pub fn with_query(&self, parameters: &[(&str, &str)]) -> Result<Self, EndpointError> {
        let mut text = self.text.clone();
        for (name, value) in parameters {
            text.push(if text.contains('?') { '&' } else { '?' });
            percent_encode(name, &mut text);
            text.push('=');
            percent_encode(value, &mut text);
        }
        Self::parse(&text)
    }
}

/// The host that an authority names; the port is 80 where plain HTTP names none. This machine's own addresses are
/// `localhost`, so that they compare alike.
///
/// # Errors
/// When it is no plain host name with an optional port.
pub fn host_of(authority: &str, secure: bool) -> Result<Host, InvalidName> {
    let own = LOOPBACK_ADDRESSES.iter().find_map(|address| authority.strip_prefix(address));
    let own = own.filter(|port| port.is_empty() || port.starts_with(':'));
    let named = own.map_or_else(|| authority.to_owned(), |port| format!("{LOOPBACK}{port}"));
    named_host(&named, secure)
}

/// Whether an address is reached by TLS, and what comes after its scheme.
pub(crate) fn split_scheme(text: &str) -> Option<(bool, &str)> {
    let secure = text.strip_prefix("https://").map(|rest| (true, rest));
    secure.or_else(|| Some((false, text.strip_prefix("http://")?)))
}

/// A host name with an optional port, which is 80 where plain HTTP names none.
pub(crate) fn named_host(authority: &str, secure: bool) -> Result<Host, InvalidName> {
    if secure || authority.contains(':') {
        return Host::parse(authority);
    }
    Host::parse(&format!("{authority}:{PLAIN_PORT}"))
}

/// Appends a text with everything but RFC 3986's unreserved characters percent-encoded (§2.1). Good for a query, for a
/// segment of a path and for a form. `out` does not grow when it has room for three times the text.
pub fn percent_encode(text: &str, out: &mut String) {
    use fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _written = write!(out, "%{byte:02X}");
        }
    }
}

fn decoded_dots(segment: &str) -> String {
    segment.replace("%2e", ".").replace("%2E", ".")
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;
    fn try_from(text: String) -> Result<Self, EndpointError> {
        Self::parse(&text)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_byte_for_byte() {
        for (text, secure, host, target) in [
            ("https://id.test", true, "id.test", "/"),
            ("https://id.test/", true, "id.test", "/"),
            ("https://id.test:8443/a/b?c=d", true, "id.test:8443", "/a/b?c=d"),
            ("https://id.test?x=y", true, "id.test", "/?x=y"),
            ("http://localhost:3000/token", false, "localhost:3000", "/token"),
            ("http://localhost/token", false, "localhost:80", "/token"),
            ("http://127.0.0.1:3000/token", false, "localhost:3000", "/token"),
            ("http://[::1]/token", false, "localhost:80", "/token"),
            ("https://127.0.0.1:8443/token", true, "localhost:8443", "/token"),
        ] {
            let read = Endpoint::parse(text).unwrap();
            let all = (read.as_str(), read.secure(), read.host().to_string(), read.target());
            assert_eq!(all, (text, secure, host.to_owned(), target.to_owned()));
        }
    }

    #[test]
    fn what_could_be_dialled_otherwise_is_refused() {
        for text in [
            "http://id.test/token",
            "http://localhost.id.test/",
            "HTTPS://id.test/",
            "ftp://id.test",
            "id.test",
            "https://",
            "https:///token",
            "https://user@id.test/",
            "https://id.test@evil.test/",
            "https://id.test\\@evil.test/",
            "https://127.0.0.2/",
            "https://127.0.0.1.id.test:/",
            "https://127.1/",
            "https://[::2]/",
            "https://id.test/a#b",
            "https://id.test/a b",
            "https://id.test/a\r\nx: y",
            "https://id.test/\u{e9}",
            "https://id.test/a/../b",
            "https://id.test/a/%2e%2E/b",
            "https://id.test:0/",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        assert_eq!(Endpoint::parse(&format!("https://id.test/{}", "a".repeat(3000))), Err(EndpointError::Long));
    }

    #[test]
    fn parameters_are_encoded() {
        let made = Endpoint::parse("https://id.test/a?b=c").unwrap().with_query(&[("q", "a&b=c d#é")]).unwrap();
        assert_eq!(made.as_str(), "https://id.test/a?b=c&q=a%26b%3Dc%20d%23%C3%A9");
    }
}
