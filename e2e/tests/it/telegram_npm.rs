//! The Telegram conversation with the real binary against npm's telegram-test-api, a server that others wrote.
//!
//! It has flaws that do no harm here: it answers polls at once, forgets what it handed out, and says `null` to edits
//! and deletions. Its user's side can only be asked again and again, so that is what waiting does.

use crate::runtimes::installed;
use e2e::{Agent, PATIENCE, Standin, World};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const TOKEN: &str = "777000002:AAnpmtesttoken_abcdefghijklmnopqrstu";
const OWNER: i64 = 43;
const VALUE: &str = "sk-npm-0123456789-typed-in-the-chat";
/// Between two looks at the chat.
const LOOK: Duration = Duration::from_millis(30);

/// The running server. It is killed when this is dropped.
struct Server {
    url: String,
    http: reqwest::Client,
    _child: Child,
}

impl Server {
    async fn start() -> Self {
        let mut child = Command::new(installed("OAUTH3_TEST_NODE"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/telegram_server.mjs"))
            .arg(installed("OAUTH3_TEST_TELEGRAM_API"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let told: Value = serde_json::from_str(&line.expect("the server starts")).unwrap();
        Self { url: told["url"].as_str().unwrap().to_owned(), http: reqwest::Client::new(), _child: child }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/{path}", self.url)).header("content-type", "application/json");
        let reply = request.body(body.to_string()).send().await.unwrap();
        assert!(reply.status().is_success(), "{path}: {}", reply.status());
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    }

    /// Everything in the chat, oldest first: `message` or `callbackQuery`, and `messageId`.
    async fn history(&self) -> Vec<Value> {
        let reply = self.post("getUpdatesHistory", json!({ "token": TOKEN })).await;
        reply["result"].as_array().unwrap().clone()
    }

    /// The newest message of the bot that contains all of this.
    async fn says(&self, parts: &[&str]) -> Value {
        let found = async {
            loop {
                let like = |item: &Value| {
                    let text = item["message"]["text"].as_str().unwrap_or_default();
                    !item["message"]["chat_id"].is_null() && parts.iter().all(|part| text.contains(part))
                };
                if let Some(item) = self.history().await.into_iter().rev().find(like) {
                    return item;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("the bot never said {parts:?}"))
    }

    /// Waits until no message in the chat contains this.
    async fn gone(&self, text: &str) {
        let gone = async {
            while self.history().await.iter().any(|item| item.to_string().contains(text)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("deleted");
    }

    async fn command(&self, text: &str) {
        let length = text.split(' ').next().unwrap_or_default().len();
        let entities = json!([{ "type": "bot_command", "offset": 0, "length": length }]);
        self.post("sendCommand", written(text, json!({ "entities": entities }))).await;
    }

    async fn reply(&self, to: &Value, text: &str) {
        let replied = json!({ "message_id": to["messageId"], "chat": chat(), "date": 1, "text": "" });
        self.post("sendMessage", written(text, json!({ "reply_to_message": replied }))).await;
    }

    async fn tap(&self, message: &Value, label: &str) {
        let rows = message["message"]["reply_markup"]["inline_keyboard"].as_array().unwrap();
        let mut buttons = rows.iter().flat_map(|row| row.as_array().unwrap());
        let button = buttons.find(|button| button["text"].as_str().unwrap().contains(label)).expect(label);
        let carrier = json!({ "message_id": message["messageId"], "chat": chat(), "date": 1 });
        let tap = json!({ "botToken": TOKEN, "from": person(), "message": carrier, "data": button["callback_data"] });
        self.post("sendCallback", tap).await;
    }
}

fn person() -> Value {
    json!({ "id": OWNER, "is_bot": false, "first_name": "Owner" })
}

fn chat() -> Value {
    json!({ "id": OWNER, "type": "private", "first_name": "Owner" })
}

fn written(text: &str, more: Value) -> Value {
    let mut message = json!({ "botToken": TOKEN, "from": person(), "chat": chat(), "date": 1, "text": text });
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    message
}

fn buttons(message: &Value) -> usize {
    let rows = message["message"]["reply_markup"]["inline_keyboard"].as_array();
    rows.map_or(0, |rows| rows.iter().map(|row| row.as_array().unwrap().len()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conversation_holds_against_a_server_of_others() {
    let server = Server::start().await;
    let api = Standin::echo("api.example.com").await;
    let (mut world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    world.set("TELEGRAM_BOT_TOKEN", TOKEN);
    world.set("TELEGRAM_CHAT_ID", OWNER.to_string());
    world.set("TELEGRAM_API_URL", server.url.as_str());
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);

    // Approved once; its secret is added from the card, and it goes on by itself.
    let code = "// @runtime embedded\nconst r = await fetch('https://api.example.com/', {headers: {Authorization: `Bearer ${Deno.env.get('NPM_KEY')}`}});\nconsole.log(r.status)";
    let id = agent.submit(code, json!({ "secrets": ["NPM_KEY"], "network": ["api.example.com"] })).await;
    let card = server.says(&[&id, "Approval wanted", "NPM_KEY MISSING", "api.example.com"]).await;
    assert_eq!(buttons(&card), 5, "{card}");
    server.tap(&card, "Run once").await;
    let waiting = server.says(&[&id, "waits for NPM_KEY"]).await;
    assert_eq!(waiting["messageId"], card["messageId"], "edited in place");
    server.tap(&waiting, "Add NPM_KEY").await;
    let question = server.says(&["Reply to this message with the value of", "NPM_KEY"]).await;
    assert_eq!(question["message"]["reply_markup"]["force_reply"], true, "{question}");
    server.reply(&question, VALUE).await;
    let status = agent.finished(&id).await;
    assert_eq!((&status["status"], &status["result"]["stdout"]), (&json!("success"), &json!("200\n")), "{status}");
    server.gone(VALUE).await;
    assert_eq!(api.seen()[0].header("authorization"), Some(format!("Bearer {VALUE}").as_str()));
    let done = server.says(&[&id, "Success"]).await;
    assert_eq!((&done["messageId"], buttons(&done)), (&card["messageId"], 0));

    // Denied; the late yes is of no use.
    let id = agent.submit("// @runtime embedded\nconsole.log(1)", json!({})).await;
    let card = server.says(&[&id, "Approval wanted"]).await;
    server.tap(&card, "Deny").await;
    assert_eq!(agent.finished(&id).await["status"], "denied");
    server.says(&[&id, "Denied by telegram:43"]).await;
    server.tap(&card, "Run once").await;

    server.command("/secrets").await;
    server.says(&["Stored secrets", "NPM_KEY → api.example.com"]).await;
    assert_eq!(agent.status(&id).await["status"], "denied", "the late yes was acted on before the command");
    server.command("/pending").await;
    server.says(&["Nothing waits for you"]).await;
    server.command("/kill").await;
    server.says(&["The kill switch is on"]).await;
    assert_eq!(agent.execute(json!({ "skill_id": "s", "code": "1" })).await.status, 403);

    let log = serve.log();
    assert!(!log.contains(VALUE) && !log.contains(TOKEN), "{log}");
    serve.stop().await;
    assert_eq!(world.cli(&["audit", "verify"]).await.code(), 0);
}
