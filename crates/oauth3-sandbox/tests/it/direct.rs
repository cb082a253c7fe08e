//! The direct backend: what holds code when there is no namespace, with the runtime's own permissions and without.

use crate::support::*;
use oauth3_core::{ExitReason, Fault, ListenerRole, ProxyKey, Runner, Runtime};
use oauth3_sandbox::{DirectConfig, DirectRunner};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

fn config() -> DirectConfig {
    DirectConfig {
        helper: helper(),
        deno: std::env::var_os("OAUTH3_TEST_DENO").map(PathBuf::from),
        search: std::env::var_os("PATH").unwrap_or_default(),
        directory: std::env::temp_dir(),
    }
}

fn runner() -> DirectRunner {
    DirectRunner::new(config()).unwrap()
}

async fn run(runtime: Runtime, code: &str) -> Outcome {
    finish(runner().prepare(spec(runtime)).await.unwrap(), job(code)).await
}

#[tokio::test]
async fn deno_and_embedded_run_directly_and_others_do_not() {
    assert_eq!(runner().executor(), "direct");
    let code = "const n: number = 41; console.log(n + 1, Deno.env.get('SKILL_ARGS'));";
    for runtime in [Runtime::Embedded, Runtime::Deno] {
        let outcome = run(runtime, code).await;
        assert_eq!((outcome.stdout.as_str(), outcome.exit.code), ("42 {}\n", 0), "{runtime}: {outcome:?}");
    }
    for runtime in [Runtime::Node, Runtime::Python] {
        assert!(!runner().has(runtime));
        let refused = runner().prepare(spec(runtime)).await.err().unwrap();
        assert!(matches!(refused, Fault::UnknownRuntime(_)), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_values_reach_direct_code_too() {
    for runtime in [Runtime::Embedded, Runtime::Deno] {
        let lane = runner().prepare(spec(runtime)).await.unwrap();
        let job = job_with_values("console.log(Deno.env.get('KEY'))", &["KEY"]);
        let outcome = finish_with(lane, job, giving(b"KEY=real\0")).await;
        assert_eq!(outcome.stdout, "real\n", "{runtime}: {outcome:?}");
    }
}

#[tokio::test]
async fn denos_permissions_are_what_was_declared() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"kept\": \"from the host\"}").unwrap();
    let path = file.path().display();
    let code = format!(
        "const attempt = async (what, f) => {{ try {{ console.log(what, 'GOT', await f()); }} catch (e) {{ console.log(what, 'refused'); }} }};\n\
         await attempt('home', () => Deno.env.get('HOME'));\n\
         await attempt('proxy', () => Deno.env.get('https_proxy'));\n\
         await attempt('all', () => JSON.stringify(Deno.env.toObject()));\n\
         await attempt('file', () => Deno.readTextFile('{path}'));\n\
         await attempt('environ', () => Deno.readTextFile('/proc/self/environ'));\n\
         await attempt('import', () => import('{path}', {{ with: {{ type: 'json' }} }}));\n\
         await attempt('write', () => Deno.writeTextFile('/tmp/oauth3-stray', 'x'));\n\
         await attempt('code', () => Deno.writeTextFile(new URL(import.meta.url).pathname, 'x'));\n\
         await attempt('run', () => new Deno.Command('/bin/sh').outputSync());\n\
         await attempt('sys', () => Deno.hostname());\n\
         await attempt('ffi', () => Deno.dlopen('/lib/x86_64-linux-gnu/libc.so.6', {{}}));\n\
         await attempt('net', () => Deno.connect({{ hostname: '127.0.0.1', port: 22 }}));\n\
         await attempt('listen', () => Deno.listen({{ port: 0 }}));\n\
         await attempt('remote', () => import('https://a.example/x.js'));\n\
         console.log(Deno.env.get('SKILL_ARGS'));"
    );
    let outcome = run(Runtime::Deno, &code).await;
    assert_eq!(outcome.exit.code, 0, "{outcome:?}");
    assert!(!outcome.stdout.contains("GOT") && !outcome.stdout.contains("from the host"), "{outcome:?}");
    assert_eq!(outcome.stdout.matches("refused").count(), 14, "{outcome:?}");
    assert!(outcome.stdout.ends_with("{}\n"), "{outcome:?}");
    // Static imports do not ask Deno's permissions: Landlock has to.
    let outcome =
        run(Runtime::Deno, &format!("import x from '{path}' with {{ type: 'json' }}; console.log('GOT', x)")).await;
    assert!(outcome.exit.code != 0 && !outcome.stdout.contains("GOT"), "{outcome:?}");
    assert!(!outcome.stderr.contains("from the host"), "{outcome:?}");
}

#[tokio::test]
async fn a_run_writes_in_its_own_folder_and_nothing_of_it_stays() {
    let code = "Deno.writeTextFileSync('a.txt', 'fine'); console.log(Deno.cwd(), Deno.readTextFileSync('a.txt'))";
    let outcome = run(Runtime::Deno, code).await;
    let (folder, text) = outcome.stdout.trim().split_once(' ').unwrap_or_default();
    assert_eq!(text, "fine", "{outcome:?}");
    assert!(folder.ends_with("/tmp") && !Path::new(folder).exists(), "{outcome:?}");
}

/// What code in Deno asks for goes to the proxy, with the key; the key opens nothing without.
#[tokio::test]
async fn requests_go_through_the_runs_proxy_with_its_key() {
    for (runtime, first) in
        [(Runtime::Deno, "CONNECT api.example.com:443"), (Runtime::Embedded, "GET https://api.example.com/")]
    {
        let mut spec = spec(runtime);
        spec.hosts = hosts(&["api.example.com"]);
        let mut lane = runner().prepare(spec).await.unwrap();
        let mut fds = lane.take_fds().unwrap();
        assert_eq!(fds.listeners.len(), 1);
        let listener = fds.listeners.remove(0);
        let ListenerRole::KeyedProxy { key } = listener.role else { panic!("{:?}", listener.role) };
        let socket = TcpListener::from(listener.fd);
        assert!(socket.local_addr().unwrap().ip().is_loopback());
        let proxy = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            head
        });
        let (stdout, stderr) = (drain(fds.stdout), drain(fds.stderr));
        let code = "try { console.log((await fetch('https://api.example.com/')).status) } catch (e) { console.log(String(e)) }";
        let exit = lane.run(job(code)).await;
        assert_eq!(exit.code, 0, "{}", stderr.join().unwrap());
        let head = proxy.join().unwrap();
        assert!(head[0].starts_with(first), "{head:?}");
        let field = head.iter().find_map(|line| {
            line.to_ascii_lowercase().starts_with("proxy-authorization: ").then(|| line.split_at(21).1)
        });
        assert!(key.opens(field.unwrap_or_default().as_bytes()), "{head:?}");
        assert!(!ProxyKey::new([0; 16]).opens(field.unwrap_or_default().as_bytes()));
        drop(stdout.join());
    }
}

