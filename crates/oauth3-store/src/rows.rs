//! From rows to the words of core. A row that cannot be read is an error, never a guess.

use crate::error::unavailable;
use oauth3_core::{
    AgentRecord, AuditEvent, AuditRow, Detail, Digest, Execution, Fault, Grant, GrantId, RequestId, SealedSecret,
    SecretRecord, Standing, Timestamp, TokenHash,
};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};
use std::str::FromStr;

/// One column.
pub(crate) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T, Fault>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(name).map_err(unavailable)
}

pub(crate) fn agent(row: &SqliteRow) -> Result<AgentRecord, Fault> {
    Ok(AgentRecord {
        name: parsed(row, "name")?,
        created_at: time(row, "created_at")?,
        rotated_at: time_or_none(row, "rotated_at")?,
        revoked_at: time_or_none(row, "revoked_at")?,
        last_seen_at: time_or_none(row, "last_seen_at")?,
        tags: json(row, "tags")?,
    })
}

pub(crate) fn token_hash(row: &SqliteRow) -> Result<TokenHash, Fault> {
    Ok(TokenHash(digest(row, "token_hash")?))
}

pub(crate) fn secret(row: &SqliteRow) -> Result<SecretRecord, Fault> {
    Ok(SecretRecord {
        name: parsed(row, "name")?,
        hosts: json(row, "hosts")?,
        uses: json(row, "uses")?,
        version: column(row, "version")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn sealed_secret(row: &SqliteRow) -> Result<SealedSecret, Fault> {
    Ok(SealedSecret { record: secret(row)?, sealed: column(row, "encrypted_value")? })
}

/// Also checks that the digests still are those of the code and the intent: what was shown is what runs.
pub(crate) fn execution(row: &SqliteRow) -> Result<Execution, Fault> {
    let execution = Execution {
        id: request_id(row, "request_id")?.ok_or_else(|| unreadable("request_id"))?,
        intent: json(row, "intent")?,
        intent_digest: digest(row, "intent_digest")?,
        description: column(row, "description")?,
        skill_url: column(row, "skill_url")?,
        code: column(row, "bytes")?,
        args: json(row, "args")?,
        status: parsed(row, "status")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        approved_at: time_or_none(row, "approved_at")?,
        executed_at: time_or_none(row, "executed_at")?,
        finished_at: time_or_none(row, "finished_at")?,
        trust: parsed_or_none(row, "trust_level")?,
        grant_id: grant_id(row)?,
        trusted: column(row, "trusted")?,
        decided_by: column(row, "decided_by")?,
        result: json_or_none(row, "result")?,
        error: column(row, "error")?,
        notified_at: time_or_none(row, "notified_at")?,
    };
    if Digest::of(&execution.code) != execution.intent.code_digest {
        return Err(unavailable("stored code is not the code that was submitted"));
    }
    if execution.intent.digest() != execution.intent_digest {
        return Err(unavailable("a stored intent is not the one that was submitted"));
    }
    Ok(execution)
}

pub(crate) fn grant(row: &SqliteRow) -> Result<Grant, Fault> {
    Ok(Grant {
        id: grant_id(row)?.ok_or_else(|| unreadable("grant_id"))?,
        intent: json(row, "intent")?,
        trust: parsed(row, "trust_level")?,
        granted_at: time(row, "approved_at")?,
        expires_at: time_or_none(row, "expires_at")?,
        revoked_at: time_or_none(row, "revoked_at")?,
        granted_by: column(row, "approved_by")?,
    })
}

pub(crate) fn standing(row: &SqliteRow) -> Result<Standing, Fault> {
    let granted = column::<Option<&str>>(row, "grant_id")?.is_some();
    Ok(Standing {
        kill_switch: is_on(column(row, "kill_switch")?),
        agent_active: column(row, "agent_active")?,
        open_requests: column(row, "open_requests")?,
        grant: granted.then(|| grant(row)).transpose()?,
        grant_revoked: column(row, "grant_revoked")?,
    })
}

/// Whether the kill switch is: anything but a stored `off`, or nothing stored, counts as on.
pub(crate) fn is_on(value: Option<&str>) -> bool {
    value.is_some_and(|value| value != "off")
}

pub(crate) fn audit(row: &SqliteRow) -> Result<AuditRow, Fault> {
    let kind: String = column(row, "kind")?;
    Ok(AuditRow {
        seq: column(row, "seq")?,
        at: time(row, "at")?,
        event: AuditEvent {
            kind: serde_json::from_value(kind.into()).map_err(|_| unreadable("kind"))?,
            actor: column(row, "actor")?,
            request_id: request_id(row, "request_id")?,
            agent: parsed_or_none(row, "agent")?,
            detail: Detail::parse(column(row, "detail")?).ok_or_else(|| unreadable("detail"))?,
        },
        mac: column(row, "mac")?,
    })
}

/// The rows that can be read; others are logged and passed over, so that one of them does not hide the rest.
pub(crate) fn readable<T>(rows: &[SqliteRow], read: fn(&SqliteRow) -> Result<T, Fault>) -> Vec<T> {
    rows.iter().filter_map(|row| read(row).ok()).collect()
}

fn request_id(row: &SqliteRow, name: &'static str) -> Result<Option<RequestId>, Fault> {
    column::<Option<String>>(row, name)?.map(|t| RequestId::parse(&t).map_err(|_| unreadable(name))).transpose()
}

fn grant_id(row: &SqliteRow) -> Result<Option<GrantId>, Fault> {
    let text: Option<String> = column(row, "grant_id")?;
    text.map(|t| GrantId::parse(&t).map_err(|_| unreadable("grant_id"))).transpose()
}

pub(crate) fn time(row: &SqliteRow, name: &'static str) -> Result<Timestamp, Fault> {
    column(row, name).map(Timestamp::from_millis)
}

pub(crate) fn time_or_none(row: &SqliteRow, name: &'static str) -> Result<Option<Timestamp>, Fault> {
    Ok(column::<Option<i64>>(row, name)?.map(Timestamp::from_millis))
}

fn digest(row: &SqliteRow, name: &'static str) -> Result<Digest, Fault> {
    Digest::parse(column(row, name)?).ok_or_else(|| unreadable(name))
}

pub(crate) fn parsed<T: FromStr>(row: &SqliteRow, name: &'static str) -> Result<T, Fault> {
    parsed_or_none(row, name)?.ok_or_else(|| unreadable(name))
}

pub(crate) fn parsed_or_none<T: FromStr>(row: &SqliteRow, name: &'static str) -> Result<Option<T>, Fault> {
    column::<Option<&str>>(row, name)?.map(|t| t.parse().map_err(|_| unreadable(name))).transpose()
}

pub(crate) fn json<T: DeserializeOwned>(row: &SqliteRow, name: &'static str) -> Result<T, Fault> {
    json_or_none(row, name)?.ok_or_else(|| unreadable(name))
}

pub(crate) fn json_or_none<T: DeserializeOwned>(row: &SqliteRow, name: &'static str) -> Result<Option<T>, Fault> {
    column::<Option<&str>>(row, name)?.map(|t| serde_json::from_str(t).map_err(|_| unreadable(name))).transpose()
}

/// What serde or a parser says may quote the value; the column's name is enough.
fn unreadable(name: &'static str) -> Fault {
    unavailable(format_args!("column {name} cannot be read"))
}
