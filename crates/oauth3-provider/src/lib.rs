//! What is known about HTTP APIs, as data and pure functions: where a provider is and how it wants its key, what
//! a call asks for, what its reply used, what that cost, and what a refusal looks like.
//!
//! No I/O and no secret: a proxy brings the bytes. [`Catalog`] has the providers, [`Dialect`] reads calls and
//! writes refusals, [`UsageMeter`] watches replies as they pass, [`Prices`] turns [`Usage`] into money.

mod base;
mod call;
mod catalog;
mod dialect;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod multipart;
mod price;
mod sse;
mod stream_usage;
mod usage;

pub use base::{BaseError, BaseUrl, PathError};
pub use call::{CallError, CallInfo};
pub use catalog::{Catalog, CatalogError, CredentialSlot, MissingVariable, Provider};
pub use dialect::{Dialect, Refusal};
pub use price::{Price, PriceError, Prices};
pub use stream_usage::{UsageTrim, ask_for_usage};
pub use usage::{Usage, UsageMeter};
