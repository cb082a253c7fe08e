//! gzip (RFC 1952), zlib (RFC 1950) and bare deflate (RFC 1951) as a reader that can pause anywhere.

use super::{Source, nothing_follows};
use crate::limits::{DECODED_PIECE_BYTES, MAX_GZIP_HEAD_BYTES};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

/// Bytes after the data of a gzip member: a checksum and the length (RFC 1952 §2.3.1).
const GZIP_TAIL_BYTES: usize = 8;
/// The first bytes of a gzip member, with the only method that there is.
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Flags of a gzip head: its own checksum, extra fields, a name, a comment; the others are reserved.
const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const FRESERVED: u8 = 0xe0;

/// Where in the frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Head,
    Data,
    Tail,
    Over,
}

pub(super) struct Inflate {
    source: BufReader<Source>,
    gzip: bool,
    at: At,
    /// Of the head or tail, as far as it came.
    part: Vec<u8>,
    members: usize,
    state: Decompress,
    crc: Crc,
}

impl Inflate {
    pub(super) fn gzip(source: Source) -> Self {
        Self::new(source, true)
    }

    /// zlib, or without its head: which one the first byte tells, for no deflate block begins like a zlib head
    /// except one whose padding is not zero.
    pub(super) fn deflate(source: Source) -> Self {
        Self::new(source, false)
    }

    fn new(source: Source, gzip: bool) -> Self {
        Self {
            source: BufReader::with_capacity(DECODED_PIECE_BYTES, source),
            gzip,
            at: At::Head,
            part: Vec::new(),
            members: 0,
            state: Decompress::new(false),
            crc: Crc::new(),
        }
    }

    fn head(&mut self) -> io::Result<()> {
        if !self.gzip {
            let first = self.source.fill_buf()?.first().copied().ok_or(ErrorKind::UnexpectedEof)?;
            let zlib = first & 0x0f == 8 && first >> 4 <= 7;
            self.state = Decompress::new(zlib);
            self.at = At::Data;
            return Ok(());
        }
        // Byte by byte: heads are short, and nothing of the data may be taken with them.
        while !gzip_head_is_whole(&self.part)? {
            match self.next_byte()? {
                Some(byte) => self.part.push(byte),
                None if self.members > 0 && self.part.is_empty() => {
                    self.at = At::Over;
                    return Ok(());
                }
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
            if self.part.len() > MAX_GZIP_HEAD_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        self.part.clear();
        self.state.reset(false);
        self.crc.reset();
        self.at = At::Data;
        Ok(())
    }

    fn data(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            // Bytes may wait in the decoder when none wait in the source.
            let (input, more) = match self.source.fill_buf() {
                Ok(input) => (input, !input.is_empty()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => (&[][..], true),
                Err(error) => return Err(error),
            };
            let starved = input.is_empty();
            let before = (self.state.total_in(), self.state.total_out());
            let flush = if more { FlushDecompress::None } else { FlushDecompress::Finish };
            let status = self.state.decompress(input, out, flush).map_err(|_| ErrorKind::InvalidData)?;
            let count = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
            let (took, made) = (count(self.state.total_in(), before.0), count(self.state.total_out(), before.1));
            self.source.consume(took);
            if self.gzip {
                self.crc.update(out.get(..made).unwrap_or_default());
            }
            if status == Status::StreamEnd {
                self.at = if self.gzip { At::Tail } else { At::Over };
                return Ok(made);
            }
            if made > 0 {
                return Ok(made);
            }
            match (starved, more) {
                (true, true) => return Err(ErrorKind::WouldBlock.into()),
                (true, false) => return Err(ErrorKind::UnexpectedEof.into()),
                (false, _) if took == 0 => return Err(ErrorKind::InvalidData.into()),
                (false, _) => {}
            }
        }
    }

    fn tail(&mut self) -> io::Result<()> {
        while self.part.len() < GZIP_TAIL_BYTES {
            let byte = self.next_byte()?.ok_or(ErrorKind::UnexpectedEof)?;
            self.part.push(byte);
        }
        let expected = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat();
        if self.part != expected {
            return Err(ErrorKind::InvalidData.into());
        }
        self.part.clear();
        self.members += 1;
        self.at = At::Head;
        Ok(())
    }

    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.source.fill_buf()?.first().copied();
        self.source.consume(usize::from(byte.is_some()));
        Ok(byte)
    }
}

impl Read for Inflate {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.at {
                At::Head => self.head()?,
                At::Data => match self.data(out)? {
                    0 => {}
                    made => return Ok(made),
                },
                At::Tail => self.tail()?,
                At::Over => return nothing_follows(&mut self.source).map(|()| 0),
            }
        }
    }
}

/// Whether these are all bytes of a member's head; an error when they cannot become one.
fn gzip_head_is_whole(bytes: &[u8]) -> io::Result<bool> {
    let begins = bytes.iter().zip(GZIP_MAGIC).all(|(byte, expected)| *byte == expected);
    let flags = bytes.get(3).copied().unwrap_or_default();
    if !begins || flags & FRESERVED != 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(gzip_head_rest(bytes, flags).is_some())
}

/// What follows a whole head among these bytes.
fn gzip_head_rest(bytes: &[u8], flags: u8) -> Option<&[u8]> {
    let mut rest = bytes.get(10..)?;
    if flags & FEXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & FHCRC != 0 { rest.get(2..) } else { Some(rest) }
}
