//! The head of the audit chain, kept outside the table: where the chain ends, so that a tail that was cut off is missed.

use oauth3_core::{AuditMac, DigestBuilder};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Largest head file that is read, in bytes.
const MAX_HEAD_BYTES: u64 = 1024;

/// What the head file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// There is no file.
    Missing,
    /// There is one, and the keeper did not write it.
    Forged,
    /// The chain reached this row, with this mac; row 0 is before the first.
    At(i64, String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadFile {
    seq: i64,
    mac: String,
    seal: String,
}

/// Reads the head and checks its seal.
pub(crate) fn read(path: &Path, key: &dyn AuditMac) -> io::Result<Head> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Head::Missing),
        other => other?,
    };
    let text = io::read_to_string(io::Read::take(file, MAX_HEAD_BYTES));
    let Some(head) = text.ok().and_then(|t| serde_json::from_str::<HeadFile>(&t).ok()) else { return Ok(Head::Forged) };
    Ok(if head.seal == seal(head.seq, &head.mac, key) { Head::At(head.seq, head.mac) } else { Head::Forged })
}

/// Writes the head so that a crash leaves the old one or the new one.
pub(crate) fn write(path: &Path, seq: i64, mac: &str, key: &dyn AuditMac) -> io::Result<()> {
    Next::new(path, seq, mac, key)?.stage()?.place()
}

/// A head that is to be written.
pub(crate) struct Next {
    path: PathBuf,
    text: String,
}

/// A head that is on disk beside the one that counts.
pub(crate) struct Staged {
    path: PathBuf,
    temporary: PathBuf,
}

impl Next {
    pub(crate) fn new(path: &Path, seq: i64, mac: &str, key: &dyn AuditMac) -> io::Result<Self> {
        let head = HeadFile { seq, mac: mac.to_owned(), seal: seal(seq, mac, key) };
        Ok(Self { path: path.to_owned(), text: serde_json::to_string(&head)? })
    }

    /// Writes it to disk, where it does not count yet.
    pub(crate) fn stage(self) -> io::Result<Staged> {
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(self.text.as_bytes())?;
        file.sync_data()?;
        Ok(Staged { path: self.path, temporary })
    }
}

impl Staged {
    /// Puts it in the place of the one before.
    pub(crate) fn place(self) -> io::Result<()> {
        fs::rename(self.temporary, self.path)
    }
}

fn seal(seq: i64, mac: &str, key: &dyn AuditMac) -> String {
    let digest = DigestBuilder::new("oauth3 audit head v1").field(&seq.to_be_bytes()).field(mac.as_bytes()).finish();
    oauth3_core::Digest::from_bytes(key.mac(digest.as_bytes())).to_string()
}
