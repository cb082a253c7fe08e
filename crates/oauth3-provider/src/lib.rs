//! What is known about HTTP APIs, as data and pure functions: where a provider is and how it wants its key, what
//! a call asks for, what its reply used, what that cost, and what a refusal looks like.
//!
//! No I/O and no secret: a proxy brings the bytes. [`Catalog`] has the providers, [`Dialect`] reads calls and
//! writes refusals, [`UsageMeter`] watches replies as they pass, [`Prices`] turns [`Usage`] into money.
//! [`Identities`] has those that people sign in with, and [`AuthorizationServer`] is one of them with its addresses.

mod aws_host;
mod base;
mod call;
mod catalog;
mod derived;
mod dialect;
mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod json;
mod multipart;
mod price;
mod server;
mod sse;
mod stream_usage;
mod template;
mod usage;

pub use aws_host::aws_service_and_region;
pub use base::{BaseError, BaseUrl, PathError};
pub use call::{CallError, CallInfo};
pub use catalog::{Catalog, CatalogError, CredentialSlot, MissingVariable, Provider};
pub use derived::Derives;
pub use dialect::{Dialect, Refusal};
pub use endpoint::{Endpoint, EndpointError, MAX_ENDPOINT_BYTES, host_of, percent_encode};
pub use identity::{
    GitAccess, Identities, IdentityError, IdentityProvider, MAX_SCOPE_BYTES, MAX_SCOPES, Parameter, ParameterForm,
    ResolvedIdentity, ScopeSet,
};
pub use price::{Price, PriceError, Prices};
pub use server::{
    AccountShape, AuthorizationServer, ClientAuth, Protocol, RevocationStyle, Rotation, ScopeDifference, SecretNeed,
};
pub use stream_usage::{UsageTrim, ask_for_usage};
pub use usage::{Usage, UsageMeter};
