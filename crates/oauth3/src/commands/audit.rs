//! `audit …` and `kill-switch`.

use super::{BY, Outcome};
use crate::cli::AuditCommand;
use crate::output::{Output, dim, green, red, when};
use crate::owner::Owner;
use anyhow::Result;
use oauth3_core::{AuditRow, OwnerPort};
use std::time::Duration;

/// Rows that are read at once, and that a plain `audit` shows.
const PAGE_ROWS: u32 = 500;
const SHOWN_ROWS: i64 = 50;
/// Pause between two looks while following.
const FOLLOW_PAUSE: Duration = Duration::from_millis(500);

/// Shows, follows, verifies, exports.
pub(crate) async fn audit(owner: &Owner, follow: bool, command: Option<AuditCommand>, out: Output) -> Result<Outcome> {
    let port = owner.port();
    match command {
        Some(AuditCommand::Verify) => return verify(port, out).await,
        Some(AuditCommand::Export) => {
            show_after(port, 0, |row| out.json(row)).await?;
        }
        None => {
            let show = |row: &AuditRow| if out.is_json() { out.json(row) } else { out.line(line(row)) };
            let head = port.audit_head().await?;
            let mut last = show_after(port, (head - SHOWN_ROWS).max(0), show).await?;
            if !follow {
                return Ok(Outcome::Done);
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(FOLLOW_PAUSE) => {}
                    _ = tokio::signal::ctrl_c() => break,
                }
                last = show_after(port, last, show).await?;
            }
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

/// One row as people read it.
pub(crate) fn line(row: &AuditRow) -> String {
    let subject = row.event.request_id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
    let detail = if row.event.detail.is_empty() {
        String::new()
    } else {
        format!(" {}", serde_json::Value::Object(row.event.detail.clone()))
    };
    let head =
        format!("{:>5}  {}  {:<15} {}{subject}", row.seq, when(row.at), row.event.kind.as_str(), row.event.actor);
    format!("{head}{}", dim(&detail))
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
