//! The keeper process: its socket protocol, hardening, wiring of vault, inject and store.
//!
//! The only process in which plaintext exists, the only writer of the audit chain, and the only reader of what code
//! wrote before it is scrubbed. It trusts no permit from the wire: it reads the approved request from the store and
//! decides again. It parses HTTP and TLS of runs, a few typed calls, and nothing else.

mod audit;
mod backing;
mod capture;
mod error;
mod handler;
mod harden;
mod open;
mod owner_socket;
mod process;
mod reveal;
mod runs;
mod secrets;
mod shards;
mod sign_in;
mod variables;
mod watch;

pub use error::KeeperError;
pub use harden::harden;
pub use oauth3_proxy::ProxyConfig;
pub use oauth3_vault::KeySource;
pub use process::{KeeperConfig, ProxySetup, create_key, run};
pub use secrets::MAX_VALUE_BYTES;
