//! Every method of the port.

use crate::support::{Files, agent, at, execution, grant, intent, sealed, secret_name};
use oauth3_core::{
    AgentToken, Execution, Fault, GrantId, RequestId, RunResult, Standing, Status, Store, TokenHash, TokenId, Trust,
    Usage,
};
use oauth3_store::SqliteStore;
use serde_json::json;

fn token() -> (TokenId, TokenHash) {
    let token = AgentToken::random().unwrap();
    (token.id(), token.hash())
}

#[tokio::test]
async fn agents_are_added_rotated_and_revoked_for_good() {
    let files = Files::new();
    let store = files.open().await;
    store.check().await.unwrap();
    let (id, hash) = token();
    let (bot, other) = (agent("bot"), agent("another"));
    store.insert_agent(&bot, &id, &hash, at(1)).await.unwrap();
    store.insert_agent(&other, &token().0, &hash, at(2)).await.unwrap();
    assert_eq!(store.insert_agent(&bot, &token().0, &hash, at(3)).await.unwrap_err().code(), "exists");

    let names: Vec<_> = store.agents().await.unwrap().into_iter().map(|a| a.name.to_string()).collect();
    assert_eq!(names, ["another", "bot"]);
    let (record, stored) = store.agent_by_token(&id).await.unwrap().unwrap();
    assert_eq!(record, store.agent(&bot).await.unwrap().unwrap());
    assert_eq!((record.created_at, record.rotated_at, record.revoked_at), (at(1), None, None));
    assert!(stored.matches(&hash));

    let (new_id, new_hash) = token();
    store.replace_token(&bot, &new_id, &new_hash, at(5)).await.unwrap();
    assert!(store.agent_by_token(&id).await.unwrap().is_none());
    let (record, stored) = store.agent_by_token(&new_id).await.unwrap().unwrap();
    assert!(stored.matches(&new_hash) && !stored.matches(&hash));
    assert_eq!(record.rotated_at, Some(at(5)));

    store.set_agent_seen(&bot, at(20)).await.unwrap();
    store.set_agent_seen(&bot, at(19)).await.unwrap();
    store.set_agent_seen(&agent("nobody"), at(19)).await.unwrap();
    assert_eq!(store.agent(&bot).await.unwrap().unwrap().last_seen_at, Some(at(20)));

    store.revoke_agent(&bot, at(6)).await.unwrap();
    store.revoke_agent(&bot, at(7)).await.unwrap();
    assert_eq!(store.agent(&bot).await.unwrap().unwrap().revoked_at, Some(at(6)));
    assert!(matches!(store.replace_token(&bot, &id, &hash, at(8)).await, Err(Fault::NotFound(_))));
    assert!(matches!(store.insert_agent(&bot, &id, &hash, at(8)).await, Err(Fault::Exists(_))));
    assert!(matches!(store.revoke_agent(&agent("nobody"), at(8)).await, Err(Fault::NotFound(_))));
    assert!(matches!(store.replace_token(&agent("nobody"), &id, &hash, at(8)).await, Err(Fault::NotFound(_))));
    assert!(store.agent(&agent("nobody")).await.unwrap().is_none());
}

#[tokio::test]
async fn secrets_are_stored_replaced_listed_and_removed() {
    let files = Files::new();
    let store = files.open().await;
    let (first, second) = (sealed("B_KEY", 1, b"\x00sealed\xff"), sealed("B_KEY", 2, b"sealed anew"));
    store.put_secret(&first).await.unwrap();
    store.put_secret(&sealed("A_KEY", 1, b"x")).await.unwrap();
    assert_eq!(store.sealed_secret(&secret_name("B_KEY")).await.unwrap(), Some(first));
    store.put_secret(&second).await.unwrap();
    assert_eq!(store.sealed_secret(&secret_name("B_KEY")).await.unwrap(), Some(second.clone()));
    assert_eq!(store.secrets().await.unwrap(), [sealed("A_KEY", 1, b"x").record, second.record]);

    store.remove_secret(&secret_name("B_KEY")).await.unwrap();
    assert!(matches!(store.remove_secret(&secret_name("B_KEY")).await, Err(Fault::NotFound(_))));
    assert_eq!(store.sealed_secret(&secret_name("B_KEY")).await.unwrap(), None);
    assert_eq!(store.secrets().await.unwrap().len(), 1);
}

