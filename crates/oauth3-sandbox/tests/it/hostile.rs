//! Code that wants out, or more than its share.

use crate::support::*;
use oauth3_core::{ExitReason, Runtime};
use std::os::linux::net::SocketAddrExt;

/// Tries each expression and prints what came of it: `ok` and the value, or the error's name.
fn tries(expressions: &[&str]) -> String {
    let mut code = "import os, socket, ctypes, subprocess, glob, errno\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def call(*a):\n    r = libc.syscall(*a)\n    \
            if r < 0: raise OSError(ctypes.get_errno(), '')\n    return r\n\
        def attempt(f):\n    try: print('ok', f())\n    \
            except OSError as e: print(errno.errorcode.get(e.errno, e))\n    \
            except Exception as e: print(type(e).__name__)\n"
        .to_owned();
    for expression in expressions {
        code.push_str(&format!("attempt(lambda: {expression})\n"));
    }
    code
}

async fn check(cases: &[(&str, &str)]) {
    let expressions: Vec<&str> = cases.iter().map(|(expression, _)| *expression).collect();
    let output = python(&tries(&expressions)).await;
    let got: Vec<(&str, &str)> = expressions.into_iter().zip(output.lines()).collect();
    assert_eq!(got, cases);
}

#[tokio::test]
async fn files_of_the_host_are_not_there() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let open = format!("open({:?})", secret.path());
    check(&[
        (&open, "ENOENT"),
        ("os.listdir('/root')", "ENOENT"),
        ("os.listdir('/home')", "ENOENT"),
        ("os.listdir('/var')", "ENOENT"),
        ("os.listdir('/sys')", "ENOENT"),
        ("open('/etc/shadow')", "ENOENT"),
        ("open('/etc/machine-id')", "ENOENT"),
        ("sorted(os.listdir('/skill'))", "ok ['main.py']"),
        ("os.listdir('/tmp')", "ok []"),
        ("os.path.exists('/proc/sys')", "ok False"),
        ("os.path.exists('/proc/kallsyms')", "ok False"),
        ("os.readlink('/proc/self/cwd')", "ok /tmp"),
        ("os.path.exists('/proc/self/root/root')", "ok False"),
        ("[m for m in open('/proc/self/mountinfo') if 'main/target' in m or '/old' in m]", "ok []"),
    ])
    .await;
}

#[tokio::test]
async fn nothing_but_tmp_can_be_written() {
    check(&[
        ("open('/tmp/x', 'w').write('fine')", "ok 4"),
        ("open('/x', 'w')", "EROFS"),
        ("open('/skill/main.py', 'w')", "EROFS"),
        ("os.chmod('/skill/main.py', 0o777)", "EROFS"),
        ("os.unlink('/skill/main.py')", "EROFS"),
        ("open('/usr/bin/x', 'w')", "EROFS"),
        ("open('/etc/hosts', 'w')", "EROFS"),
        ("os.mkdir('/etc/x')", "EROFS"),
        ("open('/dev/null', 'w').write('x')", "ok 1"),
        ("open('/dev/x', 'w')", "EROFS"),
        ("os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0))", "EPERM"),
        ("open('/proc/self/oom_score_adj', 'w').write('-1000')", "EACCES"),
        ("open('/tmp/big', 'wb').truncate(1 << 30)", "EFBIG"),
    ])
    .await;
}

#[tokio::test]
async fn tmp_has_a_size_and_runs_nothing() {
    let code = "import os\n\
        total = 0\n\
        try:\n    \
            for i in range(100):\n        \
                with open(f'/tmp/{i}', 'wb') as f: total += f.write(bytes(1 << 20))\n\
        except OSError as e: print(e.strerror, total <= 64 << 20)\n\
        os.remove('/tmp/0'); os.system('cp /usr/bin/id /tmp/id 2>/dev/null'); print(os.system('/tmp/id 2>/dev/null') != 0)";
    assert_eq!(python(code).await, "No space left on device True\nTrue\n");
}

#[tokio::test]
async fn other_processes_are_not_there_and_process_1_cannot_be_read() {
    check(&[
        ("[p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]", "ok []"),
        ("open('/proc/1/environ').read()", "ENOENT"),
        ("open('/proc/1/mem').read()", "ENOENT"),
        ("os.listdir('/proc/1/fd')", "ENOENT"),
        ("os.getppid()", "ok 1"),
        ("os.kill(1, 9)", "ok None"),
        ("os.kill(-1, 0)", "ESRCH"),
        ("open('/proc/self/status').read().count('CapEff:\\t0000000000000000')", "ok 1"),
        ("open('/proc/self/status').read().count('CapBnd:\\t0000000000000000')", "ok 1"),
        ("open('/proc/self/status').read().count('NoNewPrivs:\\t1')", "ok 1"),
        ("open('/proc/self/status').read().count('Seccomp:\\t2')", "ok 1"),
    ])
    .await;
}

