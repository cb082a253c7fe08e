//! Taps on buttons.

use super::Shared;
use super::error::TelegramError;
use super::html::Html;
use super::notes::{Action, Asks, NonceNote, Place, Prompt};
use super::queue::{And, Job, Say};
use super::secrets::PROMPT_LIFETIME;
use super::wire::Callback;
use oauth3_core::{Fault, RequestId, SecretName, SignInOrder, Timestamp, Verdict};
use std::sync::PoisonError;
use std::time::Duration;

/// The answer to a tap that comes too late, comes twice, or comes from a card that was replaced.
pub(crate) const ALREADY_DECIDED: &str = "already decided";
/// The answer when we could not do it; the buttons come back.
pub(crate) const TRY_AGAIN: &str = "That did not work; nothing was changed. Please tap again.";
/// How many strangers are noticed per [`STRANGER_WINDOW`]; more would fill the audit.
const MAX_STRANGERS: u32 = 20;
const STRANGER_WINDOW: Duration = Duration::from_secs(60);

/// Bounds what strangers can make us do.
#[derive(Default)]
pub(crate) struct StrangerLimit {
    since: Option<Timestamp>,
    count: u32,
}

impl StrangerLimit {
    fn admit(&mut self, now: Timestamp) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= STRANGER_WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MAX_STRANGERS
    }
}

