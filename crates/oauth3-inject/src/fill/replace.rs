//! Finds placeholders in text that comes in pieces, written as the text's own syntax writes them.

use super::head::RESERVED;
use crate::marks::Marks;
use aho_corasick::automaton::StateID;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use std::collections::VecDeque;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// How a text writes what is in it, and so how a value is written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// As it is.
    Raw,
    /// Percent escapes: addresses and forms (RFC 3986 §2.1, URL Standard §5).
    Percent,
    /// Inside a string of JSON (RFC 8259 §7).
    Json,
}

impl Syntax {
    /// That of a body, by its media type.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let json = ["/json", "+json", "/x-ndjson", "/jsonl", "/json-seq"].iter().any(|end| media.ends_with(end));
        match media.as_str() {
            "application/x-www-form-urlencoded" => Self::Percent,
            _ if json => Self::Json,
            _ => Self::Raw,
        }
    }

    /// A value, written so that it means itself. None when this syntax cannot write it.
    pub(crate) fn write(self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        Some(match self {
            Self::Raw => Zeroizing::new(value.to_vec()),
            Self::Percent => {
                let mut out = Zeroizing::new(String::with_capacity(value.len().saturating_mul(3)));
                out.extend(percent_encoding::percent_encode(value, RESERVED));
                Zeroizing::new(out.as_bytes().to_vec())
            }
            Self::Json => {
                let mut out = Zeroizing::new(String::with_capacity(value.len().saturating_mul(6)));
                for c in std::str::from_utf8(value).ok()?.chars() {
                    match c {
                        '"' => out.push_str("\\\""),
                        '\\' => out.push_str("\\\\"),
                        c if c < ' ' => {
                            // Writing to a string cannot fail.
                            let _ = write!(out, "\\u{:04x}", u32::from(c));
                        }
                        c => out.push(c),
                    }
                }
                Zeroizing::new(out.as_bytes().to_vec())
            }
        })
    }
}

/// One text on its way.
#[derive(Debug)]
pub(crate) struct Replacer {
    syntax: Syntax,
    state: StateID,
    /// What may be the beginning of a placeholder: as it came, and how many bytes each of its characters has.
    held: Vec<u8>,
    units: VecDeque<u8>,
    /// The beginning of an escape.
    partial: Vec<u8>,
}

impl Replacer {
    pub(crate) fn new(syntax: Syntax, marks: &Marks) -> Self {
        Self { syntax, state: marks.start(), held: Vec::new(), units: VecDeque::new(), partial: Vec::new() }
    }

    /// Reads on until a placeholder that is wanted has ended, or the piece has. What is none goes to `out`.
    pub(crate) fn next(
        &mut self,
        marks: &Marks,
        piece: &mut &[u8],
        out: &mut Vec<u8>,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        while let Some((&byte, rest)) = piece.split_first() {
            *piece = rest;
            self.partial.push(byte);
            while let Some((length, meant)) = self.unit(false) {
                if let Some(index) = self.take(marks, length, meant, out, &wanted) {
                    return Some(index);
                }
            }
        }
        None
    }

