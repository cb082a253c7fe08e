//! `cargo xtask bench`: measurements, each beside what it is compared with, in one run.

use crate::metadata::Tree;
use crate::{peers, shell};
use anyhow::{Result, bail};

/// One measurement: its name, what it tells, and the crate whose bench target of that name does it.
type Bench = (&'static str, &'static str, &'static str);

const BENCHES: &[Bench] =
    &[("main_job", "a granted /execute beside the bare runtime, memory at rest, binary size", "e2e")];

pub(crate) fn run(tree: &Tree, names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !BENCHES.iter().any(|(known, ..)| known == name)) {
        let known: Vec<&str> = BENCHES.iter().map(|(name, ..)| *name).collect();
        bail!("no measurement {unknown}; there are: {}", known.join(", "));
    }
    let peers = shell::step("what is measured beside ours", || {
        let mut peers = peers::install(tree)?;
        peers.push(("OAUTH3_TEST_BWRAP", peers::bubblewrap(tree)?.into_os_string()));
        Ok(peers)
    })?;
    shell::step("build for release", || {
        shell::run(shell::cargo().args(["build", "--release", "--package", "oauth3"]).current_dir(&tree.root))
    })?;
    for (name, tells, package) in BENCHES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("▸ {name}: {tells}");
            let mut bench = shell::cargo();
            bench.args(["bench", "--quiet", "--package", package, "--bench", name]).current_dir(&tree.root);
            bench.envs(peers.iter().cloned()).env("OAUTH3_TEST_BIN", tree.target.join("release/oauth3"));
            shell::run(&mut bench)?;
        }
    }
    Ok(())
}
