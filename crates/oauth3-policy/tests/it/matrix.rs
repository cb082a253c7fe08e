//! The whole matrix in `snapshots/it__matrix__policy_matrix.snap`: review it line by line when it changes.
//!
//! Every combination is decided on. Values of a column that make no difference to what follows share a line (`a/b`,
//! `not c`, `*` for all), so that the table stays short enough to read.

use crate::support::{at, grant, intent, secret};
use oauth3_core::{Grant, Intent, SkillId, Status, Timestamp, Trust};
use oauth3_policy::{Basis, Decision, Facts, Load, Stage, decide};
use std::fmt::Write as _;

const CREATED: i64 = 1_000;
const APPROVED: i64 = 5_000;
const EXPIRES: i64 = 10_000;

type Column = (&'static str, &'static [&'static str]);

const KILL: Column = ("kill switch", &["off", "on"]);
const AGENT: Column = ("agent", &["active", "inactive"]);
const GRANT: Column = (
    "standing grant",
    &["none", "24h", "forever", "ran out", "revoked", "other skill", "other agent", "not yet", "once"],
);
const MISSING: Column = ("secrets", &["there", "missing"]);
const CALLS: Column = ("calls", &["fewer", "at limit", "one over"]);
const OPEN: Column = ("open", &["fewer", "at limit"]);
const STATUS: Column = (
    "status",
    &["pending", "awaiting_secrets", "approved", "executing", "success", "failed", "denied", "expired", "cancelled"],
);
const NOW: Column = ("now", &["in time", "at expiry", "late"]);
const TRUST: Column = ("trust", &["none", "once", "24h", "forever"]);
const APPROVED_AT: Column = ("approved", &["never", "in time", "at expiry", "in future"]);
const BY: Column = ("by", &["verdict", "grant"]);
const OWN_GRANT: Column = ("its own grant", &["stands", "revoked"]);

/// Whether code gets the real value of a secret: as it is stored, beside what was asked for.
const REVEAL: Column = ("real value", &["none", "once", "any trust", "since", "no more"]);

const SUBMITTED: &[Column] = &[KILL, AGENT, CALLS, REVEAL, GRANT, MISSING, OPEN];
const STORED: &[Column] = &[KILL, AGENT, STATUS, NOW, TRUST, APPROVED_AT, BY, OWN_GRANT, GRANT, MISSING];
const REVEALING: &[Column] = &[STATUS, TRUST, APPROVED_AT, BY, REVEAL, GRANT, MISSING];

#[test]
fn policy_matrix() {
    let mut text = String::from("A request that just came in\n\n");
    table(SUBMITTED, &mut text);
    text.push_str("\nA stored request that something is about to happen with\n\n");
    table(STORED, &mut text);
    text.push_str(
        "\nA stored request, in time, for code that gets the real value of a secret or did when it was asked for\n\n",
    );
    table(REVEALING, &mut text);
    insta::assert_snapshot!("policy_matrix", text);
}

fn table(columns: &[Column], text: &mut String) {
    let mut lines = rows(columns, &mut Vec::new());
    lines.insert(0, columns.iter().map(|c| c.0.to_owned()).chain(["decision".to_owned()]).collect());
    let widths: Vec<usize> = (0..columns.len()).map(|i| lines.iter().map(|l| l[i].len()).max().unwrap()).collect();
    for line in lines {
        let (answer, cells) = line.split_last().unwrap();
        for (cell, width) in cells.iter().zip(&widths) {
            write!(text, "{cell:width$}  ").unwrap();
        }
        writeln!(text, "{answer}").unwrap();
    }
}

/// The lines below this beginning of a row: each the rest of its cells, and the answer. Values with the same lines
/// below them share theirs.
fn rows(columns: &[Column], row: &mut Vec<&'static str>) -> Vec<Vec<String>> {
    let Some((_, values)) = columns.get(row.len()) else { return vec![vec![answer(columns, row)]] };
    let mut groups: Vec<(Vec<&str>, Vec<Vec<String>>)> = Vec::new();
    for value in *values {
        row.push(value);
        let below = rows(columns, row);
        row.pop();
        match groups.iter_mut().find(|group| group.1 == below) {
            Some(group) => group.0.push(value),
            None => groups.push((vec![value], below)),
        }
    }
    let named = |members: &[&str]| {
        let rest: Vec<&str> = values.iter().copied().filter(|value| !members.contains(value)).collect();
        match rest.len() {
            0 => "*".to_owned(),
            few if few < members.len() => format!("not {}", rest.join("/")),
            _ => members.join("/"),
        }
    };
    let lines = groups.into_iter().flat_map(|(members, below)| {
        let name = named(&members);
        below.into_iter().map(move |line| [name.clone()].into_iter().chain(line).collect())
    });
    lines.collect()
}

/// What a full row says under this column; the first value where the table has no such column.
fn cell(columns: &[Column], row: &[&'static str], column: Column) -> &'static str {
    columns.iter().position(|c| c.0 == column.0).map_or(column.1[0], |index| row[index])
}

fn answer(columns: &[Column], row: &[&'static str]) -> String {
    let cell = |column| cell(columns, row, column);
    let (key, now) = (secret("API_KEY"), now(cell(NOW)));
    let asked = matches!(cell(REVEAL), "once" | "any trust" | "no more");
    let intent = Intent { revealed: asked.then(|| key.clone()).into_iter().collect(), ..intent() };
    let grant = standing(cell(GRANT), now, &intent);
    let is_missing = cell(MISSING) == "missing";
    let stored = matches!(cell(REVEAL), "once" | "any trust" | "since") && !is_missing;
    let revealed = stored.then(|| key.clone()).into_iter().collect();
    let reveal_once = stored && cell(REVEAL) == "once";
    let missing = if is_missing { vec![key] } else { vec![] };
    let stage = if columns.iter().any(|c| c.0 == STATUS.0) {
        Stage::Stored {
            status: cell(STATUS).parse().unwrap_or(Status::Failed),
            trust: cell(TRUST).parse().ok(),
            approved_at: match cell(APPROVED_AT) {
                "never" => None,
                "in time" => Some(at(APPROVED)),
                "at expiry" => Some(at(EXPIRES)),
                _ => Some(at(i64::MAX)),
            },
            expires_at: at(EXPIRES),
            trusted: cell(BY) == "grant",
            grant_revoked: cell(OWN_GRANT) == "revoked",
        }
    } else {
        let beside = |name: &str, limit: u32| match name {
            "fewer" => limit - 1,
            "at limit" => limit,
            _ => limit + 1,
        };
        Stage::Submitted(Load {
            calls_last_minute: beside(cell(CALLS), 60),
            calls_per_minute: 60,
            open_requests: beside(cell(OPEN), 20),
            open_requests_max: 20,
        })
    };
    let (kill_switch, agent_active) = (cell(KILL) == "on", cell(AGENT) == "active");
    let facts = Facts {
        intent: std::sync::Arc::new(intent.clone()),
        now,
        kill_switch,
        agent_active,
        grant: grant.as_ref(),
        missing: &missing,
        revealed: &revealed,
        reveal_once,
        stage,
    };
    match decide(&facts) {
        Decision::Permit(permit) => match permit.basis() {
            Basis::Verdict => "PERMIT by the verdict".into(),
            Basis::Grant(_) => "PERMIT by the grant".into(),
        },
        Decision::Ask(reason) => format!("ask: {reason:?}"),
        Decision::Deny(reason) => format!("deny: {reason:?}"),
    }
}

fn now(name: &str) -> Timestamp {
    at(match name {
        "in time" => EXPIRES - 1,
        "at expiry" => EXPIRES,
        _ => EXPIRES + 60_000,
    })
}

fn standing(name: &str, now: Timestamp, intent: &Intent) -> Option<Grant> {
    let mut other = intent.clone();
    Some(match name {
        "none" => return None,
        "24h" => grant(intent.clone(), Trust::Day, CREATED, Some(now.millis() + 1)),
        "forever" => grant(intent.clone(), Trust::Forever, CREATED, None),
        "ran out" => grant(intent.clone(), Trust::Day, CREATED, Some(now.millis())),
        "revoked" => Grant { revoked_at: Some(now), ..grant(intent.clone(), Trust::Forever, CREATED, None) },
        "other skill" => {
            other.skill_id = SkillId::parse("weather2").unwrap();
            grant(other, Trust::Forever, CREATED, None)
        }
        "other agent" => {
            other.agent = oauth3_core::AgentName::parse("bot2").unwrap();
            grant(other, Trust::Forever, CREATED, None)
        }
        "not yet" => grant(intent.clone(), Trust::Forever, now.millis() + 1, None),
        _ => grant(intent.clone(), Trust::Once, CREATED, None),
    })
}
