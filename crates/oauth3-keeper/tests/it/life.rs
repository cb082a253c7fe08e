//! How a keeper starts, whom it talks to, and how it ends.

use super::home::{Home, VALUE, new_secret, start, value};
use super::lane::TestLane;
use oauth3_core::{AuditEvent, AuditKind, Fault, Keeper, RequestId, Store};
use oauth3_dial::DialConfig;
use oauth3_keeper::{KeeperError, KeySource, create_key};
use oauth3_wire::GatewaySide;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tokio::net::UnixStream;

#[tokio::test]
async fn it_protects_itself_before_it_serves() {
    let _home = Home::new().await;
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    assert!(rustix::thread::no_new_privs().unwrap());
    assert_eq!(rustix::process::parent_process_death_signal().unwrap(), Some(rustix::process::Signal::KILL));
}

#[tokio::test]
async fn it_ends_when_its_gateway_hangs_up_and_takes_its_socket_along() {
    let home = Home::new().await;
    let socket = home.owner_socket();
    assert!(socket.exists());
    let (_dir, _store) = home.hang_up().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn without_a_good_key_nothing_is_served() {
    let refused = async |prepare: fn(&std::path::Path)| {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let (gateway, task) = start(&dir, DialConfig::default());
        let error = task.await.unwrap().expect_err("it must not start");
        assert!(matches!(gateway.ping().await, Err(Fault::Unavailable(_))));
        assert!(!dir.path().join("keeper.sock").exists());
        error.to_string()
    };
    assert!(refused(|_| ()).await.contains("oauth3 init"));
    let exposed = refused(|dir| {
        create_key(&KeySource::File { dir: dir.to_owned() }).unwrap();
        fs::set_permissions(dir.join("master.key"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert!(exposed.await.contains("chmod 600"));
    let open = refused(|dir| {
        create_key(&KeySource::File { dir: dir.to_owned() }).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    });
    assert!(open.await.contains("chmod 700"));
}

#[tokio::test]
async fn the_owners_socket_takes_values_and_little_else() {
    let home = Home::new().await;
    let socket = home.owner_socket();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let owner = GatewaySide::new(UnixStream::connect(&socket).await.unwrap());
    owner.ping().await.unwrap();
    // Whoever it says that it is, it is the command line.
    owner.put_secret(new_secret("API_KEY", &["api.example.com"]), value(VALUE)).await.unwrap();
    assert_eq!(home.rows().await.last().unwrap().event.actor, "cli");
    assert_eq!(owner.verify_audit().await.unwrap().fault, None);

    let id = home.request(|_| ()).await;
    let denied = |fault: Fault| assert!(matches!(fault, Fault::DeniedByPolicy(_)), "{fault}");
    denied(owner.audit(AuditEvent::new(AuditKind::Approved, "cli")).await.unwrap_err());
    denied(owner.open_run(&id, TestLane::new().1).await.unwrap_err());
    denied(owner.close_run(&RequestId::random().unwrap(), Vec::new()).await.unwrap_err());
    assert_eq!(home.kinds().await, ["started", "secret_changed"]);
}

#[tokio::test]
async fn junk_on_the_owners_socket_hurts_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let home = Home::new().await;
    let mut stream = UnixStream::connect(home.owner_socket()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: keeper\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(said.is_empty());
    home.keeper.ping().await.unwrap();
    GatewaySide::new(UnixStream::connect(home.owner_socket()).await.unwrap()).ping().await.unwrap();
}

#[tokio::test]
async fn a_second_keeper_does_not_take_over_and_a_dead_ones_socket_is_replaced() {
    let home = Home::new().await;
    let (_second, task) = start(&home.dir, DialConfig::default());
    assert!(matches!(task.await.unwrap(), Err(KeeperError::AlreadyRunning(_))));
    home.keeper.ping().await.unwrap();
    home.task.abort();
    home.keeper.closed().await;
    while UnixStream::connect(home.owner_socket()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Killed for real, it would not have cleaned up.
    drop(std::os::unix::net::UnixListener::bind(home.owner_socket()).unwrap());
    let (third, _task) = start(&home.dir, DialConfig::default());
    third.ping().await.unwrap();
    assert_eq!(home.store.audit_after(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn calls_at_once_leave_a_chain_that_holds() {
    let home = Home::new().await;
    let calls: Vec<_> = (0..40)
        .map(|n| {
            let keeper = home.keeper.clone();
            tokio::spawn(async move { keeper.audit(AuditEvent::new(AuditKind::Asked, format!("agent:{n}"))).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let report = home.keeper.verify_audit().await.unwrap();
    assert_eq!((report.rows, report.fault), (41, None));
}

/// Needs root, to be somebody else for a moment; without it the file modes alone keep others out.
#[tokio::test]
async fn another_user_gets_no_answer_even_where_file_modes_let_them() {
    use std::io::{Read, Write};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new().await;
    let socket = home.owner_socket();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let said = tokio::task::spawn_blocking(move || {
        std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
            let ping = br#"{"number":1,"body":"ping"}"#;
            let header = [26u32, 0, 0].map(u32::to_le_bytes).concat();
            // It may be hung up on before it said anything.
            let _ = stream.write_all(&[&header, &ping[..]].concat());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            said
        })
        .join()
        .unwrap()
    });
    assert_eq!(said.await.unwrap(), b"", "hung up on without a word");
    home.keeper.ping().await.unwrap();
}
