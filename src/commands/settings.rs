//! The flags of every command that reads the configuration.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::config::addresses::{Cidr, ListenAddr, OriginEntry, ServerAddr};
use crate::config::words::{Format, HashEntry, Level};

/// The common settings. Each is also an environment variable; the rest is in the file.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Which of them are variables. First, because the others take their values out of the matches.
    #[command(flatten)]
    pub variables: Variables,
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

impl Settings {
    /// `--log-level` or `WSGATE_LOG_LEVEL`, whichever `log_level` was given by.
    #[must_use]
    pub fn name(&self, field: &str) -> String {
        match self.variables.0.iter().any(|variable| variable == field) {
            true => format!("WSGATE_{}", field.to_ascii_uppercase()),
            false => format!("--{}", field.replace('_', "-")),
        }
    }
}

/// The fields of [`Settings`] that came from the environment.
#[derive(Clone, Debug, Default)]
pub struct Variables(Vec<String>);

impl FromArgMatches for Variables {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let from_environment =
            |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::EnvVariable);
        Ok(Self(matches.ids().filter(from_environment).map(ToString::to_string).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// No argument of its own.
impl Args for Variables {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}
