//! Host names that code may talk to.

use crate::names::InvalidName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

/// The port that a host without one means: HTTPS.
const DEFAULT_PORT: u16 = 443;
/// Longest host name (RFC 1035 §2.3.4) and label, in bytes.
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// Where the addresses that stand for names begin inside 127.18.0.0/15, and how many there are. In loopback
/// (RFC 1122 §3.2.1.3), so that they are local to every network namespace, also where no route can be set.
const SYNTHETIC_FIRST: u32 = u32::from_be_bytes([127, 18, 0, 10]);
const SYNTHETIC_COUNT: u32 = 0x1_fff0;

/// One host and port that code may talk to, always over TLS: `api.example.com` or `api.example.com:8443`.
///
/// Names only, in lower case. Addresses in any spelling (`127.1`, `0x7f.1`, `[::1]`), wildcards, schemes,
/// paths and user information are refused, so that what the owner reads is what is dialled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host {
    /// Shared, as hosts are copied for each request.
    name: Arc<str>,
    port: u16,
}

impl Host {
    /// Reads `name` or `name:port`.
    ///
    /// # Errors
    /// When the text is anything but a plain host name with an optional port.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let refuse = || InvalidName::Host(text.chars().take(80).collect());
        let (name, port) = match text.split_once(':') {
            None => (text, DEFAULT_PORT),
            Some((name, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
                (name, if digits { port.parse().map_err(|_| refuse())? } else { return Err(refuse()) })
            }
        };
        let name = name.to_ascii_lowercase();
        let label_fine = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        // A last label that a C library could read as a number makes the whole thing an address.
        let last_numeric = name.rsplit('.').next().is_none_or(|last| {
            last.bytes().all(|b| b.is_ascii_digit())
                || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        if name.len() > MAX_HOST_BYTES || last_numeric || !name.split('.').all(label_fine) {
            return Err(refuse());
        }
        Ok(Self { name: name.into(), port })
    }

    /// Whether this text is the host, as [`parse`](Self::parse) reads it.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        // Nearly always it is written plainly, and need not be read.
        let plainly = text.strip_prefix(&*self.name).is_some_and(|rest| match rest.strip_prefix(':') {
            None => rest.is_empty() && self.port == DEFAULT_PORT,
            Some(port) => !port.starts_with(['0', '+']) && port.parse() == Ok(self.port),
        });
        plainly || Self::parse(text).is_ok_and(|host| host == *self)
    }

    /// The name, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port; 443 unless said otherwise.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port == DEFAULT_PORT { f.write_str(&self.name) } else { write!(f, "{}:{}", self.name, self.port) }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Host {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.to_string()
    }
}

impl FromStr for Host {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

/// The address that stands for the name at `index` inside a sandbox: 127.18.0.0 + 10 + index. Sandbox
/// and egress share this rule; indices beyond the range (131 056 names) wrap around.
#[must_use]
pub fn synthetic_address(index: usize) -> Ipv4Addr {
    let offset = u32::try_from(index % SYNTHETIC_COUNT as usize).unwrap_or(0);
    Ipv4Addr::from_bits(SYNTHETIC_FIRST + offset)
}

/// Every distinct name of these hosts with its address inside a sandbox: names sorted bytewise, the i-th
/// has [`synthetic_address`]`(i)`. Ports do not matter.
#[must_use]
pub fn synthetic_addresses<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> BTreeMap<String, Ipv4Addr> {
    let names: BTreeSet<&str> = hosts.into_iter().map(Host::name).collect();
    names.into_iter().enumerate().map(|(index, name)| (name.to_owned(), synthetic_address(index))).collect()
}
