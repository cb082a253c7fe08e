//! The scrubber: no form of a value leaves, whatever is cut where.

use crate::automaton::{Automaton, ROOT, State};
use crate::forms::forms;
use crate::{Lease, MIN_ENCODED_SECRET_BYTES};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What stands in for a secret's byte where no part of the placeholder fits; the first that no secret holds.
const FILL: &[u8] = b"*#~^_";

/// Finds every form of the leased values and puts the placeholder in its place.
///
/// Searched: the value as it is, in base64 (both alphabets, at any offset), hex, percent-encoding, and escaped as
/// JSON and HTML do. What replaces has exactly the length of what it replaces, so lengths stay true. Every byte
/// that any form covers is replaced, also where forms overlap. Cheap to clone.
///
/// Text without a value goes through at some gigabytes a second whatever the number of values (`cargo xtask bench
/// scrub`). Memory: 16 KiB, and some 500 bytes per byte of a value of letters and digits, up to 1200 where much of it
/// is escaped.
///
/// It does not know encodings beyond these, nor one applied over another: code never holds a value, so what is
/// searched is what servers send back.
#[derive(Clone)]
pub struct Scrubber(Arc<Patterns>);

struct Patterns {
    automaton: Automaton,
    /// What replaces each pattern, of its length.
    replacements: Vec<Vec<u8>>,
    fill: u8,
    /// How many of the last bytes of a stream are held back: all but one of the longest pattern.
    hold: usize,
    /// Whether no pattern holds a line break, so that whole lines need not be held back.
    by_line: bool,
}

impl Scrubber {
    /// One for the values of one run. Without leases it changes nothing.
    #[must_use]
    pub fn new(leases: &[Lease]) -> Self {
        let fill = fill_for(leases);
        let mut patterns: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        let mut replacements = Vec::new();
        for (lease, value) in leases.iter().flat_map(|lease| lease.hidden().map(move |value| (lease, value))) {
            let stand_in = stand_in(&lease.placeholder, value.len(), fill);
            for form in forms(value.len()) {
                let pattern = value.with(form);
                let replacement = form(&stand_in);
                let fits = replacement.len() == pattern.len();
                replacements.push(if fits { replacement.to_vec() } else { vec![fill; pattern.len()] });
                patterns.push(pattern);
            }
        }
        let automaton = Automaton::new(patterns.iter().map(|p| &p[..]));
        let hold = patterns.iter().map(|p| p.len()).max().unwrap_or(0).saturating_sub(1);
        let by_line = !patterns.iter().any(|p| p.contains(&b'\n'));
        for replacement in &mut replacements {
            // A replacement that holds a secret itself would be no help.
            let mut state = ROOT;
            let betrays = replacement.iter().any(|byte| {
                state = automaton.step(state, *byte);
                automaton.ended(state).is_some()
            });
            if betrays {
                replacement.fill(fill);
            }
        }
        Self(Arc::new(Patterns { automaton, replacements, fill, hold, by_line }))
    }

    /// Begins one stream of bytes.
    #[must_use]
    pub fn stream(&self) -> ScrubStream {
        ScrubStream {
            patterns: Arc::clone(&self.0),
            state: ROOT,
            position: 0,
            open_line: 0,
            held: Zeroizing::new(Vec::new()),
            matches: VecDeque::new(),
            replacing: None,
            covered_until: 0,
        }
    }

    /// Whether any form of a value is in there.
    #[must_use]
    pub fn finds(&self, bytes: &[u8]) -> bool {
        let automaton = &self.0.automaton;
        let (mut state, mut rest) = (ROOT, bytes);
        loop {
            if state == ROOT {
                rest = rest.get(automaton.next_begin(rest)..).unwrap_or_default();
            }
            let Some((byte, after)) = rest.split_first() else { return false };
            (state, rest) = (automaton.step(state, *byte), after);
            if automaton.ended(state).is_some() {
                return true;
            }
        }
    }

