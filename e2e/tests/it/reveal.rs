//! Real values for code that must hold them: only where the owner stored them so, and past the gateway.

use crate::canary::{CANARY, assert_clean, assert_clean_everywhere};
use crate::executors::{direct, docker};
use crate::runtimes::installed;
use e2e::{Agent, Serve, Standin, World, world};
use hyper::Response;
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a process's memory that are looked through at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Gives the value back backwards, which no scrubber knows, and as it is, which it does.
const EMBEDDED: &str = "// @runtime embedded
const key = Deno.env.get('KEY');
const r = await fetch('https://api.example.com/', { headers: { 'x-length': String(key.length) } });
console.log(await r.text(), [...key].reverse().join(''));
console.error(key);";
const PYTHON: &str = "# @runtime python
import os, sys, urllib.request
key = os.environ['KEY']
r = urllib.request.urlopen(urllib.request.Request('https://api.example.com/', headers={'x-length': str(len(key))}))
print(r.read().decode(), key[::-1])
print(key, file=sys.stderr)";

/// An API that says when it was asked, and answers when it is told to.
async fn api() -> (Standin, Receiver<()>, Sender<()>) {
    let ((asked, is_asked), (go, may_go)) = (channel(), channel());
    let (asked, may_go) = (Mutex::new(asked), Mutex::new(may_go));
    let api = Standin::start("api.example.com", move |_| {
        let _ = asked.lock().unwrap().send(());
        let _ = may_go.lock().unwrap().recv();
        Response::new("hello".into())
    });
    (api.await, is_asked, go)
}

async fn start(config: &str) -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    world.write_config(config);
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

async fn store(world: &World, how: &[&str]) {
    let add = [&["secret", "add", "KEY", "--host", "api.example.com", "--stdin"], how].concat();
    let done = world.cli_with(&add, CANARY).await;
    assert_eq!(done.code(), 0, "{done:?}");
}

fn body(code: &str) -> Value {
    json!({ "skill_id": "signer", "code": code, "secrets": ["KEY"], "metadata": { "network": ["api.example.com"] } })
}

async fn ask(agent: &Agent, code: &str) -> String {
    let reply = agent.execute(body(code)).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json["request_id"].as_str().unwrap().to_owned()
}

/// Whether the value stands anywhere in the memory of a process.
fn is_in_memory(pid: u32) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("this test needs root to look into processes");
    let (mut looked_at, mut buffer) = (0, vec![0; PIECE_BYTES + CANARY.len()]);
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        // What can be written to is where a value could be.
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (mut from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while from < to {
            let wanted = buffer.len().min(usize::try_from(to - from).unwrap());
            let Ok(count @ 1..) = memory.read_at(&mut buffer[..wanted], from) else { break };
            if buffer[..count].windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
                return true;
            }
            looked_at += count;
            from += count.min(PIECE_BYTES) as u64;
        }
    }
    assert!(looked_at > 1 << 16, "only {looked_at} bytes of process {pid} could be read");
    false
}

