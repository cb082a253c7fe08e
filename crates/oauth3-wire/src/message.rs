//! What gateway and keeper say to each other.

use crate::WireError;
use crate::frame::Frame;
use oauth3_core::{
    ApiCheck, ApiId, AuditEvent, ChainReport, EgressUsage, Fault, KeeperEvent, LaneFds, ListenerFd, ListenerRole,
    NewSecret, OpenedRun, RequestId, RunOutput, SignInOrder, SignInRecord,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use zeroize::Zeroizing;

/// Most bytes of stdout and of stderr each that a reply carries (16 MiB); what is beyond is cut and said to be.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// A message with its number; a reply bears the number of its call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Numbered<T> {
    pub(crate) number: u64,
    pub(crate) body: T,
}

/// What the keeper is asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Call {
    Ping,
    Audit(AuditEvent),
    VerifyAudit,
    /// The value is the frame's raw part.
    PutSecret(NewSecret),
    /// The frame's descriptors: the listeners in this order, then stdout, stderr, and the pipe for values.
    OpenRun {
        id: RequestId,
        listeners: Vec<ListenerRole>,
    },
    CloseRun {
        id: RequestId,
        then: Vec<AuditEvent>,
    },
    Refresh,
    NextEvent,
    ProxyAddress,
    CheckApi(ApiId),
    AnswerAsk {
        number: u64,
        answer: Result<RequestId, Fault>,
    },
    SignIn {
        connection: ApiId,
        order: SignInOrder,
        by: String,
    },
    /// The value is the frame's raw part.
    PutClientSecret {
        connection: ApiId,
        by: String,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Reply {
    Done,
    Chain(ChainReport),
    Opened(OpenedRun),
    Event(KeeperEvent),
    Address(Option<SocketAddr>),
    Checks(Vec<ApiCheck>),
    SignIn(Box<SignInRecord>),
    /// The frame's raw part: `stdout_bytes` of stdout, the rest is stderr.
    Output {
        stdout_bytes: usize,
        truncated: bool,
        refusals: Vec<String>,
        egress: EgressUsage,
    },
    Fault(Fault),
}

/// Makes a frame of a message.
pub(crate) fn encode<T: Serialize>(number: u64, body: T) -> Result<Frame, WireError> {
    let json = serde_json::to_vec(&Numbered { number, body }).map_err(|_| WireError::Junk("a message has no JSON"))?;
    Ok(Frame { json, ..Frame::default() })
}

/// Reads the message of a frame.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(frame: &Frame) -> Result<Numbered<T>, WireError> {
    serde_json::from_slice(&frame.json).map_err(|_| WireError::Junk("not a message"))
}

/// Takes a lane apart for the way.
pub(crate) fn pack_lane(lane: LaneFds) -> (Vec<ListenerRole>, Vec<OwnedFd>) {
    let (roles, mut fds): (Vec<_>, Vec<_>) = lane.listeners.into_iter().map(|l| (l.role, l.fd)).unzip();
    fds.extend([lane.stdout, lane.stderr, lane.reveal]);
    (roles, fds)
}

/// Puts it together again.
pub(crate) fn unpack_lane(roles: Vec<ListenerRole>, mut fds: Vec<OwnedFd>) -> Result<LaneFds, WireError> {
    let count = roles.len();
    let (Some(reveal), Some(stderr), Some(stdout)) = (fds.pop(), fds.pop(), fds.pop()) else {
        return Err(WireError::Junk("a lane without pipes"));
    };
    if fds.len() != count {
        return Err(WireError::Junk("not as many listeners as were named"));
    }
    let listeners = roles.into_iter().zip(fds).map(|(role, fd)| ListenerFd { role, fd }).collect();
    Ok(LaneFds { listeners, stdout, stderr, reveal })
}

/// Puts a run's output into a frame.
pub(crate) fn pack_output(number: u64, mut output: RunOutput) -> Result<Frame, WireError> {
    for text in [&mut output.stdout, &mut output.stderr] {
        if text.len() > MAX_OUTPUT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_OUTPUT_BYTES));
            output.truncated = true;
        }
    }
    let RunOutput { ref stdout, truncated, refusals, egress, .. } = output;
    let body = Reply::Output { stdout_bytes: stdout.len(), truncated, refusals, egress };
    let mut raw = Zeroizing::new(output.stdout.into_bytes());
    raw.extend_from_slice(output.stderr.as_bytes());
    Ok(Frame { raw, ..encode(number, body)? })
}

/// Takes what it wrote out again: stdout and stderr.
pub(crate) fn unpack_output(raw: &[u8], stdout_bytes: usize) -> (String, String) {
    let (stdout, stderr) = raw.split_at_checked(stdout_bytes).unwrap_or((raw, &[]));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(stdout), text(stderr))
}
