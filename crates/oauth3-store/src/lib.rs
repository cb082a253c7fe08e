//! `Store` on SQLite: agents, sealed secrets, requests, standing grants, and the audit chain.
//!
//! Holds ciphertext and hashes only; no key and no plaintext ever reaches this crate. Gateway and keeper
//! each open the same file: it is in WAL mode, every write is one short transaction, and what a method
//! wrote is on disk when it returns (`synchronous=FULL`).

mod apis;
mod audit;
mod error;
mod head;
mod layers;
mod open;
mod rows;
mod sign_ins;
mod store;

pub use error::StoreError;
pub use open::SqliteStore;
