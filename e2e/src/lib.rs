//! Tests from the outside: they spawn the real binary.
//!
//! The library is what the tests share; a helper that fails fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

pub mod agent;
pub mod certificate;
pub mod deriving;
pub mod identity;
pub mod llm;
pub mod openclaw;
pub mod peer;
pub mod sdks;
pub mod standin;
pub mod telegram_emulator;
pub mod world;

pub use agent::{Agent, Reply};
pub use certificate::Certificate;
pub use identity::IdentityProvider;
pub use openclaw::OpenClaw;
pub use peer::Peer;
pub use standin::{Seen, Standin};
pub use world::{Done, PATIENCE, Serve, World, eventually, eventually_async};
