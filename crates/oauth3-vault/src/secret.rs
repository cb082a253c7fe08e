//! Plaintext in memory: wiped when dropped, locked where the system lets us, printed never.

use oauth3_core::{Host, SecretName, Timestamp, Uses};
use std::collections::BTreeSet;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A value in plain text.
///
/// Wiped when dropped. Its pages are locked into memory, so that they do not reach the swap, as long as the
/// system's `RLIMIT_MEMLOCK` allows it; beyond that it works unlocked. Cannot be printed, cloned or serialised.
pub struct SecretBytes {
    // Fields drop in the order of declaration: the bytes are wiped while their pages are still locked.
    bytes: Zeroizing<Vec<u8>>,
    _locked: Option<region::LockGuard>,
}

impl SecretBytes {
    /// Takes the bytes over; no copy is made.
    #[must_use]
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        let bytes = bytes.into();
        let locked = if bytes.is_empty() { None } else { region::lock(bytes.as_ptr(), bytes.len()).ok() };
        Self { bytes, _locked: locked }
    }

    /// Lends the value out. The only access: whoever copies it answers for the copy.
    pub fn with<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        use_it(&self.bytes)
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Compares in constant time; only the length may be told from the time.
    #[must_use]
    pub fn equals(&self, other: &[u8]) -> bool {
        self.bytes.ct_eq(other).into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

/// One secret lent to one run.
pub struct Lease {
    /// Its name.
    pub name: SecretName,
    /// The hosts that its value may go to, as the owner bound it.
    pub hosts: BTreeSet<Host>,
    /// How it may be used, as the owner said.
    pub uses: Uses,
    /// What the code gets in place of the value.
    pub placeholder: String,
    /// The value, or the key that signs.
    pub value: SecretBytes,
    /// What takes the placeholder's place.
    pub role: Role,
    /// What else must show nowhere.
    pub scrubbed: Vec<SecretBytes>,
}

/// What takes a placeholder's place in a request.
#[derive(Debug)]
pub enum Role {
    /// The value.
    Value,
    /// A token, each from its own time on; sorted by that.
    Tokens(Vec<Token>),
    /// An HMAC that is made for the request.
    Hmac,
    /// Nothing by itself: it says that the request is to be signed for AWS.
    AwsKeyId,
    /// Nothing: the key that signs for AWS.
    AwsSecretKey,
    /// Nothing: the session that an AWS signature is made in.
    AwsSessionToken,
}

/// A bearer token that was made for a run.
#[derive(Debug)]
pub struct Token {
    /// When it comes into use.
    pub from: Timestamp,
    /// The token.
    pub value: SecretBytes,
}

impl Lease {
    /// One whose value goes into headers toward everything at its hosts.
    #[must_use]
    pub fn of_value(name: SecretName, hosts: BTreeSet<Host>, placeholder: String, value: SecretBytes) -> Self {
        Self { name, hosts, uses: Uses::default(), placeholder, value, role: Role::Value, scrubbed: Vec::new() }
    }

    /// The token that is in use at this time; none when the lease has no tokens.
    #[must_use]
    pub fn token(&self, now: Timestamp) -> Option<&SecretBytes> {
        let Role::Tokens(tokens) = &self.role else { return None };
        let current = tokens.iter().rev().find(|token| token.from <= now).or(tokens.first());
        current.map(|token| &token.value)
    }

    /// Everything of it that must show nowhere.
    pub fn hidden(&self) -> impl Iterator<Item = &SecretBytes> {
        let tokens = match &self.role {
            Role::Tokens(tokens) => tokens.as_slice(),
            _ => &[],
        };
        std::iter::once(&self.value).chain(&self.scrubbed).chain(tokens.iter().map(|token| &token.value))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.name).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_value() {
        let lease = Lease {
            name: SecretName::parse("KEY").unwrap(),
            hosts: BTreeSet::new(),
            uses: Uses::default(),
            placeholder: "place".into(),
            value: SecretBytes::new(b"hunter2".to_vec()),
            role: Role::Tokens(vec![Token {
                from: Timestamp::from_millis(0),
                value: SecretBytes::new(b"hunter2".to_vec()),
            }]),
            scrubbed: vec![SecretBytes::new(b"hunter2".to_vec())],
        };
        let text = format!("{lease:?} {:?} {:?} {:?}", lease.value, lease.role, lease.scrubbed);
        assert!(!text.contains("hunter2") && text.contains("KEY"), "{text}");
    }

    #[test]
    fn lends_and_compares_the_bytes() {
        let secret = SecretBytes::new(b"abc".to_vec());
        assert_eq!(secret.with(<[u8]>::to_vec), b"abc");
        assert!(secret.equals(b"abc") && !secret.equals(b"abd") && !secret.equals(b"ab"));
        assert!(SecretBytes::new(Vec::new()).is_empty());
    }

    #[test]
    fn a_token_is_the_last_that_has_come_into_use() {
        let token = |from| Token { from: Timestamp::from_millis(from), value: SecretBytes::new(vec![from as u8]) };
        let lease = Lease {
            name: SecretName::parse("KEY").unwrap(),
            hosts: BTreeSet::new(),
            uses: Uses::default(),
            placeholder: "place".into(),
            value: SecretBytes::new(b"key".to_vec()),
            role: Role::Tokens(vec![token(10), token(20)]),
            scrubbed: Vec::new(),
        };
        let at = |now| lease.token(Timestamp::from_millis(now)).unwrap().with(<[u8]>::to_vec);
        assert_eq!([at(0), at(10), at(19), at(20), at(99)], [[10], [10], [10], [20], [20]]);
        assert_eq!(lease.hidden().count(), 3);
    }
}
