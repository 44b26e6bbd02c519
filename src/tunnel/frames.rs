//! Frame headers followed through a direction of a WebSocket: RFC 6455 §5. Tells where frames begin
//! and messages end, and what the control frames say; payloads are passed over, never looked at,
//! kept or changed. What to do about it is the relay's.

mod event;
mod extensions;
mod held;

use crate::tunnel::close::CloseCode;
pub(crate) use crate::tunnel::frames::event::{
    DataFrame, Event, Kind, Message, Place, Sender, Step, Violation,
};
pub(crate) use crate::tunnel::frames::extensions::Extensions;
pub(crate) use crate::tunnel::frames::held::Held;
use crate::tunnel::inject::Token;

/// Follows one direction. State is a few words, whatever flows.
///
/// [`Follower::next`] is called in a loop, each time with the bytes not taken yet, until it gives no
/// event. Untaken bytes, at most [`Held::MAX`] of them, are then the beginning of a frame: they are
/// kept back and come again in front of what is read next. So what was forwarded always ends
/// between frames or inside a payload, never inside a header, and whatever an event announces has
/// not been forwarded yet.
///
/// Broken framing is told once; from then on everything is taken without an event, as it is behind
/// a Close frame.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Of the current frame, its header included; [`ENDLESS`] when no frame is followed any more.
    left: u64,
    /// Payload of the message so far, with all of the announced frame.
    message: u64,
    messages: u64,
    open: Option<Open>,
    ends: Ends,
    mode: Mode,
    /// The current frame is announced and no byte of it taken.
    announced: bool,
    /// The mask bit every frame of this sender has.
    mask_bit: u8,
    extensions: Extensions,
}

impl Follower {
    /// At the first byte behind the opening handshake.
    pub(crate) fn new(sender: Sender, extensions: Extensions) -> Self {
        Self {
            left: 0,
            message: 0,
            messages: 0,
            open: None,
            ends: Ends::Frame,
            mode: Mode::Following,
            announced: false,
            mask_bit: if sender == Sender::Client { MASK } else { 0 },
            extensions,
        }
    }

    /// Passes over `bytes` up to the next event.
    ///
    /// `bytes` begin with the first one not taken yet.
    #[inline]
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Step {
        let mut taken = 0;
        if self.left > 0 {
            taken = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= taken as u64;
            self.announced &= taken == 0;
            if self.left > 0 {
                return Step { taken, event: None };
            }
            match self.ends {
                Ends::Frame => {}
                Ends::Message => return Step { taken, event: self.end_message() },
                Ends::Direction => {
                    self.follow_no_more(Mode::Closed);
                    self.left -= (bytes.len() - taken) as u64;
                    return Step { taken: bytes.len(), event: None };
                }
            }
        }
        Step { taken, event: self.announce(&bytes[taken..]) }
    }

    /// Leaves out the pong just announced with its payload: the next so many bytes are not for the
    /// other side.
    pub(crate) fn withhold(&mut self) -> usize {
        debug_assert!(self.announced && self.left <= Held::MAX as u64 + 1);
        self.announced = false;
        usize::try_from(std::mem::take(&mut self.left)).unwrap_or(usize::MAX)
    }

    /// Where the taken bytes end.
    pub(crate) fn place(&self) -> Place {
        match self.mode {
            Mode::Following if self.left == 0 || self.announced => Place::Boundary,
            Mode::Following => Place::Inside { left: self.left },
            Mode::Closed => Place::Closed,
            Mode::Opaque => Place::Opaque,
        }
    }