/// A request in its last state, with every field set.
fn finished(mut execution: Execution) -> Execution {
    execution.status = Status::Failed;
    execution.trust = Some(Trust::Day);
    execution.grant_id = GrantId::random();
    execution.trusted = true;
    execution.decided_by = Some("telegram:42".into());
    execution.approved_at = Some(at(2));
    execution.executed_at = Some(at(3));
    execution.finished_at = Some(at(4));
    execution.result = Some(RunResult {
        stdout: "out\u{0}\u{fffd}".into(),
        stderr: "err".into(),
        exit_code: 137,
        duration_ms: 1_234,
        truncated: true,
        usage: Some(Usage { cpu_ms: Some(5), ..Usage::default() }),
    });
    execution.error = Some("failed: it ended with 137".into());
    execution
}

#[tokio::test]
async fn a_request_comes_back_as_it_went_in() {
    let files = Files::new();
    let store = files.open().await;
    let plain = execution("bot", b"\x00any bytes\xff");
    let full = finished(execution("bot", b"\x00any bytes\xff"));
    store.insert_execution(&plain).await.unwrap();
    store.insert_execution(&full).await.unwrap();
    assert_eq!(store.execution(&plain.id).await.unwrap(), Some(plain.clone()));
    assert_eq!(store.execution(&full.id).await.unwrap(), Some(full));
    let keys: Vec<_> = store.execution(&plain.id).await.unwrap().unwrap().args.keys().cloned().collect();
    assert_eq!(keys, ["zebra", "ant"], "in the agent's order");
    assert_eq!(store.execution(&RequestId::random().unwrap()).await.unwrap(), None);
    assert!(matches!(store.insert_execution(&plain).await, Err(Fault::Unavailable(_))), "an id is used once");
}

#[tokio::test]
async fn requests_are_listed_by_status_newest_first() {
    let files = Files::new();
    let store = files.open().await;
    let mut ids = Vec::new();
    for status in Status::ALL {
        let one = Execution { status, ..execution("bot", b"code") };
        store.insert_execution(&one).await.unwrap();
        ids.push(one.id);
    }
    let listed = async |statuses: &[Status], limit| -> Vec<RequestId> {
        store.executions(statuses, limit).await.unwrap().into_iter().map(|e| e.id).collect()
    };
    let mut newest_first = ids.clone();
    newest_first.reverse();
    assert_eq!(listed(&[], 100).await, newest_first);
    assert_eq!(listed(&[], 2).await, newest_first[..2]);
    assert_eq!(listed(&[Status::Pending, Status::Executing], 100).await, [ids[3].clone(), ids[0].clone()]);
    assert_eq!(store.open_count(&agent("bot")).await.unwrap(), 2);
    assert_eq!(store.open_count(&agent("another")).await.unwrap(), 0);

    let unnotified =
        async |limit| -> Vec<RequestId> { store.unnotified(limit).await.unwrap().into_iter().map(|e| e.id).collect() };
    assert_eq!(unnotified(100).await, ids[4..], "final ones, oldest first");
    assert_eq!(unnotified(2).await, ids[4..6]);
    store.set_notified(&ids[5], at(77)).await.unwrap();
    assert_eq!(unnotified(2).await, [ids[4].clone(), ids[6].clone()]);
    assert_eq!(store.execution(&ids[5]).await.unwrap().unwrap().notified_at, Some(at(77)));
}

#[tokio::test]
async fn a_transition_happens_from_the_expected_status_only() {
    let files = Files::new();
    let store = files.open().await;
    let pending = execution("bot", b"code");
    store.insert_execution(&pending).await.unwrap();
    let approved = Execution { status: Status::Approved, trust: Some(Trust::Once), ..pending.clone() };
    assert!(!store.transition(&approved, Status::AwaitingSecrets).await.unwrap());
    assert_eq!(store.execution(&pending.id).await.unwrap(), Some(pending.clone()));
    assert!(store.transition(&approved, Status::Pending).await.unwrap());
    assert!(!store.transition(&approved, Status::Pending).await.unwrap());
    assert_eq!(store.execution(&pending.id).await.unwrap(), Some(approved.clone()));

    let done = Execution { id: pending.id.clone(), ..finished(pending.clone()) };
    assert!(store.transition(&done, Status::Approved).await.unwrap());
    assert_eq!(store.execution(&pending.id).await.unwrap(), Some(done.clone()));
    let again = Execution { status: Status::Approved, ..done.clone() };
    assert!(store.transition(&again, Status::Failed).await.is_err(), "a final status stays");
    assert_eq!(store.execution(&pending.id).await.unwrap(), Some(done));
    assert!(!store.transition(&execution("bot", b"code"), Status::Pending).await.unwrap(), "unknown id");
}

