//! `oauth3 demo`: the main job from end to end, on this machine, with nothing set up.

mod api;
mod stage;

use crate::commands::{Outcome, audit};
use crate::output::{COLUMNS, Output, bold, dim, green, red};
use anyhow::{Context, Result, bail};
use api::Api;
use oauth3_core::{HttpPort, HttpRequest};
use oauth3_dial::{DialConfig, Dialer, HttpClient};
use serde_json::{Value, json};
use stage::Stage;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

const SKILL: &str = include_str!("skill.ts");
const SECRET: &str = "DEMO_API_KEY";
/// Columns that the story puts before a block.
const MARGIN: usize = 4;
/// Longest that one call to the gateway may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer of the gateway, in bytes.
const MAX_REPLY_BYTES: usize = 4 << 20;

/// Plays the agent, the owner and the API, and checks every promise.
///
/// # Errors
/// When a part cannot start. A promise that was not kept is [`Outcome::Failed`].
pub(crate) async fn run(yes: bool, out: Output) -> Result<Outcome> {
    if !yes && !std::io::stdin().is_terminal() {
        bail!("the demo asks for your approval and there is no terminal; `demo --yes` answers \"run once\"");
    }
    let story = Story { out };
    let api = Api::start().await?;
    let mut stage = Stage::new()?;
    let secret = random_key()?;
    let token = set_up(&stage, &api, &secret, story).await?;
    let address = stage.serve().await?;
    let agent =
        Agent { base: format!("http://{address}"), token, http: HttpClient::new(Dialer::new(DialConfig::default())?) };

    story.step("An agent asks", &format!("POST {}/execute", agent.base));
    let submitted = agent.call("POST", "/execute", &json!({ "skill_id": "weather-report", "code": SKILL })).await?;
    let id = submitted.get("request_id").and_then(Value::as_str).context("the gateway took no request")?.to_owned();
    story.line(&format!("{} {}", text(&submitted, "/status"), dim(&id)));

    story.step("You see exactly what will run", &format!("oauth3 show {id}"));
    story.block(&stage.text(&["show", &id], "").await?);
    let approved = yes || tokio::task::spawn_blocking(ask).await??;
    if !approved {
        stage.json(&["deny", &id], "").await?;
        story.line("Denied: nothing ran. That is the other half of the job.");
        stage.clear().await;
        return Ok(Outcome::Denied);
    }
    story.step("You say: run once", &format!("oauth3 approve {id}"));
    stage.json(&["approve", &id], "").await?;
    let status = agent.finished(&id).await?;

    story.step("What the code saw and printed", "in a sandbox, with a placeholder for the key");
    let stdout = text(&status, "/result/stdout").to_owned();
    story.block(&stdout);
    story.step("What the API received", &format!("https://{}/v1/weather", api::HOST));
    let seen = api.seen();
    for field in &seen {
        story.line(&format!("authorization: {field}"));
    }

    story.step("The audit trail", "oauth3 audit · oauth3 audit verify");
    let rows = stage.text(&["audit", "--json"], "").await?;
    for row in rows.lines() {
        let row = serde_json::from_str(row).context("`audit` printed something else than rows")?;
        story.block(&audit::line(&row, Some(COLUMNS - MARGIN)));
    }
    let chain = stage.json(&["audit", "verify"], "").await?;
    stage.clear().await;

    let after = |label: &str| stdout.lines().find_map(|l| l.strip_prefix(label)).unwrap_or_default().trim().to_owned();
    let (held_by_code, echoed) = (&after("the code holds"), after("the API echoed"));
    let held = [
        ("the run ended with success", text(&status, "/status") == "success"),
        ("the code held a placeholder of the same shape, never the key", is_placeholder(held_by_code, &secret)),
        ("the API received the real value", !seen.is_empty() && seen.iter().all(|s| *s == format!("Bearer {secret}"))),
        (
            "the key that the API echoed was scrubbed",
            echoed == format!("Bearer {held_by_code}") && !stdout.contains(&secret),
        ),
        ("the key is nowhere in the audit", !rows.contains(&secret)),
        ("the audit chain holds", chain.pointer("/ok") == Some(&json!(true))),
    ];
    story.step("So", "");
    for (promise, kept) in held {
        story.line(&format!("{} {promise}", if kept { green("✓") } else { red("✗") }));
    }
    let all = held.iter().all(|(_, kept)| *kept);
    if out.is_json() {
        let promises: serde_json::Map<_, _> = held.iter().map(|(p, k)| ((*p).to_owned(), json!(k))).collect();
        out.json(&json!({ "ok": all, "promises": promises, "stdout": stdout }));
    }
    Ok(if all { Outcome::Done } else { Outcome::Failed })
}

