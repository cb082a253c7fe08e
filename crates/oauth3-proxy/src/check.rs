//! Tries the keys of an API, for the owner: one cheap call with each, of whose reply only the status is looked at.

use crate::body::Sent;
use crate::book::Api;
use crate::call::Target;
use crate::fill::fill;
use crate::keys::Key;
use crate::limits::CHECK_TIMEOUT;
use crate::proxy::Proxy;
use http::header::{ACCEPT, HeaderName, USER_AGENT};
use http::{Method, Request};
use oauth3_core::{ApiCheck, ApiId, AuditEvent, AuditKind, Fault, SecretName};
use oauth3_provider::Dialect;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Anthropic wants to be told which of its versions is meant (docs.anthropic.com/en/api/versioning).
const ANTHROPIC_VERSION: (HeaderName, &str) = (HeaderName::from_static("anthropic-version"), "2023-06-01");
const ACTOR: &str = "owner";

impl Proxy {
    /// Tries each key of an API, whomever it is for, all at once. Recorded before it happens, as every call is.
    ///
    /// # Errors
    /// When there is no such API, the kill switch is on, or it cannot be recorded.
    pub async fn check(self: &Arc<Self>, id: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        let book = self.book();
        let Some(api) = book.api(id.as_str()).cloned() else {
            let why = self.unusable.get(id).cloned();
            return Err(Fault::NotFound(why.unwrap_or_else(|| format!("the API {}", id.name()))));
        };
        if book.is_switched_off() {
            return Err(Fault::DeniedByPolicy("the kill switch is on".into()));
        }
        let assigned = self.backing.store().api_keys().await?;
        let secrets: BTreeSet<SecretName> =
            assigned.into_iter().filter(|key| key.api == *id).map(|key| key.secret).collect();
        let mut keys: Vec<Option<SecretName>> = secrets.into_iter().map(Some).collect();
        if api.place.is_none() {
            keys = vec![None];
        }
        let Some(check) = api.check.clone() else {
            let untold = |secret| ApiCheck { secret, status: None, error: None, millis: 0 };
            return Ok(keys.into_iter().map(untold).collect());
        };
        let record = |secret: &Option<SecretName>| {
            json!({ "api": id.as_str(), "method": "GET", "path": check, "basis": "check",
                    "secret": secret.as_ref().map(SecretName::as_str) })
        };
        let calls: Vec<_> = keys.iter().map(record).collect();
        self.backing.record(&[AuditEvent::new(AuditKind::ApiCalled, ACTOR).with("calls", calls)]).await?;
        let mut tasks = JoinSet::new();
        for secret in keys {
            let (proxy, api, check) = (self.clone(), api.clone(), check.clone());
            tasks.spawn(async move {
                let began = Instant::now();
                let key = secret.as_ref().and_then(|name| proxy.keys.lock().get(name).cloned());
                let outcome = match (&secret, &key) {
                    (Some(_), None) => Err("it was removed meanwhile".to_owned()),
                    (_, key) => timeout(CHECK_TIMEOUT, ask(&proxy, &api, &check, key.as_deref()))
                        .await
                        .unwrap_or_else(|_| Err("the API did not answer in time".to_owned())),
                };
                let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                ApiCheck { secret, status: outcome.as_ref().ok().copied(), error: outcome.err(), millis }
            });
        }
        let mut checks = tasks.join_all().await;
        checks.sort_by(|one, other| one.secret.cmp(&other.secret));
        Ok(checks)
    }
}

/// The status of one call, or what went wrong in a sentence.
async fn ask(proxy: &Proxy, api: &Api, check: &str, key: Option<&Key>) -> Result<u16, String> {
    let (path, query) = check.split_once('?').unwrap_or((check, ""));
    let path = api.base.join(path).map_err(|error| error.to_string())?;
    let opened = match key {
        Some(key) => {
            let opened = key.open(&*proxy.backing, api, &Method::GET, &path).await;
            Some(opened.map_err(|fault| fault.to_string())?)
        }
        None => None,
    };
    let target = Target { plain: path.clone(), path, query: query.to_owned() };
    let mut request = Request::builder().header(ACCEPT, "application/json").header(USER_AGENT, "oauth3");
    if api.dialect == Dialect::Anthropic {
        request = request.header(ANTHROPIC_VERSION.0, ANTHROPIC_VERSION.1);
    }
    let (head, ()) = request.body(()).map_err(|error| error.to_string())?.into_parts();
    let body = Sent::nothing().outgoing().ok_or("there is no body")?;
    let request = fill(api, &head.method, head.headers, &target, opened, body, &*proxy.clock);
    let request = request.map_err(|refused| refused.sentence.into_owned())?;
    let client = if api.is_the_owners { &proxy.upstream.owners } else { &proxy.upstream.public };
    match client.send(&api.origin, request).await {
        Ok(reply) => Ok(reply.status().as_u16()),
        Err(error) if error.is_connect() => Err("the API cannot be reached".to_owned()),
        Err(_) => Err("the API broke off".to_owned()),
    }
}