/// Not by PID 1's parts, not by its own: nothing of the gateway's environment is inside.
#[tokio::test]
async fn the_environment_has_nothing_of_the_gateways() {
    let names = python("import os; print(' '.join(sorted(os.environ)))").await;
    let allowed = [
        "ALL_PROXY",
        "CURL_CA_BUNDLE",
        "DENO_CERT",
        "DENO_DIR",
        "DENO_NO_UPDATE_CHECK",
        "GIT_SSL_CAINFO",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "NODE_EXTRA_CA_CERTS",
        "NO_COLOR",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "REQUESTS_CA_BUNDLE",
        "SKILL_ARGS",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "all_proxy",
        "http_proxy",
        "https_proxy",
    ];
    assert_eq!(names.trim(), allowed.join(" "));
}

#[tokio::test]
async fn no_descriptor_is_inherited() {
    let code = "import os\n\
        for fd in range(3, 1024):\n    \
            try: os.fstat(fd); print('open', fd, os.readlink(f'/proc/self/fd/{fd}'))\n    \
            except OSError: pass\n\
        print(os.readlink('/proc/self/fd/0'))";
    assert_eq!(python(code).await, "/dev/null\n");
    let node = "const fs = require('fs'); for (const fd of [0, 1, 2]) fs.fstatSync(fd); console.log('ok')";
    assert_eq!(run(Runtime::Node, node).await.stdout, "ok\n");
}

#[tokio::test]
async fn dangerous_system_calls_are_refused() {
    // Numbers of x86-64 and of the generic table (aarch64) differ for the old ones.
    let number = |name: &str| -> i64 {
        match name {
            "unshare" => libc::SYS_unshare,
            "mount" => libc::SYS_mount,
            "ptrace" => libc::SYS_ptrace,
            "keyctl" => libc::SYS_keyctl,
            "bpf" => libc::SYS_bpf,
            "perf" => libc::SYS_perf_event_open,
            "uffd" => libc::SYS_userfaultfd,
            "clone" => libc::SYS_clone,
            "setns" => libc::SYS_setns,
            "handle" => libc::SYS_open_by_handle_at,
            "readv" => libc::SYS_process_vm_readv,
            "chroot" => libc::SYS_chroot,
            _ => unreachable!(),
        }
    };
    let call = |name: &str, rest: &str| format!("call({}, {rest})", number(name));
    let user_namespace = call("unshare", "0x10000000");
    let clone = call("clone", "0x10000000 | 17, 0, 0, 0, 0");
    let cases = [
        user_namespace,
        clone,
        call("unshare", "0x20000"),
        call("mount", "0, b'/tmp', b'tmpfs', 0, 0"),
        call("ptrace", "0, 0, 0, 0"),
        call("keyctl", "0, 0, 0, 0, 0"),
        call("bpf", "0, 0, 0"),
        call("perf", "0, 0, 0, 0, 0"),
        call("uffd", "1"),
        call("setns", "0, 0"),
        call("handle", "0, 0, 0"),
        call("readv", "1, 0, 0, 0, 0, 0"),
        call("chroot", "b'/tmp'"),
        "call(425, 8, 0)".to_owned(), // io_uring_setup
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)".to_owned(),
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)".to_owned(),
        "socket.socket(40, socket.SOCK_STREAM, 0)".to_owned(), // AF_VSOCK
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)".to_owned(),
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)".to_owned(), // SCTP
        "socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, 0)".to_owned(), // SCTP too
        "socket.socket(socket.AF_INET6, 6, 0)".to_owned(),                   // DCCP
        "socket.sethostname('x')".to_owned(),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|case| (case.as_str(), "EPERM")).collect();
    check(&cases).await;
    check(&[("os.setuid(0)", "EINVAL"), ("os.setgroups([0])", "EPERM")]).await;
    check(&[("call(435, 0, 0)", "ENOSYS"), ("call(1000, 0, 0)", "ENOSYS"), ("call(0x40000000 | 39)", "ENOSYS")]).await;
}

/// It has the code's user id: without CPU time it would die, and nobody would say how the code ended.
#[tokio::test]
async fn process_1_keeps_its_limits() {
    let code = "import resource\n\
        for limit in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE):\n    \
            try: print('ok', resource.prlimit(1, limit, (0, 0)))\n    \
            except PermissionError: print('no')\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); print(resource.getrlimit(resource.RLIMIT_NOFILE))";
    assert_eq!(python(code).await, "no\nno\n(64, 64)\n");
}

#[tokio::test]
async fn a_set_user_id_program_gains_nothing() {
    let code = "import subprocess\n\
        r = subprocess.run(['/usr/bin/su', '-c', 'id -u'], capture_output=True, text=True, stdin=subprocess.DEVNULL)\n\
        print(r.returncode != 0, 'uid=0' in r.stdout, subprocess.run(['/usr/bin/id', '-u'], capture_output=True, text=True).stdout)";
    assert_eq!(python(code).await, "True False 1000\n\n");
}

