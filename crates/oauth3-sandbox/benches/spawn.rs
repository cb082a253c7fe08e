//! From nothing to the end of a program that does nothing: our sandbox beside bubblewrap with an equal profile,
//! pair by pair. Ours also makes a control group, routes, and the listeners of the egress, which bubblewrap does not.
//!
//! Needs a C compiler, `OAUTH3_TEST_BIN` (the executable that is our helper) and `OAUTH3_TEST_BWRAP`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    unreachable_pub,
    reason = "a measuring tool"
)]

#[path = "../../../e2e/benches/support/table.rs"]
mod table;

use oauth3_core::{ExitReason, Job, LaneSpec, Limits, Runner, Runtime};
use oauth3_sandbox::{DockerConfig, DockerRunner, NativeConfig, NativeRunner};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use table::{Target, Times};

/// Pairs that count, after those that do not.
const PAIRS: usize = 300;
const WARM_UP: usize = 30;
/// The same with an engine, which takes a hundred times as long.
const DOCKER_PAIRS: usize = 20;
const DOCKER_WARM_UP: usize = 2;
/// Limits that a program which does nothing never meets.
const LIMITS: Limits = Limits { timeout_ms: 10_000, output_bytes: 4096, processes: 32, ..Limits::STANDARD };
/// System calls that bubblewrap's filter denies.
const DENIED_CALLS: u32 = 8;

