//! Random identifiers.

use crate::names::InvalidName;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Random bytes in an identifier: 128 bits, so that nobody guesses one.
const ID_RANDOM_BYTES: usize = 16;

macro_rules! random_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// A fresh one. `None` when the system has no randomness to give.
            #[must_use]
            pub fn random() -> Option<Self> {
                let mut bytes = [0u8; ID_RANDOM_BYTES];
                getrandom::fill(&mut bytes).ok()?;
                Some(Self(format!("{}{}", $prefix, BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()).into()))
            }

            /// Reads one as the outside spells it.
            ///
            /// # Errors
            /// When it lacks the prefix or holds anything but 1 to 64 lower-case letters and digits.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let rest = text.strip_prefix($prefix).unwrap_or_default();
                let fine = (1..=64).contains(&rest.len())
                    && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
                if fine { Ok(Self(text.into())) } else { Err(InvalidName::Id($prefix)) }
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }
    };
}

random_id!(
    /// Names one request to execute something, from submission to its final state.
    RequestId,
    "req_"
);
random_id!(
    /// Names one standing grant.
    GrantId,
    "grt_"
);