    /// Whole messages passed over.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    fn end_message(&mut self) -> Option<Event> {
        self.ends = Ends::Frame;
        self.messages += 1;
        let Open { kind, compressed } = self.open.take()?;
        Some(Event::Message(Message { kind, compressed, bytes: self.message }))
    }

    /// What begins at this boundary, if enough is there to tell.
    #[inline]
    fn announce(&mut self, at: &[u8]) -> Option<Event> {
        match self.frame(at) {
            Ok(event) => event,
            Err(violation) => {
                self.follow_no_more(Mode::Opaque);
                Some(Event::Broken(violation))
            }
        }
    }

    #[inline]
    fn frame(&mut self, at: &[u8]) -> Result<Option<Event>, Violation> {
        let Some(&first) = at.first() else { return Ok(None) };
        self.check_first(first)?;
        let Some(&second) = at.get(1) else { return Ok(None) };
        self.check_second(first, second)?;
        if at.len() < wanted(at) {
            return Ok(None);
        }
        let (payload, header) = match second & LENGTH {
            126 => (u64::from(u16::from_be_bytes([at[2], at[3]])), 4),
            127 => {
                (u64::from_be_bytes([at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9]]), 10)
            }
            short => (u64::from(short), 2),
        };
        // RFC 6455 §5.2: the minimal number of bytes must be used, the top bit must be 0.
        if (header == 4 && payload < 126)
            || (header == 10 && !(1 << 16..1 << 63).contains(&payload))
        {
            return Err(Violation::BadLength);
        }
        let event = match first & OPCODE {
            TEXT => self.data(first, payload, Some(Kind::Text)),
            BINARY => self.data(first, payload, Some(Kind::Binary)),
            CONTINUATION => self.data(first, payload, None),
            CLOSE => self.close(&at[header..], payload)?,
            PING => Event::Ping,
            _ => self.pong(&at[header..], payload),
        };
        let key = if self.mask_bit == 0 { 0 } else { 4 };
        self.left = header as u64 + key + payload;
        self.announced = true;
        Ok(Some(event))
    }

    #[inline]
    fn check_first(&self, first: u8) -> Result<(), Violation> {
        let opcode = first & OPCODE;
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(Violation::ReservedOpcode);
        }
        if first & RESERVED != 0 && first & RESERVED & !self.extensions.allowed(opcode) != 0 {
            return Err(Violation::ReservedBits);
        }
        match (opcode, self.open) {
            (CLOSE | PING | PONG, _) if first & FIN == 0 => Err(Violation::FragmentedControl),
            (CONTINUATION, None) => Err(Violation::StrayContinuation),
            (TEXT | BINARY, Some(_)) => Err(Violation::Interleaved),
            _ => Ok(()),
        }
    }

    #[inline]
    fn check_second(&self, first: u8, second: u8) -> Result<(), Violation> {
        if second & MASK != self.mask_bit {
            let unmasked = second & MASK == 0;
            return Err(if unmasked { Violation::Unmasked } else { Violation::Masked });
        }
        match first & OPCODE {
            CLOSE | PING | PONG if second & LENGTH > 125 => Err(Violation::LongControl),
            CLOSE if second & LENGTH == 1 => Err(Violation::BadClose),
            _ => Ok(()),
        }
    }

    /// `begins` is the kind of a new message; none continues the open one.
    #[inline]
    fn data(&mut self, first: u8, payload: u64, begins: Option<Kind>) -> Event {
        if let Some(kind) = begins {
            self.open = Some(Open { kind, compressed: first & RSV1 != 0 });
            self.message = 0;
        }
        self.message = self.message.saturating_add(payload);
        let last = first & FIN != 0;
        self.ends = if last { Ends::Message } else { Ends::Frame };
        let (first, message) = (begins.is_some(), self.message);
        Event::Data(DataFrame { first, last, announced: payload, message })
    }

    /// `at` is behind the length.
    fn close(&mut self, at: &[u8], payload: u64) -> Result<Event, Violation> {
        let code = match payload {
            0 => CloseCode::NONE,
            _ => CloseCode::on_the_wire(u16::from_be_bytes(self.unmasked(at)))
                .ok_or(Violation::BadClose)?,
        };
        self.ends = Ends::Direction;
        Ok(Event::Close(code))
    }

    /// `at` is behind the length.
    fn pong(&self, at: &[u8], payload: u64) -> Event {
        Event::Pong((payload == Token::LEN as u64).then(|| Token(self.unmasked(at))))
    }

    /// The first bytes of a payload; [`wanted`] saw to it that they are there.
    fn unmasked<const N: usize>(&self, at: &[u8]) -> [u8; N] {
        match self.mask_bit {
            0 => std::array::from_fn(|i| at[i]),
            _ => std::array::from_fn(|i| at[4 + i] ^ at[i % 4]),
        }
    }

    fn follow_no_more(&mut self, mode: Mode) {
        self.mode = mode;
        self.left = ENDLESS;
        self.ends = Ends::Frame;
        self.announced = false;
    }
}

/// The message some of whose frames have come.
#[derive(Clone, Copy, Debug)]
struct Open {
    kind: Kind,
    compressed: bool,
}

/// What the current frame's end is the end of, too.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Frame,
    Message,
    Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Following,
    Closed,
    Opaque,
}

/// How many bytes from a frame's first tell what it is, as far as `at` shows: its header, a Close
/// frame's code, all of a pong that may be ours. Never more than the frame has.
#[inline]
fn wanted(at: &[u8]) -> usize {
    let &[first, second, ..] = at else { return 2 };
    let key = if second & MASK == 0 { 0 } else { 4 };
    let length = usize::from(second & LENGTH);
    match (first & OPCODE, length) {
        (_, 126) => 4 + key,
        (_, 127) => 10 + key,
        (CLOSE, 2..) => 2 + key + 2,
        (PONG, Token::LEN) => 2 + key + Token::LEN,
        _ => 2 + key,
    }
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const RSV1: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// More than any connection carries.
const ENDLESS: u64 = u64::MAX;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
