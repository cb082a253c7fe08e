//! One call. Read [`answer`], [`conduct`] and [`Call::make`], in that order.

use crate::admit::{Patience, Right, admit, invalid_token};
use crate::answer::{Answering, Reply, Under, hand_back};
use crate::body::{self, Read};
use crate::book::{Api, Seat};
use crate::fill::fill;
use crate::journal::{Entry, What};
use crate::keys::Key;
use crate::limits::{MAX_CALLS_PER_AGENT, MAX_RECORDED_PATH, MAX_TARGET_BYTES, MAX_TRIES, REPLY_TIMEOUT, REST};
use crate::proxy::Proxy;
use crate::refuse::Refused;
use crate::socket::{self, Asked};
use crate::token;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use oauth3_core::{AgentToken, ApiId, Detail};
use oauth3_inject::messages;
use oauth3_provider::{CallInfo, Dialect};
use std::borrow::Cow;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

/// Fields by which others tell where a request came from: the API must not learn the owner's network.
pub(crate) static ORIGINS: [HeaderName; 5] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];
/// Fields that are for the proxy, or that it sets itself.
static OWN: [HeaderName; 5] = [HOST, HeaderName::from_static("prefer"), EXPECT, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Answers one call of an agent.
pub(crate) fn answer(proxy: &Arc<Proxy>, request: Request<Incoming>) -> Answering<'_> {
    let (mut head, body) = request.into_parts();
    let mut dialect = if head.uri.path().starts_with("/v1/") { Dialect::OpenAi } else { Dialect::Plain };
    match seat(proxy, &mut head, &mut dialect) {
        Ok((token, seat, rest)) => Box::pin(async move {
            let conducted = conduct(proxy, &token, seat, &rest, &mut head, body).await;
            conducted.unwrap_or_else(|refused| refused.into_response(dialect))
        }),
        Err(refused) => Box::pin(ready(refused.into_response(dialect))),
    }
}

/// Who calls, at which API, and the path below that. What the client sent to say who it is goes from the fields.
fn seat(proxy: &Proxy, head: &mut Parts, dialect: &mut Dialect) -> Result<(AgentToken, Arc<Seat>, String), Refused> {
    let (id, rest) = address(&head.uri)?;
    let book = proxy.book();
    let api = match book.api(id) {
        Some(api) => Ok(api),
        None => Err(ApiId::parse(id).map_err(|_| nowhere())?),
    };
    if let Ok(api) = &api {
        *dialect = api.dialect;
    }
    // Whoever has no token learns nothing of what there is.
    let token = token::take(&mut head.headers, head.uri.query()).map_err(|_| Refused::from(invalid_token()))?;
    let agent = book.agent(&token).ok_or_else(|| Refused::from(invalid_token()))?;
    let seat = agent.seat(api.map_err(|id| unknown(proxy, &id))?);
    let rest = rest.to_owned();
    Ok((token, seat, rest))
}

/// Makes a call of the API of this seat, if it may be made. `rest` is the path below the API's own; what the client
/// sent to say who it is has gone from the fields.
pub(crate) async fn conduct(
    proxy: &Arc<Proxy>,
    token: &AgentToken,
    seat: Arc<Seat>,
    rest: &str,
    head: &mut Parts,
    body: Incoming,
) -> Result<Response<Reply>, Refused> {
    let (began, api) = (Instant::now(), seat.api.clone());
    for name in &api.extra_credentials {
        head.headers.remove(name);
    }
    let socket = Asked::take(head, token)?;
    messages::check_request(head).map_err(|(status, sentence)| Refused::new(status, "invalid_request", sentence))?;
    let patience = Patience::of(&head.headers, proxy.patience);
    let target = target(&api, rest, head)?;
    if seat.keys.is_empty() && api.place.is_some() {
        return Err(no_key(&api));
    }
    let going = proxy.going.enter(&seat.agent, MAX_CALLS_PER_AGENT).ok_or_else(too_many)?;
    let Read { info, mut body, bytes } = body::read(proxy, &api, &named(rest, head.uri.query()), head, body).await?;
    let asked_for_usage = body.ask_for_usage(&api, rest, &info);

    let mut right = admit(proxy, token, seat, info.model.as_deref(), patience).await?;
    let covered = socket.as_ref().map_or(Ok(()), |socket| socket.within(&right));
    let method = head.method.clone();
    if let Err(refused) = covered.and_then(|()| within(proxy, &right, &api, &method, &target, &info)) {
        refuse_in_writing(proxy, &right, &api, &method, &target, &refused);
        // A yes to this one call is spent with it.
        if let Some(once) = &mut right.once {
            once.came_to(Err(refused.sentence.to_string()));
        }
        return Err(refused);
    }
    let headers = outgoing(std::mem::take(&mut head.headers));
    let under = Box::new(Under {
        proxy: proxy.clone(),
        key: None,
        info,
        asked_for_usage,
        request_bytes: bytes,
        began,
        _going: going,
        status: StatusCode::BAD_GATEWAY,
        meter: None,
        answered: false,
        error: None,
        right,
    });
    let call = Call { under, api, method, headers, target, body, socket };
    // Behind a pointer: an async function has room for what it is given twice.
    Box::new(call).make(proxy).await
}

