//! The client's byte stream as hyper may see it: whole heads that `policy::head` judged, bodies up
//! to their end, and nothing behind an opening handshake. So hyper never parses what could be read
//! in two ways, never writes an answer of its own, and early bytes of a WebSocket stay here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::policy::head::{self, BadHead, Framing, Scan};
use crate::policy::rejection::Rejection;
use crate::proxy::chunked::Chunked;
use crate::proxy::deadline::Deadline;

/// Bounds of the HTTP stage of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireLimits {
    /// `limits.header_size`.
    pub(crate) head_bytes: usize,
    /// From the first byte of a head to its last; for the first head, from the TLS handshake.
    pub(crate) head_timeout: Duration,
    /// Between two requests on one connection.
    pub(crate) keep_alive: Duration,
    /// For a peer that neither sends nor takes a byte of a body.
    pub(crate) stall: Duration,
}

/// Requests that are being answered on one connection: while there are any, silence is not idle,
/// and what comes next waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<Unanswered>);

#[derive(Debug, Default)]
struct Unanswered {
    count: AtomicUsize,
    /// Woken when none is left.
    none_left: AtomicWaker,
}

impl InFlight {
    pub(crate) fn enter(&self) -> InFlightGuard {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(self.clone())
    }

    fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::Relaxed) == 0
    }
}

/// One request, until its answer has gone.
#[derive(Debug)]
pub(crate) struct InFlightGuard(InFlight);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let unanswered = &self.0.0;
        if unanswered.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            unanswered.none_left.wake();
        }
    }
}

/// A client connection in its HTTP stage. Implements hyper's `Read` and `Write`.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    io: S,
    limits: WireLimits,
    in_flight: InFlight,
    state: State,
    /// Bytes from the client that nobody has seen yet. Empty, and without memory, when idle.
    buffer: Vec<u8>,
    read_deadline: Deadline,
    write_deadline: Deadline,
    refusal: Option<Rejection>,
    /// What follows an unanswered request is kept unread, for its answer to go first.
    held_back: bool,
}

