//! The one client of every side, and how it drives one.

use crate::tls;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Connections on which a side is driven.
pub const CONNECTIONS: usize = 64;
/// What a call says that gets a stream of one event, which then stays open.
pub const SILENT: &str = "Say one word, then nothing.";
/// The smallest reply that is a reply, in bytes.
const LEAST_BYTES: usize = 500;
/// A paced side is left alone after so many times the time it was to be driven for: it is too slow by far.
const OVERTIME: u32 = 3;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Json,
    Sse,
    /// One event, and then nothing.
    Idle,
}

impl Shape {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Sse => "a stream of events",
            Self::Idle => "an idle stream",
        }
    }

    /// Made once: the client shares the processors with what it measures.
    fn body(self) -> Bytes {
        static BODIES: LazyLock<[Bytes; 3]> = LazyLock::new(|| {
            let asks = "How is the weather in Lisbon today?";
            [("", asks), ("\"stream\":true,", asks), ("\"stream\":true,", SILENT)].map(|(stream, says)| {
                let messages = format!("\"messages\":[{{\"role\":\"user\",\"content\":\"{says}\"}}]");
                format!("{{\"model\":\"gpt-4o-mini\",{stream}{messages}}}").into()
            })
        });
        let [json, sse, idle] = &*BODIES;
        match self {
            Self::Json => json.clone(),
            Self::Sse => sse.clone(),
            Self::Idle => idle.clone(),
        }
    }
}

/// A way to the upstream.
#[derive(Clone)]
pub struct Way {
    pub address: SocketAddr,
    /// How TLS is spoken on it; none where it is not.
    pub trust: Option<Arc<ClientConfig>>,
    /// Before `/chat/completions`.
    pub base: &'static str,
    pub token: String,
    /// What a side wants to be told besides.
    pub fields: Vec<(&'static str, String)>,
}

pub type Kept = SendRequest<Full<Bytes>>;

impl Way {
    pub async fn open(&self) -> Kept {
        if let Some(trust) = &self.trust {
            return speak(tls::connect(self.address, trust.clone()).await.unwrap()).await;
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        speak(stream).await
    }

    /// One call; the time until the first piece of its reply.
    pub async fn once(&self, kept: &mut Kept, shape: Shape) -> Duration {
        let request = self.request(shape);
        kept.ready().await.unwrap();
        let start = Instant::now();
        let reply = kept.send_request(request).await.unwrap();
        let status = reply.status();
        let (mut body, mut first, mut text) = (reply.into_body(), None, Vec::new());
        while let Some(frame) = body.frame().await {
            first.get_or_insert_with(|| start.elapsed());
            text.extend_from_slice(frame.unwrap().data_ref().map_or(&[][..], |data| data));
        }
        assert!(status == 200 && text.len() > LEAST_BYTES, "{status}: {}", String::from_utf8_lossy(&text));
        first.unwrap()
    }

    /// A stream that said its first event and nothing since.
    pub async fn idle(&self) -> (Kept, Incoming) {
        let mut kept = self.open().await;
        let reply: Response<Incoming> = kept.send_request(self.request(Shape::Idle)).await.unwrap();
        let status = reply.status();
        let mut body = reply.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(status == 200 && first.starts_with(b"data: "), "{status}: {}", String::from_utf8_lossy(&first));
        (kept, body)
    }

    fn request(&self, shape: Shape) -> Request<Full<Bytes>> {
        let mut request = Request::post(format!("{}/chat/completions", self.base))
            .header("host", "bench")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        request.body(Full::new(shape.body())).unwrap()
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Kept {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// As many calls as it can answer. Those that it did, and the time that they took; each client makes at most `most`.
pub async fn drive(way: &Way, shape: Shape, time: Duration, most: usize) -> (usize, Duration) {
    let start = Instant::now();
    let clients = (0..CONNECTIONS).map(|_| {
        let way = way.clone();
        tokio::spawn(async move {
            let (mut kept, mut calls) = (way.open().await, 0);
            while start.elapsed() < time && calls < most {
                way.once(&mut kept, shape).await;
                calls += 1;
            }
            calls
        })
    });
    let mut calls = 0;
    for client in clients.collect::<Vec<_>>() {
        calls += client.await.unwrap();
    }
    (calls, start.elapsed())
}

/// So many calls a second, each due at its own time whatever became of the one before. How long each took, from when
/// it was due where its connection was still taken, and the time that all of them took.
pub async fn pace(way: &Way, shape: Shape, per_second: f64, time: Duration) -> (Vec<Duration>, Duration) {
    let interval = Duration::from_secs_f64(CONNECTIONS as f64 / per_second);
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut kept = way.open().await;
        // The first call on a connection is slower, and these would be most of the slowest hundredth.
        way.once(&mut kept, shape).await;
        open.push(kept);
    }
    let start = Instant::now();
    let clients = (0_u32..).zip(open).map(|(client, mut kept)| {
        let way = way.clone();
        tokio::spawn(async move {
            let mut due = start + interval * client / CONNECTIONS as u32;
            let mut times = Vec::new();
            while due < start + time && start.elapsed() < time * OVERTIME {
                let mut begun = due;
                if Instant::now() < due {
                    // The clock wakes us up to a millisecond late, which is not the side's fault.
                    tokio::time::sleep_until(due.into()).await;
                    begun = Instant::now();
                }
                way.once(&mut kept, shape).await;
                times.push(begun.elapsed());
                due += interval;
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.append(&mut client.await.unwrap());
    }
    (times, start.elapsed())
}
