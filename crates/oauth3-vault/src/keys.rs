//! Where the master key comes from: a file that only the owner can read, or a passphrase.

use crate::{SecretBytes, VaultError};
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 32;
/// Shortest passphrase, in bytes.
pub const MIN_PASSPHRASE_BYTES: usize = 12;
/// Bytes of the passphrase's salt (RFC 9106 §3.1 recommends 16).
const SALT_BYTES: usize = 16;
/// Argon2id's cost: 64 MiB, three passes (RFC 9106 §4, second recommended option, on one lane).
const ARGON_MEMORY_KIB: u32 = 64 << 10;
const ARGON_PASSES: u32 = 3;
const ARGON_LANES: u32 = 1;
/// Costs that a parameter file may name: below it is no protection, above it is an attack on our memory.
const ARGON_MEMORY_KIB_RANGE: std::ops::RangeInclusive<u32> = (19 << 10)..=(1 << 20);
const ARGON_PASSES_RANGE: std::ops::RangeInclusive<u32> = 1..=16;
const ARGON_LANES_RANGE: std::ops::RangeInclusive<u32> = 1..=16;
/// Largest key or parameter file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 10;
/// What a key file begins with; the key in hex and a newline follow.
const KEY_FILE_HEADER: &str = "oauth3-master-key-1 ";
/// Names inside the data directory.
const KEY_FILE: &str = "master.key";
const PARAMETER_FILE: &str = "vault.json";

/// Where the master key comes from.
#[derive(Clone)]
pub enum KeySource {
    /// `master.key` in the data directory, readable by its owner only.
    File {
        /// The data directory.
        dir: PathBuf,
    },
    /// A passphrase, stretched by Argon2id with the parameters in `vault.json` of the data directory.
    Passphrase {
        /// The data directory.
        dir: PathBuf,
        /// The passphrase.
        passphrase: Zeroizing<String>,
    },
}

impl KeySource {
    /// Makes a new random key, or new passphrase parameters, on disk when this returns.
    ///
    /// # Errors
    /// When there is one of either kind already, the passphrase is shorter than [`MIN_PASSPHRASE_BYTES`], or the
    /// directory cannot be written.
    pub fn create(&self) -> Result<(), VaultError> {
        match self {
            Self::File { dir } => {
                refuse_other(&dir.join(PARAMETER_FILE))?;
                let key = random_key()?;
                let hex = Zeroizing::new(HEXLOWER.encode(key.as_ref()));
                let text = Zeroizing::new(format!("{KEY_FILE_HEADER}{}\n", *hex));
                write_new(&dir.join(KEY_FILE), text.as_bytes())
            }
            Self::Passphrase { dir, passphrase } => {
                refuse_other(&dir.join(KEY_FILE))?;
                if passphrase.len() < MIN_PASSPHRASE_BYTES {
                    return Err(VaultError::WeakPassphrase(MIN_PASSPHRASE_BYTES));
                }
                let mut salt = [0u8; SALT_BYTES];
                getrandom::fill(&mut salt).map_err(|_| VaultError::Randomness)?;
                let mut parameters = Parameters {
                    format: 1,
                    kdf: Kdf::Argon2id,
                    memory_kib: ARGON_MEMORY_KIB,
                    passes: ARGON_PASSES,
                    lanes: ARGON_LANES,
                    salt: HEXLOWER.encode(&salt),
                    verifier: String::new(),
                };
                let path = dir.join(PARAMETER_FILE);
                let key = parameters.stretch(passphrase, &path)?;
                parameters.verifier = HEXLOWER.encode(verifier(&key)?.as_ref());
                let text = serde_json::to_vec_pretty(&parameters).map_err(|e| file_error(&path, e.into()))?;
                write_new(&path, &text)
            }
        }
    }

    /// Whether the key file or the parameters are there.
    #[must_use]
    pub fn exists(&self) -> bool {
        match self {
            Self::File { dir } => dir.join(KEY_FILE).exists(),
            Self::Passphrase { dir, .. } => dir.join(PARAMETER_FILE).exists(),
        }
    }

    /// Reads or derives the master key. A passphrase takes a moment and 64 MiB by design.
    pub(crate) fn master_key(&self) -> Result<SecretBytes, VaultError> {
        match self {
            Self::File { dir } => {
                let path = dir.join(KEY_FILE);
                if !path.exists() {
                    refuse_other(&dir.join(PARAMETER_FILE))?;
                }
                read_key_file(&path)
            }
            Self::Passphrase { dir, passphrase } => {
                let path = dir.join(PARAMETER_FILE);
                if !path.exists() {
                    refuse_other(&dir.join(KEY_FILE))?;
                }
                let text = read_small(open(&path)?, &path)?;
                let parameters: Parameters =
                    serde_json::from_slice(&text).map_err(|_| VaultError::KeyMalformed(path.clone()))?;
                let expected = HEXLOWER
                    .decode(parameters.verifier.as_bytes())
                    .map_err(|_| VaultError::KeyMalformed(path.clone()))?;
                let key = parameters.stretch(passphrase, &path)?;
                if !SecretBytes::new(verifier(&key)?.to_vec()).equals(&expected) {
                    return Err(VaultError::WrongPassphrase);
                }
                Ok(key)
            }
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, dir) = match self {
            Self::File { dir } => ("File", dir),
            Self::Passphrase { dir, .. } => ("Passphrase", dir),
        };
        f.debug_struct(kind).field("dir", dir).finish_non_exhaustive()
    }
}

