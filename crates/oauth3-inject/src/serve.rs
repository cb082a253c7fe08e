//! One connection of the code.

use crate::body::Body;
use crate::container_credentials;
use crate::forward::answer;
use crate::lanes::Load;
use crate::limits::{
    CODE_CONNECTION_WINDOW_BYTES, CODE_STREAM_WINDOW_BYTES, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, MAX_HEAD_BYTES,
    MAX_LOCAL_RESETS, MAX_RESETS_UNSEEN, MAX_SEND_BUFFER_BYTES, MAX_STREAMS,
};
use crate::reply::{Refusal, connected};
use crate::run::Run;
use crate::target::{Entry, allow, clean};
use crate::tasks::OnRun;
use crate::websocket::{self, Opening};
use http::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use oauth3_core::Host;
use rustls::server::Acceptor;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

/// A place among the run's connections and on its thread; an upgraded connection keeps the place of the one it was.
pub(crate) type Place = Arc<(OwnedSemaphorePermit, Load)>;

/// Speaks HTTP/1.1 with the code until it hangs up.
pub(crate) async fn http1<S>(run: Arc<Run>, stream: S, entry: Entry, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| respond(&run, &entry, &place, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection of the code ended");
    }
}

/// Speaks HTTP/2 with the code until it hangs up.
async fn http2<S>(run: Arc<Run>, stream: S, entry: Entry, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (entry, on_run) = (Arc::new(entry), OnRun(Arc::clone(&run)));
    let service = service_fn(move |request| {
        let (run, entry) = (Arc::clone(&run), Arc::clone(&entry));
        async move { Ok::<_, Infallible>(answer(&run, &entry, request).await) }
    });
    let connection = http2::Builder::new(on_run)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .initial_stream_window_size(CODE_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CODE_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS_UNSEEN)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection of the code ended");
    }
    drop(place);
}

/// Ends the code's TLS, which must name a host, and speaks HTTP inside. `asked` is the host of a CONNECT.
pub(crate) async fn tls<S>(run: Arc<Run>, stream: S, port: u16, asked: Option<Host>, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
        // Without a name there is no certificate to show: this fails and tells the code so by an alert.
        let stream = start.into_stream(Arc::clone(&run.tls)).await;
        match &name {
            None => {
                let sentence = "TLS without a server name is refused; connect to the host by its name";
                run.refuse(&Refusal::denied(StatusCode::FORBIDDEN, "", sentence)).await;
            }
            Some(name) if stream.is_err() => {
                let sentence = "the TLS handshake failed; the code must trust this run's CA and speak HTTP";
                run.keep(format!("{}: {sentence}", clean(name)));
            }
            Some(_) => {}
        }
        stream.map(|stream| (stream, name))
    };
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok((stream, Some(name)))) => {
            let entry = Entry::Tls { name, port, asked };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2(run, stream, entry, place).await;
            } else {
                http1(run, stream, entry, place).await;
            }
        }
        Ok(Ok((_, None))) => {}
        Ok(Err(error)) => tracing::debug!(kind = %error.kind(), "TLS with the code failed"),
        Err(_) => tracing::debug!("TLS with the code took too long"),
    }
}

async fn respond(
    run: &Arc<Run>,
    entry: &Entry,
    place: &Place,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    // Before the run's key is asked for: SDKs bring what opens this, and nothing else.
    if let Some(reply) = container_credentials::answer(run, entry, &request) {
        return Ok(match reply {
            Ok(reply) => reply,
            Err(refusal) => refused(run, refusal).await,
        });
    }
    if let Some(refusal) = without_key(entry, &request) {
        let mut response = refused(run, refusal).await;
        response.headers_mut().insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"oauth3\""));
        return Ok(response);
    }
    if matches!(entry, Entry::Proxy(_)) && *request.method() == Method::CONNECT {
        return Ok(match connect(run, place, request) {
            Ok(response) => response,
            Err(refusal) => refused(run, refusal).await,
        });
    }
    Ok(if Opening::is_wanted(request.headers()) {
        // Seldom, and large: not in the memory of each request.
        Box::pin(websocket::open(run, entry, place, request)).await
    } else {
        answer(run, entry, request).await
    })
}

/// Reports a refusal and makes it the answer.
pub(crate) async fn refused(run: &Run, refusal: Refusal) -> Response<Body> {
    // Seldom, as above.
    Box::pin(run.refuse(&refusal)).await;
    refusal.into_response()
}

/// Whoever else is on a shared loopback does not have the run's key, and learns nothing of its hosts.
fn without_key(entry: &Entry, request: &Request<Incoming>) -> Option<Refusal> {
    let Entry::Proxy(Some(key)) = entry else { return None };
    let field = request.headers().get(PROXY_AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    let sentence = "a request at this run's proxy did not bring the run's key";
    (!key.opens(field)).then(|| Refusal::denied(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "", sentence))
}

/// CONNECT gives no tunnel: what comes through it is TLS that ends here.
fn connect(run: &Arc<Run>, place: &Place, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let authority = request.uri().authority().map_or("", http::uri::Authority::as_str);
    if authority.rsplit_once(':').is_none_or(|(_, port)| port.is_empty()) {
        let sentence = "CONNECT needs host:port";
        return Err(Refusal::denied(StatusCode::BAD_REQUEST, clean(authority), sentence));
    }
    let host = allow(authority, &run.hosts)?;
    let (run_inside, place) = (Arc::clone(run), Arc::clone(place));
    let upgrade = hyper::upgrade::on(request);
    run.tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => tls(run_inside, TokioIo::new(upgraded), host.port(), Some(host), place).await,
            Err(error) => tracing::debug!(%error, "CONNECT was not followed"),
        }
    });
    Ok(connected())
}
