//! The binary: subcommands, configuration, wiring, nothing else.

mod cli;
mod clock;
mod commands;
mod config;
mod demo;
mod launch;
mod output;
mod owner;
mod serve;
mod settings;
mod wiring;

use clap::Parser;
use cli::{Cli, Command};
use commands::Outcome;
use output::Output;
use std::io::IsTerminal;
use std::process::ExitCode;

/// Worker threads of a process; the work is waiting, not computing.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    // The sandbox's first stage must run before any thread exists and before anything is parsed.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == oauth3_sandbox::INIT_SUBCOMMAND) {
        oauth3_sandbox::init_main();
    }
    let cli = Cli::parse();
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
        Ok(runtime) => runtime.block_on(commands::run(cli, out)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            commands::report(&error, out);
            Outcome::Failed.into()
        }
    }
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
