//! What each runtime can do in a sandbox.

use crate::support::*;
use oauth3_core::{ExitReason, Fault, ListenerRole, Runner, Runtime};
use std::io::{Read, Write};
use std::net::TcpListener;

fn check(outcome: &Outcome, code: i32, stdout: &str) {
    assert_eq!(outcome.exit.reason, ExitReason::Exited, "{outcome:?}");
    assert_eq!(outcome.exit.code, code, "{outcome:?}");
    assert_eq!(outcome.stdout, stdout, "{outcome:?}");
}

#[tokio::test]
async fn embedded_runs_typescript_with_the_jobs_environment() {
    let code = "const n: number = 41; console.log(n + 1, Deno.env.get('SKILL_ARGS'));";
    check(&run(Runtime::Embedded, code).await, 0, "42 {}\n");
}

#[tokio::test]
async fn node_runs_modules_and_common_js() {
    check(&run(Runtime::Node, "import os from 'os'; console.log(await os.hostname())").await, 0, "sandbox\n");
    check(&run(Runtime::Node, "const os = require('os'); console.log(os.hostname())").await, 0, "sandbox\n");
}

#[tokio::test]
async fn python_runs_and_its_exit_code_is_told() {
    check(&run(Runtime::Python, "import sys; print('hello'); sys.exit(7)").await, 7, "hello\n");
}

#[tokio::test]
async fn a_signal_of_its_own_shows_as_a_shell_would() {
    let outcome = run(Runtime::Python, "import os; os.kill(os.getpid(), 15)").await;
    assert_eq!((outcome.exit.code, outcome.exit.reason), (143, ExitReason::Exited));
}

#[tokio::test]
async fn deno_runs_typescript_and_refuses_remote_imports() {
    let runner = runner();
    if !runner.has(Runtime::Deno) {
        assert_eq!(runner.default_runtime(), Runtime::Embedded);
        let refused = runner.prepare(spec(Runtime::Deno)).await.err().unwrap();
        assert!(matches!(refused, Fault::UnknownRuntime(_)), "{refused}");
        return;
    }
    assert_eq!(runner.default_runtime(), Runtime::Deno);
    let code = "const n: number = 41; console.log(n + 1, Deno.env.get('SKILL_ARGS'));";
    check(&run(Runtime::Deno, code).await, 0, "42 {}\n");
    for import in ["https://deno.land/std/version.ts", "npm:chalk", "jsr:@std/path", "file:///etc/hosts"] {
        let outcome = run(Runtime::Deno, &format!("import x from '{import}'; console.log('ran', x)")).await;
        assert_ne!(outcome.exit.code, 0, "{outcome:?}");
        assert!(outcome.stderr.contains("error") && !outcome.stdout.contains("ran"), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_unknown_runtime_is_named() {
    let mut config = config();
    config.search = "/nonexistent".into();
    config.runtimes.clear();
    let runner = oauth3_sandbox::NativeRunner::new(config).unwrap();
    assert!(runner.has(Runtime::Embedded) && !runner.has(Runtime::Node));
    let fault = runner.prepare(spec(Runtime::Node)).await.err().unwrap();
    assert!(matches!(&fault, Fault::UnknownRuntime(text) if text.contains("node")), "{fault:?}");
}

#[tokio::test]
async fn every_program_is_pointed_to_the_proxy_and_the_runs_certificate() {
    let code = "import os\n\
        for name in ['SSL_CERT_FILE', 'CURL_CA_BUNDLE', 'NODE_EXTRA_CA_CERTS']: print(open(os.environ[name]).read().strip())\n\
        print(os.environ['https_proxy'], os.environ['HTTPS_PROXY'], os.environ.get('NO_PROXY'), os.environ['HOME'])";
    assert_eq!(
        python(code).await,
        "a certificate\na certificate\na certificate\nhttp://127.0.0.1:3128 http://127.0.0.1:3128 None /tmp\n"
    );
}

/// Names lead to the held listeners, each on its port, and so does every other address.
#[tokio::test]
async fn connections_arrive_at_the_listeners_that_the_test_holds() {
    let code = "import socket\n\
        for address in [('api.example.com', 443), ('api.example.com', 8443), ('93.184.216.34', 443), ('127.0.0.1', 3128)]:\n    \
            s = socket.create_connection(address); print(s.makefile().readline(), end=''); s.close()\n\
        s = socket.socket(socket.AF_INET6); s.connect(('2606:4700::1', 443)); print(s.makefile().readline(), end='')\n\
        d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.settimeout(5)\n\
        d.sendto(b'who?', ('127.0.0.1', 53)); print(d.recv(99).decode(), end='')";
    let mut spec = spec(Runtime::Python);
    spec.hosts = hosts(&["api.example.com", "api.example.com:8443", "aa.example.com"]);
    let mut lane = runner().prepare(spec).await.unwrap();
    let fds = lane.take_fds().unwrap();
    assert!(lane.take_fds().is_err(), "once only");
    let mut roles = Vec::new();
    for listener in fds.listeners {
        roles.push(listener.role);
        if listener.role == ListenerRole::Dns {
            let socket = std::net::UdpSocket::from(listener.fd);
            socket.set_nonblocking(false).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 99];
                let (_, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(b"dns\n", from).unwrap();
            });
            continue;
        }
        let socket = TcpListener::from(listener.fd);
        socket.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = socket.accept() {
                let to = stream.local_addr().unwrap();
                writeln!(stream, "{:?} {to}", listener.role).unwrap();
                let _ = stream.read(&mut [0; 9]);
            }
        });
    }
    for role in [ListenerRole::Tls { port: 443 }, ListenerRole::Tls { port: 8443 }, ListenerRole::Plain] {
        assert!(roles.contains(&role), "{roles:?}");
    }
    let (stdout, stderr) = (drain(fds.stdout), drain(fds.stderr));
    let exit = lane.run(job(code)).await;
    assert_eq!(exit.code, 0, "{}", stderr.join().unwrap());
    let name = oauth3_core::synthetic_address(1);
    assert_eq!(
        stdout.join().unwrap(),
        format!(
            "Tls {{ port: 443 }} {name}:443\nTls {{ port: 8443 }} {name}:8443\nTls {{ port: 443 }} 93.184.216.34:443\n\
             Proxy 127.0.0.1:3128\nTls {{ port: 443 }} [2606:4700::1]:443\ndns\n"
        )
    );
}

