//! What the chat remembers over a restart: notes in the store. Never a secret's value.

use super::error::TelegramError;
use data_encoding::BASE64URL_NOPAD;
use oauth3_core::{ApiId, Host, RequestId, SecretName, Store, Timestamp, Trust};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The channel that notes are under.
const CHANNEL: &str = "telegram";
/// Random bytes of a nonce: 192 bits, 32 characters, half of what a button may carry.
const NONCE_BYTES: usize = 24;

/// How far updates were handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offset {
    /// The first update that is still wanted.
    pub(crate) next: i64,
    /// When this was noted.
    pub(crate) at: Timestamp,
}

/// The message that shows a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CardNote {
    /// The message; `None` while it is being sent for the first time.
    pub(crate) message_id: Option<i32>,
    /// Digest of what it shows.
    pub(crate) shown: String,
    /// The nonce of each button, by [`Action::key`].
    pub(crate) buttons: BTreeMap<String, String>,
    /// Names of the documents that were sent.
    pub(crate) files: BTreeSet<String>,
    /// How often the server failed to take one.
    #[serde(default)]
    pub(crate) file_failures: u32,
    /// Whether the server does not take documents.
    pub(crate) no_files: bool,
}

/// The message about the sign-in of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignInNote {
    /// The message that is there now.
    pub(crate) message_id: Option<i32>,
    /// The attempt that it shows, by when that began; none: it says that a sign-in is needed.
    pub(crate) attempt: Option<Timestamp>,
    /// The reason for which the owner was told that a sign-in is needed.
    pub(crate) told: Option<String>,
    /// Digest of what it shows.
    pub(crate) shown: String,
    /// The nonce of each button, by [`Action::key`].
    pub(crate) buttons: BTreeMap<String, String>,
}

/// What a button does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Action {
    /// Approve the request.
    Approve { request: RequestId, trust: Trust },
    /// Deny it.
    Deny { request: RequestId },
    /// Deny it after all, while it waits for a secret. Not the button of the question: a late tap on that one
    /// takes no yes back.
    Withdraw { request: RequestId },
    /// Ask for the value of a secret that it misses.
    AddSecret { request: RequestId, name: SecretName },
    /// Begin the sign-in whose token a request misses.
    SignInFor { request: RequestId, connection: ApiId },
    /// Begin a sign-in.
    SignIn { connection: ApiId },
    /// Stop the sign-in that began then.
    CancelSignIn { connection: ApiId, began_at: Timestamp },
    /// The other account that signed in is meant.
    KeepAccount { connection: ApiId, began_at: Timestamp },
    /// It is not.
    RefuseAccount { connection: ApiId, began_at: Timestamp },
    /// Delete a secret.
    DeleteSecret { name: SecretName },
    /// Turn the kill switch off.
    KillOff,
    /// Nothing: put the question away.
    Keep,
}

/// Which message carries a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// The card of a request.
    Card(&'a RequestId),
    /// The message about the sign-in of a connection.
    SignIn(&'a ApiId),
    /// A question of its own.
    Question,
}

impl Action {
    /// Where its button is.
    pub(crate) const fn place(&self) -> Place<'_> {
        match self {
            Self::Approve { request, .. }
            | Self::Deny { request }
            | Self::Withdraw { request }
            | Self::AddSecret { request, .. }
            | Self::SignInFor { request, .. } => Place::Card(request),
            Self::SignIn { connection }
            | Self::CancelSignIn { connection, .. }
            | Self::KeepAccount { connection, .. }
            | Self::RefuseAccount { connection, .. } => Place::SignIn(connection),
            Self::DeleteSecret { .. } | Self::KillOff | Self::Keep => Place::Question,
        }
    }

    /// Whether it says no to a request.
    pub(crate) const fn is_no(&self) -> bool {
        matches!(self, Self::Deny { .. } | Self::Withdraw { .. })
    }

    /// Names the button within its message.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Approve { trust, .. } => trust.as_str().to_owned(),
            Self::Deny { .. } => "deny".to_owned(),
            Self::Withdraw { .. } => "withdraw".to_owned(),
            Self::AddSecret { name, .. } => format!("add:{name}"),
            Self::SignInFor { connection, .. } => format!("sign_in:{}", connection.name()),
            Self::SignIn { .. } => "sign_in".to_owned(),
            Self::CancelSignIn { began_at, .. } => format!("cancel:{}", began_at.millis()),
            Self::KeepAccount { began_at, .. } => format!("keep_account:{}", began_at.millis()),
            Self::RefuseAccount { began_at, .. } => format!("refuse_account:{}", began_at.millis()),
            Self::DeleteSecret { .. } => "delete".to_owned(),
            Self::KillOff => "kill_off".to_owned(),
            Self::Keep => "keep".to_owned(),
        }
    }
}

/// What a nonce stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NonceNote {
    /// What its button does.
    #[serde(flatten)]
    pub(crate) action: Action,
    /// The message that carries it; `None` on cards, where the card's own note says so.
    pub(crate) message_id: Option<i32>,
    /// Its siblings: used up together with it. Empty on cards, where the request's status decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) siblings: Vec<String>,
    /// When it was made.
    pub(crate) at: Timestamp,
}

