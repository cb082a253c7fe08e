//! WebSockets: the two handshakes, and what happens to frames.

use crate::client::{proxy_connect, tls};
use crate::upstream::{Upstream, certificate};
use crate::world::{KEY, OTHER_KEY, World, leases};
use data_encoding::BASE64;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use sha1::{Digest, Sha1};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Both ends are the test's: bytes as they are.
type HostStream = tokio_rustls::server::TlsStream<TcpStream>;
type Script = Arc<dyn Fn(String, HostStream) -> BoxFuture<'static, ()> + Send + Sync>;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
/// The example of RFC 6455 §1.3.
const RFC_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const RFC_PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A host that runs a script on each connection: the request's head, and the stream after it.
async fn world(script: Script) -> World {
    let (ca_pem, mut config) = certificate(&["api.test", "other.test"]);
    // It prefers HTTP/2, where there is no Upgrade: only who asks for HTTP/1.1 alone gets to it.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream::elsewhere(listener.local_addr().unwrap(), ca_pem);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let script = script.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await;
                script(head, stream).await;
            });
        }
    });
    World::before(upstream, leases(&[KEY, OTHER_KEY]), true)
}

fn script<F: Future<Output = ()> + Send + 'static>(
    f: impl Fn(String, HostStream) -> F + Send + Sync + 'static,
) -> Script {
    Arc::new(move |head, stream| Box::pin(f(head, stream)))
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The host's half of the handshake, and these fields.
async fn accept(head: &str, stream: &mut HostStream, extra: &str) {
    let key = field(head, "sec-websocket-key").unwrap();
    let proof = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let proof = BASE64.encode(&proof);
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {proof}\r\n{extra}\r\n"
    );
    stream.write_all(reply.as_bytes()).await.unwrap();
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(masked | short as u8),
        long => {
            out.push(masked | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    if (126..=65535).contains(&payload.len()) {
        out.truncate(1);
        out.push(masked | 126);
        out.extend((payload.len() as u16).to_be_bytes());
    }
    out.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn from_code(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(first, payload.as_ref(), Some(MASK))
}

fn from_host(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(first, payload.as_ref(), None)
}

/// The next frame: its first byte, whether it was masked, its payload. `None` when the stream ends.
async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, bool, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.ok()?;
    let length = match head[1] & 0x7F {
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        short => u64::from(short),
    };
    let masked = head[1] & 0x80 != 0;
    let mut key = [0; 4];
    if masked {
        stream.read_exact(&mut key).await.ok()?;
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Some((head[0], masked, payload))
}

/// A whole message, put together: its kind and its bytes; control frames between its fragments are left out.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let (mut kind, mut whole) = (0, Vec::new());
    loop {
        let (first, _, payload) = next(stream).await.unwrap();
        if first & 0x08 != 0 {
            continue;
        }
        kind |= first & 0x0F;
        whole.extend(payload);
        if first & 0x80 != 0 {
            return (kind, whole);
        }
    }
}

fn close_code(frame: Option<(u8, bool, Vec<u8>)>) -> Option<u16> {
    let (first, _, payload) = frame?;
    (first == CLOSE).then(|| u16::from_be_bytes([payload[0], payload[1]]))
}

fn hello(extra: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {RFC_KEY}\r\n{extra}\r\n"
    )
}

/// The code's half; the head of the answer and the stream after it.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, hello: &str) -> (String, S) {
    stream.write_all(hello.as_bytes()).await.unwrap();
    (read_head(&mut stream).await, stream)
}

async fn to_api(world: &World) -> tokio_rustls::client::TlsStream<TcpStream> {
    tls(world, TcpStream::connect(world.tls).await.unwrap(), "api.test").await
}

