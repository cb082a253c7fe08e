//! A strict identity provider in the process of the test: device sign-ins (RFC 8628), refresh with rotation, userinfo,
//! revocation (RFC 7009), discovery, and an API that takes its tokens. HTTPS on loopback.
//!
//! Whatever a request has that it should not, or lacks, is a fault, and a test that ends with faults has failed. What
//! is polled is answered as the test has said, else with `authorization_pending`.
//!
//! The modules are single providers, each strict about its own documentation: [`cloud`] runs one of them, [`desk`] is
//! what they share.

pub mod auth0;
pub mod aws;
pub mod cloud;
pub mod desk;
pub mod entra;
pub mod github;
pub mod gitlab;
pub mod google;
pub mod keys;
pub mod okta;

use crate::standin::{Seen, Standin};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Where people sign in.
pub const LOGIN_HOST: &str = "login.example.com";
/// The API that takes the tokens.
pub const API_HOST: &str = "api.example.com";
/// The only client that it knows.
pub const CLIENT_ID: &str = "oauth3-test-client";
/// What people type.
pub const USER_CODE: &str = "WDJB-MJHT";

/// How one poll is answered.
#[derive(Debug, Clone)]
pub enum Poll {
    /// Not yet.
    Pending,
    /// Not so fast.
    SlowDown,
    /// Somebody said no.
    Denied,
    /// Too late.
    Expired,
    /// A page instead of JSON.
    Html,
    /// To somewhere else.
    Redirect,
    /// Broken.
    Down,
    /// This person signed in; of this type the token is, with these scopes if others than asked for.
    SignedIn {
        /// `sub`.
        subject: String,
        /// `name`.
        name: String,
        /// `token_type`.
        token_type: String,
        /// `scope`.
        scope: Option<String>,
    },
}

impl Poll {
    /// A person of this name.
    pub fn person(name: &str) -> Self {
        let subject = name.to_lowercase();
        Self::SignedIn { subject, name: name.to_owned(), token_type: "Bearer".to_owned(), scope: None }
    }
}

type Reply = Response<Full<Bytes>>;

#[derive(Default)]
struct State {
    polls: VecDeque<Poll>,
    polled: usize,
    begun: usize,
    device_code: Option<String>,
    scope: String,
    /// Access token to `sub` and `name`.
    live: BTreeMap<String, (String, String)>,
    refresh: Option<(String, (String, String))>,
    used_refresh: BTreeSet<String>,
    revoked: Vec<String>,
    refreshed: usize,
    refuses_refresh: bool,
    /// Refreshes that are answered with a page about trouble.
    refresh_troubles: usize,
    /// And how long that is to be waited out, in seconds, when it says so.
    patience: Option<u32>,
    /// `expires_in`, when it is not an hour.
    lifetime: Option<u32>,
    /// Everything that nobody but the keeper may see.
    secrets: Vec<String>,
    faults: Vec<String>,
    numbers: usize,
}

