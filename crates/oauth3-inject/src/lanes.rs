//! The threads that serve one run. A connection of the code stays on one of them, with the connections to hosts that its
//! requests go over: what two threads share wakes one from the other.

use crate::upstream::{Pool, pool_of};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where a run is served: on the thread that it was opened on, and on others when there is more than that one has.
pub(crate) struct Lanes {
    first: Lane,
    others: Vec<Lane>,
}

/// One thread's part of a run.
struct Lane {
    thread: Handle,
    /// Connections to hosts.
    pool: Pool,
    /// Held by each connection of the code that is served here.
    load: Load,
}

/// A connection's share in the load of its thread, as long as it is held.
pub(crate) type Load = Arc<()>;

impl Lanes {
    /// On this thread, which must be in a runtime, and on those of `threads` that are others.
    pub(crate) fn new(threads: &[Handle]) -> Self {
        let here = Handle::current();
        let others: Vec<&Handle> = threads.iter().filter(|thread| thread.id() != here.id()).collect();
        let count = 1 + others.len();
        let lane = |thread: &Handle| Lane { thread: thread.clone(), pool: pool_of(count), load: Load::default() };
        Self { first: lane(&here), others: others.into_iter().map(lane).collect() }
    }

    /// The thread that serves the fewest connections, the first of the run among equals; with the load that one more
    /// is there.
    pub(crate) fn idlest(&self) -> (&Handle, Load) {
        let fewer = |best, lane| if Lane::connections(lane) < Lane::connections(best) { lane } else { best };
        let idlest = self.others.iter().fold(&self.first, fewer);
        (&idlest.thread, Arc::clone(&idlest.load))
    }

    /// The connections to hosts of the thread that asks.
    pub(crate) fn pool(&self) -> &Pool {
        let here = Handle::current().id();
        let own = self.others.iter().find(|lane| lane.thread.id() == here);
        &own.unwrap_or(&self.first).pool
    }

    /// Closes every connection to a host that is idle.
    pub(crate) fn clear(&self) {
        self.first.pool.clear();
        self.others.iter().for_each(|lane| lane.pool.clear());
    }
}

impl Lane {
    fn connections(&self) -> usize {
        Arc::strong_count(&self.load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::{Builder, Runtime};

    #[test]
    fn a_connection_goes_where_the_fewest_are_and_finds_the_pool_of_that_thread() {
        let [here, there] = [(); 2].map(|()| Builder::new_current_thread().build().unwrap());
        let threads = [there.handle().clone(), here.handle().clone()];
        let lanes = here.block_on(async { Lanes::new(&threads) });
        let of = |runtime: &Runtime| runtime.handle().id();
        let next = || {
            let (thread, load) = lanes.idlest();
            (thread.id(), load)
        };
        let (first, second, third) = (next(), next(), next());
        assert_eq!((first.0, second.0, third.0), (of(&here), of(&there), of(&here)));
        drop((first, third));
        assert_eq!(next().0, of(&here), "which has none now");
        let pool = |runtime: &Runtime| runtime.block_on(async { std::ptr::from_ref(lanes.pool()) });
        assert_eq!(pool(&here), std::ptr::from_ref(&lanes.first.pool));
        assert_ne!(pool(&here), pool(&there));
    }
}