/// A call that may be made.
struct Call {
    under: Box<Under>,
    api: Arc<Api>,
    method: Method,
    /// Without what belongs to the agent's own connection, or tells about it.
    headers: HeaderMap,
    target: Target,
    body: body::Sent,
    /// What it asks for, when that is a WebSocket.
    socket: Option<Box<Asked>>,
}

/// Where a call goes.
pub(crate) struct Target {
    /// The path, with the API's own beginning.
    pub(crate) path: String,
    /// The same, decoded, for rules.
    pub(crate) plain: String,
    /// The query without keys.
    pub(crate) query: String,
}

impl Call {
    /// Records it, makes it with the key whose turn it is, with the next where that one is not taken, and hands back
    /// the reply.
    async fn make(mut self: Box<Self>, proxy: &Arc<Proxy>) -> Result<Response<Reply>, Refused> {
        let mut under = self.under;
        let mut keys = under.right.seat.keys_in_turn(&*proxy.clock);
        // A token that the API does not take is renewed, and tried once more.
        if let [only] = keys.as_slice()
            && only.secret.connection().is_some()
        {
            keys.push(only.clone());
        }
        let tries = if self.api.place.is_none() { 1 } else { keys.len().min(MAX_TRIES) };
        let mut failure = Refused::upstream(StatusCode::BAD_GATEWAY, "the API was not called");
        for number in 0..tries {
            let key = match keys.get(number).filter(|_| self.api.place.is_some()) {
                Some(key) => Some(proxy.current(key.clone()).await.map_err(|fault| under.ends(fault))?),
                None => None,
            };
            if !proxy.write(entry(&under, &self.api, &self.method, &self.target, key.as_deref())).await {
                return Err(under.ends(Refused::unavailable("the call cannot be recorded, so it is not made")));
            }
            under.key.clone_from(&key);
            let more = number + 1 < tries && self.body.again();
            let opened = match &key {
                Some(key) => match key.open(&*proxy.backing, &self.api, &self.method, &self.target.plain).await {
                    Ok(opened) => Some(opened),
                    Err(fault) if more => {
                        failure = fault.into();
                        continue;
                    }
                    Err(fault) => return Err(under.ends(fault)),
                },
                None => None,
            };
            let Some(body) = self.body.outgoing() else { break };
            // The last try needs no copy for another.
            let headers = if more { self.headers.clone() } else { std::mem::take(&mut self.headers) };
            let request = fill(&self.api, &self.method, headers, &self.target, opened, body, &*proxy.clock);
            let request = request.map_err(|refused| under.ends(refused))?;
            let client = if self.api.is_the_owners { &proxy.upstream.owners } else { &proxy.upstream.public };
            let sent = {
                // Where they stand, for they are large.
                let sending = pin!(socket::send(client, self.socket.as_deref_mut(), &self.api.origin, request));
                let ended = pin!(ended(proxy, &under));
                tokio::select! {
                    sent = timeout(REPLY_TIMEOUT, sending) => Some(sent),
                    () = ended => None,
                }
            };
            let Some(sent) = sent else {
                return Err(under.ends(Refused::denied("the owner took the right to this back")));
            };
            match sent {
                Ok(Ok(reply)) => {
                    let tired =
                        key.as_ref().is_some_and(|key| key.learn(reply.status(), reply.headers(), &*proxy.clock));
                    if !(tired && more && proxy.has_another(key.as_deref(), reply.status()).await) {
                        let switches = reply.status() == StatusCode::SWITCHING_PROTOCOLS;
                        if let Some(asked) = self.socket.filter(|_| switches) {
                            return asked.stand(under, opened.map(|opened| &opened.scrubber), reply);
                        }
                        return hand_back(under, &self.api, opened, reply).await;
                    }
                }
                Ok(Err(error)) => {
                    tracing::info!(api = %self.api.id, error = %chain(&error), "a call of an API failed");
                    let sentence = if error.is_connect() { "the API cannot be reached" } else { "the API broke off" };
                    failure = Refused::upstream(StatusCode::BAD_GATEWAY, sentence);
                    if !(more && error.is_connect()) {
                        break;
                    }
                    if let Some(key) = &key {
                        key.rest(REST, proxy.clock.now());
                    }
                }
                Err(_) => {
                    failure = Refused::upstream(StatusCode::GATEWAY_TIMEOUT, "the API did not answer in time");
                    break;
                }
            }
        }
        Err(under.ends(failure))
    }
}

