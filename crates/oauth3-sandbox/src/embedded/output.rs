//! Where a program's standard output and standard error go.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// The two output streams, unbuffered: what was written is out even if the process is killed right after.
#[derive(Clone)]
pub(super) struct Output {
    out: Arc<Mutex<dyn Write + Send>>,
    err: Arc<Mutex<dyn Write + Send>>,
}

impl Output {
    /// File descriptors 1 and 2 of this process.
    pub(super) fn standard() -> Self {
        Self::new(FdWriter(rustix::stdio::stdout()), FdWriter(rustix::stdio::stderr()))
    }

    pub(super) fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(out)), err: Arc::new(Mutex::new(err)) }
    }

    /// Writes all of `bytes`. A reader that went away is no error of the program.
    pub(super) fn write(&self, stream: Stream, bytes: &[u8]) {
        let writer = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        let _gone = writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes);
    }

    /// One line on standard error.
    pub(super) fn error_line(&self, text: &str) {
        self.write(Stream::Err, format!("{text}\n").as_bytes());
    }
}

struct FdWriter(BorrowedFd<'static>);

impl Write for FdWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
