//! What an owner is shown of a request, for every channel alike.
//!
//! Every field that an agent had a hand in has passed through an escape that leaves nothing invisible
//! (control and format characters, bidi overrides, zero-width characters). Markup is the channel's own job.

use crate::account::SignIns;
use crate::visible;
use oauth3_core::{
    AskedLimits, AuditRow, Ceilings, Digest, Execution, Intent, Limit, Limits, Reveal, SecretName, SecretRecord, Skill,
    Status, Timestamp, Trust,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How times are shown: UTC, to the minute.
const TIME_FORMAT: &[BorrowedFormatItem<'static>] = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");

/// Most names of secrets in a headline; the list below it has them all.
const MAX_NAMES_IN_HEADLINE: usize = 3;

/// One request, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The request's id.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// What happens or happened, in a sentence.
    pub headline: String,
    /// More about the outcome, such as why it failed; empty when there is nothing to say.
    pub remark: String,
    /// How much the egress refused to the code.
    pub refused: usize,
    /// The agent that asks.
    pub agent: String,
    /// What the agent calls it.
    pub skill: String,
    /// What the agent says that it does. A claim that nobody checked; may be empty.
    pub claim: String,
    /// The first 16 hex digits of the code's SHA-256.
    pub digest: String,
    /// Where the code was fetched from.
    pub source: Option<String>,
    /// One line for each secret.
    pub secrets: Vec<CardSecret>,
    /// The hosts that it may talk to.
    pub hosts: Vec<String>,
    /// Whether it is the use of an API that is asked for; then the terms stand where code would.
    pub is_access: bool,
    /// Of an API that the owner signs in at: who is signed in, and what that allows.
    pub account: Option<String>,
    /// What runs it.
    pub runtime: &'static str,
    /// What it may use, one item for each limit.
    pub limits: Vec<CardLimit>,
    /// The arguments, as indented JSON; empty when there are none.
    pub args: String,
    /// The files, the one that runs first; empty when the code is one file without a name.
    pub files: Vec<CardFile>,
    /// What it imports from elsewhere, one line each.
    pub packages: Vec<String>,
    /// The code, one escaped character for each that cannot be seen; of several files one after the other.
    pub code: String,
    /// Whether every character of [`Card::code`] is one of the code's own.
    pub code_is_exact: bool,
    /// Size of the code, in bytes.
    pub code_bytes: usize,
    /// When silence becomes a no.
    pub expires_at: String,
}

/// One file on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardFile {
    /// Its path.
    pub path: String,
    /// Its size, in bytes.
    pub size: usize,
    /// The first 16 hex digits of its SHA-256.
    pub digest: String,
    /// Whether it is the one that runs.
    pub runs: bool,
    /// Whether it is an asset: its contents are not shown.
    pub asset: bool,
}

/// One limit on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardLimit {
    /// What it is, such as `128 MB memory`.
    pub text: String,
    /// What a request gets that does not name it, when this one gets something else.
    pub usual: Option<String>,
}

/// What the egress refused in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How many different things.
    pub(crate) count: usize,
    /// The first that was about a secret's placeholder, in a sentence.
    pub(crate) worst: Option<String>,
}

impl Refused {
    /// From the audit's rows.
    pub(crate) fn of(rows: &[AuditRow]) -> Self {
        let mut details = rows.iter().map(|row| row.event.detail.fields());
        let about_a_secret = |detail: &Map<String, Value>| detail.get("placeholder").is_some_and(|flag| flag == true);
        let worst = details.find(about_a_secret).map(|detail| {
            let text = |key| detail.get(key).and_then(Value::as_str).unwrap_or_default();
            format!("{}: {}", text("host"), text("reason"))
        });
        Self { count: rows.len(), worst }
    }
}

