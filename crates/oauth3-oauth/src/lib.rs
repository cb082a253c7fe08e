//! OAuth as a client, without I/O: bytes and time in, the next step out.
//!
//! Whoever drives it sends each [`Exchange`], bounded by [`MAX_REPLY_BYTES`] and without following redirects, and
//! hands the [`Reply`] back. No clock, no network, no randomness of its own. Tokens pass through here, in
//! [`Sensitive`]; that makes this crate part of the plaintext zone. What is known of providers is in
//! `oauth3-provider`, and has no secret.
//!
//! - [`DeviceGrant`]: a sign-in by code on another device (RFC 8628), and AWS's form of it after [`aws::register`].
//! - [`CodeGrant`]: a sign-in in the browser of this machine (RFC 6749 §4.1, RFC 7636, RFC 8252).
//! - [`refresh`], [`revoke`], [`TokenExchange`]: what is done with tokens later.
//! - [`Metadata`], [`Jwks`], [`IdToken`], [`userinfo`]: where endpoints are, and who signed in.
//!
//! Every text that reaches people is a sentence of ours; of a server's own words only a short, filtered error code
//! and filtered [`Label`]s get through.

mod account;
pub mod aws;
mod client;
mod code;
mod device;
mod discovery;
mod exchange;
mod failure;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod id_token;
mod jws;
mod refresh;
mod revoke;
mod sensitive;
mod text;
mod token;
mod token_exchange;

pub use account::{read_userinfo, userinfo};
pub use client::Client;
pub use code::{CodeGrant, RANDOM_BYTES};
pub use device::{DeviceGrant, DeviceStep, Prompt};
pub use discovery::{Metadata, discover};
pub use exchange::{Exchange, MAX_REPLY_BYTES, Reply};
pub use failure::{ErrorCode, Failure};
pub use id_token::{IdToken, subject_at_refresh};
pub use jws::Jwks;
pub use refresh::{Refreshed, read_refresh, refresh};
pub use revoke::{TokenKind, read_revocation, revoke};
pub use sensitive::Sensitive;
pub use text::{Label, UserCode, VerificationAddress};
pub use token::{MAX_TOKEN_BYTES, TokenSet, read_tokens};
pub use token_exchange::{TokenExchange, TokenType, read_token_exchange};
