//! The gateway's side of the owner's socket.

use super::OWNER_IDENTITY;
use super::call::{Call, MAX_CALL_BYTES, Reply};
use crate::ApiError;
use crate::stall::StallGuard;
use futures::future::BoxFuture;
use oauth3_core::{AgentToken, Execution, Fault, OwnerPort};
use serde::Serialize;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

/// Most connections at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
/// Longest that a client may take to send its call, in seconds.
const CALL_READ_SECONDS: u64 = 10;
/// Longest that a client may leave its reply unread, in seconds.
const WRITE_STALL_SECONDS: u64 = 30;
/// How long calls may go on after the shutdown has begun, in seconds.
const SHUTDOWN_GRACE_SECONDS: u64 = 2;
/// Pause after a failed accept, in milliseconds.
const ACCEPT_PAUSE_MILLIS: u64 = 100;

/// What the gateway does on calls that are no part of [`OwnerPort`].
#[derive(Clone)]
pub struct OwnerHooks {
    secrets_changed: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl OwnerHooks {
    /// `secrets_changed` is called when values changed in the keeper: look again at the requests that wait for one.
    #[must_use]
    pub fn new(secrets_changed: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self { secrets_changed: Arc::new(secrets_changed) }
    }
}

impl fmt::Debug for OwnerHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerHooks")
    }
}

/// Answers the owner's commands until `shutdown` says true or its sender is gone. Every connection is checked first: the
/// process at its other end must be of the same user (SO_PEERCRED), whatever the mode of the file says.
///
/// # Errors
/// None at present: a failed accept is logged and tried again.
pub async fn serve_owner(
    listener: UnixListener,
    port: Arc<dyn OwnerPort>,
    hooks: OwnerHooks,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ApiError> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
                tracing::warn!(%error, "cannot accept a connection of the owner");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
                continue;
            }
        };
        let (port, hooks) = (Arc::clone(&port), hooks.clone());
        connections.spawn(async move {
            let _slot = slot;
            if let Err(error) = answer(stream, port.as_ref(), &hooks).await {
                tracing::debug!(%error, "a connection of the owner ended early");
            }
        });
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_secs(SHUTDOWN_GRACE_SECONDS), rest).await.is_err() {
        tracing::info!("closed connections of the owner that still waited");
    }
    Ok(())
}

/// Whether a process of user `peer` may give orders to one of user `own`. Root may not: it can become the user.
fn admits(peer: u32, own: u32) -> bool {
    peer == own
}

async fn answer(stream: UnixStream, port: &dyn OwnerPort, hooks: &OwnerHooks) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if !admits(peer, rustix::process::geteuid().as_raw()) {
        tracing::warn!(uid = peer, "refused a process of another user on the owner's socket");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (read, write) = tokio::io::split(StallGuard::new(stream, Duration::from_secs(WRITE_STALL_SECONDS)));
    let (mut read, mut write) = (BufReader::new(read), write);
    let line = timeout(Duration::from_secs(CALL_READ_SECONDS), read_line(&mut read))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if line.is_empty() {
        // Somebody looked whether anybody is here.
        return Ok(());
    }
    let reply = match serde_json::from_slice::<Call>(&line) {
        // A wait ends when nobody waits any more; everything else is brought to its end.
        Ok(call @ (Call::Wait { .. } | Call::WaitSignIn { .. })) => tokio::select! {
            reply = perform(call, port, hooks) => reply,
            () = hung_up(&mut read) => return Ok(()),
        },
        Ok(call) => perform(call, port, hooks).await,
        Err(_) => {
            let text = "this call is unknown here; restart `oauth3 serve` so that both are of one version";
            encode::<()>(Err(Fault::InvalidRequest(text.into())))
        }
    };
    write.write_all(&reply).await?;
    write.shutdown().await
}

/// One line within the bound; what is longer breaks off and is no call.
async fn read_line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    read.take(MAX_CALL_BYTES).read_until(b'\n', &mut line).await?;
    Ok(line)
}

async fn hung_up(read: &mut (impl AsyncRead + Unpin)) {
    let mut rest = [0u8; 64];
    while matches!(read.read(&mut rest).await, Ok(n) if n > 0) {}
}

