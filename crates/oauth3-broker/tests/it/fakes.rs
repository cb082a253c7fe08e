//! Fakes of the ports: a keeper that decides again as the real one does, a scripted sandbox, a scripted network.

use async_trait::async_trait;
use oauth3_core::{
    ApiId, Attempt, AttemptEnd, AuditEvent, AuditKind, ChainReport, Channel, ChannelHealth, Clock, EgressUsage, Exit,
    ExitReason, FailedAttempt, Fault, HttpPort, HttpRequest, HttpResponse, Intent, Job, Keeper, Lane, LaneFds,
    LaneSpec, NewSecret, OpenedRun, Prompt, RequestId, RunOutput, Runner, Runtime, SealedSecret, SealedSignIn,
    SecretRecord, SignInOrder, SignInRecord, SignInState, Status, Store, Timestamp, TokenChange, WriteOnly,
};
use oauth3_policy::{Decision, decide, gather};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Moves only when told to.
pub(crate) struct FakeClock(pub(crate) AtomicI64);

impl FakeClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// What the store would hold as ciphertext.
pub(crate) const SEALED: &[u8] = b"sealed";

pub(crate) struct FakeKeeper {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Mutex<Vec<AuditEvent>>,
    pub(crate) output: Mutex<RunOutput>,
    /// Answers nothing while true.
    pub(crate) down: AtomicBool,
    pub(crate) closed: Mutex<Vec<RequestId>>,
    pub(crate) opened: AtomicUsize,
    /// The orders about sign-ins, in words.
    pub(crate) orders: Mutex<Vec<String>>,
    /// How often it was told to look again.
    pub(crate) refreshed: watch::Sender<usize>,
    /// While true, `audit` says that it began, and waits for the word to go on.
    pub(crate) slow: AtomicBool,
    pub(crate) recording: Notify,
    pub(crate) record: Notify,
}

