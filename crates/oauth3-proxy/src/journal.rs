//! Every call is in the audit chain before it leaves, and so is every request for a host that is no API. Calls that come at once share a row and a commit.

use crate::backing::Backing;
use crate::limits::{CALLS_PER_COMMIT, CALLS_PER_ROW, GATHER, JOURNAL_QUEUE};
use oauth3_core::{AgentName, AuditEvent, AuditKind};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Who writes it.
const ACTOR: &str = "keeper";

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A call is about to leave.
    Called,
    /// The WebSocket that one opened has ended.
    Ended,
    /// One was refused.
    Refused,
    /// A request is about to leave for a host that is no API.
    Reached,
    /// It has ended.
    Left,
}

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) what: What,
    pub(crate) agent: AgentName,
    pub(crate) detail: serde_json::Map<String, Value>,
}

/// Writes entries down.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    queue: mpsc::Sender<(Entry, Option<oneshot::Sender<()>>)>,
}

impl Journal {
    /// Starts the task that writes; it ends with the last handle.
    pub(crate) fn start(backing: Arc<dyn Backing>) -> Self {
        let (queue, entries) = mpsc::channel(JOURNAL_QUEUE);
        tokio::spawn(write(backing, entries));
        Self { queue }
    }

    /// Writes an entry; on disk when it returns. False: it is not, and what it says must not happen.
    pub(crate) async fn record(&self, entry: Entry) -> bool {
        let (done, written) = oneshot::channel();
        self.queue.send((entry, Some(done))).await.is_ok() && written.await.is_ok()
    }

    /// Has an entry written soon. False when there is no room, so that what it says must not happen.
    pub(crate) fn note(&self, entry: Entry) -> bool {
        self.queue.try_send((entry, None)).is_ok()
    }
}

async fn write(backing: Arc<dyn Backing>, mut entries: mpsc::Receiver<(Entry, Option<oneshot::Sender<()>>)>) {
    let mut batch = Vec::new();
    // What comes while one batch is being written is the next.
    while entries.recv_many(&mut batch, CALLS_PER_COMMIT).await > 0 {
        if batch.len() > 1 {
            // Several calls at once: a moment more makes one commit of what would be two, and a commit costs more
            // than a call. One call alone never waits.
            tokio::time::sleep(GATHER).await;
            while batch.len() < CALLS_PER_COMMIT {
                let Ok(entry) = entries.try_recv() else { break };
                batch.push(entry);
            }
        }
        let (list, waiters): (Vec<Entry>, Vec<Option<oneshot::Sender<()>>>) = batch.drain(..).unzip();
        match backing.record(&rows(list)).await {
            // Nobody waits who was cut off meanwhile.
            Ok(()) => waiters.into_iter().flatten().for_each(|waiter| waiter.send(()).unwrap_or_default()),
            Err(fault) => tracing::error!(%fault, "calls cannot be recorded; they are refused"),
        }
    }
}

/// Rows of the audit, each of one kind.
fn rows(entries: Vec<Entry>) -> Vec<AuditEvent> {
    use AuditKind::{ApiCalled, ApiEnded, ApiRefused, HostLeft, HostReached};
    let mut by_kind: [(AuditKind, Vec<Entry>); 5] =
        [ApiCalled, ApiEnded, ApiRefused, HostReached, HostLeft].map(|kind| (kind, vec![]));
    let [(_, called), (_, ended), (_, refused), (_, reached), (_, left)] = &mut by_kind;
    for entry in entries {
        match entry.what {
            What::Called => called.push(entry),
            What::Ended => ended.push(entry),
            What::Refused => refused.push(entry),
            What::Reached => reached.push(entry),
            What::Left => left.push(entry),
        }
    }
    let mut rows = Vec::new();
    for (kind, entries) in by_kind {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            rows.push(row(kind, entries.by_ref().take(CALLS_PER_ROW).collect()));
        }
    }
    rows
}

/// One row. With one call, or calls of one agent only, it is about that agent.
fn row(kind: AuditKind, entries: Vec<Entry>) -> AuditEvent {
    let mut event = AuditEvent::new(kind, ACTOR);
    let same = |first: &Entry| entries.iter().all(|entry| entry.agent == first.agent);
    event.agent = entries.first().filter(|first| same(first)).map(|first| first.agent.clone());
    let several = event.agent.is_none();
    let calls: Vec<Value> = entries
        .into_iter()
        .map(|mut entry| {
            if several {
                entry.detail.insert("agent".to_owned(), entry.agent.as_str().into());
            }
            Value::Object(entry.detail)
        })
        .collect();
    event.with("calls", calls)
}
