//! The audit chain: each row's mac covers the row and the mac before it.
//!
//! An append never covers up what is wrong already. Where the head file is ahead of the table, the new row
//! goes on from the head; where it is missing or forged, one number is skipped. Both leave a gap that every
//! later check finds, while the gateway stays able to record what it does.

use crate::error::unavailable;
use crate::head::{self, Head};
use crate::store::Statement;
use crate::{SqliteStore, rows};
use oauth3_core::{AuditEvent, AuditMac, ChainReport, Digest, DigestBuilder, Fault, Timestamp};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite, SqliteConnection};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The mac before the first row.
const GENESIS: &str = "";
/// How long the head may be on its way to disk.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Rows that a check reads at once.
const PAGE_ROWS: i64 = 500;
/// Rows that one statement writes at most.
const ROWS_AT_ONCE: usize = 64;

/// The parts of a row that its mac covers, as stored.
struct Sealed<'a> {
    seq: i64,
    at: i64,
    kind: &'a [u8],
    actor: &'a [u8],
    request_id: Option<&'a [u8]>,
    agent: Option<&'a [u8]>,
    detail: &'a [u8],
}

impl Sealed<'_> {
    fn mac(&self, previous: &str, key: &dyn AuditMac) -> String {
        let optional = |value: Option<&[u8]>| value.map(<[u8]>::to_vec).into_iter().collect::<Vec<_>>();
        let digest = DigestBuilder::new("oauth3 audit row v1")
            .field(previous.as_bytes())
            .field(&self.seq.to_be_bytes())
            .field(&self.at.to_be_bytes())
            .field(self.kind)
            .field(self.actor)
            .list(optional(self.request_id).iter())
            .list(optional(self.agent).iter())
            .field(self.detail)
            .finish();
        Digest::from_bytes(key.mac(digest.as_bytes())).to_string()
    }
}

/// What is kept from one append to the next, as long as none failed.
#[derive(Debug, Default)]
pub(crate) struct Appender {
    /// Always the same one, whose pages of the table are in memory.
    connection: Option<PoolConnection<Sqlite>>,
    tail: Option<Tail>,
}

/// Where our own last append ended.
#[derive(Debug)]
struct Tail {
    seq: i64,
    mac: String,
    /// The head file as it was written then.
    head: Vec<u8>,
}

/// Appends rows and moves the head; gives the last row's number. With a statement, all of it happens only when the
/// statement changes one row: `None` says that it did not, and that nothing was written.
pub(crate) async fn append(
    store: &SqliteStore,
    events: &[AuditEvent],
    at: Timestamp,
    key: &dyn AuditMac,
    only_with: Option<Statement<'_>>,
) -> Result<Option<i64>, Fault> {
    let mut turn = store.append_turn.lock().await;
    // Whatever goes wrong from here on, the next append begins anew.
    let Appender { connection, tail } = std::mem::take(&mut *turn);
    let mut connection = match connection {
        Some(connection) => connection,
        None => store.pool.acquire().await.map_err(unavailable)?,
    };
    if let (Some(tail), None) = (tail, &only_with)
        && let Some(rows) = go_on(store, &mut connection, events, at, key, tail).await?
    {
        let (seq, tail) = finish(store, rows, key);
        *turn = Appender { connection: Some(connection), tail };
        return Ok(Some(seq));
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
    if let Some(statement) = only_with
        && statement.execute(&mut *tx).await.map_err(unavailable)?.rows_affected() != 1
    {
        return Ok(None);
    }
    let last: Option<(i64, String)> = sqlx::query_as("SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *tx)
        .await
        .map_err(unavailable)?;
    let head = head::read(&store.audit_head, key).map_err(unavailable)?;
    if last.is_none() && head == Head::Missing {
        // Without this, a crash before the first head is written would look like a removed head.
        head::create(&store.audit_head, 0, GENESIS, key).map_err(unavailable)?;
    }
    let rows = Rows::new(events, at, follow(last, head), key);
    for some in rows.rows.chunks(ROWS_AT_ONCE) {
        insert(some).build().execute(&mut *tx).await.map_err(unavailable)?;
    }
    tx.commit().await.map_err(unavailable)?;
    let (seq, tail) = finish(store, rows, key);
    *turn = Appender { connection: Some(connection), tail };
    Ok(Some(seq))
}

/// Appends where our own last append ended, in one statement: each is a way to another thread and back. Nothing when
/// the table or the head is not as that append left it, and nothing was written.
async fn go_on<'a>(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    events: &'a [AuditEvent],
    at: Timestamp,
    key: &dyn AuditMac,
    tail: Tail,
) -> Result<Option<Rows<'a>>, Fault> {
    if events.is_empty() || events.len() > ROWS_AT_ONCE || !head::is(&store.audit_head, &tail.head) {
        return Ok(None);
    }
    let rows = Rows::new(events, at, (tail.seq.saturating_add(1), tail.mac), key);
    let mut statement = insert(&rows.rows);
    statement.push(" WHERE (SELECT max(seq) FROM audit) = ").push_bind(tail.seq);
    let written = statement.build().execute(connection).await.map_err(unavailable)?.rows_affected();
    Ok((written > 0).then_some(rows))
}

