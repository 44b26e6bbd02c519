//! A gate in its own process, with a certificate from an authority of its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::process::Service;
use crate::tools::Backend;

/// A running gate that is ready.
pub(crate) struct Gate {
    pub(crate) service: Service,
    /// Where it serves TLS.
    pub(crate) https: SocketAddr,
    /// Where it serves its metrics.
    status: SocketAddr,
    /// Base64 SHA-256 of the served public key, as Chromium wants it; empty without certificate.
    pub(crate) spki: String,
    files: TempDir,
}

/// What the gate serves with.
#[derive(Clone, Copy)]
pub(crate) enum Certificate {
    /// A leaf for localhost and 127.0.0.1 under an authority that clients are told to trust.
    Issued,
    /// None given: the gate makes one in memory.
    InMemory,
}

impl Gate {
    /// Starts a gate in front of `backends` with an issued certificate. `more` is YAML: top-level
    /// keys other than `listen`, `tls`, `limits` and `upstreams`.
    pub(crate) fn start(backends: &[&Backend], more: &str) -> Self {
        Settings::DEFAULT.start(backends, more)
    }

    /// `https://127.0.0.1:PORT`: also the Origin of its own pages.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.https)
    }

    /// `wss://127.0.0.1:PORT`.
    pub(crate) fn socket_url(&self) -> String {
        format!("wss://{}", self.https)
    }

    /// One sample of `/metrics` by its full name and labels; 0 when there is none.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let mut stream = TcpStream::connect(self.status).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The file with the authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.files.path().join("ca.crt")
    }
}

/// What differs from test to test.
pub(crate) struct Settings {
    pub(crate) certificate: Certificate,
    /// More keys of `tls`, as a YAML flow fragment.
    pub(crate) tls: &'static str,
    /// The value of `upstreams.hash`.
    pub(crate) hash: &'static str,
    /// More keys of `limits`, as lines of YAML.
    pub(crate) limits: &'static str,
}

impl Settings {
    /// An issued certificate, and everything else as the gate has it by default.
    pub(crate) const DEFAULT: Self =
        Self { certificate: Certificate::Issued, tls: "", hash: "client_ip", limits: "" };

    /// Starts a gate with these settings and waits until it is ready.
    pub(crate) fn start(&self, backends: &[&Backend], more: &str) -> Gate {
        let files = TempDir::new().unwrap();
        let (spki, certificates) = match self.certificate {
            Certificate::Issued => (
                issue(&files),
                format!("certificates: [{{cert: {0}/tls.crt, key: {0}/tls.key}}],", show(&files)),
            ),
            Certificate::InMemory => (String::new(), String::new()),
        };
        let config = files.path().join("wsgate.yaml");
        fs::write(&config, self.yaml(&certificates, backends, more)).unwrap();

        let mut command = Command::new(env!("CARGO_BIN_EXE_wsgate"));
        command.arg("run").arg("-c").arg(&config);
        let service = Service::start("the gate", command);
        let started = service.wait_for_event("gate.started");
        let address = |listener: &str| {
            let address = started[listener].as_str().and_then(|address| address.parse().ok());
            address.expect("one address in gate.started")
        };
        let (https, status) = (address("listen.https"), address("listen.status"));
        service.wait_for_event("gate.ready");
        Gate { service, https, status, spki, files }
    }

    fn yaml(&self, certificates: &str, backends: &[&Backend], more: &str) -> String {
        let Self { tls, hash, limits, .. } = self;
        let servers: Vec<_> =
            backends.iter().map(|backend| format!("\"{}\"", backend.address)).collect();
        let servers = servers.join(", ");
        // Every client here is 127.0.0.1: the limits have tests of their own. Health is checked
        // once, at the start: tests count what reaches a backend.
        format!(
            r#"version: 1
listen: {{https: "127.0.0.1:0"}}
tls: {{{certificates} {tls}}}
limits:
  upgrades_per_client: {{rate: 1000/s, burst: 1000}}
  connections_per_client: 1000
  {limits}
upstreams:
  servers: [{servers}]
  hash: "{hash}"
  health: {{interval: 1h}}
status: {{listen: "127.0.0.1:0"}}
admin: {{listen: null}}
log: {{format: json, level: debug}}
{more}"#
        )
    }
}

/// Writes `ca.crt`, `tls.crt` and `tls.key`; returns the hash of the leaf's public key.
fn issue(files: &TempDir) -> String {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.distinguished_name.push(DnType::CommonName, "wsgate test authority");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut leaf = CertificateParams::new(["localhost".into(), "127.0.0.1".into()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python's strict verification asks for it.
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let leaf_pem = leaf.signed_by(&key, &issuer).unwrap().pem();

    fs::write(files.path().join("ca.crt"), authority_pem).unwrap();
    fs::write(files.path().join("tls.crt"), leaf_pem).unwrap();
    fs::write(files.path().join("tls.key"), key.serialize_pem()).unwrap();
    STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
}

fn show(files: &TempDir) -> String {
    files.path().display().to_string()
}
