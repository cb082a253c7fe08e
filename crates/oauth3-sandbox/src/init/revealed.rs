//! Takes the real values of revealed secrets from the keeper.
//!
//! They come through a pipe that was made inside, whose write end went to the keeper with the listeners. Only the
//! job's own process reads it, as the last thing before it becomes the code: nothing of ours that outlives that
//! moment, and nothing outside, ever holds them.

use super::{Step, StepError};
use oauth3_core::{MAX_REVEALED_BYTES, SecretName};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::Read;
use std::os::fd::OwnedFd;

/// The pipe: its end for the job's process, and the one for the keeper.
pub(super) fn open() -> Result<(OwnedFd, OwnedFd), StepError> {
    pipe_with(PipeFlags::CLOEXEC).step("make the pipe for values")
}

/// Reads the variables of these names, in this order, to the end of the pipe. Without names nothing is read, and
/// nobody is waited for.
pub(super) fn take(names: &[SecretName], pipe: OwnedFd) -> Result<Vec<(String, String)>, StepError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut block = Vec::new();
    let most = MAX_REVEALED_BYTES as u64 + 1;
    std::fs::File::from(pipe).take(most).read_to_end(&mut block).step("take the values")?;
    read(names, &block).ok_or(Errno::BADMSG).step("take the values")
}

/// `NAME=VALUE` and a NUL for each.
fn read(names: &[SecretName], block: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(block).ok().filter(|text| text.len() <= MAX_REVEALED_BYTES)?;
    let items: Vec<&str> = text.strip_suffix('\0')?.split('\0').collect();
    if items.len() != names.len() {
        return None;
    }
    let pairs = items.into_iter().zip(names).map(|(item, name)| {
        let (found, value) = item.split_once('=')?;
        (found == name.as_str()).then(|| (found.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<SecretName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn exactly_what_was_announced_is_taken() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let two = names(&["A", "B"]);
        assert_eq!(read(&two, b"A=1=2\n\0B=\0"), Some(vec![pair("A", "1=2\n"), pair("B", "")]));
        for wrong in [&b""[..], b"A=1\0", b"B=\0A=1\0", b"A=1\0B=2", b"A=1\0B=2\0C=3\0", b"A\0B=2\0", b"A=\xff\0B=2\0"]
        {
            assert_eq!(read(&two, wrong), None, "{wrong:?}");
        }
        let long = format!("A={}\0", "x".repeat(MAX_REVEALED_BYTES));
        assert_eq!(read(&names(&["A"]), long.as_bytes()), None);
    }

    #[test]
    fn nobody_is_waited_for_when_nothing_is_to_be_taken() {
        let (read, write) = open().unwrap();
        assert_eq!(take(&[], read).unwrap(), []);
        drop(write);
    }
}
