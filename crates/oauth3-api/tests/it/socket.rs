//! The socket file.

use oauth3_api::{ApiError, OwnerClient, bind_owner_socket};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn only_the_user_can_reach_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("made/here/owner.sock");
    let _listener = bind_owner_socket(&socket).await.unwrap();
    assert!(std::fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    // Nothing else is left in the directory.
    assert_eq!(std::fs::read_dir(socket.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_socket_on_which_somebody_answers_is_left_alone_and_a_stale_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("owner.sock");
    let first = bind_owner_socket(&socket).await.unwrap();
    let error = bind_owner_socket(&socket).await.unwrap_err();
    assert!(matches!(error, ApiError::AlreadyRunning(_)));
    assert!(error.to_string().contains("already running"));
    drop(first);
    assert!(socket.exists());
    assert!(!OwnerClient::is_running(&socket).await);
    let _second = bind_owner_socket(&socket).await.unwrap();
    assert!(matches!(bind_owner_socket(&socket).await, Err(ApiError::AlreadyRunning(_))));
}

#[test]
fn of_many_that_start_at_once_one_gets_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("owner.sock");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    drop(runtime().block_on(bind_owner_socket(&socket)).unwrap());
    let starts = (0..8).map(|_| {
        let socket = socket.clone();
        std::thread::spawn(move || {
            let runtime = runtime();
            // The runtime goes on with the listener: a dropped one would answer nobody.
            let listener = runtime.block_on(bind_owner_socket(&socket));
            listener.map(|listener| (runtime, listener))
        })
    });
    let starts: Vec<_> = starts.collect::<Vec<_>>().into_iter().map(|start| start.join().unwrap()).collect();
    assert_eq!(starts.iter().filter(|start| start.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_start_waits_for_no_other_start() {
    let dir = tempfile::tempdir().unwrap();
    let other = std::fs::File::open(dir.path()).unwrap();
    other.lock().unwrap();
    let socket = dir.path().join("owner.sock");
    assert!(matches!(bind_owner_socket(&socket).await, Err(ApiError::AlreadyRunning(_))));
    drop(other);
    assert!(bind_owner_socket(&socket).await.is_ok());
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("owner.sock");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(bind_owner_socket(&file).await, Err(ApiError::NotASocket(_))));
    let link = dir.path().join("link.sock");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(matches!(bind_owner_socket(&link).await, Err(ApiError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert!(matches!(bind_owner_socket(Path::new("owner.sock")).await, Err(ApiError::BadPath(_))));
}

#[tokio::test]
async fn a_path_longer_than_a_socket_address_works() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("d".repeat(100)).join("e".repeat(100)).join("owner.sock");
    assert!(!OwnerClient::is_running(&socket).await);
    let listener = bind_owner_socket(&socket).await.unwrap();
    assert_eq!(mode(&socket), 0o600);
    assert!(OwnerClient::is_running(&socket).await);
    listener.accept().await.unwrap();
}
