//! The HTTP stage of a connection: hyper reads requests from the wire and writes answers, until one
//! of them becomes a tunnel or the connection ends. Refusals that hyper must not answer are
//! answered here.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::drain::Phase;
use crate::policy::handshake::{self, BodyHint};
use crate::policy::headers::Kind;
use crate::policy::rejection::Rejection;
use crate::proxy::accept::Admission;
use crate::proxy::body::AnswerBody;
use crate::proxy::gate::{Connection, Gate};
use crate::proxy::pool::Pool;
use crate::proxy::session::Session;
use crate::proxy::upgrade::{self, Pending};
use crate::proxy::wire::{InFlight, InFlightGuard, Wire};
use crate::telemetry::{clock, redact};
use crate::tls::TlsStream;
use crate::tunnel::{self, BackendEnd, Ends};

/// Both ends of a tunnel, with hyper gone.
pub(crate) struct Upgraded {
    pub(crate) ends: Ends<TlsStream, BackendEnd>,
    pub(crate) session: Session,
}

impl Upgraded {
    /// Carries the tunnel to its end, and records it.
    ///
    /// # Cancel safety
    /// Dropping the future closes both ends without a word and records nothing.
    pub(crate) fn run(self: Box<Self>, gate: Arc<Gate>) -> impl Future<Output = ()> {
        let Self { ends, session } = *self;
        let tunnel = tunnel::open(ends, &gate.tunnel);
        async move { session.close(&tunnel.run(&gate.drain, &gate.tally).await) }
    }
}

/// Serves requests until the connection ends, or becomes a tunnel.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(crate) async fn serve(
    stream: TlsStream,
    connection: Arc<Connection>,
    pool: Pool,
) -> Option<Box<Upgraded>> {
    let in_flight = InFlight::default();
    let wire = Wire::new(stream, connection.gate.wire, in_flight.clone());
    let pending = PendingSlot::default();
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
        .max_buf_size(connection.gate.wire.head_bytes.max(HYPER_BUFFER_BYTES_MIN))
        .serve_connection(wire, service);
    let drain = &connection.gate.drain;
    let mut drained = std::pin::pin!(drain.reached(Phase::Draining));
    let mut cut = std::pin::pin!(async {
        drain.reached(Phase::Cutting).await;
        sleep(CUT).await;
    });
    let (mut draining, mut told) = (false, false);
    let ended = poll_fn(|cx| {
        draining = draining || drained.as_mut().poll(cx).is_ready();
        if draining && cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if draining && !told && lock(&pending).may_close(drain.phase()) {
            told = true;
            Pin::new(&mut hyper).graceful_shutdown();
        }
        hyper.poll_without_shutdown(cx).map(Some)
    })
    .await;
    let Some(ended) = ended else {
        // No close_notify: an answer that breaks off here must not look whole.
        connection.gate.metrics.drain_forced_closes.inc();
        return None;
    };
    let parts = hyper.into_parts();
    let refusal = parts.io.refusal();
    let (mut stream, mut early) = parts.io.into_parts();
    if let (Ok(()), Slot::Ready(opened)) = (&ended, std::mem::take(&mut *lock(&pending))) {
        // Nothing behind an opening handshake reaches hyper; were it otherwise, its part is first.
        early.splice(0..0, parts.read_buf.iter().copied());
        let (ends, session) = opened.opened(&connection, stream, early);
        return Some(Box::new(Upgraded { ends, session }));
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
    /// Its first request is on the way.
    #[default]
    Unknown,
    /// Ordinary HTTP.
    Nothing,
    /// An opening handshake is being answered.
    Opening,
    /// Its 101 is on the way.
    Ready(Box<Pending>),
}

impl Slot {
    /// Whether hyper may be told to close. It would close over a first request that has not come
    /// whole, which has its own time to come and be answered, until everything is cut. And it would
    /// add `close` to the `Connection: Upgrade` of a 101 that is pending, which strict clients
    /// refuse; the tunnel has its own way to end.
    fn may_close(&self, phase: Phase) -> bool {
        match self {
            Self::Nothing => true,
            Self::Unknown => phase >= Phase::Cutting,
            Self::Opening | Self::Ready(_) => false,
        }
    }
}

fn lock(slot: &PendingSlot) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests of one connection, as hyper hands them over.
struct Requests {
    connection: Arc<Connection>,
    pool: Pool,
    in_flight: InFlight,
    pending: PendingSlot,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.in_flight.enter();
        let connection = Arc::clone(&self.connection);
        let (head, body) = request.into_parts();
        if handshake::attempted(&head.headers) {
            let pending = Arc::clone(&self.pending);
            *lock(&pending) = Slot::Opening;
            let hint = if body.is_end_stream() { BodyHint::None } else { BodyHint::Some };
            return Box::pin(async move {
                let (response, opened) = upgrade::answer(&connection, head, hint, in_flight).await;
                *lock(&pending) = match opened {
                    Some(opened) => Slot::Ready(Box::new(opened)),
                    None => Slot::Nothing,
                };
                Ok(response)
            });
        }
        *lock(&self.pending) = Slot::Nothing;
        let pool = self.pool.clone();
        Box::pin(async move { Ok(ordinary(&connection, &pool, head, body, in_flight).await) })
    }
}