impl FakeKeeper {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let output = RunOutput {
            stdout: "hello\n".into(),
            stderr: String::new(),
            truncated: false,
            refusals: vec![],
            egress: EgressUsage {
                egress_sent_bytes: 10,
                egress_received_bytes: 20,
                egress_requests: 1,
                egress_refused: 0,
            },
        };
        Self {
            store,
            clock,
            events: Mutex::default(),
            output: Mutex::new(output),
            down: AtomicBool::new(false),
            closed: Mutex::default(),
            opened: AtomicUsize::new(0),
            orders: Mutex::default(),
            refreshed: watch::Sender::new(0),
            slow: AtomicBool::new(false),
            recording: Notify::new(),
            record: Notify::new(),
        }
    }

    pub(crate) fn kinds(&self) -> Vec<AuditKind> {
        self.events.lock().unwrap().iter().map(|event| event.kind).collect()
    }

    pub(crate) fn count(&self, kind: AuditKind) -> usize {
        self.kinds().into_iter().filter(|k| *k == kind).count()
    }

    fn up(&self) -> Result<(), Fault> {
        if self.down.load(Ordering::SeqCst) { Err(Fault::Unavailable("the keeper is gone".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Keeper for FakeKeeper {
    async fn ping(&self) -> Result<(), Fault> {
        self.up()
    }

    async fn audit(&self, event: AuditEvent) -> Result<(), Fault> {
        self.up()?;
        if self.slow.load(Ordering::SeqCst) {
            self.recording.notify_one();
            self.record.notified().await;
        }
        self.events.lock().unwrap().push(event);
        Ok(())
    }

    async fn refresh(&self) -> Result<(), Fault> {
        self.up()?;
        self.refreshed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.up()?;
        Ok(ChainReport { rows: i64::try_from(self.events.lock().unwrap().len()).unwrap(), fault: None })
    }

    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        self.up()?;
        assert!(!value.is_empty());
        let now = self.clock.now();
        let NewSecret { name, hosts, uses, .. } = secret;
        let uses = oauth3_core::Uses::default().changed(&uses);
        let record = SecretRecord { name, hosts, uses, version: 1, created_at: now, updated_at: now };
        self.store.put_secret(&SealedSecret { record, sealed: SEALED.to_vec() }).await
    }

    /// Begins at once, and stops at once.
    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        self.up()?;
        self.orders.lock().unwrap().push(format!("{order:?} {} {by}", connection.name()));
        let found = self.store.sealed_sign_in(connection).await?;
        let before = found.map_or_else(|| SignInRecord::new(connection.clone()), |found| found.record);
        let (from, now) = (before.version, self.clock.now());
        let attempt = Attempt {
            asked_by: by.to_owned(),
            began_at: now,
            expires_at: now.plus(Duration::from_secs(900)),
            prompt: Prompt {
                address: "https://login.example.com/device".into(),
                code: Some("ABCD-EFGH".into()),
                address_with_code: None,
            },
            other_account: None,
        };
        let stopped = FailedAttempt { at: now, end: AttemptEnd::Cancelled, sentence: "You stopped it.".into() };
        let next = match order {
            SignInOrder::Begin => SignInRecord { attempt: before.attempt.clone().or(Some(attempt)), ..before },
            SignInOrder::Cancel => SignInRecord { attempt: None, failure: Some(stopped), ..before },
            _ => SignInRecord { attempt: None, state: SignInState::SignedOut, ..before },
        };
        let record = SignInRecord { version: from + 1, ..next };
        let sealed = SealedSignIn { record: record.clone(), sealed: Vec::new() };
        assert!(self.store.put_sign_in(&sealed, from, TokenChange::Keep).await?);
        Ok(record)
    }

    async fn open_run(&self, id: &RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        self.up()?;
        drop(lane);
        let mut execution = self.store.execution(id).await?.expect("the request is stored before its run opens");
        let gathered = gather(&*self.store, &execution.intent, Some(&execution)).await?;
        let Decision::Permit(_) = decide(&gathered.stored(&execution, self.clock.now())) else {
            return Err(Fault::DeniedByPolicy("the keeper decides otherwise".into()));
        };
        execution.status = Status::Executing;
        execution.executed_at = Some(self.clock.now());
        if !self.store.transition(&execution, Status::Approved).await? {
            return Err(Fault::DeniedByPolicy("it was run before".into()));
        }
        if execution.trusted {
            self.events.lock().unwrap().push(AuditEvent::new(AuditKind::Granted, "keeper").request(id));
        }
        self.opened.fetch_add(1, Ordering::SeqCst);
        let Intent { secrets, revealed, .. } = execution.intent;
        let placeholders = secrets.difference(&revealed).map(|n| (n.clone(), format!("placeholder-of-{n}"))).collect();
        Ok(OpenedRun { placeholders, revealed: revealed.into_iter().collect(), ca_pem: "the run's CA".into() })
    }

    async fn close_run(&self, id: &RequestId, then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        self.up()?;
        self.events.lock().unwrap().extend(then);
        self.closed.lock().unwrap().push(id.clone());
        Ok(self.output.lock().unwrap().clone())
    }
}

/// What a sandbox does next.
#[derive(Clone)]
pub(crate) enum Act {
    Exit(i32),
    End(ExitReason, Option<String>),
    /// Runs until it is dropped.
    Hang,
    /// Cannot be prepared.
    Broken(Fault),
}

pub(crate) struct FakeRunner {
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) default: Runtime,
    /// Taken one by one; the last one stays.
    pub(crate) acts: Mutex<VecDeque<Act>>,
    pub(crate) specs: Mutex<Vec<LaneSpec>>,
    pub(crate) jobs: Mutex<Vec<Job>>,
    /// Sandboxes that are there now.
    pub(crate) alive: Arc<watch::Sender<usize>>,
}

impl Default for FakeRunner {
    fn default() -> Self {
        Self {
            runtimes: vec![Runtime::Embedded, Runtime::Deno],
            default: Runtime::Deno,
            acts: Mutex::new([Act::Exit(0)].into()),
            specs: Mutex::default(),
            jobs: Mutex::default(),
            alive: Arc::new(watch::channel(0).0),
        }
    }
}

/// Counts a sandbox as long as it lives.
struct Alive(Arc<watch::Sender<usize>>);

impl Alive {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|n| *n += 1);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

struct FakeLane {
    act: Act,
    runner: Arc<FakeRunner>,
    alive: Alive,
}

/// The port is on the shared handle, so that lanes can report back.
#[derive(Clone)]
pub(crate) struct RunnerHandle(pub(crate) Arc<FakeRunner>);

#[async_trait]
impl Runner for RunnerHandle {
    fn executor(&self) -> &'static str {
        "native"
    }

    fn has(&self, runtime: Runtime) -> bool {
        self.0.runtimes.contains(&runtime)
    }

    fn default_runtime(&self) -> Runtime {
        self.0.default
    }

    async fn prepare(&self, spec: LaneSpec) -> Result<Box<dyn Lane>, Fault> {
        self.0.specs.lock().unwrap().push(spec);
        let mut acts = self.0.acts.lock().unwrap();
        let act = if acts.len() > 1 { acts.pop_front().unwrap() } else { acts[0].clone() };
        match act {
            Act::Broken(fault) => Err(fault),
            act => Ok(Box::new(FakeLane { act, runner: self.0.clone(), alive: Alive::new(&self.0.alive) })),
        }
    }
}

