//! The keeper's side: reads calls, hands them to a handler, writes what it says.

use crate::WireError;
use crate::frame::{Frame, MAX_CALL_BYTES, read_frame, write_frame};
use crate::message::{Call, Reply, decode, encode, pack_output, unpack_lane};
use async_trait::async_trait;
use oauth3_core::{
    ApiCheck, ApiId, AuditEvent, ChainReport, Fault, KeeperEvent, LaneFds, NewSecret, OpenedRun, RequestId, RunOutput,
    SignInOrder, SignInRecord,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

/// Calls of one connection that are worked on at a time; further ones wait in the socket.
const MAX_CALLS: usize = 128;
/// Replies that may wait to be written.
const WRITE_QUEUE: usize = 64;
/// How long calls that go on when the other side hangs up may take to end.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The gateway that started the keeper: every call.
    Gateway,
    /// The owner's command line on the keeper's own socket: ping, put a secret or a client's, verify the audit chain.
    Owner,
}

/// What the keeper does when called. The methods are those of [`oauth3_core::Keeper`], from the other end.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers when values can be unsealed.
    async fn ping(&self) -> Result<(), Fault>;
    /// Appends to the audit chain; durable when it returns.
    async fn audit(&self, event: AuditEvent) -> Result<(), Fault>;
    /// Checks the whole chain.
    async fn verify_audit(&self) -> Result<ChainReport, Fault>;
    /// Seals and stores a value.
    async fn put_secret(&self, secret: NewSecret, value: Zeroizing<Vec<u8>>) -> Result<(), Fault>;
    /// Opens a run.
    async fn open_run(&self, id: RequestId, lane: LaneFds) -> Result<OpenedRun, Fault>;
    /// Closes it.
    async fn close_run(&self, id: RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault>;
    /// Reads anew what the proxy goes by.
    async fn refresh(&self) -> Result<(), Fault>;
    /// Waits for what the proxy wants.
    async fn next_event(&self) -> Result<KeeperEvent, Fault>;
    /// Where agents reach the proxy.
    async fn proxy_address(&self) -> Result<Option<SocketAddr>, Fault>;
    /// Tries each key of an API.
    async fn check_api(&self, api: ApiId) -> Result<Vec<ApiCheck>, Fault>;
    /// Says what became of an ask.
    async fn answer_ask(&self, number: u64, answer: Result<RequestId, Fault>) -> Result<(), Fault>;
    /// Does something with a sign-in.
    async fn order_sign_in(&self, connection: ApiId, order: SignInOrder, by: String) -> Result<SignInRecord, Fault>;
    /// Seals a client secret.
    async fn put_client_secret(&self, connection: ApiId, value: Zeroizing<Vec<u8>>, by: String) -> Result<(), Fault>;
}

