//! `/drained`: a long poll that ends when nobody is connected any more and nobody can come. An
//! application's `preStop` asks it, so that the application outlives its sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;

use crate::drain::{Drain, Phase, Share};
use crate::status::answer::text;
use crate::status::listener::Caller;

/// The end of the drain, and how many wait for it.
pub(crate) struct Drained {
    drain: Arc<Drain>,
    waiting: Arc<AtomicUsize>,
}

impl Drained {
    pub(crate) fn new(drain: Arc<Drain>) -> Self {
        Self { drain, waiting: Arc::default() }
    }

    /// Waits as long as `query` says.
    pub(super) async fn answer(
        &self,
        query: Option<&str>,
        caller: &Caller,
    ) -> Response<Full<Bytes>> {
        let Some(time) = time(query.unwrap_or_default()) else {
            return text(StatusCode::BAD_REQUEST, "timeout is in seconds, from 0 to 3600\n");
        };
        let Some(_share) = Share::take(&self.waiting, WAITING_MAX) else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many wait already\n");
        };
        caller.stays(time);
        let drained = async {
            // Until the listeners are closed, the next one may come.
            self.drain.reached(Phase::Draining).await;
            self.drain.empty().await;
        };
        match timeout(time, drained).await {
            Ok(()) => text(StatusCode::OK, "drained\n"),
            Err(_) => {
                let left = match self.drain.live() {
                    1 => "1 connection".to_owned(),
                    left => format!("{left} connections"),
                };
                let why = match self.drain.phase() {
                    Phase::Serving => "not draining",
                    Phase::Announced | Phase::Draining | Phase::Cutting => "draining",
                };
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}: {left} left\n"))
            }
        }
    }
}

/// `timeout=SECONDS`; `None` when it is not a number or too long.
fn time(query: &str) -> Option<Duration> {
    let mut given = query.split('&').filter_map(|parameter| parameter.strip_prefix("timeout="));
    let Some(seconds) = given.next() else { return Some(TIME) };
    let seconds = seconds.parse().ok().filter(|seconds| *seconds <= TIME_MAX.as_secs())?;
    Some(Duration::from_secs(seconds))
}

/// Polls at once, so that probes and scrapes still find a connection.
pub(super) const WAITING_MAX: usize = 16;
const TIME: Duration = Duration::from_secs(60);
const TIME_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_is_bounded() {
        for (query, expected) in [
            ("", Some(60)),
            ("verbose", Some(60)),
            ("timeout=0", Some(0)),
            ("a=b&timeout=3600", Some(3600)),
            ("timeout=3601", None),
            ("timeout=-1", None),
            ("timeout=1s", None),
            ("timeout=", None),
        ] {
            assert_eq!(time(query).map(|time| time.as_secs()), expected, "{query}");
        }
    }
}
