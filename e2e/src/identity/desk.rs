//! What the stand-ins of single providers share: who signs in, which tokens are good, and what was wrong with requests.

use crate::standin::Seen;
use data_encoding::BASE64;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// By how much two clocks may differ about the time between two polls.
const SLACK: Duration = Duration::from_millis(50);

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name; subject and address follow from it.
    pub name: String,
}

impl Person {
    /// Of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// The stable name of the account.
    pub fn subject(&self) -> String {
        format!("subject-of-{}", self.name.to_lowercase())
    }

    /// A number in place of that.
    pub fn number(&self) -> u64 {
        self.name.bytes().fold(7, |sum, byte| sum * 31 % 1_000_000_007 + u64::from(byte))
    }

    /// The address.
    pub fn email(&self) -> String {
        format!("{}@example.com", self.name.to_lowercase())
    }
}

/// What has become of a sign-in when it is polled next.
#[derive(Debug, Clone)]
pub enum Word {
    /// Nothing yet.
    Pending,
    /// Nothing yet, and the client asks too often.
    SlowDown,
    /// No.
    Denied,
    /// Too late.
    Expired,
    /// Yes.
    SignsIn(Person),
}

/// Why a poll gave no token. Each provider has its own words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotYet {
    /// Ask again.
    Pending,
    /// Ask again, but not so soon.
    TooOften,
    /// Over: no.
    Denied,
    /// Over: too late.
    Expired,
    /// There is no such code, or there is no such code any more.
    Unknown,
}

/// What somebody agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub person: Person,
    /// To what, as it was asked for.
    pub scope: String,
    /// Tokens of one sign-in have the same number.
    pub family: usize,
}

impl Grant {
    /// Whether this scope is among those.
    pub fn has(&self, scope: &str) -> bool {
        self.scope.split([' ', ',']).any(|one| one == scope)
    }
}

/// How a client shows who it is, and who it is.
#[derive(Debug, Clone, Copy)]
pub enum Client {
    /// `client_id` and nothing else: a public client.
    Public(&'static str),
    /// `client_id` and `client_secret` in the form.
    Post(&'static str, &'static str),
    /// Both in the field `authorization`.
    Basic(&'static str, &'static str),
    /// Nobody: the token speaks for itself.
    Nobody,
}

/// What a field of a form must be.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    /// There, and this.
    Is(&'static str),
    /// There, and not empty.
    Some,
    /// It may be absent.
    Maybe,
    /// This, or absent.
    MaybeIs(&'static str),
}

struct Device {
    code: String,
    scope: String,
    polled_at: Option<Instant>,
    interval: Duration,
}

/// How often what was asked of a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sign-ins begun.
    pub begun: usize,
    /// Polls.
    pub polled: usize,
    /// Access tokens given for refresh tokens.
    pub refreshed: usize,
    /// Requests of any kind.
    pub all: usize,
}

/// State that every provider has.
#[derive(Default)]
pub struct Desk {
    pub(super) words: VecDeque<Word>,
    /// Whose tokens are given at refreshes, whoever signed in.
    pub(super) swapped: Option<Person>,
    device: Option<Device>,
    access: BTreeMap<String, Grant>,
    refresh: BTreeMap<String, Grant>,
    /// Refresh tokens that were used up, and whose.
    used: BTreeMap<String, Grant>,
    pub(super) revoked: Vec<String>,
    pub(super) secrets: Vec<String>,
    pub(super) faults: Vec<String>,
    pub(super) counts: Counts,
    numbers: usize,
}

impl Desk {
    /// Something that a client must not do.
    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// A value that nobody but the keeper may see, beginning as the provider's do.
    pub fn secret(&mut self, prefix: &str) -> String {
        self.numbers += 1;
        let secret = format!("{prefix}C4n4ry-{}-Zq8Wv2Xk5Lm9Rt3Yp7", self.numbers);
        self.secrets.push(secret.clone());
        secret
    }

    /// A sign-in by code begins.
    pub fn begin(&mut self, prefix: &str, scope: &str, interval_seconds: u64) -> String {
        self.counts.begun += 1;
        let code = self.secret(prefix);
        let interval = Duration::from_secs(interval_seconds);
        self.device = Some(Device { code: code.clone(), scope: scope.to_owned(), polled_at: None, interval });
        code
    }

