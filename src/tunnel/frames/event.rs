//! What a follower tells of the frames it passes over.

use crate::tunnel::close::CloseCode;
use crate::tunnel::inject::Token;

/// Whose frames they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Its frames are masked (RFC 6455 §5.1).
    Client,
    /// Its frames are not.
    Backend,
}

/// How far [`next`](super::Follower::next) came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes passed over; they may be forwarded, all of them.
    pub(crate) taken: usize,
    /// What stands behind those bytes; none when more bytes are needed.
    pub(crate) event: Option<Event>,
}

/// Each but [`Event::Message`] is given at a frame boundary, before any byte of the frame it is
/// about is taken. Going on with [`next`](super::Follower::next) lets the frame pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A frame of a text or binary message.
    Data(DataFrame),
    /// The message's last byte is taken.
    Message(Message),
    Ping,
    /// The payload, unmasked, if it is as long as that of a ping of ours. Then all of the frame is
    /// in the bytes, and [`withhold`](super::Follower::withhold) leaves it out.
    Pong(Option<Token>),
    /// [`CloseCode::NONE`] when it carries no code.
    Close(CloseCode),
    /// The framing is broken here; nothing is followed from now on.
    Broken(Violation),
}

/// A frame of a message, as its header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataFrame {
    /// A message begins.
    pub(crate) first: bool,
    /// The message ends with this frame.
    pub(crate) last: bool,
    /// Payload bytes of this frame.
    pub(crate) announced: u64,
    /// Payload bytes of the message up to the end of this frame, as they stand on the wire.
    pub(crate) message: u64,
}

/// A message that was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// RSV1 was set: compressed, under permessage-deflate.
    pub(crate) compressed: bool,
    /// Payload bytes on the wire, over all fragments.
    pub(crate) bytes: u64,
}

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

/// Where a direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Between frames, maybe between fragments: a control frame may stand here.
    Boundary,
    /// Inside a frame; the boundary comes after `left` bytes.
    Inside { left: u64 },
    /// Behind the Close frame; nothing may be added.
    Closed,
    /// Not a WebSocket, or broken.
    Opaque,
}

/// What is wrong with a frame's header, or with a Close frame's code. Of several, the first in the
/// order of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    ReservedOpcode,
    /// RSV bits no extension allows here.
    ReservedBits,
    FragmentedControl,
    /// A continuation without a message to continue.
    StrayContinuation,
    /// A new message inside a fragmented one.
    Interleaved,
    /// A client's frame without a mask.
    Unmasked,
    /// A backend's frame with one.
    Masked,
    /// A control frame with more than 125 bytes of payload.
    LongControl,
    /// A length of more bytes than it needs, or above 2⁶³ − 1.
    BadLength,
    /// A Close frame with one byte of payload, or a code that must not be there.
    BadClose,
}