/// Proxies a request that is not an opening handshake, and counts its answer.
async fn ordinary(
    connection: &Connection,
    pool: &Pool,
    head: request::Parts,
    body: Incoming,
    in_flight: InFlightGuard,
) -> Response<AnswerBody> {
    let gate = &connection.gate;
    let begun = tokio::time::Instant::now();
    let method = redact::method(head.method.as_str());
    let path = redact::url_path(&head.uri.to_string(), &gate.log.query_allow);
    let response = match relay(connection, pool, head, body, in_flight).await {
        Ok(response) => response,
        Err(rejection) => upgrade::response(gate, rejection),
    };
    let class = match response.status().as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    gate.metrics.http_requests.with_label_values(&[class]).inc();
    tracing::debug!(
        event = "http.request",
        conn_id = %connection.id,
        "http.request.method" = method,
        "url.path" = path,
        "http.response.status_code" = response.status().as_u16(),
        duration_s = begun.elapsed().as_secs_f64(),
        "request answered"
    );
    response
}

async fn relay(
    connection: &Connection,
    pool: &Pool,
    mut head: request::Parts,
    body: Incoming,
    in_flight: InFlightGuard,
) -> Result<Response<AnswerBody>, Rejection> {
    let gate = &connection.gate;
    if connection.admission == Admission::Beyond {
        return Err(Rejection::GateFull);
    }
    if !gate.http_enabled {
        return Err(Rejection::HttpDisabled);
    }
    let client = upgrade::client(connection, &head);
    let key = gate.backends.key(&head, client.address);
    upgrade::strip_and_vouch(gate, &mut head, &client, Kind::Ordinary);
    let (response, _) = tokio::select! {
        answered = pool.send(head, body, key) => answered?,
        () = gate.drain.reached(Phase::Cutting) => return Err(Rejection::Draining),
    };
    let (mut head, body) = response.into_parts();
    head.version = http::Version::HTTP_11;
    gate.security.downstream(&mut head.headers, Kind::Ordinary);
    let body = AnswerBody::pooled(body, gate.tunnel.idle_timeout, in_flight);
    Ok(Response::from_parts(head, body))
}

/// Answers a head that was never shown to hyper, in hyper's stead.
async fn answer_bad_head<S>(connection: &Connection, stream: &mut S, rejection: Rejection)
where
    S: AsyncWrite + Unpin,
{
    let gate = &connection.gate;
    // Nothing vouches for another address: a head that cannot be read names none.
    let client = connection.peer.ip();
    // Charged like any other, though the answer is already known.
    let rejection = upgrade::charge(gate, client).err().unwrap_or(rejection);
    gate.metrics.upgrades.with_label_values(&[rejection.outcome()]).inc();
    if let Some(suppressed) = gate.admit_rejection_line(client) {
        tracing::info!(
            event = "ws.rejected",
            conn_id = %connection.id,
            "client.address" = %gate.log.address(client),
            "network.peer.address" = %gate.log.address(client),
            "http.response.status_code" = rejection.status().as_u16(),
            "error.type" = rejection.outcome(),
            "error.message" = rejection.reason(),
            suppressed,
            "request head refused"
        );
    }
    let response = upgrade::response(gate, rejection);
    let text = rejection.reason().len() + 1;
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let date = clock::http_date();
    let rest = format!("content-length: {text}\r\ndate: {date}\r\n\r\n{}\n", rejection.reason());
    bytes.extend_from_slice(rest.as_bytes());
    // A client that does not take its answer has lost it.
    let _ = timeout(LINGER, stream.write_all(&bytes)).await;
}

/// Ends a connection so that the client gets what was written: close_notify and FIN, then, within
/// bounds, what it still sends is read away, because closing over unread bytes sends a reset that
/// can overtake the answer (RFC 9112 §9.6).
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let lingering = async {
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        let mut sink = [0; 1024];
        loop {
            match stream.read(&mut sink).await? {
                0 => return std::io::Result::Ok(()),
                read if read >= left => return Ok(()),
                read => left -= read,
            }
        }
    };
    let _ = timeout(LINGER, lingering).await;
}

/// For answers under way to end, once everything is cut.
const CUT: Duration = Duration::from_secs(1);

/// For a client to take a last answer and close.
const LINGER: Duration = Duration::from_secs(2);

/// The least that hyper takes as a bound of its read buffer, with room to stream bodies through.
const HYPER_BUFFER_BYTES_MIN: usize = 64 * 1024;

/// Bytes read away meanwhile.
const LINGER_BYTES: usize = 64 * 1024;
