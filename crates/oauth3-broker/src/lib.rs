//! The main path: take a request in, decide, ask the owner, run it, finish it, wake the agent.
//!
//! Pure orchestration: everything that touches the world is a port of `oauth3-core`, and every decision is
//! [`oauth3_policy::decide`]'s. One [`Broker`] serves all surfaces, agents through [`oauth3_core::AgentPort`] and the
//! owner through [`oauth3_core::OwnerPort`].
//!
//! Where to read: `submit` (a request comes in), `verdict` (the owner decides), `run` (a permit is spent),
//! `settle` (a final state), `recovery` (after a restart), `wake`.

mod access;
mod agent_port;
mod board;
mod broker;
mod command;
mod config;
mod expiry;
mod imports;
mod intake;
mod making;
mod owner_port;
mod rate;
mod recovery;
mod run;
mod runs;
mod settle;
mod sign_in_setup;
mod sign_ins;
mod skill_source;
mod submit;
mod sweep;
mod verdict;
pub mod wake;

pub use broker::Broker;
pub use config::{BrokerConfig, Ports, WakeConfig};
pub use oauth3_skill::ImportRules;
