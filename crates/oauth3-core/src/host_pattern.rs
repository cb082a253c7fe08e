//! Hosts that the owner lets agents reach without any secret.

use crate::host::Host;
use crate::names::InvalidName;
use std::fmt;

/// What stands before all names below one.
const BELOW: &str = "*.";
/// The ports that are meant where none is named: HTTPS, and HTTP in clear.
const USUAL_PORTS: [u16; 2] = [443, 80];

/// One host, or all below one: `files.example`, `*.mirror.example`, `files.example:8443`. Without a port it is the two
/// usual ones.
#[derive(Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// All below it, and not it itself.
    below: bool,
    host: Host,
    any_usual_port: bool,
}

impl HostPattern {
    /// Reads one.
    ///
    /// # Errors
    /// When the text has another form, or would name all below a single label, such as `*.com`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let refuse = || InvalidName::HostPattern(text.chars().take(80).collect());
        let (below, name) = text.strip_prefix(BELOW).map_or((false, text), |name| (true, name));
        let host = Host::parse(name).map_err(|_| refuse())?;
        if below && !host.name().contains('.') {
            return Err(refuse());
        }
        Ok(Self { below, host, any_usual_port: !name.contains(':') })
    }

    /// Whether it means this host.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        let named = if self.below {
            host.name().strip_suffix(self.host.name()).is_some_and(|above| above.ends_with('.'))
        } else {
            host.name() == self.host.name()
        };
        named && if self.any_usual_port { USUAL_PORTS.contains(&host.port()) } else { host.port() == self.host.port() }
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { BELOW } else { "" }, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).unwrap().matches(&Host::parse(host).unwrap())
    }

    #[test]
    fn a_pattern_means_what_it_says_and_no_more() {
        for (pattern, host, expected) in [
            ("files.example", "files.example", true),
            ("Files.Example", "files.example:80", true),
            ("files.example", "files.example:8443", false),
            ("files.example:8443", "files.example:8443", true),
            ("files.example:8443", "files.example", false),
            ("files.example", "cdn.files.example", false),
            ("files.example", "evilfiles.example", false),
            ("*.mirror.example", "eu.mirror.example:80", true),
            ("*.mirror.example", "a.b.mirror.example", true),
            ("*.mirror.example", "mirror.example", false),
            ("*.mirror.example", "evilmirror.example", false),
            ("*.mirror.example", "mirror.example.evil.test", false),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in
            ["", "*", "*.", "*.org", "a.*.org", "**.a.org", "https://a.org", "10.0.0.1", "[::1]", "a.org/", "a.org:0"]
        {
            assert!(HostPattern::parse(text).is_err(), "{text:?}");
        }
    }
}
