//! What the emulated Telegram knows.

use anyhow::Context as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// When everything in this world happens, in Unix seconds.
const DATE: u64 = 1_790_000_000;
/// The bot's own id.
const BOT_ID: i64 = 777_000_001;

/// A message in a chat, as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatMessage {
    /// Its number; unique in this world.
    pub message_id: i32,
    /// Who wrote it; `None` for the bot.
    pub from: Option<i64>,
    /// The text without markup; the caption of a document.
    pub text: String,
    /// Its entities: type, and the text that it covers.
    pub entities: Vec<(String, String)>,
    /// Labels and data of its inline buttons, in reading order.
    pub buttons: Vec<(String, String)>,
    /// Whether it forces a reply.
    pub force_reply: bool,
    /// How many times it was edited.
    pub edits: u32,
    /// Name of the document that it carries.
    pub document: Option<String>,
    /// The exact JSON that Telegram would show of it.
    pub raw: Value,
}

/// A document that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The chat that it went to.
    pub chat: i64,
    /// Its file name.
    pub file_name: String,
    /// Its caption.
    pub caption: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Names one tap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TapId(pub String);

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// HTTP 429 with `parameters.retry_after`, in seconds.
    TooMany {
        /// The seconds.
        retry_after: u64,
    },
    /// This HTTP status, with a Bot API frame around it.
    Status(u16),
    /// This HTTP status, with a page that no Bot API wrote.
    Page(u16),
    /// The connection is closed without an answer; the call had no effect.
    Drop,
    /// The call has its effect and the connection is closed without an answer.
    DropAfter,
}

/// One thing that passed between bot and server.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// A call of the bot, and what it was answered.
    Call {
        /// The method.
        method: String,
        /// Its parameters; a file is its name.
        params: Value,
        /// The whole answer; `null` when there was none.
        reply: Value,
    },
    /// An update that the bot was given.
    Update(Value),
}

impl Traffic {
    /// As a line of the record.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Call { method, params, reply } => json!({"method": method, "params": params, "reply": reply}),
            Self::Update(update) => json!({"update": update}),
        }
    }
}

pub(crate) struct State {
    pub(crate) token: String,
    chats: BTreeMap<i64, Value>,
    messages: BTreeMap<i64, BTreeMap<i32, ChatMessage>>,
    next_message: i32,
    pub(crate) updates: VecDeque<(i64, Value)>,
    next_update: i64,
    next_tap: u64,
    pub(crate) open_taps: BTreeSet<TapId>,
    pub(crate) answers: BTreeMap<TapId, Option<String>>,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) traffic: Vec<Traffic>,
    pub(crate) faults: VecDeque<(Option<String>, Fault)>,
    pub(crate) down: bool,
    pub(crate) lax: bool,
    /// Counts polls; a newer one ends an older one.
    pub(crate) poll: u64,
}

impl State {
    pub(crate) fn new(token: &str) -> Self {
        Self {
            token: token.to_owned(),
            chats: BTreeMap::new(),
            messages: BTreeMap::new(),
            next_message: 1,
            updates: VecDeque::new(),
            next_update: 500_001,
            next_tap: 1,
            open_taps: BTreeSet::new(),
            answers: BTreeMap::new(),
            uploads: Vec::new(),
            traffic: Vec::new(),
            faults: VecDeque::new(),
            down: false,
            lax: false,
            poll: 0,
        }
    }

    pub(crate) fn add_chat(&mut self, id: i64, chat: Value) {
        self.chats.insert(id, chat);
        self.messages.entry(id).or_default();
    }

    pub(crate) fn chat(&self, id: i64) -> Option<&Value> {
        self.chats.get(&id)
    }

    pub(crate) fn message(&self, chat: i64, id: i32) -> Option<&ChatMessage> {
        self.messages.get(&chat)?.get(&id)
    }

    pub(crate) fn message_mut(&mut self, chat: i64, id: i32) -> Option<&mut ChatMessage> {
        self.messages.get_mut(&chat)?.get_mut(&id)
    }

    pub(crate) fn messages(&self, chat: i64) -> Vec<ChatMessage> {
        self.messages.get(&chat).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn remove(&mut self, chat: i64, id: i32) -> bool {
        self.messages.get_mut(&chat).is_some_and(|all| all.remove(&id).is_some())
    }

    pub(crate) fn put(&mut self, chat: i64, message: ChatMessage) {
        self.messages.entry(chat).or_default().insert(message.message_id, message);
    }

    pub(crate) fn next_message_id(&mut self) -> i32 {
        let id = self.next_message;
        self.next_message += 1;
        id
    }

    /// The frame of a message of the bot's own.
    pub(crate) fn bot_message(&self, id: i32, chat: &Value) -> Value {
        json!({"message_id": id, "from": bot(), "chat": chat, "date": DATE})
    }

    pub(crate) fn write(&mut self, user: i64, chat: i64, text: &str, reply_to: Option<i32>) -> anyhow::Result<i32> {
        let chat_json = self.chats.get(&chat).context("no such chat")?.clone();
        let id = self.next_message_id();
        let mut raw = json!({"message_id": id, "from": person(user), "chat": chat_json, "date": DATE, "text": text});
        if text.starts_with('/') {
            let length = text.split_whitespace().next().unwrap_or_default().encode_utf16().count();
            raw["entities"] = json!([{"type": "bot_command", "offset": 0, "length": length}]);
        }
        if let Some(reply_to) = reply_to {
            raw["reply_to_message"] = self.message(chat, reply_to).context("no message to reply to")?.raw.clone();
        }
        let message = ChatMessage {
            message_id: id,
            from: Some(user),
            text: text.to_owned(),
            entities: Vec::new(),
            buttons: Vec::new(),
            force_reply: false,
            edits: 0,
            document: None,
            raw: raw.clone(),
        };
        self.put(chat, message);
        self.feed(json!({"message": raw}));
        Ok(id)
    }

    pub(crate) fn tap(&mut self, user: i64, chat: i64, message: i32, data: &str) -> TapId {
        let id = TapId(format!("42000000000{}", self.next_tap));
        self.next_tap += 1;
        self.open_taps.insert(id.clone());
        let carrier = self.message(chat, message).map(|m| m.raw.clone()).unwrap_or_else(|| {
            let chat = self.chats.get(&chat).cloned();
            let chat = chat.unwrap_or_else(|| json!({"id": 0, "type": "private", "first_name": "Nobody"}));
            json!({"chat": chat, "message_id": message, "date": 0})
        });
        self.feed(json!({"callback_query": {
            "id": id.0, "from": person(user), "message": carrier, "chat_instance": format!("-{chat}"), "data": data,
        }}));
        id
    }

    pub(crate) fn feed(&mut self, mut content: Value) {
        let id = self.next_update;
        self.next_update += 1;
        content["update_id"] = json!(id);
        self.updates.push_back((id, content));
    }

    /// The first planned fault that fits this call.
    pub(crate) fn take_fault(&mut self, method: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, _)| of.as_deref().is_none_or(|of| of == method))?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }
}

pub(crate) fn bot() -> Value {
    json!({"id": BOT_ID, "is_bot": true, "first_name": "oauth3", "username": "oauth3_test_bot"})
}

fn person(id: i64) -> Value {
    json!({"id": id, "is_bot": false, "first_name": format!("User{id}"), "language_code": "en"})
}
