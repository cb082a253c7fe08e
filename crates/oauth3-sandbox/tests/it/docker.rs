//! The Docker backend in a real engine: what code inside can do, what the engine gets to see, and how it ends.
//!
//! `cargo xtask test` starts the engine; `cargo xtask engine` does for tests that are run by hand.

use crate::support::*;
use bollard::Docker;
use bollard::query_parameters::ListContainersOptions;
use oauth3_core::{ExitReason, Fault, Lane, LaneFds, LaneSpec, ListenerRole, Runner, Runtime};
use oauth3_sandbox::{DockerConfig, DockerRunner};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

/// Before the engine is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// The engine and its image; `None` when these tests were left out on purpose.
fn engine() -> Option<(String, String)> {
    let mend = "these tests need a container engine: run them by `cargo xtask test`, or start one with `cargo xtask \
                engine`, or set OAUTH3_TEST_DOCKER_HOST=off to leave them out";
    let host = std::env::var("OAUTH3_TEST_DOCKER_HOST").expect(mend);
    (host != "off").then(|| (host, std::env::var("OAUTH3_TEST_DOCKER_IMAGE").expect(mend)))
}

/// A runner with a directory of its own.
struct World {
    runner: DockerRunner,
    docker: Docker,
    directory: tempfile::TempDir,
}

fn config(host: &str, image: &str, directory: &std::path::Path) -> DockerConfig {
    DockerConfig {
        host: host.to_owned(),
        image: image.to_owned(),
        helper: helper(),
        directory: directory.join("docker"),
        cpus: 1.0,
        ..DockerConfig::default()
    }
}

async fn world() -> Option<World> {
    let (host, image) = engine()?;
    let directory = tempfile::tempdir().unwrap();
    let runner = DockerRunner::connect(config(&host, &image, directory.path())).await.unwrap();
    let docker = Docker::connect_with_unix(&host, 60, bollard::API_DEFAULT_VERSION).unwrap();
    Some(World { runner, docker: docker.negotiate_version().await.unwrap(), directory })
}

impl World {
    async fn prepare(&self, spec: LaneSpec) -> Box<dyn Lane> {
        self.runner.prepare(spec).await.unwrap()
    }

    async fn run(&self, runtime: Runtime, code: &str) -> Outcome {
        finish(self.prepare(spec(runtime)).await, job(code)).await
    }

    async fn python(&self, code: &str) -> String {
        let outcome = self.run(Runtime::Python, code).await;
        assert_eq!(outcome.exit.code, 0, "{outcome:?}");
        outcome.stdout
    }

