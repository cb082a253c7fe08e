//! The audit chain: what `audit verify` finds, and what it forgives.

use crate::support::{Files, KEY, TestMac, agent, at, execution};
use oauth3_core::{AuditEvent, AuditKind, ChainReport, Execution, Status, Store};
use oauth3_store::SqliteStore;

/// A chain of five rows.
async fn chain(files: &Files) -> SqliteStore {
    let store = files.open().await;
    for n in 1..=5 {
        assert_eq!(append(&store, n).await, n);
    }
    store
}

async fn append(store: &SqliteStore, n: i64) -> i64 {
    let event = AuditEvent::new(AuditKind::Asked, "agent:bot")
        .agent(&agent("bot"))
        .request(&execution("bot", b"code").id)
        .with("zebra", n)
        .with("ant", serde_json::json!({"host": "api.example.com"}));
    store.append_audit(&[event], at(n * 1_000), &KEY).await.unwrap()
}

async fn report(store: &SqliteStore) -> ChainReport {
    store.verify_audit(&KEY).await.unwrap()
}

async fn fault(store: &SqliteStore) -> String {
    report(store).await.fault.unwrap()
}

#[tokio::test]
async fn an_honest_chain_holds_and_reads_back() {
    let files = Files::new();
    let store = files.open().await;
    assert_eq!(report(&store).await, ChainReport { rows: 0, fault: None });
    assert_eq!(store.audit_head().await.unwrap(), 0);
    store.close().await;

    let store = chain(&files).await;
    assert_eq!(report(&store).await, ChainReport { rows: 5, fault: None });
    assert_eq!(store.audit_head().await.unwrap(), 5);
    let rows = store.audit_after(3, 1).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].seq, rows[0].at), (4, at(4_000)));
    assert_eq!(rows[0].event.kind, AuditKind::Asked);
    assert_eq!(rows[0].event.agent, Some(agent("bot")));
    assert_eq!(rows[0].event.detail.fields().keys().collect::<Vec<_>>(), ["zebra", "ant"]);
    assert_eq!(rows[0].mac.len(), 64);
    assert_eq!(store.audit_after(0, 100).await.unwrap().len(), 5);

    let event = AuditEvent::new(AuditKind::Started, "keeper");
    store.append_audit(std::slice::from_ref(&event), at(9), &KEY).await.unwrap();
    assert_eq!(store.audit_after(5, 9).await.unwrap()[0].event, event, "without subject or detail");
    store.close().await;
    assert_eq!(report(&files.open().await).await, ChainReport { rows: 6, fault: None });
}

#[tokio::test]
async fn a_chain_longer_than_a_page_holds() {
    let files = Files::new();
    let store = files.open().await;
    for n in 1..=501 {
        append(&store, n).await;
    }
    assert_eq!(report(&store).await, ChainReport { rows: 501, fault: None });
}

#[tokio::test]
async fn every_edit_of_a_row_is_found() {
    let edits = [
        "UPDATE audit SET at = at + 1 WHERE seq = 3",
        "UPDATE audit SET kind = 'approved' WHERE seq = 3",
        "UPDATE audit SET kind = 'no such kind' WHERE seq = 3",
        "UPDATE audit SET actor = 'cli' WHERE seq = 3",
        "UPDATE audit SET actor = CAST(x'ff' AS TEXT) WHERE seq = 3",
        "UPDATE audit SET request_id = NULL WHERE seq = 3",
        "UPDATE audit SET request_id = '' WHERE seq = 3",
        "UPDATE audit SET agent = NULL WHERE seq = 3",
        "UPDATE audit SET agent = 'other' WHERE seq = 3",
        // A value moved from one column to the next.
        "UPDATE audit SET request_id = agent, agent = request_id WHERE seq = 3",
        "UPDATE audit SET detail = '{}' WHERE seq = 3",
        "UPDATE audit SET detail = detail || ' ' WHERE seq = 3",
        "UPDATE audit SET mac = 'f' || substr(mac, 2) || 'f' WHERE seq = 3",
        "UPDATE audit SET mac = (SELECT mac FROM audit WHERE seq = 2) WHERE seq = 3",
    ];
    for edit in edits {
        let files = Files::new();
        let store = chain(&files).await;
        files.tamper(edit).await;
        assert_eq!(report(&store).await.fault.as_deref(), Some("row 3 was edited, replaced or moved"), "{edit}");
    }
}

