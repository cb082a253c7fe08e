//! Many patterns in one pass: Aho and Corasick's automaton (CACM 18(6), 1975).
//!
//! Our own because a scrubber must know after each byte how long a pattern's beginning it has seen, so that it
//! knows from where on bytes are certain; and because the automaton is plaintext, which must be wiped.

use std::collections::VecDeque;
use zeroize::{Zeroize, Zeroizing};

/// A state: how much of which pattern was seen. 0 is none of any.
pub(crate) type State = u32;
/// The start.
pub(crate) const ROOT: State = 0;
/// No such node or pattern.
const NONE: u32 = u32::MAX;

/// A trie with failure links. Nodes have few children, so those are lists; the root has a table.
pub(crate) struct Automaton {
    /// The byte that leads to each node: the patterns themselves, so it is wiped.
    label: Zeroizing<Vec<u8>>,
    child: Vec<u32>,
    sibling: Vec<u32>,
    fail: Vec<State>,
    depth: Vec<u32>,
    /// The longest pattern that ends in each state.
    longest: Vec<u32>,
    root: Box<[State; 256]>,
}

impl Automaton {
    /// Builds one. A pattern that comes twice counts as its first; empty ones are ignored.
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = &'a [u8]> + Clone) -> Self {
        let nodes = 1 + patterns.clone().map(<[u8]>::len).sum::<usize>();
        let mut new = Self {
            // Reserved once: growing would leave copies behind that nobody wipes.
            label: Zeroizing::new(Vec::with_capacity(nodes)),
            child: Vec::new(),
            sibling: Vec::new(),
            fail: Vec::new(),
            depth: Vec::new(),
            longest: Vec::new(),
            root: Box::new([ROOT; 256]),
        };
        new.add_node(0, 0);
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

    /// How many of the last bytes are the beginning of a pattern: what must be held back.
    pub(crate) fn depth(&self, state: State) -> u32 {
        if state == ROOT { 0 } else { at(&self.depth, state) }
    }

    /// The longest pattern that ends here. It covers what every shorter one would.
    pub(crate) fn ended(&self, state: State) -> Option<u32> {
        Some(at(&self.longest, state)).filter(|pattern| *pattern != NONE)
    }

    fn add_node(&mut self, label: u8, depth: u32) -> State {
        let state = State::try_from(self.label.len()).unwrap_or(ROOT);
        self.label.push(label);
        self.child.push(NONE);
        self.sibling.push(NONE);
        self.fail.push(ROOT);
        self.depth.push(depth);
        self.longest.push(NONE);
        state
    }

    fn insert(&mut self, index: u32, pattern: &[u8]) {
        let mut state = ROOT;
        for (byte, depth) in pattern.iter().zip(1u32..) {
            let known = if state == ROOT { Some(self.first(*byte)).filter(|s| *s != ROOT) } else { None };
            state = match known.or_else(|| self.find_child(state, *byte)) {
                Some(next) => next,
                None => self.add_child(state, *byte, depth),
            };
        }
        if let Some(slot) = slot(&mut self.longest, state).filter(|slot| **slot == NONE && state != ROOT) {
            *slot = index;
        }
    }

    fn add_child(&mut self, parent: State, byte: u8, depth: u32) -> State {
        let node = self.add_node(byte, depth);
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
        // The table says with which bytes patterns begin; the labels wipe themselves.
        self.root.as_mut_slice().zeroize();
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
