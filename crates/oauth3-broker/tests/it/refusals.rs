//! What is refused, and how.

use crate::fakes::{FakeChannel, FakeRunner};
use crate::world::{CODE, World, bot, draft, draft_with_secrets};
use oauth3_core::{
    AgentName, AgentPort, AgentToken, AuditKind, ChannelHealth, Declared, Draft, Fault, OwnerPort, Runtime, Source,
};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_malformed_request_is_refused_with_its_code_and_stores_nothing() {
    let world = World::new().await;
    let with = |metadata: Declared| Draft { metadata, ..draft(CODE) };
    let mut bad_arg = draft(CODE);
    bad_arg.args.insert("a-b".into(), 1.into());
    let mut big_args = draft(CODE);
    big_args.args.insert("a".into(), "x".repeat(64 << 10).into());
    let cases = [
        (Draft { skill_id: String::new(), ..draft(CODE) }, "invalid_request"),
        (draft(""), "invalid_request"),
        (bad_arg, "invalid_request"),
        (big_args, "too_large"),
        (draft(&" ".repeat((1 << 20) + 1)), "too_large"),
        (with(Declared { secrets: Some(vec!["lower".into()]), ..Declared::default() }), "invalid_request"),
        (with(Declared { secrets: Some(vec!["LD_PRELOAD".into()]), ..Declared::default() }), "invalid_request"),
        (with(Declared { network: Some(vec!["127.0.0.1".into()]), ..Declared::default() }), "invalid_request"),
        (with(Declared { timeout: Some(0.0), ..Declared::default() }), "invalid_request"),
        (with(Declared { timeout: Some(600.5), ..Declared::default() }), "invalid_request"),
        (with(Declared { runtime: Some("node".into()), ..Declared::default() }), "unknown_runtime"),
        (draft("// @skill another\n1"), "conflicting_metadata"),
        (
            Draft {
                body: Declared { secrets: Some(vec![]), ..Declared::default() },
                ..draft_with_secrets(CODE, &["API_KEY"])
            },
            "conflicting_metadata",
        ),
        (Draft { source: Source::Url("ftp://example.com/x".into()), ..draft(CODE) }, "skill_fetch_failed"),
    ];
    for (draft, code) in cases {
        let case = format!("{:?}", draft.metadata);
        assert_eq!(world.submit(draft.clone()).await.unwrap_err().code(), code, "{case}");
        assert_eq!(world.broker.dry_run(&bot(), draft).await.unwrap_err().code(), code, "{case}");
    }
    assert!(world.broker.requests(&[], 10).await.unwrap().is_empty());
    assert!(world.submit(draft("// @timeout 600\n1")).await.is_ok(), "the maximum itself is fine");
}

#[tokio::test]
async fn a_token_finds_its_agent_and_nothing_else_does() {
    let world = World::new().await;
    let name = AgentName::parse("helper").unwrap();
    let token = world.broker.add_agent(&name, "cli").await.unwrap();
    assert_eq!(world.broker.authenticate(Some(&token)).await.unwrap(), name);

    // The right public part with another secret part.
    let (id, other) = (token.id(), AgentToken::random().unwrap());
    let forged = format!("oa3_{}_{}", id.0, other.reveal().rsplit('_').next().unwrap());
    let forged = AgentToken::parse(&forged).unwrap();
    for bad in [None, Some(&forged), Some(&other)] {
        assert!(matches!(world.broker.authenticate(bad).await, Err(Fault::InvalidToken(_))));
    }

    let seen = async || world.store.agent(&name).await.unwrap().unwrap().last_seen_at;
    while seen().await.is_none() {
        tokio::task::yield_now().await;
    }

    let rotated = world.broker.rotate_agent(&name, "cli").await.unwrap();
    assert!(world.broker.authenticate(Some(&token)).await.is_err());
    assert_eq!(world.broker.authenticate(Some(&rotated)).await.unwrap(), name);
    world.broker.revoke_agent(&name, "cli").await.unwrap();
    assert!(matches!(world.broker.authenticate(Some(&rotated)).await, Err(Fault::InvalidToken(_))));
    assert!(matches!(world.broker.rotate_agent(&name, "cli").await, Err(Fault::NotFound(_))));
    assert!(matches!(world.broker.add_agent(&name, "cli").await, Err(Fault::Exists(_))), "a name is used once");
    let refused = AgentPort::submit(&*world.broker, &name, draft(CODE)).await;
    assert!(matches!(refused, Err(Fault::DeniedByPolicy(_))), "even if it got past");
}

