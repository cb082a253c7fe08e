//! What the crate shows to a proxy, against the shapes that providers document.
#![allow(clippy::unwrap_used)]

mod calls;
mod prices;
mod refusals;
mod usage;
