//! Dialling real sockets on loopback, through the public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod http;
mod server;
mod tls;
