//! The policy decision point: `decide(facts) -> Decision::{Permit, Ask, Deny}`.
//!
//! Pure: no clock, no store, no I/O. [`Permit`] has private fields and no public constructor, so a value of
//! it proves that [`decide`] said yes; what has an effect takes it by value and it is spent.
//! [`may_ask_for_command`] and [`sign_in_pause`] say what an agent may not even ask for.
//! [`gather`] reads the facts through the store's port, for the gateway and the keeper alike.

mod asks;
mod decide;
mod facts;
mod gather;
mod permit;

pub use asks::{may_ask_for_command, sign_in_pause};
pub use decide::{AskReason, Decision, DenyReason, decide};
pub use facts::{Facts, Load, Stage};
pub use gather::{Gathered, gather};
pub use permit::{Basis, Permit};