    /// What has become of it. A poll before its time, or one after the end, is a fault.
    ///
    /// # Errors
    /// Why there is no token yet, or none any more.
    pub fn poll(&mut self, code: &str) -> Result<Grant, NotYet> {
        let Some(device) = self.device.as_mut().filter(|device| device.code == code) else {
            self.fault("a poll with a device code that is over");
            return Err(NotYet::Unknown);
        };
        self.counts.polled += 1;
        let before = device.polled_at.replace(Instant::now());
        if before.is_some_and(|before| before.elapsed() + SLACK < device.interval) {
            let interval = device.interval;
            self.fault(format!("a poll before its time: the interval is {interval:?}"));
            return Err(NotYet::TooOften);
        }
        match self.words.pop_front().unwrap_or(Word::Pending) {
            Word::Pending => Err(NotYet::Pending),
            Word::SlowDown => {
                // RFC 8628 §3.5: this one and all that follow.
                device.interval += Duration::from_secs(5);
                Err(NotYet::TooOften)
            }
            Word::Denied => self.over(NotYet::Denied),
            Word::Expired => self.over(NotYet::Expired),
            Word::SignsIn(person) => {
                let scope = self.device.take().map(|device| device.scope).unwrap_or_default();
                Ok(Grant { person, scope, family: self.counts.begun })
            }
        }
    }

    /// The seconds that the sign-in under way must leave between two polls.
    pub fn interval(&self) -> u64 {
        self.device.as_ref().map_or(0, |device| device.interval.as_secs())
    }

    fn over(&mut self, how: NotYet) -> Result<Grant, NotYet> {
        self.device = None;
        Err(how)
    }

    /// A new access token.
    pub fn access(&mut self, prefix: &str, grant: &Grant) -> String {
        let token = self.secret(prefix);
        self.access.insert(token.clone(), grant.clone());
        token
    }

    /// A new refresh token.
    pub fn refresh(&mut self, prefix: &str, grant: &Grant) -> String {
        let token = self.secret(prefix);
        self.refresh.insert(token.clone(), grant.clone());
        token
    }

    /// Whose access token this is.
    pub fn holder(&self, token: &str) -> Option<Grant> {
        self.access.get(token).cloned()
    }

    /// Whose access token a request has as a bearer token.
    pub fn bearer(&self, seen: &Seen) -> Option<Grant> {
        let field = seen.header("authorization")?;
        self.holder(field.strip_prefix("Bearer ").or_else(|| field.strip_prefix("token "))?)
    }

    /// What a refresh token is good for. It stays good.
    pub fn renew(&mut self, token: &str) -> Option<Grant> {
        let grant = self.refresh.get(token).cloned().map(|grant| self.swap(grant));
        self.counts.refreshed += usize::from(grant.is_some());
        grant
    }

    /// The same, once: a second time is a fault, and ends all tokens of that sign-in.
    pub fn renew_once(&mut self, token: &str) -> Option<Grant> {
        if let Some(grant) = self.used.get(token).cloned() {
            self.fault("a refresh token was used twice");
            self.end_family(grant.family);
            return None;
        }
        let grant = self.refresh.remove(token)?;
        self.used.insert(token.to_owned(), grant.clone());
        self.counts.refreshed += 1;
        Some(self.swap(grant))
    }

    fn swap(&self, grant: Grant) -> Grant {
        Grant { person: self.swapped.clone().unwrap_or(grant.person), ..grant }
    }

    /// No token is of any use any more.
    pub fn end_all_tokens(&mut self) {
        self.access.clear();
        self.refresh.clear();
    }

    /// Takes a token back; whether there was one. Access tokens go with a refresh token when `all`.
    pub fn revoke(&mut self, token: &str, all: bool) -> bool {
        self.revoked.push(token.to_owned());
        let grant = self.refresh.remove(token);
        if let Some(grant) = grant.as_ref().filter(|_| all) {
            self.end_family(grant.family);
        }
        grant.is_some() | self.access.remove(token).is_some()
    }

    fn end_family(&mut self, family: usize) {
        self.refresh.retain(|_, grant| grant.family != family);
        self.access.retain(|_, grant| grant.family != family);
    }

    /// Access tokens end; refresh tokens stay.
    pub fn end_access_tokens(&mut self) {
        self.access.clear();
    }

