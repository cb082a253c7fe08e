//! `cargo xtask bench`: measurements, each beside what it is compared with, in one run.

use crate::metadata::Tree;
use crate::shell;
use anyhow::{Result, bail};

/// One measurement: a name, what it tells, and how.
type Bench = (&'static str, &'static str, fn(&Tree) -> Result<()>);

const BENCHES: &[Bench] = &[("size", "size of the release binary", size)];

pub(crate) fn run(tree: &Tree, names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !BENCHES.iter().any(|(known, ..)| known == name)) {
        let known: Vec<&str> = BENCHES.iter().map(|(name, ..)| *name).collect();
        bail!("no measurement {unknown}; there are: {}", known.join(", "));
    }
    shell::step("build for release", || {
        shell::run(shell::cargo().args(["build", "--release", "--package", "oauth3"]).current_dir(&tree.root))
    })?;
    for (name, tells, measure) in BENCHES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            println!("▸ {name}: {tells}");
            measure(tree)?;
        }
    }
    Ok(())
}

fn size(tree: &Tree) -> Result<()> {
    let bytes = std::fs::metadata(tree.target.join("release/oauth3"))?.len();
    println!("  {:.1} MB", bytes as f64 / 1e6);
    Ok(())
}
