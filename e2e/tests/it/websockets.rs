//! WebSockets through the API proxy: the handshake is a call, and the frames that follow never hold the key.

use crate::forward_clients::{prints, variables};
use crate::proxy::{KEY, completion, grant, openai};
use crate::runtimes::installed;
use data_encoding::BASE64;
use e2e::certificate::Certificate;
use e2e::peer::Peer;
use e2e::world::PATIENCE;
use e2e::{Seen, Serve, Standin, World};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const REALTIME: &str = "wss://api.openai.com/v1/realtime?model=gpt-realtime";
/// The example of RFC 6455 §1.3.
const RFC_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const RFC_PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Whether half of the key stands in a text; what a placeholder begins with is not counted, which is the key's own
/// beginning.
fn holds_part(text: &str) -> bool {
    let (one, two) = KEY["sk-proj-".len()..].split_at(12);
    text.contains(one) || text.contains(two)
}

/// OpenAI's API is the server of Python's `websockets`; `more` is added to the configuration.
async fn peer(names: &[&str], more: &str) -> (World, Peer, String) {
    let (world, token) = World::ready("").await;
    let certificate = Certificate::new(names);
    let peer = Peer::start(&installed("OAUTH3_TEST_CLIENTS"), "websocket_server.py", &certificate, world.home()).await;
    world.write_config(&format!("{}{more}", certificate.egress(world.home(), peer.address)));
    world.add_secret("OPENAI_API_KEY", KEY, &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
    (world, peer, token)
}

/// What the server saw of this kind.
fn seen(peer: &Peer, what: &str) -> Vec<Value> {
    let lines = peer.lines();
    lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).unwrap().get(what).cloned()).collect()
}

/// Entries of the audit, of one kind.
async fn entries(world: &World, kind: &str) -> Vec<Value> {
    let audit = world.cli(&["audit", "export"]).await.stdout;
    let rows = audit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let calls = rows.filter(|row| row["kind"] == kind).map(|row| row["detail"]["calls"].clone());
    calls.flat_map(|calls| calls.as_array().unwrap().clone()).collect()
}

const PYTHON: &str = "
import sys, base64
from websockets.sync.client import connect
made_up = {'Authorization': 'Bearer sk-dummy', 'Cookie': 'a=b'}
with connect(sys.argv[1], additional_headers=made_up, subprotocols=['realtime', 'openai-insecure-api-key.sk-dummy']) as ws:
    print(ws.subprotocol, ws.response.headers.get('sec-websocket-extensions'))
    print(ws.recv()); print(ws.recv()); print(base64.b64decode(ws.recv()).decode(errors='replace'))
    for length in [0, 1, 70000]:
        ws.send(b'x' * length)
        assert ws.recv() == b'x' * length
    ws.send(('part', ' by ', 'part')); print(ws.recv(), ws.ping().wait(10))
";

const SCRIPT: &str = "
const url = globalThis.Deno ? Deno.args[0] : process.argv[1];
const socket = new WebSocket(url, ['realtime', 'openai-insecure-api-key.sk-dummy']);
socket.binaryType = 'arraybuffer';
const got = [];
socket.onopen = () => socket.send('from the agent');
socket.onmessage = ({ data }) => {
  got.push(typeof data === 'string' ? data : atob(new TextDecoder().decode(data)));
  if (got.length === 4) { console.log([socket.protocol, ...got].join('\\n')); socket.close(); }
};
socket.onerror = (e) => console.log('error', e.message ?? e.error);
";

