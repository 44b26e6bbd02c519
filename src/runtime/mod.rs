//! A running gate: listeners bound, workers and services started, signals awaited, the way down.

mod admin;
mod banner;
mod limits;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use crate::runtime::admin::AdminPlan;
pub use crate::runtime::banner::{Audience, Banner};

use crate::backends::health::{self, HealthCheck};
use crate::backends::set::Backends;
use crate::certs::{self, CertStore};
use crate::drain::{Drain, DrainTimes, Phase};
use crate::proxy::accept::{self, Workers};
use crate::proxy::{Gate, GateSettings, redirect};
use crate::runtime::admin::Desk;
use crate::status::endpoint::{Endpoint, SocketFile};
use crate::status::{self, Check, Drained, Status};
use crate::telemetry::clock;
use crate::telemetry::metrics::Metrics;

/// What is to run: the configuration's working parts.
pub struct Plan {
    /// Where TLS is spoken.
    pub https: Vec<SocketAddr>,
    /// Where plain HTTP is sent to https.
    pub http_redirect: Option<SocketAddr>,
    /// Where probes and metrics are answered.
    pub status: Option<SocketAddr>,
    /// Where an operator asks.
    pub admin: Option<AdminPlan>,
    /// Whether the gate is ready only while a backend is up.
    pub require_backend: bool,
    /// What is served.
    pub certificates: Arc<CertStore>,
    /// Between two looks at the certificates' content.
    pub reload_interval: Duration,
    /// What every connection goes through.
    pub gate: GateSettings,
    /// How backends are checked; `None` takes them all for up.
    pub health: Option<HealthCheck>,
    /// Bounds of the way down.
    pub drain: DrainTimes,
    /// Connections at once; `None` follows the file limit.
    pub connections_max: Option<usize>,
    /// Threads that carry connections.
    pub workers: usize,
    /// What a person sees at start.
    pub banner: Banner,
}