/// What the answer to a question of ours means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prompt {
    /// What is asked for.
    pub(crate) asks: Asks,
    /// The secret.
    pub(crate) name: SecretName,
    /// The hosts that it will be bound to, once they are known.
    pub(crate) hosts: BTreeSet<Host>,
    /// Whether a secret of that name exists and gets a new value.
    pub(crate) replace: bool,
    /// The owner who was asked; nobody else may answer.
    pub(crate) user: i64,
    /// When the answer is no longer taken.
    pub(crate) expires_at: Timestamp,
}

/// What a prompt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asks {
    /// The hosts; the value is asked for next.
    Hosts,
    /// The hosts; the value is held in memory already.
    HostsForHeldValue,
    /// The value.
    Value,
}

/// The notes, typed.
#[derive(Clone)]
pub(crate) struct Notes(pub(crate) Arc<dyn Store>);

impl Notes {
    pub(crate) async fn offset(&self) -> Result<Option<Offset>, TelegramError> {
        self.read("offset").await
    }

    pub(crate) async fn set_offset(&self, offset: Offset) -> Result<(), TelegramError> {
        self.write("offset", Some(&offset)).await
    }

    pub(crate) async fn card(&self, id: &RequestId) -> Result<Option<CardNote>, TelegramError> {
        self.read(&format!("card:{id}")).await
    }

    pub(crate) async fn set_card(&self, id: &RequestId, card: Option<&CardNote>) -> Result<(), TelegramError> {
        self.write(&format!("card:{id}"), card).await
    }

    /// Every request that has a card, with it.
    pub(crate) async fn cards(&self) -> Result<Vec<(RequestId, CardNote)>, TelegramError> {
        let all = self.list::<CardNote>("card:").await?;
        Ok(all.into_iter().filter_map(|(id, note)| Some((RequestId::parse(&id).ok()?, note))).collect())
    }

    pub(crate) async fn sign_in(&self, connection: &ApiId) -> Result<Option<SignInNote>, TelegramError> {
        self.read(&format!("sign_in:{}", connection.name())).await
    }

    pub(crate) async fn set_sign_in(&self, connection: &ApiId, note: Option<&SignInNote>) -> Result<(), TelegramError> {
        self.write(&format!("sign_in:{}", connection.name()), note).await
    }

    /// Every connection whose sign-in has a message, with it.
    pub(crate) async fn sign_ins(&self) -> Result<Vec<(ApiId, SignInNote)>, TelegramError> {
        let all = self.list::<SignInNote>("sign_in:").await?;
        Ok(all.into_iter().filter_map(|(name, note)| Some((ApiId::connection(&name).ok()?, note))).collect())
    }

    pub(crate) async fn nonce(&self, nonce: &str) -> Result<Option<NonceNote>, TelegramError> {
        // Whatever stands in a button that is not ours must not become a key.
        if nonce.len() != BASE64URL_NOPAD.encode_len(NONCE_BYTES) || !nonce.is_ascii() {
            return Ok(None);
        }
        self.read(&format!("nonce:{nonce}")).await
    }

    pub(crate) async fn set_nonce(&self, nonce: &str, note: Option<&NonceNote>) -> Result<(), TelegramError> {
        self.write(&format!("nonce:{nonce}"), note).await
    }

    pub(crate) async fn nonces(&self) -> Result<Vec<(String, NonceNote)>, TelegramError> {
        self.list("nonce:").await
    }

    pub(crate) async fn set_prompt(&self, message_id: i32, prompt: Option<&Prompt>) -> Result<(), TelegramError> {
        self.write(&format!("prompt:{message_id}"), prompt).await
    }

    pub(crate) async fn prompts(&self) -> Result<Vec<(i32, Prompt)>, TelegramError> {
        let all = self.list::<Prompt>("prompt:").await?;
        Ok(all.into_iter().filter_map(|(id, prompt)| Some((id.parse().ok()?, prompt))).collect())
    }

    /// Notes that this message must be deleted, until it is.
    pub(crate) async fn set_doomed(&self, chat_id: i64, message_id: i32, doomed: bool) -> Result<(), TelegramError> {
        self.write(&format!("doomed:{chat_id}:{message_id}"), doomed.then_some(&true)).await
    }

    pub(crate) async fn doomed(&self) -> Result<Vec<(i64, i32)>, TelegramError> {
        let all = self.list::<bool>("doomed:").await?;
        Ok(all
            .into_iter()
            .filter_map(|(key, _)| {
                let (chat, message) = key.split_once(':')?;
                Some((chat.parse().ok()?, message.parse().ok()?))
            })
            .collect())
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, TelegramError> {
        let value = self.0.note(CHANNEL, key).await?;
        Ok(value.and_then(|value| serde_json::from_value(value).ok()))
    }

    async fn write<T: Serialize>(&self, key: &str, note: Option<&T>) -> Result<(), TelegramError> {
        let value = note.and_then(|note| serde_json::to_value(note).ok());
        Ok(self.0.set_note(CHANNEL, key, value.as_ref()).await?)
    }

    async fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, TelegramError> {
        let all = self.0.notes(CHANNEL, prefix).await?;
        Ok(all
            .into_iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix(prefix)?.to_owned(), serde_json::from_value(value).ok()?))
            })
            .collect())
    }
}

/// A fresh nonce.
pub(crate) fn random_nonce() -> Result<String, TelegramError> {
    let mut bytes = [0u8; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| TelegramError::NoRandomness)?;
    Ok(BASE64URL_NOPAD.encode(&bytes))
}
