//! Bytes both ways: back-pressure, half-close, silence, age, drain. What is read goes through a
//! scratch buffer of the thread and is given on at once; nothing is held here.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::drain::{Drain, Phase};
use crate::tls::Ingested;
use crate::tunnel::end::End;
use crate::tunnel::{Closed, Ends, Reason, Side, TunnelLimits};

/// Carries bytes between the ends until both have ended, or something ends them.
///
/// # Cancel safety
/// Dropping the future closes both ends without a word.
pub(crate) async fn run<C: End, B: End>(
    ends: Ends<C, B>,
    limits: &TunnelLimits,
    drain: &Drain,
) -> Closed {
    let mut tunnel = Tunnel {
        inbound: Pipe::new(ends.from_client),
        outbound: Pipe::new(ends.from_backend),
        client: ends.client,
        backend: ends.backend,
        first_end: None,
    };
    let mut clock = Clock::start(limits);
    let mut looks = Looks(None);
    let (initiator, reason) = {
        let mut cut = pin!(drain.reached(Phase::Cutting));
        poll_fn(|cx| {
            let before = tunnel.bytes();
            if let Poll::Ready(end) = tunnel.poll(cx) {
                return Poll::Ready(end);
            }
            if cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready((Side::Gate, Reason::Drain));
            }
            while looks.poll(cx, tunnel.inbound.blocked).is_ready() {
                if tunnel.client.was_reset() {
                    return Poll::Ready((Side::Client, Reason::Reset));
                }
            }
            clock.poll(cx, tunnel.bytes() != before, tunnel.first_end.is_some())
        })
        .await
    };
    if initiator == Side::Gate {
        // What was written is on its way; an orderly end lets it arrive.
        let orderly = poll_fn(|cx| tunnel.poll_orderly(cx));
        let _ = timeout(ORDERLY, orderly).await;
    }
    let (bytes_in, bytes_out) = (tunnel.inbound.bytes, tunnel.outbound.bytes);
    Closed { initiator, reason, bytes_in, bytes_out }
}

struct Tunnel<C, B> {
    client: C,
    backend: B,
    /// Client to backend.
    inbound: Pipe,
    /// Backend to client.
    outbound: Pipe,
    first_end: Option<Side>,
}

impl<C: End, B: End> Tunnel<C, B> {
    fn bytes(&self) -> u64 {
        self.inbound.bytes + self.outbound.bytes
    }

