//! The world of a test: an in-memory store and broker, an emulated Telegram, and the channel between them.

use crate::http::LoopbackHttp;
use async_trait::async_trait;
use e2e::telegram_emulator::{ChatMessage, Emulator};
use oauth3_approve::{Telegram, TelegramConfig};
use oauth3_core::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

pub(crate) const TOKEN: &str = "777000001:AAtesttoken_abcdefghijklmnopqrstuvwx";
pub(crate) const OWNER: i64 = 42;
pub(crate) const STRANGER: i64 = 66;
const START: i64 = 1_790_000_000_000;

pub(crate) struct World {
    pub(crate) bot_api: Emulator,
    pub(crate) broker: Arc<Broker>,
    pub(crate) http: Arc<LoopbackHttp>,
    pub(crate) chat: i64,
    pub(crate) owners: Vec<i64>,
    pub(crate) channel: Option<Arc<Telegram>>,
}

impl World {
    /// With a running channel in the owner's private chat.
    pub(crate) async fn new() -> Self {
        let mut world = Self::stopped().await;
        world.start();
        world
    }

    pub(crate) async fn stopped() -> Self {
        let bot_api = Emulator::start(TOKEN).await.unwrap();
        bot_api.add_private_chat(OWNER);
        bot_api.add_private_chat(STRANGER);
        Self {
            bot_api,
            broker: Arc::new(Broker::default()),
            http: Arc::default(),
            chat: OWNER,
            owners: vec![OWNER],
            channel: None,
        }
    }

    /// Another oauth3 that uses the same bot.
    pub(crate) fn beside(world: &Self) -> Arc<Telegram> {
        let broker = Arc::new(Broker::default());
        let config = TelegramConfig {
            token: Credential::new(TOKEN.to_owned()),
            chat_id: OWNER,
            owner_ids: Vec::new(),
            api_url: world.bot_api.api_url().to_owned(),
            public_url: String::new(),
            ceilings: ceilings(),
            words: Arc::new(FakeWords),
        };
        Telegram::start(config, broker.clone(), broker.clone(), Arc::new(LoopbackHttp::default()), broker)
    }

    pub(crate) fn start(&mut self) {
        let config = TelegramConfig {
            token: Credential::new(TOKEN.to_owned()),
            chat_id: self.chat,
            owner_ids: self.owners.clone(),
            api_url: self.bot_api.api_url().to_owned(),
            public_url: String::new(),
            ceilings: ceilings(),
            words: Arc::new(FakeWords),
        };
        let broker = Arc::clone(&self.broker);
        let channel = Telegram::start(config, broker.clone(), broker.clone(), self.http.clone(), broker.clone());
        *self.broker.channel.lock().unwrap() = Some(Arc::downgrade(&channel) as _);
        self.channel = Some(channel);
    }

    /// As a crash would: nothing is said goodbye to.
    pub(crate) fn stop(&mut self) {
        self.channel = None;
    }

    pub(crate) fn submit(&self, execution: Execution) -> RequestId {
        let id = execution.id.clone();
        self.broker.executions.lock().unwrap().insert(id.clone(), execution);
        self.broker.changed(&id);
        id
    }

    /// The message that shows this request in this state.
    pub(crate) async fn card(&self, id: &RequestId, headline: &str) -> ChatMessage {
        let id = id.to_string();
        self.bot_api
            .message(self.chat, |m| {
                m.from.is_none() && m.document.is_none() && m.text.contains(&id) && m.text.contains(headline)
            })
            .await
            .unwrap()
    }

    pub(crate) async fn tap(&self, card: &ChatMessage, label: &str) -> Option<String> {
        let tap = self.bot_api.tap(OWNER, self.chat, card.message_id, label).unwrap();
        self.bot_api.answer(&tap).await.unwrap()
    }

    pub(crate) fn write(&self, text: &str) -> i32 {
        self.bot_api.write(OWNER, self.chat, text, None).unwrap()
    }

