//! GitHub, as OAuth app and as GitHub App. From docs.github.com: authorizing-oauth-apps (device flow),
//! refreshing-user-access-tokens, REST: delete an app token, get the authenticated user.
//!
//! Its ways: an error comes with status 200; a reply is a form unless JSON was asked for; `slow_down` says the new
//! interval; scopes are separated by commas; there is no ID token. An OAuth app's token has no end and no refresh
//! token; a GitHub App's lasts eight hours, and its refresh token is used once. A token is taken back by `DELETE` with
//! the client's secret.

use super::cloud::{Answer, Body, Provider};
use super::desk::{Client, Desk, Grant, NotYet, Want, as_form, is_basic};
use crate::standin::Seen;
use serde_json::{Value, json};

/// Where people sign in.
pub const LOGIN: &str = "github.com";
/// The API.
pub const API: &str = "api.github.com";
/// The client.
pub const CLIENT_ID: &str = "Iv1.8a61f9b3a7aba766";
/// Its secret.
pub const CLIENT_SECRET: &str = "0123456789abcdef0123456789abcdef01234567";

/// The provider.
#[derive(Default)]
pub struct Github {
    /// A GitHub App, whose tokens end.
    pub app: bool,
}

impl Provider for Github {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        let form = &as_form(seen);
        Some(match (seen.header("host")?, seen.method.as_str(), seen.target.as_str()) {
            (LOGIN, "POST", "/login/device/code") => said(seen, device(form, desk)),
            (LOGIN, "POST", "/login/oauth/access_token") => said(seen, self.token(form, desk)),
            (API, "GET", "/user") => user(seen, desk),
            (API, "DELETE", "/applications/Iv1.8a61f9b3a7aba766/token") => revoke(seen, desk),
            _ => return None,
        })
    }
}

impl Github {
    fn token(&self, seen: &Seen, desk: &mut Desk) -> Value {
        // The device flow is for clients that can keep no secret; one that has it may send it.
        let (client, secret) = (Client::Public(CLIENT_ID), ("client_secret", Want::MaybeIs(CLIENT_SECRET)));
        if self.app && String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token") {
            let wanted = [("grant_type", Want::Is("refresh_token")), ("refresh_token", Want::Some), secret];
            let grant = desk.form(seen, client, &wanted).and_then(|fields| desk.renew_once(&fields["refresh_token"]));
            return match grant {
                Some(grant) => self.tokens(&grant, desk),
                None => error("bad_refresh_token", "The refresh token passed is incorrect or expired."),
            };
        }
        let grant_type = Want::Is("urn:ietf:params:oauth:grant-type:device_code");
        let wanted = [("grant_type", grant_type), ("device_code", Want::Some), secret];
        let Some(fields) = desk.form(seen, client, &wanted) else {
            return error("incorrect_client_credentials", "The client_id passed is incorrect.");
        };
        match desk.poll(&fields["device_code"]) {
            Ok(grant) => self.tokens(&grant, desk),
            Err(NotYet::Pending) => error("authorization_pending", "The authorization request is still pending."),
            Err(NotYet::TooOften) => {
                let mut slow = error("slow_down", "Too many requests have been made in the same timeframe.");
                slow["interval"] = json!(desk.interval());
                slow
            }
            Err(NotYet::Denied) => error("access_denied", "The authorization request was denied."),
            Err(NotYet::Expired) => error("expired_token", "This 'device_code' has expired."),
            Err(NotYet::Unknown) => error("incorrect_device_code", "The device_code provided is not valid."),
        }
    }

    fn tokens(&self, grant: &Grant, desk: &mut Desk) -> Value {
        if !self.app {
            let scope = grant.scope.replace(' ', ",");
            return json!({ "access_token": desk.access("gho_", grant), "token_type": "bearer", "scope": scope });
        }
        // The permissions of a GitHub App are the app's; it has no scopes.
        json!({ "access_token": desk.access("ghu_", grant), "expires_in": 28800, "token_type": "bearer", "scope": "",
                "refresh_token": desk.refresh("ghr_", grant), "refresh_token_expires_in": 15_897_600 })
    }
}

fn device(seen: &Seen, desk: &mut Desk) -> Value {
    let Some(fields) = desk.form(seen, Client::Public(CLIENT_ID), &[("scope", Want::Maybe)]) else {
        return error("incorrect_client_credentials", "The client_id passed is incorrect.");
    };
    let code = desk.begin("3584d83530557f", fields.get("scope").map(String::as_str).unwrap_or_default(), 1);
    json!({ "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": "https://github.com/login/device",
            "expires_in": 900, "interval": 1 })
}

/// JSON for whoever asks for it; a form for everybody else.
fn said(seen: &Seen, body: Value) -> Answer {
    if seen.header("accept").is_some_and(|accept| accept.contains("application/json")) {
        return Answer::json(200, body);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut form = reqwest::Url::parse("http://x/").expect("an address");
    form.query_pairs_mut()
        .extend_pairs(body.as_object().into_iter().flatten().map(|(name, value)| (name, text(value))));
    let body =
        Body::Text("application/x-www-form-urlencoded; charset=utf-8", form.query().unwrap_or_default().to_owned());
    Answer { status: 200, fields: vec![], body }
}

fn revoke(seen: &Seen, desk: &mut Desk) -> Answer {
    if !is_basic(seen, CLIENT_ID, CLIENT_SECRET) {
        desk.fault("a token is taken back without the client's secret");
        return Answer::json(401, json!({ "message": "Requires authentication", "status": "401" }));
    }
    let object = desk.json(seen, &["access_token"]);
    let token = object.and_then(|object| object["access_token"].as_str().map(str::to_owned)).unwrap_or_default();
    match desk.revoke(&token, false) {
        true => Answer::empty(204),
        false => Answer::json(404, json!({ "message": "Not Found", "status": "404" })),
    }
}

fn user(seen: &Seen, desk: &Desk) -> Answer {
    let Some(grant) = desk.bearer(seen) else {
        return Answer::json(401, json!({ "message": "Bad credentials", "status": "401" }));
    };
    let person = &grant.person;
    Answer::json(
        200,
        json!({ "login": person.name.to_lowercase(), "id": person.number(), "node_id": "MDQ6VXNlcjE=", "type": "User",
                "name": person.name, "email": null, "echo": seen.header("authorization") }),
    )
}

fn error(code: &str, text: &str) -> Value {
    let uri = "https://docs.github.com/developers/apps/authorizing-oauth-apps#error-codes-for-the-device-flow";
    json!({ "error": code, "error_description": text, "error_uri": uri })
}
