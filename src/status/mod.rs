//! The status listener: probes and metrics over plain HTTP/1.1, for the kubelet, the container's
//! health check and Prometheus. It is read-only and says nothing about clients: anybody in the pod
//! network may ask. Whether the gate is ready is decided by its owner, who hands in the checks.

mod answer;
mod probe;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::telemetry::metrics::Metrics;

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
/// a request head, idle time included, and ends after a minute.
pub async fn serve(listener: TcpListener, status: Arc<Status>, cancel: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut cancel = pin!(cancel);
    loop {
        let accepted = async {
            // The semaphore is never closed, so this waits for a slot and nothing else.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, accept(&listener).await)
        };
        tokio::select! {
            () = &mut cancel => break,
            (slot, tcp) = accepted => {
                let (status, stopped) = (Arc::clone(&status), stopped.clone());
                connections.spawn(async move {
                    connection(tcp, status, stopped).await;
                    drop(slot);
                });
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop((listener, stop));
    let finish = async { while connections.join_next().await.is_some() {} };
    // What is not done by then is cut as the set is dropped.
    let _ = timeout(FINISH, finish).await;
}

/// The next connection. A client that is gone already is passed over; when the process is out of
/// files or memory, the listener waits for better times.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return tcp,
            Err(error) if of_one_client(&error) => {}
            Err(_) => sleep(BACK_OFF).await,
        }
    }
}

fn of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn connection(tcp: TcpStream, status: Arc<Status>, mut stopped: watch::Receiver<()>) {
    let service = service_fn(move |request| {
        let response = answer::answer(&request, &status);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(tcp), service));
    tokio::select! {
        // A probe that went away is its own affair.
        _ = &mut connection => return,
        // Only ever fails, once the listener's side is dropped.
        _ = stopped.changed() => {}
        () = sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(FINISH, connection).await;
}

const CONNECTIONS_MAX: usize = 64;
const HEAD: Duration = Duration::from_secs(10);
const HEAD_BYTES: usize = 16 * 1024;
const LIFETIME: Duration = Duration::from_secs(60);
const FINISH: Duration = Duration::from_secs(1);
const BACK_OFF: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
