//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::decode::{Codings, Decoder, Step};
use crate::dns::{Answer, MAX_QUERY_BYTES, Names};
use crate::fill::{Filler, Held, inspect};
use crate::hygiene;
use crate::limits::{DECODED_FREE_BYTES, MAX_DECODED_RATIO};
use crate::marks::Marks;
use crate::rules::Bars;
use crate::target::{Entry, target};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Request};
use oauth3_core::{Host, Slot, Timestamp, Uses, synthetic_addresses};
use oauth3_vault::{Lease, SecretBytes};
use std::collections::BTreeSet;

const ALLOWED: [&str; 2] = ["api.test", "other.test:8443"];
const CODINGS: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "deflate, zstd, gzip"];

fn hosts() -> BTreeSet<Host> {
    ALLOWED.iter().filter_map(|host| Host::parse(host).ok()).collect()
}

/// The first byte chooses codings, the second the size of pieces, the rest is a reply's body.
///
/// # Panics
/// When more is made than the bounds allow, or a reply that ended asks for more.
pub fn decode(data: &[u8]) {
    let [coding, cut, body @ ..] = data else { return };
    let mut headers = http::HeaderMap::new();
    let coding = CODINGS.get(usize::from(*coding) % CODINGS.len()).copied().unwrap_or_default();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    let Some(codings) = Codings::of(&headers) else { return };
    let mut decoder = Decoder::new(&codings);
    let (mut pieces, mut made, mut ended) = (body.chunks(usize::from(*cut) + 1), 0_u64, false);
    loop {
        match decoder.step() {
            Ok(Step::Piece(piece)) => made += piece.len() as u64,
            Ok(Step::Hungry) => match pieces.next() {
                Some(piece) => decoder.feed(Bytes::copy_from_slice(piece)),
                None => {
                    assert!(!ended, "asks for more after the end");
                    decoder.end();
                    ended = true;
                }
            },
            Ok(Step::Over) | Err(_) => break,
        }
        assert!(made <= DECODED_FREE_BYTES.max(body.len() as u64 * MAX_DECODED_RATIO), "{made} bytes");
    }
}

/// A datagram to the name server of a run.
///
/// # Panics
/// When an answer is too long, is to another question, or names an address for a name that is not allowed.
pub fn names(data: &[u8]) {
    match Names::new(&hosts()).answer(data) {
        Answer::Ignore => {}
        Answer::Reply(reply) => {
            assert!(reply.len() <= MAX_QUERY_BYTES && reply.get(..2) == data.get(..2));
            if reply.get(7).is_some_and(|answers| *answers > 0) {
                let asked: String = reply.iter().map(|b| char::from(b.to_ascii_lowercase())).collect();
                assert!(asked.contains("\u{3}api\u{4}test\0") || asked.contains("\u{5}other\u{4}test\0"));
                let known = synthetic_addresses(&hosts()).into_values();
                assert!(known.into_iter().any(|address| reply.ends_with(&address.octets())));
            }
        }
        Answer::Refuse(reply, _) => assert!(reply.len() <= MAX_QUERY_BYTES && reply.get(7) == Some(&0)),
    }
}

/// The lines of a request's head: method and address, then fields.
///
/// # Panics
/// When it is for a host that is not allowed or not the one that everything in it names, or when a field that
/// belongs to the connection is left.
pub fn head(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let (method, uri) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
            request = request.header(name, value);
        }
    }
    let Ok(request) = request.body(()) else { return };
    let (mut head, ()) = request.into_parts();
    let allowed = hosts();
    let name = "api.test".to_owned();
    for entry in [Entry::Tls { name, port: 443, asked: None }, Entry::Proxy(None), Entry::Plain] {
        let Ok(host) = target(&entry, &head, &allowed) else { continue };
        assert!(allowed.contains(&host) && !matches!(entry, Entry::Plain));
        assert!(head.headers.get_all(HOST).iter().count() <= 1);
        let names = |text: &str| Host::parse(text).is_ok_and(|named| named == host);
        assert!(head.headers.get(HOST).is_none_or(|field| field.to_str().is_ok_and(names)));
        assert!(head.uri.authority().is_none_or(|authority| names(authority.as_str())));
    }
    let passes = hygiene::check_request(&head).is_ok();
    hygiene::clean_request(&mut head.headers);
    if passes {
        fill(head.clone());
    }
    for gone in [CONNECTION, TRANSFER_ENCODING] {
        assert!(!head.headers.contains_key(&gone), "{gone}");
    }
    assert!(!passes || !head.headers.contains_key(UPGRADE));
    hygiene::clean_reply(&mut head.headers);
    assert!(!head.headers.contains_key("alt-svc") && !head.headers.contains_key(UPGRADE));
}

