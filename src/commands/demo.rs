//! `wsgate demo`: echo backends, a certificate in memory and the gate in one process.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, OnceLock};

use clap::Args;

use crate::backends::key::HashKey;
use crate::commands::check::report;
use crate::commands::{DONE, FAILED, print};
use crate::config::addresses::{ListenAddr, ListenAddrs, ServerAddr};
use crate::config::values::Period;
use crate::config::words::{Format, HashEntry};
use crate::config::{self, ConfigError, File, Source};
use crate::demo::{CurlLines, Echo, Limits, Listening, Outcome, Stage, self_test};
use crate::runtime::{self, Audience, RunError, Running};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{clock, log};

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

/// Runs the demo until it is told to stop, or tries everything once.
pub fn demo(demo: &Demo) -> u8 {
    let services = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = services
        .map_err(|error| DemoError::Run(RunError::System(error)))
        .and_then(|services| services.block_on(perform(demo)));
    match done {
        Ok(true) => DONE,
        Ok(false) => FAILED,
        Err(DemoError::Config(errors)) => report(&errors),
        Err(DemoError::Run(error)) => {
            eprintln!("error: {error}");
            if matches!(&error, RunError::Bind(_, why) if why.kind() == io::ErrorKind::AddrInUse) {
                eprintln!("  choose another address: wsgate demo --listen 127.0.0.1:9443");
            }
            FAILED
        }
    }
}

/// Why there is no demo.
#[derive(Debug)]
enum DemoError {
    Config(Vec<ConfigError>),
    Run(RunError),
}

async fn perform(demo: &Demo) -> Result<bool, DemoError> {
    let metrics = Arc::new(Metrics::new());
    let echoes =
        bind(demo.backends).await.map_err(|error| DemoError::Run(RunError::System(error)))?;
    let file = settings(demo, &echoes);
    // The self-test's own lines say what happens; the log would only repeat them.
    let log = (!demo.self_test).then(|| log::init(config::log_settings(&file), &metrics));
    let (running, stage, listening) = raise(&file, echoes, &metrics, demo.self_test)?;
    if demo.self_test {
        let failed = self_test(&stage, listening, |outcome| _ = print(&line(outcome))).await;
        print(&verdict(failed));
        return Ok(failed == 0);
    }
    print(&invitation(listening, stage.backends.len()));
    running.until_signalled().await;
    // The last lines are written before the process ends.
    drop(log);
    Ok(true)
}

async fn bind(backends: u8) -> io::Result<Vec<Echo>> {
    let mut echoes = Vec::new();
    for number in 1..=backends {
        echoes.push(Echo::bind(number).await?);
    }
    Ok(echoes)
}

/// The defaults, but for what makes a demo: a person is one address, and still is to see several
/// backends; and nobody waits for a load balancer to notice that it ends.
fn settings(demo: &Demo, echoes: &[Echo]) -> File {
    let mut file = File::default();
    file.listen.https = Some(ListenAddrs(vec![demo.listen]));
    file.status.listen = Some(status_address(demo.self_test));
    // Nobody asks a self-test anything.
    file.admin.listen = file.admin.listen.filter(|_| !demo.self_test);
    file.upstreams.hash = HashEntry(HashKey::Query("user".to_owned()));
    file.upstreams.servers = echoes
        .iter()
        .map(|echo| echo.address().to_string())
        .map(|address| address.parse::<ServerAddr>().expect("a bound address is a server's"))
        .collect();
    file.drain.delay = Period::ZERO;
    file.drain.timeout = Period::secs(1);
    file.log.format = Format::Text;
    file
}

/// Where the status listener usually is, so that what the documentation says can be tried; another
/// port where that one is taken.
fn status_address(any: bool) -> ListenAddr {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let port = if any || !free(STATUS_PORT) { 0 } else { STATUS_PORT };
    ListenAddr::new((Ipv4Addr::LOCALHOST, port).into())
}

