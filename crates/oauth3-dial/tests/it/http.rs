//! The HTTP client: what it sends, what it refuses, what it bounds.

use crate::server::{Answer, Authority, Server, dialer};
use oauth3_core::{HttpPort, HttpRequest, HttpResponse};
use oauth3_dial::{DialConfig, Dialer, HttpClient};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn get(url: String) -> HttpRequest {
    HttpRequest {
        method: "GET",
        url,
        headers: Vec::new(),
        body: Vec::new().into(),
        timeout: Duration::from_secs(30),
        max_reply_bytes: 1024,
        owner_configured: true,
    }
}

fn plain_client() -> HttpClient {
    HttpClient::new(Dialer::new(DialConfig::default()).unwrap())
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address)
}

async fn ask(answer: Answer) -> Result<HttpResponse, String> {
    let server = Server::plain(vec![answer]).await;
    plain_client().send(get(url(&server, "/secret-path?secret-query"))).await
}

#[tokio::test]
async fn a_request_arrives_as_written() {
    let server = Server::plain(vec![Answer::text(OK)]).await;
    let request = HttpRequest {
        method: "POST",
        headers: vec![
            ("authorization", "Bearer t".to_owned().into()),
            ("content-type", "application/json".to_owned().into()),
        ],
        ..get(url(&server, "/hooks/wake?x=1"))
    };
    let reply = plain_client().send(request).await.unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]));
    let head = server.heads().remove(0);
    assert!(head.starts_with("post /hooks/wake?x=1 http/1.1\r\n"), "{head}");
    for field in ["authorization: bearer t\r\n", &format!("host: {}\r\n", server.address), "user-agent: oauth3/"] {
        assert!(head.contains(field), "{field} in {head}");
    }
}

#[tokio::test]
async fn an_agents_address_goes_over_tls_to_the_mapped_place() {
    let authority = Authority::new("test");
    let server = Server::tls(&authority, "gist.example.com", vec![Answer::text(OK)]).await;
    let client = HttpClient::new(dialer("gist.example.com", &server, Some(&authority)));
    let request = HttpRequest { owner_configured: false, ..get("https://gist.example.com/raw".into()) };
    assert_eq!(client.send(request).await.unwrap().status, 200);
    assert!(server.heads().remove(0).contains("host: gist.example.com\r\n"));
}

#[tokio::test]
async fn an_agents_address_never_reaches_this_machine() {
    let server = Server::plain(vec![Answer::text(OK)]).await;
    let port = server.address.port();
    for bad in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://localhost:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://0x7f000001:{port}/"),
    ] {
        let request = HttpRequest { owner_configured: false, ..get(bad.clone()) };
        assert!(plain_client().send(request).await.is_err(), "{bad}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_handed_on_and_not_followed() {
    let target = Server::plain(vec![Answer::text(OK)]).await;
    let location = url(&target, "/inside");
    let head = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let reply = ask(Answer::text(&head)).await.unwrap();
    assert_eq!((reply.status, reply.location), (302, Some(location)));
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn retry_after_is_read_when_it_is_a_number() {
    let reply =
        |value: &str| Answer::text(&format!("HTTP/1.1 429 Slow\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(ask(reply("7")).await.unwrap().retry_after, Some(7));
    assert_eq!(ask(reply("Fri, 31 Dec 1999 23:59:59 GMT")).await.unwrap().retry_after, None);
}

#[tokio::test]
async fn an_oversize_reply_is_an_error() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 1025\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        + "400\r\n"
        + &"x".repeat(1024)
        + "\r\n1\r\nx\r\n0\r\n\r\n";
    let until_close = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 4096]].concat();
    for answer in [Answer::text(announced), Answer::text(&chunked), Answer::Flood(until_close)] {
        let error = ask(answer).await.unwrap_err();
        assert!(error.ends_with("the reply is larger than 1024 bytes"), "{error}");
    }
}

#[tokio::test]
async fn an_endless_head_is_an_error() {
    let error = ask(Answer::Flood(b"HTTP/1.1 200 OK\r\nx: y\r\n".repeat(512))).await.unwrap_err();
    assert!(error.ends_with("the reply is not HTTP"), "{error}");
}

#[tokio::test]
async fn slow_replies_end_in_an_error() {
    for answer in [Answer::Silence, Answer::text("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")] {
        let server = Server::plain(vec![answer]).await;
        let request = HttpRequest { timeout: Duration::from_millis(200), ..get(url(&server, "/")) };
        let error = plain_client().send(request).await.unwrap_err();
        assert!(error.contains("no whole reply within"), "{error}");
    }
}

#[tokio::test]
async fn errors_never_show_the_path_or_the_query() {
    for answer in [
        Answer::HangUp,
        Answer::text("garbage\r\n\r\n"),
        Answer::text("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"),
    ] {
        let error = ask(answer).await.unwrap_err();
        assert!(error.starts_with("127.0.0.1: ") && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::plain(vec![Answer::text(OK)]).await;
    let client = plain_client();
    for _ in 0..3 {
        client.send(get(url(&server, "/"))).await.unwrap();
    }
    assert_eq!((server.connections(), server.heads().len()), (1, 3));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used_again() {
    let close = Answer::text("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let server = Server::plain(vec![close]).await;
    let client = plain_client();
    for _ in 0..3 {
        client.send(get(url(&server, "/"))).await.unwrap();
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn bytes_that_would_split_a_header_are_refused() {
    let server = Server::plain(vec![Answer::text(OK)]).await;
    let request =
        HttpRequest { headers: vec![("x-note", "a\r\nx-evil: 1".to_owned().into())], ..get(url(&server, "/")) };
    let error = plain_client().send(request).await.unwrap_err();
    assert!(error.ends_with("a header value cannot be sent") && !error.contains("evil"), "{error}");
    assert_eq!(server.connections(), 0);
}
