//! The admin listener: what runs, and the two things an operator asks of it. `guard` decides who
//! may ask, `report` says what runs, `ask` is the other side, for the commands.

pub(crate) mod ask;
pub mod guard;
pub(crate) mod report;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::status::admin::guard::{Guard, Refusal};
use crate::status::admin::report::Report;
use crate::status::answer::{respond, text, wrong_method};
use crate::status::listener::{self, Caller, Listener, Service};
use crate::telemetry::sample::Sampler;

/// What the listener answers from. Its functions are called on the runtime and must not block.
pub(crate) struct Admin {
    guard: Guard,
    report: Box<dyn Fn() -> Report + Send + Sync>,
    reload: Box<dyn Fn() + Send + Sync>,
    drain: Box<dyn Fn() + Send + Sync>,
    refused: Mutex<Sampler>,
}

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the certificates again, as SIGHUP does.
    Reload,
    /// Go down in order, as SIGTERM does.
    Drain,
}

impl Action {
    /// Where it is asked for.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Reload => "/api/v1/reload",
            Self::Drain => "/api/v1/drain",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Drain => "drain",
        }
    }

    fn at(path: &str) -> Option<Self> {
        [Self::Reload, Self::Drain].into_iter().find(|action| action.path() == path)
    }
}

impl Admin {
    pub(crate) fn new(
        guard: Guard,
        report: Box<dyn Fn() -> Report + Send + Sync>,
        reload: Box<dyn Fn() + Send + Sync>,
        drain: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let refused = Mutex::new(Sampler::new(1, LINES_PER_SECOND));
        Self { guard, report, reload, drain, refused }
    }

    fn act(&self, action: Action, caller: &Caller) -> Response<Full<Bytes>> {
        tracing::info!(
            event = "admin.action",
            action = action.name(),
            "network.peer.address" = caller.peer.map(|peer| tracing::field::display(peer.ip())),
            "http.response.status_code" = StatusCode::ACCEPTED.as_u16(),
            "asked by an operator"
        );
        match action {
            Action::Reload => (self.reload)(),
            Action::Drain => (self.drain)(),
        }
        let name = action.name();
        respond(StatusCode::ACCEPTED, JSON, format!("{{\"accepted\": \"{name}\"}}\n"))
    }

    /// A refused POST has its line too; without one, a guessed token would go unseen.
    fn refuse(
        &self,
        refusal: Refusal,
        action: Option<Action>,
        caller: &Caller,
    ) -> Response<Full<Bytes>> {
        let mut sampler = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = action.and_then(|action| Some((action, sampler.admit(0, Instant::now())?)));
        if let Some((action, suppressed)) = admitted {
            tracing::info!(
                event = "admin.action",
                action = action.name(),
                "network.peer.address" = caller.peer.map(|peer| tracing::field::display(peer.ip())),
                "http.response.status_code" = refusal.status().as_u16(),
                "error.type" = refusal.label(),
                suppressed,
                "refused"
            );
        }
        let mut refused = text(refusal.status(), refusal.reason());
        if refusal == Refusal::NoToken {
            let challenge = HeaderValue::from_static("Bearer realm=\"wsgate\"");
            refused.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        refused
    }
}

/// Serves `listener` until `cancel`, then gives answers under way a second to finish. The bounds are
/// those of the status listener.
pub(crate) async fn serve(listener: Listener, admin: Arc<Admin>, cancel: impl Future<Output = ()>) {
    listener::serve(listener, admin, cancel).await;
}

impl Service for Admin {
    async fn answer(&self, request: &Request<Incoming>, caller: &Caller) -> Response<Full<Bytes>> {
        let is_post = *request.method() == Method::POST;
        let action = Action::at(request.uri().path());
        let local = caller.local.map(|local| local.ip());
        if let Err(refusal) = self.guard.check(request, local) {
            return self.refuse(refusal, action.filter(|_| is_post), caller);
        }
        match (action, request.uri().path(), request.method()) {
            (Some(action), _, &Method::POST) => self.act(action, caller),
            (Some(_), ..) => wrong_method("use POST\n", "POST"),
            (None, REPORT_PATH, &Method::GET | &Method::HEAD) => {
                let mut body = serde_json::to_vec(&(self.report)()).unwrap_or_default();
                body.push(b'\n');
                respond(StatusCode::OK, JSON, body)
            }
            (None, REPORT_PATH, _) => wrong_method("use GET or HEAD\n", "GET, HEAD"),
            _ => text(StatusCode::NOT_FOUND, PATHS),
        }
    }
}

/// Where the report is.
pub(crate) const REPORT_PATH: &str = "/api/v1/status";

const JSON: &str = "application/json";
const LINES_PER_SECOND: u32 = 10;
const PATHS: &str = "not found; there is:\n\
    GET  /api/v1/status  what runs\n\
    POST /api/v1/reload  read the certificates again, as SIGHUP does\n\
    POST /api/v1/drain   go down in order, as SIGTERM does\n";
