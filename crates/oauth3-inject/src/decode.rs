//! Content codings (RFC 9110 §8.4) undone while a reply streams, so that it can be scrubbed.
//!
//! Every coding is a reader over the one before it. At the bottom is what came from the host; when that is used up
//! a reader says [`ErrorKind::WouldBlock`] and goes on later where it was. All decoders are in Rust without C: what
//! they read is the host's, and they run where the values are.

mod inflate;
mod zstd;

use crate::limits::{
    BROTLI_MEMORY_BYTES, DECODED_FREE_BYTES, DECODED_PIECE_BYTES, INFLATE_MEMORY_BYTES, MAX_CODINGS, MAX_DECODED_RATIO,
    ZSTD_MEMORY_BYTES,
};
use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use inflate::Inflate;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;
use zstd::Zstd;

/// Bytes that come a piece at a time.
type Source = Box<dyn Read + Send>;

/// One content coding of the IANA registry that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 1950, or RFC 1951 without its frame as some send it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// The codings of a reply, in the order in which they were applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Codings(Vec<Coding>);

impl Codings {
    /// Reads the Content-Encoding fields. `None` when a coding is not known or there are more than anybody needs.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.to_str().ok()?.split(',') {
                codings.push(match name.trim().to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Coding::Gzip,
                    "deflate" => Coding::Deflate,
                    "br" => Coding::Brotli,
                    "zstd" => Coding::Zstd,
                    _ => return None,
                });
            }
        }
        (codings.len() <= MAX_CODINGS).then_some(Self(codings))
    }

    /// Whether the reply is as it seems.
    pub(crate) fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// The most memory that undoing them takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = |coding: &Coding| match coding {
            Coding::Gzip | Coding::Deflate => INFLATE_MEMORY_BYTES,
            Coding::Brotli => BROTLI_MEMORY_BYTES,
            Coding::Zstd => ZSTD_MEMORY_BYTES,
        };
        DECODED_PIECE_BYTES + self.0.iter().map(each).sum::<usize>()
    }
}

/// What a decoder has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The next bytes of the reply as it was before it was coded.
    Piece(&'a [u8]),
    /// Nothing until more comes.
    Hungry,
    /// The end, after the end of the input.
    Over,
}

/// Why a coded reply cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the reply ends within its compressed data")]
    CutShort,
    #[error("the reply's compressed data is damaged, or followed by something else")]
    Damaged,
    #[error("the reply's compressed data unpacks to too much")]
    TooLarge,
}

/// One reply being decoded.
pub(crate) struct Decoder {
    feed: Feed,
    chain: Source,
    piece: Zeroizing<Vec<u8>>,
}

impl Decoder {
    pub(crate) fn new(codings: &Codings) -> Self {
        let feed = Feed::default();
        let chain = codings.0.iter().rev().fold(Box::new(feed.clone()) as Source, |source, coding| {
            Box::new(Bounded { inner: undo(*coding, source), feed: feed.clone(), made: 0 })
        });
        Self { feed, chain, piece: Zeroizing::new(vec![0; DECODED_PIECE_BYTES]) }
    }

    /// Takes the next bytes from the host. Ask for all steps before the next call.
    pub(crate) fn feed(&mut self, bytes: Bytes) {
        self.feed.with(|input| {
            input.came = input.came.saturating_add(bytes.len() as u64);
            input.bytes = bytes;
        });
    }

    /// Says that no more will come.
    pub(crate) fn end(&mut self) {
        self.feed.with(|input| input.ended = true);
    }

    /// Goes on by one piece of bounded size.
    pub(crate) fn step(&mut self) -> Result<Step<'_>, Broken> {
        if self.feed.with(|input| input.came == 0 && input.ended) {
            // Not even a frame: a reply without content, such as one to HEAD.
            return Ok(Step::Over);
        }
        match self.chain.read(&mut self.piece) {
            Ok(0) => Ok(Step::Over),
            Ok(made) => Ok(Step::Piece(self.piece.get(..made).unwrap_or_default())),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Ok(Step::Hungry),
                ErrorKind::UnexpectedEof => Err(Broken::CutShort),
                ErrorKind::FileTooLarge => Err(Broken::TooLarge),
                _ => Err(Broken::Damaged),
            },
        }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder(…)")
    }
}

fn undo(coding: Coding, source: Source) -> Source {
    match coding {
        Coding::Gzip => Box::new(Inflate::gzip(source)),
        Coding::Deflate => Box::new(Inflate::deflate(source)),
        Coding::Brotli => Box::new(Brotli::new(source)),
        Coding::Zstd => Box::new(Zstd::new(source)),
    }
}

/// What came from the host and was not read yet.
#[derive(Clone, Default)]
struct Feed(Arc<Mutex<Input>>);

#[derive(Default)]
struct Input {
    bytes: Bytes,
    came: u64,
    ended: bool,
}

