//! From an opening handshake to a backend that said 101: the policies are asked once, in order, and
//! obeyed.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, request};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::backends::hash::Key;
use crate::backends::set::Backend;
use crate::drain::Phase;
use crate::policy::client::Client;
use crate::policy::handshake::{self, BodyHint, OpeningHandshake};
use crate::policy::headers::{Forged, Kind};
use crate::policy::origin::OriginVerdict;
use crate::policy::quota::{QuotaVerdict, TooMany};
use crate::policy::rejection::Rejection;
use crate::proxy::accept::Admission;
use crate::proxy::body::AnswerBody;
use crate::proxy::gate::{ClientSlot, Connection, Gate};
use crate::proxy::session::{Opening, Session};
use crate::proxy::upstream::{self, Answer};
use crate::proxy::wire::InFlightGuard;
use crate::telemetry::metrics::Metrics;
use crate::tls::TlsStream;
use crate::tunnel::{BackendEnd, Ends, Extensions, place_of};

/// A backend that waits for the client to get its 101.
pub(crate) struct Pending {
    stream: TcpStream,
    early: Bytes,
    extensions: Extensions,
    backend: Arc<Backend>,
    slot: ClientSlot,
    opening: Opening,
    outcome: Outcome,
    begun: Instant,
}

impl Pending {
    /// The 101 has gone to the client.
    pub(crate) fn opened(
        self,
        connection: &Connection,
        client: TlsStream,
        from_client: Vec<u8>,
    ) -> (Ends<TlsStream, BackendEnd>, Session) {
        self.outcome.is(ACCEPTED);
        connection.gate.metrics.upgrade_duration.observe(self.begun.elapsed().as_secs_f64());
        let session = Session::open(connection, self.backend, self.slot, &self.opening);
        let ends = Ends {
            client,
            backend: BackendEnd::new(self.stream),
            from_client,
            // Not into(): an empty rest would keep all of the buffer that hyper read into.
            from_backend: self.early.to_vec(),
            extensions: self.extensions,
            place: place_of(connection.id.number()),
        };
        (ends, session)
    }
}

/// What a handshake has passed, and what the way to the backend needs of it.
struct Admitted {
    client: Client,
    handshake: OpeningHandshake,
    slot: ClientSlot,
    key: Key,
}

/// Answers an opening handshake. A 101 comes with the `Pending` tunnel.
pub(crate) async fn answer(
    connection: &Connection,
    mut head: request::Parts,
    body: BodyHint,
    in_flight: InFlightGuard,
) -> (Response<AnswerBody>, Option<Pending>) {
    let gate = &connection.gate;
    let outcome = Outcome::open(&gate.metrics);
    let begun = Instant::now();
    let client = client(connection, &head);
    let opening = Opening::of(&head, client.address, &gate.log.query_allow);
    let admitted = match admit(connection, client, &head, body) {
        Ok(admitted) => admitted,
        Err(rejection) => {
            outcome.is(rejection.outcome());
            return (refuse(connection, &opening, rejection), None);
        }
    };
    strip_and_vouch(gate, &mut head, &admitted.client, Kind::Opening);
    let opened = async {
        let (stream, backend) = upstream::dial(gate, admitted.key).await?;
        let answer = upstream::exchange(gate, stream, head, &admitted.handshake).await?;
        Ok((answer, backend))
    };
    let opened = tokio::select! {
        opened = opened => opened,
        () = gate.drain.reached(Phase::Cutting) => Err(Rejection::Draining),
    };
    match opened {
        Err(rejection) => {
            outcome.is(Rejection::outcome(rejection));
            (refuse(connection, &opening, rejection), None)
        }
        Ok((Answer::Switched(switched), backend)) => {
            let mut head = switched.head;
            let extensions = Extensions::negotiated(&head.headers);
            gate.security.downstream(&mut head.headers, Kind::Opening);
            let pending = Pending {
                stream: switched.stream,
                early: switched.early,
                extensions,
                backend,
                slot: admitted.slot,
                opening,
                outcome,
                begun,
            };
            (Response::from_parts(head, AnswerBody::own(Bytes::new())), Some(pending))
        }
        Ok((Answer::Other(response, backend_connection), backend)) => {
            outcome.is(BACKEND_REFUSED);
            let (mut head, body) = response.into_parts();
            gate.security.downstream(&mut head.headers, Kind::Ordinary);
            // What the client sent behind its handshake must never be read as a request.
            head.headers.insert(http::header::CONNECTION, CLOSE);
            log_refused(connection, &opening, head.status, BACKEND_REFUSED, Some(&backend));
            let idle = gate.tunnel.idle_timeout;
            let body = AnswerBody::direct(*backend_connection, body, idle, in_flight);
            (Response::from_parts(head, body), None)
        }
    }
}

/// Asks every policy, cheapest and least telling first. A handshake is charged before anything is
/// said of it, so that a flood of bad ones is limited too.
fn admit(
    connection: &Connection,
    client: Client,
    head: &request::Parts,
    body: BodyHint,
) -> Result<Admitted, Rejection> {
    let gate = &connection.gate;
    charge(gate, client.address)?;
    let handshake = handshake::read(head, body)?;
    if gate.drain.phase() >= Phase::Draining {
        return Err(Rejection::Draining);
    }
    if connection.admission == Admission::Beyond {
        return Err(Rejection::GateFull);
    }
    match gate.origins.judge(handshake::origins(&head.headers), host(head)) {
        OriginVerdict::Allowed => {}
        OriginVerdict::Denied => return Err(Rejection::OriginDenied),
        OriginVerdict::Missing => return Err(Rejection::OriginMissing),
    }
    let key = match gate.quota().open(client.address, gate.now()) {
        Ok(key) => key,
        Err(TooMany) => {
            gate.metrics.ratelimit_rejections.with_label_values(&["connections"]).inc();
            return Err(Rejection::TooManyFromClient);
        }
    };
    let slot = ClientSlot::new(Arc::clone(gate), key);
    let key = gate.backends.key(head, client.address);
    Ok(Admitted { client, handshake, slot, key })
}

