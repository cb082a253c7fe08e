//! `data:` URLs (RFC 2397): text in base64 or percent-encoded.

use data_encoding::BASE64_NOPAD;
use percent_encoding::percent_decode_str;

/// Media types beside `text/…` that are code or archives of it.
const CODE_TYPES: &[&str] = &[
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/typescript",
    "application/x-typescript",
    "application/x-python",
    "application/x-python-code",
    "application/x-sh",
    "application/x-tar",
    "application/gzip",
    "application/x-gzip",
];
/// Longest media type, parameters included, in bytes.
const MAX_MEDIA_TYPE_BYTES: usize = 200;

/// What follows `data:`, in any case; `None` for another scheme.
pub(super) fn strip_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once(':')?;
    scheme.eq_ignore_ascii_case("data").then_some(rest)
}

/// The media type and the bytes.
pub(super) fn decode(rest: &str) -> Result<(String, Vec<u8>), String> {
    let Some((head, data)) = rest.split_once(',') else {
        return Err("a data: URL has a ',' before its data".into());
    };
    // A fragment would be cut off by some readers and not by others.
    if data.contains('#') {
        return Err("a '#' in a data: URL begins a fragment; write it as %23".into());
    }
    let (media_type, base64) = match head.rsplit_once(';') {
        Some((before, last)) if last.trim().eq_ignore_ascii_case("base64") => (before, true),
        _ => (head, false),
    };
    check_type(media_type)?;
    let bytes: Vec<u8> = percent_decode_str(data).collect();
    if !base64 {
        return Ok((media_type.to_owned(), bytes));
    }
    let mut symbols: Vec<u8> = bytes.into_iter().filter(|b| !b.is_ascii_whitespace()).collect();
    while symbols.last() == Some(&b'=') {
        symbols.pop();
    }
    let code = BASE64_NOPAD.decode(&symbols).map_err(|_| "the base64 of the data: URL is broken".to_owned())?;
    Ok((media_type.to_owned(), code))
}

fn check_type(media_type: &str) -> Result<(), String> {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fine = essence.is_empty() || essence.starts_with("text/") || CODE_TYPES.contains(&essence.as_str());
    let plain = media_type.len() <= MAX_MEDIA_TYPE_BYTES && media_type.bytes().all(|b| b.is_ascii_graphic());
    if fine && plain && essence != "text/html" {
        return Ok(());
    }
    Err("a data: URL must be of a text type, such as text/typescript, or an archive".into())
}
