//! Texts that must not be printed: tokens, codes, secrets of clients.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::fmt;
use zeroize::Zeroizing;

/// A text that lets somebody in.
///
/// Moves only; cannot be printed, cloned, compared or serialised; wiped when dropped.
pub struct Sensitive(Zeroizing<String>);

impl Sensitive {
    /// Takes a text over; the caller's copy is this one.
    #[must_use]
    pub fn new(text: impl Into<Zeroizing<String>>) -> Self {
        Self(text.into())
    }

    /// Copies a text.
    #[must_use]
    pub fn copied(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The text, to be sealed or written into the one request that it is for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Gives the text away, still to be wiped.
    #[must_use]
    pub fn into_inner(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(…)")
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Sensitive;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Sensitive, E> {
                Ok(Sensitive::copied(text))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Sensitive, E> {
                Ok(Sensitive::new(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
