//! What an agent with a token, and code that was approved, try beyond what they may: to decide, and to hand around
//! what they hold.

use crate::clients::with_packages;
use crate::runtimes::installed;
use e2e::{Agent, Certificate, Peer, Standin, World};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::{Method, Response};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixListener};

const VALUE: &str = "sk-proj-0PzK3mWq8vT1nXs5LrYb7HdJ";

async fn approve(world: &World, agent: &Agent, body: Value) -> Value {
    let reply = agent.execute(body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap();
    assert_eq!(world.cli(&["approve", id]).await.code(), 0);
    agent.finished(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_approve_what_it_asked_for() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let id = agent.submit("// @runtime embedded\nconsole.log('ran')", json!({})).await;

    // Over the agents' API: no path and no method decides.
    let verdict = json!({ "verdict": "approve", "trust": "once", "approved": true, "by": "cli" });
    for path in [
        format!("/execute/{id}"),
        format!("/execute/{id}/approve"),
        format!("/execute/{id}/status"),
        format!("/execute/{id}/verdict"),
        format!("/approve/{id}"),
        format!("/approvals/{id}"),
        format!("/requests/{id}/approve"),
        "/owner/verdict".to_owned(),
        "/verdict".to_owned(),
        "/secrets".to_owned(),
        "/grants".to_owned(),
        "/kill-switch".to_owned(),
    ] {
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            let reply = agent.call(method.clone(), &path, Some(verdict.clone())).await;
            assert!([401, 404, 405].contains(&reply.status), "{method} {path}: {reply:?}");
        }
    }
    // In a request for itself.
    for (key, value) in [
        ("approved", json!(true)),
        ("trust", json!("forever")),
        ("decided_by", json!("cli")),
        ("agent", json!("owner")),
    ] {
        let mut body = json!({ "skill_id": "s", "code": "1" });
        body[key] = value;
        assert_eq!(agent.execute(body).await.status, 400, "{key}");
    }

    // From its code, with everything that an agent knows, and more: where the gateway is and its sockets are.
    let code = r#"# @runtime python
import glob, os, socket
token, port, request, home = (os.environ['ARG_' + name] for name in ['token', 'port', 'request', 'home'])
def attempt(what, f):
    try: print(what, 'GOT', f())
    except OSError as e: print(what, 'refused')
def http():
    s = socket.create_connection(('127.0.0.1', int(port)), 3)
    s.sendall(f'POST /execute/{request}/approve HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n'.encode())
    return s.recv(100)
attempt('http', http)
for name in ['owner.sock', 'keeper.sock', 'oauth3.db']:
    s = socket.socket(socket.AF_UNIX)
    attempt(name, lambda: s.connect(f'{home}/{name}'))
"#;
    let port = serve.base.rsplit(':').next().unwrap().to_owned();
    let home = world.home().display().to_string();
    let args = json!({ "token": token, "port": port, "request": id, "home": home });
    let status = approve(&world, &agent, json!({ "skill_id": "inside", "code": code, "args": args })).await;
    let expected = "http refused\nowner.sock refused\nkeeper.sock refused\noauth3.db refused\n";
    assert_eq!(status["result"]["stdout"], expected, "{status}");
    assert_eq!(agent.status(&id).await["status"], "pending");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    let approved = audit.lines().filter(|row| row.contains("\"approved\"")).collect::<Vec<_>>();
    assert!(approved.len() == 1 && approved[0].contains("\"cli\""), "{approved:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_pass_neither_into_a_sandbox_nor_out_of_it() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    // Somebody outside who would give or take any descriptor: by a name, and by a file that all may use.
    let name = format!("oauth3-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
    let folder = tempfile::Builder::new().prefix("oauth3-door").tempdir_in("/tmp").unwrap();
    let path = folder.path().join("door.sock");
    let listener = UnixListener::bind(&path).unwrap();
    for open in [folder.path(), &path] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let code = r#"# @runtime python
import os, socket
name, path = os.environ['ARG_name'], os.environ['ARG_path']
def attempt(what, f):
    try: print(what, 'GOT', f())
    except OSError as e: print(what, 'refused')
# Nothing that was left open is a socket over which something could come.
left_open = [number for number in range(64) if os.path.exists(f'/proc/self/fd/{number}')]
for number in left_open:
    try: print('GOT', number, socket.recv_fds(socket.socket(fileno=os.dup(number)), 1, 4, socket.MSG_DONTWAIT))
    except OSError: pass
print('open', left_open)
# What is tried works where it may: between the code's own processes.
a, b = socket.socketpair()
socket.send_fds(a, [b'x'], [0])
print('own', len(socket.recv_fds(b, 1, 4)[1]))
def out(kind, where):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect(where)
    return socket.send_fds(s, [b'x'], [0, 1, 2])
attempt('abstract', lambda: out(socket.SOCK_DGRAM, '\0' + name))
attempt('file', lambda: out(socket.SOCK_STREAM, path))
"#;
    let args = json!({ "name": name, "path": path.display().to_string() });
    let status = approve(&world, &agent, json!({ "skill_id": "s", "code": code, "args": args })).await;
    let out = status["result"]["stdout"].as_str().unwrap_or_else(|| panic!("{status}"));
    assert_eq!(out, "open [0, 1, 2]\nown 1\nabstract refused\nfile refused\n", "{status}");
    for socket in [listener.set_nonblocking(true), abstract_one.set_nonblocking(true)] {
        socket.unwrap();
    }
    assert!(listener.accept().is_err() && abstract_one.recv(&mut [0]).is_err(), "nobody came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_unpacks_without_end_uses_up_the_runs_bytes_and_not_the_keepers_memory() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b'x'; 64 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 100 << 10, "small on the wire");
    let api = Standin::start("api.example.com", move |_| {
        Response::builder().header("content-encoding", "gzip").body(bomb.clone().into()).unwrap()
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    world.add_secret("API_KEY", VALUE, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let keeper = serve.keeper_pid();
    let peak = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak();
    let code = "// @runtime embedded\nlet cut = 0;\nfor (let i = 0; i < 20; i++) { try { await (await fetch('https://api.example.com/')).text() } catch { cut++ } }\nconsole.log(cut); throw new Error('enough')";
    let metadata = json!({ "secrets": ["API_KEY"], "network": ["api.example.com"], "limits": { "egress_mb": 4 } });
    let status = approve(&world, &agent, json!({ "skill_id": "s", "code": code, "metadata": metadata })).await;
    assert!(status["error"].as_str().unwrap().contains("4 MB (limit egress_mb)"), "{status}");
    // After the first, there is nothing left to ask with.
    assert!(api.seen().len() <= 2, "{}", api.seen().len());
    let usage = world.cli(&["requests", "--all", "--json"]).await.json()["requests"][0]["result"]["usage"].clone();
    let received = usage["egress_received_bytes"].as_u64().unwrap();
    assert!(received <= (4 << 20) + (512 << 10), "what the code got is what counts: {usage}");
    let grown = peak() - before;
    assert!(grown < 48 << 10, "the keeper grew by {grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_grant_ends_the_websocket_of_its_run() {
    let (world, token) = World::ready("").await;
    let certificate = Certificate::new(&["api.example.com"]);
    let peer = Peer::start(&installed("OAUTH3_TEST_CLIENTS"), "websocket_server.py", &certificate, world.home()).await;
    world.write_config(&certificate.egress(world.home(), peer.address));
    world.add_secret("API_KEY", VALUE, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    // With an argument it stays, and says something again and again.
    let code = with_packages(
        &["websockets"],
        "import time\nfrom websockets.sync.client import connect\nwith connect('wss://api.example.com/', additional_headers={'Authorization': KEY}) as ws:\n  ws.send('opened')\n  while 'ARG_stay' in os.environ: ws.send('still here'); time.sleep(0.05)",
    );
    let metadata =
        json!({ "secrets": ["API_KEY"], "network": ["api.example.com"], "runtime": "python", "timeout": 100 });
    let body = json!({ "skill_id": "s", "code": code, "metadata": metadata });
    let id = agent.execute(body.clone()).await.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
    let mut stay = body.clone();
    stay["args"] = json!({ "stay": "1" });
    let running = tokio::spawn({
        let agent = agent.clone();
        async move { agent.execute(stay).await }
    });
    let said = |what: &str| peer.lines().iter().filter(|line| line.contains(what)).count();
    e2e::eventually("its WebSocket is open and used", || said("still here") > 2).await;
    let grant = world.cli(&["grants", "--json"]).await.json()["grants"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["grants", "revoke", &grant]).await.code(), 0);
    // When the command returns, the run has ended, and with it the connection.
    let reply = running.await.unwrap();
    assert_eq!(reply.json["status"], "failed", "{reply:?}");
    e2e::eventually("the server sees its end", || said("closed") == 2).await;
    let after = said("still here");
    assert_eq!(agent.execute(body).await.status, 202, "asks again");
    assert_eq!(said("still here"), after, "nothing more was said");
}
