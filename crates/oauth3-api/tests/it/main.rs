//! The agents' API over loopback TCP and the owner's over a Unix socket, both in front of fake ports.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
// These connections go to the test's own server.
#![allow(clippy::disallowed_methods)]

mod agent_port;
mod bounds;
mod connections;
mod execute;
mod http;
mod owner;
mod owner_port;
mod refusals;
mod samples;
mod socket;
mod status;
