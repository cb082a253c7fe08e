//! Has an API say what a stream used, where it says so only when asked, and keeps from the client what only we asked
//! for.
//!
//! In OpenAI's dialect a stream of completions names its usage if the call has
//! `"stream_options":{"include_usage":true}`: then one more chunk comes before `[DONE]`, with usage and without choices
//! (API reference, chat completions, `stream_options`).

use crate::call::CallInfo;
use crate::dialect::Dialect;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::ops::Range;

/// Largest event that is held back until its end to see what it is, in bytes (64 KiB). The one with the usage has a few
/// hundred.
const MAX_HELD_BYTES: usize = 64 << 10;

const OPTIONS: &str = "\"stream_options\":{\"include_usage\":true}";
const INCLUDE: &str = "\"include_usage\":true";

/// The body of a call with the question for its usage in it, everything else as the client wrote it. Nothing when the
/// client asks itself, when the call is none whose stream can be asked, or when its options are of a form that the API
/// had better see.
#[must_use]
pub fn ask_for_usage(dialect: Dialect, path: &str, info: &CallInfo, body: &[u8]) -> Option<Vec<u8>> {
    let path = path.split('?').next().unwrap_or_default();
    let asks = matches!(dialect, Dialect::OpenAi | Dialect::Azure) && path.ends_with("/completions");
    if !asks || !info.streaming {
        return None;
    }
    let Some(options) = serde_json::from_slice::<Call<'_>>(body).ok()?.stream_options else {
        return insert(body, 0, OPTIONS);
    };
    let place = range(body, options)?;
    if options.get() == "null" {
        return Some(replace(body, place, &format!("{{{INCLUDE}}}")));
    }
    let inner = serde_json::from_str::<Options<'_>>(options.get()).ok()?;
    match inner.include_usage {
        None => insert(body, place.start, INCLUDE),
        Some(no) if matches!(no.get(), "false" | "null") => Some(replace(body, range(body, no)?, "true")),
        Some(_) => None,
    }
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

/// Whatever is there, `null` too, so that its place is known.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Where in the body a value that was read from it stands.
fn range(body: &[u8], value: &RawValue) -> Option<Range<usize>> {
    let start = value.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    Some(start..start + value.get().len())
}

fn replace(body: &[u8], place: Range<usize>, with: &str) -> Vec<u8> {
    let mut edited = Vec::with_capacity(body.len() + with.len());
    edited.extend_from_slice(body.get(..place.start).unwrap_or_default());
    edited.extend_from_slice(with.as_bytes());
    edited.extend_from_slice(body.get(place.end..).unwrap_or_default());
    edited
}

/// Puts a member in as the first of the object that begins at or after `from`.
fn insert(body: &[u8], from: usize, member: &str) -> Option<Vec<u8>> {
    let brace = from + body.get(from..)?.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if body.get(brace) != Some(&b'{') {
        return None;
    }
    let empty = body.get(brace + 1..)?.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let with = if empty { member.to_owned() } else { format!("{member},") };
    Some(replace(body, brace + 1..brace + 1, &with))
}

/// Takes the event out of a stream that has usage and nothing else. Every other event goes on as soon as it is whole;
/// clients do nothing with the parts of one.
#[derive(Debug)]
pub struct UsageTrim {
    /// The event so far.
    held: Vec<u8>,
    /// It is too large to be held and passes.
    passes: bool,
    /// Nothing stands in this line yet.
    blank: bool,
    /// A carriage return ended the last line, so that a line feed belongs to it.
    after_return: bool,
    /// It ended an event too: whether that one was kept.
    ended: Option<bool>,
}

impl Default for UsageTrim {
    fn default() -> Self {
        Self { held: Vec::new(), passes: false, blank: true, after_return: false, ended: None }
    }
}

impl UsageTrim {
    /// The next bytes of the stream, in any pieces; `out` gets those that go on.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            let ended = self.ended.take();
            if !matches!(byte, b'\n' | b'\r') {
                let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
                let (line, after) = rest.split_at(end);
                self.blank = false;
                self.keep(line, out);
                rest = after;
                continue;
            }
            rest = tail;
            match ended {
                Some(kept) if byte == b'\n' => out.extend(kept.then_some(byte)),
                _ => {
                    self.keep(&[byte], out);
                    if !(after_return && byte == b'\n') && std::mem::replace(&mut self.blank, true) {
                        self.ended = Some(self.event_ends(out)).filter(|_| byte == b'\r');
                    }
                }
            }
        }
    }

    /// The stream is over: what is left of it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    fn keep(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.passes && self.held.len() + bytes.len() > MAX_HELD_BYTES {
            self.passes = true;
            out.append(&mut self.held);
        }
        if self.passes { out.extend_from_slice(bytes) } else { self.held.extend_from_slice(bytes) }
    }

    /// Says whether it goes on.
    fn event_ends(&mut self, out: &mut Vec<u8>) -> bool {
        let kept = std::mem::take(&mut self.passes) || !has_only_usage(&self.held);
        if kept {
            out.append(&mut self.held);
        }
        self.held.clear();
        kept
    }
}

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<IgnoredAny>,
    usage: Option<IgnoredAny>,
}