    /// Moves what can be moved; ready when the tunnel has ended by itself.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Side, Reason)> {
        let (client, backend) = (&mut self.client, &mut self.backend);
        let inbound = self.inbound.poll(cx, client, backend);
        let outbound = self.outbound.poll(cx, backend, client);
        for (pipe, side) in [(&self.inbound, Side::Client), (&self.outbound, Side::Backend)] {
            if pipe.ended && self.first_end.is_none() {
                self.first_end = Some(side);
            }
        }
        match (inbound, outbound) {
            (Poll::Ready(Err(broken)), _) => Poll::Ready(broken.blame(Side::Client, Side::Backend)),
            (_, Poll::Ready(Err(broken))) => Poll::Ready(broken.blame(Side::Backend, Side::Client)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready((self.first_end.unwrap_or(Side::Client), Reason::Eof))
            }
            _ => Poll::Pending,
        }
    }

    /// Ends both directions; an end that fails has ended.
    fn poll_orderly(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let client = self.client.poll_end(cx).is_ready();
        let backend = self.backend.poll_end(cx).is_ready();
        if client && backend { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One direction.
struct Pipe {
    /// What came behind the handshake and has not been given yet.
    early: Vec<u8>,
    /// The sink does not take what it was given.
    blocked: bool,
    bytes: u64,
    /// The source has ended.
    ended: bool,
    /// The end has been passed on.
    done: bool,
}

/// Which of a pipe's two connections broke, and how.
enum Broken {
    Source(Reason),
    Sink(Reason),
}

impl Broken {
    fn blame(self, source: Side, sink: Side) -> (Side, Reason) {
        match self {
            Self::Source(reason) => (source, reason),
            Self::Sink(reason) => (sink, reason),
        }
    }
}

impl Pipe {
    fn new(early: Vec<u8>) -> Self {
        Self { early, blocked: false, bytes: 0, ended: false, done: false }
    }

    /// Moves bytes until one side would block. Ready once the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl End,
        sink: &mut impl End,
    ) -> Poll<Result<(), Broken>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            // Nothing is read while the sink has not taken all of what was read before.
            let gone = sink.poll_gone(cx);
            self.blocked = gone.is_pending();
            ready!(gone).map_err(|error| Broken::Sink(Reason::of(&error)))?;
            if self.ended {
                let shut = ready!(sink.poll_end(cx));
                self.done = true;
                // A sink that is gone already has noticed by itself.
                return Poll::Ready(match shut {
                    Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                        Err(Broken::Sink(Reason::of(&error)))
                    }
                    _ => Ok(()),
                });
            }
            let moved = SCRATCH.with_borrow_mut(|scratch| {
                scratch.clear();
                ready!(self.poll_take(cx, source, scratch))
                    .map_err(|error| Broken::Source(Reason::of(&error)))?;
                self.bytes += scratch.len() as u64;
                Poll::Ready(match scratch.is_empty() {
                    true => Ok(()),
                    false => {
                        sink.give(cx, scratch).map_err(|error| Broken::Sink(Reason::of(&error)))
                    }
                })
            });
            ready!(moved)?;
        }
        // Others want to run too.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl End,
        scratch: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            scratch.append(&mut self.early);
            self.early = Vec::new();
            return Poll::Ready(Ok(()));
        }
        self.ended = ready!(source.poll_take(cx, scratch))? == Ingested::End;
        Poll::Ready(Ok(()))
    }
}

/// When to ask whether the client was reset: while its backend takes nothing, nothing is read from
/// it that would tell. A timer that runs is not stopped: it looks when it fires.
struct Looks(Option<Pin<Box<Sleep>>>);

impl Looks {
    fn poll(&mut self, cx: &mut Context<'_>, blocked: bool) -> Poll<()> {
        if !blocked && self.0.is_none() {
            return Poll::Pending;
        }
        let due = self.0.get_or_insert_with(|| Box::pin(sleep(BETWEEN_LOOKS)));
        ready!(due.as_mut().poll(cx));
        self.0 = None;
        if blocked { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Silence and age, one timer for both.
struct Clock {
    idle: Option<Duration>,
    silent_since: Instant,
    oldest: Option<Instant>,
    half_closed: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    fn start(limits: &TunnelLimits) -> Self {
        let now = Instant::now();
        let mut clock = Self {
            idle: limits.idle_timeout,
            silent_since: now,
            oldest: limits.max_age.map(|age| now + age),
            half_closed: false,
            timer: None,
        };
        clock.timer = clock.next().map(|at| Box::pin(sleep_until(at)));
        clock
    }

    fn next(&self) -> Option<Instant> {
        let silent = self.idle.map(|idle| self.silent_since + idle);
        silent.into_iter().chain(self.oldest).min()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        moved: bool,
        half_closed: bool,
    ) -> Poll<(Side, Reason)> {
        if moved {
            self.silent_since = Instant::now();
        }
        if half_closed && !self.half_closed {
            self.half_closed = true;
            self.idle = Some(self.idle.map_or(HALF_CLOSED, |idle| idle.min(HALF_CLOSED)));
            self.silent_since = Instant::now();
            self.timer = self.next().map(|at| Box::pin(sleep_until(at)));
        }
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.oldest.is_some_and(|oldest| oldest <= now) {
                return Poll::Ready((Side::Gate, Reason::MaxAge));
            }
            // The timer is not moved for every byte; it looks when it fires.
            match self.next() {
                Some(at) if at > now => self.timer = Some(Box::pin(sleep_until(at))),
                Some(_) => return Poll::Ready((Side::Gate, Reason::IdleTimeout)),
                None => self.timer = None,
            }
        }
    }
}

thread_local! {
    /// What is read goes through here on its way; nothing stays.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SCRATCH_BYTES));
}

/// Read at once, and so the most that one direction keeps.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Reads in a row before other sockets get their turn.
const ROUNDS: usize = 16;

/// For the last bytes and the ends to be taken when the gate ends a tunnel.
const ORDERLY: Duration = Duration::from_secs(1);

/// How long a client's reset may stay unnoticed behind a backend that does not read.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// Silence that ends a tunnel of which one side has ended already.
const HALF_CLOSED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::tunnel::end::Plain;

    const LIMITS: TunnelLimits = TunnelLimits { idle_timeout: None, max_age: None };

    fn tunnel(
        limits: TunnelLimits,
        early: (&[u8], &[u8]),
    ) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Closed>) {
        let (client, client_end) = duplex(1024);
        let (backend, backend_end) = duplex(1024);
        let ends = Ends {
            client: Plain::new(client_end),
            backend: Plain::new(backend_end),
            from_client: early.0.to_vec(),
            from_backend: early.1.to_vec(),
        };
        let running = tokio::spawn(async move { run(ends, &limits, &Drain::new()).await });
        (client, backend, running)
    }

