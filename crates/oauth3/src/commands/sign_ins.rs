//! `login`, `logins`, `logout` and `status`: sign-ins by code.

use super::{BY, Outcome};
use crate::cli::LoginArgs;
use crate::output::{Output, bold, dim, harmless, joined, when};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::{clock, terminal, wiring};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use oauth3_approve::{SignIn, SignIns, shown_account};
use oauth3_core::{
    Account, ApiId, Attempt, AttemptEnd, Clock as _, Fault, OwnerPort, SignInOrder, SignInRecord, SignInState,
    Timestamp,
};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Map, Value, json};
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

/// One long poll.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the countdown moves.
const TICK: Duration = Duration::from_secs(1);

/// Every connection that people sign in at, and where each stands.
pub(super) async fn look(port: &dyn OwnerPort) -> Result<SignIns> {
    let connections = port.connections().await?;
    Ok(SignIns { connections, records: port.sign_ins().await?, words: wiring::words() })
}

/// Begins a sign-in, or joins the one that is under way, and waits for its end.
pub(crate) async fn login(settings: &Settings, args: &LoginArgs, out: Output) -> Result<Outcome> {
    let owner = Owner::reach(settings).await?;
    let port = owner.running()?;
    let sign_ins = look(port).await?;
    let sign_in = named(&sign_ins, &args.name)?;
    let record = &sign_in.record;
    if args.cancel {
        return cancel(port, record, out).await;
    }
    if record.state == SignInState::SignedIn && record.attempt.is_none() && !args.again {
        let who =
            record.account.as_ref().map(|account| format!(" Signed in as {}.", harmless(&shown_account(account))));
        let text = format!("Already authenticated.{} (--again signs in anew)", who.unwrap_or_default());
        out.result(&line(&sign_in, "signed_in"), text);
        return Ok(Outcome::Done);
    }
    let begun = port.order_sign_in(&record.connection, SignInOrder::Begin, BY).await?;
    let Some(attempt) = &begun.attempt else { return Ok(finish(&sign_ins, &begun, out)) };
    // Of a connection whose token is got from another's sign-in it is that one.
    show(sign_ins.of(&begun.connection).as_ref().unwrap_or(&sign_in), attempt, out);
    if args.no_wait {
        if !out.is_json() {
            out.line(format!(
                "It waits for you until {}; `oauth3 login {}` waits with it.",
                when(attempt.expires_at),
                args.name
            ));
        }
        return Ok(Outcome::Done);
    }
    let began_at = attempt.began_at;
    tokio::select! {
        // Heard from before anything says so.
        biased;
        _ = tokio::signal::ctrl_c() => {
            let name = &args.name;
            eprintln!("\noauth3: the sign-in goes on; `oauth3 login {name}` waits for it again, `oauth3 login {name} --cancel` stops it");
            Ok(Outcome::Failed)
        }
        ended = wait(port, begun.clone(), began_at, args.any_account, out) => Ok(finish(&sign_ins, &ended?, out)),
    }
}

/// Where the owner goes, with which code.
fn show(sign_in: &SignIn<'_>, attempt: &Attempt, out: Output) {
    let prompt = &attempt.prompt;
    if out.is_json() {
        let mut item = line(sign_in, "pending");
        item.insert("address".into(), prompt.address.clone().into());
        item.insert("code".into(), prompt.code.clone().into());
        item.insert("address_with_code".into(), prompt.address_with_code.clone().into());
        item.insert("expires_at".into(), attempt.expires_at.unix_seconds().into());
        item.insert("asked_by".into(), attempt.asked_by.clone().into());
        return out.json(&item);
    }
    let scopes = sign_in.allows(&sign_in.setup.scopes);
    out.line(format!("{} at {}", bold(&format!("Sign in to {}", sign_in.name)), harmless(&sign_in.provider())));
    if let Some(account) = sign_in.account() {
        out.line(format!("Last time it was {}.", harmless(&account)));
    }
    if attempt.asked_by != BY {
        out.line(format!("{} asked for it.", harmless(&attempt.asked_by)));
    }
    if !scopes.is_empty() {
        out.line(format!("It will be allowed: {}", harmless(&scopes.join(", "))));
    }
    out.line("");
    out.line(format!("Go to:      {}", bold(&harmless(&prompt.address))));
    if let Some(code) = &prompt.code {
        out.line(format!("Enter code: {}", bold(&harmless(code))));
    }
    out.line("");
    let address = prompt.address_with_code.as_ref().unwrap_or(&prompt.address);
    if let Some(picture) = out.width().and_then(|width| picture(address, width)) {
        out.line(picture);
    }
}