#[tokio::test(flavor = "multi_thread")]
async fn clients_open_websockets_and_never_see_the_key() {
    let (world, peer, token) = peer(&["api.openai.com"], "").await;
    grant(&world, &["--requests-per-minute", "10"]).await;
    let serve = world.serve().await;
    let variables = variables(&world, &serve, &token).await;
    let (node, deno) = (installed("OAUTH3_TEST_NODE"), installed("OAUTH3_TEST_DENO"));
    for (program, args) in [
        (&*installed("OAUTH3_TEST_CLIENTS"), vec!["-c", PYTHON, REALTIME]),
        (&*node, vec!["--input-type=module", "-e", SCRIPT, REALTIME]),
        (&*deno, vec!["eval", SCRIPT, REALTIME]),
    ] {
        let text = prints(program, &args, &variables).await;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("realtime") && !lines[0].contains("deflate"), "{program:?}: {text}");
        assert!(
            lines[1].starts_with("Bearer ") && lines[1].len() == "Bearer ".len() + KEY.len(),
            "{program:?}: {text}"
        );
        assert!(lines[2].starts_with("in Bearer ") && lines[2].ends_with(" parts"), "{program:?}: {text}");
        assert!(!holds_part(&text), "{text}");
    }
    let given = seen(&peer, "given");
    assert_eq!(given, [format!("Bearer {KEY}"), format!("Bearer {KEY}"), format!("Bearer {KEY}")]);
    assert_eq!(seen(&peer, "extensions"), [Value::Null, Value::Null, Value::Null], "no compression is agreed on");
    assert!(serve.stop().await.success());
    let called = entries(&world, "api_called").await;
    assert_eq!(called.len(), 3, "{called:?}");
    assert!(
        called.iter().all(|call| call["path"] == "/v1/realtime" && call["secret"] == "OPENAI_API_KEY"),
        "{called:?}"
    );
    let ended = entries(&world, "api_ended").await;
    let counted = |call: &Value| call["sent"].as_u64().unwrap() > 0 && call["received"].as_u64().unwrap() > 0;
    assert!(ended.len() == 3 && ended.iter().all(counted), "{ended:?}");
    let usage = world.cli(&["usage", "--by", "model", "--json"]).await.json();
    let item = &usage["usage"][0];
    assert_eq!(
        (&item["model"], &item["calls"], &item["failed"]),
        (&json!("gpt-realtime"), &json!(3), &json!(0)),
        "{usage}"
    );
}

/// Asks the proxy's own address for a WebSocket of OpenAI's; `fields` are added. The head of the answer, and the stream
/// after it.
async fn ask(serve: &Serve, token: &str, fields: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(serve.proxy.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "GET /v1/openai/realtime HTTP/1.1\r\nHost: any\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {RFC_KEY}\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    rest
}

/// A host's answer to a handshake, and these bytes after it.
fn switching(seen: &Seen, fields: &str, frames: &[u8]) -> Vec<u8> {
    let key = seen.header("sec-websocket-key").unwrap();
    let proof = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{fields}\r\n",
        BASE64.encode(&proof)
    );
    [head.as_bytes(), frames].concat()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, length], payload].concat()
}

/// The messages and control frames in these bytes, fragments put together.
fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut found, mut open): (_, Option<(u8, Vec<u8>)>) = (Vec::new(), None);
    while let [first, length, rest @ ..] = bytes {
        let (payload, next) = rest.split_at(usize::from(*length));
        bytes = next;
        if first & 0x08 != 0 {
            found.push((first & 0x0F, payload.to_vec()));
            continue;
        }
        let (_, whole) = open.get_or_insert((first & 0x0F, Vec::new()));
        whole.extend_from_slice(payload);
        if first & 0x80 != 0 {
            found.extend(open.take());
        }
    }
    assert!(bytes.is_empty() && open.is_none());
    found
}

