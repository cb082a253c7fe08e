//! Every call is in the audit chain before it leaves, and so is every request for a host that is no API. Calls that come
//! at once share a row and a commit.

use crate::backing::Backing;
use crate::limits::{CALLS_PER_COMMIT, CALLS_PER_ROW, GATHER_TIME, GATHER_TURNS, JOURNAL_QUEUE};
use oauth3_core::{AgentName, AuditEvent, AuditKind, Detail};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

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
    pub(crate) detail: Detail,
}

/// Writes entries down, those of all threads together: a commit costs more than a call. Whoever comes while nobody
/// writes has it begun on its own thread, so that a call alone wakes no other.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Desk>);

struct Desk {
    backing: Arc<dyn Backing>,
    pending: Mutex<Pending>,
    /// What is gathered is to be written now.
    hurry: Notify,
    /// Nobody writes any more.
    idle: Notify,
}

#[derive(Default)]
struct Pending {
    /// Each with whoever waits for it.
    entries: Vec<(Entry, Option<Waiter>)>,
    stage: Stage,
}

/// What whoever writes is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody writes.
    #[default]
    Idle,
    /// Somebody does, and will take what comes too.
    Writing,
    /// The same, and takes its time, for nobody waits for what there is.
    Gathering,
    /// The same, and takes no time until nothing is left to be written.
    Hurried,
}

/// Whoever waits for an entry, and where.
struct Waiter {
    home: Handle,
    written: oneshot::Sender<()>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    pub(crate) fn new(backing: Arc<dyn Backing>) -> Self {
        Self(Arc::new(Desk { backing, pending: Mutex::default(), hurry: Notify::new(), idle: Notify::new() }))
    }

    /// Writes an entry; on disk when it returns. False: it is not, and what it says must not happen.
    pub(crate) async fn record(&self, entry: Entry) -> bool {
        let (written, is_written) = oneshot::channel();
        self.0.add(entry, Some(Waiter { home: Handle::current(), written }), usize::MAX);
        is_written.await.is_ok()
    }

    /// Has an entry written soon. False when there is no room, so that what it says must not happen.
    pub(crate) fn note(&self, entry: Entry) -> bool {
        self.0.add(entry, None, JOURNAL_QUEUE)
    }

    /// Returns when all is written that was noted before.
    pub(crate) async fn flush(&self) {
        loop {
            let mut idle = pin!(self.0.idle.notified());
            idle.as_mut().enable();
            {
                let mut pending = self.0.pending();
                if pending.stage == Stage::Idle {
                    return;
                }
                self.0.hurry(&mut pending);
            }
            idle.await;
        }
    }
}

impl Desk {
    /// Adds an entry, unless there are `most` already.
    fn add(self: &Arc<Self>, entry: Entry, waiter: Option<Waiter>, most: usize) -> bool {
        let mut pending = self.pending();
        if pending.entries.len() >= most {
            return false;
        }
        let is_waited_for = waiter.is_some();
        pending.entries.push((entry, waiter));
        let begins = pending.stage == Stage::Idle;
        if begins {
            pending.stage = Stage::Writing;
        }
        if is_waited_for || pending.entries.len() >= CALLS_PER_COMMIT {
            self.hurry(&mut pending);
        }
        drop(pending);
        if begins {
            tokio::spawn(Turn { desk: Arc::clone(self), over: false }.write());
        }
        true
    }

