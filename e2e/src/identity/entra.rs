//! Microsoft Entra, the v2.0 endpoints, and Graph. From learn.microsoft.com: v2-oauth2-device-code,
//! v2-oauth2-auth-code-flow (refreshing), reference-error-codes, id-token-claims-reference.
//!
//! Its ways: an error has `error_codes`, a trace and a time, and an `AADSTS` number in its text; a refresh gives
//! another refresh token and leaves the old one good; scopes come back with Graph's address before them, and
//! `offline_access` is not said; the issuer has the tenant in it. A public client has no secret, and sending one is
//! refused. There is no revocation.

use super::cloud::{Answer, Provider};
use super::desk::{Client, Desk, Grant, NotYet, Want};
use super::keys::Signer;
use crate::standin::Seen;
use serde_json::{Value, json};

/// Where people sign in.
pub const LOGIN: &str = "login.microsoftonline.com";
/// The API.
pub const GRAPH: &str = "graph.microsoft.com";
/// The client, a public one.
pub const CLIENT_ID: &str = "6731de76-14a6-49ae-97bc-6eba6914391e";
/// The tenant of all personal accounts.
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const PREFIX: &str = "https://graph.microsoft.com/";
const PLAIN: [&str; 3] = ["openid", "profile", "email"];

/// The provider.
#[derive(Default)]
pub struct Entra {
    signer: Signer,
    texts: bool,
}

impl Provider for Entra {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        let place = (seen.header("host")?, seen.method.as_str(), seen.target.as_str());
        Some(match place {
            (LOGIN, "POST", "/consumers/oauth2/v2.0/devicecode") => self.device(seen, desk),
            (LOGIN, "POST", "/consumers/oauth2/v2.0/token") => self.token(seen, desk),
            (LOGIN, "GET", "/consumers/discovery/v2.0/keys") => Answer::json(200, self.signer.jwks()),
            (LOGIN, "GET", "/consumers/v2.0/.well-known/openid-configuration") => metadata(),
            (GRAPH, "GET", "/v1.0/me" | "/oidc/userinfo") => graph(seen, desk),
            _ => return None,
        })
    }
}

impl Entra {
    /// One that writes numbers as texts, as the v1.0 endpoints do.
    pub fn with_texts() -> Self {
        Self { texts: true, ..Self::default() }
    }

    fn device(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        let Some(fields) = desk.form(seen, Client::Public(CLIENT_ID), &[("scope", Want::Some)]) else {
            return error(900_144, "invalid_request", "The request body must contain the expected parameters.");
        };
        let code = desk.begin("EAB-", &fields["scope"], 1);
        let message = "To sign in, use a web browser to open the page https://www.microsoft.com/link and enter the \
                       code FJC3-8PNK to authenticate.";
        let mut body = json!({ "user_code": "FJC38PNK", "device_code": code, "expires_in": 900, "interval": 1,
                               "verification_uri": "https://www.microsoft.com/link", "message": message });
        self.numbers(&mut body);
        Answer::json(200, body)
    }

    fn token(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        // Microsoft's own library sends `client_info` and `code` besides.
        let own = [("client_info", Want::Maybe), ("claims", Want::Maybe), ("scope", Want::Maybe)];
        let refreshes = String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token");
        let mut wanted = match refreshes {
            true => vec![("grant_type", Want::Is("refresh_token")), ("refresh_token", Want::Some)],
            false => vec![
                ("grant_type", Want::Is("urn:ietf:params:oauth:grant-type:device_code")),
                ("device_code", Want::Some),
                ("code", Want::Maybe),
            ],
        };
        wanted.extend(own);
        let Some(fields) = desk.form(seen, Client::Public(CLIENT_ID), &wanted) else {
            return error(900_144, "invalid_request", "The request body must contain the expected parameters.");
        };
        let grant = match refreshes {
            true => match desk.renew(&fields["refresh_token"]) {
                Some(grant) => grant,
                None => return error(70_000, "invalid_grant", "The provided value for 'refresh_token' is not valid."),
            },
            false => match desk.poll(&fields["device_code"]) {
                Ok(grant) => grant,
                Err(why) => return not_yet(why),
            },
        };
        self.tokens(&grant, fields.contains_key("client_info"), desk)
    }

