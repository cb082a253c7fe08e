//! `provider …` and `usage`

use super::in_seconds::in_seconds;
use super::{BY, Outcome, check};
use crate::cli::{GrantArgs, KeyCommand, ProviderCommand, UsageArgs, UsageBy};
use crate::output::{Output, joined, when};
use crate::owner::Owner;
use crate::proxy;
use crate::settings::Settings;
use anyhow::Result;
use oauth3_core::{Access, ApiId, ApiKey, Budget, Clock as _, MicroUsd, Tally, Timestamp, UsageRow};
use std::collections::BTreeMap;

/// Seconds of a day.
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Lists providers, assigns keys, grants.
pub(crate) async fn provider(settings: &Settings, command: ProviderCommand, out: Output) -> Result<Outcome> {
    match command {
        ProviderCommand::Check { provider } => {
            return check::check(&Owner::reach(settings).await?, provider.as_deref(), out).await;
        }
        ProviderCommand::List => list(settings, out).await?,
        ProviderCommand::Key(command) => key(&Owner::reach(settings).await?, command, out).await?,
        ProviderCommand::Grant { provider, grant } => {
            give(&Owner::reach(settings).await?, ApiId::provider(&provider)?, grant, out).await?;
        }
    }
    Ok(Outcome::Done)
}

async fn list(settings: &Settings, out: Output) -> Result<()> {
    let catalog = proxy::catalog(settings)?;
    // Before `init` there is nobody to ask for keys, and the list is of use all the same.
    let keys = match Owner::reach(settings).await {
        Ok(owner) => owner.port().api_keys().await?,
        Err(error) => {
            tracing::debug!(%error, "the keys cannot be looked up");
            Vec::new()
        }
    };
    let of = |name: &str| -> Vec<String> {
        let mine = |key: &&ApiKey| key.api.is_provider() && key.api.name() == name;
        keys.iter().filter(mine).map(|key| key.secret.to_string()).collect()
    };
    let base =
        |p: &oauth3_provider::Provider| p.base().map_or_else(|missing| format!("({missing})"), ToString::to_string);
    if out.is_json() {
        let items: Vec<_> = catalog
            .providers()
            .map(|p| {
                serde_json::json!({
                    "name": p.name, "title": p.title, "base_url": p.base().ok().map(ToString::to_string),
                    "credential": p.credential.to_string(), "dialect": p.dialect.as_str(),
                    "secret": p.secret, "docs": p.docs, "keys": of(&p.name),
                })
            })
            .collect();
        out.json(&serde_json::json!({ "providers": items }));
        return Ok(());
    }
    let rows: Vec<_> = catalog.providers().map(|p| [p.name.clone(), joined(of(&p.name)), base(p)]).collect();
    out.table(["PROVIDER", "KEYS", "ADDRESS"], &rows, "No providers.");
    Ok(())
}

async fn key(owner: &Owner, command: KeyCommand, out: Output) -> Result<()> {
    match command {
        KeyCommand::Add { provider, secret, agent, tag } => {
            let api = api(&provider)?;
            let created_at = Timestamp::from_millis(0);
            let key =
                ApiKey { api: api.clone(), secret: secret.clone(), agent: agent.clone(), tag: tag.clone(), created_at };
            owner.port().put_api_key(key, BY).await?;
            let whose = match (&agent, &tag) {
                (Some(agent), _) => format!("the agent {agent}"),
                (None, Some(tag)) => format!("agents with the tag {tag}"),
                (None, None) => "every agent that has none of its own".to_owned(),
            };
            out.result(
                &serde_json::json!({ "api": api, "secret": secret, "agent": agent, "tag": tag }),
                format!("{secret} is a key of {} for {whose}.", api.name()),
            );
        }
        KeyCommand::List => {
            let keys = owner.port().api_keys().await?;
            if out.is_json() {
                let items: Vec<_> = keys.iter().map(in_seconds).collect();
                out.json(&serde_json::json!({ "keys": items }));
                return Ok(());
            }
            let rows: Vec<_> = keys
                .iter()
                .map(|k| {
                    let agent = k.agent.as_ref().map(|agent| format!("agent {agent}"));
                    let whose = agent.or(k.tag.as_ref().map(|tag| format!("tag {tag}"))).unwrap_or("everybody".into());
                    [k.api.to_string(), k.secret.to_string(), whose, when(k.created_at)]
                })
                .collect();
            let none = "No keys yet; assign one with `oauth3 provider key add PROVIDER SECRET`.";
            out.table(["API", "SECRET", "FOR", "SINCE"], &rows, none);
        }
        KeyCommand::Remove { provider, secret } => {
            let api = api(&provider)?;
            owner.port().remove_api_key(&api, &secret, BY).await?;
            out.result(
                &serde_json::json!({ "api": api, "secret": secret, "removed": true }),
                format!("{secret} is no key of {} any more.", api.name()),
            );
        }
    }
    Ok(())
}

