//! The TLS side of a client connection: what is offered (`terminator`), why a handshake failed
//! (`failure`), rustls' session as bytes in and bytes out (`session`), and the stream that a worker
//! reads and writes (`stream`). Which certificate is served is `certs`' business.

#[cfg(test)]
mod differential;
mod failure;
mod session;
mod stream;
mod terminator;

use std::sync::OnceLock;

use rustls::crypto::SecureRandom;

/// Random bytes for mask keys and tokens. Zeros where the system has none, which no frame of the
/// gate's depends on.
pub(crate) fn random<const BYTES: usize>() -> [u8; BYTES] {
    static SOURCE: OnceLock<&'static dyn SecureRandom> = OnceLock::new();
    let source = SOURCE.get_or_init(|| rustls::crypto::aws_lc_rs::default_provider().secure_random);
    let mut bytes = [0; BYTES];
    let _ = source.fill(&mut bytes);
    bytes
}

pub(crate) use crate::tls::stream::{Ingested, TlsStream};
pub(crate) use crate::tls::terminator::TlsInfo;
pub use crate::tls::terminator::{MinVersion, Terminator, TlsSettings, suite_named};
