//! The way to a backend: dial in the key's order, send the opening handshake, insist on a real 101.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, request, response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::backends::hash::Key;
use crate::backends::set::Backend;
use crate::policy::handshake::OpeningHandshake;
use crate::policy::rejection::Rejection;
use crate::proxy::accept::keepalive;
use crate::proxy::body::BackendConnection;
use crate::proxy::gate::Gate;

/// A backend that said 101 and meant it.
pub(crate) struct Switched {
    pub(crate) stream: TcpStream,
    /// What came behind the 101.
    pub(crate) early: Bytes,
    pub(crate) head: response::Parts,
}

/// A backend's answer to an opening handshake.
pub(crate) enum Answer {
    Switched(Box<Switched>),
    /// An ordinary response, and the connection its body comes from.
    Other(Response<Incoming>, Box<BackendConnection>),
}

/// Connects to the first backend in the key's order that takes it, within the retry budget.
///
/// # Errors
/// `NoBackend` when all tried refused, `BackendTimeout` when the last one tried did not answer.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(crate) async fn dial(gate: &Gate, key: Key) -> Result<(TcpStream, Arc<Backend>), Rejection> {
    let mut rejection = Rejection::NoBackend;
    for backend in gate.backends.order(key).take(1 + gate.upstream.retries) {
        match connect(gate, backend).await {
            Ok(stream) => return Ok((stream, Arc::clone(backend))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                rejection = Rejection::BackendTimeout;
            }
            Err(_) => rejection = Rejection::NoBackend,
        }
    }
    Err(rejection)
}

/// One connect, counted and timed.
pub(crate) async fn connect(gate: &Gate, backend: &Backend) -> io::Result<TcpStream> {
    let begun = Instant::now();
    let dialled = timeout(gate.upstream.connect, async {
        let addresses = gate.resolver.addresses(backend).await?;
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
        Ok(stream)
    });
    let dialled: io::Result<TcpStream> =
        dialled.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let metrics = &gate.metrics;
    match &dialled {
        Ok(_) => metrics
            .backend_connect_duration
            .with_label_values(&[backend.name()])
            .observe(begun.elapsed().as_secs_f64()),
        Err(error) => {
            let reason = match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::TimedOut => "timeout",
                io::ErrorKind::NotFound | io::ErrorKind::Other => "resolve",
                _ => "other",
            };
            metrics.backend_connect_failures.with_label_values(&[backend.name(), reason]).inc();
            tracing::debug!(
                event = "backend.connect_failed",
                backend = %backend,
                "error.message" = %error,
                "connect to backend failed"
            );
        }
    }
    dialled
}

/// Sends the opening handshake and waits for the head of the answer.
///
/// # Errors
/// `BackendError` when the backend breaks off, talks something else, or answers with a 101 that is
/// not one; `BackendTimeout` when it does not answer in `upstreams.response_timeout`.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(crate) async fn exchange(
    gate: &Gate,
    stream: TcpStream,
    head: request::Parts,
    handshake: &OpeningHandshake,
) -> Result<Answer, Rejection> {
    let answered = timeout(gate.upstream.response, switch(stream, head)).await;
    match answered {
        Err(_) => Err(Rejection::BackendTimeout),
        Ok(Err(_)) => Err(Rejection::BackendError),
        Ok(Ok(Answer::Switched(switched))) if !handshake.is_answered_by(&switched.head) => {
            Err(Rejection::BackendError)
        }
        Ok(Ok(answer)) => Ok(answer),
    }
}

async fn switch(stream: TcpStream, head: request::Parts) -> hyper::Result<Answer> {
    let (mut sender, mut connection) = http1::handshake(TokioIo::new(stream)).await?;
    let response = {
        let mut response = pin!(sender.send_request(Request::from_parts(head, Empty::new())));
        // One task drives both ends of hyper's client.
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(response);
            }
            match connection.poll_without_shutdown(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => response.as_mut().poll(cx),
                Poll::Pending => response.as_mut().poll(cx),
            }
        })
        .await?
    };
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Other(response, Box::new(connection)));
    }
    let (head, _) = response.into_parts();
    std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
    let parts = connection.into_parts();
    Ok(Answer::Switched(Box::new(Switched {
        stream: parts.io.into_inner(),
        early: parts.read_buf,
        head,
    })))
}

/// Fits hyper's connector, which wants a type it can name.
pub(crate) type BoxConnect =
    Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send + 'static>>;