/// Returns when the right to a call ends.
async fn ended(proxy: &Proxy, under: &Under) {
    let mut changed = pin!(under.right.changed(proxy));
    // What changed between the decision and this is seen here; after it, each change is.
    while under.right.stands(proxy, under.key.as_deref()) {
        changed.as_mut().await;
        changed.set(under.right.changed(proxy));
    }
}

/// Which API an address names, and the rest of its path.
fn address(uri: &Uri) -> Result<(&str, &str), Refused> {
    let path = uri.path();
    if path.len() + uri.query().map_or(0, str::len) > MAX_TARGET_BYTES {
        return Err(Refused::new(StatusCode::URI_TOO_LONG, "invalid_request", "the address is too long"));
    }
    if uri.scheme().is_some() || uri.authority().is_some() {
        return Err(Refused::invalid("send a path, such as /v1/openai/chat/completions"));
    }
    // As ids are written: `v1/PROVIDER`, `api/CONNECTION`.
    let whole = path.strip_prefix('/').unwrap_or_default();
    let end = whole.match_indices('/').nth(1).map_or(whole.len(), |(at, _)| at);
    let (id, rest) = whole.split_at(end);
    Ok((id, if rest.is_empty() { "/" } else { rest }))
}

fn nowhere() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "not_found", "paths here are /v1/PROVIDER/… and /api/CONNECTION/…")
}

/// The path as it names models: with its query, where some do.
fn named<'a>(rest: &'a str, query: Option<&str>) -> Cow<'a, str> {
    query.map_or(Cow::Borrowed(rest), |query| Cow::Owned(format!("{rest}?{query}")))
}

fn unknown(proxy: &Proxy, id: &ApiId) -> Refused {
    if let Some(reason) = proxy.unusable.get(id) {
        return Refused::denied(reason.clone());
    }
    let what = if id.is_provider() { "provider" } else { "connection" };
    Refused::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {what} {}", id.name()))
}

pub(crate) fn no_key(api: &Api) -> Refused {
    let name = api.id.name();
    if api.by_sign_in {
        let ask = format!("ask the owner with: POST /connections/{name}/login (of the gateway)");
        return Refused::denied(format!("nobody is signed in at {name}; {ask}"));
    }
    let sentence = format!(
        "the owner has assigned no key of {} to this agent; it is done with: oauth3 provider key add {} SECRET",
        api.title, name
    );
    Refused::denied(sentence)
}

