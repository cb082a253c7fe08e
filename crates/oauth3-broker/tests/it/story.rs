//! The main path, from a request to its result.

use crate::fakes::Act;
use crate::world::{CODE, PATIENCE, World, approve, bot, draft, draft_with_secrets};
use oauth3_core::{
    AgentName, AgentPort, AuditKind, Draft, EgressUsage, ExitReason, Fault, Host, OwnerPort, RunOutput, Runtime,
    Status, Trust,
};
use serde_json::json;

#[tokio::test]
async fn an_agent_asks_the_owner_approves_the_code_runs() {
    let world = World::new().await;
    world.add_secret("API_KEY").await;
    let args = json!({"city": "Köln", "days": 3, "deep": {"a": [1, null]}, "raw": "a b\"c"});
    let draft = Draft { args: args.as_object().unwrap().clone(), ..draft_with_secrets(CODE, &["API_KEY"]) };

    let submitted = world.submit(draft).await.unwrap();
    assert_eq!(submitted.execution.status, Status::Pending);
    assert_eq!(submitted.asked, ["telegram"]);
    assert!(submitted.missing_secrets.is_empty());
    let id = submitted.execution.id;
    assert_eq!(world.get(&id).await.description, "says hello");
    assert_eq!(world.ran(), 0, "nothing runs before a verdict");

    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    let done = world.ends(&id).await;
    assert_eq!((done.status, done.error.as_deref()), (Status::Success, None));
    let result = done.result.unwrap();
    assert_eq!((result.stdout.as_str(), result.exit_code, result.duration_ms), ("hello\n", 0, 12));
    assert!(!done.trusted && done.trust == Some(Trust::Once) && done.decided_by.as_deref() == Some("cli"));
    assert!(done.approved_at.is_some() && done.executed_at.is_some() && done.finished_at.is_some());

    let spec = world.runner.specs.lock().unwrap()[0].clone();
    assert_eq!((spec.hosts, spec.runtime), (vec![Host::parse("api.example.com").unwrap()], Runtime::Deno));
    assert_eq!((spec.limits.timeout_ms, spec.limits.memory_mb, spec.limits.processes), (30_000, 256, 32));
    let job = world.runner.jobs.lock().unwrap()[0].clone();
    assert_eq!((job.code.as_slice(), job.ca_pem.as_str()), (CODE.as_bytes(), "the run's CA"));
    let expected = [
        ("API_KEY", "placeholder-of-API_KEY"),
        ("SKILL_ARGS", r#"{"city":"Köln","days":3,"deep":{"a":[1,null]},"raw":"a b\"c"}"#),
        ("ARG_city", "Köln"),
        ("ARG_days", "3"),
        ("ARG_deep", r#"{"a":[1,null]}"#),
        ("ARG_raw", "a b\"c"),
    ];
    assert_eq!(job.env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let kinds = world.keeper.kinds();
    let told: Vec<_> = [AuditKind::Asked, AuditKind::Approved, AuditKind::Finished].into();
    assert_eq!(kinds[kinds.len() - 3..], told);
    assert!(world.channel.told.lock().unwrap().iter().filter(|told| **told == id).count() >= 3);
}

#[tokio::test]
async fn the_status_changes_one_by_one_and_is_seen_by_its_own_agent_only() {
    let world = World::new().await;
    world.acts([Act::Hang]);
    let id = world.ask(draft(CODE)).await;
    let other = AgentName::parse("other").unwrap();
    world.broker.add_agent(&other, "cli").await.unwrap();

    let early = world.broker.wait_change(&bot(), &id, Status::Approved, PATIENCE).await.unwrap();
    assert_eq!(early.status, Status::Pending, "it differs already");
    let agent = bot();
    let waiting = world.broker.wait_change(&agent, &id, Status::Pending, PATIENCE);
    let (seen, verdict) = tokio::join!(waiting, world.verdict(&id, approve(Trust::Once)));
    verdict.unwrap();
    assert!(matches!(seen.unwrap().status, Status::Approved | Status::Executing));
    world.reaches(&id, Status::Executing).await;
    assert!(world.get(&id).await.executed_at.is_some());
    let still = world.broker.wait_change(&bot(), &id, Status::Executing, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(still.status, Status::Executing, "patience ended");

    for refused in [
        world.broker.execution(&other, &id).await,
        world.broker.wait_change(&other, &id, Status::Pending, PATIENCE).await,
        world.broker.cancel(&other, &id).await,
    ] {
        assert!(matches!(refused, Err(Fault::NotFound(_))));
    }
    assert_eq!(world.broker.execution(&bot(), &id).await.unwrap().status, Status::Executing);

    world.broker.cancel(&bot(), &id).await.unwrap();
    let done = world.broker.wait_change(&bot(), &id, Status::Cancelled, PATIENCE).await.unwrap();
    assert_eq!(done.status, Status::Cancelled, "a final status is not waited on");
}

#[tokio::test]
async fn many_wait_for_one_request() {
    let world = World::new().await;
    let id = world.ask(draft(CODE)).await;
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (broker, id) = (world.broker.clone(), id.clone());
        waiters.spawn(async move { broker.wait(&id, Status::Pending, PATIENCE).await.unwrap().status });
    }
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    for status in waiters.join_all().await {
        assert_ne!(status, Status::Pending);
    }
}

#[tokio::test]
async fn code_that_does_not_end_well_has_failed_with_the_reason() {
    let cases = [
        (Act::Exit(3), "failed: the code ended with exit code 3"),
        (Act::End(ExitReason::TimedOut, None), "timeout: ended after 30000 ms"),
        (Act::End(ExitReason::OutOfCpu, None), "failed: it used more than 60 CPU seconds"),
        (Act::End(ExitReason::OutOfMemory, None), "failed: it needed more than 256 MiB of memory"),
        (
            Act::End(ExitReason::NotStarted, Some("deno is gone".into())),
            "failed: it could not be started: deno is gone",
        ),
    ];
    let world = World::new().await;
    for (act, error) in cases {
        world.acts([act]);
        let done = world.run(draft(CODE), Trust::Once).await;
        assert_eq!((done.status, done.error.as_deref()), (Status::Failed, Some(error)));
        assert_eq!(done.result.unwrap().stdout, "hello\n", "what it wrote is there all the same");
    }
    world.acts([Act::Broken(Fault::Unavailable("no namespaces here".into()))]);
    let done = world.run(draft(CODE), Trust::Once).await;
    assert_eq!(done.error.as_deref(), Some("failed: it could not be run: no namespaces here"));
    assert_eq!(world.keeper.opened.load(std::sync::atomic::Ordering::SeqCst), 5);
}

#[tokio::test]
async fn what_the_egress_refused_is_told() {
    let world = World::new().await;
    *world.keeper.output.lock().unwrap() = RunOutput {
        stdout: "partial".into(),
        stderr: "fetch failed".into(),
        truncated: true,
        refusals: vec!["evil.example is not among the hosts of this request".into()],
        egress: EgressUsage::default(),
    };
    let done = world.run(draft(CODE), Trust::Once).await;
    let told = "fetch failed\n[oauth3] evil.example is not among the hosts of this request\n";
    assert_eq!((done.status, done.result.as_ref().unwrap().stderr.as_str()), (Status::Success, told));
    assert!(done.result.unwrap().truncated);

    world.acts([Act::Exit(1)]);
    let done = world.run(draft(CODE), Trust::Once).await;
    let error = "failed: the code ended with exit code 1; evil.example is not among the hosts of this request";
    assert_eq!(done.error.as_deref(), Some(error));
}

#[tokio::test]
async fn the_runtime_is_named_or_the_default_or_embedded() {
    let world = World::new().await;
    let named = |code: &str| format!("// @runtime {code}\n{CODE}");
    let runtime = async |code: &str| world.get(&world.ask(draft(code)).await).await.intent.runtime;
    assert_eq!(runtime(CODE).await, Runtime::Deno);
    assert_eq!(runtime(&named("embedded")).await, Runtime::Embedded);
    for (code, fault) in [(named("python"), "python is not installed"), (named("perl"), "unknown")] {
        let refused = world.submit(draft(&code)).await.unwrap_err();
        assert!(matches!(&refused, Fault::UnknownRuntime(text) if text.contains(fault)), "{refused}");
    }
}

#[tokio::test]
async fn the_owner_submits_too_and_is_decided_on_like_any_other() {
    let world = World::new().await;
    let submitted = OwnerPort::submit(&*world.broker, draft(CODE)).await.unwrap();
    assert_eq!(submitted.execution.status, Status::Pending);
    assert_eq!(submitted.execution.intent.agent.as_str(), "owner");
    world.verdict(&submitted.execution.id, approve(Trust::Once)).await.unwrap();
    assert_eq!(world.ends(&submitted.execution.id).await.status, Status::Success);
}

#[tokio::test]
async fn whoever_hangs_up_in_the_middle_loses_nothing() {
    let world = World::new().await;
    for _ in 0..20 {
        let id = world.ask(draft(CODE)).await;
        // Polled a few times and dropped, as a handler is when its client goes.
        let mut verdict = Box::pin(world.verdict(&id, approve(Trust::Once)));
        assert!(futures_poll_once(&mut verdict).await.is_none());
        drop(verdict);
        assert_eq!(world.ends(&id).await.status, Status::Success);
    }
    assert_eq!(world.ran(), 20);
}

async fn futures_poll_once<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
