//! Whether text that comes in pieces is UTF-8.

use super::frame::Fault;

/// Longest character, in bytes.
const MAX_CHARACTER_BYTES: usize = 4;

/// What is known of a text so far.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The beginning of a character whose rest has not come.
    open: Vec<u8>,
}

impl Utf8 {
    /// Reads the next piece.
    pub(crate) fn push(&mut self, mut piece: &[u8], last: bool) -> Result<(), Fault> {
        while !self.open.is_empty()
            && let [byte, rest @ ..] = piece
        {
            self.open.push(*byte);
            piece = rest;
            match std::str::from_utf8(&self.open) {
                Ok(_) => self.open.clear(),
                Err(error) if error.error_len().is_none() && self.open.len() < MAX_CHARACTER_BYTES => {}
                Err(_) => return Err(Fault::NotUtf8),
            }
        }
        if let Err(error) = std::str::from_utf8(piece) {
            if error.error_len().is_some() {
                return Err(Fault::NotUtf8);
            }
            self.open.extend_from_slice(piece.get(error.valid_up_to()..).unwrap_or_default());
        }
        if last && !self.open.is_empty() { Err(Fault::NotUtf8) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_judged_like_the_whole(
            bytes in prop_oneof![any::<String>().prop_map(String::into_bytes), any::<Vec<u8>>()],
            cuts in prop::collection::vec(0_usize..64, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut utf8, mut begin, mut good) = (Utf8::default(), 0, true);
            for cut in cuts {
                good = good && utf8.push(&bytes[begin..cut], false).is_ok();
                begin = cut;
            }
            good = good && utf8.push(&bytes[begin..], true).is_ok();
            prop_assert_eq!(good, std::str::from_utf8(&bytes).is_ok());
        }
    }
}
