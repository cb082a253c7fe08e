//! What goes wrong with the store, for the owner ([`StoreError`]) and for callers ([`Fault`]).

use oauth3_core::Fault;
use std::fmt;
use std::path::PathBuf;

/// Why the store could not be opened. Each text says the mend.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder of the database or of the audit head cannot be made.
    #[error("cannot create {path}: {source}; create it yourself or choose another data directory")]
    Directory {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database file cannot be made or made private.
    #[error("cannot create {path} for this user only: {source}; check who owns it and its folder")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite cannot work with the file.
    #[error("cannot open the database {path}: {source}; check that it is an oauth3 database that this user may write")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The tables cannot be brought to this version.
    #[error("cannot bring the database {path} up to date: {source}; if a newer oauth3 wrote it, use that one")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: sqlx::migrate::MigrateError,
    },
}

/// Logs the cause and makes the fault that callers get. Causes are SQLite's own words or fixed sentences, never values.
pub(crate) fn unavailable(cause: impl fmt::Display) -> Fault {
    tracing::error!(%cause, "the store does not answer");
    Fault::Unavailable("the store does not answer".to_owned())
}
