//! Sign-ins in the chat: one message for each, edited as it goes on; commands and buttons for them.

use super::Shared;
use super::callback::{ALREADY_DECIDED, TRY_AGAIN};
use super::client::keyboard;
use super::deliver::button;
use super::error::TelegramError;
use super::html::Html;
use super::notes::{Action, SignInNote};
use super::queue::{Job, Pace};
use super::sign_in_text as text;
use crate::account::{SignIn, SignIns};
use crate::card::show_time;
use oauth3_core::{ApiId, Digest, Fault, SignInOrder, SignInRecord, SignInState, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Said when there is nothing to do.
const ALREADY_AUTHENTICATED: &str = "Already authenticated.";

impl Shared {
    /// Every sign-in as it stands.
    pub(super) async fn sign_ins(&self) -> Result<SignIns, Fault> {
        let connections = self.owner.connections().await?;
        Ok(SignIns { connections, records: self.owner.sign_ins().await?, words: Arc::clone(&self.words) })
    }

    /// Queues what a restart may have missed.
    pub(super) async fn catch_up_sign_ins(&self, shown: &[(ApiId, SignInNote)]) {
        shown.iter().for_each(|(connection, _)| self.queue.add(Job::SignIn(connection.clone())));
        // Where nobody signs in there is nothing to catch up with.
        let records = self.owner.sign_ins().await.unwrap_or_default();
        records.into_iter().for_each(|record| self.queue.add(Job::SignIn(record.connection)));
    }

    /// Shows the sign-in of a connection as it stands.
    pub(super) async fn show_sign_in(&self, connection: &ApiId, pace: &mut Pace) -> Result<(), TelegramError> {
        let _sending = self.sending.lock().await;
        let sign_ins = self.sign_ins().await?;
        let mut note = self.notes.sign_in(connection).await?.unwrap_or_default();
        let Some(sign_in) = sign_ins.of(connection) else {
            let html = Html::new().text("The connection ").code(connection.name()).text(" was removed.");
            return self.close(connection, note, &html, pace).await;
        };
        let record = &sign_in.record;
        let began = record.attempt.as_ref().map(|attempt| attempt.began_at);
        // What the message is about is over: it says how that ended, and is let go.
        let shown = note.attempt.filter(|_| note.message_id.is_some());
        if let Some(shown) = shown.filter(|shown| Some(*shown) != began) {
            let html = text::ended(&sign_in, shown);
            self.settle_sign_in(connection, &mut note, &html, pace).await?;
            if let SignInState::Needed(reason) = &record.state {
                // The end of the attempt said as much.
                note.told = Some(reason.clone());
            }
        }
        let Some(attempt) = &record.attempt else {
            return match &record.state {
                SignInState::Needed(reason) => self.say_needed(connection, &sign_in, reason, note, pace).await,
                SignInState::SignedIn => self.close(connection, note, &text::signed_in(&sign_in), pace).await,
                SignInState::SignedOut => {
                    let html = Html::new().text("Signed out of ").code(sign_in.name).text(".");
                    self.close(connection, note, &html, pace).await
                }
            };
        };
        if note.message_id.is_some() && note.attempt.is_none() {
            // A message that comes is noticed; one that is edited is not.
            let html = Html::new().text("A sign-in to ").code(sign_in.name).text(" has begun; see below.");
            self.settle_sign_in(connection, &mut note, &html, pace).await?;
        }
        note.attempt = Some(attempt.began_at);
        self.put_sign_in(connection, note, &text::wanted(&sign_in, attempt), attempt_actions(record), pace).await
    }

    /// Tells once for each reason that a sign-in is needed.
    async fn say_needed(
        &self,
        connection: &ApiId,
        sign_in: &SignIn<'_>,
        reason: &str,
        mut note: SignInNote,
        pace: &mut Pace,
    ) -> Result<(), TelegramError> {
        if note.told.as_deref() == Some(reason) && note.message_id.is_none() {
            return self.notes.set_sign_in(connection, Some(&note)).await;
        }
        note.told = Some(reason.to_owned());
        let action = ("🔑 Sign in".to_owned(), Action::SignIn { connection: connection.clone() });
        self.put_sign_in(connection, note, &text::needed(sign_in, reason), vec![action], pace).await
    }

    /// Puts the message into this form.
    async fn put_sign_in(
        &self,
        connection: &ApiId,
        mut note: SignInNote,
        html: &Html,
        actions: Vec<(String, Action)>,
        pace: &mut Pace,
    ) -> Result<(), TelegramError> {
        let renewed = self.renew_buttons(&actions, &mut note.buttons).await?;
        if renewed {
            // Forget what is shown until it is: a crash in between must lead to an edit.
            note.shown.clear();
            self.notes.set_sign_in(connection, Some(&note)).await?;
        }
        let shown = Digest::of(html.as_str().as_bytes()).to_string();
        if note.message_id.is_none() || note.shown != shown {
            let buttons = actions.iter().filter_map(|(label, action)| {
                let nonce = note.buttons.get(&action.key())?;
                Some(vec![button(label, nonce)])
            });
            let buttons = keyboard(buttons.collect());
            pace.wait().await;
            note.message_id = Some(self.place(note.message_id, html, buttons).await?);
            note.shown = shown;
            self.chat_open.store(true, Ordering::Release);
        }
        self.notes.set_sign_in(connection, Some(&note)).await
    }

    /// Gives the message its last form and lets it go; what was told stays known.
    async fn settle_sign_in(
        &self,
        connection: &ApiId,
        note: &mut SignInNote,
        html: &Html,
        pace: &mut Pace,
    ) -> Result<(), TelegramError> {
        // First the buttons: whoever taps from now on taps in vain.
        self.renew_buttons(&[], &mut note.buttons).await?;
        if let Some(message_id) = note.message_id {
            pace.wait().await;
            match self.client.edit(self.chat_id, message_id, html.as_str(), keyboard(Vec::new())).await {
                Ok(()) | Err(TelegramError::MessageGone) => {}
                Err(error) => return Err(error),
            }
        }
        *note = SignInNote { told: note.told.take(), ..SignInNote::default() };
        self.notes.set_sign_in(connection, Some(note)).await
    }

    /// The same, and forgets it.
    async fn close(
        &self,
        connection: &ApiId,
        mut note: SignInNote,
        html: &Html,
        pace: &mut Pace,
    ) -> Result<(), TelegramError> {
        if note == SignInNote::default() {
            return self.notes.set_sign_in(connection, None).await;
        }
        self.settle_sign_in(connection, &mut note, html, pace).await?;
        self.notes.set_sign_in(connection, None).await
    }

    /// A tap on a button that begins a sign-in. Returns what to answer.
    pub(super) async fn begin_sign_in(&self, connection: &ApiId, by: &str) -> String {
        let outcome = self.owner.order_sign_in(connection, SignInOrder::Begin, by).await;
        // Whatever came of it, the message shows it; after a failure its button gets a fresh nonce.
        self.queue.add(Job::SignIn(connection.clone()));
        match outcome {
            Ok(record) if record.attempt.is_none() && record.state == SignInState::SignedIn => {
                ALREADY_AUTHENTICATED.to_owned()
            }
            Ok(_) => "The code is in a message of its own".to_owned(),
            Err(Fault::Unavailable(_)) => TRY_AGAIN.to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    /// A tap on a button of the sign-in that began then. One that is not under way any more is not acted on.
    pub(super) async fn answer_sign_in(
        &self,
        connection: &ApiId,
        began_at: Timestamp,
        order: SignInOrder,
        by: &str,
    ) -> String {
        self.queue.add(Job::SignIn(connection.clone()));
        let same = |record: &SignInRecord| {
            record.connection == *connection && record.attempt.as_ref().is_some_and(|a| a.began_at == began_at)
        };
        let outcome = match self.owner.sign_ins().await {
            Ok(records) if records.iter().any(same) => self.owner.order_sign_in(connection, order, by).await,
            Ok(_) => return ALREADY_DECIDED.to_owned(),
            Err(fault) => Err(fault),
        };
        self.queue.add(Job::SignIn(connection.clone()));
        match outcome {
            Ok(_) if order == SignInOrder::Cancel => "cancelled".to_owned(),
            Ok(_) if order == SignInOrder::KeepAccount => "the new account is used".to_owned(),
            Ok(_) => "the old account stays".to_owned(),
            Err(Fault::AlreadyDecided(_) | Fault::NotFound(_)) => ALREADY_DECIDED.to_owned(),
            Err(Fault::Unavailable(_)) => TRY_AGAIN.to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    /// `/login NAME`
    pub(super) async fn login(&self, rest: &str, by: &str) -> Result<(), Fault> {
        let sign_ins = self.sign_ins().await?;
        let Some(sign_in) = named(&sign_ins, rest) else { return self.usage("/login", rest, &sign_ins) };
        let record = &sign_in.record;
        if let Some(attempt) = &record.attempt {
            let until = show_time(attempt.expires_at);
            let html = Html::new().text("A sign-in to ").code(sign_in.name).text(" is under way until ").text(&until);
            self.tell(html.text("; its message has the code."));
            return Ok(());
        }
        if record.state == SignInState::SignedIn {
            let html = Html::new().text(ALREADY_AUTHENTICATED);
            self.tell(match sign_in.account() {
                Some(account) => html.text(" ").code(&account),
                None => html,
            });
            return Ok(());
        }
        self.owner.order_sign_in(&record.connection, SignInOrder::Begin, by).await?;
        self.queue.add(Job::SignIn(record.connection.clone()));
        Ok(())
    }

    /// `/logout NAME`
    pub(super) async fn logout(&self, rest: &str, by: &str) -> Result<(), Fault> {
        let sign_ins = self.sign_ins().await?;
        let Some(sign_in) = named(&sign_ins, rest) else { return self.usage("/logout", rest, &sign_ins) };
        // Also when nobody is signed in: a token may be on its way.
        let after = self.owner.order_sign_in(&sign_in.record.connection, SignInOrder::SignOut, by).await?;
        if sign_in.record.word() == "signed_out" {
            self.tell(Html::new().text("Nobody is signed in to ").code(sign_in.name).text("."));
            return Ok(());
        }
        let html = Html::new().text("✅ Signed out of ").code(sign_in.name);
        self.tell(match &after.failure {
            // What is destroyed here may be good there still.
            Some(failure) => html.text(": ").code(&crate::account::bounded(&failure.sentence)),
            None => html.text(". Its tokens are revoked and destroyed."),
        });
        Ok(())
    }

    /// `/logins`
    pub(super) async fn list_sign_ins(&self) -> Result<(), Fault> {
        let sign_ins = self.sign_ins().await?;
        let entries: Vec<String> = sign_ins.all().map(|sign_in| entry(&sign_in)).collect();
        self.list(
            "Sign-ins",
            "No connection is signed in to; oauth3 connection add --provider defines one.",
            entries.into_iter(),
        );
        Ok(())
    }

    fn usage(&self, command: &str, name: &str, sign_ins: &SignIns) -> Result<(), Fault> {
        let names: Vec<&str> = sign_ins.all().map(|sign_in| sign_in.name).collect();
        if !name.is_empty() && !names.is_empty() {
            self.tell(Html::new().text("No such connection to sign in at. There are: ").code(&names.join(", ")));
        } else if names.is_empty() {
            let html = Html::new().text("There is no connection to sign in at yet. Define one with ");
            self.tell(html.code("oauth3 connection add NAME --provider …"));
        } else {
            let html = Html::new().text("Usage: ").code(&format!("{command} NAME")).text(" with one of: ");
            self.tell(html.code(&names.join(", ")));
        }
        Ok(())
    }
}

fn named<'a>(sign_ins: &'a SignIns, name: &str) -> Option<SignIn<'a>> {
    sign_ins.of(&ApiId::connection(name).ok()?)
}

fn attempt_actions(record: &SignInRecord) -> Vec<(String, Action)> {
    let Some(attempt) = &record.attempt else { return Vec::new() };
    let (connection, began_at) = (record.connection.clone(), attempt.began_at);
    if attempt.other_account.is_none() {
        return vec![("❌ Cancel".to_owned(), Action::CancelSignIn { connection, began_at })];
    }
    vec![
        ("✅ Use the new account".to_owned(), Action::KeepAccount { connection: connection.clone(), began_at }),
        ("❌ Keep the old one".to_owned(), Action::RefuseAccount { connection, began_at }),
    ]
}

/// One sign-in in a list.
fn entry(sign_in: &SignIn<'_>) -> String {
    let record = &sign_in.record;
    let state = match (&record.attempt, &record.state) {
        (Some(attempt), _) => format!("a sign-in waits until {}", show_time(attempt.expires_at)),
        (None, SignInState::SignedIn) => "signed in".to_owned(),
        (None, SignInState::SignedOut) => "signed out".to_owned(),
        (None, SignInState::Needed(reason)) => format!("sign-in needed: {}", crate::account::bounded(reason)),
    };
    let used = record.used_at.map(|at| format!(" · last used {}", show_time(at))).unwrap_or_default();
    let ends = record.expires_at.filter(|_| record.state == SignInState::SignedIn);
    let ends = match ends {
        Some(_) if record.refreshable => " · refreshed by itself".to_owned(),
        Some(at) => format!(" · until {}", show_time(at)),
        None => String::new(),
    };
    format!("{}: {state}{ends}{used}\n  {}", sign_in.name, sign_in.line())
}