#[tokio::test]
async fn loops_and_bombs_end_bounded() {
    let mut short = spec(Runtime::Deno);
    short.limits.timeout_ms = 2000;
    let outcome = finish(runner().prepare(short.clone()).await.unwrap(), job("for (;;) {}")).await;
    assert_eq!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");
    short.runtime = Runtime::Embedded;
    let outcome = finish(runner().prepare(short).await.unwrap(), job("for (;;) {}")).await;
    assert_eq!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");

    let mut small = spec(Runtime::Deno);
    small.limits.memory_mb = 160;
    let code = "const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1));";
    let outcome = finish(runner().prepare(small).await.unwrap(), job(code)).await;
    assert_ne!(outcome.exit.code, 0, "{outcome:?}");
    assert_ne!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");

    let code = "for (let i = 0; ; i++) Deno.writeFileSync(`f${i}`, new Uint8Array(1 << 20).fill(1));";
    let outcome = run(Runtime::Deno, code).await;
    assert_ne!(outcome.exit.code, 0, "{outcome:?}");
    assert_ne!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");
}

#[tokio::test]
async fn a_dropped_lane_leaves_nothing() {
    let lane = runner().prepare(spec(Runtime::Deno)).await.unwrap();
    let running = tokio::spawn(lane.run(job("setInterval(() => {}, 1000)")));
    tokio::task::yield_now().await;
    running.abort();
    let _ = running.await;
    // The guard is a child of this process: when no child is left, nothing of the run is.
    let guards = || {
        let all =
            std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap_or_default();
        all.split_whitespace().count()
    };
    for _ in 0..600 {
        if guards() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("a guard is left");
}

/// A program in Deno's place that tries what machine code could, if Deno's own permissions did not hold.
const ESCAPED: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
static void tell(const char *what, long r) { if (r >= 0) printf("GOT %s\n", what); else printf("%s refused\n", what); fflush(stdout); }

int main(int argc, char **argv) {
  int port = atoi(getenv("ARG_port")), pid = atoi(getenv("ARG_pid"));
  char path[200];
  struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  struct sockaddr_un un = { .sun_family = AF_UNIX };
  strncpy(un.sun_path, getenv("ARG_unix"), sizeof un.sun_path - 1);
  tell("file", open(getenv("ARG_file"), O_RDONLY));
  tell("passwd", open("/etc/passwd", O_RDONLY));
  tell("proc", opendir("/proc") ? 0 : -1);
  snprintf(path, sizeof path, "/proc/%d/environ", pid); tell("environ", open(path, O_RDONLY));
  snprintf(path, sizeof path, "/proc/%d/mem", pid); tell("mem", open(path, O_RDONLY));
  tell("self", open("/proc/self/environ", O_RDONLY));
  tell("write", open("/tmp/oauth3-stray", O_CREAT | O_WRONLY, 0600));
  tell("shm", open("/dev/shm/oauth3-stray", O_CREAT | O_WRONLY, 0600));
  tell("code", open(argv[argc - 1], O_WRONLY));
  int s = socket(AF_INET, SOCK_STREAM, 0);
  tell("connect", connect(s, (void *)&in, sizeof in));
  s = socket(AF_INET, SOCK_STREAM, 0);
  tell("fastopen", sendto(s, "x", 1, MSG_FASTOPEN, (void *)&in, sizeof in));
  tell("mptcp", socket(AF_INET, SOCK_STREAM, 262));
  tell("udp", socket(AF_INET, SOCK_DGRAM, 0));
  tell("unix", socket(AF_UNIX, SOCK_STREAM, 0));
  tell("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
  s = socket(AF_INET, SOCK_STREAM, 0);
  in.sin_port = 0; tell("bind", bind(s, (void *)&in, sizeof in));
  tell("listen", listen(s, 1));
  long child = fork(); if (child == 0) _exit(0); tell("fork", child);
  child = vfork(); if (child == 0) _exit(0); tell("vfork", child);
  tell("kill", kill(pid, 0));
  tell("killall", kill(-1, 0));
  tell("pidfd", syscall(SYS_pidfd_open, pid, 0));
  tell("ptrace", syscall(SYS_ptrace, 16, pid, 0, 0));
  tell("readv", syscall(SYS_process_vm_readv, pid, 0, 0, 0, 0, 0));
  tell("unshare", syscall(SYS_unshare, 0x10000000));
  tell("io_uring", syscall(SYS_io_uring_setup, 8, 0));
  tell("mount", syscall(SYS_mount, 0, "/tmp", "tmpfs", 0, 0));
  tell("setuid", setuid(0));
  char *sh[] = { "sh", "-c", "echo GOT shell", 0 }, *no[] = { 0 };
  tell("exec", execve("/bin/sh", sh, no));
  char *id[] = { "ld.so", "/usr/bin/id", 0 };
  /* The loader may be executed; what it is told to load may not be read. */
  FILE *f = fopen("fine", "w"); printf("%s\n", f ? "fine" : "no folder"); fflush(stdout);
  execve("/lib64/ld-linux-x86-64.so.2", id, no);
  return 0;
}
"#;

#[tokio::test]
async fn the_walls_hold_when_the_runtime_does_not() {
    let folder = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (source, program) = (folder.path().join("escaped.c"), folder.path().join("deno"));
    std::fs::write(&source, ESCAPED).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(compiler).args(["-O1", "-w", "-o"]).arg(&program).arg(&source).status().unwrap();
    assert!(built.success());
    let file = folder.path().join("file");
    std::fs::write(&file, "of the host").unwrap();
    let unix = folder.path().join("unix.sock");
    let _unix = std::os::unix::net::UnixListener::bind(&unix).unwrap();
    std::fs::set_permissions(&unix, std::fs::Permissions::from_mode(0o777)).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();

    let runner = DirectRunner::new(DirectConfig { deno: Some(program), ..config() }).unwrap();
    let mut job = job("// read by nobody");
    for (name, value) in [
        ("ARG_port", tcp.local_addr().unwrap().port().to_string()),
        ("ARG_pid", std::process::id().to_string()),
        ("ARG_file", file.display().to_string()),
        ("ARG_unix", unix.display().to_string()),
    ] {
        job.env.push((name.to_owned(), value));
    }
    let outcome = finish(runner.prepare(spec(Runtime::Deno)).await.unwrap(), job).await;
    assert!(!outcome.stdout.contains("GOT") && !outcome.stdout.contains("uid="), "{outcome:?}");
    assert_eq!(outcome.stdout.matches("refused").count(), 29, "{outcome:?}");
    assert!(outcome.stdout.ends_with("fine\n"), "{outcome:?}");
    tcp.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err(), "nobody came");
}

#[tokio::test]
async fn the_doctor_says_what_holds_a_direct_run() {
    let lines = oauth3_sandbox::probe_direct(config()).await;
    let line = |name: &str| lines.iter().find(|line| line.name == name).unwrap_or_else(|| panic!("{name}: {lines:?}"));
    assert!(line("sandbox").ok && line("sandbox").detail.contains("Landlock"), "{lines:?}");
    assert!(line("runtime deno").ok, "{lines:?}");
    assert!(lines.iter().all(|line| line.ok || !line.mend.is_empty()), "{lines:?}");
}