    pub(crate) fn reply(&self, to: &ChatMessage, text: &str) -> i32 {
        self.bot_api.write(OWNER, self.chat, text, Some(to.message_id)).unwrap()
    }

    /// The newest message of the bot that contains this.
    pub(crate) async fn says(&self, text: &str) -> ChatMessage {
        self.bot_api.message(self.chat, |m| m.from.is_none() && m.text.contains(text)).await.unwrap()
    }

    pub(crate) async fn status(&self, id: &RequestId, status: Status) -> Execution {
        self.broker.until("the status", |b| b.get(id).filter(|e| e.status == status)).await
    }
}

/// Where tests leave their traffic when this variable names a folder, for `e2e/peers/aiogram_check.py`.
const TRAFFIC_DIR: &str = "TELEGRAM_TRAFFIC_DIR";

impl Drop for World {
    fn drop(&mut self) {
        if let Some(dir) = std::env::var_os(TRAFFIC_DIR) {
            let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
            std::fs::write(std::path::Path::new(&dir).join(format!("{test}.jsonl")), self.bot_api.traffic_lines())
                .unwrap();
        }
    }
}

/// A request without secrets, from an agent named `bot`.
pub(crate) fn execution() -> Execution {
    let code = b"console.log('hello');\n".to_vec();
    let intent = Intent {
        agent: AgentName::parse("bot").unwrap(),
        skill_id: SkillId::parse("greet").unwrap(),
        code_digest: Digest::of(&code),
        runtime: Runtime::Deno,
        secrets: BTreeSet::new(),
        revealed: Default::default(),
        hosts: BTreeSet::from([Host::parse("api.example.com").unwrap()]),
        limits: Limits { processes: 32, ..Limits::STANDARD },
        access: None,
    };
    Execution {
        id: RequestId::random().unwrap(),
        intent_digest: intent.digest(),
        intent,
        description: "Says hello".to_owned(),
        skill_url: None,
        code,
        args: serde_json::Map::new(),
        status: Status::Pending,
        created_at: Timestamp::from_millis(START),
        expires_at: Timestamp::from_millis(START + 900_000),
        approved_at: None,
        executed_at: None,
        finished_at: None,
        trust: None,
        grant_id: None,
        trusted: false,
        decided_by: None,
        result: None,
        error: None,
        notified_at: None,
    }
}

pub(crate) fn with_code(code: &[u8]) -> Execution {
    let mut execution = execution();
    execution.code = code.to_vec();
    execution.intent.code_digest = Digest::of(code);
    execution.intent_digest = execution.intent.digest();
    execution
}

pub(crate) fn with_secrets(names: &[&str]) -> Execution {
    let mut execution = execution();
    execution.intent.secrets = names.iter().map(|n| SecretName::parse(n).unwrap()).collect();
    execution.intent_digest = execution.intent.digest();
    execution
}

pub(crate) fn record(name: &str, hosts: &[&str]) -> SecretRecord {
    SecretRecord {
        name: SecretName::parse(name).unwrap(),
        hosts: hosts.iter().map(|h| Host::parse(h).unwrap()).collect(),
        uses: oauth3_core::Uses::default(),
        version: 1,
        created_at: Timestamp::from_millis(START),
        updated_at: Timestamp::from_millis(START),
    }
}

/// What a provider is called here, and one of its scopes.
#[derive(Debug)]
pub(crate) struct FakeWords;

impl oauth3_approve::ProviderWords for FakeWords {
    fn title(&self, provider: &str) -> Option<String> {
        (provider == "microsoft").then(|| "Microsoft".to_owned())
    }
    fn scope(&self, _: &str, scope: &str) -> Option<String> {
        (scope == "Mail.Read").then(|| "read your mail".to_owned())
    }
}

/// What this owner allows: requests of these tests ask for the usual.
pub(crate) fn ceilings() -> Ceilings {
    let most = Limits { timeout_ms: 600_000, cpu_ms: 1_200_000, processes: 32, ..Limits::STANDARD };
    Ceilings { most, default_timeout_ms: 30_000 }
}

