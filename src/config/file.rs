//! The serde mirror of `wsgate.yaml`: every key, its type, its default.
//!
//! The first sentence on a field, and what follows it, is what `wsgate config schema` shows an
//! editor. What these values become is `build`'s.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::addresses::{Cidr, ListenAddr, ListenAddrs, OriginEntry, ServerAddr};
use super::admin_addr::AdminAddr;
use super::values::{MaxConnections, Period, Rate, Size};
use super::words::{
    BrokenFraming, Cipher, ClientIp, CloseCode, Format, HashEntry, Level, MinVersion,
    MissingOrigin, Proto,
};
use crate::backends::key::HashKey;
use crate::policy::origin::OriginRule;
use crate::status::endpoint::Endpoint;

/// The configuration of wsgate. Everything is optional but the backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "wsgate.yaml")]
pub struct File {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Where clients connect.
    pub listen: Listen,
    /// Certificates and what TLS may be.
    pub tls: Tls,
    /// Who may open a WebSocket, and who is believed.
    pub security: Security,
    /// How much one client, one request and one socket may take.
    pub limits: Limits,
    /// Pings to silent clients. Default null: none.
    pub heartbeat: Option<Heartbeat>,
    /// The backends, and which one a client gets.
    pub upstreams: Upstreams,
    /// What a backend is told.
    pub forward: Forward,
    /// Requests that are not opening handshakes.
    pub http: Http,
    /// What happens between SIGTERM and the end.
    pub drain: Drain,
    /// Health and metrics.
    pub status: Status,
    /// Where an operator asks the running gate.
    pub admin: Admin,
    /// What is written to standard error.
    pub log: Log,
}

impl Default for File {
    fn default() -> Self {
        Self {
            version: 1,
            listen: Listen::default(),
            tls: Tls::default(),
            security: Security::default(),
            limits: Limits::default(),
            heartbeat: None,
            upstreams: Upstreams::default(),
            forward: Forward::default(),
            http: Http::default(),
            drain: Drain::default(),
            status: Status::default(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The public address for https and wss, or a list. Default, and when null: `[::]:8443`, which
    /// is IPv4 as well; without a certificate only an address that is spelled out leaves loopback.
    pub https: Option<ListenAddrs>,
    /// An address for plain HTTP, where every request is redirected to https. Default null: none.
    pub http_redirect: Option<ListenAddr>,
    /// The most sockets at once; the next one is answered 503. Default `auto`: from the limit of
    /// open files. At least 1.
    pub max_connections: MaxConnections,
    /// From accept to the end of the TLS handshake; the request head gets as long again. Default
    /// 10s, above zero.
    pub handshake_timeout: Period,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            https: None,
            http_redirect: None,
            max_connections: MaxConnections::Auto,
            handshake_timeout: Period::secs(10),
        }
    }
}

/// Certificates and what TLS may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificates, chosen by the names in them; the first also serves whoever names no other.
    /// Default empty: one is made in memory, signed by itself.
    pub certificates: Vec<Certificate>,
    /// The lowest version of TLS. Default "1.3".
    pub min_version: MinVersion,
    /// The cipher suites, most wanted first. With `min_version` "1.2" and no suite of TLS 1.2 in
    /// the list, all six ECDHE AEAD suites follow. At least one of TLS 1.3.
    #[schemars(length(min = 1))]
    pub ciphers: Vec<Cipher>,
    /// How often the files are compared with what is served, besides being watched. Default 10s,
    /// above zero.
    pub reload_interval: Period,
}

impl Tls {
    /// The suites to offer, in order: `ciphers`, and those of TLS 1.2 where it is switched on
    /// without naming any.
    #[must_use]
    pub fn suites(&self) -> Vec<Cipher> {
        let mut suites = self.ciphers.clone();
        if self.min_version == MinVersion::Tls12 && !suites.iter().any(|suite| suite.is_tls12()) {
            suites.extend(Cipher::TLS12);
        }
        suites
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            min_version: MinVersion::Tls13,
            ciphers: vec![Cipher::Aes256GcmSha384, Cipher::Chacha20Poly1305Sha256],
            reload_interval: Period::secs(10),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// A PEM file with the certificate and the chain behind it.
    #[serde(serialize_with = "path")]
    pub cert: PathBuf,
    /// A PEM file with the private key.
    #[serde(serialize_with = "path")]
    pub key: PathBuf,
}

/// Who may open a WebSocket, and who is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// The Origins that may open a WebSocket; others are answered 403. Default `same-origin`; empty
    /// refuses whoever sends one. `*` stands alone.
    pub origins: Vec<OriginEntry>,
    /// What happens to a client that sends no Origin. Default `deny`.
    pub missing_origin: MissingOrigin,
    /// The networks whose `X-Forwarded-*` fields are believed. Default empty: nobody's.
    pub trusted_proxies: Vec<Cidr>,
    /// `Strict-Transport-Security`, sent with every response.
    pub hsts: Hsts,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            origins: vec![OriginEntry(OriginRule::SameOrigin)],
            missing_origin: MissingOrigin::Deny,
            trusted_proxies: Vec::new(),
            hsts: Hsts::default(),
        }
    }
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hsts {
    /// How long browsers insist on https. Default 730d; `0s` does not send the field.
    pub max_age: Period,
    /// Whether subdomains are meant as well. Default false.
    pub include_subdomains: bool,
    /// Whether browsers may ship the name with their preload list. Default false; needs
    /// `include_subdomains` and a `max_age` of 365d.
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        Self { max_age: Period::secs(730 * DAY), include_subdomains: false, preload: false }
    }
}

