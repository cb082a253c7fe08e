//! Reads a few known places of a JSON text as its bytes pass, in any pieces, in constant memory.
//!
//! A real parser, not a search: text inside a string can never pass for a key. What is watched is said by a
//! [`Node`] type: which place of the text a key or an item leads to.

/// Deepest nesting that is followed, as in serde_json; deeper text is refused, so that no stack overflows anywhere.
pub(crate) const MAX_DEPTH: usize = 127;
/// Longest key that is compared, in bytes after unescaping; the keys that anybody watches are shorter.
const MAX_KEY_BYTES: usize = 64;
/// Longest text or number that is handed out, in bytes after unescaping; of longer ones only the length is.
pub(crate) const MAX_TEXT_BYTES: usize = 256;

/// Words of eight bytes in which the end of a string is looked for one by one.
const SHORT_WORDS: usize = 4;

/// The key that stands for one that is no Unicode.
pub(crate) const NO_UNICODE: &[u8] = "\u{fffd}".as_bytes();

/// A place in a JSON text.
pub(crate) trait Node: Copy + PartialEq {
    /// The whole text.
    const ROOT: Self;
    /// Every place that nobody watches; nothing below it is watched either.
    const NONE: Self;
    /// Where a key leads, or, without one, the items of an array. The bytes of a key are what was written, as far as it
    /// is Unicode by its escapes.
    fn step(self, key: Option<&[u8]>) -> Self;
}

/// What stands at a watched place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Found<'a> {
    /// A string: its text unless it is too long or no Unicode, and its length as written, in bytes.
    Text(Option<&'a str>, u64),
    /// A number as written, if not too long.
    Number(Option<&'a str>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An object begins.
    Object,
    /// An array begins.
    Array,
}

/// Why a text is not followed further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Not JSON, from this byte on.
    Syntax(u64),
    /// Nested deeper than [`MAX_DEPTH`].
    Deep,
}

/// One byte, for it is looked at for each of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// A value must come.
    Value,
    /// After `[`: a value or the end.
    FirstItem,
    /// After `{`: a key or the end.
    FirstKey,
    /// After `,` in an object.
    Key,
    Colon,
    /// After a value.
    After,
    /// Inside a string.
    Text,
    /// After a backslash.
    Escape,
    /// In the digits after `\u`.
    Unicode,
    Number,
    /// In one of the three words.
    True,
    False,
    Null,
}

/// The reader. `N` says what is watched.
#[derive(Debug)]
pub(crate) struct Scanner<N> {
    state: State,
    /// The open containers: where each is, and whether it is an object.
    open: Vec<(N, bool)>,
    /// Where the next value is.
    here: N,
    /// The text that is being read is a key.
    is_key: bool,
    /// The text or number that is being read, if anybody wants it.
    kept: Vec<u8>,
    keep: bool,
    /// More came than is kept.
    long: bool,
    /// It is no Unicode: half a pair of surrogates.
    spoilt: bool,
    /// The first half of a pair of surrogates.
    high: Option<u16>,
    /// Digits after `\u` so far, and their value.
    digits: (u8, u16),
    /// Bytes of one of the three words so far.
    matched: usize,
    /// Bytes of the text as written.
    length: u64,
    /// Bytes read before the current piece.
    read: u64,
    broken: Option<Broken>,
    /// Whether more values may follow the first, one a line.
    many: bool,
}

impl<N: Node> Scanner<N> {
    /// For one text; with `many`, for any number after another.
    pub(crate) fn new(many: bool) -> Self {
        Self {
            state: State::Value,
            open: Vec::new(),
            here: N::ROOT,
            is_key: false,
            kept: Vec::new(),
            keep: false,
            long: false,
            spoilt: false,
            high: None,
            digits: (0, 0),
            matched: 0,
            length: 0,
            read: 0,
            broken: None,
            many,
        }
    }

    /// Forgets what it was in; the next byte begins a text.
    pub(crate) fn reset(&mut self) {
        self.state = State::Value;
        self.open.clear();
        self.here = N::ROOT;
        self.high = None;
        self.broken = None;
    }

