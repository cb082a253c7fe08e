//! Signing for the code: the key stays here, and what is signed is the request as it goes out.
//!
//! [`plan`] says what a request wants signed, before anything is recorded or read; [`apply`] signs when the body
//! and every other value are in their places.

mod hmac;
mod jwt;
mod lend;
mod sigv4;

pub(crate) use lend::renew_aws;
pub use lend::{LendError, check_value, lend};
pub use sigv4::sign_aws;

use crate::fill::Filler;
use bytes::Bytes;
use http::request::Parts;
use oauth3_vault::Role;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What a request wants signed.
#[derive(Debug)]
pub(crate) struct Signed {
    hmacs: Vec<usize>,
    sigv4: Option<sigv4::Plan>,
    needs_body: bool,
}

impl Signed {
    /// Whether the body must be there before the head can go.
    pub(crate) const fn needs_body(&self) -> bool {
        self.needs_body
    }

    /// The secrets that sign and do not stand in the request themselves.
    pub(crate) fn uses(&self) -> impl Iterator<Item = usize> + '_ {
        self.sigv4.iter().map(|plan| plan.key_id)
    }
}

/// Looks for what is to be signed.
pub(crate) fn plan(filler: &Filler<'_>, uses: &BTreeSet<usize>, head: &Parts) -> Result<Signed, Cow<'static, str>> {
    let is_hmac = |index: &&usize| filler.lease(**index).is_some_and(|lease| matches!(lease.role, Role::Hmac));
    let hmacs: Vec<usize> = uses.iter().filter(is_hmac).copied().collect();
    let sigv4 = sigv4::plan(filler, head)?;
    let over_body = hmacs.iter().any(|index| hmac::needs_body(filler, *index));
    let needs_body = over_body || sigv4.as_ref().is_some_and(sigv4::Plan::needs_body);
    Ok(Signed { hmacs, sigv4, needs_body })
}

/// Signs. `body` is whole when [`Signed::needs_body`] said so.
pub(crate) fn apply(
    signed: Signed,
    filler: &mut Filler<'_>,
    head: &mut Parts,
    body: Option<&Bytes>,
) -> Result<(), Cow<'static, str>> {
    let body: &[u8] = body.map_or(&[], |bytes| bytes);
    for index in &signed.hmacs {
        let signature = hmac::sign(filler, *index, head, body)?;
        filler.sign(*index, signature);
    }
    if !signed.hmacs.is_empty() {
        filler.fill(head).map_err(|_| "a signature cannot stand where its placeholder does")?;
    }
    match signed.sigv4 {
        Some(plan) => sigv4::sign(&plan, filler, head, body),
        None => Ok(()),
    }
}