#[async_trait]
impl Lane for FakeLane {
    fn take_fds(&mut self) -> Result<LaneFds, Fault> {
        let (stdout, _) = std::io::pipe().unwrap();
        let (stderr, _) = std::io::pipe().unwrap();
        let (_, reveal) = std::io::pipe().unwrap();
        Ok(LaneFds { listeners: vec![], stdout: stdout.into(), stderr: stderr.into(), reveal: reveal.into() })
    }

    async fn run(self: Box<Self>, job: Job) -> Exit {
        self.runner.jobs.lock().unwrap().push(job);
        let _alive = self.alive;
        let (code, reason, error) = match self.act {
            Act::Exit(code) => (code, ExitReason::Exited, None),
            Act::End(reason, error) => (137, reason, error),
            Act::Hang | Act::Broken(_) => std::future::pending().await,
        };
        Exit { code, reason, duration: Duration::from_millis(12), cpu_ms: Some(7), memory_bytes: Some(1 << 20), error }
    }
}

type Answer = Box<dyn Fn(&HttpRequest) -> Result<HttpResponse, String> + Send + Sync>;

/// A network that answers as told and remembers what was asked.
pub(crate) struct FakeHttp {
    pub(crate) answer: Mutex<Answer>,
    pub(crate) asked: Mutex<Vec<HttpRequest>>,
    pub(crate) count: watch::Sender<usize>,
}

impl Default for FakeHttp {
    fn default() -> Self {
        Self {
            answer: Mutex::new(Box::new(|_| Err("nothing answers here".into()))),
            asked: Mutex::default(),
            count: watch::channel(0).0,
        }
    }
}

pub(crate) fn reply(status: u16, body: &str) -> Result<HttpResponse, String> {
    Ok(HttpResponse {
        status,
        location: None,
        content_type: None,
        retry_after: None,
        body: body.as_bytes().to_vec().into(),
    })
}

pub(crate) fn redirect(to: &str) -> Result<HttpResponse, String> {
    Ok(HttpResponse {
        status: 302,
        location: Some(to.into()),
        content_type: None,
        retry_after: None,
        body: vec![].into(),
    })
}

impl FakeHttp {
    pub(crate) fn answers(
        &self,
        answer: impl Fn(&HttpRequest) -> Result<HttpResponse, String> + Send + Sync + 'static,
    ) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|request| request.url.clone()).collect()
    }
}

#[async_trait]
impl HttpPort for FakeHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, String> {
        let answer = self.answer.lock().unwrap()(&request);
        self.asked.lock().unwrap().push(request);
        self.count.send_modify(|n| *n += 1);
        answer
    }
}

/// Remembers what it was told.
pub(crate) struct FakeChannel {
    pub(crate) health: ChannelHealth,
    pub(crate) told: Mutex<Vec<RequestId>>,
}

impl Default for FakeChannel {
    fn default() -> Self {
        Self { health: ChannelHealth::Connected, told: Mutex::default() }
    }
}

impl Channel for FakeChannel {
    fn name(&self) -> &'static str {
        "telegram"
    }

    fn health(&self) -> ChannelHealth {
        self.health
    }

    fn changed(&self, id: &RequestId) {
        self.told.lock().unwrap().push(id.clone());
    }
}
