//! What can go wrong with keys and sealed values. No text here ever quotes a value.

use std::path::PathBuf;

/// Why the vault could not do what was asked. Each text says the mend where there is one.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The system gave no random bytes.
    #[error("the system gives no random bytes; nothing can be sealed")]
    Randomness,
    /// There is no key at the place where it belongs.
    #[error("there is no key at {0}; run `oauth3 init`, or put the key file of your backup there")]
    KeyMissing(PathBuf),
    /// There is a key already; it is never written over.
    #[error("{0} exists; it is never replaced, because what it sealed could not be read any more")]
    KeyExists(PathBuf),
    /// Somebody else could read the key file.
    #[error("{0} can be read by others; run `chmod 600 {0}`, and rotate its secrets if somebody may have")]
    KeyExposed(PathBuf),
    /// The key file or the parameters are not in the form that oauth3 writes.
    #[error("{0} is damaged or not a file of oauth3; restore it from a backup")]
    KeyMalformed(PathBuf),
    /// The data directory is set up for the other kind of key.
    #[error("{0} exists, so this data directory is set up for the other kind of key; choose that one")]
    OtherKeyKind(PathBuf),
    /// The passphrase is not the one that the vault was made with.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// A passphrase shorter than its bound.
    #[error("a passphrase has at least {0} bytes")]
    WeakPassphrase(usize),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The key derivation or a cipher refused its parameters.
    #[error("a cryptographic primitive failed: {0}")]
    Crypto(&'static str),
    /// The ciphertext, or something that it is bound to, is not what was sealed.
    #[error("secret {0} does not open: its row was changed, or it was sealed with another key; set it again")]
    Unsealable(String),
    /// The ciphertext has a format that this version does not know.
    #[error("secret {0} was sealed in a format that this version does not know; use the newer version")]
    UnknownFormat(String),
}
