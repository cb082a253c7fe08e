//! Which requests a secret may be used for: method and path, host by host.

use crate::Host;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Longest path pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 512;
/// Longest method name, in bytes.
const MAX_METHOD_BYTES: usize = 32;
/// Most methods in one rule.
const MAX_METHODS: usize = 16;

/// One line of what a secret may be used for: `api.github.com GET,POST /repos/acme/*`.
///
/// Host (with its port), methods (`*` for any) and a pattern for the path without the query. In the pattern `*`
/// stands for any characters within a segment, none included, and a segment `**` for any number of segments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    host: Host,
    /// Empty: any.
    methods: BTreeSet<String>,
    path: String,
}

/// Why a rule cannot be read. The text is for the owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write a rule as \"api.github.com GET,POST /repos/acme/*\"")]
pub struct InvalidRule(String);

impl Rule {
    /// The host that it is about.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it covers this request. `path` is decoded and free of anything that two servers could read
    /// differently; who calls this has seen to that.
    #[must_use]
    pub fn allows(&self, host: &Host, method: &str, path: &str) -> bool {
        self.host == *host
            && (self.methods.is_empty() || self.methods.contains(method))
            && path.starts_with('/')
            && segments_match(&self.path, path)
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let refuse = |why: &str| Err(InvalidRule(why.to_owned()));
        let mut words = text.split_ascii_whitespace();
        let (Some(host), Some(methods), Some(path), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return refuse("a rule has three words: host, methods, path");
        };
        let host = Host::parse(host).map_err(|error| InvalidRule(error.to_string()))?;
        let methods: BTreeSet<String> = match methods {
            "*" => BTreeSet::new(),
            list => list.split(',').map(str::to_owned).collect(),
        };
        let fine = |m: &String| (1..=MAX_METHOD_BYTES).contains(&m.len()) && m.bytes().all(|b| b.is_ascii_uppercase());
        if methods.len() > MAX_METHODS || !methods.iter().all(fine) {
            return refuse("methods are upper-case words with commas between them, or * for any");
        }
        if !path.starts_with('/') || path.len() > MAX_PATTERN_BYTES || path.chars().any(|c| "?#%\\".contains(c)) {
            return refuse("the path begins with / and is written decoded, without a query");
        }
        let mut segments = path.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let empty_inside = segment.is_empty() && segments.peek().is_some();
            if empty_inside || segment == "." || segment == ".." || (segment.contains("**") && segment != "**") {
                return refuse("a path has no empty, . or .. segments, and ** stands alone in its own");
            }
        }
        Ok(Self { host, methods, path: path.to_owned() })
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidRule;
    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.methods.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        write!(f, "{} {} {}", self.host, if methods.is_empty() { "*" } else { &methods }, self.path)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn segments_match(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    wildcard(
        &pattern,
        &path,
        |p| *p == "**",
        |p, s| wildcard(p.as_bytes(), s.as_bytes(), |b| *b == b'*', |a, b| a == b),
    )
}

/// Matches items against a pattern in which some items stand for any number of items. Steps back to the last of
/// those only, so that it takes at most pattern times text steps.
fn wildcard<P, T>(pattern: &[P], text: &[T], any: impl Fn(&P) -> bool, same: impl Fn(&P, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(wanted) if any(wanted) => {
                back = Some((p, t));
                p += 1;
            }
            Some(wanted) if same(wanted, item) => {
                p += 1;
                t += 1;
            }
            _ => match &mut back {
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_cover_methods_and_paths() {
        let host = Host::parse("api.github.com").unwrap();
        let allows = |rule: &str, request: &str| {
            let (method, path) = request.split_once(' ').unwrap();
            rule.parse::<Rule>().unwrap().allows(&host, method, path)
        };
        let acme = "api.github.com GET,POST /repos/acme/*";
        assert!(allows(acme, "GET /repos/acme/site") && allows(acme, "POST /repos/acme/"));
        for other in ["DELETE /repos/acme/site", "get /repos/acme/site", "GET /repos/acme", "GET /repos/acme/a/b"] {
            assert!(!allows(acme, other), "{other}");
        }
        assert!(!allows(acme, "GET /repos/evil/acme/x") && !allows(acme, "GET /x/repos/acme/x"));
        let deep = "api.github.com * /repos/acme/**";
        assert!(allows(deep, "PURGE /repos/acme") && allows(deep, "GET /repos/acme/a/b/c"));
        assert!(!allows(deep, "GET /repos/acmex/a"));
        let middle = "api.github.com GET /repos/*/s*te/**/raw";
        assert!(allows(middle, "GET /repos/a/site/raw") && allows(middle, "GET /repos/a/ste/x/raw/y/raw"));
        assert!(!allows(middle, "GET /repos/a/b/site/raw") && !allows(middle, "GET /repos/a/site/raw/x"));
        assert!(!allows("api.github.com:8443 * /**", "GET /"), "the port is part of the host");
    }

    #[test]
    fn what_cannot_be_a_rule_is_refused() {
        for text in [
            "",
            "api.github.com",
            "api.github.com /repos",
            "api.github.com GET repos",
            "api.github.com get /",
            "api.github.com GET, /",
            "127.0.0.1 GET /",
            "api.github.com GET /a%2Fb",
            "api.github.com GET /a//b",
            "api.github.com GET /a/../b",
            "api.github.com GET /a?x=1",
            "api.github.com GET /a**/b",
            "api.github.com GET /a /b",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        let rule: Rule = " Api.GitHub.com   POST,GET  /a/ ".parse().unwrap();
        assert_eq!(rule.to_string(), "api.github.com GET,POST /a/");
    }
}
