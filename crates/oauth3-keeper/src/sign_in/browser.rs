//! A sign-in in the browser of this machine: where it comes back to (RFC 8252 §7.3).

use super::net::Trouble;
use oauth3_core::Fault;
use oauth3_oauth::{Client, CodeGrant, Exchange, Failure, RANDOM_BYTES};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

/// Longest request line, in bytes.
const MAX_LINE_BYTES: u64 = 68 << 10;
/// How long a browser may take to say what it wants.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

const GOOD: &str = "Signed in. You can close this window.";
const BAD: &str = "The sign-in did not work. oauth3 says why; you can close this window.";

/// Waits on loopback for a browser to come back.
pub(super) struct Browser {
    listener: TcpListener,
    grant: CodeGrant,
}

/// It came back.
pub(super) struct Returned {
    /// What turns the code into tokens.
    pub(super) exchange: Exchange,
    /// The page that the owner looks at.
    pub(super) page: Page,
}

/// An answer that is still owed.
pub(super) struct Page(BufReader<TcpStream>);

impl Browser {
    /// Begins one.
    pub(super) async fn open(client: &Client, scopes: &[String]) -> Result<Self, Fault> {
        let unavailable = |what: &str| Fault::Unavailable(format!("the sign-in cannot start: {what}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|_| unavailable("nothing can listen on loopback"))?;
        let port = listener.local_addr().map_err(|_| unavailable("the port is not known"))?.port();
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| unavailable("there is no randomness"))?;
        let grant = CodeGrant::start(client, port, scopes, &random).map_err(Trouble::Failed)?;
        Ok(Self { listener, grant })
    }

    /// The address that the browser opens.
    pub(super) fn address(&self) -> &str {
        self.grant.url().as_str()
    }

    /// The nonce that the ID token must have.
    pub(super) fn nonce(&self) -> &str {
        self.grant.nonce()
    }

    /// Waits until it is back. What else calls meanwhile is told that this is not for it.
    pub(super) async fn returned(&mut self, client: &Client, patience: Duration) -> Result<Returned, Failure> {
        let until = Instant::now() + patience;
        loop {
            let Ok(accepted) = timeout_at(until, self.listener.accept()).await else { return Err(Failure::Expired) };
            let Ok((stream, _)) = accepted else { continue };
            let mut stream = BufReader::new(stream);
            let Ok(Some(query)) = timeout(LINE_TIMEOUT, query(&mut stream, self.grant.callback_path())).await else {
                Page(stream).answer("404 Not Found", "Nothing is here.").await;
                continue;
            };
            match self.grant.callback(client, &query) {
                Ok(exchange) => return Ok(Returned { exchange, page: Page(stream) }),
                // Somebody else called: the owner's browser may still come.
                Err(Failure::State) => Page(stream).answer("400 Bad Request", BAD).await,
                Err(failure) => {
                    Page(stream).answer("200 OK", BAD).await;
                    return Err(failure);
                }
            }
        }
    }
}

impl Page {
    /// Says how it went.
    pub(super) async fn finish(self, good: bool) {
        self.answer("200 OK", if good { GOOD } else { BAD }).await;
    }

    async fn answer(mut self, status: &str, text: &str) {
        let page = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nreferrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\n\
             connection: close\r\n\r\n{text}",
            text.len()
        );
        // The browser may be gone; then nobody wants to read it.
        let _ = timeout(LINE_TIMEOUT, async {
            self.0.write_all(page.as_bytes()).await?;
            self.0.shutdown().await
        })
        .await;
    }
}

/// The query of a `GET` of the callback's path, once the whole head has come.
async fn query(stream: &mut BufReader<TcpStream>, path: &str) -> Option<String> {
    let mut line = String::new();
    let mut head = stream.take(MAX_LINE_BYTES);
    head.read_line(&mut line).await.ok()?;
    let mut rest = String::new();
    while head.read_line(&mut rest).await.ok()? > 2 {
        rest.clear();
    }
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let (found, query) = target.split_once('?').unwrap_or((target, ""));
    (found == path).then(|| query.to_owned())
}
