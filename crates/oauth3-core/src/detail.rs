//! What an audit event says besides its fixed parts.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, Write};

/// The room that most details need, in bytes: one allocation for each.
const USUAL_BYTES: usize = 256;

/// Names, hosts, digests, reasons: a JSON object, held as the text that the chain has of it, which is written as it is
/// added to.
#[derive(Clone, PartialEq, Eq)]
pub struct Detail(String);

impl Detail {
    /// Of something about which there is no more to say.
    #[must_use]
    pub fn new() -> Self {
        Self("{}".to_owned())
    }

    /// As the chain has it; nothing when that is no JSON object.
    #[must_use]
    pub fn parse(text: String) -> Option<Self> {
        serde_json::from_str::<Map<String, Value>>(&text).is_ok().then_some(Self(text))
    }

    /// Adds a field, under a name that is not there yet. A value that cannot be written as JSON is `null`.
    pub fn insert(&mut self, name: &str, value: impl Serialize) {
        self.begin(name);
        let before = self.0.len();
        if serde_json::to_writer(Text(&mut self.0), &value).is_err() {
            self.0.truncate(before);
            self.0.push_str("null");
        }
        self.0.push('}');
    }

    /// Adds a field that is a text.
    pub fn insert_text(&mut self, name: &str, text: &str) {
        self.begin(name);
        self.push_text(text);
        self.0.push('}');
    }

    /// Adds a field that is a list of these.
    pub fn insert_list(&mut self, name: &str, items: &[Self]) {
        self.begin(name);
        self.0.reserve(items.iter().map(|item| item.0.len() + 1).sum::<usize>() + 2);
        for (number, item) in items.iter().enumerate() {
            self.0.push(if number == 0 { '[' } else { ',' });
            self.0.push_str(&item.0);
        }
        self.0.push_str(if items.is_empty() { "[]}" } else { "]}" });
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The fields, in the order in which they were added.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        // Whatever makes one makes an object.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Everything before the value of the next field.
    fn begin(&mut self, name: &str) {
        self.0.reserve(USUAL_BYTES.saturating_sub(self.0.len()));
        self.0.pop();
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.push_text(name);
        self.0.push(':');
    }

    fn push_text(&mut self, text: &str) {
        let plain = text.bytes().fold(true, |plain, byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'));
        if plain {
            // As nearly all are; the library takes each for what it could be.
            self.0.push('"');
            self.0.push_str(text);
            self.0.push('"');
        } else {
            // Text can be written.
            let _written = serde_json::to_writer(Text(&mut self.0), text);
        }
    }
}

impl Default for Detail {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        serde_json::to_string(&fields).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Takes what the library writes, which is text.
struct Text<'a>(&'a mut String);

impl Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push_str(std::str::from_utf8(bytes).map_err(io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_added_is_what_is_read_in_any_form() {
        let mut detail = Detail::new();
        assert_eq!((detail.as_str(), detail.fields().len()), ("{}", 0));
        detail.insert("zebra \"\n", "\u{0}\\\"é");
        detail.insert("ant", json!({ "a": [1, null, true] }));
        detail.insert("none", None::<u8>);
        for text in ["", "plain \u{7f}é", "\"", "\\", "\u{1f}", "\n"] {
            let mut one = Detail::new();
            one.insert_text(text, text);
            assert_eq!(one.as_str(), json!({ text: text }).to_string());
        }
        let written = detail.as_str().to_owned();
        assert_eq!(detail.fields().keys().collect::<Vec<_>>(), ["zebra \"\n", "ant", "none"]);
        assert_eq!(detail.fields()["zebra \"\n"], "\u{0}\\\"é");
        assert_eq!(Detail::parse(written.clone()), Some(detail.clone()));
        assert_eq!(serde_json::to_string(&detail).unwrap(), written);
        assert_eq!(serde_json::from_str::<Detail>(&written).unwrap(), detail);
        let mut list = Detail::new();
        list.insert_list("none", &[]);
        list.insert_list("calls", &[detail.clone(), Detail::new()]);
        assert_eq!(Value::Object(list.fields()), json!({ "none": [], "calls": [detail.fields(), {}] }));
    }

    #[test]
    fn what_cannot_be_written_leaves_an_object() {
        let mut detail = Detail::new();
        detail.insert("odd", std::collections::BTreeMap::from([((1, 2), 3)]));
        detail.insert("next", 1);
        assert_eq!(Value::Object(detail.fields()), json!({ "odd": null, "next": 1 }));
        assert_eq!(Detail::parse("[]".to_owned()), None);
        assert_eq!(Detail::parse("{\"a\":1} x".to_owned()), None);
    }
}