    fn tokens(&self, grant: &Grant, says_client: bool, desk: &mut Desk) -> Answer {
        let said: Vec<String> =
            grant.scope.split(' ').filter(|scope| *scope != "offline_access").map(spelled).collect();
        let access = desk.access("EwB-", grant);
        let mut body = json!({ "token_type": "Bearer", "scope": said.join(" "), "expires_in": 3600,
                               "ext_expires_in": 3600, "access_token": access });
        if grant.has("offline_access") {
            body["refresh_token"] = json!(desk.refresh("M.C5-", grant));
        }
        let (subject, name, email) = (grant.person.subject(), &grant.person.name, grant.person.email());
        if grant.has("openid") {
            let token = self.signer.sign(json!({
                "ver": "2.0", "iss": format!("https://{LOGIN}/{CONSUMERS}/v2.0"), "sub": subject, "aud": CLIENT_ID,
                "name": name, "preferred_username": email, "email": email, "tid": CONSUMERS,
                "oid": "00000000-0000-0000-66f3-3332eca7ea81",
            }));
            desk.secrets.push(token.clone());
            body["id_token"] = json!(token);
        }
        if says_client {
            let info = json!({ "uid": subject, "utid": CONSUMERS }).to_string();
            body["client_info"] = json!(data_encoding::BASE64URL_NOPAD.encode(info.as_bytes()));
        }
        self.numbers(&mut body);
        Answer::json(200, body)
    }

    fn numbers(&self, body: &mut Value) {
        for (_, value) in body.as_object_mut().expect("an object").iter_mut().filter(|_| self.texts) {
            if let Some(number) = value.as_u64() {
                *value = json!(number.to_string());
            }
        }
    }
}

fn spelled(scope: &str) -> String {
    let plain = PLAIN.contains(&scope) || scope.starts_with(PREFIX);
    if plain { scope.to_owned() } else { format!("{PREFIX}{scope}") }
}

fn not_yet(why: NotYet) -> Answer {
    match why {
        NotYet::Pending => error(
            70_016,
            "authorization_pending",
            "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
        ),
        NotYet::TooOften => error(70_011, "slow_down", "The client polls too often."),
        NotYet::Denied => error(70_017, "authorization_declined", "The user declined the request."),
        NotYet::Expired => error(70_020, "expired_token", "The provided value for 'device_code' is expired."),
        NotYet::Unknown => error(70_000, "bad_verification_code", "The device_code was not recognized."),
    }
}

fn error(number: u32, code: &str, text: &str) -> Answer {
    let (trace, time) = ("0000aaaa-11bb-cccc-dd22-eeeeee333333", "2026-11-27 12:00:00Z");
    let text = format!("AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {trace} Timestamp: {time}");
    Answer::json(
        400,
        json!({ "error": code, "error_description": text, "error_codes": [number], "timestamp": time,
                "trace_id": trace, "correlation_id": trace, "error_uri": format!("https://{LOGIN}/error?code={number}") }),
    )
}

fn metadata() -> Answer {
    let at = |path: &str| format!("https://{LOGIN}/consumers/{path}");
    Answer::json(
        200,
        json!({ "issuer": format!("https://{LOGIN}/{CONSUMERS}/v2.0"), "token_endpoint": at("oauth2/v2.0/token"),
                "authorization_endpoint": at("oauth2/v2.0/authorize"), "jwks_uri": at("discovery/v2.0/keys"),
                "device_authorization_endpoint": at("oauth2/v2.0/devicecode"),
                "userinfo_endpoint": format!("https://{GRAPH}/oidc/userinfo") }),
    )
}

fn graph(seen: &Seen, desk: &Desk) -> Answer {
    let Some(grant) = desk.bearer(seen) else {
        let error = json!({ "code": "InvalidAuthenticationToken", "message": "Access token has expired or is not yet valid.",
                            "innerError": { "date": "2026-11-27T12:00:00", "request-id": "1" } });
        let mut answer = Answer::json(401, json!({ "error": error }));
        answer.fields.push(("www-authenticate", "Bearer realm=\"\"".to_owned()));
        return answer;
    };
    let (name, email) = (&grant.person.name, grant.person.email());
    match seen.target.as_str() {
        "/oidc/userinfo" => Answer::json(200, json!({ "sub": grant.person.subject(), "name": name, "email": email })),
        // What it was called with, as a careless API would say it.
        _ => Answer::json(200, json!({ "displayName": name, "mail": email, "echo": seen.header("authorization") })),
    }
}
