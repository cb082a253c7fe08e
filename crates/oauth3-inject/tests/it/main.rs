//! The egress of one run from both sides: the code's client within, a real HTTPS server without.
#![allow(missing_docs, unreachable_pub, reason = "tests")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected should end"
)]
#![allow(clippy::disallowed_methods, reason = "the code's side of a test dials the egress itself")]

mod client;
mod decoding;
mod entry;
mod http2;
mod keyed;
mod limits;
mod names;
mod rules;
mod signing;
mod slots;
mod streaming;
mod substitution;
mod trailers;
mod upstream;
mod websocket;
mod world;
