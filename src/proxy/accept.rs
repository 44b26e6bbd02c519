//! Accepting: sockets come in here, each takes a permit and goes to the worker with the fewest.
//! A worker is a thread with a runtime of its own; the task it spawns for a socket is the only one
//! that socket ever has.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use prometheus::IntGauge;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::drain::{Live, Phase, Share};
use crate::proxy::gate::Gate;
use crate::proxy::pool::Pool;
use crate::proxy::serve;
use crate::telemetry::sample::Sampler;

/// Whether a connection is one of those that the gate may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Within the limit.
    Within,
    /// Beyond it: there to be told so (503), nothing more.
    Beyond,
}

/// The right of one connection to exist; everything it counted comes down when it is dropped.
pub(crate) struct Permit {
    admission: Admission,
    active: IntGauge,
    worker: Arc<AtomicUsize>,
    _share: Share,
    _live: Live,
}

impl Permit {
    pub(crate) fn admission(&self) -> Admission {
        self.admission
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.active.dec();
        self.worker.fetch_sub(1, Ordering::Relaxed);
    }
}

type Arrival = (TcpStream, SocketAddr, Permit);

/// The threads that carry connections.
pub(crate) struct Workers {
    workers: Vec<Worker>,
    within: Arc<AtomicUsize>,
    beyond: Arc<AtomicUsize>,
    connections_max: usize,
    gate: Arc<Gate>,
}

struct Worker {
    arrivals: mpsc::UnboundedSender<Arrival>,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts `count` workers that hold `connections_max` connections in all.
    ///
    /// # Errors
    /// When the system gives no thread or no epoll instance.
    pub(crate) fn start(
        gate: &Arc<Gate>,
        count: usize,
        connections_max: usize,
    ) -> io::Result<Self> {
        let workers =
            (0..count.max(1)).map(|n| Worker::start(gate, n)).collect::<Result<_, _>>()?;
        gate.metrics.connections_limit.set(i64::try_from(connections_max).unwrap_or(i64::MAX));
        Ok(Self {
            workers,
            within: Arc::default(),
            beyond: Arc::default(),
            connections_max,
            gate: Arc::clone(gate),
        })
    }

    /// The share of the limit that is taken, 0 to 1.
    pub(crate) fn fullness(&self) -> f64 {
        self.within.load(Ordering::Relaxed) as f64 / self.connections_max.max(1) as f64
    }

    /// Hands a socket to the worker with the fewest; beyond every bound it is closed at once.
    fn give(&self, stream: TcpStream, peer: SocketAddr) {
        let metrics = &self.gate.metrics;
        let within =
            Share::take(&self.within, self.connections_max).map(|s| (s, Admission::Within));
        let share = within
            .or_else(|| Share::take(&self.beyond, BEYOND_MAX).map(|s| (s, Admission::Beyond)));
        let Some((share, admission)) = share else {
            metrics.connections_rejected.with_label_values(&["max_connections"]).inc();
            return;
        };
        if admission == Admission::Beyond {
            metrics.connections_rejected.with_label_values(&["max_connections"]).inc();
        }
        let fewest = self.workers.iter().min_by_key(|w| w.connections.load(Ordering::Relaxed));
        let Some(worker) = fewest else { return };
        metrics.connections_accepted.inc();
        metrics.connections_active.inc();
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let permit = Permit {
            admission,
            active: metrics.connections_active.clone(),
            worker: Arc::clone(&worker.connections),
            _share: share,
            _live: self.gate.drain.enter(),
        };
        // A worker that has ended leaves the socket closed, as the process is about to be.
        let _ = worker.arrivals.send((stream, peer, permit));
    }
}

impl Worker {
    fn start(gate: &Arc<Gate>, number: usize) -> io::Result<Self> {
        let (arrivals, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let gate = Arc::clone(gate);
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || runtime.block_on(work(gate, inbox)))?;
        Ok(Self { arrivals, connections: Arc::default() })
    }
}

async fn work(gate: Arc<Gate>, mut inbox: mpsc::UnboundedReceiver<Arrival>) {
    let pool = Pool::new(Arc::clone(&gate));
    while let Some((stream, peer, permit)) = inbox.recv().await {
        let registered =
            stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
        match registered {
            Ok(stream) => {
                tokio::spawn(serve(stream, peer, Arc::clone(&gate), pool.clone(), permit));
            }
            Err(error) => tracing::warn!("a socket could not be registered: {error}"),
        }
    }
}

/// Binds a listener whose sockets come without delay and notice dead peers.
///
/// # Errors
/// As `bind(2)`: the address is in use, not ours, or needs a privilege.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` means everybody, as it does for nginx and HAProxy by the time they are configured.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Notices within two minutes that a peer is gone without a word, on either side of the gate.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4)
}

/// Starts a thread that accepts until the gate drains, and returns what waits for the drain. A
/// thread, because a blocking accept is one system call a socket and registers it nowhere.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start(
    listener: TcpListener,
    workers: Arc<Workers>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let drain = Arc::clone(&workers.gate.drain);
    let handle = listener.try_clone()?;
    let listening = drain.listen();
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        accept(&listener, &workers);
        drop(listening);
    })?;
    Ok(async move {
        drain.reached(Phase::Draining).await;
        // Wakes the thread up, and from now on the kernel refuses who comes.
        if let Err(error) = SockRef::from(&handle).shutdown(Shutdown::Both) {
            tracing::warn!("a listener could not be closed: {error}");
        }
    })
}

/// An error never ends it: a peer's reset is nothing, exhaustion waits for something to be given
/// back, and says so once a second.
fn accept(listener: &TcpListener, workers: &Workers) {
    let mut failures = Sampler::new(1, 1);
    loop {
        match listener.accept() {
            Ok((stream, peer)) => workers.give(stream, peer),
            Err(_) if workers.gate.drain.phase() >= Phase::Draining => return,
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if let Some(suppressed) = failures.admit(0, Instant::now()) {
                    tracing::error!(
                        "error.message" = %error,
                        suppressed,
                        "accept failed, trying again"
                    );
                }
                thread::sleep(EXHAUSTED_PAUSE);
            }
        }
    }
}

/// accept(2) reports what happened to the connection meanwhile.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
    )
}

/// Connections beyond the limit that are answered with 503; further ones are closed unanswered.
pub const BEYOND_MAX: usize = 64;

/// Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Before accepting again when descriptors or memory ran out.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
