//! The proxy's clocks: whoever falls silent is cut off when its time is over, and not before.
//!
//! The time is tokio's, and stands still but when everybody waits; so nothing here takes as long as it says.

use crate::home::{Home, NOW, agent, approved};
use oauth3_core::{Access, ApiId, Budget, Grant, GrantId, HostPattern, Keeper, Store, Trust};
use oauth3_keeper::{ProxyConfig, ProxySetup};
use oauth3_provider::{Catalog, Prices};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, pause};

/// A host that agents may reach without any secret.
const OPENED: &str = "files.example";

/// A keeper whose agent may call an API that a test answers for.
struct Stage {
    _home: Home,
    proxy: SocketAddr,
    api: TcpListener,
    token: String,
}

impl Stage {
    async fn set() -> Self {
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = api.local_addr().unwrap().port();
        let here = format!(
            "[here]\ntitle = \"Here\"\nbase = \"http://localhost:{port}/v1\"\ncredential = \"none\"\ndialect = \"plain\"\ndocs = \"https://example.com\"\n"
        );
        let config = ProxyConfig {
            catalog: Catalog::embedded().unwrap().overridden(&here).unwrap(),
            prices: Prices::embedded().unwrap(),
            patience: Duration::ZERO,
            durable: true,
            forward_hosts: vec![HostPattern::parse(OPENED).unwrap()],
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        let home = Home::with_proxy(ProxySetup { listen, may_be_taken: false, config }).await;
        let mut intent = approved().intent;
        intent.hosts = [format!("localhost:{port}").parse().unwrap()].into();
        intent.secrets.clear();
        let api_id = ApiId::provider("here").unwrap();
        let budget = Budget::default();
        intent.access = Some(Access { api: api_id, models: Default::default(), rules: Default::default(), budget });
        let grant = Grant {
            id: GrantId::random().unwrap(),
            intent,
            trust: Trust::Forever,
            granted_at: NOW,
            expires_at: None,
            revoked_at: None,
            granted_by: "cli".into(),
        };
        home.store.insert_grant(&grant).await.unwrap();
        let token = home.token(&agent()).await;
        home.keeper.refresh().await.unwrap();
        let proxy = home.keeper.proxy_address().await.unwrap().unwrap();
        Self { _home: home, proxy, api, token }
    }

    /// A client that has sent the beginning of a call.
    async fn client(&self, more: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.proxy).await.unwrap();
        let head = format!("POST /v1/here/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{more}", self.token);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// The API's side of the next connection, once a whole head has come.
    async fn asked(&self) -> TcpStream {
        let (mut stream, _) = self.api.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
    }
}

/// What comes until the other side hangs up, and how many seconds that took by the clock that stands still. The other
/// side began to count a moment before.
async fn rest(stream: &mut TcpStream) -> (String, u64) {
    pause();
    let since = Instant::now();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    (String::from_utf8(text).unwrap(), since.elapsed().as_secs())
}

const WHOLE: &str = "connection: close\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn an_api_that_does_not_answer_is_given_up_after_ten_minutes() {
    let stage = Stage::set().await;
    let mut client = stage.client(WHOLE).await;
    let _api = stage.asked().await;
    let (reply, seconds) = rest(&mut client).await;
    assert!(reply.starts_with("HTTP/1.1 504") && reply.contains("did not answer in time"), "{reply}");
    assert!((590..660).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_reply_that_falls_silent_is_cut_after_five_minutes() {
    let stage = Stage::set().await;
    let mut client = stage.client(WHOLE).await;
    let mut api = stage.asked().await;
    api.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"hello\r\n") {
        came.push(client.read_u8().await.unwrap());
    }
    let (reply, seconds) = rest(&mut client).await;
    assert_eq!(reply, "", "it has no proper end");
    assert!((290..360).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_request_whose_body_falls_silent_is_refused_after_a_minute() {
    let stage = Stage::set().await;
    let mut client = stage.client("connection: close\r\ncontent-length: 10\r\n\r\nhalf").await;
    let (reply, seconds) = rest(&mut client).await;
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("did not come in time"), "{reply}");
    assert!((50..120).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection_after_half_a_minute() {
    let stage = Stage::set().await;
    let mut client = stage.client("x-half: ").await;
    let (_, seconds) = rest(&mut client).await;
    assert!((20..90).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_is_said_ends_after_a_quarter_of_a_minute() {
    let stage = Stage::set().await;
    let mut client = TcpStream::connect(stage.proxy).await.unwrap();
    let head = format!("CONNECT {OPENED}:443 HTTP/1.1\r\nproxy-authorization: Bearer {}\r\n\r\n", stage.token);
    client.write_all(head.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n\r\n") {
        came.push(client.read_u8().await.unwrap());
    }
    assert!(came.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&came));
    let (_, seconds) = rest(&mut client).await;
    assert!((10..75).contains(&seconds), "{seconds}");
}
