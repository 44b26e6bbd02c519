//! A tunnel's deadlines: silence, age, heartbeat, its turn in a drain, the wait for a Close frame.
//! One timer for all of them; it is not moved for every byte, it looks when it fires.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::tunnel::{Reason, TunnelLimits};

/// What time it is for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Too long without a byte.
    Idle,
    /// Old enough.
    Age,
    /// The client has been silent for an interval: it is pinged.
    Ping,
    /// It has not answered.
    Dead,
    /// Its turn in the drain.
    Drain,
    /// Nothing is read from the client: it is asked whether it is still there.
    Look,
    /// The Close frames have not gone, or were not answered.
    Unanswered,
}

/// The deadlines of one tunnel.
pub(super) struct Clock {
    limits: TunnelLimits,
    /// A byte in either direction.
    moved: Instant,
    /// A byte from the client.
    heard: Instant,
    /// Pings since then.
    pings: u32,
    half_closed: bool,
    oldest: Option<Instant>,
    drain: Option<Instant>,
    look: Option<Instant>,
    closing: Option<Wait>,
    /// However long an answer is waited for.
    closed_by: Option<Instant>,
    place: f64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How long the gate waits once it closes a tunnel.
#[derive(Clone, Copy)]
enum Wait {
    Until(Instant),
    /// Until the drain time is over.
    Drained,
}

impl Clock {
    pub(super) fn start(limits: &TunnelLimits, place: f64) -> Self {
        let now = Instant::now();
        // A tenth earlier at most: sockets of one moment do not all end in one.
        let age = limits.max_age.map(|age| age - age.mul_f64(place / 10.0));
        let mut clock = Self {
            limits: *limits,
            moved: now,
            heard: now,
            pings: 0,
            half_closed: false,
            oldest: age.and_then(|age| now.checked_add(age)),
            drain: None,
            look: None,
            closing: None,
            closed_by: None,
            place,
            timer: None,
        };
        clock.arm();
        clock
    }

    /// Bytes have moved, some of them from the client or none.
    pub(super) fn moved(&mut self, now: Instant, from_client: bool) {
        self.moved = now;
        if from_client {
            self.heard = now;
            self.pings = 0;
        }
    }

    /// One side has ended: from now on silence is not waited for so long.
    pub(super) fn half_closed(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.half_closed, true) {
            self.moved = now;
            self.arm();
        }
    }

    /// The gate drains: this tunnel's turn comes within `drain_spread`.
    pub(super) fn drain(&mut self) {
        self.drain = Some(Instant::now() + self.limits.drain_spread.mul_f64(self.place));
        self.arm();
    }

    /// The backend takes nothing, so nothing is read that would tell of the client's reset.
    pub(super) fn blocked(&mut self) {
        if self.look.is_none() {
            self.look = Some(Instant::now() + BETWEEN_LOOKS);
            self.arm();
        }
    }

    /// Nobody is pinged any more.
    pub(super) fn no_heartbeat(&mut self) {
        self.limits.heartbeat = None;
    }

    /// The gate has begun to close this tunnel. Until its Close frames have gone, a peer in the
    /// middle of a long frame has time. Nothing else is due any more.
    pub(super) fn closing(&mut self, reason: Reason) {
        let most = match reason {
            Reason::Drain => None,
            Reason::IdleTimeout | Reason::Heartbeat => Some(CLOSE_WAIT),
            Reason::MaxAge
            | Reason::Guard(_)
            | Reason::Eof
            | Reason::Reset
            | Reason::DrainCut
            | Reason::Error => Some(CLOSING_WAIT),
        };
        self.closed_by = most.map(|most| Instant::now() + most);
        self.closing = Some(self.closed_by.map_or(Wait::Drained, Wait::Until));
        self.arm();
    }

    /// The Close frames have gone: the answers are waited for. Again when the side that has not
    /// answered sends something else: it has not read the Close frame yet, and would be reset.
    pub(super) fn unanswered(&mut self, now: Instant) {
        let until = now + CLOSE_WAIT;
        self.closing = Some(Wait::Until(self.closed_by.map_or(until, |most| most.min(until))));
        self.arm();
    }

    /// Ready when something is due. A ping is due again an interval later.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let due = self.next().filter(|(at, _)| *at <= now).map(|(_, due)| due);
            match due {
                Some(Due::Ping) => self.pings += 1,
                Some(Due::Drain) => self.drain = None,
                Some(Due::Look) => self.look = None,
                _ => {}
            }
            self.arm();
            if let Some(due) = due {
                return Poll::Ready(due);
            }
        }
    }

    fn next(&self) -> Option<(Instant, Due)> {
        let look = self.look.map(|at| (at, Due::Look));
        match self.closing {
            Some(Wait::Until(at)) => {
                return look.into_iter().chain([(at, Due::Unanswered)]).min_by_key(|(at, _)| *at);
            }
            Some(Wait::Drained) => return look,
            None => {}
        }
        let idle = match (self.limits.idle_timeout, self.half_closed) {
            (Some(idle), true) => Some(idle.min(HALF_CLOSED)),
            (None, true) => Some(HALF_CLOSED),
            (idle, false) => idle,
        };
        let idle = idle.and_then(|idle| Some((self.moved.checked_add(idle)?, Due::Idle)));
        let beat = self.limits.heartbeat.filter(|_| !self.half_closed).and_then(|heartbeat| {
            let due = if self.pings < heartbeat.misses { Due::Ping } else { Due::Dead };
            // A twentieth earlier at most, each socket in its own place.
            let early = heartbeat.interval.mul_f64(self.place / 20.0);
            let silence = heartbeat.interval.checked_mul(self.pings + 1)?.saturating_sub(early);
            Some((self.heard.checked_add(silence)?, due))
        });
        let age = self.oldest.map(|oldest| (oldest, Due::Age));
        let drain = self.drain.map(|turn| (turn, Due::Drain));
        [idle, beat, age, drain, look].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn arm(&mut self) {
        match (self.next(), &mut self.timer) {
            (None, timer) => *timer = None,
            (Some((at, _)), Some(timer)) => timer.as_mut().reset(at),
            (Some((at, _)), timer) => *timer = Some(Box::pin(sleep_until(at))),
        }
    }
}

/// How long a client's reset may stay unnoticed behind a backend that does not read.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Silence that ends a tunnel of which one side has ended already.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// For a peer to answer the gate's Close frame.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// For all of a close, where no drain time bounds it: a peer may be in the middle of a long frame,
/// or busy.
const CLOSING_WAIT: Duration = Duration::from_secs(30);
