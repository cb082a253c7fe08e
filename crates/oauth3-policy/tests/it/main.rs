//! The policy decision point: its whole matrix as one reviewed file, and what must hold whatever the facts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod matrix;
mod properties;
mod support;