/// What the next byte of the buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Part of a head, of which so many bytes were scanned.
    Head {
        scanned: usize,
    },
    /// The rest of a judged head, then what follows it.
    Judged {
        left: usize,
        then: Body,
    },
    Body(Body),
    /// Refused: nothing more is read.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Length(u64),
    Chunked(Chunked),
    /// WebSocket's, kept for the tunnel.
    Early,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A wire that waits for its first head, from now.
    pub(crate) fn new(io: S, limits: WireLimits, in_flight: InFlight) -> Self {
        let mut wire = Self {
            io,
            limits,
            in_flight,
            state: State::Head { scanned: 0 },
            buffer: Vec::new(),
            read_deadline: Deadline::default(),
            write_deadline: Deadline::default(),
            refusal: None,
            held_back: false,
        };
        wire.read_deadline.set(limits.head_timeout);
        wire
    }

    /// Why reading ended, when a head was refused. A broken body is its reader's to answer.
    pub(crate) fn refusal(&self) -> Option<Rejection> {
        self.refusal
    }

    /// The stream, and the bytes that came behind the last head.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.io, self.buffer)
    }

    /// Moves what may be seen into `out`; `Ready(0)` is the end of the stream.
    fn poll_give(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        loop {
            match self.state {
                State::Refused => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                State::Judged { left: 0, then: Body::None } | State::Body(Body::None) => {
                    self.next_head();
                }
                State::Judged { left: 0, then } => self.state = State::Body(then),
                State::Judged { left, then } => {
                    let give = left.min(room);
                    self.state = State::Judged { left: left - give, then };
                    return Poll::Ready(Ok(give));
                }
                // A bad head would end the connection before the answer to the one before it.
                State::Head { .. } if !self.in_flight.is_empty() => {
                    self.held_back = true;
                    // hyper looks again by itself only where reading did not block.
                    self.in_flight.0.none_left.register(cx.waker());
                    if self.buffer.len() >= self.limits.head_bytes {
                        return Poll::Pending;
                    }
                    if ready!(self.poll_fill(cx, self.limits.head_bytes))? == 0 {
                        return Poll::Ready(Ok(0));
                    }
                }
                State::Head { .. } if std::mem::take(&mut self.held_back) => self.next_head(),
                State::Head { scanned } => match self.look_for_head(scanned) {
                    Ok(true) => {}
                    Ok(false) => {
                        if ready!(self.poll_fill(cx, self.limits.head_bytes))? == 0 {
                            return Poll::Ready(Ok(0));
                        }
                    }
                    Err(bad) => self.refuse(bad.into()),
                },
                State::Body(Body::Early) => {
                    if self.buffer.len() >= EARLY_BYTES_MAX {
                        return Poll::Pending;
                    }
                    if ready!(self.poll_fill(cx, EARLY_BYTES_MAX))? == 0 {
                        return Poll::Ready(Ok(0));
                    }
                }
                State::Body(body) => {
                    if self.buffer.is_empty() && ready!(self.poll_fill(cx, READ_BYTES))? == 0 {
                        return Poll::Ready(Ok(0));
                    }
                    match self.follow_body(body, room) {
                        Ok(0) => self.next_head(),
                        Ok(give) => return Poll::Ready(Ok(give)),
                        // Its request is being answered already; the reader of the body is told.
                        Err(_) => self.stop(),
                    }
                }
            }
        }
    }

    /// Judges the head in the buffer, if it is whole.
    fn look_for_head(&mut self, mut scanned: usize) -> Result<bool, BadHead> {
        // RFC 9112 §2.2: an empty line before the request line is skipped. Its CR may have come, and
        // been scanned, before its LF.
        while scanned < 2 && self.buffer.starts_with(b"\r\n") {
            self.buffer.drain(..2);
            scanned = 0;
        }
        match head::scan(&self.buffer, scanned)? {
            Scan::Complete(length) if length <= self.limits.head_bytes => {
                let judged = head::judge(&self.buffer[..length])?;
                let then = match judged {
                    head::Judged { opening: true, .. } => Body::Early,
                    head::Judged { framing: Framing::NoBody, .. } => Body::None,
                    head::Judged { framing: Framing::Length(length), .. } => Body::Length(length),
                    head::Judged { framing: Framing::Chunked, .. } => Body::Chunked(Chunked::START),
                };
                self.state = State::Judged { left: length, then };
                self.read_deadline.clear();
                Ok(true)
            }
            Scan::Complete(_) => Err(BadHead::TooLarge),
            Scan::Partial if self.buffer.len() >= self.limits.head_bytes => Err(BadHead::TooLarge),
            Scan::Partial => {
                self.state = State::Head { scanned: self.buffer.len() };
                Ok(false)
            }
        }
    }

    /// How many bytes of the buffer belong to the body, `room` at most; none is its end.
    fn follow_body(&mut self, body: Body, room: usize) -> Result<usize, BadHead> {
        let window = &self.buffer[..self.buffer.len().min(room)];
        let (give, rest) = match body {
            Body::Length(left) => {
                let give = window.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                (give, Body::Length(left - give as u64))
            }
            Body::Chunked(mut chunked) => {
                let give = chunked.follow(window)?;
                (give, Body::Chunked(chunked))
            }
            Body::None | Body::Early => (0, body),
        };
        self.state = match rest {
            Body::Length(0) | Body::Chunked(Chunked::Done) => State::Body(Body::None),
            rest => State::Body(rest),
        };
        Ok(give)
    }

    fn next_head(&mut self) {
        self.state = State::Head { scanned: 0 };
        let idle = self.buffer.is_empty();
        let limit = if idle { self.limits.keep_alive } else { self.limits.head_timeout };
        self.read_deadline.set(limit);
    }

    fn refuse(&mut self, rejection: Rejection) {
        self.refusal = Some(rejection);
        self.stop();
    }

    fn stop(&mut self) {
        self.state = State::Refused;
        self.buffer = Vec::new();
    }

    /// Reads more into the buffer, up to `most` bytes in all; 0 is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        let before = self.buffer.len();
        let in_body = matches!(self.state, State::Body(Body::Length(_) | Body::Chunked(_)));
        self.buffer.resize(most.min(before + READ_BYTES).max(before), 0);
        let mut room = ReadBuf::new(&mut self.buffer[before..]);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut room);
        let read = room.filled().len();
        self.buffer.truncate(before + read);
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        match polled {
            Poll::Ready(Ok(())) => {
                if matches!(self.state, State::Head { scanned: 0 }) && before == 0 && read > 0 {
                    self.read_deadline.no_later_than(self.limits.head_timeout);
                }
                if in_body {
                    self.read_deadline.clear();
                }
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if in_body {
                    self.read_deadline.set_if_clear(self.limits.stall);
                }
                ready!(self.poll_read_deadline(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Ready when the client has been silent for too long.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.read_deadline.poll(cx));
            if matches!(self.state, State::Head { .. }) && !self.in_flight.is_empty() {
                // An answer is on its way: the client has nothing to say meanwhile.
                self.read_deadline.set(self.limits.keep_alive);
                continue;
            }
            if matches!(self.state, State::Head { .. }) && !self.buffer.is_empty() {
                self.refuse(Rejection::HeadTimeout);
            }
            return Poll::Ready(());
        }
    }

    fn poll_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(done) => {
                self.write_deadline.clear();
                Poll::Ready(done)
            }
            Poll::Pending => {
                self.write_deadline.set_if_clear(self.limits.stall);
                ready!(self.write_deadline.poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Read for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let give = ready!(self.poll_give(cx, out.remaining()))?;
        out.put_slice(&self.buffer[..give]);
        self.buffer.drain(..give);
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.poll_stalled(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.poll_stalled(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Bytes asked for at once.
const READ_BYTES: usize = 4096;

/// Bytes of a WebSocket that are kept before its 101; beyond it the client waits.
const EARLY_BYTES_MAX: usize = 16 * 1024;
