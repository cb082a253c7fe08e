//! GitLab. From docs.gitlab.com: OAuth 2.0 identity provider API (device authorization grant, refreshing, revoking).
//!
//! Its ways: the device endpoint is `authorize_device`; tokens last two hours, and a refresh token is used once and
//! takes its access token with it; `created_at` stands in replies; the subject is the number of the account.

use super::cloud::{Answer, Provider};
use super::desk::{Client, Desk, Grant, NotYet, Want};
use super::keys::Signer;
use crate::standin::Seen;
use serde_json::{Value, json};

/// The server.
pub const HOST: &str = "gitlab.com";
/// The client, one that is not confidential.
pub const CLIENT_ID: &str = "4a50fd4e09a0b8ee6a8c1f0c5a3c4f5e";
const CLIENT: Client = Client::Public(CLIENT_ID);

/// The provider.
#[derive(Default)]
pub struct Gitlab {
    signer: Signer,
}

impl Provider for Gitlab {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        if seen.header("host") != Some(HOST) {
            return None;
        }
        Some(match (seen.method.as_str(), seen.target.as_str()) {
            ("POST", "/oauth/authorize_device") => device(seen, desk),
            ("POST", "/oauth/token") => self.token(seen, desk),
            ("POST", "/oauth/revoke") => revoke(seen, desk),
            ("GET", "/oauth/discovery/keys") => Answer::json(200, self.signer.jwks()),
            ("GET", "/oauth/userinfo") => user(seen, desk, |grant| {
                let (name, email) = (&grant.person.name, grant.person.email());
                json!({ "sub": grant.person.number().to_string(), "name": name, "email": email })
            }),
            ("GET", "/api/v4/user") => user(seen, desk, |grant| {
                json!({ "id": grant.person.number(), "username": grant.person.name.to_lowercase(),
                        "echo": seen.header("authorization") })
            }),
            _ => return None,
        })
    }
}

impl Gitlab {
    fn token(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        if String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token") {
            let wanted = [
                ("grant_type", Want::Is("refresh_token")),
                ("refresh_token", Want::Some),
                ("redirect_uri", Want::Maybe),
            ];
            let Some(fields) = desk.form(seen, CLIENT, &wanted) else { return invalid() };
            return match desk.renew_once(&fields["refresh_token"]) {
                Some(grant) => self.tokens(&grant, desk),
                None => invalid_grant(),
            };
        }
        let grant_type = Want::Is("urn:ietf:params:oauth:grant-type:device_code");
        let Some(fields) = desk.form(seen, CLIENT, &[("grant_type", grant_type), ("device_code", Want::Some)]) else {
            return invalid();
        };
        match desk.poll(&fields["device_code"]) {
            Ok(grant) => self.tokens(&grant, desk),
            Err(NotYet::Pending) => error("authorization_pending", "The authorization request is still pending."),
            Err(NotYet::TooOften) => error("slow_down", "Slow down."),
            Err(NotYet::Denied) => error("access_denied", "The resource owner denied the request."),
            Err(NotYet::Expired) => error("expired_token", "The device code has expired."),
            Err(NotYet::Unknown) => invalid_grant(),
        }
    }

    fn tokens(&self, grant: &Grant, desk: &mut Desk) -> Answer {
        let (access, person) = (desk.access("glat-", grant), &grant.person);
        let mut body = json!({ "access_token": access, "token_type": "Bearer", "expires_in": 7200,
                               "refresh_token": desk.refresh("glrt-", grant), "scope": grant.scope,
                               "created_at": 1_795_780_800 });
        if grant.has("openid") {
            let token = self.signer.sign(json!({
                "iss": format!("https://{HOST}"), "sub": person.number().to_string(), "aud": CLIENT_ID,
                "auth_time": 1_795_780_800, "name": person.name, "email": person.email(),
            }));
            desk.secrets.push(token.clone());
            body["id_token"] = json!(token);
        }
        Answer::json(200, body)
    }
}

fn device(seen: &Seen, desk: &mut Desk) -> Answer {
    let Some(fields) = desk.form(seen, CLIENT, &[("scope", Want::Some)]) else { return invalid() };
    let code = desk.begin("GmRh-", &fields["scope"], 1);
    let uri = format!("https://{HOST}/oauth/device");
    Answer::json(
        200,
        json!({ "device_code": code, "user_code": "0A44L90H", "verification_uri": uri, "expires_in": 300, "interval": 1,
                "verification_uri_complete": format!("{uri}?user_code=0A44L90H") }),
    )
}

fn revoke(seen: &Seen, desk: &mut Desk) -> Answer {
    let Some(fields) = desk.form(seen, CLIENT, &[("token", Want::Some), ("token_type_hint", Want::Maybe)]) else {
        return invalid();
    };
    desk.revoke(&fields["token"], true);
    Answer::json(200, json!({}))
}

fn user(seen: &Seen, desk: &Desk, says: impl Fn(&Grant) -> Value) -> Answer {
    match desk.bearer(seen) {
        Some(grant) => Answer::json(200, says(&grant)),
        None => Answer::json(401, json!({ "message": "401 Unauthorized" })),
    }
}

fn invalid() -> Answer {
    Answer::json(401, json!({ "error": "invalid_client", "error_description": "Client authentication failed." }))
}

fn invalid_grant() -> Answer {
    error("invalid_grant", "The provided authorization grant is invalid, expired or revoked.")
}

fn error(code: &str, text: &str) -> Answer {
    Answer::json(400, json!({ "error": code, "error_description": text }))
}
