//! From what an agent sends or points to, to the bytes that are shown, hashed and run. A skill elsewhere is fetched
//! once, from an https or `data:` URL.
//!
//! Whatever an agent names is dialled through [`HttpPort`] as an outsider's address: https only, public
//! addresses only, every redirect checked like the first address.

mod data_url;
mod pasted;

use crate::intake::refusal;
use oauth3_core::{
    Bundle, Fault, Host, HttpPort, HttpRequest, HttpResponse, MAX_CODE_BYTES, Parts, Several, SkillFile, Source,
};
use oauth3_skill::{ArchiveError, SKILL_BOUNDS};
use std::time::Duration;
use url::Url;

/// Time for the whole of it, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Longest https address, in bytes.
const MAX_URL_BYTES: usize = 2048;
/// Bytes at the beginning that are looked at for signs of a web page.
const SNIFF_BYTES: usize = 512;

/// The code of a request, and where it was fetched from as that is kept and shown: of a `data:` URL only what is
/// before the comma.
///
/// # Errors
/// [`Fault::SkillFetchFailed`] with a sentence that names the host at most; [`Fault::InvalidRequest`] or
/// [`Fault::TooLarge`] when several files make no skill.
pub(crate) async fn code_of(http: &dyn HttpPort, source: Source) -> Result<(Vec<u8>, Option<String>), Fault> {
    let (Several { parts, entry, assets }, shown_url) = match source {
        Source::Inline(code) => return Ok((code, None)),
        Source::Url(url) => {
            let (code, shown_url) = fetch(http, &url).await?;
            if !oauth3_skill::is_archive(&code) {
                return Ok((text(code)?, Some(shown_url)));
            }
            (Several { parts: Parts::Archive(code), entry: None, assets: Vec::new() }, Some(shown_url))
        }
        Source::Several(Several { parts: Parts::Url(url), entry, assets }) => {
            let (code, shown_url) = fetch(http, &url).await?;
            (Several { parts: Parts::Archive(code), entry, assets }, Some(shown_url))
        }
        Source::Several(several) => (several, None),
    };
    let files = match parts {
        Parts::Files(files) => files,
        Parts::Archive(archive) => unpack(archive).await?,
        Parts::Url(_) => return Err(failed("skill_url was not fetched".to_owned())),
    };
    let bundle = Bundle::new(files, entry.as_deref(), &assets).map_err(refusal)?;
    Ok((bundle.to_bytes(), shown_url))
}

/// Unpacks elsewhere: it takes a processor for a while.
async fn unpack(archive: Vec<u8>) -> Result<Vec<SkillFile>, Fault> {
    let work = tokio::task::spawn_blocking(move || oauth3_skill::unpack(&archive, &SKILL_BOUNDS));
    match work.await {
        Ok(Ok(files)) => Ok(files),
        Ok(Err(error @ ArchiveError::TooLarge(_))) => Err(Fault::TooLarge(error.to_string())),
        Ok(Err(error)) => Err(Fault::InvalidRequest(error.to_string())),
        Err(_) => Err(Fault::Unavailable("the archive could not be read".to_owned())),
    }
}

async fn fetch(http: &dyn HttpPort, url: &str) -> Result<(Vec<u8>, String), Fault> {
    if let Some(rest) = data_url::strip_scheme(url) {
        let (media_type, code) = data_url::decode(rest).map_err(failed)?;
        return Ok((code, format!("data:{media_type}")));
    }
    let code = match tokio::time::timeout(FETCH_TIMEOUT, follow(http, url)).await {
        Ok(fetched) => fetched.map_err(failed)?,
        Err(_) => return Err(failed("skill_url took too long to answer".into())),
    };
    if looks_like_a_page(&code) {
        return Err(failed("skill_url gives a web page and not code; use the link to the raw file".into()));
    }
    Ok((code, url.to_owned()))
}

async fn follow(http: &dyn HttpPort, url: &str) -> Result<Vec<u8>, String> {
    if url.len() > MAX_URL_BYTES {
        return Err(format!("skill_url is longer than {MAX_URL_BYTES} bytes"));
    }
    let mut address = pasted::to_raw(checked(Url::parse(url).map_err(|_| "skill_url is not an address".to_owned())?)?);
    for _ in 0..=MAX_REDIRECTS {
        address.set_fragment(None);
        let mut reply = http.send(request(&address)).await?;
        match next_hop(&address, &reply)? {
            Some(next) => address = pasted::to_raw(checked(next)?),
            None => return Ok(std::mem::take(&mut *reply.body)),
        }
    }
    Err(format!("skill_url redirects more than {MAX_REDIRECTS} times"))
}

fn request(address: &Url) -> HttpRequest {
    HttpRequest {
        method: "GET",
        url: address.as_str().to_owned(),
        headers: vec![("accept", "text/plain, application/gzip, application/x-tar, */*;q=0.1".to_owned().into())],
        body: Vec::new().into(),
        timeout: FETCH_TIMEOUT,
        max_reply_bytes: MAX_CODE_BYTES,
        owner_configured: false,
    }
}

/// Where the reply points to; `None` when it is the code.
fn next_hop(address: &Url, reply: &HttpResponse) -> Result<Option<Url>, String> {
    let host = address.host_str().unwrap_or_default();
    match (reply.status, &reply.location) {
        (200, _) if reply.body.len() > MAX_CODE_BYTES => Err(format!("the code is larger than {MAX_CODE_BYTES} bytes")),
        (200, _) => Ok(None),
        (301 | 302 | 303 | 307 | 308, Some(location)) => {
            address.join(location).map(Some).map_err(|_| format!("{host} redirects to what is not an address"))
        }
        (status, _) => Err(format!("{host} answered {status} instead of the code")),
    }
}

/// Every address that is dialled is of this form.
fn checked(url: Url) -> Result<Url, String> {
    if url.scheme() != "https" {
        return Err("skill_url, and whatever it redirects to, must be https (or skill_url a data: URL)".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("skill_url must not carry a user name or password".into());
    }
    let host = url.host_str().unwrap_or_default();
    let named = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    match Host::parse(&named) {
        Ok(_) => Ok(url),
        Err(_) => Err("skill_url, and whatever it redirects to, must name a host and not an address".into()),
    }
}

/// What an owner is to read must be readable: no image, no program.
fn text(code: Vec<u8>) -> Result<Vec<u8>, Fault> {
    match std::str::from_utf8(&code) {
        Ok(_) => Ok(code),
        Err(_) => Err(failed("skill_url gives something that is neither UTF-8 text nor a tar archive".into())),
    }
}

fn looks_like_a_page(code: &[u8]) -> bool {
    let start = code.get(..SNIFF_BYTES.min(code.len())).unwrap_or_default();
    let start = String::from_utf8_lossy(start).trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_lowercase();
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|sign| start.starts_with(sign))
}

fn failed(text: String) -> Fault {
    Fault::SkillFetchFailed(text)
}
