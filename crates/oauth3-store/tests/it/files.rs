//! The files: modes, reopening, migrations, and what is no database.

use crate::support::{Files, KEY, at, execution, grant, sealed};
use oauth3_core::{AuditEvent, AuditKind, Store, Trust};
use oauth3_store::{SqliteStore, StoreError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn every_file_is_for_this_user_only() {
    let files = Files::new();
    let store = files.open().await;
    store.append_audit(&[AuditEvent::new(AuditKind::Started, "gateway")], at(1), &KEY).await.unwrap();
    assert_eq!(mode(&files.folder.path().join("data")), 0o700);
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(files.folder.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    seen.sort();
    assert_eq!(seen, ["audit_head", "oauth3.db", "oauth3.db-shm", "oauth3.db-wal"]);
}

#[tokio::test]
async fn a_file_that_others_could_read_is_closed_to_them() {
    let files = Files::new();
    files.open().await.close().await;
    std::fs::set_permissions(files.db(), std::fs::Permissions::from_mode(0o644)).unwrap();
    files.open().await.check().await.unwrap();
    assert_eq!(mode(&files.db()), 0o600);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let files = Files::new();
    let (request, standing, secret) =
        (execution("bot", b"code"), grant("bot", b"code", Trust::Forever), sealed("A_KEY", 1, b"sealed"));
    {
        let store = files.open().await;
        store.insert_execution(&request).await.unwrap();
        store.insert_grant(&standing).await.unwrap();
        store.put_secret(&secret).await.unwrap();
        store.set_kill_switch(true).await.unwrap();
        // Not closed: as after a crash, the WAL is all there is.
    }
    for _ in 0..2 {
        let store = files.open().await;
        assert_eq!(store.execution(&request.id).await.unwrap().as_ref(), Some(&request));
        assert_eq!(store.grants().await.unwrap(), std::slice::from_ref(&standing));
        assert_eq!(store.sealed_secret(&secret.record.name).await.unwrap().as_ref(), Some(&secret));
        assert!(store.kill_switch().await.unwrap());
        store.close().await;
    }
}

#[tokio::test]
async fn the_database_is_in_wal_mode() {
    let files = Files::new();
    files.open().await.close().await;
    let header = std::fs::read(files.db()).unwrap();
    // Bytes 18 and 19 of an SQLite file are 2 in WAL mode (file format, section 1.3.3).
    assert_eq!(header[18..20], [2, 2]);
}

#[tokio::test]
async fn what_is_no_database_is_refused_with_the_mend() {
    let files = Files::new();
    std::fs::create_dir(files.folder.path().join("data")).unwrap();
    std::fs::write(files.db(), "this is a diary and no database, and it is long enough to be read as one").unwrap();
    let error = SqliteStore::open(&files.db(), &files.head()).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(error.to_string().contains("check that it is an oauth3 database"), "{error}");
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let files = Files::new();
    files.open().await.close().await;
    files.tamper("INSERT INTO _sqlx_migrations VALUES (9999, 'future', CURRENT_TIMESTAMP, 1, x'00', 0)").await;
    let error = SqliteStore::open(&files.db(), &files.head()).await.unwrap_err();
    assert!(matches!(error, StoreError::Migrate { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let files = Files::new();
    std::fs::write(files.folder.path().join("data"), "a file in its place").unwrap();
    let error = SqliteStore::open(&files.db(), &files.head()).await.unwrap_err();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
}

#[tokio::test]
async fn a_wal_that_is_laid_out_holds_nothing_and_grows_no_more() {
    let files = Files::new();
    let store = files.open().await;
    let wal = files.db().with_extension("db-wal");
    let length = || std::fs::metadata(&wal).unwrap().len();
    let before = length();
    store.lay_out_wal().await.unwrap();
    let laid_out = length();
    assert!(before < 1 << 20 && (4_120_000..4_194_304).contains(&laid_out), "{before} {laid_out}");
    for number in 1..=300 {
        store.append_audit(&[AuditEvent::new(AuditKind::Started, "gateway")], at(number), &KEY).await.unwrap();
    }
    assert_eq!(length(), laid_out, "commits overwrite");
    store.lay_out_wal().await.unwrap();
    store.check().await.unwrap();

    // As after a power failure: what was committed is found before what is only long.
    let copy = Files::new();
    std::fs::create_dir_all(copy.db().parent().unwrap()).unwrap();
    for (from, to) in [(files.db(), copy.db()), (wal, copy.db().with_extension("db-wal")), (files.head(), copy.head())]
    {
        std::fs::copy(from, to).unwrap();
    }
    let report = copy.open().await.verify_audit(&KEY).await.unwrap();
    assert_eq!((report.rows, report.fault), (300, None));
}
