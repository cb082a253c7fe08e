//! The commands, one file for each theme.

mod agent_side;
mod agents;
mod apis;
pub(crate) mod audit;
mod check;
mod connections;
mod doctor;
mod env;
mod following;
mod forward_side;
mod in_seconds;
mod init;
mod openclaw;
mod requests;
mod run;
mod secrets;
mod sign_ins;
mod uses;
mod wrap;

use crate::cli::{Cli, Command};
use crate::output::{Output, harmless};
use crate::owner::Owner;
use crate::settings::Settings;
use crate::{demo, serve, wiring};
use anyhow::{Result, bail};
use oauth3_core::{Fault, Status};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Who did it, for the audit.
pub(crate) const BY: &str = "cli";

/// How a command ended, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3
    Denied,
    /// 4
    Expired,
    /// What a program ended with that was run.
    Of(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::Denied => 3,
            Outcome::Expired => 4,
            Outcome::Of(code) => code,
        })
    }
}

impl Outcome {
    /// What a request that came to its end means for whoever waited.
    pub(crate) const fn of(status: Status) -> Self {
        match status {
            Status::Success => Self::Done,
            Status::Denied => Self::Denied,
            Status::Expired => Self::Expired,
            _ => Self::Failed,
        }
    }
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong, with the mend where there is one.
pub(crate) async fn run(cli: Cli, out: Output) -> Result<Outcome> {
    let common = &cli.common;
    let settings = || Settings::load(common.data_dir.as_deref(), common.config.as_deref());
    match cli.command {
        Command::Demo { yes } => {
            return tokio::select! {
                outcome = demo::run(yes, out) => outcome,
                _ = tokio::signal::ctrl_c() => bail!("interrupted; what the demo started has ended"),
            };
        }
        Command::Keeper { owner_socket } => keeper(settings()?, owner_socket).await?,
        Command::Init { agent } => init::init(&settings()?, &agent, out).await?,
        Command::Serve { listen } => serve::serve(settings()?, listen, out).await?,
        Command::Doctor => return doctor::doctor(settings(), out).await,
        Command::Config => init::config(&settings()?, out)?,
        Command::Secret(command) => return secrets::secret(&settings()?, command, out).await,
        Command::Agent(command) => agents::agent(&Owner::reach(&settings()?).await?, command, out).await?,
        Command::Provider(command) => return apis::provider(&settings()?, command, out).await,
        Command::Connection(command) => return connections::connection(&settings()?, command, out).await,
        Command::Login(args) => return sign_ins::login(&settings()?, &args, out).await,
        Command::Logins => return sign_ins::logins(&settings()?, out).await,
        Command::Logout { name } => return sign_ins::logout(&settings()?, &name, out).await,
        Command::Status { name } => return sign_ins::status(&settings()?, name.as_deref(), out).await,
        Command::Usage(args) => apis::usage(&Owner::reach(&settings()?).await?, &args, out).await?,
        Command::Metrics => {
            let owner = Owner::reach(&settings()?).await?;
            let text = oauth3_api::metrics(owner.port()).await?;
            out.result(&serde_json::json!({ "metrics": text }), text.trim_end());
        }
        Command::Env(args) => env::env(&settings()?, &args, out).await?,
        Command::Wrap(args) => return wrap::wrap(&settings()?, args).await,
        Command::Openclaw(command) => return openclaw::openclaw(&settings()?, command, out).await,
        Command::Requests { watch, all } => requests::requests(&settings()?, watch, all, out).await?,
        Command::Show { id } => {
            let settings = settings()?;
            requests::show(&Owner::reach(&settings).await?, &id, &settings.config.ceilings(), out).await?;
        }
        Command::Approve { id, trust } => {
            requests::approve(&Owner::reach(&settings()?).await?, &id, trust, out).await?;
        }
        Command::Deny { id, reason } => requests::deny(&Owner::reach(&settings()?).await?, &id, reason, out).await?,
        Command::Grants { command } => requests::grants(&Owner::reach(&settings()?).await?, command, out).await?,
        Command::Run(args) => return run::run(&Owner::reach(&settings()?).await?, args, out).await,
        Command::Exec(args) => return run::exec(&Owner::reach(&settings()?).await?, args, out).await,
        Command::Audit { follow, command } => {
            return audit::audit(&Owner::reach(&settings()?).await?, follow, command, out).await;
        }
        Command::KillSwitch { state } => audit::kill_switch(&Owner::reach(&settings()?).await?, &state, out).await?,
    }
    Ok(Outcome::Done)
}

/// Tells what went wrong, and what it means for the exit code.
pub(crate) fn report(error: &anyhow::Error, out: Output) -> Outcome {
    let fault = error.downcast_ref::<Fault>();
    tell(fault.map_or("failed", Fault::code), &format!("{error:#}"), out);
    if matches!(fault, Some(Fault::DeniedByPolicy(_))) { Outcome::Denied } else { Outcome::Failed }
}

/// Tells that the command was given in the wrong way.
pub(crate) fn usage(text: &str, out: Output) -> Outcome {
    tell("usage", text, out);
    Outcome::Usage
}

fn tell(code: &str, text: &str, out: Output) {
    if out.is_json() {
        out.json(&serde_json::json!({ "error": code, "error_description": text }));
    }
    // It may quote what an agent wrote.
    eprintln!("oauth3: {}", harmless(text));
}

/// Most threads of a keeper that serve agents and runs; there are as many as processors.
const MAX_SERVING_THREADS: usize = 16;

/// The keeper process: its gateway's socket is its standard input.
async fn keeper(settings: Settings, owner_socket: bool) -> Result<()> {
    // Our gateway's end is our end. A Ctrl-C or a service manager signals both at once, and the gateway still needs
    // us to wind down, so these do nothing here.
    let mut ignored = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        ignored.push(signal(kind)?);
    }
    let gateway = rustix::io::dup(rustix::stdio::stdin())?;
    oauth3_keeper::run(oauth3_keeper::KeeperConfig {
        data_dir: settings.home.dir().to_path_buf(),
        db_path: settings.home.db().to_path_buf(),
        audit_head: settings.home.audit_head(),
        key_source: wiring::key_source(&settings, false)?,
        dial: wiring::dial(&settings)?,
        gateway,
        owner_socket: owner_socket.then(|| settings.home.keeper_socket()),
        // A keeper for one command serves no agents.
        proxy: if owner_socket { crate::proxy::setup(&settings)? } else { None },
        clock: wiring::clock(),
        threads: if owner_socket { processors().min(MAX_SERVING_THREADS) } else { 0 },
    })
    .await?;
    Ok(())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
