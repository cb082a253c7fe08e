//! What tells a run's own connections from those of others on the same machine.

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;

/// Length of a key, in bytes.
const KEY_BYTES: usize = 16;
/// The user in front of the key (RFC 7617 wants one).
const USER: &str = "run";

/// The key to a proxy that listens where others could connect too: they could use the hosts that were allowed
/// for the run. It opens nothing else and dies with the run, so the code itself may know it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyKey([u8; KEY_BYTES]);

impl ProxyKey {
    /// A key of these bytes, which must be random.
    #[must_use]
    pub const fn new(random: [u8; KEY_BYTES]) -> Self {
        Self(random)
    }

    /// `user:password`, as it stands in a proxy's address.
    #[must_use]
    pub fn user_info(&self) -> String {
        format!("{USER}:{}", HEXLOWER.encode(&self.0))
    }

    /// The `Proxy-Authorization` field of whoever has the key.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Basic {}", BASE64.encode(self.user_info().as_bytes()))
    }

    /// Whether this `Proxy-Authorization` field has the key. The scheme's name may be in any case (RFC 9110 §11.1).
    #[must_use]
    pub fn opens(&self, field: &[u8]) -> bool {
        let expected = self.authorization();
        let (scheme, rest) = field.split_at_checked("Basic".len()).unwrap_or_default();
        let known = expected.as_bytes().get("Basic".len()..).unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"Basic") && bool::from(rest.ct_eq(known))
    }
}

impl fmt::Debug for ProxyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens() {
        let key = ProxyKey::new([7; KEY_BYTES]);
        assert!(key.opens(key.authorization().as_bytes()));
        assert!(key.opens(key.authorization().replace("Basic", "basic").as_bytes()));
        let other = ProxyKey::new([8; KEY_BYTES]).authorization();
        for field in [b"" as &[u8], b"Basic", b"Basic ", b"Bearer x", other.as_bytes(), key.user_info().as_bytes()] {
            assert!(!key.opens(field), "{}", String::from_utf8_lossy(field));
        }
        assert!(!format!("{key:?}").contains("07"));
    }
}
