//! Why the keeper cannot run.

use std::path::PathBuf;

/// Why the keeper did not start or had to end. Each text says the mend where there is one.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The process could not be protected; the key was not read.
    #[error("cannot {what} before the key is read: {source}")]
    Harden {
        /// The protection that failed.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory cannot be looked at.
    #[error("cannot use {path}: {source}; run `oauth3 init` first")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others can write to the data directory.
    #[error("others can write to {0}; run `chmod 700 {0}`")]
    OpenDataDir(PathBuf),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] oauth3_store::StoreError),
    /// The vault cannot be unlocked.
    #[error(transparent)]
    Vault(#[from] oauth3_vault::VaultError),
    /// The settings of outward connections are wrong.
    #[error(transparent)]
    Dial(#[from] oauth3_dial::DialError),
    /// What is known of identity providers cannot be read.
    #[error(transparent)]
    Identities(#[from] oauth3_provider::IdentityError),
    /// The audit chain cannot be written.
    #[error("cannot write the audit chain: {0}")]
    Audit(#[from] oauth3_core::Fault),
    /// The system gives no threads.
    #[error("cannot start the threads that serve traffic: {0}")]
    Threads(#[source] std::io::Error),
    /// The gateway's socket is none.
    #[error("the gateway's socket cannot be used: {0}; the keeper is started by `oauth3 serve`, not by hand")]
    Gateway(#[source] std::io::Error),
    /// The keeper's own socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    OwnerSocket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The API proxy has no place to be.
    #[error("cannot listen on {address} ([proxy] listen): {source}")]
    Proxy {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another keeper is at work.
    #[error("another keeper answers on {0}; end the other `oauth3 serve` first")]
    AlreadyRunning(PathBuf),
}
