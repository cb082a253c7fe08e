//! Every message and every transition, against the files of `vectors/oauth`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod cases;
mod device;
mod messages;
mod printing;
mod tokens;