async fn opened(world: &World) -> tokio_rustls::client::TlsStream<TcpStream> {
    let (answer, stream) = begin(to_api(world).await, &hello("")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream
}

/// Sends back each message in one frame, and answers a close.
fn echo() -> Script {
    script(|head, mut stream| async move {
        accept(&head, &mut stream, "").await;
        while let Some((first, masked, payload)) = next(&mut stream).await {
            assert!(masked, "toward a server everything is masked");
            if stream.write_all(&from_host(first, payload)).await.is_err() || first == CLOSE {
                return;
            }
        }
    })
}

#[tokio::test]
async fn the_handshake_is_done_twice_and_carries_the_value() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    let world = world(script(move |head, mut stream| {
        kept.lock().unwrap().push(head.clone());
        async move {
            // The host chooses what holds the value.
            let protocols = field(&head, "sec-websocket-protocol").unwrap();
            let chosen = protocols.split(", ").nth(1).unwrap();
            let extra = format!("Sec-WebSocket-Protocol: {chosen}\r\nX-Echo: {KEY}\r\n");
            accept(&head, &mut stream, &extra).await;
        }
    }))
    .await;
    let ph = &world.placeholder;
    let extra = format!(
        "Authorization: Bearer {ph}\r\nSec-WebSocket-Protocol: realtime, key.{ph}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nX-Other: 1\r\n"
    );
    let (answer, _stream) = begin(to_api(&world).await, &hello(&extra)).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert_eq!(field(&answer, "sec-websocket-accept"), Some(RFC_PROOF));
    assert_eq!(field(&answer, "sec-websocket-protocol"), Some(&*format!("key.{ph}")));
    assert!(!answer.contains(KEY), "{answer}");
    let head = heads.lock().unwrap()[0].clone();
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some("api.test"));
    assert_eq!(field(&head, "authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(field(&head, "sec-websocket-protocol"), Some(&*format!("realtime, key.{KEY}")));
    assert_eq!(field(&head, "sec-websocket-version"), Some("13"));
    assert_eq!(field(&head, "x-other"), Some("1"));
    assert_eq!(field(&head, "sec-websocket-extensions"), None, "what is compressed cannot be scrubbed");
    assert_ne!(field(&head, "sec-websocket-key"), Some(RFC_KEY), "the key is our own");
    assert_eq!(world.seen.uses(), [("KEY".into(), "api.test".into())]);
}

#[tokio::test]
async fn messages_pass_both_ways_whole() {
    let world = world(echo()).await;
    let mut stream = opened(&world).await;
    for length in [0, 1, 125, 126, 65_535, 65_536] {
        let payload = vec![b'z'; length];
        stream.write_all(&from_code(BINARY, &payload)).await.unwrap();
        assert_eq!(next(&mut stream).await, Some((BINARY, false, payload)), "{length}: one frame stays one frame");
    }
    // A big one passes in parts, and nobody waits for its end.
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| i as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = from_code(BINARY, &big);
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer
    });
    assert_eq!(message(&mut reader).await, (2, big));
    let mut writer = writing.await.unwrap();
    // Both bound and other secrets: a bound placeholder is not filled in, for frames are no slot.
    let text = format!("schöner {} Text", world.placeholder);
    writer.write_all(&from_code(TEXT, &text)).await.unwrap();
    assert_eq!(next(&mut reader).await, Some((TEXT, false, text.into_bytes())));
    writer.write_all(&from_code(PING, "are you there")).await.unwrap();
    assert_eq!(next(&mut reader).await, Some((PING, false, b"are you there".to_vec())));
    writer.write_all(&from_code(CLOSE, [0x03, 0xE8, b'b', b'y', b'e'])).await.unwrap();
    assert_eq!(next(&mut reader).await, Some((CLOSE, false, vec![0x03, 0xE8, b'b', b'y', b'e'])));
    assert_eq!(next(&mut reader).await, None);
    assert!(world.seen.refusals().is_empty() && world.seen.uses().is_empty());
}