/// Why a gate could not run.
#[derive(Debug)]
pub enum RunError {
    /// An address could not be bound.
    Bind(SocketAddr, io::Error),
    /// A Unix socket could not be made.
    Socket(PathBuf, io::Error),
    /// The system gave no thread, timer or signal.
    System(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => {
                write!(f, "cannot listen on {address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::PermissionDenied if address.port() < 1024 => {
                        f.write_str("; ports below 1024 need CAP_NET_BIND_SERVICE")
                    }
                    io::ErrorKind::AddrInUse => f.write_str("; another process listens there"),
                    _ => Ok(()),
                }
            }
            Self::Socket(path, error) => {
                write!(f, "cannot listen on unix:{}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::NotFound => f.write_str("; its directory has to exist"),
                    io::ErrorKind::AddrInUse => f.write_str("; another process listens there"),
                    _ => Ok(()),
                }
            }
            Self::System(error) => write!(f, "the system refused: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// A gate that serves.
pub struct Running {
    addresses: Addresses,
    gate: Arc<Gate>,
    drain_times: DrainTimes,
    reload: Arc<Notify>,
    /// An operator asks for the drain.
    asked_to_drain: Arc<Notify>,
    signals: Signals,
    services: Vec<JoinHandle<()>>,
    /// The status and the admin listener, which finish what they have begun once `stop` is gone.
    desks: Vec<JoinHandle<()>>,
    stop: watch::Sender<()>,
    _socket_file: Option<SocketFile>,
}

/// Installed before the gate says that it runs: who reads that may send one at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Where a gate listens, with the ports that the system chose.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// TLS.
    pub https: Vec<SocketAddr>,
    /// Redirects.
    pub http_redirect: Option<SocketAddr>,
    /// Probes and metrics.
    pub status: Option<SocketAddr>,
    /// The operator's.
    pub admin: Option<Endpoint>,
}

/// Binds everything, then starts everything: either all of it runs or nothing does.
///
/// # Errors
/// When an address cannot be bound, or the system gives no thread.
pub fn start(mut plan: Plan, metrics: &Arc<Metrics>) -> Result<Running, RunError> {
    let signals = Signals::install().map_err(RunError::System)?;
    let connections_max = limits::connections_max(plan.connections_max);
    let https = plan.https.iter().map(|at| bind(*at)).collect::<Result<Vec<_>, _>>()?;
    let redirect = plan.http_redirect.map(bind).transpose()?;
    let status_listener = plan.status.map(bind).transpose()?;
    let admin = plan.admin.as_ref().map(|admin| admin::listen(admin, &mut plan.banner.warnings));
    let admin = admin.transpose()?.flatten();
    let addresses = Addresses {
        https: https.iter().map(local).collect::<Result<_, _>>()?,
        http_redirect: redirect.as_ref().map(local).transpose()?,
        status: status_listener.as_ref().map(local).transpose()?,
        admin: admin.as_ref().map(|bound| bound.endpoint.clone()),
    };
    let drain = Drain::new();
    let gate = Arc::new(Gate::new(plan.gate, Arc::clone(metrics), Arc::clone(&drain)));
    let workers = Workers::start(&gate, plan.workers, connections_max).map_err(RunError::System)?;
    let workers = Arc::new(workers);
    let reload = Arc::new(Notify::new());
    let asked_to_drain = Arc::new(Notify::new());
    let (stop, stopped) = watch::channel(());
    let stopped = move || {
        let mut stopped = stopped.clone();
        // Only ever fails, once the sender is gone.
        async move { _ = stopped.changed().await }
    };
    plan.banner.announce(&addresses, &gate.backends, connections_max);

    let mut services = Vec::new();
    health::publish(&gate.backends, metrics);
    if let Some(check) = plan.health {
        let (backends, resolver) = (Arc::clone(&gate.backends), Arc::clone(&gate.resolver));
        let watching = health::watch(backends, check, resolver, Arc::clone(metrics));
        services.push(tokio::spawn(watching));
    }
    services.push(tokio::spawn(certs::watch(
        Arc::clone(&plan.certificates),
        plan.reload_interval,
        Arc::clone(&reload),
        Arc::clone(metrics),
        std::future::pending(),
    )));
    for listener in https {
        let accepting = accept::start(listener, Arc::clone(&workers)).map_err(RunError::System)?;
        services.push(tokio::spawn(accepting));
    }
    if let Some(listener) = redirect {
        let listener = asynchronous(listener)?;
        let https_port = addresses.https.first().map_or(443, SocketAddr::port);
        let drain = Arc::clone(&drain);
        services.push(tokio::spawn(async move {
            redirect::serve(listener, https_port, drain.reached(Phase::Draining)).await;
        }));
    }
    let mut desks = Vec::new();
    let mut socket_file = None;
    if let (Some(bound), Some(admin)) = (admin, plan.admin) {
        let desk = Desk {
            gate: Arc::clone(&gate),
            certificates: Arc::clone(&plan.certificates),
            config_hash: plan.banner.config_hash,
            reload: Arc::clone(&reload),
            drain: Arc::clone(&asked_to_drain),
        };
        socket_file = bound.file;
        let serving = status::admin::serve(bound.listener, desk.open(admin.token), stopped());
        desks.push(tokio::spawn(serving));
    }
    let drained = Drained::new(Arc::clone(&drain));
    let readiness = Readiness {
        certificates: plan.certificates,
        backends: Arc::clone(&gate.backends),
        require_backend: plan.require_backend,
        drain,
        workers,
    };
    let readiness = Arc::new(readiness);
    services.push(tokio::spawn(announce_ready(Arc::clone(&readiness))));
    services.push(tokio::spawn(tidy(Arc::clone(&gate))));
    if let Some(listener) = status_listener {
        let listener = asynchronous(listener)?;
        let tidied = Arc::clone(&gate);
        let status = Arc::new(Status {
            metrics: Arc::clone(metrics),
            ready: Box::new(move || readiness.checks()),
            before_metrics: Box::new(move || tidied.refresh_metrics()),
            drained,
        });
        desks.push(tokio::spawn(status::serve(listener, status, stopped())));
    }
    Ok(Running {
        addresses,
        gate,
        drain_times: plan.drain,
        reload,
        asked_to_drain,
        signals,
        services,
        desks,
        stop,
        _socket_file: socket_file,
    })
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second one cuts what is left at once. SIGHUP
    /// reloads the certificates. When an operator asks for the drain, the first signal in it only
    /// asks for what happens already.
    pub async fn until_signalled(mut self) {
        let signal = loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break Some("SIGTERM"),
                _ = self.signals.interrupt.recv() => break Some("SIGINT"),
                _ = self.signals.hang_up.recv() => self.reload.notify_one(),
                () = self.asked_to_drain.notified() => break None,
            }
        };
        let Signals { terminate, interrupt, .. } = &mut self.signals;
        let second = async {
            for _ in signal.map_or(0, |_| 1)..2 {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
        };
        let (gate, times) = (&self.gate, self.drain_times);
        tokio::select! {
            () = drain(gate, times, signal) => {}
            () = report_progress(&gate.drain) => {}
            () = second => cut(gate).await,
        }
        if signal.is_none() {
            tokio::time::sleep(LAST_QUESTIONS).await;
        }
        self.end().await;
    }

    /// Ends what is left and says so. Those who wait for an answer get theirs.
    async fn end(self) {
        drop(self.stop);
        for desk in self.desks {
            // It has a bound of its own; a desk that panicked has nobody waiting.
            let _ = desk.await;
        }
        for service in &self.services {
            service.abort();
        }
        tracing::info!(event = "gate.stopped", "stopped");
    }
}

