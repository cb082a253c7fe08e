//! Fetches what is imported: https only, public addresses only, each redirect checked, everything bounded.

use crate::ImportError;
use oauth3_core::{Host, HttpPort, HttpRequest};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

/// Time for one exchange.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects of one address.
const MAX_REDIRECTS: usize = 5;
/// Most fetches for one skill, redirects included.
const MAX_FETCHES: usize = 600;
/// Largest reply, in bytes (8 MiB), and all replies together (32 MiB).
const MAX_REPLY_BYTES: usize = 8 << 20;
const MAX_TOTAL_BYTES: usize = 32 << 20;
/// Longest address, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Skills that are fetched for at once: each may hold as much in memory as the bounds above allow.
const MAX_SKILLS_AT_ONCE: usize = 4;
static SEATS: Semaphore = Semaphore::const_new(MAX_SKILLS_AT_ONCE);

/// Fetches for one skill.
pub(crate) struct Fetcher<'a> {
    http: &'a dyn HttpPort,
    /// Taken at the first fetch; held while what was fetched is.
    seat: Option<SemaphorePermit<'static>>,
    fetches: usize,
    bytes: usize,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(http: &'a dyn HttpPort) -> Self {
        Self { http, seat: None, fetches: 0, bytes: 0 }
    }

    /// The bytes behind an address, and the address that gave them after redirects.
    pub(crate) async fn get(&mut self, address: &Url) -> Result<(Url, Vec<u8>), ImportError> {
        let mut address = checked(address.clone())?;
        if self.seat.is_none() {
            let closed = |_| ImportError::Fetch("imports are not fetched any more".to_owned());
            self.seat = Some(SEATS.acquire().await.map_err(closed)?);
        }
        for _ in 0..=MAX_REDIRECTS {
            self.fetches += 1;
            if self.fetches > MAX_FETCHES {
                return Err(ImportError::TooLarge(format!("takes more than {MAX_FETCHES} fetches")));
            }
            let host = address.host_str().unwrap_or_default().to_owned();
            let failed = |text: String| ImportError::Fetch(format!("an import could not be fetched: {text}"));
            let mut reply = self.http.send(request(&address)).await.map_err(failed)?;
            match (reply.status, reply.location) {
                (200, _) => {
                    self.bytes = self.bytes.saturating_add(reply.body.len());
                    if reply.body.len() > MAX_REPLY_BYTES || self.bytes > MAX_TOTAL_BYTES {
                        return Err(ImportError::TooLarge(format!("are larger than {MAX_TOTAL_BYTES} bytes")));
                    }
                    return Ok((address, std::mem::take(&mut *reply.body)));
                }
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    let next = address.join(&location);
                    address = checked(next.map_err(|_| failed(format!("{host} redirects to what is no address")))?)?;
                }
                (status, _) => return Err(failed(format!("{host} answered {status}"))),
            }
        }
        Err(ImportError::Fetch(format!("an import redirects more than {MAX_REDIRECTS} times")))
    }
}

fn request(address: &Url) -> HttpRequest {
    HttpRequest {
        method: "GET",
        url: address.as_str().to_owned(),
        headers: vec![("accept", "*/*".to_owned().into())],
        body: Vec::new().into(),
        timeout: FETCH_TIMEOUT,
        max_reply_bytes: MAX_REPLY_BYTES,
        // An agent names what is imported: never a private place, whatever the owner configured.
        owner_configured: false,
    }
}

/// Every address that is dialled, redirects included, is of this form.
pub(crate) fn checked(mut url: Url) -> Result<Url, ImportError> {
    url.set_fragment(None);
    let host = url.host_str().unwrap_or_default();
    let named = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let plain = url.username().is_empty() && url.password().is_none();
    if url.scheme() != "https" || !plain || url.as_str().len() > MAX_URL_BYTES || Host::parse(&named).is_err() {
        let text = "an import, and whatever it redirects to, must be https, name a host, and carry no user name";
        return Err(ImportError::Refused(text.to_owned()));
    }
    Ok(url)
}