#[tokio::test]
async fn values_in_frames_become_placeholders_again() {
    let world = world(script(|head, mut stream| async move {
        accept(&head, &mut stream, "").await;
        let (one, two) = KEY.split_at(11);
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let frames = [
            from_host(TEXT, format!("a {KEY} b")),
            // In fragments, each of a few bytes, with a ping between.
            from_host(0x01, format!("c {one}")),
            from_host(PING, KEY),
            from_host(CONTINUATION, &two[..3]),
            from_host(0x80, format!("{} d", &two[3..])),
            from_host(BINARY, BASE64.encode(KEY.as_bytes())),
            from_host(TEXT, hex),
            from_host(PONG, format!("p {KEY}")),
            from_host(CLOSE, [&[0x03, 0xE8][..], KEY.as_bytes()].concat()),
        ];
        // One byte at a time, so that every border is one.
        for byte in frames.concat() {
            stream.write_all(&[byte]).await.unwrap();
            // TLS keeps what did not go out at once until it is asked again.
            stream.flush().await.unwrap();
        }
        let _ = next(&mut stream).await;
    }))
    .await;
    let ph = &world.placeholder;
    let mut stream = opened(&world).await;
    assert_eq!(message(&mut stream).await, (1, format!("a {ph} b").into_bytes()));
    let mut seen = Vec::new();
    let mut fragments = Vec::new();
    while let Some((first, _, payload)) = next(&mut stream).await {
        if first & 0x0F <= 1 {
            fragments.extend(&payload);
        }
        seen.push((first, String::from_utf8(payload).unwrap_or_default()));
        if seen.last().is_some_and(|(first, _)| *first == CLOSE) {
            break;
        }
    }
    assert!(String::from_utf8(fragments).unwrap().starts_with(&format!("c {ph} d")));
    assert!(seen.contains(&(PING, ph.clone())) && seen.contains(&(PONG, format!("p {ph}"))), "{seen:?}");
    let everything = format!("{seen:?}");
    for form in [KEY.to_owned(), BASE64.encode(KEY.as_bytes()), KEY.bytes().map(|b| format!("{b:02x}")).collect()] {
        assert!(!everything.contains(&form), "{everything}");
    }
    stream.write_all(&from_code(CLOSE, [0x03, 0xE8])).await.unwrap();
}

