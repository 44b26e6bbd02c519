//! The self-test's client: TLS pinned to the certificate that the gate serves now, HTTP, and opening
//! handshakes that may be refused.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::{Listening, Stage};
use crate::certs::CertSummary;

/// Talks to the gate as a person's programs would. What goes wrong is said as a sentence.
pub(super) struct Client<'a> {
    stage: &'a Stage,
    listening: Listening,
    /// Opening handshakes that were answered 101.
    accepted: Cell<u32>,
}

/// An open WebSocket, and what its backend said first.
pub(super) struct Socket {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    pub(super) hello: Value,
}

/// An opening handshake: where to, from which website, with what more.
#[derive(Clone, Copy)]
pub(super) struct Handshake<'a> {
    pub(super) target: &'a str,
    pub(super) origin: Option<&'a str>,
    pub(super) more: &'a [(&'static str, &'static str)],
}

/// How an opening handshake was answered.
pub(super) enum Answer {
    Open(Box<Socket>),
    Refused(Response<Option<Vec<u8>>>),
}

impl<'a> Client<'a> {
    pub(super) fn new(stage: &'a Stage, listening: Listening) -> Self {
        Self { stage, listening, accepted: Cell::new(0) }
    }

    pub(super) fn origin(&self) -> String {
        self.listening.origin()
    }

    pub(super) fn accepted(&self) -> u32 {
        self.accepted.get()
    }

    /// The certificate that the gate serves now.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, String> {
        self.stage.certificates.default_certificate().ok_or_else(|| "no certificate".to_owned())
    }

    /// A TLS connection that takes `pinned` and no other certificate.
    pub(super) async fn tls(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        pinned: CertificateDer<'static>,
    ) -> Result<TlsStream<TcpStream>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(pinned).map_err(said)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        // A configuration for each connection: nothing is resumed, every handshake shows the
        // certificate.
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(said)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(self.listening.dial()).await.map_err(said)?;
        let name = ServerName::try_from("localhost").map_err(said)?;
        // Boxed, as is what else is large: the checks hold these futures.
        let connecting = Box::pin(TlsConnector::from(Arc::new(config)).connect(name, tcp));
        connecting.await.map_err(said)
    }

    /// The fingerprint of the certificate that a new handshake shows.
    pub(super) async fn fingerprint(&self) -> Result<String, String> {
        let stream = self.tls(TLS13, self.certificate()?).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let summary = shown.and_then(|der| CertSummary::from_der(der, None));
        summary.map(|summary| summary.sha256).ok_or_else(|| "no certificate was shown".to_owned())
    }

    /// One HTTPS request on a connection of its own.
    pub(super) async fn https(
        &self,
        method: Method,
        target: &str,
        more: &[(&'static str, &'static str)],
    ) -> Result<Response<Bytes>, String> {
        let stream = self.tls(TLS13, self.certificate()?).await?;
        exchange(stream, self.listening.dial(), method, target, more).await
    }

    /// One request to the status listener.
    pub(super) async fn status(&self, target: &str) -> Result<String, String> {
        let at = self.listening.status.ok_or("there is no status listener")?;
        let stream = TcpStream::connect(at).await.map_err(said)?;
        let response = exchange(stream, at, Method::GET, target, &[]).await?;
        String::from_utf8(response.into_body().into()).map_err(said)
    }

    /// One opening handshake; an open socket has heard its backend's hello.
    pub(super) async fn open(&self, handshake: Handshake<'_>) -> Result<Answer, String> {
        let stream = self.tls(TLS13, self.certificate()?).await?;
        let host = self.listening.dial().to_string();
        let mut request = Request::get(format!("wss://{host}{}", handshake.target))
            .header("Host", &host)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key());
        if let Some(origin) = handshake.origin {
            request = request.header("Origin", origin);
        }
        for (name, value) in handshake.more {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(said)?;
        match Box::pin(tokio_tungstenite::client_async(request, stream)).await {
            Ok((stream, response)) => {
                self.accepted.set(self.accepted.get() + 1);
                secured(response.headers())?;
                let mut socket = Socket { stream, hello: Value::Null };
                let hello = socket.receive().await?;
                socket.hello = serde_json::from_slice(&hello.into_data()).map_err(said)?;
                Ok(Answer::Open(Box::new(socket)))
            }
            Err(WsError::Http(response)) => {
                secured(response.headers())?;
                Ok(Answer::Refused(*response))
            }
            Err(error) => Err(said(error)),
        }
    }
}

impl Socket {
    /// Sends a message and insists that it comes back.
    pub(super) async fn echoes(&mut self, message: Message) -> Result<(), String> {
        self.stream.send(message.clone()).await.map_err(said)?;
        match self.receive().await? {
            back if back == message => Ok(()),
            _ => Err("something else came back".to_owned()),
        }
    }

    /// What the backend calls itself.
    pub(super) fn backend(&self) -> &str {
        self.hello["backend"].as_str().unwrap_or("nobody")
    }

    async fn receive(&mut self) -> Result<Message, String> {
        let next = self.stream.next().await.ok_or("the socket ended")?;
        next.map_err(said)
    }
}

/// H7: `nosniff` exactly once; and no HSTS, which would lock people out of a name whose certificate
/// they had to click away.
pub(super) fn secured(fields: &HeaderMap) -> Result<(), String> {
    if fields.contains_key("strict-transport-security") {
        return Err("Strict-Transport-Security with a self-signed certificate".to_owned());
    }
    let sniffing: Vec<_> = fields.get_all("x-content-type-options").into_iter().collect();
    match sniffing[..] {
        [only] if only == "nosniff" => Ok(()),
        _ => Err(format!("X-Content-Type-Options is {sniffing:?}")),
    }
}

/// What an error says, for a line of the report.
pub(super) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    host: SocketAddr,
    method: Method,
    target: &str,
    more: &[(&'static str, &'static str)],
) -> Result<Response<Bytes>, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    let mut request =
        Request::builder().method(method).uri(target).header("Host", host.to_string());
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(said)?;
    let answered = async move {
        let (head, body) = sender.send_request(request).await.map_err(said)?.into_parts();
        let body = body.collect().await.map_err(said)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // The answer is what counts; how the connection ends after it is not.
    let (_, answered) = tokio::join!(connection, answered);
    answered
}

/// What the gate speaks by default.
pub(super) const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What it no longer speaks.
pub(super) const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
