//! A small HTTP port for loopback.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use oauth3_core::{HttpPort, HttpRequest, HttpResponse};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// Speaks HTTP/1.1 to loopback, one connection for each call. Remembers the timeouts that were asked for.
#[derive(Default)]
pub(crate) struct LoopbackHttp {
    pub(crate) timeouts: Mutex<Vec<Duration>>,
    answered: watch::Sender<Vec<u16>>,
}

impl LoopbackHttp {
    /// Waits until a call was answered with this status.
    pub(crate) async fn until_answered(&self, status: u16) {
        let mut answered = self.answered.subscribe();
        let waited = answered.wait_for(|all| all.contains(&status));
        drop(tokio::time::timeout(Duration::from_secs(60), waited).await.unwrap().unwrap());
    }
}

#[async_trait]
impl HttpPort for LoopbackHttp {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, String> {
        self.timeouts.lock().unwrap().push(request.timeout);
        match tokio::time::timeout(request.timeout, exchange(request)).await {
            Ok(Ok(response)) => {
                self.answered.send_modify(|all| all.push(response.status));
                Ok(response)
            }
            Ok(Err(_)) => Err("127.0.0.1 did not answer".to_owned()),
            Err(_) => Err("127.0.0.1 did not answer in time".to_owned()),
        }
    }
}

async fn exchange(request: HttpRequest) -> Result<HttpResponse, Box<dyn std::error::Error + Send + Sync>> {
    let uri: hyper::Uri = request.url.parse()?;
    let authority = uri.authority().ok_or("no host")?.to_string();
    #[allow(clippy::disallowed_methods, reason = "this is the test's own way to the emulator")]
    let stream = tokio::net::TcpStream::connect(&authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let mut builder = hyper::Request::builder().method(request.method).uri(uri.path()).header("host", authority);
    for (name, value) in &request.headers {
        builder = builder.header(*name, value.as_str());
    }
    let response = sender.send_request(builder.body(Full::new(Bytes::from_owner(request.body)))?).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes().to_vec();
    drop(connection);
    if body.len() > request.max_reply_bytes {
        return Err("too large".into());
    }
    Ok(HttpResponse { status, location: None, content_type: None, retry_after: None, body: body.into() })
}

/// Ends the connection together with the call.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
