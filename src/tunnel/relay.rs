//! A tunnel's life: two directions, one clock, and the one way in which the gate ends it: a Close
//! frame to each side at a frame boundary, a bounded wait for theirs, then FIN.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::drain::{Drain, Phase};
use crate::tls::random;
use crate::tunnel::clock::{Clock, Due};
use crate::tunnel::close::CloseCode;
use crate::tunnel::end::End;
use crate::tunnel::frames::{Follower, Sender};
use crate::tunnel::inject::{ControlFrame, Token};
use crate::tunnel::pipe::{Broken, Pipe, Rules};
use crate::tunnel::{Closed, Ends, Guard, Reason, Side, Tally, TunnelLimits};

/// A tunnel about to run.
pub(crate) struct Running<C, B>(Box<(Tunnel<C, B>, Clock)>);

/// Puts two ends together. Not an async fn: that would keep room for what it was built from.
pub(crate) fn open<C: End, B: End>(ends: Ends<C, B>, limits: &TunnelLimits) -> Running<C, B> {
    let clock = Clock::start(limits, ends.place);
    Running(Box::new((Tunnel::new(ends, limits), clock)))
}

impl<C: End, B: End> Running<C, B> {
    /// Carries bytes between the ends until both have ended, or something ends them.
    ///
    /// # Cancel safety
    /// Dropping the future closes both ends without a word.
    pub(crate) async fn run(mut self, drain: &Drain, tally: &Tally) -> Closed {
        let (tunnel, clock) = &mut *self.0;
        let (side, reason) = {
            let mut phase = pin!(drain.reached(Phase::Draining));
            let mut drains = false;
            poll_fn(|cx| {
                while phase.as_mut().poll(cx).is_ready() {
                    if drains {
                        return Poll::Ready((Side::Gate, Reason::DrainCut));
                    }
                    drains = true;
                    clock.drain();
                    phase.set(drain.reached(Phase::Cutting));
                }
                loop {
                    if let Poll::Ready(end) = tunnel.poll(cx, clock, tally) {
                        return Poll::Ready(end);
                    }
                    match clock.poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(due) => {
                            if let Some(end) = tunnel.act(due, clock) {
                                return Poll::Ready(end);
                            }
                            // What it asks for is done by the next poll.
                        }
                    }
                }
            })
            .await
        };
        if side == Side::Gate {
            // What was written is on its way; an orderly end lets it arrive.
            let orderly = poll_fn(|cx| tunnel.poll_orderly(cx));
            // Boxed: no idle socket is to keep room for its end.
            let _ = Box::pin(timeout(ORDERLY, orderly)).await;
        }
        tunnel.closed(side, reason)
    }
}

struct Tunnel<C, B> {
    client: C,
    backend: B,
    /// Client to backend.
    inbound: Pipe,
    /// Backend to client.
    outbound: Pipe,
    limits: TunnelLimits,
    /// The first token of our pings, and how many there were.
    pings: (u64, u32),
    first_end: Option<Side>,
    first_close: Option<(Side, CloseCode)>,
    broken: Option<Side>,
    /// Why the gate closes it.
    closing: Option<Reason>,
    /// Both sides have taken their Close frames.
    told: bool,
    counted: Flow,
}

/// What has flowed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Flow {
    bytes_in: u64,
    bytes_out: u64,
    messages_in: u64,
    messages_out: u64,
}

impl<C: End, B: End> Tunnel<C, B> {
    fn new(ends: Ends<C, B>, limits: &TunnelLimits) -> Self {
        let follower = |sender| Follower::new(sender, ends.extensions);
        Self {
            inbound: Pipe::new(follower(Sender::Client), ends.from_client),
            outbound: Pipe::new(follower(Sender::Backend), ends.from_backend),
            client: ends.client,
            backend: ends.backend,
            limits: *limits,
            pings: (0, 0),
            first_end: None,
            first_close: None,
            broken: None,
            closing: None,
            told: false,
            counted: Flow::default(),
        }
    }

