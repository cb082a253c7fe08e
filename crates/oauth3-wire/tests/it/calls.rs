//! Every call, side by side, and what happens when one side goes.

use super::{connect, id};
use oauth3_core::{
    ApiId, AuditEvent, AuditKind, EgressUsage, Fault, Keeper, LaneFds, ListenerFd, ListenerRole, NewSecret, RunOutput,
    WriteOnly,
};
use oauth3_wire::{MAX_OUTPUT_BYTES, Role};
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn secret() -> NewSecret {
    let name = "KEY".parse().unwrap();
    NewSecret { name, hosts: Default::default(), uses: Default::default(), replace: false, by: "cli".into() }
}

/// A lane whose pipes hold a word each, and the readers of its "listeners" and of its pipe for values.
fn lane(listeners: usize) -> (LaneFds, Vec<PipeReader>) {
    let word = |text: &str| {
        let (read, mut write) = pipe().unwrap();
        write.write_all(text.as_bytes()).unwrap();
        OwnedFd::from(read)
    };
    let (mut readers, listeners): (Vec<_>, Vec<_>) = (0..listeners)
        .map(|port| {
            let (read, write) = pipe().unwrap();
            let role = ListenerRole::Tls { port: u16::try_from(port).unwrap() };
            (read, ListenerFd { role, fd: write.into() })
        })
        .unzip();
    let (values, reveal) = pipe().unwrap();
    readers.push(values);
    (LaneFds { listeners, stdout: word("o"), stderr: word("e"), reveal: reveal.into() }, readers)
}

#[tokio::test]
async fn every_call_reaches_the_keeper_and_its_answer_comes_back() {
    let (gateway, keeper, _served) = connect(Role::Gateway);
    gateway.ping().await.unwrap();
    gateway.audit(AuditEvent::new(AuditKind::Asked, "agent:a")).await.unwrap();
    let report = gateway.verify_audit().await.unwrap();
    assert_eq!((report.rows, report.fault.as_deref()), (7, Some("row 3 was changed")));
    gateway.put_secret(secret(), WriteOnly::new(b"\0\xff\"x".to_vec())).await.unwrap();

    let (lane, readers) = lane(3);
    let opened = gateway.open_run(&id(), lane).await.unwrap();
    assert_eq!((opened.placeholders[0].1.as_str(), opened.ca_pem.as_str()), ("ph", "PEM"));
    assert_eq!(opened.revealed, ["SHOWN".parse().unwrap()]);
    for (place, mut reader) in readers.into_iter().enumerate() {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{place}\n"));
    }

    keeper.close.notify_one();
    let output = gateway.close_run(&id(), Vec::new()).await.unwrap();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str(), &output.refusals[..]),
        ("out", "err", &["no".into()][..])
    );
    assert_eq!(
        keeper.seen(),
        [
            "ping",
            "audit asked agent:a",
            "verify_audit",
            "put_secret KEY [0, 255, 34, 120]",
            "open_run req_abc [Tls { port: 0 }, Tls { port: 1 }, Tls { port: 2 }] [\"o\", \"e\"]",
            "close_run req_abc",
        ]
    );
}

#[tokio::test]
async fn faults_come_back_as_they_are() {
    let (gateway, keeper, _served) = connect(Role::Gateway);
    for fault in [
        Fault::DeniedByPolicy("no".into()),
        Fault::RateLimited { text: "slow".into(), retry_after: 3 },
        Fault::Exists("one of that name is there".into()),
    ] {
        *keeper.fault.lock().unwrap() = Some(fault.clone());
        assert_eq!(gateway.ping().await, Err(fault));
    }
}

#[tokio::test]
async fn a_slow_close_holds_up_no_other_call() {
    let (gateway, keeper, _served) = connect(Role::Gateway);
    let closing = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.close_run(&id(), Vec::new()).await }
    });
    keeper.closing.notified().await;
    let many = (0..200).map(|n| {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.audit(AuditEvent::new(AuditKind::Asked, format!("agent:{n}"))).await })
    });
    for call in many.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert!(!closing.is_finished());
    keeper.close.notify_one();
    assert_eq!(closing.await.unwrap().unwrap().stdout, "out");
}

