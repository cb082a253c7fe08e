//! The socket file: made so that only its user can reach it, found again, and replaced when it is stale.

use crate::ApiError;
use data_encoding::HEXLOWER;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::fs::{DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Mode of a directory that is made for the socket.
const DIR_MODE: u32 = 0o700;
/// Mode of the socket.
const SOCKET_MODE: u32 = 0o600;
/// Longest path that the system takes for a socket, in bytes (`sun_path` with its final NUL); longer ones go
/// through the directory's descriptor.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Binds the owner's socket; makes its directory (0700) when it is not there. The socket has mode 0600 from the
/// first moment at which it can be reached. A stale socket, on which nobody answers, is replaced.
///
/// # Errors
/// [`ApiError::AlreadyRunning`] when somebody answers or binds at this moment, [`ApiError::NotASocket`] when
/// something else has the name, and what the system says.
pub async fn bind_owner_socket(path: &Path) -> Result<UnixListener, ApiError> {
    let (dir, name) = match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) if !dir.as_os_str().is_empty() => (dir, name),
        _ => return Err(ApiError::BadPath(path.to_owned())),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(dir)
        .map_err(ApiError::io("make the socket's directory"))?;
    // Held until the socket is in its place: of two that start at once, one sees the other.
    let dir_fd = open_dir(dir)?;
    if let Err(error) = flock(&dir_fd, FlockOperation::NonBlockingLockExclusive) {
        return match error {
            rustix::io::Errno::WOULDBLOCK => Err(ApiError::AlreadyRunning(path.to_owned())),
            error => Err(ApiError::Io { what: "lock the socket's directory", source: error.into() }),
        };
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ApiError::NotASocket(path.to_owned())),
        Ok(_) => match connect(path).await {
            Ok(_) => return Err(ApiError::AlreadyRunning(path.to_owned())),
            Err(ApiError::NotRunning) => {}
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(ApiError::Io { what: "look at the owner's socket", source: error }),
    }
    // Bound in a directory that nobody else can enter, given its mode, and then moved over: no moment at which
    // another user could connect, and no change of the umask, which all threads share.
    let nook = Nook::new(dir)?;
    let bound = nook.0.join("s");
    let (_keep, short) = short_path(&bound)?;
    let listener = UnixListener::bind(short).map_err(ApiError::io("bind the owner's socket"))?;
    std::fs::set_permissions(&bound, Permissions::from_mode(SOCKET_MODE))
        .map_err(ApiError::io("set the mode of the owner's socket"))?;
    std::fs::rename(&bound, dir.join(name)).map_err(ApiError::io("put the owner's socket in its place"))?;
    Ok(listener)
}

/// Connects to the owner's socket.
pub(super) async fn connect(path: &Path) -> Result<UnixStream, ApiError> {
    let (_keep, short) = match short_path(path) {
        Err(ApiError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Err(ApiError::NotRunning),
        other => other?,
    };
    UnixStream::connect(short).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ApiError::NotRunning,
        _ => ApiError::Io { what: "reach the owner's socket", source: error },
    })
}

/// A path that fits into a socket address, and what must live until it was used.
fn short_path(path: &Path) -> Result<(Option<OwnedFd>, PathBuf), ApiError> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return Ok((None, path.to_owned()));
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ApiError::BadPath(path.to_owned()));
    };
    let dir_fd = open_dir(dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir_fd.as_raw_fd())).join(name);
    Ok((Some(dir_fd), short))
}

fn open_dir(dir: &Path) -> Result<OwnedFd, ApiError> {
    open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| ApiError::Io { what: "open the socket's directory", source: error.into() })
}

/// A fresh directory of mode 0700, removed when dropped.
struct Nook(PathBuf);

impl Nook {
    fn new(dir: &Path) -> Result<Self, ApiError> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random)
            .map_err(|error| ApiError::io("get randomness")(std::io::Error::other(error.to_string())))?;
        let path = dir.join(format!(".socket-{}", HEXLOWER.encode(&random)));
        DirBuilder::new().mode(DIR_MODE).create(&path).map_err(ApiError::io("make a directory for the socket"))?;
        Ok(Self(path))
    }
}

impl Drop for Nook {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.0).is_err() {
            tracing::debug!("a directory that the owner's socket was bound in is left over");
        }
    }
}
