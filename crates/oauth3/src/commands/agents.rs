//! `agent …`

use super::BY;
use super::in_seconds::in_seconds;
use crate::cli::AgentCommand;
use crate::output::{Output, dim, joined, when};
use crate::owner::Owner;
use anyhow::Result;
use oauth3_core::{AgentName, AgentToken, Tag};
use std::collections::BTreeSet;

/// Adds, lists, revokes and rotates.
pub(crate) async fn agent(owner: &Owner, command: AgentCommand, out: Output) -> Result<()> {
    match command {
        AgentCommand::Add { name } => token(&name, &owner.port().add_agent(&name, BY).await?, out),
        AgentCommand::Rotate { name } => token(&name, &owner.port().rotate_agent(&name, BY).await?, out),
        AgentCommand::Tag { name, tags } => {
            let tags: BTreeSet<Tag> = tags.into_iter().collect();
            owner.port().tag_agent(&name, tags.clone(), BY).await?;
            let words = if tags.is_empty() { "no tags".to_owned() } else { format!("the tags {}", joined(&tags)) };
            out.result(&serde_json::json!({ "name": name, "tags": tags }), format!("Agent {name} has {words}."));
        }
        AgentCommand::Revoke { name } => {
            owner.port().revoke_agent(&name, BY).await?;
            out.result(&serde_json::json!({ "name": name, "revoked": true }), format!("Agent {name} is revoked."));
        }
        AgentCommand::List => {
            let agents = owner.port().agents().await?;
            if out.is_json() {
                let items: Vec<_> = agents.iter().map(in_seconds).collect();
                out.json(&serde_json::json!({ "agents": items }));
                return Ok(());
            }
            let rows: Vec<_> = agents
                .iter()
                .map(|a| {
                    let state = if a.revoked_at.is_some() { "revoked" } else { "active" };
                    let seen = a.last_seen_at.map_or("never".into(), when);
                    [a.name.to_string(), state.into(), when(a.created_at), seen, joined(&a.tags)]
                })
                .collect();
            out.table(
                ["NAME", "STATE", "ADDED", "LAST SEEN", "TAGS"],
                &rows,
                "No agents yet; add one with `oauth3 agent add NAME`.",
            );
        }
    }
    Ok(())
}

fn token(name: &AgentName, token: &AgentToken, out: Output) {
    out.result(
        &serde_json::json!({ "name": name, "token": token.reveal() }),
        format!("{}\n{}", token.reveal(), dim(&format!("(the token of {name}; shown once)"))),
    );
}
