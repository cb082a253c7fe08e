//! A connection after CONNECT: TLS that ends here with a certificate of the agent's own authority, and HTTP inside.

use crate::forward::{self, Address, Door, Next, Visitor, ended, misdirected, visit};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::proxy::{Place, Proxy};
use crate::refuse::Refused;
use crate::serve::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use oauth3_provider::Dialect;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

/// What CONNECT asked for and got.
pub(crate) struct Tunnel {
    pub(crate) visitor: Arc<Visitor>,
    pub(crate) address: Address,
    pub(crate) upgrade: OnUpgrade,
    /// Its place among the tunnels of its agent.
    pub(crate) place: Place,
}

impl Tunnel {
    /// Serves what comes through it, until the client hangs up or the agent may not stay.
    pub(crate) async fn run(self, proxy: &Arc<Proxy>) {
        let Self { visitor, address, upgrade, place } = self;
        let serving = async {
            let stream = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
            if !address.secure {
                return serve(proxy, &visitor, &address, true, stream).await;
            }
            let tls = proxy.authorities.of(&*proxy.backing, &visitor.agent);
            let tls = tls.map_err(|refused| io::Error::other(refused.sentence))?.tls;
            match timeout(HANDSHAKE_TIMEOUT, handshake(tls, stream)).await?? {
                (name, stream) if name.is_some() => {
                    let is_the_one = name.as_deref() == Some(address.host.name());
                    serve(proxy, &visitor, &address, is_the_one, stream).await
                }
                _ => Ok(None),
            }
        };
        let next = tokio::select! {
            outcome = serving => outcome.unwrap_or_else(|error| {
                tracing::debug!(%error, "a tunnel ended");
                None
            }),
            () = ended(proxy, &visitor) => None,
        };
        // It ends by itself when the agent may not stay, and says so to both sides.
        if let Some(Next::Socket(socket)) = next {
            socket.run().await;
        }
        drop(place);
    }
}

/// Ends the client's TLS; the name that it asked for, in lower case. Without one there is no certificate to show.
async fn handshake<S>(tls: Arc<ServerConfig>, stream: S) -> io::Result<(Option<String>, TlsStream<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    Ok((name, start.into_stream(tls).await?))
}

/// Speaks HTTP/1.1; with a client that named another host in its handshake (`is_the_one`), only to say so. Hands back
/// what the connection becomes.
async fn serve<S>(
    proxy: &Arc<Proxy>,
    visitor: &Arc<Visitor>,
    address: &Address,
    is_the_one: bool,
    stream: S,
) -> io::Result<Option<Next>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let door = Door::default();
    let service = service_fn(|request| {
        let door = &door;
        async move {
            if is_the_one {
                return Ok::<_, Infallible>(door.pass(visit(proxy, door, visitor, address, request).await));
            }
            let refused: Refused = misdirected("the name in the TLS handshake is not the one that CONNECT asked for");
            forward::record(proxy, visitor, address, None, &refused);
            Ok(refused.into_response(Dialect::Plain))
        }
    });
    http1().serve_connection(TokioIo::new(stream), service).with_upgrades().await.map_err(io::Error::other)?;
    Ok(door.next())
}
