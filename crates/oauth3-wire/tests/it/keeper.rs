//! A keeper that does what a test says.

use async_trait::async_trait;
use oauth3_core::{
    ApiCheck, ApiId, AuditEvent, ChainReport, EgressUsage, Fault, KeeperEvent, LaneFds, ListenerRole, NewSecret,
    OpenedRun, RequestId, RunOutput, SignInOrder, SignInRecord,
};
use oauth3_wire::Handler;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;
use zeroize::Zeroizing;

#[derive(Default)]
pub(crate) struct Scripted {
    /// What it was asked, in order.
    pub(crate) seen: Mutex<Vec<String>>,
    /// `close_run` says that it began, and waits for the word to go on.
    pub(crate) closing: Notify,
    pub(crate) close: Notify,
    /// What `close_run` gives.
    pub(crate) output: Mutex<Option<RunOutput>>,
    pub(crate) fault: Mutex<Option<Fault>>,
    /// `refresh` never ends.
    pub(crate) stuck: AtomicBool,
}

impl Scripted {
    fn note(&self, text: impl Into<String>) -> Result<(), Fault> {
        self.seen.lock().unwrap().push(text.into());
        self.fault.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait]
impl Handler for Scripted {
    async fn ping(&self) -> Result<(), Fault> {
        self.note("ping")
    }
    async fn audit(&self, event: AuditEvent) -> Result<(), Fault> {
        self.note(format!("audit {} {}", event.kind.as_str(), event.actor))
    }
    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        self.note("verify_audit")?;
        Ok(ChainReport { rows: 7, fault: Some("row 3 was changed".into()) })
    }
    async fn put_secret(&self, secret: NewSecret, value: Zeroizing<Vec<u8>>) -> Result<(), Fault> {
        self.note(format!("put_secret {} {:?}", secret.name, &value[..]))
    }
    async fn open_run(&self, id: RequestId, lane: LaneFds) -> Result<OpenedRun, Fault> {
        let roles: Vec<ListenerRole> = lane.listeners.iter().map(|l| l.role).collect();
        // Each listener is told its place, and what stdout holds is read: the right descriptors came.
        let writable = lane.listeners.into_iter().map(|listener| listener.fd).chain([lane.reveal]);
        for (place, fd) in writable.enumerate() {
            writeln!(File::from(fd), "{place}").unwrap();
        }
        let mut texts = [String::new(), String::new()];
        File::from(lane.stdout).read_to_string(&mut texts[0]).unwrap();
        File::from(lane.stderr).read_to_string(&mut texts[1]).unwrap();
        self.note(format!("open_run {id} {roles:?} {texts:?}"))?;
        let revealed = vec!["SHOWN".parse().unwrap()];
        Ok(OpenedRun { placeholders: vec![("KEY".parse().unwrap(), "ph".into())], revealed, ca_pem: "PEM".into() })
    }
    async fn close_run(&self, id: RequestId, _then: Vec<AuditEvent>) -> Result<RunOutput, Fault> {
        self.note(format!("close_run {id}"))?;
        self.closing.notify_one();
        self.close.notified().await;
        Ok(self.output.lock().unwrap().take().unwrap_or(RunOutput {
            stdout: "out".into(),
            stderr: "err".into(),
            truncated: false,
            refusals: vec!["no".into()],
            egress: EgressUsage { egress_requests: 3, ..EgressUsage::default() },
        }))
    }
    async fn refresh(&self) -> Result<(), Fault> {
        self.note("refresh")?;
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
    async fn next_event(&self) -> Result<KeeperEvent, Fault> {
        self.note("next_event")?;
        std::future::pending().await
    }
    async fn proxy_address(&self) -> Result<Option<std::net::SocketAddr>, Fault> {
        self.note("proxy_address")?;
        Ok(None)
    }
    async fn check_api(&self, api: ApiId) -> Result<Vec<ApiCheck>, Fault> {
        self.note(format!("check_api {api}"))?;
        Ok(Vec::new())
    }
    async fn answer_ask(&self, number: u64, answer: Result<RequestId, Fault>) -> Result<(), Fault> {
        self.note(format!("answer_ask {number} {answer:?}"))
    }
    async fn order_sign_in(&self, api: ApiId, order: SignInOrder, by: String) -> Result<SignInRecord, Fault> {
        self.note(format!("order_sign_in {api} {order:?} {by}"))?;
        Ok(SignInRecord::new(api))
    }
    async fn put_client_secret(&self, api: ApiId, value: Zeroizing<Vec<u8>>, by: String) -> Result<(), Fault> {
        self.note(format!("put_client_secret {api} {:?} {by}", &value[..]))
    }
}
