//! What enters: names, hosts, tokens, headers, submissions.
#![allow(clippy::unwrap_used)]

mod hosts;
mod submission;
mod tokens;
