//! Connections to APIs, kept from call to call and shared by all agents: what tells agents apart is in the request.

use crate::body::Outgoing;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, IDLE_CONNECTION, MAX_HEAD_BYTES, MAX_HEADERS, MAX_IDLE_CONNECTIONS, STREAM_WINDOW_BYTES,
};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use oauth3_core::Host;
use oauth3_dial::{DialError, Dialer, Protocols};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// Speaks with APIs.
pub(crate) type ApiClient = Client<Connector, Outgoing>;

/// The clients: what one of them keeps is never used by the other.
pub(crate) struct Upstream {
    dialer: Dialer,
    /// For APIs of the catalog, at public addresses.
    pub(crate) public: ApiClient,
    /// For what the owner defined, wherever it is.
    pub(crate) owners: ApiClient,
}

impl Upstream {
    pub(crate) fn new(dialer: &Dialer) -> Self {
        let client = |kind| build(dialer, kind);
        Self { dialer: dialer.clone(), public: client(Kind::Catalog), owners: client(Kind::Owners) }
    }

    /// A client of its own for hosts that are no API, which keeps its connections to itself.
    pub(crate) fn hosts(&self) -> ApiClient {
        build(&self.dialer, Kind::Host)
    }
}

fn build(dialer: &Dialer, kind: Kind) -> ApiClient {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http1_max_headers(MAX_HEADERS)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder.build(Connector { dialer: dialer.clone(), kind })
}

/// Makes connections, checked as oauth3-dial does.
#[derive(Clone)]
pub(crate) struct Connector {
    dialer: Dialer,
    kind: Kind,
}

/// What is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An API of the catalog: at a public address, and never in clear.
    Catalog,
    /// What the owner defined, wherever it is.
    Owners,
    /// A host that is no API: at a public address, in clear or not as the agent asks.
    Host,
}

/// One connection.
pub(crate) enum Line {
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
    Plain(TokioIo<TcpStream>),
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Line, DialError> {
        let secure = uri.scheme_str() == Some("https");
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let host = Host::parse(authority).map_err(|_| DialError::Unresolved(authority.to_owned()))?;
        match (self.kind, secure) {
            (Kind::Owners, false) => Ok(Line::Plain(TokioIo::new(self.dialer.connect_owners_plain(&host).await?))),
            (Kind::Owners, true) => {
                let stream = self.dialer.connect_owners_tls(&host, Protocols::Any).await?;
                Ok(Line::Tls(Box::new(TokioIo::new(stream))))
            }
            (Kind::Host, false) => Ok(Line::Plain(TokioIo::new(self.dialer.connect_plain(&host).await?))),
            (Kind::Catalog | Kind::Host, _) => {
                Ok(Line::Tls(Box::new(TokioIo::new(self.dialer.connect_tls(&host, Protocols::Any).await?))))
            }
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Line;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Line, DialError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

impl Read for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Plain(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, parts),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }
}