    /// The fields of a form that has all of these, none besides, each once, from this client; nothing, and a fault,
    /// when it is anything else.
    pub fn form(&mut self, seen: &Seen, client: Client, wanted: &[(&str, Want)]) -> Option<BTreeMap<String, String>> {
        let before = self.faults.len();
        let at = format!("{} {}", seen.method, seen.target);
        let kind = seen.header("content-type").unwrap_or_default();
        if seen.method != "POST" || kind.split(';').next() != Some("application/x-www-form-urlencoded") {
            self.fault(format!("{at}: no form but {kind:?}"));
        }
        if seen.target.contains('?') {
            self.fault(format!("{at}: a query beside a form"));
        }
        let mut wanted: BTreeMap<&str, Want> = wanted.iter().copied().collect();
        let mut shown = seen.header("authorization").is_none();
        match client {
            Client::Public(id) => drop(wanted.insert("client_id", Want::Is(id))),
            Client::Post(id, secret) => {
                wanted.insert("client_id", Want::Is(id));
                wanted.insert("client_secret", Want::Is(secret));
            }
            Client::Basic(id, secret) => {
                wanted.insert("client_id", Want::MaybeIs(id));
                shown = is_basic(seen, id, secret);
            }
            Client::Nobody => {}
        }
        if !shown {
            self.fault(format!("{at}: the field authorization is not what this client has"));
        }
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        let mut fields = BTreeMap::new();
        for (name, value) in reqwest::Url::parse(&format!("http://x/?{text}")).ok()?.query_pairs() {
            let fits = match wanted.get(name.as_ref()) {
                Some(Want::Is(only) | Want::MaybeIs(only)) => value == *only,
                Some(Want::Some) => !value.is_empty(),
                Some(Want::Maybe) => true,
                None => false,
            };
            if !fits || fields.insert(name.to_string(), value.to_string()).is_some() {
                self.fault(format!("{at}: the field {name}"));
            }
        }
        let needed = |want: &Want| matches!(want, Want::Is(_) | Want::Some);
        let missing = wanted.iter().find(|(name, want)| needed(want) && !fields.contains_key(**name));
        if let Some((name, _)) = missing {
            self.fault(format!("{at}: no field {name}"));
        }
        (self.faults.len() == before).then_some(fields)
    }

    /// The members of a JSON object that has exactly these.
    pub fn json(&mut self, seen: &Seen, wanted: &[&str]) -> Option<Map<String, Value>> {
        let kind = seen.header("content-type").unwrap_or_default();
        // Web APIs of AWS take JSON of any type; its own client says nothing at all about it.
        let fits = kind.is_empty() || kind.contains("json");
        let object = serde_json::from_slice::<Value>(&seen.body).ok().and_then(|value| value.as_object().cloned());
        let all = wanted.iter().copied().collect::<BTreeSet<_>>();
        let object = object.filter(|object| fits && object.keys().map(String::as_str).collect::<BTreeSet<_>>() == all);
        if object.is_none() {
            self.fault(format!("{} {}: not the members {wanted:?}", seen.method, seen.target));
        }
        object
    }
}

/// Whether a request has these `Basic` credentials; each part may be encoded as in a form (RFC 6749 §2.3.1).
pub fn is_basic(seen: &Seen, id: &str, secret: &str) -> bool {
    let field = seen.header("authorization").unwrap_or_default();
    let Some((scheme, text)) = field.split_once(' ') else { return false };
    let decoded = BASE64.decode(text.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((had_id, had_secret)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) else { return false };
    let plain = |part: &str| {
        let form = reqwest::Url::parse(&format!("http://x/?p={part}")).ok()?;
        form.query_pairs().next().map(|(_, value)| value.into_owned())
    };
    let same = |had: &str, wanted: &str| plain(had).as_deref() == Some(wanted);
    scheme.eq_ignore_ascii_case("basic") && same(had_id, id) && same(had_secret, secret)
}

/// A request whose JSON object of texts is the form of the same, where a provider takes both.
pub fn as_form(seen: &Seen) -> Seen {
    let kind = seen.header("content-type").unwrap_or_default();
    let object = serde_json::from_slice::<Map<String, Value>>(&seen.body).ok();
    let Some(object) = object.filter(|_| kind.split(';').next() == Some("application/json")) else {
        return seen.clone();
    };
    let mut form = reqwest::Url::parse("http://x/").expect("an address");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    form.query_pairs_mut().extend_pairs(object.iter().map(|(name, value)| (name, text(value))));
    let mut seen = Seen { body: form.query().unwrap_or_default().as_bytes().to_vec(), ..seen.clone() };
    seen.headers.retain(|(name, _)| name != "content-type");
    seen.headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    seen
}
