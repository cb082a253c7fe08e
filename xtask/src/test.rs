//! `cargo xtask test`: everything the tests need, then the tests.

use crate::metadata::Tree;
use crate::{engine, fuzz, peers, podman, shell, tidy};
use anyhow::{Context, Result};
use std::ffi::OsString;

pub(crate) fn run(tree: &Tree, filters: &[String]) -> Result<()> {
    let peers = shell::step("test peers", || peers::install(tree))?;
    let engine = shell::step("container engine", || engine::start(tree, &peers))?;
    let engine_variables = engine.as_ref().map(|engine| engine.variables.clone()).unwrap_or_default();
    let nextest = peers::tool(tree, "cargo-nextest");
    let binary = binary(tree)?;

    if filters.is_empty() && tidy::has_doc_tests(tree)? {
        shell::step("documentation tests", || {
            shell::run(shell::cargo().args(["test", "--quiet", "--doc", "--workspace"]).current_dir(&tree.root))
        })?;
    }

    // What it finds is told after the tests, which run all the same.
    let fuzzed = if filters.is_empty() { fuzz::short(tree) } else { Ok(()) };

    // Last, so that the runner's own summary ends the output.
    println!("▸ tests");
    let mut tests = match &nextest {
        Ok(nextest) => {
            let mut command = shell::command(nextest);
            command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
            command
        }
        Err(error) => {
            println!("  without cargo-nextest: {error:#}");
            let mut command = shell::cargo();
            command.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--"]);
            command
        }
    };
    tests.args(filters);
    let told = |name: &str| std::env::var_os(name).is_some() || peers.iter().any(|(known, _)| *known == name);
    if !told("OAUTH3_TEST_GLEWLWYD") {
        println!("  without glewlwyd, which is a package of Debian's: its tests are left out");
        tests.args(nextest.is_ok().then_some("--")).args(["--skip", "glewlwyd"]);
    }
    tests.envs(peers).envs(engine_variables).env("OAUTH3_TEST_BIN", binary);
    let tested = shell::run(tests.current_dir(&tree.root));
    fuzzed.and(tested)
}

/// The tests of the docker executor on Podman, which `run` leaves out.
pub(crate) fn podman(tree: &Tree) -> Result<()> {
    let peers = shell::step("test peers", || peers::install(tree))?;
    let engine = shell::step("container engine", || engine::start(tree, &peers))?;
    let engine = engine.with_context(|| {
        format!("{} must not be set: Podman takes its image from an engine of the tests' own", engine::HOST)
    })?;
    podman::test(tree, &engine, &peers, &peers::tool(tree, "cargo-nextest")?)
}

/// The test that needs LiteLLM, which `run` leaves out.
pub(crate) fn litellm(tree: &Tree) -> Result<()> {
    let peers = shell::step("test peers", || peers::litellm(tree))?;
    let binary = binary(tree)?;
    let mut test = shell::cargo();
    test.args(["test", "--quiet", "--package", "e2e", "--test", "litellm"]);
    shell::run(test.envs(peers).env("OAUTH3_TEST_BIN", binary).current_dir(&tree.root))
}

fn binary(tree: &Tree) -> Result<OsString> {
    // With the tests: alone, it has fewer features of what it depends on, and half of that would be built twice.
    shell::step("build the tests and the binary that the outside ones start", || {
        shell::run(
            shell::cargo().args(["build", "--quiet", "--workspace", "--bins", "--tests"]).current_dir(&tree.root),
        )
    })?;
    Ok(std::env::var_os("OAUTH3_TEST_BIN").unwrap_or_else(|| tree.target.join("debug/oauth3").into()))
}
