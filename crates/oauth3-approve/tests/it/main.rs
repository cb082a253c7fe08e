//! The Telegram channel against a strict Bot API server, with an in-memory broker and store.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod alarms;
mod cards;
mod commands;
mod delivery;
mod http;
mod injection;
mod secrets;
mod sign_ins;
mod store;
mod verdicts;
mod world;
