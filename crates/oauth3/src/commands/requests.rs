//! `requests`, `show`, `approve`, `deny` and `grants`.

use super::BY;
use super::following::until_unwanted;
use super::in_seconds::in_seconds;
use crate::cli::GrantsCommand;
use crate::output::{Output, bold, dim, harmless, joined, when};
use crate::owner::Owner;
use crate::settings::Settings;
use anyhow::Result;
use data_encoding::BASE64;
use oauth3_approve::Card;
use oauth3_core::{
    Ceilings, Digest, EgressUsage, Execution, GrantId, Intent, OwnerPort, RequestId, SecretName, Skill, Status, Trust,
    Usage, Verdict,
};
use std::collections::HashMap;
use std::time::Duration;

/// Most requests that a list shows.
const MAX_LISTED: u32 = 100;
/// Pause between two looks while watching.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// Lists requests; with `watch`, goes on and shows each change.
pub(crate) async fn requests(settings: &Settings, watch: bool, all: bool, out: Output) -> Result<()> {
    let owner = Owner::reach(settings).await?;
    let wanted: &[Status] =
        if all { &[] } else { &[Status::Pending, Status::AwaitingSecrets, Status::Approved, Status::Executing] };
    if !watch {
        let list = owner.port().requests(wanted, MAX_LISTED).await?;
        if out.is_json() {
            let items: Vec<_> = list.iter().map(summary).collect();
            out.json(&serde_json::json!({ "requests": items }));
            return Ok(());
        }
        let rows: Vec<_> = list
            .iter()
            .map(|e| {
                let i = &e.intent;
                [
                    e.id.to_string(),
                    e.status.to_string(),
                    i.agent.to_string(),
                    i.skill_id.to_string(),
                    secrets_of(i),
                    joined(&i.hosts),
                ]
            })
            .collect();
        out.table(
            ["REQUEST", "STATUS", "AGENT", "SKILL", "SECRETS", "HOSTS"],
            &rows,
            "Nothing waits. `--all` shows what was.",
        );
        if rows.len() >= MAX_LISTED as usize {
            out.line(dim(&format!("These are the newest {MAX_LISTED}; there may be more.")));
        }
        return Ok(());
    }
    until_unwanted(follow(owner.running()?, out)).await
}