    /// Has what is there written now, by whoever writes.
    fn hurry(&self, pending: &mut Pending) {
        if std::mem::replace(&mut pending.stage, Stage::Hurried) == Stage::Gathering {
            self.hurry.notify_one();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of whoever writes, until nothing is left to be written.
struct Turn {
    desk: Arc<Desk>,
    over: bool,
}

impl Turn {
    async fn write(mut self) {
        let (mut entries, mut waiters) = (Vec::new(), Vec::new());
        // What comes while one batch is being written is the next.
        while self.take(&mut entries, &mut waiters) {
            if waiters.is_empty() {
                self.gather().await;
                self.take(&mut entries, &mut waiters);
            } else if entries.len() > 1 {
                // Several calls at once: those that are nearly here make one commit of what would be two. They get turns
                // and no time: a clock wakes one or two milliseconds later, and meanwhile neither the disk nor the
                // processors have anything to do. One call alone never waits.
                for _ in 0..GATHER_TURNS {
                    tokio::task::yield_now().await;
                }
                self.take(&mut entries, &mut waiters);
            }
            match self.desk.backing.record(&rows(entries.drain(..))).await {
                Ok(()) => tell(&mut waiters),
                Err(fault) => {
                    tracing::error!(%fault, "calls cannot be recorded; they are refused");
                    waiters.clear();
                }
            }
        }
    }

    /// Waits for more while nobody waits for what there is: each commit wakes a thread, whoever waits for it or not.
    async fn gather(&self) {
        {
            let mut pending = self.desk.pending();
            if pending.stage == Stage::Hurried {
                return;
            }
            pending.stage = Stage::Gathering;
        }
        if timeout(GATHER_TIME, self.desk.hurry.notified()).await.is_err() {
            let mut pending = self.desk.pending();
            if pending.stage == Stage::Gathering {
                pending.stage = Stage::Writing;
            }
        }
    }

    /// Takes what there is, up to a commit's worth. False, and the turn is over: there is nothing.
    fn take(&mut self, entries: &mut Vec<Entry>, waiters: &mut Vec<Waiter>) -> bool {
        let mut pending = self.desk.pending();
        let count = pending.entries.len().min(CALLS_PER_COMMIT.saturating_sub(entries.len()));
        for (entry, waiter) in pending.entries.drain(..count) {
            entries.push(entry);
            waiters.extend(waiter);
        }
        self.over = entries.is_empty();
        if self.over {
            pending.stage = Stage::Idle;
            self.desk.idle.notify_waiters();
        }
        !self.over
    }
}

impl Drop for Turn {
    /// Cut short, when a thread ends: what it leaves is not recorded, and whoever waits for it is told so.
    fn drop(&mut self) {
        if !self.over {
            *self.desk.pending() = Pending::default();
            self.desk.idle.notify_waiters();
        }
    }
}

/// Tells all that their entries are written. Those of another thread are told there, by one task: each message to
/// another thread wakes it.
fn tell(waiters: &mut Vec<Waiter>) {
    while let Some(home) = waiters.first().map(|waiter| waiter.home.clone()) {
        let of_home: Vec<_> = waiters.extract_if(.., |waiter| waiter.home.id() == home.id()).collect();
        // Nobody waits who was cut off meanwhile.
        let tell = move || of_home.into_iter().for_each(|waiter| waiter.written.send(()).unwrap_or_default());
        if home.id() == Handle::current().id() {
            tell();
        } else {
            home.spawn(async move { tell() });
        }
    }
}

/// Rows of the audit, each of one kind.
fn rows(entries: impl Iterator<Item = Entry>) -> Vec<AuditEvent> {
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

/// One row. With one call, or calls of one agent only, it is about that agent. Calls that are the same in all that is
/// recorded of them are told once, with how many they were.
fn row(kind: AuditKind, entries: Vec<Entry>) -> AuditEvent {
    let mut event = AuditEvent::new(kind, ACTOR);
    let same = |first: &Entry| entries.iter().all(|entry| entry.agent == first.agent);
    event.agent = entries.first().filter(|first| same(first)).map(|first| first.agent.clone());
    let several = event.agent.is_none();
    let detail = |mut entry: Entry| {
        if several {
            entry.detail.insert_text("agent", entry.agent.as_str());
        }
        entry.detail
    };
    let mut calls: Vec<(Detail, u32)> = Vec::new();
    for detail in entries.into_iter().map(detail) {
        match calls.iter_mut().find(|(other, _)| *other == detail) {
            Some((_, times)) => *times += 1,
            None => calls.push((detail, 1)),
        }
    }
    let told = |(mut detail, times): (Detail, u32)| {
        if times > 1 {
            detail.insert("times", times);
        }
        detail
    };
    let calls: Vec<Detail> = calls.into_iter().map(told).collect();
    event.detail.insert_list("calls", &calls);
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::Lent;
    use async_trait::async_trait;
    use oauth3_core::{Execution, Fault, SecretName, Status, Store};
    use oauth3_vault::SecretBytes;
    use serde_json::json;
    use std::time::Duration;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::Semaphore;

    /// Writes when it is let, and keeps how many calls each commit had.
    struct Disk {
        lets: Semaphore,
        begun: Semaphore,
        commits: Mutex<Vec<usize>>,
    }

    #[async_trait]
    impl Backing for Disk {
        fn store(&self) -> &dyn Store {
            unreachable!("the journal reads nothing")
        }
        async fn lend(&self, _: &SecretName) -> Result<Lent, Fault> {
            unreachable!("the journal has no keys")
        }
        fn authority_seed(&self, _: &AgentName) -> Result<SecretBytes, Fault> {
            unreachable!("the journal has no keys")
        }
        async fn fresh(&self, _: &SecretName) -> Result<u32, Fault> {
            unreachable!("the journal has no keys")
        }
        async fn renew(&self, _: &SecretName, _: u32) -> Result<Option<u32>, Fault> {
            unreachable!("the journal has no keys")
        }
        async fn record(&self, events: &[AuditEvent]) -> Result<(), Fault> {
            self.begun.add_permits(1);
            self.lets.acquire().await.unwrap().forget();
            let calls = events.iter().flat_map(|event| event.detail.fields()["calls"].as_array().unwrap().clone());
            let times = calls.map(|call| call.get("times").map_or(1, |times| times.as_u64().unwrap() as usize));
            self.commits.lock().unwrap().push(times.sum());
            Ok(())
        }
        async fn record_and_move(&self, _: &[AuditEvent], _: &Execution, _: Status) -> Result<bool, Fault> {
            unreachable!("the journal moves nothing")
        }
    }

    fn disk() -> (Arc<Disk>, Journal) {
        let (lets, begun) = (Semaphore::new(0), Semaphore::new(0));
        let disk = Arc::new(Disk { lets, begun, commits: Mutex::default() });
        (disk.clone(), Journal::new(disk))
    }

    fn thread() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    fn entry() -> Entry {
        Entry { what: What::Called, agent: AgentName::parse("bot").unwrap(), detail: Detail::new() }
    }

    #[test]
    fn calls_that_are_the_same_are_told_once_with_how_many_they_were() {
        let call = |agent: &str, path: &str| {
            let mut detail = Detail::new();
            detail.insert_text("path", path);
            Entry { what: What::Called, agent: AgentName::parse(agent).unwrap(), detail }
        };
        let told = |entries: Vec<Entry>| {
            let [row] = &rows(entries.into_iter())[..] else { panic!("one row") };
            (row.agent.as_ref().map(ToString::to_string), row.detail.fields()["calls"].clone())
        };
        assert_eq!(
            told(vec![call("bot", "/a"), call("bot", "/b"), call("bot", "/a"), call("bot", "/a")]),
            (Some("bot".to_owned()), json!([{ "path": "/a", "times": 3 }, { "path": "/b" }]))
        );
        let of = |agent: &str| json!({ "path": "/a", "agent": agent });
        assert_eq!(told(vec![call("bot", "/a"), call("other", "/a")]), (None, json!([of("bot"), of("other")])));
        assert_eq!(rows((0..CALLS_PER_ROW + 1).map(|_| call("bot", "/a"))).len(), 2);
    }

    #[test]
    fn what_comes_from_other_threads_while_one_writes_is_one_commit() {
        let (disk, journal) = disk();
        let (one, other) = (thread(), thread());
        let record = |journal: &Journal| {
            let journal = journal.clone();
            async move { journal.record(entry()).await }
        };
        let first = one.spawn(record(&journal));
        one.block_on(disk.begun.acquire()).unwrap().forget();
        let more: Vec<_> = (0..6).map(|n| if n % 2 == 0 { &one } else { &other }.spawn(record(&journal))).collect();
        while journal.0.pending().entries.len() < 6 {
            std::thread::yield_now();
        }
        disk.lets.add_permits(2);
        for call in std::iter::once(first).chain(more) {
            assert!(other.block_on(call).unwrap());
        }
        assert_eq!(*disk.commits.lock().unwrap(), [1, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_gathered_until_its_time_has_come_or_somebody_waits() {
        let (disk, journal) = disk();
        disk.lets.add_permits(9);
        assert!(journal.note(entry()) && journal.note(entry()));
        tokio::time::sleep(GATHER_TIME / 2).await;
        assert!(journal.note(entry()));
        assert_eq!(*disk.commits.lock().unwrap(), [0; 0]);
        tokio::time::sleep(GATHER_TIME).await;
        assert_eq!(*disk.commits.lock().unwrap(), [3]);

        let begun = tokio::time::Instant::now();
        assert!(journal.note(entry()) && journal.note(entry()));
        assert!(journal.record(entry()).await);
        assert_eq!(*disk.commits.lock().unwrap(), [3, 3]);
        assert!(journal.note(entry()));
        journal.flush().await;
        assert_eq!(*disk.commits.lock().unwrap(), [3, 3, 1]);
        journal.flush().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited for a clock");
    }

    #[test]
    fn what_a_thread_leaves_unwritten_is_refused_and_the_next_goes_on() {
        let (disk, journal) = disk();
        let (one, other) = (thread(), thread());
        assert!(one.block_on(async { journal.note(entry()) }));
        one.block_on(disk.begun.acquire()).unwrap().forget();
        let waiting = other.spawn({
            let journal = journal.clone();
            async move { journal.record(entry()).await }
        });
        while journal.0.pending().entries.is_empty() {
            std::thread::yield_now();
        }
        one.shutdown_timeout(Duration::from_secs(30));
        assert!(!other.block_on(waiting).unwrap());
        disk.lets.add_permits(1);
        assert!(other.block_on(journal.record(entry())));
        assert_eq!(*disk.commits.lock().unwrap(), [1]);
    }
}
