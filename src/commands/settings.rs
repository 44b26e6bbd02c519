//! The flags of every command that reads the configuration.

use std::path::PathBuf;

use clap::Args;

use crate::config::addresses::{Cidr, ListenAddr, OriginEntry, ServerAddr};
use crate::config::words::{Format, HashEntry, Level};

/// The common settings. Each is also an environment variable; the rest is in the file.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Configuration file [default: ./wsgate.yaml, then /etc/wsgate/wsgate.yaml]
    #[arg(short, long, value_name = "FILE", env = "WSGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Backends as HOST:PORT, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',', env = "WSGATE_UPSTREAMS")]
    pub upstreams: Vec<ServerAddr>,
    /// Where TLS is spoken [default: `[::]:8443`]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "WSGATE_LISTEN")]
    pub listen: Vec<ListenAddr>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "F", requires = "tls_key", env = "WSGATE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "F", requires = "tls_cert", env = "WSGATE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// An Origin that may connect, `https://*.example.com` or `same-origin`; may be repeated
    #[arg(long, value_name = "O", value_delimiter = ',', env = "WSGATE_ORIGIN")]
    pub origin: Vec<OriginEntry>,
    /// A CIDR whose X-Forwarded-* fields are believed; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "WSGATE_TRUST")]
    pub trust: Vec<Cidr>,
    /// What makes a client stick: client_ip, cookie:NAME, header:NAME, query:NAME, path
    #[arg(long, value_name = "KEY", env = "WSGATE_HASH")]
    pub hash: Option<HashEntry>,
    /// json, text, or auto: text on a terminal
    #[arg(long, value_name = "FORMAT", env = "WSGATE_LOG_FORMAT")]
    pub log_format: Option<Format>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "L", env = "WSGATE_LOG_LEVEL")]
    pub log_level: Option<Level>,
}
