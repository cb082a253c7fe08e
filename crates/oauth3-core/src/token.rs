//! Agent tokens: what the agent holds instead of a key.

use crate::Digest;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What every token begins with, so that scanners and people know one.
const PREFIX: &str = "oa3_";
/// Random bytes in the public and in the secret part.
const ID_BYTES: usize = 5;
const SECRET_BYTES: usize = 30;

/// How many characters so many bytes are as text (base 32, RFC 4648 §6, without padding).
const fn text_bytes(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// The public part of a token: finds the agent's row, proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub String);

impl Borrow<str> for TokenId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of a whole token; what the store keeps. The token has 240 random bits, so no stretching is needed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(pub Digest);

impl TokenHash {
    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// An agent's token: `oa3_<id>_<secret>`. Printed once, when it is made.
pub struct AgentToken(Zeroizing<String>);

impl AgentToken {
    /// A fresh one. `None` when the system has no randomness to give.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = Zeroizing::new([0u8; ID_BYTES + SECRET_BYTES]);
        getrandom::fill(bytes.as_mut()).ok()?;
        let (id, secret) = bytes.split_at(ID_BYTES);
        let text = format!("{PREFIX}{}_{}", BASE32_NOPAD.encode(id), BASE32_NOPAD.encode(secret)).to_ascii_lowercase();
        Some(Self(Zeroizing::new(text)))
    }

    /// Reads what a client sent. `None` when it does not have the form of a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let word = |part: &str, bytes: usize| {
            let fits = |fits, byte: u8| fits & (byte.is_ascii_lowercase() | byte.is_ascii_digit());
            part.len() == text_bytes(bytes) && part.bytes().fold(true, fits)
        };
        (word(id, ID_BYTES) && word(secret, SECRET_BYTES)).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The part that finds the agent.
    #[must_use]
    pub fn id(&self) -> TokenId {
        TokenId(self.id_text().to_owned())
    }

    /// The same, as it stands in the token.
    #[must_use]
    pub fn id_text(&self) -> &str {
        self.0.get(PREFIX.len()..PREFIX.len() + text_bytes(ID_BYTES)).unwrap_or_default()
    }

    /// What the store compares.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Digest::of(self.0.as_bytes()))
    }

    /// The token itself, to be printed once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentToken({}…)", self.id().0)
    }
}
