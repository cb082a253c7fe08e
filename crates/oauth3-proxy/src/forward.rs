//! The proxy as a forward proxy, for a whole agent: `CONNECT host:port`, and requests with a whole address.
//!
//! Nothing passes unread. A tunnel is TLS that ends here (`tunnel`); a request inside that is for an API of the owner's
//! is the same call as one at `/v1/PROVIDER`; a host that the owner opened to agents gets the request as it is
//! (`plain`); anything else is refused.

use crate::admit::invalid_token;
use crate::answer::{Answering, Reply};
use crate::book::{Api, Book, Seat};
use crate::call::{self, no_key};
use crate::journal::{Entry, What};
use crate::limits::{MAX_TARGET_BYTES, MAX_TUNNELS_PER_AGENT};
use crate::plain;
use crate::proxy::{Place, Proxy};
use crate::refuse::Refused;
use crate::socket::{self, Socket};
use crate::token;
use crate::tunnel::Tunnel;
use crate::upstream::ApiClient;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use oauth3_core::{AgentName, AgentToken, Detail, Host};
use oauth3_provider::Dialect;
use serde_json::json;
use std::future::ready;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where an agent gets what its programs must know: its name, and the certificate that it is to trust.
const ABOUT_PATH: &str = "/agent";
/// The ports of HTTP in clear and over TLS.
const PLAIN_PORT: u16 = 80;
const TLS_PORT: u16 = 443;

/// One connection of a client: what it asked for, and what it uses.
#[derive(Default)]
pub(crate) struct Door {
    /// What becomes of the connection once CONNECT is answered, or the request for a WebSocket.
    next: Mutex<Option<Next>>,
    hosts: OnceLock<ApiClient>,
}

/// What a connection becomes.
pub(crate) enum Next {
    Tunnel(Tunnel),
    Socket(Box<Socket>),
}

/// Who sends a request.
pub(crate) struct Visitor {
    pub(crate) token: AgentToken,
    pub(crate) agent: AgentName,
}

/// Where it is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Host,
    /// With TLS.
    pub(crate) secure: bool,
}

/// What is at an address.
enum Found {
    Apis(Vec<Arc<Api>>),
    Plain,
}

impl Door {
    /// What the connection becomes, once its last answer has gone out.
    pub(crate) fn next(&self) -> Option<Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }

    /// An answer on its way out: a WebSocket that it opens is kept here.
    pub(crate) fn pass(&self, response: Response<Reply>) -> Response<Reply> {
        let (response, socket) = socket::taken(response);
        if let Some(socket) = socket {
            self.keep(Next::Socket(socket));
        }
        response
    }

    /// Speaks with hosts that are no API, for this connection only: what is bound to a connection there (RFC 4559)
    /// is nobody else's.
    pub(crate) fn hosts(&self, proxy: &Proxy) -> &ApiClient {
        self.hosts.get_or_init(|| proxy.upstream.hosts())
    }
}

/// Answers one request at the proxy's own address.
pub(crate) fn answer<'a>(proxy: &'a Arc<Proxy>, door: &'a Door, mut request: Request<Incoming>) -> Answering<'a> {
    let at_once = |response| Box::pin(ready(response));
    if *request.method() == Method::CONNECT {
        return at_once(connect(proxy, door, &mut request).unwrap_or_else(told_in_the_first_line));
    }
    if request.uri().authority().is_some() {
        return match whole_address(proxy, &request) {
            Ok((visitor, address)) => Box::pin(async move { visit(proxy, door, &visitor, &address, request).await }),
            Err(refused) => at_once(refused.into_response(Dialect::Plain)),
        };
    }
    if request.uri().path() == ABOUT_PATH && *request.method() == Method::GET {
        let (mut head, _) = request.into_parts();
        return at_once(about(proxy, &mut head).unwrap_or_else(|refused| refused.into_response(Dialect::Plain)));
    }
    call::answer(proxy, request)
}

/// Answers one request for what is at `address`.
pub(crate) async fn visit(
    proxy: &Arc<Proxy>,
    door: &Door,
    visitor: &Arc<Visitor>,
    address: &Address,
    request: Request<Incoming>,
) -> Response<Reply> {
    let mut dialect = Dialect::Plain;
    match lead(proxy, door, visitor, address, request, &mut dialect).await {
        Ok(reply) => reply,
        Err(refused) => refused.into_response(dialect),
    }
}