fn has_only_usage(event: &[u8]) -> bool {
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    let data: Vec<&[u8]> = lines.filter_map(|line| line.strip_prefix(b"data:")).collect();
    let chunk = serde_json::from_slice::<Chunk>(&data.join(&b'\n'));
    chunk.is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Option<String> {
        let info = Dialect::OpenAi.read_call("/chat/completions", None, body.as_bytes()).unwrap();
        let edited = ask_for_usage(Dialect::OpenAi, "/chat/completions?x=/y", &info, body.as_bytes())?;
        Some(String::from_utf8(edited).unwrap())
    }

    #[test]
    fn the_question_is_put_in_and_nothing_else_changes() {
        for (body, expected) in [
            (
                "\n { \"model\":\"m\", \"stream\":true,\"seed\":1e0}",
                "\n {\"stream_options\":{\"include_usage\":true}, \"model\":\"m\", \"stream\":true,\"seed\":1e0}",
            ),
            (
                r#"{"stream":true,"stream_options": null ,"a":"stream_options"}"#,
                r#"{"stream":true,"stream_options": {"include_usage":true} ,"a":"stream_options"}"#,
            ),
            (r#"{"stream":true,"stream_options":{ }}"#, r#"{"stream":true,"stream_options":{"include_usage":true }}"#),
            (
                r#"{"stream_options":{"include_obfuscation":false},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_\u006fptions":{"include_usage":false}}"#,
                r#"{"stream":true,"stream_\u006fptions":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(asked(body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn whoever_asks_or_cannot_be_understood_is_left_alone() {
        for body in [
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":"yes"}}"#,
            r#"{"stream":true,"stream_options":[1]}"#,
            r#"{"stream":true,"stream_options":{},"stream_options":null}"#,
            r#"{"stream":false}"#,
            "{}",
        ] {
            assert_eq!(asked(body), None, "{body}");
        }
        let info = CallInfo { streaming: true, ..CallInfo::default() };
        for (dialect, path) in [(Dialect::OpenAi, "/responses"), (Dialect::Cohere, "/completions")] {
            assert_eq!(ask_for_usage(dialect, path, &info, br#"{"stream":true}"#), None);
        }
    }

    const CHUNK: &str = r#"data: {"choices":[{"delta":{"content":"hi"}}],"usage":null}"#;
    const USAGE: &str = r#"data: {"id":"1","choices": [ ],"usage":{"prompt_tokens":5}}"#;
    const FILTERS: &str = r#"data: {"choices":[],"usage":null,"prompt_filter_results":[]}"#;

    #[test]
    fn only_the_chunk_with_the_usage_goes_in_any_pieces() {
        for end in ["\n", "\r\n", "\r"] {
            let event = |line: &str| format!("{line}{end}{end}");
            let (ping, done) = (event(": ping"), event("data: [DONE]"));
            let kept = [ping, event(FILTERS), event(CHUNK)].concat();
            let stream = format!("{kept}{}{done}", event(USAGE));
            for size in 1..stream.len() {
                let (mut trim, mut out) = (UsageTrim::default(), Vec::new());
                stream.as_bytes().chunks(size).for_each(|piece| trim.push(piece, &mut out));
                trim.finish(&mut out);
                assert_eq!(String::from_utf8(out).unwrap(), format!("{kept}{done}"), "{end:?} {size}");
            }
        }
    }

    #[test]
    fn every_other_event_goes_on_when_it_is_whole() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let (mut trim, mut out) = (UsageTrim::default(), Vec::new());
            trim.push(format!("{CHUNK}{end}{USAGE}").as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out.clone()).unwrap(), format!("{CHUNK}{end}"));
            trim.finish(&mut out);
            assert!(out.ends_with(USAGE.as_bytes()), "what was cut is not taken away");
        }
        let (mut trim, mut out) = (UsageTrim::default(), Vec::new());
        trim.push(&vec![b'x'; MAX_HELD_BYTES + 1], &mut out);
        assert_eq!(out.len(), MAX_HELD_BYTES + 1, "a large one is not held");
        trim.push(format!("\n\n{USAGE}\n\n").as_bytes(), &mut out);
        assert_eq!(out.len(), MAX_HELD_BYTES + 3);
    }
}
