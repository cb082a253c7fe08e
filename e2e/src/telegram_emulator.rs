//! A strict Bot API server in the process of the test, on loopback.
//!
//! It answers the methods that oauth3 uses as Telegram documents and behaves (Bot API 10), and is stricter where
//! that finds mistakes: a field that a method does not have is an error, and so is a message with more
//! entities than Telegram shows. The test plays the people: it writes messages, taps buttons and waits for what the
//! bot does, by event and never by sleeping. Everything that passes is recorded, so that models made by
//! somebody else can check it (`e2e/peers/aiogram_check.py`).
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use e2e::telegram_emulator::Emulator;
//! let telegram = Emulator::start("1:token").await?;
//! telegram.add_private_chat(42);
//! // Point the bot at telegram.api_url(), then:
//! let card = telegram.message(42, |m| m.text.contains("Approval wanted")).await?;
//! let tap = telegram.tap(42, 42, card.message_id, "Run once")?;
//! assert_eq!(telegram.answer(&tap).await?.as_deref(), Some("approved"));
//! # Ok(()) }
//! ```

mod html;
mod methods;
mod server;
mod state;

pub use html::parse_html;
pub use state::{ChatMessage, Fault, TapId, Traffic, Upload};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use state::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Longest that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server. It ends when this is dropped.
pub struct Emulator {
    shared: Arc<Shared>,
    api_url: String,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits that something changed.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Emulator {
    /// Starts a server that knows one bot, by this token.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn start(token: &str) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let api_url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { state: Mutex::new(State::new(token)), changed: watch::channel(0).0 });
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(Self { shared, api_url, task })
    }

    /// What `TELEGRAM_API_URL` is set to.
    #[must_use]
    pub fn api_url(&self) -> &str {
        &self.api_url
    }

    /// A person and the private chat with them; both have this id, as at Telegram.
    pub fn add_private_chat(&self, user: i64) {
        self.shared.lock().add_chat(user, json!({"id": user, "type": "private", "first_name": format!("User{user}")}));
    }

    /// A group; its id is negative.
    pub fn add_group(&self, chat: i64) {
        self.shared.lock().add_chat(chat, json!({"id": chat, "type": "group", "title": format!("Group{chat}")}));
    }

    /// A person writes a message. Returns its id.
    ///
    /// # Errors
    /// When the chat or the message that it replies to does not exist.
    pub fn write(&self, user: i64, chat: i64, text: &str, reply_to: Option<i32>) -> anyhow::Result<i32> {
        let id = self.shared.lock().write(user, chat, text, reply_to)?;
        self.shared.touch();
        Ok(id)
    }

    /// A person taps the first button of a message whose label contains `label`.
    ///
    /// # Errors
    /// When there is no such message or button.
    pub fn tap(&self, user: i64, chat: i64, message: i32, label: &str) -> anyhow::Result<TapId> {
        let data = {
            let state = self.shared.lock();
            let shown = state.message(chat, message).context("no such message")?;
            let found = shown.buttons.iter().find(|(text, _)| text.contains(label));
            found.with_context(|| format!("no button {label:?} on {:?}", shown.buttons))?.1.clone()
        };
        Ok(self.tap_data(user, chat, message, &data))
    }

    /// Somebody sends a tap with any data, from any chat: what a forged or late one looks like.
    pub fn tap_data(&self, user: i64, chat: i64, message: i32, data: &str) -> TapId {
        let id = self.shared.lock().tap(user, chat, message, data);
        self.shared.touch();
        id
    }

    /// Feeds an update as it is, with the next number.
    pub fn feed(&self, content: Value) {
        self.shared.lock().feed(content);
        self.shared.touch();
    }

    /// The messages that are in a chat now, oldest first.
    #[must_use]
    pub fn messages(&self, chat: i64) -> Vec<ChatMessage> {
        self.shared.lock().messages(chat)
    }

    /// Takes a message away as a person would.
    pub fn delete(&self, chat: i64, message: i32) {
        self.shared.lock().remove(chat, message);
        self.shared.touch();
    }

    /// The documents that were uploaded, oldest first.
    #[must_use]
    pub fn uploads(&self) -> Vec<Upload> {
        self.shared.lock().uploads.clone()
    }

    /// Everything that passed, oldest first.
    #[must_use]
    pub fn traffic(&self) -> Vec<Traffic> {
        self.shared.lock().traffic.clone()
    }

    /// Everything that passed as JSON lines, for `aiogram_check.py`.
    #[must_use]
    pub fn traffic_lines(&self) -> String {
        let mut out = String::new();
        for item in self.traffic() {
            out.push_str(&item.to_json().to_string());
            out.push('\n');
        }
        out
    }

    /// The next calls of this method (of any, when `None`) fail so, one fault for each call.
    pub fn fail_next(&self, method: Option<&str>, fault: Fault) {
        self.shared.lock().faults.push_back((method.map(str::to_owned), fault));
    }

    /// Faults that no call has met yet.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.shared.lock().faults.len()
    }

    /// Down: every connection is closed without an answer, those that wait included.
    pub fn set_down(&self, down: bool) {
        self.shared.lock().down = down;
        self.shared.touch();
    }

    /// A flawed server as the npm package telegram-test-api: polls are answered at once, and edit, answer and delete
    /// with `null`.
    pub fn set_lax(&self, lax: bool) {
        self.shared.lock().lax = lax;
        self.shared.touch();
    }

    /// Waits until `look` finds something; it is asked again whenever anything happened.
    ///
    /// # Errors
    /// When it does not in a minute.
    pub async fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> anyhow::Result<T> {
        let mut changes = self.shared.watch();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            changes.borrow_and_update();
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                bail!("waited in vain for {what}");
            }
        }
    }

    /// Waits for a message of a chat that looks like this; of several the newest.
    ///
    /// # Errors
    /// When there is none in a minute.
    pub async fn message(&self, chat: i64, like: impl Fn(&ChatMessage) -> bool) -> anyhow::Result<ChatMessage> {
        let outcome = self.wait_for("a message", |e| e.messages(chat).into_iter().rev().find(&like)).await;
        outcome.with_context(|| format!("there are {:?}", self.messages(chat)))
    }

    /// Waits until a message is gone.
    ///
    /// # Errors
    /// When it is still there after a minute.
    pub async fn gone(&self, chat: i64, message: i32) -> anyhow::Result<()> {
        self.wait_for("a deletion", |e| e.messages(chat).iter().all(|m| m.message_id != message).then_some(())).await
    }

    /// Waits for the answer to a tap: its text, or `None` when it was quiet.
    ///
    /// # Errors
    /// When there is none in a minute.
    pub async fn answer(&self, tap: &TapId) -> anyhow::Result<Option<String>> {
        self.wait_for("the answer to a tap", |e| e.shared.lock().answers.get(tap).cloned()).await
    }

    /// Waits until all updates were fetched and confirmed by a later poll: the bot acted on each.
    ///
    /// # Errors
    /// When they are not in a minute.
    pub async fn drained(&self) -> anyhow::Result<()> {
        self.wait_for("the bot to fetch all updates", |e| e.shared.lock().updates.is_empty().then_some(())).await
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.task.abort();
        // Connections end with their next look at the state.
        self.set_down(true);
    }
}
