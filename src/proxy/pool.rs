//! Ordinary HTTP to the backends: pooled connections, one pool a worker.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, request};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, timeout_at};

use crate::backends::hash::Key;
use crate::backends::set::Backend;
use crate::policy::rejection::Rejection;
use crate::proxy::body::{RequestBody, Stage};
use crate::proxy::gate::Gate;
use crate::proxy::upstream::{self, BoxConnect};

/// The pooled client of one worker. Cheap to clone; connections live on the worker's runtime.
#[derive(Clone)]
pub(crate) struct Pool {
    client: Client<Connector, RequestBody>,
    gate: Arc<Gate>,
}

impl Pool {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_BACKEND)
            .build(Connector(Arc::clone(&gate)));
        Self { client, gate }
    }

    /// Sends a request to the first backend in the key's order that takes it.
    ///
    /// # Errors
    /// As for an opening handshake: no backend, none in time, or a broken answer. `BadRequest` when
    /// the client's body is broken.
    pub(crate) async fn send(
        &self,
        head: request::Parts,
        body: Incoming,
        key: Key,
    ) -> Result<(Response<Incoming>, Arc<Backend>), Rejection> {
        let body = RequestBody::new(body);
        let mut rejection = Rejection::NoBackend;
        for backend in self.gate.backends.order(key).take(1 + self.gate.upstream.retries) {
            let Some(uri) = absolute(&head.uri, backend) else {
                return Err(Rejection::BadRequest("the request target is not a path"));
            };
            let attempt = || {
                let mut request = Request::from_parts(head.clone(), body.clone());
                *request.uri_mut() = uri.clone();
                self.attempt(request, &body)
            };
            let mut sent = attempt().await;
            // RFC 9112 §9.3.1: a kept connection may have been closed as the request came.
            if let Ok(Err(error)) = &sent
                && broke_off(error)
                && head.method.is_idempotent()
                && !body.begun()
            {
                sent = attempt().await;
            }
            match sent {
                Ok(Ok(response)) if response.status() == http::StatusCode::SWITCHING_PROTOCOLS => {
                    // Nobody asked for it.
                    return Err(Rejection::BackendError);
                }
                Ok(Ok(response)) => return Ok((response, Arc::clone(backend))),
                Ok(Err(error)) if error.is_connect() && !body.begun() => {
                    rejection = Rejection::NoBackend;
                }
                Ok(Err(_)) if matches!(body.stage(), Stage::Broken) => {
                    return Err(Rejection::BadRequest("the body of the request is broken"));
                }
                Ok(Err(_)) => return Err(Rejection::BackendError),
                Err(TooLate) => return Err(Rejection::BackendTimeout),
            }
        }
        Err(rejection)
    }

    /// One request to one backend. Time runs while the backend is to take the body or to answer;
    /// a client that is slow with its body is the wire's to end.
    async fn attempt(
        &self,
        request: Request<RequestBody>,
        body: &RequestBody,
    ) -> Result<Result<Response<Incoming>, Error>, TooLate> {
        let limit = self.gate.upstream.response;
        let mut deadline = Instant::now() + limit;
        let mut answer = self.client.request(request);
        loop {
            match timeout_at(deadline, &mut answer).await {
                Ok(sent) => return Ok(sent),
                Err(_) => {
                    let now = Instant::now();
                    deadline = match body.stage() {
                        Stage::AtClient => now + limit,
                        Stage::AtBackend(since) if since + limit > now => since + limit,
                        Stage::AtBackend(_) | Stage::Broken => return Err(TooLate),
                    };
                }
            }
        }
    }
}

/// The backend did not answer within `upstreams.response_timeout`.
struct TooLate;

/// Whether the connection ended before any of the answer came.
fn broke_off(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    source.is_some_and(|error| {
        error.is_incomplete_message()
            || error.is_canceled()
            || error.source().is_some_and(|source| source.is::<io::Error>())
    })
}

/// The pool tells backends apart by scheme and authority; on the wire only the path is left.
fn absolute(target: &Uri, backend: &Backend) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(backend.name()).ok();
    parts.path_and_query = target.path_and_query().cloned();
    Uri::from_parts(parts).ok()
}

/// Connects to the backend that an authority names.
#[derive(Clone)]
struct Connector(Arc<Gate>);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<tokio::net::TcpStream>;
    type Error = io::Error;
    type Future = BoxConnect;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> BoxConnect {
        let gate = Arc::clone(&self.0);
        Box::pin(async move {
            let name = uri.authority().map_or("", Authority::as_str);
            let Some(backend) = gate.backends.iter().find(|backend| backend.name() == name) else {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no such backend"));
            };
            upstream::connect(&gate, backend).await.map(TokioIo::new)
        })
    }
}

/// An idle backend connection is kept for so long; Node's default is to close after 5 s.
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections kept per backend and worker.
const IDLE_PER_BACKEND: usize = 64;
