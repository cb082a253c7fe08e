//! Values that must not be printed.

use std::fmt;
use zeroize::Zeroizing;

/// A credential that the gateway itself uses: a bot token, a hook token, a webhook key.
///
/// Never a secret of the vault. Cannot be printed or serialised.
#[derive(Clone)]
pub struct Credential(Zeroizing<String>);

impl Credential {
    /// Wraps a value, without surrounding white space.
    #[must_use]
    pub fn new(value: String) -> Self {
        let value = Zeroizing::new(value);
        Self(Zeroizing::new(value.trim().to_owned()))
    }

    /// The value, to be written into the one request that it is for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// A secret's value on its way into the keeper: typed by the owner, handed over once, kept nowhere.
///
/// Moves only; cannot be printed, cloned, compared or serialised; wiped when dropped.
pub struct WriteOnly(Zeroizing<Vec<u8>>);

impl WriteOnly {
    /// Takes the bytes over; the caller's copy is this one.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the keeper's socket. No other place may call this.
    #[must_use]
    pub fn hand_over(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for WriteOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteOnly(…)")
    }
}
