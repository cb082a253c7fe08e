//! Code that speaks to the egress byte by byte: what gets through, and what it costs others.

use e2e::{Agent, Serve, Standin, World};
use reqwest::Method;
use serde_json::json;

pub(crate) const VALUE: &str = "sk-proj-0PzK3mWq8vT1nXs5LrYb7HdJ";

/// Both hosts, the secret bound to the first.
pub(crate) async fn start() -> (World, Serve, Agent, Standin, Standin) {
    let api = Standin::echo("api.example.com").await;
    let other = Standin::echo("other.example.com").await;
    let (world, token) = World::ready("").await;
    let (a, b) = (api.write_ca(world.home()), other.write_ca(world.home()));
    world.write_config(&format!(
        "[egress]\nresolve = {{ \"api.example.com\" = \"{}\", \"other.example.com\" = \"{}\" }}\nextra_ca = [{a:?}, {b:?}]\n",
        api.address, other.address
    ));
    world.add_secret("API_KEY", VALUE, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent, api, other)
}

pub(crate) async fn begin(world: &World, agent: &Agent, code: &str) -> String {
    let metadata = json!({ "secrets": ["API_KEY"], "network": ["api.example.com"] });
    let id = agent.submit(code, metadata).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    id
}

/// Each case is sent as it stands, over TLS to the allowed host; the statuses that come back are printed.
const RAW: &str = r#"# @runtime python
import os, socket, ssl
KEY = os.environ['API_KEY'].encode()
trust = ssl.create_default_context(cafile='/etc/ssl/certs/ca-certificates.crt')
def answers(data, name='api.example.com', via=None):
    try:
        s = socket.create_connection(('127.0.0.1', 3128) if via else (name, 443), 10)
        if via:
            s.sendall(b'CONNECT ' + via + b' HTTP/1.1\r\n\r\n')
            first = s.recv(4096)
            if b' 200 ' not in first: return first
        s = trust.wrap_socket(s, server_hostname=name)
        s.sendall(data)
        out = b''
        while True:
            more = s.recv(65536)
            if not more: return out
            out += more
    except OSError as e: return type(e).__name__.encode()
H, A, END = b'Host: api.example.com\r\n', b'Authorization: Bearer ' + KEY + b'\r\n', b'Connection: close\r\n\r\n'
O = b'Host: other.example.com\r\n'
cases = {
    'plain': b'GET /plain HTTP/1.1\r\n' + H + A + END,
    'te and cl': b'POST /tecl HTTP/1.1\r\n' + H + b'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n' + O + A + END,
    'space before colon': b'POST /space HTTP/1.1\r\n' + H + b'Transfer-Encoding : chunked\r\nContent-Length: 3\r\n' + END + b'0\r\n',
    'two lengths': b'POST /lengths HTTP/1.1\r\n' + H + b'Content-Length: 1\r\nContent-Length: 2\r\n' + END + b'ab',
    'folded': b'GET /folded HTTP/1.1\r\n' + H + b'X: a\r\n ' + O + END,
    'bare cr': b'GET /cr HTTP/1.1\r\n' + H + b'X: a\r' + O + END,
    'nul': b'GET /nul HTTP/1.1\r\n' + H + b'X: a\0b\r\n' + END,
    'two hosts': b'GET /hosts HTTP/1.1\r\n' + H + O + A + END,
    'two authorizations': b'GET /auths HTTP/1.1\r\n' + H + A + A + END,
    'absolute other': b'GET https://other.example.com/abs HTTP/1.1\r\n' + H + A + END,
    'user information': b'GET https://api.example.com@other.example.com/user HTTP/1.1\r\n' + H + A + END,
    'connect inside': b'CONNECT other.example.com:443 HTTP/1.1\r\n' + O + END,
    'upgrade': b'GET /up HTTP/1.1\r\n' + H + b'Upgrade: h2c\r\nConnection: upgrade, close\r\n\r\n',
    'pipelined': b'GET /first HTTP/1.1\r\n' + H + b'\r\nGET /second HTTP/1.1\r\n' + O + A + END,
    'trailers': b'POST /trailers HTTP/1.1\r\n' + H + b'Transfer-Encoding: chunked\r\n' + END + b'1;x="y\r\na\r\n0\r\n' + A + b'\r\n',
}
for name, data in cases.items():
    print(name, [reply[:3].decode() for reply in answers(data).split(b'HTTP/1.1 ')[1:]])
