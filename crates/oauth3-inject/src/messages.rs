//! What other parts of the plaintext zone need of how messages are kept clean.

use crate::decode::{Decoder, Step};
use crate::hygiene;
use crate::limits::{DECODERS_MEMORY_BYTES, DECODERS_TIMEOUT, DECODERS_UNIT_BYTES, MIN_PASSED_BYTES};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use oauth3_vault::{Lease, MIN_ENCODED_SECRET_BYTES, ScrubStream, Scrubber};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Fields whose value is a key, as APIs want it. `Authorization` is one too, with a scheme before it.
pub static KEY_FIELDS: [HeaderName; 8] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("apikey"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("private-token"),
    HeaderName::from_static("xi-api-key"),
];
/// What stands for a field whose scrubbed value is none.
const SCRUBBED: HeaderValue = HeaderValue::from_static("scrubbed");
/// Parameters of the query whose value is one.
pub const KEY_PARAMETERS: [&str; 5] = ["key", "api_key", "apikey", "api-key", "access_token"];

/// Refuses a request that two readers could read differently, or that asks for what is not done.
///
/// # Errors
/// The status and a sentence.
pub fn check_request(head: &Parts) -> Result<(), (StatusCode, String)> {
    hygiene::check_request(head).map_err(|refusal| (refusal.status, refusal.sentence.into_owned()))
}

/// Makes the fields of a request fit for the next connection, and has it ask for a reply that can be read as it comes.
pub fn clean_request(headers: &mut HeaderMap) {
    hygiene::clean_request(headers);
    hygiene::ask_for_plain(headers, true);
}

/// Removes the fields of which this is so.
pub fn remove_where(headers: &mut HeaderMap, is_one: impl Fn(&HeaderName) -> bool) {
    hygiene::remove_where(headers, is_one);
}

/// Makes the fields of a request fit for the next connection, and changes nothing else.
pub fn pass_on(headers: &mut HeaderMap) {
    hygiene::clean_request(headers);
}

/// Makes the fields of a reply fit for the client.
pub fn clean_reply(headers: &mut HeaderMap) {
    hygiene::clean_reply(headers);
}

/// Scrubs the values of fields. A field whose name holds a value goes; names are compared without case, for on the way
/// they lose it.
pub fn scrub_fields(scrubber: &Scrubber, leases: &[Lease], fields: &mut HeaderMap) {
    let mut named: Vec<HeaderName> = Vec::new();
    for (name, value) in fields.iter_mut() {
        if scrubber.finds(name.as_str().as_bytes()) || names_a_value(leases, name) {
            named.push(name.clone());
        } else if scrubber.finds(value.as_bytes()) {
            *value = HeaderValue::from_bytes(&scrubber.scrub(value.as_bytes())).unwrap_or(SCRUBBED);
        }
    }
    for name in named {
        fields.remove(name);
    }
}

fn names_a_value(leases: &[Lease], name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    let within = |value: &[u8]| {
        value.len() >= MIN_ENCODED_SECRET_BYTES
            && name.windows(value.len()).any(|part| part.eq_ignore_ascii_case(value))
    };
    leases.iter().flat_map(Lease::hidden).any(|value| value.with(within))
}

/// Scrubs the next piece of a reply. What goes out is two pieces, so that a large one need not be copied; either may be
/// empty. After the `last` piece nothing is held back, and the second of them is empty.
pub fn scrub_piece(scrub: &mut ScrubStream, data: &Bytes, last: bool) -> (Bytes, Bytes) {
    let mut clean = Vec::new();
    let through = scrub.push_around(data, last, &mut clean);
    if clean.is_empty() {
        return (data.slice(through), Bytes::new());
    }
    if through.len() >= MIN_PASSED_BYTES && !last {
        return (clean.into(), data.slice(through));
    }
    clean.extend_from_slice(data.get(through).unwrap_or_default());
    (clean.into(), Bytes::new())
}

/// Memory for undoing content codings, shared by many replies.
#[derive(Clone)]
pub struct Decoders(Arc<Semaphore>);

/// A reply whose content codings are undone as it comes.
pub struct ReplyDecoder {
    decoder: Decoder,
    _place: OwnedSemaphorePermit,
}

impl Default for Decoders {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DECODERS_MEMORY_BYTES / DECODERS_UNIT_BYTES)))
    }
}

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoders")
    }
}

