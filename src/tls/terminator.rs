//! What is offered to clients, and one handshake under one deadline.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, CommonState, HandshakeKind, ProtocolVersion, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::failure::TlsFailure;
use crate::tls::stream::TlsStream;

/// What is offered, `tls.*`.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The lowest version spoken.
    pub min_version: MinVersion,
    /// Suites in the server's order.
    pub ciphers: Vec<CipherSuite>,
    /// From accept to the end of the handshake.
    pub handshake_timeout: Duration,
}

/// `tls.min_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.3 alone (the default).
    Tls13,
    /// TLS 1.2 too, with ECDHE AEAD suites.
    Tls12,
}

/// Ends TLS on accepted connections. Cheap to clone.
#[derive(Clone)]
pub struct Terminator {
    config: Arc<ServerConfig>,
    handshake_timeout: Duration,
}

/// What was agreed on, for logs and labels.
#[derive(Clone, Debug)]
pub(crate) struct TlsInfo {
    /// `1.3`, as OpenTelemetry spells it.
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) resumed: bool,
}

impl Terminator {
    /// Prepares the one server configuration; certificates change behind the resolver.
    ///
    /// # Errors
    /// When no suite fits the versions, or the provider cannot make tickets.
    pub fn new(
        settings: &TlsSettings,
        certificates: Arc<dyn ResolvesServerCert>,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider(&settings.ciphers)))
            .with_protocol_versions(match settings.min_version {
                MinVersion::Tls13 => TLS13_ALONE,
                MinVersion::Tls12 => TLS12_TOO,
            })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Listening(certificates)));
        // T2: the server's order decides.
        config.ignore_client_order = true;
        // T3; curl --http1.0 offers nothing but the older name.
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // T6: keys rotate inside the ticketer; it outlives certificate changes.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // 0-RTT data could be replayed by anybody who recorded it.
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), handshake_timeout: settings.handshake_timeout })
    }

    /// One handshake under one deadline.
    ///
    /// # Errors
    /// The reason and what the library said. The alert was sent, as far as the socket took it.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(crate) async fn handshake(
        &self,
        tcp: TcpStream,
    ) -> Result<(TlsStream, TlsInfo), (TlsFailure, io::Error)> {
        let shaking = TlsStream::accept(tcp, Arc::clone(&self.config));
        match timeout(self.handshake_timeout, listening(shaking)).await {
            Ok((Ok(stream), server_name)) => {
                let info = TlsInfo::of(stream.common(), server_name);
                Ok((stream, info))
            }
            Ok((Err(error), _)) => Err((TlsFailure::of(&error), error)),
            Err(_) => Err((TlsFailure::Timeout, io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Hears the name that a client asks for: rustls tells it to the resolver alone, which runs inside
/// one poll of the handshake, on the same thread.
#[derive(Debug)]
struct Listening(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Listening {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        HEARD.set(hello.server_name().map(Into::into));
        self.0.resolve(hello)
    }
}

thread_local! {
    static HEARD: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Runs `shaking` and returns with it the name that was heard meanwhile.
async fn listening<T>(shaking: impl Future<Output = T>) -> (T, Option<Box<str>>) {
    let mut shaking = std::pin::pin!(shaking);
    let mut name = None;
    std::future::poll_fn(move |cx| {
        HEARD.set(None);
        let polled = shaking.as_mut().poll(cx);
        if let Some(heard) = HEARD.take() {
            name = Some(heard);
        }
        polled.map(|done| (done, name.take()))
    })
    .await
}

static TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
static TLS12_TOO: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// aws-lc-rs with these suites in this order, and its key exchanges, X25519MLKEM768 first.
fn provider(ciphers: &[CipherSuite]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let known = std::mem::take(&mut provider.cipher_suites);
    let find = |wanted: &CipherSuite| known.iter().find(|suite| suite.suite() == *wanted).copied();
    provider.cipher_suites = ciphers.iter().filter_map(find).collect();
    provider
}

/// A suite's name as IANA registers it; rustls spells those of TLS 1.3 in its own way.
fn iana_name(suite: SupportedCipherSuite) -> &'static str {
    match suite.suite() {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

/// The suite of that IANA name, when this build has it.
#[must_use]
pub fn suite_named(name: &str) -> Option<CipherSuite> {
    let mut known = aws_lc_rs::ALL_CIPHER_SUITES.iter();
    known.find(|suite| iana_name(**suite) == name).map(|suite| suite.suite())
}

impl TlsInfo {
    fn of(session: &CommonState, server_name: Option<Box<str>>) -> Self {
        Self {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "unknown",
            },
            cipher: session.negotiated_cipher_suite().map_or("unknown", iana_name),
            server_name,
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").finish_non_exhaustive()
    }
}