pub(crate) fn finished(mut execution: Execution, exit_code: i32) -> Execution {
    execution.status = if exit_code == 0 { Status::Success } else { Status::Failed };
    execution.result = Some(RunResult {
        stdout: "the output".to_owned(),
        stderr: String::new(),
        exit_code,
        duration_ms: 1234,
        truncated: false,
        usage: None,
    });
    execution
}

type Weak = std::sync::Weak<dyn Channel>;

/// Store, broker and clock in one, in memory.
pub(crate) struct Broker {
    pub(crate) executions: Mutex<BTreeMap<RequestId, Execution>>,
    pub(crate) secrets: Mutex<Vec<SecretRecord>>,
    pub(crate) values: Mutex<Vec<(NewSecret, Vec<u8>)>>,
    pub(crate) grants: Mutex<Vec<Grant>>,
    pub(crate) audit: Mutex<Vec<AuditRow>>,
    pub(crate) strangers: Mutex<Vec<(String, String)>>,
    pub(crate) notes: Mutex<BTreeMap<String, serde_json::Value>>,
    pub(crate) kill: AtomicBool,
    /// Verdicts fail while this is set.
    pub(crate) unavailable: AtomicBool,
    pub(crate) verdicts: Mutex<Vec<(RequestId, Verdict, String)>>,
    pub(crate) connections: Mutex<Vec<Connection>>,
    pub(crate) sign_ins: Mutex<Vec<SignInRecord>>,
    /// The orders about sign-ins, in words.
    pub(crate) orders: Mutex<Vec<String>>,
    now: AtomicI64,
    channel: Mutex<Option<Weak>>,
    touched: watch::Sender<u64>,
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            executions: Mutex::default(),
            secrets: Mutex::default(),
            values: Mutex::default(),
            grants: Mutex::default(),
            audit: Mutex::default(),
            strangers: Mutex::default(),
            notes: Mutex::default(),
            kill: AtomicBool::new(false),
            unavailable: AtomicBool::new(false),
            verdicts: Mutex::default(),
            connections: Mutex::default(),
            sign_ins: Mutex::default(),
            orders: Mutex::default(),
            now: AtomicI64::new(START),
            channel: Mutex::default(),
            touched: watch::channel(0).0,
        }
    }
}

impl Broker {
    pub(crate) fn get(&self, id: &RequestId) -> Option<Execution> {
        self.executions.lock().unwrap().get(id).cloned()
    }

    pub(crate) fn set(&self, execution: Execution) {
        let id = execution.id.clone();
        self.executions.lock().unwrap().insert(id.clone(), execution);
        self.changed(&id);
    }

    /// Puts what is stored of this request into another form, without telling the channel.
    pub(crate) fn set_quietly(&self, execution: Execution) {
        self.executions.lock().unwrap().insert(execution.id.clone(), execution);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let mut touched = self.touched.subscribe();
        loop {
            touched.borrow_and_update();
            if let Some(found) = look(self) {
                return found;
            }
            let waited = tokio::time::timeout(Duration::from_secs(60), touched.changed()).await;
            assert!(waited.is_ok(), "waited in vain for {what}");
        }
    }

    fn changed(&self, id: &RequestId) {
        self.touch();
        let channel = self.channel.lock().unwrap().as_ref().and_then(Weak::upgrade);
        if let Some(channel) = channel {
            channel.changed(id);
        }
    }

    /// Puts a sign-in into another state, as the keeper does.
    pub(crate) fn set_sign_in(&self, mut record: SignInRecord) {
        let connection = record.connection.clone();
        {
            let mut all = self.sign_ins.lock().unwrap();
            record.version = all.iter().find(|r| r.connection == connection).map_or(0, |r| r.version) + 1;
            all.retain(|other| other.connection != connection);
            all.push(record);
        }
        self.sign_in_changed(&connection);
    }

    pub(crate) fn sign_in(&self, connection: &ApiId) -> SignInRecord {
        let all = self.sign_ins.lock().unwrap();
        let found = all.iter().find(|record| record.connection == *connection);
        found.map_or_else(|| SignInRecord::new(connection.clone()), Clone::clone)
    }

