//! Plaintext in memory: wiped when dropped, locked where the system lets us, printed never.

use oauth3_core::{Host, SecretName, Timestamp, Uses};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;
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
    /// Counts values of the secret.
    pub version: u32,
    /// Values that took its place while it was lent.
    pub renewed: Renewed,
}

/// Most values that take another's place within one run.
const MAX_RENEWALS: usize = 8;

/// Values that came while a lease was out, each in the place of the one before. They stay where they are, for what
/// was sent with one of them can come back any time.
#[derive(Default)]
pub struct Renewed([OnceLock<(u32, SecretBytes)>; MAX_RENEWALS]);

impl Renewed {
    fn all(&self) -> impl Iterator<Item = &(u32, SecretBytes)> {
        self.0.iter().map_while(OnceLock::get)
    }
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
        Self {
            name,
            hosts,
            uses: Uses::default(),
            placeholder,
            value,
            role: Role::Value,
            scrubbed: Vec::new(),
            version: 0,
            renewed: Renewed::default(),
        }
    }

    /// The token that is in use at this time; none when the lease has no tokens.
    #[must_use]
    pub fn token(&self, now: Timestamp) -> Option<&SecretBytes> {
        let Role::Tokens(tokens) = &self.role else { return None };
        let current = tokens.iter().rev().find(|token| token.from <= now).or(tokens.first());
        current.map(|token| &token.value)
    }

    /// The value that is in use now, and its version.
    #[must_use]
    pub fn current(&self) -> (u32, &SecretBytes) {
        self.renewed.all().last().map_or((self.version, &self.value), |(version, value)| (*version, value))
    }

    /// The value that this version had.
    #[must_use]
    pub fn of_version(&self, version: u32) -> Option<&SecretBytes> {
        let first = std::iter::once((self.version, &self.value));
        let mut all = first.chain(self.renewed.all().map(|(version, value)| (*version, value)));
        all.find(|(known, _)| *known == version).map(|(_, value)| value)
    }

    /// Has another value take its place; false when that happened too often.
    pub fn renew(&self, version: u32, value: SecretBytes) -> bool {
        let mut renewal = (version, value);
        for place in &self.renewed.0 {
            match place.set(renewal) {
                Ok(()) => return true,
                Err(taken) => renewal = taken,
            }
        }
        false
    }

    /// Everything of it that must show nowhere.
    pub fn hidden(&self) -> impl Iterator<Item = &SecretBytes> {
        let tokens = match &self.role {
            Role::Tokens(tokens) => tokens.as_slice(),
            _ => &[],
        };
        let renewed = self.renewed.all().map(|(_, value)| value);
        std::iter::once(&self.value).chain(&self.scrubbed).chain(tokens.iter().map(|token| &token.value)).chain(renewed)
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

    fn lease(value: SecretBytes) -> Lease {
        Lease::of_value(SecretName::parse("KEY").unwrap(), BTreeSet::new(), "place".into(), value)
    }

    #[test]
    fn a_value_that_was_renewed_stays_hidden() {
        let value = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        let lease = lease(value("old"));
        assert!(lease.current().0 == 0 && lease.current().1.equals(b"old"));
        for version in 1..=MAX_RENEWALS as u32 {
            assert!(lease.renew(version, value(&format!("new {version}"))));
            assert!(lease.current().0 == version && lease.current().1.equals(format!("new {version}").as_bytes()));
        }
        assert!(!lease.renew(99, value("one more")));
        assert_eq!(lease.hidden().count(), 1 + MAX_RENEWALS);
        assert!(lease.hidden().any(|hidden| hidden.equals(b"old")));
    }

    #[test]
    fn nothing_prints_a_value() {
        let value = || SecretBytes::new(b"hunter2".to_vec());
        let lease = Lease {
            role: Role::Tokens(vec![Token { from: Timestamp::from_millis(0), value: value() }]),
            scrubbed: vec![value()],
            ..lease(value())
        };
        assert!(lease.renew(2, value()));
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
        let lease =
            Lease { role: Role::Tokens(vec![token(10), token(20)]), ..lease(SecretBytes::new(b"key".to_vec())) };
        let at = |now| lease.token(Timestamp::from_millis(now)).unwrap().with(<[u8]>::to_vec);
        assert_eq!([at(0), at(10), at(19), at(20), at(99)], [[10], [10], [10], [20], [20]]);
        assert_eq!(lease.hidden().count(), 3);
    }
}
