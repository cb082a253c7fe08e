//! An owner's port that notes what it was told, and a keeper that takes values.

use crate::samples::{CREATED, agent, execution, result, secret};
use async_trait::async_trait;
use oauth3_core::{
    Account, AgentName, AgentRecord, AgentToken, ApiId, Attempt, AttemptEnd, AuditEvent, AuditKind, AuditRow,
    ChainReport, Draft, Execution, FailedAttempt, Fault, Grant, GrantId, Keeper, LaneFds, NewSecret, OpenedRun,
    OwnerOverview, OwnerPort, Prompt, RequestId, RunOutput, SecretName, SecretRecord, SignInOrder, SignInRecord,
    SignInState, Status, Submitted, Timestamp, Trust, Verdict, WriteOnly,
};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;

#[derive(Default)]
pub(crate) struct FakeOwner {
    /// What was called, in words.
    pub(crate) calls: Mutex<Vec<String>>,
    /// When set, every method fails with it.
    pub(crate) fault: Mutex<Option<Fault>>,
    /// The last token that was handed out.
    pub(crate) token: Mutex<String>,
    /// When set, waiting never ends by itself.
    pub(crate) wait_for_ever: Mutex<bool>,
    pub(crate) waiting: WaitEvents,
}

pub(crate) struct WaitEvents {
    pub(crate) began: Semaphore,
    pub(crate) dropped: Semaphore,
}

impl Default for WaitEvents {
    fn default() -> Self {
        Self { began: Semaphore::new(0), dropped: Semaphore::new(0) }
    }
}