/// Frames of a WebSocket; see [`crate::websocket::fuzz`].
///
/// # Panics
/// When pieces make a difference, or what leaves breaks the rules that what comes is held to.
pub fn pipe(data: &[u8]) {
    crate::websocket::fuzz(data);
}

/// Placeholders that a fuzzer can write, the hosts of their secrets, and values that would break out if they could.
const HELD: [(&str, &str, &str); 2] =
    [("HERE01", "api.test", "va/lue?a&b=c%2f\"#;"), ("AWAY02", "other.test:8443", "never-to-be-seen")];

/// Puts values into a request for the first host. They stay in their place, and the other host's stays here.
fn fill(mut head: http::request::Parts) {
    let slots: BTreeSet<Slot> = [Slot::Header, Slot::Query, Slot::Path, Slot::Body].into();
    let lease = |(placeholder, host, value): &(&str, &str, &str)| {
        let name = format!("KEY_{placeholder}").parse().ok()?;
        let lease = Lease::of_value(
            name,
            Host::parse(host).into_iter().collect(),
            (*placeholder).to_owned(),
            SecretBytes::new(value.as_bytes().to_vec()),
        );
        Some(Lease { uses: Uses { slots: slots.clone(), ..Uses::default() }, ..lease })
    };
    let leases: Vec<Lease> = HELD.iter().filter_map(lease).collect();
    let marks = Marks::new(leases.iter().map(|lease| (lease.name.as_str(), lease.placeholder.as_str())));
    let (Ok(marks), Ok(host)) = (marks, Host::parse(ALLOWED[0])) else { return };
    let held = Held { leases: &leases, marks: &marks };
    let bars = Bars::of(held, &host, &head);
    if inspect(held, &bars, &head).is_err() {
        return;
    }
    let shape = |head: &http::request::Parts| {
        let count = |text: &str, what: char| text.matches(what).count();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        (count(path, '/'), count(query, '&'), count(query, '='), head.headers.len(), head.uri.query().is_some())
    };
    let text = |head: &http::request::Parts| {
        let fields = head.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        fields.chain([head.uri.to_string()]).collect::<Vec<_>>().join("\n")
    };
    // A fuzzer reads what is compared, and would bring the values itself.
    if HELD.iter().any(|(_, _, value)| text(&head).contains(value)) {
        return;
    }
    let before = shape(&head);
    let filler = Filler::new(held, &host, &bars, Timestamp::from_millis(0));
    let uses = filler.uses(&head);
    if filler.fill(&mut head).is_err() {
        return;
    }
    assert_eq!(shape(&head), before, "a value broke out of its place");
    let all = text(&head);
    assert!(!all.contains(HELD[1].2), "a value went to another host");
    assert!(uses.iter().all(|index| *index == 0), "a use of another host's secret");
    assert!(!all.contains(HELD[0].2) || !uses.is_empty(), "a value went out that nobody recorded");
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
        for target in ["decode", "names", "head", "pipe"] {
            let kept = kept(target);
            assert!(!kept.is_empty(), "{target}");
            for data in kept {
                match target {
                    "decode" => super::decode(&data),
                    "names" => super::names(&data),
                    "head" => super::head(&data),
                    _ => super::pipe(&data),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::decode(&data);
            super::names(&data);
            super::head(&data);
            super::pipe(&data);
        }

        #[test]
        fn any_place_of_a_placeholder_holds(
            path in "(/([a-z]|HERE01|AWAY02|%2f|\\.){0,4}){1,3}(\\?([a-z]{1,2}=(HERE01|AWAY02|x|%26)?&?){0,3})?",
            fields in "(\n(authorization|x-api-key|cookie|x-a): ?(Bearer |Basic |a=)?(HERE01|AWAY02|[ -~]{0,8}|SEVSRTAxOng=)){0,4}",
        ) {
            super::head(format!("GET {path}\nhost: api.test{fields}").as_bytes());
        }

        #[test]
        fn any_head_holds(text in "(GET|POST|CONNECT) (/|https?://(api|other).test(:8443)?/|\\*)(\n(host|connection|te|upgrade|x-a):[ -~]{0,20}){0,5}") {
            super::head(text.as_bytes());
        }
    }
}
