//! Commands and flags. What a command does is in `commands`; this says how it is spelled and which
//! exit code it ends with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::commands;
use crate::config::addresses::{Cidr, ListenAddr, OriginEntry, ServerAddr};
use crate::config::words::{Format, HashEntry, Level};

/// A TLS 1.3 edge for WebSocket applications.
#[derive(Debug, Parser)]
#[command(
    name = "wsgate",
    version,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate (what happens without a command)
    Run(Settings),
    /// Try it: echo backends, a certificate in memory, a test page
    Demo(Demo),
    /// Find every error in a configuration, certificates included
    Check(Settings),
    /// The configuration: its schema, its defaults, what is in force
    #[command(subcommand)]
    Config(Config),
    /// Certificates: show a chain, write a development pair
    #[command(subcommand)]
    Cert(Cert),
    /// Ask the running gate whether it is ready; exit 0 or 1
    Healthcheck(Healthcheck),
    /// Completions for a shell
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// The version
    Version,
}

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

/// `wsgate demo`.
#[derive(Args, Clone, Debug)]
pub struct Demo {
    /// Echo backends to start
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub backends: u8,
    /// Where the gate listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub listen: ListenAddr,
    /// Try everything once without a browser and exit 0 or 1
    #[arg(long)]
    pub self_test: bool,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once")]
enum Config {
    /// JSON Schema of wsgate.yaml, for editors
    Schema,
    /// A file with every key, its default and a comment
    Default,
    /// What is in force: file, environment and flags together
    Show(Settings),
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once")]
enum Cert {
    /// Names, validity and fingerprint of chains, and whether the key fits
    Show {
        /// Chains, PEM; without any, those of the configuration
        cert: Vec<PathBuf>,
        /// The key of the one chain that is named
        #[arg(long, value_name = "F")]
        key: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Write tls.crt and tls.key for development, self-signed
    Dev {
        /// Names and addresses [default: localhost, 127.0.0.1, ::1]
        names: Vec<String>,
        /// Where to
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Days until it expires
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Overwrite what is there
        #[arg(long)]
        force: bool,
    },
}

/// `wsgate healthcheck`.
#[derive(Args, Clone, Debug)]
pub struct Healthcheck {
    /// The status listener [default: status.listen of the configuration]
    #[arg(long, value_name = "ADDR")]
    pub status: Option<ListenAddr>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the command in the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "-h") && arguments.next().is_none() {
        print!("{SHORT_HELP}");
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Closed output is all that can go wrong here.
            let _ = error.print();
            return match error.use_stderr() {
                true => exit(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let code = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(settings) => commands::run::run(&settings),
        Command::Demo(demo) => commands::demo::demo(&demo),
        Command::Check(settings) => commands::check::check(&settings),
        Command::Config(Config::Schema) => commands::print(&crate::config::schema()),
        Command::Config(Config::Default) => commands::print(crate::config::default_file()),
        Command::Config(Config::Show(settings)) => commands::check::show(&settings),
        Command::Cert(Cert::Show { cert, key, settings }) => {
            commands::cert::show_command(&cert, key, &settings)
        }
        Command::Cert(Cert::Dev { names, out, days, force }) => {
            commands::cert::dev_command(&out, names, days, force)
        }
        Command::Healthcheck(check) => commands::healthcheck::ask(check.status, &check.settings),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "wsgate", &mut std::io::stdout());
            commands::DONE
        }
        Command::Version => commands::print(concat!("wsgate ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    exit(code)
}

fn exit(code: u8) -> ExitCode {
    ExitCode::from(code)
}

/// Exit code of a command line that makes no sense.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  wsgate demo                                          see it work in a browser
  wsgate --upstreams 10.0.0.1:8080,10.0.0.2:8080       an edge with a certificate in memory
  wsgate -c wsgate.yaml                                everything from a file";

const SHORT_HELP: &str = "\
A TLS 1.3 edge for WebSocket applications.

Usage: wsgate [run] [-c FILE] [--upstreams A,B] [OPTIONS]
       wsgate demo | check | config | cert | healthcheck | completions | version

Options (all of them: --help; the rest is in the file: wsgate config default):
  -c, --config FILE       [./wsgate.yaml, then /etc/wsgate/wsgate.yaml]
      --upstreams A,B     backends as HOST:PORT
      --listen ADDR       where TLS is spoken [[::]:8443]
      --tls-cert F --tls-key F
                          chain and key, PEM; reloaded when they change
      --origin O          an Origin that may connect [same-origin]
      --trust CIDR        whose X-Forwarded-* fields are believed [nobody's]
      --hash KEY          client_ip, cookie:N, header:N, query:N or path
      --log-format F      json, text or auto
      --log-level L       error, warn, info, debug or trace

Examples:
  wsgate demo                                       see it work in a browser
  wsgate --upstreams 10.0.0.1:8080,10.0.0.2:8080    a certificate in memory
  wsgate check -c wsgate.yaml                       find every error in a file
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense_to_clap() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_short_help_fits_a_terminal_and_names_real_flags() {
        assert!(SHORT_HELP.lines().count() <= 24);
        assert!(SHORT_HELP.lines().all(|line| line.len() <= 80));
        let known = Cli::command();
        let known: Vec<_> = known.get_arguments().filter_map(clap::Arg::get_long).collect();
        for word in SHORT_HELP.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
            let word = word.trim_end_matches([';', ',']);
            assert!(known.contains(&word) || word == "help", "--{word}");
        }
    }
}
