//! Tasks that end with the run.

use crate::run::Run;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// A set of tasks that can be ended all at once, and takes no more after that.
#[derive(Debug)]
pub(crate) struct Tasks(Mutex<Option<JoinSet<()>>>);

/// Runs the tasks of a connection among those of its run, so that they end with it.
#[derive(Clone)]
pub(crate) struct OnRun(pub(crate) Arc<Run>);

impl<F> hyper::rt::Executor<F> for OnRun
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.tasks.spawn(async move {
            task.await;
        });
    }
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(JoinSet::new())))
    }

    /// Starts a task on this thread, unless the set was ended; then the future is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// Starts a task on another.
    pub(crate) fn spawn_on(&self, thread: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = set.as_mut() {
            while set.try_join_next().is_some() {}
            set.spawn_on(task, thread);
        }
    }

    /// Ends every task and returns when they are gone.
    pub(crate) async fn abort(&self) {
        if let Some(mut set) = self.take() {
            set.shutdown().await;
        }
    }

    /// Waits until every task has ended by itself, at most so long; ends the rest.
    pub(crate) async fn finish(&self, patience: Duration) {
        if let Some(mut set) = self.take() {
            let all = async { while set.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(patience, all).await;
            set.shutdown().await;
        }
    }

    /// Ends every task without waiting.
    pub(crate) fn abort_now(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
