//! The owner's Telegram chat: shows requests, takes verdicts, answers commands.
//!
//! Two tasks. `poll` reads updates and acts on them in their order; `deliver` is the only one that sends
//! and edits messages, from a queue, and always from what the store holds at that moment. What has to survive
//! a restart (which message shows which request or sign-in, what each button means, which question is open, how far
//! updates were handled) is in the store's notes. Dropping the [`Telegram`] ends both.

mod alarm;
mod callback;
mod client;
mod commands;
mod deliver;
mod error;
mod html;
mod layout;
mod multipart;
mod notes;
mod poll;
mod queue;
mod secrets;
mod sign_in;
mod sign_in_text;
mod wire;

use crate::account::ProviderWords;
use client::Client;
use notes::Notes;
use oauth3_core::{ApiId, Ceilings, Channel, ChannelHealth, Clock, Credential, HttpPort, OwnerPort, RequestId, Store};
use queue::{Job, Queue};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How to reach the owner's chat.
#[derive(Debug, Clone)]
pub struct TelegramConfig {
    /// The token of a bot that only oauth3 uses.
    pub token: Credential,
    /// The only chat in which anything counts. Positive: a private chat. 0: not known yet; then only
    /// `/start` and `/id` are answered.
    pub chat_id: i64,
    /// The user ids that may decide. Empty: the user of a private chat; in a group, nobody.
    pub owner_ids: Vec<i64>,
    /// The Bot API server, such as `https://api.telegram.org`.
    pub api_url: String,
    /// Where the gateway can be reached, for the greeting; may be empty.
    pub public_url: String,
    /// What a request gets that names no limits, so that cards show what is out of the ordinary.
    pub ceilings: Ceilings,
    /// What identity providers and their scopes are called.
    pub words: Arc<dyn ProviderWords>,
}

/// The owner's Telegram chat as a [`Channel`].
pub struct Telegram {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What both tasks use.
pub(crate) struct Shared {
    client: Client,
    chat_id: i64,
    owners: BTreeSet<i64>,
    public_url: String,
    ceilings: Ceilings,
    words: Arc<dyn ProviderWords>,
    owner: Arc<dyn OwnerPort>,
    notes: Notes,
    clock: Arc<dyn Clock>,
    queue: Queue,
    /// Held while a message is sent and its id is noted, so that a tap or a reply that is faster than the
    /// note waits for it.
    sending: tokio::sync::Mutex<()>,
    /// Told when the server answers again after an outage.
    recovered: Notify,
    polls: AtomicBool,
    chat_open: AtomicBool,
    held: Mutex<Vec<secrets::Held>>,
    strangers: Mutex<callback::StrangerLimit>,
    alarms: Mutex<alarm::Alarms>,
}

impl Telegram {
    /// Starts polling and delivering on the current tokio runtime. Requests that are open and have no card
    /// get one, and cards of requests that changed meanwhile are edited.
    #[must_use]
    pub fn start(
        config: TelegramConfig,
        owner: Arc<dyn OwnerPort>,
        store: Arc<dyn Store>,
        http: Arc<dyn HttpPort>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let mut owners: BTreeSet<i64> = config.owner_ids.into_iter().collect();
        if owners.is_empty() && config.chat_id > 0 {
            // The id of a private chat is the id of the person in it.
            owners.insert(config.chat_id);
        }
        if config.chat_id == 0 {
            tracing::warn!("telegram: no chat is set; send /id to the bot and set TELEGRAM_CHAT_ID");
        } else if owners.is_empty() {
            tracing::warn!("telegram: nobody may decide in this group; set TELEGRAM_OWNER_IDS");
        }
        let shared = Arc::new(Shared {
            client: Client::new(http, &config.api_url, config.token),
            chat_id: config.chat_id,
            owners,
            public_url: config.public_url,
            ceilings: config.ceilings,
            words: config.words,
            owner,
            notes: Notes(store),
            clock,
            queue: Queue::default(),
            sending: tokio::sync::Mutex::new(()),
            recovered: Notify::new(),
            polls: AtomicBool::new(false),
            chat_open: AtomicBool::new(true),
            held: Mutex::new(Vec::new()),
            strangers: Mutex::new(callback::StrangerLimit::default()),
            alarms: Mutex::new(alarm::Alarms::default()),
        });
        let poll = tokio::spawn(poll::run(Arc::clone(&shared)));
        let deliver = tokio::spawn(deliver::run(Arc::clone(&shared)));
        Arc::new(Self { shared, tasks: vec![poll, deliver] })
    }
}

impl Channel for Telegram {
    fn name(&self) -> &'static str {
        "telegram"
    }

    fn health(&self) -> ChannelHealth {
        if self.shared.chat_id == 0 {
            // Nobody is asked here yet.
            ChannelHealth::Disabled
        } else if self.shared.polls.load(Ordering::Acquire) && self.shared.chat_open.load(Ordering::Acquire) {
            ChannelHealth::Connected
        } else {
            ChannelHealth::Error
        }
    }

    fn changed(&self, id: &RequestId) {
        self.shared.queue.add(Job::Card(id.clone()));
    }

    fn sign_in_changed(&self, connection: &ApiId) {
        self.shared.queue.add(Job::SignIn(connection.clone()));
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
