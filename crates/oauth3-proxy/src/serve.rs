//! Takes connections of agents in.

use crate::forward::{self, Door, Next};
use crate::limits::{HEAD_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD_BYTES};
use crate::proxy::Proxy;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection on one of these runtimes, by the part of the proxy that is there.
pub(crate) async fn serve(parts: Vec<(Handle, Arc<Proxy>)>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this, and every call with it.
    let mut connections = JoinSet::new();
    for (runtime, proxy) in parts.iter().cycle() {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => drop(connections.spawn_on(connection(proxy.clone(), stream, place), runtime)),
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "cannot accept a connection at the proxy");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(proxy: Arc<Proxy>, stream: std::net::TcpStream, place: OwnedSemaphorePermit) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(kind = %error.kind(), "a connection at the proxy cannot be served"),
    };
    // Small pieces of a stream must not wait for more; a socket that cannot do it works all the same.
    let _ = stream.set_nodelay(true);
    let door = Door::default();
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(door.pass(forward::answer(&proxy, &door, request).await)) });
    if let Err(error) = http1().serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(%error, "a connection at the proxy ended");
    }
    match door.next() {
        // Seldom, and large too.
        Some(Next::Tunnel(tunnel)) => Box::pin(tunnel.run(&proxy)).await,
        Some(Next::Socket(socket)) => Box::pin(socket.run()).await,
        None => {}
    }
    drop(place);
}

/// How agents are spoken with.
pub(crate) fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
}
