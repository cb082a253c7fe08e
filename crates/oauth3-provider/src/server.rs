//! What oauth3 must know of one authorization server to sign in with it.

use crate::endpoint::Endpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a client shows the token endpoint who it is (RFC 6749 §2.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By its id alone: a public client.
    #[default]
    None,
    /// `Authorization: Basic`.
    Basic,
    /// `client_secret` in the form.
    Post,
}

/// Whether a client has a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretNeed {
    /// A sign-in fails without one.
    Needed,
    /// Some kinds of clients have one.
    #[default]
    Optional,
    /// There is none, or oauth3 is given one when it registers.
    None,
}

/// Which messages it speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// RFC 6749 and RFC 8628.
    #[default]
    Oauth,
    /// AWS IAM Identity Center: JSON in camel case, a client that registers itself, credentials of a role at the end.
    AwsSso,
}

/// What becomes of a refresh token when it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// It stays, and no other comes.
    Never,
    /// Another comes, and the old one still works.
    KeepsOld,
    /// Another may come, and using the old one again may end the whole grant.
    #[default]
    Replaces,
}

impl Rotation {
    /// Whether a refresh whose reply was lost may be tried again with the same token.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Never | Self::KeepsOld)
    }
}

/// How a token is revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationStyle {
    /// RFC 7009.
    #[default]
    Rfc7009,
    /// RFC 7009, for refresh tokens only, as Auth0 has it.
    RefreshTokens,
    /// RFC 7009 without any word of who the client is, as Google has it.
    Bare,
    /// GitHub: `DELETE …/CLIENT_ID/token` with JSON and the client's secret.
    Github,
    /// AWS: a logout with the token in a field of its own.
    Aws,
}

/// What the account's endpoint replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountShape {
    /// OpenID Connect Core §5.3.2: `sub`, `name`, `email`.
    #[default]
    Oidc,
    /// GitHub's user: a number `id`, `login`, `name`, `email`.
    Github,
}

/// An authorization server with its addresses filled in.
///
/// No secret is in it; it may be stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorizationServer {
    /// What it is called, for people.
    pub title: String,
    /// Which messages it speaks.
    pub protocol: Protocol,
    /// What `iss` of an ID token may be (any of them); `{tid}` stands for the token's own tenant. Empty: ID tokens
    /// are not read.
    pub issuers: Vec<String>,
    /// The only tenant that `{tid}` may be.
    pub tenant: Option<String>,
    /// RFC 8628 §3.1.
    pub device: Option<Endpoint>,
    /// RFC 6749 §3.2.
    pub token: Option<Endpoint>,
    /// RFC 6749 §3.1.
    pub authorization: Option<Endpoint>,
    /// What is asked besides of the authorization endpoint.
    pub authorization_parameters: BTreeMap<String, String>,
    /// Where a client registers itself; AWS only.
    pub registration: Option<Endpoint>,
    /// Where tokens are revoked.
    pub revocation: Option<Endpoint>,
    /// How.
    pub revocation_style: RevocationStyle,
    /// The account behind an access token.
    pub userinfo: Option<Endpoint>,
    /// What that replies.
    pub account_shape: AccountShape,
    /// The keys that ID tokens are signed with (RFC 7517).
    pub jwks: Option<Endpoint>,
    /// Credentials of a role; AWS only.
    pub role_credentials: Option<Endpoint>,
    /// The portal where the owner signs in; AWS only.
    pub start_url: Option<Endpoint>,
    /// How clients show who they are when they have a secret.
    pub client_auth: ClientAuth,
    /// Whether the device endpoint hears no secret, only who the client is.
    pub secretless_device: bool,
    /// Host names that the verification address may have. Empty: those of the issuer and the device
    /// endpoint, and names below them.
    pub verification_hosts: Vec<String>,
    /// What becomes of a refresh token when it is used.
    pub rotation: Rotation,
    /// A prefix that it puts before scopes or leaves out.
    pub scope_prefix: Option<String>,
    /// Other names that it gives scopes, and what they are called when they are asked for.
    pub scope_aliases: BTreeMap<String, String>,
    /// Scopes that it does not name when it grants them.
    pub unsaid_scopes: Vec<String>,
    /// Whether its replies to the browser always say who made them (RFC 9207).
    pub says_issuer: bool,
}

/// Which scopes came, beside those that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeDifference {
    /// Asked for, and not granted.
    pub missing: Vec<String>,
    /// Granted, and not asked for.
    pub extra: Vec<String>,
}

impl AuthorizationServer {
    /// Whether an issuer is this server. `tid` is the tenant that a token names besides, which must be the one in the
    /// issuer.
    #[must_use]
    pub fn is_issuer(&self, issuer: &str, tid: Option<&str>) -> bool {
        self.issuers.iter().any(|known| {
            let Some((before, after)) = known.split_once("{tid}") else { return known == issuer };
            let tenant = issuer.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            tenant.is_some_and(|tenant| {
                let plain = !tenant.is_empty() && tenant.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
                plain
                    && self.tenant.as_deref().is_none_or(|only| only == tenant)
                    && tid.is_none_or(|named| named == tenant)
            })
        })
    }

    /// Compares what was granted with what was asked for, in the words of the one who asked.
    #[must_use]
    pub fn compare_scopes(&self, asked: &[String], granted: &[String]) -> ScopeDifference {
        let asked_names: Vec<&str> = asked.iter().map(|scope| self.plain_scope(scope)).collect();
        let granted_names: Vec<&str> = granted.iter().map(|scope| self.plain_scope(scope)).collect();
        let same =
            |one: &str, other: &str| one == other || self.scope_prefix.is_some() && one.eq_ignore_ascii_case(other);
        let mut difference = ScopeDifference::default();
        for (scope, name) in asked.iter().zip(&asked_names) {
            let unsaid = self.unsaid_scopes.iter().any(|other| other == name);
            if !unsaid && !granted_names.iter().any(|other| same(name, other)) {
                difference.missing.push(scope.clone());
            }
        }
        for (scope, name) in granted.iter().zip(&granted_names) {
            if !asked_names.iter().any(|other| same(name, other)) {
                difference.extra.push(scope.clone());
            }
        }
        difference
    }

    /// A scope as it is asked for.
    fn plain_scope<'a>(&'a self, scope: &'a str) -> &'a str {
        if let Some(name) = self.scope_aliases.get(scope) {
            return name;
        }
        self.scope_prefix.as_deref().and_then(|prefix| scope.strip_prefix(prefix)).unwrap_or(scope)
    }
}