/// The address as a QR code, if the terminal is wide enough.
fn picture(address: &str, columns: usize) -> Option<String> {
    let code = QrCode::new(address).ok()?;
    // Light squares are drawn, for most terminals are dark; readers take it either way.
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    picture.lines().all(|line| line.chars().count() <= columns).then_some(picture)
}

/// Waits until the attempt that began then is over.
async fn wait(
    port: &dyn OwnerPort,
    mut record: SignInRecord,
    began_at: Timestamp,
    any_account: bool,
    out: Output,
) -> Result<SignInRecord> {
    let mut progress = spinner();
    if progress.is_hidden() && !out.is_json() {
        eprintln!("Waiting for you to sign in …");
    }
    let mut asked = false;
    while let Some(attempt) = record.attempt.clone().filter(|attempt| attempt.began_at == began_at) {
        if let Some(other) = attempt.other_account.as_ref().filter(|_| !asked) {
            asked = true;
            progress.finish_and_clear();
            tell_other(&record, other, out);
            let order = tokio::select! {
                order = other_account(record.connection.name(), any_account, out) => order?,
                // The phone was faster, or the time is over.
                changed = changed(port, &record) => {
                    record = changed?;
                    continue;
                }
            };
            progress = spinner();
            if let Some(order) = order {
                record = port.order_sign_in(&record.connection, order, BY).await?;
                continue;
            }
        }
        record = {
            let mut changed = pin!(changed(port, &record));
            loop {
                progress.set_message(countdown(&attempt));
                tokio::select! {
                    record = &mut changed => break record?,
                    () = tokio::time::sleep(TICK) => {}
                }
            }
        };
    }
    progress.finish_and_clear();
    Ok(record)
}

fn countdown(attempt: &Attempt) -> String {
    let left = attempt.expires_at.since(clock::SystemClock.now()).as_secs();
    format!("Waiting for you to sign in: {}:{:02} left (Ctrl-C stops waiting, not the sign-in)", left / 60, left % 60)
}

/// The next version of a record.
async fn changed(port: &dyn OwnerPort, record: &SignInRecord) -> Result<SignInRecord> {
    loop {
        let now = port.wait_sign_in(&record.connection, record.version, PATIENCE).await?;
        if now.version != record.version {
            return Ok(now);
        }
    }
}

