//! From what the operator wrote to what runs: the one conversion, with the checks that need the
//! world (certificate files).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::error::ConfigError;
use super::file::{File, Limits};
use super::source::Source;
use super::values::MaxConnections;
use super::words::{self, ClientIp, Format, Level, MinVersion, Proto};
use crate::backends::health::HealthCheck;
use crate::backends::set::{Backend, Backends, Host};
use crate::certs::{CertStore, PairFiles};
use crate::drain::DrainTimes;
use crate::policy::client::TrustedProxies;
use crate::policy::headers::{ForwardedProto, Forwarding, SecurityHeaders};
use crate::policy::origin::{MissingOrigin, OriginPolicy, OriginRule};
use crate::policy::quota::{Bucket, QuotaLimits};
use crate::proxy::{AccessLog, ClientIpLog, GateSettings, UpstreamTimes};
use crate::runtime::{AdminPlan, Audience, Banner, Plan};
use crate::status::admin::guard::Token;
use crate::telemetry::log::{self, LogSettings};
use crate::tls::{self, Terminator, TlsSettings};
use crate::tunnel::{BrokenFraming, CLOSE_WAIT, CloseCode, Heartbeat, TunnelLimits};

/// Builds the working parts of `file`. `source` is where it was written, for the places of errors.
///
/// # Errors
/// Everything: the mistakes of [`super::mistakes`], no backends, certificates that cannot be loaded.
/// In the order of the text.
pub fn build(file: &File, source: &Source, now: SystemTime) -> Result<Plan, Vec<ConfigError>> {
    let mut errors = super::mistakes(file, source);
    let servers = "upstreams.servers";
    if file.upstreams.servers.is_empty() && source.is_whole(servers) {
        errors.push(
            source
                .error(servers, "there are no backends")
                .with_help("name them here, or with `--upstreams 10.0.0.1:8080,10.0.0.2:8080`"),
        );
    }
    let certificates = certificates(file, now).map_err(|problems| {
        let known = errors.len();
        for (path, problem) in problems {
            let error = source.error(&path, problem);
            // A path that is empty need not be said to be missing, too.
            if !errors[..known].iter().any(|other| other.place == error.place) {
                errors.push(error);
            }
        }
    });
    let token = token(file).unwrap_or_else(|problem| {
        errors.push(source.error("admin.token_file", problem));
        None
    });
    // Suites that do not fit are among the mistakes.
    let built = certificates.ok().filter(|_| errors.is_empty()).and_then(|certificates| {
        let resolver = Arc::clone(&certificates);
        let terminator = Terminator::new(&tls_settings(file), resolver)
            .map_err(|error| errors.push(source.error("tls", error.to_string())));
        let admin = file.admin.listen.clone().map(|listen| AdminPlan {
            listen: listen.0,
            spelled_out: source.has("admin.listen"),
            token,
        });
        Some(Plan { admin, ..plan(file, certificates, terminator.ok()?, now) })
    });
    errors.sort_by_key(ConfigError::line_col);
    built.ok_or(errors)
}

/// What the log is to be, before anything else of the configuration runs.
#[must_use]
pub fn log_settings(file: &File) -> LogSettings {
    use tracing_subscriber::filter::LevelFilter;
    LogSettings {
        level: match file.log.level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        },
        format: match file.log.format {
            Format::Auto => log::Format::Auto,
            Format::Json => log::Format::Json,
            Format::Text => log::Format::Text,
        },
    }
}

fn plan(
    file: &File,
    certificates: Arc<CertStore>,
    terminator: Terminator,
    now: SystemTime,
) -> Plan {
    let banner = banner(file, &certificates, now);
    Plan {
        https: https(file),
        http_redirect: file.listen.http_redirect.map(|address| address.get()),
        status: file.status.listen.map(|address| address.get()),
        admin: None,
        require_backend: file.status.require_backend,
        reload_interval: file.tls.reload_interval.get(),
        health: file.upstreams.health.as_ref().map(|health| HealthCheck {
            interval: health.interval.get(),
            timeout: health.timeout.get(),
            rise: health.rise.get(),
            fall: health.fall.get(),
        }),
        drain: DrainTimes { delay: file.drain.delay.get(), timeout: file.drain.timeout.get() },
        connections_max: match file.listen.max_connections {
            MaxConnections::Auto => None,
            MaxConnections::Fixed(most) => Some(most.get() as usize),
        },
        workers: thread::available_parallelism().map_or(1, usize::from),
        gate: gate(file, terminator, certificates.is_self_signed_in_memory()),
        certificates,
        banner,
    }
}