/// How much one client, one request and one socket may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How often one client address may try to open a WebSocket, refused tries included; more is
    /// answered 429. Null: no limit.
    pub upgrades_per_client: Option<UpgradeRate>,
    /// How many sockets one client address may have open; more is answered 429. Default 50, at
    /// least 1. Null: no limit.
    pub connections_per_client: Option<NonZeroU32>,
    /// How many leading bits of an IPv6 address make a client. Default 64, from 1 to 128.
    #[schemars(range(min = 1, max = 128))]
    pub ipv6_prefix: u8,
    /// How many client addresses are counted one by one; beyond them, new ones share a count.
    /// Default 100000, at least 1.
    pub tracked_clients: NonZeroU32,
    /// The networks without limits per client. Default empty.
    pub exempt: Vec<Cidr>,
    /// The longest request head; a longer one is answered 431. Default 16KiB, from 1KiB to 1MiB.
    pub header_size: Size,
    /// The largest message, in bytes of payload on the wire; a larger one ends its socket with 1009
    /// before the other side has it. Default null: no limit. At least 1.
    pub message_size: Option<Size>,
    /// How many messages each side of a socket may send in a second, pings and fragments counted;
    /// more ends it with 1008. Default null: no limit. At least 1.
    pub messages_per_second: Option<NonZeroU32>,
    /// What follows when a peer breaks the framing of RFC 6455. Default `pass`.
    pub broken_framing: BrokenFraming,
    /// How long a socket may be silent in both directions. Default 1h. Null: for ever.
    pub idle_timeout: Option<Period>,
    /// How long a socket may last. Default null: for ever.
    pub max_age: Option<Period>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upgrades_per_client: Some(UpgradeRate::default()),
            connections_per_client: Some(number::<50>()),
            ipv6_prefix: 64,
            tracked_clients: number::<100_000>(),
            exempt: Vec::new(),
            header_size: Size::kib(16),
            message_size: None,
            messages_per_second: None,
            broken_framing: BrokenFraming::Pass,
            idle_timeout: Some(Period::secs(3600)),
            max_age: None,
        }
    }
}

/// A token bucket for each client address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpgradeRate {
    /// How fast tokens come back. Default 5/s, above zero.
    pub rate: Rate,
    /// How many there are at first, and at most. Default 10, at least 1.
    pub burst: NonZeroU32,
}

impl Default for UpgradeRate {
    fn default() -> Self {
        Self { rate: Rate::per_second(number::<5>()), burst: number::<10>() }
    }
}

/// The backends, and which one a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstreams {
    /// The backends, as `host:port`. At least one, here or in `--upstreams`.
    pub servers: Vec<ServerAddr>,
    /// What decides which backend a client gets. Default `client_ip`, which also stands in for what
    /// a request lacks.
    pub hash: HashEntry,
    /// How long a backend may take to accept a connection. Default 2s, above zero.
    pub connect_timeout: Period,
    /// How long a backend may take to answer a request. Default 30s, above zero.
    pub response_timeout: Period,
    /// How many other backends are tried when one cannot be reached. Default 1; 0: none.
    pub retries: u32,
    /// Active checks of the backends by TCP connect. Null: none.
    pub health: Option<Health>,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            hash: HashEntry(HashKey::ClientIp),
            connect_timeout: Period::secs(2),
            response_timeout: Period::secs(30),
            retries: 1,
            health: Some(Health::default()),
        }
    }
}

