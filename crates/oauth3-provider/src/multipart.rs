//! Reads the fields of a form (RFC 7578), strictly: what two readers could take apart differently is refused.

use crate::call::CallError;

/// Most parts of a form.
const MAX_PARTS: usize = 256;
/// Longest header of one part, in bytes.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Longest boundary, in bytes (RFC 2046 §5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;

/// Tells name and value of each part.
pub(crate) fn read(
    body: &[u8],
    boundary: &str,
    mut tell: impl FnMut(&str, &[u8]) -> Result<(), CallError>,
) -> Result<(), CallError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES || !boundary.bytes().all(fine) {
        return Err(CallError::Form("its boundary has characters that it may not have"));
    }
    let delimiter = format!("--{boundary}");
    let mut rest =
        body.strip_prefix(delimiter.as_bytes()).ok_or(CallError::Form("it does not begin with its boundary"))?;
    for _ in 0..=MAX_PARTS {
        if let Some(after) = rest.strip_prefix(b"--") {
            let blank = after.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
            return if blank { Ok(()) } else { Err(CallError::Form("something follows its end")) };
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(CallError::Form("a boundary is not on a line of its own"))?;
        let (content, after) = cut(part, delimiter.as_bytes())?;
        let (header, value) = header(content)?;
        tell(&name(header)?, value)?;
        rest = after;
    }
    Err(CallError::Form("it has more than 256 parts"))
}

/// Up to the next delimiter, and what follows it.
fn cut<'a>(part: &'a [u8], delimiter: &[u8]) -> Result<(&'a [u8], &'a [u8]), CallError> {
    let mut from = 0;
    while let Some(at) = part.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        let line = from + at;
        if let Some(after) = part.get(line + 1..).and_then(|rest| rest.strip_prefix(delimiter)) {
            let content = part.get(..line).and_then(|content| content.strip_suffix(b"\r"));
            return content
                .map(|content| (content, after))
                .ok_or(CallError::Form("a line ends without a carriage return"));
        }
        from = line + 1;
    }
    Err(CallError::Form("it has no end"))
}

fn header(content: &[u8]) -> Result<(&str, &[u8]), CallError> {
    let start = content.get(..content.len().min(MAX_HEADER_BYTES)).unwrap_or_default();
    let end = start.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or(CallError::Form("a part has no header, or a long one"))?;
    let (header, rest) = content.split_at(end);
    let header = std::str::from_utf8(header).map_err(|_| CallError::Utf8)?;
    Ok((header, rest.get(4..).unwrap_or_default()))
}

/// The name in the one `Content-Disposition: form-data; name="…"` of a part.
fn name(header: &str) -> Result<String, CallError> {
    let mut found = None;
    for line in header.split("\r\n") {
        let broken = line.contains(['\r', '\n', '\0']) || line.starts_with([' ', '\t']);
        let (field, value) = line.split_once(':').filter(|_| !broken).ok_or(CallError::Form("a header is broken"))?;
        if !field.eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        if found.is_some() {
            return Err(CallError::Form("a part has two names"));
        }
        found = Some(parameter(value)?);
    }
    found.ok_or(CallError::Form("a part has no name"))
}

fn parameter(value: &str) -> Result<String, CallError> {
    let rest = value.trim().strip_prefix("form-data").ok_or(CallError::Form("a part is no form data"))?;
    let mut name = None;
    let mut rest = rest.trim_start();
    while let Some(after) = rest.strip_prefix(';') {
        let (key, after) = after.split_once('=').ok_or(CallError::Form("a header is broken"))?;
        let (text, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (text, after) = quoted.split_once('"').ok_or(CallError::Form("a header is broken"))?;
                if text.contains('\\') {
                    return Err(CallError::Form("a name has a backslash"));
                }
                (text, after)
            }
            None => {
                let (text, after) = after.find(';').map_or((after, ""), |at| after.split_at(at));
                (text.trim(), after)
            }
        };
        match key.trim() {
            "name" if name.is_some() => return Err(CallError::Form("a part has two names")),
            "name" => name = Some(text.to_owned()),
            other if other.to_ascii_lowercase().starts_with("name") => {
                return Err(CallError::Form("a part has its name in another form than name=\"…\""));
            }
            _ => {}
        }
        rest = after.trim_start();
    }
    name.filter(|_| rest.is_empty()).ok_or(CallError::Form("a part has no name"))
}
