//! Runs: what opens one, what flows through it, what is left of it.

use super::home::{Home, NOW, VALUE, agent, approved, host};
use super::lane::TestLane;
use super::upstream;
use oauth3_core::{
    Digest, Execution, Fault, Grant, GrantId, Keeper, RequestId, SealedSecret, SecretName, Status, Store, Timestamp,
    Trust,
};
use std::io::Write;
use std::time::Duration;

#[tokio::test]
async fn a_run_lends_a_placeholder_swaps_it_scrubs_and_records() {
    let (dial, heads) = upstream::start("api.example.com").await;
    let home = Home::dialling(dial).await;
    home.add_secret("API_KEY", "api.example.com").await;
    let id = home.request(|_| ()).await;
    let (mut lane, fds) = TestLane::new();

    let opened = home.keeper.open_run(&id, fds).await.unwrap();
    let stored = home.store.execution(&id).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.executed_at), (Status::Executing, Some(NOW)));
    assert!(opened.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
    let [(name, placeholder)] = &opened.placeholders[..] else { panic!("one secret was named") };
    assert_eq!((name.as_str(), placeholder.len()), ("API_KEY", VALUE.len()));
    assert!(placeholder.starts_with("sk-proj-") && placeholder != VALUE);

    let reply = lane.fetch("api.example.com", &format!("Bearer {placeholder}")).await;
    assert!(heads.lock().unwrap()[0].contains(&format!("Bearer {VALUE}")), "the server got the value");
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains(placeholder.as_str()), "{reply}");
    assert!(!reply.contains(VALUE), "the code did not");
    let refused = lane.fetch("other.example.com", "none").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");

    write!(lane.stdout, "got {VALUE}").unwrap();
    write!(lane.stderr, "{}", "e".repeat(101)).unwrap();
    drop(lane);
    let output = home.keeper.close_run(&id, Vec::new()).await.unwrap();
    assert_eq!(output.stdout, format!("got {placeholder}"));
    assert_eq!((output.stderr.len(), output.truncated, output.refusals.len()), (100, true, 1));

    let kinds = home.kinds().await;
    assert_eq!(kinds, ["started", "secret_changed", "run_opened", "secret_used", "egress_refused", "run_closed"]);
    for row in &home.rows().await[2..] {
        assert_eq!((row.event.actor.as_str(), row.event.request_id.as_ref()), ("keeper", Some(&id)));
        assert_eq!(row.event.agent, Some(agent()));
    }
    let report = home.keeper.verify_audit().await.unwrap();
    assert_eq!((report.rows, report.fault), (6, None));
    assert!(matches!(home.keeper.close_run(&id, Vec::new()).await, Err(Fault::NotFound(_))));
}

/// Tries to open; returns why not, after looking that nothing happened.
async fn refused(home: &Home, id: &RequestId) -> Fault {
    let before = home.status(id).await;
    let rows = home.kinds().await.len();
    let (_lane, fds) = TestLane::new();
    let fault = home.keeper.open_run(id, fds).await.expect_err("it must not open");
    assert_eq!(home.status(id).await, before);
    assert_eq!(home.kinds().await.len(), rows, "nothing was done, nothing is recorded");
    fault
}

#[tokio::test]
async fn only_what_is_approved_and_whole_opens() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "api.example.com").await;
    for status in Status::ALL.into_iter().filter(|s| *s != Status::Approved) {
        let id = home.request(|e| e.status = status).await;
        let fault = refused(&home, &id).await;
        assert!(matches!(fault, Fault::DeniedByPolicy(_)), "{status}: {fault}");
    }
    type Change = fn(&mut Execution);
    let changes: [(&str, Change); 6] = [
        ("no trust", |e| e.trust = None),
        ("never approved", |e| e.approved_at = None),
        ("approved too late", |e| e.approved_at = Some(e.expires_at)),
        ("a grant that is not there", |e| e.trusted = true),
        ("a secret that is not there", |e| {
            e.intent.secrets.extend([SecretName::parse("MISSING").unwrap()]);
            e.intent_digest = e.intent.digest();
        }),
        ("an agent that is not there", |e| {
            e.intent.agent = "stranger".parse().unwrap();
            e.intent_digest = e.intent.digest();
        }),
    ];
    for (what, change) in changes {
        let id = home.request(change).await;
        let fault = refused(&home, &id).await;
        assert!(matches!(fault, Fault::DeniedByPolicy(_)), "{what}: {fault}");
    }
    let nobody = RequestId::random().unwrap();
    let (_lane, fds) = TestLane::new();
    assert!(matches!(home.keeper.open_run(&nobody, fds).await, Err(Fault::NotFound(_))));
}

