//! What the owner writes to the bot.

use super::Shared;
use super::html::{Html, MAX_MESSAGE_UNITS};
use super::notes::Action;
use super::queue::{And, Job, Say};
use super::wire::Message;
use crate::card::show_time;
use crate::visible;
use oauth3_core::{Fault, GrantId, SecretName, Status};

/// Most requests that `/pending` lists.
const MAX_PENDING: u32 = 50;
/// Rows that `/audit` shows.
const AUDIT_ROWS: u32 = 15;
/// Room that a list may take of a message; the rest is for its title.
const LIST_UNITS: usize = MAX_MESSAGE_UNITS - 200;

const HELP: &str = "\
/pending what waits for you
/secrets what is stored (names and hosts only)
/add_secret NAME store a value
/delete_secret NAME remove one
/logins where you are signed in
/login NAME sign in, with a code
/logout NAME sign out; its tokens are revoked
/grants what is trusted
/revoke ID take trust back
/audit what happened last
/kill stop everything
/kill off go on
/id this chat's id and yours";

impl Shared {
    /// Acts on a message. From anybody but an owner in the chat, only `/start` and `/id` are answered.
    pub(crate) async fn written(&self, message: Message, bot_name: Option<&str>) {
        let (Some(from), Some(text)) = (&message.from, &message.text) else { return };
        let (user, chat, text) = (from.id, message.chat.id, text.as_str());
        let command = parse_command(text, bot_name);
        if !self.may_decide(user, Some(chat)) {
            return self.written_elsewhere(&message, user, command).await;
        }
        // The chat can be written to again, or so it seems: try what waits.
        self.recovered.notify_one();
        // A value may look like a command, but not when it is the reply to a question.
        if message.reply_to_message.is_some() && self.answered(&message, user, text).await {
            return;
        }
        match command {
            Some((name, rest)) => self.command(&message, user, name, rest).await,
            // For another bot, or a reply to something else.
            None if text.starts_with('/') || message.reply_to_message.is_some() => {}
            None => drop(self.answered(&message, user, text).await),
        }
    }

    /// Says something in the owner's chat.
    pub(crate) fn tell(&self, html: Html) {
        self.say_in(self.chat_id, html, And::Nothing);
    }

    fn say_in(&self, chat_id: i64, html: Html, and: And) {
        self.queue.add(Job::Say(Say { chat_id, html, and }));
        self.recovered.notify_one();
    }

    async fn written_elsewhere(&self, message: &Message, user: i64, command: Option<(&str, &str)>) {
        let Some((name, rest)) = command else { return };
        let chat = message.chat.id;
        match name {
            "start" | "id" => {
                if self.stranger(user, "asked for the chat's id").await {
                    self.say_in(chat, ids(chat, user), And::Nothing);
                }
            }
            "add_secret" if self.owners.contains(&user) && !rest.is_empty() => {
                // An owner in the wrong chat: what was typed must not stay there.
                self.stranger(user, "gave a command in another chat").await;
                self.delete_now(chat, message.message_id).await;
            }
            _ => drop(self.stranger(user, "gave a command").await),
        }
    }

    async fn command(&self, message: &Message, user: i64, name: &str, rest: &str) {
        let by = format!("telegram:{user}");
        let outcome = match name {
            "start" | "help" => {
                let place = if self.public_url.is_empty() {
                    String::new()
                } else {
                    format!(" at {}", visible::one_line(&self.public_url))
                };
                let html = Html::new().bold("oauth3").text(&place).text(" asks you here before an agent acts.").end();
                self.tell(html.end().text(HELP));
                Ok(())
            }
            "id" => {
                self.tell(ids(message.chat.id, user));
                Ok(())
            }
            "pending" => self.list_pending().await,
            "add_secret" => {
                self.add_secret(message.message_id, user, rest).await;
                Ok(())
            }
            "secrets" | "list_secrets" => self.list_secrets().await,
            "delete_secret" => self.confirm_delete(rest).await,
            "logins" => self.list_sign_ins().await,
            "login" => self.login(rest, &by).await,
            "logout" => self.logout(rest, &by).await,
            "grants" => self.list_grants().await,
            "revoke" => self.revoke(rest, &by).await,
            "audit" => self.list_audit().await,
            "kill" => self.kill(rest, &by).await,
            _ => {
                self.tell(Html::new().text("I do not know that command.").end().end().text(HELP));
                Ok(())
            }
        };
        if let Err(fault) = outcome {
            self.tell(Html::new().text("❌ ").code(&visible::one_line(&fault.to_string())));
        }
    }

    async fn list_pending(&self) -> Result<(), Fault> {
        let open = self.owner.requests(&[Status::Pending, Status::AwaitingSecrets], MAX_PENDING).await?;
        let entries = open.iter().rev().map(|e| {
            let intent = &e.intent;
            let until = show_time(e.expires_at);
            format!("{}\n  {} · {} · {} · until {until}", e.id, intent.agent, intent.skill_id, e.status)
        });
        self.list("Waiting for you", "Nothing waits for you.", entries);
        Ok(())
    }

    async fn list_secrets(&self) -> Result<(), Fault> {
        let secrets = self.owner.secrets().await?;
        let entries = secrets.iter().map(|s| {
            let hosts: Vec<_> = s.hosts.iter().map(ToString::to_string).collect();
            let hosts = if hosts.is_empty() { "nowhere".to_owned() } else { hosts.join(", ") };
            if let Some(connection) = s.name.connection() {
                return format!(
                    "{} → {hosts} · access token, kept by your sign-in (/logout {})",
                    s.name,
                    connection.name()
                );
            }
            let uses = s.uses.described().iter().map(|line| format!("\n  {line}")).collect::<String>();
            format!("{} → {hosts} · version {}{uses}", s.name, s.version)
        });
        self.list("Stored secrets", "No secret is stored.", entries);
        Ok(())
    }

