//! Waking the agent: fixed words, signed, again and again, and never in the way.

use crate::fakes::reply;
use crate::world::{CODE, PATIENCE, World, bot, deny, draft, draft_with_secrets};
use oauth3_broker::wake::{signature, wake_text};
use oauth3_broker::{BrokerConfig, WakeConfig};
use oauth3_core::{AgentPort, Credential, RequestId, Status, Store, Trust};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn both(config: &mut BrokerConfig) {
    config.wake = WakeConfig {
        openclaw: Some(("http://127.0.0.1:18789/".into(), Credential::new("hook-token".into()))),
        command: vec![],
        webhook: Some(("https://hooks.example.com/x?y=1".into(), Credential::new("webhook key".into()))),
    };
}

/// Waits until so many calls were made.
async fn called(world: &World, count: usize) {
    let mut calls = world.http.count.subscribe();
    tokio::time::timeout(PATIENCE, calls.wait_for(|n| *n >= count)).await.unwrap().unwrap();
}

/// Waits until nobody is left to be woken.
async fn all_woken(store: &Arc<dyn Store>) {
    let woken = async {
        while !store.unnotified(1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, woken).await.unwrap();
}

#[tokio::test]
async fn each_target_gets_its_form_and_nothing_of_the_code() {
    let world = World::with(both).await;
    world.http.answers(|_| reply(200, "{\"ok\":true}"));
    let id = world.run(draft(CODE), Trust::Once).await.id;
    all_woken(&world.store).await;
    let mut calls = std::mem::take(&mut *world.http.asked.lock().unwrap());
    assert_eq!(calls.len(), 2);
    calls.sort_by_key(|call| call.url.clone());

    let openclaw = &calls[0];
    assert_eq!((openclaw.method, openclaw.url.as_str()), ("POST", "http://127.0.0.1:18789/hooks/wake"));
    assert!(openclaw.headers.contains(&("authorization", "Bearer hook-token".to_owned().into())));
    let body: Value = serde_json::from_slice(&openclaw.body).unwrap();
    assert_eq!(body, json!({"text": wake_text(&id), "mode": "now"}));
    assert!(wake_text(&id).ends_with(id.as_str()));

    let webhook = &calls[1];
    assert_eq!(webhook.url, "https://hooks.example.com/x?y=1");
    let body: Value = serde_json::from_slice(&webhook.body).unwrap();
    assert_eq!(body, json!({"request_id": id.as_str(), "status": "success"}));
    let signed = signature(&Credential::new("webhook key".into()), &webhook.body);
    assert!(webhook.headers.contains(&("x-oauth3-signature", signed.into())));

    for call in &calls {
        assert!(call.owner_configured);
        assert!(call.headers.contains(&("content-type", "application/json".to_owned().into())));
        assert!(!String::from_utf8_lossy(&call.body).contains("hello"));
    }
}

#[test]
fn the_signature_is_hmac_sha256() {
    // RFC 4231, test case 2.
    let key = Credential::new("Jefe".into());
    let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(signature(&key, b"what do ya want for nothing?"), expected);
}

#[tokio::test]
async fn every_final_status_wakes_and_no_other() {
    let world = World::with(|config| {
        both(config);
        config.wake.openclaw = None;
    })
    .await;
    world.http.answers(|_| reply(204, ""));
    let denied = world.ask(draft(CODE)).await;
    let cancelled = world.ask(draft(CODE)).await;
    let waiting = world.ask(draft_with_secrets(CODE, &["API_KEY"])).await;
    world.verdict(&waiting, crate::world::approve(Trust::Once)).await.unwrap();
    assert!(world.http.urls().is_empty());

    world.verdict(&denied, deny("no")).await.unwrap();
    world.broker.cancel(&bot(), &cancelled).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(15 * 60));
    world.broker.expire_due().await;
    all_woken(&world.store).await;
    let calls = world.http.asked.lock().unwrap();
    let mut told: Vec<(String, String)> = calls
        .iter()
        .map(|call| serde_json::from_slice::<Value>(&call.body).unwrap())
        .map(|body| (body["status"].as_str().unwrap().to_owned(), body["request_id"].as_str().unwrap().to_owned()))
        .collect();
    told.sort();
    let expected = [("cancelled", cancelled), ("denied", denied), ("expired", waiting)];
    assert_eq!(told, expected.map(|(status, id)| (status.to_owned(), id.to_string())));
}

#[tokio::test]
async fn a_failure_is_tried_again_and_never_fails_the_request() {
    let world = World::with(|config| {
        both(config);
        config.wake.webhook = None;
    })
    .await;
    let tries = AtomicUsize::new(0);
    world.http.answers(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => reply(503, "later"),
        _ => reply(200, ""),
    });
    let done = world.run(draft(CODE), Trust::Once).await;
    assert_eq!((done.status, done.error), (Status::Success, None));
    called(&world, 2).await;
    all_woken(&world.store).await;
    assert_eq!(world.http.urls().len(), 2);
}

#[tokio::test]
async fn what_was_not_delivered_is_delivered_after_a_restart() {
    let mut world = World::with(|config| {
        both(config);
        config.wake.webhook = None;
    })
    .await;
    let id = world.run(draft(CODE), Trust::Once).await.id;
    called(&world, 1).await;
    assert_eq!(world.get(&id).await.notified_at, None);
    world.broker.shutdown().await;

    world.http.answers(|_| reply(200, ""));
    world.restart().await;
    all_woken(&world.store).await;
    assert!(world.get(&id).await.notified_at.is_some());
    let calls = world.http.urls().len();
    world.restart().await;
    assert_eq!(world.http.urls().len(), calls, "once is enough");
}

/// The command form, with a program of the test's own.
#[tokio::test]
async fn the_command_gets_its_words_and_no_shell() {
    let folder = tempfile::tempdir().unwrap();
    let (program, out) = (folder.path().join("wake.sh"), folder.path().join("out"));
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {0}.tmp\nenv | cut -d= -f1 | sort >> {0}.tmp\nmv {0}.tmp {0}\n",
        out.display()
    );
    std::fs::write(&program, script).unwrap();
    let world = World::with(|config| {
        config.wake.command = vec![
            "/bin/sh".into(),
            program.display().to_string(),
            "--text".into(),
            "request {request_id} is {status}; $(touch /tmp/never) `id` {other}".into(),
        ];
    })
    .await;
    let id: RequestId = world.run(draft(CODE), Trust::Once).await.id;
    all_woken(&world.store).await;
    let written = std::fs::read_to_string(&out).unwrap();
    let mut lines = written.lines();
    assert_eq!(lines.next(), Some("--text"));
    let text = format!("request {id} is success; $(touch /tmp/never) `id` {{other}}");
    assert_eq!(lines.next(), Some(text.as_str()));
    let allowed = ["HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(lines.all(|name| allowed.contains(&name)), "a clean environment: {written}");
}

#[tokio::test]
async fn nobody_to_wake_is_noted_too() {
    let world = World::new().await;
    let id = world.run(draft(CODE), Trust::Once).await.id;
    all_woken(&world.store).await;
    assert!(world.get(&id).await.notified_at.is_some());
    assert!(world.http.urls().is_empty());
}
