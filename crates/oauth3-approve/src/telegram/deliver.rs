//! Delivers: the only task that sends and edits messages.

use super::Shared;
use super::client::{Document, keyboard};
use super::error::TelegramError;
use super::html::Html;
use super::layout::{self, Layout};
use super::notes::{Action, CardNote, NonceNote, Place, random_nonce};
use super::queue::{And, Job, Pace, Say};
use crate::account::SignIns;
use crate::card::Card;
use frankenstein::types::{ForceReply, InlineKeyboardButton, InlineKeyboardMarkup, ReplyMarkup};
use oauth3_core::{ApiId, Digest, Execution, RequestId, SecretName, SecretRecord, SignInState, Status, Trust};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// First and longest pause after a failed delivery.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest that a server's `retry_after` is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(900);
/// How long an old question that nobody answered is remembered.
const QUESTION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a document is tried that the server does not take, before the card is shown without it.
const MAX_FILE_FAILURES: u32 = 3;
/// Most open requests that a start looks for.
const MAX_OPEN: u32 = 1000;

/// Runs until aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = shared.catch_up().await {
        tracing::warn!(%error, "telegram: cannot read what was shown before");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let mut pace = Pace::new(shared.chat_id);
    pause = FIRST_PAUSE;
    loop {
        let job = shared.queue.next().await;
        let Err(error) = shared.deliver(&job, &mut pace).await else {
            pause = FIRST_PAUSE;
            continue;
        };
        if !error.is_passing() {
            tracing::error!(%error, "telegram: a message could not be delivered and is given up");
            continue;
        }
        tracing::warn!(%error, "telegram: delivery failed and will be tried again");
        match error {
            // It may be this one job that the server stumbles over: let the others pass.
            TelegramError::Server(_) | TelegramError::Malformed(_) => shared.queue.add(job),
            _ => shared.queue.put_back(job),
        }
        if let TelegramError::TooMany { retry_after } = error {
            tokio::time::sleep(Duration::from_secs(retry_after).min(LONGEST_RETRY_AFTER)).await;
            continue;
        }
        // Whatever comes first: the pause is over, or polling works again.
        let _ = tokio::time::timeout(pause, shared.recovered.notified()).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Shared {
    /// Queues what a restart may have missed, and drops what nothing refers to any more.
    async fn catch_up(&self) -> Result<(), TelegramError> {
        for (chat_id, message_id) in self.notes.doomed().await? {
            self.queue.add(Job::Delete { chat_id, message_id });
        }
        let now = self.clock.now();
        let cards = self.notes.cards().await?;
        let sign_ins = self.notes.sign_ins().await?;
        let of_cards = cards.iter().flat_map(|(_, card)| card.buttons.values());
        let live: BTreeSet<&String> = of_cards.chain(sign_ins.iter().flat_map(|(_, n)| n.buttons.values())).collect();
        for (nonce, note) in self.notes.nonces().await? {
            let asks = note.action.place() == Place::Question;
            let forgotten = now.since(note.at) > QUESTION_LIFETIME;
            if (!asks && !live.contains(&nonce)) || (asks && forgotten) {
                self.notes.set_nonce(&nonce, None).await?;
            }
        }
        for (message_id, prompt) in self.notes.prompts().await? {
            if now.since(prompt.expires_at) > QUESTION_LIFETIME {
                self.notes.set_prompt(message_id, None).await?;
            }
        }
        self.catch_up_sign_ins(&sign_ins).await;
        for (id, _) in &cards {
            self.queue.add(Job::Card(id.clone()));
        }
        let mut open = self.notes.0.executions(&[Status::Pending, Status::AwaitingSecrets], MAX_OPEN).await?;
        // The store lists the newest first; the chat shows the oldest first.
        open.reverse();
        for execution in open {
            self.queue.add(Job::Card(execution.id));
        }
        Ok(())
    }

    async fn deliver(&self, job: &Job, pace: &mut Pace) -> Result<(), TelegramError> {
        let outcome = match job {
            Job::Card(_) | Job::SignIn(_) if self.chat_id == 0 => Ok(()),
            Job::Card(id) => self.show(id, pace).await,
            Job::SignIn(connection) => self.show_sign_in(connection, pace).await,
            Job::Say(say) => self.say(say, pace).await,
            Job::Settle { message_id, html } => {
                pace.wait().await;
                match self.client.edit(self.chat_id, *message_id, html.as_str(), keyboard(Vec::new())).await {
                    Err(TelegramError::MessageGone) => Ok(()),
                    other => other,
                }
            }
            Job::Delete { chat_id, message_id } => self.delete(*chat_id, *message_id).await,
        };
        if outcome == Err(TelegramError::ChatUnreachable) {
            match job {
                // Another chat says nothing about the owner's.
                Job::Say(say) if say.chat_id != self.chat_id => return Ok(()),
                Job::Delete { chat_id, .. } if *chat_id != self.chat_id => return Ok(()),
                _ => self.chat_open.store(false, Ordering::Release),
            }
        }
        outcome
    }

    /// Deletes a message that may hold a value. When the bot may not, the owner has to, and is told.
    async fn delete(&self, chat_id: i64, message_id: i32) -> Result<(), TelegramError> {
        match self.client.delete(chat_id, message_id).await {
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                tracing::error!(%error, "telegram: a message with a typed value could not be deleted");
                self.tell(Html::new().text(
                    "⚠️ I could not delete your message with the value. Please delete it yourself; \
                     in a group, make the bot an admin that may delete messages.",
                ));
            }
            Ok(()) => {}
        }
        self.notes.set_doomed(chat_id, message_id, false).await
    }

    /// Sends an answer or a question.
    async fn say(&self, say: &Say, pace: &mut Pace) -> Result<(), TelegramError> {
        pace.wait().await;
        let _sending = self.sending.lock().await;
        let (markup, nonces) = match &say.and {
            And::Nothing => (None, Vec::new()),
            And::Ask(_) => {
                let force = ForceReply::builder().force_reply(true).build();
                (Some(ReplyMarkup::ForceReply(force)), Vec::new())
            }
            And::Buttons(buttons) => {
                let mut rows = Vec::new();
                let mut nonces = Vec::new();
                for (label, action) in buttons {
                    let nonce = random_nonce()?;
                    rows.push(vec![button(label, &nonce)]);
                    nonces.push((nonce, action.clone()));
                }
                (Some(ReplyMarkup::InlineKeyboardMarkup(keyboard(rows))), nonces)
            }
        };
        let message_id = self.client.send(say.chat_id, say.html.as_str(), markup).await?;
        if say.chat_id == self.chat_id {
            self.chat_open.store(true, Ordering::Release);
        }
        if let And::Ask(prompt) = &say.and {
            self.notes.set_prompt(message_id, Some(prompt)).await?;
        }
        let siblings: Vec<String> = nonces.iter().map(|(nonce, _)| nonce.clone()).collect();
        for (nonce, action) in nonces {
            let note =
                NonceNote { action, message_id: Some(message_id), siblings: siblings.clone(), at: self.clock.now() };
            self.notes.set_nonce(&nonce, Some(&note)).await?;
        }
        Ok(())
    }

    /// Shows a request as it stands: sends its card, or edits the one that is there.
    async fn show(&self, id: &RequestId, pace: &mut Pace) -> Result<(), TelegramError> {
        let _sending = self.sending.lock().await;
        let note = self.notes.card(id).await?;
        let Some(execution) = self.notes.0.execution(id).await? else {
            return self.notes.set_card(id, None).await;
        };
        let refused = self.refused(&execution).await?;
        // What was never put to the owner, or is over and was shown to its end, needs no card.
        let Some(mut note) = note.or_else(|| execution.status.is_open().then(CardNote::default)) else {
            return Ok(());
        };
        let stored = self.owner.secrets().await?;
        let missing = missing_secrets(&execution, &stored);
        let mut card = Card::new(&execution, &stored, &missing, &self.ceilings).with(&refused);
        let mut signed_out = Vec::new();
        if concerns_sign_ins(&execution) {
            let sign_ins = self.sign_ins().await?;
            card = card.with_sign_ins(&execution, &sign_ins);
            signed_out = to_sign_in(&execution, &missing, &sign_ins);
        }
        let layout = self.attach(&card, &execution, &mut note, pace).await?;

        let unseen = note.no_files && !layout.files.is_empty();
        let actions = actions(&execution, &missing, signed_out, unseen, card.can_be_trusted());
        let renewed = self.renew_nonces(id, &actions, &mut note).await?;
        let html = layout.html;
        let shown = Digest::of(html.as_str().as_bytes()).to_string();
        if note.message_id.is_none() || renewed || note.shown != shown {
            pace.wait().await;
            self.put(id, &card, &html, &actions, &mut note).await?;
            self.chat_open.store(true, Ordering::Release);
        }
        if !execution.status.is_final() {
            note.shown = shown;
            return self.notes.set_card(id, Some(&note)).await;
        }
        self.notes.set_card(id, None).await
    }

    /// Sends the documents that the card refers to and that were not sent yet.
    async fn attach(
        &self,
        card: &Card,
        execution: &Execution,
        note: &mut CardNote,
        pace: &mut Pace,
    ) -> Result<Layout, TelegramError> {
        let layout = layout::layout(card, execution, !note.no_files);
        if execution.status.is_final() || note.no_files {
            return Ok(layout);
        }
        for file in &layout.files {
            if note.files.contains(&file.name) {
                continue;
            }
            let caption = format!("{} of {}", file.name, card.id);
            let document = Document { file_name: &file.name, caption: &caption, bytes: &file.bytes };
            pace.wait().await;
            match self.client.send_document(self.chat_id, &document).await {
                Ok(_) => {
                    note.files.insert(file.name.clone());
                    self.notes.set_card(&execution.id, Some(note)).await?;
                }
                Err(
                    error
                    @ (TelegramError::Network(_) | TelegramError::TooMany { .. } | TelegramError::ChatUnreachable),
                ) => {
                    return Err(error);
                }
                // Some servers do not know the method, and say so in one way or another. A card that can only
                // be denied is better than none.
                Err(error) => {
                    note.file_failures += 1;
                    note.no_files = !error.is_passing() || note.file_failures >= MAX_FILE_FAILURES;
                    self.notes.set_card(&execution.id, Some(note)).await?;
                    if !note.no_files {
                        return Err(error);
                    }
                    tracing::error!(%error, "telegram: the server does not take documents; the card can only be denied");
                    return Ok(layout::layout(card, execution, false));
                }
            }
        }
        Ok(layout)
    }

    /// Gives each action a nonce that is not used up, and drops those of actions that are gone. True when
    /// the buttons are not those that the message has.
    async fn renew_nonces(
        &self,
        id: &RequestId,
        actions: &[(String, Action)],
        note: &mut CardNote,
    ) -> Result<bool, TelegramError> {
        let changed = self.renew_buttons(actions, &mut note.buttons).await?;
        if changed {
            // Forget what is shown until it is: a crash in between must lead to an edit.
            note.shown.clear();
            self.notes.set_card(id, Some(note)).await?;
        }
        Ok(changed)
    }

    /// Gives each action a nonce that is not used up, and drops those of actions that are gone. True when something
    /// changed.
    pub(crate) async fn renew_buttons(
        &self,
        actions: &[(String, Action)],
        buttons: &mut BTreeMap<String, String>,
    ) -> Result<bool, TelegramError> {
        let mut changed = false;
        let wanted: BTreeSet<String> = actions.iter().map(|(_, action)| action.key()).collect();
        let gone: Vec<String> = buttons.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in gone {
            if let Some(nonce) = buttons.remove(&key) {
                self.notes.set_nonce(&nonce, None).await?;
            }
            changed = true;
        }
        for (_, action) in actions {
            if let Some(nonce) = buttons.get(&action.key())
                && self.notes.nonce(nonce).await?.is_some()
            {
                continue;
            }
            let nonce = random_nonce()?;
            let fresh =
                NonceNote { action: action.clone(), message_id: None, siblings: Vec::new(), at: self.clock.now() };
            self.notes.set_nonce(&nonce, Some(&fresh)).await?;
            buttons.insert(action.key(), nonce);
            changed = true;
        }
        Ok(changed)
    }

    /// Edits a message, or sends one when there is none (any more). Gives the message that is there then.
    pub(crate) async fn place(
        &self,
        at: Option<i32>,
        html: &Html,
        buttons: InlineKeyboardMarkup,
    ) -> Result<i32, TelegramError> {
        if let Some(message_id) = at {
            match self.client.edit(self.chat_id, message_id, html.as_str(), buttons.clone()).await {
                Err(TelegramError::MessageGone) => {}
                other => return other.map(|()| message_id),
            }
        }
        let markup = (!buttons.inline_keyboard.is_empty()).then_some(ReplyMarkup::InlineKeyboardMarkup(buttons));
        self.client.send(self.chat_id, html.as_str(), markup).await
    }

    /// Edits the card's message, or sends one when there is none.
    async fn put(
        &self,
        id: &RequestId,
        card: &Card,
        html: &Html,
        actions: &[(String, Action)],
        note: &mut CardNote,
    ) -> Result<(), TelegramError> {
        let outcome = self.put_once(id, html, actions, note).await;
        let Err(TelegramError::Refused(code)) = outcome else { return outcome };
        tracing::error!(code, "telegram: the server refused a card; a shorter one is shown, without approval buttons");
        let only_deny: Vec<_> = actions.iter().filter(|(_, action)| action.is_no()).cloned().collect();
        self.put_once(id, &layout::minimal(card), &only_deny, note).await
    }

    async fn put_once(
        &self,
        id: &RequestId,
        html: &Html,
        actions: &[(String, Action)],
        note: &mut CardNote,
    ) -> Result<(), TelegramError> {
        let message_id = self.place(note.message_id, html, card_keyboard(actions, note)).await?;
        if note.message_id == Some(message_id) {
            return Ok(());
        }
        note.message_id = Some(message_id);
        // With this one write the message is the card: what its buttons do counts from here on.
        self.notes.set_card(id, Some(note)).await
    }
}

