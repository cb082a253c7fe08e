//! `openclaw setup` and `openclaw secrets`: an OpenClaw whose models go through the proxy, and that has nothing but an
//! agent's token.

use super::Outcome;
use super::agent_side::Agent;
use crate::cli::{OpenclawCommand, OpenclawSetup};
use crate::output::Output;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use oauth3_core::AgentToken;
use oauth3_provider::{Dialect, Provider};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The one id that the secret provider knows.
const TOKEN_ID: &str = "agent/token";
/// The name of the secret provider, and of the first skill.
const NAME: &str = "oauth3";
/// The skills of `integrations/openclaw`.
const SKILLS: [&str; 3] = [NAME, "oauth3-auth", "oauth3-status"];
/// The file with the token, in the data directory.
const TOKEN_FILE: &str = "openclaw.token";
/// The version of OpenClaw's protocol for secret providers that are programs.
const PROTOCOL: u64 = 1;
/// Largest question of OpenClaw's, in bytes.
const MAX_ASK_BYTES: u64 = 64 << 10;
/// What it understands beside a value (docs/gateway/secrets/secretref-contract.md of OpenClaw).
const NOT_FOUND: &str = "NOT_FOUND";

/// Sets OpenClaw up, or answers it.
pub(crate) async fn openclaw(settings: &Settings, command: OpenclawCommand, out: Output) -> Result<Outcome> {
    match command {
        OpenclawCommand::Setup(args) => setup(settings, *args, out).await?,
        OpenclawCommand::Secrets => secrets(settings)?,
    }
    Ok(Outcome::Done)
}

async fn setup(settings: &Settings, args: OpenclawSetup, out: Output) -> Result<()> {
    let agent = Agent::read(settings, &args.agent).await?;
    let program = std::env::current_exe().and_then(fs::canonicalize).context("cannot tell where this program is")?;
    let entries = entries(&agent, &args.models, &program, settings.home.dir())?;
    put_away(&token_file(settings), agent.token.reveal())?;
    let Some(file) = args.write else {
        out.line(serde_json::to_string_pretty(&entries)?);
        return Ok(());
    };
    let file = fs::canonicalize(&file).unwrap_or(file);
    let mut config = match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} is no plain JSON; merge the output of --print by hand", file.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    merge(&mut config, entries);
    put_away(&file, &format!("{}\n", serde_json::to_string_pretty(&config)?))?;
    let models = args.models.iter().map(|model| format!("{NAME}-{model}")).collect::<Vec<_>>();
    out.result(
        &json!({ "written": file, "models": models }),
        match models.as_slice() {
            [] => format!("{} is written: the skills, and no model.", file.display()),
            models => format!("{} is written. Its models: {}.", file.display(), models.join(", ")),
        },
    );
    Ok(())
}

/// What OpenClaw's configuration needs.
fn entries(agent: &Agent, models: &[String], program: &Path, home: &Path) -> Result<Value> {
    let token = json!({ "source": "exec", "provider": NAME, "id": TOKEN_ID });
    let mut providers = Map::new();
    for name in models {
        let (provider, model) = name.split_once('/').context("write a model as PROVIDER/MODEL")?;
        let known = agent.providers.iter().find(|known| known.name == provider);
        let known = known.with_context(|| format!("no key of {provider} is assigned; see `oauth3 provider list`"))?;
        let entry = providers.entry(format!("{NAME}-{provider}")).or_insert(json!({
            "baseUrl": agent.base(provider), "apiKey": token, "api": api(known)?, "models": [],
        }));
        if let Some(list) = entry.get_mut("models").and_then(Value::as_array_mut) {
            list.push(json!({ "id": model, "name": format!("{model} ({}, by oauth3)", known.title) }));
        }
    }
    let ask = ["openclaw", "secrets", "--data-dir"].map(Value::from).into_iter();
    let ask: Vec<Value> = ask.chain([home.display().to_string().into()]).collect();
    let skill = json!({ "enabled": true, "env": { "OAUTH3_URL": agent.gateway }, "apiKey": token });
    let skills: Map<String, Value> = SKILLS.map(|name| (name.to_owned(), skill.clone())).into_iter().collect();
    let mut entries = json!({
        "secrets": { "providers": { NAME: { "source": "exec", "command": program, "args": ask, "jsonOnly": true } } },
        "skills": { "entries": skills },
    });
    if !providers.is_empty() {
        merge(&mut entries, json!({ "models": { "mode": "merge", "providers": providers } }));
    }
    Ok(entries)
}

/// What OpenClaw calls what a provider speaks.
fn api(provider: &Provider) -> Result<&'static str> {
    match provider.dialect {
        Dialect::OpenAi => Ok("openai-completions"),
        Dialect::Anthropic => Ok("anthropic-messages"),
        other => bail!("{} speaks {}, which is not set up for OpenClaw", provider.title, other.as_str()),
    }
}

/// Puts `new` into `old`: objects become one, anything else of `new` replaces what was there.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new,
    }
}

/// Writes a file that nobody else may read, whole or not at all.
fn put_away(file: &Path, text: &str) -> Result<()> {
    let mut name = file.file_name().context("this is no name of a file")?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = file.with_file_name(name);
    let write = || {
        let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        fs::rename(&beside, file)
    };
    write().inspect_err(|_| drop(fs::remove_file(&beside))).with_context(|| format!("cannot write {}", file.display()))
}

fn token_file(settings: &Settings) -> PathBuf {
    settings.home.dir().join(TOKEN_FILE)
}

/// What OpenClaw asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    protocol_version: u64,
    ids: Vec<String>,
}

/// Answers one question of OpenClaw's: with the agent's token, and with nothing else, ever.
fn secrets(settings: &Settings) -> Result<()> {
    let mut text = String::new();
    std::io::stdin().take(MAX_ASK_BYTES).read_to_string(&mut text).context("cannot read what OpenClaw asks")?;
    let ask: Ask = serde_json::from_str(&text).context("this is no question of OpenClaw's")?;
    if ask.protocol_version != PROTOCOL {
        bail!("OpenClaw asks in version {} of its protocol; version {PROTOCOL} is known", ask.protocol_version);
    }
    let (mut values, mut errors) = (Map::new(), Map::new());
    for id in ask.ids {
        if id == TOKEN_ID {
            values.insert(id, stored_token(&token_file(settings))?.reveal().into());
        } else {
            errors.insert(id, json!({ "code": NOT_FOUND }));
        }
    }
    Output::new(true).json(&json!({ "protocolVersion": PROTOCOL, "values": values, "errors": errors }));
    Ok(())
}

/// The token that `setup` put away. Whatever is no agent's token is not handed out.
fn stored_token(path: &Path) -> Result<AgentToken> {
    let mut file =
        fs::File::open(path).with_context(|| format!("cannot open {}; run `oauth3 openclaw setup`", path.display()))?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        bail!("others can read {0}; run `chmod 600 {0}`", path.display());
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    AgentToken::parse(text.trim())
        .with_context(|| format!("{} holds no agent's token; run `oauth3 openclaw setup`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_beside_what_is_merged() {
        let mut config = json!({ "a": { "b": 1, "c": [1] }, "d": 2 });
        merge(&mut config, json!({ "a": { "c": [2], "e": { "f": 3 } } }));
        assert_eq!(config, json!({ "a": { "b": 1, "c": [2], "e": { "f": 3 } }, "d": 2 }));
    }
}