/// Starts the backends and the gate before them.
fn raise(
    file: &File,
    echoes: Vec<Echo>,
    metrics: &Arc<Metrics>,
    silent: bool,
) -> Result<(Running, Arc<Stage>, Listening), DemoError> {
    let mut plan =
        config::build(file, &Source::nowhere(), clock::wall()).map_err(DemoError::Config)?;
    plan.banner.config = "demo".to_owned();
    // What it warns of is what the invitation explains.
    plan.banner.warnings.clear();
    if silent {
        plan.banner.audience = Audience::Machine;
    }
    let upgrades = file.limits.upgrades_per_client.clone().unwrap_or_default();
    let stage = Arc::new(Stage {
        certificates: Arc::clone(&plan.certificates),
        metrics: Arc::clone(metrics),
        backends: echoes.iter().map(Echo::address).collect(),
        limits: Limits { rate: upgrades.rate.to_string(), burst: upgrades.burst.get() },
        gate: OnceLock::new(),
    });
    let running = runtime::start(plan, metrics).map_err(DemoError::Run)?;
    let addresses = running.addresses();
    let https = *addresses.https.first().expect("one address was asked for");
    let listening = Listening { https, status: addresses.status };
    let listening = *stage.gate.get_or_init(|| listening);
    for echo in echoes {
        tokio::spawn(echo.serve(Arc::clone(&stage)));
    }
    Ok((running, stage, listening))
}

/// What a person reads first.
fn invitation(listening: Listening, backends: usize) -> String {
    let origin = listening.origin();
    let lines = CurlLines::new(listening);
    let status = listening.status.map_or_else(String::new, |status| {
        format!("\n  Status     http://{status}/readyz\n             http://{status}/metrics\n")
    });
    format!(
        "
  Open       {origin}/

             The browser will warn of the certificate: it was made in memory a moment ago, and
             nobody vouches for it. Choose \"Advanced\" and go on; until then the log says that
             handshakes failed.

  Behind it  {backends} echo backends in this process; the user name picks one

  A foreign website is refused with 403:

{}
{status}
  Stop       Ctrl-C

",
        lines.foreign
    )
}

fn line(outcome: &Outcome) -> String {
    match &outcome.result {
        Ok(seen) => format!("ok    {:<34} {seen}\n", outcome.name),
        Err(wrong) => format!("FAIL  {:<34} {wrong}\n", outcome.name),
    }
}

fn verdict(failed: usize) -> String {
    match failed {
        0 => "all good\n".to_owned(),
        1 => "1 check failed\n".to_owned(),
        failed => format!("{failed} checks failed\n"),
    }
}

const STATUS_PORT: u16 = 9180;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::addresses::OriginEntry;
    use crate::config::words::{MinVersion, MissingOrigin};
    use crate::policy::origin::OriginRule;

    /// Names of the checks that failed with `change` made to the demo's configuration.
    fn failing(change: impl FnOnce(&mut File)) -> Vec<&'static str> {
        let demo = Demo {
            backends: 3,
            listen: ListenAddr::new((Ipv4Addr::LOCALHOST, 0).into()),
            self_test: true,
        };
        let services = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        services.block_on(async {
            let echoes = bind(demo.backends).await.unwrap();
            let mut file = settings(&demo, &echoes);
            change(&mut file);
            let metrics = Arc::new(Metrics::new());
            let (_running, stage, listening) = raise(&file, echoes, &metrics, true).unwrap();
            let mut failing = Vec::new();
            let failed = self_test(&stage, listening, |outcome| {
                if outcome.result.is_err() {
                    failing.push(outcome.name);
                }
            })
            .await;
            assert_eq!(failed, failing.len());
            failing
        })
    }

    #[test]
    fn the_self_test_passes() {
        assert_eq!(failing(|_| ()), [""; 0]);
    }

    #[test]
    fn the_self_test_finds_a_gate_that_checks_nothing() {
        let failing = failing(|file| {
            file.tls.min_version = MinVersion::Tls12;
            file.security.origins = vec![OriginEntry(OriginRule::Any)];
            file.security.missing_origin = MissingOrigin::Allow;
            file.security.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            file.limits.upgrades_per_client = None;
        });
        assert_eq!(
            failing,
            [
                "TLS 1.2 alone is refused",
                "forged X-Real-IP is dropped",
                "foreign Origin is refused",
                "missing Origin is refused",
                "burst meets the rate limit",
            ]
        );
    }
}
