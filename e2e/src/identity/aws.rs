//! AWS IAM Identity Center, and one API that takes what its roles sign with. From docs.aws.amazon.com: OIDC API
//! (RegisterClient, StartDeviceAuthorization, CreateToken), portal API (GetRoleCredentials, Logout).
//!
//! Its ways: a client registers itself and has a secret that ends; JSON in camelCase both ways; an error is the name
//! of an exception, in a field and, at the portal, in the body; the token is for the portal only, in a field of its
//! own, and gives credentials of a role, with which requests are signed.

use super::cloud::{Answer, Provider};
use super::desk::{Desk, Grant, NotYet};
use crate::standin::Seen;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where clients register and tokens come from.
pub const OIDC: &str = "oidc.eu-central-1.amazonaws.com";
/// Where credentials of roles come from.
pub const PORTAL: &str = "portal.sso.eu-central-1.amazonaws.com";
/// An API.
pub const API: &str = "sts.eu-central-1.amazonaws.com";
/// Where people sign in.
pub const START_URL: &str = "https://example.awsapps.com/start";
/// The account.
pub const ACCOUNT: &str = "123456789012";
/// The role in it.
pub const ROLE: &str = "ReadOnly";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The provider.
pub struct Aws {
    /// Id and secret of the client that was registered last.
    client: Option<(String, String)>,
    /// What roles sign with: id, secret, session.
    roles: Vec<[String; 3]>,
    role_seconds: u64,
}

impl Provider for Aws {
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer> {
        let path = seen.target.split('?').next()?;
        Some(match (seen.header("host")?, seen.method.as_str(), path) {
            (OIDC, "POST", "/client/register") => self.register(seen, desk),
            (OIDC, "POST", "/device_authorization") => self.device(seen, desk),
            (OIDC, "POST", "/token") => self.token(seen, desk),
            (PORTAL, "GET", "/federation/credentials") => self.credentials(seen, desk),
            (PORTAL, "POST", "/logout") => logout(seen, desk),
            (API, _, "/") => self.api(seen, desk),
            _ => return None,
        })
    }
}

impl Aws {
    /// One whose roles' credentials last so long, in seconds.
    pub fn new(role_seconds: u64) -> Self {
        Self { client: None, roles: vec![], role_seconds }
    }

    fn register(&mut self, seen: &Seen, desk: &mut Desk) -> Answer {
        let wanted = ["clientName", "clientType", "grantTypes", "scopes"];
        let Some(object) = desk.json(seen, &wanted) else { return refused("InvalidRequestException") };
        if object["clientType"] != "public" || object["grantTypes"] != json!([DEVICE_GRANT, "refresh_token"]) {
            desk.fault(format!("a client that cannot do what follows: {object:?}"));
        }
        if object["scopes"] != json!(["sso:account:access"]) {
            return refused("InvalidScopeException");
        }
        let (id, secret) = (desk.secret("aws-client-"), desk.secret("eyJraWQi-"));
        self.client = Some((id.clone(), secret.clone()));
        let now = seconds();
        Answer::json(
            200,
            json!({ "clientId": id, "clientSecret": secret, "clientIdIssuedAt": now,
                    "clientSecretExpiresAt": now + 90 * 24 * 3600 }),
        )
    }

    fn is_client(&self, object: &serde_json::Map<String, Value>) -> bool {
        let known = self.client.as_ref().map(|(id, secret)| (json!(id), json!(secret)));
        known == Some((object["clientId"].clone(), object["clientSecret"].clone()))
    }

    fn device(&mut self, seen: &Seen, desk: &mut Desk) -> Answer {
        let Some(object) = desk.json(seen, &["clientId", "clientSecret", "startUrl"]) else {
            return refused("InvalidRequestException");
        };
        if !self.is_client(&object) || object["startUrl"] != START_URL {
            return refused("InvalidClientException");
        }
        let code = desk.begin("device-", "sso:account:access", 1);
        let uri = "https://device.sso.eu-central-1.amazonaws.com/";
        Answer::json(
            200,
            json!({ "deviceCode": code, "userCode": "SQHR-BPVB", "verificationUri": uri,
                    "verificationUriComplete": format!("{uri}?user_code=SQHR-BPVB"), "expiresIn": 600, "interval": 1 }),
        )
    }