print('connect elsewhere', answers(cases['plain'], via=b'other.example.com:443')[:12])
print('connect, other name', answers(b'GET /tunnel HTTP/1.1\r\n' + O + A + END, via=b'api.example.com:443')[:12])
print('echo', answers(cases['plain']).count(KEY))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn raw_requests_reach_no_other_host_and_bring_no_value() {
    let (world, _serve, agent, api, other) = start().await;
    let id = begin(&world, &agent, RAW).await;
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status}");
    assert_eq!(
        status["result"]["stdout"].as_str().unwrap().lines().collect::<Vec<_>>(),
        [
            "plain ['200']",
            "te and cl ['200']",
            "space before colon ['400']",
            "two lengths ['400']",
            "folded ['400']",
            "bare cr ['400']",
            "nul ['400']",
            "two hosts ['400']",
            "two authorizations ['400']",
            "absolute other ['421']",
            "user information ['421']",
            "connect inside ['421']",
            "upgrade ['501']",
            "pipelined ['200', '421']",
            "trailers ['200']",
            "connect elsewhere b'HTTP/1.1 403'",
            "connect, other name b'HTTP/1.1 421'",
            "echo 1",
        ]
    );
    assert!(!status.to_string().contains(VALUE));
    assert!(other.seen().is_empty());
    let seen = api.seen();
    let targets: Vec<&str> = seen.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/plain", "/tecl", "/first", "/trailers", "/plain"]);
    assert!(seen.iter().all(|one| one.header("host") == Some("api.example.com")));
    let with_value = |one: &&e2e::Seen| one.headers.iter().any(|(_, value)| value.contains(VALUE));
    assert_eq!(seen.iter().filter(with_value).count(), 2, "only where it stood in a field of the head: {seen:?}");
}

/// Opens connections until no more are taken, says so, and holds them.
const HOLD: &str = r#"# @runtime python
# @timeout 60
import socket, time
held = []
try:
    while len(held) < 450:
        s = socket.create_connection(('127.0.0.1', 3128), 1)
        s.sendall(b'GET https://api.example.com/ HTTP/1.1\r\nHost: api.ex'); held.append(s)
except OSError: pass
s = held[0]
s.sendall(b'ample.com\r\nConnection: close\r\n\r\n'); s.recv(1)
time.sleep(600)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_one_run_holds_hold_up_no_other() {
    let (world, serve, agent, api, _other) = start().await;
    let keeper = serve.keeper_pid();
    let open = || std::fs::read_dir(format!("/proc/{keeper}/fd")).map_or(0, Iterator::count);
    let before = open();
    let greedy = begin(&world, &agent, HOLD).await;
    // Its one whole request says that it has what it can get.
    e2e::eventually("the greedy run has its connections", || !api.seen().is_empty()).await;
    assert!(open() < before + 400, "a run has a bound: {} before, {} now", before, open());

    let modest = "// @runtime embedded\nconst r = await fetch('https://api.example.com/modest'); console.log(r.status)";
    let modest = begin(&world, &agent, modest).await;
    let status = agent.finished(&modest).await;
    assert_eq!(status["result"]["stdout"], "200\n", "{status}");

    assert_eq!(agent.call(Method::DELETE, &format!("/execute/{greedy}"), None).await.status, 202);
    assert_eq!(agent.finished(&greedy).await["status"], "cancelled");
    e2e::eventually("the connections are gone with the run", || open() <= before + 4).await;
}
