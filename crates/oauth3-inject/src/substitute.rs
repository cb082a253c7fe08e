//! Placeholders in the fields of a request, and the values that take their place.
//!
//! Two steps, so that a value is touched only after its use was recorded: [`inspect`] says which secrets a
//! request would use, or that it must not go; [`fill`] puts the values in.

use crate::marks::Marks;
use data_encoding::{BASE64, BASE64_NOPAD};
use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use oauth3_core::Host;
use oauth3_vault::Lease;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// A secret whose placeholder was seen toward a host that it is not bound to; by position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Astray(pub(crate) usize);

/// A secret that cannot stand in a header field; by position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) usize);

/// The leases of a run with the means to find their placeholders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    pub(crate) leases: &'a [Lease],
    pub(crate) marks: &'a Marks,
}

impl Held<'_> {
    /// Whether a secret may go to a host: name and port.
    pub(crate) fn bound(&self, index: usize, host: &Host) -> bool {
        self.leases.get(index).is_some_and(|lease| lease.hosts.contains(host))
    }

    fn astray(&self, host: &Host) -> impl Fn(usize) -> bool {
        move |index| !self.bound(index, host)
    }
}

/// Looks for placeholders that must not go to this host: in the path and query, in names and values of
/// fields, as they stand, percent-encoded or in Basic credentials.
pub(crate) fn inspect(held: Held<'_>, host: &Host, head: &Parts) -> Result<(), Astray> {
    let astray = held.astray(host);
    let check = |text: &[u8]| held.marks.seen_in(text, &astray).map_or(Ok(()), |index| Err(Astray(index)));
    if let Some(path) = head.uri.path_and_query() {
        let once: Vec<u8> = percent_encoding::percent_decode_str(path.as_str()).collect();
        check(path.as_str().as_bytes())?;
        check(&once)?;
    }
    inspect_fields(held, host, &head.headers)
}

/// The same for fields alone.
pub(crate) fn inspect_fields(held: Held<'_>, host: &Host, fields: &HeaderMap) -> Result<(), Astray> {
    let astray = held.astray(host);
    let check = |text: &[u8]| held.marks.seen_in(text, &astray).map_or(Ok(()), |index| Err(Astray(index)));
    for (name, value) in fields {
        if let Some(index) = held.marks.seen_in_name(name.as_str(), &astray) {
            return Err(Astray(index));
        }
        check(value.as_bytes())?;
        if let Some(pair) = basic(value) {
            check(&pair)?;
        }
    }
    Ok(())
}

/// The secrets that [`fill`] would put into these fields.
pub(crate) fn uses(held: Held<'_>, headers: &HeaderMap) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for (name, value) in headers {
        found.extend(held.marks.places(value.as_bytes()).into_iter().map(|(_, index)| index));
        if let Some(pair) = credentials(name, value) {
            found.extend(held.marks.places(&pair).into_iter().map(|(_, index)| index));
        }
    }
    found
}

/// Puts the values in. Only after [`inspect`] and after the uses were recorded.
pub(crate) fn fill(held: Held<'_>, host: &Host, headers: &mut HeaderMap) -> Result<(), Unfit> {
    for (name, value) in headers.iter_mut() {
        if let Some(filled) = replace(held, host, value.as_bytes())? {
            *value = sensitive(&filled)?;
        } else if let Some(pair) = credentials(name, value)
            && let Some(filled) = replace(held, host, &pair)?
        {
            let encoded = Zeroizing::new(format!("Basic {}", BASE64.encode(&filled.bytes)));
            *value = sensitive(&Filled { bytes: Zeroizing::new(encoded.as_bytes().to_vec()), ..filled })?;
        }
    }
    Ok(())
}

/// A text with values in it, and one of the secrets that are.
struct Filled {
    bytes: Zeroizing<Vec<u8>>,
    index: usize,
}

fn sensitive(filled: &Filled) -> Result<HeaderValue, Unfit> {
    let mut value = HeaderValue::from_bytes(&filled.bytes).map_err(|_| Unfit(filled.index))?;
    value.set_sensitive(true);
    Ok(value)
}

fn replace(held: Held<'_>, host: &Host, text: &[u8]) -> Result<Option<Filled>, Unfit> {
    let places = held.marks.places(text);
    let values: usize = places.iter().filter_map(|(_, index)| held.leases.get(*index)).map(|l| l.value.len()).sum();
    // Never grows, so that no copy is left behind unwiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + values));
    let (mut done, mut last) = (0, None);
    for (place, index) in places {
        // The binding is asked again here, at the only place where a value is read.
        let Some(lease) = held.leases.get(index).filter(|lease| lease.hosts.contains(host)) else { continue };
        bytes.extend_from_slice(text.get(done..place.start).unwrap_or_default());
        lease.value.with(|value| {
            // RFC 9110 §5.5: no control characters; the same for Basic (RFC 7617 §2).
            if value.iter().any(|b| b.is_ascii_control()) {
                return Err(Unfit(index));
            }
            bytes.extend_from_slice(value);
            Ok(())
        })?;
        done = place.end;
        last = Some(index);
    }
    bytes.extend_from_slice(text.get(done..).unwrap_or_default());
    Ok(last.map(|index| Filled { bytes, index }))
}

/// The decoded pair of `Authorization: Basic`.
fn credentials(name: &HeaderName, value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    (*name == AUTHORIZATION).then(|| basic(value)).flatten()
}

/// `user:password` of Basic credentials (RFC 7617), with or without padding.
fn basic(value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = rest.trim().trim_end_matches('=');
    BASE64_NOPAD.decode(text.as_bytes()).ok().map(Zeroizing::new)
}