/// A port that somebody serves on the host's loopback, and a socket in its abstract name space, are out of reach.
#[tokio::test]
async fn services_of_the_host_are_out_of_reach() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("oauth3-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    check(&[
        (&format!("socket.create_connection(('127.0.0.1', {port}), 5)"), "ECONNREFUSED"),
        (&format!("socket.socket(socket.AF_UNIX).connect('\\0{name}')"), "ECONNREFUSED"),
        ("socket.create_connection(('1.1.1.1', 22), 5)", "ECONNREFUSED"),
        ("socket.create_connection(('::1', 22), 5)", "ECONNREFUSED"),
        ("len(open('/proc/self/net/dev').read().splitlines())", "ok 3"),
    ])
    .await;
}

#[tokio::test]
async fn a_fork_bomb_stays_small_and_ends_with_its_parent() {
    let code = "import os, time\n\
        made = 0\n\
        try:\n    \
            while made < 10000:\n        \
                if os.fork() == 0: time.sleep(600); os._exit(0)\n        \
                made += 1\n\
        except OSError as e: print(e.strerror, made < 64)";
    assert_eq!(python(code).await, "Resource temporarily unavailable True\n");
}

#[tokio::test]
async fn a_memory_bomb_is_ended_and_named() {
    let mut limits = spec(Runtime::Python);
    limits.limits.memory_mb = 64;
    let code = "data = []\nwhile True: data.append(bytearray(1 << 20))";
    let outcome = run_with(limits, job(code)).await;
    // With a control group the kernel ends it; without, Python itself sees the limit.
    let named = outcome.exit.reason == ExitReason::OutOfMemory || outcome.stderr.contains("MemoryError");
    assert!(named && outcome.exit.code != 0, "{outcome:?}");
}

#[tokio::test]
async fn a_memory_bomb_of_buffers_in_node_is_ended() {
    let mut limits = spec(Runtime::Node);
    limits.limits.memory_mb = 128;
    let code = "const all = []; for (;;) all.push(Buffer.alloc(1 << 20, 1));";
    let outcome = run_with(limits, job(code)).await;
    assert_ne!(outcome.exit.code, 0, "{outcome:?}");
    assert_ne!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");
}

/// What waits in sockets is memory of the kernel's: it must not be the whole machine's.
#[tokio::test]
async fn sockets_hold_no_more_than_the_run_may() {
    let bounded = oauth3_sandbox::probe(config()).await.into_iter().any(|line| line.name == "cgroup" && line.ok);
    if !bounded {
        // SECURITY.md says so: without a control group nothing counts this.
        return;
    }
    let code = "import socket\n\
        server = socket.create_server(('127.0.0.1', 0), backlog=200); kept = []; sent = 0\n\
        for i in range(200):\n    \
            client = socket.create_connection(server.getsockname()); kept.append((client, server.accept()))\n    \
            client.setblocking(False)\n    \
            try:\n        \
                while True: sent += client.send(bytes(1 << 20))\n    \
            except BlockingIOError: pass\n\
        print(sent < 200 << 20 or sent)";
    let outcome = run(Runtime::Python, code).await;
    let ended = outcome.exit.reason == ExitReason::OutOfMemory;
    assert!(ended || outcome.stdout == "True\n", "{outcome:?}");
}

#[tokio::test]
async fn a_flood_of_output_does_not_stop_the_run() {
    let code = "import sys\nfor i in range(200): sys.stdout.write('x' * (1 << 18)); sys.stderr.write('y' * (1 << 18))";
    let outcome = run(Runtime::Python, code).await;
    assert_eq!((outcome.exit.code, outcome.exit.reason), (0, ExitReason::Exited));
}

#[tokio::test]
async fn hostile_node_and_embedded_code_see_as_little() {
    let node = "const fs = require('fs'), cp = require('child_process');\n\
        for (const path of ['/root', '/home', '/etc/shadow', '/proc/1/environ', '/boot'])\n  \
            console.log(fs.existsSync(path));\n\
        console.log(cp.execFileSync('/usr/bin/id', ['-u']).toString().trim(), process.ppid)";
    assert_eq!(run(Runtime::Node, node).await.stdout, "false\nfalse\nfalse\nfalse\nfalse\n1000 1\n");
    let embedded = "for (const path of ['/etc/shadow', '/proc/1/environ', '/etc/gshadow'])\n  \
            try { console.log(Deno.readTextFileSync(path)) } catch (e) { console.log('no') }\n\
        console.log(typeof require, Deno.env.get('OAUTH3_HOME') ?? process.env.CARGO_MANIFEST_DIR ?? 'none')";
    let outcome = run(Runtime::Embedded, embedded).await;
    assert_eq!(outcome.stdout, "no\nno\nno\nundefined none\n", "{outcome:?}");
}
