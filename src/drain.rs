//! The gate's way to its end: serving, refusing new sockets, cutting what is left. Whoever holds a
//! connection watches the phase; whoever waits for the last one watches the counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How far the gate is on its way to the end. Only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Everything is admitted.
    Serving,
    /// Not ready any more, so that load balancers look elsewhere; still serving who comes.
    Announced,
    /// Listeners are closed, new handshakes refused, idle HTTP connections closed.
    Draining,
    /// The drain time is over, or nobody wants to wait for it: whatever is open is cut.
    Cutting,
}

/// The phase, and how many connections live. Shared by all.
#[derive(Debug)]
pub(crate) struct Drain {
    phase: watch::Sender<Phase>,
    held: watch::Sender<Held>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    connections: usize,
    /// Whoever may still bring connections.
    listeners: usize,
}

/// Bounds of a drain, `drain.*`.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// Between "not ready" and closing the listeners.
    pub delay: Duration,
    /// For sockets to end by themselves, after that.
    pub timeout: Duration,
}

impl Drain {
    pub(crate) fn new() -> Arc<Self> {
        let (phase, held) = (watch::Sender::new(Phase::Serving), watch::Sender::default());
        Arc::new(Self { phase, held })
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to `phase`; going back is ignored.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    /// Waits for `phase` or a later one. Cancel safe.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives in self, so this ends only by the phase.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Connections now open.
    pub(crate) fn live(&self) -> usize {
        self.held.borrow().connections
    }

    /// Counts a connection for as long as what is returned lives.
    pub(crate) fn enter(self: &Arc<Self>) -> Live {
        self.held.send_modify(|held| held.connections += 1);
        Live(Arc::clone(self))
    }

    /// Counts a listener for as long as what is returned lives.
    pub(crate) fn listen(self: &Arc<Self>) -> Listening {
        self.held.send_modify(|held| held.listeners += 1);
        Listening(Arc::clone(self))
    }

    /// Whether no connection is left and no listener can bring one.
    pub(crate) fn is_empty(&self) -> bool {
        let held = *self.held.borrow();
        held.connections == 0 && held.listeners == 0
    }

    /// Waits until no connection is left and no listener can bring one. Cancel safe.
    pub(crate) async fn empty(&self) {
        let nothing = |held: &Held| held.connections == 0 && held.listeners == 0;
        let _ = self.held.subscribe().wait_for(nothing).await;
    }
}

/// One live connection, until dropped.
#[derive(Debug)]
pub(crate) struct Live(Arc<Drain>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.held.send_modify(|held| held.connections -= 1);
    }
}

/// One listener that accepts, until dropped.
#[derive(Debug)]
pub(crate) struct Listening(Arc<Drain>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.held.send_modify(|held| held.listeners -= 1);
    }
}

/// A share of a bound on connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share(Arc<AtomicUsize>);

impl Share {
    /// Takes one of `most`, or none when all are taken.
    pub(crate) fn take(of: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let taken = of.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken < most).then_some(taken + 1)
        });
        taken.ok().map(|_| Self(Arc::clone(of)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn phases_only_go_on() {
        let drain = Drain::new();
        drain.advance(Phase::Draining);
        drain.advance(Phase::Announced);
        assert_eq!(drain.phase(), Phase::Draining);
        drain.reached(Phase::Announced).await;
    }

    #[tokio::test]
    async fn empty_waits_for_the_last() {
        let drain = Drain::new();
        let (one, two) = (drain.enter(), drain.enter());
        let waiting = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.empty().await }
        });
        drop(one);
        assert_eq!(drain.live(), 1);
        drop(two);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn empty_waits_for_what_a_listener_accepts_in_the_last_moment() {
        let drain = Drain::new();
        let listening = drain.listen();
        drain.advance(Phase::Draining);
        let mut empty = std::pin::pin!(drain.empty());
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(empty.as_mut().poll(&mut nobody).is_pending());
        let accepted = drain.enter();
        drop(listening);
        assert!(empty.as_mut().poll(&mut nobody).is_pending());
        assert_eq!(drain.live(), 1);
        drop(accepted);
        empty.await;
    }

    #[test]
    fn shares_end_at_the_bound_and_come_back() {
        let taken = Arc::default();
        let first = Share::take(&taken, 1);
        assert!(first.is_some());
        assert!(Share::take(&taken, 1).is_none());
        drop(first);
        assert!(Share::take(&taken, 1).is_some());
    }
}
