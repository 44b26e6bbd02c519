//! Bodies on their way through: streamed, never gathered. Trailers stop at the gate: a backend that
//! merges them into the fields would take what only the gate may say.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::proxy::wire::InFlightGuard;

/// What is answered to a client.
pub(crate) struct AnswerBody {
    source: Source,
    /// Held until the last byte has gone to hyper.
    _in_flight: Option<InFlightGuard>,
    idle: Option<Idle>,
}

enum Source {
    /// The gate's own words.
    Own(Option<Bytes>),
    /// From a backend's pooled connection.
    Pooled(Incoming),
    /// From the backend connection that was to become a tunnel and did not.
    Direct(Box<Direct>),
}

struct Direct {
    /// Driven along with the body; `None` once it is done.
    connection: Option<BackendConnection>,
    body: Incoming,
}

/// A connection to a backend with an opening handshake on it.
pub(crate) type BackendConnection =
    http1::Connection<TokioIo<TcpStream>, http_body_util::Empty<Bytes>>;

/// Ends a body whose source has been silent for too long.
struct Idle {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(crate) fn own(text: impl Into<Bytes>) -> Self {
        Self { source: Source::Own(Some(text.into())), _in_flight: None, idle: None }
    }

    pub(crate) fn pooled(body: Incoming, idle: Option<Duration>, in_flight: InFlightGuard) -> Self {
        let idle = idle.map(|limit| Idle { limit, sleep: None });
        Self { source: Source::Pooled(body), _in_flight: Some(in_flight), idle }
    }

    pub(crate) fn direct(
        connection: BackendConnection,
        body: Incoming,
        idle: Option<Duration>,
        in_flight: InFlightGuard,
    ) -> Self {
        let idle = idle.map(|limit| Idle { limit, sleep: None });
        let source = Source::Direct(Box::new(Direct { connection: Some(connection), body }));
        Self { source, _in_flight: Some(in_flight), idle }
    }
}

/// Why a body broke off.
#[derive(Debug)]
pub(crate) enum BodyError {
    Source(hyper::Error),
    Silent,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Silent => f.write_str("the backend fell silent in the middle of its answer"),
        }
    }
}

impl std::error::Error for BodyError {}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.source {
            Source::Own(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Source::Pooled(body) => poll_data(body, cx),
            Source::Direct(direct) => {
                if let Some(connection) = &mut direct.connection
                    && Pin::new(connection).poll(cx).is_ready()
                {
                    direct.connection = None;
                }
                poll_data(&mut direct.body, cx)
            }
        };
        match (polled, &mut self.idle) {
            (Poll::Ready(ready), idle) => {
                if let Some(idle) = idle {
                    idle.sleep = None;
                }
                Poll::Ready(ready.map(|frame| frame.map_err(BodyError::Source)))
            }
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(idle)) => {
                let at = Instant::now() + idle.limit;
                let sleep = idle.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Some(Err(BodyError::Silent)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Source::Pooled(body) => body.is_end_stream(),
            Source::Direct(direct) => direct.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Pooled(body) => body.size_hint(),
            Source::Direct(direct) => direct.body.size_hint(),
        }
    }
}

/// A client's body on its way to a backend. Clones share it, so that it can be sent to the next
/// backend as long as nobody has begun to read it.
#[derive(Clone)]
pub(crate) struct RequestBody(Arc<Mutex<Shared>>);

struct Shared {
    body: Incoming,
    begun: bool,
    stage: Stage,
}

/// How far a client's body has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// The client is to send more.
    AtClient,
    /// The backend has got all there is so far, or is to take it, since then.
    AtBackend(Instant),
    /// The client broke off, or what it sent is no body.
    Broken,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            body,
            begun: false,
            stage: Stage::AtBackend(Instant::now()),
        })))
    }

    /// Whether some of it may be gone.
    pub(crate) fn begun(&self) -> bool {
        self.lock().begun
    }

    pub(crate) fn stage(&self) -> Stage {
        self.lock().stage
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut shared = self.lock();
        shared.begun = true;
        let polled = poll_data(&mut shared.body, cx);
        shared.stage = match &polled {
            Poll::Pending => Stage::AtClient,
            Poll::Ready(Some(Err(_))) => Stage::Broken,
            Poll::Ready(_) => Stage::AtBackend(Instant::now()),
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}

/// The next piece of data; trailers are passed over.
fn poll_data(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_trailers() => {}
            other => return Poll::Ready(other),
        }
    }
}
