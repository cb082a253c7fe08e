//! Reads tar archives (POSIX.1-2001 pax, ustar, GNU), plain or compressed with gzip (RFC 1952).

use flate2::read::MultiGzDecoder;
use oauth3_core::{MAX_CODE_BYTES, MAX_SKILL_FILES, SkillFile};
use std::io::{self, Read};
use tar::{Archive, Entry, EntryType};

/// First bytes of a gzip file.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 0x08];
/// Where a tar header says that it is one.
const TAR_MAGIC_AT: usize = 257;
const TAR_MAGIC: &[u8] = b"ustar";
/// Bits of a mode that make a program run as somebody else (setuid, setgid).
const SET_ID_BITS: u32 = 0o6000;
/// Longest path that an error quotes, in characters.
const MAX_SHOWN_CHARS: usize = 100;

/// What an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes after decompression, headers included: what a bomb meets first.
    pub stream_bytes: u64,
    /// Bytes of all files together.
    pub file_bytes: usize,
    /// Files; directories are bounded by the bytes that their headers take.
    pub files: usize,
}

/// Of a skill: the bounds of a request, and twice as much with headers and padding.
pub const SKILL_BOUNDS: Bounds =
    Bounds { stream_bytes: 2 * MAX_CODE_BYTES as u64, file_bytes: MAX_CODE_BYTES, files: MAX_SKILL_FILES };

/// Why an archive was refused. The text is for the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It breaks off or is no archive.
    #[error("the archive cannot be read: send a tar archive, plain or compressed with gzip")]
    Broken,
    /// It passes a bound.
    #[error("the archive holds more than {0}")]
    TooLarge(String),
    /// It holds what is no plain file.
    #[error("{path:?} in the archive is {what}; send plain files only")]
    NotPlain {
        /// Which.
        path: String,
        /// What it is.
        what: &'static str,
    },
}

/// Whether these bytes begin like an archive that [`unpack`] reads.
#[must_use]
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP_MAGIC) || bytes.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(TAR_MAGIC))
}

/// The plain files of an archive, in its order. Names are not checked beyond being text: whoever makes a skill of
/// them does.
///
/// # Errors
/// When it is broken, passes a bound, or holds a link, a device or a program that would run as somebody else.
pub fn unpack(bytes: &[u8], bounds: &Bounds) -> Result<Vec<SkillFile>, ArchiveError> {
    if !is_archive(bytes) {
        return Err(ArchiveError::Broken);
    }
    if bytes.starts_with(GZIP_MAGIC) {
        return read(MultiGzDecoder::new(bytes), bounds);
    }
    read(bytes, bounds)
}

fn read(stream: impl Read, bounds: &Bounds) -> Result<Vec<SkillFile>, ArchiveError> {
    let mut stream = Bounded { inner: stream, left: bounds.stream_bytes, passed: false };
    let mut archive = Archive::new(&mut stream);
    let mut files = Vec::new();
    let result = collect(&mut archive, bounds, &mut files);
    // The reader of archives sees a bound as a stream that broke off.
    match result {
        Err(ArchiveError::Broken) if stream.passed => {
            Err(ArchiveError::TooLarge(format!("{} bytes", bounds.stream_bytes)))
        }
        other => other.map(|()| files),
    }
}

fn collect(archive: &mut Archive<impl Read>, bounds: &Bounds, files: &mut Vec<SkillFile>) -> Result<(), ArchiveError> {
    let broken = |_: io::Error| ArchiveError::Broken;
    let mut left = bounds.file_bytes;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let Some(path) = plain_file(&entry)? else { continue };
        if files.len() >= bounds.files {
            return Err(ArchiveError::TooLarge(format!("{} files", bounds.files)));
        }
        let too_large = || ArchiveError::TooLarge(format!("{} bytes", bounds.file_bytes));
        // What a header claims is not yet there: memory follows what is read.
        if entry.size() > left as u64 {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        left = left.checked_sub(bytes.len()).ok_or_else(too_large)?;
        files.push(SkillFile { path, bytes });
    }
    Ok(())
}

/// The path of a plain file; `None` for a directory, and for a comment on the whole archive.
fn plain_file<R: Read>(entry: &Entry<'_, R>) -> Result<Option<String>, ArchiveError> {
    let raw = entry.path_bytes();
    let shown = || String::from_utf8_lossy(&raw).chars().take(MAX_SHOWN_CHARS).collect::<String>();
    let not_plain = |what| Err(ArchiveError::NotPlain { path: shown(), what });
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {}
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(None),
        EntryType::Symlink => return not_plain("a symbolic link"),
        EntryType::Link => return not_plain("a hard link"),
        EntryType::Char | EntryType::Block => return not_plain("a device"),
        EntryType::Fifo => return not_plain("a pipe"),
        EntryType::GNUSparse => return not_plain("a sparse file"),
        _ => return not_plain("of an unknown kind"),
    }
    if entry.header().mode().map_err(|_| ArchiveError::Broken)? & SET_ID_BITS != 0 {
        return not_plain("to run as somebody else (setuid or setgid)");
    }
    let Ok(path) = std::str::from_utf8(&raw) else { return not_plain("named in something that is not UTF-8") };
    // As `tar` writes the files of the directory it stands in.
    Ok(Some(path.strip_prefix("./").unwrap_or(path).to_owned()))
}

