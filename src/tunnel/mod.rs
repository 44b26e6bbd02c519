//! After the 101: bytes both ways until a close, a limit or a drain. What the bytes mean is none of
//! its business yet.

mod end;
mod relay;

use std::io;
use std::time::Duration;

pub(crate) use crate::tunnel::end::BackendEnd;
pub(crate) use crate::tunnel::relay::run;

/// Bounds of one tunnel, `limits.*`.
#[derive(Clone, Copy, Debug)]
pub struct TunnelLimits {
    /// Without a byte in either direction; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// From the 101, whatever flows, less up to a tenth; `None` is no limit.
    pub max_age: Option<Duration>,
}

impl TunnelLimits {
    /// The limits of tunnel `number`: its age is up to a tenth shorter, so that tunnels that began
    /// together do not all come back together.
    pub(crate) fn of_one(self, number: u64) -> Self {
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4): numbers in a row fall far apart.
        let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let early = place as f64 / (1_u64 << 32) as f64;
        Self { max_age: self.max_age.map(|age| age - (age / 10).mul_f64(early)), ..self }
    }
}

/// Two ends, and what came from each behind the handshake: the other gets it first.
pub(crate) struct Ends<C, B> {
    pub(crate) client: C,
    pub(crate) backend: B,
    pub(crate) from_client: Vec<u8>,
    pub(crate) from_backend: Vec<u8>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_up_to_a_tenth_and_spread_over_it() {
        let limits = TunnelLimits { idle_timeout: None, max_age: Some(Duration::from_secs(1000)) };
        let mut ages: Vec<u64> = (1 << 40..)
            .take(100)
            .map(|number| limits.of_one(number).max_age.unwrap().as_secs())
            .collect();
        ages.sort_unstable();
        assert!((900..910).contains(&ages[0]) && (990..=1000).contains(&ages[99]), "{ages:?}");
        assert!(ages.windows(2).all(|pair| pair[1] - pair[0] <= 3), "no crowds: {ages:?}");
        let none = TunnelLimits { idle_timeout: None, max_age: None };
        assert_eq!(none.of_one(7).max_age, None);
    }
}
