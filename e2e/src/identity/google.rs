//! Google. From developers.google.com: limited-input-device, native-app (refreshing, revoking), openid-connect.
//!
//! Its ways: `verification_url`; a poll that finds nothing yet is answered with status 428, one that comes too soon or
//! was declined with 403; the client has a secret, which goes to the token endpoint but is no parameter of the device
//! endpoint; scopes come back by their long names; a refresh gives no other refresh token; a token is revoked without
//! a word of who the client is, and with a refresh token its access tokens go too.

use super::cloud::{Answer, Provider};
use super::desk::{Client, Desk, Grant, NotYet, Want};
use super::keys::{Signer, at_hash};
use crate::standin::Seen;
use serde_json::json;

/// Where tokens come from.
pub const OAUTH: &str = "oauth2.googleapis.com";
/// The API, and the keys.
pub const API: &str = "www.googleapis.com";
/// The account.
pub const OPENID: &str = "openidconnect.googleapis.com";
/// The client, for devices with limited input.
pub const CLIENT_ID: &str = "407408718192.apps.googleusercontent.com";
/// Its secret.
pub const CLIENT_SECRET: &str = "GOCSPX-not-so-secret";

/// The provider.
#[derive(Default)]
pub struct Google {
    signer: Signer,
}

impl Provider for Google {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        Some(match (seen.header("host")?, seen.method.as_str(), seen.target.as_str()) {
            (OAUTH, "POST", "/device/code") => device(seen, desk),
            (OAUTH, "POST", "/token") => self.token(seen, desk),
            (OAUTH, "POST", "/revoke") => revoke(seen, desk),
            (API, "GET", "/oauth2/v3/certs") => Answer::json(200, self.signer.jwks()),
            (API, "GET", "/drive/v3/about") | (OPENID, "GET", "/v1/userinfo") => api(seen, desk),
            _ => return None,
        })
    }
}

impl Google {
    fn token(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        let client = Client::Post(CLIENT_ID, CLIENT_SECRET);
        let refreshes = String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token");
        if refreshes {
            let wanted =
                [("grant_type", Want::Is("refresh_token")), ("refresh_token", Want::Some), ("scope", Want::Maybe)];
            let Some(fields) = desk.form(seen, client, &wanted) else { return invalid() };
            let Some(grant) = desk.renew(&fields["refresh_token"]) else {
                return error(400, "invalid_grant", "Token has been expired or revoked.");
            };
            return self.tokens(&grant, false, desk);
        }
        let grant_type = Want::Is("urn:ietf:params:oauth:grant-type:device_code");
        let Some(fields) = desk.form(seen, client, &[("grant_type", grant_type), ("device_code", Want::Some)]) else {
            return invalid();
        };
        match desk.poll(&fields["device_code"]) {
            Ok(grant) => self.tokens(&grant, true, desk),
            Err(NotYet::Pending) => error(428, "authorization_pending", "Precondition Required"),
            Err(NotYet::TooOften) => error(403, "slow_down", "Forbidden"),
            Err(NotYet::Denied) => error(403, "access_denied", "Forbidden"),
            Err(NotYet::Expired) => error(400, "expired_token", "The device code has expired."),
            Err(NotYet::Unknown) => error(400, "invalid_grant", "Malformed auth code."),
        }
    }

    fn tokens(&self, grant: &Grant, first: bool, desk: &mut Desk) -> Answer {
        let long = |scope: &str| match scope {
            "email" | "profile" => format!("https://www.googleapis.com/auth/userinfo.{scope}"),
            other => other.to_owned(),
        };
        let said: Vec<String> = grant.scope.split(' ').map(long).collect();
        let access = desk.access("ya29.", grant);
        let mut body =
            json!({ "access_token": access, "expires_in": 3599, "scope": said.join(" "), "token_type": "Bearer" });
        if first {
            body["refresh_token"] = json!(desk.refresh("1//", grant));
        }
        if grant.has("openid") {
            let (person, hash) = (&grant.person, at_hash(&access));
            let token = self.signer.sign(json!({
                "iss": "https://accounts.google.com", "azp": CLIENT_ID, "aud": CLIENT_ID, "sub": person.subject(),
                "email": person.email(), "email_verified": true, "at_hash": hash, "name": person.name,
            }));
            desk.secrets.push(token.clone());
            body["id_token"] = json!(token);
        }
        Answer::json(200, body)
    }
}

fn device(seen: &Seen, desk: &mut Desk) -> Answer {
    let Some(fields) = desk.form(seen, Client::Public(CLIENT_ID), &[("scope", Want::Some)]) else { return invalid() };
    let code = desk.begin("AH-1Ng", &fields["scope"], 1);
    Answer::json(
        200,
        json!({ "device_code": code, "user_code": "GQVQ-JKEC", "verification_url": "https://www.google.com/device",
                "expires_in": 1800, "interval": 1 }),
    )
}

fn revoke(seen: &Seen, desk: &mut Desk) -> Answer {
    let Some(fields) = desk.form(seen, Client::Nobody, &[("token", Want::Some)]) else { return invalid() };
    match desk.revoke(&fields["token"], true) {
        true => Answer::json(200, json!({})),
        false => error(400, "invalid_token", "Token expired or revoked"),
    }
}

fn api(seen: &Seen, desk: &Desk) -> Answer {
    let Some(grant) = desk.bearer(seen) else {
        let error = json!({ "code": 401, "message": "Request had invalid authentication credentials.",
                            "status": "UNAUTHENTICATED" });
        return Answer::json(401, json!({ "error": error }));
    };
    let (name, email) = (&grant.person.name, grant.person.email());
    match seen.header("host") {
        Some(OPENID) => Answer::json(
            200,
            json!({ "sub": grant.person.subject(), "name": name, "email": email, "email_verified": true }),
        ),
        _ => Answer::json(200, json!({ "user": { "displayName": name }, "echo": seen.header("authorization") })),
    }
}

fn invalid() -> Answer {
    error(400, "invalid_request", "Bad Request")
}

fn error(status: u16, code: &str, text: &str) -> Answer {
    Answer::json(status, json!({ "error": code, "error_description": text }))
}
