//! A new access token for a refresh token (RFC 6749 §6).

use crate::aws;
use crate::token::success;
use crate::{Client, Exchange, Failure, Reply, Sensitive, TokenSet};
use oauth3_core::Timestamp;
use oauth3_provider::Protocol;
use std::time::Duration;

/// Until a refresh is tried again where the server does not say, and the longest time that it may say, in seconds.
const RETRY_SECONDS: u64 = 30;
const MAX_RETRY_SECONDS: u64 = 3600;

/// What came of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// New tokens. To be stored before anything else is done with them.
    Done(TokenSet),
    /// The owner must sign in again, and why.
    Ended(Failure),
    /// It did not work this time.
    Later {
        /// How long to wait.
        after: Duration,
        /// Whether the server may have used the token up nevertheless, because it did not answer for itself. Then
        /// another try is safe only where [`oauth3_provider::Rotation::may_retry`] says so.
        perhaps_used: bool,
        /// Why.
        why: Failure,
    },
}

/// Asks for a new access token; `scopes` may ask for fewer than were granted, and none asks for all of them.
///
/// # Errors
/// When the server has no token endpoint, or AWS's client is not registered.
pub fn refresh(client: &Client, refresh_token: &Sensitive, scopes: &[String]) -> Result<Exchange, Failure> {
    let url = client.endpoint(&client.server.token, "token endpoint")?;
    if client.server.protocol == Protocol::AwsSso {
        let fields = [("grantType", "refresh_token"), ("refreshToken", refresh_token.expose())];
        return aws::request(client, url, &fields);
    }
    let scope = scopes.join(" ");
    let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    Ok(client.form(url, &fields))
}

/// Reads the reply to it.
#[must_use]
pub fn read_refresh(client: &Client, reply: &Reply<'_>, now: Timestamp) -> Refreshed {
    let tokens = success(client, reply).and_then(|mut fields| TokenSet::take(&mut fields, now));
    let why = match tokens {
        Ok(tokens) => return Refreshed::Done(tokens),
        Err(why) if !why.is_transient() => return Refreshed::Ended(why),
        Err(why) => why,
    };
    let asked = reply.retry_after.map_or(RETRY_SECONDS, |time| time.as_secs());
    Refreshed::Later {
        after: Duration::from_secs(asked.clamp(1, MAX_RETRY_SECONDS)),
        perhaps_used: match &why {
            Failure::Refused(code) => matches!(code.as_str(), "server_error" | "internal_server"),
            Failure::Unavailable(status) => !matches!(status, 429 | 503),
            _ => true,
        },
        why,
    }
}
