//! Every bound of the data plane.

use std::time::Duration;

/// Most connections of one run at a time; more wait to be accepted. Upstream connections in use are at most
/// as many, for each serves one request.
pub(crate) const MAX_CONNECTIONS: usize = 256;
/// Most idle upstream connections kept per host.
pub(crate) const MAX_IDLE_PER_HOST: usize = 8;
/// Longest that an upstream connection is kept idle.
pub(crate) const MAX_IDLE_AGE: Duration = Duration::from_secs(20);
/// Longest wait for a kept connection to say that it is free.
pub(crate) const IDLE_READY_TIMEOUT: Duration = Duration::from_millis(100);
/// Largest head of a request or a reply, in bytes; also the most that is buffered of a body at a time.
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most header fields of a request or a reply.
pub(crate) const MAX_HEADERS: usize = 128;
/// Longest TLS handshake with the code.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a request's head, and for the next request on a kept connection.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time to reach a host: resolving, connecting, TLS.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the head of a reply, from the moment when the request goes out. A model may think for
/// minutes, and the run has its own wall clock.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest silence within the body of a reply.
pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How much of a refused request's body is read, and for how long, so that code that writes before it reads
/// gets to see the answer.
pub(crate) const MAX_DRAIN_BYTES: usize = 64 << 20;
/// See [`MAX_DRAIN_BYTES`].
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Most distinct refusals of one kind that a run keeps and reports; later ones are counted only.
pub(crate) const MAX_REFUSALS: usize = 64;
/// Longest wait for refusals to be recorded when a run ends.
pub(crate) const RECORD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept or receive that failed, such as for want of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most leaf certificates kept; beyond that names are refused.
pub(crate) const MAX_LEAVES: usize = 512;
/// Longest text of the code's choosing within a refusal, in bytes.
pub(crate) const MAX_NAMED_BYTES: usize = 100;