async fn follow(port: &dyn OwnerPort, out: Output) -> Result<()> {
    let mut seen: HashMap<RequestId, Status> = HashMap::new();
    let mut first = true;
    loop {
        let mut list = port.requests(&[], MAX_LISTED).await?;
        list.reverse();
        for execution in &list {
            let old = seen.insert(execution.id.clone(), execution.status);
            let new = if first { execution.status.is_open() } else { old != Some(execution.status) };
            if new {
                show_change(execution, out);
            }
        }
        first = false;
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

fn show_change(execution: &Execution, out: Output) {
    if out.is_json() {
        return out.json(&summary(execution));
    }
    let intent = &execution.intent;
    out.line(format!(
        "{}  {}  {} wants {} · secrets {} · hosts {}",
        bold(execution.status.as_str()),
        execution.id,
        intent.agent,
        intent.skill_id,
        secrets_of(intent),
        joined(&intent.hosts)
    ));
    if execution.status == Status::Pending {
        out.line(dim(&format!("  oauth3 show {0} · oauth3 approve {0} · oauth3 deny {0}", execution.id)));
    }
}

/// The names of its secrets, and which of them the code gets itself.
fn secrets_of(intent: &Intent) -> String {
    let mark = |name: &SecretName| if intent.revealed.contains(name) { " (REAL VALUE)" } else { "" };
    joined(intent.secrets.iter().map(|name| format!("{name}{}", mark(name))))
}

/// What scripts see of a request; a result as the agents' API shows it.
pub(crate) fn summary(e: &Execution) -> serde_json::Value {
    serde_json::json!({
        "request_id": e.id,
        "status": e.status,
        "agent": e.intent.agent,
        "skill_id": e.intent.skill_id,
        "description": e.description,
        "code_digest": e.intent.code_digest,
        "intent_digest": e.intent_digest,
        "runtime": e.intent.runtime,
        "secrets": e.intent.secrets,
        "revealed": e.intent.revealed,
        "network": e.intent.hosts,
        "limits": e.intent.limits,
        "args": e.args,
        "skill_url": e.skill_url,
        "created_at": e.created_at.unix_seconds(),
        "expires_at": e.expires_at.unix_seconds(),
        "approved_at": e.approved_at.map(|t| t.unix_seconds()),
        "executed_at": e.executed_at.map(|t| t.unix_seconds()),
        "finished_at": e.finished_at.map(|t| t.unix_seconds()),
        "notified_at": e.notified_at.map(|t| t.unix_seconds()),
        "trust": e.trust,
        "trusted": e.trusted,
        "grant_id": e.grant_id,
        "decided_by": e.decided_by,
        "result": e.result.as_ref().map(|r| serde_json::json!({
            "success": e.status == Status::Success,
            "stdout": r.stdout,
            "stderr": r.stderr,
            "exitCode": r.exit_code,
            "duration": r.duration_ms,
            "truncated": r.truncated,
            "usage": r.usage,
        })),
        "error": e.error,
    })
}

/// Shows one request whole, with its code.
pub(crate) async fn show(owner: &Owner, id: &RequestId, ceilings: &Ceilings, out: Output) -> Result<()> {
    let execution = owner.port().show(id).await?;
    if out.is_json() {
        let mut value = summary(&execution);
        if let Some(map) = value.as_object_mut() {
            map.extend(code_fields(&execution.code));
        }
        out.json(&value);
        return Ok(());
    }
    let secrets = owner.port().secrets().await?;
    let present: Vec<_> = secrets.iter().map(|s| s.name.clone()).collect();
    let missing: Vec<_> = execution.missing_secrets(&present).cloned().collect();
    let sign_ins = super::sign_ins::look(owner.port()).await?;
    let card = Card::new(&execution, &secrets, &missing, ceilings).with_sign_ins(&execution, &sign_ins);
    out.line(oauth3_approve::render_text(&card));
    if let Some(result) = &execution.result {
        out.line(format!("\n{}\n{}", bold("Output:"), harmless(&result.stdout)));
        if !result.stderr.is_empty() {
            out.line(format!("{}\n{}", bold("Errors:"), harmless(&result.stderr)));
        }
        if let Some(usage) = &result.usage {
            out.line(dim(&used(usage)));
        }
    }
    Ok(())
}

/// The code as scripts see it: one file as text, several with their paths; what is no text in base64.
fn code_fields(code: &[u8]) -> Vec<(String, serde_json::Value)> {
    let skill = Skill::read(code);
    let Ok(skill @ Skill::Several(bundle)) = &skill else {
        return vec![("code".into(), String::from_utf8_lossy(code).into())];
    };
    let files: Vec<_> = bundle
        .files()
        .map(|(path, bytes)| {
            let (name, content) = match std::str::from_utf8(bytes) {
                Ok(text) => ("content", text.to_owned()),
                Err(_) => ("content_base64", BASE64.encode(bytes)),
            };
            let digest = Digest::of(bytes);
            serde_json::json!({ "path": path, name: content, "sha256": digest, "asset": bundle.is_asset(path) })
        })
        .collect();
    let packages = skill.packages().map(|packages| &packages.list);
    let packages = serde_json::to_value(packages).unwrap_or_default();
    vec![("entry".into(), bundle.entry().into()), ("files".into(), files.into()), ("imports".into(), packages)]
}

/// What a run used, in a line.
fn used(usage: &Usage) -> String {
    let cpu = usage.cpu_ms.map(|ms| format!("{ms} ms CPU")).into_iter();
    let memory = usage.memory_bytes.map(|bytes| format!("{} MiB memory", bytes.div_ceil(1 << 20)));
    let EgressUsage { egress_sent_bytes: sent, egress_received_bytes: received, egress_requests, egress_refused } =
        usage.egress;
    let network = format!("{egress_requests} network requests, {sent} bytes sent, {received} received");
    let refused = (egress_refused > 0)
        .then(|| format!("refusals by the egress: {egress_refused}, the same thing counted once (oauth3 audit)"));
    format!("Used: {}", cpu.chain(memory).chain([network]).chain(refused).collect::<Vec<_>>().join(" · "))
}

/// Says yes.
pub(crate) async fn approve(owner: &Owner, id: &RequestId, trust: Trust, out: Output) -> Result<()> {
    verdict(owner.running()?, id, Verdict::Approve { trust }, out).await
}

/// Says no.
pub(crate) async fn deny(owner: &Owner, id: &RequestId, reason: Option<String>, out: Output) -> Result<()> {
    verdict(owner.running()?, id, Verdict::Deny { reason }, out).await
}

async fn verdict(port: &dyn OwnerPort, id: &RequestId, verdict: Verdict, out: Output) -> Result<()> {
    let execution = port.verdict(id, verdict, BY).await?;
    let hint = match execution.status {
        Status::AwaitingSecrets => {
            let present: Vec<_> = port.secrets().await?.into_iter().map(|s| s.name).collect();
            let missing: Vec<&SecretName> = execution.missing_secrets(&present).collect();
            let mend = |name: &&SecretName| match name.connection() {
                Some(connection) => format!("`oauth3 login {}`", connection.name()),
                None => format!("`oauth3 secret add {name} --host HOST`"),
            };
            format!(" It runs when {} is there: {}.", joined(&missing), joined(missing.iter().map(mend)))
        }
        _ => String::new(),
    };
    out.result(&summary(&execution), format!("{} is {}.{hint}", execution.id, execution.status));
    Ok(())
}

/// Lists standing grants or revokes one.
pub(crate) async fn grants(owner: &Owner, command: Option<GrantsCommand>, out: Output) -> Result<()> {
    if let Some(GrantsCommand::Revoke { id }) = command {
        return revoke(owner, &id, out).await;
    }
    let grants = owner.port().grants().await?;
    if out.is_json() {
        let items: Vec<_> = grants.iter().map(in_seconds).collect();
        out.json(&serde_json::json!({ "grants": items }));
        return Ok(());
    }
    let rows: Vec<_> = grants
        .iter()
        .map(|g| {
            let state = match (g.revoked_at, g.expires_at) {
                (Some(at), _) => format!("revoked {}", when(at)),
                (None, Some(at)) => format!("until {}", when(at)),
                (None, None) => "forever".into(),
            };
            let i = &g.intent;
            [
                g.id.to_string(),
                state,
                i.agent.to_string(),
                i.skill_id.to_string(),
                i.code_digest.short(),
                secrets_of(i),
                joined(&i.hosts),
            ]
        })
        .collect();
    out.table(["GRANT", "STANDS", "AGENT", "SKILL", "CODE", "SECRETS", "HOSTS"], &rows, "No standing grants.");
    Ok(())
}

async fn revoke(owner: &Owner, id: &GrantId, out: Output) -> Result<()> {
    owner.port().revoke_grant(id, BY).await?;
    out.result(
        &serde_json::json!({ "id": id, "revoked": true }),
        format!("{id} is revoked; runs that used it have ended."),
    );
    Ok(())
}
