//! What a person sees at start, and the same as one `gate.started` event.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use crate::backends::set::Backends;
use crate::runtime::{Addresses, limits};

/// How the gate introduces itself.
#[derive(Clone, Debug)]
pub struct Banner {
    /// To whom.
    pub audience: Audience,
    /// The configuration's name, and what tells two of them apart.
    pub config: String,
    /// First 12 hex digits of the SHA-256 of what is in force.
    pub config_hash: String,
    /// The default certificate: name, SHA-256, expiry.
    pub certificate: [String; 3],
    /// `1.3` or `1.2, 1.3`.
    pub tls_versions: &'static str,
    /// `security.origins`, and whether a missing one passes.
    pub origins: String,
    /// The limits by client in one line.
    pub limits: String,
    /// What the operator should look at, each with the setting that answers it.
    pub warnings: Vec<String>,
}

/// Who reads the banner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A log collector: one event.
    Machine,
    /// A terminal: some lines.
    Person,
}

impl Banner {
    pub(super) fn announce(
        &self,
        addresses: &Addresses,
        backends: &Backends,
        connections_max: usize,
    ) {
        let mut warnings = self.warnings.clone();
        let fitting = limits::fitting(limits::files());
        if connections_max > fitting {
            warnings.push(format!(
                "listen.max_connections is {connections_max}, but the file limit of {} has room \
                 for {fitting}: raise it (ulimit -n, LimitNOFILE)",
                limits::files()
            ));
        }
        let https = joined(&addresses.https);
        let redirect = addresses.http_redirect.map(|address| address.to_string());
        let status = addresses.status.map(|address| address.to_string());
        let admin = addresses.admin.as_ref().map(ToString::to_string);
        let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
        let [name, sha256, not_after] = &self.certificate;
        match self.audience {
            Audience::Machine => tracing::info!(
                event = "gate.started",
                version = env!("CARGO_PKG_VERSION"),
                config = self.config,
                "config.hash" = self.config_hash,
                "listen.https" = https,
                "listen.http_redirect" = redirect.as_deref(),
                "listen.status" = status.as_deref(),
                "listen.admin" = admin.as_deref(),
                "tls.certificate.name" = name,
                "tls.certificate.sha256" = sha256,
                "tls.certificate.not_after" = not_after,
                "tls.versions" = self.tls_versions,
                backends = names.join(", "),
                hash = %backends.hash_key(),
                origins = self.origins,
                limits = self.limits,
                max_connections = connections_max,
                file_limit = limits::files(),
                warnings = (!warnings.is_empty()).then(|| warnings.join(" | ")),
                "started"
            ),
            Audience::Person => {
                let mut text = format!(
                    "wsgate {}  configuration {} ({})\n",
                    env!("CARGO_PKG_VERSION"),
                    self.config,
                    self.config_hash
                );
                let mut line = |name: &str, value: &dyn fmt::Display| {
                    let _ = writeln!(text, "  {name:<12} {value}");
                };
                line("https", &https);
                if let Some(redirect) = &redirect {
                    line("redirect", redirect);
                }
                if let Some(status) = &status {
                    line("status", &format_args!("http://{status}/readyz  /metrics"));
                }
                if let Some(admin) = &admin {
                    line("admin", &format_args!("{admin}  wsgate status | reload | drain"));
                }
                line("certificate", &format_args!("{name}, until {not_after}\n{:15}{sha256}", ""));
                line("TLS", &self.tls_versions);
                let by = format_args!("{} by {}", names.join(", "), backends.hash_key());
                line("backends", &by);
                line("origins", &self.origins);
                line("limits", &self.limits);
                let files = limits::files();
                line("connections", &format_args!("{connections_max} (file limit {files})"));
                for warning in &warnings {
                    line("warning:", warning);
                }
                eprint!("{text}");
            }
        }
    }
}

fn joined(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