#[tokio::test]
async fn a_transition_never_writes_over_what_was_submitted() {
    let files = Files::new();
    let store = files.open().await;
    let pending = execution("bot", b"shown");
    store.insert_execution(&pending).await.unwrap();
    let forged = Execution { id: pending.id.clone(), status: Status::Approved, ..execution("evil", b"not shown") };
    assert!(store.transition(&forged, Status::Pending).await.unwrap());
    let stored = store.execution(&pending.id).await.unwrap().unwrap();
    assert_eq!(stored.status, Status::Approved);
    assert_eq!((stored.code, stored.intent), (pending.code, pending.intent));
}

#[tokio::test]
async fn what_was_changed_behind_our_back_is_not_handed_out() {
    let files = Files::new();
    let store = files.open().await;
    let (bad, good) = (execution("bot", b"code"), execution("bot", b"other code"));
    store.insert_execution(&bad).await.unwrap();
    store.insert_execution(&good).await.unwrap();
    files.tamper("UPDATE code SET bytes = CAST('evil' AS BLOB) WHERE bytes = CAST('code' AS BLOB)").await;
    assert!(matches!(store.execution(&bad.id).await, Err(Fault::Unavailable(_))));
    assert_eq!(
        store.executions(&[], 10).await.unwrap(),
        std::slice::from_ref(&good),
        "one bad row does not hide the rest"
    );

    files.tamper("UPDATE executions SET intent = json_set(intent, '$.hosts', json_array('evil.example'))").await;
    assert!(matches!(store.execution(&good.id).await, Err(Fault::Unavailable(_))));
}

/// The first version's rows have four limits, and the digest that it made of them.
#[tokio::test]
async fn rows_of_the_first_version_are_read_and_still_are_what_was_submitted() {
    let files = Files::new();
    let store = files.open().await;
    let mut old = execution("bot", b"code");
    old.intent.limits = serde_json::from_value(json!({
        "timeout_ms": 30_000, "memory_mb": 256, "output_bytes": 1 << 20, "processes": 32
    }))
    .unwrap();
    old.intent_digest = old.intent.digest();
    store.insert_execution(&old).await.unwrap();
    let grant = oauth3_core::Grant { intent: old.intent.clone(), ..grant("bot", b"code", Trust::Forever) };
    store.insert_grant(&grant).await.unwrap();
    let strip = "UPDATE executions SET intent = json_remove(intent, '$.limits.cpu_ms', '$.limits.file_mb',
            '$.limits.open_files', '$.limits.egress_mb', '$.limits.egress_requests');
        UPDATE approvals SET intent = json_remove(intent, '$.limits.cpu_ms', '$.limits.file_mb',
            '$.limits.open_files', '$.limits.egress_mb', '$.limits.egress_requests')";
    files.tamper(strip).await;
    assert_eq!(store.execution(&old.id).await.unwrap(), Some(old.clone()));
    assert_eq!(granted(&store, &old.intent_digest).await, Some(grant));

    // A limit that such a row is given afterwards shows.
    files.tamper("UPDATE executions SET intent = json_set(intent, '$.limits.egress_mb', 5)").await;
    assert!(matches!(store.execution(&old.id).await, Err(Fault::Unavailable(_))));
}

async fn granted(store: &SqliteStore, digest: &oauth3_core::Digest) -> Option<oauth3_core::Grant> {
    store.standing(&agent("bot"), digest, None).await.unwrap().grant
}

#[tokio::test]
async fn what_policy_goes_by_is_read_as_one() {
    let files = Files::new();
    let store = files.open().await;
    let (bot, one) = (agent("bot"), grant("bot", b"code", Trust::Forever));
    let digest = one.intent.digest();
    let nothing =
        Standing { kill_switch: false, agent_active: false, open_requests: 0, grant: None, grant_revoked: false };
    assert_eq!(store.standing(&bot, &digest, None).await.unwrap(), nothing);
    let unknown = store.standing(&bot, &digest, Some(&one.id)).await.unwrap();
    assert_eq!(unknown, Standing { grant_revoked: true, ..nothing }, "what is not there counts as revoked");

    let (id, hash) = token();
    store.insert_agent(&bot, &id, &hash, at(1)).await.unwrap();
    store.insert_grant(&one).await.unwrap();
    store.insert_execution(&execution("bot", b"code")).await.unwrap();
    store.set_kill_switch(true).await.unwrap();
    let all = Standing {
        kill_switch: true,
        agent_active: true,
        open_requests: 1,
        grant: Some(one.clone()),
        grant_revoked: false,
    };
    assert_eq!(store.standing(&bot, &digest, Some(&one.id)).await.unwrap(), all);
    store.revoke_agent(&bot, at(2)).await.unwrap();
    store.revoke_grant(&one.id, at(2)).await.unwrap();
    let gone = Standing { agent_active: false, grant: None, grant_revoked: true, ..all };
    assert_eq!(store.standing(&bot, &digest, Some(&one.id)).await.unwrap(), gone);
}

