//! A flat reply of texts and numbers, JSON or form.

use crate::{ErrorCode, Failure, MAX_REPLY_BYTES, Reply, Sensitive};
use oauth3_provider::Protocol;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use zeroize::Zeroizing;

/// Most fields of a reply.
const MAX_FIELDS: usize = 128;
/// Most texts in a list.
const MAX_TEXTS: usize = 256;

/// The fields of a reply by name.
pub(crate) struct Fields(Vec<(String, Value)>);

enum Value {
    Text(Sensitive),
    /// Whole numbers only.
    Number(i64),
    Texts(Vec<Sensitive>),
    Null,
    Other,
}

impl Fields {
    /// Reads the body, whatever its type says: servers send JSON as text and forms as JSON.
    pub(crate) fn read(reply: &Reply<'_>, protocol: Protocol) -> Result<Self, Failure> {
        if (300..400).contains(&reply.status) {
            return Err(Failure::Redirect);
        }
        if reply.body.len() > MAX_REPLY_BYTES {
            return Err(Failure::TooLarge);
        }
        let wrong = || match reply.status {
            429 | 500..=599 => Failure::Unavailable(reply.status),
            status => Failure::NotOauth(status),
        };
        let text = std::str::from_utf8(reply.body).map_err(|_| wrong())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii();
        if text.is_empty() && matches!(reply.status, 400 | 401) {
            // Some servers refuse without a word.
            return Err(Failure::Refused(ErrorCode::new("unknown")));
        }
        let mut fields: Self = if text.starts_with('{') {
            serde_json::from_str(text).map_err(|_| wrong())?
        } else if form_fine(reply.content_type, text) {
            Self::form(text).ok_or_else(wrong)?
        } else {
            return Err(wrong());
        };
        if protocol == Protocol::AwsSso {
            for (name, _) in &mut fields.0 {
                *name = snake(name);
            }
        }
        Ok(fields)
    }

    fn form(text: &str) -> Option<Self> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let name = decode(name)?.to_string();
            if fields.len() == MAX_FIELDS || fields.iter().any(|(other, _)| *other == name) {
                return None;
            }
            fields.push((name, Value::Text(Sensitive::new(decode(value)?))));
        }
        (!fields.is_empty()).then_some(Self(fields))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text.expose()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Takes a text out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Sensitive> {
        let at = self.0.iter().position(|(other, value)| other == name && matches!(value, Value::Text(_)))?;
        match self.0.swap_remove(at).1 {
            Value::Text(text) if !text.expose().is_empty() => Some(text),
            _ => None,
        }
    }

    /// A whole number, or a text of digits. `Err` when there is something else.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ()> {
        match self.value(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(Value::Text(text)) if text.expose().is_empty() => Ok(None),
            Some(Value::Text(text)) => text.expose().trim().parse().map(Some).map_err(|_| ()),
            Some(_) => Err(()),
        }
    }

    /// A list: an array, or one text in which spaces (or, where there is none, commas) stand between.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<String>> {
        match self.value(name)? {
            Value::Texts(texts) => Some(texts.iter().map(|text| text.expose().to_owned()).collect()),
            Value::Text(text) => {
                let text = text.expose().trim();
                let parts: Vec<&str> = if text.contains(char::is_whitespace) {
                    text.split_whitespace().collect()
                } else {
                    text.split(',').collect()
                };
                let parts = parts.into_iter().map(|part| part.trim_matches(',')).filter(|part| !part.is_empty());
                Some(parts.map(str::to_owned).collect())
            }
            _ => None,
        }
    }

    /// The error code: `error` (RFC 6749 §5.2), `error_code` as Google has it when it was asked for too many codes, or
    /// the name of an exception as AWS writes it.
    pub(crate) fn error(&self) -> Option<ErrorCode> {
        match self.value("error") {
            None | Some(Value::Null) => {}
            Some(Value::Text(text)) => return Some(error_code(text.expose())),
            Some(_) => return Some(ErrorCode::new("unknown")),
        }
        if let Some(code) = self.text("error_code") {
            return Some(error_code(code));
        }
        let exception = self.text("__type")?;
        let exception = exception.rsplit('#').next().unwrap_or_default();
        Some(error_code(exception.split(':').next().unwrap_or_default()))
    }
}

/// `AuthorizationPendingException` and `authorization_pending` are the same.
fn error_code(text: &str) -> ErrorCode {
    ErrorCode::new(&text.strip_suffix("Exception").map_or_else(|| text.to_owned(), snake))
}

/// `camelCase` as `snake_case`; names that begin with `_` stay.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, character) in name.chars().enumerate() {
        if at > 0 && character.is_ascii_uppercase() && !name.starts_with('_') {
            snake.push('_');
        }
        snake.push(if name.starts_with('_') { character } else { character.to_ascii_lowercase() });
    }
    snake
}

/// Whether a text may be a form: it says so, or has no sign of being anything else.
fn form_fine(content_type: Option<&str>, text: &str) -> bool {
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let plain = text.contains('=') && !text.contains(['<', '>', '{', '"', '\n', ' ']);
    plain && !kind.ends_with("json") && !kind.ends_with("html")
}

/// Of a form, one name or value.
pub(crate) fn decode(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(std::mem::take(&mut *bytes)).ok().map(Zeroizing::new)
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    // Of two values of one name, another reader may take the other one.
                    if fields.len() == MAX_FIELDS || fields.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom("too many fields, or one twice"));
                    }
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(Sensitive::copied(text)))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(Sensitive::new(text)))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Number(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
                Ok(i64::try_from(number).map_or(Value::Other, Value::Number))
            }
            #[allow(clippy::cast_possible_truncation, reason = "a whole number that a double holds exactly")]
            fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
                let exact = number.fract() == 0.0 && number.abs() < 9e15;
                Ok(if exact { Value::Number(number as i64) } else { Value::Other })
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
                Ok(Value::Other)
            }
            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut texts = Vec::new();
                let mut fine = true;
                while let Some(value) = seq.next_element::<Value>()? {
                    match value {
                        Value::Text(text) if texts.len() < MAX_TEXTS => texts.push(text),
                        _ => fine = false,
                    }
                }
                Ok(if fine { Value::Texts(texts) } else { Value::Other })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The body of a reply that is JSON in a form of its own.
pub(crate) fn json_body<'a>(reply: &Reply<'a>) -> Result<&'a str, Failure> {
    if (300..400).contains(&reply.status) {
        return Err(Failure::Redirect);
    }
    if reply.body.len() > MAX_REPLY_BYTES {
        return Err(Failure::TooLarge);
    }
    match reply.status {
        429 | 500..=599 => Err(Failure::Unavailable(reply.status)),
        status => std::str::from_utf8(reply.body)
            .ok()
            .map(str::trim_ascii)
            .filter(|text| text.starts_with('{'))
            .ok_or(Failure::NotOauth(status)),
    }
}
