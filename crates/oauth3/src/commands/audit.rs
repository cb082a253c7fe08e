//! `audit …` and `kill-switch`.

use super::following::until_unwanted;
use super::{BY, Outcome};
use crate::cli::AuditCommand;
use crate::output::{Output, dim, green, harmless, red, when, wrapped};
use crate::owner::Owner;
use anyhow::Result;
use oauth3_core::{AuditKind, AuditRow, OwnerPort};
use serde_json::Value;
use std::time::Duration;

/// Rows that are read at once, and that a plain `audit` shows.
const PAGE_ROWS: u32 = 500;
const SHOWN_ROWS: i64 = 50;
/// Pause between two looks while following.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);
/// Where the details of a wrapped row begin: below its kind.
const DETAIL_COLUMN: usize = 29;
/// Digits of a SHA-256 digest, and how many of them a person sees; the approval card shows as many.
const DIGEST_HEX: usize = 64;
const SHORT_HEX: usize = 16;

/// Shows, follows, verifies, exports.
pub(crate) async fn audit(owner: &Owner, follow: bool, command: Option<AuditCommand>, out: Output) -> Result<Outcome> {
    let port = owner.port();
    match command {
        Some(AuditCommand::Verify) => return verify(port, out).await,
        Some(AuditCommand::Export) => {
            show_after(port, 0, |row| out.json(row)).await?;
        }
        None => {
            let show = |row: &AuditRow| if out.is_json() { out.json(row) } else { out.line(line(row, out.width())) };
            let head = port.audit_head().await?;
            let mut last = show_after(port, (head - SHOWN_ROWS).max(0), show).await?;
            if !follow {
                return Ok(Outcome::Done);
            }
            until_unwanted(async {
                loop {
                    tokio::time::sleep(FOLLOW_PAUSE).await;
                    last = show_after(port, last, show).await?;
                }
            })
            .await?;
        }
    }
    Ok(Outcome::Done)
}

async fn show_after(port: &dyn OwnerPort, mut seq: i64, show: impl Fn(&AuditRow)) -> Result<i64> {
    loop {
        let rows = port.audit_after(seq, PAGE_ROWS).await?;
        let Some(last) = rows.last() else { return Ok(seq) };
        seq = last.seq;
        rows.iter().for_each(&show);
    }
}

async fn verify(port: &dyn OwnerPort, out: Output) -> Result<Outcome> {
    let report = port.verify_audit().await?;
    let value = serde_json::json!({ "ok": report.fault.is_none(), "rows": report.rows, "fault": report.fault });
    match &report.fault {
        None => {
            out.result(&value, format!("{} the audit chain holds: {} rows.", green("✓"), report.rows));
            Ok(Outcome::Done)
        }
        Some(fault) => {
            out.result(&value, format!("{} the audit chain is broken: {fault}", red("✗")));
            Ok(Outcome::Failed)
        }
    }
}

/// One row as people read it: short digests, nothing that is empty. Within `width` columns it is wrapped; without one
/// it is a single line, which can be searched.
pub(crate) fn line(row: &AuditRow, width: Option<usize>) -> String {
    let event = &row.event;
    let refusal = matches!(
        event.kind,
        AuditKind::Refused
            | AuditKind::Denied
            | AuditKind::Expired
            | AuditKind::EgressRefused
            | AuditKind::VerdictRefused
            | AuditKind::KillSwitch
    );
    let subject = event.request_id.as_ref().map(ToString::to_string).or_else(|| {
        // The actor says it already when the agent itself acts.
        let agent = event.agent.as_ref().map(|agent| format!("agent:{agent}"))?;
        (agent != event.actor).then_some(agent)
    });
    let (before, kind) = (format!("{:>5}  {}  ", row.seq, when(row.at)), format!("{:<14}", event.kind.as_str()));
    let after = format!("  {} {}", harmless(&event.actor), subject.unwrap_or_default());
    let after = after.trim_end();
    let plain_columns = [&before, &kind, after].iter().map(|part| part.chars().count()).sum::<usize>();
    let mut text = format!("{before}{}{after}", if refusal { red(&kind) } else { kind });
    let details: Vec<_> = event.detail.fields().iter().filter_map(|(key, value)| detail(key, value)).collect();
    let rest = details.join("  ");
    let columns = plain_columns + rest.chars().count() + 2;
    match width {
        _ if rest.is_empty() => {}
        Some(width) if columns > width => {
            for line in wrapped(&details.join(" "), width.saturating_sub(DETAIL_COLUMN)) {
                text.push_str(&format!("\n{:DETAIL_COLUMN$}{}", "", dim(&line)));
            }
        }
        _ => text.extend(["  ", &dim(&rest)]),
    }
    text
}

/// `key=value`; nothing for what is empty.
fn detail(key: &str, value: &Value) -> Option<String> {
    let value = match value {
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        value => plain(value),
    };
    (!value.is_empty()).then(|| harmless(&format!("{}={value}", key.trim_end_matches("_digest"))))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.len() == DIGEST_HEX && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("{}…", text.get(..SHORT_HEX).unwrap_or(text))
        }
        Value::String(text) if !text.contains(|c: char| c.is_whitespace() || c.is_control()) => text.clone(),
        value => value.to_string(),
    }
}

/// Turns it.
pub(crate) async fn kill_switch(owner: &Owner, state: &str, out: Output) -> Result<()> {
    let on = state == "on";
    owner.port().set_kill_switch(on, BY).await?;
    let sentence = if on {
        "Everything is denied, and what ran has ended. `oauth3 kill-switch off` ends this."
    } else {
        "Requests are decided again."
    };
    out.result(&serde_json::json!({ "kill_switch": state }), sentence);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::{AuditEvent, Timestamp};

    fn row() -> AuditRow {
        let event = AuditEvent::new(AuditKind::Asked, "agent:laptop")
            .with("code_digest", "2acb5697baef469b7fc1b66addb791dfcadb8b949c777ff2045e6f94668c7b8d")
            .with("secrets", vec!["API_KEY", "OTHER_KEY"])
            .with("missing", Vec::<String>::new())
            .with("reason", "it said \u{1b}[2J\u{202e} and more");
        AuditRow { seq: 5, at: Timestamp::from_millis(0), event, mac: String::new() }
    }

    #[test]
    fn a_row_is_one_line_for_scripts() {
        assert_eq!(
            line(&row(), None),
            "    5  1970-01-01 00:00:00Z  asked           agent:laptop  code=2acb5697baef469b…  secrets=API_KEY,OTHER_KEY  reason=\"it said \\u001b[2J\u{fffd} and more\""
        );
    }

    #[test]
    fn a_row_fits_the_width() {
        let text = line(&row(), Some(70));
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= 70), "{text}");
    }
}