/// Goes down in order: not ready, wait, close the listeners, wait for the sockets, cut the rest.
async fn drain(gate: &Gate, times: DrainTimes, signal: Option<&'static str>) {
    gate.metrics.draining.set(1);
    tracing::info!(
        event = "drain.started",
        signal,
        sockets = gate.drain.live(),
        "draining: not ready from now on"
    );
    gate.drain.advance(Phase::Announced);
    // With nobody connected there is still a load balancer that has to notice.
    tokio::time::sleep(times.delay).await;
    gate.drain.advance(Phase::Draining);
    match timeout(times.timeout, gate.drain.empty()).await {
        Ok(()) => drained(0),
        Err(_) => cut(gate).await,
    }
}

/// Cuts what is left, and leaves it a moment to end in order and be logged.
async fn cut(gate: &Gate) {
    let left = gate.drain.live();
    gate.drain.advance(Phase::Cutting);
    // What does not end by then ends with the process.
    let _ = timeout(CUTTING, gate.drain.empty()).await;
    drained(left);
}

fn drained(sockets_cut: usize) {
    tracing::info!(event = "drain.finished", sockets_cut, "drained");
}

/// Says every few seconds how many are left. Never ends.
async fn report_progress(drain: &Drain) {
    loop {
        tokio::time::sleep(PROGRESS).await;
        tracing::info!(event = "drain.progress", sockets = drain.live(), "draining");
    }
}

/// What `/readyz` looks at.
struct Readiness {
    certificates: Arc<CertStore>,
    backends: Arc<Backends>,
    require_backend: bool,
    drain: Arc<Drain>,
    workers: Arc<Workers>,
}

impl Readiness {
    fn checks(&self) -> Vec<Check> {
        let (all, up) = self.backends.counts();
        let failing = |fails: bool, why: &dyn Fn() -> String| fails.then(why);
        let draining = self.drain.phase() >= Phase::Announced;
        let expired = !self.certificates.default_is_valid(clock::wall());
        let full = self.workers.fullness();
        vec![
            // They are bound before anything is served here.
            Check { name: "listeners", failing: None },
            Check {
                name: "certificate",
                failing: failing(expired, &|| "the default certificate is not valid".to_owned()),
            },
            Check {
                name: "backend",
                failing: failing(self.require_backend && up == 0, &|| {
                    format!("none of {all} is up")
                }),
            },
            Check { name: "drain", failing: failing(draining, &|| "draining".to_owned()) },
            Check {
                name: "connections",
                failing: failing(full >= FULL, &|| format!("{:.0} % of the limit", full * 100.0)),
            },
        ]
    }
}

/// Says once that the gate is ready.
async fn announce_ready(readiness: Arc<Readiness>) {
    let mut looks = tokio::time::interval(READY_LOOKS);
    loop {
        looks.tick().await;
        if readiness.checks().iter().all(|check| check.failing.is_none()) {
            tracing::info!(event = "gate.ready", "ready");
            return;
        }
    }
}

/// Lets the limiter forget idle clients.
async fn tidy(gate: Arc<Gate>) {
    let mut rounds = tokio::time::interval(TIDY);
    loop {
        rounds.tick().await;
        gate.tidy();
    }
}

/// Where IPv6 is not to be had, `[::]` means everybody over IPv4.
fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    let bound = match (accept::bind(address), address.ip()) {
        (Err(error), IpAddr::V6(any))
            if any.is_unspecified() && error.kind() != io::ErrorKind::AddrInUse =>
        {
            accept::bind(SocketAddr::from(([0, 0, 0, 0], address.port()))).map_err(|_| error)
        }
        (bound, _) => bound,
    };
    bound.map_err(|error| RunError::Bind(address, error))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, RunError> {
    listener.local_addr().map_err(RunError::System)
}

fn asynchronous(listener: TcpListener) -> Result<tokio::net::TcpListener, RunError> {
    let unblocked = listener.set_nonblocking(true);
    unblocked.and_then(|()| tokio::net::TcpListener::from_std(listener)).map_err(RunError::System)
}

/// From here on, as a share of the connection limit, the gate is not ready.
const FULL: f64 = 0.98;

const READY_LOOKS: Duration = Duration::from_millis(50);

/// Between two sweeps of the limiter's table.
const TIDY: Duration = Duration::from_secs(10);

const PROGRESS: Duration = Duration::from_secs(5);

/// After a drain that an operator asked for: `wsgate drain --wait` looks once more, and in a
/// container it would be killed with the gate before it could say that all is well.
const LAST_QUESTIONS: Duration = Duration::from_secs(1);

/// For connections to end in order once they are cut.
const CUTTING: Duration = Duration::from_secs(2);
