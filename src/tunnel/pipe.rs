//! One direction: reads from its source, follows the frames, gives them on, puts in what the gate
//! has to say. Reads only when its sink has taken everything, so it holds nothing but the beginning
//! of a frame's header.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::tls::Ingested;
use crate::tunnel::close::CloseCode;
use crate::tunnel::end::End;
use crate::tunnel::frames::{Event, Follower, Held, Place};
use crate::tunnel::inject::{ControlFrame, Token};
use crate::tunnel::{BrokenFraming, Guard, Reason, TunnelLimits};

/// One direction.
pub(super) struct Pipe {
    follower: Follower,
    /// Read and not yet given: what it is cannot be told yet.
    held: Held,
    /// What came behind the handshake and has not been given yet.
    early: Vec<u8>,
    output: Output,
    insert: Option<Insert>,
    rate: Rate,
    /// The sink does not take what it was given.
    pub(super) blocked: bool,
    pub(super) bytes: u64,
    /// Messages read and not given: the sink has had its Close frame.
    dropped: u64,
    /// The source has ended.
    pub(super) ended: bool,
    /// The end has been passed on.
    pub(super) done: bool,
    /// The code of the source's Close frame.
    pub(super) close: Option<CloseCode>,
    /// The source's framing has broken.
    pub(super) broken: bool,
    /// What the source did that is not allowed; nothing is given since.
    pub(super) tripped: Option<Guard>,
}

/// What may still be given to the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Everything.
    Open,
    /// Only what is to be inserted: it stands at a boundary.
    Cut,
    /// Nothing: a Close frame of the gate's has gone.
    Closed,
}

/// What the gate puts in at the next boundary.
enum Insert {
    Ping(Box<ControlFrame>),
    Close(Box<ControlFrame>),
}

/// Which of a pipe's two connections broke, and how.
#[derive(Clone, Copy)]
pub(super) enum Broken {
    Source(Reason),
    Sink(Reason),
}

impl Pipe {
    pub(super) fn new(follower: Follower, early: Vec<u8>) -> Self {
        Self {
            follower,
            held: Held::default(),
            early,
            output: Output::Open,
            insert: None,
            rate: Rate::default(),
            blocked: false,
            bytes: 0,
            dropped: 0,
            ended: false,
            done: false,
            close: None,
            broken: false,
            tripped: None,
        }
    }

    /// Messages that went through whole.
    pub(super) fn messages(&self) -> u64 {
        self.follower.messages() - self.dropped
    }

    /// Asks for a ping at the next boundary, unless something is to be put in there already.
    pub(super) fn ping(&mut self, frame: ControlFrame) {
        if self.insert.is_none() && self.output == Output::Open {
            self.insert = Some(Insert::Ping(Box::new(frame)));
        }
    }

    /// Whether a ping still waits for a boundary.
    pub(super) fn is_pinging(&self) -> bool {
        matches!(self.insert, Some(Insert::Ping(_)))
    }

    /// Asks for a Close frame at the next boundary; nothing follows it.
    pub(super) fn shut(&mut self, frame: ControlFrame) {
        self.insert = Some(Insert::Close(Box::new(frame)));
    }

    /// Whether the sink was given its Close frame, the gate's or the source's, or will never get
    /// one.
    fn is_shut(&self) -> bool {
        self.output == Output::Closed
            || self.done
            || matches!(self.follower.place(), Place::Closed | Place::Opaque)
    }

    /// The same, and the sink has taken it.
    pub(super) fn is_told(&self) -> bool {
        self.is_shut() && !self.blocked
    }