impl Decoders {
    /// What it takes to read the body of a reply with these fields, which from then on say what it is once read;
    /// nothing for one that is as it seems.
    ///
    /// # Errors
    /// A sentence, when the body cannot be read.
    pub async fn open(&self, headers: &mut HeaderMap) -> Result<Option<ReplyDecoder>, &'static str> {
        let Some(codings) = hygiene::codings(headers) else {
            return Err("the reply is in an encoding that cannot be scrubbed");
        };
        if codings.is_identity() {
            return Ok(None);
        }
        let units = u32::try_from(codings.memory_bytes().div_ceil(DECODERS_UNIT_BYTES)).unwrap_or(u32::MAX);
        let Ok(Ok(place)) = timeout(DECODERS_TIMEOUT, Arc::clone(&self.0).acquire_many_owned(units)).await else {
            return Err("too many compressed replies are being read at once");
        };
        hygiene::say_decoded(headers);
        Ok(Some(ReplyDecoder { decoder: Decoder::new(&codings), _place: place }))
    }
}

impl ReplyDecoder {
    /// Takes the next bytes that came, gives `out` each piece of what they are, and says whether that was all.
    ///
    /// # Errors
    /// A sentence, when they are damaged, cut short, or unpack to too much.
    pub fn push(&mut self, bytes: Bytes, last: bool, mut out: impl FnMut(&[u8])) -> Result<bool, String> {
        self.decoder.feed(bytes);
        if last {
            self.decoder.end();
        }
        loop {
            match self.decoder.step().map_err(|broken| broken.to_string())? {
                Step::Piece(piece) => out(piece),
                Step::Hungry if last => return Err("the reply ends within its compressed data".to_owned()),
                Step::Hungry => return Ok(false),
                Step::Over => return Ok(true),
            }
        }
    }
}

impl fmt::Debug for ReplyDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyDecoder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::SecretName;
    use oauth3_vault::SecretBytes;
    use std::collections::BTreeSet;

    fn lease(value: &str, placeholder: &str) -> Lease {
        let secret = SecretBytes::new(value.as_bytes().to_vec());
        let name = SecretName::parse("KEY").unwrap();
        Lease::of_value(name, BTreeSet::new(), placeholder.to_owned(), secret)
    }

    #[test]
    fn pieces_of_a_reply_are_scrubbed_across_their_borders_and_large_ones_not_copied() {
        let value = "sk-Real0123456789AB";
        let scrubber = Scrubber::new(&[lease(value, "sk-fake0123456789ab")]);
        let filler = ".".repeat(3 * MIN_PASSED_BYTES);
        let (begin, end) = value.split_at(7);
        let texts = [format!("{filler}{begin}"), format!("{end}{filler}"), filler.clone(), format!("{value}{begin}")];
        let whole = scrubber.scrub(texts.concat().as_bytes());
        let (mut stream, mut out, mut copied) = (scrubber.stream(), Vec::new(), 0);
        for (at, text) in texts.iter().enumerate() {
            let data = Bytes::from(text.clone().into_bytes());
            let place = data.as_ptr() as usize..data.as_ptr() as usize + data.len();
            let (first, second) = scrub_piece(&mut stream, &data, at + 1 == texts.len());
            for piece in [first, second] {
                let is_copy = !piece.is_empty() && !place.contains(&(piece.as_ptr() as usize));
                copied += if is_copy { piece.len() } else { 0 };
                out.extend_from_slice(&piece);
            }
        }
        assert_eq!(out, whole, "nothing is held back after the last piece");
        assert!(!out.windows(value.len()).any(|part| part == value.as_bytes()));
        // That in which a value ends, and what was held back.
        assert!(copied < filler.len() + 1000, "{copied} bytes were copied");
    }

    #[test]
    fn no_field_of_a_reply_brings_a_value_in_its_name_or_its_text() {
        let leases = [lease("sk-Real0123456789AB", "sk-fake0123456789ab")];
        let mut fields = HeaderMap::new();
        for (name, text) in [
            ("x-plain", "as it was"),
            ("x-echo", "Bearer sk-Real0123456789AB"),
            // Names come in lower case, whatever the host wrote.
            ("x-sk-real0123456789ab-x", "1"),
        ] {
            fields.append(name, HeaderValue::from_static(text));
        }
        scrub_fields(&Scrubber::new(&leases), &leases, &mut fields);
        let left: Vec<_> = fields.iter().map(|(name, text)| (name.as_str(), text.to_str().unwrap())).collect();
        assert_eq!(left, [("x-plain", "as it was"), ("x-echo", "Bearer sk-fake0123456789ab")]);
    }
}
