//! The least that keeps what ours promises of a call: the bare proxy, and the token checked, the model read and allowed,
//! the budget counted, the call on disk in a chain of macs before it leaves, its reply searched for the key, its usage
//! read, its right looked at until it has ended. Written straight on, with the libraries that one would take. It knows
//! one agent, one key and one API, writes to a plain file, and looks for the key in one form. It is no bound: it tells
//! what the promise costs whoever does not measure each of its steps.

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// What the one agent brings.
pub const TOKEN: &str = "oa3_duties-3kW9xT5vQ1nB7mZ2cR8pL4sD6fG0hJ";
/// Its models.
const MODELS: [&str; 2] = ["gpt-4o-mini", "gpt-4o"];
/// Its tokens.
const BUDGET: u64 = 1_000_000_000_000;
/// Longest wait for a head, and for a reply.
const HEAD: Duration = Duration::from_secs(30);
const REPLY: Duration = Duration::from_secs(600);

/// One call that is to be written down, and who waits for it.
type Entry = (Vec<u8>, oneshot::Sender<()>);

struct Shared {
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: String,
    key: HeaderValue,
    token: [u8; 32],
    journal: mpsc::Sender<Entry>,
    used: AtomicU64,
    /// Finds the key, and where a reply may say what it used.
    is_key: Finder<'static>,
    says_usage: Finder<'static>,
    /// Says when somebody lost a right.
    revoked: watch::Receiver<bool>,
}

/// Prints its address, then serves for ever, with its journal in `dir`.
pub async fn serve(http: SocketAddr, dir: &Path, key: &'static str) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let file = File::create(dir.join("duties.log")).unwrap();
    let (journal, entries) = mpsc::channel();
    std::thread::spawn(move || write(file, &entries));
    let (_revoke, revoked) = watch::channel(false);
    let shared = Arc::new(Shared {
        client: Client::builder(TokioExecutor::new()).build(connector),
        upstream: format!("http://{http}"),
        key: HeaderValue::from_str(&format!("Bearer {key}")).unwrap(),
        token: Sha256::digest(TOKEN).into(),
        journal,
        used: AtomicU64::new(0),
        is_key: Finder::new(key),
        says_usage: Finder::new("\"usage\""),
        revoked,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", json!({ "http": listener.local_addr().unwrap() }));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| hand_on(&shared, request));
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn hand_on(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Response<Watched>, &'static str> {
    let (mut head, body) = request.into_parts();
    let token = head.headers.remove(AUTHORIZATION).ok_or("no token")?;
    let token = token.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).ok_or("no token")?;
    if <[u8; 32]>::from(Sha256::digest(token)) != shared.token {
        return Err("another token");
    }
    let bytes = body.collect().await.map_err(|_| "broke off")?.to_bytes();
    let asked: Asked<'_> = serde_json::from_slice(&bytes).map_err(|_| "no JSON")?;
    if !MODELS.contains(&asked.model) {
        return Err("another model");
    }
    if shared.used.load(Ordering::Relaxed) >= BUDGET {
        return Err("spent");
    }
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    // None of them has anything that would be escaped.
    let (method, path, model) = (&head.method, head.uri.path(), asked.model);
    let entry = format!(
        "{{\"at\":{at},\"agent\":\"bench\",\"method\":\"{method}\",\"path\":\"{path}\",\"model\":\"{model}\"}}\n"
    );
    let (written, on_disk) = oneshot::channel();
    shared.journal.send((entry.into_bytes(), written)).map_err(|_| "no journal")?;
    on_disk.await.map_err(|_| "not written")?;

    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::try_from(format!("{}{path}", shared.upstream)).map_err(|_| "no address")?;
    head.headers.remove(HOST);
    head.headers.remove(CONNECTION);
    head.headers.insert(AUTHORIZATION, shared.key.clone());
    let request = Request::from_parts(head, Full::new(bytes));
    let mut revoked = shared.revoked.clone();
    let reply = tokio::select! {
        reply = tokio::time::timeout(REPLY, shared.client.request(request)) => reply,
        _ = revoked.changed() => return Err("revoked"),
    };
    let reply = reply.map_err(|_| "too late")?.map_err(|_| "not reached")?;
    let shared = shared.clone();
    Ok(reply.map(|inner| Watched { inner, shared, revoked, seen: Vec::new() }))
}

/// What is read of a call.
#[derive(Deserialize)]
struct Asked<'a> {
    model: &'a str,
}

/// What is read of a reply, or of an event.
#[derive(Deserialize)]
struct Answer {
    usage: Usage,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

/// A reply that is searched, counted, and cut when its right ends.
struct Watched {
    inner: Incoming,
    shared: Arc<Shared>,
    revoked: watch::Receiver<bool>,
    seen: Vec<u8>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.revoked.has_changed().unwrap_or(true) {
            return Poll::Ready(Some(Err("revoked")));
        }
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)) else { return Poll::Ready(None) };
        let data = frame.map_err(|_| "broke off")?.into_data().unwrap_or_default();
        if self.shared.is_key.find(&data).is_some() {
            return Poll::Ready(Some(Err("the key")));
        }
        self.seen.extend_from_slice(&data);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // JSON, or a stream of events of which one tells it.
        let pieces = self.seen.split(|byte| *byte == b'\n').map(|line| line.strip_prefix(b"data: ").unwrap_or(line));
        let told = pieces.filter(|piece| self.shared.says_usage.find(piece).is_some());
        let answers = told.filter_map(|piece| serde_json::from_slice::<Answer>(piece).ok());
        let used = answers.map(|answer| answer.usage.total_tokens).sum();
        self.shared.used.fetch_add(used, Ordering::Relaxed);
    }
}

/// Writes what comes, all that is there at once.
fn write(mut file: File, entries: &mpsc::Receiver<Entry>) {
    let key = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
    let mut mac = Vec::new();
    while let Ok(first) = entries.recv() {
        let mut batch = vec![first];
        batch.extend(entries.try_iter());
        let mut text = Vec::new();
        let mut next = key.clone();
        next.update(&mac);
        for (entry, _) in &batch {
            next.update(entry);
            text.extend_from_slice(entry);
        }
        mac = next.finalize().into_bytes().to_vec();
        text.extend_from_slice(&mac);
        file.write_all(&text).unwrap();
        file.sync_data().unwrap();
        for (_, written) in batch {
            let _ = written.send(());
        }
    }
}
