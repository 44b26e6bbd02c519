//! Every metric family of the gate, with its labels. Label values come from enums or from the
//! configuration, never from a peer, so the number of series is bounded by construction.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The metric families, as fields: a family that nobody declares here cannot be counted.
///
/// Cheap to share behind an `Arc`; every operation is an atomic.
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    pub(crate) connections_active: IntGauge,
    pub(crate) connections_limit: IntGauge,
    pub(crate) connections_accepted: IntCounter,
    /// reason = max_connections
    pub(crate) connections_rejected: IntCounterVec,
    /// version, resumed
    pub(crate) tls_handshakes: IntCounterVec,
    /// reason
    pub(crate) tls_handshake_failures: IntCounterVec,
    pub(crate) tls_handshake_duration: Histogram,
    /// name
    pub(crate) certificate_not_after: GaugeVec,
    /// name
    pub(crate) certificate_not_before: GaugeVec,
    /// result = ok, error
    pub(crate) certificate_reloads: IntCounterVec,
    /// outcome
    pub(crate) upgrades: IntCounterVec,
    pub(crate) upgrade_duration: Histogram,
    /// backend
    pub(crate) websockets_active: IntGaugeVec,
    pub(crate) websocket_duration: Histogram,
    /// direction = in, out
    pub(crate) websocket_bytes: IntCounterVec,
    /// direction = in, out
    pub(crate) websocket_messages: IntCounterVec,
    /// code, initiator = client, backend, gate
    pub(crate) websocket_closes: IntCounterVec,
    /// guard = message_size, message_rate, framing
    pub(crate) websocket_guard_closes: IntCounterVec,
    /// side = client, backend
    pub(crate) websocket_framing_errors: IntCounterVec,
    pub(crate) heartbeat_timeouts: IntCounter,
    /// code = 2xx…5xx
    pub(crate) http_requests: IntCounterVec,
    /// limit = upgrades, connections
    pub(crate) ratelimit_rejections: IntCounterVec,
    pub(crate) ratelimit_tracked_clients: IntGauge,
    pub(crate) ratelimit_evictions: IntCounter,
    /// state = up, down
    pub(crate) backends: IntGaugeVec,
    /// backend
    pub(crate) backend_up: IntGaugeVec,
    /// backend
    pub(crate) backend_connect_duration: HistogramVec,
    /// backend, reason
    pub(crate) backend_connect_failures: IntCounterVec,
    /// backend, result = ok, error
    pub(crate) backend_health_checks: IntCounterVec,
    pub(crate) forwarded_headers_stripped: IntCounter,
    pub(crate) draining: IntGauge,
    pub(crate) drain_forced_closes: IntCounter,
    pub(crate) log_events_dropped: IntCounter,
}

/// What a family is called and how it is labelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The full name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