#[tokio::test]
async fn stored_bytes_that_do_not_match_their_digests_do_not_open() {
    let changes: [fn(&mut Execution); 3] = [
        |e| e.code = b"steal()".to_vec(),
        |e| e.intent.hosts.extend([host("evil.example")]),
        |e| e.intent_digest = Digest::of(b"something else"),
    ];
    for change in changes {
        let home = Home::new().await;
        home.add_secret("API_KEY", "api.example.com").await;
        let id = home.request(change).await;
        let (_lane, fds) = TestLane::new();
        // The store looks as well, and is the first to see it.
        let fault = home.keeper.open_run(&id, fds).await.expect_err("it must not open");
        assert!(matches!(fault, Fault::Unavailable(_) | Fault::DeniedByPolicy(_)), "{fault}");
        assert_eq!(home.kinds().await, ["started", "secret_changed"]);
    }
}

#[tokio::test]
async fn the_kill_switch_and_a_revoked_agent_stop_approved_requests() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "api.example.com").await;
    let id = home.request(|_| ()).await;
    home.store.set_kill_switch(true).await.unwrap();
    assert!(matches!(refused(&home, &id).await, Fault::DeniedByPolicy(_)));
    home.store.set_kill_switch(false).await.unwrap();
    home.store.revoke_agent(&agent(), NOW).await.unwrap();
    assert!(matches!(refused(&home, &id).await, Fault::DeniedByPolicy(_)));
}

#[tokio::test]
async fn a_grant_is_looked_up_again() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "api.example.com").await;
    let grant = Grant {
        id: GrantId::random().unwrap(),
        intent: approved().intent,
        trust: Trust::Day,
        granted_at: Timestamp::from_millis(0),
        expires_at: Some(NOW.plus(Duration::from_secs(1))),
        revoked_at: None,
        granted_by: "cli".into(),
    };
    home.store.insert_grant(&grant).await.unwrap();
    let granted = |e: &mut Execution| {
        e.trusted = true;
        e.trust = Some(Trust::Day);
        e.grant_id = Some(grant.id.clone());
    };
    let (id, later) = (home.request(granted).await, home.request(granted).await);
    let (_lane, fds) = TestLane::new();
    home.keeper.open_run(&id, fds).await.unwrap();
    let rows = home.rows().await;
    assert_eq!(rows.last().unwrap().event.detail.fields()["basis"], grant.id.as_str());
    home.store.revoke_grant(&grant.id, NOW).await.unwrap();
    assert!(matches!(refused(&home, &later).await, Fault::DeniedByPolicy(_)));
}

#[tokio::test]
async fn a_request_runs_once() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "api.example.com").await;
    let id = home.request(|_| ()).await;
    let open = || async { home.keeper.open_run(&id, TestLane::new().1).await };
    let (a, b, c) = tokio::join!(open(), open(), open());
    assert_eq!([a, b, c].into_iter().filter(Result::is_ok).count(), 1);
    home.keeper.close_run(&id, Vec::new()).await.unwrap();
    assert!(matches!(open().await, Err(Fault::DeniedByPolicy(_))), "closed, it does not open again");
    assert_eq!(home.kinds().await.iter().filter(|kind| **kind == "run_opened").count(), 1);
}

