//! What the gate says of itself, over plain HTTP/1.1 on listeners of their own.
//!
//! The status listener has probes and metrics, for the kubelet, the container's health check and
//! Prometheus. It is read-only and says nothing about clients: anybody in the pod network may ask.
//! Whether the gate is ready is decided by its owner, who hands in the checks. The admin listener
//! ([`admin`]) is the operator's.

pub mod admin;
mod answer;
mod drained;
pub mod endpoint;
pub(crate) mod listener;
mod probe;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::status::listener::{Caller, Listener, Service};
use crate::telemetry::metrics::Metrics;

pub(crate) use drained::Drained;
pub use probe::healthcheck;

/// What the listener answers from.
pub struct Status {
    /// Rendered at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The checks behind `/readyz`, in the order they are shown. Called for every probe, on the
    /// runtime: it must not block.
    pub ready: Box<dyn Fn() -> Vec<Check> + Send + Sync>,
    /// Called before each rendering, for gauges that are read rather than kept. It must not block.
    pub before_metrics: Box<dyn Fn() + Send + Sync>,
    /// Answers `/drained`.
    pub(crate) drained: Drained,
}

/// One condition of being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is checked, in a word.
    pub name: &'static str,
    /// Why it fails, for a person; `None` when it passes. Anybody can read it: nothing about clients.
    pub failing: Option<String>,
}

/// Serves `listener` until `cancel`, then gives answers under way a second to finish.
///
/// At most 64 connections are open at once; more wait in the kernel's queue. Each has 10 seconds for
/// a request head, idle time included, and ends after a minute, or when its `/drained` is answered.
pub async fn serve(listener: TcpListener, status: Arc<Status>, cancel: impl Future<Output = ()>) {
    listener::serve(Listener::Tcp(listener), status, cancel).await;
}

impl Service for Status {
    async fn answer(&self, request: &Request<Incoming>, caller: &Caller) -> Response<Full<Bytes>> {
        answer::answer(request, self, caller).await
    }
}

#[cfg(test)]
mod tests;
