//! What is measured: each a process of its own, whose CPU time and memory are read.

use crate::load::Way;
use crate::{duties, others, tls};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The real key. Where nothing is replaced, the client has it.
pub const VALUE: &str = "sk-proj-9aB8cD7eF6gH5iJ4kL3mN2oP1qR0sT";
pub const OURS: &str = "oauth3";
pub const SOON: &str = "oauth3, audit soon after";
pub const BARE: &str = "bare hyper";
pub const DUTIES: &str = "bare hyper, with the least of the duties";
/// Ticks of `/proc/<pid>/stat` in a second.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a side may take to end when it is told to, and how often it is looked at.
const END: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// How the upstream is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Where the upstream listens, and who signs for it.
pub struct Upstream {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub ca: PathBuf,
}

/// One of the things that are compared.
pub struct Side {
    pub name: &'static str,
    pub http: Way,
    /// To the upstream over TLS.
    pub https: Option<Way>,
    /// It answers a small part of the others' calls in the same time, and is asked for fewer.
    pub slow: bool,
    /// Whose CPU time counts.
    pub pids: Vec<u32>,
    /// Whose memory counts besides.
    pub beside: Vec<u32>,
    /// Lives as long as the side.
    pub _process: Option<Process>,
}

/// Ends with us.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that ended may have left its number to another.
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        // nginx's workers end with their master, and a keeper with its gateway.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let start = Instant::now();
        while start.elapsed() < END {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Side {
    /// A side in one process of its own.
    pub fn alone(name: &'static str, process: Process, http: Way, https: Option<Way>) -> Self {
        let pids = vec![process.0.id()];
        Self { name, http, https, slow: false, pids, beside: vec![], _process: Some(process) }
    }

    pub fn way(&self, scheme: Scheme) -> Option<&Way> {
        match scheme {
            Scheme::Http => Some(&self.http),
            Scheme::Https => self.https.as_ref(),
        }
    }

    /// It is a process, and a fast one.
    pub fn is_fast_process(&self) -> bool {
        !self.slow && !self.pids.is_empty()
    }

    /// CPU time that its processes used so far; none for what has none.
    pub fn cpu(&self) -> Option<Duration> {
        let ticks = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
            fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
        };
        let all: f64 = self.pids.iter().map(ticks).sum();
        (!self.pids.is_empty()).then(|| Duration::from_secs_f64(all / TICKS_PER_SECOND))
    }

    /// Memory that the processes hold that do the work, in MB.
    pub fn resident(&self) -> f64 {
        self.pids.iter().map(resident).sum()
    }

    /// Memory that all its processes hold, in MB.
    pub fn resident_in_all(&self) -> f64 {
        self.pids.iter().chain(&self.beside).map(resident).sum()
    }
}

fn resident(pid: &u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
    line.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e3
}

/// A way without TLS.
pub fn way(address: SocketAddr, base: &'static str, token: &str) -> Way {
    Way { address, trust: None, base, token: token.to_owned(), fields: vec![] }
}

/// Starts the upstream.
pub fn upstream(dir: &Path) -> (Process, Upstream) {
    let (process, said) = role(&["upstream", dir.to_str().unwrap()]);
    let ca = said["ca"].as_str().unwrap().into();
    (process, Upstream { http: address(&said, "http"), https: address(&said, "https"), ca })
}

/// Starts all that is there; says what is not.
pub fn start(dir: &Path, upstream: &Upstream) -> Vec<Side> {
    let over_tls = Way { trust: Some(tls::trusting(&upstream.ca)), ..way(upstream.https, "/v1", VALUE) };
    let mut sides = vec![Side {
        name: "direct",
        http: way(upstream.http, "/v1", VALUE),
        https: Some(over_tls),
        slow: false,
        pids: vec![],
        beside: vec![],
        _process: None,
    }];
    let places = [upstream.http.to_string(), upstream.https.to_string()];
    let (process, said) = role(&["bare", &places[0], &places[1], upstream.ca.to_str().unwrap()]);
    let way_of = |scheme| way(address(&said, scheme), "/v1", "any");
    sides.push(Side::alone(BARE, process, way_of("http"), Some(way_of("https"))));
    let (process, said) = role(&["duties", &places[0], dir.to_str().unwrap()]);
    sides.push(Side::alone(DUTIES, process, way(address(&said, "http"), "/v1", duties::TOKEN), None));
    let mut others = others::start(dir, upstream);
    sides.append(&mut others.fast);
    for (name, durable) in [(OURS, "true"), (SOON, "false")] {
        sides.push(ours(name, &dir.join(durable), upstream, durable));
    }
    sides.append(&mut others.slow);
    sides
}

/// A gateway with its keeper, and for each scheme an API, a key and a grant.
fn ours(name: &'static str, home: &Path, upstream: &Upstream, durable: &str) -> Side {
    let program = std::env::var_os("OAUTH3_TEST_BIN").expect("set OAUTH3_TEST_BIN");
    let command = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).env_clear().env("OAUTH3_HOME", home).env("HOME", home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("OAUTH3_PROXY_LISTEN", "127.0.0.1:0").env("OAUTH3_LISTEN", "127.0.0.1:0");
        command.env("OAUTH3_PROXY_DURABLE_AUDIT", durable).env("OAUTH3_EGRESS_EXTRA_CA", &upstream.ca);
        command
    };
    let run = |args: &[&str], input: &str| {
        let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()
    };
    std::fs::create_dir_all(home).unwrap();
    run(&["init"], "");
    let hosts = [upstream.http, upstream.https].map(|address| format!("{}:{}", tls::NAME, address.port()));
    let apis = [("bench", "http", "BENCH_KEY", &hosts[0]), ("bench-tls", "https", "BENCH_TLS_KEY", &hosts[1])];
    let providers = apis.map(|(api, scheme, secret, host)| {
        format!(
            "[{api}]\ntitle = \"Bench\"\nbase = \"{scheme}://{host}/v1\"\ncredential = \"bearer\"\ndialect = \"openai\"\nsecret = \"{secret}\"\ndocs = \"https://example.com\"\n"
        )
    });
    std::fs::write(home.join("providers.toml"), providers.concat()).unwrap();
    let token = run(&["agent", "add", "bench", "--json"], "")["token"].as_str().unwrap().to_owned();
    for (api, _, secret, host) in apis {
        run(&["secret", "add", secret, "--host", host, "--stdin"], VALUE);
        run(&["provider", "key", "add", api, secret], "");
        run(&["provider", "grant", api, "--agent", "bench", "--tokens-per-day", "1000000000000"], "");
    }
    let mut child = command(&["serve", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = line(&mut child);
    let is_keeper = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .unwrap_or_default()
            .split('\0')
            .any(|word| word == "keeper")
    };
    let keeper = children(child.id()).into_iter().find(is_keeper).unwrap();
    let proxy = address(&said, "proxy");
    let (http, https) = (way(proxy, "/v1/bench", &token), way(proxy, "/v1/bench-tls", &token));
    let beside = vec![child.id()];
    Side { name, http, https: Some(https), slow: false, pids: vec![keeper], beside, _process: Some(Process(child)) }
}

/// The processes that a process started.
pub fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Starts this program in another role.
fn role(words: &[&str]) -> (Process, Value) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = line(&mut child);
    (Process(child), said)
}

fn address(said: &Value, what: &str) -> SocketAddr {
    said[what].as_str().unwrap().parse().unwrap()
}

fn line(child: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("said {line:?}"))
}
