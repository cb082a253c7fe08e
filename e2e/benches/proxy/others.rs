//! The proxies of others that ours is measured beside.

use crate::sides::{Process, Side, Upstream, VALUE, children, way};
use crate::tls;
use serde_json::json;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const NGINX: &str = "nginx";
/// What LiteLLM's clients have in the key's place.
const LITELLM_KEY: &str = "sk-litellm-Vn3Xq8Rt5Yw1Kc7Bm";
/// How long a proxy may take until it listens (LiteLLM loads for long), and how often it is looked for.
const BEGIN: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(50);

/// Those that can be had.
pub struct Others {
    pub fast: Vec<Side>,
    pub slow: Vec<Side>,
}

/// Starts what is there; says what is not, and why.
pub fn start(dir: &Path, upstream: &Upstream) -> Others {
    let there = |name: &str, side: Result<Side, String>| match side {
        Ok(side) => Some(side),
        Err(why) => {
            println!("{name} is left out: {why}");
            None
        }
    };
    let slow = [("LiteLLM", litellm(dir, upstream)), ("Portkey", portkey(dir, upstream))];
    Others {
        fast: there(NGINX, nginx(dir, upstream)).into_iter().collect(),
        slow: slow.into_iter().filter_map(|(name, side)| there(name, side)).collect(),
    }
}

/// nginx with one worker for each processor, keeping connections to the upstream.
fn nginx(dir: &Path, upstream: &Upstream) -> Result<Side, String> {
    let program = program("OAUTH3_TEST_NGINX")?;
    let ports = [free_port(), free_port()];
    let text = format!(
        "daemon off; worker_processes auto; pid {0}/nginx.pid; error_log stderr crit;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;
           fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; keepalive_requests 100000000;
           proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
           proxy_set_header Authorization \"Bearer {VALUE}\";
           proxy_ssl_trusted_certificate {ca}; proxy_ssl_verify on; proxy_ssl_name {name};
           proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3;
           upstream http_api {{ server {http}; keepalive 128; keepalive_requests 100000000; }}
           upstream https_api {{ server {https}; keepalive 128; keepalive_requests 100000000; }}
           server {{ listen 127.0.0.1:{1}; location / {{ proxy_pass http://http_api; }} }}
           server {{ listen 127.0.0.1:{2}; location / {{ proxy_pass https://https_api; }} }}
         }}",
        dir.display(),
        ports[0],
        ports[1],
        ca = upstream.ca.display(),
        name = tls::NAME,
        http = upstream.http,
        https = upstream.https,
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    let mut process = spawn(Command::new(program).arg("-c").arg(&file), dir, NGINX)?;
    let [http, https] = ports.map(|port| way(local(port), "/v1", "any"));
    until_it_listens(&mut process, ports[1], dir, NGINX)?;
    let master = process.0.id();
    let mut side = Side::alone(NGINX, process, http, Some(https));
    side.pids = children(master);
    side.beside = vec![master];
    Ok(side)
}

/// LiteLLM as its command starts it, with one model and its own key for clients.
fn litellm(dir: &Path, upstream: &Upstream) -> Result<Side, String> {
    let program = program("OAUTH3_TEST_LITELLM")?;
    let config = json!({
        "model_list": [{ "model_name": "gpt-4o-mini", "litellm_params": {
            "model": "openai/gpt-4o-mini", "api_base": format!("http://{}/v1", upstream.http), "api_key": VALUE,
        } }],
        "general_settings": { "master_key": LITELLM_KEY },
        "litellm_settings": { "telemetry": false },
    });
    let file = dir.join("litellm.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let port = free_port();
    let mut command = Command::new(&program);
    command.arg("--config").arg(&file).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.env_clear().env("HOME", dir).env("PATH", program.parent().unwrap());
    // Its prices would come from the network otherwise.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let mut process = spawn(&mut command, dir, "litellm")?;
    until_it_listens(&mut process, port, dir, "litellm")?;
    Ok(Side { slow: true, ..Side::alone("LiteLLM", process, way(local(port), "/v1", LITELLM_KEY), None) })
}

/// Portkey's gateway, whose clients have the key and say where it goes.
fn portkey(dir: &Path, upstream: &Upstream) -> Result<Side, String> {
    let (folder, node) = (program("OAUTH3_TEST_PORTKEY")?, program("OAUTH3_TEST_NODE")?);
    let port = free_port();
    let mut command = Command::new(node);
    command.arg(folder.join("node_modules/@portkey-ai/gateway/build/start-server.js"));
    command.arg(format!("--port={port}")).arg("--headless");
    command.env_clear().env("HOME", dir).env("NODE_ENV", "production");
    let mut process = spawn(&mut command, dir, "portkey")?;
    until_it_listens(&mut process, port, dir, "portkey")?;
    let mut http = way(local(port), "/v1", VALUE);
    http.fields.push(("x-portkey-provider", "openai".to_owned()));
    http.fields.push(("x-portkey-custom-host", format!("http://{}/v1", upstream.http)));
    Ok(Side { slow: true, ..Side::alone("Portkey", process, http, None) })
}

fn program(variable: &str) -> Result<PathBuf, String> {
    std::env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set"))
}

/// Nothing can hand them a bound socket, so the port is free only a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn log(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn spawn(command: &mut Command, dir: &Path, name: &str) -> Result<Process, String> {
    let log = File::create(log(dir, name)).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().map(Process).map_err(|error| format!("it does not start: {error}"))
}

fn until_it_listens(process: &mut Process, port: u16, dir: &Path, name: &str) -> Result<(), String> {
    let start = Instant::now();
    while TcpStream::connect(local(port)).is_err() {
        let ended = process.0.try_wait().unwrap();
        if ended.is_some() || start.elapsed() > BEGIN {
            let log = std::fs::read_to_string(log(dir, name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(3).collect();
            return Err(format!("it does not listen; the last that it said, backwards: {lines:?}"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