    fn token(&mut self, seen: &Seen, desk: &mut Desk) -> Answer {
        let refreshes = seen.body.windows(13).any(|part| part == b"refresh_token");
        let what = if refreshes { "refreshToken" } else { "deviceCode" };
        let wanted = ["clientId", "clientSecret", "grantType", what];
        let Some(object) = desk.json(seen, &wanted) else { return refused("InvalidRequestException") };
        if object["grantType"] != if refreshes { "refresh_token" } else { DEVICE_GRANT } {
            desk.fault(format!("an unknown grant type: {}", object["grantType"]));
            return refused("UnsupportedGrantTypeException");
        }
        if !self.is_client(&object) {
            return refused("InvalidClientException");
        }
        let token = object[what].as_str().unwrap_or_default();
        let grant = match refreshes {
            true => desk.renew_once(token).ok_or(NotYet::Unknown),
            false => desk.poll(token),
        };
        match grant {
            Ok(grant) => tokens(&grant, desk),
            Err(NotYet::Pending) => refused("AuthorizationPendingException"),
            Err(NotYet::TooOften) => refused("SlowDownException"),
            Err(NotYet::Denied) => refused("AccessDeniedException"),
            Err(NotYet::Expired) => refused("ExpiredTokenException"),
            Err(NotYet::Unknown) => refused("InvalidGrantException"),
        }
    }

    fn credentials(&mut self, seen: &Seen, desk: &mut Desk) -> Answer {
        let mut query: Vec<&str> = seen.target.split(['?', '&']).skip(1).collect();
        query.sort_unstable();
        let [account, role] = query[..] else {
            desk.fault(format!("not an account and a role: {}", seen.target));
            return portal(400, "InvalidRequestException");
        };
        if session(seen, desk).is_none() {
            return portal(401, "UnauthorizedException");
        }
        if (account, role) != (&format!("account_id={ACCOUNT}"), &format!("role_name={ROLE}")) {
            return portal(404, "ResourceNotFoundException");
        }
        let [secret, session] = ["wJalr/", "IQoJb3JpZ2luX2VjE/"].map(|prefix| desk.secret(prefix));
        let id = format!("ASIAC4N4RY{:010}", self.roles.len());
        desk.secrets.push(id.clone());
        self.roles.push([id.clone(), secret.clone(), session.clone()]);
        Answer::json(
            200,
            json!({ "roleCredentials": { "accessKeyId": id, "secretAccessKey": secret, "sessionToken": session,
                                         "expiration": (seconds() + self.role_seconds) * 1000 } }),
        )
    }

    /// `GetCallerIdentity`, as far as a signature's form goes; whether it holds, botocore says.
    fn api(&self, seen: &Seen, desk: &mut Desk) -> Answer {
        let field = seen.header("authorization").unwrap_or_default();
        let session = seen.header("x-amz-security-token").unwrap_or_default();
        let known = self.roles.iter().find(|[id, _, token]| {
            token == session && field.starts_with(&format!("AWS4-HMAC-SHA256 Credential={id}/"))
        });
        if known.is_none() {
            desk.fault("a request that is not signed for a role");
            return Answer::json(403, json!({ "Error": { "Code": "InvalidClientTokenId" } }));
        }
        let identity = json!({ "Account": ACCOUNT, "Arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/ann") });
        Answer::json(200, json!({ "GetCallerIdentityResult": identity, "echo": field, "session": session }))
    }
}

fn tokens(grant: &Grant, desk: &mut Desk) -> Answer {
    Answer::json(
        200,
        json!({ "accessToken": desk.access("aoaAAAAA-", grant), "tokenType": "Bearer", "expiresIn": 3600,
                "refreshToken": desk.refresh("aorAAAAA-", grant) }),
    )
}

/// The token that a request at the portal has.
fn session(seen: &Seen, desk: &mut Desk) -> Option<(String, Grant)> {
    if seen.header("authorization").is_some() {
        desk.fault("the portal takes no authorization field");
    }
    let token = seen.header("x-amz-sso_bearer_token")?.to_owned();
    desk.holder(&token).map(|grant| (token, grant))
}

fn logout(seen: &Seen, desk: &mut Desk) -> Answer {
    if !seen.body.is_empty() {
        desk.fault("a logout has no body");
    }
    match session(seen, desk) {
        Some((token, _)) => {
            desk.revoke(&token, true);
            Answer::empty(200)
        }
        None => portal(401, "UnauthorizedException"),
    }
}

/// A refusal of the OIDC API: `error` beside the exception's name in a field.
fn refused(exception: &str) -> Answer {
    let code: String = exception.trim_end_matches("Exception").chars().fold(String::new(), |mut code, character| {
        if character.is_ascii_uppercase() && !code.is_empty() {
            code.push('_');
        }
        code.push(character.to_ascii_lowercase());
        code
    });
    let status = if exception == "InvalidClientException" { 401 } else { 400 };
    let mut answer = Answer::json(status, json!({ "error": code, "error_description": "No." }));
    answer.fields.push(("x-amzn-errortype", exception.to_owned()));
    answer
}

/// A refusal of the portal.
fn portal(status: u16, exception: &str) -> Answer {
    let kind = format!("com.amazonaws.switchboard.portal#{exception}");
    let mut answer = Answer::json(status, json!({ "message": "Session token not found or invalid", "__type": kind }));
    answer.fields.push(("x-amzn-errortype", exception.to_owned()));
    answer
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
