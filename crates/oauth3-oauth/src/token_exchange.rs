//! One token for another (RFC 8693), also in the form of Auth0's Token Vault.

use crate::token::success;
use crate::{Client, Exchange, Failure, Reply, Sensitive, TokenSet};
use oauth3_core::Timestamp;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const VAULT_GRANT: &str = "urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token";
const VAULT_TOKEN: &str = "http://auth0.com/oauth/token-type/federated-connection-access-token";

/// What kind a token is (RFC 8693 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
    /// An ID token.
    Id,
    /// A JWT that is none of these.
    Jwt,
}

/// What is asked for.
#[derive(Debug)]
pub struct TokenExchange<'a> {
    /// The token of whom it is about, and its kind.
    pub subject: (&'a Sensitive, TokenType),
    /// The token of who acts, and its kind.
    pub actor: Option<(&'a Sensitive, TokenType)>,
    /// What kind is wanted.
    pub requested: Option<TokenType>,
    /// For whom it shall be.
    pub audience: Option<&'a str>,
    /// The address that it shall be used at.
    pub resource: Option<&'a str>,
    /// With which scopes.
    pub scopes: &'a [String],
    /// Auth0: the connection of the Token Vault whose token is wanted, such as `google-oauth2`.
    pub connection: Option<&'a str>,
}

impl TokenExchange<'_> {
    /// The request.
    ///
    /// # Errors
    /// When the server has no token endpoint.
    pub fn request(&self, client: &Client) -> Result<Exchange, Failure> {
        let url = client.endpoint(&client.server.token, "token endpoint")?;
        let scope = self.scopes.join(" ");
        let (subject, subject_type) = self.subject;
        let mut fields = vec![("subject_token", subject.expose()), ("subject_token_type", subject_type.name())];
        if let Some(connection) = self.connection {
            fields.extend([
                ("grant_type", VAULT_GRANT),
                ("requested_token_type", VAULT_TOKEN),
                ("connection", connection),
            ]);
            return Ok(client.form(url, &fields));
        }
        fields.push(("grant_type", GRANT));
        if let Some((actor, actor_type)) = self.actor {
            fields.extend([("actor_token", actor.expose()), ("actor_token_type", actor_type.name())]);
        }
        fields.extend(self.requested.map(|requested| ("requested_token_type", requested.name())));
        fields.extend(self.audience.map(|audience| ("audience", audience)));
        fields.extend(self.resource.map(|resource| ("resource", resource)));
        if !scope.is_empty() {
            fields.push(("scope", &scope));
        }
        Ok(client.form(url, &fields))
    }
}

impl TokenType {
    const fn name(self) -> &'static str {
        match self {
            Self::Access => "urn:ietf:params:oauth:token-type:access_token",
            Self::Refresh => "urn:ietf:params:oauth:token-type:refresh_token",
            Self::Id => "urn:ietf:params:oauth:token-type:id_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
        }
    }
}

/// Reads the reply (RFC 8693 §2.2.1). Only access tokens are taken, and of those bearer tokens.
///
/// # Errors
/// When it is a refusal, or no token that can be used.
pub fn read_token_exchange(client: &Client, reply: &Reply<'_>, now: Timestamp) -> Result<TokenSet, Failure> {
    let mut fields = success(client, reply)?;
    let names = [TokenType::Access.name(), TokenType::Jwt.name(), VAULT_TOKEN];
    // An ID token or a refresh token would get through as any other text does.
    if fields.text("issued_token_type").is_some_and(|issued| !names.contains(&issued)) {
        return Err(Failure::TokenType);
    }
    TokenSet::take(&mut fields, now)
}
