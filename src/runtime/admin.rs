//! The admin listener of a running gate: bound, and told what to answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::certs::CertStore;
use crate::drain::{Drain, Phase};
use crate::proxy::Gate;
use crate::runtime::{RunError, asynchronous, bind};
use crate::status::admin::Admin;
use crate::status::admin::guard::{Guard, Token};
use crate::status::admin::report::{Backend, Certificate, Connections, Report, WebSockets};
use crate::status::endpoint::{Endpoint, SocketFile};
use crate::status::listener::Listener;

/// Where an operator asks, and who that is.
#[derive(Clone, Debug)]
pub struct AdminPlan {
    /// Where it listens.
    pub listen: Endpoint,
    /// Whether the operator chose the place. If not, a gate whose place is taken goes without.
    pub spelled_out: bool,
    /// What a caller has to show.
    pub token: Option<Token>,
}

/// A listener that is bound.
pub(super) struct Bound {
    pub(super) listener: Listener,
    /// With the port that the system chose.
    pub(super) endpoint: Endpoint,
    /// Removed when dropped.
    pub(super) file: Option<SocketFile>,
}

/// Binds what `plan` asks for. Where the place is the default and cannot be had, there is none, and
/// `warnings` say so.
pub(super) fn listen(
    plan: &AdminPlan,
    warnings: &mut Vec<String>,
) -> Result<Option<Bound>, RunError> {
    match bound(&plan.listen) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if plan.spelled_out => Err(error),
        Err(error) => {
            warnings.push(format!(
                "{error}: `wsgate status`, `reload` and `drain` do not reach this gate; set \
                 admin.listen, to null if that is meant"
            ));
            Ok(None)
        }
    }
}

fn bound(at: &Endpoint) -> Result<Bound, RunError> {
    match at {
        Endpoint::Tcp(address) => {
            let listener = asynchronous(bind(*address)?)?;
            let endpoint = Endpoint::Tcp(listener.local_addr().map_err(RunError::System)?);
            Ok(Bound { listener: Listener::Tcp(listener), endpoint, file: None })
        }
        Endpoint::Unix(path) => {
            let failed = |error: io::Error| RunError::Socket(path.clone(), error);
            let (listener, file) = SocketFile::listen(path).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
            let (listener, file) = (Listener::Unix(listener), Some(file));
            Ok(Bound { listener, endpoint: at.clone(), file })
        }
    }
}

/// What the listener's answers are made of.
pub(super) struct Desk {
    pub(super) gate: Arc<Gate>,
    pub(super) certificates: Arc<CertStore>,
    pub(super) config_hash: String,
    pub(super) reload: Arc<Notify>,
    pub(super) drain: Arc<Notify>,
}

impl Desk {
    pub(super) fn open(self, token: Option<Token>) -> Arc<Admin> {
        let Self { gate, certificates, config_hash, reload, drain } = self;
        let started = Instant::now();
        let report = move || report(&gate, &certificates, &config_hash, started.elapsed());
        Arc::new(Admin::new(
            Guard::new(token),
            Box::new(report),
            Box::new(move || reload.notify_one()),
            Box::new(move || drain.notify_one()),
        ))
    }
}

fn report(gate: &Gate, certificates: &CertStore, config_hash: &str, uptime: Duration) -> Report {
    let drain: &Drain = &gate.drain;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let sockets = &gate.metrics.websockets_active;
    let backends: Vec<Backend> = gate
        .backends
        .iter()
        .map(|backend| Backend {
            name: backend.name().to_owned(),
            up: backend.is_up(),
            active: count(sockets.with_label_values(&[backend.name()]).get()),
        })
        .collect();
    let certificates = certificates.summaries().into_iter().map(|summary| Certificate {
        names: match summary.names.is_empty() {
            true => vec![summary.subject],
            false => summary.names,
        },
        not_after: summary.not_after.to_string(),
        sha256: summary.sha256,
    });
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: uptime.as_secs(),
        phase: drain.phase(),
        drained: drain.phase() >= Phase::Draining && drain.is_empty(),
        config_hash: config_hash.to_owned(),
        connections: Connections {
            active: drain.live() as u64,
            limit: count(gate.metrics.connections_limit.get()),
        },
        websockets: WebSockets { active: backends.iter().map(|backend| backend.active).sum() },
        backends,
        certificates: certificates.collect(),
    }
}
