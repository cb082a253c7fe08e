//! Plants a unique token, code and client secret wherever a sign-in has one, at a provider that says all of them again in
//! every error, and looks for them everywhere in every form.

use crate::canary::{assert_clean_everywhere_of, assert_clean_of, forms};
use crate::telegram_chat::{Chat, OWNER};
use data_encoding::HEXLOWER;
use e2e::{Seen, Standin, eventually_async};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

const LOGIN: &str = "login.example.com";
const API: &str = "api.example.com";
const CLIENT_SECRET: &str = "GOCSPX-C4n4ry+/=Zq8~Wv2&Xk5";
/// What one reply after the other to a refresh is.
const REFRESHES: [Refresh; 5] =
    [Refresh::Works, Refresh::Works, Refresh::Trouble, Refresh::EchoedAsText, Refresh::EchoedAsCode];

#[derive(Clone, Copy)]
enum Refresh {
    Works,
    /// A page about trouble.
    Trouble,
    /// Success, but for a body that is nothing but what was sent.
    EchoedAsText,
    /// An error whose code is the token, in hex.
    EchoedAsCode,
}

struct State {
    planted: Vec<String>,
    polls: usize,
    refreshes: VecDeque<Refresh>,
}

impl State {
    /// A new one, with characters that change in every encoding.
    fn plant(&mut self, kind: &str) -> String {
        let secret = format!("{kind}-C4n4ry+/={}~&Zq8", self.planted.len());
        self.planted.push(secret.clone());
        secret
    }

    /// Everything that was given out or sent, in every form.
    fn echo(&self, seen: &Seen) -> String {
        let all = self.planted.iter().flat_map(|secret| forms(secret));
        let sent = String::from_utf8_lossy(&seen.body);
        all.chain([sent.into_owned(), format!("{:?}", seen.headers)]).collect::<Vec<_>>().join("\n")
    }

    fn error(&self, seen: &Seen, code: &str) -> Response<Full<Bytes>> {
        let echo = self.echo(seen);
        reply(400, &json!({ "error": code, "error_description": echo, "error_uri": echo, "trace": echo }))
    }

    fn tokens(&mut self) -> Response<Full<Bytes>> {
        let (access, refresh, id) = (self.plant("access"), self.plant("refresh"), self.plant("id"));
        reply(
            200,
            // They have ended when they come, so that each use needs a refresh.
            &json!({ "access_token": access, "refresh_token": refresh, "id_token": id, "token_type": "Bearer", "expires_in": 0,
                     "scope": "mail.read mail.send" }),
        )
    }

