//! The owner's chat in a test: the real binary, a strict Bot API server, and somebody else's models to judge
//! everything that passed between them.

use crate::runtimes::installed;
use e2e::telegram_emulator::{ChatMessage, Emulator, Traffic};
use e2e::{Agent, PATIENCE, Serve, World};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

pub(crate) const TOKEN: &str = "777000001:AAtesttoken_abcdefghijklmnopqrstuvwx";
pub(crate) const OWNER: i64 = 42;
pub(crate) const STRANGER: i64 = 66;
pub(crate) const DECIDED: Option<&str> = Some("already decided");

/// What a card that waits for a verdict offers.
pub(crate) const VERDICTS: [&str; 4] = ["✅ Run once", "🕐 Trust 24h", "🔒 Always trust", "❌ Deny"];

pub(crate) struct Chat {
    pub(crate) world: World,
    pub(crate) telegram: Emulator,
    token: String,
    judge: Child,
}

impl Chat {
    /// With `config` as `oauth3.toml`, and the token in the environment.
    pub(crate) async fn new(config: &str) -> Self {
        let (mut world, token) = World::ready(config).await;
        let telegram = Emulator::start(TOKEN).await.unwrap();
        telegram.add_private_chat(OWNER);
        telegram.add_private_chat(STRANGER);
        world.set("TELEGRAM_BOT_TOKEN", TOKEN);
        world.set("TELEGRAM_CHAT_ID", OWNER.to_string());
        world.set("TELEGRAM_API_URL", telegram.api_url());
        // Started now, for its models take a while to load.
        let judge = Command::new(installed("OAUTH3_TEST_PYTHON"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/aiogram_check.py"))
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { world, telegram, token, judge }
    }

    pub(crate) async fn serve(&self) -> (Serve, Agent) {
        let serve = self.world.serve().await;
        let agent = Agent::new(&serve.base, &self.token);
        (serve, agent)
    }

    /// The message that shows this request with this headline.
    pub(crate) async fn card(&self, id: &str, headline: &str) -> ChatMessage {
        let like = |m: &ChatMessage| {
            m.from.is_none() && m.document.is_none() && m.text.contains(id) && m.text.starts_with(headline)
        };
        self.telegram.message(OWNER, like).await.unwrap()
    }

    /// A new request's card.
    pub(crate) async fn asks(&self, id: &str) -> ChatMessage {
        self.card(id, "🔔 Approval wanted").await
    }

    /// The bot's messages that show this request.
    pub(crate) fn cards(&self, id: &str) -> Vec<ChatMessage> {
        let all = self.telegram.messages(OWNER).into_iter();
        all.filter(|m| m.from.is_none() && m.document.is_none() && m.text.contains(id)).collect()
    }

    /// The owner taps a button that the message has now; gives the answer.
    pub(crate) async fn tap(&self, message: &ChatMessage, label: &str) -> Option<String> {
        let tap = self.telegram.tap(OWNER, OWNER, message.message_id, label).unwrap();
        self.telegram.answer(&tap).await.unwrap()
    }

    /// The owner taps a button that the message had when it was looked at.
    pub(crate) async fn tap_late(&self, message: &ChatMessage, label: &str) -> Option<String> {
        let tap = self.telegram.tap_data(OWNER, OWNER, message.message_id, data(message, label));
        self.telegram.answer(&tap).await.unwrap()
    }

    pub(crate) fn write(&self, text: &str) -> i32 {
        self.telegram.write(OWNER, OWNER, text, None).unwrap()
    }

    pub(crate) fn reply(&self, to: &ChatMessage, text: &str) -> i32 {
        self.telegram.write(OWNER, OWNER, text, Some(to.message_id)).unwrap()
    }

    /// The newest message of the bot that contains this.
    pub(crate) async fn says(&self, text: &str) -> ChatMessage {
        self.telegram.message(OWNER, |m| m.from.is_none() && m.text.contains(text)).await.unwrap()
    }

    /// Everything that the bot sent, as it was sent.
    pub(crate) fn sent(&self) -> String {
        let calls = self.telegram.traffic().into_iter().filter_map(|item| match item {
            Traffic::Call { method, params, .. } => Some(format!("{method} {params}\n")),
            Traffic::Update(_) => None,
        });
        calls.collect()
    }

    /// Stops the gateway and lets the models judge every call and every update. Its log never has the bot's token.
    pub(crate) async fn end(mut self, serve: Serve) -> World {
        let log = serve.log();
        assert!(!log.contains(TOKEN), "{log}");
        serve.stop().await;
        let verify = self.world.cli(&["audit", "verify"]).await;
        assert_eq!(verify.code(), 0, "{verify:?}");

        let lines = self.telegram.traffic_lines();
        let mut input = self.judge.stdin.take().unwrap();
        input.write_all(lines.as_bytes()).await.unwrap();
        drop(input);
        let judged = tokio::time::timeout(PATIENCE, self.judge.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{said}{}\n{lines}", String::from_utf8_lossy(&judged.stderr));
        let summary: Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(summary["faults"], 0, "{said}");
        assert!(
            summary["checked"]["sendMessage"].as_u64() > Some(0) && summary["checked"]["update"].is_u64(),
            "{said}"
        );
        self.world
    }
}

/// What a button carries.
pub(crate) fn data<'a>(message: &'a ChatMessage, label: &str) -> &'a str {
    let found = message.buttons.iter().find(|(text, _)| text.contains(label));
    &found.unwrap_or_else(|| panic!("no {label:?} among {:?}", message.buttons)).1
}

pub(crate) fn labels(message: &ChatMessage) -> Vec<&str> {
    message.buttons.iter().map(|(label, _)| label.as_str()).collect()
}

/// The audit rows of this kind, from `audit export`.
pub(crate) async fn audit(world: &World, kind: &str) -> Vec<Value> {
    let done = world.cli(&["audit", "export"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let rows = done.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["event"]["kind"] == kind || row["kind"] == kind).collect()
}