impl Feed {
    fn with<T>(&self, f: impl FnOnce(&mut Input) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.with(|input| {
            if input.bytes.is_empty() && !input.ended {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = out.len().min(input.bytes.len());
            input.bytes.copy_to_slice(out.get_mut(..count).unwrap_or_default());
            Ok(count)
        })
    }
}

/// Ends what unpacks to far more than came, after every coding, so that no layer in between can either.
struct Bounded {
    inner: Source,
    feed: Feed,
    made: u64,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.made = self.made.saturating_add(count as u64);
        let came = self.feed.with(|input| input.came);
        if self.made > DECODED_FREE_BYTES && self.made > came.saturating_mul(MAX_DECODED_RATIO) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(count)
    }
}

/// Whether nothing follows what was decoded; an error when something does.
fn nothing_follows(source: &mut impl BufRead) -> io::Result<()> {
    if source.fill_buf()?.is_empty() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// RFC 7932, in the windows that it allows (at most 16 MiB; RFC 9841's larger ones are refused).
struct Brotli {
    decoder: Decompressor<Source>,
    over: bool,
}

impl Brotli {
    fn new(source: Source) -> Self {
        let mut decoder = Decompressor::new(source, DECODED_PIECE_BYTES);
        // Always accepted before the first read.
        decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
        Self { decoder, over: false }
    }
}

impl Read for Brotli {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.over {
            let count = self.decoder.read(out)?;
            if count > 0 {
                return Ok(count);
            }
            self.over = true;
            // The second time it tells whether it read more than it needed.
            if self.decoder.read(out)? > 0 {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        let mut rest = BufReader::with_capacity(1, self.decoder.get_mut());
        nothing_follows(&mut rest).map(|()| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::io::Write;

    const TEXT: &[u8] = b"a value that stands in the reply; a value that stands in the reply\n";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        ::brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text).unwrap();
        out
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn codings(text: &str) -> Codings {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(text).unwrap());
        Codings::of(&headers).unwrap()
    }

    /// Decodes what comes in pieces of these sizes, over and over.
    fn decode(coding: &str, coded: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Broken> {
        let mut decoder = Decoder::new(&codings(coding));
        let (mut out, mut rest, mut cuts) = (Vec::new(), coded, cuts.iter().cycle());
        loop {
            match decoder.step()? {
                Step::Piece(piece) => out.extend_from_slice(piece),
                Step::Over => return Ok(out),
                Step::Hungry if rest.is_empty() => decoder.end(),
                Step::Hungry => {
                    let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    decoder.feed(Bytes::copy_from_slice(now));
                    rest = later;
                }
            }
        }
    }

    fn all(text: &[u8]) -> [(&'static str, Vec<u8>); 8] {
        [
            ("gzip", gzip(text)),
            ("x-gzip", gzip(text)),
            ("deflate", zlib(text)),
            ("deflate", bare(text)),
            ("br", brotli(text)),
            ("zstd", zstd(text)),
            ("gzip, br", brotli(&gzip(text))),
            ("zstd, deflate, gzip", gzip(&zlib(&zstd(text)))),
        ]
    }

    #[test]
    fn every_coding_is_undone_whatever_is_cut_where() {
        let long: Vec<u8> = TEXT.iter().copied().cycle().take(3 * DECODED_PIECE_BYTES).collect();
        for text in [b"", TEXT, &long] {
            for (coding, coded) in all(text) {
                for cuts in [&[1][..], &[7, 3], &[usize::MAX]] {
                    assert_eq!(decode(coding, &coded, cuts).as_deref(), Ok(text), "{coding} {cuts:?}");
                }
            }
        }
    }

    #[test]
    fn what_the_usual_tools_make_is_undone() {
        for (coding, coded) in [
            // gzip 1.12, with the file's name in the head.
            ("gzip", "H4sICLaCCWsAA25hbWUAS8zLL8lILVIoSa0o0VFIROJxAQCy/N1zGwAAAA=="),
            // zstd 1.5.4, with a checksum and without.
            ("zstd", "KLUv/SQbrQAAeGFub3RoZXIgdGV4dCwgCgEAwU0lYz53nA=="),
            ("zstd", "KLUv/SAbrQAAeGFub3RoZXIgdGV4dCwgCgEAwU0l"),
        ] {
            let coded = BASE64.decode(coded.as_bytes()).unwrap();
            assert_eq!(decode(coding, &coded, &[3]).as_deref(), Ok(&b"another text, another text\n"[..]), "{coding}");
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let twice = [TEXT, TEXT].concat();
        assert_eq!(decode("gzip", &[gzip(TEXT), gzip(TEXT)].concat(), &[5]).as_deref(), Ok(&twice[..]));
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let frames = [skipped.clone(), zstd(TEXT), skipped, zstd(TEXT)].concat();
        for cuts in [1, 1000] {
            assert_eq!(decode("zstd", &frames, &[cuts]).as_deref(), Ok(&twice[..]));
        }
    }

    #[test]
    fn what_ends_early_or_goes_on_is_broken() {
        for (coding, coded) in all(TEXT) {
            for end in 1..coded.len() {
                let result = decode(coding, &coded[..end], &[9]);
                // brotli's reader tells no difference.
                let cut = if coding.contains("br") { Broken::Damaged } else { Broken::CutShort };
                assert_eq!(result, Err(cut), "{coding} without {} bytes", coded.len() - end);
            }
            for more in [&b"\0"[..], b"swordfish", TEXT] {
                for cuts in [3, 1000] {
                    let result = decode(coding, &[&coded, more].concat(), &[cuts]);
                    assert!(
                        matches!(result, Err(Broken::Damaged | Broken::CutShort)),
                        "{coding} and {more:?}: {result:?}"
                    );
                }
            }
        }
        assert_eq!(decode("gzip", TEXT, &[1000]), Err(Broken::Damaged));
        assert_eq!(decode("zstd", TEXT, &[1000]), Err(Broken::Damaged));
    }

    #[test]
    fn a_checksum_that_is_wrong_is_damage() {
        for (coding, mut coded) in [("gzip", gzip(TEXT)), ("deflate", zlib(TEXT)), ("zstd", zstd(TEXT))] {
            let last = coded.len() - if coding == "gzip" { 5 } else { 1 };
            coded[last] ^= 1;
            assert_eq!(decode(coding, &coded, &[1000]), Err(Broken::Damaged), "{coding}");
        }
    }

    /// How much a decoder makes of zeros without end, and how it ends.
    fn bomb(coding: &str, coded: &[u8]) -> (u64, Broken) {
        let mut decoder = Decoder::new(&codings(coding));
        decoder.feed(Bytes::copy_from_slice(coded));
        decoder.end();
        let mut made = 0;
        loop {
            match decoder.step() {
                Ok(Step::Piece(piece)) => {
                    assert!(piece.len() <= DECODED_PIECE_BYTES);
                    made += piece.len() as u64;
                }
                Ok(other) => panic!("{coding}: {other:?} after {made}"),
                Err(broken) => return (made, broken),
            }
        }
    }

    #[test]
    fn what_unpacks_to_far_too_much_is_ended() {
        let zeros = vec![0; 5 * usize::try_from(DECODED_FREE_BYTES).unwrap() / 4];
        let packed =
            [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("br", brotli(&zeros)), ("zstd", zstd(&zeros))];
        for (coding, coded) in packed {
            let (made, broken) = bomb(coding, &coded);
            assert_eq!(broken, Broken::TooLarge, "{coding}");
            let allowed = DECODED_FREE_BYTES.max(coded.len() as u64 * MAX_DECODED_RATIO);
            assert!(made <= allowed, "{coding}: {made}");
        }
        // The layer in between is the bomb, and what it makes is worth nothing above.
        let blocks = [0x5a, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff];
        let nothing: Vec<u8> = blocks.into_iter().chain(zeros).collect();
        assert_eq!(bomb("zstd, gzip", &gzip(&nothing)), (0, Broken::TooLarge));
    }

    #[test]
    fn windows_beyond_what_the_coding_needs_are_refused() {
        // A zstd frame that asks for 16 MiB, and one of a dictionary that nobody has.
        assert_eq!(decode("zstd", &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 1, 0, 0], &[100]), Err(Broken::Damaged));
        assert_eq!(decode("zstd", &[0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x50, 7, 1, 0, 0], &[100]), Err(Broken::Damaged));
        // The large windows of brotli.
        assert_eq!(decode("br", &[0x11, 30, 0, 0, 0, 3], &[100]), Err(Broken::Damaged));
        // A name without an end.
        let name = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'a'; 1 << 16]].concat();
        assert_eq!(decode("gzip", &name, &[100]), Err(Broken::Damaged));
    }

    #[test]
    fn what_is_made_is_handed_out_before_more_comes() {
        // Flushed in the middle, as a server does after an event.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(TEXT).unwrap();
        encoder.flush().unwrap();
        let mut decoder = Decoder::new(&codings("gzip"));
        decoder.feed(Bytes::copy_from_slice(encoder.get_ref()));
        assert_eq!(decoder.step(), Ok(Step::Piece(TEXT)));
        assert_eq!(decoder.step(), Ok(Step::Hungry));
        // More than a piece, of which the input was taken at once.
        let long = vec![b'a'; 3 * DECODED_PIECE_BYTES];
        encoder.write_all(&long).unwrap();
        let before = encoder.get_ref().len();
        encoder.flush().unwrap();
        decoder.feed(Bytes::copy_from_slice(&encoder.get_ref()[before..]));
        let mut made = 0;
        while let Step::Piece(piece) = decoder.step().unwrap() {
            made += piece.len();
        }
        assert_eq!(made, long.len());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(
            coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", "br, gzip"]),
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = decode(coding, &bytes, &[13]);
        }

        #[test]
        fn a_changed_byte_ends_without_a_panic(
            which in 0_usize..8,
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
        ) {
            let (coding, mut coded) = all(TEXT)[which].clone();
            let at = at.index(coded.len());
            coded[at] = to;
            let _ = decode(coding, &coded, &[13]);
        }
    }
}