impl Metrics {
    /// Registers every family, and the `process_*` ones.
    ///
    /// # Panics
    /// When two families share a name: a mistake in this file that any test run shows.
    #[must_use]
    pub fn new() -> Self {
        let new = Build { registry: Registry::new(), families: RefCell::default() };
        build_info(&new);
        #[cfg(target_os = "linux")]
        new.register(prometheus::process_collector::ProcessCollector::for_self());
        Self {
            connections_active: new.gauge("connections_active", "Client connections now open."),
            connections_limit: new
                .gauge("connections_limit", "Client connections the gate admits at once."),
            connections_accepted: new
                .counter("connections_accepted_total", "Client connections accepted."),
            connections_rejected: new.counters(
                "connections_rejected_total",
                "Client connections closed or refused before a request was read.",
                &["reason"],
            ),
            tls_handshakes: new.counters(
                "tls_handshakes_total",
                "TLS handshakes completed.",
                &["version", "resumed"],
            ),
            tls_handshake_failures: new.counters(
                "tls_handshake_failures_total",
                "TLS handshakes that failed.",
                &["reason"],
            ),
            tls_handshake_duration: new.histogram(
                "tls_handshake_duration_seconds",
                "From accept to the end of the TLS handshake, failures included.",
                FAST,
            ),
            certificate_not_after: new.float_gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "When a served certificate expires (Unix time).",
                &["name"],
            ),
            certificate_not_before: new.float_gauges(
                "tls_certificate_not_before_timestamp_seconds",
                "When a served certificate begins to be valid (Unix time).",
                &["name"],
            ),
            certificate_reloads: new.counters(
                "tls_certificate_reloads_total",
                "Certificate files that changed, by whether the change was taken.",
                &["result"],
            ),
            upgrades: new.counters(
                "upgrades_total",
                "Opening handshakes by outcome.",
                &["outcome"],
            ),
            upgrade_duration: new.histogram(
                "upgrade_duration_seconds",
                "From the request head to the 101.",
                FAST,
            ),
            websockets_active: new.gauges(
                "websockets_active",
                "WebSockets now open.",
                &["backend"],
            ),
            websocket_duration: new.histogram(
                "websocket_duration_seconds",
                "How long WebSockets lived.",
                LONG,
            ),
            websocket_bytes: new.counters(
                "websocket_bytes_total",
                "Bytes through tunnels after the 101; in = client to backend.",
                &["direction"],
            ),
            websocket_messages: new.counters(
                "websocket_messages_total",
                "Messages that went through tunnels whole; in = client to backend.",
                &["direction"],
            ),
            websocket_closes: new.counters(
                "websocket_closes_total",
                "WebSockets that ended, by the code of the first Close frame and who sent it.",
                &["code", "initiator"],
            ),
            websocket_guard_closes: new.counters(
                "websocket_guard_closes_total",
                "WebSockets that a guard closed.",
                &["guard"],
            ),
            websocket_framing_errors: new.counters(
                "websocket_framing_errors_total",
                "WebSockets whose framing broke, by the side that broke it.",
                &["side"],
            ),
            heartbeat_timeouts: new.counter(
                "heartbeat_timeouts_total",
                "WebSockets closed because the client answered no ping.",
            ),
            http_requests: new.counters(
                "http_requests_total",
                "Ordinary HTTP requests answered on the TLS listener.",
                &["code"],
            ),
            ratelimit_rejections: new.counters(
                "ratelimit_rejections_total",
                "Opening handshakes refused by a per-client limit.",
                &["limit"],
            ),
            ratelimit_tracked_clients: new
                .gauge("ratelimit_tracked_clients", "Clients the limiter holds an entry for."),
            ratelimit_evictions: new.counter(
                "ratelimit_evictions_total",
                "Idle clients that the limiter forgot to make room.",
            ),
            backends: new.gauges("backends", "Backends by state.", &["state"]),
            backend_up: new.gauges("backend_up", "1 while a backend is up.", &["backend"]),
            backend_connect_duration: new.histograms(
                "backend_connect_duration_seconds",
                "TCP connects to a backend that succeeded.",
                FAST,
                &["backend"],
            ),
            backend_connect_failures: new.counters(
                "backend_connect_failures_total",
                "Connects to a backend that failed.",
                &["backend", "reason"],
            ),
            backend_health_checks: new.counters(
                "backend_health_checks_total",
                "Active health checks.",
                &["backend", "result"],
            ),
            forwarded_headers_stripped: new.counter(
                "forwarded_headers_stripped_total",
                "Requests whose forged forwarding fields were dropped.",
            ),
            draining: new.gauge("draining", "1 while the gate drains."),
            drain_forced_closes: new.counter(
                "drain_forced_closes_total",
                "WebSockets cut because the drain time was over.",
            ),
            log_events_dropped: new.counter(
                "log_events_dropped_total",
                "Log lines dropped because the output was too slow.",
            ),
            registry: new.registry,
            families: new.families.into_inner(),
        }
    }

    /// Every family that is registered, those without a sample yet included. A test keeps the
    /// documentation in step with it.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The families as Prometheus text (exposition format 0.0.4).
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to a Vec fails only for a family without samples, which gather() leaves out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers each family as it is made.
struct Build {
    registry: Registry,
    families: RefCell<Vec<Family>>,
}

impl Build {
    fn keep<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let family = made.expect("a constant name and labels are valid");
        self.register(family.clone());
        family
    }

    fn register(&self, collector: impl Collector + 'static) {
        for (desc, samples) in collector.desc().into_iter().zip(collector.collect()) {
            let constant = desc.const_label_pairs.iter().map(|pair| pair.name().to_owned());
            self.families.borrow_mut().push(Family {
                name: desc.fq_name.clone(),
                kind: format!("{:?}", samples.get_field_type()).to_lowercase(),
                labels: constant.chain(desc.variable_labels.iter().cloned()).collect(),
            });
        }
        self.registry.register(Box::new(collector)).expect("family names are distinct");
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(opts(name, help), labels))
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.keep(GaugeVec::new(opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.keep(Histogram::with_opts(histogram_opts(name, help, buckets)))
    }

    fn histograms(&self, name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
        self.keep(HistogramVec::new(histogram_opts(name, help, buckets), labels))
    }
}

fn build_info(new: &Build) {
    let labelled = opts("build_info", "1, with the version as a label.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    new.keep(Gauge::with_opts(labelled)).set(1.0);
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace(NAMESPACE).buckets(buckets.to_vec())
}

const NAMESPACE: &str = "wsgate";

/// Handshakes and connects, in seconds.
const FAST: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Lives of sockets, in seconds: a second to a day.
const LONG: &[f64] = &[
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0,
];