/// A gateway before an API that answers with bytes.
async fn hostile(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> (World, Standin, String) {
    let api = Standin::raw("api.openai.com", answer).await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    world.add_secret("OPENAI_API_KEY", KEY, &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
    grant(&world, &[]).await;
    (world, api, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_api_hands_back_in_frames_is_taken_out_wherever_it_is_cut() {
    let (world, api, token) = hostile(|seen| {
        let mut frames = Vec::new();
        let key = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().as_bytes();
        for cut in 0..=key.len() {
            let (one, two) = key.split_at(cut);
            for kind in [0x1, 0x2] {
                frames.extend(frame(kind, one));
                frames.extend(frame(0x89, key));
                frames.extend(frame(0x0, b""));
                frames.extend(frame(0x80, two));
            }
        }
        // A byte in each frame, and in the reason of the end.
        frames.extend(frame(0x2, b""));
        key.iter().for_each(|byte| frames.extend(frame(0x0, &[*byte])));
        frames.extend(frame(0x80, b"."));
        frames.extend(frame(0x88, &[&1000_u16.to_be_bytes()[..], key].concat()));
        switching(seen, &format!("X-Key: {}\r\n", String::from_utf8_lossy(key)), &frames)
    })
    .await;
    let serve = world.serve().await;
    let (head, stream) = ask(&serve, &token, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(RFC_PROOF), "{head}");
    assert!(!holds_part(&head) && !head.to_lowercase().contains("extensions"), "{head}");
    let came = messages(&rest(stream).await);
    assert_eq!(came.len(), 4 * (KEY.len() + 1) + 2);
    for (kind, payload) in came {
        // The code of a close frame.
        let beside = if kind == 0x8 { 2 } else { 0 };
        let text = String::from_utf8_lossy(&payload[beside..]).into_owned();
        assert!(text.len() == KEY.len() || text.ends_with('.'), "{kind}: {text}");
        assert!(!holds_part(&text), "{kind}: {text}");
    }
    let asked = &api.seen()[0];
    assert_eq!(asked.header("sec-websocket-extensions"), None);
    assert_ne!(asked.header("sec-websocket-key"), Some(RFC_KEY), "ours, and not the client's");
    assert!(!format!("{asked:?}").contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_handshake_of_an_api_does_not_reach_the_client() {
    let (world, _api, token) = hostile(|seen| {
        let plain = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n").into_bytes();
        let key = seen.header("sec-websocket-key").unwrap();
        match seen.header("x-case").unwrap() {
            "another key" => {
                plain(&format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {RFC_PROOF}\r\n"))
            }
            "the key itself" => {
                plain(&format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {key}\r\n"))
            }
            "no key" => plain("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            "another protocol" => plain("Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            "an extension" => switching(seen, "Sec-WebSocket-Extensions: permessage-deflate\r\n", b""),
            "what was not offered" => switching(seen, "Sec-WebSocket-Protocol: evil\r\n", b""),
            "no" => {
                let text = format!("{{\"you sent\":\"{}\"}}", seen.header("authorization").unwrap());
                format!("HTTP/1.1 400 No\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
            }
            other => panic!("{other}"),
        }
    })
    .await;
    let serve = world.serve().await;
    let cases = ["another key", "the key itself", "no key", "another protocol", "an extension", "what was not offered"];
    for case in cases {
        let (head, _) = ask(&serve, &token, &format!("X-Case: {case}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{case}: {head}");
    }
    let (head, mut stream) = ask(&serve, &token, "X-Case: no\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let mut body = vec![0; "{\"you sent\":\"Bearer \"}".len() + KEY.len()];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.unwrap().unwrap();
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("{\"you sent\":\"Bearer ") && !holds_part(&body), "any other answer is one: {body}");
    let usage = world.cli(&["usage", "--json"]).await.json();
    assert_eq!(usage["usage"][0]["failed"], 7, "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_takes_a_grant_that_covers_what_cannot_be_counted() {
    let (world, api, token) = hostile(|seen| switching(seen, "", &frame(0x88, &[]))).await;
    let serve = world.serve().await;
    for more in [&["--model", "gpt-*"][..], &["--tokens-per-day", "1000"], &["--usd-per-day", "5"]] {
        grant(&world, more).await;
        let (head, _) = ask(&serve, &token, "").await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{more:?}: {head}");
    }
    grant(&world, &["--requests-per-minute", "1"]).await;
    for (fields, status) in
        [("Upgrade: h2c\r\n", "501"), ("Sec-WebSocket-Key: c2hvcnQ=\r\n", "400"), ("Content-Length: 5\r\n", "400")]
    {
        let (head, _) = ask(&serve, &token, fields).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {head}");
    }
    let (head, _) = ask(&serve, "oa3_aaaaaaaa_bbbb", "").await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    let (head, _) = ask(&serve, &token, "").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (head, _) = ask(&serve, &token, "").await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert_eq!(api.seen().len(), 1);
    let refused = entries(&world, "api_refused").await;
    assert!(refused.iter().any(|call| call["reason"].as_str().unwrap().contains("WebSocket")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_the_owner_is_asked_and_a_yes_to_one_opens_one() {
    let (world, api, token) = hostile(|seen| switching(seen, "", &frame(0x88, &[]))).await;
    let grants = world.cli(&["grants", "--json"]).await.json();
    assert_eq!(world.cli(&["grants", "revoke", grants["grants"][0]["id"].as_str().unwrap()]).await.code(), 0);
    let serve = world.serve().await;
    let (head, _) = ask(&serve, &token, "Prefer: respond-async\r\n").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
    let id = world.cli(&["requests", "--json"]).await.json()["requests"][0]["request_id"].as_str().unwrap().to_owned();
    assert!(api.seen().is_empty());
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let (head, stream) = ask(&serve, &token, "Prefer: respond-async\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(messages(&rest(stream).await), [(0x8, vec![])]);
    let (head, _) = ask(&serve, &token, "Prefer: respond-async\r\n").await;
    assert!(head.starts_with("HTTP/1.1 202 "), "it was for one: {head}");
    assert_eq!(api.seen().len(), 1);
    let over = async || world.cli(&["show", &id, "--json"]).await.json()["status"] == "success";
    e2e::eventually_async("the request is over with its WebSocket", over).await;
}

const STAYS: &str = "
import sys
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed
with connect(sys.argv[1]) as ws:
    for _ in range(3): ws.recv()
    ws.send('still here'); print(ws.recv(), flush=True)
    try: ws.recv()
    except ConnectionClosed as e: print(e.rcvd and e.rcvd.code, e.rcvd and e.rcvd.reason)
";

/// A client that has a WebSocket open, and the lines that it prints from then on.
async fn stays(program: &Path, serve: &Serve, world: &World, token: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(program);
    command.args(["-c", STAYS, REALTIME]).env_clear().envs(variables(world, serve, token).await);
    let mut child = command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(line(&mut lines).await, "still here");
    (child, lines)
}

async fn line(lines: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    timeout(PATIENCE, lines.read_line(&mut line)).await.expect("a line in time").unwrap();
    line.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_takes_the_right_away_ends_an_open_websocket() {
    let (world, peer, token) = peer(&["api.openai.com"], "").await;
    let serve = world.serve().await;
    let python = installed("OAUTH3_TEST_CLIENTS");
    let mut token = token;
    for how in [
        &["grants", "revoke"][..],
        &["provider", "key", "remove", "openai", "OPENAI_API_KEY"],
        &["kill-switch", "on"],
        &["agent", "rotate", "agent", "--json"],
        &["agent", "revoke", "agent"],
    ] {
        let id = grant(&world, &[]).await;
        let (_child, mut lines) = stays(&python, &serve, &world, &token).await;
        let before = seen(&peer, "closed").len();
        let words = if how[0] == "grants" { [how, &[&*id]].concat() } else { how.to_vec() };
        let done = world.cli(&words).await;
        assert_eq!(done.code(), 0, "{how:?}: {done:?}");
        assert_eq!(line(&mut lines).await, "1008 oauth3: the owner took the right to this back", "{how:?}");
        e2e::eventually("the API has heard of it", || seen(&peer, "closed").len() > before).await;
        assert_eq!(seen(&peer, "closed").pop(), Some(json!(1008)), "{how:?}");
        match how[1] {
            "key" => {
                assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
            }
            "on" => assert_eq!(world.cli(&["kill-switch", "off"]).await.code(), 0),
            "rotate" => token = done.json()["token"].as_str().unwrap().to_owned(),
            _ => {}
        }
    }
    assert!(!serve.log().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_grant_and_with_either_side() {
    let (world, peer, token) = peer(&["api.openai.com"], "").await;
    let serve = world.serve().await;
    let python = installed("OAUTH3_TEST_CLIENTS");
    grant(&world, &["--for", "10s"]).await;
    let (head, stream) = ask(&serve, &token, "").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (kind, payload) = messages(&rest(stream).await).pop().unwrap();
    assert_eq!((kind, &payload[2..]), (0x8, &b"oauth3: the owner took the right to this back"[..]));
    // A client that is gone without a word.
    grant(&world, &[]).await;
    let (mut child, _) = stays(&python, &serve, &world, &token).await;
    child.kill().await.unwrap();
    e2e::eventually("the API has heard of it", || seen(&peer, "closed").last() == Some(&json!(1001))).await;
    // A server that is.
    let (_child, mut lines) = stays(&python, &serve, &world, &token).await;
    drop(peer);
    assert_eq!(line(&mut lines).await, "None None");
    let ended = async || entries(&world, "api_ended").await.len() == 3;
    e2e::eventually_async("all of them are recorded", ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_of_an_opened_host_passes_as_it_is_and_is_recorded() {
    let open = "[proxy]\nforward_hosts = [\"files.example\"]\n";
    let (world, peer, token) = peer(&["files.example"], open).await;
    let serve = world.serve().await;
    let variables = variables(&world, &serve, &token).await;
    let python = installed("OAUTH3_TEST_CLIENTS");
    let text = prints(&python, &["-c", PYTHON, "wss://files.example/feed"], &variables).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        ["realtime None", "Bearer sk-dummy", "in Bearer sk-dummy parts", "Bearer sk-dummy", "part by part True"]
    );
    let with_token = REALTIME.replace("api.openai.com", "files.example") + "&t=" + &token;
    let refused = "import sys\nfrom websockets.sync.client import connect\nfrom websockets.exceptions import InvalidStatus\n\
        try: connect(sys.argv[1])\nexcept InvalidStatus as e: print(e.response.status_code)";
    assert_eq!(prints(&python, &["-c", refused, &with_token], &variables).await, "403\n");
    assert_eq!(seen(&peer, "given"), ["Bearer sk-dummy"]);
    assert!(serve.stop().await.success());
    let left = entries(&world, "host_left").await;
    assert!(left.len() == 1 && left[0]["status"] == 101 && left[0]["path"] == "/feed", "{left:?}");
    assert!(left[0]["sent"].as_u64().unwrap() > 70_000 && left[0]["received"].as_u64().unwrap() > 70_000, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_without_websockets_answers_as_to_any_call() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let (head, _) = ask(&serve, &token, "").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(api.seen()[0].header("upgrade"), Some("websocket"));
}