    /// Scrubs something that is there as a whole.
    #[must_use]
    pub fn scrub(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut out);
        stream.finish(&mut out);
        out
    }
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrubber(…)")
    }
}

/// A byte that no value holds, so that a filled place never completes one.
fn fill_for(leases: &[Lease]) -> u8 {
    let free =
        |byte: &&u8| !leases.iter().flat_map(Lease::hidden).any(|value| value.with(|value| value.contains(byte)));
    FILL.iter().find(free).copied().unwrap_or(b'*')
}

/// The placeholder cut or padded to the value's length. Too little of one would be nothing but noise.
fn stand_in(placeholder: &str, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = if len < MIN_ENCODED_SECRET_BYTES { Vec::new() } else { placeholder.as_bytes().to_vec() };
    bytes.resize(len, fill);
    bytes
}

/// Where a pattern was found, in bytes since the stream began.
#[derive(Clone, Copy)]
struct Match {
    start: u64,
    end: u64,
    pattern: u32,
}

/// One stream being scrubbed.
///
/// How much it holds back depends on how much came and where lines end, and on nothing else: with each byte that
/// was held back because it continues a value, who makes both sides of a stream could guess the value byte by byte.
/// So a line goes out with its end, and of an unfinished one all but as much as the longest form of a value has.
pub struct ScrubStream {
    patterns: Arc<Patterns>,
    state: State,
    /// Bytes that came in so far.
    position: u64,
    /// Bytes since the last line end, or since the stream began.
    open_line: usize,
    /// The last bytes that came in, which did not go out yet.
    held: Zeroizing<Vec<u8>>,
    /// Matches that do not all lie before what was handed out, by their start.
    matches: VecDeque<Match>,
    replacing: Option<Match>,
    /// Up to here a match that began covers the bytes.
    covered_until: u64,
}

