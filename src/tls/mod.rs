//! The TLS side of a client connection: what is offered (`terminator`), why a handshake failed
//! (`failure`), rustls' session as bytes in and bytes out (`session`), and the stream that a worker
//! reads and writes (`stream`). Which certificate is served is `certs`' business.

#[cfg(test)]
mod differential;
mod failure;
mod session;
mod stream;
mod terminator;

pub(crate) use crate::tls::stream::{Ingested, TlsStream};
pub(crate) use crate::tls::terminator::TlsInfo;
pub use crate::tls::terminator::{MinVersion, Terminator, TlsSettings, suite_named};
