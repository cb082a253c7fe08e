//! Values in the fields, the query and the path.

use super::replace::{Replacer, Syntax};
use super::{Held, Unfit};
use crate::rules::Bars;
use data_encoding::{BASE64, BASE64_NOPAD};
use http::header::AUTHORIZATION;
use http::header::HeaderName;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use oauth3_core::{Host, Slot, Timestamp};
use oauth3_vault::{Lease, Role};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::Zeroizing;

/// What is escaped in a query's value and in a segment of a path: all but the unreserved (RFC 3986 §2.3).
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Puts values into one request.
pub(crate) struct Filler<'a> {
    pub(crate) held: Held<'a>,
    host: &'a Host,
    bars: &'a Bars,
    pub(crate) now: Timestamp,
    /// What was signed for this request, by the lease that it was signed with.
    signatures: BTreeMap<usize, String>,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(held: Held<'a>, host: &'a Host, bars: &'a Bars, now: Timestamp) -> Self {
        Self { held, host, bars, now, signatures: BTreeMap::new() }
    }

    /// Whether a placeholder in this slot is the binding's business. The binding is asked again here, at the only
    /// place through which values are read.
    pub(crate) fn covers(&self, index: usize, slot: Slot) -> bool {
        self.lease(index).is_some_and(|lease| lease.hosts.contains(self.host) && lease.uses.slots.contains(&slot))
            && self.bars.get(index).is_none()
    }

    /// The leases whose placeholders are replaced in this slot.
    pub(crate) fn leases(&self, slot: Slot) -> impl Iterator<Item = usize> + '_ {
        (0..self.held.leases.len()).filter(move |index| self.replaces(*index, slot))
    }

    /// Whether there are any.
    fn fills(&self, slot: Slot) -> bool {
        self.leases(slot).next().is_some()
    }

    pub(crate) fn lease(&self, index: usize) -> Option<&'a Lease> {
        self.held.leases.get(index)
    }

    /// What was signed takes its placeholder's place from now on.
    pub(crate) fn sign(&mut self, index: usize, signature: String) {
        self.signatures.insert(index, signature);
    }

    /// The secrets that [`Filler::fill`] would put into this request, and those that would sign in it.
    pub(crate) fn uses(&self, head: &Parts) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut look = |text: &[u8], slot| {
            let places = self.held.marks.places(text).map(|(_, index)| index);
            found.extend(places.filter(|index| self.replaces(*index, slot)));
        };
        for (name, value) in &head.headers {
            look(value.as_bytes(), Slot::Header);
            if let Some(pair) = credentials(name, value) {
                look(&pair, Slot::Header);
            }
        }
        if let Some(query) = head.uri.query().filter(|_| self.fills(Slot::Query)) {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .for_each(|pair| look(&decoded(pair.1), Slot::Query));
        }
        if self.fills(Slot::Path) {
            head.uri.path().split('/').for_each(|segment| look(&decoded(segment), Slot::Path));
        }
        found
    }

    /// Puts the values in, and what was signed so far. Only after the uses were recorded.
    pub(crate) fn fill(&self, head: &mut Parts) -> Result<(), Unfit> {
        self.fill_fields(&mut head.headers)?;
        let Some(target) = head.uri.path_and_query().filter(|_| self.fills(Slot::Path) || self.fills(Slot::Query))
        else {
            return Ok(());
        };
        let mut filled = String::with_capacity(target.as_str().len());
        let mut changed = None;
        for (n, segment) in target.path().split('/').enumerate() {
            if n > 0 {
                filled.push('/');
            }
            self.fill_component(segment, Slot::Path, &mut filled, &mut changed)?;
        }
        if let Some(query) = target.query() {
            filled.push('?');
            for (n, pair) in query.split('&').enumerate() {
                if n > 0 {
                    filled.push('&');
                }
                match pair.split_once('=') {
                    Some((name, value)) => {
                        filled.push_str(name);
                        filled.push('=');
                        self.fill_component(value, Slot::Query, &mut filled, &mut changed)?;
                    }
                    None => filled.push_str(pair),
                }
            }
        }
        if let Some(index) = changed {
            head.uri = PathAndQuery::try_from(filled).map(Uri::from).map_err(|_| Unfit(index))?;
        }
        Ok(())
    }

    fn fill_fields(&self, headers: &mut HeaderMap) -> Result<(), Unfit> {
        for (name, value) in headers.iter_mut() {
            if let Some(filled) = self.replace(value.as_bytes(), Syntax::Raw, Slot::Header)? {
                *value = sensitive(&filled)?;
            } else if let Some(pair) = credentials(name, value)
                && let Some(filled) = self.replace(&pair, Syntax::Raw, Slot::Header)?
            {
                printable(&filled)?;
                let encoded = Zeroizing::new(format!("Basic {}", BASE64.encode(&filled.bytes)));
                *value = sensitive(&Filled { bytes: Zeroizing::new(encoded.as_bytes().to_vec()), ..filled })?;
            }
        }
        Ok(())
    }

    fn fill_component(
        &self,
        text: &str,
        slot: Slot,
        out: &mut String,
        changed: &mut Option<usize>,
    ) -> Result<(), Unfit> {
        let Some(filled) = self.replace(text.as_bytes(), Syntax::Percent, slot)? else {
            out.push_str(text);
            return Ok(());
        };
        // A dot segment is no value that a server reads as one.
        let filled_text = std::str::from_utf8(&filled.bytes).map_err(|_| Unfit(filled.index))?;
        if slot == Slot::Path && matches!(filled_text, "." | "..") {
            return Err(Unfit(filled.index));
        }
        out.push_str(filled_text);
        *changed = Some(filled.index);
        Ok(())
    }

    fn replace(&self, text: &[u8], syntax: Syntax, slot: Slot) -> Result<Option<Filled>, Unfit> {
        let marks = self.held.marks;
        // Most texts hold none, and need no copy.
        let free = match syntax {
            Syntax::Raw => !marks.any(text),
            Syntax::Percent => marks.is_free(text),
            Syntax::Json => false,
        };
        if free {
            return Ok(None);
        }
        let mut last = None;
        // Room for all that may come, so that no copy is left behind unwiped.
        let room = text.len().saturating_add(self.room(text.len(), slot));
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        let wanted = |index| self.replaces(index, slot) && self.material(index, |_| ()).is_some();
        let written = |index| self.material(index, |value| syntax.write(value)).flatten().ok_or(Unfit(index));
        if syntax == Syntax::Raw {
            // As [`Filler::uses`] finds them, so that what is filled is what was recorded.
            let mut from = 0;
            for (place, index) in marks.places(text).filter(|(_, index)| wanted(*index)) {
                bytes.extend_from_slice(text.get(from..place.start).unwrap_or_default());
                bytes.extend_from_slice(&written(index)?);
                (from, last) = (place.end, Some(index));
            }
            bytes.extend_from_slice(text.get(from..).unwrap_or_default());
        } else {
            let (mut replacer, mut rest) = (Replacer::new(syntax, marks), text);
            while let Some(index) = replacer.next(marks, &mut rest, &mut bytes, wanted) {
                bytes.extend_from_slice(&written(index)?);
                last = Some(index);
            }
            replacer.finish(&mut bytes);
        }
        Ok(last.map(|index| Filled { bytes, index }))
    }

    /// How much a text of this length may grow.
    fn room(&self, length: usize, slot: Slot) -> usize {
        let grown = self.leases(slot).map(|index| {
            let most = length / self.held.marks.length(index).max(1);
            self.material(index, <[u8]>::len).unwrap_or(0).saturating_mul(3).saturating_mul(most)
        });
        grown.sum()
    }

    fn replaces(&self, index: usize, slot: Slot) -> bool {
        let by_itself =
            |lease: &Lease| matches!(lease.role, Role::Value | Role::Hmac) || matches!(lease.role, Role::Tokens(_));
        self.lease(index).is_some_and(by_itself) && self.covers(index, slot)
    }

    /// What takes the placeholder's place; none for a signature that was not made yet.
    pub(crate) fn material<R>(&self, index: usize, use_it: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let lease = self.lease(index)?;
        match &lease.role {
            Role::Value => Some(lease.current().1.with(use_it)),
            Role::Tokens(_) => Some(lease.token(self.now)?.with(use_it)),
            Role::Hmac => self.signatures.get(&index).map(|signature| use_it(signature.as_bytes())),
            Role::AwsKeyId | Role::AwsSecretKey | Role::AwsSessionToken => None,
        }
    }
}

