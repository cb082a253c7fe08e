//! The rest of what the owner may do.

use crate::world::{CODE, World, bot, draft};
use oauth3_core::{AuditKind, Fault, OwnerPort, RequestId, SecretName, Status};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn the_owner_sees_every_request() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    assert_eq!(world.broker.show(&id).await.unwrap().code, CODE.as_bytes());
    assert_eq!(world.broker.requests(&[Status::Pending], 10).await.unwrap().len(), 1);
    assert!(world.broker.requests(&[Status::Success], 10).await.unwrap().is_empty());
    assert!(matches!(world.broker.show(&RequestId::random().unwrap()).await, Err(Fault::NotFound(_))));
    let overview = world.broker.overview().await.unwrap();
    assert_eq!((overview.open_requests, overview.running, overview.kill_switch), (1, 0, false));
}

#[tokio::test]
async fn strangers_and_agents_leave_traces_in_the_audit() {
    let world = World::new().await;
    world.broker.report_stranger("telegram:666", &"x".repeat(10_000)).await.unwrap();
    let event = world.keeper.events.lock().unwrap().last().unwrap().clone();
    assert_eq!((event.kind, event.actor.as_str()), (AuditKind::VerdictRefused, "telegram:666"));
    assert_eq!(event.detail.fields()["what"].as_str().unwrap().len(), 200);
    world.broker.rotate_agent(&bot(), "cli").await.unwrap();
    world.broker.revoke_agent(&bot(), "cli").await.unwrap();
    assert_eq!(world.keeper.count(AuditKind::AgentChanged), 3);
    let nobody = oauth3_core::AgentName::parse("nobody").unwrap();
    assert!(matches!(world.broker.revoke_agent(&nobody, "cli").await, Err(Fault::NotFound(_))));
    assert_eq!(world.broker.verify_audit().await.unwrap().fault, None);
    assert_eq!(world.broker.audit_head().await.unwrap(), 0);
    assert!(world.broker.audit_after(0, 10).await.unwrap().is_empty());
}

/// The old token is nobody's in the store: the proxy must hear of it, also when the owner's command is gone.
#[tokio::test]
async fn what_takes_a_right_away_goes_to_its_end_when_the_owner_hangs_up() {
    let world = World::new().await;
    let mut refreshed = world.keeper.refreshed.subscribe();
    let secret = SecretName::parse("KEY").unwrap();
    world.add_secret("KEY").await;
    for what in ["token", "secret"] {
        refreshed.mark_unchanged();
        world.keeper.slow.store(true, Ordering::SeqCst);
        let (broker, secret) = (world.broker.clone(), secret.clone());
        let call = tokio::spawn(async move {
            match what {
                "token" => drop(broker.rotate_agent(&bot(), "cli").await),
                _ => drop(broker.remove_secret(&secret, "cli").await),
            }
        });
        world.keeper.recording.notified().await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        world.keeper.slow.store(false, Ordering::SeqCst);
        world.keeper.record.notify_one();
        tokio::time::timeout(Duration::from_secs(30), refreshed.changed()).await.expect(what).unwrap();
    }
    assert!(world.store.secrets().await.unwrap().is_empty());
}
