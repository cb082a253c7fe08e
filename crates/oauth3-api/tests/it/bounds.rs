//! Sizes and times.

use crate::agent_port::Server;
use crate::http::{Answer, send};
use crate::samples::execution;
use oauth3_api::MAX_BODY_BYTES;
use oauth3_core::Status;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request whose body has exactly this many bytes.
fn body_of(bytes: usize) -> String {
    let frame = r#"{"skill_id":"a","code":""}"#.len();
    format!(r#"{{"skill_id":"a","code":"{}"}}"#, "x".repeat(bytes - frame))
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    let server = Server::start().await;
    server.port.will_answer(&execution("alice", Status::Pending), &[], &[]);
    assert_eq!(server.execute(&body_of(MAX_BODY_BYTES)).await.status, 202);
    server.execute(&body_of(MAX_BODY_BYTES + 1)).await.error(413, "too_large");
    // All of it is read before the answer, so that a client which writes first can still hear it.
    server.execute(&body_of(20 << 20)).await.error(413, "too_large");
    assert_eq!(server.port.drafts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_client_that_writes_first_still_hears_the_answer() {
    let server = Server::start().await;
    // More than the system keeps on the way: without a reader this cannot be written to its end.
    let body = body_of(20 << 20);
    server.call("POST", "/execute", "", &body).await.error(401, "invalid_token");
    let fields = format!("{}Origin: https://evil.example\r\n", server.alice());
    server.call("POST", "/execute", &fields, &body).await.error(403, "denied_by_policy");
    let fields = format!("{}Content-Encoding: br\r\n", server.alice());
    server.call("POST", "/execute", &fields, &body).await.error(400, "invalid_request");
    assert!(server.port.drafts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_in_chunks_has_the_same_limit() {
    let server = Server::start().await;
    let mut request = format!(
        "POST /execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Transfer-Encoding: chunked\r\n\r\n",
        server.alice()
    );
    let chunk = "y".repeat(1 << 20);
    for _ in 0..3 {
        request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    request.push_str("0\r\n\r\n");
    send(server.address, request.as_bytes()).await.error(413, "too_large");
}

#[tokio::test]
async fn a_body_that_breaks_off_submits_nothing() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST /execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: 100\r\n\r\n{}",
        server.alice(),
        r#"{"skill_id":"a","code":"1"}"#
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    if !bytes.is_empty() {
        Answer::parse(&bytes).error(400, "invalid_request");
    }
    assert!(server.port.drafts.lock().unwrap().is_empty());
}

/// The clock stands and jumps to the next timer when nothing else can happen: the server's own.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_head_is_hung_up_on() {
    let server = Server::start().await;
    for head in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // Ends only when the server closes.
        let _ = stream.read_to_end(&mut bytes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_body_gets_408() {
    let server = Server::start().await;
    let request = format!(
        "POST /execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: 100\r\n\r\n{{",
        server.alice()
    );
    send(server.address, request.as_bytes()).await.error(408, "request_timeout");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_and_the_server_goes_on() {
    let server = Server::start().await;
    let many = "X-A: b\r\n".repeat(100);
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{many}\r\n");
    assert_eq!(send(server.address, request.as_bytes()).await.status, 431);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "b".repeat(1 << 20));
    // The server may close while this is still written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty() || Answer::parse(&bytes).status == 431);
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_hung_up_on() {
    let server = Server::start().await;
    for noise in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
    }
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_connection_serves_one_call_after_another() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /secrets HTTP/1.1\r\nHost: x\r\n{}\r\n", server.alice());
    let last = format!("GET /secrets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", server.alice());
    stream.write_all(format!("{request}{request}{last}").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_server_though_a_client_still_waits() {
    let server = Server::start().await;
    let open = execution("alice", Status::Pending);
    server.port.put(open.clone());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /execute/{}/status?wait=120 HTTP/1.1\r\nHost: x\r\n{}\r\n", open.id, server.alice());
    stream.write_all(request.as_bytes()).await.unwrap();
    let port = Arc::clone(&server.port);
    port.somebody_waits().await;
    server.stop.send(true).unwrap();
    server.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
