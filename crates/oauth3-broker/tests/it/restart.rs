//! After a restart nothing runs twice and nothing open is lost.

use crate::fakes::Act;
use crate::world::{CODE, World, approve, draft};
use oauth3_core::{Execution, Fault, OwnerPort, Status, Trust};

#[tokio::test]
async fn what_ran_is_interrupted_and_not_repeated() {
    let mut world = World::new().await;
    world.acts([Act::Hang]);
    let id = world.ask(draft(CODE)).await;
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    world.reaches(&id, Status::Executing).await;
    // Approved, and killed before it ran.
    let approved =
        Execution { id: oauth3_core::RequestId::random().unwrap(), status: Status::Approved, ..world.get(&id).await };
    world.store.insert_execution(&approved).await.unwrap();

    world.acts([Act::Exit(0)]);
    world.restart().await;
    for id in [&id, &approved.id] {
        let end = world.get(id).await;
        assert_eq!(end.status, Status::Failed);
        assert!(end.error.unwrap().starts_with("interrupted: the gateway stopped"));
        assert!(matches!(world.verdict(id, approve(Trust::Once)).await, Err(Fault::AlreadyDecided(_))));
    }
    assert_eq!(world.ran(), 1);
}

#[tokio::test]
async fn what_was_pending_is_still_there_shown_again_and_can_be_decided() {
    let mut world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    let before = world.get(&id).await;
    world.channel.told.lock().unwrap().clear();
    world.restart().await;
    assert_eq!(world.get(&id).await, before);
    assert_eq!(*world.channel.told.lock().unwrap(), std::slice::from_ref(&id));
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    assert_eq!(world.ends(&id).await.status, Status::Success);
    assert_eq!(world.ran(), 1);
}

#[tokio::test]
async fn what_is_not_started_runs_nothing_but_denies_and_revokes() {
    let mut world = World::new().await;
    world.run(draft("granted"), Trust::Forever).await;
    let (one, two) = (world.ask(draft(CODE)).await, world.ask(draft(CODE)).await);
    world.replace().await;
    assert!(matches!(world.verdict(&one, approve(Trust::Once)).await, Err(Fault::Unavailable(_))));
    assert!(matches!(world.submit(draft("granted")).await, Err(Fault::Unavailable(_))));
    world.verdict(&two, crate::world::deny("no")).await.unwrap();
    let grant = world.broker.grants().await.unwrap().remove(0);
    world.broker.revoke_grant(&grant.id, "cli").await.unwrap();
    world.broker.start().await.unwrap();
    assert_eq!(world.get(&one).await.status, Status::Pending);
    assert_eq!(world.get(&two).await.status, Status::Denied);
}

#[tokio::test]
async fn a_keeper_that_does_not_answer_stops_the_start() {
    let world = World::not_started(|_| ()).await;
    world.keeper.down.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(world.broker.start().await, Err(Fault::Unavailable(_))));
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::Unavailable(_))));
}
