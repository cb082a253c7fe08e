//! Both kinds of too many.

use crate::world::{CODE, World, bot, deny, draft};
use oauth3_core::{AgentName, AgentPort, AuditKind, Draft, Fault, OwnerPort, Source, Trust};
use std::time::Duration;

#[tokio::test]
async fn too_many_calls_in_a_minute() {
    let world = World::with(|config| config.requests_per_minute = 3).await;
    world.run(draft(CODE), Trust::Forever).await;
    world.submit(draft(CODE)).await.unwrap();
    world.broker.dry_run(&bot(), draft(CODE)).await.unwrap();
    let fetched = Draft { source: Source::Url("https://example.com/a".into()), ..draft(CODE) };
    for draft in [draft(CODE), fetched] {
        let Err(Fault::RateLimited { retry_after, .. }) = world.submit(draft).await else { panic!("not limited") };
        assert_eq!(retry_after, 60);
    }
    assert!(matches!(world.broker.dry_run(&bot(), draft(CODE)).await, Err(Fault::RateLimited { .. })));
    assert!(world.http.urls().is_empty(), "nothing is fetched for it");
    assert_eq!(world.keeper.count(AuditKind::Refused), 1, "a flood does not fill the audit");

    let other = AgentName::parse("other").unwrap();
    world.broker.add_agent(&other, "cli").await.unwrap();
    AgentPort::submit(&*world.broker, &other, draft(CODE)).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.submit(draft(CODE)).await.unwrap();
}

#[tokio::test]
async fn too_many_open_requests() {
    let world = World::with(|config| config.pending_per_agent = 2).await;
    world.run(draft("granted"), Trust::Forever).await;
    let first = world.ask(draft(CODE)).await;
    world.ask(draft(CODE)).await;
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::RateLimited { .. })));
    assert_eq!(world.broker.dry_run(&bot(), draft(CODE)).await.unwrap().decision, "deny");
    assert!(world.submit(draft("granted")).await.is_ok(), "what need not wait is not held up");
    world.verdict(&first, deny("no")).await.unwrap();
    world.ask(draft(CODE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_get_in_at_once_than_one_by_one() {
    let world = World::with(|config| config.pending_per_agent = 5).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let broker = world.broker.clone();
        calls.spawn(async move { AgentPort::submit(&*broker, &bot(), draft(CODE)).await.is_ok() });
    }
    assert_eq!(calls.join_all().await.into_iter().filter(|ok| *ok).count(), 5);
    assert_eq!(world.broker.overview().await.unwrap().open_requests, 5);
}
