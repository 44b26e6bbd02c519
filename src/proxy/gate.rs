//! What all connections share: the policies, the backends, the counters. Built once from the
//! configuration.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::backends::resolve::Resolver;
use crate::backends::set::Backends;
use crate::drain::{Drain, Phase};
use crate::policy::client::TrustedProxies;
use crate::policy::headers::{Forwarding, SecurityHeaders};
use crate::policy::origin::OriginPolicy;
use crate::policy::quota::{ClientKey, Quota, QuotaLimits};
use crate::proxy::accept::Admission;
use crate::proxy::session::{ConnectionId, ConnectionIds};
use crate::proxy::wire::WireLimits;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sample::Sampler;
use crate::tls::{Terminator, TlsInfo, TlsStream};
use crate::tunnel::{Tally, TunnelLimits};

/// The working parts, as the configuration asks for them.
pub struct GateSettings {
    /// TLS.
    pub terminator: Terminator,
    /// Who may open a WebSocket.
    pub origins: OriginPolicy,
    /// Who is believed about addresses.
    pub trusted: TrustedProxies,
    /// Limits by client.
    pub quota: QuotaLimits,
    /// What the backend is told.
    pub forwarding: Forwarding,
    /// What every response carries.
    pub security: SecurityHeaders,
    /// Where connections go.
    pub backends: Backends,
    /// Bounds on the way there.
    pub upstream: UpstreamTimes,
    /// Bytes of a request head.
    pub head_bytes: usize,
    /// For a request head.
    pub head_timeout: Duration,
    /// Bounds of a tunnel.
    pub tunnel: TunnelLimits,
    /// Whether requests that are not opening handshakes are proxied.
    pub http_enabled: bool,
    /// What is logged of a connection.
    pub log: AccessLog,
}

/// Bounds on the way to a backend.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamTimes {
    /// For one connect, name resolution included.
    pub connect: Duration,
    /// For the head of the answer.
    pub response: Duration,
    /// Further backends tried when a connect fails.
    pub retries: usize,
}

/// `log.*`, as far as it concerns connections.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Whether `ws.opened` and `ws.closed` are written.
    pub enabled: bool,
    /// How client addresses appear.
    pub client_ip: ClientIpLog,
    /// Query parameters that appear in `url.path`.
    pub query_allow: Vec<String>,
}

/// `log.client_ip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIpLog {
    /// Whole.
    Full,
    /// IPv4 without its last octet, IPv6 by /48.
    Masked,
}

/// What all connections share.
pub struct Gate {
    pub(crate) terminator: Terminator,
    pub(crate) origins: OriginPolicy,
    pub(crate) trusted: TrustedProxies,
    quota: Mutex<Quota>,
    pub(crate) forwarding: Forwarding,
    pub(crate) security: SecurityHeaders,
    pub(crate) backends: Arc<Backends>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) upstream: UpstreamTimes,
    pub(crate) wire: WireLimits,
    pub(crate) tunnel: TunnelLimits,
    pub(crate) tally: Tally,
    pub(crate) http_enabled: bool,
    pub(crate) log: AccessLog,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) ids: ConnectionIds,
    /// `now` of the quota table counts from here.
    started: Instant,
    tls_errors: Mutex<Sampler>,
    rejections: Mutex<Sampler>,
}

impl Gate {
    /// A gate of these parts.
    pub(crate) fn new(settings: GateSettings, metrics: Arc<Metrics>, drain: Arc<Drain>) -> Self {
        Self {
            terminator: settings.terminator,
            origins: settings.origins,
            trusted: settings.trusted,
            quota: Mutex::new(Quota::new(settings.quota)),
            forwarding: settings.forwarding,
            security: settings.security,
            backends: Arc::new(settings.backends),
            resolver: Arc::new(Resolver::from_system()),
            upstream: settings.upstream,
            wire: WireLimits {
                head_bytes: settings.head_bytes,
                head_timeout: settings.head_timeout,
                keep_alive: KEEP_ALIVE,
                stall: STALL,
            },
            tunnel: settings.tunnel,
            tally: Tally {
                bytes_in: metrics.websocket_bytes.with_label_values(&["in"]),
                bytes_out: metrics.websocket_bytes.with_label_values(&["out"]),
                messages_in: metrics.websocket_messages.with_label_values(&["in"]),
                messages_out: metrics.websocket_messages.with_label_values(&["out"]),
            },
            http_enabled: settings.http_enabled,
            log: settings.log,
            metrics,
            drain,
            ids: ConnectionIds::new(),
            started: Instant::now(),
            tls_errors: Mutex::new(Sampler::new(64, LINES_PER_SECOND)),
            rejections: Mutex::new(Sampler::new(1024, LINES_PER_SECOND)),
        }
    }

