//! Values that the owner types: asked for, deleted from the chat at once, handed over, kept nowhere.

use super::Shared;
use super::commands::split_word;
use super::html::Html;
use super::notes::{Asks, Prompt};
use super::queue::{And, Job, Say};
use super::wire::Message;
use oauth3_core::{Fault, Host, NewSecret, SecretName, SecretRecord, Timestamp, UsesChange, WriteOnly};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the answer to a question is waited for.
pub(crate) const PROMPT_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long a value that was given together with the command is held, in memory only, for its hosts.
const HELD_VALUE_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// Most hosts of one secret that are taken from the chat.
const MAX_SECRET_HOSTS: usize = 64;

/// A value that waits for its hosts. In memory only; wiped when dropped.
pub(crate) struct Held {
    user: i64,
    name: SecretName,
    value: Zeroizing<Vec<u8>>,
    expires_at: Timestamp,
}

impl Shared {
    /// `/add_secret NAME` or `/add_secret NAME value`. The whole message is deleted unless it is the first form.
    pub(crate) async fn add_secret(&self, message_id: i32, user: i64, rest: &str) {
        let (name, value) = split_word(rest);
        let name = match SecretName::parse(name) {
            Ok(name) if value.is_empty() => name,
            Ok(name) => {
                self.delete_now(self.chat_id, message_id).await;
                return self.add_given(name, value, user).await;
            }
            Err(_) if rest.is_empty() => {
                return self.tell(Html::new().text("Usage: ").code("/add_secret NAME"));
            }
            Err(_) => {
                // The word may be the value itself, so it is neither kept nor repeated.
                self.delete_now(self.chat_id, message_id).await;
                return self.tell(Html::new().text(
                    "That is no name for a secret. A name looks like OPENAI_API_KEY and is none that a runtime acts on.",
                ));
            }
        };
        match self.stored(&name).await {
            Err(fault) => self.tell(failed(&fault)),
            Ok(Some(record)) => {
                let html = Html::new()
                    .code(name.as_str())
                    .text(
                        " is stored already. Reply to this message with its new value, which replaces the old one; \
                           where it may go stays as it is:",
                    )
                    .end()
                    .pre(&host_lines(&record.hosts))
                    .end()
                    .text("Your reply is deleted at once and the value is sealed.");
                self.ask(html, self.prompt(Asks::Value, name, BTreeSet::new(), true, user));
            }
            Ok(None) => self.ask_hosts(self.prompt(Asks::Hosts, name, BTreeSet::new(), false, user), ""),
        }
    }

    /// Takes a message as the answer to an open question. False when there is none.
    pub(crate) async fn answered(&self, message: &Message, user: i64, text: &str) -> bool {
        let Some((asked_in, prompt)) = self.find_prompt(message, user).await else { return false };
        // First of all, whatever it is: a value typed as the answer to another question is a value, too.
        self.delete_now(self.chat_id, message.message_id).await;
        if let Err(error) = self.notes.set_prompt(asked_in, None).await {
            tracing::warn!(%error, "telegram: an answered question could not be put away");
            self.tell(Html::new().text("That did not work, nothing was stored. Please start again."));
            return true;
        }
        if prompt.expires_at <= self.clock.now() {
            self.tell(
                Html::new()
                    .text("That answer came too late, nothing was stored. Please start again with ")
                    .code(&format!("/add_secret {}", prompt.name)),
            );
            return true;
        }
        match prompt.asks {
            Asks::Value => self.store_value(prompt, text.as_bytes().to_vec()).await,
            Asks::Hosts => match parse_hosts(text) {
                Some(hosts) => {
                    let html = Html::new()
                        .text("🔑 Reply to this message with the value of ")
                        .code(prompt.name.as_str())
                        .text(". Your reply is deleted at once and the value is sealed.");
                    self.ask(html, self.prompt(Asks::Value, prompt.name, hosts, false, user));
                }
                None => self.ask_hosts(self.prompt(Asks::Hosts, prompt.name, BTreeSet::new(), false, user), NOT_HOSTS),
            },
            Asks::HostsForHeldValue => match parse_hosts(text) {
                Some(hosts) => match self.take_held(user, &prompt.name) {
                    Some(value) => self.store_value(Prompt { hosts, ..prompt }, value).await,
                    None => self.tell(
                        Html::new()
                            .text("The value is not held any more, nothing was stored. Please start again with ")
                            .code(&format!("/add_secret {}", prompt.name)),
                    ),
                },
                None => self.ask_hosts(
                    self.prompt(Asks::HostsForHeldValue, prompt.name, BTreeSet::new(), false, user),
                    NOT_HOSTS,
                ),
            },
        }
        true
    }

