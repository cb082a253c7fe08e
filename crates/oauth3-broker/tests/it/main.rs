//! The broker with a real store, and fakes of the keeper, the sandbox and the network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod ending;
mod expiry;
mod fakes;
mod grants;
mod owner;
mod rate;
mod refusals;
mod restart;
mod secrets;
mod sign_ins;
mod skill_url;
mod story;
mod verdicts;
mod wake;
mod world;
