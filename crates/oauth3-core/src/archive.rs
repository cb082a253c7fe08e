//! The one form in which several files are stored: a ustar archive (POSIX.1-1988) with nothing left to choose.
//!
//! Every field but path and size is fixed, so the same files are always the same bytes, and any `tar` reads them.

/// Size of a header, and what contents are padded to, in bytes.
const BLOCK_BYTES: usize = 512;
/// Longest last part of a path, and longest rest of it, in bytes: the header's two fields.
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
/// Largest file, in bytes: eleven octal digits.
const MAX_FILE_BYTES: u64 = (1 << 33) - 1;
/// Where the fields are (offset, length).
const SIZE_FIELD: (usize, usize) = (124, 11);
const CHECKSUM_FIELD: (usize, usize) = (148, 8);
const PREFIX_FIELD: (usize, usize) = (345, PREFIX_BYTES);

/// Writes files in the order given; `None` when a path or a file does not fit into a header.
#[must_use]
pub fn write_archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (path, bytes) in files {
        out.extend_from_slice(&header(path, bytes.len() as u64)?);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    out.resize(out.len() + 2 * BLOCK_BYTES, 0);
    Some(out)
}

/// Reads what [`write_archive`] wrote; `None` for any byte that it would not have written.
#[must_use]
pub fn read_archive(archive: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut files = Vec::new();
    let mut rest = archive;
    loop {
        let (block, after) = rest.split_first_chunk::<BLOCK_BYTES>()?;
        if block.iter().all(|byte| *byte == 0) {
            let ends = after.len() == BLOCK_BYTES && after.iter().all(|byte| *byte == 0);
            return ends.then_some(files);
        }
        let (path, size) = (path_of(block)?, size_of(block)?);
        if header(&path, size)? != *block {
            return None;
        }
        let size = usize::try_from(size).ok()?;
        let (bytes, after) = after.split_at_checked(size)?;
        let (padding, after) = after.split_at_checked(size.next_multiple_of(BLOCK_BYTES) - size)?;
        if padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        files.push((path, bytes));
        rest = after;
    }
}

/// The header of a plain file that everybody may read and nobody write, of nobody and no time.
fn header(path: &str, size: u64) -> Option<[u8; BLOCK_BYTES]> {
    if size > MAX_FILE_BYTES || path.is_empty() || path.contains('\0') {
        return None;
    }
    let (prefix, name) = split(path)?;
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        block.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    };
    put(0, name.as_bytes());
    put(100, b"0000444\x000000000\x000000000\0");
    put(SIZE_FIELD.0, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0        0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    put(PREFIX_FIELD.0, prefix.as_bytes());
    // The checksum counts its own field as spaces; they are there.
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    block.iter_mut().skip(CHECKSUM_FIELD.0).zip(sum.bytes()).for_each(|(slot, byte)| *slot = byte);
    Some(block)
}

/// The two fields of a path: the rest is empty where the whole fits, and as short as can be where not.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_BYTES {
        return Some(("", path));
    }
    let (prefix, name) = path
        .match_indices('/')
        .map(|(at, _)| (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()))
        .find(|(_, name)| name.len() <= NAME_BYTES)?;
    (!prefix.is_empty() && !name.is_empty() && prefix.len() <= PREFIX_BYTES).then_some((prefix, name))
}

fn path_of(block: &[u8; BLOCK_BYTES]) -> Option<String> {
    let text = |at: usize, length: usize| {
        let field = block.get(at..at + length)?;
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(length);
        std::str::from_utf8(field.get(..end)?).ok()
    };
    let (name, prefix) = (text(0, NAME_BYTES)?, text(PREFIX_FIELD.0, PREFIX_FIELD.1)?);
    Some(if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") })
}

fn size_of(block: &[u8; BLOCK_BYTES]) -> Option<u64> {
    let digits = block.get(SIZE_FIELD.0..SIZE_FIELD.0 + SIZE_FIELD.1)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_nothing_else_is() {
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(100));
        let files = [("a", &b"one"[..]), ("b/c", &[0xff; 512]), (&*long, b"")];
        let archive = write_archive(files).unwrap();
        let read = read_archive(&archive).unwrap();
        assert_eq!(read, files.map(|(path, bytes)| (path.to_owned(), bytes)));
        for at in 0..archive.len() {
            let mut other = archive.clone();
            *other.get_mut(at).unwrap() ^= 1;
            let read = read_archive(&other);
            assert!(read.is_none_or(|read| read != files.map(|(p, b)| (p.to_owned(), b))), "byte {at}");
        }
        assert!(read_archive(archive.get(..archive.len() - 1).unwrap()).is_none());
        assert!(read_archive(&[&archive[..], &[0; 512]].concat()).is_none());
        assert_eq!(read_archive(&[0; 1024]), Some(vec![]));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for path in ["", "a\0b", &"x".repeat(101), &format!("{}/{}", "d".repeat(156), "f")] {
            assert!(
                write_archive([(path, &b""[..])]).is_none()
                    || path.len() <= NAME_BYTES && !path.is_empty() && !path.contains('\0')
            );
        }
        assert!(write_archive([(&*format!("{}/{}", "d".repeat(156), "f".repeat(50)), &b""[..])]).is_none());
    }
}
