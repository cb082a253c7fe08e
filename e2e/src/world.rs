//! A data directory of its own and the real binary on it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// Longest that anything in a test may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test: `OAUTH3_TEST_BIN`, else the one beside the test's own target directory.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OAUTH3_TEST_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a test has a file");
    let dir = own.ancestors().find(|dir| dir.join("oauth3").is_file());
    dir.expect("build the binary first: cargo build -p oauth3").join("oauth3")
}

/// A temporary data directory.
pub struct World {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
    /// A program that starts the binary, with its arguments.
    starter: Vec<String>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Done {
    /// The exit code.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Standard output as JSON; the command must have ended with 0.
    pub fn json(&self) -> Value {
        assert_eq!(self.code(), 0, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory"), variables: vec![], starter: vec![] }
    }

    /// Initialised, listening on a free port, with `config` as the rest of `oauth3.toml` (top-level keys first).
    /// Gives back the first agent's token.
    pub async fn ready(config: &str) -> (Self, String) {
        let world = Self::new();
        let token = world.init().await;
        world.write_config(config);
        (world, token)
    }

    /// Runs `init` and gives back the first agent's token.
    pub async fn init(&self) -> String {
        self.cli(&["init", "--json"]).await.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Writes `oauth3.toml`; a free port is chosen when `listen` is not in it.
    pub fn write_config(&self, config: &str) {
        let listen = if config.contains("listen =") { "" } else { "listen = \"127.0.0.1:0\"\n" };
        std::fs::write(self.home().join("oauth3.toml"), format!("{listen}{config}")).expect("write oauth3.toml");
    }

    /// The data directory.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// The database.
    pub fn db(&self) -> PathBuf {
        self.home().join("oauth3.db")
    }

    /// Sets a variable for every command that follows.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Has every command that follows started by this program, which replaces itself by it.
    pub fn run_by(&mut self, starter: Vec<String>) {
        self.starter = starter;
    }

    /// A command with a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words = self.starter.iter().map(std::ffi::OsString::from).chain([binary().into_os_string()]);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command
            .args(words)
            .args(args)
            .env_clear()
            .env("OAUTH3_HOME", self.home())
            .env("HOME", self.home())
            // Many gateways run at once here; a test that wants another address sets it.
            .env("OAUTH3_PROXY_LISTEN", "127.0.0.1:0")
            .kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs a command to its end.
    pub async fn cli(&self, args: &[&str]) -> Done {
        self.cli_with(args, "").await
    }

    /// Runs a command with standard input to its end.
    pub async fn cli_with(&self, args: &[&str], input: &str) -> Done {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that reads nothing may be gone before this is written.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output =
            tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("ends in time").expect("wait");
        Done {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Stores a secret.
    pub async fn add_secret(&self, name: &str, value: &str, hosts: &[&str]) {
        let mut args = vec!["secret", "add", name, "--stdin"];
        for host in hosts {
            args.extend(["--host", host]);
        }
        let done = self.cli_with(&args, &format!("{value}\n")).await;
        assert_eq!(done.code(), 0, "{done:?}");
    }

    /// Starts `serve` and waits until it listens.
    pub async fn serve(&self) -> Serve {
        self.try_serve().await.unwrap_or_else(|stderr| panic!("serve did not start: {stderr}"))
    }

    /// Starts `serve`; standard error when it ends instead of listening.
    pub async fn try_serve(&self) -> Result<Serve, String> {
        let log = self.home().join(format!("serve-{}.log", std::process::id()));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("log file");
        let mut child = self
            .command(&["serve", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(file))
            .spawn()
            .expect("spawn");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line =
            tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("serve starts in time").expect("read");
        let value: Value = line.and_then(|l| serde_json::from_str(&l).ok()).unwrap_or_default();
        match value["listening"].as_str() {
            Some(address) => {
                let proxy = value["proxy"].as_str().map(|proxy| format!("http://{proxy}")).unwrap_or_default();
                let metrics = value["metrics"].as_str().map(|metrics| format!("http://{metrics}")).unwrap_or_default();
                Ok(Serve { child, base: format!("http://{address}"), proxy, metrics, log })
            }
            None => {
                let _ = tokio::time::timeout(PATIENCE, child.wait()).await.expect("ends in time");
                Err(std::fs::read_to_string(&log).unwrap_or_default())
            }
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// A running gateway with its keeper. Killed when dropped.
pub struct Serve {
    child: Child,
    /// `http://127.0.0.1:port`
    pub base: String,
    /// `http://127.0.0.1:port` of the API proxy; empty when there is none.
    pub proxy: String,
    /// The same of the sums for monitoring.
    pub metrics: String,
    log: PathBuf,
}

impl Serve {
    /// The gateway's process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("runs")
    }

    /// The keeper's process id: the child whose command line has `keeper`.
    pub fn keeper_pid(&self) -> u32 {
        children(self.pid())
            .into_iter()
            .find(|pid| command_line(*pid).is_some_and(|line| line.split('\0').any(|word| word == "keeper")))
            .expect("a keeper")
    }

    /// What it wrote on standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a service manager would.
    pub async fn stop(mut self) -> ExitStatus {
        signal(self.pid(), "TERM").await;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("stops in time").expect("wait")
    }

    /// Ends it as a crash would.
    pub async fn kill(mut self) {
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("ends in time").expect("wait")
    }
}

/// Sends a signal to one process.
pub async fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().await.expect("kill");
    assert!(status.success(), "kill -{name} {pid}");
}

/// The processes whose parent this is.
pub fn children(parent: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The processes below this one, the nearest first.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let mut all = children(ancestor);
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children(*pid));
        next += 1;
    }
    all
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn command_line(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(!stat.rsplit_once(')')?.1.trim_start().starts_with('Z')))
        .unwrap_or(false)
}

/// Looks again and again until `check` holds; fails the test with `what` when it never does.
pub async fn eventually(what: &str, check: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !check() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The same for a check that takes time itself.
pub async fn eventually_async(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
