//! `secret …`

use super::in_seconds::in_seconds;
use super::{BY, Outcome, usage, uses};
use crate::cli::{SecretCommand, UsesArgs, ValueSource};
use crate::output::{Output, joined, when};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::terminal;
use anyhow::{Context, Result, bail};
use oauth3_core::{Host, NewSecret, SecretName, Uses, WriteOnly};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use zeroize::Zeroizing;

/// Longest value that is read, in bytes; the keeper has the same bound.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Values shorter than this are easily guessed, and scrubbing them stars out parts of other words.
const SHORT_VALUE_BYTES: usize = 8;

/// Adds, lists, removes and rotates.
pub(crate) async fn secret(settings: &Settings, command: SecretCommand, out: Output) -> Result<Outcome> {
    match command {
        SecretCommand::Add { name, hosts, uses, value } => {
            put(settings, Wanted { name, hosts, uses, replace: false }, &value, out).await
        }
        SecretCommand::Rotate { name, hosts, uses, value } => {
            put(settings, Wanted { name, hosts, uses, replace: true }, &value, out).await
        }
        SecretCommand::Remove { name } => {
            Owner::reach(settings).await?.port().remove_secret(&name, BY).await?;
            out.result(&serde_json::json!({ "name": name, "removed": true }), format!("{name} is removed."));
            Ok(Outcome::Done)
        }
        SecretCommand::List => {
            let secrets = Owner::reach(settings).await?.port().secrets().await?;
            if out.is_json() {
                let items: Vec<_> = secrets.iter().map(in_seconds).collect();
                out.json(&serde_json::json!({ "secrets": items }));
                return Ok(Outcome::Done);
            }
            let rows: Vec<_> = secrets
                .iter()
                .map(|s| {
                    let uses = match s.name.connection() {
                        Some(_) => "access token, kept by a sign-in (oauth3 logins)".to_owned(),
                        None => s.uses.described().join("; "),
                    };
                    [s.name.to_string(), joined(&s.hosts), s.version.to_string(), when(s.updated_at), uses]
                })
                .collect();
            out.table(
                ["NAME", "HOSTS", "VERSION", "CHANGED", "USES"],
                &rows,
                "No secrets yet; add one with `oauth3 secret add NAME --host HOST`.",
            );
            Ok(Outcome::Done)
        }
    }
}

/// What the owner typed.
struct Wanted {
    name: SecretName,
    hosts: Vec<Host>,
    uses: UsesArgs,
    replace: bool,
}

async fn put(settings: &Settings, wanted: Wanted, source: &ValueSource, out: Output) -> Result<Outcome> {
    let Wanted { name, hosts, uses, replace } = wanted;
    let uses = match uses::change(uses) {
        Ok(uses) => uses,
        Err(text) => return Ok(usage(&text, out)),
    };
    let hosts: BTreeSet<Host> = hosts.into_iter().collect();
    // Before anything is typed. What a rotated secret keeps, only the keeper can say for sure.
    if !replace && let Err(text) = Uses::default().changed(&uses).check(&hosts) {
        return Ok(usage(&text, out));
    }
    let value = match read_value(name.as_str(), source)? {
        Some(value) => value,
        None => {
            let text = "there is no terminal to type the value at; give it with --stdin or --from-env VAR";
            return Ok(usage(text, out));
        }
    };
    if value.len() < SHORT_VALUE_BYTES {
        eprintln!("oauth3: the value has only {} bytes: easily guessed, and scrubbing it garbles output", value.len());
    }
    let owner = Owner::reach(settings).await?;
    let secret = NewSecret { name: name.clone(), hosts: hosts.clone(), uses, replace, by: BY.into() };
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

/// The value of `name`, from where the options say. `None` when there is nobody to type it.
pub(super) fn read_value(name: &str, source: &ValueSource) -> Result<Option<WriteOnly>> {
    let mut bytes = if source.stdin {
        piped()?
    } else if let Some(variable) = &source.from_env {
        let value = std::env::var(variable).with_context(|| format!("variable {variable} is not set or not text"))?;
        Zeroizing::new(value.into_bytes())
    } else if std::io::stdin().is_terminal() {
        let prompt = format!("Value of {name} (not shown): ");
        terminal::hidden_line(rustix::stdio::stdin(), &mut std::io::stderr(), &prompt)?
    } else {
        return Ok(None);
    };
    if bytes.len() > MAX_VALUE_BYTES {
        bail!("a secret has at most {MAX_VALUE_BYTES} bytes");
    }
    if bytes.is_empty() {
        bail!("the value is empty; nothing is stored");
    }
    Ok(Some(WriteOnly::new(std::mem::take(&mut *bytes))))
}

/// Everything on standard input, without one trailing newline.
fn piped() -> Result<Zeroizing<Vec<u8>>> {
    // Straight into room for all of it: neither a buffer nor growing leaves a copy behind. One byte more than fits
    // tells that it is too long; a newline may follow.
    let mut bytes = Zeroizing::new(vec![0; MAX_VALUE_BYTES + 3]);
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        match rustix::io::read(rustix::stdio::stdin(), room) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot read standard input"),
        }
    }
    bytes.truncate(length);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}
