//! OpenClaw's real gateway on loopback, with a home of its own and a scripted model that remembers what it was told.

use crate::world::{PATIENCE, eventually};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Its hooks token.
pub const HOOK_TOKEN: &str = "hook-test-token-0123456789abcdef";
/// Its gateway's token.
pub const GATEWAY_TOKEN: &str = "gateway-test-token-0123456789abcdef";

/// Longest for one of its commands: a turn of its agent takes 15 s of a processor.
const CLI_PATIENCE: Duration = Duration::from_secs(180);

/// A running gateway. Ended when dropped.
pub struct OpenClaw {
    home: tempfile::TempDir,
    path: OsString,
    port: u16,
    model: Arc<Mutex<Model>>,
    child: Option<Child>,
}

/// What the scripted model was given, and what it is to do.
#[derive(Default)]
struct Model {
    told: Vec<String>,
    /// Commands that it has run one after the other, each message anew; then it has nothing to say.
    commands: Vec<String>,
}

impl OpenClaw {
    /// A home with a configuration and the skill folders in `skills`; nothing runs yet. `peer` is the folder in which
    /// it is installed, `node` the runtime that it needs, `entries` its `skills.entries`.
    pub async fn new(peer: &Path, node: &Path, skills: &[&Path], entries: Value) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let model = Arc::default();
        let answers_at = scripted_model(Arc::clone(&model)).await;
        // Nothing can hand it a bound socket, so the port is free only a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let workspace = home.path().join("workspace");
        for skill in skills {
            let name = skill.file_name().expect("a folder with a name");
            let to = workspace.join("skills").join(name);
            std::fs::create_dir_all(&to).expect("a skill folder");
            std::fs::copy(skill.join("SKILL.md"), to.join("SKILL.md")).expect("the skill");
        }
        let config = json!({
            "gateway": { "mode": "local", "port": port, "bind": "loopback",
                         "auth": { "mode": "token", "token": GATEWAY_TOKEN } },
            "hooks": { "enabled": true, "token": HOOK_TOKEN, "path": "/hooks" },
            "models": { "mode": "merge", "providers": { "scripted": {
                "baseUrl": format!("http://127.0.0.1:{answers_at}/v1"), "apiKey": "none-needed",
                "api": "openai-completions",
                "models": [{ "id": "scripted", "name": "Scripted", "reasoning": false, "input": ["text"],
                    "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
                    "contextWindow": 128_000, "maxTokens": 4096 }] } } },
            "agents": { "defaults": { "model": { "primary": "scripted/scripted" },
                "workspace": workspace, "skipBootstrap": true } },
            // Its agent may run commands, and nobody is there to be asked; the model sees every tool.
            "tools": { "exec": { "host": "gateway", "security": "full", "ask": "off" }, "toolSearch": false },
            "logging": { "file": home.path().join("openclaw.log") },
            "skills": { "entries": entries },
        });
        std::fs::create_dir_all(&workspace).expect("a workspace");
        std::fs::write(home.path().join("openclaw.json"), config.to_string()).expect("its configuration");
        let own = std::env::var_os("PATH").unwrap_or_default();
        let first = [node.parent().expect("bin").to_owned(), peer.join("node_modules/.bin")];
        let path = std::env::join_paths(first.into_iter().chain(std::env::split_paths(&own))).expect("a PATH");
        Self { home, path, port, model, child: None }
    }

    /// Its home: configuration, state, workspace, logs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its configuration.
    pub fn config_file(&self) -> PathBuf {
        self.home.path().join("openclaw.json")
    }

    /// Has its agent use this model, such as `scripted/scripted`.
    pub fn use_model(&self, model: &str) {
        let text = std::fs::read_to_string(self.config_file()).expect("its configuration");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        config["agents"]["defaults"]["model"]["primary"] = model.into();
        std::fs::write(self.config_file(), config.to_string()).expect("its configuration");
    }

    /// A `PATH` on which `openclaw` and its runtime are found.
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the gateway and waits until it answers.
    pub async fn start(&mut self) {
        let log = std::fs::File::create(self.log_file()).expect("a log");
        let mut command = self.command(&["gateway", "run"]);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.stdin(Stdio::null()).process_group(0).spawn().expect("OpenClaw starts");
        self.child = Some(child);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).await.is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "OpenClaw ended: {}", self.log());
            assert!(tokio::time::Instant::now() < deadline, "OpenClaw does not listen: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has its agent answer a message, without the gateway; what it printed.
    pub async fn turn(&self, message: &str) -> String {
        self.cli(&["agent", "--local", "--agent", "main", "--message", message, "--json"]).await
    }

    /// The same, with the model having these commands run one after the other. In them `REQUEST_ID` is the newest one that
    /// it has read.
    pub async fn turn_with(&self, message: &str, commands: Vec<String>) -> String {
        self.model.lock().expect("not poisoned").commands = commands;
        self.turn(message).await
    }

    /// All that the model was given so far, a request each.
    pub fn told(&self) -> Vec<String> {
        self.model.lock().expect("not poisoned").told.clone()
    }

    /// Runs one of its commands and gives back what it printed.
    pub async fn cli(&self, args: &[&str]) -> String {
        let run = self.command(args).stdin(Stdio::null()).output();
        let output = tokio::time::timeout(CLI_PATIENCE, run).await.expect("ends in time").expect("starts");
        assert!(output.status.success(), "openclaw {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the agent's model was given `words`.
    pub async fn agent_reads(&self, words: &str) {
        eventually(&format!("the agent reads {words:?}; {}", self.log()), || {
            self.told().iter().any(|body| body.contains(words))
        })
        .await;
    }

    /// What the gateway wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends the gateway as a service manager would, so that it ends its own helpers.
    pub async fn stop(mut self) {
        if let Some(mut child) = self.child.take() {
            crate::world::signal(child.id().expect("runs"), "TERM").await;
            let _ = tokio::time::timeout(PATIENCE, child.wait()).await.expect("OpenClaw ends in time");
        }
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("gateway.log")
    }

    fn command(&self, args: &[&str]) -> Command {
        let home = self.home.path();
        let mut command = Command::new("openclaw");
        command.args(args).env_clear().current_dir(home).kill_on_drop(true);
        command.env("PATH", &self.path).env("HOME", home).env("OPENCLAW_STATE_DIR", home.join("state"));
        command.env("OPENCLAW_CONFIG_PATH", home.join("openclaw.json")).env("TMPDIR", home);
        command
    }
}

impl Drop for OpenClaw {
    fn drop(&mut self) {
        // A test that failed: the group that `start` made, and nothing else.
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status();
        }
    }
}

/// A model in the OpenAI dialect that has its commands run, and then nothing to say. Gives its port.
async fn scripted_model(model: Arc<Mutex<Model>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let model = model.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let model = model.clone();
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let mut model = model.lock().expect("not poisoned");
                    let says = next(&body, &model.commands);
                    model.told.push(body);
                    let reply = Response::builder().header("content-type", "text/event-stream");
                    Ok::<_, hyper::Error>(reply.body(Full::<Bytes>::from(says)).expect("reply"))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

/// What the model says next: as many commands as there are results after the last message were run.
fn next(body: &str, commands: &[String]) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    // OpenClaw itself adds words of a user's after each result.
    let asks = |m: &Value| m["role"] == "user" && !m["content"].to_string().contains("OPENCLAW_INTERNAL_CONTEXT");
    let done = messages.iter().rev().take_while(|m| !asks(m)).filter(|m| m["role"] == "tool").count();
    let may = body["tools"].as_array().is_some_and(|tools| tools.iter().any(|t| t["function"]["name"] == "exec"));
    let Some(command) = commands.get(done).filter(|_| may) else {
        return stream(&json!({ "role": "assistant", "content": "HEARTBEAT_OK" }), "stop");
    };
    let results = messages.iter().filter(|m| m["role"] == "tool").map(|m| m["content"].to_string().replace('\\', ""));
    let named = |text: String| Some(text.rsplit_once("\"request_id\":\"")?.1.split('"').next()?.to_owned());
    let id = results.rev().find_map(named);
    let command = command.replace("REQUEST_ID", &id.unwrap_or_default());
    let function = json!({ "name": "exec", "arguments": json!({ "command": command }).to_string() });
    let call = json!({ "index": 0, "id": format!("call_{done}"), "type": "function", "function": function });
    stream(&json!({ "role": "assistant", "tool_calls": [call] }), "tool_calls")
}

fn stream(says: &Value, reason: &str) -> String {
    let chunk = |delta: &Value, reason: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
        let head = json!({ "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [choice] });
        format!("data: {head}\n\n")
    };
    format!("{}{}data: [DONE]\n\n", chunk(says, Value::Null), chunk(&json!({}), json!(reason)))
}