    #[tokio::test]
    async fn early_bytes_come_first_in_both_directions() {
        let (mut client, mut backend, running) =
            tunnel(LIMITS, (b"from client,", b"from backend,"));
        client.write_all(b"more").await.unwrap();
        backend.write_all(b"more").await.unwrap();
        client.shutdown().await.unwrap();
        backend.shutdown().await.unwrap();
        let (mut at_backend, mut at_client) = (Vec::new(), Vec::new());
        backend.read_to_end(&mut at_backend).await.unwrap();
        client.read_to_end(&mut at_client).await.unwrap();
        assert_eq!(at_backend, b"from client,more");
        assert_eq!(at_client, b"from backend,more");
        let closed = running.await.unwrap();
        assert_eq!((closed.bytes_in, closed.bytes_out), (16, 17));
    }

    #[tokio::test]
    async fn half_close_keeps_the_other_direction_open() {
        let (mut client, mut backend, running) = tunnel(LIMITS, (b"", b""));
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut [0; 8]).await.unwrap(), 0);
        backend.write_all(b"still here").await.unwrap();
        let mut got = [0; 10];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"still here");
        backend.shutdown().await.unwrap();
        let closed = running.await.unwrap();
        assert_eq!((closed.initiator, closed.reason), (Side::Client, Reason::Eof));
    }

    #[tokio::test]
    async fn a_reader_that_stops_stops_its_writer() {
        let (mut client, mut backend, running) = tunnel(LIMITS, (b"", b""));
        let chunk = [7u8; 4096];
        let mut accepted = 0usize;
        // Nobody reads at the backend: the writer must come to a halt within the bounds.
        while let Ok(written) = timeout(Duration::from_millis(200), client.write(&chunk)).await {
            accepted += written.unwrap();
            assert!(accepted <= SCRATCH_BYTES + 8192, "{accepted} bytes and no halt");
        }
        client.shutdown().await.ok();
        let mut all = Vec::new();
        let reading = backend.read_to_end(&mut all);
        reading.await.unwrap();
        assert_eq!(all.len(), accepted, "nothing is lost");
        drop((client, backend));
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_tunnel_and_traffic_keeps_it() {
        let limits = TunnelLimits { idle_timeout: Some(Duration::from_secs(10)), max_age: None };
        let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
        let begun = Instant::now();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(9)).await;
            client.write_all(b"x").await.unwrap();
            backend.read_exact(&mut [0]).await.unwrap();
        }
        let closed = running.await.unwrap();
        assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::IdleTimeout));
        let lived = begun.elapsed().as_secs();
        assert!((55..=56).contains(&lived), "{lived} s");
    }

    #[tokio::test(start_paused = true)]
    async fn age_ends_a_tunnel_however_busy() {
        let limits = TunnelLimits {
            idle_timeout: Some(Duration::from_secs(3600)),
            max_age: Some(Duration::from_secs(60)),
        };
        let (_client, _backend, running) = tunnel(limits, (b"", b""));
        let closed = running.await.unwrap();
        assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::MaxAge));
    }
}
