//! Frames of RFC 6455 §5, written and read by hand.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::backend::{Backend, Conversation};
use super::client::Client;
use super::soon;

/// A frame that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    pub masked: bool,
    /// Unmasked.
    pub payload: Vec<u8>,
}

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

impl Frame {
    /// The code of a Close frame; `None` when there is none in it.
    pub fn code(&self) -> Option<u16> {
        assert_eq!(self.first, CLOSE, "{self:?}");
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

/// A frame as a backend sends it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&header(first, payload.len(), 0), payload].concat()
}

/// A frame as a client sends it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What a backend's frame begins with.
pub fn header(first: u8, payload: usize, mask_bit: u8) -> Vec<u8> {
    let short = u8::try_from(payload).ok().filter(|length| *length < 126);
    match (short, u16::try_from(payload)) {
        (Some(length), _) => vec![first, mask_bit | length],
        (None, Ok(length)) => [&[first, mask_bit | 126][..], &length.to_be_bytes()].concat(),
        (None, Err(_)) => [&[first, mask_bit | 127][..], &(payload as u64).to_be_bytes()].concat(),
    }
}

/// The payload of a Close frame.
pub fn code(code: u16) -> [u8; 2] {
    code.to_be_bytes()
}

impl Client {
    /// Reads one frame.
    pub async fn frame(&mut self) -> Frame {
        soon("a frame", read(&mut self.stream, &mut self.early)).await.expect("a frame, no end")
    }
}

impl Conversation {
    /// Reads one frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        read(&mut self.stream, &mut self.early).await
    }

    /// Answers 101.
    pub async fn switch(&mut self) {
        let answer = self.switching("");
        self.send(answer).await;
    }

    /// Sends messages back as they came, answers a Close frame with its own, and ends.
    pub async fn echo_frames(mut self) {
        while let Some(frame) = self.frame().await {
            let first = if frame.first == PING { PONG } else { frame.first };
            self.send(unmasked(first, &frame.payload)).await;
            if first == CLOSE {
                return;
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin), early: &mut Vec<u8>) -> Option<Frame> {
    loop {
        if let Some((frame, length)) = parse(early) {
            early.drain(..length);
            return Some(frame);
        }
        if !matches!(stream.read_buf(early).await, Ok(1..)) {
            return None;
        }
    }
}

/// The frame that `bytes` begin with, and its length, when it is whole.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).unwrap(), rest)
        }
        short => (usize::from(short), rest),
    };
    let masked = second & 0x80 != 0;
    let (key, rest) = if masked { rest.split_at_checked(4)? } else { (&[0][..], rest) };
    let payload = rest.get(..length)?;
    let payload = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let whole = bytes.len() - rest.len() + length;
    Some((Frame { first, masked, payload }, whole))
}

impl Backend {
    /// A backend that answers 101 and hands each conversation to the test.
    pub async fn handing_over() -> (Self, UnboundedReceiver<Conversation>) {
        let (hand, conversations) = unbounded_channel();
        let backend = Self::start(move |mut talk| {
            let hand = hand.clone();
            async move {
                talk.switch().await;
                let _ = hand.send(talk);
            }
        })
        .await;
        (backend, conversations)
    }
}
