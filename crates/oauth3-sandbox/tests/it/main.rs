//! The native sandbox, attacked from inside and let down from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "these are tests"
)]

mod direct;
mod docker;
mod ending;
mod hostile;
mod limits;
mod outside;
mod runs;
mod spare;
mod support;
mod values;
