//! Plaintext in memory: wiped when dropped, locked where the system lets us, printed never.

use oauth3_core::{Host, SecretName};
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
    /// What the code gets in place of the value.
    pub placeholder: String,
    /// The value.
    pub value: SecretBytes,
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
            placeholder: "place".into(),
            value: SecretBytes::new(b"hunter2".to_vec()),
        };
        let text = format!("{lease:?} {:?}", lease.value);
        assert!(!text.contains("hunter2") && text.contains("KEY"), "{text}");
    }

    #[test]
    fn lends_and_compares_the_bytes() {
        let secret = SecretBytes::new(b"abc".to_vec());
        assert_eq!(secret.with(<[u8]>::to_vec), b"abc");
        assert!(secret.equals(b"abc") && !secret.equals(b"abd") && !secret.equals(b"ab"));
        assert!(SecretBytes::new(Vec::new()).is_empty());
    }
}
