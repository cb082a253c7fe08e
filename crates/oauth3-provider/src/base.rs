//! Where a provider is, and which paths below that a client may name.

use crate::endpoint::{PLAIN_PORT, named_host, split_scheme};
use oauth3_core::Host;
use std::fmt;

/// Longest path that a client may name, in bytes.
const MAX_PATH_BYTES: usize = 4096;

/// Why a path was refused. Fit for the client; says nothing of the path itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than any API has one.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    Long,
    /// An absolute address, or anything else that does not begin with `/`.
    #[error("the path must begin with one '/': addresses of other servers are not taken")]
    Absolute,
    /// `//`.
    #[error("the path has an empty segment ('//')")]
    Empty,
    /// `.` or `..`, also with parameters.
    #[error("the path has a segment that is '.' or '..'")]
    Dots,
    /// `%2e`, `%2f` or `%5c`.
    #[error("the path has an encoded '.', '/' or '\\': write dots as they are, and leave the others out")]
    Encoded,
    /// `%25`.
    #[error("the path has an encoded '%', which some servers decode twice")]
    Twice,
    /// A `%` without two digits.
    #[error("the path has a '%' that is not followed by two hexadecimal digits")]
    Percent,
    /// A control character, as it is or encoded.
    #[error("the path has a control character")]
    Control,
    /// A character that stands for itself in no path (RFC 3986 §3.3), `@` and `;` among them.
    #[error("the path has a character that it may not have: {0:?}")]
    Character(char),
    /// Beyond ASCII.
    #[error("the path has a character beyond ASCII: percent-encode it")]
    NotAscii,
}

/// Why the address of a provider was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// Neither `https://` nor `http://`.
    #[error("an address begins with https:// or http://")]
    Scheme,
    /// No host name.
    #[error("{0} (an address of this machine is written as localhost)")]
    Host(String),
    /// A path that no client could name either.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The address that every call to a provider begins with.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    secure: bool,
    host: Host,
    /// Begins with `/` and does not end with one, or is empty.
    path: String,
    /// Versions that may stand in the place of the path's own.
    versions: Vec<String>,
}

impl BaseUrl {
    /// Reads `https://host[:port][/path]`, or `http://` for something nearby.
    ///
    /// # Errors
    /// When it has user information, a query, a fragment, an address of digits for a host, or a path that
    /// [`BaseUrl::join`] would refuse.
    pub fn parse(text: &str) -> Result<Self, BaseError> {
        let (secure, rest) = split_scheme(text).ok_or(BaseError::Scheme)?;
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path = path.strip_suffix('/').unwrap_or(path);
        let host = named_host(host, secure);
        if !path.is_empty() {
            check(path)?;
        }
        let host = host.map_err(|why| BaseError::Host(why.to_string()))?;
        Ok(Self { secure, host, path: path.to_owned(), versions: Vec::new() })
    }