#[tokio::test]
async fn grants_are_found_by_intent_and_revoked_once() {
    let files = Files::new();
    let store = files.open().await;
    let (old, new) = (grant("bot", b"code", Trust::Day), grant("bot", b"code", Trust::Forever));
    let digest = intent("bot", b"code").digest();
    assert_eq!(granted(&store, &digest).await, None);
    store.insert_grant(&old).await.unwrap();
    store.insert_grant(&new).await.unwrap();
    assert_eq!(granted(&store, &digest).await, Some(new.clone()));
    assert_eq!(granted(&store, &intent("bot", b"Code").digest()).await, None);
    assert_eq!(store.grants().await.unwrap(), [new.clone(), old.clone()]);

    assert!(store.revoke_grant(&new.id, at(9)).await.unwrap());
    assert!(!store.revoke_grant(&new.id, at(10)).await.unwrap());
    assert!(!store.revoke_grant(&GrantId::random().unwrap(), at(10)).await.unwrap());
    assert_eq!(store.grant(&new.id).await.unwrap().unwrap().revoked_at, Some(at(9)));
    assert_eq!(granted(&store, &digest).await, Some(old.clone()));
    assert!(store.revoke_grant(&old.id, at(11)).await.unwrap());
    assert_eq!(granted(&store, &digest).await, None);
    assert_eq!(store.grant(&GrantId::random().unwrap()).await.unwrap(), None);
    assert_eq!(store.grants().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_grant_of_once_cannot_be_stored() {
    let files = Files::new();
    let store = files.open().await;
    assert!(store.insert_grant(&grant("bot", b"code", Trust::Once)).await.is_err());
}

#[tokio::test]
async fn the_kill_switch_is_off_at_first_and_stays_as_set() {
    let files = Files::new();
    let store = files.open().await;
    assert!(!store.kill_switch().await.unwrap());
    for on in [true, true, false, true] {
        store.set_kill_switch(on).await.unwrap();
        assert_eq!(store.kill_switch().await.unwrap(), on);
    }
    files.tamper("UPDATE settings SET value = 'OFF?'").await;
    assert!(store.kill_switch().await.unwrap(), "what is not understood denies");
}

#[tokio::test]
async fn notes_are_kept_per_channel_and_found_by_prefix() {
    let files = Files::new();
    let store = files.open().await;
    for (channel, key, value) in
        [("telegram", "card:b", json!({"m": 2})), ("telegram", "card:a", json!(1)), ("telegram", "nonce:x", json!("y"))]
    {
        store.set_note(channel, key, Some(&value)).await.unwrap();
    }
    store.set_note("web", "card:a", Some(&json!("other"))).await.unwrap();
    assert_eq!(store.note("telegram", "card:b").await.unwrap(), Some(json!({"m": 2})));
    assert_eq!(store.note("telegram", "card:c").await.unwrap(), None);
    let cards = store.notes("telegram", "card:").await.unwrap();
    assert_eq!(cards, [("card:a".to_owned(), json!(1)), ("card:b".to_owned(), json!({"m": 2}))]);
    assert!(store.notes("telegram", "car%").await.unwrap().is_empty(), "no wildcards");
    assert_eq!(store.notes("telegram", "").await.unwrap().len(), 3);

    store.set_note("telegram", "card:a", Some(&json!([]))).await.unwrap();
    assert_eq!(store.note("telegram", "card:a").await.unwrap(), Some(json!([])));
    store.set_note("telegram", "card:a", None).await.unwrap();
    store.set_note("telegram", "card:a", None).await.unwrap();
    assert_eq!(store.note("telegram", "card:a").await.unwrap(), None);
    assert_eq!(store.note("web", "card:a").await.unwrap(), Some(json!("other")));
}

#[tokio::test]
async fn a_closed_store_is_a_fault_without_a_cause_in_it() {
    let files = Files::new();
    let store = files.open().await;
    store.close().await;
    let fault = store.check().await.unwrap_err();
    assert_eq!(fault, Fault::Unavailable("the store does not answer".into()));
}
