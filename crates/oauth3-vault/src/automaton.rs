//! Many patterns in one pass: Aho and Corasick's automaton (CACM 18(6), 1975).
//!
//! Our own because the automaton is plaintext, which must be wiped; and because it goes on in the next piece of a stream
//! where it stopped, and skips what begins no pattern.

use std::collections::VecDeque;
use zeroize::{Zeroize, Zeroizing};

/// A state: how much of which pattern was seen. 0 is none of any.
pub(crate) type State = u32;
/// The start.
pub(crate) const ROOT: State = 0;
/// How far apart the pairs of a text are that are looked at, where every pattern is longer than that.
const LONG_STRIDE: usize = 8;
/// See [`LONG_STRIDE`].
const SHORT_STRIDE: usize = 4;
/// So many of them are looked at before anything is decided.
const AT_ONCE: usize = 4;
/// A bit for each pair of bytes.
type Pairs = [u64; 256 * 256 / 64];
/// No such node or pattern.
const NONE: u32 = u32::MAX;

/// A trie with failure links. Nodes have few children, so those are lists; the root has a table.
pub(crate) struct Automaton {
    /// The byte that leads to each node: the patterns themselves, so it is wiped.
    label: Zeroizing<Vec<u8>>,
    child: Vec<u32>,
    sibling: Vec<u32>,
    fail: Vec<State>,
    /// The longest pattern that ends in each state.
    longest: Vec<u32>,
    root: Box<[State; 256]>,
    /// With which two bytes a pattern begins. Most text has few of them, so that most of it needs no walk.
    pairs: Box<Pairs>,
    /// Which two bytes stand early in a pattern, at one of its first `stride` places: so that only every fourth or
    /// eighth pair of a text needs a look.
    early: Box<Pairs>,
    /// 1 where a pattern is too short for the others.
    stride: usize,
}

impl Automaton {
    /// Builds one. A pattern that comes twice counts as its first; empty ones are ignored.
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = &'a [u8]> + Clone) -> Self {
        let nodes = 1 + patterns.clone().map(<[u8]>::len).sum::<usize>();
        let shortest = patterns.clone().map(<[u8]>::len).filter(|len| *len > 0).min().unwrap_or(usize::MAX);
        let stride = [LONG_STRIDE, SHORT_STRIDE].into_iter().find(|stride| shortest > *stride).unwrap_or(1);
        let mut new = Self {
            // Reserved once: growing would leave copies behind that nobody wipes.
            label: Zeroizing::new(Vec::with_capacity(nodes)),
            child: Vec::new(),
            sibling: Vec::new(),
            fail: Vec::new(),
            longest: Vec::new(),
            root: Box::new([ROOT; 256]),
            pairs: Box::new([0; 256 * 256 / 64]),
            early: Box::new([0; 256 * 256 / 64]),
            stride,
        };
        new.add_node(0);
        for (index, pattern) in (0u32..).zip(patterns) {
            new.insert(index, pattern);
        }
        new.link();
        new
    }

    /// The state after one more byte.
    pub(crate) fn step(&self, mut state: State, byte: u8) -> State {
        while state != ROOT {
            if let Some(next) = self.find_child(state, byte) {
                return next;
            }
            state = at(&self.fail, state);
        }
        self.first(byte)
    }

    /// The state after `byte` from the start.
    pub(crate) fn first(&self, byte: u8) -> State {
        self.root.get(usize::from(byte)).copied().unwrap_or(ROOT)
    }

    /// Where in these bytes, seen from the start, a pattern may begin; their length when none does. The last byte
    /// counts by itself, for what follows it is not known.
    pub(crate) fn next_begin(&self, bytes: &[u8]) -> usize {
        let found = match self.stride {
            LONG_STRIDE => self.begin_by::<LONG_STRIDE>(bytes),
            SHORT_STRIDE => self.begin_by::<SHORT_STRIDE>(bytes),
            _ => self.begin_in(bytes, 0, bytes.len()),
        };
        found.unwrap_or_else(|| match bytes.split_last() {
            Some((byte, before)) if self.first(*byte) != ROOT => before.len(),
            _ => bytes.len(),
        })
    }

    /// The first place where the first two bytes of a pattern stand: every pattern has one of its early pairs at a
    /// multiple of the stride.
    fn begin_by<const STRIDE: usize>(&self, bytes: &[u8]) -> Option<usize> {
        let is_early = |place: &[u8]| place.first_chunk().is_some_and(|pair| has(&self.early, *pair));
        let mut at = 0;
        loop {
            while let Some(places) = bytes.get(at..at + AT_ONCE * STRIDE)
                && !places.chunks_exact(STRIDE).fold(false, |found, place| found | is_early(place))
            {
                at += places.len();
            }
            for _ in 0..AT_ONCE {
                let before = at.saturating_sub(STRIDE - 1);
                let Some(place) = bytes.get(at..at + 2) else {
                    return self.begin_in(bytes, before, bytes.len().saturating_sub(1));
                };
                if is_early(place)
                    && let Some(found) = self.begin_in(bytes, before, at + 1)
                {
                    return Some(found);
                }
                at += STRIDE;
            }
        }
    }

    /// The first place within these bounds where the first two bytes of a pattern stand.
    fn begin_in(&self, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
        let places = bytes.get(from..=to.min(bytes.len().checked_sub(1)?))?;
        let pairs = places.iter().zip(places.iter().skip(1));
        pairs.enumerate().find(|(_, (a, b))| has(&self.pairs, [**a, **b])).map(|(at, _)| from + at)
    }

    /// The longest pattern that ends here. It covers what every shorter one would.
    pub(crate) fn ended(&self, state: State) -> Option<u32> {
        Some(at(&self.longest, state)).filter(|pattern| *pattern != NONE)
    }

    fn add_node(&mut self, label: u8) -> State {
        let state = State::try_from(self.label.len()).unwrap_or(ROOT);
        self.label.push(label);
        self.child.push(NONE);
        self.sibling.push(NONE);
        self.fail.push(ROOT);
        self.longest.push(NONE);
        state
    }

    fn insert(&mut self, index: u32, pattern: &[u8]) {
        match *pattern {
            [a, b, ..] => note(&mut self.pairs, [a, b]),
            [a] => (0..=u8::MAX).for_each(|b| note(&mut self.pairs, [a, b])),
            [] => return,
        }
        for (a, b) in pattern.iter().zip(pattern.iter().skip(1)).take(self.stride) {
            note(&mut self.early, [*a, *b]);
        }
        let mut state = ROOT;
        for byte in pattern {
            let known = if state == ROOT { Some(self.first(*byte)).filter(|s| *s != ROOT) } else { None };
            state = match known.or_else(|| self.find_child(state, *byte)) {
                Some(next) => next,
                None => self.add_child(state, *byte),
            };
        }
        if let Some(slot) = slot(&mut self.longest, state).filter(|slot| **slot == NONE && state != ROOT) {
            *slot = index;
        }
    }

    fn add_child(&mut self, parent: State, byte: u8) -> State {
        let node = self.add_node(byte);
        let eldest = at(&self.child, parent);
        set(&mut self.sibling, node, eldest);
        set(&mut self.child, parent, node);
        if parent == ROOT
            && let Some(slot) = self.root.get_mut(usize::from(byte))
        {
            *slot = node;
        }
        node
    }

    fn find_child(&self, parent: State, byte: u8) -> Option<State> {
        let mut node = at(&self.child, parent);
        while node != NONE {
            if self.label.get(node as usize) == Some(&byte) {
                return Some(node);
            }
            node = at(&self.sibling, node);
        }
        None
    }

    /// Breadth first, so that what a link points to is finished before.
    fn link(&mut self) {
        let mut queue = VecDeque::from([ROOT]);
        while let Some(parent) = queue.pop_front() {
            let mut node = at(&self.child, parent);
            while node != NONE {
                let byte = self.label.get(node as usize).copied().unwrap_or_default();
                let fail = if parent == ROOT { ROOT } else { self.step(at(&self.fail, parent), byte) };
                set(&mut self.fail, node, fail);
                if at(&self.longest, node) == NONE {
                    let inherited = at(&self.longest, fail);
                    set(&mut self.longest, node, inherited);
                }
                queue.push_back(node);
                node = at(&self.sibling, node);
            }
        }
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        // The tables say with which bytes patterns begin; the labels wipe themselves.
        self.root.as_mut_slice().zeroize();
        self.pairs.as_mut_slice().zeroize();
        self.early.as_mut_slice().zeroize();
    }
}

