//! Seal and unseal, key providers, secret types, the scrubber.
//!
//! Plaintext zone: no network, no database, no logging. What is absent: `Display`, `Serialize` and `Clone` on anything
//! that holds a value, and any error text that quotes one.

mod automaton;
mod error;
mod forms;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod placeholder;
mod scrub;
mod seal;
mod secret;

pub use error::VaultError;
pub use forms::MIN_ENCODED_SECRET_BYTES;
pub use keys::{KeySource, MIN_PASSPHRASE_BYTES};
pub use placeholder::{MIN_SHAPED_SECRET_BYTES, make_placeholder};
pub use scrub::{ScrubStream, Scrubber};
pub use seal::Vault;
pub use secret::{Lease, Renewed, Role, SecretBytes, Token};
