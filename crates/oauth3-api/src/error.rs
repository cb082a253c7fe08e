//! What can go wrong while opening or reaching a socket.

use std::path::PathBuf;

/// Why a socket could not be opened, served or reached. The text is for the owner.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody answers on the owner's socket, or is binding it at this moment.
    #[error("oauth3 is already running on {}; stop it first", .0.display())]
    AlreadyRunning(PathBuf),
    /// Nobody listens on the owner's socket.
    #[error("oauth3 is not running; start it with `oauth3 serve`")]
    NotRunning,
    /// Something that is not a socket has the socket's name.
    #[error("{} is there and is not a socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// The path names no file in a directory.
    #[error("{} cannot be a socket; name a file in a directory", .0.display())]
    BadPath(PathBuf),
    /// The operating system said no.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The answer.
        source: std::io::Error,
    },
}

impl ApiError {
    /// For `map_err`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
