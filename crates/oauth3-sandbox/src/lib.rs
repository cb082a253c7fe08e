//! Runner backends and runtimes; the only crate where unsafe is allowed.
//!
//! A run is three processes. The gateway starts a clean helper ([`init_main`]), which stays outside as the
//! guard of the run and makes process 1 of a set of new namespaces; that one builds a read-only root, gives up
//! every right and starts the runtime. See `init` for the order of the walls and `native` for the gateway's side.

mod embedded;
mod error;
mod init;
mod native;
mod wire;

pub use error::SandboxError;
pub use init::{INIT_SUBCOMMAND, init_main};
pub use native::{NativeConfig, NativeRunner, ProbeLine, probe};
