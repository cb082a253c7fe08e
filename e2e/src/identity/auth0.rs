//! Auth0. From auth0.com: device authorization flow, refresh token rotation (reuse detection), revoke refresh tokens,
//! get user info.
//!
//! Its ways: the device flow names the API as `audience`; requests are forms or JSON; a refresh token is used once, and
//! a second use ends all of its family; only refresh tokens can be revoked; the issuer ends with a slash;
//! `expired_token` is said once, then `invalid_grant`.

use super::cloud::{Answer, Provider};
use super::desk::{Client, Desk, Grant, NotYet, Want, as_form};
use super::keys::Signer;
use crate::standin::Seen;
use serde_json::json;

/// The tenant.
pub const DOMAIN: &str = "example.eu.auth0.com";
/// The API that tokens are for.
pub const API: &str = "api.example.com";
/// Its identifier.
pub const AUDIENCE: &str = "https://api.example.com/";
/// The client.
pub const CLIENT_ID: &str = "nZ8JDrV8Hklf3JumewRl2ke3ovPZn5Ho";
/// Its secret, if it has one.
pub const CLIENT_SECRET: &str = "auth0-S3cret_of-the-client";

/// The provider.
#[derive(Default)]
pub struct Auth0 {
    signer: Signer,
    confidential: bool,
}

impl Provider for Auth0 {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        let seen = &as_form(seen);
        Some(match (seen.header("host")?, seen.method.as_str(), seen.target.as_str()) {
            (DOMAIN, "POST", "/oauth/device/code") => device(seen, desk),
            (DOMAIN, "POST", "/oauth/token") => self.token(seen, desk),
            (DOMAIN, "POST", "/oauth/revoke") => self.revoke(seen, desk),
            (DOMAIN, "GET", "/.well-known/jwks.json") => Answer::json(200, self.signer.jwks()),
            (DOMAIN, "GET", "/userinfo") => userinfo(seen, desk),
            (API, "GET", "/orders") => api(seen, desk),
            _ => return None,
        })
    }
}

impl Auth0 {
    /// One whose client has a secret and shows it in the form; a native client has none.
    pub fn confidential() -> Self {
        Self { confidential: true, ..Self::default() }
    }

    fn client(&self) -> Client {
        if self.confidential { Client::Post(CLIENT_ID, CLIENT_SECRET) } else { Client::Public(CLIENT_ID) }
    }

    fn token(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        if String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token") {
            let wanted =
                [("grant_type", Want::Is("refresh_token")), ("refresh_token", Want::Some), ("scope", Want::Maybe)];
            let Some(fields) = desk.form(seen, self.client(), &wanted) else { return invalid() };
            return match desk.renew_once(&fields["refresh_token"]) {
                Some(grant) => self.tokens(&grant, desk),
                None => error(403, "invalid_grant", "Unknown or invalid refresh token."),
            };
        }
        let grant_type = Want::Is("urn:ietf:params:oauth:grant-type:device_code");
        let client = self.client();
        let Some(fields) = desk.form(seen, client, &[("grant_type", grant_type), ("device_code", Want::Some)]) else {
            return invalid();
        };
        match desk.poll(&fields["device_code"]) {
            Ok(grant) => self.tokens(&grant, desk),
            Err(NotYet::Pending) => error(403, "authorization_pending", "User has yet to authorize device code."),
            Err(NotYet::TooOften) => error(429, "slow_down", "You are polling faster than the specified interval."),
            Err(NotYet::Denied) => error(403, "access_denied", "The user cancelled the device confirmation."),
            Err(NotYet::Expired) => error(403, "expired_token", "The device_code has expired."),
            Err(NotYet::Unknown) => error(403, "invalid_grant", "Invalid or expired device code."),
        }
    }

    fn revoke(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        let Some(fields) = desk.form(seen, self.client(), &[("token", Want::Some), ("token_type_hint", Want::Maybe)])
        else {
            return invalid();
        };
        let token = &fields["token"];
        if desk.holder(token).is_some() {
            desk.fault("an access token at an endpoint that takes refresh tokens only");
        }
        desk.revoke(token, false);
        Answer::empty(200)
    }

    fn tokens(&self, grant: &Grant, desk: &mut Desk) -> Answer {
        let mut body = json!({ "access_token": desk.access("eyJz-", grant), "expires_in": 86400, "token_type": "Bearer",
                               "scope": grant.scope });
        if grant.has("offline_access") {
            body["refresh_token"] = json!(desk.refresh("v1.M-", grant));
        }
        if grant.has("openid") {
            let person = &grant.person;
            let token = self.signer.sign(json!({
                "iss": format!("https://{DOMAIN}/"), "sub": format!("auth0|{}", person.subject()), "aud": CLIENT_ID,
                "name": person.name, "email": person.email(), "email_verified": true,
            }));
            desk.secrets.push(token.clone());
            body["id_token"] = json!(token);
        }
        Answer::json(200, body)
    }
}

fn device(seen: &Seen, desk: &mut Desk) -> Answer {
    let wanted = [("scope", Want::Some), ("audience", Want::Is(AUDIENCE))];
    let Some(fields) = desk.form(seen, Client::Public(CLIENT_ID), &wanted) else { return invalid() };
    let code = desk.begin("Ag_EE-", &fields["scope"], 1);
    let uri = format!("https://{DOMAIN}/activate");
    Answer::json(
        200,
        json!({ "device_code": code, "user_code": "BCDF-GHJK", "verification_uri": uri, "expires_in": 900, "interval": 1,
                "verification_uri_complete": format!("{uri}?user_code=BCDF-GHJK") }),
    )
}

fn userinfo(seen: &Seen, desk: &Desk) -> Answer {
    let Some(grant) = desk.bearer(seen) else { return error(401, "invalid_token", "Unauthorized") };
    let (subject, name, email) = (grant.person.subject(), &grant.person.name, grant.person.email());
    Answer::json(
        200,
        json!({ "sub": format!("auth0|{subject}"), "name": name, "email": email, "email_verified": true }),
    )
}

fn api(seen: &Seen, desk: &Desk) -> Answer {
    match desk.bearer(seen) {
        Some(grant) => {
            Answer::json(200, json!({ "orders_of": grant.person.name, "echo": seen.header("authorization") }))
        }
        None => error(401, "invalid_token", "Unauthorized"),
    }
}

fn invalid() -> Answer {
    error(400, "invalid_request", "Missing required parameter.")
}

fn error(status: u16, code: &str, text: &str) -> Answer {
    Answer::json(status, json!({ "error": code, "error_description": text }))
}
