//! One connection to an API, with TLS or in clear, checked as oauth3-dial does.

use crate::upstream::Origin;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use oauth3_dial::{DialError, Dialer, Protocols, Tls};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// Makes connections.
pub(crate) struct Connector {
    pub(crate) dialer: Dialer,
    pub(crate) kind: Kind,
}

/// What is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An API of the catalog: at a public address, and never in clear.
    Catalog,
    /// What the owner defined, wherever it is.
    Owners,
    /// A host that is no API: at a public address, in clear or not as the agent asks.
    Host,
}

/// One connection.
pub(crate) enum Transport {
    Tls(Box<TokioIo<Tls>>),
    Plain(TokioIo<TcpStream>),
}

impl Connector {
    pub(crate) async fn connect(&self, origin: &Origin, protocols: Protocols) -> Result<Transport, DialError> {
        let Origin { secure, host, .. } = origin;
        match (self.kind, secure) {
            (Kind::Owners, false) => Ok(Transport::Plain(TokioIo::new(self.dialer.connect_owners_plain(host).await?))),
            (Kind::Owners, true) => {
                let stream = self.dialer.connect_owners_tls(host, protocols).await?;
                Ok(Transport::Tls(Box::new(TokioIo::new(stream))))
            }
            (Kind::Host, false) => Ok(Transport::Plain(TokioIo::new(self.dialer.connect_plain(host).await?))),
            (Kind::Catalog | Kind::Host, _) => {
                Ok(Transport::Tls(Box::new(TokioIo::new(self.dialer.connect_tls(host, protocols).await?))))
            }
        }
    }
}

/// Whether both sides agreed on HTTP/2 (RFC 7301).
pub(crate) fn chosen_http2(line: &Transport) -> bool {
    matches!(line, Transport::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2"))
}

impl Read for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Transport {
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