/// Active checks of the backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// From one check to the next. Default 5s, above zero.
    pub interval: Period,
    /// How long a check may take. Default 2s, above zero.
    pub timeout: Period,
    /// How many checks in a row bring a backend back. Default 2, at least 1.
    pub rise: NonZeroU32,
    /// How many failures in a row take it out. Default 3, at least 1.
    pub fall: NonZeroU32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Period::secs(5),
            timeout: Period::secs(2),
            rise: number::<2>(),
            fall: number::<3>(),
        }
    }
}

/// Pings to silent clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// How long a client may be silent before it is pinged, and before each further ping. Default
    /// 30s, at least 1s.
    pub interval: Period,
    /// How many pings may stay unanswered; then the socket ends, within `interval` × (`misses` + 1)
    /// of silence. Default 2, at least 1.
    pub misses: NonZeroU32,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Period::secs(30), misses: number::<2>() }
    }
}

/// What a backend is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Forward {
    /// What `X-Forwarded-Proto` says of an opening handshake. Default `https`.
    pub proto: Proto,
    /// Whether `Forwarded` (RFC 7239) is sent besides `X-Forwarded-*`. Default false.
    pub forwarded: bool,
}

impl Default for Forward {
    fn default() -> Self {
        Self { proto: Proto::Https, forwarded: false }
    }
}

/// Requests that are not opening handshakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Whether they go to the backends. Default true; false answers them 404.
    pub enabled: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// What happens between SIGTERM and the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long new sockets are still accepted after `/readyz` has failed, so that load balancers
    /// notice. Default 5s; `0s`: not at all.
    pub delay: Period,
    /// How long open sockets may stay after that. Default 60s; `0s`: not at all.
    pub timeout: Period,
    /// The time over which open sockets get their Close frames, one after the other. Default 30s,
    /// at most `timeout`; `0s`: all at once.
    pub spread: Period,
    /// The code in those frames. Default 1001.
    #[schemars(schema_with = "close_code")]
    pub close_code: CloseCode,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Period::secs(5),
            timeout: Period::secs(60),
            spread: Period::secs(30),
            close_code: CloseCode::GoingAway,
        }
    }
}

/// Health and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Status {
    /// The address of `/livez`, `/readyz`, `/healthz`, `/drained` and `/metrics`, plain HTTP. Default
    /// `0.0.0.0:9180`. Null: none.
    pub listen: Option<ListenAddr>,
    /// Whether `/readyz` wants a backend that is up. Default true.
    pub require_backend: bool,
}

impl Default for Status {
    fn default() -> Self {
        let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], 9180));
        Self { listen: Some(ListenAddr::new(everywhere)), require_backend: true }
    }
}

/// Where an operator asks the running gate: `wsgate status`, `reload`, `drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// An address, plain HTTP, or `unix:` and the path of a socket. Default `127.0.0.1:9181`; where
    /// that is taken and was not spelled out, the gate goes without. Null: none.
    pub listen: Option<AdminAddr>,
    /// A file with the token that callers show as `Authorization: Bearer`. Default null: none; an
    /// address off loopback needs one.
    #[serde(serialize_with = "optional_path")]
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 9181));
        Self { listen: Some(AdminAddr(Endpoint::Tcp(loopback))), token_file: None }
    }
}

/// What is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe lines that are written. Default `info`.
    pub level: Level,
    /// How a line looks. Default `auto`.
    pub format: Format,
    /// Whether each socket has a line when it opens and one when it closes. Default true.
    pub access: bool,
    /// How much of a client's address is written. Default `full`.
    pub client_ip: ClientIp,
    /// The query parameters that are written; others are dropped. Default empty: all are.
    pub query_allow: Vec<String>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Auto,
            access: true,
            client_ip: ClientIp::Full,
            query_allow: Vec::new(),
        }
    }
}

/// `N`, checked when this is compiled.
const fn number<const N: u32>() -> NonZeroU32 {
    const { NonZeroU32::new(N).expect("a default above zero") }
}

/// A path that is not UTF-8 can only have come from a flag; it is shown as well as may be.
fn path<S: Serializer>(path: &std::path::Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

fn optional_path<S: Serializer>(shown: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    match shown {
        Some(shown) => path(shown, to),
        None => to.serialize_none(),
    }
}

/// The words are numbers, which nobody quotes.
fn close_code(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let words = CloseCode::WORDS.iter().map(|word| serde_json::Value::from(*word));
    let numbers = CloseCode::WORDS.iter().filter_map(|word| word.parse::<u16>().ok());
    let all: Vec<_> = numbers.map(serde_json::Value::from).chain(words).collect();
    schemars::json_schema!({ "enum": all })
}

/// In seconds.
const DAY: u64 = 24 * 3600;
