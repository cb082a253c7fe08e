//! Replies that come compressed although nobody asked for it.

use crate::client::{connect, get, read, send, send_other};
use crate::upstream::{Handler, Reply};
use crate::world::{KEY, World};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use tokio::sync::watch;

/// Brotli replies, whose windows may be 16 MiB, and how many of them a run may read at a time.
const MANY: usize = 12;
const AT_ONCE: usize = 4;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn encode(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" | "x-gzip" => gzip(text),
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "bare" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text).unwrap();
            out
        }
        "zstd" => ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest),
        other => panic!("{other}"),
    }
}

/// Bytes that come in pieces of a few.
fn crumbs(bytes: Vec<u8>) -> http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible> {
    let pieces: Vec<Vec<u8>> = bytes.chunks(5).map(<[u8]>::to_vec).collect();
    StreamBody::new(futures::stream::iter(pieces).map(|piece| Ok(Frame::data(Bytes::from(piece))))).boxed_unsync()
}

fn coded(codings: &str, bytes: Vec<u8>, crumbled: bool) -> Reply {
    let body = if crumbled { crumbs(bytes) } else { Full::from(bytes).boxed_unsync() };
    Response::builder()
        .header("content-encoding", codings)
        .header("etag", "\"v1\"")
        .header("repr-digest", "sha-256=:AA==:")
        .header("accept-ranges", "bytes")
        .body(body)
        .unwrap()
}

/// Sends the key back, coded as the path says, the last coding first, and in crumbs or not.
fn reflecting() -> Handler {
    Arc::new(|head, _| {
        Box::pin(async move {
            let key = head.headers.get("x-key").map_or("nothing", |key| key.to_str().unwrap());
            let text = format!("the key is {key}, is {key}\n");
            let path = head.uri.path().trim_start_matches('/');
            let (codings, crumbled) = path.strip_suffix("/crumbs").map_or((path, false), |path| (path, true));
            let coded_text = codings.split('+').fold(text.into_bytes(), |text, coding| encode(coding, &text));
            coded(&codings.replace('+', ", ").replace("bare", "deflate"), coded_text, crumbled)
        })
    })
}

#[tokio::test]
async fn what_comes_compressed_is_scrubbed_and_handed_on_plain() {
    let world = World::with(reflecting(), &[KEY], true).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    for coding in ["gzip", "x-gzip", "deflate", "bare", "br", "zstd", "gzip+br", "zstd+deflate+gzip"] {
        for path in [format!("/{coding}"), format!("/{coding}/crumbs")] {
            let request = get("api.test", &path, &[("x-key", &world.placeholder), ("accept-encoding", "gzip, br")]);
            let got = read(sender.send_request(request).await.unwrap()).await;
            let expected = format!("the key is {0}, is {0}\n", world.placeholder);
            assert_eq!((got.status, got.text()), (200, expected), "{path}");
            for gone in ["content-encoding", "content-length", "repr-digest", "accept-ranges"] {
                assert!(!got.headers.contains_key(gone), "{path}: {gone}");
            }
            assert_eq!(got.headers["etag"], "W/\"v1\"", "{path}: the bytes are not those that it was made for");
        }
    }
    assert_eq!(world.upstream.connections(), 1, "each reply was read to its end, so that the connection was kept");
    assert!(world.upstream.received().iter().all(|one| one.headers["accept-encoding"] == "identity"));
    // A host without a secret may send what it likes.
    let got = send_other(&world, get("other.test:8443", "/gzip", &[])).await;
    assert_eq!(
        (&got.headers["content-encoding"], &got.headers["etag"]),
        (&"gzip".parse().unwrap(), &"\"v1\"".parse().unwrap())
    );
    assert_eq!(got.body, gzip(b"the key is nothing, is nothing\n"));
}

