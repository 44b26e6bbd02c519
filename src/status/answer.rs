//! One request in, one answer out.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::listener::Caller;
use super::{Check, Status};

/// Answers `request`; its body, if any, is not read.
pub(super) async fn answer<B>(
    request: &Request<B>,
    status: &Status,
    caller: &Caller,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return wrong_method("use GET or HEAD\n", "GET, HEAD");
    }
    let verbose = request.uri().query().is_some_and(asks_for_verbose);
    match request.uri().path() {
        // Answering is the check: the runtime turns. A gate that is not ready needs no restart.
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready("readyz", &(status.ready)(), verbose),
        "/healthz" => ready("healthz", &(status.ready)(), verbose),
        "/drained" => status.drained.answer(request.uri().query(), caller).await,
        "/metrics" => {
            (status.before_metrics)();
            respond(StatusCode::OK, METRICS, status.metrics.render())
        }
        _ => text(StatusCode::NOT_FOUND, PATHS),
    }
}

/// As Kubernetes' own probes answer: a word when all is well, the checks when not, or when asked for.
fn ready(path: &str, checks: &[Check], verbose: bool) -> Response<Full<Bytes>> {
    let ready = checks.iter().all(|check| check.failing.is_none());
    if ready && !verbose {
        return text(StatusCode::OK, "ok\n");
    }
    let mut lines = String::new();
    for Check { name, failing } in checks {
        lines += &match failing {
            None => format!("[+]{name} ok\n"),
            Some(why) => format!("[-]{name} failed: {why}\n"),
        };
    }
    let (code, verdict) = match ready {
        true => (StatusCode::OK, "passed"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    text(code, format!("{lines}{path} check {verdict}\n"))
}

fn asks_for_verbose(query: &str) -> bool {
    query.split('&').any(|parameter| parameter.split('=').next() == Some("verbose"))
}

/// 405, with the methods that would do.
pub(super) fn wrong_method(body: &'static str, allowed: &'static str) -> Response<Full<Bytes>> {
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, body);
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    refused
}

pub(super) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(code, TEXT, body)
}

pub(super) fn respond(
    code: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PATHS: &str = "not found; there is:\n\
    /livez    the process turns\n\
    /readyz   it can take sockets (?verbose for each check)\n\
    /healthz  the same\n\
    /drained  waits for the end of a drain (?timeout=SECONDS)\n\
    /metrics  Prometheus text\n";
