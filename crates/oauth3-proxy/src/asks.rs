//! Calls that wait for the owner, and the gateway that asks.

use crate::book::Api;
use crate::limits::{ASK_PATIENCE, ASK_QUEUE};
use oauth3_core::{AccessAsk, AgentName, ApiId, Fault, KeeperEvent, RequestId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

type Answer = Result<RequestId, Fault>;
/// An ask's number, and who waits for what becomes of it.
type Open = (u64, broadcast::Sender<Answer>);

/// What the gateway is to do.
pub(crate) struct Asks {
    next: AtomicU64,
    queue: mpsc::Sender<KeeperEvent>,
    events: tokio::sync::Mutex<mpsc::Receiver<KeeperEvent>>,
    /// What was asked and not answered: the same is not asked twice at a time.
    open: Mutex<HashMap<(AgentName, ApiId), Open>>,
}

impl Default for Asks {
    fn default() -> Self {
        let (queue, events) = mpsc::channel(ASK_QUEUE);
        Self { next: AtomicU64::new(1), queue, events: tokio::sync::Mutex::new(events), open: Mutex::default() }
    }
}

impl Asks {
    /// Has the owner asked; the request that the owner sees.
    pub(crate) async fn ask(&self, agent: &AgentName, api: &Api, model: Option<&str>) -> Answer {
        let place = (agent.clone(), api.id.clone());
        let mut answer = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match open.get(&place) {
                Some((_, answer)) => answer.subscribe(),
                None => {
                    let number = self.next.fetch_add(1, Ordering::Relaxed);
                    let ask = AccessAsk {
                        number,
                        agent: agent.clone(),
                        api: api.id.clone(),
                        host: api.base.host().clone(),
                        title: api.title.clone(),
                        base: api.base.to_string(),
                        model: model.map(str::to_owned),
                    };
                    let full = || Fault::Unavailable("too many agents ask for APIs at once".into());
                    self.queue.try_send(KeeperEvent::Ask(ask)).map_err(|_| full())?;
                    let (send, receive) = broadcast::channel(1);
                    open.insert(place.clone(), (number, send));
                    receive
                }
            }
        };
        let silent = || Fault::Unavailable("the gateway does not take requests now; try again".into());
        match timeout(ASK_PATIENCE, answer.recv()).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(silent())),
            Err(_) => {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
                Err(silent())
            }
        }
    }

    /// The next thing that the gateway is to do.
    pub(crate) async fn next(&self) -> Option<KeeperEvent> {
        self.events.lock().await.recv().await
    }

    /// A request whose one call was made.
    pub(crate) async fn used(&self, id: RequestId, error: Option<String>) {
        // The queue lives as long as this does.
        let _ = self.queue.send(KeeperEvent::Used { id, error }).await;
    }

    /// What became of an ask. Nobody may wait for it any more.
    pub(crate) fn answer(&self, number: u64, answer: Answer) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let place = open.iter().find(|(_, (asked, _))| *asked == number).map(|(place, _)| place.clone());
        if let Some((_, waiters)) = place.and_then(|place| open.remove(&place)) {
            let _ = waiters.send(answer);
        }
    }
}
