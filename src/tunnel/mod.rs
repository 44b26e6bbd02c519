//! After the 101: bytes both ways until a close, a limit or a drain. Frames are followed, never
//! changed; the gate's own stand between them.

mod clock;
mod close;
mod end;
mod frames;
mod inject;
mod pipe;
mod relay;

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use prometheus::IntCounter;

pub(crate) use crate::tunnel::clock::CLOSE_WAIT;
pub(crate) use crate::tunnel::close::CloseCode;
pub(crate) use crate::tunnel::end::BackendEnd;
pub(crate) use crate::tunnel::frames::Extensions;
pub(crate) use crate::tunnel::relay::open;

/// Bounds of one tunnel: `limits.*`, `heartbeat`, `drain.*`.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// Without a byte in either direction; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// From the 101, whatever flows; a tenth less for some, so that sockets of one moment do not
    /// end in one. `None` is no limit.
    pub max_age: Option<Duration>,
    /// Pings to a silent client; `None` sends none.
    pub heartbeat: Option<Heartbeat>,
    /// Payload bytes of one message on the wire; `None` is no limit.
    pub message_size: Option<u64>,
    /// Messages of one side in one second; `None` is no limit.
    pub messages_per_second: Option<NonZeroU32>,
    /// What follows broken framing.
    pub broken_framing: BrokenFraming,
    /// The code of the Close frames when the gate drains, or a socket is too old.
    pub(crate) drain_code: CloseCode,
    /// Over which the sockets are closed when the gate drains.
    pub drain_spread: Duration,
}

/// `heartbeat`.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    /// Silence before a ping, and before the next.
    pub interval: Duration,
    /// Pings that may stay unanswered.
    pub misses: u32,
}

/// `limits.broken_framing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenFraming {
    /// The bytes go on, unfollowed; it is counted.
    Pass,
    /// Close 1002 to who sent them.
    Close,
}

/// Where tunnel `number` stands among all, 0 to 1: numbers in a row fall far apart and evenly, by
/// Fibonacci hashing (Knuth, TAOCP 3, 6.4).
pub(crate) fn place_of(number: u64) -> f64 {
    let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    place as f64 / (1_u64 << 32) as f64
}

/// What flows, counted while it does.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    pub(crate) messages_in: IntCounter,
    pub(crate) messages_out: IntCounter,
}

/// Two ends, and what came from each behind the handshake: the other gets it first.
pub(crate) struct Ends<C, B> {
    pub(crate) client: C,
    pub(crate) backend: B,
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_backend: Vec<u8>,
    /// What the 101 agreed to.
    pub(crate) extensions: Extensions,
    /// From 0 to 1, even over all sockets: where this one stands when many are to be treated one
    /// after the other.
    pub(crate) place: f64,
}

/// Whose doing something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
    Gate,
}

impl Side {
    /// The label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Gate => "gate",
        }
    }
}

/// Which guard ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    MessageSize,
    MessageRate,
    Framing,
}

impl Guard {
    /// The label of `wsgate_websocket_guard_closes_total`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::MessageSize => "message_size",
            Self::MessageRate => "message_rate",
            Self::Framing => "framing",
        }
    }
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// One side ended its direction, then the other did.
    Eof,
    /// A connection was reset, or broke.
    Reset,
    /// `limits.idle_timeout`, or silence after one side had ended.
    IdleTimeout,
    /// `limits.max_age`.
    MaxAge,
    /// `heartbeat`: the client answered no ping.
    Heartbeat,
    /// A guard.
    Guard(Guard),
    /// The gate stops.
    Drain,
    /// The gate stops, and the drain time was over before the socket had closed.
    DrainCut,
    /// Anything else: broken TLS, an error of the system.
    Error,
}

impl Reason {
    /// What an error of a connection means.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut => Self::Reset,
            _ => Self::Error,
        }
    }

    /// `close.reason` in the log.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxAge => "max_age",
            Self::Heartbeat => "heartbeat",
            Self::Guard(guard) => guard.label(),
            Self::Drain => "drain",
            Self::DrainCut => "drain_cut",
            Self::Error => "error",
        }
    }
}

/// A tunnel's end, and what went through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Who ended it first: by a Close frame, or without one.
    pub(crate) initiator: Side,
    pub(crate) reason: Reason,
    /// Of the first Close frame; 1006 when there was none.
    pub(crate) code: CloseCode,
    /// Client to backend.
    pub(crate) bytes_in: u64,
    /// Backend to client.
    pub(crate) bytes_out: u64,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    /// Whose framing broke first.
    pub(crate) broken: Option<Side>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_numbers_in_a_row_are_even() {
        let mut places: Vec<f64> = (1 << 40..).take(100).map(place_of).collect();
        places.sort_unstable_by(f64::total_cmp);
        assert!(places[0] < 0.03 && places[99] > 0.97, "{places:?}");
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 0.03), "no gaps: {places:?}");
    }
}
