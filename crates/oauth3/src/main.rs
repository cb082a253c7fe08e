//! The binary: subcommands, configuration, wiring, nothing else.

mod cli;
mod clock;
mod commands;
mod config;
mod demo;
mod launch;
mod metrics;
mod output;
mod owner;
mod proxy;
mod serve;
mod settings;
mod terminal;
mod wiring;

use clap::Parser;
use cli::{Cli, Command};
use commands::Outcome;
use output::Output;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Worker threads of a process; the work is waiting, not computing.
const WORKER_THREADS: usize = 2;
/// Longest wait for blocked threads at the end.
const LEFTOVER_TIMEOUT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    // A part of a sandbox must begin before any thread exists and before anything is parsed.
    if let Some(subcommand) = std::env::args_os().nth(1) {
        oauth3_sandbox::become_helper(&subcommand);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    start_log(&cli.command);
    let out = Output::new(cli.common.json);
    if let Command::Keeper { .. } = cli.command {
        // Before anything is read or a thread starts.
        if let Err(error) = oauth3_keeper::harden() {
            eprintln!("oauth3 keeper: {error}");
            return ExitCode::FAILURE;
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(commands::run(cli, out));
            // Whatever still blocks a thread (a look-up of a name, a question at a terminal) is not waited for.
            runtime.shutdown_timeout(LEFTOVER_TIMEOUT);
            outcome
        }
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| commands::report(&error, out)).into()
}

/// Help and version are no errors; the rest is told as scripts asked for it.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        // The first paragraph says what is wrong; the rest is help.
        let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let what = lines.join(" ");
        let what = what.trim_start_matches("error: ");
        Output::new(true).json(&serde_json::json!({ "error": "usage", "error_description": what }));
    }
    let _ = error.print();
    if error.use_stderr() { Outcome::Usage.into() } else { ExitCode::SUCCESS }
}

fn start_log(command: &Command) {
    let quiet = !matches!(command, Command::Serve { .. } | Command::Keeper { owner_socket: true });
    let default = if quiet { "warn" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("OAUTH3_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
