//! A strict authorization server that gives further tokens for a sign-in: a refresh with fewer scopes (RFC 6749 §6,
//! with rotation), an exchange (RFC 8693), Auth0's Token Vault. And the APIs that take them. HTTPS on loopback.
//!
//! Its addresses are Auth0's. Whoever begins is signed in at the first poll. A request that is wrong is a fault, and a
//! test that ends with faults has failed.

use crate::standin::{Seen, Standin};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Where people sign in.
pub const TENANT: &str = "example.eu.auth0.com";
/// The API of its own tokens.
pub const API: &str = "api.example.com";
/// The API of what is linked.
pub const LINKED_API: &str = "www.googleapis.com";
/// The audience that it exchanges tokens for.
pub const AUDIENCE: &str = "backend";
/// What is linked.
pub const LINKED: &str = "google-oauth2";
/// The scope of what is linked.
pub const LINKED_SCOPE: &str = "https://www.googleapis.com/auth/calendar";

const CLIENT: &str = "oauth3-test-client";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:";
const TYPE: &str = "urn:ietf:params:oauth:token-type:";
const VAULT_GRANT: &str = "urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token";
const VAULT_TOKEN: &str = "http://auth0.com/oauth/token-type/federated-connection-access-token";

/// What a test decides.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Who signs in.
    pub person: String,
    /// What a sign-in is granted, when it is not what was asked for.
    pub grants: Option<String>,
    /// Whether a narrower token is given all that the sign-in has.
    pub ignores_scope: bool,
    /// Whether each refresh token is taken once.
    pub rotates: bool,
    /// Whether the account is linked.
    pub linked: bool,
    /// What an exchange says that it gave.
    pub issued: &'static str,
    /// How long access tokens last, in seconds.
    pub lifetime: u32,
    /// The next requests for a narrower or another token that come to nothing, for now.
    pub troubles: usize,
}

#[derive(Default)]
struct State {
    ways: Option<Ways>,
    device_scope: Option<String>,
    /// Access tokens: whose, with which scopes.
    live: BTreeMap<String, (String, String)>,
    /// The refresh token: whose, with which scopes.
    refresh: Option<(String, String, String)>,
    used: BTreeSet<String>,
    revoked: Vec<String>,
    refreshes: usize,
    exchanges: usize,
    numbers: usize,
    secrets: Vec<String>,
    faults: Vec<String>,
}

/// The server.
pub struct TokenServer {
    standin: Standin,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

type Reply = Response<Full<Bytes>>;

impl TokenServer {
    /// Starts it, with Ann signing in and everything as it should be.
    pub async fn start() -> Self {
        let ways = Ways {
            person: "Ann".to_owned(),
            grants: None,
            ignores_scope: false,
            rotates: true,
            linked: true,
            issued: "access_token",
            lifetime: 3600,
            troubles: 0,
        };
        let state = Arc::new(Mutex::new(State { ways: Some(ways), ..State::default() }));
        let changed = watch::channel(0).0;
        let (inside, told) = (state.clone(), changed.clone());
        let standin = Standin::start_for(&[TENANT, API, LINKED_API], move |seen| {
            let reply = inside.lock().unwrap_or_else(PoisonError::into_inner).answer(seen);
            told.send_modify(|n| *n += 1);
            reply
        })
        .await;
        Self { standin, state, changed }
    }

    /// An `[egress]` section that leads its names here.
    pub fn egress(&self, dir: &Path) -> String {
        self.standin.egress(dir)
    }

    /// An address of it.
    pub fn at(path: &str) -> String {
        format!("https://{TENANT}{path}")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how it behaves.
    pub fn will(&self, change: impl FnOnce(&mut Ways)) {
        change(self.lock().ways.as_mut().expect("there since the start"));
    }

    /// The access tokens that are there are of no use any more.
    pub fn end_access_tokens(&self) {
        self.lock().live.clear();
    }

    /// The refresh token is of no use any more.
    pub fn forget_refresh(&self) {
        self.lock().refresh = None;
    }

    /// How many refreshes and exchanges there were.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.refreshes, state.exchanges)
    }

    /// The tokens that were revoked.
    pub fn revoked(&self) -> Vec<String> {
        self.lock().revoked.clone()
    }

    /// Every token that it gave out.
    pub fn secrets(&self) -> Vec<String> {
        self.lock().secrets.clone()
    }