/// Ends a stream that gives more than it may.
struct Bounded<R> {
    inner: R,
    left: u64,
    passed: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(1).min(buffer.len());
        let count = self.inner.read(buffer.get_mut(..room).unwrap_or_default())?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => {
                self.passed = true;
                Err(io::ErrorKind::FileTooLarge.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;
    use tar::{Builder, Header};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn header(kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header
    }

    fn tar(members: &[(&str, EntryType, u32, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, kind, mode, bytes) in members {
            let mut header = header(*kind, *mode, bytes.len() as u64);
            // Written as it stands: the builder would refuse what attackers write.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn says(archive: &[u8], part: &str) {
        let error = unpack(archive, &SKILL_BOUNDS).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn plain_files_come_out_as_they_are_compressed_or_not() {
        let archive = tar(&[
            ("./lib/", EntryType::Directory, 0o755, b""),
            ("./lib/x.ts", EntryType::Regular, 0o644, b"1"),
            ("main.ts", EntryType::Regular, 0o755, b"2"),
        ]);
        for bytes in [archive.clone(), gzip(&archive)] {
            let files = unpack(&bytes, &SKILL_BOUNDS).unwrap();
            let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.bytes.as_slice())).collect();
            assert_eq!(files, [("lib/x.ts", &b"1"[..]), ("main.ts", b"2")]);
        }
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        for (kind, what) in [
            (EntryType::Symlink, "symbolic link"),
            (EntryType::Link, "hard link"),
            (EntryType::Char, "device"),
            (EntryType::Block, "device"),
            (EntryType::Fifo, "pipe"),
            (EntryType::GNUSparse, ""),
            (EntryType::new(b'Z'), "unknown kind"),
        ] {
            says(&tar(&[("main.ts", EntryType::Regular, 0o644, b"1"), ("x", kind, 0o644, b"")]), what);
        }
        says(&tar(&[("x", EntryType::Regular, 0o4755, b"1")]), "somebody else");
        says(&tar(&[("x", EntryType::Regular, 0o2755, b"1")]), "somebody else");
    }

    #[test]
    fn a_path_that_leads_elsewhere_comes_out_as_it_stands_and_makes_no_skill() {
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            let files = unpack(&tar(&[(path, EntryType::Regular, 0o644, b"1")]), &SKILL_BOUNDS).unwrap();
            assert_eq!(files[0].path, path);
            assert!(oauth3_core::Bundle::new(files, None, &[]).is_err());
        }
    }

    #[test]
    fn a_bomb_meets_a_bound_before_memory_does() {
        let zeros = tar(&[("x", EntryType::Regular, 0o644, &vec![0; MAX_CODE_BYTES + 1])]);
        says(&gzip(&zeros), "1048576 bytes");
        // A thousand times its size; the header claims less than there is.
        let mut bomb = tar(&[("x", EntryType::Regular, 0o644, b"")]);
        bomb.truncate(512);
        bomb.extend(vec![b'x'; 64 << 20]);
        says(&gzip(&bomb), "");
        let many: Vec<(String, EntryType, u32, &[u8])> =
            (0..=MAX_SKILL_FILES).map(|n| (format!("f{n}"), EntryType::Regular, 0o644, &b"1"[..])).collect();
        let many: Vec<_> = many.iter().map(|(path, kind, mode, bytes)| (path.as_str(), *kind, *mode, *bytes)).collect();
        says(&tar(&many), "200 files");
        let directories: Vec<_> = vec![("d/", EntryType::Directory, 0o755, &b""[..]); 5000];
        says(&gzip(&tar(&directories)), "2097152 bytes");
    }

    #[test]
    fn what_a_header_claims_and_is_not_there_is_refused() {
        let mut huge = tar(&[("x", EntryType::Regular, 0o644, b"1")]);
        let mut header = header(EntryType::Regular, 0o644, u64::MAX >> 30);
        header.set_path("x").unwrap();
        header.set_cksum();
        huge[..512].copy_from_slice(header.as_bytes());
        says(&huge, "1048576 bytes");
        let short = tar(&[("x", EntryType::Regular, 0o644, &[b'x'; 2000])]);
        says(&short[..1024], "cannot be read");
        for junk in [&b""[..], b"text", &[0x1f, 0x8b, 0x08, 0, 1, 2], &gzip(b"no tar")] {
            assert!(unpack(junk, &SKILL_BOUNDS).map_or(true, |files| files.is_empty()), "{junk:?}");
        }
    }
}
