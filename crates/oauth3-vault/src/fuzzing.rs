//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::forms::forms;
use crate::{Lease, Scrubber, SecretBytes};
use std::collections::BTreeSet;

/// Longest value that is made up, in bytes.
const MAX_VALUE_BYTES: u8 = 24;
/// Bytes from here on stand for a form of a value; those below for themselves.
const FORM_OPCODE: u8 = 0xe0;

/// Takes values, a text with forms of them in it, and how the text is cut, out of `data`. Panics when a form of
/// a value is still where it was, when another byte changed, or when the pieces make a difference.
///
/// # Panics
/// When scrubbing does not hold.
pub fn scrub(data: &[u8]) {
    let mut data = data.iter().copied();
    let mut next = move || data.next();
    let mut values: Vec<Vec<u8>> = Vec::new();
    for _ in 0..=next().unwrap_or(0) % 3 {
        let len = next().unwrap_or(0) % MAX_VALUE_BYTES + 1;
        values.push((0..len).map_while(|_| next()).collect());
    }
    let cut = usize::from(next().unwrap_or(0)) + 1;
    let mut text = Vec::new();
    while let Some(byte) = next() {
        match (byte, values.get(usize::from(byte) % values.len())) {
            (FORM_OPCODE.., Some(value)) if !value.is_empty() => {
                let forms = forms(value.len());
                let form = forms.get(usize::from(next().unwrap_or(0)) % forms.len());
                text.extend_from_slice(&form.map(|form| form(value)).unwrap_or_default());
            }
            _ => text.push(byte),
        }
    }
    let lease = |value: &Vec<u8>| {
        let name = "KEY".parse().unwrap_or_else(|_| unreachable!());
        Lease::of_value(name, BTreeSet::new(), "PLACEHOLDER".into(), SecretBytes::new(value.clone()))
    };
    let leases: Vec<Lease> = values.iter().map(lease).collect();
    let scrubber = Scrubber::new(&leases);
    let whole = scrubber.scrub(&text);
    assert_eq!(whole.len(), text.len(), "lengths stay");
    let (mut stream, mut pieces) = (scrubber.stream(), Vec::new());
    text.chunks(cut).for_each(|piece| stream.push(piece, &mut pieces));
    stream.finish(&mut pieces);
    assert_eq!(pieces, whole, "in pieces of {cut}");

    let mut covered = vec![false; text.len()];
    for value in values.iter().filter(|value| !value.is_empty()) {
        for form in forms(value.len()) {
            let pattern = form(value);
            for (at, window) in text.windows(pattern.len().max(1)).enumerate() {
                if *window == pattern[..] {
                    let place = at..at + pattern.len();
                    covered.get_mut(place.clone()).unwrap_or_default().fill(true);
                    assert_ne!(whole.get(place), Some(&pattern[..]), "a form survives at {at}");
                }
            }
        }
    }
    for ((before, after), covered) in text.iter().zip(&whole).zip(covered) {
        assert!(covered || before == after, "a byte that no form covers changed");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn kept(target: &str) -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn every_kept_input_holds() {
        let kept = kept("scrub");
        assert!(!kept.is_empty());
        kept.iter().for_each(|data| super::scrub(data));
    }

    proptest! {
        #[test]
        fn scrubbing_holds_for_any_input(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::scrub(&data);
        }
    }
}
