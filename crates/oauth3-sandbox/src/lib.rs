//! Runner backends and runtimes; the only crate where unsafe is allowed.
//!
//! A run is three processes. The gateway starts a clean helper ([`become_helper`]), which stays outside as the
//! guard of the run and makes process 1 of a set of new namespaces; that one builds a read-only root, gives up
//! every right and starts the runtime. See `init` for the order of the walls and `native` for the gateway's side.

mod direct;
mod docker;
mod embedded;
mod enclosure;
mod error;
mod init;
mod link;
mod native;
mod wire;

pub use direct::{DirectConfig, DirectRunner, probe_direct};
pub use docker::{DockerConfig, DockerRunner, probe_docker};
pub use enclosure::{Enclosure, enclose, start_open};
pub use error::SandboxError;
pub use init::become_helper;
pub use native::{NativeConfig, NativeRunner, ProbeLine, probe};
