//! From nothing to the end of a program: one that does nothing, and each runtime with a line to print. Ours beside no
//! sandbox at all, bubblewrap with an equal profile, and sandlock, one after the other, in one run. Ours also makes a
//! control group, routes, and the listeners of the egress, which the others do not.
//!
//! Needs a C compiler and `OAUTH3_TEST_BIN` (the executable that is our helper); `OAUTH3_TEST_BWRAP`,
//! `OAUTH3_TEST_SANDLOCK`, `OAUTH3_TEST_DENO` and `OAUTH3_TEST_NODE` for what they name, and `python3` on the `PATH`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
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

/// Rounds that count, after those that do not: of the program that does nothing, and of each runtime.
const ROUNDS: usize = 300;
const ROUNDS_OF_RUNTIMES: usize = 100;
const WARM_UP: usize = 30;
/// The same with an engine, which takes a hundred times as long.
const DOCKER_PAIRS: usize = 20;
const DOCKER_WARM_UP: usize = 2;
/// Our median over bubblewrap's.
const OF_BUBBLEWRAP: f64 = 0.6;
/// Limits that none of these meets.
const LIMITS: Limits = Limits { timeout_ms: 10_000, memory_mb: 1024, output_bytes: 4096, ..Limits::STANDARD };
/// System calls that bubblewrap's filter denies.
const DENIED_CALLS: u32 = 8;

/// Code that does nothing, for a program that does not read it either.
const NOTHING: &str = "0";

/// Something to run.
struct Case {
    name: &'static str,
    runtime: Runtime,
    /// The program on this machine.
    program: PathBuf,
    /// Its arguments, before the file with the code.
    arguments: Vec<&'static str>,
    code: &'static str,
}

fn main() {
    let helper = PathBuf::from(std::env::var_os("OAUTH3_TEST_BIN").expect("set OAUTH3_TEST_BIN to the executable"));
    let work = tempfile::tempdir().unwrap();
    let filter = work.path().join("filter");
    fs::write(&filter, filter_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut lines = Vec::new();
    let (mut pairs, mut busy) = (0, 0);
    for case in cases(work.path()) {
        // A runtime of the owner's own is shown inside as a file.
        let runtimes = BTreeMap::from([(case.runtime, case.program.clone())]);
        // As the gateway does it, with one that waits; and made from nothing, as when several come at once.
        let ours = [("", true), (", with none waiting", false)].map(|(how, spare)| {
            let config =
                NativeConfig { helper: helper.clone(), runtimes: runtimes.clone(), spare, ..NativeConfig::default() };
            (format!("{}{how}", case.name), NativeRunner::new(config).unwrap(), Times::default())
        });
        let mut ours = Vec::from(ours);
        let file = work.path().join("hello");
        fs::write(&file, case.code).unwrap();
        let mut bare = Command::new(&case.program);
        bare.args(&case.arguments).arg(&file);
        let mut others = vec![("no sandbox", Some(bare), Times::default())];
        let bwrap = std::env::var_os("OAUTH3_TEST_BWRAP").map(|bwrap| bubblewrap(bwrap.as_ref(), &case, &file));
        others.push(("bubblewrap", bwrap, Times::default()));
        let sandlock = std::env::var_os("OAUTH3_TEST_SANDLOCK").map(|program| sandlock(program.as_ref(), &case, &file));
        others.push(("sandlock", sandlock, Times::default()));
        let rounds = if case.code == NOTHING { ROUNDS } else { ROUNDS_OF_RUNTIMES };
        for round in 0..WARM_UP + rounds {
            pairs += others.len();
            for (_, runner, times) in &mut ours {
                // The next one is being made meanwhile; nobody else shall pay for that.
                busy += usize::from(!table::quiet());
                let took = time(|| runtime.block_on(once(runner, case.runtime, case.code)));
                if round >= WARM_UP {
                    times.add(took);
                }
            }
            for (name, command, times) in &mut others {
                let Some(command) = command else { continue };
                if *name == "bubblewrap" {
                    // The filter comes on descriptor 0, and is read to its end.
                    command.stdin(File::open(&filter).unwrap());
                }
                let took = time(|| run(command));
                if round >= WARM_UP {
                    times.add(took);
                }
            }
        }
        lines.push((ours, others));
    }
    table::head(pairs, busy);
    for (ours, others) in &lines {
        for (name, _, times) in ours {
            for (beside, _, theirs) in others {
                let target = if *beside == "bubblewrap" { Target::Ratio(OF_BUBBLEWRAP) } else { Target::None };
                table::line(name, times, beside, theirs, &target);
            }
        }
    }
    docker(&mut lines[0].0[0].2, helper, &runtime);
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn cases(work: &Path) -> Vec<Case> {
    let hello = "console.log('hello')";
    let nothing = Case {
        name: "a program that does nothing",
        runtime: Runtime::Node,
        program: static_true(work),
        arguments: vec![],
        code: NOTHING,
    };
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    let python = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("python3")).find(|file| file.starts_with("/usr/bin"))
    });
    let python = python.filter(|file| file.exists()).map(|program| Case {
        name: "python",
        runtime: Runtime::Python,
        program,
        arguments: vec!["-E", "-s", "-B", "-u"],
        code: "print('hello')",
    });
    let deno = named("OAUTH3_TEST_DENO").map(|program| Case {
        name: "deno",
        runtime: Runtime::Deno,
        program,
        arguments: vec![
            "run",
            "--quiet",
            "--no-prompt",
            "--no-remote",
            "--no-npm",
            "--no-config",
            "--no-lock",
            "--ext=ts",
        ],
        code: hello,
    });
    let node = named("OAUTH3_TEST_NODE").map(|program| Case {
        name: "node",
        runtime: Runtime::Node,
        program,
        arguments: vec![],
        code: hello,
    });
    std::iter::once(nothing).chain(python).chain(deno).chain(node).collect()
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
        runtime.block_on(once(&runner, Runtime::Embedded, NOTHING));
        if round >= DOCKER_WARM_UP {
            command_line.add(theirs);
            backend.add(start.elapsed());
        }
    }
    table::line("the same", ours, "docker run", &command_line, &Target::None);
    table::line("docker executor, an empty program", &backend, "docker run", &command_line, &Target::None);
}

