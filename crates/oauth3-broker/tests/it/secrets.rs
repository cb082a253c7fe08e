//! A secret that is named and not there: the request waits for it and goes on by itself.

use crate::world::{CODE, World, approve, deny, draft_with_secrets};
use oauth3_core::{AgentPort, AuditKind, Fault, OwnerPort, Reveal, SecretName, Status, Trust};

#[tokio::test]
async fn a_request_goes_on_when_its_last_secret_is_there() {
    let world = World::new().await;
    let submitted = world.submit(draft_with_secrets(CODE, &["A_KEY", "B_KEY"])).await.unwrap();
    let missing: Vec<_> = submitted.missing_secrets.iter().map(SecretName::as_str).collect();
    assert_eq!(missing, ["A_KEY", "B_KEY"]);
    let id = submitted.execution.id;
    let waiting = world.verdict(&id, approve(Trust::Day)).await.unwrap();
    assert_eq!((waiting.status, waiting.trust), (Status::AwaitingSecrets, Some(Trust::Day)));
    assert!(matches!(world.verdict(&id, approve(Trust::Once)).await, Err(Fault::AlreadyDecided(_))));

    world.add_secret("A_KEY").await;
    assert_eq!(world.get(&id).await.status, Status::AwaitingSecrets);
    world.add_secret("B_KEY").await;
    let done = world.ends(&id).await;
    assert_eq!((done.status, done.approved_at), (Status::Success, waiting.approved_at));
    assert_eq!(world.ran(), 1);
}

#[tokio::test]
async fn a_yes_that_waits_for_a_secret_can_be_taken_back_with_its_grant() {
    let world = World::new().await;
    let id = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    world.verdict(&id, approve(Trust::Forever)).await.unwrap();
    let denied = world.verdict(&id, deny("second thoughts")).await.unwrap();
    assert_eq!((denied.status, denied.error.as_deref()), (Status::Denied, Some("denied: second thoughts")));
    assert!(world.broker.grants().await.unwrap()[0].revoked_at.is_some());
    assert_eq!(world.keeper.count(AuditKind::GrantChanged), 1);
    world.add_secret("API_KEY").await;
    assert_eq!(world.get(&id).await.status, Status::Denied);
    assert!(matches!(world.verdict(&id, deny("again")).await, Err(Fault::AlreadyDecided(_))));
    world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    assert_eq!(world.ran(), 0);
}

#[tokio::test]
async fn a_grant_that_stood_before_outlives_the_no_to_one_request() {
    let world = World::new().await;
    world.add_secret("API_KEY").await;
    world.run(draft_with_secrets(CODE, &["API_KEY"]), Trust::Forever).await;
    world.broker.remove_secret(&SecretName::parse("API_KEY").unwrap(), "cli").await.unwrap();
    let submitted = world.submit(draft_with_secrets(CODE, &["API_KEY"])).await.unwrap();
    let denied = world.verdict(&submitted.execution.id, deny("not now")).await.unwrap();
    assert_eq!(denied.status, Status::Denied);
    assert!(world.broker.grants().await.unwrap()[0].revoked_at.is_none());
}

#[tokio::test]
async fn pending_requests_are_shown_anew_when_secrets_come_and_go() {
    let world = World::new().await;
    let id = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    let other = world.ask(draft_with_secrets(CODE, &[])).await;
    let told = || std::mem::take(&mut *world.channel.told.lock().unwrap());
    assert_eq!(told(), [id.clone(), other]);
    world.add_secret("API_KEY").await;
    assert_eq!(told(), std::slice::from_ref(&id));
    world.broker.remove_secret(&SecretName::parse("API_KEY").unwrap(), "cli").await.unwrap();
    assert_eq!(told(), [id]);
}

#[tokio::test]
async fn also_over_a_restart() {
    let mut world = World::new().await;
    let id = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    world.replace().await;
    // Added while nothing runs: by the keeper alone.
    world.add_secret("API_KEY").await;
    assert_eq!(world.get(&id).await.status, Status::AwaitingSecrets);
    world.broker.start().await.unwrap();
    assert_eq!(world.ends(&id).await.status, Status::Success);
}

#[tokio::test]
async fn and_when_somebody_else_put_it_there() {
    let world = World::new().await;
    let id = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    let record = oauth3_core::SecretRecord {
        name: SecretName::parse("API_KEY").unwrap(),
        hosts: [].into(),
        uses: Default::default(),
        version: 1,
        created_at: oauth3_core::Timestamp::from_millis(1),
        updated_at: oauth3_core::Timestamp::from_millis(1),
    };
    world.store.put_secret(&oauth3_core::SealedSecret { record, sealed: vec![1] }).await.unwrap();
    world.broker.secrets_changed().await;
    assert_eq!(world.ends(&id).await.status, Status::Success);
}

