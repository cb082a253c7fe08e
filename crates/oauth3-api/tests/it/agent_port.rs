//! A port whose answers the test chooses, behind the real router on a real socket.

use crate::http::{Answer, send};
use crate::samples::{agent, execution, secret};
use async_trait::async_trait;
use oauth3_api::{ApiConfig, ApiError, agent_router, serve_agents};
use oauth3_core::{
    AgentName, AgentPort, AgentToken, ApiId, ChannelHealth, ConnectionView, Draft, DryRun, Execution, Fault, Health,
    RequestId, SecretName, SecretRecord, SignInAsked, Status, Submitted,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// What `submit` does.
pub(crate) enum Script {
    Answer(Box<Submitted>),
    Fault(Fault),
    Panic,
    /// Waits for a permit, then adds the request.
    Gate,
}

pub(crate) struct FakeAgents {
    pub(crate) tokens: [(AgentToken, AgentName); 2],
    pub(crate) anonymous: Mutex<Option<AgentName>>,
    pub(crate) script: Mutex<Option<Script>>,
    pub(crate) gate: Semaphore,
    pub(crate) entered_gate: Semaphore,
    pub(crate) drafts: Mutex<Vec<Draft>>,
    pub(crate) health: Mutex<Health>,
    pub(crate) connections: Mutex<Vec<ConnectionView>>,
    /// What a wish to have the owner signed in is answered with, and who had which.
    pub(crate) sign_in: Mutex<Result<SignInAsked, Fault>>,
    pub(crate) asked_for: Mutex<Vec<String>>,
    executions: watch::Sender<HashMap<String, Execution>>,
    /// One permit for each call that began to wait.
    pub(crate) waiting: Semaphore,
}

impl FakeAgents {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            tokens: ["alice", "bob"].map(|name| (AgentToken::random().unwrap(), agent(name))),
            anonymous: Mutex::new(None),
            script: Mutex::new(None),
            gate: Semaphore::new(0),
            entered_gate: Semaphore::new(0),
            drafts: Mutex::new(Vec::new()),
            health: Mutex::new(Health {
                telegram: ChannelHealth::Connected,
                database: true,
                keeper: true,
                executor: "native".into(),
            }),
            connections: Mutex::default(),
            sign_in: Mutex::new(Err(Fault::NotFound("there is no such connection".into()))),
            asked_for: Mutex::default(),
            executions: watch::Sender::new(HashMap::new()),
            waiting: Semaphore::new(0),
        })
    }

    pub(crate) fn put(&self, execution: Execution) {
        self.executions.send_modify(|all| drop(all.insert(execution.id.to_string(), execution)));
    }

    pub(crate) fn all(&self) -> Vec<Execution> {
        self.executions.borrow().values().cloned().collect()
    }

    /// Returns when a request is in the store.
    pub(crate) async fn something_is_stored(&self) {
        self.executions.subscribe().wait_for(|all| !all.is_empty()).await.unwrap();
    }

    /// Makes `submit` answer with this request, which then is in the store.
    pub(crate) fn will_answer(&self, execution: &Execution, missing: &[&str], asked: &[&str]) {
        self.put(execution.clone());
        let submitted = Submitted {
            execution: execution.clone(),
            missing_secrets: missing.iter().map(|name| SecretName::parse(name).unwrap()).collect(),
            asked: asked.iter().map(|&name| name.to_owned()).collect(),
        };
        *self.script.lock().unwrap() = Some(Script::Answer(Box::new(submitted)));
    }

    /// Returns when one more call waits for a change.
    pub(crate) async fn somebody_waits(&self) {
        self.waiting.acquire().await.unwrap().forget();
    }
}

#[async_trait]
impl AgentPort for FakeAgents {
    async fn authenticate(&self, token: Option<&AgentToken>) -> Result<AgentName, Fault> {
        let found = match token {
            None => self.anonymous.lock().unwrap().clone(),
            Some(token) => self.tokens.iter().find(|(t, _)| t.reveal() == token.reveal()).map(|(_, name)| name.clone()),
        };
        found.ok_or_else(|| Fault::InvalidToken("no agent has this token".into()))
    }