/// A key for one purpose, derived from the master key (HKDF-SHA256, RFC 5869).
pub(crate) fn subkey(master: &SecretBytes, purpose: &str) -> Result<SecretBytes, VaultError> {
    let mut key = Zeroizing::new(vec![0u8; KEY_BYTES]);
    master
        .with(|master| Hkdf::<Sha256>::new(None, master).expand(purpose.as_bytes(), &mut key))
        .map_err(|_| VaultError::Crypto("HKDF"))?;
    Ok(SecretBytes::new(key))
}

/// Fresh random bytes for a key.
pub(crate) fn random_key() -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
    let mut key = Zeroizing::new([0u8; KEY_BYTES]);
    getrandom::fill(key.as_mut()).map_err(|_| VaultError::Randomness)?;
    Ok(key)
}

/// Tells a wrong passphrase from a damaged database, and nothing about the key.
fn verifier(master: &SecretBytes) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    Ok(Zeroizing::new(subkey(master, "oauth3 passphrase verifier v1")?.with(<[u8]>::to_vec)))
}

/// What `vault.json` holds. Nothing in it is secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    format: u32,
    kdf: Kdf,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    verifier: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kdf {
    Argon2id,
}

impl Parameters {
    fn stretch(&self, passphrase: &str, path: &Path) -> Result<SecretBytes, VaultError> {
        let malformed = || VaultError::KeyMalformed(path.to_owned());
        let fair = self.format == 1
            && ARGON_MEMORY_KIB_RANGE.contains(&self.memory_kib)
            && ARGON_PASSES_RANGE.contains(&self.passes)
            && ARGON_LANES_RANGE.contains(&self.lanes);
        let salt = HEXLOWER.decode(self.salt.as_bytes()).map_err(|_| malformed())?;
        if !fair || salt.len() < SALT_BYTES {
            return Err(malformed());
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_BYTES)).map_err(|_| malformed())?;
        let mut key = Zeroizing::new(vec![0u8; KEY_BYTES]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt, &mut key)
            .map_err(|_| VaultError::Crypto("Argon2id"))?;
        Ok(SecretBytes::new(key))
    }
}

fn read_key_file(path: &Path) -> Result<SecretBytes, VaultError> {
    let file = open(path)?;
    let meta = file.metadata().map_err(|e| file_error(path, e))?;
    if !meta.is_file() {
        return Err(VaultError::KeyMalformed(path.to_owned()));
    }
    // Group and others: any bit at all.
    if meta.mode() & 0o077 != 0 {
        return Err(VaultError::KeyExposed(path.to_owned()));
    }
    let text = read_small(file, path)?;
    let hex = text.strip_prefix(KEY_FILE_HEADER.as_bytes()).map(<[u8]>::trim_ascii_end);
    let key = hex.and_then(|hex| HEXLOWER.decode(hex).ok()).map(Zeroizing::new);
    match key {
        Some(key) if key.len() == KEY_BYTES => Ok(SecretBytes::new(key)),
        _ => Err(VaultError::KeyMalformed(path.to_owned())),
    }
}

fn open(path: &Path) -> Result<File, VaultError> {
    File::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => VaultError::KeyMissing(path.to_owned()),
        _ => file_error(path, e),
    })
}

fn read_small(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    // Reserved once, so that reading leaves no copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(|e| file_error(path, e))?;
    Ok(text)
}

/// Writes a file that must not exist: whole or not at all, 0600, on disk when this returns.
fn write_new(path: &Path, content: &[u8]) -> Result<(), VaultError> {
    let fail = |e| file_error(path, e);
    let mut tag = [0u8; 8];
    getrandom::fill(&mut tag).map_err(|_| VaultError::Randomness)?;
    let draft = path.with_extension(format!("{}.new", HEXLOWER.encode(&tag)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        // A link, unlike a rename, fails when the name is taken.
        .and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => VaultError::KeyExists(path.to_owned()),
        _ => fail(e),
    })?;
    removed.map_err(fail)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(fail)
}

fn refuse_other(path: &Path) -> Result<(), VaultError> {
    if path.exists() { Err(VaultError::OtherKeyKind(path.to_owned())) } else { Ok(()) }
}

fn file_error(path: &Path, source: std::io::Error) -> VaultError {
    VaultError::File { path: path.to_owned(), source }
}
