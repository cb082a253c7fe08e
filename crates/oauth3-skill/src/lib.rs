//! From what an agent sends or points to, to the files of a skill.
//!
//! Archives that others wrote are read here and nowhere else, into plain files in memory. Nothing is unpacked onto a
//! disk, so there is nothing for a link or a path to lead to; all the same, whoever sends one is told.

mod archive;

pub use archive::{ArchiveError, Bounds, SKILL_BOUNDS, is_archive, unpack};