    pub(crate) fn sign_in_changed(&self, connection: &ApiId) {
        self.touch();
        let channel = self.channel.lock().unwrap().as_ref().and_then(Weak::upgrade);
        if let Some(channel) = channel {
            channel.sign_in_changed(connection);
        }
    }

    pub(crate) fn touch(&self) {
        self.touched.send_modify(|n| *n += 1);
    }

    fn missing(&self, execution: &Execution) -> bool {
        let stored = self.secrets.lock().unwrap();
        execution.intent.secrets.iter().any(|name| !stored.iter().any(|s| s.name == *name))
    }
}

impl Clock for Broker {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }
}

pub(crate) fn unused<T>() -> Result<T, Fault> {
    Err(Fault::Unavailable("not part of this test".to_owned()))
}

#[async_trait]
impl OwnerPort for Broker {
    async fn verdict(&self, id: &RequestId, verdict: Verdict, by: &str) -> Result<Execution, Fault> {
        if self.unavailable.load(Ordering::SeqCst) {
            return Err(Fault::Unavailable("the keeper does not answer".to_owned()));
        }
        let mut execution = self.get(id).ok_or_else(|| Fault::NotFound("none".to_owned()))?;
        let open = match verdict {
            Verdict::Approve { .. } => execution.status == Status::Pending,
            Verdict::Deny { .. } => execution.status.is_open(),
        };
        if !open || Clock::now(self) >= execution.expires_at {
            return Err(Fault::AlreadyDecided("it is decided".to_owned()));
        }
        self.verdicts.lock().unwrap().push((id.clone(), verdict.clone(), by.to_owned()));
        execution.decided_by = Some(by.to_owned());
        match verdict {
            Verdict::Approve { trust } => {
                execution.trust = Some(trust);
                execution.approved_at = Some(Clock::now(self));
                execution.status = if self.missing(&execution) { Status::AwaitingSecrets } else { Status::Approved };
            }
            Verdict::Deny { .. } => execution.status = Status::Denied,
        }
        self.set(execution.clone());
        Ok(execution)
    }
    async fn show(&self, id: &RequestId) -> Result<Execution, Fault> {
        self.get(id).ok_or_else(|| Fault::NotFound("none".to_owned()))
    }
    async fn connections(&self) -> Result<Vec<Connection>, Fault> {
        Ok(self.connections.lock().unwrap().clone())
    }
    async fn sign_ins(&self) -> Result<Vec<SignInRecord>, Fault> {
        Ok(self.sign_ins.lock().unwrap().clone())
    }
    async fn order_sign_in(&self, connection: &ApiId, order: SignInOrder, by: &str) -> Result<SignInRecord, Fault> {
        if self.unavailable.load(Ordering::SeqCst) {
            return Err(Fault::Unavailable("the keeper does not answer".to_owned()));
        }
        self.orders.lock().unwrap().push(format!("{order:?} {} {by}", connection.name()));
        let before = self.sign_in(connection);
        let now = Clock::now(self);
        let account = before.attempt.as_ref().and_then(|attempt| attempt.other_account.clone());
        let failed = |end, sentence: &str| Some(FailedAttempt { at: now, end, sentence: sentence.to_owned() });
        let next = match order {
            SignInOrder::Begin => {
                SignInRecord { attempt: before.attempt.clone().or(Some(crate::sign_ins::attempt(by, now))), ..before }
            }
            SignInOrder::Cancel => {
                SignInRecord { attempt: None, failure: failed(AttemptEnd::Cancelled, "You stopped it."), ..before }
            }
            SignInOrder::KeepAccount => {
                SignInRecord { attempt: None, account, state: SignInState::SignedIn, signed_in_at: Some(now), ..before }
            }
            SignInOrder::RefuseAccount => {
                SignInRecord { attempt: None, failure: failed(AttemptEnd::Denied, "The old one stays."), ..before }
            }
            SignInOrder::SignOut => SignInRecord { attempt: None, state: SignInState::SignedOut, ..before },
        };
        self.set_sign_in(next.clone());
        Ok(next)
    }
    async fn requests(&self, statuses: &[Status], limit: u32) -> Result<Vec<Execution>, Fault> {
        Store::executions(self, statuses, limit).await
    }
    async fn wait(&self, _: &RequestId, _: Status, _: Duration) -> Result<Execution, Fault> {
        unused()
    }
    async fn submit(&self, _: Draft) -> Result<Submitted, Fault> {
        unused()
    }
    async fn grants(&self) -> Result<Vec<Grant>, Fault> {
        Ok(self.grants.lock().unwrap().clone())
    }
    async fn revoke_grant(&self, id: &GrantId, _: &str) -> Result<(), Fault> {
        let mut grants = self.grants.lock().unwrap();
        let grant = grants.iter_mut().find(|g| g.id == *id);
        let grant = grant.ok_or_else(|| Fault::NotFound("there is no such grant".to_owned()))?;
        grant.revoked_at = Some(Clock::now(self));
        Ok(())
    }
    async fn secrets(&self) -> Result<Vec<SecretRecord>, Fault> {
        Ok(self.secrets.lock().unwrap().clone())
    }
    async fn put_secret(&self, secret: NewSecret, value: WriteOnly) -> Result<(), Fault> {
        {
            let mut stored = self.secrets.lock().unwrap();
            match (stored.iter_mut().find(|s| s.name == secret.name), secret.replace) {
                (Some(_), false) => return Err(Fault::Exists("there is one of that name".to_owned())),
                (None, true) => return Err(Fault::NotFound("there is none of that name".to_owned())),
                (Some(old), true) => old.version += 1,
                (None, false) => {
                    let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
                    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
                    stored.push(record(secret.name.as_str(), &hosts));
                }
            }
        }
        #[allow(clippy::disallowed_methods, reason = "this stands for the keeper")]
        let bytes = value.hand_over().to_vec();
        self.values.lock().unwrap().push((secret, bytes));
        let waiting: Vec<Execution> = self.executions.lock().unwrap().values().cloned().collect();
        for mut execution in waiting.into_iter().filter(|e| e.status.is_open()) {
            if execution.status == Status::AwaitingSecrets && !self.missing(&execution) {
                execution.status = Status::Approved;
            }
            self.set(execution);
        }
        self.touch();
        Ok(())
    }
    async fn remove_secret(&self, name: &SecretName, _: &str) -> Result<(), Fault> {
        self.secrets.lock().unwrap().retain(|s| s.name != *name);
        self.touch();
        Ok(())
    }
    async fn agents(&self) -> Result<Vec<AgentRecord>, Fault> {
        unused()
    }
    async fn add_agent(&self, _: &AgentName, _: &str) -> Result<AgentToken, Fault> {
        unused()
    }
    async fn rotate_agent(&self, _: &AgentName, _: &str) -> Result<AgentToken, Fault> {
        unused()
    }
    async fn revoke_agent(&self, _: &AgentName, _: &str) -> Result<(), Fault> {
        unused()
    }
    async fn overview(&self) -> Result<OwnerOverview, Fault> {
        unused()
    }
    async fn set_kill_switch(&self, on: bool, _: &str) -> Result<(), Fault> {
        self.kill.store(on, Ordering::SeqCst);
        self.touch();
        Ok(())
    }
    async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, Fault> {
        let rows = self.audit.lock().unwrap();
        Ok(rows.iter().filter(|r| r.seq > seq).take(limit as usize).cloned().collect())
    }
    async fn audit_head(&self) -> Result<i64, Fault> {
        Ok(self.audit.lock().unwrap().last().map_or(0, |r| r.seq))
    }
    async fn verify_audit(&self) -> Result<ChainReport, Fault> {
        unused()
    }
    async fn report_stranger(&self, by: &str, what: &str) -> Result<(), Fault> {
        self.strangers.lock().unwrap().push((by.to_owned(), what.to_owned()));
        self.touch();
        Ok(())
    }
}
