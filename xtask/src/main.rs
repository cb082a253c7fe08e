//! Developer commands, run as `cargo xtask <command>`.
#![allow(clippy::print_stdout, reason = "these commands talk to a developer on standard output")]

mod bench;
mod deny;
mod engine;
mod fuzz;
mod metadata;
mod peers;
mod podman;
mod shell;
mod test;
mod tidy;

use anyhow::{Context, Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <command>

  test [filter…]   set up what the tests need, then run every test (or those that match)
  peers            only the set-up: real Deno, Node, Python, Telegram and OpenClaw parts, under target/peers
  litellm          the test that needs LiteLLM, which takes minutes to install, and its set-up
  podman           the tests of the docker executor on Podman
  engine           a container engine for tests that are run by hand; prints the variables that name it
  tidy             house rules that no compiler checks
  deny             dependency rules, and the proof that a forbidden edge fails
  bench [name…]    measure; without a name, everything
  fuzz [target…] [--seconds N]
                   feed the fuzz targets for so long each (10 s); without a name, all of them
  ci               what a change must pass: .ci/run";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match run(&command, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, rest: &[String]) -> Result<()> {
    let tree = metadata::Tree::read().context("reading the workspace")?;
    match command {
        "test" => test::run(&tree, rest),
        "peers" => peers::install(&tree).map(drop),
        "litellm" => test::litellm(&tree),
        "podman" => test::podman(&tree),
        "engine" => engine::keep(&tree, &peers::runtimes(&tree)?),
        "tidy" => tidy::run(&tree),
        "deny" => deny::run(&tree),
        "fuzz" => fuzz::run(&tree, rest),
        "bench" => bench::run(&tree, rest),
        "ci" => shell::run(shell::command("bash").arg(".ci/run").current_dir(&tree.root)),
        _ => bail!("no such command\n\n{USAGE}"),
    }
}
