//! One wake to one target.

use crate::WakeConfig;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use oauth3_core::{Credential, HttpPort, HttpRequest, RequestId, Status};
use sha2::Sha256;
use std::process::Stdio;
use std::time::Duration;

/// Time for one delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the command, which may have to start a runtime of its own.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest reply that is read, in bytes; nothing in it matters.
const MAX_REPLY_BYTES: usize = 64 << 10;
/// The variables that the command gets.
const COMMAND_ENVIRONMENT: [&str; 2] = ["PATH", "HOME"];

/// Where wakes go.
#[derive(Debug)]
pub(super) enum Target {
    /// An OpenClaw gateway's hook.
    OpenClaw { url: String, token: Credential },
    /// A program.
    Command(Vec<String>),
    /// Any address, with signed calls.
    Webhook { url: String, key: Credential },
}

impl Target {
    pub(super) fn all(config: WakeConfig) -> Vec<Self> {
        let openclaw = config
            .openclaw
            .map(|(base, token)| Self::OpenClaw { url: format!("{}/hooks/wake", base.trim_end_matches('/')), token });
        let command = Some(config.command).filter(|argv| !argv.is_empty()).map(Self::Command);
        let webhook = config.webhook.map(|(url, key)| Self::Webhook { url, key });
        [openclaw, command, webhook].into_iter().flatten().collect()
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::OpenClaw { .. } => "openclaw",
            Self::Command(_) => "command",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// Delivers once.
    pub(super) async fn send(&self, http: &dyn HttpPort, id: &RequestId, status: Status) -> Result<(), String> {
        match self {
            Self::OpenClaw { url, token } => {
                let body = serde_json::json!({ "text": wake_text(id), "mode": "now" }).to_string();
                post(http, url, body, ("authorization", format!("Bearer {}", token.reveal()))).await
            }
            Self::Webhook { url, key } => {
                let body = serde_json::json!({ "request_id": id, "status": status }).to_string();
                let signed = ("x-oauth3-signature", signature(key, body.as_bytes()));
                post(http, url, body, signed).await
            }
            Self::Command(argv) => run(argv, id, status).await,
        }
    }
}

/// What the agent reads: fixed words and the id, so that nothing can talk to its model through it.
#[must_use]
pub fn wake_text(id: &RequestId) -> String {
    format!("oauth3: a request has reached its final state; read its status. Request id: {id}")
}

/// The value of `X-OAuth3-Signature`: `sha256=` and the HMAC-SHA256 of the raw body in hex.
#[must_use]
pub fn signature(key: &Credential, body: &[u8]) -> String {
    // HMAC takes a key of any length (RFC 2104 §2), so there is always a value.
    let mac = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()).map(|mac| mac.chain_update(body).finalize());
    mac.map_or_else(|_| String::new(), |mac| format!("sha256={}", HEXLOWER.encode(&mac.into_bytes())))
}

async fn post(http: &dyn HttpPort, url: &str, body: String, field: (&'static str, String)) -> Result<(), String> {
    let request = HttpRequest {
        method: "POST",
        url: url.to_owned(),
        headers: vec![("content-type", "application/json".to_owned().into()), (field.0, field.1.into())],
        body: body.into_bytes().into(),
        timeout: DELIVERY_TIMEOUT,
        max_reply_bytes: MAX_REPLY_BYTES,
        owner_configured: true,
    };
    let sent = tokio::time::timeout(DELIVERY_TIMEOUT, http.send(request)).await;
    match sent.map_err(|_| "no answer in time".to_owned())?? {
        reply if (200..300).contains(&reply.status) => Ok(()),
        reply => Err(format!("answered {}", reply.status)),
    }
}

#[allow(clippy::disallowed_methods, reason = "the wake command is one of the places where a process starts")]
async fn run(argv: &[String], id: &RequestId, status: Status) -> Result<(), String> {
    let filled = |word: &String| word.replace("{request_id}", id.as_str()).replace("{status}", status.as_str());
    let mut words = argv.iter().map(filled);
    let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    for name in COMMAND_ENVIRONMENT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let ended = tokio::time::timeout(COMMAND_TIMEOUT, command.status()).await;
    match ended.map_err(|_| "did not end in time".to_owned())? {
        Ok(code) if code.success() => Ok(()),
        Ok(code) => Err(format!("ended with {code}")),
        Err(error) => Err(format!("cannot be started: {}", error.kind())),
    }
}