fn has(pairs: &Pairs, pair: [u8; 2]) -> bool {
    let pair = usize::from(u16::from_le_bytes(pair));
    pairs.get(pair / 64).is_some_and(|word| word >> (pair % 64) & 1 == 1)
}

fn note(pairs: &mut Pairs, pair: [u8; 2]) {
    let pair = usize::from(u16::from_le_bytes(pair));
    if let Some(word) = pairs.get_mut(pair / 64) {
        *word |= 1 << (pair % 64);
    }
}

/// States only come from this file, so they are always in bounds; NONE ends every walk if one were not.
fn at(list: &[u32], state: State) -> u32 {
    list.get(state as usize).copied().unwrap_or(NONE)
}

fn slot(list: &mut [u32], state: State) -> Option<&mut u32> {
    list.get_mut(state as usize)
}

fn set(list: &mut [u32], state: State, value: u32) {
    if let Some(slot) = slot(list, state) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letters(size: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop::sample::select(b"abc".to_vec()), size)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_beginning_of_a_pattern_is_passed_over(
            patterns in proptest::collection::vec(letters(1..12), 1..4),
            more in prop::sample::select(vec![&b""[..], b"abcab", b"abcabcaba"]),
            text in letters(0..90),
        ) {
            // With short patterns each place is looked at, with long ones every fourth or eighth.
            let patterns: Vec<Vec<u8>> = patterns.into_iter().map(|p| [&p[..], more].concat()).collect();
            let automaton = Automaton::new(patterns.iter().map(|p| &p[..]));
            let begins = |at: usize| {
                let rest = &text[at..];
                patterns.iter().any(|p| rest.starts_with(p) || (!rest.is_empty() && p.starts_with(rest)))
            };
            let found = automaton.next_begin(&text);
            prop_assert!(found <= text.len());
            prop_assert!((0..found).all(|at| !begins(at)), "{found} in {text:?} with {patterns:?}");
        }
    }
}