    /// The text is over. No placeholder can end with what is left, for none ends with half an escape.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        out.append(&mut self.partial);
        self.units.clear();
    }

    /// The next whole character: how many bytes it has here, and what it means. None when more must come.
    fn unit(&self, end: bool) -> Option<(usize, u8)> {
        let first = *self.partial.first()?;
        let digit = |at: usize| {
            let byte = self.partial.get(at)?;
            Some(char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok()))
        };
        match (self.syntax, first) {
            (Syntax::Percent, b'%') => match (digit(1), digit(2)) {
                (Some(Some(high)), Some(Some(low))) => Some((3, high << 4 | low)),
                (Some(None), _) | (_, Some(None)) => Some((1, first)),
                _ => end.then_some((1, first)),
            },
            (Syntax::Json, b'\\') => match self.partial.get(1) {
                Some(b'/') => Some((2, b'/')),
                // No placeholder holds anything else that is escaped.
                Some(_) => Some((2, 0)),
                None => end.then_some((1, first)),
            },
            _ => Some((1, first)),
        }
    }

    fn take(
        &mut self,
        marks: &Marks,
        length: usize,
        meant: u8,
        out: &mut Vec<u8>,
        wanted: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let found = marks.advance(&mut self.state, meant, wanted);
        self.held.extend(self.partial.drain(..length));
        self.units.push_back(u8::try_from(length).unwrap_or(u8::MAX));
        if let Some(index) = found {
            let own: usize = self.units.iter().rev().take(marks.length(index)).map(|n| usize::from(*n)).sum();
            let before = self.held.len().saturating_sub(own);
            out.extend(self.held.drain(..before));
            self.held.clear();
            self.units.clear();
            self.state = marks.start();
            return Some(index);
        }
        // Nothing that was held begins a placeholder any more, or its front is too far back.
        let free = if self.state == marks.start() {
            self.units.len()
        } else {
            self.units.len().saturating_sub(marks.longest())
        };
        let bytes: usize = self.units.drain(..free).map(usize::from).sum();
        out.extend(self.held.drain(..bytes));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::prelude::*;

    fn marks() -> Marks {
        Marks::new([("A", "sk-aaaaaa+/"), ("B", "ghp_bbbbbb")]).unwrap()
    }

    fn run(syntax: Syntax, pieces: &[&[u8]]) -> String {
        let marks = marks();
        let (mut replacer, mut out) = (Replacer::new(syntax, &marks), Vec::new());
        for piece in pieces {
            let mut piece = *piece;
            while let Some(index) = replacer.next(&marks, &mut piece, &mut out, |index| index == 0) {
                assert_eq!(index, 0);
                out.extend_from_slice(&syntax.write(b"v\"l/u").unwrap());
            }
        }
        replacer.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_syntax_writes_the_value_its_own_way() {
        assert_eq!(run(Syntax::Raw, &[b"<sk-aaaaaa+/> ghp_bbbbbb"]), "<v\"l/u> ghp_bbbbbb");
        assert_eq!(run(Syntax::Percent, &[b"a+b%20sk-aaaaaa%2b%2F&c=%zz%2"]), "a+b%20v%22l%2Fu&c=%zz%2");
        assert_eq!(run(Syntax::Json, &[br#"{"a":"\\sk-aaaaaa+\/","b":"\u0041"}"#]), r#"{"a":"\\v\"l/u","b":"\u0041"}"#);
        assert_eq!(run(Syntax::Json, &[b"sk-aaaa", b"aa+/", b"\\"]), "v\\\"l/u\\");
        assert_eq!(Syntax::Json.write(b"\xff"), None);
        assert_eq!(Syntax::Json.write(b"a\n\x01").unwrap().as_slice(), b"a\\u000a\\u0001");
    }

    #[test]
    fn the_media_type_says_which() {
        for (media, syntax) in [
            ("application/json", Syntax::Json),
            ("Application/Vnd.api+JSON; charset=utf-8", Syntax::Json),
            ("application/x-www-form-urlencoded; charset=utf-8", Syntax::Percent),
            ("multipart/form-data; boundary=x", Syntax::Raw),
        ] {
            let headers = [(CONTENT_TYPE, http::HeaderValue::from_static(media))].into_iter().collect();
            assert_eq!(Syntax::of(&headers), syntax, "{media}");
        }
        assert_eq!(Syntax::of(&HeaderMap::new()), Syntax::Raw);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            before in "[a-z+/%s\\\\-]{0,20}",
            after in "[a-z+/%2]{0,20}",
            encode: bool,
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let middle = "sk-aaaaaa+/";
            let middle = if encode { percent_encode(middle.as_bytes(), NON_ALPHANUMERIC).to_string() } else { middle.into() };
            let text = format!("{before} {middle} {after}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            prop_assert_eq!(run(Syntax::Percent, &pieces), run(Syntax::Percent, &[text.as_bytes()]));
            let filled = format!("{before} v%22l%2Fu {after}");
            prop_assert_eq!(run(Syntax::Percent, &pieces), filled);
        }
    }
}