/// The rows are durable. A head that stays behind is made good by the next append. The last row's number, and where the
/// next append may go on.
fn finish(store: &SqliteStore, rows: Rows<'_>, key: &dyn AuditMac) -> (i64, Option<Tail>) {
    let Rows { seq, mac, .. } = rows;
    let written = match head::write(&store.audit_head, seq, &mac, key) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => head::create(&store.audit_head, seq, &mac, key),
        other => other,
    };
    match written {
        Ok(head) => {
            sync_soon(store);
            (seq, Some(Tail { seq, mac, head }))
        }
        Err(cause) => {
            tracing::error!(%cause, "cannot write the audit head");
            (seq, None)
        }
    }
}

/// Brings the head to disk within a second. Not at each append: the rows are there, and what a power failure could
/// take of the head the next append makes good.
fn sync_soon(store: &SqliteStore) {
    if store.head_syncs.swap(true, Ordering::SeqCst) {
        return;
    }
    let (path, syncs) = (store.audit_head.clone(), Arc::clone(&store.head_syncs));
    tokio::spawn(async move {
        tokio::time::sleep(SYNC_AFTER).await;
        syncs.store(false, Ordering::SeqCst);
        if let Ok(Err(cause)) = tokio::task::spawn_blocking(move || head::sync(&path)).await {
            tracing::error!(%cause, "cannot bring the audit head to disk");
        }
    });
}

/// Rows that are to be inserted, with the number and the mac of the last.
struct Rows<'a> {
    rows: Vec<Written<'a>>,
    seq: i64,
    mac: String,
}

impl<'a> Rows<'a> {
    /// From this number on, the first after this mac.
    fn new(events: &'a [AuditEvent], at: Timestamp, (first, mut mac): (i64, String), key: &dyn AuditMac) -> Self {
        let (mut seq, mut rows) = (first.saturating_sub(1), Vec::with_capacity(events.len()));
        for (event, number) in events.iter().zip(first..) {
            let row = Written::new(event, number, at, &mac, key);
            (seq, mac) = (number, row.mac.clone());
            rows.push(row);
        }
        Self { rows, seq, mac }
    }
}

/// A row that is to be inserted.
struct Written<'a> {
    seq: i64,
    at: i64,
    event: &'a AuditEvent,
    mac: String,
}

impl<'a> Written<'a> {
    fn new(event: &'a AuditEvent, seq: i64, at: Timestamp, previous: &str, key: &dyn AuditMac) -> Self {
        let sealed = Sealed {
            seq,
            at: at.millis(),
            kind: event.kind.as_str().as_bytes(),
            actor: event.actor.as_bytes(),
            request_id: event.request_id.as_ref().map(|id| id.as_str().as_bytes()),
            agent: event.agent.as_ref().map(|name| name.as_str().as_bytes()),
            detail: event.detail.as_str().as_bytes(),
        };
        let mac = sealed.mac(previous, key);
        Self { seq, at: at.millis(), event, mac }
    }
}

