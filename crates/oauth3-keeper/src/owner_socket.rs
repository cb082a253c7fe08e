//! The keeper's own socket, through which the owner's command line hands values in past the gateway.

use crate::KeeperError;
use oauth3_wire::{Handler, Role, serve};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 16;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket. Dropping it removes the file.
pub(crate) struct OwnerSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl OwnerSocket {
    /// Binds it, 0600, in the place of one that nobody listens on any more.
    pub(crate) async fn bind(path: &Path) -> Result<Self, KeeperError> {
        let failed = |source| KeeperError::OwnerSocket { path: path.to_owned(), source };
        if UnixStream::connect(path).await.is_ok() {
            return Err(KeeperError::AlreadyRunning(path.to_owned()));
        }
        if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
            fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { listener, path: path.to_owned() };
        // Who connects in between is asked who they are all the same.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(socket)
    }

    /// Serves connections of this user, for ever.
    pub(crate) async fn serve(self, handler: Arc<dyn Handler>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(kind = %error.kind(), "cannot accept on the keeper's socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match is_own_user(&stream) {
                Ok(true) => {
                    let handler = Arc::clone(&handler);
                    while connections.try_join_next().is_some() {}
                    connections.spawn(async move {
                        serve(stream, Role::Owner, handler).await;
                        drop(place);
                    });
                }
                Ok(false) => tracing::warn!("another user knocked at the keeper's socket"),
                Err(error) => tracing::warn!(%error, "cannot tell who knocks at the keeper's socket"),
            }
        }
    }
}

impl Drop for OwnerSocket {
    fn drop(&mut self) {
        // The next keeper removes it otherwise.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_own_user(stream: &UnixStream) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.uid == rustix::process::geteuid())
}