    /// Wipes held values whose time is over.
    pub(crate) fn drop_expired_values(&self) {
        let now = self.clock.now();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|held| now < held.expires_at);
    }

    /// Deletes a message that holds, or may hold, a value. When that fails it is tried until it works,
    /// over a restart too.
    pub(crate) async fn delete_now(&self, chat_id: i64, message_id: i32) {
        if let Err(error) = self.notes.set_doomed(chat_id, message_id, true).await {
            tracing::warn!(%error, "telegram: cannot note that a message must be deleted");
        }
        match self.client.delete(chat_id, message_id).await {
            Ok(()) => drop(self.notes.set_doomed(chat_id, message_id, false).await),
            Err(error) => {
                self.down_on(&error);
                tracing::warn!(%error, "telegram: a message with a typed value is not deleted yet");
                self.queue.add(Job::Delete { chat_id, message_id });
            }
        }
    }

    /// The value came with the command: store it as a new value at once, or hold it until its hosts are known.
    async fn add_given(&self, name: SecretName, value: &str, user: i64) {
        match self.stored(&name).await {
            Err(fault) => self.tell(failed(&fault)),
            Ok(Some(_)) => {
                let prompt = self.prompt(Asks::Value, name, BTreeSet::new(), true, user);
                self.store_value(prompt, value.as_bytes().to_vec()).await;
            }
            Ok(None) => {
                let held = Held {
                    user,
                    name: name.clone(),
                    value: Zeroizing::new(value.as_bytes().to_vec()),
                    expires_at: self.clock.now().plus(HELD_VALUE_LIFETIME),
                };
                {
                    let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                    all.retain(|other| other.user != user);
                    all.push(held);
                }
                let minutes = HELD_VALUE_LIFETIME.as_secs() / 60;
                let lead = format!("Your message is deleted. What you typed is held for {minutes} minutes. ");
                self.ask_hosts(self.prompt(Asks::HostsForHeldValue, name, BTreeSet::new(), false, user), &lead);
            }
        }
    }

    async fn store_value(&self, prompt: Prompt, value: Vec<u8>) {
        let hosts = prompt.hosts.clone();
        let secret = NewSecret {
            name: prompt.name.clone(),
            hosts: prompt.hosts,
            uses: UsesChange::default(),
            replace: prompt.replace,
            by: format!("telegram:{}", prompt.user),
        };
        let value = WriteOnly::new(value);
        if value.is_empty() {
            return self.tell(Html::new().text("That was empty, nothing was stored."));
        }
        let html = match self.owner.put_secret(secret, value).await {
            Ok(()) if prompt.replace => Html::new()
                .text("✅ ")
                .code(prompt.name.as_str())
                .text(" existed and has a new value now; where it may go is as before."),
            Ok(()) => Html::new()
                .text("✅ ")
                .code(prompt.name.as_str())
                .text(" is stored. It goes only to:")
                .end()
                .pre(&host_lines(&hosts)),
            Err(fault) => failed(&fault),
        };
        self.tell(html);
    }

    fn take_held(&self, user: i64, name: &SecretName) -> Option<Vec<u8>> {
        self.drop_expired_values();
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|held| held.user == user && held.name == *name)?;
        let mut held = all.swap_remove(at);
        Some(std::mem::take(&mut *held.value))
    }

    async fn stored(&self, name: &SecretName) -> Result<Option<SecretRecord>, Fault> {
        Ok(self.owner.secrets().await?.into_iter().find(|record| record.name == *name))
    }

    /// The question that this message answers: the one that it replies to, or else the last one that is open.
    async fn find_prompt(&self, message: &Message, user: i64) -> Option<(i32, Prompt)> {
        let mut found = self.look_for_prompt(message, user).await;
        if found.is_none() {
            // The question may be on its way and not noted yet.
            let _sent = self.sending.lock().await;
            found = self.look_for_prompt(message, user).await;
        }
        found
    }

    async fn look_for_prompt(&self, message: &Message, user: i64) -> Option<(i32, Prompt)> {
        let prompts = self.notes.prompts().await.unwrap_or_default();
        let own = prompts.into_iter().filter(|(_, prompt)| prompt.user == user);
        match &message.reply_to_message {
            Some(replied) => own.into_iter().find(|(id, _)| *id == replied.message_id),
            None => own.into_iter().filter(|(_, p)| self.clock.now() < p.expires_at).max_by_key(|(id, _)| *id),
        }
    }

    fn prompt(&self, asks: Asks, name: SecretName, hosts: BTreeSet<Host>, replace: bool, user: i64) -> Prompt {
        Prompt { asks, name, hosts, replace, user, expires_at: self.clock.now().plus(PROMPT_LIFETIME) }
    }

    fn ask_hosts(&self, prompt: Prompt, lead: &str) {
        let html = Html::new()
            .text(lead)
            .text("🔑 Which hosts may ")
            .code(prompt.name.as_str())
            .text(" go to? Reply to this message with host names such as ")
            .code("api.example.com")
            .text(", separated by commas.");
        self.ask(html, prompt);
    }

    fn ask(&self, html: Html, prompt: Prompt) {
        self.queue.add(Job::Say(Say { chat_id: self.chat_id, html, and: And::Ask(prompt) }));
        self.recovered.notify_one();
    }
}

