//! Zstandard (RFC 8878) as a reader that can pause anywhere.

use super::Source;
use crate::limits::{DECODED_PIECE_BYTES, MAX_ZSTD_WINDOW_BYTES};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

/// Bytes of a block's head and the most that follow it (RFC 8878 §3.1.1.2).
const BLOCK_HEAD_BYTES: usize = 3;
const MAX_BLOCK_BYTES: usize = 128 << 10;
/// Bytes of the checksum after the last block.
const CHECKSUM_BYTES: usize = 4;
/// What frames and frames of other things begin with (§3.1.1, §3.1.2); the low four bits of the latter are free.
const MAGIC: u32 = 0xFD2F_B528;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;

enum At {
    /// Between frames.
    Frame,
    /// Within a frame that is none of ours, with so many bytes to come.
    Skip(u32),
    /// Before a block of a frame that has a checksum or not.
    Block {
        checksum: bool,
    },
    /// What was decoded is being handed out; `last`: there is no more in this frame.
    Out {
        checksum: bool,
        last: bool,
    },
    Over,
}

pub(super) struct Zstd {
    source: BufReader<Source>,
    decoder: FrameDecoder,
    at: At,
    /// Of the next head or block, as far as it came.
    part: Vec<u8>,
    frames: usize,
}

impl Zstd {
    pub(super) fn new(source: Source) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_ZSTD_WINDOW_BYTES);
        let source = BufReader::with_capacity(DECODED_PIECE_BYTES, source);
        Self { source, decoder, at: At::Frame, part: Vec::new(), frames: 0 }
    }

    /// Reads on until `part` has this many bytes.
    fn gather(&mut self, count: usize) -> io::Result<()> {
        while self.part.len() < count {
            let input = self.source.fill_buf()?;
            if input.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let took = input.len().min(count - self.part.len());
            self.part.extend_from_slice(input.get(..took).unwrap_or_default());
            self.source.consume(took);
        }
        Ok(())
    }

    /// The first `N` bytes of `part`, which was filled that far.
    fn gathered<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.gather(N)?;
        self.part.first_chunk().copied().ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    fn frame(&mut self) -> io::Result<At> {
        if self.part.is_empty() && self.frames > 0 && self.source.fill_buf()?.is_empty() {
            return Ok(At::Over);
        }
        let magic = u32::from_le_bytes(self.gathered()?);
        if magic & !0xf == SKIPPABLE_MAGIC {
            let [_, _, _, _, a, b, c, d] = self.gathered()?;
            self.part.clear();
            self.frames += 1;
            return Ok(At::Skip(u32::from_le_bytes([a, b, c, d])));
        }
        if magic != MAGIC {
            return Err(ErrorKind::InvalidData.into());
        }
        let [_, _, _, _, descriptor] = self.gathered()?;
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4];
        let size = if single { [1, 2, 4, 8] } else { [0, 2, 4, 8] };
        let field = |sizes: [usize; 4], bits: u8| sizes.get(usize::from(bits & 3)).copied().unwrap_or_default();
        let head = 5 + usize::from(!single) + field(dictionary, descriptor) + field(size, descriptor >> 6);
        self.gather(head)?;
        // A window that is too large, or a dictionary that we do not have.
        self.decoder.reset(&self.part[..]).map_err(|_| ErrorKind::InvalidData)?;
        self.part.clear();
        self.frames += 1;
        Ok(At::Block { checksum: descriptor & 4 != 0 })
    }

    fn block(&mut self, checksum: bool) -> io::Result<At> {
        let [a, b, c] = self.gathered()?;
        let head = u32::from_le_bytes([a, b, c, 0]);
        let (last, repeated, size) = (head & 1 != 0, head >> 1 & 3 == 1, (head >> 3) as usize);
        let content = if repeated { 1 } else { size };
        if size > MAX_BLOCK_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        self.gather(BLOCK_HEAD_BYTES + content + if last && checksum { CHECKSUM_BYTES } else { 0 })?;
        let one = BlockDecodingStrategy::UptoBlocks(1);
        self.decoder.decode_blocks(&self.part[..], one).map_err(|_| ErrorKind::InvalidData)?;
        self.part.clear();
        Ok(At::Out { checksum, last })
    }

    fn end_of_frame(&self, checksum: bool) -> io::Result<At> {
        if checksum && self.decoder.get_checksum_from_data() != self.decoder.get_calculated_checksum() {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(At::Frame)
    }

    fn skip(&mut self, left: u32) -> io::Result<At> {
        let input = self.source.fill_buf()?;
        if input.is_empty() && left > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let took = u32::try_from(input.len()).unwrap_or(u32::MAX).min(left);
        self.source.consume(took as usize);
        Ok(if took == left { At::Frame } else { At::Skip(left - took) })
    }
}

impl Read for Zstd {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            self.at = match self.at {
                At::Frame => self.frame()?,
                At::Skip(0) => At::Frame,
                At::Skip(left) => self.skip(left)?,
                At::Block { checksum } => self.block(checksum)?,
                At::Out { checksum, last } => match self.decoder.read(out)? {
                    0 if last => self.end_of_frame(checksum)?,
                    0 => At::Block { checksum },
                    made => return Ok(made),
                },
                At::Over => return Ok(0),
            };
        }
    }
}
