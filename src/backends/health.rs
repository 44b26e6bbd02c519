//! Active health checks: a TCP connect now and then. A backend that fails `fall` times in a row is
//! down and gets new sockets only when nobody is up; one that answers `rise` times is up again.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::backends::resolve::Resolver;
use crate::backends::set::{Backend, Backends};
use crate::telemetry::metrics::Metrics;

/// `upstreams.health`.
#[derive(Clone, Copy, Debug)]
pub struct HealthCheck {
    /// Between two checks of one backend.
    pub interval: Duration,
    /// For one connect, name resolution included.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
}

/// What a run of results in a row makes of a backend. Pure.
#[derive(Debug, Default)]
struct Streak {
    successes: u32,
    failures: u32,
    /// Before that the first result counts, and the first success: nobody waits for a row of them
    /// at start.
    was_up: bool,
}

/// The state a streak asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Up,
    Down,
    Stay,
}

impl Streak {
    fn add(&mut self, success: bool, check: &HealthCheck) -> Turn {
        if success {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
        }
        let eager = !self.was_up;
        self.was_up |= success;
        match success {
            true if eager || self.successes >= check.rise => Turn::Up,
            false if eager || self.failures >= check.fall => Turn::Down,
            _ => Turn::Stay,
        }
    }
}

/// Publishes the state of every backend to the metrics.
pub(crate) fn publish(backends: &Backends, metrics: &Metrics) {
    let (all, up) = backends.counts();
    metrics.backends.with_label_values(&["up"]).set(up as i64);
    metrics.backends.with_label_values(&["down"]).set((all - up) as i64);
    for backend in backends.iter() {
        let up = i64::from(backend.is_up());
        metrics.backend_up.with_label_values(&[backend.name()]).set(up);
    }
}

/// Checks every backend until dropped, the first time at once and then spread over the interval,
/// so that backends are not all asked in one moment.
pub(crate) async fn watch(
    backends: Arc<Backends>,
    check: HealthCheck,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
) {
    let count = u32::try_from(backends.iter().count()).unwrap_or(u32::MAX).max(1);
    let checks = backends.iter().zip(0u32..).map(|(backend, at)| {
        let offset = check.interval / count * at;
        watch_one(&backends, backend, offset, check, &resolver, &metrics)
    });
    futures_util::future::join_all(checks).await;
}

async fn watch_one(
    backends: &Backends,
    backend: &Backend,
    offset: Duration,
    check: HealthCheck,
    resolver: &Resolver,
    metrics: &Metrics,
) {
    let mut streak = Streak::default();
    let mut ticks = interval_at(Instant::now() + check.interval + offset, check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let result = match timeout(check.timeout, connect(backend, resolver)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let label = if result.is_ok() { "ok" } else { "error" };
        metrics.backend_health_checks.with_label_values(&[backend.name(), label]).inc();
        let changed = match streak.add(result.is_ok(), &check) {
            Turn::Up => backend.set_up(true),
            Turn::Down => backend.set_up(false),
            Turn::Stay => false,
        };
        if changed {
            publish(backends, metrics);
            match result {
                Ok(()) => tracing::info!(event = "backend.up", backend = %backend, "backend is up"),
                Err(error) => tracing::warn!(
                    event = "backend.down",
                    backend = %backend,
                    "error.message" = %error,
                    "backend is down"
                ),
            }
        }
        ticks.tick().await;
    }
}

/// A connect that is closed at once.
async fn connect(backend: &Backend, resolver: &Resolver) -> std::io::Result<()> {
    let addresses = resolver.addresses(backend).await?;
    TcpStream::connect(addresses.as_slice()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_turns_after_so_many_in_a_row() {
        let check = HealthCheck {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
        };
        use Turn::{Down, Stay, Up};
        let turns = |results: &[bool]| -> Vec<Turn> {
            let mut streak = Streak::default();
            results.iter().map(|ok| streak.add(*ok, &check)).collect()
        };
        assert_eq!(
            turns(&[true, false, false, true, false, false, false, true, true]),
            [Up, Stay, Stay, Stay, Stay, Stay, Down, Stay, Up]
        );
        assert_eq!(turns(&[false, true, true]), [Down, Up, Up], "nobody waits at start");
    }
}
