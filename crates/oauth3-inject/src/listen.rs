//! Takes what comes in on the sandbox's sockets. They live in the sandbox's network, so nothing here dials.

use crate::dns::{Answer, MAX_QUERY_BYTES};
use crate::error::InjectError;
use crate::limits::ACCEPT_PAUSE;
use crate::meter::Metered;
use crate::run::Run;
use crate::serve::{self, Place};
use crate::target::{Entry, clean};
use oauth3_core::{ListenerFd, ListenerRole};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::sleep;

/// Serves one socket until the run ends.
pub(crate) fn listen(run: &Arc<Run>, listener: ListenerFd) -> Result<(), InjectError> {
    let ListenerFd { role, fd } = listener;
    let shared = Arc::clone(run);
    if role == ListenerRole::Dns {
        let socket = std::net::UdpSocket::from(fd);
        socket.set_nonblocking(true).map_err(InjectError::Listener)?;
        let socket = UdpSocket::from_std(socket).map_err(InjectError::Listener)?;
        run.tasks.spawn(answer_names(shared, socket));
    } else {
        let listener = std::net::TcpListener::from(fd);
        listener.set_nonblocking(true).map_err(InjectError::Listener)?;
        let listener = TcpListener::from_std(listener).map_err(InjectError::Listener)?;
        run.tasks.spawn(accept(shared, listener, role));
    }
    Ok(())
}

async fn accept(run: Arc<Run>, listener: TcpListener, role: ListenerRole) {
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&run.connections).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(kind = %error.kind(), "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Only costs speed when it fails.
        let _ = stream.set_nodelay(true);
        let (thread, load) = run.lanes.idlest();
        let place = Arc::new((place, load));
        if thread.id() == Handle::current().id() {
            run.tasks.spawn(connection(Arc::clone(&run), stream, role, place));
            continue;
        }
        let shared = Arc::clone(&run);
        match stream.into_std() {
            Ok(stream) => run.tasks.spawn_on(thread, async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => connection(shared, stream, role, place).await,
                    Err(error) => tracing::debug!(kind = %error.kind(), "a connection cannot be served"),
                }
            }),
            Err(error) => tracing::debug!(kind = %error.kind(), "a connection cannot be handed on"),
        }
    }
}

async fn connection(run: Arc<Run>, stream: TcpStream, role: ListenerRole, place: Place) {
    let stream = Metered::new(stream, &run);
    match role {
        ListenerRole::Tls { port } => serve::tls(run, stream, port, None, place).await,
        ListenerRole::Proxy => serve::http1(run, stream, Entry::Proxy(None), place).await,
        ListenerRole::KeyedProxy { key } => serve::http1(run, stream, Entry::Proxy(Some(key)), place).await,
        ListenerRole::Plain | ListenerRole::Dns => serve::http1(run, stream, Entry::Plain, place).await,
    }
}

async fn answer_names(run: Arc<Run>, socket: UdpSocket) {
    let mut buffer = [0; MAX_QUERY_BYTES];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let reply = match run.names.answer(buffer.get(..length).unwrap_or_default()) {
            Answer::Ignore => continue,
            Answer::Reply(reply) => reply,
            Answer::Refuse(reply, name) => {
                run.keep(format!("{}: this name is not allowed for this run and does not resolve", clean(&name)));
                reply
            }
        };
        // A lost datagram is asked for again.
        let _ = socket.send_to(&reply, from).await;
    }
}
