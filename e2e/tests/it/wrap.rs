//! `oauth3 wrap`: a program whose network leads to the proxy and to the gateway, and nowhere else.

use crate::executors::{NOBODY, give, unprivileged};
use crate::proxy::{KEY, completion, grant, openai};
use e2e::{Done, Serve, World, world};
use std::os::linux::fs::MetadataExt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// `oauth3 wrap` with these words after it.
fn wrapped(world: &World, serve: &Serve, words: &[&str]) -> Command {
    let wrap = ["wrap", "--proxy-url", &serve.proxy, "--url", &serve.base];
    let mut command = world.command(&[&wrap, words].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn done(child: Child) -> Done {
    let output = timeout(world::PATIENCE, child.wait_with_output()).await.expect("ends in time").unwrap();
    Done {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn run(world: &World, serve: &Serve, words: &[&str]) -> Done {
    done(wrapped(world, serve, words).spawn().unwrap()).await
}

/// A gateway with a key of OpenAI's, granted; the token is where `wrap` looks for it.
async fn ready() -> (World, e2e::Standin, Serve, String) {
    let (mut world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    world.set("OAUTH3_TOKEN", &token);
    let serve = world.serve().await;
    (world, api, serve, token)
}

const CHAT: &str = "curl -sS https://api.openai.com/v1/chat/completions -H \"Authorization: Bearer $OPENAI_API_KEY\" \
    -H 'content-type: application/json' -d '{\"model\":\"gpt-4o\"}'";

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_program_reaches_the_apis_and_cannot_go_around() {
    let (world, api, serve, token) = ready().await;
    let came = run(&world, &serve, &["--", "sh", "-c", CHAT]).await;
    assert!(came.code() == 0 && came.stdout.contains("hello"), "{came:?}");
    assert_eq!(api.seen()[0].header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert!(!format!("{:?}", api.seen()).contains(&token));
    let came = run(&world, &serve, &["curl", "-sS", &format!("{}/health", "http://127.0.0.1:3737")]).await;
    assert!(came.stdout.contains("\"status\""), "the gateway is there: {came:?}");

    // Past the proxy: this machine's loopback, a name, an address, a resolver, an abstract socket.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let name = format!("oauth3-test-{}", std::process::id());
    let abstract_socket = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&abstract_socket).unwrap();
    let python = "import socket, sys\nport, name = int(sys.argv[1]), sys.argv[2]\n\
        def tried(what, family, kind, address):\n  try:\n    s = socket.socket(family, kind); s.settimeout(5); s.connect(address)\n    \
        if kind == socket.SOCK_DGRAM: s.send(b'x')\n    print(what, 'REACHED')\n  except OSError: print(what, 'refused')\n\
        i, u = socket.AF_INET, socket.AF_UNIX\n\
        tried('loopback', i, socket.SOCK_STREAM, ('127.0.0.1', port))\n\
        tried('address', i, socket.SOCK_STREAM, ('192.0.2.1', 443))\n\
        tried('six', socket.AF_INET6, socket.SOCK_STREAM, ('2001:db8::1', 443))\n\
        tried('datagram', i, socket.SOCK_DGRAM, ('192.0.2.1', 53))\n\
        tried('abstract', u, socket.SOCK_STREAM, '\\0' + name)\n\
        for what, kind in (('raw', socket.SOCK_RAW),):\n  try: socket.socket(i, kind, 1); print(what, 'REACHED')\n  except OSError: print(what, 'refused')\n";
    let came = run(&world, &serve, &["--", "python3", "-c", python, &port, &name]).await;
    let expected =
        ["loopback", "address", "six", "datagram", "abstract", "raw"].map(|what| format!("{what} refused\n"));
    assert_eq!(came.stdout, expected.concat(), "{came:?}");
    // The same from outside, so that the test can fail.
    let outside = Command::new("python3").args(["-c", python, &port, &name]).output().await.unwrap();
    let outside = String::from_utf8_lossy(&outside.stdout).into_owned();
    assert!(outside.contains("loopback REACHED") && outside.contains("abstract REACHED"), "{outside}");
    let direct = "curl -sS --noproxy '*' https://api.openai.com/v1/models || echo refused";
    assert_eq!(run(&world, &serve, &["sh", "-c", direct]).await.stdout, "refused\n");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_program_has_no_rights_to_undo_it_and_no_key_to_read() {
    let (world, _api, serve, _token) = ready().await;
    let look = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; ls -A \"$OAUTH3_HOME\" | wc -l; \
        cat master.key 2>/dev/null; for way in 'umount -l \"$OAUTH3_HOME\"' 'nsenter -t $PPID -n true' \
        'unshare -Ur umount \"$OAUTH3_HOME\"' \"cat /proc/$PPID/root$OAUTH3_HOME/master.key\" '\"$OAUTH3\" grants'; do \
        eval \"$way\" >/dev/null 2>&1 && echo \"DID $way\"; done; echo end";
    let mut command = wrapped(&world, &serve, &["--", "sh", "-c", look]);
    // What is open of the directory must not lead past what hides it.
    command.current_dir(world.home()).env("OAUTH3", world::binary());
    let came = done(command.spawn().unwrap()).await;
    let none = "0000000000000000";
    assert_eq!(came.stdout, format!("CapEff:\t{none}\nCapBnd:\t{none}\nNoNewPrivs:\t1\n0\nend\n"), "{came:?}");
}

/// Whom an agent runs as that is not to have the owner's files.
const ANOTHER: u32 = 65_533;

/// As root, this becomes two ordinary users; elsewhere whoever runs it is one already, and cannot become another.
#[tokio::test(flavor = "multi_thread")]
async fn ordinary_users_wrap_programs_whether_the_gateway_is_theirs_or_not() {
    let (mut world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    world.set("OAUTH3_TOKEN", &token);
    let is_root = std::fs::metadata("/proc/self").unwrap().st_uid() == 0;
    if is_root {
        give(world.home(), NOBODY);
        world.run_by(unprivileged(NOBODY));
    }
    let serve = world.serve().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let look = format!(
        "id -u; {CHAT} | grep -c hello; curl -sS http://127.0.0.1:3737/health | grep -c status; \
         curl -s --noproxy '*' http://127.0.0.1:{0} || echo refused; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; \
         for way in 'umount -l \"$HOME\"' 'nsenter -t $PPID -n true' 'nsenter -t {1} -U true' \
         'cat {2}/master.key' 'cat /proc/{1}/root{2}/master.key' 'cat /proc/{1}/environ' 'cat /proc/$PPID/environ'; do \
         eval \"$way\" >/dev/null 2>&1 && echo \"DID $way\"; done; echo end",
        listener.local_addr().unwrap().port(),
        serve.pid(),
        world.home().display(),
    );
    let none = "0000000000000000";
    let expected =
        |user: u32| format!("{user}\n1\n1\nrefused\nCapEff:\t{none}\nCapBnd:\t{none}\nNoNewPrivs:\t1\nend\n");
    let came = run(&world, &serve, &["--", "sh", "-c", &look]).await;
    let owner = std::fs::metadata(world.home()).unwrap().st_uid();
    assert_eq!(came.stdout, expected(owner), "{came:?}");
    if is_root {
        let home = tempfile::tempdir().unwrap();
        give(home.path(), ANOTHER);
        let mut command = Command::new("setpriv");
        command.args(&unprivileged(ANOTHER)[1..]).arg(world::binary());
        command.args(["wrap", "--proxy-url", &serve.proxy, "--url", &serve.base, "--", "sh", "-c", &look]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home.path()).env("OAUTH3_TOKEN", &token).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let came = done(command.spawn().unwrap()).await;
        assert_eq!(came.stdout, expected(ANOTHER), "{came:?}");
        assert_eq!(api.seen().len(), 2);
    }
    assert!(!format!("{:?}", api.seen()).contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_signals_and_the_exit_code_pass_through() {
    let (world, _api, serve, _token) = ready().await;
    assert_eq!(run(&world, &serve, &["--", "sh", "-c", "exit 7"]).await.code(), 7);
    let missing = run(&world, &serve, &["--", "no-such-program"]).await;
    assert!(missing.code() == 127 && missing.stderr.contains("cannot be started"), "{missing:?}");
    assert_eq!(run(&world, &serve, &["--", "/"]).await.code(), 126);
    assert_eq!(run(&world, &serve, &["--", "sh", "-c", "kill -KILL $$"]).await.code(), 128 + 9);
    let mut cat = wrapped(&world, &serve, &["cat"]).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"through and through").await.unwrap();
    assert_eq!(done(cat).await.stdout, "through and through");
    for (signal, code) in [("TERM", 41), ("INT", 42), ("HUP", 43), ("USR1", 44)] {
        let script = format!("trap 'exit {code}' {signal}; echo ready; while :; do sleep 0.05; done");
        let mut child = wrapped(&world, &serve, &["--", "sh", "-c", &script]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(timeout(world::PATIENCE, lines.next_line()).await.unwrap().unwrap().as_deref(), Some("ready"));
        world::signal(child.id().unwrap(), signal).await;
        assert_eq!(done(child).await.code(), code, "{signal}");
    }
    // Nothing is left of the certificates.
    let temporary = world.home().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = wrapped(&world, &serve, &["true"]);
    command.env("TMPDIR", &temporary);
    assert_eq!(done(command.spawn().unwrap()).await.code(), 0);
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_it_says_so_and_runs_nothing() {
    let (mut world, _api, serve, _token) = ready().await;
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let starter = ["unshare", "-Ur", "sh", "-c", forbid, "sh"].map(str::to_owned);
    world.run_by(starter.into());
    let came = run(&world, &serve, &["echo", "RAN"]).await;
    assert_eq!((came.code(), came.stdout.as_str()), (1, ""), "{came:?}");
    assert!(came.stderr.contains("max_user_namespaces") && came.stderr.contains("--variables-only"), "{came:?}");
    let doctor: serde_json::Value = serde_json::from_str(&world.cli(&["doctor", "--json"]).await.stdout).unwrap();
    let line = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "wrap").unwrap();
    assert!(line["ok"] == false && line["detail"].as_str().unwrap().contains("max_user_namespaces"), "{line}");
    let came = run(&world, &serve, &["--variables-only", "sh", "-c", CHAT]).await;
    assert!(came.code() == 0 && came.stdout.contains("hello"), "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_program_it_is_must_be_said_and_true() {
    let (mut world, _api, serve, token) = ready().await;
    let file = world.home().join("agent-token");
    std::fs::write(&file, &token).unwrap();
    world.set("OAUTH3_TOKEN", "oa3_wrong");
    assert_eq!(run(&world, &serve, &["echo", "RAN"]).await.code(), 1);
    let path = file.to_str().unwrap();
    assert_eq!(run(&world, &serve, &["--token-file", path, "--", "echo", "RAN"]).await.stdout, "RAN\n");
    assert_eq!(world.cli(&["agent", "revoke", "agent"]).await.code(), 0);
    let came = run(&world, &serve, &["--token-file", path, "--", "echo", "RAN"]).await;
    assert!(came.code() == 1 && came.stdout.is_empty() && came.stderr.contains("token"), "{came:?}");
}
