//! Every bound of the proxy.

use std::time::Duration;

/// Largest head of a request or reply, in bytes (64 KiB).
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most fields of a request or reply. It is also what the HTTP library bounds them to when it is told nothing, and then
/// it takes no memory of its own to read them.
pub(crate) const MAX_HEADERS: usize = 100;
/// Longest path and query, in bytes (16 KiB).
pub(crate) const MAX_TARGET_BYTES: usize = 16 << 10;
/// Longest token that is looked at, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 256;
/// Largest body that is read whole, to know its model and to be able to send it again (32 MiB).
pub(crate) const MAX_WHOLE_BODY_BYTES: usize = 32 << 20;
/// Largest body that streams through (1 GiB).
pub(crate) const MAX_BODY_BYTES: u64 = 1 << 30;
/// What all bodies that are read whole may take together, in bytes (256 MiB).
pub(crate) const WHOLE_BODIES_BYTES: usize = 256 << 20;
/// Most connections of agents at a time; further ones wait in the system's queue.
pub(crate) const MAX_CONNECTIONS: usize = 8192;
/// Most calls of one agent that wait for the owner.
pub(crate) const MAX_WAITING: usize = 64;
/// Most calls of one agent that go on at a time.
pub(crate) const MAX_CALLS_PER_AGENT: usize = 1024;
/// Most tunnels of one agent that are open at a time.
pub(crate) const MAX_TUNNELS_PER_AGENT: usize = 256;
/// Longest TLS handshake of a client within a tunnel.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for the head of a request, also of the next one on a connection that is kept open.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence within the body of a request.
pub(crate) const REQUEST_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for the head of a reply: models think for minutes.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest silence within the body of a reply.
pub(crate) const REPLY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest for trying one key.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection to an API is kept without use.
pub(crate) const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// How often connections that nobody uses are looked at.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Most connections to one API that are kept without use.
pub(crate) const MAX_IDLE_CONNECTIONS: usize = 128;
/// The same of all APIs together, for each thread.
pub(crate) const MAX_IDLE_IN_ALL: usize = 512;
/// Most requests at once over one connection of HTTP/2, whatever the API allows.
pub(crate) const MAX_STREAMS: usize = 100;
/// How long a key rests after 429 or 5xx when the API does not say.
pub(crate) const REST: Duration = Duration::from_secs(15);
/// How long it rests after 401: the owner has to mend it.
pub(crate) const REST_REFUSED: Duration = Duration::from_secs(300);
/// Longest rest that an API may ask for.
pub(crate) const MAX_REST: Duration = Duration::from_secs(3600);
/// Calls that one audit row records.
pub(crate) const CALLS_PER_ROW: usize = 64;
/// Calls that are recorded in one transaction.
pub(crate) const CALLS_PER_COMMIT: usize = 1024;
/// How many times the recording of several calls lets everything go first that its thread has to do, so that more of
/// them come.
pub(crate) const GATHER_TURNS: usize = 5;
/// How long what nobody waits for is gathered until it is recorded: refusals and ends, and calls where the owner has their
/// record follow them.
pub(crate) const GATHER_TIME: Duration = Duration::from_millis(5);
/// Entries that may wait to be recorded while nobody waits for them; what is beyond is refused. Calls that wait for
/// theirs are bounded by [`MAX_CALLS_PER_AGENT`] and [`MAX_CONNECTIONS`].
pub(crate) const JOURNAL_QUEUE: usize = 4096;
/// Longest path that is recorded, in bytes.
pub(crate) const MAX_RECORDED_PATH: usize = 200;
/// Longest model that is recorded or counted under its own name, in bytes.
pub(crate) const MAX_MODEL_BYTES: usize = 128;
/// How often sums of usage are stored.
pub(crate) const USAGE_EVERY: Duration = Duration::from_secs(1);
/// Different sums that are held between two stores; what is beyond is stored at once.
pub(crate) const MAX_SUMS: usize = 4096;
/// Most keys that are tried for one call.
pub(crate) const MAX_TRIES: usize = 4;
/// Asks that wait for the gateway.
pub(crate) const ASK_QUEUE: usize = 256;
/// How long the gateway may take to say what became of an ask.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(30);
/// What a refused agent is told to wait, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 5;
/// HTTP/2 toward APIs: what may be under way unread of one reply, and of all of one connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// See [`STREAM_WINDOW_BYTES`].
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