#[tokio::test]
async fn when_the_keeper_dies_pending_and_later_calls_are_refused() {
    let (gateway, keeper, served) = connect(Role::Gateway);
    let pending = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.close_run(&id(), Vec::new()).await }
    });
    keeper.closing.notified().await;
    served.abort();
    assert!(matches!(pending.await.unwrap(), Err(Fault::Unavailable(_))));
    gateway.closed().await;
    assert!(matches!(gateway.ping().await, Err(Fault::Unavailable(_))));
    let (lane, _readers) = lane(1);
    assert!(matches!(gateway.open_run(&id(), lane).await, Err(Fault::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_does_not_take_in_what_changed_is_hung_up_on() {
    let (gateway, keeper, served) = connect(Role::Gateway);
    gateway.refresh().await.unwrap();
    // A no is an answer.
    *keeper.fault.lock().unwrap() = Some(Fault::Unavailable("the store is gone".into()));
    assert_eq!(gateway.refresh().await, Err(Fault::Unavailable("the store is gone".into())));
    *keeper.fault.lock().unwrap() = None;
    keeper.stuck.store(true, Ordering::SeqCst);
    assert!(matches!(gateway.refresh().await, Err(Fault::Unavailable(_))));
    gateway.closed().await;
    served.await.unwrap();
    assert_eq!(keeper.seen(), ["refresh"; 3]);
}

#[tokio::test(start_paused = true)]
async fn what_the_keeper_wants_is_waited_for_however_long_it_takes() {
    let (gateway, _keeper, _served) = connect(Role::Gateway);
    let waiting = tokio::spawn(async move { gateway.next_event().await });
    tokio::time::sleep(std::time::Duration::from_secs(400 * 24 * 3600)).await;
    assert!(!waiting.is_finished());
}

#[tokio::test]
async fn dropping_the_gateways_side_ends_the_serving() {
    let (gateway, _keeper, served) = connect(Role::Gateway);
    gateway.ping().await.unwrap();
    drop(gateway);
    served.await.unwrap();
}

#[tokio::test]
async fn the_owners_socket_allows_four_calls_only() {
    let (owner, keeper, _served) = connect(Role::Owner);
    owner.ping().await.unwrap();
    owner.put_secret(secret(), WriteOnly::new(b"v".to_vec())).await.unwrap();
    let connection = ApiId::connection("mail").unwrap();
    owner.put_client_secret(&connection, WriteOnly::new(b"v".to_vec()), "cli").await.unwrap();
    owner.verify_audit().await.unwrap();
    let refused = |fault: Fault| assert!(matches!(fault, Fault::DeniedByPolicy(_)), "{fault}");
    refused(owner.audit(AuditEvent::new(AuditKind::Asked, "x")).await.unwrap_err());
    refused(owner.open_run(&id(), lane(2).0).await.unwrap_err());
    refused(owner.close_run(&id(), Vec::new()).await.unwrap_err());
    refused(owner.check_api(&ApiId::provider("openai").unwrap()).await.unwrap_err());
    let client = "put_client_secret api/mail [118] cli";
    assert_eq!(keeper.seen(), ["ping", "put_secret KEY [118]", client, "verify_audit"]);
}

#[tokio::test]
async fn as_many_descriptors_as_ever_needed_and_no_more() {
    let (gateway, _keeper, _served) = connect(Role::Gateway);
    gateway.open_run(&id(), lane(oauth3_wire::MAX_FDS - 3).0).await.unwrap();
    let refused = gateway.open_run(&id(), lane(oauth3_wire::MAX_FDS - 2).0).await;
    assert!(matches!(refused, Err(Fault::InvalidRequest(_))));
    gateway.ping().await.unwrap();
}

#[tokio::test]
async fn large_output_comes_whole_and_larger_is_cut() {
    let (gateway, keeper, _served) = connect(Role::Gateway);
    let output = |stdout: String| {
        *keeper.output.lock().unwrap() = Some(RunOutput {
            stdout,
            stderr: "\u{1}".repeat(3 << 20),
            truncated: false,
            refusals: Vec::new(),
            egress: EgressUsage::default(),
        });
        keeper.close.notify_one();
        let gateway = Arc::clone(&gateway);
        async move { gateway.close_run(&id(), Vec::new()).await.unwrap() }
    };
    let whole = output("ä".repeat(MAX_OUTPUT_BYTES / 2)).await;
    assert_eq!((whole.stdout.len(), whole.stderr.len(), whole.truncated), (MAX_OUTPUT_BYTES, 3 << 20, false));
    let cut = output(format!("x{}", "ä".repeat(MAX_OUTPUT_BYTES / 2))).await;
    assert_eq!((cut.stdout.len(), cut.truncated), (MAX_OUTPUT_BYTES - 1, true));
}