    /// Moves what can be moved; ready when the tunnel has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &mut Clock,
        tally: &Tally,
    ) -> Poll<(Side, Reason)> {
        let now = Instant::now();
        let closing = self.closing.is_some();
        let (client, backend) = (&mut self.client, &mut self.backend);
        let pings = (self.pings.1 > 0).then_some(self.pings);
        let inbound =
            self.inbound.poll(cx, client, backend, &Rules { limits: &self.limits, pings, now });
        let outbound = self.outbound.poll(
            cx,
            backend,
            client,
            &Rules { limits: &self.limits, pings: None, now },
        );
        let told = self.told.then_some(self.counted);
        self.count(clock, tally, now);
        if self.inbound.blocked {
            clock.blocked();
        }
        self.notice(clock, now);
        if self.closing.is_some() != closing {
            // The Close frames are to go out at once.
            return self.poll(cx, clock, tally);
        }
        if closing && !self.told && self.inbound.is_told() && self.outbound.is_told() {
            self.told = true;
            clock.unanswered(now);
        }
        if told.is_some_and(|before| self.sends_unanswering(before)) {
            clock.unanswered(now);
        }
        match (inbound, outbound) {
            (Poll::Ready(Err(broken)), _) => self.broke(broken, Side::Client, Side::Backend),
            (_, Poll::Ready(Err(broken))) => self.broke(broken, Side::Backend, Side::Client),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(match self.closing {
                Some(reason) => (Side::Gate, reason),
                None => (self.first_end.unwrap_or(Side::Client), Reason::Eof),
            }),
            _ => match self.closing {
                Some(reason) if self.is_answered() => Poll::Ready((Side::Gate, reason)),
                _ => Poll::Pending,
            },
        }
    }

    fn count(&mut self, clock: &mut Clock, tally: &Tally, now: Instant) {
        let flow = Flow {
            bytes_in: self.inbound.bytes,
            bytes_out: self.outbound.bytes,
            messages_in: self.inbound.messages(),
            messages_out: self.outbound.messages(),
        };
        if flow == self.counted {
            return;
        }
        let before = std::mem::replace(&mut self.counted, flow);
        // Shared by all workers: touched only for what has changed.
        for (counter, now, before) in [
            (&tally.bytes_in, flow.bytes_in, before.bytes_in),
            (&tally.bytes_out, flow.bytes_out, before.bytes_out),
            (&tally.messages_in, flow.messages_in, before.messages_in),
            (&tally.messages_out, flow.messages_out, before.messages_out),
        ] {
            if now > before {
                counter.inc_by(now - before);
            }
        }
        let heard = flow.bytes_in > before.bytes_in
            // Inside a long frame no ping can be sent: a client that takes it is alive.
            || (self.outbound.is_pinging() && flow.bytes_out > before.bytes_out);
        clock.moved(now, heard);
    }

    /// Sees what came with the bytes: ends, Close frames, broken framing, guards.
    fn notice(&mut self, clock: &mut Clock, now: Instant) {
        for (pipe, side) in [(&self.inbound, Side::Client), (&self.outbound, Side::Backend)] {
            if pipe.ended && self.first_end.is_none() {
                self.first_end = Some(side);
                clock.half_closed(now);
            }
            if pipe.broken && self.broken.is_none() {
                self.broken = Some(side);
                // There is no boundary to ping at, or no pong can be told.
                clock.no_heartbeat();
            }
            if let Some(code) = pipe.close
                && self.first_close.is_none()
            {
                self.first_close = Some((side, code));
            }
        }
        if self.closing.is_none() {
            match (self.inbound.tripped, self.outbound.tripped) {
                (Some(guard), _) => self.guard(guard, Side::Client, clock),
                (None, Some(guard)) => self.guard(guard, Side::Backend, clock),
                (None, None) => {}
            }
        }
    }

    /// Who broke the rule is told so, the other that the socket goes away.
    fn guard(&mut self, guard: Guard, culprit: Side, clock: &mut Clock) {
        let code = match guard {
            Guard::MessageSize => CloseCode::TOO_BIG,
            Guard::MessageRate => CloseCode::POLICY,
            Guard::Framing => CloseCode::PROTOCOL_ERROR,
        };
        let (client, backend) = match culprit {
            Side::Backend => (CloseCode::GOING_AWAY, code),
            Side::Client | Side::Gate => (code, CloseCode::GOING_AWAY),
        };
        self.shut(Reason::Guard(guard), client, backend, clock);
        if !matches!(self.first_close, Some((Side::Client | Side::Backend, _))) {
            self.first_close = Some((Side::Gate, code));
        }
    }

    /// Does what is due; an end when that is one.
    fn act(&mut self, due: Due, clock: &mut Clock) -> Option<(Side, Reason)> {
        let code = self.limits.drain_code;
        match due {
            Due::Ping => {
                if self.pings.1 == 0 {
                    self.pings.0 = u64::from_be_bytes(random());
                }
                let token = self.pings.0.wrapping_add(u64::from(self.pings.1));
                self.pings.1 = self.pings.1.saturating_add(1);
                self.outbound.ping(ControlFrame::ping(Token(token.to_be_bytes()), None));
            }
            Due::Idle => {
                self.shut(Reason::IdleTimeout, CloseCode::GOING_AWAY, CloseCode::GOING_AWAY, clock);
            }
            Due::Dead => {
                self.shut(Reason::Heartbeat, CloseCode::GOING_AWAY, CloseCode::GOING_AWAY, clock);
            }
            Due::Age => self.shut(Reason::MaxAge, code, code, clock),
            Due::Drain => self.shut(Reason::Drain, code, code, clock),
            Due::Look if self.inbound.blocked && self.client.was_reset() => {
                return Some(match self.closing {
                    Some(reason) => (Side::Gate, reason),
                    None => (Side::Client, Reason::Reset),
                });
            }
            Due::Look => {}
            // The wait is over.
            Due::Unanswered => {
                return Some((Side::Gate, self.closing.unwrap_or(Reason::Error)));
            }
        }
        None
    }

    /// Begins to close: a Close frame to each side that has not had one.
    fn shut(&mut self, reason: Reason, client: CloseCode, backend: CloseCode, clock: &mut Clock) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(reason);
        if self.first_close.is_none() && self.first_end.is_none() {
            self.first_close = Some((Side::Gate, client));
        }
        self.outbound.shut(ControlFrame::close(client, "", None));
        self.inbound.shut(ControlFrame::close(backend, "", Some(random())));
        clock.closing(reason);
    }

    /// Whether a side that has not answered has sent something since `before`.
    fn sends_unanswering(&self, before: Flow) -> bool {
        let client = self.inbound.close.is_none() && self.counted.bytes_in > before.bytes_in;
        let backend = self.outbound.close.is_none() && self.counted.bytes_out > before.bytes_out;
        client || backend
    }

    /// Each side has taken its Close frame and has answered, or has gone. A client that answered
    /// no ping is not waited for again.
    fn is_answered(&self) -> bool {
        let said = |pipe: &Pipe| pipe.close.is_some() || pipe.ended || pipe.broken;
        let client = self.outbound.is_told() && said(&self.inbound);
        let backend = self.inbound.is_told() && said(&self.outbound);
        backend && (client || self.closing == Some(Reason::Heartbeat))
    }

    fn broke(&self, broken: Broken, source: Side, sink: Side) -> Poll<(Side, Reason)> {
        if let Some(reason) = self.closing {
            // Some close by breaking off.
            return Poll::Ready((Side::Gate, reason));
        }
        Poll::Ready(match broken {
            Broken::Source(reason) => (source, reason),
            Broken::Sink(reason) => (sink, reason),
        })
    }

    /// Ends both directions; an end that fails has ended.
    fn poll_orderly(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let client = self.client.poll_end(cx).is_ready();
        let backend = self.backend.poll_end(cx).is_ready();
        if client && backend { Poll::Ready(()) } else { Poll::Pending }
    }

    fn closed(&self, side: Side, reason: Reason) -> Closed {
        let (initiator, code) = match self.first_close {
            Some((side, code)) => (side, code),
            None => (self.first_end.unwrap_or(side), CloseCode::ABNORMAL),
        };
        Closed {
            initiator,
            reason,
            code,
            bytes_in: self.counted.bytes_in,
            bytes_out: self.counted.bytes_out,
            messages_in: self.counted.messages_in,
            messages_out: self.counted.messages_out,
            broken: self.broken,
        }
    }
}

/// For the last bytes and the ends to be taken when the gate ends a tunnel.
const ORDERLY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
