//! `cargo xtask deny`: the rules of `deny.toml`, and the proof that they bite.

use crate::metadata::Tree;
use crate::{peers, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Edges that must fail: who, on what. One for each rule about our own crates, and for the cipher.
const FORBIDDEN: &[(&str, &str)] = &[
    ("oauth3-api", "oauth3-vault"),
    ("oauth3-broker", "oauth3-vault"),
    ("oauth3", "oauth3-vault"),
    ("oauth3", "oauth3-inject"),
    ("oauth3-broker", "oauth3-keeper"),
    ("oauth3-keeper", "chacha20poly1305"),
    ("oauth3-store", "chacha20poly1305"),
    ("oauth3-api", "oauth3-broker"),
    ("oauth3-approve", "oauth3-broker"),
    ("oauth3-api", "oauth3-approve"),
    ("oauth3-approve", "oauth3-api"),
    ("oauth3-api", "oauth3-store"),
    ("oauth3-broker", "oauth3-sandbox"),
    ("oauth3-broker", "oauth3-wire"),
    ("oauth3-approve", "oauth3-dial"),
    ("oauth3-sandbox", "oauth3-policy"),
    ("oauth3-api", "oauth3-provider"),
    ("oauth3", "oauth3-oauth"),
    ("oauth3-proxy", "oauth3-oauth"),
];

pub(crate) fn run(tree: &Tree) -> Result<()> {
    let deny = peers::tool(tree, "cargo-deny")?;
    shell::step("rules of deny.toml", || {
        shell::run(&mut check(&deny, tree, &tree.root.join("Cargo.toml"), "--locked", &["bans", "licenses", "sources"]))
    })?;
    shell::step(&format!("{} forbidden edges fail", FORBIDDEN.len()), || prove(&deny, tree))
}

fn check(deny: &Path, tree: &Tree, manifest: &Path, lock: &str, what: &[&str]) -> std::process::Command {
    let mut command = shell::command(deny);
    command.args(["--log-level", "error", "--manifest-path"]).arg(manifest);
    command.args([lock, "--config"]).arg(tree.root.join("deny.toml"));
    command.args(["check", "--hide-inclusion-graph"]).args(what).current_dir(&tree.root);
    command
}

/// Adds each edge to a copy of the workspace that has manifests and empty sources only.
fn prove(deny: &Path, tree: &Tree) -> Result<()> {
    let copy = tree.target.join("deny-proof");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    lay(tree, &copy)?;
    // The lock file of the copy takes the new edge in; every package in it is there already.
    let judge = || check(deny, tree, &copy.join("Cargo.toml"), "--offline", &["bans"]);
    // Without an edge the copy passes: what fails below fails because of its edge.
    shell::quiet(&mut judge()).context("the copy of the workspace fails as it is")?;
    for (from, to) in FORBIDDEN {
        let manifest = place(tree, &copy, &tree.members.get(*from).context("no such crate")?.manifest)?;
        let original = fs::read_to_string(&manifest)?;
        if original.contains(&format!("\n{to}.workspace")) {
            bail!("{from} depends on {to}, which deny.toml should forbid");
        }
        let (head, tail) = original.split_once("[dependencies]\n").context("a crate without dependencies")?;
        fs::write(&manifest, format!("{head}[dependencies]\n{to}.workspace = true\n{tail}"))?;
        let output = shell::capture(&mut judge())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !said.contains("error[banned]") || !said.contains(&format!("'{to} =")) {
            bail!("{from} may depend on {to}: deny.toml does not hold that back\n{said}");
        }
        println!("  {from} → {to}: refused");
        fs::write(&manifest, original)?;
    }
    Ok(())
}

fn lay(tree: &Tree, copy: &Path) -> Result<()> {
    fs::create_dir_all(copy)?;
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(tree.root.join(file), copy.join(file))?;
    }
    for package in tree.members.values() {
        for file in package.sources.iter().chain([&package.manifest]) {
            let target = place(tree, copy, file)?;
            fs::create_dir_all(target.parent().context("a file without a folder")?)?;
            if *file == package.manifest {
                fs::copy(file, target)?;
            } else {
                fs::write(target, "fn main() {}\n")?;
            }
        }
    }
    Ok(())
}

fn place(tree: &Tree, copy: &Path, file: &Path) -> Result<PathBuf> {
    Ok(copy.join(file.strip_prefix(&tree.root)?))
}
