//! The HTTP stage of a connection: hyper reads requests from the wire and writes answers, until one
//! of them becomes a tunnel or the connection ends. Refusals that hyper must not answer are
//! answered here.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::drain::Phase;
use crate::policy::handshake::{self, BodyHint};
use crate::policy::headers::Kind;
use crate::policy::rejection::Rejection;
use crate::proxy::accept::Admission;
use crate::proxy::body::AnswerBody;
use crate::proxy::gate::Connection;
use crate::proxy::pool::Pool;
use crate::proxy::session::Session;
use crate::proxy::upgrade::{self, BackendSide, Pending};
use crate::proxy::wire::{InFlight, InFlightGuard, Wire};
use crate::telemetry::clock;

/// Both ends of a tunnel, with hyper gone.
pub(crate) struct Upgraded {
    pub(crate) client: ClientSide,
    pub(crate) backend: BackendSide,
    pub(crate) session: Session,
}

/// The client's side of a tunnel.
pub(crate) struct ClientSide {
    pub(crate) stream: TlsStream<TcpStream>,
    /// What came behind the opening handshake, to be written first.
    pub(crate) early: Vec<u8>,
}

/// Serves requests until the connection ends, or becomes a tunnel.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(crate) async fn serve(
    stream: TlsStream<TcpStream>,
    connection: Arc<Connection>,
    pool: Pool,
) -> Option<Upgraded> {
    let in_flight = InFlight::default();
    let wire = Wire::new(stream, connection.gate.wire, in_flight.clone());
    let pending = Arc::new(Mutex::new(None));
    let service = Requests {
        connection: Arc::clone(&connection),
        pool,
        in_flight,
        pending: Arc::clone(&pending),
    };
    // The wire keeps head timeouts itself, as it keeps everything else about heads.
    let mut hyper = http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None)
        .max_headers(crate::policy::head::FIELDS_MAX + 1)
        .serve_connection(wire, service);
    let mut drained = std::pin::pin!(connection.gate.drain.reached(Phase::Draining));
    let mut draining = false;
    let ended = poll_fn(|cx| {
        if !draining && drained.as_mut().poll(cx).is_ready() {
            draining = true;
            // hyper would add `close` to the `Connection: Upgrade` of a 101 that is pending, which
            // strict clients refuse; the tunnel has its own way to end.
            if !hyper_is_opening(&pending) {
                Pin::new(&mut hyper).graceful_shutdown();
            }
        }
        hyper.poll_without_shutdown(cx)
    })
    .await;
    let parts = hyper.into_parts();
    let refusal = parts.io.refusal();
    let (mut stream, mut early) = parts.io.into_parts();
    if let (Ok(()), Slot::Ready(opened)) = (&ended, take(&pending)) {
        // Nothing behind an opening handshake reaches hyper; were it otherwise, its part is first.
        early.splice(0..0, parts.read_buf.iter().copied());
        let (backend, session) = opened.opened(&connection);
        return Some(Upgraded { client: ClientSide { stream, early }, backend, session });
    }
    drop(parts.service);
    if let Some(rejection) = refusal {
        answer_bad_head(&connection, &mut stream, rejection).await;
    }
    close(stream).await;
    None
}

/// A tunnel on its way from the service to the end of hyper.
type PendingSlot = Arc<Mutex<Slot>>;

/// What the connection is about to become.
#[derive(Default)]
enum Slot {
    /// Ordinary HTTP.
    #[default]
    Nothing,
    /// An opening handshake is being answered.
    Opening,
    /// Its 101 is on the way.
    Ready(Box<Pending>),
}
