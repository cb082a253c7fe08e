//! A server of somebody else's making, in a process of its own, that prints its port and then what it sees.

use crate::certificate::Certificate;
use crate::world::PATIENCE;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running one. Ended when dropped.
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    _child: Child,
}

impl Peer {
    /// Starts `program` with a script of `e2e/peers` and the files of a certificate, which go to `dir`.
    pub async fn start(program: &Path, script: &str, certificate: &Certificate, dir: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
        let mut command = Command::new(program);
        command.arg(script).args(certificate.write(dir)).kill_on_drop(true);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the peer starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = tokio::time::timeout(PATIENCE, output.next_line()).await.expect("a port in time");
        let port: u16 = first.expect("readable").expect("a line").parse().expect("a port");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let kept = lines.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                kept.lock().expect("not poisoned").push(line);
            }
        });
        Self { address: ([127, 0, 0, 1], port).into(), lines, _child: child }
    }

    /// What it saw so far, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }
}
