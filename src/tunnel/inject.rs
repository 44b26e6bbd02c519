//! The control frames the gate puts between others' frames, built in place: Close and Ping.

use crate::tunnel::close::CloseCode;

/// What a ping of the gate's own carries, and the pong to it brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) [u8; Token::LEN]);

impl Token {
    /// Bytes.
    pub(crate) const LEN: usize = 8;
}

/// A whole control frame, ready to be written.
#[derive(Clone, Copy)]
pub(crate) struct ControlFrame {
    bytes: [u8; FRAME_MAX],
    len: usize,
}

impl ControlFrame {
    /// A Close frame. Towards a backend `mask` is a fresh random key, towards a client it is absent
    /// (RFC 6455 §5.1).
    ///
    /// A code that must not be sent leaves the payload empty. `reason` is cut to the longest prefix
    /// of whole characters that 123 bytes hold.
    pub(crate) fn close(code: CloseCode, reason: &str, mask: Option<[u8; 4]>) -> Self {
        match code.to_send() {
            Some(code) => {
                let reason = &reason[..reason.floor_char_boundary(REASON_MAX)];
                Self::build(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()], mask)
            }
            None => Self::build(CLOSE, &[], mask),
        }
    }

    /// A Ping frame; `mask` as for [`ControlFrame::close`].
    pub(crate) fn ping(token: Token, mask: Option<[u8; 4]>) -> Self {
        Self::build(PING, &[&token.0], mask)
    }

    /// The frame, at most 131 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The parts together are at most 125 bytes.
    fn build(opcode: u8, parts: &[&[u8]], mask: Option<[u8; 4]>) -> Self {
        let mut frame = Self { bytes: [0; FRAME_MAX], len: 0 };
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let length = u8::try_from(payload).expect("a control frame's payload is at most 125 bytes");
        frame.push(&[FIN | opcode, length | if mask.is_some() { MASKED } else { 0 }]);
        frame.push(mask.as_ref().map_or(&[], |key| &key[..]));
        let start = frame.len;
        for part in parts {
            frame.push(part);
        }
        if let Some(key) = mask {
            for (byte, key) in frame.bytes[start..].iter_mut().zip(key.iter().cycle()) {
                *byte ^= key;
            }
        }
        frame
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..][..part.len()].copy_from_slice(part);
        self.len += part.len();
    }
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
/// RFC 6455 §5.5: a control frame carries at most 125 bytes, of which the code takes two.
const REASON_MAX: usize = 123;
/// Header, key and payload.
const FRAME_MAX: usize = 2 + 4 + 125;

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

    use super::*;

    /// What a peer in `role` makes of the frame.
    fn received(frame: &ControlFrame, role: Role) -> Message {
        struct Peer<'a>(&'a [u8]);
        impl Read for Peer<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for Peer<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut peer = Peer(frame.as_bytes());
        let message = WebSocketContext::new(role, None).read(&mut peer).unwrap();
        assert_eq!(peer.0, b"", "nothing stands behind the frame");
        message
    }

    /// Towards a backend, then towards a client.
    fn both_ways(key: [u8; 4]) -> [(Option<[u8; 4]>, Role); 2] {
        [(Some(key), Role::Server), (None, Role::Client)]
    }

    #[test]
    fn frames_are_what_the_rfc_draws() {
        let close = ControlFrame::close(CloseCode::GOING_AWAY, "bye", None);
        assert_eq!(close.as_bytes(), b"\x88\x05\x03\xe9bye");
        let ping = ControlFrame::ping(Token(*b"abcdefgh"), Some([1, 0, 0, 2]));
        assert_eq!(ping.as_bytes(), b"\x89\x88\x01\0\0\x02\x60bcf\x64fgj");
    }

    #[test]
    fn a_code_that_must_not_be_sent_leaves_an_empty_close() {
        for code in [CloseCode::NONE, CloseCode::ABNORMAL] {
            for (mask, role) in both_ways([7; 4]) {
                let frame = ControlFrame::close(code, "unsaid", mask);
                assert_eq!(received(&frame, role), Message::Close(None));
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        for (reason, kept) in
            [("x".repeat(123), 123), ("x".repeat(124), 123), ("é".repeat(80), 122)]
        {
            let frame = ControlFrame::close(CloseCode::POLICY, &reason, None);
            let Message::Close(Some(close)) = received(&frame, Role::Client) else {
                panic!("no Close");
            };
            assert_eq!(close.reason.as_str(), &reason[..kept]);
        }
    }

    proptest! {
        #[test]
        fn peers_read_what_was_meant(code in 0..=u16::MAX, reason in ".{0,60}", token: [u8; 8], key: [u8; 4]) {
            for (mask, role) in both_ways(key) {
                let ping = ControlFrame::ping(Token(token), mask);
                prop_assert_eq!(received(&ping, role), Message::Ping(token.to_vec().into()));
                if let Some(code) = CloseCode::on_the_wire(code) {
                    let close = ControlFrame::close(code, &reason, mask);
                    let Message::Close(Some(close)) = received(&close, role) else {
                        panic!("no Close with a code");
                    };
                    prop_assert_eq!(u16::from(close.code), code.get());
                    prop_assert!(reason.starts_with(close.reason.as_str()));
                    prop_assert!(close.reason.len() == reason.len() || close.reason.len() > 119);
                }
            }
        }
    }
}