    /// Containers of this world, by id.
    async fn containers(&self) -> Vec<String> {
        let home = format!("oauth3.home={}", self.home().await);
        let filters = HashMap::from([("label".to_owned(), vec!["oauth3.run".to_owned(), home])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        // Podman's list has a word for those that are just ending which cannot be read.
        let mut all = self.docker.list_containers(Some(options.clone())).await;
        while matches!(all, Err(bollard::errors::Error::JsonDataError { .. })) {
            tokio::time::sleep(PAUSE).await;
            all = self.docker.list_containers(Some(options.clone())).await;
        }
        all.unwrap().into_iter().filter_map(|one| one.id).collect()
    }

    async fn home(&self) -> String {
        use sha2::Digest as _;
        let path = self.directory.path().join("docker");
        let digest = sha2::Sha256::digest(path.as_os_str().as_encoded_bytes());
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    async fn nothing_is_left(&self) {
        for _ in 0..600 {
            if self.containers().await.is_empty() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("containers are left");
    }
}

#[tokio::test]
async fn every_runtime_runs_in_a_container() {
    let Some(world) = world().await else { return };
    assert_eq!((world.runner.executor(), world.runner.default_runtime()), ("docker", Runtime::Deno));
    for (runtime, code, stdout) in [
        (Runtime::Embedded, "const n: number = 41; console.log(n + 1, Deno.env.get('SKILL_ARGS'));", "42 {}\n"),
        (Runtime::Deno, "const n: number = 41; console.log(n + 1, Deno.env.get('SKILL_ARGS'));", "42 {}\n"),
        (Runtime::Node, "import os from 'os'; console.log(os.hostname())", "sandbox\n"),
        (Runtime::Python, "import sys; print('hello'); sys.exit(7)", "hello\n"),
    ] {
        let outcome = world.run(runtime, code).await;
        assert_eq!(outcome.stdout, stdout, "{runtime}: {outcome:?}");
        assert_eq!(outcome.exit.code, if runtime == Runtime::Python { 7 } else { 0 }, "{outcome:?}");
        assert_eq!(outcome.exit.reason, ExitReason::Exited);
    }
    world.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_values_reach_code_in_a_container_and_not_the_engine() {
    let Some(world) = world().await else { return };
    let job = || job_with_values("console.log(Deno.env.get('KEY'))", &["KEY"]);
    for runtime in [Runtime::Embedded, Runtime::Deno] {
        let outcome = finish_with(world.prepare(spec(runtime)).await, job(), giving(b"KEY=a-real-value\0")).await;
        assert_eq!(outcome.stdout, "a-real-value\n", "{runtime}: {outcome:?}");
    }
    let code = "import os, signal\nprint(os.environ['KEY'], flush=True)\nsignal.pause()";
    let mut lane = world.prepare(spec(Runtime::Python)).await;
    let LaneFds { stdout, reveal, .. } = lane.take_fds().unwrap();
    let run = tokio::spawn(lane.run(job_with_values(code, &["KEY"])));
    let said = tokio::task::spawn_blocking(move || {
        giving(b"KEY=a-real-value\0")(reveal.into());
        let mut said = String::new();
        BufReader::new(std::fs::File::from(stdout)).read_line(&mut said).map(|_| said)
    });
    assert_eq!(said.await.unwrap().unwrap(), "a-real-value\n");
    let containers = world.containers().await;
    assert_eq!(containers.len(), 1);
    let inspected = format!("{:?}", world.docker.inspect_container(&containers[0], None).await.unwrap());
    assert!(!inspected.contains("a-real-value"), "{inspected}");
    run.abort();
    world.nothing_is_left().await;
}

/// Names lead to the listeners that the runner holds; nothing else is reachable.
#[tokio::test]
async fn the_only_network_of_a_container_is_the_listeners() {
    let Some(world) = world().await else { return };
    let code = "import socket\n\
        for address in [('api.example.com', 443), ('api.example.com', 8443), ('127.0.0.1', 3128)]:\n    \
            s = socket.create_connection(address); print(s.makefile().readline(), end=''); s.close()\n\
        for address in [('93.184.216.34', 443), ('172.17.0.1', 80), ('other.example.com', 443)]:\n    \
            try: socket.create_connection(address, 5); print('GOT', address)\n    \
            except OSError as e: print('refused')\n\
        d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.settimeout(5)\n\
        d.sendto(b'who?', ('127.0.0.1', 53)); print(d.recv(99).decode(), end='')\n\
        print(open('/etc/resolv.conf').read().count('nameserver'), 'nameserver 127.0.0.1' in open('/etc/resolv.conf').read())";
    let mut spec = spec(Runtime::Python);
    spec.hosts = hosts(&["api.example.com", "api.example.com:8443"]);
    let mut lane = world.prepare(spec).await;
    let fds = lane.take_fds().unwrap();
    assert!(lane.take_fds().is_err(), "once only");
    for listener in fds.listeners {
        if listener.role == ListenerRole::Dns {
            let socket = std::net::UdpSocket::from(listener.fd);
            socket.set_nonblocking(false).unwrap();
            std::thread::spawn(move || {
                while let Ok((_, from)) = socket.recv_from(&mut [0; 999]) {
                    // Whoever asks for a name gets nonsense, and takes it for no answer.
                    let _ = socket.send_to(b"dns\n", from);
                }
            });
            continue;
        }
        let socket = TcpListener::from(listener.fd);
        socket.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = socket.accept() {
                let to = stream.local_addr().unwrap();
                let _ = writeln!(stream, "{:?} {to}", listener.role);
                let _ = stream.read(&mut [0; 9]);
            }
        });
    }
    let (stdout, stderr) = (drain(fds.stdout), drain(fds.stderr));
    let exit = lane.run(job(code)).await;
    assert_eq!(exit.code, 0, "{}", stderr.join().unwrap());
    let name = oauth3_core::synthetic_address(0);
    assert_eq!(
        stdout.join().unwrap(),
        format!(
            "Tls {{ port: 443 }} {name}:443\nTls {{ port: 8443 }} {name}:8443\nProxy 127.0.0.1:3128\n\
             refused\nrefused\nrefused\ndns\n1 True\n"
        )
    );
}

/// Placeholder, code and arguments go around the engine: whoever may ask it, or list processes, sees none of them.
#[tokio::test]
async fn neither_inspect_nor_the_process_list_shows_the_job() {
    let Some(world) = world().await else { return };
    let mut lane = world.prepare(spec(Runtime::Python)).await;
    let fds = lane.take_fds().unwrap();
    let mut job = job("marker_of_the_code = 1\nimport time; print('up', flush=True); time.sleep(30)");
    job.env.push(("API_KEY".into(), "marker-of-the-placeholder".into()));
    job.env.push(("ARG_x".into(), "marker-of-the-argument".into()));
    let mut stdout = std::fs::File::from(fds.stdout);
    let (up, is_up) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut first = [0; 2];
        let _ = up.send(stdout.read_exact(&mut first).is_ok() && &first == b"up");
        // Held until the end, as the keeper does.
        let _ = stdout.read(&mut [0; 99]);
    });
    let running = tokio::spawn(lane.run(job));
    assert!(is_up.await.unwrap());
    let ids = world.containers().await;
    assert_eq!(ids.len(), 1);
    let shown = serde_json::to_string(&world.docker.inspect_container(&ids[0], None).await.unwrap()).unwrap();
    let parts = world.docker.version().await.unwrap().components.unwrap_or_default();
    let mut seen = shown;
    // Podman has no answer for processes that let nobody look into them.
    if !parts.iter().any(|part| part.name == "Podman Engine") {
        let top = world.docker.top_processes(&ids[0], None).await.unwrap();
        seen += &serde_json::to_string(&top).unwrap();
    }
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        seen.push_str(&std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default());
    }
    assert!(seen.contains("sandbox-guest") && seen.contains("/skill/main.py"), "the container was looked at");
    assert!(!seen.contains("marker-of"), "{seen}");
    assert!(!seen.contains("marker_of"), "{seen}");
    // And what the engine keeps: no log at all.
    assert!(seen.contains("\"LogConfig\":{\"Type\":\"none\""), "{seen}");
    running.abort();
    let _ = running.await;
    world.nothing_is_left().await;
}

