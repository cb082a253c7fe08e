//! `secret …`

use super::{BY, Outcome};
use crate::cli::{SecretCommand, ValueSource};
use crate::output::{Output, joined, when};
use crate::owner::Owner;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use oauth3_core::{Host, NewSecret, SecretName, WriteOnly};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Read, Write};
use zeroize::Zeroize;

/// Longest value that is read, in bytes; the keeper has the same bound.
const MAX_VALUE_BYTES: u64 = 64 << 10;

/// Adds, lists, removes and rotates.
pub(crate) async fn secret(settings: &Settings, command: SecretCommand, out: Output) -> Result<Outcome> {
    match command {
        SecretCommand::Add { name, hosts, value } => put(settings, name, hosts, &value, false, out).await,
        SecretCommand::Rotate { name, hosts, value } => put(settings, name, hosts, &value, true, out).await,
        SecretCommand::Remove { name } => {
            Owner::reach(settings).await?.port().remove_secret(&name, BY).await?;
            out.result(&serde_json::json!({ "name": name, "removed": true }), format!("{name} is removed."));
            Ok(Outcome::Done)
        }
        SecretCommand::List => {
            let secrets = Owner::reach(settings).await?.port().secrets().await?;
            if out.is_json() {
                out.json(&serde_json::json!({ "secrets": secrets }));
                return Ok(Outcome::Done);
            }
            let rows: Vec<_> = secrets
                .iter()
                .map(|s| [s.name.to_string(), joined(&s.hosts), s.version.to_string(), when(s.updated_at)])
                .collect();
            out.table(
                ["NAME", "HOSTS", "VERSION", "CHANGED"],
                &rows,
                "No secrets yet; add one with `oauth3 secret add NAME --host HOST`.",
            );
            Ok(Outcome::Done)
        }
    }
}

async fn put(
    settings: &Settings,
    name: SecretName,
    hosts: Vec<Host>,
    source: &ValueSource,
    replace: bool,
    out: Output,
) -> Result<Outcome> {
    let value = match read_value(&name, source)? {
        Some(value) => value,
        None => {
            eprintln!("oauth3: there is no terminal to type the value at; give it with --stdin or --from-env VAR");
            return Ok(Outcome::Usage);
        }
    };
    let owner = Owner::reach(settings).await?;
    let hosts: BTreeSet<Host> = hosts.into_iter().collect();
    let secret = NewSecret { name: name.clone(), hosts: hosts.clone(), reveal: false, replace, by: BY.into() };
    owner.port().put_secret(secret, value).await?;
    let verb = if replace { "has a new value" } else { "is stored" };
    let bound = if hosts.is_empty() && !replace {
        ". It is bound to no host, so it goes nowhere: `oauth3 secret rotate` with --host binds it".to_owned()
    } else if hosts.is_empty() {
        String::new()
    } else {
        format!(", for {}", joined(&hosts))
    };
    out.result(&serde_json::json!({ "name": name, "hosts": hosts, "stored": true }), format!("{name} {verb}{bound}."));
    Ok(Outcome::Done)
}

/// `None` when there is nobody to type it.
fn read_value(name: &SecretName, source: &ValueSource) -> Result<Option<WriteOnly>> {
    let mut bytes = Vec::new();
    if source.stdin {
        std::io::stdin()
            .lock()
            .take(MAX_VALUE_BYTES + 2)
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
    } else if let Some(variable) = &source.from_env {
        let value = std::env::var(variable).with_context(|| format!("variable {variable} is not set or not text"))?;
        bytes = value.into_bytes();
    } else if std::io::stdin().is_terminal() {
        bytes = typed(name)?;
    } else {
        return Ok(None);
    }
    if bytes.len() as u64 > MAX_VALUE_BYTES {
        bytes.zeroize();
        bail!("a secret has at most {MAX_VALUE_BYTES} bytes");
    }
    if bytes.is_empty() {
        bail!("the value is empty; nothing is stored");
    }
    Ok(Some(WriteOnly::new(bytes)))
}

/// Reads a line from the terminal without showing it.
fn typed(name: &SecretName) -> Result<Vec<u8>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = rustix::stdio::stdin();
    let shown = tcgetattr(stdin).context("cannot hide what you type")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    eprint!("Value of {name} (not shown): ");
    std::io::stderr().flush()?;
    tcsetattr(stdin, OptionalActions::Flush, &hidden).context("cannot hide what you type")?;
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    tcsetattr(stdin, OptionalActions::Flush, &shown).context("cannot restore the terminal; type `reset`")?;
    read.context("cannot read the terminal")?;
    let mut bytes = line.into_bytes();
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}