    /// What was wrong with requests.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// What reached an API.
    pub fn calls(&self, api: &str) -> Vec<Seen> {
        self.standin.seen().into_iter().filter(|seen| seen.header("host") == Some(api)).collect()
    }

    /// Waits until there are more refreshes than this.
    pub async fn refreshed(&self, more_than: usize) {
        let mut changes = self.changed.subscribe();
        let waited = async {
            while self.counts().0 <= more_than {
                let _ = changes.changed().await;
            }
        };
        assert!(tokio::time::timeout(crate::PATIENCE, waited).await.is_ok(), "waited in vain for a refresh");
    }
}

impl State {
    fn ways(&self) -> &Ways {
        self.ways.as_ref().expect("there since the start")
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let path = seen.target.split('?').next().unwrap_or_default().to_owned();
        match (seen.header("host"), seen.method.as_str(), path.as_str()) {
            (Some(API | LINKED_API), _, _) => match self.bearer(seen) {
                // It reflects the token, as bad APIs do.
                Some((who, scope)) => {
                    json_reply(200, &json!({ "hello": who, "scope": scope, "echo": seen.header("authorization") }))
                }
                None => json_reply(401, &json!({ "error": "invalid_token" })),
            },
            (Some(TENANT), "POST", "/oauth/device/code") => {
                self.device_scope = self.form(seen).get("scope").cloned();
                let uri = format!("https://{TENANT}/activate");
                let code = self.secret("device");
                json_reply(
                    200,
                    &json!({ "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": uri, "expires_in": 600, "interval": 1 }),
                )
            }
            (Some(TENANT), "POST", "/oauth/token") => self.token(seen),
            (Some(TENANT), "POST", "/oauth/revoke") => {
                let token = self.form(seen).remove("token").unwrap_or_default();
                self.live.remove(&token);
                self.revoked.push(token);
                json_reply(200, &json!({}))
            }
            (Some(TENANT), "GET", "/userinfo") => match self.bearer(seen) {
                Some((who, _)) => {
                    let sub = who.to_lowercase();
                    json_reply(200, &json!({ "sub": sub, "name": who, "email": format!("{sub}@example.com") }))
                }
                None => error(401, "invalid_token"),
            },
            other => {
                self.faults.push(format!("nothing is there: {other:?}"));
                json_reply(404, &json!({}))
            }
        }
    }

    fn token(&mut self, seen: &Seen) -> Reply {
        let fields = self.form(seen);
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let grant = field("grant_type");
        let troubles = self.ways().troubles;
        if troubles > 0 && !grant.ends_with("device_code") {
            self.ways.as_mut().expect("there since the start").troubles = troubles - 1;
            return error(503, "temporarily_unavailable");
        }
        match grant.strip_prefix(GRANT).unwrap_or(grant) {
            "device_code" => {
                let asked = self.device_scope.take().unwrap_or_default();
                let scope = self.ways().grants.clone().unwrap_or(asked);
                let who = self.ways().person.clone();
                let refresh = self.secret("refresh");
                self.refresh = Some((refresh.clone(), who.clone(), scope.clone()));
                self.give(&who, &scope, &json!({ "refresh_token": refresh }))
            }
            "refresh_token" => self.renew(field("refresh_token"), field("scope")),
            "token-exchange" => {
                let known = ["subject_token", "subject_token_type", "requested_token_type", "audience", "scope"];
                self.only(&fields, &known);
                self.exchanges += 1;
                for name in ["subject_token_type", "requested_token_type"] {
                    if field(name).strip_prefix(TYPE) != Some("access_token") {
                        self.faults.push(format!("{name}: {}", field(name)));
                    }
                }
                let Some((who, all)) = self.live.get(field("subject_token")).cloned() else {
                    return error(400, "invalid_request");
                };
                if field("audience") != AUDIENCE {
                    return error(400, "invalid_target");
                }
                let Some(scope) = self.narrowed(&all, field("scope")) else { return error(400, "invalid_scope") };
                let issued = format!("{TYPE}{}", self.ways().issued);
                self.give(&who, &scope, &json!({ "issued_token_type": issued }))
            }
            VAULT_GRANT => {
                let known =
                    ["subject_token", "subject_token_type", "requested_token_type", "connection", "client_secret"];
                self.only(&fields, &known);
                self.exchanges += 1;
                let subject = self.refresh.clone().filter(|(token, _, _)| token == field("subject_token"));
                let kind = field("subject_token_type").strip_prefix(TYPE);
                if kind != Some("refresh_token") || field("requested_token_type") != VAULT_TOKEN {
                    self.faults.push("what is exchanged, or asked for, is of another type".to_owned());
                }
                let Some((_, who, _)) = subject else { return error(401, "invalid_grant") };
                if !self.ways().linked || field("connection") != LINKED {
                    return error(401, "federated_connection_refresh_token_not_found");
                }
                self.give(&who, LINKED_SCOPE, &json!({ "issued_token_type": VAULT_TOKEN }))
            }
            other => {
                self.faults.push(format!("an unknown grant type: {other}"));
                error(400, "unsupported_grant_type")
            }
        }
    }

