//! `cargo xtask fuzz`: builds the fuzz targets of `fuzz/` with coverage on the stable compiler, and feeds them.

use crate::metadata::Tree;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;

/// How long each target is fed unless said otherwise, in seconds.
const DEFAULT_SECONDS: u32 = 10;
/// Longest input, in bytes: the socket of the frame target takes it in one piece.
const MAX_INPUT_BYTES: u32 = 4096;
/// Most memory of a target, in MiB: what is read must not grow with what it claims.
const MAX_MEMORY_MIB: u32 = 1024;
/// What cargo-fuzz passes for `--sanitizer none`; the pass itself needs no nightly compiler.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

pub(crate) fn run(tree: &Tree, rest: &[String]) -> Result<()> {
    let (names, seconds) = arguments(rest)?;
    let folder = tree.root.join("fuzz");
    let known = targets(tree)?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target {unknown}; there are: {}", known.join(", "));
    }
    let host = host()?;
    let built = tree.target.join("fuzz");
    shell::step("build the fuzz targets", || {
        let mut build = shell::cargo();
        // A target is named so that build scripts and macros go without coverage.
        build.args(["build", "--quiet", "--locked", "--bins", "--target", &host, "--target-dir"]).arg(&built);
        // Incremental units are many, and each would be a module of its own to the coverage.
        shell::run(build.current_dir(&folder).env("RUSTFLAGS", COVERAGE).env("CARGO_INCREMENTAL", "0"))
    })?;
    let found = built.join("found");
    for name in known.iter().filter(|name| names.is_empty() || names.contains(name)) {
        shell::step(&format!("fuzz {name} for {seconds} s"), || {
            let grown = built.join("corpus").join(name);
            fs::create_dir_all(&grown).and_then(|()| fs::create_dir_all(&found))?;
            let mut fuzz = shell::command(built.join(&host).join("debug").join(name));
            fuzz.arg(format!("-max_total_time={seconds}"))
                .arg(format!("-max_len={MAX_INPUT_BYTES}"))
                .arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"))
                .arg(format!("-artifact_prefix={}/{name}-", found.display()))
                .arg("-timeout=10")
                .arg(&grown)
                .arg(folder.join("corpus").join(name));
            shell::quiet(&mut fuzz).with_context(|| format!("the input is kept in {}", found.display()))?;
            Ok(())
        })?;
    }
    Ok(())
}

fn arguments(rest: &[String]) -> Result<(Vec<String>, u32)> {
    let (mut names, mut seconds) = (Vec::new(), DEFAULT_SECONDS);
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok());
            seconds = number.filter(|seconds| *seconds > 0).context("--seconds takes a number above 0")?;
        } else {
            names.push(word.clone());
        }
    }
    Ok((names, seconds))
}

/// The targets by the names of their files.
fn targets(tree: &Tree) -> Result<Vec<String>> {
    let folder = tree.root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort_unstable();
    Ok(names)
}

fn host() -> Result<String> {
    let said = shell::quiet(shell::command("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
