//! Answers the names that a sandbox may ask for. Bytes in, bytes out; no name ever leaves the machine.

use oauth3_core::{Host, synthetic_addresses};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Largest query that is read, in bytes (RFC 1035 §2.3.4).
pub(crate) const MAX_QUERY_BYTES: usize = 512;
/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER_BYTES: usize = 12;
/// Longest name on the wire, and the mask of lengths that are not lengths (RFC 1035 §2.3.4, §4.1.4).
const MAX_NAME_BYTES: usize = 255;
const POINTER_MASK: u8 = 0xc0;
/// How long an answer may be kept, in seconds. The addresses hold for the whole run.
const TTL_SECONDS: u32 = 60;
/// Types and class (RFC 1035 §3.2).
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// Response codes (RFC 1035 §4.1.1).
const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const NAME_ERROR: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// The names of one run with their synthetic addresses.
#[derive(Debug)]
pub(crate) struct Names(BTreeMap<String, Ipv4Addr>);

/// What to do with a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing: it is no query.
    Ignore,
    /// Send this.
    Reply(Vec<u8>),
    /// Send this, and note that the name was refused.
    Refuse(Vec<u8>, String),
}

impl Names {
    pub(crate) fn new(hosts: &BTreeSet<Host>) -> Self {
        Self(synthetic_addresses(hosts))
    }

    /// Answers one datagram: A with the synthetic address of an allowed name, nothing of other types for it,
    /// and for every other name that there is none.
    pub(crate) fn answer(&self, query: &[u8]) -> Answer {
        let Some(header) = query.first_chunk::<HEADER_BYTES>() else { return Answer::Ignore };
        let [id0, id1, flags0, flags1, qd0, qd1, an0, an1, ns0, ns1, ..] = *header;
        if flags0 & 0x80 != 0 {
            return Answer::Ignore;
        }
        let reply = |code: u8, question: &[u8], address: Option<Ipv4Addr>| {
            let counted = u8::from(!question.is_empty());
            let answers = u8::from(address.is_some());
            // Response, same opcode and wish for recursion; recursion is available; not authoritative.
            let flags = [0x80 | (flags0 & 0x79), 0x80 | (flags1 & 0x10) | code];
            let mut out = vec![id0, id1, flags[0], flags[1], 0, counted, 0, answers, 0, 0, 0, 0];
            out.extend_from_slice(question);
            if let Some(address) = address {
                // The name is that of the question, at offset 12.
                out.extend_from_slice(&[POINTER_MASK, HEADER_BYTES as u8]);
                out.extend_from_slice(&TYPE_A.to_be_bytes());
                out.extend_from_slice(&CLASS_IN.to_be_bytes());
                out.extend_from_slice(&TTL_SECONDS.to_be_bytes());
                out.extend_from_slice(&4_u16.to_be_bytes());
                out.extend_from_slice(&address.octets());
            }
            out
        };
        if flags0 & 0x78 != 0 {
            return Answer::Reply(reply(NOT_IMPLEMENTED, &[], None));
        }
        let rest = query.get(HEADER_BYTES..).unwrap_or_default();
        let counts = ([qd0, qd1], [an0, an1], [ns0, ns1]);
        let Some((name, kind, class, length)) = (counts == ([0, 1], [0, 0], [0, 0])).then(|| question(rest)).flatten()
        else {
            return Answer::Reply(reply(FORMAT_ERROR, &[], None));
        };
        let question = rest.get(..length).unwrap_or_default();
        match self.0.get(&name) {
            Some(address) if class == CLASS_IN => {
                Answer::Reply(reply(NO_ERROR, question, (kind == TYPE_A).then_some(*address)))
            }
            _ => Answer::Refuse(reply(NAME_ERROR, question, None), name),
        }
    }
}

/// Reads one question: the name in lower case, type, class, and how many bytes it took. Compressed names do
/// not occur in queries and are not read.
fn question(bytes: &[u8]) -> Option<(String, u16, u16, usize)> {
    let mut name = String::new();
    let mut at = 0;
    loop {
        let length = *bytes.get(at)?;
        at += 1;
        if length == 0 {
            break;
        }
        if length & POINTER_MASK != 0 {
            return None;
        }
        let label = bytes.get(at..at + usize::from(length))?;
        at += label.len();
        if at >= MAX_NAME_BYTES {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        // A dot or an odd byte inside a label must not make it look like another name.
        let letter = |b: &u8| if b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_' { char::from(*b) } else { '?' };
        name.extend(label.iter().map(|b| letter(&b.to_ascii_lowercase())));
    }
    let [type0, type1, class0, class1] = *bytes.get(at..)?.first_chunk::<4>()?;
    Some((name, u16::from_be_bytes([type0, type1]), u16::from_be_bytes([class0, class1]), at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names::new(&["b.test", "a.test:8443", "a.test"].iter().map(|h| Host::parse(h).unwrap()).collect())
    }

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|l| !l.is_empty()) {
            out.push(u8::try_from(label.len()).unwrap());
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&1_u16.to_be_bytes());
        out
    }

    #[test]
    fn an_allowed_name_has_its_synthetic_address_whatever_its_case() {
        for (name, last) in [("a.test", 10), ("B.Test", 11)] {
            let Answer::Reply(reply) = names().answer(&query(name, TYPE_A)) else { panic!("refused {name}") };
            assert_eq!(reply[..4], [7, 9, 0x81, 0x80]);
            assert_eq!(reply[6..8], [0, 1], "one answer");
            assert_eq!(reply[reply.len() - 4..], [127, 18, 0, last]);
        }
    }

    #[test]
    fn other_types_of_an_allowed_name_are_empty() {
        for kind in [28, 65, 16, 255] {
            let Answer::Reply(reply) = names().answer(&query("a.test", kind)) else { panic!("refused {kind}") };
            assert_eq!((reply[3] & 0xf, reply[7]), (NO_ERROR, 0), "type {kind}");
        }
    }

    #[test]
    fn every_other_name_does_not_exist() {
        for name in ["c.test", "test", "x.a.test", "", "a.test.example"] {
            let Answer::Refuse(reply, noted) = names().answer(&query(name, TYPE_A)) else { panic!("allowed {name}") };
            assert_eq!((reply[3] & 0xf, reply[7]), (NAME_ERROR, 0));
            assert_eq!(noted, name);
        }
        // One label that contains a dot is not two labels.
        let mut odd = query("a-test", TYPE_A);
        odd[14] = b'.';
        assert!(matches!(names().answer(&odd), Answer::Refuse(_, noted) if noted == "a?test"));
    }

    #[test]
    fn what_is_no_plain_query_gets_no_name() {
        let good = query("a.test", TYPE_A);
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(names().answer(&response), Answer::Ignore);
        assert_eq!(names().answer(&good[..11]), Answer::Ignore);
        let code = |datagram: &[u8]| match names().answer(datagram) {
            Answer::Reply(reply) => reply[3] & 0xf,
            other => panic!("{other:?}"),
        };
        let mut update = good.clone();
        update[2] = 0x28;
        assert_eq!(code(&update), NOT_IMPLEMENTED);
        let mut two = good.clone();
        two[5] = 2;
        assert_eq!(code(&two), FORMAT_ERROR);
        assert_eq!(code(&good[..good.len() - 1]), FORMAT_ERROR);
        let mut pointer = good;
        pointer[12] = 0xc0;
        assert_eq!(code(&pointer), FORMAT_ERROR);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_ignored(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Answer::Reply(reply) | Answer::Refuse(reply, _) = names().answer(&bytes) {
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply.len() <= MAX_QUERY_BYTES);
            }
        }
    }
}