#[tokio::test]
async fn hostile_code_in_a_container_gets_nothing() {
    let Some(world) = world().await else { return };
    let code = "import os, socket, ctypes, errno\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def call(*a):\n    r = libc.syscall(*a)\n    \
            if r < 0: raise OSError(ctypes.get_errno(), '')\n    return r\n\
        def attempt(f):\n    try: print('GOT', f())\n    \
            except OSError as e: print(errno.errorcode.get(e.errno, e))\n    \
            except Exception as e: print(type(e).__name__)\n\
        def unix(path):\n    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); s.connect(path)\n\
        attempt(lambda: open('/x', 'w'))\n\
        attempt(lambda: open('/usr/bin/x', 'w'))\n\
        attempt(lambda: open('/skill/main.py', 'w'))\n\
        attempt(lambda: open('/etc/ssl/certs/ca-certificates.crt', 'w'))\n\
        attempt(lambda: open('/oauth3-init', 'r+b'))\n\
        attempt(lambda: open('/proc/1/environ', 'rb').read())\n\
        attempt(lambda: open('/proc/1/mem', 'rb').read(1))\n\
        attempt(lambda: os.listdir('/proc/1/fd'))\n\
        attempt(lambda: open('/proc/sys/kernel/core_pattern', 'w').write('x'))\n\
        attempt(lambda: open('/proc/self/oom_score_adj', 'w').write('-1000'))\n\
        attempt(lambda: unix('/oauth3.sock'))\n\
        attempt(lambda: call(272, 0x10000000))\n\
        attempt(lambda: call(165, 0, b'/tmp', b'tmpfs', 0, 0))\n\
        attempt(lambda: call(101, 16, 1, 0, 0))\n\
        attempt(lambda: call(425, 8, 0))\n\
        attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))\n\
        attempt(lambda: os.setuid(0))\n\
        attempt(lambda: os.kill(1, 9))\n\
        attempt(lambda: os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0)))\n\
        status = open('/proc/self/status').read()\n\
        for line in ['CapEff:\\t0000000000000000', 'CapBnd:\\t0000000000000000', 'NoNewPrivs:\\t1', 'Seccomp:\\t2']:\n    \
            print(line in status)\n\
        print(os.getppid(), os.getuid() >= 64000, sorted(os.listdir('/skill')), [f for f in os.listdir('/proc/self/fd') if int(f) > 3])\n\
        print([n for n in os.environ if n in ('HOSTNAME', 'OAUTH3_HOME')])\n\
        open('/tmp/fine', 'w').write('x'); print('fine')";
    let outcome = world.run(Runtime::Python, code).await;
    assert_eq!(outcome.exit.code, 0, "{outcome:?}");
    assert!(!outcome.stdout.contains("GOT"), "{}", outcome.stdout);
    let end = "True\nTrue\nTrue\nTrue\n1 True ['main.py'] []\n[]\nfine\n";
    assert!(outcome.stdout.ends_with(end), "{}", outcome.stdout);
}

