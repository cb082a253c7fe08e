//! The head of the audit chain, kept outside the table: where the chain ends, so that a tail that was cut off is missed.

use oauth3_core::{AuditMac, DigestBuilder};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Largest head file that is read, in bytes.
const MAX_HEAD_BYTES: u64 = 1024;
/// Size of the file, in bytes.
const HEAD_BYTES: usize = 512;

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

/// Whether the file is what was written last.
pub(crate) fn is(path: &Path, written: &[u8]) -> bool {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 1);
    let read = fs::File::open(path).and_then(|file| io::Read::take(file, MAX_HEAD_BYTES).read_to_end(&mut bytes));
    read.is_ok() && bytes == written
}

/// Makes the file, on disk when this returns: from then on one that is missing was removed. Gives what was written.
pub(crate) fn create(path: &Path, seq: i64, mac: &str, key: &dyn AuditMac) -> io::Result<Vec<u8>> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let text = text(seq, mac, key)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(temporary, path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(text)
}

/// Writes the head over the one before, which a crash of ours cannot tear. Whoever wants it on disk calls [`sync`]:
/// after a power failure it may be behind the rows, and the next append makes that good. Gives what was written.
pub(crate) fn write(path: &Path, seq: i64, mac: &str, key: &dyn AuditMac) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let text = text(seq, mac, key)?;
    file.write_all_at(&text, 0)?;
    Ok(text)
}

/// Brings what was written to disk.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_data()
}

/// One sector, which disks write whole or not at all.
fn text(seq: i64, mac: &str, key: &dyn AuditMac) -> io::Result<Vec<u8>> {
    let head = HeadFile { seq, mac: mac.to_owned(), seal: seal(seq, mac, key) };
    let mut text = serde_json::to_vec(&head)?;
    text.resize(HEAD_BYTES.max(text.len()), b' ');
    Ok(text)
}

fn seal(seq: i64, mac: &str, key: &dyn AuditMac) -> String {
    let digest = DigestBuilder::new("oauth3 audit head v1").field(&seq.to_be_bytes()).field(mac.as_bytes()).finish();
    oauth3_core::Digest::from_bytes(key.mac(digest.as_bytes())).to_string()
}
