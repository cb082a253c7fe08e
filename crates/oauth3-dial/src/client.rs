//! The HTTP client of the gateway itself: chat, wake calls, skills.

use crate::dialer::{Dialer, Place, Protocols};
use crate::pool::{Key, Pool, Sender};
use crate::resolve::Reach;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use oauth3_core::{Host, HttpPort, HttpRequest, HttpResponse};
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

/// Largest head of a reply, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Longest `location` that is handed on, in bytes.
const MAX_LOCATION_BYTES: usize = 8 << 10;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("oauth3/", env!("CARGO_PKG_VERSION")));

/// Speaks HTTP/1.1 through checked addresses, over TLS unless the owner's own configuration says otherwise.
/// Follows no redirect, bounds every reply in size and time, and keeps a few connections open.
pub struct HttpClient {
    dialer: Dialer,
    pool: Pool,
}

impl HttpClient {
    /// A client that dials with this dialer.
    #[must_use]
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, pool: Pool::default() }
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Request<Full<Bytes>>,
        max: usize,
    ) -> Result<HttpResponse, String> {
        let (reply, sender) = self.send_on_a_connection(target, request).await?;
        let (head, body) = reply.into_parts();
        let body = read_bounded(target, &head.headers, body, max).await?;
        self.pool.put(target.key.clone(), sender);
        let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(HttpResponse {
            status: head.status.as_u16(),
            content_type: text(CONTENT_TYPE).map(str::to_owned),
            location: text(LOCATION).filter(|value| value.len() <= MAX_LOCATION_BYTES).map(str::to_owned),
            retry_after: text(RETRY_AFTER).and_then(|value| value.trim().parse().ok()),
            body: body.into(),
        })
    }

    /// Uses an idle connection when one takes the request. One that was closed meanwhile gives the request
    /// back unsent, and only then is it sent again.
    async fn send_on_a_connection(
        &self,
        target: &Target,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), String> {
        while let Some(mut sender) = self.pool.take(&target.key) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(reply) => return Ok((reply, sender)),
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(target.broke(refused.error())),
                },
            }
        }
        let mut sender = self.connect(target).await?;
        let reply = sender.send_request(request).await.map_err(|error| target.broke(&error))?;
        Ok((reply, sender))
    }

    async fn connect(&self, target: &Target) -> Result<Sender, String> {
        let Key { tls, port, reach, .. } = target.key;
        if tls {
            let stream = self
                .dialer
                .tls(&target.place, port, reach, Protocols::Http1)
                .await
                .map_err(|error| error.to_string())?;
            target.speak_http(stream).await
        } else {
            let stream = self.dialer.tcp(&target.place, port, reach).await.map_err(|error| error.to_string())?;
            target.speak_http(stream).await
        }
    }
}

#[async_trait]
impl HttpPort for HttpClient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, String> {
        let (url, target) = parse_url(&request.url, request.owner_configured)?;
        let (limit, max) = (request.timeout, request.max_reply_bytes);
        let message = build(&url, &target, request)?;
        tokio::time::timeout(limit, self.exchange(&target, message, max))
            .await
            .map_err(|_| format!("{}: no whole reply within {} s", target.place, limit.as_secs_f32()))?
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Where a request goes.
struct Target {
    place: Place,
    key: Key,
}

impl Target {
    async fn speak_http<S>(&self, stream: S) -> Result<Sender, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broke(&error))?;
        // Ends when the sender is dropped or the server hangs up.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(sender)
    }

    fn broke(&self, error: &hyper::Error) -> String {
        tracing::debug!(host = %self.place, %error, "exchange failed");
        let what = if error.is_parse() { "the reply is not HTTP" } else { "the connection broke" };
        format!("{}: {what}", self.place)
    }
}

