//! Commands that go on until somebody ends them.

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::Duration;

/// Pause between two looks at whether standard output still has a reader.
const READER_PAUSE: Duration = Duration::from_millis(250);

/// Does `work` until it ends, Ctrl-C comes, or nobody reads standard output any more (`… | head -1`). The last two
/// are how such a command is meant to end, so they are no failures.
pub(crate) async fn until_unwanted(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Ok(()),
        () = reader_gone() => Ok(()),
    }
}

async fn reader_gone() {
    loop {
        let stdout = rustix::stdio::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        // Errors and hang-ups are told without being asked for; a file never has any.
        let looked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if looked.is_ok() && fds.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP)) {
            return;
        }
        tokio::time::sleep(READER_PAUSE).await;
    }
}
