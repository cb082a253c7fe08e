//! `init` and `config`.

use super::BY;
use crate::output::{Output, bold, dim};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::wiring;
use anyhow::{Context, Result, bail};
use oauth3_core::AgentName;
use std::os::unix::fs::DirBuilderExt;

/// Makes the data directory, the sealing key and the first agent.
pub(crate) async fn init(settings: &Settings, agent: &AgentName, out: Output) -> Result<()> {
    let dir = settings.home.dir();
    let begun = settings.home.is_initialised();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    if !begun {
        oauth3_keeper::create_key(&wiring::key_source(settings, true)?).context("cannot make the sealing key")?;
    }
    let owner = Owner::reach(settings).await?;
    // An `init` that was cut short left a key and no agent: this one ends what that one began.
    if begun && !owner.port().agents().await?.is_empty() {
        bail!("{} is set up already; `oauth3 agent add NAME` makes further agents", dir.display());
    }
    let token = owner.port().add_agent(agent, BY).await?;
    out.result(
        &serde_json::json!({ "data_dir": dir, "name": agent, "token": token.reveal() }),
        format!(
            "Ready in {}\n\n  {}  {}\n  {}\n\nNext:\n  oauth3 secret add OPENAI_API_KEY --host api.openai.com\n  oauth3 serve",
            dir.display(),
            bold(&format!("token of agent `{agent}`:")),
            token.reveal(),
            dim("(shown once; give it to the agent, as its Bearer token)"),
        ),
    );
    Ok(())
}

/// Prints the effective configuration.
pub(crate) fn config(settings: &Settings, out: Output) -> Result<()> {
    let set = |present: bool| if present { "set" } else { "not set" };
    let credentials = [
        ("telegram token", settings.telegram_token.is_some()),
        ("openclaw token", settings.openclaw_token.is_some()),
        ("webhook secret", settings.webhook_secret.is_some()),
    ];
    let config = settings.config.redacted();
    if out.is_json() {
        let mut value = serde_json::to_value(&config)?;
        if let Some(map) = value.as_object_mut() {
            map.insert("data_dir".into(), serde_json::json!(settings.home.dir()));
            map.insert("db_path".into(), serde_json::json!(settings.home.db()));
            for (name, present) in credentials {
                map.insert(name.replace(' ', "_"), set(present).into());
            }
        }
        out.json(&value);
        return Ok(());
    }
    let file = settings.config_file.as_ref().map_or("none".into(), |f| f.display().to_string());
    out.line(format!("# data directory: {}", settings.home.dir().display()));
    out.line(format!("# database: {}", settings.home.db().display()));
    out.line(format!("# configuration file: {file}"));
    for (name, present) in credentials {
        out.line(format!("# {name}: {}", set(present)));
    }
    out.line(toml::to_string_pretty(&config)?.trim_end());
    Ok(())
}
