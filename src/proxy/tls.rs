//! The TLS side of a client connection: what is offered, one handshake under one deadline, and
//! why one failed. Which certificate is served is `certs`' business.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCert;
use rustls::{
    AlertDescription, CipherSuite, HandshakeKind, InvalidMessage, PeerIncompatible,
    ProtocolVersion, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

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
    acceptor: TlsAcceptor,
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

/// Why a handshake failed: the label of `wsgate_tls_handshake_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFailure {
    ProtocolVersion,
    Cipher,
    Sni,
    ClientCert,
    Alert,
    Timeout,
    Eof,
    Other,
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
            .with_cert_resolver(certificates);
        // T2: the server's order decides.
        config.ignore_client_order = true;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // T6: keys rotate inside the ticketer; it outlives certificate changes.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // 0-RTT data could be replayed by anybody who recorded it.
        config.max_early_data_size = 0;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            handshake_timeout: settings.handshake_timeout,
        })
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
    ) -> Result<(TlsStream<TcpStream>, TlsInfo), (TlsFailure, io::Error)> {
        let accepted = timeout(self.handshake_timeout, self.acceptor.accept(tcp)).await;
        match accepted {
            Ok(Ok(stream)) => {
                let info = TlsInfo::of(&stream);
                Ok((stream, info))
            }
            Ok(Err(error)) => Err((TlsFailure::of(&error), error)),
            Err(_) => Err((TlsFailure::Timeout, io::ErrorKind::TimedOut.into())),
        }
    }
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
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let (_, session) = stream.get_ref();
        Self {
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "unknown",
            },
            cipher: session.negotiated_cipher_suite().map_or("unknown", iana_name),
            server_name: session.server_name().map(Into::into),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

impl TlsFailure {
    fn of(error: &io::Error) -> Self {
        use rustls::Error as Tls;
        let library = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
        match library {
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted => Self::Eof,
                io::ErrorKind::TimedOut => Self::Timeout,
                _ => Self::Other,
            },
            Some(Tls::PeerIncompatible(why)) => match why {
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired => Self::ProtocolVersion,
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon => Self::Cipher,
                _ => Self::Other,
            },
            Some(Tls::AlertReceived(AlertDescription::ProtocolVersion)) => Self::ProtocolVersion,
            Some(Tls::AlertReceived(_)) => Self::Alert,
            Some(Tls::InvalidMessage(InvalidMessage::InvalidServerName)) => Self::Sni,
            Some(Tls::NoCertificatesPresented | Tls::InvalidCertificate(_)) => Self::ClientCert,
            Some(_) => Self::Other,
        }
    }

    /// The label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ProtocolVersion => "protocol_version",
            Self::Cipher => "cipher",
            Self::Sni => "sni",
            Self::ClientCert => "client_cert",
            Self::Alert => "alert",
            Self::Timeout => "timeout",
            Self::Eof => "eof",
            Self::Other => "other",
        }
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").finish_non_exhaustive()
    }
}
