//! Texts of a provider that people see: bounded, and without what is invisible or reorders its surroundings.

use crate::Failure;
use icu_properties::props::{BinaryProperty as _, DefaultIgnorableCodePoint, EnumeratedProperty as _, GeneralCategory};
use oauth3_core::Host;
use oauth3_provider::{AuthorizationServer, Endpoint, MAX_ENDPOINT_BYTES, host_of};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name or email address that is shown, in characters.
const MAX_LABEL_CHARS: usize = 128;
/// Longest user code, in bytes. Real ones have 8 or 9.
const MAX_USER_CODE_BYTES: usize = 32;

/// A name or an email address as a provider wrote it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// What is left of a text when everything but visible characters and single spaces is taken out; `None` when that
    /// is nothing.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut kept = String::new();
        let mut chars = 0;
        for character in text.chars() {
            let space = character.is_whitespace();
            if space && (kept.is_empty() || kept.ends_with(' ')) || !space && !is_visible(character) {
                continue;
            }
            if chars == MAX_LABEL_CHARS {
                kept.push('…');
                break;
            }
            kept.push(if space { ' ' } else { character });
            chars += 1;
        }
        kept.truncate(kept.trim_end().len());
        (!kept.is_empty()).then_some(Self(kept))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_visible(character: char) -> bool {
    use GeneralCategory as Category;
    let hidden = matches!(
        Category::for_char(character),
        Category::Control
            | Category::Format
            | Category::Unassigned
            | Category::PrivateUse
            | Category::Surrogate
            | Category::LineSeparator
            | Category::ParagraphSeparator
    );
    !hidden && !DefaultIgnorableCodePoint::for_char(character)
}

/// The code that the owner enters. Letters, digits and hyphens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserCode(String);

impl UserCode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        ((1..=MAX_USER_CODE_BYTES).contains(&text.len()) && text.bytes().all(fine)).then(|| Self(text.to_owned()))
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address where the owner enters it: `https://` and a host that the provider is known to use.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct VerificationAddress(String);

impl VerificationAddress {
    /// Reads one, and checks its host against those of the server.
    pub(crate) fn parse(server: &AuthorizationServer, text: &str) -> Result<Self, Failure> {
        let refuse = || Failure::VerificationAddress;
        if text.len() > MAX_ENDPOINT_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(refuse());
        }
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(refuse()),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host_of(authority, secure).map_err(|_| refuse())?;
        let device = server.device.as_ref().ok_or_else(refuse)?;
        // Plain HTTP only where the device endpoint is on this machine too.
        let plain_fine = !device.secure() && host.name() == device.host().name();
        let host_fine = if server.verification_hosts.is_empty() {
            let below = |own: &Host| host.name().strip_suffix(own.name()).is_some_and(|sub| sub.ends_with('.'));
            let issuers = server.issuers.iter().filter_map(|issuer| Endpoint::parse(issuer).ok());
            let mut own = issuers.map(|issuer| issuer.host().clone()).chain([device.host().clone()]);
            own.any(|own| host == own || host.port() == own.port() && below(&own))
        } else {
            server.verification_hosts.iter().any(|known| *known == host.to_string())
        };
        if host_fine && (secure || plain_fine) { Ok(Self(text.to_owned())) } else { Err(refuse()) }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(&text).ok_or("nothing visible")
    }
}

impl TryFrom<String> for UserCode {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::parse(&text).ok_or("no user code")
    }
}

macro_rules! shown {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        // A user code is for the owner alone, and may be in the address too; names are nobody's business in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
        impl From<$name> for String {
            fn from(shown: $name) -> Self {
                shown.0
            }
        }
    )*};
}
shown!(Label, UserCode, VerificationAddress);