async fn lead(
    proxy: &Arc<Proxy>,
    door: &Door,
    visitor: &Arc<Visitor>,
    address: &Address,
    request: Request<Incoming>,
    dialect: &mut Dialect,
) -> Result<Response<Reply>, Refused> {
    let (mut head, body) = request.into_parts();
    head.headers.remove(PROXY_AUTHORIZATION);
    let book = proxy.book();
    if !book.holds(visitor) {
        return Err(invalid_token().into());
    }
    let mut refuse = |refused: Refused| {
        record(proxy, visitor, address, Some(&head), &refused);
        refused
    };
    let apis = match what_is_at(proxy, &book, address).map_err(&mut refuse)? {
        Found::Plain => {
            agrees(&head, address).map_err(&mut refuse)?;
            drop(book);
            return plain::pass(proxy, door.hosts(proxy), visitor, address, head, body).await;
        }
        Found::Apis(apis) => apis,
    };
    if let Some(api) = apis.first() {
        *dialect = api.dialect;
    }
    agrees(&head, address).map_err(&mut refuse)?;
    let (seat, rest) = choose(&book, visitor, &apis, head.uri.path()).map_err(&mut refuse)?;
    drop(book);
    *dialect = seat.api.dialect;
    token::clear(&mut head.headers);
    call::conduct(proxy, &visitor.token, seat, &rest, &mut head, body).await
}

fn connect(proxy: &Arc<Proxy>, door: &Door, request: &mut Request<Incoming>) -> Result<Response<Reply>, Refused> {
    let visitor = identify(proxy, request.headers())?;
    let authority = request.uri().authority().map_or("", http::uri::Authority::as_str);
    if authority.rsplit_once(':').is_none_or(|(_, port)| port.is_empty()) {
        return Err(Refused::invalid("CONNECT needs host:port"));
    }
    let host = Host::parse(authority).map_err(|_| no_name())?;
    let book = proxy.book();
    // Whatever is only there in clear is spoken to in clear.
    let in_clear = host.port() == PLAIN_PORT || book.at(&host, true).is_empty() && !book.at(&host, false).is_empty();
    let address = Address { host, secure: !in_clear };
    if let Err(refused) = what_is_at(proxy, &book, &address) {
        record(proxy, &visitor, &address, None, &refused);
        return Err(refused);
    }
    let place = enter(proxy, &visitor.agent)?;
    let tunnel = Tunnel { visitor, address, upgrade: hyper::upgrade::on(request), place };
    door.keep(Next::Tunnel(tunnel));
    Ok(Response::new(Reply::whole(Bytes::new())))
}

fn enter(proxy: &Proxy, agent: &AgentName) -> Result<Place, Refused> {
    let sentence = "too many tunnels of this agent are open at once";
    let refused = || Refused::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", sentence);
    proxy.tunnels.enter(agent, MAX_TUNNELS_PER_AGENT).ok_or_else(refused)
}

/// Who sends a request with a whole address, and what it is for.
fn whole_address(proxy: &Proxy, request: &Request<Incoming>) -> Result<(Arc<Visitor>, Address), Refused> {
    let visitor = identify(proxy, request.headers())?;
    let uri = request.uri();
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(Refused::invalid("an address here begins with http:// or https://")),
    };
    let host = uri.authority().and_then(|authority| host_of(authority.as_str(), secure)).ok_or_else(no_name)?;
    Ok((visitor, Address { host, secure }))
}

/// Who brings these proxy credentials: Basic with the agent's name and token, or Bearer with the token.
fn identify(proxy: &Proxy, headers: &HeaderMap) -> Result<Arc<Visitor>, Refused> {
    let refuse =
        |sentence: &'static str| Refused::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "invalid_token", sentence);
    let unknown = "this proxy wants an agent's name and token: http://AGENT:TOKEN@host:port";
    let (user, token) = token::of_proxy(headers).ok_or_else(|| refuse(unknown))?;
    let agent = proxy.book().holder(&token).cloned().ok_or_else(|| refuse(unknown))?;
    if user.is_some_and(|user| *user != *agent.as_str()) {
        return Err(refuse("the user is not the agent whose token this is"));
    }
    Ok(Arc::new(Visitor { token, agent }))
}

/// What is at an address, if an agent may go there at all.
fn what_is_at(proxy: &Proxy, book: &Book, address: &Address) -> Result<Found, Refused> {
    if book.is_switched_off() {
        return Err(Refused::denied("the kill switch is on"));
    }
    let apis = book.at(&address.host, address.secure);
    if apis.iter().any(|api| book.is_set_up(api)) {
        return Ok(Found::Apis(apis));
    }
    if proxy.forward_hosts.iter().any(|pattern| pattern.matches(&address.host)) {
        return Ok(Found::Plain);
    }
    let host = &address.host;
    Err(apis.first().map_or_else(
        || {
            Refused::denied(format!(
                "{host} is no API that the owner set up and no host that is open to agents; the owner opens one with \
                 [proxy] forward_hosts = [\"{host}\"]"
            ))
        },
        |api| no_key(api),
    ))
}

