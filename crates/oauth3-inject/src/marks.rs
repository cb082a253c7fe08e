//! Finds placeholders in bytes, also when they come in pieces or percent-encoded.

use crate::error::InjectError;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{AhoCorasick, Anchored};
use std::ops::Range;

/// Shortest placeholder, in bytes, that can be told from text that is there by chance.
const MIN_PLACEHOLDER_BYTES: usize = 6;

/// The placeholders of one run, each known by its position.
#[derive(Debug)]
pub(crate) struct Marks {
    automaton: NFA,
    start: StateID,
    /// The same, to search a text that is there as a whole.
    finder: AhoCorasick,
    lower: Vec<String>,
}

/// Where a scan stands between two pieces of the same text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan {
    raw: StateID,
    decoded: StateID,
    escape: Escape,
}

/// How much of a percent escape has come.
#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    Percent,
    High(u8),
}

impl Marks {
    /// Takes `(name, placeholder)` pairs.
    pub(crate) fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, InjectError> {
        let pairs: Vec<(&str, &str)> = pairs.into_iter().collect();
        for (i, (name, placeholder)) in pairs.iter().enumerate() {
            let within_another = pairs.iter().enumerate().any(|(j, (_, other))| i != j && other.contains(placeholder));
            if placeholder.len() < MIN_PLACEHOLDER_BYTES || within_another {
                return Err(InjectError::Placeholder((*name).to_owned()));
            }
        }
        let failed = |_| InjectError::Placeholder(pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
        let automaton = NFA::new(pairs.iter().map(|(_, placeholder)| placeholder)).map_err(failed)?;
        let start = automaton.start_state(Anchored::No).map_err(|_| failed_start())?;
        let finder = AhoCorasick::new(pairs.iter().map(|(_, placeholder)| placeholder)).map_err(failed)?;
        let lower = pairs.iter().map(|(_, placeholder)| placeholder.to_ascii_lowercase()).collect();
        Ok(Self { automaton, start, finder, lower })
    }

    /// Where a reader of decoded characters begins.
    pub(crate) const fn start(&self) -> StateID {
        self.start
    }

    /// Takes one decoded character; the placeholder that ends with it, if it is wanted.
    pub(crate) fn advance(&self, state: &mut StateID, byte: u8, wanted: &impl Fn(usize) -> bool) -> Option<usize> {
        self.step(state, byte, wanted)
    }

    /// How many bytes a placeholder has, and the longest.
    pub(crate) fn length(&self, index: usize) -> usize {
        self.lower.get(index).map_or(0, String::len)
    }

    /// See [`Marks::length`].
    pub(crate) fn longest(&self) -> usize {
        self.lower.iter().map(String::len).max().unwrap_or(0)
    }

    /// Begins a scan.
    pub(crate) fn scan(&self) -> Scan {
        Scan { raw: self.start, decoded: self.start, escape: Escape::None }
    }

    /// Reads the next piece and returns the first placeholder, as it stands or percent-encoded, that
    /// `wanted` says yes to.
    pub(crate) fn seen(&self, scan: &mut Scan, piece: &[u8], wanted: impl Fn(usize) -> bool) -> Option<usize> {
        for &byte in piece {
            let hit = self.step(&mut scan.raw, byte, &wanted).or_else(|| self.step_decoded(scan, byte, &wanted));
            if hit.is_some() {
                return hit;
            }
        }
        None
    }

    /// Whether a text holds a placeholder, as it stands or percent-encoded, that `wanted` says yes to.
    pub(crate) fn seen_in(&self, text: &[u8], wanted: impl Fn(usize) -> bool) -> Option<usize> {
        if self.is_free(text) { None } else { self.seen(&mut self.scan(), text, wanted) }
    }

    /// The same for a header field's name, which comes in lower case.
    pub(crate) fn seen_in_name(&self, name: &str, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.lower.len()).find(|i| wanted(*i) && self.lower.get(*i).is_some_and(|mark| name.contains(mark)))
    }