#[tokio::test]
async fn a_row_that_was_bound_anew_in_the_database_is_not_lent() {
    let home = Home::new().await;
    home.add_secret("API_KEY", "safe.example.com").await;
    let SealedSecret { mut record, sealed } =
        home.store.sealed_secret(&SecretName::parse("API_KEY").unwrap()).await.unwrap().unwrap();
    record.hosts = [host("api.example.com")].into();
    home.store.put_secret(&SealedSecret { record, sealed }).await.unwrap();
    let id = home.request(|_| ()).await;
    let (lane, fds) = TestLane::new();
    assert!(matches!(home.keeper.open_run(&id, fds).await, Err(Fault::Unavailable(_))));
    assert_eq!(lane.fetch("api.example.com", "x").await, "refused", "nothing is served");
    assert_eq!(home.status(&id).await, Status::Executing, "it does not get a second try");
    let rows = home.rows().await;
    let last = &rows.last().unwrap().event;
    assert_eq!((last.kind.as_str(), &last.detail.fields()["opened"]), ("run_closed", &false.into()));
}

#[tokio::test]
async fn a_placeholder_toward_a_host_of_another_secret_is_refused_and_recorded() {
    let (dial, heads) = upstream::start("api.example.com").await;
    let home = Home::dialling(dial).await;
    home.add_secret("API_KEY", "elsewhere.example.com").await;
    let id = home.request(|_| ()).await;
    let (lane, fds) = TestLane::new();
    let opened = home.keeper.open_run(&id, fds).await.unwrap();
    let reply = lane.fetch("api.example.com", &format!("Bearer {}", opened.placeholders[0].1)).await;
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
    assert!(heads.lock().unwrap().is_empty());
    drop(lane);
    assert_eq!(home.keeper.close_run(&id, Vec::new()).await.unwrap().refusals.len(), 1);
    assert_eq!(home.kinds().await[2..], ["run_opened", "egress_refused", "run_closed"]);
}

#[tokio::test]
async fn when_the_gateway_goes_its_runs_end() {
    let (dial, _heads) = upstream::start("api.example.com").await;
    let home = Home::dialling(dial).await;
    home.add_secret("API_KEY", "api.example.com").await;
    let id = home.request(|_| ()).await;
    let (lane, fds) = TestLane::new();
    home.keeper.open_run(&id, fds).await.unwrap();
    assert!(lane.fetch("api.example.com", "x").await.starts_with("HTTP/1.1 200"));
    let proxy = lane.without_pipes();
    let (_dir, store) = home.hang_up().await;
    assert_eq!(proxy.fetch("api.example.com", "x").await, "refused");
    let rows = store.audit_after(0, 100).await.unwrap();
    assert_eq!(rows.last().unwrap().event.kind.as_str(), "run_closed");
}

#[tokio::test]
async fn what_only_the_keeper_does_the_gateway_cannot_record() {
    use oauth3_core::{AuditEvent, AuditKind};
    let home = Home::new().await;
    for kind in [
        AuditKind::RunOpened,
        AuditKind::SecretUsed,
        AuditKind::SecretRevealed,
        AuditKind::EgressRefused,
        AuditKind::RunClosed,
    ] {
        let forged = home.keeper.audit(AuditEvent::new(kind, "gateway")).await;
        assert!(matches!(forged, Err(Fault::InvalidRequest(_))), "{kind:?}");
    }
    assert!(home.keeper.audit(AuditEvent::new(AuditKind::Asked, "keeper")).await.is_err());
    let flood = AuditEvent::new(AuditKind::Asked, "gateway").with("text", "x".repeat(70_000));
    assert!(matches!(home.keeper.audit(flood).await, Err(Fault::TooLarge(_))));
    home.keeper.audit(AuditEvent::new(AuditKind::Asked, "gateway")).await.unwrap();
    assert_eq!(home.kinds().await, ["started", "asked"]);
    assert_eq!(Digest::parse(&home.rows().await[0].mac).map(|_| ()), Some(()));
}
