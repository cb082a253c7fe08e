//! One provider, running under its real names on loopback.

use super::desk::{Counts, Desk, Person, Word};
use crate::standin::{Drip, Seen, Standin};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What a provider answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Fields besides the body's type.
    pub fields: Vec<(&'static str, String)>,
    /// The body, or what there is of it.
    pub body: Body,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum Body {
    /// JSON.
    Json(Value),
    /// Text of a type.
    Text(&'static str, String),
    /// JSON that begins, goes on a byte at a time, and never ends.
    Endless,
}

impl Answer {
    /// JSON with a status.
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, fields: vec![], body: Body::Json(body) }
    }

    /// Nothing with a status.
    pub fn empty(status: u16) -> Self {
        Self { status, fields: vec![], body: Body::Text("text/plain", String::new()) }
    }

    /// A page with a status.
    pub fn page(status: u16) -> Self {
        let page = "<html><body><script>alert(1)</script>Sign in to the Wi-Fi</body></html>";
        Self { status, fields: vec![], body: Body::Text("text/html", page.to_owned()) }
    }

    fn reply(self) -> Response<Full<Bytes>> {
        let mut reply = Response::builder().status(self.status);
        for (name, value) in self.fields {
            reply = reply.header(name, value);
        }
        let (kind, text) = match self.body {
            Body::Json(value) => ("application/json; charset=utf-8", value.to_string()),
            Body::Text(kind, text) => (kind, text),
            Body::Endless => {
                reply = reply.extension(Drip);
                ("application/json", "{\"wait\":\"".to_owned())
            }
        };
        reply.header("content-type", kind).body(Full::from(text)).expect("a reply")
    }
}

/// How one provider answers.
pub trait Provider: Send + 'static {
    /// Answers a request, or nothing when there is nothing at that place.
    fn answer(&mut self, seen: &Seen, desk: &mut Desk) -> Option<Answer>;
}

/// Changes an answer on its way out.
type Twist = dyn FnMut(&Seen, Answer) -> Answer + Send;
/// Answers in the provider's place, which hears nothing of the request then.
type Intercept = dyn FnMut(&Seen) -> Option<Answer> + Send;

struct Inside {
    provider: Box<dyn Provider>,
    desk: Desk,
    twist: Option<Box<Twist>>,
    intercept: Option<Box<Intercept>>,
}

/// A running provider.
pub struct Cloud {
    standin: Standin,
    inside: Arc<Mutex<Inside>>,
    changed: watch::Sender<u64>,
}

impl Cloud {
    /// Starts one that has these names.
    pub async fn start(names: &[&str], provider: impl Provider) -> Self {
        let inside = Inside { provider: Box::new(provider), desk: Desk::default(), twist: None, intercept: None };
        let inside = Arc::new(Mutex::new(inside));
        let changed = watch::channel(0).0;
        let (behind, told) = (inside.clone(), changed.clone());
        let standin = Standin::start_for(names, move |seen| {
            let mut inside = behind.lock().unwrap_or_else(PoisonError::into_inner);
            let Inside { provider, desk, twist, intercept } = &mut *inside;
            desk.counts.all += 1;
            let before = intercept.as_mut().and_then(|intercept| intercept(seen));
            let answer = before.or_else(|| provider.answer(seen, desk)).unwrap_or_else(|| {
                let place = (seen.header("host").unwrap_or_default(), &seen.method, &seen.target);
                desk.fault(format!("nothing is there: {place:?}"));
                Answer::page(404)
            });
            let answer = match twist {
                Some(twist) => twist(seen, answer),
                None => answer,
            };
            drop(inside);
            told.send_modify(|count| *count += 1);
            answer.reply()
        })
        .await;
        Self { standin, inside, changed }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An `[egress]` section that leads its names here.
    pub fn egress(&self, dir: &Path) -> String {
        self.standin.egress(dir)
    }

    /// Where it listens, and its authority's certificate in a file, for clients of others.
    pub fn place(&self, dir: &Path) -> (SocketAddr, PathBuf) {
        (self.standin.address, self.standin.write_ca(dir))
    }

    /// What the next polls find.
    pub fn will(&self, words: impl IntoIterator<Item = Word>) {
        self.inside().desk.words.extend(words);
    }

    /// This person signs in before the next poll.
    pub fn signs_in(&self, name: &str) {
        self.will([Word::SignsIn(Person::new(name))]);
    }

    /// Changes every answer from now on.
    pub fn twist(&self, twist: impl FnMut(&Seen, Answer) -> Answer + Send + 'static) {
        self.inside().twist = Some(Box::new(twist));
    }

    /// Answers in the provider's place from now on, where it answers.
    pub fn intercept(&self, intercept: impl FnMut(&Seen) -> Option<Answer> + Send + 'static) {
        self.inside().intercept = Some(Box::new(intercept));
    }

    /// Answers as it should again.
    pub fn straighten(&self) {
        let mut inside = self.inside();
        (inside.twist, inside.intercept) = (None, None);
    }

    /// The access tokens that are there are of no use any more.
    pub fn end_access_tokens(&self) {
        self.inside().desk.end_access_tokens();
    }

    /// Nor are the refresh tokens.
    pub fn end_all_tokens(&self) {
        self.inside().desk.end_all_tokens();
    }

    /// Refreshes give this person's tokens from now on.
    pub fn swap_account(&self, name: &str) {
        self.inside().desk.swapped = Some(Person::new(name));
    }

    /// How often what was asked.
    pub fn counts(&self) -> Counts {
        self.inside().desk.counts
    }

    /// What was wrong with requests.
    pub fn faults(&self) -> Vec<String> {
        self.inside().desk.faults.clone()
    }

    /// Everything that nobody but the keeper may see.
    pub fn secrets(&self) -> Vec<String> {
        self.inside().desk.secrets.clone()
    }

    /// What was revoked.
    pub fn revoked(&self) -> Vec<String> {
        self.inside().desk.revoked.clone()
    }

    /// What arrived at one host.
    pub fn calls(&self, host: &str) -> Vec<Seen> {
        self.standin.seen().into_iter().filter(|seen| seen.header("host") == Some(host)).collect()
    }

    /// Waits until this holds of the counts.
    pub async fn until(&self, what: &str, holds: impl Fn(Counts) -> bool) {
        let mut changes = self.changed.subscribe();
        let waited = async {
            while !holds(self.counts()) {
                let _ = changes.changed().await;
            }
        };
        assert!(tokio::time::timeout(crate::PATIENCE, waited).await.is_ok(), "waited in vain for {what}");
    }
}