    /// Every placeholder that stands in a text, with its place; no two overlap.
    pub(crate) fn places<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (Range<usize>, usize)> + 'a {
        self.finder.find_iter(text).map(|found| (found.range(), found.pattern().as_usize()))
    }

    /// Whether any placeholder stands in a text as it is.
    pub(crate) fn any(&self, text: &[u8]) -> bool {
        self.finder.is_match(text)
    }

    /// Whether a text holds no placeholder, neither as it is nor percent-encoded. Says no where that needs a closer look.
    pub(crate) fn is_free(&self, text: &[u8]) -> bool {
        !text.contains(&b'%') && !self.any(text)
    }

    fn step(&self, state: &mut StateID, byte: u8, wanted: &impl Fn(usize) -> bool) -> Option<usize> {
        *state = self.automaton.next_state(Anchored::No, *state, byte);
        if !self.automaton.is_match(*state) {
            return None;
        }
        (0..self.automaton.match_len(*state))
            .map(|i| self.automaton.match_pattern(*state, i).as_usize())
            .find(|index| wanted(*index))
    }

    fn step_decoded(&self, scan: &mut Scan, byte: u8, wanted: &impl Fn(usize) -> bool) -> Option<usize> {
        let digit = char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let state = &mut scan.decoded;
        match (scan.escape, digit) {
            (Escape::Percent, Some(_)) => {
                scan.escape = Escape::High(byte);
                None
            }
            (Escape::High(high), Some(low)) => {
                scan.escape = Escape::None;
                let high = char::from(high).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
                self.step(state, high << 4 | low, wanted)
            }
            (before, _) => {
                // What looked like an escape was none: it counts as it stands.
                let late = match before {
                    Escape::None => None,
                    Escape::Percent => self.step(state, b'%', wanted),
                    Escape::High(high) => self.step(state, b'%', wanted).or_else(|| self.step(state, high, wanted)),
                };
                if byte == b'%' {
                    scan.escape = Escape::Percent;
                    return late;
                }
                scan.escape = Escape::None;
                late.or_else(|| self.step(state, byte, wanted))
            }
        }
    }
}

fn failed_start() -> InjectError {
    InjectError::Placeholder("this run's secrets".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::prelude::*;

    fn marks() -> Marks {
        Marks::new([("A", "sk-aaaaaa+/"), ("B", "ghp_bbbbbb")]).unwrap()
    }

    #[test]
    fn placeholders_that_cannot_be_told_apart_are_refused() {
        for pairs in [
            [("A", "sk-aaaa"), ("B", "sk-aaaa")],
            [("A", "sk-aaaa"), ("B", "xsk-aaaax")],
            [("A", ""), ("B", "sk-aaaa")],
        ] {
            assert!(matches!(Marks::new(pairs), Err(InjectError::Placeholder(name)) if name == "A"));
        }
        assert!(Marks::new([]).unwrap().seen_in(b"anything", |_| true).is_none());
    }

    #[test]
    fn places_are_found_in_order() {
        assert_eq!(
            marks().places(b"ghp_bbbbbb:sk-aaaaaa+/sk-aaaaaa").collect::<Vec<_>>(),
            vec![(0..10, 1), (11..22, 0)]
        );
    }

    #[test]
    fn only_wanted_ones_count() {
        assert_eq!(marks().seen_in(b"x sk-aaaaaa+/ ghp_bbbbbb", |i| i == 1), Some(1));
        assert_eq!(marks().seen_in(b"x sk-aaaaaa+/", |i| i == 1), None);
        assert_eq!(marks().seen_in_name("x-ghp_bbbbbb", |_| true), Some(1));
    }

    #[test]
    fn a_broken_escape_hides_nothing() {
        for text in ["%sk-aaaaaa%2B/", "%5sk-aaaaaa%2b%2f", "%%73k-aaaaaa+/", "%e%sk-aaaaaa+%2F"] {
            assert_eq!(marks().seen_in(text.as_bytes(), |_| true), Some(0), "{text}");
        }
    }

    proptest! {
        #[test]
        fn pieces_and_escapes_hide_nothing(before in ".{0,20}", after in ".{0,20}", cut in 0_usize..60, encode: bool) {
            let text = format!("{before}sk-aaaaaa+/{after}");
            let text = if encode { percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string() } else { text };
            let (one, two) = text.as_bytes().split_at(cut.min(text.len()));
            let (marks, mut scan) = (marks(), marks().scan());
            let hit = marks.seen(&mut scan, one, |_| true).or_else(|| marks.seen(&mut scan, two, |_| true));
            prop_assert_eq!(hit, Some(0));
        }
    }
}
