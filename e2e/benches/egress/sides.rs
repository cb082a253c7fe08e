//! What is measured: each a process of its own, whose CPU time is read.

use crate::client::{NAME, Way, trusting};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// The real key. Where nothing is substituted, the client has it.
pub const VALUE: &str = "sk-proj-9aB8cD7eF6gH5iJ4kL3mN2oP1qR0sT";
/// What the client has in its place before the two that substitute and are not ours.
const PLACEHOLDER: &str = "sk-proj-PlaceHolderPlaceHolderPlaceHol";
pub const OURS: &str = "oauth3";
pub const BARE: &str = "bare interception";
pub const MITMPROXY: &str = "mitmproxy";
pub const SANDBOX_RUNTIME: &str = "sandbox-runtime";
pub const TUNNEL: &str = "blind tunnel";
/// Ticks of `/proc/<pid>/stat` in a second.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often, and how far apart, a proxy is looked for until it listens.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// One of the things that are compared.
pub struct Side {
    pub name: &'static str,
    pub way: Way,
    process: Option<Process>,
}

/// Ends with us.
struct Process {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Side {
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(OURS)
    }

    /// Takes many times as long as the others, and leaves the processor's caches to nobody else.
    pub fn is_slow(&self) -> bool {
        [MITMPROXY, SANDBOX_RUNTIME].contains(&self.name)
    }

    /// CPU time that its process used so far.
    pub fn cpu(&self) -> Option<Duration> {
        let pid = self.process.as_ref()?.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // The name may hold anything; fields 14 and 15 (proc(5)) are the 12th and 13th behind it.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        Some(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }
}

/// Starts all that is there; says what is not.
pub fn start(dir: &Path, upstream: SocketAddr, ca: &str) -> Vec<Side> {
    let ca_file = dir.join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let (address, file) = (upstream.to_string(), ca_file.to_str().unwrap());
    let authority = Some(format!("{NAME}:{}", upstream.port()));
    let direct = Way { address: upstream, authority: None, trust: trusting(&[ca]), key: VALUE.into() };
    let mut sides = vec![Side { name: "direct", way: direct, process: None }];

    let way = |said: &Value, key: &str| Way {
        address: said["proxy"].as_str().unwrap().parse().unwrap(),
        authority: authority.clone(),
        trust: trusting(&[said["ca"].as_str().unwrap(), ca]),
        key: key.to_owned(),
    };
    let ours = std::env::var_os("OAUTH3_BENCH_EGRESS").expect("set OAUTH3_BENCH_EGRESS to the example of the keeper");
    let (process, said) = speaking(Command::new(ours).args([NAME, &address, file, VALUE]));
    let placeholder = said["placeholder"].as_str().unwrap();
    sides.push(Side { name: OURS, way: way(&said, placeholder), process: Some(process) });
    for (name, role) in [(BARE, "bare"), (TUNNEL, "tunnel")] {
        let (process, said) = speaking(Command::new(std::env::current_exe().unwrap()).args([role, &address, file]));
        sides.push(Side { name, way: way(&said, VALUE), process: Some(process) });
    }

    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/egress");
    let variables =
        [("BENCH_PLACEHOLDER", PLACEHOLDER), ("BENCH_VALUE", VALUE), ("BENCH_UPSTREAM", &address), ("BENCH_CA", file)];
    match std::env::var_os("OAUTH3_TEST_MITMPROXY") {
        Some(program) => {
            let mut command = Command::new(program);
            command.envs(variables).arg("--quiet").arg("-s").arg(here.join("mitmproxy.py"));
            let (process, said) = mitmproxy(command, dir, file);
            sides.push(Side { name: MITMPROXY, way: way(&said, PLACEHOLDER), process: Some(process) });
        }
        None => println!("mitmproxy is not there (OAUTH3_TEST_MITMPROXY)"),
    }
    match (std::env::var_os("OAUTH3_TEST_SANDBOX_RUNTIME"), std::env::var_os("OAUTH3_TEST_NODE")) {
        (Some(package), Some(node)) => {
            let mut command = Command::new(node);
            command.envs(variables).arg(here.join("sandbox_runtime.mjs")).arg(package);
            let (process, said) = speaking(&mut command);
            sides.push(Side { name: SANDBOX_RUNTIME, way: way(&said, PLACEHOLDER), process: Some(process) });
        }
        _ => println!("sandbox-runtime is not there (OAUTH3_TEST_SANDBOX_RUNTIME, OAUTH3_TEST_NODE)"),
    }
    sides
}

/// Starts a process that says in a line of JSON where it listens and who signs for it.
fn speaking(command: &mut Command) -> (Process, Value) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command:?} said {line:?}"));
    let stdin = child.stdin.take();
    (Process { child, _stdin: stdin }, said)
}

/// It says nothing: a port is chosen for it, and it is there when it listens and has written its authority.
fn mitmproxy(mut command: Command, dir: &Path, ca_file: &str) -> (Process, Value) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = dir.join("mitmproxy");
    command.args(["--listen-host", "127.0.0.1", "--listen-port", &port.to_string(), "--set"]);
    command.arg(format!("confdir={}", home.display())).arg("--set");
    command.arg(format!("ssl_verify_upstream_trusted_ca={ca_file}"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let process = Process { child, _stdin: None };
    for _ in 0..TRIES {
        let ca = std::fs::read_to_string(home.join("mitmproxy-ca-cert.pem")).unwrap_or_default();
        if !ca.is_empty() && TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return (process, serde_json::json!({ "proxy": format!("127.0.0.1:{port}"), "ca": ca }));
        }
        std::thread::sleep(PAUSE);
    }
    panic!("mitmproxy did not begin to listen");
}
