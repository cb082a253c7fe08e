//! Threads that serve traffic. What belongs to one connection of an agent, or to one run, stays on one of them: a
//! request wakes no other thread on its way, but for the disk.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// The threads. They end when this is dropped, and what they serve with them.
pub(crate) struct Shards {
    runtimes: Vec<Handle>,
    turn: AtomicUsize,
    _running: watch::Sender<()>,
}

impl Shards {
    /// So many; without any, all is served by the runtime that this is called in.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (running, _) = watch::channel(());
        let mut runtimes = Vec::with_capacity(count.max(1));
        if count == 0 {
            runtimes.push(Handle::current());
        }
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtimes.push(runtime.handle().clone());
            let mut running = running.subscribe();
            thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
                // An error says that the other end is gone, which is what is waited for.
                let _ = runtime.block_on(running.changed());
                runtime.shutdown_background();
            })?;
        }
        Ok(Self { runtimes, turn: AtomicUsize::new(0), _running: running })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Handle> {
        self.runtimes.clone()
    }

    /// Does this where the tasks that it starts go to the thread whose turn it is.
    pub(crate) fn on_next<T>(&self, start: impl FnOnce() -> T) -> T {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let _entered = self.runtimes.get(turn % self.runtimes.len().max(1)).map(Handle::enter);
        start()
    }
}