    fn answer(&mut self, seen: &Seen) -> Response<Full<Bytes>> {
        let field = |name: &str| {
            let body = String::from_utf8_lossy(&seen.body);
            let url = reqwest::Url::parse(&format!("http://x/?{body}")).unwrap();
            url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        match (seen.header("host"), seen.target.as_str()) {
            // An API that reflects the token in every form that it knows.
            (Some(API), _) => {
                let token = seen.header("authorization").unwrap_or_default().trim_start_matches("Bearer ");
                Response::new(Full::from(forms(token).join("\n")))
            }
            (_, "/device") => {
                let code = self.plant("device");
                let uri = format!("https://{LOGIN}/activate");
                reply(
                    200,
                    &json!({ "device_code": code, "user_code": "WDJB-MJHT", "verification_uri": uri, "interval": 1,
                             "message": self.echo(seen) }),
                )
            }
            (_, "/userinfo") => reply(200, &json!({ "sub": "ann", "name": "Ann", "trace": self.echo(seen) })),
            (_, "/revoke") => self.error(seen, "unsupported_token_type"),
            (_, "/token") if field("grant_type") == "refresh_token" => {
                let token = field("refresh_token");
                if !field("scope").is_empty() {
                    return self.error(seen, "invalid_scope");
                }
                match self.refreshes.pop_front().unwrap_or(Refresh::EchoedAsCode) {
                    Refresh::Works => self.tokens(),
                    Refresh::Trouble => Response::builder().status(503).body(Full::from(self.echo(seen))).unwrap(),
                    Refresh::EchoedAsText => Response::builder().status(502).body(Full::from(token)).unwrap(),
                    Refresh::EchoedAsCode => self.error(seen, &HEXLOWER.encode(token.as_bytes())),
                }
            }
            (_, "/token") => {
                self.polls += 1;
                match self.polls {
                    1 => self.error(seen, "authorization_pending"),
                    2 => Response::builder().status(500).body(Full::from(self.echo(seen))).unwrap(),
                    _ => self.tokens(),
                }
            }
            other => panic!("nothing is there: {other:?}"),
        }
    }
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let reply = Response::builder().status(status).header("content-type", "application/json");
    reply.body(Full::from(body.to_string())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_of_a_sign_in_never_show() {
    let state = State { planted: vec![CLIENT_SECRET.to_owned()], polls: 0, refreshes: REFRESHES.into_iter().collect() };
    let state = Arc::new(Mutex::new(state));
    let inside = state.clone();
    let provider = Standin::start_for(&[LOGIN, API], move |seen| {
        inside.lock().unwrap_or_else(PoisonError::into_inner).answer(seen)
    })
    .await;
    let planted = || state.lock().unwrap_or_else(PoisonError::into_inner).planted.clone();

    let chat = Chat::new("").await;
    chat.world.write_config(&provider.egress(chat.world.home()));
    let at = |path: &str| format!("https://{LOGIN}{path}");
    let (device, token, userinfo, revoke) = (at("/device"), at("/token"), at("/userinfo"), at("/revoke"));
    let mut add = vec!["connection", "add", "my-mail", "--provider", "generic", "--client-id", "c", "--host", API];
    add.extend(["--device-endpoint", &device, "--token-endpoint", &token, "--userinfo-endpoint", &userinfo]);
    add.extend(["--revocation-endpoint", &revoke, "--scope", "mail.read", "--scope", "mail.send"]);
    add.push("--client-secret-stdin");
    let mut said = String::new();
    let mut heard = |text: String| said.push_str(&text);
    heard(format!("{:?}", chat.world.cli_with(&add, &format!("{CLIENT_SECRET}\n")).await));
    heard(format!(
        "{:?}",
        chat.world.cli(&["connection", "add", "narrow", "--from", "my-mail", "--scope", "mail.read"]).await
    ));
    let (serve, agent) = chat.serve().await;

    // A code that is polled for through errors, then tokens.
    heard(format!("{:?}", agent.call(Method::POST, "/connections/my-mail/login", None).await));
    chat.says("Sign-in wanted").await;
    chat.says("Signed in as Ann").await;
    let code = "// @runtime embedded\nconst token = Deno.env.get('MY_MAIL_TOKEN');\nconst r = await fetch('https://api.example.com/', {headers: {Authorization: `Bearer ${token}`}});\nconsole.log(token, await r.text());";
    let metadata = json!({ "secrets": ["connection:my-mail"], "network": [API] });
    let id = agent.submit(code, metadata.clone()).await;
    chat.tap(&chat.asks(&id).await, "Run once").await;
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status} {}", serve.log());
    heard(status.to_string());
    assert!(provider.seen().iter().any(|seen| seen.header("host") == Some(API)), "the API was called");

    // What is derived is refused with everything said again.
    let done = chat.world.cli(&["login", "narrow"]).await;
    assert!(done.code() == 3 && done.stderr.contains("invalid_scope"), "{done:?}");
    heard(format!("{done:?}"));

    // Refreshes that do not work, each in its own way, until the last one ends it.
    eventually_async("the sign-in has ended", async || {
        let id = agent.submit(code, metadata.clone()).await;
        chat.world.cli(&["approve", &id]).await;
        let failed = agent.finished(&id).await;
        assert_clean_of(&planted(), "a failed run", failed.to_string().as_bytes());
        chat.world.cli(&["status", "my-mail", "--json"]).await.json()["status"] == "sign_in_needed"
    })
    .await;
    let needed = chat.says("Sign-in needed").await;
    chat.tap(&needed, "Sign in").await;
    chat.telegram
        .message(OWNER, |m| m.text.contains("Signed in as Ann") && m.message_id > needed.message_id)
        .await
        .unwrap();
    chat.write("/logins");
    chat.says("my-mail: signed in").await;
    let out = chat.world.cli(&["logout", "my-mail"]).await;
    assert!(out.stdout.contains("the provider was not told or did not take them back"), "{out:?}");
    heard(format!("{out:?}"));

    let planted = planted();
    for kind in ["GOCSPX", "device", "access", "refresh", "id"] {
        assert!(planted.iter().any(|secret| secret.starts_with(kind)), "{kind}: {planted:?}");
    }
    assert_clean_of(&planted, "what was said", said.as_bytes());
    assert_clean_of(&planted, "the chat", chat.sent().as_bytes());
    assert_clean_everywhere_of(&planted, &chat.world, serve).await;
}