#[tokio::test]
async fn bombs_and_loops_in_a_container_end_bounded_and_leave_nothing() {
    let Some(world) = world().await else { return };
    let mut short = spec(Runtime::Python);
    short.limits.timeout_ms = 2000;
    let code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    while True: time.sleep(1)\nwhile True: pass";
    let outcome = finish(world.prepare(short).await, job(code)).await;
    assert_eq!(outcome.exit.reason, ExitReason::TimedOut, "{outcome:?}");

    let mut small = spec(Runtime::Python);
    small.limits.memory_mb = 64;
    let code = "data = []\nwhile True: data.append(bytearray(1 << 20))";
    let outcome = finish(world.prepare(small).await, job(code)).await;
    assert_eq!(outcome.exit.reason, ExitReason::OutOfMemory, "{outcome:?}");

    let code = "import os, time\nmade = 0\ntry:\n    while True:\n        \
        if os.fork() == 0: time.sleep(600)\n        made += 1\nexcept OSError: print(made <= 64)";
    assert_eq!(world.python(code).await, "True\n");

    let code = "import os\ntotal = 0\ntry:\n    for i in range(100):\n        \
        with open(f'/tmp/{i}', 'wb') as f: total += f.write(bytes(1 << 20))\nexcept OSError as e: print(32 << 20 < total <= 64 << 20)";
    assert_eq!(world.python(code).await, "True\n");
    world.nothing_is_left().await;
}

#[tokio::test]
async fn a_container_ends_with_its_lane_and_with_its_runner() {
    let Some(world) = world().await else { return };
    let lane = world.prepare(spec(Runtime::Python)).await;
    assert_eq!(world.containers().await.len(), 1);
    drop(lane);
    world.nothing_is_left().await;

    // What a gateway that was killed leaves is removed by the next one with the same directory, and by no other.
    let lane = world.prepare(spec(Runtime::Python)).await;
    std::mem::forget(lane);
    let (host, image) = engine().unwrap();
    let other = tempfile::tempdir().unwrap();
    DockerRunner::connect(config(&host, &image, other.path())).await.unwrap();
    assert_eq!(world.containers().await.len(), 1);
    DockerRunner::connect(config(&host, &image, world.directory.path())).await.unwrap();
    world.nothing_is_left().await;
}

#[tokio::test]
async fn an_image_that_is_missing_or_named_by_a_tag_is_refused() {
    let Some((host, image)) = engine() else { return };
    let directory = tempfile::tempdir().unwrap();
    let missing = format!("sha256:{}", "0".repeat(64));
    for (name, told) in [(&*missing, "docker pull"), ("busybox:latest", "digest"), ("", "[docker] image")] {
        let error = DockerRunner::connect(config(&host, name, directory.path())).await.unwrap_err().to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
    // What is started in it does not speak to us.
    let mut named = config(&host, &image, directory.path());
    named.helper = "/bin/true".into();
    let error = DockerRunner::connect(named).await.unwrap_err().to_string();
    assert!(error.contains("ended before it was ready"), "{error}");
}

/// Nobody there, somebody who is no engine, and one that stops answering: each denies, and says so.
#[tokio::test]
async fn an_engine_that_is_gone_or_talks_nonsense_denies() {
    let directory = tempfile::tempdir().unwrap();
    let image = format!("sha256:{}", "0".repeat(64));
    let gone = format!("unix://{}", directory.path().join("nobody.sock").display());
    let error = DockerRunner::connect(config(&gone, &image, directory.path())).await.unwrap_err().to_string();
    assert!(error.contains("nobody.sock") && error.contains("DOCKER_HOST"), "{error}");

    for reply in ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<<nonsense", "\0\x01garbage\r\n\r\n", ""] {
        let path = directory.path().join(format!("odd{}.sock", reply.len()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        let host = format!("unix://{}", path.display());
        let error = DockerRunner::connect(config(&host, &image, directory.path())).await.unwrap_err();
        assert!(matches!(Fault::from(error), Fault::Unavailable(_)), "{reply:?}");
    }
}

#[tokio::test]
async fn the_doctor_sees_the_engine_and_what_the_image_has() {
    let Some((host, image)) = engine() else { return };
    let directory = tempfile::tempdir().unwrap();
    let lines = oauth3_sandbox::probe_docker(config(&host, &image, directory.path())).await;
    assert!(lines.len() == 5 && lines.iter().all(|line| line.ok), "{lines:?}");
    let lines = oauth3_sandbox::probe_docker(config("unix:///nonexistent", &image, directory.path())).await;
    assert!(!lines[0].ok && lines[0].mend.contains("DOCKER_HOST"), "{lines:?}");
}
