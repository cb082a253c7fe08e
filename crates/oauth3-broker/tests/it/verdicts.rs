//! One verdict counts: the first, in time.

use crate::world::{CODE, World, approve, deny, draft};
use oauth3_core::{AuditKind, Execution, Fault, OwnerPort, RequestId, Status, Trust, Verdict};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

fn decided<T: std::fmt::Debug>(answer: Result<T, Fault>) -> bool {
    matches!(answer, Err(Fault::AlreadyDecided(_)))
}

#[tokio::test]
async fn denied_stays_denied() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    let denied = world.verdict(&id, deny(" not today ")).await.unwrap();
    assert_eq!((denied.status, denied.error.as_deref()), (Status::Denied, Some("denied: not today")));
    for trust in [Trust::Once, Trust::Day, Trust::Forever] {
        assert!(decided(world.verdict(&id, approve(trust)).await));
    }
    assert!(decided(world.verdict(&id, deny("again")).await));
    let still = world.get(&id).await;
    assert_eq!(Execution { notified_at: None, ..still }, denied);
    assert_eq!((world.ran(), world.broker.grants().await.unwrap().len()), (0, 0));
    assert_eq!(world.keeper.count(AuditKind::Approved), 0, "and the audit does not say otherwise");

    let silent = world.ask(draft(CODE)).await;
    let denied = world.verdict(&silent, Verdict::Deny { reason: None }).await.unwrap();
    assert_eq!(denied.error.as_deref(), Some("denied: the owner said no"));
}

#[tokio::test]
async fn an_unknown_request_is_not_found() {
    let world = World::new().await;
    let answer = world.verdict(&RequestId::random().unwrap(), approve(Trust::Once)).await;
    assert!(matches!(answer, Err(Fault::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_taps_one_runs() {
    let world = World::new().await;
    for round in 0..5 {
        let id = world.ask(draft(CODE)).await;
        let mut taps = JoinSet::new();
        for _ in 0..10 {
            let (broker, id) = (world.broker.clone(), id.clone());
            taps.spawn(async move { broker.verdict(&id, approve(Trust::Forever), "telegram:1").await });
        }
        let answers = taps.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert_eq!(answers.into_iter().filter(|answer| decided(answer.clone())).count(), 9);
        assert_eq!(world.ends(&id).await.status, Status::Success);
        assert_eq!(world.ran(), round + 1);
        let grants = world.broker.grants().await.unwrap();
        assert_eq!(grants.len(), round + 1);
        world.broker.revoke_grant(&grants[0].id, "cli").await.unwrap();
    }
    assert_eq!(world.keeper.count(AuditKind::Approved), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn yes_and_no_at_once_is_one_of_them() {
    let world = World::new().await;
    for _ in 0..10 {
        let id = world.ask(draft(CODE)).await;
        let before = world.ran();
        let (yes, no) = tokio::join!(
            tokio::spawn({
                let (broker, id) = (world.broker.clone(), id.clone());
                async move { broker.verdict(&id, approve(Trust::Forever), "cli").await }
            }),
            tokio::spawn({
                let (broker, id) = (world.broker.clone(), id.clone());
                async move { broker.verdict(&id, deny("no"), "telegram:1").await }
            }),
        );
        let (yes, no) = (yes.unwrap(), no.unwrap());
        assert!(yes.is_ok() != no.is_ok());
        let end = world.ends(&id).await;
        let expected = if yes.is_ok() { (Status::Success, before + 1) } else { (Status::Denied, before) };
        assert_eq!((end.status, world.ran()), expected);
        for grant in world.broker.grants().await.unwrap().iter().filter(|g| g.revoked_at.is_none()) {
            assert!(yes.is_ok(), "a no leaves no grant");
            world.broker.revoke_grant(&grant.id, "cli").await.unwrap();
        }
    }
}

#[tokio::test]
async fn too_late_is_no_verdict() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    world.clock.advance(Duration::from_secs(15 * 60));
    assert!(decided(world.verdict(&id, approve(Trust::Forever)).await));
    assert_eq!(world.get(&id).await.status, Status::Expired);
    assert_eq!((world.ran(), world.broker.grants().await.unwrap().len()), (0, 0));
}

#[tokio::test]
async fn in_the_last_moment_is_in_time() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    world.clock.advance(Duration::from_secs(15 * 60) - Duration::from_millis(1));
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    assert_eq!(world.ends(&id).await.status, Status::Success);
}

#[tokio::test]
async fn what_cannot_be_audited_does_not_happen() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    world.keeper.down.store(true, Ordering::SeqCst);
    for verdict in [approve(Trust::Forever), deny("no")] {
        assert!(matches!(world.verdict(&id, verdict).await, Err(Fault::Unavailable(_))));
    }
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::Unavailable(_))));
    assert_eq!(world.get(&id).await.status, Status::Pending);
    assert_eq!(world.broker.requests(&[], 10).await.unwrap().len(), 1);
    assert!(world.broker.grants().await.unwrap().is_empty());

    world.keeper.down.store(false, Ordering::SeqCst);
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    assert_eq!(world.ends(&id).await.status, Status::Success);
}
