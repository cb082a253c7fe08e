//! Once, 24h, forever: what a verdict covers, and what it does not.

use crate::world::{CODE, World, approve, draft, draft_with_secrets};
use oauth3_core::{AgentPort as _, AuditKind, Declared, Draft, Fault, GrantId, OwnerPort, Status, Trust};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn once_asks_again() {
    let world = World::new().await;
    world.run(draft(CODE), Trust::Once).await;
    world.ask(draft(CODE)).await;
    assert!(world.broker.grants().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_day_is_a_day() {
    let world = World::new().await;
    let first = world.run(draft(CODE), Trust::Day).await;
    let grant = world.broker.grants().await.unwrap().remove(0);
    assert_eq!(first.grant_id.as_ref(), Some(&grant.id));

    world.clock.advance(DAY - Duration::from_millis(1));
    let submitted = world.submit(draft(CODE)).await.unwrap();
    assert_eq!((submitted.execution.status, submitted.execution.trusted), (Status::Approved, true));
    let done = world.ends(&submitted.execution.id).await;
    assert_eq!((done.status, done.trusted, done.trust), (Status::Success, true, Some(Trust::Day)));
    assert_eq!(done.grant_id, Some(grant.id));
    assert_eq!(world.keeper.count(AuditKind::Granted), 1);

    world.clock.advance(Duration::from_millis(1));
    world.ask(draft(CODE)).await;
}

#[tokio::test]
async fn forever_outlives_a_restart_and_ends_when_revoked() {
    let mut world = World::new().await;
    world.run(draft(CODE), Trust::Forever).await;
    world.clock.advance(DAY * 1_000);
    world.restart().await;
    let again = world.submit(draft(CODE)).await.unwrap();
    assert_eq!(world.ends(&again.execution.id).await.status, Status::Success);

    let grant = world.broker.grants().await.unwrap().remove(0);
    assert_eq!(grant.granted_by, "cli");
    world.broker.revoke_grant(&grant.id, "cli").await.unwrap();
    world.ask(draft(CODE)).await;
    assert!(matches!(world.broker.revoke_grant(&grant.id, "cli").await, Err(Fault::NotFound(_))));
    let unknown = GrantId::random().unwrap();
    assert!(matches!(world.broker.revoke_grant(&unknown, "cli").await, Err(Fault::NotFound(_))));
    assert_eq!(world.keeper.count(AuditKind::GrantChanged), 1);
}

#[tokio::test]
async fn change_one_character_and_it_asks_again() {
    let world = World::with(|config| config.pending_per_agent = 100).await;
    world.add_secret("API_KEY").await;
    world.add_secret("OTHER_KEY").await;
    let granted = draft_with_secrets(CODE, &["API_KEY"]);
    world.run(granted.clone(), Trust::Forever).await;

    let with = |change: fn(&mut Declared)| {
        let mut changed = granted.clone();
        change(&mut changed.metadata);
        changed
    };
    let others = [
        draft_with_secrets("console.log('hallo')", &["API_KEY"]),
        draft_with_secrets("console.log('hello') ", &["API_KEY"]),
        draft_with_secrets(CODE, &["OTHER_KEY"]),
        draft_with_secrets(CODE, &["API_KEY", "OTHER_KEY"]),
        draft_with_secrets(CODE, &[]),
        Draft { skill_id: "greeting2".into(), ..granted.clone() },
        with(|m| m.network = Some(vec!["api.example.com:8443".into()])),
        with(|m| m.network = Some(vec!["api.example.com".into(), "b.example.com".into()])),
        with(|m| m.network = None),
        with(|m| m.timeout = Some(31.0)),
        with(|m| m.runtime = Some("embedded".into())),
    ];
    for other in others {
        world.ask(other).await;
    }
    // Arguments and the agent's claim are not bound; what is named alike in another way is the same.
    let mut same = with(|m| {
        m.description = Some("other words".into());
        m.network = Some(vec!["API.example.com:443".into()]);
        m.timeout = Some(30.0);
        m.runtime = Some("deno".into());
    });
    same.args.insert("n".into(), 1.into());
    assert!(world.submit(same).await.unwrap().execution.trusted);
}

#[tokio::test]
async fn another_agent_is_not_covered() {
    let world = World::new().await;
    world.run(draft(CODE), Trust::Forever).await;
    let other = oauth3_core::AgentName::parse("other").unwrap();
    world.broker.add_agent(&other, "cli").await.unwrap();
    let submitted = oauth3_core::AgentPort::submit(&*world.broker, &other, draft(CODE)).await.unwrap();
    assert_eq!(submitted.execution.status, Status::Pending);
}

#[tokio::test]
async fn the_owners_bounds_are_part_of_what_was_granted() {
    let mut world = World::new().await;
    world.run(draft(CODE), Trust::Forever).await;
    world.config.ceilings.most.memory_mb = 4_096;
    world.restart().await;
    world.ask(draft(CODE)).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_leaves_the_audit_only() {
    let world = World::new().await;
    let bot = crate::world::bot();
    let dry = async |draft| world.broker.dry_run(&bot, draft).await.unwrap();
    let answer = dry(draft_with_secrets(CODE, &["API_KEY"])).await;
    assert_eq!(answer.decision, "ask");
    assert_eq!(answer.missing_secrets.iter().map(|s| s.as_str()).collect::<Vec<_>>(), ["API_KEY"]);
    assert!(world.broker.requests(&[], 10).await.unwrap().is_empty());
    assert_eq!(world.keeper.count(AuditKind::DryRun), 1);

    world.run(draft(CODE), Trust::Forever).await;
    assert_eq!(dry(draft(CODE)).await.decision, "permit");
    assert_eq!(world.ran(), 1);
    world.broker.set_kill_switch(true, "cli").await.unwrap();
    let answer = dry(draft(CODE)).await;
    assert_eq!((answer.decision.as_str(), answer.reason.contains("switched")), ("deny", true));
    assert_eq!(world.keeper.count(AuditKind::DryRun), 3);
    assert_eq!(world.broker.requests(&[], 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_verdict_of_once_is_no_grant_for_the_next() {
    let world = World::new().await;
    let (one, two) = (world.ask(draft(CODE)).await, world.ask(draft(CODE)).await);
    world.verdict(&one, approve(Trust::Once)).await.unwrap();
    world.ends(&one).await;
    assert_eq!(world.get(&two).await.status, Status::Pending);
}
