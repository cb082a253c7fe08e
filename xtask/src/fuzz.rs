//! `cargo xtask fuzz`: builds the fuzz targets of `fuzz/` with coverage on the stable compiler, and feeds them.
//!
//! Only our own crates that the targets call are compiled anew, into the ordinary target directory; what they depend
//! on is there already. First a fault that was planted must be found, or else the rest says nothing.

use crate::metadata::Tree;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// How long each target is fed unless said otherwise, in seconds.
const DEFAULT_SECONDS: u32 = 10;
/// How long before the tests, in seconds.
const SHORT_SECONDS: u32 = 5;
/// Longest input, in bytes: the socket of the frame target takes it in one piece.
const MAX_INPUT_BYTES: u32 = 4096;
/// Most memory of a target, in MiB: what is read must not grow with what it claims.
const MAX_MEMORY_MIB: u32 = 1024;
/// Longest that one input may take, in seconds. Far above what any takes, for a machine may be busy.
const MAX_INPUT_SECONDS: u32 = 20;
/// What has the planted fault, what it says, and how long it may stay hidden, in seconds.
const PLANTED: &str = "planted";
const PLANTED_SAYS: &str = "the planted fault";
const PLANTED_SECONDS: u32 = 60;

pub(crate) fn run(tree: &Tree, rest: &[String]) -> Result<()> {
    let (names, seconds) = arguments(rest)?;
    let known = targets(tree)?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target {unknown}; there are: {}", known.join(", "));
    }
    feed_all(tree, if names.is_empty() { known } else { names }, seconds)
}

/// A short run of every target, for the tests.
pub(crate) fn short(tree: &Tree) -> Result<()> {
    if shell::find("c++").is_none() {
        println!("  without fuzzing, whose engine needs a C++ compiler");
        return Ok(());
    }
    feed_all(tree, targets(tree)?, SHORT_SECONDS)
}

/// As many targets at once as there are processors. All are fed, whatever is found in one.
fn feed_all(tree: &Tree, names: Vec<String>, seconds: u32) -> Result<()> {
    shell::step("build the fuzz targets", || {
        let mut build = shell::cargo();
        // With the binary's package beside, others' crates have the features that its build gave them.
        build.args(["build", "--quiet", "--package", "fuzz", "--package", "oauth3", "--features", "fuzz/engine"]);
        build.args(names.iter().map(String::as_str).chain([PLANTED]).flat_map(|name| ["--bin", name]));
        build.env("RUSTC_WORKSPACE_WRAPPER", tree.root.join("fuzz/covered"));
        // Incremental units are many, and each would be a module of its own to the coverage.
        shell::run(build.env("CARGO_INCREMENTAL", "0").current_dir(&tree.root))
    })?;
    let folder = tree.target.join("fuzz");
    let found = folder.join("found");
    fs::create_dir_all(&found)?;
    shell::step("find the planted fault", || find_planted(tree, &folder))?;
    shell::step(&format!("fuzz for {seconds} s each: {}", names.join(", ")), || {
        let open = Mutex::new(VecDeque::from(names));
        let next = || open.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let faults = Mutex::new(Vec::new());
        let feed_some = || {
            while let Some(name) = next() {
                if let Err(fault) = feed(tree, &folder, &found, &name, seconds) {
                    faults.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {fault:#}"));
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, NonZeroUsize::get) {
                scope.spawn(feed_some);
            }
        });
        let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !faults.is_empty() {
            bail!("the inputs are kept in {}\n{}", found.display(), faults.join("\n"));
        }
        Ok(())
    })
}

fn feed(tree: &Tree, folder: &Path, found: &Path, name: &str, seconds: u32) -> Result<()> {
    let grown = folder.join("corpus").join(name);
    fs::create_dir_all(&grown)?;
    let mut fuzz = target(tree, name, seconds);
    fuzz.arg(format!("-artifact_prefix={}/{name}-", found.display()));
    shell::quiet(fuzz.arg(grown).arg(tree.root.join("fuzz/corpus").join(name))).map(drop)
}

/// It begins with no input at all, and stops at the first that fails.
fn find_planted(tree: &Tree, folder: &Path) -> Result<()> {
    let kept = folder.join("planted-input");
    let mut fuzz = target(tree, PLANTED, PLANTED_SECONDS);
    let output = shell::capture(fuzz.arg(format!("-exact_artifact_path={}", kept.display())))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !said.contains(PLANTED_SAYS) || fs::remove_file(&kept).is_err() {
        bail!("it was not found, so the coverage or the fuzzer does not work:\n{said}");
    }
    Ok(())
}

fn target(tree: &Tree, name: &str, seconds: u32) -> Command {
    let mut fuzz = shell::command(tree.target.join("debug").join(name));
    fuzz.arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT_BYTES}"))
        .arg(format!("-rss_limit_mb={MAX_MEMORY_MIB}"))
        .arg(format!("-timeout={MAX_INPUT_SECONDS}"));
    fuzz
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
    names.retain(|name| name != PLANTED);
    names.sort_unstable();
    Ok(names)
}
