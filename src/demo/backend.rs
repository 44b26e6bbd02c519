//! An echo backend: plain HTTP/1.1 on loopback, as the gate's backends are. It says hello with what
//! it was told about the client, then sends every message back.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{CurlLines, Stage, page};
use crate::telemetry::clock;

/// A backend that listens and does not answer yet.
pub(crate) struct Echo {
    listener: TcpListener,
    name: String,
    address: SocketAddr,
}

impl Echo {
    /// Binds the backend of that number to a free port of loopback.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub(crate) async fn bind(number: u8) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, name: format!("backend-{number}"), address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped; a task for each connection.
    pub(crate) async fn serve(self, stage: Arc<Stage>) {
        let backend = Arc::new(Backend { name: self.name, address: self.address, stage });
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(connection(stream, Arc::clone(&backend)));
                }
                // Out of files: the next turn may find some.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

struct Backend {
    name: String,
    address: SocketAddr,
    stage: Arc<Stage>,
}

async fn connection(stream: TcpStream, backend: Arc<Backend>) {
    // Without it an echo may wait; and there is nothing to do when it cannot be set.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let response = backend.answer(request);
        async { Ok::<_, Infallible>(response) }
    });
    // A connection that ends badly is its client's to notice.
    let _ =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

impl Backend {
    fn answer(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/ws") => match request.headers().get(SEC_WEBSOCKET_KEY) {
                Some(key) => {
                    let accept = derive_accept_key(key.as_bytes());
                    let hello = self.hello(request.headers());
                    tokio::spawn(echo(upgrade::on(&mut request), hello));
                    switching(&accept)
                }
                None => text(StatusCode::UPGRADE_REQUIRED, "this path speaks WebSocket\n"),
            },
            (&Method::GET, "/demo/info") => info(&self.info()),
            (&Method::POST, "/demo/certificate") => self.renew(request.headers()),
            (&Method::GET | &Method::HEAD, path) => {
                page::file(path).unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not found\n"))
            }
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "not here\n"),
        }
    }

    /// What the gate told this backend about the client.
    fn hello(&self, fields: &HeaderMap) -> String {
        let told: Map<String, Value> = TOLD
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), fields.get(*name)?.to_str().ok()?.into())))
            .collect();
        json!({
            "type": "hello",
            "backend": self.name,
            "address": self.address.to_string(),
            "headers": told,
        })
        .to_string()
    }

    fn info(&self) -> Value {
        let stage = &self.stage;
        let listening = stage.gate.get().copied();
        let lines = listening.map(CurlLines::new);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "backend": self.name,
            "backends": stage.backends.len(),
            "certificate": self.fingerprint(),
            "limits": { "rate": stage.limits.rate, "burst": stage.limits.burst },
            "status": listening.and_then(|listening| listening.status).map(|at| at.to_string()),
            "lines": lines.map(|lines| json!({
                "foreign": lines.foreign,
                "burst": lines.burst,
                "fingerprint": lines.fingerprint,
            })),
        })
    }

    /// Renews the certificate, for the page alone: another website cannot send this field without
    /// a preflight, which nobody answers.
    fn renew(&self, fields: &HeaderMap) -> Response<Full<Bytes>> {
        if fields.get(ASKED_BY_PAGE).is_none_or(|value| value != "1") {
            return text(StatusCode::FORBIDDEN, "only the page may ask for this\n");
        }
        let before = self.fingerprint();
        let stage = &self.stage;
        match stage.certificates.renew_self_signed(clock::wall(), &stage.metrics) {
            Ok(summary) => info(&json!({ "before": before, "after": summary.sha256 })),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.stage.certificates.summaries().into_iter().next().map(|summary| summary.sha256)
    }
}

/// Says hello, then returns what comes, until either side closes.
async fn echo(upgrade: OnUpgrade, hello: String) {
    let Ok(upgraded) = upgrade.await else { return };
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    if socket.send(Message::text(hello)).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        // Pings and Close are answered by the library.
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn switching(accept: &str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let fields = response.headers_mut();
    fields.clear();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(accept).expect("base64 fits a field");
    fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn info(value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, &value.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What the hello repeats of the request.
const TOLD: [&str; 6] =
    ["host", "origin", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

/// `1` in a request that the page's own script sent.
pub(super) const ASKED_BY_PAGE: &str = "x-wsgate-demo";

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