    /// Lets these leading segments of a client's path stand in the place of the base path's own version.
    #[must_use]
    pub(crate) fn with_versions(mut self, versions: Vec<String>) -> Self {
        self.versions = versions;
        self
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

    /// What every path begins with: empty, or `/…` without a slash at the end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path of a call: what a client wrote after the provider's name (`/chat/completions`; without query),
    /// below the base path. A leading version equal to the base path's own is not doubled, so that
    /// `/v1/chat/completions` and `/chat/completions` are the same below `/v1`. Percent-encoding stays as it is.
    ///
    /// # Errors
    /// When servers could read the path in more than one way, or as one outside of the base path.
    pub fn join(&self, rest: &str) -> Result<String, PathError> {
        if rest.is_empty() {
            return Ok(if self.path.is_empty() { "/".to_owned() } else { self.path.clone() });
        }
        check(rest)?;
        let below = rest.strip_prefix('/').unwrap_or(rest);
        let (first, after) = below.find('/').map_or((below, ""), |at| below.split_at(at));
        match self.version() {
            Some(own) if own == first => Ok([&self.path, after].concat()),
            Some(own) if self.versions.iter().any(|version| version == first) => {
                Ok([&self.path_with(own, first), after].concat())
            }
            _ => Ok([&self.path, rest].concat()),
        }
    }

    /// The last segment of the base path that is a version.
    fn version(&self) -> Option<&str> {
        self.path.rsplit('/').find(|segment| is_version(segment))
    }

    /// The base path with another version in the place of its own.
    fn path_with(&self, own: &str, version: &str) -> String {
        let segments = self.path.split('/').map(|segment| if segment == own { version } else { segment });
        segments.collect::<Vec<_>>().join("/")
    }

    /// What a whole path names below the base path, as [`BaseUrl::join`] takes it: `/chat/completions` of
    /// `/v1/chat/completions` below `/v1`. Nothing when it lies elsewhere.
    ///
    /// # Errors
    /// When servers could read the path in more than one way.
    pub fn below(&self, path: &str) -> Result<Option<String>, PathError> {
        check(path)?;
        let after = |base: &str| path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let others = self.versions.iter().filter_map(|version| {
            let base = self.path_with(self.version()?, version);
            after(&base).map(|rest| format!("/{version}{rest}"))
        });
        let mut found = after(&self.path).map(str::to_owned).into_iter().chain(others);
        // Only what leads back to the same path is below it.
        Ok(found.find(|rest| self.join(rest).is_ok_and(|whole| whole == path)))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = !self.secure && self.host.port() == PLAIN_PORT;
        let scheme = if self.secure { "https" } else { "http" };
        if default {
            write!(f, "{scheme}://{}{}", self.host.name(), self.path)
        } else if !self.secure {
            // `Host` leaves out the port of HTTPS.
            write!(f, "{scheme}://{}:{}{}", self.host.name(), self.host.port(), self.path)
        } else {
            write!(f, "{scheme}://{}{}", self.host, self.path)
        }
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `v1`, `v1beta`, `v2alpha3`.
pub(crate) fn is_version(segment: &str) -> bool {
    fn after(text: &str) -> &str {
        text.trim_start_matches(|c: char| c.is_ascii_digit())
    }
    let Some(number) = segment.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) else {
        return false;
    };
    let kind = after(number);
    kind.is_empty()
        || ["alpha", "beta"].iter().any(|name| kind.strip_prefix(name).is_some_and(|rest| after(rest).is_empty()))
}

/// What comes before this, or all of it.
fn before<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or(text, |(before, _)| before)
}

/// Whether every server reads this path as it stands.
fn check(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::Long);
    }
    if !path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
                let code = hex(bytes.next()).zip(hex(bytes.next())).map(|(high, low)| high * 16 + low);
                match code.ok_or(PathError::Percent)? {
                    0..=0x1f | 0x7f => return Err(PathError::Control),
                    0x25 => return Err(PathError::Twice),
                    0x2e | 0x2f | 0x5c => return Err(PathError::Encoded),
                    _ => {}
                }
            }
            0..=0x1f | 0x7f => return Err(PathError::Control),
            0x80.. => return Err(PathError::NotAscii),
            // The rest of RFC 3986's pchar: without `@`, which can look like user information, and `;`, which
            // some servers cut segments at.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' => {}
            b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' => {}
            _ => return Err(PathError::Character(char::from(byte))),
        }
    }
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        // Some servers cut at an encoded semicolon too.
        let name = if segment.contains('%') { before(before(segment, "%3b"), "%3B") } else { segment };
        if name == "." || name == ".." {
            return Err(PathError::Dots);
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PathError::Empty);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base(text: &str) -> BaseUrl {
        BaseUrl::parse(text).unwrap()
    }

    #[test]
    fn a_version_is_not_doubled() {
        for (of, rest, joined) in [
            ("https://api.test/v1", "/v1/chat/completions", "/v1/chat/completions"),
            ("https://api.test/v1", "/chat/completions", "/v1/chat/completions"),
            ("https://api.test/v1", "/v1", "/v1"),
            ("https://api.test/v1", "", "/v1"),
            ("https://api.test/v1", "/", "/v1/"),
            ("https://api.test/v1", "/v10/a", "/v1/v10/a"),
            ("https://api.test/v1", "/v1x", "/v1/v1x"),
            ("https://api.test/openai/v1", "/v1/models", "/openai/v1/models"),
            ("https://api.test/v1/openai", "/v1/models", "/v1/openai/models"),
            ("https://api.test/api/paas/v4", "/v4/chat/completions", "/api/paas/v4/chat/completions"),
            ("https://api.test/openai", "/openai/models", "/openai/openai/models"),
            ("https://api.test", "/v1/models", "/v1/models"),
            ("https://api.test", "", "/"),
        ] {
            assert_eq!(base(of).join(rest).as_deref(), Ok(joined), "{of} {rest}");
        }
    }

    #[test]
    fn another_version_stands_in_its_place_only_where_it_is_listed() {
        let listed = base("https://api.test/v1beta").with_versions(vec!["v1".into(), "v1alpha".into()]);
        assert_eq!(listed.join("/v1alpha/models").as_deref(), Ok("/v1alpha/models"));
        assert_eq!(listed.join("/v1beta/models").as_deref(), Ok("/v1beta/models"));
        assert_eq!(listed.join("/v2/models").as_deref(), Ok("/v1beta/v2/models"));
    }

    #[test]
    fn a_whole_path_is_below_its_base_or_not() {
        for (of, path, rest) in [
            ("https://api.test/v1", "/v1/chat/completions", Some("/chat/completions")),
            ("https://api.test/v1", "/v1", Some("")),
            ("https://api.test/v1", "/v1/", Some("/")),
            ("https://api.test/v1", "/v10/chat", None),
            ("https://api.test/v1", "/chat", None),
            ("https://api.test/v1", "/v1/v1/chat", None),
            ("https://api.test/a/v1/b", "/a/v1/b/c", Some("/c")),
            ("https://api.test", "/v1/models", Some("/v1/models")),
            ("https://api.test", "/", Some("/")),
        ] {
            assert_eq!(base(of).below(path), Ok(rest.map(str::to_owned)), "{of} {path}");
        }
        let listed = base("https://api.test/v1beta").with_versions(vec!["v1".into()]);
        assert_eq!(listed.below("/v1/models"), Ok(Some("/v1/models".into())));
        assert_eq!(listed.below("/v2/models"), Ok(None));
        assert_eq!(base("https://api.test/v1").below("/v1/../admin"), Err(PathError::Dots));
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for (rest, why) in [
            ("chat", PathError::Absolute),
            ("https://evil.test/", PathError::Absolute),
            ("@evil.test/", PathError::Absolute),
            (":80/", PathError::Absolute),
            ("//evil.test/", PathError::Empty),
            ("/a//b", PathError::Empty),
            ("/..", PathError::Dots),
            ("/a/../b", PathError::Dots),
            ("/./a", PathError::Dots),
            ("/a/.", PathError::Dots),
            ("/..%3b/a", PathError::Dots),
            ("/..;/a", PathError::Character(';')),
            ("/%2e%2e/a", PathError::Encoded),
            ("/.%2E/a", PathError::Encoded),
            ("/a%2fb", PathError::Encoded),
            ("/a%5Cb", PathError::Encoded),
            ("/a%252fb", PathError::Twice),
            ("/a\\b", PathError::Character('\\')),
            ("/a%00", PathError::Control),
            ("/a%0d%0aX: y", PathError::Control),
            ("/a\r\nX: y", PathError::Control),
            ("/a\0", PathError::Control),
            ("/a%7f", PathError::Control),
            ("/a%", PathError::Percent),
            ("/a%4", PathError::Percent),
            ("/a%zz", PathError::Percent),
            ("/a b", PathError::Character(' ')),
            ("/@evil.test", PathError::Character('@')),
            ("/a?b", PathError::Character('?')),
            ("/a#b", PathError::Character('#')),
            ("/\u{e9}", PathError::NotAscii),
            ("/\u{ff0e}\u{ff0e}/", PathError::NotAscii),
        ] {
            assert_eq!(base("https://api.test/v1").join(rest), Err(why), "{rest:?}");
        }
        assert_eq!(base("https://api.test").join(&"/a".repeat(3000)), Err(PathError::Long));
    }

    #[test]
    fn percent_encoding_passes_as_it_is() {
        let path = "/model/us.anthropic.claude-sonnet-4-5-v1%3A0/converse";
        assert_eq!(base("https://api.test").join(path).as_deref(), Ok(path));
        assert_eq!(
            base("https://api.test").join("/models/gemini-2.5:generateContent").as_deref(),
            Ok("/models/gemini-2.5:generateContent")
        );
        assert_eq!(base("https://api.test").join("/a...b/..c/%E2%82%AC").as_deref(), Ok("/a...b/..c/%E2%82%AC"));
    }

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "https://api.test/v1",
            "http://localhost:11434/v1",
            "https://api.test:8443",
            "http://llm.test/a/b",
            "http://a.test:443",
        ] {
            assert_eq!(base(text).to_string(), text);
        }
        assert_eq!(base("https://api.test/v1/").to_string(), "https://api.test/v1");
        assert_eq!((base("http://a.test").host().port(), base("http://a.test:443").host().port()), (80, 443));
        for text in [
            "ftp://a.test",
            "api.test",
            "https://",
            "https://u@api.test",
            "https://api.test?x",
            "https://127.0.0.1/",
            "http://[::1]/",
            "https://api.test/a/../b",
            "https://api.test//a",
            "https://a.test:b/",
        ] {
            assert!(BaseUrl::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_base(rest in "(/|\\.|%2e|%2f|%5c|%25|v1|v2|chat|;|@|:|\\\\|[ -~]|\u{e9}){0,12}") {
            let of = base("https://api.test/api/v1").with_versions(vec!["v2".into()]);
            if let Ok(joined) = of.join(&rest) {
                prop_assert!(joined == "/api/v1" || joined.starts_with("/api/v1/") || joined == "/api/v2" || joined.starts_with("/api/v2/"));
                prop_assert!(!joined.contains("//") && !joined.contains('\\') && joined.is_ascii());
                prop_assert!(joined.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(joined.ends_with(rest.trim_start_matches("/v1").trim_start_matches("/v2")));
            }
        }
    }
}