    /// Ends TLS; a failure is counted, logged and `None`. Who has not got that far when everything is
    /// cut is gone.
    pub(crate) async fn shake_hands(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
    ) -> Option<(TlsStream, TlsInfo)> {
        let begun = Instant::now();
        let shaken = tokio::select! {
            shaken = self.terminator.handshake(tcp) => shaken,
            () = self.drain.reached(Phase::Cutting) => {
                self.metrics.drain_forced_closes.inc();
                return None;
            }
        };
        self.metrics.tls_handshake_duration.observe(begun.elapsed().as_secs_f64());
        match shaken {
            Ok((stream, info)) => {
                let resumed = if info.resumed { "true" } else { "false" };
                self.metrics.tls_handshakes.with_label_values(&[info.version, resumed]).inc();
                Some((stream, info))
            }
            Err((reason, error)) => {
                let label = reason.label();
                self.metrics.tls_handshake_failures.with_label_values(&[label]).inc();
                if let Some(suppressed) = admit(&self.tls_errors, label) {
                    tracing::warn!(
                        event = "tls.client_error",
                        "network.peer.address" = %self.log.address(peer.ip()),
                        "error.type" = label,
                        "error.message" = %error,
                        suppressed,
                        "TLS handshake failed"
                    );
                }
                None
            }
        }
    }

    /// The table of clients, for one decision. Never held across an await.
    pub(crate) fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The quota table's clock.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether a refusal of `client` is logged, and how many were not since the last one.
    pub(crate) fn admit_rejection_line(&self, client: IpAddr) -> Option<u64> {
        admit(&self.rejections, client)
    }

    /// Lets the limiter forget idle clients.
    pub(crate) fn tidy(&self) {
        self.quota().sweep(self.now());
    }

    /// Brings the limiter's figures up to date.
    pub(crate) fn refresh_metrics(&self) {
        let mut quota = self.quota();
        let tracked = i64::try_from(quota.tracked()).unwrap_or(i64::MAX);
        self.metrics.ratelimit_tracked_clients.set(tracked);
        self.metrics.ratelimit_evictions.inc_by(quota.take_evicted());
    }
}

fn admit(sampler: &Mutex<Sampler>, key: impl std::hash::Hash) -> Option<u64> {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    sampler.lock().unwrap_or_else(PoisonError::into_inner).admit(hasher.finish(), Instant::now())
}

/// One socket that counts against its client's bound, until dropped.
pub(crate) struct ClientSlot {
    gate: Arc<Gate>,
    key: Option<ClientKey>,
}

impl ClientSlot {
    pub(crate) fn new(gate: Arc<Gate>, key: Option<ClientKey>) -> Self {
        Self { gate, key }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.gate.quota().close(key);
        }
    }
}

impl AccessLog {
    /// An address as the log may show it.
    pub(crate) fn address(&self, address: IpAddr) -> IpAddr {
        let address = address.to_canonical();
        match (self.client_ip, address) {
            (ClientIpLog::Full, _) => address,
            (ClientIpLog::Masked, IpAddr::V4(v4)) => {
                let [a, b, c, _] = v4.octets();
                IpAddr::from([a, b, c, 0])
            }
            (ClientIpLog::Masked, IpAddr::V6(v6)) => IpAddr::V6((v6.to_bits() >> 80 << 80).into()),
        }
    }
}

/// One client connection, as its requests see it.
pub(crate) struct Connection {
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(crate) tls: TlsInfo,
    pub(crate) admission: Admission,
}

impl Connection {
    pub(crate) fn new(
        gate: Arc<Gate>,
        peer: SocketAddr,
        tls: TlsInfo,
        admission: Admission,
    ) -> Self {
        let id = gate.ids.next();
        Self { gate, id, peer, tls, admission }
    }
}

/// Between two requests on one connection, as nginx keeps them.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// For a client that neither sends nor takes a byte of a body, as nginx waits.
const STALL: Duration = Duration::from_secs(60);

/// Log lines of one kind and one key; more are counted and said with the next.
const LINES_PER_SECOND: u32 = 10;
