//! A timer for whoever polls: set, moved, cleared, or not there at all.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that need not exist.
#[derive(Debug, Default)]
pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    pub(crate) fn set(&mut self, after: Duration) {
        let at = Instant::now() + after;
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.0 = Some(Box::pin(sleep_until(at))),
        }
    }

    pub(crate) fn set_if_clear(&mut self, after: Duration) {
        if self.0.is_none() {
            self.set(after);
        }
    }

    pub(crate) fn no_later_than(&mut self, after: Duration) {
        let at = Instant::now() + after;
        if self.0.as_ref().is_none_or(|sleep| sleep.deadline() > at) {
            self.set(after);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