    /// Reads on. Each watched place is told as it is met.
    ///
    /// # Errors
    /// When this is no JSON; from then on every piece is the same error until [`Scanner::reset`].
    pub(crate) fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(N, Found<'_>)) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            let consumed = match self.state {
                State::Text => self.plain(rest, &mut tell),
                State::Number => self.digits(rest, &mut tell),
                _ => self.byte(byte, &mut tell).map(|()| 1),
            };
            match consumed {
                Ok(1) => rest = tail,
                Ok(many) => rest = rest.get(many..).unwrap_or_default(),
                Err(deep) => {
                    let at = self.read + (bytes.len() - rest.len()) as u64;
                    let broken = if deep { Broken::Deep } else { Broken::Syntax(at) };
                    self.broken = Some(broken);
                    return Err(broken);
                }
            }
        }
        self.read += bytes.len() as u64;
        Ok(())
    }

    /// The text is over.
    ///
    /// # Errors
    /// When it was no whole text.
    pub(crate) fn end(&mut self, mut tell: impl FnMut(N, Found<'_>)) -> Result<(), Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let ended = self.state != State::Number || self.number(&mut tell).is_ok();
        let whole = self.open.is_empty() && self.state == State::After;
        if ended && whole { Ok(()) } else { Err(Broken::Syntax(self.read)) }
    }

    /// Inside a string: everything up to the next byte that means something. How many bytes that was.
    fn plain(&mut self, rest: &[u8], tell: &mut impl FnMut(N, Found<'_>)) -> Result<usize, bool> {
        let (run, after) = rest.split_at(plain_run(rest));
        self.length += run.len() as u64;
        if !run.is_empty() {
            self.lone_half();
        }
        if after.first() == Some(&b'"') {
            if self.kept.is_empty() {
                // It stands there as a whole, and is read where it is.
                self.text_ends(run, tell);
            } else {
                self.keep(run);
                let kept = std::mem::take(&mut self.kept);
                self.text_ends(&kept, tell);
                self.kept = kept;
            }
            return Ok(run.len() + 1);
        }
        self.keep(run);
        match after.first() {
            None => return Ok(run.len()),
            Some(b'\\') => self.state = State::Escape,
            Some(_) if run.is_empty() => return Err(false),
            Some(_) => return Ok(run.len()),
        }
        Ok(run.len() + 1)
    }

    /// Inside a number: everything up to the byte that ends it, which is looked at anew.
    fn digits(&mut self, rest: &[u8], tell: &mut impl FnMut(N, Found<'_>)) -> Result<usize, bool> {
        let other = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let (run, after) = rest.split_at(rest.iter().position(other).unwrap_or(rest.len()));
        self.keep(run);
        if !after.is_empty() {
            self.number(tell)?;
        }
        Ok(run.len())
    }

    /// One byte outside of numbers and the plain part of strings.
    fn byte(&mut self, byte: u8, tell: &mut impl FnMut(N, Found<'_>)) -> Result<(), bool> {
        match self.state {
            State::Text | State::Number => return Err(false), // See `push`.
            State::Escape => self.escape(byte)?,
            State::Unicode => self.unicode(byte)?,
            State::True => self.word(byte, b"true", Found::Bool(true), tell)?,
            State::False => self.word(byte, b"false", Found::Bool(false), tell)?,
            State::Null => self.word(byte, b"null", Found::Null, tell)?,
            State::Colon if byte == b':' => self.state = State::Value,
            State::FirstKey if byte == b'}' => self.close(),
            State::FirstItem if byte == b']' => self.close(),
            State::FirstKey | State::Key if byte == b'"' => {
                let watched = self.open.last().is_some_and(|(node, _)| *node != N::NONE);
                self.text_begins(true, watched);
            }
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => {}
            State::Value | State::FirstItem => self.value(byte, tell)?,
            State::After => self.after(byte, tell)?,
            _ => return Err(false),
        }
        Ok(())
    }

    /// The next byte of one of the three words, and what the whole of it means.
    fn word(
        &mut self,
        byte: u8,
        word: &[u8],
        means: Found<'_>,
        tell: &mut impl FnMut(N, Found<'_>),
    ) -> Result<(), bool> {
        if word.get(self.matched) != Some(&byte) {
            return Err(false);
        }
        self.matched += 1;
        if self.matched == word.len() {
            self.tell(means, tell);
            self.state = State::After;
        }
        Ok(())
    }

    fn value(&mut self, byte: u8, tell: &mut impl FnMut(N, Found<'_>)) -> Result<(), bool> {
        match byte {
            b'{' => self.begin(true, tell)?,
            b'[' => self.begin(false, tell)?,
            b'"' => self.text_begins(false, self.here != N::NONE),
            b't' => (self.state, self.matched) = (State::True, 1),
            b'f' => (self.state, self.matched) = (State::False, 1),
            b'n' => (self.state, self.matched) = (State::Null, 1),
            b'-' | b'0'..=b'9' => {
                self.state = State::Number;
                self.kept.clear();
                (self.keep, self.long, self.spoilt) = (true, false, false);
                self.keep(&[byte]);
            }
            _ => return Err(false),
        }
        Ok(())
    }

    fn after(&mut self, byte: u8, tell: &mut impl FnMut(N, Found<'_>)) -> Result<(), bool> {
        match (self.open.last().copied(), byte) {
            (Some((_, true)), b',') => self.state = State::Key,
            (Some((_, true)), b'}') | (Some((_, false)), b']') => self.close(),
            (Some((node, false)), b',') => {
                self.state = State::Value;
                self.here = node.item();
            }
            (None, _) if self.many => {
                self.here = N::ROOT;
                self.value(byte, tell)?;
            }
            _ => return Err(false),
        }
        Ok(())
    }

    fn begin(&mut self, object: bool, tell: &mut impl FnMut(N, Found<'_>)) -> Result<(), bool> {
        if self.open.len() >= MAX_DEPTH {
            return Err(true);
        }
        self.tell(if object { Found::Object } else { Found::Array }, tell);
        self.open.push((self.here, object));
        self.state = if object { State::FirstKey } else { State::FirstItem };
        if !object {
            self.here = self.here.item();
        }
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
        self.state = State::After;
    }

    fn text_begins(&mut self, is_key: bool, keep: bool) {
        self.state = State::Text;
        self.is_key = is_key;
        self.kept.clear();
        (self.keep, self.long, self.spoilt, self.high, self.length) = (keep, false, false, None, 0);
    }

    /// `kept` is the text, up to [`MAX_TEXT_BYTES`] of it at least, if anybody wants it.
    fn text_ends(&mut self, kept: &[u8], tell: &mut impl FnMut(N, Found<'_>)) {
        self.lone_half();
        if self.is_key {
            let container = self.open.last().map_or(N::NONE, |(node, _)| *node);
            let watched = container != N::NONE && kept.len() <= MAX_KEY_BYTES;
            let key = if self.spoilt { NO_UNICODE } else { kept };
            self.here = if watched { container.step(Some(key)) } else { N::NONE };
            self.state = State::Colon;
        } else {
            let wanted = self.keep && !self.spoilt && !self.long && kept.len() <= MAX_TEXT_BYTES;
            let text = if wanted { std::str::from_utf8(kept).ok() } else { None };
            self.tell(Found::Text(text, self.length), tell);
            self.state = State::After;
        }
    }

    fn number(&mut self, tell: &mut impl FnMut(N, Found<'_>)) -> Result<(), bool> {
        let kept = std::mem::take(&mut self.kept);
        let text = std::str::from_utf8(&kept).ok().filter(|_| !self.long);
        if text.is_some_and(|text| !is_number(text)) {
            return Err(false);
        }
        self.tell(Found::Number(text), tell);
        self.kept = kept;
        self.state = State::After;
        Ok(())
    }

    fn tell(&self, found: Found<'_>, tell: &mut impl FnMut(N, Found<'_>)) {
        if self.here != N::NONE {
            tell(self.here, found);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.keep {
            let free = MAX_TEXT_BYTES - self.kept.len().min(MAX_TEXT_BYTES);
            self.long |= bytes.len() > free;
            self.kept.extend_from_slice(bytes.get(..free).unwrap_or(bytes));
        }
    }

    /// The second half of a pair did not come: the text is no Unicode.
    fn lone_half(&mut self) {
        self.spoilt |= self.high.take().is_some();
    }

    fn escape(&mut self, byte: u8) -> Result<(), bool> {
        self.length += 2;
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                (self.state, self.digits) = (State::Unicode, (0, 0));
                return Ok(());
            }
            _ => return Err(false),
        };
        self.lone_half();
        self.keep(&[meant]);
        self.state = State::Text;
        Ok(())
    }

    fn unicode(&mut self, byte: u8) -> Result<(), bool> {
        self.length += 1;
        let (digits, value) = self.digits;
        let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()).ok_or(false)?;
        let value = (value << 4) | digit;
        if digits < 3 {
            self.digits = (digits + 1, value);
            return Ok(());
        }
        self.state = State::Text;
        let pair = self.high.take();
        match (pair, value) {
            (None, 0xd800..=0xdbff) => self.high = Some(value),
            (Some(high), 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + ((u32::from(high) & 0x3ff) << 10) + (u32::from(value) & 0x3ff);
                self.keep_char(code);
            }
            (pair, _) => {
                self.spoilt |= pair.is_some();
                self.keep_char(u32::from(value));
            }
        }
        Ok(())
    }

    fn keep_char(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(char) => self.keep(char.encode_utf8(&mut [0; 4]).as_bytes()),
            None => self.spoilt = true,
        }
    }
}

/// How many bytes of a string come before the next that means something: its end, an escape, or a control character, which
/// is an error.
fn plain_run(text: &[u8]) -> usize {
    let (words, _) = text.as_chunks::<8>();
    // Most are short: a few words at once, of eight bytes each.
    for (number, word) in words.iter().take(SHORT_WORDS).enumerate() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return number * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let seen = words.len().min(SHORT_WORDS) * 8;
    let rest = text.get(seen..).unwrap_or_default();
    let run = rest.get(..memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len())).unwrap_or(rest);
    // All of them at once, as the processor likes it; which one it is, is seldom asked.
    let controls = run.iter().fold(false, |found, byte| found | (*byte < 0x20));
    let run_bytes = if controls { run.iter().position(|byte| *byte < 0x20).unwrap_or(run.len()) } else { run.len() };
    seen + run_bytes
}

/// Which of eight bytes mean something in a string: the lowest bit that is set is in the first of them.
const fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    // Below `least`, which is at most 0x80. A borrow goes upwards only, so that the first that is found is one.
    const fn below(word: u64, least: u64) -> u64 {
        word.wrapping_sub(ONES * least) & !word & TOPS
    }
    let (quote, backslash) = (word ^ (ONES * b'"' as u64), word ^ (ONES * b'\\' as u64));
    below(word, 0x20) | below(quote, 1) | below(backslash, 1)
}

/// The step to the items of an array.
trait Items: Node {
    fn item(self) -> Self {
        if self == Self::NONE { Self::NONE } else { self.step(None) }
    }
}

impl<N: Node> Items for N {}

/// RFC 8259 §6.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let text = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with('0')) {
        return false;
    }
    let mut rest = text.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix('.') {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.get(count..).unwrap_or_default();
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_the_first_byte_that_means_something() {
        let means = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
        for filler in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
            for (byte, at) in (0..=u8::MAX).flat_map(|byte| (0..50).map(move |at| (byte, at))) {
                let mut text = [filler; 60];
                // Another behind it: what is found first counts.
                (text[at], text[at + 1]) = (byte, b'"');
                let expected = text.iter().position(means);
                assert_eq!(Some(plain_run(&text)), expected, "{byte:#x} at {at} in {filler:#x}");
                assert_eq!(plain_run(&text[..at + 1]), text[..at + 1].iter().position(means).unwrap_or(at + 1));
            }
        }
    }
}
