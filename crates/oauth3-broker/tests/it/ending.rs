//! Rights that are taken away end what relies on them, sandbox and all.

use crate::fakes::Act;
use crate::world::{CODE, World, approve, bot, draft, draft_with_secrets};
use oauth3_core::{AgentPort, AuditKind, Execution, Fault, OwnerPort, RequestId, Status, Trust};
use std::sync::atomic::Ordering;

/// A run that goes on until it is ended.
async fn hanging(world: &World, trust: Trust) -> RequestId {
    world.acts([Act::Hang]);
    let id = world.ask(draft(CODE)).await;
    world.verdict(&id, approve(trust)).await.unwrap();
    world.reaches(&id, Status::Executing).await;
    assert_eq!(world.broker.overview().await.unwrap().running, 1);
    id
}

/// It is over when whoever ended it is told so.
async fn over(world: &World, id: &RequestId) -> Execution {
    assert_eq!(*world.runner.alive.borrow(), 0, "the sandbox is gone");
    assert_eq!(world.broker.overview().await.unwrap().running, 0);
    assert_eq!(world.keeper.closed.lock().unwrap().iter().filter(|closed| *closed == id).count(), 1);
    world.get(id).await
}

#[tokio::test]
async fn cancel_ends_a_run() {
    let world = World::new().await;
    let id = hanging(&world, Trust::Once).await;
    let answer = world.broker.cancel(&bot(), &id).await.unwrap();
    let end = over(&world, &id).await;
    assert_eq!((answer.status, answer.finished_at), (end.status, end.finished_at));
    assert_eq!(
        (end.status, end.error.as_deref()),
        (Status::Cancelled, Some("cancelled: the agent took the request back"))
    );
    assert_eq!(end.result.unwrap().stdout, "hello\n", "what it wrote so far");
    assert!(matches!(world.broker.cancel(&bot(), &id).await, Err(Fault::AlreadyDecided(_))));
    assert_eq!(world.keeper.count(AuditKind::Cancelled), 1);
}

#[tokio::test]
async fn cancel_takes_an_open_request_back_at_once() {
    let world = World::new().await;
    let (pending, waiting) = (world.ask(draft(CODE)).await, world.ask(draft_with_secrets(CODE, &["API_KEY"])).await);
    world.verdict(&waiting, approve(Trust::Once)).await.unwrap();
    for id in [pending, waiting] {
        assert_eq!(world.broker.cancel(&bot(), &id).await.unwrap().status, Status::Cancelled);
        assert!(matches!(world.verdict(&id, approve(Trust::Once)).await, Err(Fault::AlreadyDecided(_))));
    }
    let unknown = RequestId::random().unwrap();
    assert!(matches!(world.broker.cancel(&bot(), &unknown).await, Err(Fault::NotFound(_))));
    assert_eq!(world.ran(), 0);
}

#[tokio::test]
async fn the_kill_switch_ends_runs_and_denies_what_is_open() {
    let world = World::new().await;
    let open = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    let waiting = world.ask(draft_with_secrets("other", &["API_KEY"])).await;
    world.verdict(&waiting, approve(Trust::Once)).await.unwrap();
    let running = hanging(&world, Trust::Forever).await;

    world.broker.set_kill_switch(true, "telegram:1").await.unwrap();
    let end = over(&world, &running).await;
    assert_eq!(end.status, Status::Failed);
    assert!(end.error.unwrap().starts_with("denied: the owner has switched everything off"));
    for id in [open, waiting] {
        let denied = world.get(&id).await;
        assert_eq!((denied.status, denied.decided_by.as_deref()), (Status::Denied, Some("telegram:1")));
        assert!(matches!(world.verdict(&id, approve(Trust::Once)).await, Err(Fault::AlreadyDecided(_))));
    }
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::DeniedByPolicy(_))), "grants do not help");
    assert!(world.broker.overview().await.unwrap().kill_switch);
    world.broker.set_kill_switch(false, "cli").await.unwrap();
    assert!(world.submit(draft(CODE)).await.unwrap().execution.trusted);
}

#[tokio::test]
async fn a_verdict_under_the_kill_switch_is_refused() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    world.store.set_kill_switch(true).await.unwrap();
    assert!(matches!(world.verdict(&id, approve(Trust::Forever)).await, Err(Fault::DeniedByPolicy(_))));
    assert!(world.broker.grants().await.unwrap().is_empty());
    assert_eq!(world.get(&id).await.status, Status::Pending);
}

