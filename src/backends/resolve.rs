//! Addresses of a backend: a literal as it is, a name by DNS. Asked in Rust, because a static
//! binary has no getaddrinfo; `/etc/hosts` and `/etc/resolv.conf` count as they do for others.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

use crate::backends::set::{Backend, Host};

/// A resolver that keeps answers for their TTL, and 5 s at most. One for the whole process.
pub(crate) struct Resolver(Option<TokioResolver>);

impl Resolver {
    /// Reads the system's configuration. Where it has none, names do not resolve and literal
    /// addresses go on working.
    pub(crate) fn from_system() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            // Docker's name server says 600 s of a container that may be replaced in one.
            options.positive_max_ttl = Some(KEPT);
            options.negative_max_ttl = Some(KEPT);
            builder.build()
        });
        Self(resolver.ok())
    }

    /// Every address of `backend`, at least one.
    ///
    /// # Errors
    /// When the name has no address, or no name server answers.
    pub(crate) async fn addresses(&self, backend: &Backend) -> io::Result<Vec<SocketAddr>> {
        let name = match backend.host() {
            Host::Address(address) => return Ok(vec![SocketAddr::new(*address, backend.port())]),
            Host::Name(name) => name.as_str(),
        };
        // RFC 6761 §6.3: localhost is loopback, whatever a name server says.
        if name == "localhost" {
            return Ok(vec![
                SocketAddr::from(([127, 0, 0, 1], backend.port())),
                SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], backend.port())),
            ]);
        }
        let Some(resolver) = &self.0 else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no DNS configuration"));
        };
        let answer = resolver.lookup_ip(name).await.map_err(io::Error::other)?;
        let found: Vec<SocketAddr> =
            answer.iter().map(|address| SocketAddr::new(address, backend.port())).collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}

const KEPT: Duration = Duration::from_secs(5);
