//! Takes server-sent events and Amazon's event stream apart as their bytes pass, keeping none of them.

/// A part of what an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Bytes of the payload.
    Bytes(&'a [u8]),
    /// The event is over.
    End,
}

/// `text/event-stream` (WHATWG HTML §9.2.6): the `data` fields of its events.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    line: Line,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    /// The event has data.
    data: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Line {
    /// At its beginning.
    #[default]
    Empty,
    /// So many bytes of `data:` were there.
    Field(usize),
    /// After `data:`, where one space is skipped.
    Colon,
    Data,
    Other,
}

const DATA: &[u8] = b"data:";

impl Sse {
    pub(crate) fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Part<'_>)) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            if matches!(self.line, Line::Data | Line::Other) {
                let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
                let (run, after) = rest.split_at(end);
                if !run.is_empty() {
                    if self.line == Line::Data {
                        tell(Part::Bytes(run));
                    }
                    self.after_return = false;
                    rest = after;
                    continue;
                }
            }
            rest = tail;
            self.byte(byte, &mut tell);
        }
    }

    fn byte(&mut self, byte: u8, tell: &mut impl FnMut(Part<'_>)) {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        if matches!(byte, b'\n' | b'\r') {
            if !(after_return && byte == b'\n') {
                self.line_ends(tell);
            }
            return;
        }
        self.line = match self.line {
            Line::Empty if byte == b'd' => Line::Field(1),
            Line::Field(seen) if DATA.get(seen) == Some(&byte) => {
                if seen + 1 < DATA.len() {
                    Line::Field(seen + 1)
                } else {
                    Line::Colon
                }
            }
            Line::Colon => {
                if byte != b' ' {
                    tell(Part::Bytes(&[byte]));
                }
                Line::Data
            }
            _ => Line::Other,
        };
    }

    fn line_ends(&mut self, tell: &mut impl FnMut(Part<'_>)) {
        match std::mem::take(&mut self.line) {
            Line::Empty if self.data => {
                self.data = false;
                tell(Part::End);
            }
            Line::Data | Line::Colon => {
                self.data = true;
                // Several lines are one text with line feeds between them.
                tell(Part::Bytes(b"\n"));
            }
            _ => {}
        }
    }
}

/// `application/vnd.amazon.eventstream`: the payloads of its messages. Checksums are for the client to check.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    /// The first eight bytes of a message: its length and that of its headers.
    prelude: [u8; 8],
    seen: usize,
    skip: u64,
    payload: u64,
    /// It was no such stream.
    broken: bool,
}

/// Bytes of a message before its headers, and after its payload.
const PRELUDE_BYTES: u64 = 12;
const CHECKSUM_BYTES: u64 = 4;

impl EventStream {
    pub(crate) fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Part<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.broken {
            if self.skip > 0 {
                let (gone, after) = cut(rest, self.skip);
                self.skip -= gone.len() as u64;
                rest = after;
            } else if self.payload > 0 {
                let (run, after) = cut(rest, self.payload);
                tell(Part::Bytes(run));
                self.payload -= run.len() as u64;
                rest = after;
                if self.payload == 0 {
                    tell(Part::End);
                    self.skip = CHECKSUM_BYTES;
                }
            } else if let Some((byte, after)) = rest.split_first() {
                if let Some(slot) = self.prelude.get_mut(self.seen) {
                    *slot = *byte;
                    self.seen += 1;
                }
                rest = after;
                if self.seen == self.prelude.len() {
                    self.message();
                }
            }
        }
    }

    fn message(&mut self) {
        self.seen = 0;
        let [a, b, c, d, e, f, g, h] = self.prelude;
        let total = u64::from(u32::from_be_bytes([a, b, c, d]));
        let headers = u64::from(u32::from_be_bytes([e, f, g, h]));
        match total.checked_sub(PRELUDE_BYTES + headers + CHECKSUM_BYTES) {
            None => self.broken = true,
            // The checksum of the prelude, the headers, and where there is no payload the last checksum.
            Some(payload) => {
                self.payload = payload;
                self.skip = PRELUDE_BYTES - self.prelude.len() as u64 + headers;
                if payload == 0 {
                    self.skip += CHECKSUM_BYTES;
                }
            }
        }
    }
}

fn cut(bytes: &[u8], most: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len())))
}
