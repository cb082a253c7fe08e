//! Two stores on one file, as gateway and keeper have it.

use crate::support::{Files, KEY, agent, at, execution};
use oauth3_core::{AuditEvent, AuditKind, Execution, Status, Store};
use oauth3_store::SqliteStore;
use std::sync::Arc;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_new_file_at_once() {
    let files = Files::new();
    let mut openings = JoinSet::new();
    for _ in 0..6 {
        let (db, head) = (files.db(), files.head());
        openings.spawn(async move { SqliteStore::open(&db, &head).await.unwrap().check().await.unwrap() });
    }
    assert_eq!(openings.join_all().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_transitions_one_wins() {
    let files = Files::new();
    let stores = [Arc::new(files.open().await), Arc::new(files.open().await)];
    let pending = execution("bot", b"code");
    stores[0].insert_execution(&pending).await.unwrap();
    let mut race = JoinSet::new();
    for (n, status) in [Status::Approved, Status::Denied, Status::Cancelled].into_iter().cycle().take(24).enumerate() {
        let store = stores[n % 2].clone();
        let next = Execution { status, decided_by: Some(n.to_string()), ..pending.clone() };
        race.spawn(async move { store.transition(&next, Status::Pending).await.unwrap().then_some(next) });
    }
    let winners: Vec<Execution> = race.join_all().await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1);
    for store in &stores {
        assert_eq!(store.execution(&pending.id).await.unwrap().as_ref(), winners.first());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_of_both_all_arrive() {
    const EACH: i64 = 25;
    let files = Files::new();
    let stores = [Arc::new(files.open().await), Arc::new(files.open().await)];
    let mut writers = JoinSet::new();
    for n in 0..EACH * 2 {
        let store = stores[usize::try_from(n % 2).unwrap()].clone();
        writers.spawn(async move {
            store.insert_execution(&execution("bot", b"the same code")).await.unwrap();
            store.append_audit(&[AuditEvent::new(AuditKind::Asked, "agent:bot")], at(n), &KEY).await.unwrap();
        });
    }
    writers.join_all().await;
    for store in &stores {
        assert_eq!(store.executions(&[], 1_000).await.unwrap().len(), 50);
        assert_eq!(store.open_count(&agent("bot")).await.unwrap(), 50);
        let report = store.verify_audit(&KEY).await.unwrap();
        assert_eq!((report.rows, report.fault), (EACH * 2, None));
    }
}
