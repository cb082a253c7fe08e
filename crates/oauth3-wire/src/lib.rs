//! The socket between gateway and keeper: frames, file descriptors, typed messages.
//!
//! Few messages, each with a number, so that a slow one holds up no other. Everything has a bound; what is not a
//! message ends the connection. A secret's value crosses as raw bytes in buffers that are wiped.

mod error;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod message;
mod serve;

pub use error::WireError;
pub use frame::{MAX_CALL_BYTES, MAX_FDS, MAX_REPLY_BYTES};
pub use gateway::GatewaySide;
pub use message::MAX_OUTPUT_BYTES;
pub use serve::{Handler, Role, serve};
