//! HTTP API: wire types, handlers, openapi.json; agents over TCP, the owner over a Unix socket.
//!
//! The agents' side holds an [`oauth3_core::AgentPort`] and so cannot decide anything; the owner's side
//! holds an [`oauth3_core::OwnerPort`] and answers only processes of the same user. No value of a secret
//! crosses either of them. What a monitoring system reads, at an address of its own, has neither port's calls.

mod agents;
mod error;
mod metrics;
mod owner;
mod serve;
mod stall;

pub use agents::{ApiConfig, MAX_BODY_BYTES, agent_router};
pub use error::ApiError;
pub use metrics::{metrics, metrics_router};
pub use owner::{OWNER_IDENTITY, OwnerClient, OwnerHooks, bind_owner_socket, serve_owner};
pub use serve::serve_agents;