/// The API that a path is of: the one whose base path is the longest.
fn choose(book: &Book, visitor: &Visitor, apis: &[Arc<Api>], path: &str) -> Result<(Arc<Seat>, String), Refused> {
    let mut found: Vec<(Arc<Seat>, String)> = Vec::new();
    for api in apis {
        let rest = api.base.below(path).map_err(|error| Refused::invalid(error.to_string()))?;
        if let Some(rest) = rest {
            let seat = book.seat(&visitor.token, api).ok_or_else(|| Refused::from(invalid_token()))?;
            found.push((seat, rest));
        }
    }
    let length = |seat: &Seat| seat.api.base.path().len();
    let longest = found.iter().map(|(seat, _)| length(seat)).max();
    found.retain(|(seat, _)| Some(length(seat)) == longest);
    if found.len() > 1 {
        // One of which this agent has no key cannot be meant.
        found.retain(|(seat, _)| !seat.keys.is_empty() || seat.api.place.is_none());
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            let bases: Vec<String> = apis.iter().map(|api| api.base.to_string()).collect();
            Err(Refused::denied(format!("this address is outside of what is set up there: {}", bases.join(", "))))
        }
        (Some((one, _)), Some((other, _))) => Err(Refused::denied(format!(
            "{} and {} are both at this address; call the one that you mean at /{}/ or /{}/ of the proxy",
            one.api.id, other.api.id, one.api.id, other.api.id
        ))),
    }
}

/// Whether all that a request says of its host is what the connection was opened for.
fn agrees(head: &Parts, address: &Address) -> Result<(), Refused> {
    if too_long(&head.uri) {
        return Err(Refused::new(StatusCode::URI_TOO_LONG, "invalid_request", "the address is too long"));
    }
    let scheme = if address.secure { "https" } else { "http" };
    let same = |text: &str| host_of(text, address.secure).is_some_and(|host| host == address.host);
    let mut fields = head.headers.get_all(HOST).iter();
    let (field, more) = (fields.next(), fields.next());
    if more.is_some() {
        return Err(Refused::invalid("the request has more than one Host field"));
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if field.is_none() && authority.is_none() {
        return Err(Refused::invalid("the request has no Host field"));
    }
    let agrees = field.is_none_or(|value| value.to_str().is_ok_and(same))
        && authority.is_none_or(same)
        && head.uri.scheme_str().is_none_or(|named| named == scheme);
    if agrees {
        Ok(())
    } else {
        Err(misdirected("the request names another host than the connection that it came over"))
    }
}

pub(crate) fn misdirected(sentence: &'static str) -> Refused {
    Refused::new(StatusCode::MISDIRECTED_REQUEST, "denied_by_policy", sentence)
}

fn too_long(uri: &Uri) -> bool {
    uri.path().len() + uri.query().map_or(0, str::len) > MAX_TARGET_BYTES
}

/// Reads `name` or `name:port`, with the port that the scheme means.
fn host_of(text: &str, secure: bool) -> Option<Host> {
    if text.contains(':') {
        return Host::parse(text).ok();
    }
    Host::parse(&format!("{text}:{}", if secure { TLS_PORT } else { PLAIN_PORT })).ok()
}

fn no_name() -> Refused {
    Refused::denied("hosts are reached by their names; this is none")
}

/// Tells whoever holds the token its name, the certificate of its authority, and the APIs that it has keys of.
fn about(proxy: &Proxy, head: &mut Parts) -> Result<Response<Reply>, Refused> {
    let token = token::take(&mut head.headers, head.uri.query()).map_err(|_| Refused::from(invalid_token()))?;
    let book = proxy.book();
    let agent = book.holder(&token).cloned().ok_or_else(|| Refused::from(invalid_token()))?;
    let certificate = proxy.authorities.of(&*proxy.backing, &agent)?.pem;
    let about = json!({ "agent": agent.as_str(), "certificate": &*certificate, "apis": book.apis_of(&token) });
    let mut response = Response::new(Reply::whole(Bytes::from(about.to_string())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Clients show what stands in the first line of a refused CONNECT, and rarely the body.
fn told_in_the_first_line(refused: Refused) -> Response<Reply> {
    let phrase: String = refused.sentence.chars().filter(|c| matches!(c, ' '..='~')).collect();
    let mut response = refused.into_response(Dialect::Plain);
    if let Ok(phrase) = ReasonPhrase::try_from(phrase.into_bytes()) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// Has a refusal recorded. A flood of them may leave some out.
pub(crate) fn record(
    proxy: &Proxy,
    visitor: &Arc<Visitor>,
    address: &Address,
    head: Option<&Parts>,
    refused: &Refused,
) {
    let mut detail = head.map_or_else(Detail::new, |head| call::request_line(&head.method, head.uri.path()));
    detail.insert_text("host", &address.host.to_string());
    detail.insert_text("reason", &call::short(&refused.sentence));
    proxy.journal.note(Entry { what: What::Refused, agent: visitor.agent.clone(), detail });
}

/// Returns when a visitor may not stay.
pub(crate) async fn ended(proxy: &Proxy, visitor: &Visitor) {
    let mut changed = proxy.changed();
    // What changed before this is seen here; after it, each change is.
    while stays(proxy, visitor) {
        std::mem::replace(&mut changed, proxy.changed()).await;
    }
}

/// Whether a visitor may stay.
pub(crate) fn stays(proxy: &Proxy, visitor: &Visitor) -> bool {
    let book = proxy.book();
    book.holds(visitor) && !book.is_switched_off()
}