    fn renew(&mut self, token: &str, asked: &str) -> Reply {
        if self.ways().rotates && self.used.contains(token) {
            self.faults.push("a refresh token was sent twice".to_owned());
        }
        let Some((_, who, all)) = self.refresh.clone().filter(|(known, _, _)| known == token) else {
            return error(400, "invalid_grant");
        };
        // A server that answers for itself has used nothing up.
        let Some(scope) = self.narrowed(&all, asked) else { return error(400, "invalid_scope") };
        self.refreshes += 1;
        if !self.ways().rotates {
            return self.give(&who, &scope, &json!({}));
        }
        self.used.insert(token.to_owned());
        let next = self.secret("refresh");
        self.refresh = Some((next.clone(), who.clone(), all));
        self.give(&who, &scope, &json!({ "refresh_token": next }))
    }

    /// The scopes that were asked for, when all of them are there; none asks for all.
    fn narrowed(&self, all: &str, asked: &str) -> Option<String> {
        if asked.is_empty() || self.ways().ignores_scope {
            return Some(all.to_owned());
        }
        asked.split(' ').all(|scope| all.split(' ').any(|known| known == scope)).then(|| asked.to_owned())
    }

    fn give(&mut self, who: &str, scope: &str, more: &Value) -> Reply {
        let access = self.secret("access");
        self.live.insert(access.clone(), (who.to_owned(), scope.to_owned()));
        let mut body = json!({ "access_token": access, "token_type": "Bearer", "expires_in": self.ways().lifetime, "scope": scope });
        let more = more.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("an object").extend(more);
        json_reply(200, &body)
    }

    fn bearer(&self, seen: &Seen) -> Option<(String, String)> {
        self.live.get(seen.header("authorization")?.strip_prefix("Bearer ")?).cloned()
    }

    /// The fields of a form, each once, from the client that is known.
    fn form(&mut self, seen: &Seen) -> BTreeMap<String, String> {
        if seen.header("content-type") != Some("application/x-www-form-urlencoded") {
            self.faults.push(format!("{}: content-type {:?}", seen.target, seen.header("content-type")));
        }
        let url = reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(&seen.body))).expect("a form");
        let mut fields = BTreeMap::new();
        for (name, value) in url.query_pairs() {
            if fields.insert(name.to_string(), value.to_string()).is_some() {
                self.faults.push(format!("{}: {name} twice", seen.target));
            }
        }
        if fields.get("client_id").map(String::as_str) != Some(CLIENT) {
            self.faults.push(format!("{}: another client", seen.target));
        }
        fields
    }

    fn only(&mut self, fields: &BTreeMap<String, String>, known: &[&str]) {
        let usual = ["client_id", "grant_type"];
        if let Some(name) = fields.keys().find(|name| !known.iter().chain(&usual).any(|known| known == name)) {
            self.faults.push(format!("the field {name}"));
        }
    }

    fn secret(&mut self, kind: &str) -> String {
        self.numbers += 1;
        let secret = format!("{kind}-C4n4ry.{}~Hn3Vd7Qs1Lw9Bt5Xk", self.numbers);
        self.secrets.push(secret.clone());
        secret
    }
}

fn json_reply(code: u16, body: &Value) -> Reply {
    let reply = Response::builder().status(code).header("content-type", "application/json");
    reply.body(Full::from(body.to_string())).expect("reply")
}

fn error(code: u16, error: &str) -> Reply {
    json_reply(code, &json!({ "error": error, "error_description": "<script>alert(1)</script>" }))
}
