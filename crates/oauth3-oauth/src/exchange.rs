//! One request to an authorization server, and its reply.

use crate::Sensitive;
use oauth3_provider::{Endpoint, percent_encode};
use std::fmt::{self, Write as _};
use std::time::Duration;
use zeroize::Zeroizing;

/// Largest reply that is read, in bytes (256 KiB). Whoever sends stops reading there.
pub const MAX_REPLY_BYTES: usize = 256 * 1024;

/// A request to be sent as it is: verified TLS (unless the address is plain, on this machine), no redirects.
#[derive(Debug)]
pub struct Exchange {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Where to.
    pub url: Endpoint,
    /// Header fields, names in lower case. `host`, `content-length` and `user-agent` are the sender's.
    pub headers: Vec<(&'static str, Sensitive)>,
    /// The body; `content-type` is among the fields.
    pub body: Option<Sensitive>,
}

/// What came back, as it came.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    /// The status.
    pub status: u16,
    /// `content-type`.
    pub content_type: Option<&'a str>,
    /// `retry-after`, when it is a number of seconds.
    pub retry_after: Option<Duration>,
    /// The body. Whatever is longer than [`MAX_REPLY_BYTES`] is refused, so one more byte may be handed on to say so.
    pub body: &'a [u8],
}

/// Without the body, which may have tokens in it.
impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}

impl Exchange {
    /// Asks for JSON.
    pub(crate) fn get(url: Endpoint) -> Self {
        Self { method: "GET", url, headers: vec![accept()], body: None }
    }

    /// Sends a form and asks for JSON, which GitHub would not send otherwise.
    pub(crate) fn form(url: Endpoint, fields: &[(&str, &str)]) -> Self {
        let headers = vec![accept(), ("content-type", Sensitive::copied("application/x-www-form-urlencoded"))];
        Self { method: "POST", url, headers, body: Some(encode_form(fields)) }
    }

    /// Sends an object of texts and lists of texts.
    pub(crate) fn json(url: Endpoint, fields: &[(&str, Json<'_>)]) -> Self {
        let headers = vec![accept(), ("content-type", Sensitive::copied("application/json"))];
        Self { method: "POST", url, headers, body: Some(encode_json(fields)) }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: Sensitive) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A value of a JSON body.
#[derive(Clone, Copy)]
pub(crate) enum Json<'a> {
    Text(&'a str),
    Texts(&'a [String]),
}

fn accept() -> (&'static str, Sensitive) {
    ("accept", Sensitive::copied("application/json"))
}

/// `application/x-www-form-urlencoded`, with `%20` for a space.
fn encode_form(fields: &[(&str, &str)]) -> Sensitive {
    // Large enough at once: growing would leave copies of secrets behind.
    let size = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut form = Zeroizing::new(String::with_capacity(size));
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        percent_encode(name, &mut form);
        form.push('=');
        percent_encode(value, &mut form);
    }
    Sensitive::new(form)
}

fn encode_json(fields: &[(&str, Json<'_>)]) -> Sensitive {
    let texts = fields.iter().map(|(name, value)| {
        name.len()
            + match value {
                Json::Text(text) => text.len(),
                Json::Texts(texts) => texts.iter().map(|text| text.len() + 3).sum(),
            }
            + 8
    });
    // An escape has six bytes at most.
    let mut json = Zeroizing::new(String::with_capacity(6 * texts.sum::<usize>() + 2));
    json.push('{');
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        quote(name, &mut json);
        json.push(':');
        match value {
            Json::Text(text) => quote(text, &mut json),
            Json::Texts(texts) => {
                json.push('[');
                for (at, text) in texts.iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    quote(text, &mut json);
                }
                json.push(']');
            }
        }
    }
    json.push('}');
    Sensitive::new(json)
}

/// A JSON string (RFC 8259 §7).
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if u32::from(control) < 0x20 => {
                // Writing to a string does not fail.
                let _written = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_bodies_are_read_back(name in ".{0,20}", text in ".{0,40}", list in proptest::collection::vec(".{0,10}", 0..4)) {
            let body = encode_json(&[(&name, Json::Text(&text)), ("list\"", Json::Texts(&list))]);
            let read: serde_json::Value = serde_json::from_str(body.expose()).unwrap();
            prop_assert_eq!(&read[&name], &serde_json::json!(text));
            prop_assert_eq!(&read["list\""], &serde_json::json!(list));
        }
    }
}