#[tokio::test]
async fn removed_inserted_and_reordered_rows_are_found() {
    let cases = [
        ("DELETE FROM audit WHERE seq = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE seq = 1", "row 1 is missing"),
        ("DELETE FROM audit WHERE seq IN (2, 3)", "rows 2 to 3 are missing"),
        ("DELETE FROM audit", "the tail is cut off: rows 1 to 5 are missing"),
        ("DELETE FROM audit WHERE seq > 3", "the tail is cut off: rows 4 to 5 are missing"),
        // Closing the gap does not help.
        ("DELETE FROM audit WHERE seq = 3; UPDATE audit SET seq = seq - 1 WHERE seq > 3", "row 3 was edited"),
        (
            "UPDATE audit SET seq = 99 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;
             UPDATE audit SET seq = 3 WHERE seq = 99",
            "row 2 was edited",
        ),
        (
            "INSERT INTO audit SELECT 6, at, kind, actor, request_id, agent, detail, mac FROM audit WHERE seq = 5",
            "row 6 was",
        ),
        (
            "INSERT INTO audit SELECT 0, at, kind, actor, request_id, agent, detail, mac FROM audit WHERE seq = 5",
            "row 0 does",
        ),
        (
            "INSERT INTO audit SELECT -4, at, kind, actor, request_id, agent, detail, mac FROM audit WHERE seq = 5",
            "row -4",
        ),
    ];
    for (sql, expected) in cases {
        let files = Files::new();
        let store = chain(&files).await;
        files.tamper(sql).await;
        let found = fault(&store).await;
        assert!(found.starts_with(expected), "{sql}: {found}");
    }
}

#[tokio::test]
async fn a_chain_of_another_key_does_not_hold() {
    let files = Files::new();
    let store = chain(&files).await;
    assert!(store.verify_audit(&TestMac("another key")).await.unwrap().fault.is_some());
}

#[tokio::test]
async fn a_missing_or_forged_head_is_found() {
    let forgeries: [fn(&str) -> String; 5] = [
        |_| String::new(),
        |_| "{}".into(),
        |text| text.replace("\"seq\":5", "\"seq\":4"),
        |text| text.replace("\"seal\":\"", "\"seal\":\"0"),
        |text| text.replace("\"seq\"", "\"more\":1,\"seq\""),
    ];
    for forge in forgeries {
        let files = Files::new();
        let store = chain(&files).await;
        let text = std::fs::read_to_string(files.head()).unwrap();
        assert_ne!(forge(&text), text);
        std::fs::write(files.head(), forge(&text)).unwrap();
        assert_eq!(fault(&store).await, "the head file was not written by this keeper");
    }
    let files = Files::new();
    let store = chain(&files).await;
    std::fs::remove_file(files.head()).unwrap();
    assert_eq!(fault(&store).await, "the head file is missing");
}

#[tokio::test]
async fn a_head_of_another_history_is_found() {
    let (files, other) = (Files::new(), Files::new());
    let store = chain(&files).await;
    chain(&other).await;
    std::fs::copy(other.head(), files.head()).unwrap();
    assert_eq!(fault(&store).await, "row 5 is not the one that the head file names");
}