#[tokio::test]
async fn a_host_on_the_proxys_port_moves_the_proxy() {
    let mut spec = spec(Runtime::Python);
    spec.hosts = hosts(&["api.example.com:3128", "api.example.com:80"]);
    let outcome = run_with(spec, job("import os; print(os.environ['https_proxy'])")).await;
    assert_eq!(outcome.stdout, "http://127.0.0.1:3129\n", "{outcome:?}");
}

#[tokio::test]
async fn large_code_and_environment_arrive_whole() {
    let mut job = job(&format!("import os; print(len(os.environ['BIG']))\n#{}", "x".repeat((1 << 20) - 100)));
    job.env.push(("BIG".into(), "y".repeat(100 << 10)));
    let outcome = run_with(spec(Runtime::Python), job).await;
    assert_eq!(outcome.stdout, "102400\n", "{outcome:?}");
}

#[tokio::test]
async fn a_broken_variable_starts_nothing() {
    let mut job = job("print('ran')");
    job.env.push(("A".into(), "x\0y".into()));
    let outcome = run_with(spec(Runtime::Python), job).await;
    assert_eq!(outcome.exit.reason, ExitReason::NotStarted);
    assert!(outcome.exit.error.unwrap().contains("variable A") && outcome.stdout.is_empty());
}

#[tokio::test]
async fn the_doctor_sees_a_whole_sandbox_and_the_runtimes() {
    let lines = oauth3_sandbox::probe(config()).await;
    let line = |name: &str| lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("{name}: {lines:?}"));
    assert!(line("sandbox").ok, "{lines:?}");
    assert!(line("runtime python").ok && line("runtime python").detail.starts_with("Python 3"), "{lines:?}");
    assert!(line("runtime node").ok, "{lines:?}");
    assert!(lines.iter().all(|line| line.ok || !line.mend.is_empty()), "{lines:?}");
}