/// Said when an answer holds no host names. It is not repeated: it may be a value.
const NOT_HOSTS: &str = "That is not a list of plain host names; it was deleted. ";

fn parse_hosts(text: &str) -> Option<BTreeSet<Host>> {
    let words = text.split(|c: char| c == ',' || c == ';' || c.is_whitespace()).filter(|word| !word.is_empty());
    let hosts = words.map(parse_host).collect::<Option<BTreeSet<Host>>>()?;
    (1..=MAX_SECRET_HOSTS).contains(&hosts.len()).then_some(hosts)
}

/// Stricter than a host name has to be: many a key is one by form, and a key that was typed as the answer to the
/// wrong question must not be taken for a host and shown. Others can be bound on the command line.
fn parse_host(word: &str) -> Option<Host> {
    let host = Host::parse(word).ok()?;
    let (rest, last) = host.name().rsplit_once('.')?;
    let last_is_word = last.starts_with("xn--") || last.bytes().all(|b| b.is_ascii_lowercase());
    // Keyboards of phones write the first letter large.
    let written_small = !word.chars().skip(1).any(|c| c.is_ascii_uppercase());
    (!rest.is_empty() && last_is_word && written_small).then_some(host)
}

fn host_lines(hosts: &BTreeSet<Host>) -> String {
    if hosts.is_empty() {
        return "nowhere".to_owned();
    }
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn failed(fault: &Fault) -> Html {
    Html::new().text("❌ ").code(&fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_keys() {
        let check = |text: &str, hosts: Option<&str>| {
            let found = parse_hosts(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), hosts, "{text}");
        };
        check("api.example.com", Some("api.example.com"));
        check(
            "Api.example.com, git.home.arpa:8443\nxn--e1afmkfd.xn--p1ai",
            Some("api.example.com git.home.arpa:8443 xn--e1afmkfd.xn--p1ai"),
        );
        for key in [
            "sk-proj-1234567890abcdef",
            "SG.ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf09kqeF8tAmbihYzrnopKcabc",
            "123456.abcdef0123",
            "AKIAIOSFODNN7EXAMPLE",
            "https://api.example.com",
            "10.0.0.1",
            "api.example.com sk-proj-123",
            "",
        ] {
            check(key, None);
        }
    }
}