/// Writes these rows, under a condition that may be put behind.
fn insert(rows: &[Written<'_>]) -> QueryBuilder<Sqlite> {
    let columns = "INSERT INTO audit (seq, at, kind, actor, request_id, agent, detail, mac) SELECT * FROM (";
    let mut statement = QueryBuilder::new(columns);
    statement.push_values(rows, |mut values, row| {
        values
            .push_bind(row.seq)
            .push_bind(row.at)
            .push_bind(row.event.kind.as_str().to_owned())
            .push_bind(row.event.actor.clone())
            .push_bind(row.event.request_id.as_ref().map(|id| id.as_str().to_owned()))
            .push_bind(row.event.agent.as_ref().map(|name| name.as_str().to_owned()))
            .push_bind(row.event.detail.as_str().to_owned())
            .push_bind(row.mac.clone());
    });
    statement.push(")");
    statement
}

/// The number of the next row, and the mac that it follows.
fn follow(last: Option<(i64, String)>, head: Head) -> (i64, String) {
    let (last_seq, last_mac) = last.unwrap_or((0, GENESIS.to_owned()));
    match head {
        Head::At(seq, mac) if seq > last_seq => (seq.saturating_add(1), mac),
        Head::At(..) => (last_seq.saturating_add(1), last_mac),
        Head::Missing if last_seq == 0 => (1, last_mac),
        Head::Missing | Head::Forged => {
            tracing::error!("the audit head is missing or forged; a gap in the chain marks it");
            (last_seq.saturating_add(2), last_mac)
        }
    }
}

/// Reads the whole chain and names the first thing that is wrong.
pub(crate) async fn verify(store: &SqliteStore, key: &dyn AuditMac) -> Result<ChainReport, Fault> {
    // The head first: rows that come while this reads are after it.
    let head = head::read(&store.audit_head, key).map_err(unavailable)?;
    let mut last = 0i64;
    let mut last_mac = GENESIS.to_owned();
    let mut mac_at_head = matches!(head, Head::At(0, _)).then(|| GENESIS.to_owned());
    loop {
        // As blobs: whatever bytes somebody put there are compared, not decoded.
        let page = sqlx::query(
            "SELECT seq, at, CAST(kind AS BLOB) AS kind, CAST(actor AS BLOB) AS actor,
                    CAST(request_id AS BLOB) AS request_id, CAST(agent AS BLOB) AS agent,
                    CAST(detail AS BLOB) AS detail, CAST(mac AS BLOB) AS mac
             FROM audit WHERE seq > ?1 OR (?1 = 0 AND seq <= 0) ORDER BY seq LIMIT ?2",
        )
        .bind(last)
        .bind(PAGE_ROWS)
        .fetch_all(&store.pool)
        .await
        .map_err(unavailable)?;
        if page.is_empty() {
            break;
        }
        for row in &page {
            let expected = last.saturating_add(1);
            let seq: i64 = rows::column(row, "seq")?;
            if seq != expected {
                return Ok(broken(last, gap(expected, seq)));
            }
            last_mac = match recompute(row, seq, &last_mac, key) {
                Ok(mac) if mac.as_bytes() == row.try_get::<&[u8], _>("mac").map_err(unavailable)? => mac,
                _ => return Ok(broken(expected, format!("row {seq} was edited, replaced or moved"))),
            };
            last = seq;
            if matches!(head, Head::At(at, _) if at == seq) {
                mac_at_head = Some(last_mac.clone());
            }
        }
    }
    let fault = match head {
        Head::Missing if last == 0 => None,
        Head::Missing => Some("the head file is missing".to_owned()),
        Head::Forged => Some("the head file was not written by this keeper".to_owned()),
        Head::At(seq, _) if seq > last => Some(format!("the tail is cut off: rows {} to {seq} are missing", last + 1)),
        Head::At(seq, mac) if mac_at_head.as_deref() != Some(mac.as_str()) => {
            Some(format!("row {seq} is not the one that the head file names"))
        }
        Head::At(..) => None,
    };
    Ok(ChainReport { rows: last, fault })
}

fn recompute(row: &SqliteRow, seq: i64, previous: &str, key: &dyn AuditMac) -> Result<String, Fault> {
    let sealed = Sealed {
        seq,
        at: rows::column(row, "at")?,
        kind: rows::column(row, "kind")?,
        actor: rows::column(row, "actor")?,
        request_id: rows::column(row, "request_id")?,
        agent: rows::column(row, "agent")?,
        detail: rows::column(row, "detail")?,
    };
    Ok(sealed.mac(previous, key))
}

fn gap(expected: i64, found: i64) -> String {
    if found < expected {
        format!("row {found} does not belong to the chain")
    } else if found == expected.saturating_add(1) {
        format!("row {expected} is missing")
    } else {
        format!("rows {expected} to {} are missing", found.saturating_sub(1))
    }
}

const fn broken(rows: i64, fault: String) -> ChainReport {
    ChainReport { rows, fault: Some(fault) }
}
