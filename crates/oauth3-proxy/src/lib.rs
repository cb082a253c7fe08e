//! The API proxy: an agent that needs no code, only an API, points its client at oauth3 and uses its own
//! token as the key. The token is checked, the grant decided on, the budget looked at, the call recorded; every
//! credential that the client sent goes, the real one takes its place, and the reply streams back scrubbed.
//!
//! Part of the plaintext zone. It knows nothing of the master key, the database's form or the audit chain: the keeper
//! gives it those as [`Backing`].
//!
//! It is a forward proxy for a whole agent besides (`forward`): its programs keep the APIs' own addresses.
//!
//! Where to read: `call` (one call from top to bottom), `book` (who may do what, as of now), `answer` (the reply).
//!
//! What is absent: HTTP/2 toward agents, upgrades other than to WebSocket (`socket`), trailers of requests.

mod admit;
mod answer;
mod asks;
mod authorities;
mod backing;
mod body;
mod book;
mod call;
mod check;
mod fill;
mod forward;
mod journal;
mod keys;
mod ledger;
mod limits;
mod line;
mod meter;
mod once;
mod plain;
mod proxy;
mod refuse;
mod serve;
mod socket;
mod token;
mod tunnel;
mod upstream;

pub use backing::{Backing, Lent};
pub use proxy::{Proxy, ProxyConfig};