/// A text with values in it, and one of the secrets that are.
struct Filled {
    bytes: Zeroizing<Vec<u8>>,
    index: usize,
}

/// No control characters in a field (RFC 9110 §5.5), nor in Basic credentials (RFC 7617 §2).
fn printable(filled: &Filled) -> Result<(), Unfit> {
    if filled.bytes.iter().any(|b| b.is_ascii_control() && *b != b'\t') { Err(Unfit(filled.index)) } else { Ok(()) }
}

fn sensitive(filled: &Filled) -> Result<HeaderValue, Unfit> {
    printable(filled)?;
    let mut value = HeaderValue::from_bytes(&filled.bytes).map_err(|_| Unfit(filled.index))?;
    value.set_sensitive(true);
    Ok(value)
}

/// One component of an address, decoded. A plus sign stays one: no placeholder has a space.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

/// The decoded pair of `Authorization: Basic`.
pub(crate) fn credentials(name: &HeaderName, value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    (*name == AUTHORIZATION).then(|| basic(value)).flatten()
}

/// `user:password` of Basic credentials (RFC 7617), with or without padding.
pub(crate) fn basic(value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = rest.trim().trim_end_matches('=');
    BASE64_NOPAD.decode(text.as_bytes()).ok().map(Zeroizing::new)
}