/// The whole way of a value, in each of these runtimes.
async fn a_real_value_reaches(codes: &[&str], config: &str) {
    for code in codes {
        let (api, asked, go) = api().await;
        let dir = tempfile::tempdir().unwrap();
        let (world, serve, agent) = start(&format!("{config}{}", api.egress(dir.path()))).await;
        store(&world, &["--reveal"]).await;
        let id = ask(&agent, code).await;
        let shown = world.cli(&["show", &id]).await.stdout;
        assert!(shown.contains("REAL VALUE of KEY") && !shown.contains(CANARY), "{shown}");

        // Once at a time is all that the owner allowed.
        for trust in ["24h", "forever"] {
            let refused = world.cli(&["approve", &id, "--trust", trust]).await;
            assert!(refused.code() == 3 && refused.stderr.contains("once only"), "{refused:?}");
        }
        assert_eq!(agent.status(&id).await["status"], "pending");
        assert_eq!(world.cli(&["approve", &id]).await.code(), 0);

        // While it runs: in the keeper, which keeps it, in the code, and nowhere else.
        tokio::task::spawn_blocking(move || asked.recv_timeout(world::PATIENCE)).await.unwrap().unwrap();
        let keeper = serve.keeper_pid();
        let others = world::descendants(serve.pid()).into_iter().filter(|pid| *pid != keeper);
        let holders: Vec<u32> = others.filter(|pid| is_in_memory(*pid)).collect();
        assert_eq!(holders.len(), 1, "the code, and nothing that started it");
        assert!(!is_in_memory(serve.pid()));
        go.send(()).unwrap();
        let status = agent.finished(&id).await;
        assert_eq!(status["status"], "success", "{status}\n{}", serve.log());
        let backwards: String = CANARY.chars().rev().collect();
        assert_eq!(status["result"]["stdout"], format!("hello {backwards}\n"), "the code had the real value");
        assert_clean("the agent's reply", status.to_string().as_bytes());
        assert_eq!(api.seen()[0].header("x-length"), Some(&*CANARY.len().to_string()));
        assert!(!is_in_memory(serve.pid()));

        let rows = world.cli(&["audit", "export"]).await.stdout;
        let kind = |row: &str| serde_json::from_str::<Value>(row).unwrap()["kind"].clone();
        let kinds: Vec<Value> = rows.lines().map(kind).collect();
        let opened = kinds.iter().position(|kind| kind == "run_opened").unwrap();
        assert_eq!(kinds[opened + 1], "secret_revealed", "{kinds:?}");
        assert_eq!(agent.execute(body(code)).await.status, 202, "each request is asked for");
        assert_clean_everywhere(&world, serve).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_value_reaches_the_code_and_nobody_else() {
    let deno = installed("OAUTH3_TEST_DENO");
    let of_deno = EMBEDDED.replace("@runtime embedded", "@runtime deno");
    a_real_value_reaches(&[EMBEDDED, &of_deno, PYTHON], &format!("[runtimes]\ndeno = {deno:?}\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_value_reaches_the_code_of_the_other_executors_too() {
    if let Some((executor, section)) = docker() {
        // What a container does is not below the gateway; only what the code gets is looked at.
        one_real_value(&format!("executor = {executor:?}\n{section}")).await;
    }
    let (executor, section) = direct();
    one_real_value(&format!("executor = {executor:?}\n{section}")).await;
}

async fn one_real_value(config: &str) {
    for runtime in ["embedded", "deno"] {
        let (api, _asked, go) = api().await;
        go.send(()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (world, serve, agent) = start(&format!("{config}{}", api.egress(dir.path()))).await;
        store(&world, &["--reveal"]).await;
        let id = ask(&agent, &EMBEDDED.replace("@runtime embedded", &format!("@runtime {runtime}"))).await;
        assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
        let status = agent.finished(&id).await;
        let backwards: String = CANARY.chars().rev().collect();
        assert_eq!(status["result"]["stdout"], format!("hello {backwards}\n"), "{config} {status}\n{}", serve.log());
        assert!(!is_in_memory(serve.pid()));
        assert_clean("the agent's reply", status.to_string().as_bytes());
        assert_clean_everywhere(&world, serve).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trusted_is_what_the_owner_allowed_and_no_other_word_stands_for_it() {
    let (world, _serve, agent) = start("").await;
    let code = "// @runtime embedded\nconsole.log([...Deno.env.get('KEY')].length > 8, Deno.env.get('KEY'))";
    let approve_for_ever = async || {
        let id = ask(&agent, code).await;
        assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
        assert_eq!(agent.finished(&id).await["status"], "success");
    };
    let rotate = async |how: &[&str]| {
        let rotate = [&["secret", "rotate", "KEY", "--stdin"], how].concat();
        assert_eq!(world.cli_with(&rotate, CANARY).await.code(), 0);
    };
    store(&world, &[]).await;
    approve_for_ever().await;
    // The word for placeholders is not one for the real value.
    rotate(&["--reveal", "--reveal-trust"]).await;
    approve_for_ever().await;
    let again = agent.execute(body(code)).await;
    assert_eq!((again.status, &again.json["trusted"]), (200, &json!(true)), "{again:?}");
    let grants = world.cli(&["grants"]).await.stdout;
    assert_eq!(grants.matches("KEY (REAL VALUE)").count(), 1, "{grants}");
    // Taken back for more than once: the grant does not stand for it any more.
    rotate(&["--reveal"]).await;
    assert_eq!(agent.execute(body(code)).await.status, 202);
    rotate(&["--no-reveal"]).await;
    assert_eq!(agent.execute(body(code)).await.status, 200, "the first word still stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_shown_without_a_real_value_gets_none() {
    let (world, _serve, agent) = start("").await;
    let code = "// @runtime embedded\nconsole.log('ran')";
    store(&world, &[]).await;
    let id = ask(&agent, code).await;
    assert_eq!(world.cli_with(&["secret", "rotate", "KEY", "--reveal", "--stdin"], CANARY).await.code(), 0);
    let refused = world.cli(&["approve", &id]).await;
    assert!(refused.code() == 3 && refused.stderr.contains("REAL VALUE was changed"), "{refused:?}");
    let id = ask(&agent, code).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0, "the next one was shown as it is");
    assert_eq!(agent.finished(&id).await["status"], "success");
}
