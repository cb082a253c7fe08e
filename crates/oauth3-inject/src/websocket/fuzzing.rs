//! What fuzzing holds the frames of WebSockets to.

use super::frame::{Fault, Head, Opcode, mask};
use super::pipe::{Inspect, Pipe, Side};

/// Lets everything pass, a byte late, as one that looks for values does.
#[derive(Default)]
struct Late(Option<u8>);

impl Inspect for Late {
    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        for byte in piece {
            out.extend(self.0.replace(*byte));
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.extend(self.0.take());
        Ok(())
    }

    fn control(&mut self, _: &mut Vec<u8>) -> Result<(), Fault> {
        Ok(())
    }
}

/// The first byte chooses a direction, the second the size of pieces, the rest is what comes.
///
/// # Panics
/// When pieces make a difference, or what leaves is refused where it would come.
pub(crate) fn fuzz(data: &[u8]) {
    let [side, cut, wire @ ..] = data else { return };
    let side = if side % 2 == 0 { Side::Code } else { Side::Host };
    let (whole, fault) = passed(side, wire, wire.len());
    let (pieces, fault_of_pieces) = passed(side, wire, usize::from(*cut) + 1);
    assert_eq!(fault, fault_of_pieces);
    assert_eq!(read(&whole), read(&pieces));
    // Twice is once: what left is what would be let through.
    let (again, refused) = passed(side, &whole, whole.len());
    assert_eq!(refused, None);
    let finished = |wire: &[u8]| {
        let (controls, messages) = read(wire);
        (controls, messages.into_iter().filter(|(_, _, last)| *last).collect::<Vec<_>>())
    };
    assert_eq!(finished(&again), finished(&whole));
}

fn passed(side: Side, wire: &[u8], size: usize) -> (Vec<u8>, Option<Fault>) {
    let (mut pipe, mut out) = (Pipe::new(side, Late::default()), Vec::new());
    let fault = wire.chunks(size.max(1)).find_map(|piece| pipe.push(piece, &mut out).err());
    (out, fault)
}

/// What it is, its payload, and whether it is over.
type Item = (Opcode, Vec<u8>, bool);

/// Control frames by themselves, and messages as they are so far; whatever fragments they came in.
fn read(mut rest: &[u8]) -> (Vec<Item>, Vec<Item>) {
    let (mut controls, mut messages) = (Vec::new(), Vec::<Item>::new());
    while let Ok(Some((head, length))) = Head::parse(rest) {
        let size = usize::try_from(head.length).unwrap_or(usize::MAX);
        let Some((payload, next)) = rest.get(length..).and_then(|rest| rest.split_at_checked(size)) else { break };
        let mut payload = payload.to_vec();
        head.mask.into_iter().for_each(|key| mask(&mut payload, key, 0));
        rest = next;
        match (head.opcode.control(), messages.last_mut()) {
            (true, _) => controls.push((head.opcode, payload, true)),
            (false, Some((_, so_far, last @ false))) => {
                so_far.extend(payload);
                *last = head.last;
            }
            (false, _) => messages.push((head.opcode, payload, head.last)),
        }
    }
    assert!(rest.is_empty(), "half a frame left");
    (controls, messages)
}
