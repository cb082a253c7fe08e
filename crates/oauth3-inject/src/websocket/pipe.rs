//! One direction of a WebSocket, without I/O: bytes in, bytes out.
//!
//! Written here and not taken from a library because the known ones hand out whole frames or messages. This one
//! has to look into payloads while they stream, must not hold a frame of any size, and must keep the tail of a
//! fragment back until the next one tells whether a value stands across the two. So a message leaves in
//! fragments of its own making (RFC 6455 §5.4 lets an intermediary do that when no extension was agreed on); a
//! frame of up to [`MAX_PART_BYTES`] leaves as the one frame that it was.

use super::frame::{Fault, Head, MAX_HEAD_BYTES, Opcode, mask};
use super::utf8::Utf8;
use crate::limits::MAX_PART_BYTES;

/// What is done to payloads on their way.
pub(crate) trait Inspect {
    /// Looks at the next piece of a message and appends what may go on by now.
    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault>;
    /// The message is over: appends what was kept back.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Fault>;
    /// Looks at a control frame's whole payload; the length may not change.
    fn control(&mut self, payload: &mut Vec<u8>) -> Result<(), Fault>;
}

/// Who sends in this direction. Only a client masks (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Code,
    Host,
}

/// One direction.
pub(crate) struct Pipe<I> {
    from: Side,
    inspect: I,
    /// Bytes of a head that is not there as a whole.
    head: Vec<u8>,
    frame: Option<Frame>,
    message: Option<Message>,
    /// Looked at, not written yet.
    part: Vec<u8>,
    scratch: Vec<u8>,
    closed: bool,
}

/// The frame that is being read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    head: Head,
    done: u64,
}

/// The message that is being read.
struct Message {
    /// What its next fragment is.
    opcode: Opcode,
    /// For text only.
    utf8: Option<Utf8>,
}

impl<I: Inspect> Pipe<I> {
    pub(crate) fn new(from: Side, inspect: I) -> Self {
        Self {
            from,
            inspect,
            head: Vec::with_capacity(MAX_HEAD_BYTES),
            frame: None,
            message: None,
            part: Vec::new(),
            scratch: Vec::new(),
            closed: false,
        }
    }

    /// Whether the close frame has passed; what comes after it is ignored.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Reads the next bytes and appends whole frames to `out`.
    ///
    /// # Errors
    /// What the connection must be ended for. What is in `out` by then may still go.
    pub(crate) fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        while !input.is_empty() && !self.closed {
            input = match self.frame {
                None => self.read_head(input, out)?,
                Some(frame) => self.read_payload(frame, input, out)?,
            };
        }
        Ok(())
    }

    fn read_head<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Fault> {
        let before = self.head.len();
        let (taken, _) = input.split_at(input.len().min(MAX_HEAD_BYTES - before));
        self.head.extend_from_slice(taken);
        let Some((head, length)) = Head::parse(&self.head)? else {
            return Ok(input.get(taken.len()..).unwrap_or_default());
        };
        self.head.clear();
        self.begin(head)?;
        self.frame = Some(Frame { head, done: 0 });
        if head.length == 0 {
            self.end_frame(head, out)?;
        }
        Ok(input.get(length.saturating_sub(before)..).unwrap_or_default())
    }

    /// Whether a frame may come now.
    fn begin(&mut self, head: Head) -> Result<(), Fault> {
        if head.mask.is_some() != (self.from == Side::Code) {
            return Err(Fault::Protocol);
        }
        if head.opcode.control() {
            return Ok(());
        }
        if self.message.is_some() != (head.opcode == Opcode::Continuation) {
            return Err(Fault::Protocol);
        }
        if self.message.is_none() {
            let utf8 = (head.opcode == Opcode::Text).then(Utf8::default);
            self.message = Some(Message { opcode: head.opcode, utf8 });
        }
        Ok(())
    }

    fn read_payload<'a>(&mut self, frame: Frame, input: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Fault> {
        let Frame { head, done } = frame;
        let left = usize::try_from(head.length - done).unwrap_or(usize::MAX);
        let (piece, rest) = input.split_at(input.len().min(left).min(MAX_PART_BYTES));
        let done = done + piece.len() as u64;
        let mut scratch = std::mem::take(&mut self.scratch);
        // A control frame is looked at as a whole.
        if !head.opcode.control() {
            scratch.clear();
        }
        let fresh = scratch.len();
        scratch.extend_from_slice(piece);
        if let (Some(key), Some(new)) = (head.mask, scratch.get_mut(fresh..)) {
            mask(new, key, frame.done);
        }
        self.frame = Some(Frame { head, done });
        let looked = if head.opcode.control() { Ok(()) } else { self.inspect.data(&scratch, &mut self.part) };
        self.scratch = scratch;
        looked?;
        if done == head.length {
            self.end_frame(head, out)?;
        } else if self.part.len() >= MAX_PART_BYTES {
            self.write_part(false, out)?;
        }
        Ok(rest)
    }

    fn end_frame(&mut self, head: Head, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.frame = None;
        if head.opcode.control() {
            let mut payload = std::mem::take(&mut self.scratch);
            let passed = self.pass_control(head.opcode, &mut payload, out);
            payload.clear();
            self.scratch = payload;
            return passed;
        }
        self.scratch.clear();
        if head.last {
            self.inspect.end(&mut self.part)?;
            self.write_part(true, out)?;
            self.message = None;
        } else if !self.part.is_empty() {
            self.write_part(false, out)?;
        }
        Ok(())
    }

    fn pass_control(&mut self, opcode: Opcode, payload: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.inspect.control(payload)?;
        if opcode == Opcode::Close {
            check_close(payload)?;
            self.closed = true;
        }
        write_frame(self.from, true, opcode, payload, out);
        Ok(())
    }

    /// Writes what was looked at as one fragment.
    fn write_part(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(message) = self.message.as_mut() else { return Err(Fault::Protocol) };
        if let Some(utf8) = message.utf8.as_mut() {
            utf8.push(&self.part, last)?;
        }
        write_frame(self.from, last, message.opcode, &mut self.part, out);
        message.opcode = Opcode::Continuation;
        self.part.clear();
        Ok(())
    }
}