/// Serves one connection until the other side hangs up or sends something that is no call; calls that go on
/// then are finished first, or dropped after a grace of 5 seconds. Never fails and never panics on what it reads.
pub async fn serve(socket: UnixStream, role: Role, handler: Arc<dyn Handler>) {
    let socket = Arc::new(socket);
    let (out, queue) = mpsc::channel(WRITE_QUEUE);
    let mut writer = tokio::spawn(write_all(Arc::clone(&socket), queue));
    let mut calls = JoinSet::new();
    // What waits for something to happen, which nobody wants to hear of once the other side is gone.
    let mut waits = JoinSet::new();
    let ended = loop {
        if waits.len() >= MAX_CALLS {
            break Err(WireError::Junk("more waits than anybody needs"));
        }
        while calls.len() >= MAX_CALLS {
            let _ = calls.join_next().await;
        }
        let frame = match read_frame(&socket, MAX_CALL_BYTES).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let call = match prepare(frame) {
            Ok(call) => call,
            Err(error) => break Err(error),
        };
        let (handler, out) = (Arc::clone(&handler), out.clone());
        let tasks = if matches!(call.call, Call::NextEvent) { &mut waits } else { &mut calls };
        tasks.spawn(async move {
            if let Ok(frame) = answer(call, role, &*handler).await {
                // The writer is gone when the other side is: nobody wants the reply.
                let _ = out.send(frame).await;
            }
        });
        while calls.try_join_next().is_some() {}
        while waits.try_join_next().is_some() {}
    };
    if let Err(error) = ended {
        tracing::warn!(%error, ?role, "a connection to the keeper ended");
    }
    drop(out);
    waits.shutdown().await;
    let finished = tokio::time::timeout(FINISH_GRACE, async { while calls.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        tracing::warn!(?role, "calls were dropped that went on after their connection ended");
        calls.shutdown().await;
    }
    // Its last replies may still be read; but with nobody reading, a write never ends.
    if tokio::time::timeout(FINISH_GRACE, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// A call that was read whole.
struct Prepared {
    number: u64,
    call: Call,
    raw: Zeroizing<Vec<u8>>,
    lane: Option<LaneFds>,
}

fn prepare(mut frame: Frame) -> Result<Prepared, WireError> {
    let message = decode::<Call>(&frame)?;
    let fds = std::mem::take(&mut frame.fds);
    let lane = match &message.body {
        Call::OpenRun { listeners, .. } => Some(unpack_lane(listeners.clone(), fds)?),
        _ if fds.is_empty() => None,
        _ => return Err(WireError::Junk("descriptors with a call that takes none")),
    };
    Ok(Prepared { number: message.number, call: message.body, raw: frame.raw, lane })
}

async fn answer(prepared: Prepared, role: Role, handler: &dyn Handler) -> Result<Frame, WireError> {
    let Prepared { number, call, raw, lane } = prepared;
    let reply = match (role, call, lane) {
        (_, Call::Ping, _) => handler.ping().await.map(|()| Reply::Done),
        (_, Call::VerifyAudit, _) => handler.verify_audit().await.map(Reply::Chain),
        (_, Call::PutSecret(secret), _) => handler.put_secret(secret, raw).await.map(|()| Reply::Done),
        (Role::Gateway, Call::Audit(event), _) => handler.audit(event).await.map(|()| Reply::Done),
        (Role::Gateway, Call::OpenRun { id, .. }, Some(lane)) => handler.open_run(id, lane).await.map(Reply::Opened),
        (Role::Gateway, Call::Refresh, _) => handler.refresh().await.map(|()| Reply::Done),
        (Role::Gateway, Call::ProxyAddress, _) => handler.proxy_address().await.map(Reply::Address),
        (Role::Gateway, Call::CheckApi(api), _) => handler.check_api(api).await.map(Reply::Checks),
        (Role::Gateway, Call::NextEvent, _) => handler.next_event().await.map(Reply::Event),
        (Role::Gateway, Call::AnswerAsk { number, answer }, _) => {
            handler.answer_ask(number, answer).await.map(|()| Reply::Done)
        }
        (Role::Gateway, Call::SignIn { connection, order, by }, _) => {
            handler.order_sign_in(connection, order, by).await.map(|record| Reply::SignIn(Box::new(record)))
        }
        (_, Call::PutClientSecret { connection, by }, _) => {
            handler.put_client_secret(connection, raw, by).await.map(|()| Reply::Done)
        }
        (Role::Gateway, Call::CloseRun { id, then }, _) => match handler.close_run(id, then).await {
            Ok(output) => return pack_output(number, output),
            Err(fault) => Err(fault),
        },
        _ => Err(Fault::DeniedByPolicy("only the gateway may ask this of the keeper".into())),
    };
    encode(number, reply.unwrap_or_else(Reply::Fault))
}

async fn write_all(socket: Arc<UnixStream>, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = write_frame(&socket, &frame).await {
            tracing::warn!(%error, "cannot write a reply of the keeper");
            break;
        }
    }
    // Ends the reader too. It may be closed already.
    let _ = rustix::net::shutdown(&*socket, rustix::net::Shutdown::Both);
}
