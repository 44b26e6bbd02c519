//! Where a chunked body ends (RFC 9112 §7.1), followed without copying it. Stricter than the RFC:
//! extensions and odd line ends are refused, because parsers disagree about them.

use crate::policy::head::BadHead;

/// How far into a chunked body the bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// In a size line: digits so far, and their value.
    Size {
        digits: u8,
        value: u64,
    },
    /// The LF of a size line is due.
    SizeEnd(u64),
    /// In the data of a chunk.
    Data(u64),
    /// The CR, then the LF, behind the data.
    DataCr,
    DataLf,
    /// In the trailer section: bytes so far, bytes of this line, whether a CR was the last.
    Trailer {
        total: u16,
        line: u16,
        cr: bool,
    },
    /// Behind the last byte of the body.
    Done,
}

impl Chunked {
    pub(crate) const START: Self = Self::Size { digits: 0, value: 0 };

    /// Follows `bytes` and returns how many of them belong to the body.
    ///
    /// # Errors
    /// At the first byte that cannot be in a chunked body.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, BadHead> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Done {
            if let Self::Data(left) = *self {
                let here = left.min((bytes.len() - at) as u64);
                at += usize::try_from(here).unwrap_or(usize::MAX);
                *self = if left == here { Self::DataCr } else { Self::Data(left - here) };
            } else {
                *self = self.step(bytes[at]).ok_or(BAD)?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Size { digits, value }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = char::from(byte).to_digit(16)?;
                Some(Self::Size { digits: digits + 1, value: value << 4 | u64::from(digit) })
            }
            (Self::Size { digits: 1.., value }, b'\r') => Some(Self::SizeEnd(value)),
            (Self::SizeEnd(0), b'\n') => Some(Self::Trailer { total: 0, line: 0, cr: false }),
            (Self::SizeEnd(size), b'\n') => Some(Self::Data(size)),
            (Self::DataCr, b'\r') => Some(Self::DataLf),
            (Self::DataLf, b'\n') => Some(Self::START),
            (Self::Trailer { line: 0, cr: true, .. }, b'\n') => Some(Self::Done),
            (Self::Trailer { total, cr: true, .. }, b'\n') => {
                Some(Self::Trailer { total, line: 0, cr: false })
            }
            (Self::Trailer { total, line, cr: false }, b'\r') => {
                Some(Self::Trailer { total, line, cr: true })
            }
            (Self::Trailer { total, line, cr: false }, _)
                if byte != b'\n' && total < TRAILER_BYTES_MAX =>
            {
                Some(Self::Trailer { total: total + 1, line: line + 1, cr: false })
            }
            _ => None,
        }
    }
}

const BAD: BadHead = BadHead::Malformed("the chunked body is broken");

/// Trailers are dropped at the gate; this bounds what is read of them.
const TRAILER_BYTES_MAX: u16 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_ends_where_it_ends() {
        let cases: [(&[u8], usize); 4] = [
            (b"0\r\n\r\nGET", 5),
            (b"3\r\nabc\r\n0\r\n\r\nGET", 13),
            (b"A\r\n0123456789\r\n00\r\n\r\nX", 21),
            (b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\nX", 23),
        ];
        for (bytes, length) in cases {
            let mut whole = Chunked::START;
            assert_eq!(whole.follow(bytes), Ok(length));
            assert_eq!(whole, Chunked::Done);
            let mut pieces = Chunked::START;
            let each: usize = bytes.chunks(1).map(|byte| pieces.follow(byte).unwrap()).sum();
            assert_eq!((each, pieces), (length, Chunked::Done));
        }
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        let cases: [&[u8]; 11] = [
            b"\r\n",
            b"3;ext=1\r\nabc",
            b"3 \r\nabc",
            b" 3\r\nabc",
            b"+3\r\nabc",
            b"0x3\r\nabc",
            b"3\nabc",
            b"3\r\nabcd",
            b"3\r\nabc\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nA: b\n\r\n",
        ];
        for bytes in cases {
            let mut start = Chunked::START;
            assert!(start.follow(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
