//! Clients as people use them, in the sandbox, before servers of somebody else's making: each is contained, and each
//! works, with the proxy variables and without.

use crate::runtimes::installed;
use e2e::{Agent, Certificate, Peer, Serve, Standin, World};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const KEY: &str = "sk-proj-5kQ2wE8rT1yU7iO3pA9sD4fG6hJ0zX";

struct Bench {
    world: World,
    serve: Serve,
    agent: Agent,
    peer: Peer,
}

/// `api.example.com` is Node's own server, or the one of Python's `websockets`; the secret is bound to it, and
/// `second.example.com`, of the same server and certificate, is allowed beside it.
async fn start(websocket: bool) -> Bench {
    let (world, token) = World::ready("").await;
    let certificate = Certificate::new(&["api.example.com", "second.example.com"]);
    let (program, script) = if websocket {
        (installed("OAUTH3_TEST_CLIENTS"), "websocket_server.py")
    } else {
        (installed("OAUTH3_TEST_NODE"), "web_server.mjs")
    };
    let peer = Peer::start(&program, script, &certificate, world.home()).await;
    let (deno, node) = (installed("OAUTH3_TEST_DENO"), installed("OAUTH3_TEST_NODE"));
    let egress = certificate.egress(world.home(), peer.address);
    world.write_config(&format!("{egress}[runtimes]\ndeno = {deno:?}\nnode = {node:?}\n"));
    world.add_secret("API_KEY", KEY, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    Bench { world, serve, agent, peer }
}

impl Bench {
    /// Runs code to its good end and gives what it printed, a line each.
    async fn run(&self, runtime: &str, code: &str) -> Vec<String> {
        let hosts = ["api.example.com", "second.example.com"];
        let metadata = json!({ "secrets": ["API_KEY"], "network": hosts, "runtime": runtime, "timeout": 60 });
        let id = self.agent.submit(code, metadata).await;
        assert_eq!(self.world.cli(&["approve", &id]).await.code(), 0);
        let status = self.agent.finished(&id).await;
        assert_eq!(status["status"], "success", "{status}\n{}", self.serve.log());
        assert!(!status.to_string().contains(KEY), "{status}");
        status["result"]["stdout"].as_str().unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How many requests arrived with the real value.
    fn filled(&self) -> usize {
        let bearer = format!("Bearer {KEY}");
        let seen = self.peer.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        seen.filter(|one| one["authorization"] == *bearer).count()
    }
}

/// Code that unpacks installed Python packages and goes on with `code`.
pub(crate) fn with_packages(modules: &[&str], code: &str) -> String {
    let code = format!(
        "KEY = os.environ['API_KEY']\n\
         def unset():\n  for name in [n for n in os.environ if n.lower().endswith('_proxy')]: del os.environ[name]\n{code}"
    );
    with_packages_of("OAUTH3_TEST_CLIENTS", modules, &code)
}

/// The same with packages of the Python that this variable names.
pub(crate) fn with_packages_of(python: &str, modules: &[&str], code: &str) -> String {
    let pack = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/pack.py");
    let packed = Command::new(installed(python)).arg(pack).args(modules).output().unwrap();
    assert!(packed.status.success(), "{packed:?}");
    let packed = String::from_utf8(packed.stdout).unwrap();
    format!(
        "import base64, io, lzma, os, sys, tarfile\n\
         tarfile.open(fileobj=io.BytesIO(lzma.decompress(base64.b85decode('{packed}')))).extractall('/tmp/packages')\n\
         sys.path.insert(0, '/tmp/packages')\n{code}"
    )
}

const URLLIB_AND_CURL: &str = r"
import json, os, subprocess, urllib.request
KEY = os.environ['API_KEY']
URL = 'https://api.example.com/echo'
def good(text): return json.loads(text)['authorization'] == 'Bearer ' + KEY
def unset():
  for name in [n for n in os.environ if n.lower().endswith('_proxy')]: del os.environ[name]
def curl(*args):
    done = subprocess.run(['curl', '-sS', '-H', 'Authorization: Bearer ' + KEY, '-w', '\n%{http_version} %{http_code}', *args], capture_output=True, text=True)
    body, _, last = done.stdout.rpartition('\n')
    return body, last, done.returncode
for turn in ['proxy', 'direct']:
    request = urllib.request.Request(URL, headers={'Authorization': 'Bearer ' + KEY})
    print(turn, 'urllib', good(urllib.request.urlopen(request).read()))
    for version in ['--http1.1', '--http2']:
        body, last, _ = curl(version, URL)
        print(turn, 'curl', last, good(body))
    _, last, code = curl('https://other.example.com/'); print(turn, 'not allowed', last, code != 0 or last.endswith('403'))
    _, last, code = curl('https://second.example.com/echo'); print(turn, 'not bound', last)
    _, last, code = curl('https://api.example.com:8443/'); print(turn, 'port', code != 0)
    _, last, code = curl('-k', 'https://192.0.2.1/'); print(turn, 'address', code != 0)
    _, last, code = curl('-k', '--connect-to', 'other.example.com:443:api.example.com:443', 'https://other.example.com/'); print(turn, 'foreign SNI', code != 0 or last.endswith('403'))
    _, last, code = curl('-H', 'Host: other.example.com', URL); print(turn, 'foreign Host', last)
    _, last, code = curl('http://api.example.com/'); print(turn, 'plain', last)
    unset()
";

#[tokio::test(flavor = "multi_thread")]
async fn urllib_and_curl_work_and_are_contained() {
    let bench = start(false).await;
    let turn = |turn: &str| {
        [
            "urllib True",
            "curl 1.1 200 True",
            "curl 2 200 True",
            "not allowed 0 000 True",
            "not bound 2 403",
            "port True",
            "address True",
            "foreign SNI 0 000 True",
            "foreign Host 2 421",
            "plain 1.1 403",
        ]
        .map(|line| format!("{turn} {line}"))
    };
    let mut got = bench.run("python", URLLIB_AND_CURL).await;
    // Whether a name that is not allowed fails before the answer or by it depends on who looks it up.
    for line in &mut got {
        for part in ["not allowed", "foreign SNI"] {
            if line.contains(part) && line.ends_with("True") {
                *line = format!("{} {part} 0 000 True", line.split(' ').next().unwrap());
            }
        }
    }
    assert_eq!(got, [turn("proxy"), turn("direct")].concat());
    assert_eq!(bench.filled(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_requests_and_httpx_work_with_and_without_the_proxy() {
    let bench = start(false).await;
    let requests = "
import requests
for turn in ['proxy', 'direct']:
    r = requests.get('https://api.example.com/echo', headers={'Authorization': 'Bearer ' + KEY})
    print(turn, r.status_code, r.json()['authorization'] == 'Bearer ' + KEY)
    r = requests.post('https://second.example.com/echo', data='x' * 100000 + KEY)
    print(turn, r.status_code)
    unset()
";
    let code = with_packages(&["requests", "urllib3", "idna", "charset_normalizer", "certifi"], requests);
    assert_eq!(bench.run("python", &code).await, ["proxy 200 True", "proxy 403", "direct 200 True", "direct 403"]);
    let httpx = "
import httpx, ssl
trust = ssl.create_default_context(cafile='/etc/ssl/certs/ca-certificates.crt')
for turn in ['proxy', 'direct']:
    with httpx.Client(http2=True, verify=trust) as client:
        for _ in range(3):
            r = client.get('https://api.example.com/echo', headers={'Authorization': 'Bearer ' + KEY})
        print(turn, r.http_version, r.status_code, r.json()['authorization'] == 'Bearer ' + KEY)
        print(turn, client.post('https://second.example.com/echo', content=('x' * 100000 + KEY).encode()).status_code)
    unset()
";
    let modules =
        ["httpx", "httpcore", "h11", "h2", "hpack", "hyperframe", "anyio", "idna", "certifi", "typing_extensions"];
    let code = with_packages(&modules, httpx);
    let expected = ["proxy HTTP/2 200 True", "proxy 403", "direct HTTP/2 200 True", "direct 403"];
    assert_eq!(bench.run("python", &code).await, expected);
    assert_eq!(bench.filled(), 2 + 6);
}

const AXIOS: &str = "
const axios = require('axios');
const Authorization = `Bearer ${process.env.API_KEY}`;
(async () => {
  for (const proxy of [undefined, false]) {
    for (const adapter of ['http', 'fetch']) {
      const get = (url) => axios.get(url, { headers: { Authorization }, proxy, adapter, validateStatus: () => true });
      const r = await get('https://api.example.com/echo');
      console.log(adapter, r.status, r.data.authorization === Authorization);
      console.log(adapter, (await get('https://second.example.com/echo')).status);
      console.log(adapter, await get('https://other.example.com/').then((r) => r.status, () => 403));
    }
  }
})();
";

const FETCH: &str = "
const key = globalThis.Deno ? Deno.env.get('API_KEY') : process.env.API_KEY;
const headers = { Authorization: `Bearer ${key}` };
const r = await fetch('https://api.example.com/echo', { headers });
console.log(r.status, (await r.json()).authorization === headers.Authorization);
console.log((await fetch('https://second.example.com/echo', { headers })).status);
for (const url of ['https://other.example.com/', 'https://api.example.com:8443/', 'https://192.0.2.1/', 'http://api.example.com/']) {
  console.log(await fetch(url).then((r) => r.status === 403, () => true));
}
const events = (await fetch('https://api.example.com/events', { headers })).body.pipeThrough(new TextDecoderStream()).getReader();
let text = '';
while (!text.includes('\\n\\n')) text += (await events.read()).value;
console.log(text === `data: ${headers.Authorization}\\n\\n`);
await (await fetch('https://api.example.com/go')).text();
for (let next; !(next = await events.read()).done;) text += next.value;
console.log(text.endsWith('data: two\\n\\n'));
";

#[tokio::test(flavor = "multi_thread")]
async fn fetch_and_axios_work_and_are_contained() {
    let bench = start(false).await;
    for runtime in ["node", "deno"] {
        let got = bench.run(runtime, FETCH).await;
        assert_eq!(got, ["200 true", "403", "true", "true", "true", "true", "true", "true"], "{runtime}");
    }
    let folder = installed("OAUTH3_TEST_AXIOS");
    let mut esbuild = Command::new(folder.join("node_modules/.bin/esbuild"))
        .args(["--bundle", "--platform=node", "--format=cjs", "--minify-syntax", "--log-level=error"])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    esbuild.stdin.take().unwrap().write_all(AXIOS.as_bytes()).unwrap();
    let bundle = esbuild.wait_with_output().unwrap();
    assert!(bundle.status.success(), "{bundle:?}");
    let got = bench.run("node", &String::from_utf8(bundle.stdout).unwrap()).await;
    let each = |adapter: &str| [" 200 true", " 403", " 403"].map(|end| format!("{adapter}{end}"));
    let turn = [each("http"), each("fetch")].concat();
    assert_eq!(got, [&turn[..], &turn[..]].concat());
    assert_eq!(bench.filled(), 2 * 2 + 4);
}

const GIT: &str = r"
import os, subprocess
KEY = os.environ['API_KEY']
def git(*args):
    done = subprocess.run(['git', *args], capture_output=True, text=True, env={**os.environ, 'GIT_TERMINAL_PROMPT': '0'})
    return done.returncode == 0
def unset():
  for name in [n for n in os.environ if n.lower().endswith('_proxy')]: del os.environ[name]
for turn in ['proxy', 'direct']:
    print(turn, git('clone', '-q', f'https://x-access-token:{KEY}@git.example.com/repo.git', f'/tmp/{turn}'), open(f'/tmp/{turn}/README').read().strip())
    print(turn, git('-c', f'http.extraHeader=Authorization: Bearer {KEY}', 'clone', '-q', 'https://git.example.com/repo.git', f'/tmp/{turn}2'))
    print(turn, git('clone', '-q', 'https://git.example.com/repo.git', f'/tmp/{turn}3'), git('clone', '-q', 'https://other.example.com/repo.git', f'/tmp/{turn}4'))
    unset()
open('/tmp/proxy/README', 'a').write('more\n')
author = ['-c', 'user.name=a', '-c', 'user.email=a@example.com']
print(git('-C', '/tmp/proxy', *author, 'commit', '-qam', 'more'), git('-C', '/tmp/proxy', 'push', '-q'))
";

/// Git's own server program behind HTTPS, for whoever has the token.
fn git_server(root: &Path, seen: &e2e::Seen) -> Response<Full<Bytes>> {
    use data_encoding::BASE64;
    let basic = format!("Basic {}", BASE64.encode(format!("x-access-token:{KEY}").as_bytes()));
    let given = seen.header("authorization").unwrap_or_default();
    if given != basic && given != format!("Bearer {KEY}") {
        let refused = Response::builder().status(401).header("www-authenticate", "Basic realm=\"git\"");
        return refused.body(Full::default()).unwrap();
    }
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", &seen.method);
    backend.env("CONTENT_TYPE", seen.header("content-type").unwrap_or_default()).env("REMOTE_USER", "x");
    backend.env("GIT_PROTOCOL", seen.header("git-protocol").unwrap_or_default());
    backend.env("HTTP_CONTENT_ENCODING", seen.header("content-encoding").unwrap_or_default());
    backend.env("CONTENT_LENGTH", seen.body.len().to_string());
    let mut child = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = seen.body.clone();
    let writing = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output().unwrap().stdout;
    writing.join().unwrap();
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut reply = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        reply = if name == "Status" { reply.status(&value[..3]) } else { reply.header(name, value) };
    }
    reply.body(Full::from(output[end + 4..].to_vec())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_and_pushes_over_https() {
    let (world, token) = World::ready("").await;
    let root = world.home().join("git");
    let git = |args: &[&str]| {
        let done = Command::new("git").current_dir(&root).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    std::fs::create_dir(&root).unwrap();
    git(&["init", "-q", "--bare", "-b", "main", "repo.git"]);
    git(&["-C", "repo.git", "config", "http.receivepack", "true"]);
    git(&["clone", "-q", "repo.git", "work"]);
    std::fs::write(root.join("work/README"), "hello\n").unwrap();
    // More than a window, so that it comes in many pieces.
    let noise: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(root.join("work/noise"), noise).unwrap();
    git(&["-C", "work", "add", "."]);
    git(&["-C", "work", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "first"]);
    git(&["-C", "work", "push", "-q", "origin", "HEAD:main"]);

    let served = root.clone();
    let standin = Standin::start("git.example.com", move |seen| git_server(&served, seen)).await;
    world.write_config(&standin.egress(world.home()));
    world.add_secret("API_KEY", KEY, &["git.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let metadata =
        json!({ "secrets": ["API_KEY"], "network": ["git.example.com"], "runtime": "python", "timeout": 60 });
    let id = agent.submit(GIT, metadata).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    let turn = |turn: &str| format!("{turn} True hello\n{turn} True\n{turn} False False\n");
    let expected = format!("{}{}True True\n", turn("proxy"), turn("direct"));
    assert_eq!(status["result"]["stdout"], expected, "{status}\n{}", serve.log());
    assert_eq!(git(&["-C", "repo.git", "show", "main:README"]), "hello\nmore\n", "the push arrived");
}

const SOCKET: &str = "
const key = globalThis.Deno ? Deno.env.get('API_KEY') : process.env.API_KEY;
const open = (url) => new Promise((resolve) => {
  const socket = new WebSocket(url, ['realtime', key]);
  socket.binaryType = 'arraybuffer';
  const got = [];
  socket.onopen = () => socket.send('from the code: ' + key);
  socket.onmessage = ({ data }) => {
    got.push(typeof data === 'string' ? data : atob(new TextDecoder().decode(data)));
    if (got.length === 4) { resolve([socket.protocol, ...got]); socket.close(); }
  };
  socket.onerror = () => resolve(['error']);
});
const [protocol, plain, parts, encoded, back] = await open('wss://api.example.com/');
console.log(protocol, plain === key, parts === `in ${key} parts`, encoded === key, back === 'from the code: ' + key);
console.log(...await open('wss://other.example.com/').catch(() => ['error']));
console.log(...await open('wss://second.example.com/'));
";

const PYTHON_SOCKET: &str = "
import base64, asyncio
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed, InvalidProxyStatus, InvalidStatus
for turn in ['proxy', 'direct']:
    with connect('wss://api.example.com/', additional_headers={'Authorization': KEY}, max_size=None) as ws:
        print(turn, ws.recv() == KEY, ws.recv() == f'in {KEY} parts', base64.b64decode(ws.recv()).decode() == KEY)
        for length in [0, 1, 70000, 3000000]:
            ws.send(b'x' * length)
            assert ws.recv() == b'x' * length
        ws.send(('part', ' by ', 'part'))
        print(turn, ws.recv(), ws.ping().wait(10))
    for host in ['other.example.com', 'second.example.com']:
        try: connect(f'wss://{host}/', additional_headers={'Authorization': KEY}); print('opened')
        except (InvalidStatus, InvalidProxyStatus) as e: print(turn, host, e.response.status_code)
        except OSError: print(turn, host, 403)
    with connect('wss://second.example.com/') as ws:
        for _ in range(3): ws.recv()
        ws.send('innocent')
        print(turn, ws.recv())
        try:
            # The answer may come before the empty frame that ends the message has left.
            ws.send((KEY[:7], KEY[7:]))
            print(ws.recv())
        except ConnectionClosed as e: print(turn, e.rcvd.code)
    unset()
";

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_node_deno_and_python_work_and_are_contained() {
    let bench = start(true).await;
    for runtime in ["node", "deno"] {
        let got = bench.run(runtime, SOCKET).await;
        assert_eq!(got, ["realtime true true true true", "error", "error"], "{runtime}");
    }
    let code = with_packages(&["websockets"], PYTHON_SOCKET);
    let turn = |turn: &str| {
        ["True True True", "part by part True", "other.example.com 403", "second.example.com 403", "innocent", "1008"]
            .map(|line| format!("{turn} {line}"))
    };
    assert_eq!(bench.run("python", &code).await, [turn("proxy"), turn("direct")].concat());
    let seen = bench.peer.lines();
    let given = json!({ "given": KEY, "extensions": null });
    let is_given = |line: &&String| serde_json::from_str::<Value>(line).is_ok_and(|one| one == given);
    assert_eq!(seen.iter().filter(is_given).count(), 4, "the value, and no compression: {seen:?}");
    let audit = bench.world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.lines().any(|line| line.contains("second.example.com") && line.contains("not bound")), "{audit}");
}

/// What the keeper's memory may grow by while bodies of [`BIG_BYTES`] pass: far less than one of them.
const MAX_GROWTH_KIB: u64 = 64 << 10;
const BIG_BYTES: u64 = 200 << 20;

const BIG: &str = r#"
import os, subprocess
VERSION, BYTES = os.environ['ARG_VERSION'], os.environ['ARG_BYTES']
def shell(line): print(subprocess.run(line, shell=True, capture_output=True, text=True).stdout.strip())
shell(f'curl -sS {VERSION} -o /dev/null -w "%{{http_version}} %{{size_download}}" "https://api.example.com/down?bytes={BYTES}"')
shell(f'head -c {BYTES} /dev/zero | curl -sS {VERSION} -T - https://api.example.com/up')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn big_bodies_pass_through_the_keeper_without_staying_there() {
    let bench = start(false).await;
    let keeper = bench.serve.keeper_pid();
    let peak = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak();
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let body = json!({ "skill_id": "big", "code": BIG, "args": { "VERSION": flag, "BYTES": BIG_BYTES.to_string() },
            "metadata": { "network": ["api.example.com"], "runtime": "python", "timeout": 240 } });
        let reply = bench.agent.execute(body).await;
        let id = reply.json["request_id"].as_str().unwrap_or_else(|| panic!("{reply:?}"));
        assert_eq!(bench.world.cli(&["approve", id]).await.code(), 0);
        let mut status = bench.agent.status(id).await;
        while status["status"] == "executing" || status["status"] == "approved" {
            status = bench.agent.call(reqwest::Method::GET, &format!("/execute/{id}/status?wait=20"), None).await.json;
        }
        let stdout = status["result"]["stdout"].as_str().unwrap_or_else(|| panic!("{status}"));
        let (down, up) = stdout.split_once('\n').unwrap();
        assert_eq!(down, format!("{version} {BIG_BYTES}"), "{status}");
        assert!(up.contains(&format!("\"bytes\":{BIG_BYTES}")), "{status}");
    }
    let grown = peak() - before;
    assert!(grown < MAX_GROWTH_KIB, "the keeper grew by {grown} KiB");
}
