//! The reply of the token endpoint (RFC 6749 §5.1).

use crate::fields::Fields;
use crate::{Client, Failure, Reply, Sensitive};
use oauth3_core::Timestamp;
use oauth3_provider::{MAX_SCOPE_BYTES, ScopeDifference};
use std::time::Duration;

/// Longest token that is taken, in bytes (32 KiB).
pub const MAX_TOKEN_BYTES: usize = 32 * 1024;
/// Longest life that a token is believed to have, in seconds (ten years).
const MAX_LIFETIME_SECONDS: i64 = 10 * 366 * 24 * 3600;
/// Most scopes that are read of a reply.
const MAX_GRANTED: usize = 256;

/// What a sign-in, a refresh or an exchange gave.
#[derive(Debug)]
pub struct TokenSet {
    /// The access token, fit for a header field.
    pub access_token: Sensitive,
    /// The refresh token. `None` after a refresh: the one that was used is still the one.
    pub refresh_token: Option<Sensitive>,
    /// The ID token, not yet checked: see [`crate::IdToken`].
    pub id_token: Option<Sensitive>,
    /// When the access token expires; `None` where the server did not say.
    pub expires_at: Option<Timestamp>,
    /// When the refresh token expires, where the server said so (GitHub does).
    pub refresh_expires_at: Option<Timestamp>,
    /// The scopes that were granted; `None`: what was asked for (RFC 6749 §5.1).
    pub granted: Option<Vec<String>>,
}

impl TokenSet {
    /// What was granted beside what was asked for. Nothing when the server said nothing: then they are the same.
    #[must_use]
    pub fn scope_difference(&self, client: &Client, asked: &[String]) -> ScopeDifference {
        let granted = self.granted.as_ref();
        granted.map(|granted| client.server.compare_scopes(asked, granted)).unwrap_or_default()
    }

    pub(crate) fn take(fields: &mut Fields, now: Timestamp) -> Result<Self, Failure> {
        if fields.text("token_type").is_none_or(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(Failure::TokenType);
        }
        Self::take_of_any_type(fields, now)
    }

    pub(crate) fn take_of_any_type(fields: &mut Fields, now: Timestamp) -> Result<Self, Failure> {
        let access_token = token(fields, "access_token")?.ok_or(Failure::Field("access_token"))?;
        let lifetime = |name: &'static str| -> Result<Option<Timestamp>, Failure> {
            let seconds = fields.number(name).map_err(|()| Failure::Field(name))?;
            Ok(seconds.map(|seconds| {
                let seconds = u64::try_from(seconds.min(MAX_LIFETIME_SECONDS)).unwrap_or(0);
                now.plus(Duration::from_secs(seconds))
            }))
        };
        let expires_at = lifetime("expires_in")?;
        // Of no use in a reply that has no refresh token; GitHub leaves it empty then.
        let refresh_expires_at = lifetime("refresh_token_expires_in").ok().flatten();
        let granted = fields.list("scope");
        let fine = |scope: &String| scope.len() <= MAX_SCOPE_BYTES && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if granted.as_ref().is_some_and(|granted| granted.len() > MAX_GRANTED || !granted.iter().all(fine)) {
            return Err(Failure::Field("scope"));
        }
        Ok(Self {
            access_token,
            refresh_token: token(fields, "refresh_token")?,
            id_token: token(fields, "id_token")?,
            expires_at,
            refresh_expires_at,
            granted,
        })
    }
}

/// Reads the reply to the request that [`crate::CodeGrant::callback`] made.
///
/// # Errors
/// When it is a refusal, or no token that can be used.
pub fn read_tokens(client: &Client, reply: &Reply<'_>, now: Timestamp) -> Result<TokenSet, Failure> {
    TokenSet::take(&mut success(client, reply)?, now)
}

/// The fields of a reply that is no error.
pub(crate) fn success(client: &Client, reply: &Reply<'_>) -> Result<Fields, Failure> {
    let fields = Fields::read(reply, client.server.protocol)?;
    if let Some(code) = fields.error() {
        return Err(Failure::Refused(code));
    }
    match reply.status {
        200..=299 => Ok(fields),
        429 | 500..=599 => Err(Failure::Unavailable(reply.status)),
        status => Err(Failure::NotOauth(status)),
    }
}

/// A token, which must fit into a header field.
fn token(fields: &mut Fields, name: &'static str) -> Result<Option<Sensitive>, Failure> {
    let Some(token) = fields.take(name) else { return Ok(None) };
    let fine = token.expose().len() <= MAX_TOKEN_BYTES && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if fine { Ok(Some(token)) } else { Err(Failure::Field(name)) }
}