/// One secret on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardSecret {
    /// Its name.
    pub name: String,
    /// Whether it still has to be added.
    pub missing: bool,
    /// Whether the code gets the real value.
    pub reveal: bool,
    /// Whether it gets it for each request anew only, so that no more than once can be approved.
    pub once: bool,
    /// The hosts that its value may go to. For a missing one, those that it will get from this card.
    pub hosts: Vec<String>,
    /// Whether none of its hosts is one that this request may talk to.
    pub useless: bool,
    /// How it may be used where that is not the default, in sentences.
    pub uses: Vec<String>,
    /// Of the token of a connection: who is signed in, and what that allows. None: there is no such connection.
    pub account: Option<String>,
    /// The connection whose token it is.
    pub connection: Option<String>,
}

impl Card {
    /// Builds the card of a request. `secrets` are those that are stored, `missing` those that are named and not;
    /// the owner's `ceilings` say which limits are out of the ordinary.
    #[must_use]
    pub fn new(execution: &Execution, secrets: &[SecretRecord], missing: &[SecretName], ceilings: &Ceilings) -> Self {
        let intent = &execution.intent;
        let code = ShownCode::of(&execution.code);
        let args = if execution.args.is_empty() {
            String::new()
        } else {
            visible::lines(&serde_json::to_string_pretty(&execution.args).unwrap_or_default())
        };
        Self {
            id: execution.id.to_string(),
            status: execution.status,
            headline: headline(execution, missing),
            remark: visible::one_line(execution.error.as_deref().unwrap_or_default()),
            refused: 0,
            agent: intent.agent.to_string(),
            skill: intent.skill_id.to_string(),
            claim: visible::one_line(&execution.description),
            digest: intent.code_digest.short(),
            source: execution.skill_url.as_deref().map(visible::one_line),
            secrets: intent.secrets.iter().map(|name| card_secret(name, intent, secrets, missing)).collect(),
            hosts: intent.hosts.iter().map(ToString::to_string).collect(),
            is_access: intent.access.is_some(),
            account: None,
            runtime: if intent.access.is_some() { "none: the keeper makes the calls" } else { intent.runtime.as_str() },
            limits: if intent.access.is_some() { Vec::new() } else { limits(&intent.limits, ceilings) },
            args,
            code_is_exact: code.is_exact,
            code_bytes: code.bytes,
            files: code.files,
            packages: packages(&execution.code),
            code: code.text,
            expires_at: show_time(execution.expires_at),
        }
    }
}

impl Card {
    /// With who is signed in at the connections that it names.
    #[must_use]
    pub fn with_sign_ins(mut self, execution: &Execution, sign_ins: &SignIns) -> Self {
        let intent = &execution.intent;
        for (secret, name) in self.secrets.iter_mut().zip(&intent.secrets) {
            let Some(api) = name.connection() else { continue };
            let Some(sign_in) = sign_ins.of(&api) else { continue };
            secret.account = Some(sign_in.line());
            secret.hosts = sign_in.setup.hosts.iter().map(ToString::to_string).collect();
            secret.useless = sign_in.setup.hosts.is_disjoint(&intent.hosts);
        }
        let api = intent.access.as_ref().map(|access| &access.api);
        self.account = api.and_then(|api| sign_ins.of(api)).map(|sign_in| sign_in.line());
        self
    }

    /// What nobody may miss: that code gets real values, and of which secrets. None when it gets none.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let names: Vec<&str> = self.secrets.iter().filter(|s| s.reveal).map(|s| s.name.as_str()).collect();
        let shown = match names.len() {
            0 => return None,
            1..=MAX_NAMES_IN_HEADLINE => names.join(", "),
            n => format!("{n} secrets"),
        };
        Some(format!(
            "⚠️ REAL VALUE of {shown}: the code gets it and can send it to every host below, or print it encoded"
        ))
    }

    /// Whether the owner may say yes to more than this one request.
    #[must_use]
    pub fn can_be_trusted(&self) -> bool {
        !self.secrets.iter().any(|secret| secret.once)
    }
}

