//! Asks at the terminal for what must not be seen.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use zeroize::Zeroizing;

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Silence after which a paste has come to its end, in milliseconds.
const PASTE_PAUSE_MILLIS: u64 = 50;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// Prints `prompt` and reads a line from `terminal` without showing it. What was typed before the prompt, or is left
/// after the line, is thrown away. The terminal is as it was afterwards, also after Ctrl-C.
///
/// # Errors
/// When it is no terminal, the line is too long or more than one, or whoever types gives up with Ctrl-C.
pub(crate) fn hidden_line(terminal: impl AsFd, prompt_to: &mut impl Write, prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
    let terminal = terminal.as_fd();
    let hidden = Hidden::begin(terminal)?;
    write!(prompt_to, "{prompt}")?;
    prompt_to.flush()?;
    let line = read_line(terminal);
    let more = drain(terminal);
    drop(hidden);
    writeln!(prompt_to)?;
    let line = line?;
    if more {
        bail!("that was more than one line; give such a value with --stdin, from a file");
    }
    Ok(line)
}

/// Asks for the passphrase at the terminal that started this process; twice when it is `new`.
///
/// # Errors
/// When there is no such terminal or we are in its background, and as [`hidden_line`].
pub(crate) fn passphrase(new: bool) -> Result<Zeroizing<String>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").context("there is no terminal")?;
    if tcgetpgrp(&terminal)? != rustix::process::getpgrp() {
        bail!("this process is in the background of its terminal");
    }
    let mut ask = |prompt: &str| -> Result<Zeroizing<String>> {
        let mut line = hidden_line(terminal.try_clone()?, &mut terminal, prompt)?;
        let text = String::from_utf8(std::mem::take(&mut *line)).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            anyhow::anyhow!("a passphrase is text in UTF-8")
        })?;
        if text.is_empty() {
            bail!("the passphrase is empty");
        }
        Ok(Zeroizing::new(text))
    };
    if !new {
        return ask("Passphrase of the vault (not shown): ");
    }
    let first = ask("New passphrase for the vault (not shown): ")?;
    if *ask("The same again: ")? != *first {
        bail!("the two differ; nothing is made");
    }
    Ok(first)
}

/// Asks at standard input and waits for a line; only `y` and `yes` are a yes.
///
/// # Errors
/// When standard input cannot be read.
pub(crate) async fn yes(prompt: &str) -> Result<bool> {
    eprint!("{prompt}");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = line.await?.context("cannot read the terminal")?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Whether there is a terminal at which [`passphrase`] could ask.
pub(crate) fn is_there() -> bool {
    File::open("/dev/tty").is_ok()
}

/// A terminal that shows nothing and gives every byte as it is typed, Ctrl-C too. Restored when dropped.
struct Hidden<'fd> {
    terminal: BorrowedFd<'fd>,
    before: Termios,
}

impl<'fd> Hidden<'fd> {
    fn begin(terminal: BorrowedFd<'fd>) -> Result<Self> {
        let before = tcgetattr(terminal).context("cannot hide what you type")?;
        let mut now = before.clone();
        // Not line by line: the system's own line editor cuts a line at 4095 bytes and would end us at Ctrl-C.
        now.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        now.special_codes[SpecialCodeIndex::VMIN] = 1;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &now).context("cannot hide what you type")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        if tcsetattr(self.terminal, OptionalActions::Flush, &self.before).is_err() {
            eprintln!("oauth3: cannot restore the terminal; type `reset`");
        }
    }
}

fn read_line(terminal: BorrowedFd<'_>) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all of it, so that nothing of it is left behind by growing.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES));
    loop {
        let mut byte = Zeroizing::new([0u8; 1]);
        let count = match rustix::io::read(terminal, &mut *byte) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.context("cannot read the terminal")?,
        };
        let [byte] = *byte;
        match byte {
            _ if count == 0 => return Ok(line),
            b'\n' | b'\r' | CTRL_D => return Ok(line),
            CTRL_C => bail!("interrupted"),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => erase(&mut line),
            0..b' ' if byte != b'\t' => {}
            _ if line.len() == MAX_LINE_BYTES => bail!("that is longer than {MAX_LINE_BYTES} bytes"),
            _ => line.push(byte),
        }
    }
}

/// Takes the last character away, all of its bytes (UTF-8).
fn erase(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0xC0 != 0x80 {
            return;
        }
    }
}

/// Throws away what is still coming in; whether there was any.
fn drain(terminal: BorrowedFd<'_>) -> bool {
    let mut any = false;
    let pause = Timespec::try_from(std::time::Duration::from_millis(PASTE_PAUSE_MILLIS)).ok();
    loop {
        let mut waiting = [PollFd::new(&terminal, PollFlags::IN)];
        if !matches!(poll(&mut waiting, pause.as_ref()), Ok(1..)) {
            return any;
        }
        let mut rest = Zeroizing::new([0u8; 1024]);
        match rustix::io::read(terminal, &mut *rest) {
            Ok(1..) => any = true,
            _ => return any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erasing_takes_whole_characters() {
        let mut line = "aé€".as_bytes().to_vec();
        erase(&mut line);
        assert_eq!(line, "aé".as_bytes());
        erase(&mut line);
        assert_eq!(line, b"a");
        erase(&mut line);
        erase(&mut line);
        assert!(line.is_empty());
    }
}