/// Takes the token that every opening handshake costs.
pub(crate) fn charge(gate: &Gate, client: IpAddr) -> Result<(), Rejection> {
    match gate.quota().take(client, gate.now()) {
        QuotaVerdict::Granted => Ok(()),
        QuotaVerdict::RateLimited(retry_after) => {
            gate.metrics.ratelimit_rejections.with_label_values(&["upgrades"]).inc();
            Err(Rejection::RateLimited { retry_after })
        }
    }
}

/// Who sent this request.
pub(crate) fn client(connection: &Connection, head: &request::Parts) -> Client {
    let lines = head.headers.get_all("x-forwarded-for");
    let lines: Vec<&[u8]> = lines.into_iter().map(http::HeaderValue::as_bytes).collect();
    connection.gate.trusted.client(connection.peer.ip(), lines.into_iter())
}

/// Turns the client's fields into the backend's, and the target into origin-form.
pub(crate) fn strip_and_vouch(gate: &Gate, head: &mut request::Parts, client: &Client, kind: Kind) {
    let forged = gate.forwarding.upstream(&mut head.headers, client, kind);
    if forged == Forged::Stripped {
        gate.metrics.forwarded_headers_stripped.inc();
    }
    head.version = http::Version::HTTP_11;
    if head.uri.authority().is_some() {
        let target = head.uri.path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = target;
        head.uri = http::Uri::from_parts(parts).unwrap_or_default();
    }
}

/// The answer to a rejection, counted by the caller and logged here.
fn refuse(
    connection: &Connection,
    opening: &Opening,
    rejection: Rejection,
) -> Response<AnswerBody> {
    log_refused(connection, opening, rejection.status(), rejection.outcome(), None);
    response(&connection.gate, rejection)
}

/// A rejection as HTTP: the reason in words, and the connection ends.
pub(crate) fn response(gate: &Gate, rejection: Rejection) -> Response<AnswerBody> {
    let text = format!("{}\n", rejection.reason());
    let mut response = Response::new(AnswerBody::own(text));
    *response.status_mut() = rejection.status();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, TEXT);
    headers.insert(http::header::CACHE_CONTROL, NO_STORE);
    headers.insert(http::header::CONNECTION, CLOSE);
    if let Some(seconds) = rejection.retry_after() {
        headers.insert(http::header::RETRY_AFTER, seconds.into());
    }
    if rejection == Rejection::UpgradeRequired {
        // RFC 6455 §4.2.2 and RFC 9110 §15.5.22; who sends Upgrade names it in Connection (§7.8).
        headers.insert(http::header::SEC_WEBSOCKET_VERSION, VERSION);
        headers.insert(http::header::UPGRADE, WEBSOCKET);
        headers.insert(http::header::CONNECTION, CLOSE_UPGRADE);
    }
    gate.security.apply(headers);
    response
}

fn log_refused(
    connection: &Connection,
    opening: &Opening,
    status: StatusCode,
    outcome: &'static str,
    backend: Option<&Backend>,
) {
    let gate = &connection.gate;
    let Some(suppressed) = gate.admit_rejection_line(opening.client) else { return };
    tracing::info!(
        event = "ws.rejected",
        conn_id = %connection.id,
        "client.address" = %gate.log.address(opening.client),
        "network.peer.address" = %gate.log.address(connection.peer.ip()),
        origin = opening.origin.as_deref(),
        "url.path" = opening.path,
        "user_agent.original" = opening.user_agent.as_deref(),
        "http.response.status_code" = status.as_u16(),
        "error.type" = outcome,
        backend = backend.map(Backend::name),
        suppressed,
        "opening handshake refused"
    );
}

fn host(head: &request::Parts) -> &str {
    head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Every opening handshake has exactly one outcome: the one that is said, or, when its future is
/// dropped before that, that the client has gone.
struct Outcome {
    metrics: Arc<Metrics>,
    is: &'static str,
}

impl Outcome {
    fn open(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), is: CLIENT_GONE }
    }

    fn is(mut self, outcome: &'static str) {
        self.is = outcome;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.metrics.upgrades.with_label_values(&[self.is]).inc();
    }
}

const ACCEPTED: &str = "accepted";
const BACKEND_REFUSED: &str = "backend_refused";
const CLIENT_GONE: &str = "client_gone";

const CLOSE: http::HeaderValue = http::HeaderValue::from_static("close");
const CLOSE_UPGRADE: http::HeaderValue = http::HeaderValue::from_static("close, Upgrade");
const NO_STORE: http::HeaderValue = http::HeaderValue::from_static("no-store");
const TEXT: http::HeaderValue = http::HeaderValue::from_static("text/plain; charset=utf-8");
const VERSION: http::HeaderValue = http::HeaderValue::from_static("13");
const WEBSOCKET: http::HeaderValue = http::HeaderValue::from_static("websocket");