impl Shared {
    /// Acts on a tap. Counts only from an owner, in the chat, on the message that carries the button.
    pub(crate) async fn tapped(&self, callback: Callback) {
        let chat = callback.message.as_ref().and_then(|m| m.chat.as_ref()).map(|c| c.id);
        let message_id = callback.message.as_ref().and_then(|m| m.message_id);
        let answer = if !self.may_decide(callback.from.id, chat) {
            self.stranger(callback.from.id, "tapped a button").await;
            None
        } else if let (Some(message_id), Some(nonce)) = (message_id, callback.data.as_deref()) {
            let by = format!("telegram:{}", callback.from.id);
            let answer = self.spend(nonce, message_id, callback.from.id, &by).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "telegram: a tap could not be acted on");
                TRY_AGAIN.to_owned()
            });
            Some(answer)
        } else {
            None
        };
        // Best effort: it only ends the waiting sign and shows a line.
        if let Err(error) = self.client.answer(&callback.id, answer.as_deref()).await {
            self.down_on(&error);
            tracing::debug!(%error, "telegram: a tap could not be answered");
        }
    }

    /// Whether what this user does in this chat counts.
    pub(crate) fn may_decide(&self, user: i64, chat: Option<i64>) -> bool {
        self.chat_id != 0 && chat == Some(self.chat_id) && self.owners.contains(&user)
    }

    /// Puts on record that somebody who may not decide tried to. False when there were too many lately.
    pub(crate) async fn stranger(&self, user: i64, what: &str) -> bool {
        let admitted = self.strangers.lock().unwrap_or_else(PoisonError::into_inner).admit(self.clock.now());
        if admitted && let Err(fault) = self.owner.report_stranger(&format!("telegram:{user}"), what).await {
            tracing::warn!(%fault, user, what, "telegram: a stranger could not be put on record");
        }
        admitted
    }

    /// Uses a nonce up and does what it stands for. Returns what to answer.
    async fn spend(&self, nonce: &str, message_id: i32, user: i64, by: &str) -> Result<String, TelegramError> {
        let Some(note) = self.find_nonce(nonce, message_id).await? else {
            self.strip_if_stale(message_id).await?;
            return Ok(ALREADY_DECIDED.to_owned());
        };
        // Used up before anything happens: no second tap can find it.
        self.notes.set_nonce(nonce, None).await?;
        for sibling in &note.siblings {
            self.notes.set_nonce(sibling, None).await?;
        }
        match note.action {
            Action::Approve { request, trust } => {
                Ok(self.verdict(&request, Verdict::Approve { trust }, "approved", by).await)
            }
            Action::Deny { request } | Action::Withdraw { request } => {
                Ok(self.verdict(&request, Verdict::Deny { reason: None }, "denied", by).await)
            }
            Action::AddSecret { request, name } => self.ask_for_missing(&request, name, user).await,
            Action::SignInFor { request, connection } => {
                // The button can be tapped again should it not begin.
                self.queue.add(Job::Card(request));
                Ok(self.begin_sign_in(&connection, by).await)
            }
            Action::SignIn { connection } => Ok(self.begin_sign_in(&connection, by).await),
            Action::CancelSignIn { connection, began_at } => {
                Ok(self.answer_sign_in(&connection, began_at, SignInOrder::Cancel, by).await)
            }
            Action::KeepAccount { connection, began_at } => {
                Ok(self.answer_sign_in(&connection, began_at, SignInOrder::KeepAccount, by).await)
            }
            Action::RefuseAccount { connection, began_at } => {
                Ok(self.answer_sign_in(&connection, began_at, SignInOrder::RefuseAccount, by).await)
            }
            Action::DeleteSecret { name } => {
                let outcome = self.owner.remove_secret(&name, by).await;
                Ok(self.settle(message_id, outcome, &format!("{name} deleted")))
            }
            Action::KillOff => {
                let outcome = self.owner.set_kill_switch(false, by).await;
                Ok(self.settle(message_id, outcome, "The kill switch is off: requests are decided again"))
            }
            Action::Keep => Ok(self.settle(message_id, Ok(()), "Nothing was changed")),
        }
    }

    /// The nonce, if it belongs to this message. Waits for a message that is being sent right now.
    async fn find_nonce(&self, nonce: &str, message_id: i32) -> Result<Option<NonceNote>, TelegramError> {
        if let Some(note) = self.carried(nonce, message_id).await? {
            return Ok(Some(note));
        }
        let _sent = self.sending.lock().await;
        self.carried(nonce, message_id).await
    }

    async fn carried(&self, nonce: &str, message_id: i32) -> Result<Option<NonceNote>, TelegramError> {
        let Some(note) = self.notes.nonce(nonce).await? else { return Ok(None) };
        let carrier = match note.action.place() {
            Place::Card(request) => self.notes.card(request).await?.and_then(|card| card.message_id),
            Place::SignIn(connection) => self.notes.sign_in(connection).await?.and_then(|shown| shown.message_id),
            Place::Question => note.message_id,
        };
        Ok((carrier == Some(message_id)).then_some(note))
    }

    /// Takes the buttons off a message that shows nothing any more.
    async fn strip_if_stale(&self, message_id: i32) -> Result<(), TelegramError> {
        let shows = self.notes.cards().await?.into_iter().any(|(_, card)| card.message_id == Some(message_id));
        let signs_in = self.notes.sign_ins().await?.into_iter().any(|(_, note)| note.message_id == Some(message_id));
        let asks = self.notes.nonces().await?.into_iter().any(|(_, nonce)| nonce.message_id == Some(message_id));
        if !shows
            && !signs_in
            && !asks
            && let Err(error) = self.client.strip_buttons(self.chat_id, message_id).await
        {
            tracing::debug!(%error, "telegram: the buttons of a stale message could not be taken off");
        }
        Ok(())
    }

    async fn verdict(&self, request: &RequestId, verdict: Verdict, done: &str, by: &str) -> String {
        let outcome = self.owner.verdict(request, verdict, by).await;
        // Whatever came of it, the card shows it; after a failure its buttons get fresh nonces.
        self.queue.add(Job::Card(request.clone()));
        match outcome {
            Ok(_) => done.to_owned(),
            Err(Fault::AlreadyDecided(_) | Fault::NotFound(_)) => ALREADY_DECIDED.to_owned(),
            Err(Fault::Unavailable(_)) => TRY_AGAIN.to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    async fn ask_for_missing(&self, request: &RequestId, name: SecretName, user: i64) -> Result<String, TelegramError> {
        // The button can be tapped again should the question get lost.
        self.queue.add(Job::Card(request.clone()));
        let execution = self.owner.show(request).await?;
        if !execution.status.is_open() {
            return Ok(ALREADY_DECIDED.to_owned());
        }
        if self.owner.secrets().await?.iter().any(|s| s.name == name) {
            return Ok(format!("{name} is stored already"));
        }
        let hosts: Vec<_> = execution.intent.hosts.iter().map(ToString::to_string).collect();
        let html = Html::new()
            .text("🔑 Reply to this message with the value of ")
            .code(name.as_str())
            .text(". Your reply is deleted at once and the value is sealed. It will only be sent to:")
            .end()
            .pre(&if hosts.is_empty() { "nowhere".to_owned() } else { hosts.join("\n") });
        let prompt = Prompt {
            asks: Asks::Value,
            name: name.clone(),
            hosts: execution.intent.hosts,
            replace: false,
            user,
            expires_at: self.clock.now().plus(PROMPT_LIFETIME),
        };
        self.queue.add(Job::Say(Say { chat_id: self.chat_id, html, and: And::Ask(prompt) }));
        Ok(format!("Reply with the value of {name}"))
    }

    /// Replaces a question with its outcome, and says the same as the answer to the tap.
    fn settle(&self, message_id: i32, outcome: Result<(), Fault>, done: &str) -> String {
        let text = match outcome {
            Ok(()) => done.to_owned(),
            Err(fault) => fault.to_string(),
        };
        self.queue.add(Job::Settle { message_id, html: Html::new().text(&text) });
        text
    }
}