fn gate(file: &File, terminator: Terminator, self_signed: bool) -> GateSettings {
    let hsts = &file.security.hsts;
    // RFC 6797 §8.4 would lock people out of a name whose certificate they had to click away.
    let max_age = Some(hsts.max_age.get().as_secs()).filter(|age| *age > 0 && !self_signed);
    GateSettings {
        terminator,
        origins: OriginPolicy::new(origin_rules(file), file.security.missing_origin.into()),
        trusted: TrustedProxies::new(
            file.security.trusted_proxies.iter().map(|cidr| cidr.net()).collect(),
        ),
        quota: quota(&file.limits),
        forwarding: Forwarding {
            proto: match file.forward.proto {
                Proto::Https => ForwardedProto::Https,
                Proto::Wss => ForwardedProto::Wss,
            },
            forwarded: file.forward.forwarded,
        },
        security: SecurityHeaders::new(max_age, hsts.include_subdomains, hsts.preload),
        backends: backends(file),
        upstream: UpstreamTimes {
            connect: file.upstreams.connect_timeout.get(),
            response: file.upstreams.response_timeout.get(),
            retries: file.upstreams.retries as usize,
        },
        head_bytes: usize::try_from(file.limits.header_size.bytes()).unwrap_or(usize::MAX),
        head_timeout: file.listen.handshake_timeout.get(),
        tunnel: TunnelLimits {
            idle_timeout: file.limits.idle_timeout.map(|period| period.get()),
            max_age: file.limits.max_age.map(|period| period.get()),
            heartbeat: file.heartbeat.as_ref().map(|heartbeat| Heartbeat {
                interval: heartbeat.interval.get(),
                misses: heartbeat.misses.get(),
            }),
            message_size: file.limits.message_size.map(|size| size.bytes()),
            messages_per_second: file.limits.messages_per_second,
            broken_framing: match file.limits.broken_framing {
                words::BrokenFraming::Pass => BrokenFraming::Pass,
                words::BrokenFraming::Close => BrokenFraming::Close,
            },
            drain_code: match file.drain.close_code {
                words::CloseCode::GoingAway => CloseCode::GOING_AWAY,
                words::CloseCode::ServiceRestart => CloseCode::SERVICE_RESTART,
            },
            // The last in turn still has the time to answer before it is cut.
            drain_spread: file
                .drain
                .spread
                .get()
                .min(file.drain.timeout.get().saturating_sub(CLOSE_WAIT)),
        },
        http_enabled: file.http.enabled,
        log: AccessLog {
            enabled: file.log.access,
            client_ip: match file.log.client_ip {
                ClientIp::Full => ClientIpLog::Full,
                ClientIp::Masked => ClientIpLog::Masked,
            },
            query_allow: file.log.query_allow.clone(),
        },
    }
}

fn origin_rules(file: &File) -> Vec<OriginRule> {
    file.security.origins.iter().map(|entry| entry.0.clone()).collect()
}

fn quota(limits: &Limits) -> QuotaLimits {
    QuotaLimits {
        upgrades: limits
            .upgrades_per_client
            .as_ref()
            .map(|limit| Bucket { period: limit.rate.period(), burst: limit.burst }),
        connections: limits.connections_per_client,
        ipv6_prefix: limits.ipv6_prefix,
        tracked_clients: limits.tracked_clients.get() as usize,
        exempt: limits.exempt.iter().map(|cidr| cidr.net()).collect(),
    }
}

fn backends(file: &File) -> Backends {
    let list = file.upstreams.servers.iter().map(|server| {
        let host = match server.host().parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(server.host().to_owned()),
        };
        Backend::new(host, server.port())
    });
    Backends::new(list.collect(), file.upstreams.hash.0.clone())
}

fn tls_settings(file: &File) -> TlsSettings {
    TlsSettings {
        min_version: match file.tls.min_version {
            MinVersion::Tls13 => tls::MinVersion::Tls13,
            MinVersion::Tls12 => tls::MinVersion::Tls12,
        },
        ciphers: file
            .tls
            .suites()
            .iter()
            .filter_map(|cipher| tls::suite_named(cipher.as_str()))
            .collect(),
        handshake_timeout: file.listen.handshake_timeout.get(),
    }
}

