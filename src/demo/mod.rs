//! What `wsgate demo` runs beside the gate: echo backends in the process, the page they serve, and
//! the client that tries everything without a browser. The gate itself is the same as ever; what
//! composes it is `commands::demo`.

mod backend;
mod client;
mod page;
mod self_test;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

pub(crate) use backend::Echo;
pub(crate) use self_test::{Outcome, self_test};

use crate::certs::CertStore;
use crate::telemetry::metrics::Metrics;

/// What the backends and the self-test know of the demo around them.
pub(crate) struct Stage {
    /// What the gate serves; the page may renew it.
    pub(crate) certificates: Arc<CertStore>,
    /// Where a renewal is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Where the backends listen, in their order.
    pub(crate) backends: Vec<SocketAddr>,
    /// The limits in force, for the page to explain.
    pub(crate) limits: Limits,
    /// Where the gate listens, once it does.
    pub(crate) gate: OnceLock<Listening>,
}

/// The limits per client, as the configuration spells them.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) rate: String,
    pub(crate) burst: u32,
}

/// Where the gate is to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening {
    pub(crate) https: SocketAddr,
    pub(crate) status: Option<SocketAddr>,
}

impl Listening {
    /// An address that can be dialled, also where the gate listens on every one.
    pub(crate) fn dial(self) -> SocketAddr {
        let ip = match self.https.ip() {
            IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.https.port())
    }

    /// What a browser is given, without a slash at the end: also the Origin of the page.
    pub(crate) fn origin(self) -> String {
        format!("https://{}", self.dial())
    }
}

/// The lines that a person copies into a terminal, for the page and for the start of the demo.
#[derive(Clone, Debug)]
pub(crate) struct CurlLines {
    /// One opening handshake from a foreign website.
    pub(crate) foreign: String,
    /// Twenty of them, fast.
    pub(crate) burst: String,
    /// The fingerprint that a new handshake sees.
    pub(crate) fingerprint: String,
}

impl CurlLines {
    pub(crate) fn new(listening: Listening) -> Self {
        let (origin, at) = (listening.origin(), listening.dial());
        let evil = format!("{HANDSHAKE} -H 'Origin: https://evil.example' {origin}/ws");
        Self {
            foreign: format!("curl -ki --http1.1 {evil}"),
            burst: format!(
                "for n in $(seq 20); do curl -sk -o /dev/null -w '%{{http_code}} ' --http1.1 \
                 {evil}; done; echo"
            ),
            fingerprint: format!(
                "openssl s_client -connect {at} </dev/null 2>/dev/null | openssl x509 -noout \
                 -sha256 -fingerprint"
            ),
        }
    }
}

/// RFC 6455 §1.3, with its own example of a key.
const HANDSHAKE: &str = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' \
                         -H 'Sec-WebSocket-Version: 13' \
                         -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_on_every_address_is_dialled_on_loopback() {
        for (listens, origin) in [
            ("0.0.0.0:8443", "https://127.0.0.1:8443"),
            ("[::]:8443", "https://[::1]:8443"),
            ("127.0.0.1:9443", "https://127.0.0.1:9443"),
        ] {
            let listening = Listening { https: listens.parse().unwrap(), status: None };
            assert_eq!(listening.origin(), origin);
        }
    }
}
