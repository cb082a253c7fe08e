//! The store against its port's promises, on real files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod audit;
mod concurrency;
mod files;
mod port;
mod sign_ins;
mod support;