fn spinner() -> ProgressBar {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn tell_other(record: &SignInRecord, other: &Account, out: Output) {
    if out.is_json() {
        let (name, before) = (record.connection.name(), &record.account);
        out.json(&json!({ "connection": name, "status": "other_account", "before": before, "account": other }));
        return;
    }
    let before = record.account.as_ref().map_or_else(|| "nobody".to_owned(), shown_account);
    let text = format!("Another account signed in. Before: {before}. Now: {}.", shown_account(other));
    out.line(harmless(&text));
}

/// What to do about another account; none: somebody else is to say.
async fn other_account(name: &str, any_account: bool, out: Output) -> Result<Option<SignInOrder>> {
    if any_account {
        return Ok(Some(SignInOrder::KeepAccount));
    }
    if out.is_json() || !std::io::stdin().is_terminal() || out.width().is_none() {
        eprintln!("oauth3: say in Telegram which one is meant, or run `oauth3 login {name} --any-account`");
        return Ok(None);
    }
    let yes = terminal::yes("Use the new one? [y/N] ").await?;
    Ok(Some(if yes { SignInOrder::KeepAccount } else { SignInOrder::RefuseAccount }))
}

/// Tells how it ended.
fn finish(sign_ins: &SignIns, record: &SignInRecord, out: Output) -> Outcome {
    let now = SignIns { records: vec![record.clone()], ..sign_ins.clone() };
    let Some(sign_in) = now.of(&record.connection) else { return Outcome::Failed };
    let name = sign_in.name;
    if let (SignInState::SignedIn, None) = (&record.state, &record.failure) {
        let who = sign_in.account().unwrap_or_else(|| "an account without a name".to_owned());
        out.result(&line(&sign_in, "signed_in"), format!("Signed in as {}.", harmless(&who)));
        return Outcome::Done;
    }
    let end = record.failure.as_ref().map_or(AttemptEnd::Failed, |failure| failure.end);
    let sentence = record.failure.as_ref().map_or("the sign-in has ended", |failure| failure.sentence.as_str());
    let (word, outcome) = match end {
        AttemptEnd::Denied => ("denied", Outcome::Denied),
        AttemptEnd::Expired => ("expired", Outcome::Expired),
        AttemptEnd::Cancelled => ("cancelled", Outcome::Failed),
        AttemptEnd::Failed => ("failed", Outcome::Failed),
    };
    if out.is_json() {
        let mut item = line(&sign_in, word);
        item.insert("error".into(), sentence.into());
        out.json(&item);
    }
    eprintln!(
        "oauth3: {name}: {}. Begin another with `oauth3 login {name}`.",
        harmless(sentence.trim_end_matches('.'))
    );
    outcome
}

async fn cancel(port: &dyn OwnerPort, record: &SignInRecord, out: Output) -> Result<Outcome> {
    let name = record.connection.name();
    if record.attempt.is_none() {
        out.result(
            &json!({ "connection": name, "status": record.word() }),
            format!("No sign-in to {name} is under way."),
        );
        return Ok(Outcome::Done);
    }
    port.order_sign_in(&record.connection, SignInOrder::Cancel, BY).await?;
    out.result(&json!({ "connection": name, "status": "cancelled" }), format!("The sign-in to {name} is stopped."));
    Ok(Outcome::Done)
}

/// Revokes and destroys the tokens of a connection.
pub(crate) async fn logout(settings: &Settings, name: &str, out: Output) -> Result<Outcome> {
    let owner = Owner::reach(settings).await?;
    let sign_ins = look(owner.port()).await?;
    let sign_in = named(&sign_ins, name)?;
    let record = &sign_in.record;
    // Also when nobody is signed in: a token may be on its way.
    let after = owner.port().order_sign_in(&record.connection, SignInOrder::SignOut, BY).await?;
    if record.word() == "signed_out" {
        out.result(&line(&sign_in, "signed_out"), format!("Nobody is signed in to {name}."));
        return Ok(Outcome::Done);
    }
    // What is destroyed here may be good there still.
    let but = after.failure.as_ref().map(|failure| harmless(&failure.sentence));
    let text = match &but {
        Some(but) => format!("Signed out of {name}: {but}."),
        None => format!("Signed out of {name}. Its tokens are revoked and destroyed."),
    };
    out.result(&json!({ "connection": name, "status": "signed_out", "revoked": but.is_none(), "error": but }), text);
    Ok(Outcome::Done)
}

/// Lists sign-ins.
pub(crate) async fn logins(settings: &Settings, out: Output) -> Result<Outcome> {
    let owner = Owner::reach(settings).await?;
    let sign_ins = look(owner.port()).await?;
    if out.is_json() {
        let items: Vec<_> = sign_ins.all().map(|sign_in| line(&sign_in, sign_in.record.word())).collect();
        out.json(&json!({ "logins": items }));
        return Ok(Outcome::Done);
    }
    let rows: Vec<_> = sign_ins
        .all()
        .map(|sign_in| {
            let account = sign_in.account().unwrap_or_else(|| "-".into());
            let used = sign_in.record.used_at.map_or_else(|| "-".into(), when);
            let scopes = joined(sign_in.scopes());
            [
                sign_in.name.to_owned(),
                source(&sign_in),
                harmless(&account),
                state(&sign_in.record),
                used,
                harmless(&scopes),
            ]
        })
        .collect();
    out.table(["NAME", "PROVIDER", "ACCOUNT", "STATE", "LAST USED", "SCOPES"], &rows, NONE);
    Ok(Outcome::Done)
}

const NONE: &str = "No connection has a sign-in; define one with `oauth3 connection add NAME --provider P`.";

/// Everything about one sign-in, or about each.
pub(crate) async fn status(settings: &Settings, name: Option<&str>, out: Output) -> Result<Outcome> {
    let owner = Owner::reach(settings).await?;
    let sign_ins = look(owner.port()).await?;
    let shown: Vec<SignIn<'_>> = match name {
        Some(name) => vec![named(&sign_ins, name)?],
        None => sign_ins.all().collect(),
    };
    if out.is_json() {
        let items: Vec<_> = shown.iter().map(|sign_in| line(sign_in, sign_in.record.word())).collect();
        match (name, items.first()) {
            (Some(_), Some(item)) => out.json(item),
            _ => out.json(&json!({ "logins": items })),
        }
        return Ok(Outcome::Done);
    }
    if shown.is_empty() {
        out.line(NONE);
    }
    for sign_in in &shown {
        details(sign_in, out);
    }
    Ok(Outcome::Done)
}