#[tokio::test]
async fn revoking_a_grant_ends_the_run_that_made_it_and_those_that_use_it() {
    let world = World::new().await;
    let made = hanging(&world, Trust::Forever).await;
    let uses = world.submit(draft(CODE)).await.unwrap().execution.id;
    world.reaches(&uses, Status::Executing).await;
    let other = world.ask(draft("other")).await;
    world.verdict(&other, approve(Trust::Forever)).await.unwrap();
    world.reaches(&other, Status::Executing).await;

    let grant = world.get(&made).await.grant_id.unwrap();
    world.broker.revoke_grant(&grant, "cli").await.unwrap();
    for id in [made, uses] {
        let end = world.get(&id).await;
        assert_eq!(end.status, Status::Failed);
        assert!(end.error.unwrap().starts_with("denied: the grant"));
    }
    assert_eq!(world.get(&other).await.status, Status::Executing);
    assert_eq!(*world.runner.alive.borrow(), 1);
}

#[tokio::test]
async fn revoking_an_agent_ends_everything_of_it() {
    let world = World::new().await;
    let open = world.ask(draft("other")).await;
    let running = hanging(&world, Trust::Forever).await;
    world.broker.revoke_agent(&bot(), "cli").await.unwrap();
    let end = over(&world, &running).await;
    assert!(end.error.unwrap().starts_with("denied: this agent was revoked"));
    assert_eq!(world.get(&open).await.status, Status::Denied);
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::DeniedByPolicy(_))));
}

#[tokio::test]
async fn when_the_keeper_dies_its_runs_are_interrupted() {
    let world = World::new().await;
    let id = hanging(&world, Trust::Once).await;
    world.keeper.down.store(true, Ordering::SeqCst);
    world.broker.keeper_lost().await;
    assert_eq!(*world.runner.alive.borrow(), 0);
    let end = world.get(&id).await;
    assert_eq!((end.status, end.result), (Status::Failed, None));
    assert!(end.error.unwrap().starts_with("interrupted"));

    world.keeper.down.store(false, Ordering::SeqCst);
    world.acts([Act::Exit(0)]);
    assert_eq!(world.run(draft(CODE), Trust::Once).await.status, Status::Success, "the next keeper serves");
}

#[tokio::test]
async fn the_switch_works_when_the_keeper_is_gone() {
    let world = World::new().await;
    let id = hanging(&world, Trust::Forever).await;
    let open = world.ask(draft("other")).await;
    world.keeper.down.store(true, Ordering::SeqCst);
    world.broker.set_kill_switch(true, "cli").await.unwrap();
    assert_eq!(*world.runner.alive.borrow(), 0);
    assert_eq!(world.get(&id).await.status, Status::Failed);
    assert_eq!(world.get(&open).await.status, Status::Denied);
    assert!(matches!(world.broker.set_kill_switch(false, "cli").await, Err(Fault::Unavailable(_))), "off is recorded");
    assert!(world.store.kill_switch().await.unwrap());
}

#[tokio::test]
async fn a_stop_interrupts_runs_and_keeps_what_is_open() {
    let world = World::new().await;
    let open = world.ask(draft("other")).await;
    let id = hanging(&world, Trust::Once).await;
    world.broker.shutdown().await;
    let end = over(&world, &id).await;
    assert!(end.error.unwrap().starts_with("interrupted: the gateway stopped"));
    assert_eq!(world.get(&open).await.status, Status::Pending);
    assert!(matches!(world.verdict(&open, approve(Trust::Once)).await, Err(Fault::Unavailable(_))));
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::Unavailable(_))));
}

#[tokio::test]
async fn runs_beyond_the_cap_wait_their_turn_and_can_be_taken_back() {
    const CAP: usize = 8;
    let world = World::new().await;
    world.acts([Act::Hang]);
    let mut ids = Vec::new();
    for n in 0..CAP + 2 {
        let id = world.ask(draft(CODE)).await;
        world.verdict(&id, approve(Trust::Once)).await.unwrap();
        if n < CAP {
            world.reaches(&id, Status::Executing).await;
        }
        ids.push(id);
    }
    world.alive(CAP).await;
    for id in &ids[CAP..] {
        assert_eq!(world.get(id).await.status, Status::Approved);
    }
    assert_eq!(world.broker.cancel(&bot(), &ids[CAP]).await.unwrap().status, Status::Cancelled);
    assert_eq!(*world.runner.alive.borrow(), CAP, "it never began");
    world.broker.cancel(&bot(), &ids[0]).await.unwrap();
    world.reaches(&ids[CAP + 1], Status::Executing).await;
}
