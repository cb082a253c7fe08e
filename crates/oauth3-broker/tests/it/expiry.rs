//! Silence is a no, on time.

use crate::world::{CODE, World, approve, draft, draft_with_secrets};
use oauth3_core::{AuditKind, Clock, Execution, OwnerPort, Status, Timestamp, Trust};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PENDING: Duration = Duration::from_secs(15 * 60);

fn expired(execution: &Execution) -> bool {
    execution.status == Status::Expired && execution.error.as_deref().is_some_and(|e| e.starts_with("expired"))
}

#[tokio::test]
async fn a_pending_request_expires() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    world.clock.advance(PENDING - Duration::from_millis(1));
    world.broker.expire_due().await;
    assert_eq!(world.get(&id).await.status, Status::Pending);
    world.clock.advance(Duration::from_millis(1));
    world.broker.expire_due().await;
    assert!(expired(&world.ends(&id).await));
    assert_eq!(world.keeper.count(AuditKind::Expired), 1);
}

#[tokio::test]
async fn one_that_waits_for_a_secret_expires_too() {
    let world = World::new().await;
    let id = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    assert_eq!(world.get(&id).await.status, Status::AwaitingSecrets);
    world.clock.advance(PENDING);
    world.add_secret("API_KEY").await;
    assert!(expired(&world.ends(&id).await));
    assert_eq!(world.ran(), 0);
}

#[tokio::test]
async fn those_that_expired_while_it_was_down_have_expired() {
    let mut world = World::new().await;
    let (old, secret) = (world.ask(draft(CODE)).await, world.ask(draft_with_secrets(CODE, &["API_KEY"])).await);
    world.verdict(&secret, approve(Trust::Once)).await.unwrap();
    world.replace().await;
    world.clock.advance(PENDING);
    world.broker.start().await.unwrap();
    for id in [old, secret] {
        assert!(expired(&world.get(&id).await));
    }
}

#[tokio::test]
async fn it_expires_even_when_the_keeper_is_gone() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    world.clock.advance(PENDING);
    world.keeper.down.store(true, std::sync::atomic::Ordering::SeqCst);
    world.broker.expire_due().await;
    assert!(expired(&world.get(&id).await));
}

/// The time of the world.
struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is a clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }
}

#[tokio::test]
async fn it_happens_by_itself() {
    let world = World::not_started(|config| config.pending_for = Duration::from_millis(20)).await;
    let ports = oauth3_broker::Ports {
        store: world.store.clone(),
        keeper: world.keeper.clone(),
        runner: Arc::new(crate::fakes::RunnerHandle(world.runner.clone())),
        http: world.http.clone(),
        clock: Arc::new(SystemClock),
    };
    let broker = oauth3_broker::Broker::new(world.config.clone(), ports);
    broker.start().await.unwrap();
    let submitted = OwnerPort::submit(&*broker, draft(CODE)).await.unwrap();
    let seen = broker.wait(&submitted.execution.id, Status::Pending, crate::world::PATIENCE).await.unwrap();
    assert!(expired(&seen));
    assert!(seen.finished_at.unwrap() >= seen.expires_at);
}
