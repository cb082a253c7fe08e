//! What the crate shows to a proxy, against the shapes that providers document.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod identities;
mod prices;
mod refusals;
mod usage;
