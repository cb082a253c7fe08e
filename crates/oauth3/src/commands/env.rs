//! `env`: the variables with which an agent's SDKs, or all its programs, use the proxy.

use super::agent_side::{self, Addresses, Agent};
use super::forward_side::{ForwardAgent, Variables};
use crate::cli::{AgentSide, EnvArgs};
use crate::output::Output;
use crate::settings::Settings;
use anyhow::Result;
use oauth3_provider::Provider;
use serde_json::{Map, Value};

/// What Azure's SDKs ask for besides: the newest version of its data plane that is no preview.
const AZURE_API_VERSION: &str = "2024-10-21";
/// The end of a variable that holds a provider's key and nothing else. `GITHUB_TOKEN` and the like are for other
/// programs too, which a token of ours would break.
const KEY_END: &str = "_API_KEY";
/// Where certificates of agents' authorities are written, in the data directory.
const CA_DIR: &str = "forward";

/// Prints them, as lines for a shell or as one object of JSON.
pub(crate) async fn env(settings: &Settings, args: &EnvArgs, out: Output) -> Result<()> {
    let variables = if args.forward { forward(settings, args).await? } else { reverse(settings, &args.side).await? };
    if out.is_json() {
        let object: Map<String, Value> = variables.into_iter().map(|(name, value)| (name, value.into())).collect();
        out.json(&object);
    } else {
        for (name, value) in variables {
            out.line(format!("export {name}={}", quoted(&value)));
        }
    }
    Ok(())
}

/// For every program.
async fn forward(settings: &Settings, args: &EnvArgs) -> Result<Variables> {
    let side = &args.side;
    let addresses = Addresses::of(settings, side.url.as_ref(), side.proxy_url.as_ref())?;
    let agent = ForwardAgent::ask(settings, agent_side::token(side.token_file.as_ref())?, &addresses).await?;
    let dir = args.ca_dir.clone().unwrap_or_else(|| settings.home.dir().join(CA_DIR));
    let files = agent.write(&std::path::absolute(dir)?)?;
    agent.variables(settings, &addresses, &files)
}

/// For SDKs that are told where an API is.
async fn reverse(settings: &Settings, side: &AgentSide) -> Result<Variables> {
    let agent = Agent::read(settings, side).await?;
    let token = agent.token.reveal();
    let mut variables: Variables =
        vec![("OAUTH3_URL".into(), agent.gateway.clone()), ("OAUTH3_TOKEN".into(), token.into())];
    for provider in &agent.providers {
        let Some((key, base)) = names(provider) else { continue };
        variables.push((key, token.into()));
        variables.push((base, agent.base(&provider.name)));
        if provider.name == "azure" {
            variables.push(("OPENAI_API_VERSION".into(), AZURE_API_VERSION.into()));
        }
    }
    Ok(variables)
}

/// The variables in which a provider's SDK looks for the key and for the address; others follow the same pattern.
pub(crate) fn names(provider: &Provider) -> Option<(String, String)> {
    let key = provider.secret.as_ref()?.as_str();
    let stem = key.strip_suffix(KEY_END)?;
    let base = match provider.name.as_str() {
        "azure" => "AZURE_OPENAI_ENDPOINT".to_owned(),
        "google" => "GOOGLE_GEMINI_BASE_URL".to_owned(),
        _ => format!("{stem}_BASE_URL"),
    };
    Some((key.to_owned(), base))
}

/// As one word of a shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}