    async fn list_grants(&self) -> Result<(), Fault> {
        let now = self.clock.now();
        let grants = self.owner.grants().await?;
        let standing = grants.iter().filter(|g| g.revoked_at.is_none() && g.expires_at.is_none_or(|at| now < at));
        let entries = standing.map(|g| {
            let until = g.expires_at.map_or("revoked".to_owned(), show_time);
            let join = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
            let secrets = join(g.intent.secrets.iter().map(ToString::to_string).collect());
            let hosts = join(g.intent.hosts.iter().map(ToString::to_string).collect());
            format!(
                "{}\n  {} · {} · code {} · until {until}\n  secrets: {secrets} · hosts: {hosts}",
                g.id,
                g.intent.agent,
                g.intent.skill_id,
                g.intent.code_digest.short()
            )
        });
        self.list("Trusted", "Nothing is trusted.", entries);
        Ok(())
    }

    async fn list_audit(&self) -> Result<(), Fault> {
        let head = self.owner.audit_head().await?;
        let rows = self.owner.audit_after((head - i64::from(AUDIT_ROWS)).max(0), AUDIT_ROWS).await?;
        let entries = rows.iter().map(|row| {
            let event = &row.event;
            let request = event.request_id.as_ref().map(|id| format!(" · {id}")).unwrap_or_default();
            let actor = visible::one_line(&event.actor);
            format!("{} {} {} by {actor}{request}", row.seq, show_time(row.at), event.kind.as_str())
        });
        self.list("Last audit rows", "Nothing happened yet.", entries);
        Ok(())
    }

    async fn confirm_delete(&self, rest: &str) -> Result<(), Fault> {
        let Ok(name) = SecretName::parse(rest) else {
            self.tell(Html::new().text("Usage: ").code("/delete_secret NAME"));
            return Ok(());
        };
        if !self.owner.secrets().await?.iter().any(|s| s.name == name) {
            self.tell(Html::new().text("No secret is named ").code(name.as_str()).text("."));
            return Ok(());
        }
        let html = Html::new().text("Delete ").code(name.as_str()).text("? Its value cannot be brought back.");
        let buttons =
            vec![(format!("🗑 Delete {name}"), Action::DeleteSecret { name }), ("Keep it".to_owned(), Action::Keep)];
        self.say_in(self.chat_id, html, And::Buttons(buttons));
        Ok(())
    }

    async fn revoke(&self, rest: &str, by: &str) -> Result<(), Fault> {
        let Ok(id) = GrantId::parse(rest) else {
            self.tell(Html::new().text("Usage: ").code("/revoke ID").text(" with an id from /grants"));
            return Ok(());
        };
        self.owner.revoke_grant(&id, by).await?;
        self.tell(Html::new().text("✅ ").code(id.as_str()).text(" is revoked; runs that used it are ended."));
        Ok(())
    }

    async fn kill(&self, rest: &str, by: &str) -> Result<(), Fault> {
        if rest.eq_ignore_ascii_case("off") {
            let html = Html::new().text("Turn the kill switch off? Agents can ask again, and trusted code runs again.");
            let buttons =
                vec![("▶️ Turn it off".to_owned(), Action::KillOff), ("Leave it on".to_owned(), Action::Keep)];
            self.say_in(self.chat_id, html, And::Buttons(buttons));
            return Ok(());
        }
        self.owner.set_kill_switch(true, by).await?;
        let html = Html::new()
            .bold("🛑 The kill switch is on.")
            .text(" Everything is denied and what ran is ended. To go on: ")
            .code("/kill off");
        self.tell(html);
        Ok(())
    }

    /// Sends a list, in as many messages as it takes. Nothing is cut.
    pub(crate) fn list(&self, title: &str, nothing: &str, entries: impl Iterator<Item = String>) {
        let mut pages: Vec<String> = Vec::new();
        for entry in entries {
            for piece in pieces(&entry) {
                match pages.last_mut() {
                    Some(page) if units(page) + units(&piece) < LIST_UNITS => {
                        page.push('\n');
                        page.push_str(&piece);
                    }
                    _ => pages.push(piece),
                }
            }
        }
        if pages.is_empty() {
            return self.tell(Html::new().text(nothing));
        }
        for page in pages {
            self.tell(Html::new().bold(title).end().pre(&page));
        }
    }
}

/// Splits off the first word.
pub(crate) fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

/// `/name@bot rest`, when it is a command and meant for us.
fn parse_command<'a>(text: &'a str, bot_name: Option<&str>) -> Option<(&'a str, &'a str)> {
    let (word, rest) = split_word(text.strip_prefix('/')?);
    let (name, bot) = word.split_once('@').unwrap_or((word, ""));
    let ours = bot.is_empty() || bot_name.is_none_or(|own| own.is_empty() || bot.eq_ignore_ascii_case(own));
    (ours && !name.is_empty()).then_some((name, rest))
}

fn ids(chat: i64, user: i64) -> Html {
    Html::new().field("This chat's id", &chat.to_string()).field("Your id", &user.to_string())
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// An entry that is longer than a message, in parts; every other as it is.
fn pieces(entry: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut left = LIST_UNITS;
    for c in entry.chars() {
        if left < 2 {
            pieces.push(String::new());
            left = LIST_UNITS;
        }
        left -= c.len_utf16();
        if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    pieces
}