/// Does what a call says, under the one identity that this socket has.
async fn perform(call: Call, port: &dyn OwnerPort, hooks: &OwnerHooks) -> Zeroizing<Vec<u8>> {
    let by = OWNER_IDENTITY;
    match call {
        Call::Verdict { id, verdict } => encode(port.verdict(&id, verdict, by).await),
        Call::Show { id } => encode(port.show(&id).await),
        Call::Requests { statuses, limit } => {
            let light = |list: Vec<Execution>| list.into_iter().map(without_bulk).collect::<Vec<_>>();
            encode(port.requests(&statuses, limit).await.map(light))
        }
        Call::Wait { id, seen, patience_ms } => encode(port.wait(&id, seen, Duration::from_millis(patience_ms)).await),
        Call::Submit { draft } => encode(port.submit(*draft).await),
        Call::Grants => encode(port.grants().await),
        Call::RevokeGrant { id } => encode(port.revoke_grant(&id, by).await),
        Call::Secrets => encode(port.secrets().await),
        Call::SecretsChanged => {
            (hooks.secrets_changed)().await;
            encode(Ok(()))
        }
        Call::RemoveSecret { name } => encode(port.remove_secret(&name, by).await),
        Call::Agents => encode(port.agents().await),
        Call::AddAgent { name } => {
            encode(port.add_agent(&name, by).await.as_ref().map(AgentToken::reveal).map_err(Fault::clone))
        }
        Call::RotateAgent { name } => {
            encode(port.rotate_agent(&name, by).await.as_ref().map(AgentToken::reveal).map_err(Fault::clone))
        }
        Call::RevokeAgent { name } => encode(port.revoke_agent(&name, by).await),
        Call::TagAgent { name, tags } => encode(port.tag_agent(&name, tags, by).await),
        Call::ApiKeys => encode(port.api_keys().await),
        Call::PutApiKey { key } => encode(port.put_api_key(key, by).await),
        Call::RemoveApiKey { api, secret } => encode(port.remove_api_key(&api, &secret, by).await),
        Call::CheckApi { api } => encode(port.check_api(&api).await),
        Call::Connections => encode(port.connections().await),
        Call::PutConnection { connection } => encode(port.put_connection(*connection, by).await),
        Call::RemoveConnection { api } => encode(port.remove_connection(&api, by).await),
        Call::GrantAccess { agent, access, lifetime_ms } => {
            encode(port.grant_access(&agent, *access, lifetime_ms.map(Duration::from_millis), by).await)
        }
        Call::Usage { since_day } => encode(port.usage(since_day).await),
        Call::SignIns => encode(port.sign_ins().await),
        Call::OrderSignIn { connection, order } => encode(port.order_sign_in(&connection, order, by).await),
        Call::WaitSignIn { connection, seen, patience_ms } => {
            encode(port.wait_sign_in(&connection, seen, Duration::from_millis(patience_ms)).await)
        }
        Call::Overview => encode(port.overview().await),
        Call::SetKillSwitch { on } => encode(port.set_kill_switch(on, by).await),
        Call::AuditAfter { seq, limit } => encode(port.audit_after(seq, limit).await),
        Call::AuditHead => encode(port.audit_head().await),
        Call::VerifyAudit => encode(port.verify_audit().await),
        Call::ReportStranger { by, what } => encode(port.report_stranger(&by, &what).await),
    }
}

/// A reply as its line. It may hold a fresh token, so it is wiped after use.
fn encode<T: Serialize>(answer: Result<T, Fault>) -> Zeroizing<Vec<u8>> {
    let reply = match answer {
        Ok(done) => Reply::Done(done),
        Err(fault) => Reply::Fault(fault),
    };
    // Core's types have string keys only, so this cannot fail; were it to, the client sees an empty reply.
    Zeroizing::new(serde_json::to_vec(&reply).unwrap_or_default())
}

/// Lists go without what `show` is for.
fn without_bulk(mut execution: Execution) -> Execution {
    execution.code = Vec::new();
    if let Some(result) = &mut execution.result {
        result.stdout = String::new();
        result.stderr = String::new();
    }
    execution
}

#[cfg(test)]
mod tests {
    use super::admits;

    #[test]
    fn only_the_same_user_is_admitted() {
        assert!(admits(1000, 1000));
        assert!(!admits(1001, 1000));
        assert!(!admits(0, 1000));
        assert!(!admits(1000, 0));
        assert!(!admits(65534, 1000));
    }
}