#[tokio::test]
async fn a_covering_grant_waits_for_the_secret_without_asking() {
    let world = World::new().await;
    world.add_secret("API_KEY").await;
    world.run(draft_with_secrets(CODE, &["API_KEY"]), Trust::Forever).await;
    let name = SecretName::parse("API_KEY").unwrap();
    world.broker.remove_secret(&name, "cli").await.unwrap();
    assert!(matches!(world.broker.remove_secret(&name, "cli").await, Err(Fault::NotFound(_))));
    assert_eq!(world.keeper.count(AuditKind::SecretChanged), 1);

    let submitted = world.submit(draft_with_secrets(CODE, &["API_KEY"])).await.unwrap();
    assert_eq!((submitted.execution.status, submitted.execution.trusted), (Status::AwaitingSecrets, true));
    assert_eq!(submitted.missing_secrets, [name]);
    world.add_secret("API_KEY").await;
    assert_eq!(world.ends(&submitted.execution.id).await.status, Status::Success);

    // Revoked while it waits: it does not go on.
    world.broker.remove_secret(&SecretName::parse("API_KEY").unwrap(), "cli").await.unwrap();
    let submitted = world.submit(draft_with_secrets(CODE, &["API_KEY"])).await.unwrap();
    let grant = world.broker.grants().await.unwrap().remove(0);
    world.broker.revoke_grant(&grant.id, "cli").await.unwrap();
    world.add_secret("API_KEY").await;
    let ended = world.ends(&submitted.execution.id).await;
    assert_eq!(ended.status, Status::Denied);
    assert!(ended.error.unwrap().starts_with("denied: the grant"));
    assert_eq!(world.ran(), 2);
}

#[tokio::test]
async fn a_grant_that_runs_out_while_its_request_waits_is_gone() {
    let world = World::with(|config| config.pending_for = std::time::Duration::from_secs(3 * 24 * 60 * 60)).await;
    world.add_secret("API_KEY").await;
    world.run(draft_with_secrets(CODE, &["API_KEY"]), Trust::Day).await;
    world.broker.remove_secret(&SecretName::parse("API_KEY").unwrap(), "cli").await.unwrap();
    let submitted = world.submit(draft_with_secrets(CODE, &["API_KEY"])).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(24 * 60 * 60));
    world.add_secret("API_KEY").await;
    assert_eq!(world.ends(&submitted.execution.id).await.status, Status::Denied);
    assert_eq!(world.ran(), 1);
}

#[tokio::test]
async fn agents_see_names_and_hosts() {
    let world = World::new().await;
    world.add_secret("API_KEY").await;
    let seen = AgentPort::secrets(&*world.broker).await.unwrap();
    assert_eq!((seen.len(), seen[0].name.as_str(), seen[0].hosts.len()), (1, "API_KEY", 1));
}

#[tokio::test]
async fn code_that_gets_a_real_value_is_approved_once_at_a_time() {
    let world = World::new().await;
    world.add_secret_that_reveals("API_KEY", Reveal::Once).await;
    let draft = || draft_with_secrets(CODE, &["API_KEY"]);
    let id = world.ask(draft()).await;
    for trust in [Trust::Day, Trust::Forever] {
        let refused = world.verdict(&id, approve(trust)).await;
        assert!(matches!(&refused, Err(Fault::DeniedByPolicy(text)) if text.contains("once only")), "{refused:?}");
    }
    assert_eq!(world.get(&id).await.status, Status::Pending, "another verdict can be given");
    assert_eq!(world.keeper.count(AuditKind::Approved), 0);
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    assert_eq!(world.ends(&id).await.status, Status::Success);
    let job = world.runner.jobs.lock().unwrap().remove(0);
    assert_eq!(job.revealed, [SecretName::parse("API_KEY").unwrap()]);
    assert!(!job.env.iter().any(|(name, _)| name == "API_KEY"));
    world.ask(draft()).await;
}

#[tokio::test]
async fn no_grant_covers_more_or_less_than_what_was_revealed_then() {
    let world = World::new().await;
    let draft = || draft_with_secrets(CODE, &["API_KEY"]);
    world.add_secret_that_reveals("API_KEY", Reveal::Never).await;
    world.run(draft(), Trust::Forever).await;
    world.add_secret_that_reveals("API_KEY", Reveal::Standing).await;
    world.run(draft(), Trust::Forever).await;
    let again = world.submit(draft()).await.unwrap().execution;
    assert!(again.trusted, "the owner said so for this secret");
    assert_eq!(world.ends(&again.id).await.status, Status::Success);
    world.add_secret_that_reveals("API_KEY", Reveal::Once).await;
    world.ask(draft()).await;
    world.add_secret_that_reveals("API_KEY", Reveal::Never).await;
    assert!(world.submit(draft()).await.unwrap().execution.trusted, "what was granted first stands");
}

#[tokio::test]
async fn a_request_is_denied_when_what_it_would_get_was_changed_since() {
    let world = World::new().await;
    let draft = || draft_with_secrets(CODE, &["API_KEY"]);
    // Shown without a real value, because it was not there yet.
    let id = world.ask(draft()).await;
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    world.add_secret_that_reveals("API_KEY", Reveal::Standing).await;
    let denied = world.ends(&id).await;
    let error = denied.error.unwrap_or_default();
    assert!(denied.status == Status::Denied && error.contains("REAL VALUE was changed"), "{error}");
    let id = world.ask(draft()).await;
    world.add_secret_that_reveals("API_KEY", Reveal::Never).await;
    let refused = world.verdict(&id, approve(Trust::Once)).await;
    assert!(matches!(refused, Err(Fault::DeniedByPolicy(_))), "{refused:?}");
    world.verdict(&id, deny("ask again")).await.unwrap();
    assert_eq!(world.ran(), 0);
}