/// Appends a frame as it leaves in this direction: masked with a key of our own toward the host.
pub(crate) fn write_frame(from: Side, last: bool, opcode: Opcode, payload: &mut [u8], out: &mut Vec<u8>) {
    let mask_key = (from == Side::Code).then(|| {
        let mut key = [0; 4];
        // Without randomness the key is zero: masking protects old proxies in clear text, and this is inside TLS.
        let _ = getrandom::fill(&mut key);
        key
    });
    Head { last, opcode, mask: mask_key, length: payload.len() as u64 }.write(out);
    if let Some(key) = mask_key {
        mask(payload, key, 0);
    }
    out.extend_from_slice(payload);
}

/// The payload of a close frame (RFC 6455 §5.5.1, §7.4): nothing, or a code that may be sent and a reason in UTF-8.
fn check_close(payload: &[u8]) -> Result<(), Fault> {
    match payload {
        [] => Ok(()),
        [high, low, reason @ ..] => {
            if !matches!(u16::from_be_bytes([*high, *low]), 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Fault::Protocol);
            }
            std::str::from_utf8(reason).map(drop).map_err(|_| Fault::NotUtf8)
        }
        [_] => Err(Fault::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keeps three bytes back as the scrubber does, and writes capitals.
    #[derive(Default)]
    struct Shouting(Vec<u8>);

    impl Inspect for Shouting {
        fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
            self.0.extend(piece.to_ascii_uppercase());
            let sure = self.0.len().saturating_sub(3);
            out.extend(self.0.drain(..sure));
            Ok(())
        }

        fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
            out.append(&mut self.0);
            Ok(())
        }

        fn control(&mut self, payload: &mut Vec<u8>) -> Result<(), Fault> {
            payload.make_ascii_uppercase();
            Ok(())
        }
    }

    type Kinds = Vec<(Opcode, Vec<u8>)>;

    /// What stands in a stream of frames: messages with their kind, control frames by themselves.
    fn read(bytes: &[u8]) -> (Kinds, Kinds) {
        let (mut messages, mut controls, mut open) = (Vec::new(), Vec::new(), None);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (head, length) = Head::parse(rest).unwrap().unwrap();
            let (payload, next) = rest[length..].split_at(head.length as usize);
            let mut payload = payload.to_vec();
            head.mask.into_iter().for_each(|key| mask(&mut payload, key, 0));
            rest = next;
            if head.opcode.control() {
                controls.push((head.opcode, payload));
                continue;
            }
            assert_eq!(open.is_some(), head.opcode == Opcode::Continuation);
            let (kind, mut whole): (Opcode, Vec<u8>) = open.take().unwrap_or((head.opcode, Vec::new()));
            whole.extend(payload);
            if head.last { messages.push((kind, whole)) } else { open = Some((kind, whole)) }
        }
        assert!(open.is_none());
        (messages, controls)
    }

    proptest! {
        /// However messages are cut into fragments and fragments into pieces, with control frames between them:
        /// the same messages come out, looked at as wholes.
        #[test]
        fn any_fragments_and_any_pieces_carry_the_same_messages(
            messages in prop::collection::vec((any::<bool>(), ".{0,40}", prop::collection::vec(0_usize..60, 0..3)), 0..4),
            pieces in prop::collection::vec(1_usize..20, 1..8),
            from_code: bool,
        ) {
            let side = if from_code { Side::Code } else { Side::Host };
            let (mut wire, mut expected, mut pings) = (Vec::new(), Vec::new(), Vec::new());
            for (text, content, cuts) in messages {
                let kind = if text { Opcode::Text } else { Opcode::Binary };
                let bytes = content.as_bytes();
                let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
                cuts.sort_unstable();
                let (mut opcode, mut begin) = (kind, 0);
                for cut in cuts {
                    write_frame(side, false, opcode, &mut bytes[begin..cut].to_vec(), &mut wire);
                    write_frame(side, true, Opcode::Ping, &mut b"ping".to_vec(), &mut wire);
                    pings.push((Opcode::Ping, b"PING".to_vec()));
                    (opcode, begin) = (Opcode::Continuation, cut);
                }
                write_frame(side, true, opcode, &mut bytes[begin..].to_vec(), &mut wire);
                expected.push((kind, bytes.to_ascii_uppercase()));
            }
            let (mut pipe, mut out) = (Pipe::new(side, Shouting::default()), Vec::new());
            let (mut rest, mut sizes) = (&wire[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                pipe.push(piece, &mut out).unwrap();
                rest = next;
            }
            prop_assert_eq!(read(&out), (expected, pings));
        }

        #[test]
        fn any_bytes_end_in_frames_or_a_fault(bytes: Vec<u8>, from_code: bool) {
            let side = if from_code { Side::Code } else { Side::Host };
            let _ = Pipe::new(side, Shouting::default()).push(&bytes, &mut Vec::new());
        }
    }
}