#[tokio::test]
async fn a_placeholder_in_frames_toward_another_host_ends_the_connection() {
    let (tell, mut told) = mpsc::unbounded();
    let world = world(script(move |head, mut stream| {
        let tell = tell.clone();
        async move {
            accept(&head, &mut stream, "").await;
            let mut got = Vec::new();
            while let Some(frame) = next(&mut stream).await {
                got.push(frame);
            }
            tell.unbounded_send(got).unwrap();
        }
    }))
    .await;
    let ph = &world.other_placeholder;
    let percent: String = ph.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (one, two) = ph.split_at(9);
    let cases = [
        from_code(TEXT, format!("key={ph}")),
        from_code(BINARY, percent),
        [from_code(0x01, one), from_code(PING, "x"), from_code(0x80, two)].concat(),
        [from_code(TEXT, one), from_code(TEXT, two)].concat(),
        from_code(PING, ph),
        from_code(CLOSE, [&[0x03, 0xE8][..], ph.as_bytes()].concat()),
    ];
    for case in &cases {
        let mut stream = opened(&world).await;
        stream.write_all(case).await.unwrap();
        let last = next(&mut stream).await;
        assert_eq!(close_code(last.clone()), Some(1008), "{last:?}");
        let got = told.next().await.unwrap();
        let sent: Vec<u8> = got.iter().flat_map(|(_, _, payload)| payload.clone()).collect();
        assert!(!String::from_utf8_lossy(&sent).contains(ph.as_str()));
        assert_eq!(close_code(got.last().cloned()), Some(1001));
    }
    let refusals = world.seen.refusals();
    assert!(refusals.len() == 1 && refusals[0].0 == "api.test" && refusals[0].1.contains("(OTHER)"), "{refusals:?}");
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection_with_the_right_code() {
    let world = world(script(|head, mut stream| async move {
        accept(&head, &mut stream, "").await;
        while let Some((_, _, payload)) = next(&mut stream).await {
            // Plays back what it is told, as its own frames.
            if stream.write_all(&payload).await.is_err() {
                return;
            }
        }
    }))
    .await;
    let huge = [&[0x82, 0xFF][..], &(1_u64 << 40).to_be_bytes(), &MASK].concat();
    let bad_from_code = [
        (from_host(TEXT, "not masked"), 1002),
        (from_code(0xC1, "reserved bit"), 1002),
        (from_code(0x83, "reserved opcode"), 1002),
        (from_code(0x80, "nothing to continue"), 1002),
        ([from_code(0x01, "a"), from_code(TEXT, "b")].concat(), 1002),
        (from_code(0x09, "ping in fragments"), 1002),
        (from_code(PING, [b'x'; 126]), 1002),
        (from_code(CLOSE, [3]), 1002),
        (from_code(CLOSE, [0x03, 0xED]), 1002),
        (from_code(TEXT, [b'a', 0xFF]), 1007),
        ([from_code(0x01, [0xC3]), from_code(0x80, [0x28])].concat(), 1007),
        (from_code(TEXT, [0xC3]), 1007),
        (huge, 1009),
    ];
    for (frames, code) in bad_from_code {
        let mut stream = opened(&world).await;
        stream.write_all(&frames).await.unwrap();
        assert_eq!(close_code(next(&mut stream).await), Some(code), "{frames:02x?}");
        assert_eq!(next(&mut stream).await, None);
    }
    let bad_from_host = [from_code(TEXT, "masked"), from_host(0xC1, ""), from_host(0x80, ""), from_host(TEXT, [0xFF])];
    for frames in bad_from_host {
        let mut stream = opened(&world).await;
        stream.write_all(&from_code(BINARY, &frames)).await.unwrap();
        assert_eq!(close_code(next(&mut stream).await), Some(1001), "{frames:02x?}");
        assert_eq!(next(&mut stream).await, None);
    }
}

#[tokio::test]
async fn what_is_no_good_handshake_of_the_code_goes_nowhere() {
    let world = world(script(|_, _| async { panic!("nothing arrives") })).await;
    let good = hello("");
    let bad = [
        (good.replace("Version: 13", "Version: 8"), 426, "version 13"),
        (good.replace(RFC_KEY, "c2hvcnQ="), 400, "16 bytes"),
        (good.replace(RFC_KEY, "no base64"), 400, "16 bytes"),
        (good.replace("keep-alive, Upgrade", "keep-alive"), 400, "Connection: Upgrade"),
        (good.replace("GET", "POST"), 400, "GET"),
        (hello(&format!("Sec-WebSocket-Key: {RFC_KEY}\r\n")), 400, "16 bytes"),
        (hello("Content-Length: 3\r\n"), 400, "has a body"),
        (hello("Transfer-Encoding: chunked\r\n"), 400, "has a body"),
        (good.replace("Host: api.test", "Host: evil.test"), 421, "another host"),
        (hello(&format!("X: {}\r\n", world.other_placeholder)), 403, "(OTHER)"),
    ];
    for (hello, status, part) in bad {
        let (mut answer, mut stream) = begin(to_api(&world).await, &hello).await;
        let length: usize = field(&answer, "content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        answer.push_str(&String::from_utf8_lossy(&body));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(part), "{hello}: {answer}");
    }
}

#[tokio::test]
async fn what_is_no_good_handshake_of_the_host_does_not_reach_the_code() {
    let world = world(script(|head, mut stream| async move {
        match head.split(' ').nth(1).unwrap() {
            "/extension" => accept(&head, &mut stream, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await,
            "/protocol" => accept(&head, &mut stream, "Sec-WebSocket-Protocol: other\r\n").await,
            "/proof" => {
                let reply = format!(
                    "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {RFC_PROOF}\r\n\r\n"
                );
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
            "/else" => stream.write_all(b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n").await.unwrap(),
            _ => {
                let reply = format!("HTTP/1.1 401 No\r\nX: {KEY}\r\nContent-Length: {}\r\n\r\n{KEY}", KEY.len());
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        }
        let _ = stream.read_u8().await;
    }))
    .await;
    for (path, part) in [
        ("/extension", "insists on an extension"),
        ("/protocol", "not offered"),
        ("/proof", "did not answer the WebSocket's key"),
        ("/else", "wants another protocol"),
    ] {
        let (answer, mut stream) = begin(to_api(&world).await, &hello("").replace("/ws", path)).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        let mut body = vec![0; field(&answer, "content-length").unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains(part), "{path}");
    }
    // An ordinary answer is an ordinary answer.
    let (answer, mut stream) = begin(to_api(&world).await, &hello("")).await;
    assert!(answer.starts_with("HTTP/1.1 401 No\r\n") && !answer.contains(KEY), "{answer}");
    let mut body = vec![0; KEY.len()];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), world.placeholder);
}

#[tokio::test]
async fn a_websocket_goes_through_connect_and_ends_with_the_run() {
    let world = world(echo()).await;
    let tunnel = proxy_connect(&world, "api.test:443").await.ok().unwrap();
    let (answer, mut stream) = begin(tls(&world, tunnel, "api.test").await, &hello("")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(&from_code(TEXT, "hi")).await.unwrap();
    assert_eq!(next(&mut stream).await, Some((TEXT, false, b"hi".to_vec())));
    world.egress.close().await;
    assert_eq!(next(&mut stream).await, None);
}
