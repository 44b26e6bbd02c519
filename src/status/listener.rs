//! Accepting for the small HTTP/1.1 services beside the gate. They share their bounds: connections
//! at once, time for a head, time in all. What is answered is the service's.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Where connections come in.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Answers requests.
pub(super) trait Service: Send + Sync + 'static {
    fn answer(
        &self,
        request: &Request<Incoming>,
        caller: &Caller,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// Who asks, as the connection knows it.
#[derive(Debug)]
pub(super) struct Caller {
    /// The other end, over TCP.
    pub(super) peer: Option<SocketAddr>,
    /// The address it connected to, over TCP.
    pub(super) local: Option<SocketAddr>,
    ends: watch::Sender<Instant>,
}

impl Caller {
    fn new(peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Self { peer, local, ends: watch::Sender::new(Instant::now() + LIFETIME) }
    }

    /// Lets the connection live as long as an answer takes that is made to wait.
    pub(super) fn stays(&self, time: Duration) {
        let end = Instant::now() + time + FINISH;
        self.ends.send_if_modified(|ends| {
            let later = end > *ends;
            *ends = end.max(*ends);
            later
        });
    }

    /// Waits for the end of the connection's time.
    async fn time_is_over(&self) {
        let mut ends = self.ends.subscribe();
        loop {
            let end = *ends.borrow_and_update();
            tokio::select! {
                () = sleep_until(end) => return,
                // The sender lives in self.
                _ = ends.changed() => {}
            }
        }
    }
}

/// Serves `listener` until `cancel`, then gives answers under way a second to finish.
///
/// At most 64 connections are open at once; more wait in the kernel's queue. Each has 10 seconds for
/// a request head, idle time included, and ends after a minute unless an answer is made to wait.
pub(super) async fn serve<S: Service>(
    listener: Listener,
    service: Arc<S>,
    cancel: impl Future<Output = ()>,
) {
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
            (slot, accepted) = accepted => {
                let (service, stopped) = (Arc::clone(&service), stopped.clone());
                connections.spawn(async move {
                    match accepted {
                        Accepted::Tcp(tcp, peer) => {
                            let caller = Caller::new(Some(peer), tcp.local_addr().ok());
                            connection(tcp, caller, service, stopped).await;
                        }
                        Accepted::Unix(unix) => {
                            connection(unix, Caller::new(None, None), service, stopped).await;
                        }
                    }
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

enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// The next connection. A client that is gone already is passed over; when the process is out of
/// files or memory, the listener waits for better times.
async fn accept(listener: &Listener) -> Accepted {
    loop {
        let accepted = match listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(tcp, peer)| Accepted::Tcp(tcp, peer)),
            Listener::Unix(unix) => unix.accept().await.map(|(unix, _)| Accepted::Unix(unix)),
        };
        match accepted {
            Ok(accepted) => return accepted,
            Err(error) if of_one_client(&error) => {}
            Err(_) => sleep(BACK_OFF).await,
        }
    }
}

fn of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn connection<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    caller: Caller,
    service: Arc<S>,
    mut stopped: watch::Receiver<()>,
) {
    let (service, caller) = (&service, &caller);
    let answering = service_fn(move |request| async move {
        Ok::<_, Infallible>(service.answer(&request, caller).await)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answering));
    tokio::select! {
        // A probe that went away is its own affair.
        _ = &mut connection => return,
        // Only ever fails, once the listener's side is dropped.
        _ = stopped.changed() => {}
        () = caller.time_is_over() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(FINISH, connection).await;
}

pub(super) const CONNECTIONS_MAX: usize = 64;
const HEAD: Duration = Duration::from_secs(10);
pub(super) const HEAD_BYTES: usize = 16 * 1024;
const LIFETIME: Duration = Duration::from_secs(60);
const FINISH: Duration = Duration::from_secs(1);
const BACK_OFF: Duration = Duration::from_millis(100);
