//! Serves the agents' API on a TCP listener, within fixed bounds.

use crate::ApiError;
use crate::stall::StallGuard;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Most connections at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 512;
/// Longest that a client may take for a request's head; an idle connection ends after the same time, in seconds.
const HEADER_READ_SECONDS: u64 = 30;
/// Longest that a client may leave an answer unread, in seconds.
const WRITE_STALL_SECONDS: u64 = 30;
/// Largest request head, in bytes.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Most header fields of a request.
const MAX_HEADER_FIELDS: usize = 64;
/// How long calls may go on after the shutdown has begun, in seconds. Long polls end with it.
const SHUTDOWN_GRACE_SECONDS: u64 = 2;
/// Pause after a failed accept, in milliseconds, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE_MILLIS: u64 = 100;

/// Serves `router` until `shutdown` says true or its sender is gone, then lets open calls end for a moment and closes the rest.
///
/// Bounds: 512 connections, 30 s for a request's head, 30 s for a reader that stands still, 32 KiB and 64
/// fields of header. HTTP/1.1 only.
///
/// # Errors
/// None at present: a failed accept is logged and tried again.
pub async fn serve_agents(
    listener: TcpListener,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ApiError> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stopped = pin!(shutdown.wait_for(|stop| *stop));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let (slot, accepted) = tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            next = next => match next { Some(next) => next, None => break },
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of an agent");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
                continue;
            }
        };
        // Answers are small and written at once; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(StallGuard::new(stream, Duration::from_secs(WRITE_STALL_SECONDS)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(HEADER_READ_SECONDS))
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADER_FIELDS)
            .serve_connection(io, TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of an agent ended early");
            }
        });
    }
    drop(listener);
    if timeout(Duration::from_secs(SHUTDOWN_GRACE_SECONDS), graceful.shutdown()).await.is_err() {
        tracing::info!("closed connections of agents that still waited");
    }
    // Dropping the set ends what is left.
    Ok(())
}
