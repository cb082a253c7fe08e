//! What is measured: each a process of its own, whose CPU time is read.

use crate::load::Way;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The real key. Where nothing is replaced, the client has it.
pub const VALUE: &str = "sk-proj-9aB8cD7eF6gH5iJ4kL3mN2oP1qR0sT";
pub const OURS: &str = "oauth3";
pub const SOON: &str = "oauth3, audit soon after";
pub const BARE: &str = "bare hyper";
pub const NGINX: &str = "nginx";
/// Ticks of `/proc/<pid>/stat` in a second.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often, and how far apart, a proxy is looked for until it listens.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(50);

/// One of the things that are compared.
pub struct Side {
    pub name: &'static str,
    pub way: Way,
    /// Whose CPU time counts.
    pids: Vec<u32>,
    _process: Option<Process>,
}

/// Ends with us.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's workers end with their master, and a keeper with its gateway.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Side {
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

    /// Memory that its processes hold, in MB.
    pub fn resident(&self) -> f64 {
        let of = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
            line.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e3
        };
        self.pids.iter().map(of).sum()
    }
}

/// Starts this program in another role.
pub fn role(words: &[&str]) -> (Process, SocketAddr) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = line(&mut child);
    (Process(child), said["address"].as_str().unwrap().parse().unwrap())
}

/// Starts all that is there; says what is not.
pub fn start(dir: &Path, upstream: SocketAddr) -> Vec<Side> {
    let place = upstream.to_string();
    let way = |address, base, token: &str| Way { address, base, token: token.to_owned() };
    let mut sides = vec![Side { name: "direct", way: way(upstream, "/v1", VALUE), pids: vec![], _process: None }];
    let (process, address) = role(&["bare", &place]);
    sides.push(Side {
        name: BARE,
        way: way(address, "/v1", "any"),
        pids: vec![process.0.id()],
        _process: Some(process),
    });
    match nginx(dir, &place) {
        Some((process, address, pids)) => {
            sides.push(Side { name: NGINX, way: way(address, "/v1", "any"), pids, _process: Some(process) });
        }
        None => println!("nginx is not there (OAUTH3_TEST_NGINX)"),
    }
    for (name, durable) in [(OURS, "true"), (SOON, "false")] {
        let (process, address, token, keeper) = ours(&dir.join(durable), upstream.port(), durable);
        sides.push(Side { name, way: way(address, "/v1/bench", &token), pids: vec![keeper], _process: Some(process) });
    }
    sides
}

/// A gateway with its keeper, a key and a grant.
fn ours(home: &Path, port: u16, durable: &str) -> (Process, SocketAddr, String, u32) {
    let program = std::env::var_os("OAUTH3_TEST_BIN").expect("set OAUTH3_TEST_BIN");
    let command = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).env_clear().env("OAUTH3_HOME", home).env("HOME", home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("OAUTH3_PROXY_LISTEN", "127.0.0.1:0").env("OAUTH3_LISTEN", "127.0.0.1:0");
        command.env("OAUTH3_PROXY_DURABLE_AUDIT", durable);
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
    let provider = format!(
        "[bench]\ntitle = \"Bench\"\nbase = \"http://localhost:{port}/v1\"\ncredential = \"bearer\"\ndialect = \"openai\"\nsecret = \"BENCH_KEY\"\ndocs = \"https://example.com\"\n"
    );
    std::fs::write(home.join("providers.toml"), provider).unwrap();
    let token = run(&["agent", "add", "bench", "--json"], "")["token"].as_str().unwrap().to_owned();
    run(&["secret", "add", "BENCH_KEY", "--host", &format!("localhost:{port}"), "--stdin"], VALUE);
    run(&["provider", "key", "add", "bench", "BENCH_KEY"], "");
    run(&["provider", "grant", "bench", "--agent", "bench", "--tokens-per-day", "1000000000000"], "");
    let mut child = command(&["serve", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = line(&mut child);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let is_keeper = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .unwrap_or_default()
            .split('\0')
            .any(|word| word == "keeper")
    };
    let keeper = children.split_whitespace().map(|pid| pid.parse().unwrap()).find(is_keeper).unwrap();
    (Process(child), said["proxy"].as_str().unwrap().parse().unwrap(), token, keeper)
}

/// nginx with one worker for each processor, keeping connections to the upstream.
fn nginx(dir: &Path, upstream: &str) -> Option<(Process, SocketAddr, Vec<u32>)> {
    let program = std::env::var_os("OAUTH3_TEST_NGINX")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "daemon off; worker_processes auto; pid {0}/nginx.pid; error_log stderr crit;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;
           fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; keepalive_requests 100000000;
           upstream api {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}
           server {{
             listen 127.0.0.1:{port};
             location / {{
               proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection \"\";
               proxy_set_header Authorization \"Bearer {VALUE}\"; proxy_buffering off;
             }}
           }}
         }}",
        dir.display()
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let process = Process(Command::new(program).arg("-c").arg(&file).stdin(Stdio::null()).spawn().unwrap());
    for _ in 0..TRIES {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.0.id())).unwrap();
            let pids = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
            return Some((process, SocketAddr::from(([127, 0, 0, 1], port)), pids));
        }
        std::thread::sleep(PAUSE);
    }
    panic!("nginx did not begin to listen");
}

fn line(child: &mut Child) -> Value {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("said {line:?}"))
}
