//! One WebSocket, as it is counted and logged: from the backend's 101 to the last byte. What goes
//! up here comes down by `Drop`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use prometheus::IntGauge;
use tokio::time::Instant;

use crate::backends::set::Backend;
use crate::proxy::gate::{ClientSlot, Connection, Gate};
use crate::telemetry::{clock, redact};
use crate::tunnel::{Closed, Reason};

/// Names a client connection in the log; unique within a process and unlikely to repeat in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    process: u32,
    number: u64,
}

impl ConnectionId {
    /// Its number, different in each process.
    pub(crate) fn number(self) -> u64 {
        self.number ^ u64::from(self.process)
    }
}

/// Where connection ids come from.
#[derive(Debug)]
pub(crate) struct ConnectionIds {
    process: u32,
    next: AtomicU64,
}

impl ConnectionIds {
    pub(crate) fn new() -> Self {
        let since_epoch = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let process = since_epoch.subsec_nanos() ^ std::process::id().rotate_left(16);
        Self { process, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> ConnectionId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        ConnectionId { process: self.process, number }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:x}", self.process, self.number)
    }
}

/// What the log says of the request that opened a WebSocket, redacted already.
pub(crate) struct Opening {
    pub(crate) client: IpAddr,
    pub(crate) origin: Option<String>,
    pub(crate) path: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) subprotocol: Option<String>,
}

/// A WebSocket that lives.
pub(crate) struct Session {
    gate: Arc<Gate>,
    id: ConnectionId,
    backend: Arc<Backend>,
    opened: Instant,
    active: IntGauge,
    _slot: ClientSlot,
}

impl Session {
    /// Counts and logs a WebSocket whose 101 has gone to the client.
    pub(crate) fn open(
        connection: &Connection,
        backend: Arc<Backend>,
        slot: ClientSlot,
        opening: &Opening,
    ) -> Self {
        let gate = Arc::clone(&connection.gate);
        let active = gate.metrics.websockets_active.with_label_values(&[backend.name()]);
        active.inc();
        if gate.log.enabled {
            tracing::info!(
                event = "ws.opened",
                conn_id = %connection.id,
                "client.address" = %gate.log.address(opening.client),
                "network.peer.address" = %gate.log.address(connection.peer.ip()),
                "server.address" = connection.tls.server_name.as_deref(),
                "tls.protocol.version" = connection.tls.version,
                "tls.cipher" = connection.tls.cipher,
                "tls.resumed" = connection.tls.resumed,
                origin = opening.origin.as_deref(),
                "url.path" = opening.path,
                "user_agent.original" = opening.user_agent.as_deref(),
                subprotocol = opening.subprotocol.as_deref(),
                backend = %backend,
                "WebSocket opened"
            );
        }
        let id = connection.id;
        Self { gate, id, backend, opened: Instant::now(), active, _slot: slot }
    }

    /// Counts and logs the end.
    pub(crate) fn close(self, closed: &Closed) {
        let metrics = &self.gate.metrics;
        let initiator = closed.initiator.label();
        let lived = self.opened.elapsed().as_secs_f64();
        metrics.websocket_duration.observe(lived);
        metrics.websocket_closes.with_label_values(&[closed.code.label(), initiator]).inc();
        match closed.reason {
            Reason::DrainCut => metrics.drain_forced_closes.inc(),
            Reason::Heartbeat => metrics.heartbeat_timeouts.inc(),
            Reason::Guard(guard) => {
                metrics.websocket_guard_closes.with_label_values(&[guard.label()]).inc();
            }
            Reason::Eof
            | Reason::Reset
            | Reason::IdleTimeout
            | Reason::MaxAge
            | Reason::Drain
            | Reason::Error => {}
        }
        if let Some(side) = closed.broken {
            metrics.websocket_framing_errors.with_label_values(&[side.label()]).inc();
        }
        if self.gate.log.enabled {
            tracing::info!(
                event = "ws.closed",
                conn_id = %self.id,
                backend = %self.backend,
                "close.code" = closed.code.get(),
                "close.initiator" = initiator,
                "close.reason" = closed.reason.label(),
                bytes_in = closed.bytes_in,
                bytes_out = closed.bytes_out,
                messages_in = closed.messages_in,
                messages_out = closed.messages_out,
                duration_s = (lived * 1e6).round() / 1e6,
                "WebSocket closed"
            );
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.active.dec();
    }
}

impl Opening {
    /// Takes from a request what the log may show.
    pub(crate) fn of(head: &http::request::Parts, client: IpAddr, query_allow: &[String]) -> Self {
        let text = |name: http::HeaderName| {
            let value = head.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let offered = text(http::header::SEC_WEBSOCKET_PROTOCOL);
        Self {
            client,
            origin: text(http::header::ORIGIN).map(|origin| redact::origin(&origin)),
            path: redact::url_path(target, query_allow),
            user_agent: text(http::header::USER_AGENT)
                .map(|agent| redact::bounded(&agent, redact::VALUE_BYTES)),
            subprotocol: offered.map(|offered| redact::subprotocols(&offered)),
        }
    }
}