    /// Moves bytes until one side would block. Ready once the end has been passed on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl End,
        sink: &mut impl End,
        rules: &Rules<'_>,
    ) -> Poll<Result<(), Broken>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            let gone = sink.poll_gone(cx).map_err(|error| Broken::sink(&error))?;
            self.blocked = gone.is_pending();
            // Nothing is read while the sink has not taken all of what was read before, unless
            // nothing of it will be given.
            if self.output == Output::Open || self.ended {
                ready!(gone);
            }
            self.insert_at_boundary(cx, sink)?;
            if self.ended {
                let ended = ready!(sink.poll_end(cx));
                self.done = true;
                // A sink that is gone already has noticed by itself.
                return Poll::Ready(match ended {
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                        Err(Broken::sink(&error))
                    }
                    _ => Ok(()),
                });
            }
            let moved = SCRATCH.with_borrow_mut(|scratch| {
                ready!(self.poll_take(cx, source, scratch))
                    .map_err(|error| Broken::source(&error))?;
                Poll::Ready(self.give(cx, sink, scratch, rules))
            });
            ready!(moved)?;
        }
        // Others want to run too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads behind what is held.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl End,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        scratch.clear();
        scratch.extend_from_slice(self.held.as_bytes());
        let held = scratch.len();
        if self.early.is_empty() {
            self.ended = ready!(source.poll_take(cx, scratch))? == Ingested::End;
        } else {
            scratch.append(&mut self.early);
            self.early = Vec::new();
        }
        self.bytes += (scratch.len() - held) as u64;
        self.held.clear();
        Poll::Ready(Ok(()))
    }

    /// Follows the frames in `bytes` and gives them on.
    fn give(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl End,
        bytes: &[u8],
        rules: &Rules<'_>,
    ) -> Result<(), Broken> {
        let (mut given, mut at) = (0, 0);
        loop {
            let step = self.follower.next(&bytes[at..]);
            at += step.taken;
            let Some(event) = step.event else { break };
            if self.insert.is_some() && !matches!(event, Event::Message(_)) {
                self.pass(cx, sink, &bytes[given..at])?;
                given = at;
                self.insert_at_boundary(cx, sink)?;
            }
            match event {
                Event::Pong(Some(token)) if rules.answers(token) => {
                    self.pass(cx, sink, &bytes[given..at])?;
                    at += self.follower.withhold();
                    given = at;
                }
                Event::Close(code) => self.close = Some(code),
                Event::Broken(_) => self.broken = true,
                Event::Message(_) if self.output != Output::Open => self.dropped += 1,
                Event::Data(_) | Event::Message(_) | Event::Ping | Event::Pong(_) => {}
            }
            if let Some(guard) = self.trips(event, rules)
                && self.tripped.is_none()
            {
                // Before a byte of what is not allowed.
                self.pass(cx, sink, &bytes[given..at])?;
                given = at;
                self.tripped = Some(guard);
                if self.output == Output::Open {
                    self.output = Output::Cut;
                }
            }
        }
        // A header that never became whole is passed on as it is.
        let end = if self.ended { bytes.len() } else { at };
        self.pass(cx, sink, &bytes[given..end])?;
        self.held.keep(&bytes[end..]);
        self.insert_at_boundary(cx, sink)
    }

    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl End,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        if bytes.is_empty() || self.output != Output::Open {
            return Ok(());
        }
        sink.give(cx, bytes).map_err(|error| Broken::sink(&error))
    }

    fn insert_at_boundary(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl End,
    ) -> Result<(), Broken> {
        let at_boundary = match self.output {
            Output::Open => self.follower.place() == Place::Boundary,
            Output::Cut => true,
            Output::Closed => false,
        };
        if !at_boundary {
            return Ok(());
        }
        match self.insert.take() {
            None => Ok(()),
            Some(Insert::Ping(frame)) => {
                sink.give(cx, frame.as_bytes()).map_err(|error| Broken::sink(&error))
            }
            Some(Insert::Close(frame)) => {
                self.output = Output::Closed;
                let given = sink.give(cx, frame.as_bytes());
                let gone = given.and_then(|()| Ok(sink.poll_gone(cx)?.is_ready()));
                self.blocked = !gone.map_err(|error| Broken::sink(&error))?;
                Ok(())
            }
        }
    }

    fn trips(&mut self, event: Event, rules: &Rules<'_>) -> Option<Guard> {
        match event {
            Event::Data(frame) if rules.limits.message_size.is_some_and(|m| frame.message > m) => {
                Some(Guard::MessageSize)
            }
            // Fragments and pings cost as much as messages do.
            Event::Data(_) | Event::Ping => {
                let most = rules.limits.messages_per_second?.get();
                self.rate.exceeds(most, rules.now).then_some(Guard::MessageRate)
            }
            Event::Broken(_) if rules.limits.broken_framing == BrokenFraming::Close => {
                Some(Guard::Framing)
            }
            _ => None,
        }
    }
}

impl Broken {
    fn source(error: &io::Error) -> Self {
        Self::Source(Reason::of(error))
    }

    fn sink(error: &io::Error) -> Self {
        Self::Sink(Reason::of(error))
    }
}

/// What a direction is held to.
pub(super) struct Rules<'a> {
    pub(super) limits: &'a TunnelLimits,
    /// The first token of the gate's pings, and how many there were; none towards the client.
    pub(super) pings: Option<(u64, u32)>,
    pub(super) now: Instant,
}

impl Rules<'_> {
    fn answers(&self, token: Token) -> bool {
        self.pings.is_some_and(|(first, sent)| {
            let number = u64::from_be_bytes(token.0).wrapping_sub(first);
            number < u64::from(sent)
        })
    }
}

/// Frames in the current second.
#[derive(Default)]
struct Rate {
    since: Option<Instant>,
    frames: u32,
}

impl Rate {
    fn exceeds(&mut self, most: u32, now: Instant) -> bool {
        let second = std::time::Duration::from_secs(1);
        if self.since.is_none_or(|since| now.duration_since(since) >= second) {
            self.since = Some(now);
            self.frames = 0;
        }
        self.frames = self.frames.saturating_add(1);
        self.frames > most
    }
}

thread_local! {
    /// What is read goes through here on its way; nothing stays.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SCRATCH_BYTES));
}

/// Read at once, and so the most that one direction keeps.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

/// Reads in a row before other sockets get their turn.
const ROUNDS: usize = 16;
