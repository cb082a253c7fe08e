//! The data plane: intercept, match, substitute, dial, scrub.
//!
//! [`open_egress`] serves the sockets that a sandbox has instead of a network. It ends the code's TLS with a
//! CA made for that one run, checks every request against the permit, puts real values in the place of
//! placeholders toward hosts that a secret is bound to, sends it on over verified TLS, and scrubs what comes
//! back. What no rule allows is refused with a sentence that the code can read; nothing is ever passed on
//! unread. Bodies stream both ways and are never held whole.
//!
//! What a placeholder may stand in is its binding's to say: header values (and the user or password of Basic
//! credentials), query values, path segments, bodies. Anywhere else it stays a placeholder. Toward a host that its
//! secret is not bound to, or in a request that none of its rules allows, it ends the request. Keys that sign
//! (AWS, HMAC, JWT) stay here, and what they sign goes out.
//!
//! HTTP/1.1 and HTTP/2 on either side, in any mixture, and WebSocket over HTTP/1.1 (`websocket`).
//!
//! Known limits: no HTTP/3 and no WebSocket over HTTP/2 (RFC 8441), neither of which a client needs: none is offered.
//! Nothing is filled into the frames of a WebSocket, and a value that a host cuts over several of its messages is
//! not seen. A host that a secret is bound to and that hands the secret back in a disguise of its own making
//! (encrypted, or piecemeal over several replies) defeats scrubbing.

mod body;
mod ca;
mod container_credentials;
mod decode;
mod dns;
mod driven;
mod egress;
mod error;
mod fill;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hygiene;
mod lanes;
mod limits;
mod listen;
mod marks;
pub mod messages;
mod meter;
mod observer;
pub mod pool;
mod refusals;
mod reply;
mod rules;
mod run;
mod serve;
mod sign;
mod target;
mod tasks;
mod upstream;
pub mod websocket;

pub use ca::{Authority, RENEW_AFTER};
pub use driven::Driven;
pub use egress::{Egress, Means, open_egress};
pub use error::InjectError;
pub use observer::Observer;
pub use sign::{LendError, check_value, lend, sign_aws};