struct OnDrop<'a>(&'a Semaphore);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl FakeOwner {
    fn note(&self, call: String) -> Result<(), Fault> {
        self.calls.lock().unwrap().push(call);
        match self.fault.lock().unwrap().clone() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn fresh_token(&self) -> AgentToken {
        let token = AgentToken::random().unwrap();
        *self.token.lock().unwrap() = token.reveal().to_owned();
        token
    }
}

/// A request with everything filled in.
pub(crate) fn full(id: &RequestId) -> Execution {
    let mut execution = execution("alice", Status::Success);
    execution.id = id.clone();
    execution.result = Some(result(0));
    execution.trust = Some(Trust::Forever);
    execution.args.insert("k".into(), serde_json::json!({"z": [1.5, null], "a": "ü"}));
    execution
}

pub(crate) fn grant() -> Grant {
    Grant {
        id: GrantId::parse("grt_abc").unwrap(),
        intent: execution("alice", Status::Pending).intent,
        trust: Trust::Day,
        granted_at: Timestamp::from_millis(CREATED),
        expires_at: Some(Timestamp::from_millis(CREATED + 1)),
        revoked_at: None,
        granted_by: "cli".into(),
    }
}

pub(crate) fn agent_record() -> AgentRecord {
    AgentRecord {
        name: agent("alice"),
        created_at: Timestamp::from_millis(CREATED),
        rotated_at: None,
        revoked_at: None,
        tags: std::collections::BTreeSet::new(),
        last_seen_at: Some(Timestamp::from_millis(CREATED)),
    }
}

/// A sign-in with everything filled in.
pub(crate) fn sign_in() -> SignInRecord {
    let account = |name: &str| Account {
        subject: name.to_lowercase(),
        name: Some(name.into()),
        email: Some(format!("{name}@example.com")),
    };
    let at = Timestamp::from_millis(CREATED);
    let prompt = Prompt {
        address: "https://login.example.com/device".into(),
        code: Some("ABCD-EFGH".into()),
        address_with_code: Some("https://login.example.com/device?code=ABCD-EFGH".into()),
    };
    let attempt = Attempt {
        asked_by: "agent:alice".into(),
        began_at: at,
        expires_at: Timestamp::from_millis(CREATED + 1),
        prompt,
        other_account: Some(account("Bob")),
    };
    SignInRecord {
        version: 3,
        state: SignInState::Needed("the tokens were revoked".into()),
        account: Some(account("Ann")),
        granted: ["Mail.Read".to_owned()].into(),
        expires_at: Some(at),
        refreshable: true,
        signed_in_at: Some(at),
        refreshed_at: Some(at),
        refreshing_since: Some(at),
        attempt: Some(attempt),
        failure: Some(FailedAttempt { at, end: AttemptEnd::Expired, sentence: "Nobody signed in in time.".into() }),
        used_at: Some(at),
        ..SignInRecord::new(ApiId::connection("my-mail").unwrap())
    }
}

pub(crate) fn audit_row() -> AuditRow {
    AuditRow {
        seq: 7,
        at: Timestamp::from_millis(CREATED),
        event: AuditEvent::new(AuditKind::Approved, "cli").with("trust", "once"),
        mac: "00".into(),
    }
}

#[async_trait]
impl OwnerPort for FakeOwner {
    async fn verdict(&self, id: &RequestId, verdict: Verdict, by: &str) -> Result<Execution, Fault> {
        self.note(format!("verdict {id} {verdict:?} {by}")).map(|()| full(id))
    }
    async fn show(&self, id: &RequestId) -> Result<Execution, Fault> {
        self.note(format!("show {id}")).map(|()| full(id))
    }
    async fn requests(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault> {
        self.note(format!("requests {statuses:?} {limit}"))?;
        Ok(vec![full(&RequestId::parse("req_abc").unwrap())])
    }
    async fn wait(&self, id: &RequestId, seen: Status, patience: Duration) -> Result<Execution, Fault> {
        let _event = OnDrop(&self.waiting.dropped);
        self.waiting.began.add_permits(1);
        let for_ever = *self.wait_for_ever.lock().unwrap();
        if for_ever {
            std::future::pending::<()>().await;
        }
        self.note(format!("wait {id} {seen} {patience:?}")).map(|()| full(id))
    }
    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        self.note("sign_ins".into()).map(|()| vec![sign_in()])
    }
    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        self.note(format!("order_sign_in {connection} {order:?} {by}")).map(|()| sign_in())
    }
    async fn wait_sign_in(&self, connection: &ApiId, seen: u32, patience: Duration) -> Result<SignInRecord, Fault> {
        let _event = OnDrop(&self.waiting.dropped);
        self.waiting.began.add_permits(1);
        let for_ever = *self.wait_for_ever.lock().unwrap();
        if for_ever {
            std::future::pending::<()>().await;
        }
        self.note(format!("wait_sign_in {connection} {seen} {patience:?}")).map(|()| sign_in())
    }
    async fn submit(&self, draft: Draft) -> Result<Submitted, Fault> {
        self.note(format!("submit {draft:?}"))?;
        let missing_secrets = vec![SecretName::parse("A_KEY").unwrap()];
        let execution = full(&RequestId::parse("req_abc").unwrap());
        Ok(Submitted { execution, missing_secrets, asked: vec!["telegram".into()] })
    }
    async fn grants(&self) -> Result<Vec<Grant>, Fault> {
        self.note("grants".into()).map(|()| vec![grant()])
    }
    async fn revoke_grant(&self, id: &GrantId, by: &str) -> Result<(), Fault> {
        self.note(format!("revoke_grant {id} {by}"))
    }
    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        self.note("secrets".into()).map(|()| vec![secret()])
    }
    async fn put_secret(&self, _: NewSecret, _: WriteOnly) -> Result<(), Fault> {
        panic!("no value may reach the gateway over this socket");
    }
    async fn remove_secret(&self, name: &SecretName, by: &str) -> Result<(), Fault> {
        self.note(format!("remove_secret {name} {by}"))
    }
    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault> {
        self.note("agents".into()).map(|()| vec![agent_record()])
    }
    async fn add_agent(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault> {
        self.note(format!("add_agent {name} {by}")).map(|()| self.fresh_token())
    }
    async fn rotate_agent(&self, name: &AgentName, by: &str) -> Result<AgentToken, Fault> {
        self.note(format!("rotate_agent {name} {by}")).map(|()| self.fresh_token())
    }
    async fn revoke_agent(&self, name: &AgentName, by: &str) -> Result<(), Fault> {
        self.note(format!("revoke_agent {name} {by}"))
    }
    async fn overview(&self) -> Result<OwnerOverview, Fault> {
        self.note("overview".into()).map(|()| OwnerOverview { kill_switch: true, open_requests: 2, running: 3 })
    }
    async fn set_kill_switch(&self, on: bool, by: &str) -> Result<(), Fault> {
        self.note(format!("set_kill_switch {on} {by}"))
    }
    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        self.note(format!("audit_after {seq} {limit}")).map(|()| vec![audit_row()])
    }
    async fn audit_head(&self) -> Result<i64, Fault> {
        self.note("audit_head".into()).map(|()| 7)
    }
    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.note("verify_audit".into()).map(|()| ChainReport { rows: 7, fault: Some("row 3 was edited".into()) })
    }
    async fn report_stranger(&self, by: &str, what: &str) -> Result<(), Fault> {
        self.note(format!("report_stranger {by} {what}"))
    }
}

/// A keeper that remembers names and sizes of values.
#[derive(Default)]
pub(crate) struct FakeKeeper {
    pub(crate) stored: Mutex<Vec<(String, usize)>>,
    pub(crate) fault: Mutex<Option<Fault>>,
}

#[async_trait]
impl Keeper for FakeKeeper {
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        if let Some(fault) = self.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        self.stored.lock().unwrap().push((secret.name.to_string(), value.len()));
        Ok(())
    }
    async fn put_client_secret(&self, connection: &ApiId, value: WriteOnly, by: &str) -> Result<(), Fault> {
        self.stored.lock().unwrap().push((format!("{connection} by {by}"), value.len()));
        Ok(())
    }
    async fn ping(&self) -> Result<(), Fault> {
        unreachable!()
    }
    async fn audit(&self, _: AuditEvent) -> Result<(), Fault> {
        unreachable!()
    }
    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        unreachable!()
    }
    async fn open_run(&self, _: &RequestId, _: LaneFds) -> Result<OpenedRun, Fault> {
        unreachable!()
    }
    async fn close_run(&self, _: &RequestId, _: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        unreachable!()
    }
}
