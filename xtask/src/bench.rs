//! `cargo xtask bench`: measurements, each beside what it is compared with, in one run.

use crate::metadata::Tree;
use crate::{engine, peers, shell};
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;

/// One measurement: its name, what it tells, and the crate whose bench target of that name does it.
type Bench = (&'static str, &'static str, &'static str);

/// What is measured is what is handed out.
const PROFILE: &str = "dist";

const BENCHES: &[Bench] = &[
    (
        "spawn",
        "a sandbox from nothing to the end, beside no sandbox, bubblewrap, sandlock and docker",
        "oauth3-sandbox",
    ),
    ("egress", "a request through the egress, beside a direct one, a bare interception and other proxies", "e2e"),
    (
        "proxy",
        "a call of an API through the proxy, beside a direct one, a bare reverse proxy, nginx, LiteLLM and Portkey",
        "e2e",
    ),
    ("scrub", "text through the scrubber, beside copying it", "oauth3-vault"),
    ("runs", "a hundred runs at once, and the memory of one", "e2e"),
    ("main_job", "a granted /execute beside the bare runtime, memory at rest, binary size", "e2e"),
];

pub(crate) fn run(tree: &Tree, names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !BENCHES.iter().any(|(known, ..)| known == name)) {
        let known: Vec<&str> = BENCHES.iter().map(|(name, ..)| *name).collect();
        bail!("no measurement {unknown}; there are: {}", known.join(", "));
    }
    let chosen: Vec<&Bench> =
        BENCHES.iter().filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name)).collect();
    let peers = shell::step("what is measured beside ours", || {
        let is_chosen = |name: &str| chosen.iter().any(|(chosen, ..)| *chosen == name);
        let mut peers = peers::runtimes(tree)?;
        if is_chosen("spawn") {
            peers.push(("OAUTH3_TEST_BWRAP", peers::bubblewrap(tree)?.into_os_string()));
            peers.push(("OAUTH3_TEST_SANDLOCK", peers::sandlock(tree)?.into_os_string()));
        }
        if is_chosen("proxy") {
            peers.push(("OAUTH3_TEST_NGINX", peers::nginx()?.into_os_string()));
            let others = [
                ("OAUTH3_TEST_LITELLM", peers::litellm_program as fn(&Tree) -> Result<PathBuf>),
                ("OAUTH3_TEST_PORTKEY", peers::portkey),
            ];
            for (variable, install) in others {
                // Large, and far slower than ours: the rest is measured without them too.
                match install(tree) {
                    Ok(place) => peers.push((variable, place.into_os_string())),
                    Err(error) => println!("  without what {variable} names: {error:#}"),
                }
            }
        }
        if is_chosen("egress") {
            peers.push(("OAUTH3_TEST_MITMPROXY", peers::mitmproxy(tree)?.into_os_string()));
            peers.push(("OAUTH3_TEST_SANDBOX_RUNTIME", peers::sandbox_runtime(tree)?.into_os_string()));
        }
        Ok(peers)
    })?;
    shell::step("build as it is handed out", || {
        let build = |what: &[&str]| {
            shell::run(
                shell::cargo().args(["build", "--quiet", "--profile", PROFILE]).args(what).current_dir(&tree.root),
            )
        };
        build(&["--package", "oauth3"])?;
        build(&["--package", "oauth3-sandbox", "--example", "bare_embedded"])?;
        build(&["--package", "oauth3-keeper", "--example", "egress"])?;
        for (name, _, package) in &chosen {
            let bench = ["bench", "--quiet", "--profile", PROFILE, "--no-run", "--package", package, "--bench", name];
            shell::run(shell::cargo().args(bench).current_dir(&tree.root))?;
        }
        Ok(())
    })?;
    let engine = chosen.iter().any(|(name, ..)| *name == "spawn").then(|| engine::start(tree, &peers));
    let engine = engine.and_then(|started| {
        started.inspect_err(|error| println!("  without a container engine: {error:#}")).ok().flatten()
    });
    println!("▸ machine: {}", machine());
    let built = tree.target.join(PROFILE);
    for (name, tells, package) in chosen {
        println!("▸ {name}: {tells}");
        let mut bench = shell::cargo();
        bench
            .args(["bench", "--quiet", "--profile", PROFILE, "--package", package, "--bench", name])
            .current_dir(&tree.root);
        bench.envs(peers.iter().cloned());
        bench.envs(engine.iter().flat_map(|engine| engine.variables.clone()));
        if std::env::var_os("OAUTH3_TEST_BIN").is_none() {
            bench.env("OAUTH3_TEST_BIN", built.join("oauth3"));
        }
        bench.env("OAUTH3_BENCH_BARE", built.join("examples/bare_embedded"));
        bench.env("OAUTH3_BENCH_EGRESS", built.join("examples/egress"));
        shell::run(&mut bench)?;
    }
    Ok(())
}

/// Processors, kernel, and how busy it is: what a reader needs to judge the numbers.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    let load = read("/proc/loadavg");
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{processors} processors, Linux {kernel}, load {load} before it begins")
}
