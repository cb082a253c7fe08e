//! Every connection that leaves this machine: resolve, check, pin, TLS.
//!
//! Both processes dial through here, and nothing else in the workspace opens an outward connection (a lint
//! sees to it). A name is resolved once, every answer is checked, and only checked addresses are dialled, so
//! that a second answer of the name server can change nothing. No plaintext of the vault and no policy is here.

mod ahead;
mod client;
mod dialer;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod pool;
mod resolve;
mod roots;

pub use ahead::ReadAhead;
pub use client::HttpClient;
pub use dialer::{DialConfig, Dialer, Protocols, Tls};
pub use error::DialError;
pub use roots::{crypto_provider, system_authorities};
