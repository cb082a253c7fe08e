//! The check of an ID token (OpenID Connect Core §3.1.3.7).

use crate::account::{Claims, account_of};
use crate::jws::{Jwks, half_hash, verify};
use crate::{Client, Failure, Sensitive};
use data_encoding::BASE64URL_NOPAD;
use oauth3_core::{Account, Timestamp};
use serde::Deserialize;

/// How far clocks may differ, in seconds.
const SKEW_SECONDS: i64 = 120;

/// An ID token to be checked, and what it must belong to.
#[derive(Debug, Clone, Copy)]
pub struct IdToken<'a> {
    /// The token.
    pub token: &'a Sensitive,
    /// The access token that came with it.
    pub access_token: Option<&'a Sensitive>,
    /// The nonce that was sent, in a sign-in in the browser.
    pub nonce: Option<&'a str>,
}

impl IdToken<'_> {
    /// Checks signature, issuer, audience, times, nonce and the hash of the access token, and says who signed in.
    ///
    /// # Errors
    /// [`Failure::UnknownKey`] when the keys may be stale; otherwise it is refused for good.
    pub fn verify(&self, client: &Client, keys: &Jwks, now: Timestamp) -> Result<Account, Failure> {
        let verified = verify(client, keys, self.token.expose())?;
        let unreadable = |_| Failure::IdToken("its claims cannot be read");
        let checked: Checked = serde_json::from_slice(&verified.claims).map_err(unreadable)?;
        let refuse = |why: &'static str| Err(Failure::IdToken(why));
        if !client.server.is_issuer(&checked.iss, checked.tid.as_deref()) {
            return refuse("it is of another issuer");
        }
        let audiences = match &checked.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Many(many) => many,
        };
        if !audiences.contains(&client.id) {
            return refuse("it is for another client");
        }
        let party = checked.azp.as_ref();
        if party.is_some_and(|party| *party != client.id) || audiences.len() > 1 && party.is_none() {
            return refuse("it is for another client");
        }
        let now = now.unix_seconds();
        if checked.exp.whole() <= now.saturating_sub(SKEW_SECONDS) {
            return refuse("it has expired; check the clock of this machine");
        }
        let not_before = checked.nbf.map_or(i64::MIN, Seconds::whole);
        if checked.iat.whole().max(not_before) > now.saturating_add(SKEW_SECONDS) {
            return refuse("it is of the future; check the clock of this machine");
        }
        if self.nonce.is_some_and(|nonce| checked.nonce.as_deref() != Some(nonce)) {
            return refuse("it does not belong to this sign-in");
        }
        if let (Some(hash), Some(access_token), true) = (&checked.at_hash, self.access_token, verified.sha256)
            && *hash != half_hash(access_token.expose())
        {
            return refuse("it does not belong to the access token");
        }
        let claims: Claims = serde_json::from_slice(&verified.claims).map_err(unreadable)?;
        account_of(&claims)
    }
}

/// Whose the ID token is that came with a refresh, which must be the account that signed in (OpenID Connect Core
/// §12.2); `None` when it does not say. Its signature is not checked: it came from the token endpoint itself, over TLS
/// (§3.1.3.7, 6.), and no keys are asked for between the reply and its storing.
#[must_use]
pub fn subject_at_refresh(client: &Client, token: &Sensitive) -> Option<String> {
    let claims = BASE64URL_NOPAD.decode(token.expose().split('.').nth(1)?.as_bytes()).ok()?;
    let issuer: Issuer = serde_json::from_slice(&claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let known = client.server.is_issuer(&issuer.iss, issuer.tid.as_deref());
    account_of(&claims).ok().filter(|_| known).map(|account| account.subject)
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
    #[serde(default)]
    tid: Option<String>,
}

#[derive(Deserialize)]
struct Checked {
    iss: String,
    aud: Audience,
    exp: Seconds,
    iat: Seconds,
    #[serde(default)]
    nbf: Option<Seconds>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    at_hash: Option<String>,
    /// Microsoft's tenant.
    #[serde(default)]
    tid: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Seconds since the Unix epoch; some servers write fractions (RFC 7519 §2).
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Seconds {
    Whole(i64),
    Fraction(f64),
}

impl Seconds {
    #[allow(clippy::cast_possible_truncation, reason = "saturates, and what saturates is refused or far away")]
    const fn whole(self) -> i64 {
        match self {
            Self::Whole(seconds) => seconds,
            Self::Fraction(seconds) => seconds as i64,
        }
    }
}