#[tokio::test]
async fn a_head_that_a_crash_left_behind_is_forgiven_and_made_good() {
    let files = Files::new();
    let store = chain(&files).await;
    let behind = std::fs::read(files.head()).unwrap();
    append(&store, 6).await;
    append(&store, 7).await;
    std::fs::write(files.head(), &behind).unwrap();
    assert_eq!(report(&store).await, ChainReport { rows: 7, fault: None });

    // But not for rows that the keeper did not write.
    files.tamper("UPDATE audit SET actor = 'cli' WHERE seq = 7").await;
    assert_eq!(fault(&store).await, "row 7 was edited, replaced or moved");
    files.tamper("UPDATE audit SET actor = 'agent:bot' WHERE seq = 7").await;

    append(&store, 8).await;
    assert_eq!(report(&store).await, ChainReport { rows: 8, fault: None });
    files.tamper("DELETE FROM audit WHERE seq = 8").await;
    assert_eq!(fault(&store).await, "the tail is cut off: rows 8 to 8 are missing", "the head moved on");
}

#[tokio::test]
async fn a_crash_before_the_first_head_is_forgiven() {
    let files = Files::new();
    let store = files.open().await;
    // The row does not arrive; the head that is written before it does.
    files.tamper("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END").await;
    assert!(store.append_audit(&[AuditEvent::new(AuditKind::Started, "keeper")], at(1), &KEY).await.is_err());
    let genesis = std::fs::read_to_string(files.head()).unwrap();
    assert_eq!(report(&store).await, ChainReport { rows: 0, fault: None });
    files.tamper("DROP TRIGGER full").await;
    append(&store, 1).await;
    std::fs::write(files.head(), genesis).unwrap();
    assert_eq!(report(&store).await, ChainReport { rows: 1, fault: None });
}

#[tokio::test]
async fn what_was_found_once_is_still_found_after_more_appends() {
    let cut: fn(&Files) = |_| ();
    let lose: fn(&Files) = |files| std::fs::remove_file(files.head()).unwrap();
    let forge: fn(&Files) = |files| std::fs::write(files.head(), "{}").unwrap();
    let cases = [
        ("DELETE FROM audit WHERE seq > 3", cut, "rows 4 to 5 are missing"),
        ("DELETE FROM audit WHERE seq > 3", lose, "row 4 is missing"),
        ("DELETE FROM audit WHERE seq > 3", forge, "row 4 is missing"),
        ("SELECT 1", lose, "row 6 is missing"),
        ("DELETE FROM audit", cut, "rows 1 to 5 are missing"),
        ("DELETE FROM audit", forge, "row 1 is missing"),
    ];
    for (sql, harm, expected) in cases {
        let files = Files::new();
        let store = chain(&files).await;
        files.tamper(sql).await;
        harm(&files);
        assert!(report(&store).await.fault.is_some(), "{sql}");
        append(&store, 8).await;
        append(&store, 9).await;
        assert_eq!(fault(&store).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn rows_and_a_move_happen_together_or_not_at_all() {
    let files = Files::new();
    let store = chain(&files).await;
    let stored = execution("bot", b"code");
    store.insert_execution(&stored).await.unwrap();
    let taken = Execution { status: Status::Executing, ..stored.clone() };
    let events = [AuditKind::Granted, AuditKind::RunOpened].map(|kind| AuditEvent::new(kind, "keeper"));
    let try_from = async |from| store.append_audit_and_transition(&events, at(9), &KEY, &taken, from).await.unwrap();

    assert!(!try_from(Status::AwaitingSecrets).await);
    assert_eq!(store.execution(&stored.id).await.unwrap(), Some(stored.clone()));
    assert_eq!(report(&store).await, ChainReport { rows: 5, fault: None });
    assert!(try_from(stored.status).await);
    assert_eq!(store.execution(&stored.id).await.unwrap().unwrap().status, Status::Executing);
    assert_eq!(report(&store).await, ChainReport { rows: 7, fault: None });
    assert!(!try_from(stored.status).await, "a second time");
    assert_eq!(append(&store, 8).await, 8, "the chain goes on");
    assert_eq!(report(&store).await, ChainReport { rows: 8, fault: None });
}