/// The certificates of the files, or one made in memory; problems come with the path of the key
/// that names the file.
fn certificates(file: &File, now: SystemTime) -> Result<Arc<CertStore>, Vec<(String, String)>> {
    if file.tls.certificates.is_empty() {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        return CertStore::self_signed(&names, now)
            .map_err(|error| vec![("tls.certificates".to_owned(), error.to_string())]);
    }
    let pairs: Vec<PairFiles> = file
        .tls
        .certificates
        .iter()
        .map(|pair| PairFiles { cert: pair.cert.clone(), key: pair.key.clone() })
        .collect();
    CertStore::load(pairs).map_err(|errors| {
        let path = |at: &std::path::Path| {
            let named = |(n, pair): (usize, &super::file::Certificate)| match at {
                at if at == pair.key => Some(format!("tls.certificates.{n}.key")),
                at if at == pair.cert => Some(format!("tls.certificates.{n}.cert")),
                _ => None,
            };
            let mut found = file.tls.certificates.iter().enumerate().filter_map(named);
            found.next().unwrap_or_else(|| "tls.certificates".to_owned())
        };
        errors.iter().map(|error| (path(&error.file), error.to_string())).collect()
    })
}

/// The token of the admin listener, if one is asked for.
fn token(file: &File) -> Result<Option<Token>, String> {
    // An empty path is among the mistakes.
    let path = file.admin.token_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    Token::parse(&text).map(Some).map_err(|why| format!("`{}`: {why}", path.display()))
}

/// T12: with a certificate that nobody vouches for, only this machine is served unless the address
/// is spelled out.
fn https(file: &File) -> Vec<SocketAddr> {
    match (&file.listen.https, file.tls.certificates.is_empty()) {
        (Some(addresses), _) => addresses.0.iter().map(|address| address.get()).collect(),
        (None, false) => vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), HTTPS_PORT)],
        (None, true) => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), HTTPS_PORT)],
    }
}

fn banner(file: &File, certificates: &CertStore, now: SystemTime) -> Banner {
    let mut warnings = certificates.warnings(now);
    if certificates.is_self_signed_in_memory() {
        warnings.push(
            "the certificate is self-signed and made in memory: browsers will warn, HSTS is not \
             sent; set tls.certificates or --tls-cert and --tls-key"
                .to_owned(),
        );
    }
    let origins = &file.security.origins;
    if origins.iter().any(|entry| entry.0 == OriginRule::Any) {
        warnings.push(
            "any website may open WebSockets here with its visitors' cookies; list \
             security.origins"
                .to_owned(),
        );
    }
    let open = |net: &super::addresses::Cidr| net.net().prefix_len() == 0;
    if file.security.trusted_proxies.iter().any(open) {
        warnings.push(
            "everybody is a trusted proxy and can forge client addresses; narrow \
             security.trusted_proxies"
                .to_owned(),
        );
    }
    let missing = match file.security.missing_origin.into() {
        MissingOrigin::Deny => "missing: deny",
        MissingOrigin::Allow => "missing: allow",
    };
    let listed: Vec<String> = origins.iter().map(ToString::to_string).collect();
    let default = certificates.summaries().into_iter().next();
    let certificate = default.map(|summary| {
        [summary.name().to_owned(), summary.sha256.clone(), summary.not_after.to_string()]
    });
    let in_force = super::show(file);
    Banner {
        audience: match log_settings(file).format.style(is_terminal(), false) {
            log::Style::Json => Audience::Machine,
            log::Style::Text { .. } => Audience::Person,
        },
        config: "flags and defaults".to_owned(),
        config_hash: Sha256::digest(in_force.as_bytes())
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        certificate: certificate.unwrap_or_default(),
        tls_versions: match file.tls.min_version {
            MinVersion::Tls13 => "1.3",
            MinVersion::Tls12 => "1.2, 1.3",
        },
        origins: format!("{} ({missing})", listed.join(", ")),
        limits: limits(&file.limits),
        warnings,
    }
}

fn limits(limits: &Limits) -> String {
    let upgrades = limits.upgrades_per_client.as_ref().map_or_else(
        || "any number of upgrades".to_owned(),
        |limit| format!("{} upgrades burst {}", limit.rate, limit.burst),
    );
    let connections = limits
        .connections_per_client
        .map_or_else(|| "any number of sockets".to_owned(), |most| format!("{most} sockets"));
    format!("{upgrades}, {connections} per client")
}

fn is_terminal() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal()
}

const HTTPS_PORT: u16 = 8443;
