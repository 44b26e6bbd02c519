//! The command line. What a command does and which flags it takes is in `commands`; this says how
//! it is spelled and which exit code it ends with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands;
use crate::commands::admin::Asking;
use crate::commands::demo::Demo;
use crate::commands::healthcheck::Healthcheck;
use crate::commands::settings::Settings;

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
    /// What the running gate does: phase, sockets, backends, certificates
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let the running gate read its certificates again, as SIGHUP does
    Reload(Asking),
    /// Let the running gate end in order, as SIGTERM does
    Drain {
        /// Until no connection is left, or the gate has gone
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        asking: Asking,
    },
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

/// Runs the command in the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "-h") && arguments.next().is_none() {
        print!("{SHORT_HELP}");
        return ExitCode::SUCCESS;
    }
    let matches = without_empty_variables(Cli::command()).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
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
        Command::Config(Config::Schema) => commands::config::schema(),
        Command::Config(Config::Default) => commands::config::default(),
        Command::Config(Config::Show(settings)) => commands::config::show(&settings),
        Command::Cert(Cert::Show { cert, key, settings }) => {
            commands::cert::show_command(&cert, key, &settings)
        }
        Command::Cert(Cert::Dev { names, out, days, force }) => {
            commands::cert::dev_command(&out, names, days, force)
        }
        Command::Status { json, asking } => commands::admin::status(&asking, json),
        Command::Reload(asking) => commands::admin::reload(&asking),
        Command::Drain { wait, asking } => commands::admin::drain(&asking, wait),
        Command::Healthcheck(check) => commands::healthcheck::ask(&check),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "wsgate", &mut std::io::stdout());
            commands::DONE
        }
        Command::Version => commands::print(concat!("wsgate ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    exit(code)
}

/// An empty variable is an unset one: that is how Compose and systemd pass on what nobody has set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(without_empty_variables)
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
       wsgate demo | check | config | cert | status | reload | drain
       wsgate healthcheck | completions | version

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
