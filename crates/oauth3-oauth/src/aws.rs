//! What AWS IAM Identity Center has besides: a client that registers itself, and credentials of a role at the end.

use crate::exchange::Json;
use crate::fields::json_body;
use crate::token::success;
use crate::{Client, Exchange, Failure, Reply, Sensitive};
use oauth3_core::Timestamp;
use oauth3_provider::Endpoint;
use serde::Deserialize;

/// The name that the owner is shown when the sign-in is confirmed.
const CLIENT_NAME: &str = "oauth3";
/// Longest part of a role's credentials, in bytes. Session tokens have no documented limit.
const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// A client that AWS made for us (`RegisterClient`).
#[derive(Debug)]
pub struct Registered {
    /// For [`Client::id`].
    pub id: String,
    /// For [`Client::secret`].
    pub secret: Sensitive,
    /// Until when it is good. After that, refreshing fails and the owner signs in with another client.
    pub expires_at: Timestamp,
}

/// What a role's calls are signed with (`GetRoleCredentials`).
#[derive(Debug)]
pub struct RoleCredentials {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Sensitive,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Sensitive,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Sensitive,
    /// Until when they are good.
    pub expires_at: Timestamp,
}

/// A request as AWS takes it, with who we are there in front.
pub(crate) fn request(client: &Client, url: Endpoint, fields: &[(&str, &str)]) -> Result<Exchange, Failure> {
    let secret = client.secret.as_ref().ok_or(Failure::NotRegistered)?;
    let who = [("clientId", client.id.as_str()), ("clientSecret", secret.expose())];
    let fields: Vec<_> = who.iter().chain(fields).map(|(name, value)| (*name, Json::Text(value))).collect();
    Ok(Exchange::json(url, &fields))
}

/// Registers a client. Of `client` only the server counts.
///
/// # Errors
/// When the server has no place for it.
pub fn register(client: &Client, scopes: &[String]) -> Result<Exchange, Failure> {
    let url = client.endpoint(&client.server.registration, "registration endpoint")?;
    let grants = ["urn:ietf:params:oauth:grant-type:device_code".to_owned(), "refresh_token".to_owned()];
    Ok(Exchange::json(
        url,
        &[
            ("clientName", Json::Text(CLIENT_NAME)),
            ("clientType", Json::Text("public")),
            ("scopes", Json::Texts(scopes)),
            ("grantTypes", Json::Texts(&grants)),
        ],
    ))
}

/// Reads the reply to it.
///
/// # Errors
/// When it is a refusal, or something is missing.
pub fn read_registered(client: &Client, reply: &Reply<'_>) -> Result<Registered, Failure> {
    let mut fields = success(client, reply)?;
    let id = fields.text("client_id").map(str::to_owned).filter(|id| id.len() <= MAX_CREDENTIAL_BYTES);
    let secret = fields.take("client_secret").filter(|secret| secret.expose().len() <= MAX_CREDENTIAL_BYTES);
    let expires = fields.number("client_secret_expires_at").ok().flatten();
    Ok(Registered {
        id: id.ok_or(Failure::Field("clientId"))?,
        secret: secret.ok_or(Failure::Field("clientSecret"))?,
        expires_at: Timestamp::from_millis(
            expires.ok_or(Failure::Field("clientSecretExpiresAt"))?.saturating_mul(1000),
        ),
    })
}

/// Asks for credentials of a role in an account.
///
/// # Errors
/// When the server has no place for it, or the address grows too long.
pub fn role_credentials(
    client: &Client,
    access_token: &Sensitive,
    account_id: &str,
    role_name: &str,
) -> Result<Exchange, Failure> {
    let url = client.endpoint(&client.server.role_credentials, "address for credentials of roles")?;
    let url = url.with_query(&[("account_id", account_id), ("role_name", role_name)]).map_err(|_| Failure::TooLong)?;
    Ok(Exchange::get(url).with_header("x-amz-sso_bearer_token", Sensitive::copied(access_token.expose())))
}

/// Reads the reply to it.
///
/// # Errors
/// When it is a refusal ([`Failure::Refused`] with `unauthorized`: the access token is no longer good), or something is
/// missing.
pub fn read_role_credentials(client: &Client, reply: &Reply<'_>) -> Result<RoleCredentials, Failure> {
    success(client, reply)?;
    let read: Body = serde_json::from_str(json_body(reply)?).map_err(|_| Failure::Field("roleCredentials"))?;
    let Credentials { access_key_id, secret_access_key, session_token, expiration } = read.role_credentials;
    for part in [&access_key_id, &secret_access_key, &session_token] {
        let text = part.expose();
        let fine = (1..=MAX_CREDENTIAL_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !fine {
            return Err(Failure::Field("roleCredentials"));
        }
    }
    let expires_at = Timestamp::from_millis(expiration);
    Ok(RoleCredentials { access_key_id, secret_access_key, session_token, expires_at })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    role_credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    access_key_id: Sensitive,
    secret_access_key: Sensitive,
    session_token: Sensitive,
    /// Milliseconds since the Unix epoch.
    expiration: i64,
}
