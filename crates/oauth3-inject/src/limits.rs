//! Every bound of the data plane.

use std::time::Duration;

/// Most connections of one run at a time; more wait to be accepted.
pub(crate) const MAX_CONNECTIONS: usize = 256;
/// Most requests and WebSockets of one run that are under way at a time; more wait. Upstream connections in use are
/// at most as many.
pub(crate) const MAX_REQUESTS: usize = 256;
/// Most streams of one HTTP/2 connection at a time, both ways; RFC 9113 §6.5.2 advises no fewer. Where a host allows
/// fewer, fewer are used.
pub(crate) const MAX_STREAMS: u32 = 100;
/// How much code may send ahead within one stream, and on one connection, in bytes. The way is short, so that little
/// is enough for speed; and this is what a connection can make the keeper hold while a host does not read.
pub(crate) const CODE_STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// See [`CODE_STREAM_WINDOW_BYTES`].
pub(crate) const CODE_CONNECTION_WINDOW_BYTES: u32 = 512 << 10;
/// How much a host may send ahead within one stream, and on one connection, in bytes: what is under way at 100 Mbit/s
/// and 160 ms. Held when the code does not read.
pub(crate) const HOST_STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// See [`HOST_STREAM_WINDOW_BYTES`].
pub(crate) const HOST_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Most bytes of one stream that wait to be written.
pub(crate) const MAX_SEND_BUFFER_BYTES: usize = 64 << 10;
/// Most streams that the code may have begun and reset before they were looked at; more end the connection
/// (CVE-2023-44487).
pub(crate) const MAX_RESETS_UNSEEN: usize = 20;
/// Most streams on one connection that were reset for errors of the other side; more end the connection. Pings and
/// settings need no bound: one is answered before the next is read.
pub(crate) const MAX_LOCAL_RESETS: usize = 128;
/// Largest WebSocket frame, in bytes. Frames stream, so that none is held.
pub(crate) const MAX_FRAME_BYTES: u64 = 1 << 30;
/// Most payload of a WebSocket frame that is held, in bytes; a larger one goes on in parts.
pub(crate) const MAX_PART_BYTES: usize = 64 << 10;
/// How much is read from a WebSocket at a time, in bytes.
pub(crate) const READ_BYTES: usize = 16 << 10;
/// Longest silence on a WebSocket, of both sides. Pings of either count.
pub(crate) const WEBSOCKET_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest wait for a close frame to be answered or written.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most idle upstream connections that a run keeps. A program with many requests at once has about as many idle between
/// them, and each that is not kept costs a handshake.
pub(crate) const MAX_IDLE: usize = 64;
/// Longest that an upstream connection is kept idle.
pub(crate) const MAX_IDLE_AGE: Duration = Duration::from_secs(20);
/// Largest head of a request or a reply, in bytes; also the most that is buffered of a request's body at a time.
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;
/// The most that is read at once of what a host sends, in bytes: as much as comes quickly, so that a long reply goes on
/// in few large steps. The library buffers as much of a request's body on its way out.
pub(crate) const MAX_READ_BYTES: usize = 256 << 10;
/// Most header fields of a request or a reply. It is also what the HTTP library bounds them to when it is told nothing,
/// and then it takes no memory of its own to read them.
pub(crate) const MAX_HEADERS: usize = 100;
/// Longest TLS handshake with the code.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a request's head, and for the next request on a kept connection.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time to reach a host: resolving, connecting, TLS.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the head of a reply, from the moment when the request goes out. A model may think for
/// minutes, and the run has its own wall clock.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(600);
/// From how many bytes on a part of a reply is a piece of its own rather than copied behind another.
pub(crate) const MIN_PASSED_BYTES: usize = 4 << 10;
/// Longest silence within the body of a reply.
pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Largest body that is held whole so that its length is known when values were put into it, in bytes (256 KiB);
/// larger ones go out in chunks.
pub(crate) const MAX_BUFFERED_BODY_BYTES: usize = 256 << 10;
/// Largest body that is held whole so that it can be signed, in bytes (8 MiB).
pub(crate) const MAX_SIGNED_BODY_BYTES: usize = 8 << 20;
/// Longest wait for a body that is held whole.
pub(crate) const BUFFER_TIMEOUT: Duration = Duration::from_secs(120);
/// How much of a refused request's body is read, and for how long, so that code that writes before it reads
/// gets to see the answer.
pub(crate) const MAX_DRAIN_BYTES: usize = 64 << 20;
/// See [`MAX_DRAIN_BYTES`].
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// What goes over late connections once a run has used its bytes, so that it can be told: handshakes and refusals.
pub(crate) const RESERVE_BYTES: u64 = 256 << 10;
/// Most distinct refusals of one kind that a run keeps and reports; later ones are counted only.
pub(crate) const MAX_REFUSALS: usize = 64;
/// Longest wait for refusals to be recorded when a run ends.
pub(crate) const RECORD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept or receive that failed, such as for want of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most leaf certificates kept; beyond that they are made anew.
pub(crate) const MAX_LEAVES: usize = 512;
/// Longest text of the code's choosing within a refusal, in bytes.
pub(crate) const MAX_NAMED_BYTES: usize = 100;
/// Most content codings of one reply, one over another. One is usual.
pub(crate) const MAX_CODINGS: usize = 3;
/// How much of a decoded reply is made at a time, in bytes.
pub(crate) const DECODED_PIECE_BYTES: usize = 64 << 10;
/// A reply may unpack to this many bytes in any case, and beyond to [`MAX_DECODED_RATIO`] times what came. Text and
/// JSON unpack to about ten times; only what was made for it unpacks to hundreds.
pub(crate) const DECODED_FREE_BYTES: u64 = 16 << 20;
/// See [`DECODED_FREE_BYTES`].
pub(crate) const MAX_DECODED_RATIO: u64 = 200;
/// Longest head of a gzip member, in bytes: names and comments have no bound of their own (RFC 1952 §2.3.1).
pub(crate) const MAX_GZIP_HEAD_BYTES: usize = 4 << 10;
/// Largest window of a Zstandard frame, in bytes: what a decoder of this coding must have (RFC 9659 §3).
pub(crate) const MAX_ZSTD_WINDOW_BYTES: u64 = 8 << 20;
/// What one decoder holds at most, in bytes: windows, tables, and the piece that it reads from. A brotli window is
/// at most 16 MiB (RFC 7932 §9.1). The Zstandard decoder rounds its window up and copies it when it grows.
pub(crate) const INFLATE_MEMORY_BYTES: usize = 256 << 10;
/// See [`INFLATE_MEMORY_BYTES`].
pub(crate) const BROTLI_MEMORY_BYTES: usize = 26 << 20;
/// See [`INFLATE_MEMORY_BYTES`].
pub(crate) const ZSTD_MEMORY_BYTES: usize = 26 << 20;
/// Most memory that all decoders of one run may need together, in bytes; other replies wait.
pub(crate) const DECODERS_MEMORY_BYTES: usize = 128 << 20;
/// In what steps that memory is shared out, in bytes.
pub(crate) const DECODERS_UNIT_BYTES: usize = 64 << 10;
/// Longest wait of a reply for its place among the decoders.
pub(crate) const DECODERS_TIMEOUT: Duration = Duration::from_secs(30);
