//! A new access token for a refresh token (RFC 6749 §6).

use crate::aws;
use crate::token::success;
use crate::{Client, Exchange, Failure, Reply, Sensitive, TokenSet};
use oauth3_core::Timestamp;
use oauth3_provider::Protocol;
use std::time::Duration;

/// Longest `retry-after` that is followed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What came of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// New tokens. To be stored before anything else is done with them.
    Done(TokenSet),
    /// The owner must sign in again, and why.
    Ended(Failure),
    /// It did not work this time.
    Later {
        /// Why.
        why: Failure,
        /// How long the server wants not to be asked, an hour at most; `None` where it does not say.
        asked: Option<Duration>,
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
    match tokens {
        Ok(tokens) => Refreshed::Done(tokens),
        Err(why) if !why.is_transient() => Refreshed::Ended(why),
        Err(why) => Refreshed::Later { why, asked: reply.retry_after.map(|asked| asked.min(MAX_RETRY_AFTER)) },
    }
}
