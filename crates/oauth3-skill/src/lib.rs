//! From what an agent sends or points to, to the files of a skill.
//!
//! Archives that others wrote are read here and nowhere else, into plain files in memory. Nothing is unpacked onto a
//! disk, so there is nothing for a link or a path to lead to; all the same, whoever sends one is told. What a skill
//! imports from elsewhere is fetched here, once, before anybody is asked.
//!
//! - `archive`: tar, plain or compressed
//! - `imports`: what a skill imports; `scan` finds it, `web` and `npm` know where it is, `fetch` gets it

mod archive;
mod fetch;
mod imports;
mod npm;
mod scan;
mod web;

pub use archive::{ArchiveError, Bounds, SKILL_BOUNDS, is_archive, unpack};
pub use imports::{ImportError, ImportRules, Resolved, resolve_imports, with_packages};