#[tokio::test]
async fn the_owners_name_is_not_an_agents() {
    let world = World::new().await;
    let owner = AgentName::parse("owner").unwrap();
    assert!(matches!(world.broker.add_agent(&owner, "cli").await, Err(Fault::InvalidRequest(_))));
    let world = World::with(|config| config.anonymous_agent = Some(owner)).await;
    assert!(matches!(world.broker.authenticate(None).await, Err(Fault::InvalidToken(_))));
}

#[tokio::test]
async fn without_a_token_the_anonymous_agent_acts_if_there_is_one() {
    let world = World::with(|config| config.anonymous_agent = Some(bot())).await;
    assert_eq!(world.broker.authenticate(None).await.unwrap(), bot());
    assert!(world.broker.authenticate(Some(&AgentToken::random().unwrap())).await.is_err(), "a bad token is bad");
    world.broker.revoke_agent(&bot(), "cli").await.unwrap();
    assert!(matches!(world.broker.authenticate(None).await, Err(Fault::InvalidToken(_))));
    let world = World::with(|config| config.anonymous_agent = AgentName::parse("nobody").ok()).await;
    assert!(matches!(world.broker.authenticate(None).await, Err(Fault::InvalidToken(_))));
}

#[tokio::test]
async fn the_kill_switch_refuses_before_anything_is_fetched() {
    let mut world = World::new().await;
    world.broker.set_kill_switch(true, "cli").await.unwrap();
    let elsewhere = Draft { source: Source::Url("https://example.com/skill.ts".into()), ..draft(CODE) };
    assert!(matches!(world.submit(elsewhere).await, Err(Fault::DeniedByPolicy(_))));
    assert!(world.http.urls().is_empty());
    assert_eq!(world.keeper.count(AuditKind::Refused), 1);
    world.restart().await;
    assert!(matches!(world.submit(draft(CODE)).await, Err(Fault::DeniedByPolicy(_))), "it outlives a restart");
    world.broker.set_kill_switch(false, "cli").await.unwrap();
    world.ask(draft(CODE)).await;
    assert_eq!(world.keeper.count(AuditKind::KillSwitch), 2);
}

#[tokio::test]
async fn health_says_which_part_is_missing() {
    let world = World::new().await;
    let health = world.broker.health().await;
    assert!(health.database && health.keeper && health.telegram == ChannelHealth::Connected);
    assert_eq!(health.executor, "native");
    world.keeper.down.store(true, Ordering::SeqCst);
    assert!(!world.broker.health().await.keeper);
}

#[tokio::test]
async fn a_channel_that_is_off_is_not_asked_and_one_that_is_down_is() {
    for (health, asked) in [(ChannelHealth::Disabled, vec![]), (ChannelHealth::Error, vec!["telegram".to_owned()])] {
        let channel = FakeChannel { health, ..FakeChannel::default() };
        let world = World::build(|_| (), FakeRunner::default(), channel).await;
        world.broker.start().await.unwrap();
        assert_eq!(world.submit(draft(CODE)).await.unwrap().asked, asked);
        assert_eq!(world.broker.health().await.telegram, health);
    }
}

#[tokio::test]
async fn without_the_default_runtime_it_is_embedded() {
    let runner = FakeRunner { runtimes: vec![Runtime::Embedded], ..FakeRunner::default() };
    let world = World::build(|_| (), runner, FakeChannel::default()).await;
    world.broker.start().await.unwrap();
    let id = world.ask(draft(CODE)).await;
    assert_eq!(world.get(&id).await.intent.runtime, Runtime::Embedded);
}