/// A provider by its name, or any API as it is written.
fn api(text: &str) -> Result<ApiId> {
    Ok(if text.contains('/') { ApiId::parse(text)? } else { ApiId::provider(text)? })
}

pub(super) async fn give(owner: &Owner, api: ApiId, args: GrantArgs, out: Output) -> Result<()> {
    let access = Access {
        api: api.clone(),
        models: args.models.into_iter().collect(),
        rules: args.rules.into_iter().collect(),
        budget: Budget {
            requests_per_minute: args.requests_per_minute,
            tokens_per_minute: args.tokens_per_minute,
            tokens_per_day: args.tokens_per_day,
            usd_per_day: args.usd_per_day,
            usd_total: args.usd_total,
        },
    };
    let grant = owner.port().grant_access(&args.agent, access, args.lifetime, BY).await?;
    let until = grant.expires_at.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", when(at)));
    out.result(&in_seconds(&grant), format!("{} may use {} {until} ({}).", args.agent, api.name(), grant.id));
    Ok(())
}

/// Shows what was used.
pub(crate) async fn usage(owner: &Owner, args: &UsageArgs, out: Output) -> Result<()> {
    let today = crate::clock::SystemClock.now().unix_seconds().div_euclid(DAY_SECONDS);
    let since = args.days.map_or(0, |days| today.saturating_sub(i64::from(days) - 1));
    let rows = owner.port().usage(since).await?;
    let (by, key): (&str, fn(&UsageRow) -> String) = match args.by {
        UsageBy::Agent => ("agent", |row| row.agent.to_string()),
        UsageBy::Provider => ("provider", |row| row.api.name().to_owned()),
        UsageBy::Model => ("model", |row| row.model.clone()),
        UsageBy::Day => ("day", |row| day(row.day)),
    };
    let mut sums: BTreeMap<String, Tally> = BTreeMap::new();
    rows.iter().for_each(|row| sums.entry(key(row)).or_default().add(&row.tally));
    if out.is_json() {
        let items: Vec<_> = sums.iter().map(|(name, tally)| item(by, name, tally)).collect();
        out.json(&serde_json::json!({ "usage": items }));
        return Ok(());
    }
    let shown: Vec<_> = sums
        .iter()
        .map(|(name, t)| {
            let mean = t.millis.checked_div(t.calls).unwrap_or_default();
            let tokens = |n: u64| if t.estimated > 0 { format!("~{n}") } else { n.to_string() };
            let name = if name.is_empty() { "-".to_owned() } else { name.clone() };
            [
                name,
                t.calls.to_string(),
                t.failed.to_string(),
                tokens(t.tokens_in),
                tokens(t.tokens_out),
                t.usd.to_string(),
                format!("{mean} ms"),
            ]
        })
        .collect();
    let head = [
        by.to_uppercase(),
        "CALLS".into(),
        "FAILED".into(),
        "TOKENS IN".into(),
        "OUT".into(),
        "COST".into(),
        "MEAN TIME".into(),
    ];
    out.table(head.each_ref().map(String::as_str), &shown, "Nothing was used.");
    Ok(())
}

fn item(by: &str, name: &str, tally: &Tally) -> serde_json::Value {
    let MicroUsd(_) = tally.usd;
    serde_json::json!({
        by: name, "calls": tally.calls, "failed": tally.failed, "estimated": tally.estimated,
        "tokens_in": tally.tokens_in, "tokens_out": tally.tokens_out, "usd": tally.usd.dollars(),
        "milliseconds": tally.millis,
    })
}

/// A day as people write it.
fn day(day: i64) -> String {
    let at = Timestamp::from_millis(day.saturating_mul(DAY_SECONDS * 1000));
    when(at).split(' ').next().unwrap_or_default().to_owned()
}