/// The provider, and its API.
pub struct IdentityProvider {
    standin: Standin,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl IdentityProvider {
    /// Starts it.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let changed = watch::channel(0).0;
        let (inside, told) = (state.clone(), changed.clone());
        let standin = Standin::start_for(&[LOGIN_HOST, API_HOST], move |seen| {
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

    /// Its issuer.
    pub fn issuer() -> String {
        format!("https://{LOGIN_HOST}")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next polls are answered so.
    pub fn will(&self, polls: impl IntoIterator<Item = Poll>) {
        self.lock().polls.extend(polls);
    }

    /// The access tokens that are there are of no use any more.
    pub fn end_access_tokens(&self) {
        self.lock().live.clear();
    }

    /// Access tokens from now on say that they last so long, in seconds.
    pub fn tokens_last(&self, seconds: u32) {
        self.lock().lifetime = Some(seconds);
    }

    /// The next refreshes are answered with a page about trouble.
    pub fn refresh_troubles(&self, count: usize) {
        self.lock().refresh_troubles = count;
    }

    /// Such a page says from now on that it is to be waited out so long, in seconds.
    pub fn asks_for_patience(&self, seconds: u32) {
        self.lock().patience = Some(seconds);
    }

    /// From now on no refresh token is taken.
    pub fn refuse_refresh(&self) {
        self.lock().refuses_refresh = true;
    }

    /// How many sign-ins were begun, and how many polls and refreshes there were.
    pub fn counts(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.begun, state.polled, state.refreshed)
    }

    /// The tokens that were revoked.
    pub fn revoked(&self) -> Vec<String> {
        self.lock().revoked.clone()
    }

    /// Every device code and token that it gave out.
    pub fn secrets(&self) -> Vec<String> {
        self.lock().secrets.clone()
    }

    /// What was wrong with requests.
    pub fn faults(&self) -> Vec<String> {
        self.lock().faults.clone()
    }

    /// What reached the API.
    pub fn api_calls(&self) -> Vec<Seen> {
        self.standin.seen().into_iter().filter(|seen| seen.header("host") == Some(API_HOST)).collect()
    }

    /// Waits until this holds of the counts.
    pub async fn until(&self, what: &str, holds: impl Fn((usize, usize, usize)) -> bool) {
        let mut changes = self.changed.subscribe();
        let waited = async {
            loop {
                changes.borrow_and_update();
                if holds(self.counts()) {
                    return;
                }
                let _ = changes.changed().await;
            }
        };
        assert!(tokio::time::timeout(crate::PATIENCE, waited).await.is_ok(), "waited in vain for {what}");
    }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Reply {
        let path = seen.target.split('?').next().unwrap_or_default().to_owned();
        match (seen.header("host"), seen.method.as_str(), path.as_str()) {
            (Some(API_HOST), _, _) => self.api(seen),
            (Some(LOGIN_HOST), "GET", "/.well-known/openid-configuration") => metadata(),
            (Some(LOGIN_HOST), "GET", "/.well-known/oauth-authorization-server") => status(404, &json!({})),
            (Some(LOGIN_HOST), "POST", "/device") => self.device(seen),
            (Some(LOGIN_HOST), "POST", "/token") => self.token(seen),
            (Some(LOGIN_HOST), "POST", "/revoke") => self.revoke(seen),
            (Some(LOGIN_HOST), "GET", "/userinfo") => self.userinfo(seen),
            other => {
                self.faults.push(format!("nothing is there: {other:?}"));
                status(404, &json!({}))
            }
        }
    }

    fn device(&mut self, seen: &Seen) -> Reply {
        let Some(fields) = self.form(seen, &["client_id", "scope"]) else { return error("invalid_request") };
        self.begun += 1;
        self.scope = fields.get("scope").cloned().unwrap_or_default();
        let code = self.secret("device");
        self.device_code = Some(code.clone());
        let uri = format!("https://{LOGIN_HOST}/activate");
        status(
            200,
            &json!({ "device_code": code, "user_code": USER_CODE, "verification_uri": uri,
                     "verification_uri_complete": format!("{uri}?user_code={USER_CODE}"), "expires_in": 600, "interval": 1 }),
        )
    }

    fn token(&mut self, seen: &Seen) -> Reply {
        let fields = ["client_id", "grant_type", "device_code", "refresh_token", "scope"];
        let Some(fields) = self.form(seen, &fields) else { return error("invalid_request") };
        match fields.get("grant_type").map(String::as_str) {
            Some("urn:ietf:params:oauth:grant-type:device_code") => self.poll(fields.get("device_code")),
            Some("refresh_token") => self.renew(fields.get("refresh_token")),
            other => {
                self.faults.push(format!("an unknown grant type: {other:?}"));
                error("unsupported_grant_type")
            }
        }
    }

    fn poll(&mut self, code: Option<&String>) -> Reply {
        if self.device_code.is_none() || code != self.device_code.as_ref() {
            self.faults.push("a poll with a device code that is over".to_owned());
            return error("invalid_grant");
        }
        self.polled += 1;
        match self.polls.pop_front().unwrap_or(Poll::Pending) {
            Poll::Pending => error("authorization_pending"),
            Poll::SlowDown => error("slow_down"),
            Poll::Denied => {
                self.device_code = None;
                error("access_denied")
            }
            Poll::Expired => {
                self.device_code = None;
                error("expired_token")
            }
            Poll::Html => page(200),
            Poll::Down => page(500),
            Poll::Redirect => {
                let reply = Response::builder().status(302).header("location", "https://evil.example.net/token");
                reply.body(Full::default()).expect("reply")
            }
            Poll::SignedIn { subject, name, token_type, scope } => {
                self.device_code = None;
                let scope = scope.unwrap_or_else(|| self.scope.clone());
                self.tokens((subject, name), &token_type, &scope)
            }
        }
    }

    fn renew(&mut self, token: Option<&String>) -> Reply {
        let Some(token) = token else { return error("invalid_request") };
        if self.refresh_troubles > 0 {
            self.refresh_troubles -= 1;
            let mut reply = page(503);
            if let Some(seconds) = self.patience {
                reply.headers_mut().insert("retry-after", seconds.into());
            }
            return reply;
        }
        if self.used_refresh.contains(token) {
            self.faults.push("a refresh token was sent twice".to_owned());
        }
        self.used_refresh.insert(token.clone());
        let known = self.refresh.take().filter(|(known, _)| known == token && !self.refuses_refresh);
        let Some((_, who)) = known else { return error("invalid_grant") };
        self.refreshed += 1;
        let scope = self.scope.clone();
        self.tokens(who, "Bearer", &scope)
    }

    fn tokens(&mut self, who: (String, String), token_type: &str, scope: &str) -> Reply {
        let (access, refresh) = (self.secret("access"), self.secret("refresh"));
        self.live.insert(access.clone(), who.clone());
        self.refresh = Some((refresh.clone(), who));
        status(
            200,
            &json!({ "access_token": access, "refresh_token": refresh, "token_type": token_type, "expires_in": self.lifetime.unwrap_or(3600),
                     "scope": scope }),
        )
    }

    fn revoke(&mut self, seen: &Seen) -> Reply {
        let Some(fields) = self.form(seen, &["client_id", "token", "token_type_hint"]) else {
            return error("invalid_request");
        };
        let token = fields.get("token").cloned().unwrap_or_default();
        self.live.remove(&token);
        self.revoked.push(token);
        Response::builder().status(200).body(Full::default()).expect("reply")
    }

    fn userinfo(&mut self, seen: &Seen) -> Reply {
        match self.bearer(seen) {
            Some((subject, name)) => {
                let email = format!("{subject}@example.com");
                status(200, &json!({ "sub": subject, "name": name, "email": email, "email_verified": true }))
            }
            None => error("invalid_token"),
        }
    }

    fn api(&mut self, seen: &Seen) -> Reply {
        match self.bearer(seen) {
            // It reflects the token, as bad APIs do.
            Some((_, name)) => {
                let token = seen.header("authorization").unwrap_or_default();
                status(200, &json!({ "hello": name, "path": seen.target, "echo": token }))
            }
            None => status(401, &json!({ "error": "invalid_token" })),
        }
    }

    fn bearer(&self, seen: &Seen) -> Option<(String, String)> {
        self.live.get(seen.header("authorization")?.strip_prefix("Bearer ")?).cloned()
    }

    /// A form with these fields at most, each once, from the client that is known.
    fn form(&mut self, seen: &Seen, allowed: &[&str]) -> Option<BTreeMap<String, String>> {
        let before = self.faults.len();
        if seen.header("content-type") != Some("application/x-www-form-urlencoded") {
            self.faults.push(format!("{}: content-type {:?}", seen.target, seen.header("content-type")));
        }
        if seen.header("accept") != Some("application/json") {
            self.faults.push(format!("{}: accept {:?}", seen.target, seen.header("accept")));
        }
        let mut fields = BTreeMap::new();
        for (name, value) in
            reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(&seen.body))).ok()?.query_pairs()
        {
            let known = allowed.contains(&name.as_ref());
            if !known || fields.insert(name.to_string(), value.to_string()).is_some() {
                self.faults.push(format!("{}: the field {name}", seen.target));
            }
        }
        if fields.get("client_id").map(String::as_str) != Some(CLIENT_ID) {
            self.faults.push(format!("{}: another client", seen.target));
        }
        (self.faults.len() == before).then_some(fields)
    }

    fn secret(&mut self, kind: &str) -> String {
        self.numbers += 1;
        let secret = format!("{kind}-C4n4ry.{}~Zq8Wv2Xk5Lm9Rt3Yp7", self.numbers);
        self.secrets.push(secret.clone());
        secret
    }
}

fn metadata() -> Reply {
    let issuer = IdentityProvider::issuer();
    status(
        200,
        &json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "device_authorization_endpoint": format!("{issuer}/device"),
            "token_endpoint": format!("{issuer}/token"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "jwks_uri": format!("{issuer}/jwks"),
        }),
    )
}

fn status(code: u16, body: &Value) -> Reply {
    let reply = Response::builder().status(code).header("content-type", "application/json");
    reply.body(Full::from(body.to_string())).expect("reply")
}

fn error(code: &str) -> Reply {
    status(400, &json!({ "error": code, "error_description": "<script>alert(1)</script>" }))
}

fn page(code: u16) -> Reply {
    let reply = Response::builder().status(code).header("content-type", "text/html");
    reply.body(Full::from("<html><body>Sign in to the Wi-Fi</body></html>")).expect("reply")
}
