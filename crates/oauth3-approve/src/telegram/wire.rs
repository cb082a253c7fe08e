//! The few fields of Bot API replies and updates that are read.
//!
//! Own types and not a library's: a message may carry a secret's value, so its text is wiped when dropped
//! and cannot be printed, and a field that is new or lacking elsewhere in an update does no harm.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The frame of every reply.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    pub(crate) ok: bool,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) error_code: Option<u16>,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) parameters: Option<Parameters>,
}

#[derive(Deserialize)]
pub(crate) struct Parameters {
    #[serde(default)]
    pub(crate) retry_after: Option<u64>,
}

/// The bot itself, as getMe tells.
#[derive(Deserialize, Default)]
pub(crate) struct Me {
    #[serde(default)]
    pub(crate) username: Option<String>,
}

/// A message that was sent: only its id matters.
#[derive(Deserialize)]
pub(crate) struct Sent {
    pub(crate) message_id: i32,
}

/// The id of an update, readable even when the rest is not.
#[derive(Deserialize)]
pub(crate) struct UpdateId {
    pub(crate) update_id: i64,
}

/// One update; kinds that were not asked for have neither field.
#[derive(Deserialize)]
pub(crate) struct Update {
    #[serde(default)]
    pub(crate) message: Option<Message>,
    #[serde(default)]
    pub(crate) callback_query: Option<Callback>,
}

/// A message that somebody wrote.
#[derive(Deserialize)]
pub(crate) struct Message {
    pub(crate) message_id: i32,
    #[serde(default)]
    pub(crate) from: Option<User>,
    pub(crate) chat: Chat,
    #[serde(default)]
    pub(crate) text: Option<Text>,
    #[serde(default)]
    pub(crate) reply_to_message: Option<Replied>,
}

/// The message that a message answers.
#[derive(Deserialize)]
pub(crate) struct Replied {
    pub(crate) message_id: i32,
}

/// A tap on a button.
#[derive(Deserialize)]
pub(crate) struct Callback {
    pub(crate) id: String,
    pub(crate) from: User,
    #[serde(default)]
    pub(crate) message: Option<Carrier>,
    #[serde(default)]
    pub(crate) data: Option<String>,
}

/// The message whose button was tapped; it may be too old to be more than its place.
#[derive(Deserialize)]
pub(crate) struct Carrier {
    #[serde(default)]
    pub(crate) message_id: Option<i32>,
    #[serde(default)]
    pub(crate) chat: Option<Chat>,
}

#[derive(Deserialize)]
pub(crate) struct User {
    pub(crate) id: i64,
}

#[derive(Deserialize)]
pub(crate) struct Chat {
    pub(crate) id: i64,
}

/// What somebody typed; may be a secret's value. Wiped when dropped; cannot be printed.
pub(crate) struct Text(Zeroizing<String>);

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Self(Zeroizing::new(text)))
    }
}
