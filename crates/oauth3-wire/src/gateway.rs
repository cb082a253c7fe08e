//! The gateway's side: the keeper as a port, over a socket.

use crate::WireError;
use crate::frame::{Frame, MAX_REPLY_BYTES, read_frame, write_frame};
use crate::message::{Call, Reply, decode, encode, pack_lane, unpack_output};
use async_trait::async_trait;
use oauth3_core::{
    ApiCheck, ApiId, AuditEvent, ChainReport, Fault, Keeper, KeeperEvent, LaneFds, NewSecret, OpenedRun, RequestId,
    RunOutput, SignInOrder, SignInRecord, WriteOnly,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

/// Calls that may wait to be written.
const WRITE_QUEUE: usize = 64;
/// Longest that a keeper may take to say that it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest for anything else that it is asked.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest for taking in what changed.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest for an order about a sign-in, which asks the identity provider a few times.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(120);
/// What the keeper wants is waited for as long as it is there: a wait that was given up would take the next of it along.
const ASK_TIMEOUT: Duration = Duration::MAX;
/// Longest for reading the whole audit chain.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(600);

/// The keeper over a socket. Calls run side by side. Once the socket is closed every pending and later call is
/// [`Fault::Unavailable`], for good. Dropping it hangs up.
pub struct GatewaySide {
    socket: Arc<UnixStream>,
    out: mpsc::Sender<Frame>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    closed: watch::Receiver<bool>,
}

/// Who waits for which reply. `None` once nothing will come any more.
struct Waiting(Mutex<Option<Waiters>>);
type Waiters = HashMap<u64, oneshot::Sender<(Reply, Frame)>>;

impl GatewaySide {
    /// Takes a connected socket over. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        let socket = Arc::new(socket);
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let (out, queue) = mpsc::channel(WRITE_QUEUE);
        let (died, closed) = watch::channel(false);
        tokio::spawn(write_all(Arc::clone(&socket), queue));
        tokio::spawn(read_all(Arc::clone(&socket), Arc::clone(&waiting), died));
        Self { socket, out, waiting, next: AtomicU64::new(1), closed }
    }

    /// Returns when the keeper's end is closed: it died, or hung up.
    pub async fn closed(&self) {
        // An error says that the reader is gone, which is the same.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }

    async fn call(&self, call: Call, with: Frame, limit: Duration) -> Result<(Reply, Frame), Fault> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut frame = encode(number, call).map_err(|e| Fault::InvalidRequest(e.to_string()))?;
        (frame.raw, frame.fds) = (with.raw, with.fds);
        let reply = self.waiting.expect_reply(number).ok_or_else(gone)?;
        let exchange = async {
            self.out.send(frame).await.map_err(|_| gone())?;
            reply.await.map_err(|_| gone())
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        if answered.is_err() {
            self.waiting.take(number);
        }
        match answered.map_err(|_| Fault::Unavailable("the keeper does not answer in time".into()))?? {
            (Reply::Fault(fault), _) => Err(fault),
            answer => Ok(answer),
        }
    }

    async fn done(&self, call: Call, with: Frame, limit: Duration) -> Result<(), Fault> {
        match self.call(call, with, limit).await? {
            (Reply::Done, _) => Ok(()),
            _ => Err(odd()),
        }
    }
}

#[async_trait]
impl Keeper for GatewaySide {
    async fn ping(&self) -> Result<(), Fault> {
        self.done(Call::Ping, Frame::default(), PING_TIMEOUT).await
    }

    async fn audit(&self, event: AuditEvent) -> Result<(), Fault> {
        self.done(Call::Audit(event), Frame::default(), CALL_TIMEOUT).await
    }

    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        match self.call(Call::VerifyAudit, Frame::default(), VERIFY_TIMEOUT).await? {
            (Reply::Chain(report), _) => Ok(report),
            _ => Err(odd()),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the one place that hands a typed value to the keeper")]
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        let with = Frame { raw: value.hand_over(), ..Frame::default() };
        self.done(Call::PutSecret(secret), with, CALL_TIMEOUT).await
    }

    async fn open_run(&self, id: &RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        let (listeners, fds) = pack_lane(lane);
        if fds.len() > crate::MAX_FDS {
            return Err(Fault::InvalidRequest("the hosts of this request have too many different ports".into()));
        }
        let call = Call::OpenRun { id: id.clone(), listeners };
        match self.call(call, Frame { fds, ..Frame::default() }, CALL_TIMEOUT).await? {
            (Reply::Opened(opened), _) => Ok(opened),
            _ => Err(odd()),
        }
    }

    async fn close_run(&self, id: &RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        let call = Call::CloseRun { id: id.clone(), then };
        match self.call(call, Frame::default(), CALL_TIMEOUT).await? {
            (Reply::Output { stdout_bytes, truncated, refusals, egress }, frame) => {
                let (stdout, stderr) = unpack_output(&frame.raw, stdout_bytes);
                Ok(RunOutput { stdout, stderr, truncated, refusals, egress })
            }
            _ => Err(odd()),
        }
    }

    async fn refresh(&self) -> Result<(), Fault> {
        let done = self.done(Call::Refresh, Frame::default(), CALL_TIMEOUT);
        tokio::time::timeout(REFRESH_TIMEOUT, done).await.unwrap_or_else(|_| {
            // It may go by rights that were taken away. Hung up on, it ends.
            tracing::error!("the keeper did not take in what changed; it is hung up on");
            shut(&self.socket);
            Err(gone())
        })
    }

    async fn next_event(&self) -> Result<KeeperEvent, Fault> {
        match self.call(Call::NextEvent, Frame::default(), ASK_TIMEOUT).await? {
            (Reply::Event(event), _) => Ok(event),
            _ => Err(odd()),
        }
    }

    async fn proxy_address(&self) -> Result<Option<SocketAddr>, Fault> {
        match self.call(Call::ProxyAddress, Frame::default(), CALL_TIMEOUT).await? {
            (Reply::Address(address), _) => Ok(address),
            _ => Err(odd()),
        }
    }

    async fn check_api(&self, api: &ApiId) -> Result<Vec<ApiCheck>, Fault> {
        match self.call(Call::CheckApi(api.clone()), Frame::default(), CALL_TIMEOUT).await? {
            (Reply::Checks(checks), _) => Ok(checks),
            _ => Err(odd()),
        }
    }

    async fn answer_ask(&self, number: u64, answer: Result<RequestId, Fault>) -> Result<(), Fault> {
        self.done(Call::AnswerAsk { number, answer }, Frame::default(), CALL_TIMEOUT).await
    }

    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        let call = Call::SignIn { connection: connection.clone(), order, by: by.to_owned() };
        match self.call(call, Frame::default(), SIGN_IN_TIMEOUT).await? {
            (Reply::SignIn(record), _) => Ok(*record),
            _ => Err(odd()),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the other place that hands a typed value to the keeper")]
    async fn put_client_secret(&self, connection: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        let with = Frame { raw: value.hand_over(), ..Frame::default() };
        let call = Call::PutClientSecret { connection: connection.clone(), by: by.to_owned() };
        self.done(call, with, CALL_TIMEOUT).await
    }
}

impl Waiting {
    fn expect_reply(&self, number: u64) -> Option<oneshot::Receiver<(Reply, Frame)>> {
        let (send, receive) = oneshot::channel();
        self.lock().as_mut()?.insert(number, send);
        Some(receive)
    }

    fn take(&self, number: u64) -> Option<oneshot::Sender<(Reply, Frame)>> {
        self.lock().as_mut()?.remove(&number)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiters>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write_all(socket: Arc<UnixStream>, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = write_frame(&socket, &frame).await {
            tracing::warn!(%error, "cannot write to the keeper");
            break;
        }
    }
    // Ends the reader too, and tells the keeper.
    shut(&socket);
}

async fn read_all(socket: Arc<UnixStream>, waiting: Arc<Waiting>, died: watch::Sender<bool>) {
    let ended = async {
        while let Some(frame) = read_frame(&socket, MAX_REPLY_BYTES).await? {
            let reply = decode::<Reply>(&frame)?;
            // Nobody waits when the caller gave up in between.
            if let Some(waiter) = waiting.take(reply.number) {
                let _ = waiter.send((reply.body, frame));
            }
        }
        Ok::<(), WireError>(())
    };
    if let Err(error) = ended.await {
        tracing::warn!(%error, "the keeper's connection ended");
    }
    // Dropping the senders is what every waiting call hears.
    *waiting.lock() = None;
    shut(&socket);
    let _ = died.send(true);
}

fn shut(socket: &UnixStream) {
    // It may be closed already; then there is nothing to do.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

fn gone() -> Fault {
    Fault::Unavailable("the keeper does not answer".into())
}

fn odd() -> Fault {
    Fault::Unavailable("the keeper answered something else".into())
}