    async fn submit(&self, agent: &AgentName, draft: Draft) -> Result<Submitted, Fault> {
        self.drafts.lock().unwrap().push(draft);
        let script = self.script.lock().unwrap().take();
        match script {
            Some(Script::Answer(submitted)) => Ok(*submitted),
            Some(Script::Fault(fault)) => Err(fault),
            Some(Script::Panic) => panic!("as the test wants"),
            Some(Script::Gate) => {
                self.entered_gate.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
                let execution = execution(agent.as_str(), Status::Pending);
                self.put(execution.clone());
                Ok(Submitted { execution, missing_secrets: vec![], asked: vec![] })
            }
            None => Err(Fault::Unavailable("the test said nothing".into())),
        }
    }

    async fn dry_run(&self, _: &AgentName, draft: Draft) -> Result<DryRun, Fault> {
        self.drafts.lock().unwrap().push(draft);
        let missing_secrets = vec![SecretName::parse("A_KEY").unwrap()];
        Ok(DryRun { decision: "ask".into(), reason: "no grant".into(), missing_secrets })
    }

    async fn execution(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault> {
        let found = self.executions.borrow().get(id.as_str()).cloned();
        found.filter(|e| e.intent.agent == *agent).ok_or_else(|| Fault::NotFound("there is no such request".into()))
    }

    async fn wait_change(
        &self,
        agent: &AgentName,
        id: &RequestId,
        seen: Status,
        patience: Duration,
    ) -> Result<Execution, Fault> {
        let mut changes = self.executions.subscribe();
        self.waiting.add_permits(1);
        let changed = changes.wait_for(|all| all.get(id.as_str()).is_some_and(|e| e.status != seen));
        let _ = tokio::time::timeout(patience, changed).await;
        self.execution(agent, id).await
    }

    async fn cancel(&self, agent: &AgentName, id: &RequestId) -> Result<Execution, Fault> {
        let mut execution = self.execution(agent, id).await?;
        if execution.status.is_final() {
            return Err(Fault::AlreadyDecided("it was decided before".into()));
        }
        execution.status = Status::Cancelled;
        execution.error = Some("cancelled by the agent".into());
        self.put(execution.clone());
        Ok(execution)
    }

    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        Ok(vec![secret()])
    }

    async fn connections(&self) -> Result<Vec<ConnectionView>, Fault> {
        Ok(self.connections.lock().unwrap().clone())
    }

    async fn ask_sign_in(&self, agent: &AgentName, connection: &ApiId) -> Result<SignInAsked, Fault> {
        self.asked_for.lock().unwrap().push(format!("{agent} {connection}"));
        self.sign_in.lock().unwrap().clone()
    }

    async fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }
}

/// The router on a loopback port. Ends with the test.
pub(crate) struct Server {
    pub(crate) port: Arc<FakeAgents>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<Result<(), ApiError>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_as("").await
    }

    pub(crate) async fn start_as(public_url: &str) -> Self {
        let port = FakeAgents::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = ApiConfig { version: "1.2.3".into(), public_url: public_url.into() };
        let router = agent_router(Arc::clone(&port) as Arc<dyn AgentPort>, config);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve_agents(listener, router, stopped));
        Self { port, address, stop, task }
    }

    /// The field that makes a call alice's.
    pub(crate) fn alice(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.port.tokens[0].0.reveal())
    }

    pub(crate) fn bob(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.port.tokens[1].0.reveal())
    }

    /// A call with these fields and this body.
    pub(crate) async fn call(&self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}", self.address);
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        send(self.address, format!("{head}{length}\r\n{body}").as_bytes()).await
    }

    /// `POST /execute` as alice.
    pub(crate) async fn execute(&self, body: &str) -> Answer {
        self.call("POST", "/execute", &self.alice(), body).await
    }

    /// A GET as alice.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &self.alice(), "").await
    }
}