async fn once(runner: &dyn Runner, runtime: Runtime, code: &str) {
    let spec = LaneSpec { hosts: Vec::new(), limits: LIMITS, runtime };
    let mut lane = runner.prepare(spec).await.unwrap();
    let _fds = lane.take_fds().unwrap();
    let exit = lane
        .run(Job { code: code.into(), layer: Vec::new(), env: Vec::new(), revealed: Vec::new(), ca_pem: String::new() })
        .await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Exited), "{exit:?}");
}

fn run(command: &mut Command) {
    command.stdout(Stdio::null()).stderr(Stdio::null()).env("DENO_NO_UPDATE_CHECK", "1");
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// The system read-only, the program and the code besides, and a place to write.
fn sandlock(sandlock: &Path, case: &Case, file: &Path) -> Command {
    let mut command = Command::new(sandlock);
    command.arg("run");
    for path in ["/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev"].map(Path::new) {
        if path.exists() {
            command.arg("-r").arg(path);
        }
    }
    for path in [&case.program, file] {
        command.arg("-r").arg(path.parent().unwrap());
    }
    command.args(["-w", "/tmp", "--"]).arg(&case.program).args(&case.arguments).arg(file);
    command.stdin(Stdio::null());
    command
}

/// Every namespace, the same read-only root, no capabilities, a filter.
fn bubblewrap(bwrap: &Path, case: &Case, file: &Path) -> Command {
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
    command.arg("--ro-bind").arg(&case.program).arg("/runtime/program").arg("--ro-bind").arg(file).arg("/skill/hello");
    // Deno wants a place for its cache.
    command.args(["--setenv", "HOME", "/tmp", "--setenv", "DENO_NO_UPDATE_CHECK", "1"]);
    command.args(["--remount-ro", "/", "--chdir", "/tmp"]);
    // What is in a system directory finds its library from there only.
    let is_system = case.program.starts_with("/usr");
    command.arg(if is_system { &case.program } else { Path::new("/runtime/program") });
    command.args(&case.arguments).arg("/skill/hello");
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
