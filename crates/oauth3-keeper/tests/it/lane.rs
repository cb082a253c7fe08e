//! A sandbox without the sandbox: a proxy listener on loopback and pipes.

use oauth3_core::{LaneFds, ListenerFd, ListenerRole};
use std::io::{PipeReader, PipeWriter, pipe};
use std::net::{SocketAddr, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct TestLane {
    proxy: SocketAddr,
    pub(crate) stdout: PipeWriter,
    pub(crate) stderr: PipeWriter,
    /// Where real values come out.
    pub(crate) values: PipeReader,
}

impl TestLane {
    pub(crate) fn new() -> (Self, LaneFds) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        let ((out, stdout), (err, stderr)) = (pipe().unwrap(), pipe().unwrap());
        let listeners = vec![ListenerFd { role: ListenerRole::Proxy, fd: listener.into() }];
        let (values, reveal) = pipe().unwrap();
        let fds = LaneFds { listeners, stdout: out.into(), stderr: err.into(), reveal: reveal.into() };
        (Self { proxy, stdout, stderr, values }, fds)
    }

    /// What the code would do with `fetch`: one request through the proxy; the whole reply.
    #[allow(clippy::disallowed_methods, reason = "plays the code in the sandbox")]
    pub(crate) async fn fetch(&self, host: &str, authorization: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(self.proxy).await else { return "refused".into() };
        let request = format!(
            "GET https://{host}/v1/models HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n"
        );
        let mut reply = Vec::new();
        if stream.write_all(request.as_bytes()).await.is_err() || stream.read_to_end(&mut reply).await.is_err() {
            return "reset".into();
        }
        String::from_utf8(reply).unwrap()
    }
}

/// The network of a lane whose pipes are closed.
pub(crate) struct ProxyOnly(TestLane);

impl TestLane {
    /// As when the code ended.
    pub(crate) fn without_pipes(self) -> ProxyOnly {
        let ((_, stdout), (_, stderr), (values, _)) = (pipe().unwrap(), pipe().unwrap(), pipe().unwrap());
        ProxyOnly(Self { proxy: self.proxy, stdout, stderr, values })
    }
}

impl ProxyOnly {
    pub(crate) async fn fetch(&self, host: &str, authorization: &str) -> String {
        self.0.fetch(host, authorization).await
    }
}
