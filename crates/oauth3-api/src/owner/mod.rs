//! The owner's API: a Unix socket in the data directory, for processes of the same user only.
//!
//! One connection carries one call and one reply, each a line of JSON. There is no token: the system says who
//! is at the other end. No call carries the value of a secret: values go to the keeper's own socket.

mod call;
mod client;
mod server;
mod socket;

pub use client::OwnerClient;
pub use server::{OwnerHooks, serve_owner};
pub use socket::bind_owner_socket;

/// The identity under which everything that comes over this socket is decided and audited, whatever the
/// client says: a process of the owner's own user.
pub const OWNER_IDENTITY: &str = "cli";
