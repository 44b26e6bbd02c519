//! Who is measured, with the configuration that a good operator would write.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use crate::Result;
use crate::options::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Target {
    Nginx,
    Haproxy,
    Nginx64,
    Haproxy64,
    Baseline,
    Wsgate,
}

/// What the certificate is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Ecdsa,
    Rsa,
}

/// Where a proxy listens and where it forwards to.
pub(crate) struct Place<'a> {
    /// For its configuration and what it writes.
    pub(crate) dir: &'a Path,
    pub(crate) listen: SocketAddr,
    pub(crate) backend: SocketAddr,
    pub(crate) key: Key,
    /// Open files, of which a socket takes two.
    pub(crate) files: u64,
}

impl Target {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Nginx64 => "nginx, 64 KiB",
            Self::Haproxy64 => "HAProxy, 64 KiB",
            Self::Baseline => "baseline",
            Self::Wsgate => "wsgate",
        }
    }

    pub(crate) fn has_large_buffers(self) -> bool {
        matches!(self, Self::Nginx64 | Self::Haproxy64)
    }

    /// Processes besides the one started.
    pub(crate) fn children(self) -> usize {
        usize::from(matches!(self, Self::Nginx | Self::Nginx64))
    }

    /// The program to run, once for its version too.
    pub(crate) fn program(self, options: &Options) -> PathBuf {
        let installed = |name: &str| {
            let known = Path::new("/usr/sbin").join(name);
            if known.exists() { known } else { name.into() }
        };
        match self {
            Self::Nginx | Self::Nginx64 => installed("nginx"),
            Self::Haproxy | Self::Haproxy64 => installed("haproxy"),
            Self::Baseline => options.baseline.clone().unwrap_or_default(),
            Self::Wsgate => options.wsgate.clone(),
        }
    }

    /// Name and version, as the program says it.
    pub(crate) fn version(self, options: &Options) -> Result<String> {
        let flag = match self {
            Self::Baseline | Self::Wsgate => "version",
            _ => "-v",
        };
        let program = self.program(options);
        let said = Command::new(&program).arg(flag).output();
        let said = said.map_err(|error| format!("{}: {error}", program.display()))?;
        let said = [said.stdout, said.stderr].concat();
        let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
        let line = line.trim_start_matches("nginx version: ");
        Ok(line.split(" - ").next().unwrap_or_default().to_owned())
    }

    /// Writes the configuration and returns the arguments to run with it.
    pub(crate) fn configure(self, place: &Place<'_>) -> Result<Vec<String>> {
        let path = place.dir.join("configuration");
        let text = match self {
            Self::Nginx => nginx(place, ""),
            Self::Nginx64 => nginx(place, NGINX_LARGE_BUFFERS),
            Self::Haproxy => haproxy(place, ""),
            Self::Haproxy64 => haproxy(place, HAPROXY_LARGE_BUFFERS),
            Self::Baseline | Self::Wsgate => wsgate(place),
        };
        fs::write(&path, text)?;
        let path = path.display().to_string();
        let arguments: &[&str] = match self {
            Self::Nginx | Self::Nginx64 => &["-e", "stderr", "-c", &path],
            Self::Haproxy | Self::Haproxy64 => &["-db", "-f", &path],
            Self::Baseline | Self::Wsgate => &["run", "-c", &path],
        };
        Ok(arguments.iter().map(ToString::to_string).collect())
    }
}

/// Writes a certificate for `localhost` and its key, and both in one file for HAProxy. Returns the
/// certificate.
pub(crate) fn write_pair(dir: &Path, key: Key) -> Result<String> {
    let pair = match key {
        Key::Ecdsa => KeyPair::generate()?,
        Key::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    };
    let params = CertificateParams::new(vec!["localhost".to_owned()])?;
    let certificate = params.self_signed(&pair)?.pem();
    let private = pair.serialize_pem();
    fs::write(dir.join(key.file("crt")), &certificate)?;
    fs::write(dir.join(key.file("key")), &private)?;
    fs::write(dir.join(key.file("pem")), format!("{certificate}{private}"))?;
    Ok(certificate)
}

impl Key {
    fn file(self, extension: &str) -> String {
        format!("{}.{extension}", if self == Self::Rsa { "rsa" } else { "ecdsa" })
    }
}

impl Place<'_> {
    fn pair(&self, extension: &str) -> String {
        let pairs = self.dir.parent().unwrap_or(self.dir);
        pairs.join(self.key.file(extension)).display().to_string()
    }
}

fn nginx(place: &Place<'_>, more: &str) -> String {
    let Place { dir, listen, backend, files, .. } = place;
    let (cert, key, dir) = (place.pair("crt"), place.pair("key"), dir.display());
    // From 15/16 of its table on, nginx closes connections that have sent nothing yet.
    let connections = files + files / 4;
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
error_log stderr warn;
pid {dir}/pid;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
    ssl_ecdh_curve X25519;
    ssl_session_tickets on;
    ssl_session_timeout 1d;
    {more}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    upstream app {{ server {backend}; }}
    server {{
        listen {listen} ssl backlog=4096;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        add_header Strict-Transport-Security max-age=63072000 always;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"
    )
}

fn haproxy(place: &Place<'_>, more: &str) -> String {
    let Place { listen, backend, .. } = place;
    // Listeners, pipes and the like; the rest in twos.
    let sockets = (place.files - 200) / 2;
    let pem = place.pair("pem");
    format!(
        "global
    nbthread 1
    maxconn {sockets}
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384
    ssl-default-bind-curves X25519
    {more}
defaults
    mode http
    option forwardfor
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout http-request 10s
    timeout tunnel 1h
frontend edge
    bind {listen} ssl crt {pem} alpn http/1.1 backlog 4096
    maxconn {sockets}
    http-request set-header X-Forwarded-Proto https
    http-response set-header Strict-Transport-Security max-age=63072000
    default_backend app
backend app
    server app1 {backend}
"
    )
}

fn wsgate(place: &Place<'_>) -> String {
    let Place { listen, backend, .. } = place;
    let (cert, key) = (place.pair("crt"), place.pair("key"));
    format!(
        "version: 1
listen: {{https: \"{listen}\"}}
tls:
  certificates: [{{cert: {cert}, key: {key}}}]
  ciphers: [TLS_AES_256_GCM_SHA384]
limits: {{upgrades_per_client: null, connections_per_client: null}}
upstreams: {{servers: [\"{backend}\"]}}
drain: {{delay: 0s, timeout: 1s}}
status: {{listen: \"127.0.0.1:0\"}}
log: {{access: false}}
"
    )
}

/// In a tunnel nginx reads into buffers of `proxy_buffer_size`, each way.
const NGINX_LARGE_BUFFERS: &str = "proxy_buffer_size 64k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
    ssl_buffer_size 64k;";

const HAPROXY_LARGE_BUFFERS: &str = "tune.bufsize 65536";