fn details(sign_in: &SignIn<'_>, out: Output) {
    let record = &sign_in.record;
    let at = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), when);
    out.line(format!("{}  {}", bold(sign_in.name), state(record)));
    out.line(format!("  Provider     {}", harmless(&source(sign_in))));
    out.line(format!("  Account      {}", harmless(&sign_in.account().unwrap_or_else(|| "-".into()))));
    let granted = if record.granted.is_empty() { &sign_in.setup.scopes } else { &record.granted };
    for scope in &sign_in.setup.scopes {
        let mark = if record.state != SignInState::SignedIn {
            ""
        } else if granted.contains(scope) {
            " · granted"
        } else {
            " · not granted in this word"
        };
        out.line(format!("  Asked for    {}{mark}", harmless(&sign_in.scope(scope))));
    }
    for scope in granted.difference(&sign_in.setup.scopes) {
        out.line(format!("  Also granted {}", harmless(&sign_in.scope(scope))));
    }
    out.line(format!("  Tokens go to {}", joined(&sign_in.setup.hosts)));
    let renewed = if record.refreshable { ", refreshed by itself" } else { "" };
    out.line(format!("  Token until  {}{renewed}", at(record.expires_at)));
    out.line(format!("  Signed in    {}", at(record.signed_in_at)));
    out.line(format!("  Last used    {}", at(record.used_at)));
    if let Some(failure) = &record.failure {
        out.line(dim(&format!("  Last failure {}: {}", when(failure.at), harmless(&failure.sentence))));
    }
}

/// The provider, and the sign-in that a derived token is got from.
pub(super) fn source(sign_in: &SignIn<'_>) -> String {
    let from = sign_in.from().map(|from| format!(", {from}")).unwrap_or_default();
    format!("{}{from}", sign_in.provider())
}

/// Where it stands, in a few words.
pub(super) fn state(record: &SignInRecord) -> String {
    match (&record.attempt, &record.state) {
        (Some(attempt), _) => format!("waits for you until {}", when(attempt.expires_at)),
        (None, SignInState::SignedIn) => "signed in".to_owned(),
        (None, SignInState::SignedOut) => "signed out".to_owned(),
        (None, SignInState::Needed(reason)) => format!("sign-in needed: {}", harmless(reason)),
    }
}

/// What scripts see of a sign-in; `status` is the word for it.
fn line(sign_in: &SignIn<'_>, status: &str) -> Map<String, Value> {
    let mut map = Map::from_iter([("connection".to_owned(), Value::from(sign_in.name))]);
    map.extend(fields(sign_in));
    map.insert("status".to_owned(), status.into());
    map
}

/// The same, to be put among other fields.
pub(super) fn fields(sign_in: &SignIn<'_>) -> Map<String, Value> {
    let record = &sign_in.record;
    let seconds = |at: Option<Timestamp>| at.map(Timestamp::unix_seconds);
    let reason = match &record.state {
        SignInState::Needed(reason) => Some(reason),
        _ => None,
    };
    let value = json!({
        "provider": sign_in.setup.provider,
        "from": sign_in.setup.from.as_ref().map(|from| from.parent.name()),
        "status": record.word(),
        "account": record.account,
        "scopes_asked": sign_in.setup.scopes,
        "scopes_granted": record.granted,
        "hosts": sign_in.setup.hosts,
        "token_expires_at": seconds(record.expires_at),
        "refreshable": record.refreshable,
        "signed_in_at": seconds(record.signed_in_at),
        "refreshed_at": seconds(record.refreshed_at),
        "last_used_at": seconds(record.used_at),
        "reason": reason,
        "last_failure": record.failure.as_ref().map(|f| json!({ "at": f.at.unix_seconds(), "end": f.end, "sentence": f.sentence })),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn named<'a>(sign_ins: &'a SignIns, name: &str) -> Result<SignIn<'a>> {
    let api = ApiId::connection(name)?;
    if let Some(found) = sign_ins.of(&api) {
        return Ok(found);
    }
    let text = if sign_ins.connections.iter().any(|connection| connection.api == api) {
        format!("{name} takes a key, and nobody signs in at it; define it with --provider")
    } else {
        format!("there is no connection {name}; see: oauth3 connection list")
    };
    Err(Fault::NotFound(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_picture_where_there_is_room() {
        let address = "https://login.example.com/device?user_code=ABCD-EFGH";
        let shown = picture(address, 80).unwrap();
        assert!(shown.lines().count() > 10 && shown.lines().all(|line| line.chars().count() <= 80));
        assert_eq!(picture(address, 20), None);
        assert_eq!(picture(&"x".repeat(5000), 10_000), None, "more than such a picture holds");
    }
}
