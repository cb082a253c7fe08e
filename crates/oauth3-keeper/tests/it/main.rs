//! The whole keeper: real store, real vault, real data plane; the gateway is its end of the socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod home;
mod lane;
mod life;
mod once;
mod reveal;
mod runs;
mod secrets;
mod stalls;
mod upstream;
