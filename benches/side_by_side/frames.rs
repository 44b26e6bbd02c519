//! The few frames that generator and backend exchange, as bytes on the wire (RFC 6455 §5.2).

pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;

/// Payload of a bulk frame.
pub(crate) const BULK_BYTES: usize = 64 * 1024;

/// The key of every opening handshake, and what RFC 6455 §1.3 makes of it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// `1000`, as a Close frame carries it.
pub(crate) const NORMAL_CLOSURE: [u8; 2] = 1000u16.to_be_bytes();

/// A frame as backends send it.
pub(crate) fn plain(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = head(opcode, payload.len(), 0);
    wire.extend_from_slice(payload);
    wire
}

/// A frame as clients send it.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = head(opcode, payload.len(), 0x80);
    wire.extend_from_slice(&MASK);
    let start = wire.len();
    wire.extend_from_slice(payload);
    mask(&mut wire[start..]);
    wire
}

/// Masks a payload from its first byte on, or unmasks it.
pub(crate) fn mask(payload: &mut [u8]) {
    for (byte, key) in payload.iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= key;
    }
}

/// Bytes that differ from their neighbours, the same for everybody.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// Follows a stream that must repeat one sequence of bytes for ever.
pub(crate) struct Repeats {
    sequence: Vec<u8>,
    at: usize,
}

impl Repeats {
    pub(crate) fn of(sequence: Vec<u8>) -> Self {
        Self { sequence, at: 0 }
    }

    pub(crate) fn period(&self) -> usize {
        self.sequence.len()
    }

    /// Whether `bytes` continue the stream as they must.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let expected = &self.sequence[self.at..];
            let (now, later) = bytes.split_at(bytes.len().min(expected.len()));
            if now != &expected[..now.len()] {
                return false;
            }
            self.at = (self.at + now.len()) % self.sequence.len();
            bytes = later;
        }
        true
    }
}

fn head(opcode: u8, payload: usize, mask_bit: u8) -> Vec<u8> {
    let mut head = vec![0x80 | opcode];
    match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(short @ ..=125), _) => head.push(mask_bit | short),
        (_, Ok(medium)) => {
            head.push(mask_bit | 126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 127);
            head.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    head
}

/// One key for all frames: proxies do not look at payloads, and templates can be prepared.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