/// What is imported from elsewhere: how much in all, then each.
fn packages(code: &[u8]) -> Vec<String> {
    let skill = Skill::read(code);
    let Some(packages) = skill.as_ref().ok().and_then(Skill::packages) else { return Vec::new() };
    let size = |n: u64| bytes(usize::try_from(n).unwrap_or(usize::MAX));
    let total = format!(
        "{} from elsewhere, {} unpacked, fetched for this card and run as they are now; CONTENTS NOT SHOWN",
        packages.list.len(),
        size(packages.bytes)
    );
    let each = packages.list.iter().map(|package| {
        let (name, digest) = (visible::one_line(&package.name), package.sha256.short());
        format!("{name} · {} · sha256 {digest}…", size(package.bytes))
    });
    std::iter::once(total).chain(each).collect()
}

/// Code, ready to be shown.
struct ShownCode {
    files: Vec<CardFile>,
    text: String,
    is_exact: bool,
    bytes: usize,
}

impl ShownCode {
    fn of(code: &[u8]) -> Self {
        let Ok(Skill::Several(bundle)) = Skill::read(code) else {
            let text = visible::lines(&String::from_utf8_lossy(code));
            return Self { files: Vec::new(), is_exact: text.as_bytes() == code, bytes: code.len(), text };
        };
        let mut shown = Self { files: Vec::new(), text: String::new(), is_exact: true, bytes: 0 };
        let (first, others): (Vec<_>, Vec<_>) = bundle.files().partition(|(path, _)| *path == bundle.entry());
        for (path, bytes) in first.into_iter().chain(others) {
            let file = CardFile {
                path: visible::one_line(path),
                size: bytes.len(),
                digest: Digest::of(bytes).short(),
                runs: path == bundle.entry(),
                asset: bundle.is_asset(path),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(shown.text, "── {}", file_line(&file));
            if !file.asset {
                let text = visible::lines(&String::from_utf8_lossy(bytes));
                shown.is_exact &= text.as_bytes() == bytes;
                // Each line is marked, so that no file can pretend that another begins.
                for line in text.lines() {
                    let _ = writeln!(shown.text, "│ {line}");
                }
            }
            shown.bytes += file.size;
            shown.files.push(file);
        }
        shown
    }
}

/// One file in one line.
pub(crate) fn file_line(file: &CardFile) -> String {
    let role = match (file.runs, file.asset) {
        (true, _) => " · runs",
        (_, true) => " · ASSET, contents not shown",
        _ => "",
    };
    format!("{} · {} · sha256 {}…{role}", file.path, bytes(file.size), file.digest)
}

/// The card as plain text, code and all; what `show` prints.
#[must_use]
pub fn render_text(card: &Card) -> String {
    let mut out = render_text_without_code(card);
    let exact = if card.code_is_exact { "" } else { ", with escapes for what cannot be seen" };
    // Writing to a String cannot fail.
    let what = if card.is_access { "Terms" } else { "Code" };
    let _ = write!(out, "\n{what} ({}{exact})\n{}", bytes(card.code_bytes), card.code);
    if !card.code.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// The card as plain text, without its code.
pub(crate) fn render_text_without_code(card: &Card) -> String {
    let mut out = format!("{}\n", card.headline);
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{label:<9} {value}");
    };
    if let Some(warning) = card.warning() {
        line("WARNING", &warning);
    }
    if !card.remark.is_empty() {
        line("Remark", &card.remark);
    }
    line("Request", &card.id);
    line("Agent", &card.agent);
    line("Skill", &card.skill);
    if !card.claim.is_empty() {
        line("Claim", &format!("{} (the agent's words, not checked)", card.claim));
    }
    line(
        if card.is_access { "Terms" } else { "Code" },
        &format!("sha256 {}… · {}", card.digest, bytes(card.code_bytes)),
    );
    for (n, file) in card.files.iter().enumerate() {
        line(if n == 0 { "Files" } else { "" }, &file_line(file));
    }
    for (n, package) in card.packages.iter().enumerate() {
        line(if n == 0 { "Imports" } else { "" }, package);
    }
    if let Some(source) = &card.source {
        line("Fetched", source);
    }
    line("Runtime", card.runtime);
    if !card.limits.is_empty() {
        line("Limits", &card.limits.iter().map(limit_text).collect::<Vec<_>>().join(" · "));
    }
    if card.is_access {
        line("Secrets", &access_secrets(card));
    } else if card.secrets.is_empty() {
        line("Secrets", "none");
    }
    for (n, secret) in card.secrets.iter().enumerate() {
        line(if n == 0 { "Secrets" } else { "" }, &secret_line(secret, card.status));
    }
    if card.hosts.is_empty() {
        line("Network", "none");
    }
    for (n, host) in card.hosts.iter().enumerate() {
        line(if n == 0 { "Network" } else { "" }, host);
    }
    if card.status.is_open() {
        line("Expires", &card.expires_at);
    }
    if !card.args.is_empty() {
        let _ = writeln!(out, "\nArguments\n{}", card.args);
    }
    out
}

/// What stands for the secrets of an API.
pub(crate) fn access_secrets(card: &Card) -> String {
    match &card.account {
        Some(account) => format!("the token of your sign-in, which the agent never has: {account}"),
        None => "the keys that you assigned to this API; the agent never has them".to_owned(),
    }
}

/// The token of a connection in one line.
fn token_line(secret: &CardSecret, connection: &str, status: Status) -> String {
    let (name, hosts) = (&secret.name, secret.hosts.join(", "));
    match &secret.account {
        None => format!("{name} NOT DEFINED: oauth3 connection add {connection} --provider …"),
        Some(_) if secret.missing && !status.is_open() => format!("{name} (not signed in)"),
        Some(account) if secret.missing => format!("{name} NOT SIGNED IN; then it goes to: {hosts} · {account}"),
        Some(account) => format!("{name} → {hosts} · {account}"),
    }
}

/// One secret in one line, on a card of this status.
pub(crate) fn secret_line(secret: &CardSecret, status: Status) -> String {
    let hosts = if secret.hosts.is_empty() { "no host".to_owned() } else { secret.hosts.join(", ") };
    let mut line = if let Some(connection) = &secret.connection {
        token_line(secret, connection, status)
    } else if secret.missing && !status.is_open() {
        format!("{} (not stored)", secret.name)
    } else if secret.missing {
        format!("{} MISSING; added here it goes to: {hosts}", secret.name)
    } else {
        format!("{} → {hosts}", secret.name)
    };
    for use_of_it in &secret.uses {
        line.push_str(" · ");
        line.push_str(use_of_it);
    }
    if secret.useless && !secret.missing && !secret.reveal {
        line.push_str(" · bound to none of the hosts of this request");
    }
    line
}

/// A point in time as owners read it.
pub(crate) fn show_time(at: Timestamp) -> String {
    time::OffsetDateTime::from_unix_timestamp(at.unix_seconds())
        .ok()
        .and_then(|t| t.format(TIME_FORMAT).ok())
        .unwrap_or_else(|| at.unix_seconds().to_string())
}

/// A size as owners read it.
pub(crate) fn bytes(n: usize) -> String {
    if n < 10_240 { format!("{n} bytes") } else { format!("{} KiB", n.div_ceil(1024)) }
}

fn card_secret(name: &SecretName, intent: &Intent, stored: &[SecretRecord], missing: &[SecretName]) -> CardSecret {
    let absent = missing.contains(name);
    let record = stored.iter().find(|s| s.name == *name && !absent);
    let hosts: &BTreeSet<_> = record.map_or(&intent.hosts, |r| &r.hosts);
    CardSecret {
        name: name.to_string(),
        missing: record.is_none(),
        reveal: record.is_some_and(|r| r.uses.reveal.is_on()) || intent.revealed.contains(name),
        once: record.is_some_and(|r| r.uses.reveal == Reveal::Once),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        useless: hosts.is_disjoint(&intent.hosts),
        // The owner's own words, and names that were checked; nothing of the agent's.
        uses: record.map(|r| r.uses.described()).unwrap_or_default(),
        account: None,
        connection: name.connection().map(|api| api.name().to_owned()),
    }
}

/// One limit in words; what is out of the ordinary says so.
pub(crate) fn limit_text(limit: &CardLimit) -> String {
    match &limit.usual {
        Some(usual) => format!("{} (usually {usual})", limit.text),
        None => limit.text.clone(),
    }
}

fn limits(limits: &Limits, ceilings: &Ceilings) -> Vec<CardLimit> {
    let usual = ceilings.usual();
    // Time for computing follows the clock, so that one figure out of the ordinary does not make two.
    let beside = ceilings.limits(Some(limits.timeout_ms), &AskedLimits::default()).unwrap_or(usual);
    let item = |text: String, usual: String| CardLimit { usual: (text != usual).then_some(usual), text };
    let clock = |limits: &Limits| format!("{} s", limits.timeout().as_secs_f64());
    let others = Limit::ALL.map(|limit| item(shown(limit, limits), shown(limit, &beside)));
    std::iter::once(item(clock(limits), clock(&usual))).chain(others).collect()
}

fn shown(limit: Limit, limits: &Limits) -> String {
    let value = limit.of(limits);
    match limit {
        Limit::MemoryMb => format!("{value} MB memory"),
        Limit::CpuSeconds => format!("{} CPU s", limit.in_its_unit(value)),
        Limit::Processes => format!("{value} processes"),
        Limit::FileMb => format!("files up to {value} MB"),
        Limit::OpenFiles => format!("{value} open files"),
        Limit::OutputBytes => format!("{} output", bytes(usize::try_from(value).unwrap_or(usize::MAX))),
        Limit::EgressMb => format!("{value} MB over the network"),
        Limit::EgressRequests => format!("{value} network requests"),
    }
}

fn headline(execution: &Execution, missing: &[SecretName]) -> String {
    let by = execution.decided_by.as_deref().map(|by| format!(" by {}", visible::one_line(by))).unwrap_or_default();
    let trust = match execution.trust {
        Some(Trust::Day) => "Trusted for 24 h",
        Some(Trust::Forever) => "Always trusted",
        Some(Trust::Once) => "Approved once",
        None => "Not approved",
    };
    match execution.status {
        Status::Pending if execution.intent.access.is_some() => "🔔 Access to an API wanted".to_owned(),
        Status::Pending => "🔔 Approval wanted".to_owned(),
        Status::AwaitingSecrets => {
            let names: Vec<_> = missing.iter().map(SecretName::as_str).collect();
            let what = match names.len() {
                1..=MAX_NAMES_IN_HEADLINE => names.join(", "),
                n => format!("{n} secrets"),
            };
            format!("🔑 {trust}{by}; waits for {what}")
        }
        Status::Approved if execution.intent.access.is_some() => format!("⏳ {trust}{by}; good for the next call"),
        Status::Approved => format!("⏳ {trust}{by}; about to run"),
        Status::Executing => format!("⏳ {trust}{by}; runs now"),
        Status::Success | Status::Failed => {
            let mark = if execution.status == Status::Success { "✅ Success" } else { "⚠️ Failed" };
            let how = execution
                .result
                .as_ref()
                .map_or(String::new(), |r| format!("; exit code {} after {} ms", r.exit_code, r.duration_ms));
            format!("{mark}{how} · {trust}{by}")
        }
        Status::Denied => format!("❌ Denied{by}"),
        Status::Expired => "⌛ Expired: nobody answered in time, so it was denied".to_owned(),
        Status::Cancelled => "🚫 Cancelled by the agent".to_owned(),
    }
}