/// Whether a request has to do with an account of the owner's.
fn concerns_sign_ins(execution: &Execution) -> bool {
    let intent = &execution.intent;
    intent.secrets.iter().any(|name| name.connection().is_some())
        || intent.access.as_ref().is_some_and(|access| !access.api.is_provider())
}

/// The connections that the owner has to sign in to before a request can do anything.
fn to_sign_in(execution: &Execution, missing: &[SecretName], sign_ins: &SignIns) -> Vec<ApiId> {
    let of_api = execution.intent.access.as_ref().map(|access| access.api.clone());
    let signed_out = |api: &ApiId| {
        let found = sign_ins.of(api);
        found.is_some_and(|found| found.record.attempt.is_none() && found.record.state != SignInState::SignedIn)
    };
    missing.iter().filter_map(SecretName::connection).chain(of_api).filter(signed_out).collect()
}

/// The secrets that a request names and that are not stored.
pub(crate) fn missing_secrets(execution: &Execution, stored: &[SecretRecord]) -> Vec<SecretName> {
    execution.intent.secrets.iter().filter(|name| !stored.iter().any(|s| s.name == **name)).cloned().collect()
}

/// The buttons of a card: none when nothing can be done about it any more. What could not be shown cannot be
/// approved, and what gives a secret away once at a time cannot be trusted for longer.
fn actions(
    execution: &Execution,
    missing: &[SecretName],
    signed_out: Vec<ApiId>,
    unseen: bool,
    trust: bool,
) -> Vec<(String, Action)> {
    let request = || execution.id.clone();
    let mut actions = Vec::new();
    if execution.status == Status::Pending {
        if !unseen {
            let more = [("🕐 Trust 24h", Trust::Day), ("🔒 Always trust", Trust::Forever)];
            let allowed = [("✅ Run once", Trust::Once)].into_iter().chain(more.into_iter().filter(|_| trust));
            for (label, trust) in allowed {
                actions.push((label.to_owned(), Action::Approve { request: request(), trust }));
            }
        }
        actions.push(("❌ Deny".to_owned(), Action::Deny { request: request() }));
    }
    if execution.status == Status::AwaitingSecrets {
        actions.push(("❌ Deny".to_owned(), Action::Withdraw { request: request() }));
    }
    if execution.status.is_open() {
        for name in missing.iter().filter(|name| name.connection().is_none()) {
            actions.push((format!("🔑 Add {name}"), Action::AddSecret { request: request(), name: name.clone() }));
        }
        for connection in signed_out {
            let label = format!("🔑 Sign in to {}", connection.name());
            actions.push((label, Action::SignInFor { request: request(), connection }));
        }
    }
    actions
}

/// Verdicts two in a row, each missing secret in a row of its own.
fn card_keyboard(actions: &[(String, Action)], note: &CardNote) -> InlineKeyboardMarkup {
    let mut rows: Vec<Vec<InlineKeyboardButton>> = Vec::new();
    let mut verdicts = Vec::new();
    for (label, action) in actions {
        let Some(nonce) = note.buttons.get(&action.key()) else { continue };
        match action {
            Action::AddSecret { .. } | Action::SignInFor { .. } => rows.push(vec![button(label, nonce)]),
            _ => verdicts.push(button(label, nonce)),
        }
    }
    let mut all: Vec<_> = verdicts.chunks(2).map(<[_]>::to_vec).collect();
    all.append(&mut rows);
    keyboard(all)
}

pub(crate) fn button(label: &str, nonce: &str) -> InlineKeyboardButton {
    InlineKeyboardButton::builder().text(label).callback_data(nonce).build()
}
