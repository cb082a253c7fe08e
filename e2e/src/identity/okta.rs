//! Okta, the organization's server or a server of its own. From developer.okta.com: device-authorization-grant,
//! refresh tokens (rotation), OpenID Connect & OAuth 2.0 API (token, revoke, userinfo, keys).
//!
//! Its ways: a server of its own has its id in every path and in the issuer; a client with a secret shows it in the
//! field `authorization`, to the device endpoint too; a refresh token is used once, and a second use ends its family;
//! an API of Okta's says its errors in words of its own.

use super::cloud::{Answer, Provider};
use super::desk::{Client, Desk, Grant, NotYet, Want};
use super::keys::{Signer, at_hash};
use crate::standin::Seen;
use serde_json::json;

/// The organization.
pub const DOMAIN: &str = "example.okta.com";
/// The client.
pub const CLIENT_ID: &str = "0oa2hl2inow5Uqc6c357";
/// Its secret.
pub const CLIENT_SECRET: &str = "okta-S3cret_of-the-client";
const CLIENT: Client = Client::Basic(CLIENT_ID, CLIENT_SECRET);

/// The provider.
pub struct Okta {
    signer: Signer,
    server: Option<&'static str>,
}

impl Provider for Okta {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        if seen.header("host") != Some(DOMAIN) {
            return None;
        }
        if (seen.method.as_str(), seen.target.as_str()) == ("GET", "/api/v1/users/me") {
            return Some(api(seen, desk));
        }
        let base = self.base();
        let path = seen.target.strip_prefix(&base)?;
        Some(match (seen.method.as_str(), path) {
            ("POST", "/v1/device/authorize") => device(seen, desk),
            ("POST", "/v1/token") => self.token(seen, desk),
            ("POST", "/v1/revoke") => revoke(seen, desk),
            ("GET", "/v1/keys") => Answer::json(200, self.signer.jwks()),
            ("GET", "/v1/userinfo") => userinfo(seen, desk),
            _ => return None,
        })
    }
}

impl Okta {
    /// The organization's server, or the one with this id, such as `default`.
    pub fn new(server: Option<&'static str>) -> Self {
        Self { signer: Signer::new(), server }
    }

    fn base(&self) -> String {
        self.server.map_or_else(|| "/oauth2".to_owned(), |server| format!("/oauth2/{server}"))
    }

    fn issuer(&self) -> String {
        let path = self.server.map(|_| self.base()).unwrap_or_default();
        format!("https://{DOMAIN}{path}")
    }

    fn token(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        if String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token") {
            let wanted =
                [("grant_type", Want::Is("refresh_token")), ("refresh_token", Want::Some), ("scope", Want::Maybe)];
            let Some(fields) = desk.form(seen, CLIENT, &wanted) else { return invalid() };
            return match desk.renew_once(&fields["refresh_token"]) {
                Some(grant) => self.tokens(&grant, desk),
                None => error(400, "invalid_grant", "The refresh token is invalid or expired."),
            };
        }
        let grant_type = Want::Is("urn:ietf:params:oauth:grant-type:device_code");
        let Some(fields) = desk.form(seen, CLIENT, &[("grant_type", grant_type), ("device_code", Want::Some)]) else {
            return invalid();
        };
        match desk.poll(&fields["device_code"]) {
            Ok(grant) => self.tokens(&grant, desk),
            Err(NotYet::Pending) => {
                error(400, "authorization_pending", "The device authorization is pending. Please try again later.")
            }
            Err(NotYet::TooOften) => error(400, "slow_down", "The client polls too often."),
            Err(NotYet::Denied) => error(400, "access_denied", "The end-user denied the authorization request."),
            Err(NotYet::Expired) => error(400, "expired_token", "The device code has expired."),
            Err(NotYet::Unknown) => error(400, "invalid_grant", "The device code is invalid or has expired."),
        }
    }

    fn tokens(&self, grant: &Grant, desk: &mut Desk) -> Answer {
        let access = desk.access("eyJr-", grant);
        let person = &grant.person;
        let mut body =
            json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": access, "scope": grant.scope });
        if grant.has("offline_access") {
            body["refresh_token"] = json!(desk.refresh("GEbRuDwOLOlnNs-", grant));
        }
        if grant.has("openid") {
            let token = self.signer.sign(json!({
                "sub": person.subject(), "ver": 1, "iss": self.issuer(), "aud": CLIENT_ID, "jti": "ID.1",
                "amr": ["pwd"], "idp": "00o1", "name": person.name, "email": person.email(), "at_hash": at_hash(&access),
            }));
            desk.secrets.push(token.clone());
            body["id_token"] = json!(token);
        }
        Answer::json(200, body)
    }
}

fn device(seen: &Seen, desk: &mut Desk) -> Answer {
    let Some(fields) = desk.form(seen, CLIENT, &[("scope", Want::Some)]) else { return invalid() };
    let code = desk.begin("1a521d9f-", &fields["scope"], 1);
    let uri = format!("https://{DOMAIN}/activate");
    Answer::json(
        200,
        json!({ "device_code": code, "user_code": "RGTCFDTL", "verification_uri": uri, "expires_in": 600, "interval": 1,
                "verification_uri_complete": format!("{uri}?user_code=RGTCFDTL") }),
    )
}

fn revoke(seen: &Seen, desk: &mut Desk) -> Answer {
    let Some(fields) = desk.form(seen, CLIENT, &[("token", Want::Some), ("token_type_hint", Want::Maybe)]) else {
        return invalid();
    };
    desk.revoke(&fields["token"], false);
    Answer::empty(200)
}

fn userinfo(seen: &Seen, desk: &Desk) -> Answer {
    let Some(grant) = desk.bearer(seen) else {
        let mut answer = Answer::empty(401);
        let why = "Bearer error=\"invalid_token\", error_description=\"The access token is invalid.\"";
        answer.fields.push(("www-authenticate", why.to_owned()));
        return answer;
    };
    let (name, email) = (&grant.person.name, grant.person.email());
    Answer::json(200, json!({ "sub": grant.person.subject(), "name": name, "email": email, "email_verified": true }))
}

fn api(seen: &Seen, desk: &Desk) -> Answer {
    let Some(Grant { person, .. }) = desk.bearer(seen) else {
        return Answer::json(
            401,
            json!({ "errorCode": "E0000011", "errorSummary": "Invalid token provided", "errorLink": "E0000011",
                    "errorId": "oae1", "errorCauses": [] }),
        );
    };
    let profile = json!({ "firstName": person.name, "email": person.email(), "login": person.email() });
    Answer::json(
        200,
        json!({ "id": "00u1", "status": "ACTIVE", "profile": profile, "echo": seen.header("authorization") }),
    )
}

fn invalid() -> Answer {
    error(401, "invalid_client", "The client secret supplied for a confidential client is invalid.")
}

fn error(status: u16, code: &str, text: &str) -> Answer {
    Answer::json(status, json!({ "error": code, "error_description": text }))
}