#[tokio::test]
async fn a_reply_without_content_has_nothing_to_decode() {
    let handler: Handler = Arc::new(|head, _| {
        Box::pin(async move {
            let status = if head.uri.path() == "/304" { 304 } else { 200 };
            let mut reply = coded("gzip", Vec::new(), false);
            *reply.status_mut() = http::StatusCode::from_u16(status).unwrap();
            reply
        })
    });
    let world = World::with(handler, &[KEY], true).await;
    let mut sender = connect(&world, world.tls, "api.test").await;
    for (method, path, status) in [("HEAD", "/", 200), ("GET", "/304", 304), ("GET", "/empty", 200)] {
        let request =
            Request::builder().method(method).uri(path).header("host", "api.test").body(Full::default()).unwrap();
        let got = read(sender.send_request(request).await.unwrap()).await;
        assert_eq!((got.status, got.body.len()), (status, 0), "{path}");
        assert_eq!(got.headers["etag"], "W/\"v1\"", "it must be the one that a whole reply has");
    }
}

#[tokio::test]
async fn a_reply_that_is_broken_within_its_compression_ends() {
    let handler: Handler = Arc::new(|head, _| {
        Box::pin(async move {
            let text = vec![b'a'; 1000];
            let bytes = match head.uri.path() {
                "/none" => b"this is no gzip".to_vec(),
                "/cut" => gzip(&text)[..15].to_vec(),
                "/more" => [gzip(&text), b"and more".to_vec()].concat(),
                "/bomb" => gzip(&vec![0; 40 << 20]),
                other => panic!("{other}"),
            };
            coded("gzip", bytes, false)
        })
    });
    let world = World::with(handler, &[KEY], true).await;
    send(&world, get("api.test", "/none", &[])).await.refused(502, "compressed data is damaged");
    send(&world, get("api.test", "/cut", &[])).await.refused(502, "ends within its compressed data");
    for (path, most) in [("/more", 1000), ("/bomb", 20 << 20)] {
        let mut sender = connect::<Full<Bytes>>(&world, world.tls, "api.test").await;
        let (mut came, mut broke) = (0, false);
        // When it breaks early the server may hang up before the head is out.
        let mut body = sender.send_request(get("api.test", path, &[])).await.map(Response::into_body);
        broke |= body.is_err();
        while let Ok(body) = &mut body
            && let Some(frame) = body.frame().await
        {
            match frame {
                Ok(frame) => came += frame.into_data().unwrap().len(),
                Err(_) => broke = true,
            }
        }
        assert!(broke && came <= most, "{path}: {came} bytes, broken: {broke}");
    }
}

#[tokio::test]
async fn decoders_of_one_run_have_a_bound_together_and_the_others_wait() {
    // Each begins at once and ends when the test says so.
    let (let_end, ended) = watch::channel(false);
    let handler: Handler = Arc::new(move |_, _| {
        let mut ended = ended.clone();
        Box::pin(async move {
            // Not compressible, so that some of it can be read early.
            let noise: Vec<u8> = (0..1_u32 << 16).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let begun = encode("br", &noise);
            let (most, rest) = begun.split_at(begun.len() - 1);
            let (most, rest) = (Bytes::copy_from_slice(most), Bytes::copy_from_slice(rest));
            let last = async move {
                ended.wait_for(|ended| *ended).await.unwrap();
                Ok(Frame::data(rest))
            };
            let body = futures::stream::iter([Ok(Frame::data(most))]).chain(futures::stream::once(last));
            Response::builder().header("content-encoding", "br").body(StreamBody::new(body).boxed_unsync()).unwrap()
        })
    });
    let world = Arc::new(World::with(handler, &[KEY], true).await);
    let (begun, mut begins) = watch::channel(0);
    let begun = Arc::new(begun);
    let requests: Vec<_> = (0..MANY)
        .map(|_| {
            let (world, begun) = (Arc::clone(&world), Arc::clone(&begun));
            tokio::spawn(async move {
                let mut sender = connect(&world, world.tls, "api.test").await;
                let reply = sender.send_request(get("api.test", "/", &[])).await.unwrap();
                begun.send_modify(|begun| *begun += 1);
                read(reply).await.body.len()
            })
        })
        .collect();
    begins.wait_for(|begun| *begun == AT_ONCE).await.unwrap();
    while world.upstream.received().len() < MANY {
        tokio::task::yield_now().await;
    }
    assert_eq!(*begins.borrow(), AT_ONCE, "the others wait");
    let_end.send(true).unwrap();
    for request in requests {
        assert_eq!(request.await.unwrap(), 1 << 16);
    }
}
