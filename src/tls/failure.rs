//! Why a TLS handshake failed, told apart for operators.

use std::io;

use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

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

impl TlsFailure {
    pub(crate) fn of(error: &io::Error) -> Self {
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
                | PeerIncompatible::SupportedVersionsExtensionRequired
                // Every client since TLS 1.2 sends it.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired => Self::ProtocolVersion,
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
