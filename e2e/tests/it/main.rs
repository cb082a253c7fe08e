//! Tests of the real binary, from the outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod attack_agent;
mod attack_egress;
mod bad_input;
mod canary;
mod clients;
mod commands;
mod containment;
mod contract;
mod crash;
mod executors;
mod expiry;
mod grants;
mod imports;
mod limits;
mod main_path;
mod notify;
mod openclaw;
mod readme;
mod rebinding;
mod reflection;
mod reveal;
mod runtimes;
mod secrets_resume;
mod several_files;
mod skill_url;
mod smuggling;
mod stop;
mod storm;
mod telegram;
mod telegram_chat;
mod telegram_npm;
mod telegram_secrets;
mod telegram_trouble;
mod terminal;
mod uses;
