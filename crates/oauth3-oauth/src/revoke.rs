//! Giving a token back (RFC 7009), also in the forms that single providers have for it.

use crate::client::basic;
use crate::exchange::Json;
use crate::fields::Fields;
use crate::{Client, Exchange, Failure, Reply, Sensitive};
use oauth3_provider::{Endpoint, RevocationStyle, percent_encode};

/// Which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token.
    Access,
    /// A refresh token. With it the access tokens usually go too.
    Refresh,
}

/// The request that revokes a token; `None` where the provider has none for this kind of token.
///
/// # Errors
/// When the address of the request cannot be made.
pub fn revoke(client: &Client, kind: TokenKind, token: &Sensitive) -> Result<Option<Exchange>, Failure> {
    let Some(url) = client.server.revocation.clone() else { return Ok(None) };
    Ok(match (client.server.revocation_style, kind) {
        (RevocationStyle::Rfc7009, kind) | (RevocationStyle::RefreshTokens, kind @ TokenKind::Refresh) => {
            let hint = match kind {
                TokenKind::Access => "access_token",
                TokenKind::Refresh => "refresh_token",
            };
            Some(client.form(url, &[("token", token.expose()), ("token_type_hint", hint)]))
        }
        (RevocationStyle::Bare, _) => Some(Exchange::form(url, &[("token", token.expose())])),
        (RevocationStyle::Github, TokenKind::Access) => {
            let Some(secret) = &client.secret else { return Ok(None) };
            let mut text = format!("{url}/");
            percent_encode(&client.id, &mut text);
            text.push_str("/token");
            let url = Endpoint::parse(&text).map_err(|_| Failure::TooLong)?;
            let mut exchange = Exchange::json(url, &[("access_token", Json::Text(token.expose()))]);
            exchange.method = "DELETE";
            Some(exchange.with_header("authorization", basic(&client.id, secret.expose())))
        }
        (RevocationStyle::Aws, TokenKind::Access) => {
            let token = Sensitive::copied(token.expose());
            let mut exchange = Exchange::get(url).with_header("x-amz-sso_bearer_token", token);
            exchange.method = "POST";
            Some(exchange)
        }
        (RevocationStyle::Github | RevocationStyle::Aws, TokenKind::Refresh)
        | (RevocationStyle::RefreshTokens, TokenKind::Access) => None,
    })
}

/// Reads the reply: whether the token is gone. One that the server does not know is gone too (RFC 7009 §2.2).
///
/// # Errors
/// When it may still be good.
pub fn read_revocation(client: &Client, reply: &Reply<'_>) -> Result<(), Failure> {
    match (reply.status, client.server.revocation_style) {
        (200..=299, _) | (404 | 422, RevocationStyle::Github) | (401, RevocationStyle::Aws) => return Ok(()),
        _ => {}
    }
    let fields = Fields::read(reply, client.server.protocol)?;
    match fields.error() {
        Some(code) if matches!(code.as_str(), "invalid_token" | "invalid_grant") => Ok(()),
        Some(code) => Err(Failure::Refused(code)),
        None if matches!(reply.status, 429 | 500..=599) => Err(Failure::Unavailable(reply.status)),
        None => Err(Failure::NotOauth(reply.status)),
    }
}