async fn set_up(stage: &Stage, api: &Api, secret: &str, story: Story) -> Result<String> {
    std::fs::write(stage.home().join("demo-ca.pem"), &api.ca_pem)?;
    let config = format!(
        "listen = \"127.0.0.1:0\"\n[proxy]\nlisten = \"off\"\n[egress]\nextra_ca = [\"demo-ca.pem\"]\nresolve = {{ \"{}\" = \"{}\" }}\n",
        api::HOST,
        api.address
    );
    std::fs::write(stage.home().join("oauth3.toml"), config)?;
    story.step("You set up once", "oauth3 init · oauth3 secret add DEMO_API_KEY --host api.demo.example");
    let init = stage.json(&["init"], "").await?;
    stage.json(&["secret", "add", SECRET, "--host", api::HOST, "--stdin"], &format!("{secret}\n")).await?;
    story.line(&format!("stored {SECRET}, for {} only; the agent got a token and no key", api::HOST));
    Ok(init.get("token").and_then(Value::as_str).context("init made no token")?.to_owned())
}

/// The agent's side: an address and a token, nothing else.
struct Agent {
    base: String,
    token: String,
    http: HttpClient,
}

impl Agent {
    async fn call(&self, method: &'static str, path: &str, body: &Value) -> Result<Value> {
        let request = HttpRequest {
            method,
            url: format!("{}{path}", self.base),
            headers: vec![
                ("authorization", format!("Bearer {}", self.token).into()),
                ("content-type", "application/json".to_owned().into()),
            ],
            body: if body.is_null() { vec![] } else { serde_json::to_vec(body)? }.into(),
            timeout: CALL_TIMEOUT,
            max_reply_bytes: MAX_REPLY_BYTES,
            owner_configured: true,
        };
        let reply = self.http.send(request).await.map_err(anyhow::Error::msg)?;
        let value: Value = serde_json::from_slice(&reply.body).context("the gateway answered no JSON")?;
        if reply.status >= 400 {
            bail!("the gateway answered {}: {value}", reply.status);
        }
        Ok(value)
    }

    async fn finished(&self, id: &str) -> Result<Value> {
        loop {
            let status = self.call("GET", &format!("/execute/{id}/status?wait=30"), &Value::Null).await?;
            if !matches!(text(&status, "/status"), "pending" | "approved" | "executing" | "awaiting_secrets") {
                return Ok(status);
            }
        }
    }
}

/// Tells the story to a person; says nothing when scripts listen.
#[derive(Clone, Copy)]
struct Story {
    out: Output,
}

impl Story {
    fn step(self, title: &str, how: &str) {
        if !self.out.is_json() {
            let how = if how.is_empty() { String::new() } else { format!("  {}", dim(how)) };
            self.out.line(format!("\n{} {}{how}", green("▸"), bold(title)));
        }
    }

    fn line(self, text: &str) {
        if !self.out.is_json() {
            self.out.line(format!("  {text}"));
        }
    }

    fn block(self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(&format!("{} {line}", dim("│")));
        }
    }
}

/// The text at a place; empty when there is none.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_placeholder(held: &str, secret: &str) -> bool {
    held.starts_with("sk-") && held.len() == secret.len() && held != secret
}

fn ask() -> Result<bool> {
    let mut stdout = std::io::stdout();
    write!(stdout, "\n  {} ", bold("Run it once? [y/N]"))?;
    stdout.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn random_key() -> Result<String> {
    let mut bytes = [0u8; 15];
    getrandom::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system has no randomness to give"))?;
    Ok(format!("sk-demo-{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()))
}
