//! The demo's stage: a data directory of its own and our own program, run as a user would.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// Longest that `serve` may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A temporary data directory and what runs on it.
pub(crate) struct Stage {
    home: std::path::PathBuf,
    serve: Option<Child>,
}

impl Stage {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When no directory can be made.
    pub(crate) fn new() -> Result<Self> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|_| anyhow::anyhow!("the system has no randomness to give"))?;
        let name = format!("oauth3-demo-{}", data_encoding::HEXLOWER.encode(&random));
        let home = std::env::temp_dir().join(name);
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&home)
            .with_context(|| format!("cannot make {}", home.display()))?;
        Ok(Self { home, serve: None })
    }

    /// The data directory.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs `oauth3 ARGS --json`, feeds it `input`, and gives back what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn json(&self, args: &[&str], input: &str) -> Result<Value> {
        let text = self.text(&[args, &["--json"]].concat(), input).await?;
        serde_json::from_str(&text).with_context(|| format!("oauth3 {} printed no JSON", args.join(" ")))
    }

    /// Runs `oauth3 ARGS`, feeds it `input`, and gives back what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) async fn text(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = self.command(args)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("oauth3 {} failed", args.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts `oauth3 serve` and gives back its address.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub(crate) async fn serve(&mut self) -> Result<String> {
        let mut child = self.command(&["serve", "--json"])?.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no output of serve")?;
        let mut lines = BufReader::new(stdout).lines();
        let first =
            tokio::time::timeout(START_TIMEOUT, lines.next_line()).await.context("serve did not start in time")??;
        self.serve = Some(child);
        let line: Value = serde_json::from_str(&first.context("serve ended; its own message is above")?)?;
        Ok(line.get("listening").and_then(Value::as_str).context("serve told no address")?.to_owned())
    }

    /// Stops `serve` and removes the directory.
    pub(crate) async fn clear(mut self) {
        if let Some(mut serve) = self.serve.take() {
            let pid = serve.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).unwrap_or(0)));
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = tokio::time::timeout(Duration::from_secs(5), serve.wait()).await;
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the demo runs our own program as a user would")]
    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("cannot find our own program file")?);
        // Nothing of the user's own set-up takes part.
        command.args(args).env_clear().env("OAUTH3_HOME", &self.home).env("OAUTH3_LOG", "warn").kill_on_drop(true);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Ok(command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
