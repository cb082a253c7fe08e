//! What enters: names, hosts, tokens, headers, submissions.
#![allow(clippy::unwrap_used)]

mod hosts;
mod limits;
mod submission;
mod tokens;
