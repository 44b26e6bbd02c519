//! After the 101: bytes both ways until a close, a limit or a drain. What the bytes mean is none of
//! its business yet.

#[cfg_attr(not(test), expect(dead_code, reason = "the relay follows frames next"))]
mod close;
#[cfg_attr(not(test), expect(dead_code, reason = "the relay follows frames next"))]
mod frames;
#[cfg_attr(not(test), expect(dead_code, reason = "the relay follows frames next"))]
mod inject;
mod relay;

use std::time::Duration;

pub(crate) use crate::tunnel::relay::run;

/// Bounds of one tunnel, `limits.*`.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// Without a byte in either direction; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// From the 101, whatever flows; `None` is no limit.
    pub max_age: Option<Duration>,
}

/// One end of a tunnel.
pub(crate) struct End<S> {
    pub(crate) stream: S,
    /// What came from it behind the handshake; the other end gets it first.
    pub(crate) early: Vec<u8>,
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
    /// The gate stops and the drain time is over.
    Drain,
    /// Anything else: broken TLS, an error of the system.
    Error,
}

impl Reason {
    /// `close.reason` in the log.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxAge => "max_age",
            Self::Drain => "drain",
            Self::Error => "error",
        }
    }
}

/// A tunnel's end, and what went through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Who ended it first.
    pub(crate) initiator: Side,
    pub(crate) reason: Reason,
    /// Client to backend.
    pub(crate) bytes_in: u64,
    /// Backend to client.
    pub(crate) bytes_out: u64,
}