impl ScrubStream {
    /// Takes bytes in and appends to `out` what need not be held back.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let through = self.push_around(bytes, false, out);
        out.extend_from_slice(bytes.get(through).unwrap_or_default());
    }

    /// Takes bytes in, as [`push`](Self::push) does, but copies nothing that stays as it is: after what was appended to
    /// `out`, those of `bytes` go out that are in the range. After the `last` ones nothing is held back.
    #[must_use]
    pub fn push_around(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> Range<usize> {
        let before = self.held.len();
        self.search(bytes);
        let line_end = if self.patterns.by_line { memchr::memrchr(b'\n', bytes) } else { None };
        self.open_line = match line_end {
            Some(at) => bytes.len() - at - 1,
            None => self.open_line.saturating_add(bytes.len()),
        };
        // No match that begins before what is kept can still be found.
        let kept = if last { 0 } else { self.open_line.min(self.patterns.hold) };
        let free = (before + bytes.len()).saturating_sub(kept);
        self.release(free.min(before), before + bytes.len(), out);
        let through = free.saturating_sub(before);
        let (now, later) = bytes.split_at(through);
        let from = self.position - bytes.len() as u64;
        let quiet = self.is_quiet(from, from + now.len() as u64);
        if !quiet {
            let at = out.len();
            out.extend_from_slice(now);
            self.replace(out.get_mut(at..).unwrap_or_default(), from);
        }
        if !later.is_empty() {
            // Reserved once: growing would leave copies behind that nobody wipes.
            let more = self.patterns.hold.saturating_sub(self.held.len());
            self.held.reserve_exact(more);
            self.held.extend_from_slice(later);
        }
        if quiet { 0..through } else { through..through }
    }

    /// Ends the stream: what was held back as a mere beginning goes out.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let held = self.held.len();
        self.release(held, held, out);
    }

    /// Looks for matches in what came.
    fn search(&mut self, bytes: &[u8]) {
        let patterns = Arc::clone(&self.patterns);
        let automaton = &patterns.automaton;
        let mut rest = bytes;
        loop {
            if self.state == ROOT {
                // What begins no pattern needs no walk.
                let through = automaton.next_begin(rest);
                self.position += through as u64;
                rest = rest.get(through..).unwrap_or_default();
            }
            let Some((byte, after)) = rest.split_first() else { return };
            rest = after;
            self.state = automaton.step(self.state, *byte);
            self.position += 1;
            if let Some(pattern) = automaton.ended(self.state) {
                self.note_match(pattern);
            }
        }
    }

    fn note_match(&mut self, pattern: u32) {
        let len = self.patterns.replacements.get(pattern as usize).map_or(0, Vec::len) as u64;
        let found = Match { start: self.position.saturating_sub(len), end: self.position, pattern };
        let at = self.matches.partition_point(|m| m.start <= found.start);
        self.matches.insert(at, found);
    }

    /// Hands out the first `count` of the held bytes, the first of which is `back` bytes behind the newest.
    fn release(&mut self, count: usize, back: usize, out: &mut Vec<u8>) {
        if count == 0 {
            return;
        }
        let at = out.len();
        out.extend(self.held.drain(..count));
        self.replace(out.get_mut(at..).unwrap_or_default(), self.position - back as u64);
    }

    /// Whether no match covers any byte of these.
    fn is_quiet(&self, from: u64, until: u64) -> bool {
        from >= self.covered_until && self.matches.front().is_none_or(|m| m.start >= until)
    }

    /// Puts what stands in for them in the place of covered bytes, the first of which is at `from`. They go out now.
    fn replace(&mut self, bytes: &mut [u8], from: u64) {
        let until = from + bytes.len() as u64;
        let mut at = from;
        while !self.is_quiet(at, until) {
            if at >= self.covered_until {
                at = self.matches.front().map_or(until, |m| m.start.max(at));
            }
            let place = usize::try_from(at - from).ok().and_then(|place| bytes.get_mut(place));
            let Some(byte) = place else { return };
            if let Some(other) = self.stand_in_at(at) {
                *byte = other;
            }
            at += 1;
        }
    }

    /// What replaces the byte at `at`, if anything covers it: of the matches that begin at the first covered byte
    /// the longest is replaced as a whole, and what others cover beyond it is filled.
    fn stand_in_at(&mut self, at: u64) -> Option<u8> {
        while let Some(found) = self.matches.front().copied().filter(|m| m.start <= at) {
            self.matches.pop_front();
            let free = at >= self.covered_until || self.replacing.is_some_and(|m| m.start == at && m.end < found.end);
            if free && found.start == at {
                self.replacing = Some(found);
            }
            self.covered_until = self.covered_until.max(found.end);
        }
        if at >= self.covered_until {
            return None;
        }
        let replaced = self.replacing.filter(|m| at < m.end).and_then(|m| {
            let offset = usize::try_from(at - m.start).ok()?;
            self.patterns.replacements.get(m.pattern as usize)?.get(offset).copied()
        });
        Some(replaced.unwrap_or(self.patterns.fill))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretBytes;
    use data_encoding::{BASE64, HEXUPPER};
    use oauth3_core::SecretName;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn lease(value: &[u8], placeholder: &str) -> Lease {
        let name = SecretName::parse("KEY").unwrap();
        Lease::of_value(name, BTreeSet::new(), placeholder.to_owned(), SecretBytes::new(value.to_vec()))
    }

    fn scrub(leases: &[(&str, &str)], text: &str) -> String {
        let leases: Vec<Lease> = leases.iter().map(|(v, p)| lease(v.as_bytes(), p)).collect();
        String::from_utf8(Scrubber::new(&leases).scrub(text.as_bytes())).unwrap()
    }

    #[test]
    fn puts_the_placeholder_in_place_of_the_value() {
        let pair = [("sk-real-0123456789ab", "sk-fake-zyxwvutsrqpo")];
        assert_eq!(scrub(&pair, "key sk-real-0123456789ab."), "key sk-fake-zyxwvutsrqpo.");
        assert_eq!(scrub(&[("swordfish", "oauth3_ph_abcdef")], "<swordfish>"), "<oauth3_ph>");
        assert_eq!(
            scrub(
                &[("0123456789012345678901234567890123456789", "ph_abc")],
                "0123456789012345678901234567890123456789"
            ),
            "ph_abc**********************************"
        );
    }

    #[test]
    fn encodings_of_the_value_become_encodings_of_the_placeholder() {
        let pair = [("sk-real-0123456789ab", "sk-fake-zyxwvutsrqpo")];
        let check = |encode: fn(&[u8]) -> String| {
            let basic = |key: &str| encode(format!("user:{key}").as_bytes());
            let (real, fake) = (basic("sk-real-0123456789ab"), basic("sk-fake-zyxwvutsrqpo"));
            let scrubbed = scrub(&pair, &real);
            assert_eq!(scrubbed.len(), real.len());
            // Only characters that share bits with their neighbours may differ.
            let odd = scrubbed.bytes().zip(fake.bytes()).filter(|(a, b)| a != b).count();
            assert!(odd <= 2, "{scrubbed} is not {fake}");
        };
        check(|b| BASE64.encode(b));
        check(|b| HEXUPPER.encode(b));
    }

    #[test]
    fn overlapping_values_leave_nothing() {
        // The second begins inside the first, and the third is inside both.
        let leases = [("abcdefgh", "11111111"), ("efghijkl", "22222222"), ("gh", "33")];
        assert_eq!(scrub(&leases, "_abcdefghijkl_"), "_11111111****_");
        assert_eq!(scrub(&leases, "efghijkl gh abcdefgh"), "22222222 ** 11111111");
        // One value inside another: the longer wins wherever it is.
        let leases = [("secret", "111111"), ("my-secret-key", "2222222222222")];
        assert_eq!(scrub(&leases, "my-secret-key secret my-secret-kex"), "2222222222222 111111 my-111111-kex");
        // A value that overlaps itself.
        assert_eq!(scrub(&[("ababab", "111111")], "abababab"), "111111**");
    }

    #[test]
    fn lines_go_out_at_once_and_ends_are_held_back() {
        let scrubber = Scrubber::new(&[lease(b"swordfish-swordfish-1", "x")]);
        let (mut stream, mut out) = (scrubber.stream(), Vec::new());
        stream.push(b"data: {\"a\":1}\n\n", &mut out);
        assert_eq!(out, b"data: {\"a\":1}\n\n", "an event goes out at once");
        stream.push(b"the sword", &mut out);
        assert!(out.ends_with(b"\n\n"));
        stream.push(b" is drawn\nthe ", &mut out);
        assert!(out.ends_with(b"the sword is drawn\n"));
        stream.push(&[b'.'; 1000], &mut out);
        // Every byte of the value escaped is the longest form.
        assert_eq!(out.len(), 14 + 1 + 19 + 4 + 1000 - (3 * 21 - 1));
        stream.push(b"sword", &mut out);
        stream.finish(&mut out);
        assert!(out.ends_with(b"sword"));
    }

    /// Who reads what he sent himself must not learn from its pace how far it agrees with a value.
    #[test]
    fn what_is_held_back_does_not_depend_on_the_value() {
        let value = b"swordfish-swordfish-1";
        let paces = |leases: &[Lease], text: &[u8]| {
            let scrubber = Scrubber::new(leases);
            let mut stream = scrubber.stream();
            text.chunks(3)
                .map(|chunk| {
                    let mut out = Vec::new();
                    stream.push(chunk, &mut out);
                    out.len()
                })
                .collect::<Vec<_>>()
        };
        let key = [lease(value, "x")];
        let many_lines = [lease(b"-----BEGIN\nswordfish\n-----END", "x")];
        for leases in [&key, &many_lines] {
            let guess = |text: &str| paces(leases, format!("{text}{}\n\nmore", ".".repeat(100)).as_bytes());
            for right in ["swordfish-swordfish-", "swo", "c3dvcmRmaXNo", "%73%77%6F", "-----BEGIN\nswordfi"] {
                let wrong: String = right.chars().map(|c| if c == '\n' { c } else { '_' }).collect();
                assert_eq!(guess(right), guess(&wrong), "{right}");
            }
        }
    }

    #[test]
    fn a_replacement_never_is_or_makes_a_value() {
        assert_eq!(scrub(&[("o", "oauth3_ph_1")], "foo"), "f**");
        assert_eq!(scrub(&[("*", "oauth3_ph_1")], "a*b"), "a#b");
        assert_eq!(scrub(&[("oauth3_p", "oauth3_ph_1")], "oauth3_ph_1"), "********h_1");
    }

    #[test]
    fn without_leases_everything_passes() {
        assert_eq!(scrub(&[], "anything"), "anything");
        assert_eq!(scrub(&[("", "ph")], "anything"), "anything");
    }

    /// Values over few letters overlap themselves and each other often.
    fn values() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(prop::sample::select(b"ab\"".to_vec()), 1..12), 0..4)
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same(
            values in values(),
            text in proptest::collection::vec(prop::sample::select(b"ab\"\\%26Yc".to_vec()), 0..200),
            cuts in proptest::collection::vec(1usize..9, 1..60),
        ) {
            let leases: Vec<Lease> = values.iter().map(|v| lease(v, "PLACEHOLDER")).collect();
            let scrubber = Scrubber::new(&leases);
            let whole = scrubber.scrub(&text);
            prop_assert_eq!(whole.len(), text.len());
            let (mut stream, mut out, mut rest) = (scrubber.stream(), Vec::new(), &text[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                stream.push(now, &mut out);
                rest = later;
            }
            stream.finish(&mut out);
            prop_assert_eq!(&out, &whole);

            // The same without copies, where the last piece is known to be it.
            let (mut stream, mut out, mut rest) = (scrubber.stream(), Vec::new(), &text[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                let through = stream.push_around(now, later.is_empty(), &mut out);
                out.extend_from_slice(&now[through]);
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(&out, &whole);

            // Each byte that an occurrence of any form covers is replaced, and no other byte is touched.
            let mut covered = vec![false; text.len()];
            for value in &values {
                for form in forms(value.len()) {
                    let pattern = form(value);
                    for at in 0..text.len().saturating_sub(pattern.len() - 1) {
                        if text[at..].starts_with(&pattern) {
                            covered[at..at + pattern.len()].fill(true);
                        }
                    }
                }
            }
            for (at, covered) in covered.iter().enumerate() {
                if !covered {
                    prop_assert_eq!(whole[at], text[at]);
                } else if b"ab\"".contains(&text[at]) {
                    // No form of this placeholder holds one of these.
                    prop_assert_ne!(whole[at], text[at]);
                }
            }
            for value in &values {
                prop_assert!(!whole.windows(value.len()).any(|w| w == &value[..]));
            }
        }

        #[test]
        fn no_form_of_a_real_key_survives(
            value in "[ -~]{8,60}",
            before in "[ -~]{0,30}",
            after in "[ -~]{0,30}",
            form in any::<prop::sample::Index>(),
        ) {
            let secret = SecretBytes::new(value.as_bytes().to_vec());
            let placeholder = crate::make_placeholder(&secret).unwrap();
            let scrubber = Scrubber::new(&[lease(value.as_bytes(), &placeholder)]);
            let form = form.get(forms(value.len()));
            let pattern = form(value.as_bytes());
            let text = [before.as_bytes(), &pattern[..], after.as_bytes()].concat();
            let scrubbed = scrubber.scrub(&text);
            prop_assert_eq!(scrubbed.len(), text.len());
            prop_assert!(!scrubbed.windows(pattern.len()).any(|w| w == &pattern[..]));
        }
    }
}