/// Reads an address and says what may be dialled for it. Sentences name the host at most.
fn parse_url(text: &str, owner_configured: bool) -> Result<(Url, Target), String> {
    let url = Url::parse(text).map_err(|error| format!("not a web address: {error}"))?;
    let tls = match url.scheme() {
        "https" => true,
        "http" if owner_configured => false,
        "http" => return Err("only https addresses are fetched".into()),
        _ => return Err("not an https address".into()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address with a user name or password in it is refused".into());
    }
    let port = url.port_or_known_default().ok_or("the address has no port")?;
    let place = match url.host().ok_or("the address has no host")? {
        url::Host::Domain(name) if owner_configured => Place::Name(name.to_owned()),
        // The same syntax as a host of a skill, so that no spelling of an address passes as a name.
        url::Host::Domain(name) => Place::Name(Host::parse(name).map_err(|error| error.to_string())?.name().to_owned()),
        url::Host::Ipv4(address) if owner_configured => Place::Address(address.into()),
        url::Host::Ipv6(address) if owner_configured => Place::Address(address.into()),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => {
            return Err("an address of numbers is refused; name the host".into());
        }
    };
    let reach = if owner_configured { Reach::Anywhere } else { Reach::Public };
    let key = Key { tls, place: place.to_string(), port, reach };
    Ok((url, Target { place, key }))
}

/// The host of an address that an agent named, for the fuzz target.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn named_by_an_agent(text: &str) -> Result<String, String> {
    parse_url(text, false).map(|(_, target)| target.place.to_string())
}

/// What is sent shares the request's memory, which is wiped when the last of it goes.
fn build(url: &Url, target: &Target, request: HttpRequest) -> Result<Request<Full<Bytes>>, String> {
    let bad = |what: &str| format!("{}: {what} cannot be sent", target.place);
    let mut message = Request::new(Full::new(Bytes::from_owner(request.body)));
    *message.method_mut() = Method::from_bytes(request.method.as_bytes()).map_err(|_| bad("the method"))?;
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    *message.uri_mut() = path.parse().map_err(|_| bad("the path"))?;
    let headers = message.headers_mut();
    headers.insert(USER_AGENT, AGENT);
    for (name, value) in request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header name"))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(value));
        headers.insert(name, value.map_err(|_| bad("a header value"))?);
    }
    headers.insert(HOST, HeaderValue::from_str(url.authority()).map_err(|_| bad("the host"))?);
    Ok(message)
}

async fn read_bounded(target: &Target, head: &HeaderMap, body: Incoming, max: usize) -> Result<Vec<u8>, String> {
    let too_large = || format!("{}: the reply is larger than {max} bytes", target.place);
    let announced: Option<usize> =
        head.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    match Limited::new(body, max).collect().await {
        Ok(whole) => Ok(whole.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(format!("{}: the reply broke off", target.place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_an_agent_may_not_name() {
        for bad in [
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user:pw@example.com/",
            "https://user@example.com/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://127.1/",
            "https://",
            "not an address",
        ] {
            let error = parse_url(bad, false).err();
            assert!(error.as_ref().is_some_and(|text| !text.contains("pw")), "{bad}: {error:?}");
        }
    }

    #[test]
    fn the_owners_configuration_may_name_any_place_but_no_credentials() {
        for (text, key) in [
            ("http://127.0.0.1:18789/hooks/wake", (false, "127.0.0.1", 18789)),
            ("http://bot_api:8081/", (false, "bot_api", 8081)),
            ("https://[fd00::1]/", (true, "fd00::1", 443)),
            ("https://api.telegram.org/botX/getMe", (true, "api.telegram.org", 443)),
        ] {
            let (_, target) = parse_url(text, true).unwrap();
            assert_eq!((target.key.tls, target.key.place.as_str(), target.key.port), key);
        }
        assert!(parse_url("https://user:pw@example.com/", true).is_err());
    }

    #[test]
    fn reach_keeps_connections_apart() {
        let url = "https://example.com/";
        assert_ne!(parse_url(url, true).unwrap().1.key, parse_url(url, false).unwrap().1.key);
    }
}
