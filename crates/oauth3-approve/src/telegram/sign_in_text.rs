//! What the chat says about a sign-in.

use super::html::Html;
use crate::account::{SignIn, bounded, shown};
use crate::card::show_time;
use oauth3_core::{Account, Attempt, AttemptEnd, FailedAttempt, SignInState, Timestamp};

/// Longest address that is shown, in bytes; a longer one is none that anybody types.
const MAX_ADDRESS_BYTES: usize = 1024;

/// A sign-in that waits for its owner.
pub(super) fn wanted(sign_in: &SignIn<'_>, attempt: &Attempt) -> Html {
    if let Some(other) = &attempt.other_account {
        return other_account(sign_in, attempt, other);
    }
    let mut html = head("🔐 Sign-in wanted", sign_in).field("Asked by", &asker(&attempt.asked_by));
    html = match sign_in.account() {
        Some(account) => html.field("Account", &format!("{account}, as before")),
        None => html.text("Account: you will see here who signed in").end(),
    };
    html = allows(html, "It will be allowed", &sign_in.allows(&sign_in.setup.scopes));
    html = address(html.end().text("Go to: "), &attempt.prompt.address).end();
    if let Some(code) = &attempt.prompt.code {
        html = html.text("Enter code: ").code(&bounded(code)).end();
    }
    html.end()
        .text("Complete the sign-in in your browser, and this message says who signed in. It waits until ")
        .text(&show_time(attempt.expires_at))
        .text(". If you did not expect it, enter no code and tap Cancel.")
}

/// Another account than before signed in.
fn other_account(sign_in: &SignIn<'_>, attempt: &Attempt, other: &Account) -> Html {
    head("⚠️ Another account signed in", sign_in)
        .field("Asked by", &asker(&attempt.asked_by))
        .field("Before", &sign_in.account().unwrap_or_else(|| "nobody".to_owned()))
        .field("Now", &shown(other))
        .end()
        .text("Nothing is changed yet. If this was not you, keep the old one; the new tokens are then revoked. It waits until ")
        .text(&show_time(attempt.expires_at))
        .text(".")
}

/// What became of the attempt that began then.
pub(super) fn ended(sign_in: &SignIn<'_>, began_at: Timestamp) -> Html {
    let record = &sign_in.record;
    // A failure is forgotten when somebody signs in, so one that is there came last.
    if let Some(failure) = record.failure.as_ref().filter(|failure| failure.at >= began_at) {
        return failed(sign_in, failure);
    }
    if record.state == SignInState::SignedIn && record.signed_in_at.is_some_and(|at| at >= began_at) {
        return signed_in(sign_in);
    }
    head("This sign-in is over", sign_in).text("To begin another: ").code(&command(sign_in))
}

/// Who signed in.
pub(super) fn signed_in(sign_in: &SignIn<'_>) -> Html {
    let who = sign_in.account().unwrap_or_else(|| "an account without a name".to_owned());
    let html = Html::new().bold("✅ Signed in").text(" as ").code(&who).end();
    let html = place(html, sign_in);
    let (asked, granted) = (&sign_in.setup.scopes, &sign_in.record.granted);
    if granted.is_empty() || granted == asked {
        return allows(html, "It is allowed", &sign_in.allows(asked));
    }
    let html = allows(html, "It is allowed", &sign_in.allows(granted));
    let missing = asked.difference(granted).cloned().collect();
    allows(html, "Asked for, and not granted in these words", &sign_in.allows(&missing))
}

fn failed(sign_in: &SignIn<'_>, failure: &FailedAttempt) -> Html {
    let title = match failure.end {
        AttemptEnd::Denied => "❌ Sign-in denied",
        AttemptEnd::Expired => "⌛ Sign-in expired",
        AttemptEnd::Cancelled => "🚫 Sign-in cancelled",
        AttemptEnd::Failed => "⚠️ Sign-in failed",
    };
    head(title, sign_in).code(&bounded(&failure.sentence)).end().text("To begin another: ").code(&command(sign_in))
}

/// The tokens are of no use any more.
pub(super) fn needed(sign_in: &SignIn<'_>, reason: &str) -> Html {
    let html = head("🔑 Sign-in needed", sign_in);
    let html = match sign_in.account() {
        Some(account) => html.field("Account", &account),
        None => html,
    };
    html.code(&bounded(reason)).end().text("Until you sign in again, nothing can be done with this account.")
}

/// Who asked, for people.
fn asker(by: &str) -> String {
    match by.split_once(':') {
        Some(("agent", name)) => format!("the agent {}", bounded(name)),
        Some(("telegram", _)) => "you, in this chat".to_owned(),
        _ if by == "cli" => "you, on the command line".to_owned(),
        _ => bounded(by),
    }
}

fn head(title: &str, sign_in: &SignIn<'_>) -> Html {
    place(Html::new().bold(title).end().end(), sign_in)
}

fn place(html: Html, sign_in: &SignIn<'_>) -> Html {
    html.field("Connection", sign_in.name).field("Provider", &sign_in.provider())
}

fn allows(html: Html, label: &str, lines: &[String]) -> Html {
    if lines.is_empty() { html } else { html.text(label).text(":").end().pre(&lines.join("\n")).end() }
}

/// As text when it can only be what it looks like, so that a phone makes a link of it.
fn address(html: Html, address: &str) -> Html {
    let plain = address.len() <= MAX_ADDRESS_BYTES && address.bytes().all(|b| b.is_ascii_graphic());
    if plain && address.starts_with("https://") { html.text(address) } else { html.code(&bounded(address)) }
}

fn command(sign_in: &SignIn<'_>) -> String {
    format!("/login {}", sign_in.name)
}
