//! The head of a WebSocket frame (RFC 6455 §5.2), and masking.

use crate::limits::MAX_FRAME_BYTES;

/// Longest head: two bytes, an eight-byte length, a masking key.
pub(crate) const MAX_HEAD_BYTES: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
pub(crate) const MAX_CONTROL_BYTES: u64 = 125;

/// What a frame is (RFC 6455 §11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// Why a connection is ended; each has its status code (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The other side is gone, or nothing came for too long.
    GoingAway,
    /// Frames that the protocol does not allow.
    Protocol,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A placeholder toward a host that its secret is not bound to.
    Policy,
    /// A frame beyond [`MAX_FRAME_BYTES`].
    TooBig,
    /// The owner took the right to it back.
    TakenBack,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) last: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub(crate) length: u64,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| opcode.bits() == bits)
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether frames of this kind may stand between the fragments of a message.
    pub(crate) const fn control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Fault {
    /// The status code that the close frame carries.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::Policy | Self::TakenBack => 1008,
            Self::TooBig => 1009,
        }
    }

    /// What the close frame says beside the code.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "oauth3: the other side is gone or silent",
            Self::Protocol => "oauth3: not a frame that RFC 6455 allows here",
            Self::NotUtf8 => "oauth3: text that is not UTF-8",
            Self::Policy => "oauth3: the placeholder of a secret that is not bound to this host",
            Self::TooBig => "oauth3: the frame is too large",
            Self::TakenBack => "oauth3: the owner took the right to this back",
        }
    }
}

impl Head {
    /// Reads a head from the beginning of `bytes`, and its length; `None` while it is not there as a whole.
    ///
    /// # Errors
    /// Reserved bits and opcodes, control frames that are long or in fragments, lengths in more bytes than they
    /// need or beyond [`MAX_FRAME_BYTES`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = Opcode::of(first & 0x0F).filter(|_| first & 0x70 == 0).ok_or(Fault::Protocol)?;
        let last = first & 0x80 != 0;
        let short = u64::from(second & 0x7F);
        if opcode.control() && (!last || short > MAX_CONTROL_BYTES) {
            return Err(Fault::Protocol);
        }
        let (length, least, rest) = match short {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), 126, rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                (u64::from_be_bytes(*length), 1 << 16, rest)
            }
            short => (short, 0, rest),
        };
        if length < least || length >> 63 != 0 {
            return Err(Fault::Protocol);
        }
        if length > MAX_FRAME_BYTES {
            return Err(Fault::TooBig);
        }
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (Some(*mask), rest)
        };
        Ok(Some((Self { last, opcode, mask, length }, bytes.len() - rest.len())))
    }

    /// Appends the head as it goes over the wire.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(if self.last { 0x80 } else { 0 } | self.opcode.bits());
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(short @ ..126), _) => out.push(masked | short),
            (_, Ok(middle)) => {
                out.push(masked | 126);
                out.extend_from_slice(&middle.to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], |key| &key[..]));
    }
}

/// Masks or unmasks a piece of payload that begins `at` bytes after the payload's begin (RFC 6455 §5.3).
pub(crate) fn mask(piece: &mut [u8], mut key: [u8; 4], at: u64) {
    key.rotate_left((at % 4) as usize);
    let wide = (u64::from(u32::from_ne_bytes(key)) << 32) | u64::from(u32::from_ne_bytes(key));
    let mut words = piece.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_protocol_does_not_allow_is_refused() {
        let cases: [(&[u8], Fault); 9] = [
            (&[0xC1, 0x00], Fault::Protocol),
            (&[0xA1, 0x00], Fault::Protocol),
            (&[0x91, 0x00], Fault::Protocol),
            (&[0x83, 0x00], Fault::Protocol),
            (&[0x8B, 0x00], Fault::Protocol),
            (&[0x09, 0x00], Fault::Protocol),
            (&[0x88, 126, 0, 126], Fault::Protocol),
            (&[0x82, 126, 0, 125], Fault::Protocol),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Fault::Protocol),
        ];
        for (bytes, fault) in cases {
            assert_eq!(Head::parse(bytes), Err(fault), "{bytes:?}");
        }
        assert_eq!(Head::parse(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(Fault::Protocol));
        assert_eq!(Head::parse(&[0x82, 127, 0x7F, 0, 0, 0, 0, 0, 0, 0]), Err(Fault::TooBig));
    }

    proptest! {
        #[test]
        fn a_head_reads_as_it_was_written(
            last: bool,
            kind in 0_usize..6,
            key: Option<[u8; 4]>,
            length in prop_oneof![0..130_u64, 65_530..65_540_u64, 0..=MAX_FRAME_BYTES],
        ) {
            let opcode = [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong][kind];
            let (last, length) = if opcode.control() { (true, length % 126) } else { (last, length) };
            let head = Head { last, opcode, mask: key, length };
            let mut bytes = Vec::new();
            head.write(&mut bytes);
            prop_assert!(bytes.len() <= MAX_HEAD_BYTES);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Head::parse(&bytes[..cut]), Ok(None));
            }
            let whole = bytes.len();
            bytes.push(7);
            prop_assert_eq!(Head::parse(&bytes), Ok(Some((head, whole))));
        }

        #[test]
        fn masking_in_pieces_is_masking(mut data: Vec<u8>, key: [u8; 4], cut in 0_usize..64) {
            let expected: Vec<u8> = data.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let cut = cut.min(data.len());
            let (one, two) = data.split_at_mut(cut);
            mask(one, key, 0);
            mask(two, key, cut as u64);
            prop_assert_eq!(data, expected);
        }

        #[test]
        fn any_bytes_are_a_head_or_a_fault(bytes: Vec<u8>) {
            let _ = Head::parse(&bytes);
        }
    }
}