pub(crate) fn too_many() -> Refused {
    let sentence = "too many calls of this agent go on at once";
    Refused { retry_after: Some(1), ..Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", sentence) }
}

/// Where a call goes, if nothing in its path plays tricks.
fn target(api: &Api, rest: &str, head: &Parts) -> Result<Target, Refused> {
    let path = api.base.join(rest).map_err(|error| Refused::invalid(error.to_string()))?;
    let plain = percent_encoding::percent_decode_str(&path).decode_utf8();
    let plain = plain.map_err(|_| Refused::invalid("the path is no text"))?.into_owned();
    let query = token::clean_query(head.uri.query());
    let method = head.method.as_str();
    if !api.rules.is_empty() && !api.rules.iter().any(|rule| rule.allows(api.base.host(), method, &plain)) {
        return Err(Refused::denied(format!("{method} {rest} is not among what the owner allows of this API")));
    }
    Ok(Target { path, plain, query })
}

/// Whether a call is within its grant, and counts it in.
fn within(
    proxy: &Proxy,
    right: &Right,
    api: &Api,
    method: &Method,
    target: &Target,
    info: &CallInfo,
) -> Result<(), Refused> {
    let Some(access) = right.permit.access() else { return Err(Refused::denied("the permit is for something else")) };
    if access.api != api.id || !right.permit.hosts().contains(api.base.host()) {
        return Err(Refused::denied("the permit is for something else"));
    }
    let method = method.as_str();
    let models = || info.model.iter().chain(&info.further_models);
    if let Some(model) = models().find(|model| !access.covers_model(model)) {
        return Err(Refused::denied(format!("the model {} is not among what the owner granted", short(model))));
    }
    // What only looks uses no model; what else names none might use any.
    if info.model.is_none() && !access.models.is_empty() && !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        return Err(Refused::denied("the call names no model, and the owner granted certain models only"));
    }
    if !access.covers_request(api.base.host(), method, &target.plain) {
        return Err(Refused::denied(format!("{method} {} is not among what the owner granted", target.plain)));
    }
    let budget = &access.budget;
    let priced = |model: &str| proxy.prices.price(api.id.name(), model).is_some();
    let unbounded = budget.needs_prices() && budget.tokens_per_day.is_none() && !info.counts_only;
    if unbounded && models().any(|model| !priced(model)) {
        let sentence = "the price of this model is not known, so that it cannot be counted against the budget";
        return Err(Refused::denied(sentence));
    }
    let Some(meter) = &right.meter else { return Ok(()) };
    meter.enter(budget, proxy.clock.now()).map_err(|spent| Refused {
        retry_after: spent.retry_after,
        ..Refused::new(StatusCode::TOO_MANY_REQUESTS, "budget_spent", spent.sentence)
    })
}

/// The fields without what belongs to the agent's own connection, or tells about it.
fn outgoing(mut headers: HeaderMap) -> HeaderMap {
    messages::clean_request(&mut headers);
    messages::remove_where(&mut headers, |name| OWN.contains(name) || ORIGINS.contains(name));
    headers
}

/// What is recorded of a call.
fn entry(under: &Under, api: &Api, method: &Method, target: &Target, key: Option<&Key>) -> Entry {
    let right = &under.right;
    let mut detail = described(api, method, target);
    if let Some(model) = under.info.model.as_deref() {
        detail.insert_text("model", &short(model));
    }
    let basis = right.grant.as_ref().map(|id| id.as_str()).or(right.once.as_ref().map(|once| once.id().as_str()));
    detail.insert_text("basis", basis.unwrap_or_default());
    if let Some(key) = key {
        detail.insert_text("secret", key.secret.as_str());
    }
    Entry { what: What::Called, agent: right.seat.agent.clone(), detail }
}

fn refuse_in_writing(proxy: &Proxy, right: &Right, api: &Api, method: &Method, target: &Target, refused: &Refused) {
    let mut detail = described(api, method, target);
    detail.insert_text("reason", &short(&refused.sentence));
    // A flood of refusals may leave some of them out; what was let through is always there.
    proxy.journal.note(Entry { what: What::Refused, agent: right.seat.agent.clone(), detail });
}

fn described(api: &Api, method: &Method, target: &Target) -> Detail {
    let mut detail = request_line(method, &target.path);
    detail.insert_text("api", api.id.as_str());
    detail
}

pub(crate) fn request_line(method: &Method, path: &str) -> Detail {
    let mut detail = Detail::new();
    detail.insert_text("method", &short(method.as_str()));
    detail.insert_text("path", &short(path));
    detail
}

/// Text of the client's choosing, bounded.
pub(crate) fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_RECORDED_PATH && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(MAX_RECORDED_PATH).filter(|c| !c.is_control()).collect())
}

/// An error with its causes; the client library's own text says little.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