fn main() {
    let helper = PathBuf::from(std::env::var_os("OAUTH3_TEST_BIN").expect("set OAUTH3_TEST_BIN to the executable"));
    let bwrap = std::env::var_os("OAUTH3_TEST_BWRAP").map(PathBuf::from);
    let work = tempfile::tempdir().unwrap();
    let program = static_true(work.path());
    let filter = work.path().join("filter");
    fs::write(&filter, filter_bytes()).unwrap();

    // A runtime of the owner's own: it is shown inside as a file, and given code that it does not read.
    let runtimes = BTreeMap::from([(Runtime::Node, program.clone())]);
    // As the gateway does it, with one that waits; and made from nothing, as when several come at once.
    let [waiting, anew] = [true, false].map(|spare| {
        let runtimes = runtimes.clone();
        NativeRunner::new(NativeConfig { helper: helper.clone(), runtimes, spare, ..NativeConfig::default() }).unwrap()
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();

    let [mut ours, mut made, mut bare, mut theirs] = [(); 4].map(|()| Times::default());
    let mut busy = 0;
    for round in 0..WARM_UP + PAIRS {
        busy += usize::from(!table::quiet());
        let time = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            start.elapsed()
        };
        let a = time(&mut || runtime.block_on(once(&waiting, Runtime::Node)));
        // The next one is being made meanwhile; the other side shall not pay for that.
        busy += usize::from(!table::quiet());
        let b = bwrap.as_deref().map(|bwrap| time(&mut || run(&mut bubblewrap(bwrap, &program, &filter))));
        let c = time(&mut || run(&mut Command::new(&program)));
        let d = time(&mut || runtime.block_on(once(&anew, Runtime::Node)));
        if round >= WARM_UP {
            ours.add(a);
            made.add(d);
            b.into_iter().for_each(|b: Duration| theirs.add(b));
            bare.add(c);
        }
    }
    table::head(WARM_UP + PAIRS, busy);
    table::line("sandbox, a program that does nothing", &ours, "bubblewrap", &theirs, &Target::Ratio(1.0));
    table::line("the same", &ours, "no sandbox", &bare, &Target::None);
    table::line("the same, with none waiting", &made, "bubblewrap", &theirs, &Target::None);
    docker(&mut ours, helper, &runtime);
}

/// Reported where an engine is named (`cargo xtask bench` starts one): its own command line with a trivial program,
/// and our container backend, which also binds the egress inside and hands over pipes and job.
fn docker(ours: &mut Times, helper: PathBuf, runtime: &tokio::runtime::Runtime) {
    let named = |name: &str| std::env::var(name).ok();
    let (Some(host), Some(image)) = (named("OAUTH3_TEST_DOCKER_HOST"), named("OAUTH3_TEST_DOCKER_IMAGE")) else {
        println!("\nNo container engine runs here, so `docker run` and the docker executor are not beside it.");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = DockerConfig {
        host: host.clone(),
        image: image.clone(),
        helper,
        directory: folder.path().join("docker"),
        cpus: 1.0,
        ..DockerConfig::default()
    };
    let runner = runtime.block_on(DockerRunner::connect(config)).unwrap();
    let [mut command_line, mut backend] = [(); 2].map(|()| Times::default());
    for round in 0..DOCKER_WARM_UP + DOCKER_PAIRS {
        let start = Instant::now();
        let mut docker = Command::new("docker");
        docker.args([
            "--host",
            &host,
            "run",
            "--rm",
            "--network=none",
            "--cap-drop=ALL",
            "--read-only",
            &image,
            "/bin/true",
        ]);
        run(docker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let theirs = start.elapsed();
        let start = Instant::now();
        runtime.block_on(once(&runner, Runtime::Embedded));
        if round >= DOCKER_WARM_UP {
            command_line.add(theirs);
            backend.add(start.elapsed());
        }
    }
    table::line("the same", ours, "docker run", &command_line, &Target::None);
    table::line("docker executor, an empty program", &backend, "docker run", &command_line, &Target::None);
}

async fn once(runner: &dyn Runner, runtime: Runtime) {
    let spec = LaneSpec { hosts: Vec::new(), limits: LIMITS, runtime };
    let mut lane = runner.prepare(spec).await.unwrap();
    let _fds = lane.take_fds().unwrap();
    let exit =
        lane.run(Job { code: b"nothing".to_vec(), layer: Vec::new(), env: Vec::new(), ca_pem: String::new() }).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Exited), "{exit:?}");
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Every namespace, the same read-only root, no capabilities, a filter.
fn bubblewrap(bwrap: &Path, program: &Path, filter: &Path) -> Command {
    let mut command = Command::new(bwrap);
    // The filter comes on descriptor 0.
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--seccomp", "0"]);
    command.args(["--clearenv", "--hostname", "sandbox", "--ro-bind", "/usr", "/usr"]);
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(to) => drop(command.arg("--symlink").arg(to).arg(&path)),
            Err(_) if path.is_dir() => drop(command.arg("--ro-bind").arg(&path).arg(&path)),
            Err(_) => {}
        }
    }
    for path in ["/etc/ld.so.cache", "/etc/alternatives"] {
        command.args(["--ro-bind-try", path, path]);
    }
    command.args(["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--dir", "/skill"]);
    command.arg("--ro-bind").arg(program).arg("/runtime/node");
    command.args(["--remount-ro", "/", "--chdir", "/tmp", "/runtime/node"]);
    command.stdin(File::open(filter).unwrap());
    command
}

/// A program without libraries that ends at once.
fn static_true(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("true.c"), folder.join("true"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    run(Command::new(compiler).args(["-O2", "-static", "-o"]).arg(&program).arg(&source));
    program
}

/// A filter as bubblewrap wants it, `struct sock_filter` after `struct sock_filter` (seccomp(2)): a few comparisons,
/// as many as a search in ours takes, in favour of the other side.
fn filter_bytes() -> Vec<u8> {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    let op = |code: u16, if_true: u8, if_false: u8, value: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([if_true, if_false]);
        bytes.extend(value.to_ne_bytes());
        bytes
    };
    // Not there, so that nothing that this program does is refused.
    let denied = 1000..1000 + DENIED_CALLS;
    let mut filter = op(LOAD_NUMBER, 0, 0, 0);
    for call in denied {
        filter.extend(op(JUMP_IF_EQUAL, 0, 1, call));
        filter.extend(op(RETURN, 0, 0, EPERM));
    }
    filter.extend(op(RETURN, 0, 0, ALLOW));
    filter
}
