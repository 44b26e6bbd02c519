//! A gate as a process of its own, with a configuration in a directory of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::client::Client;
use super::pki::Ca;
use super::{eventually, soon};

/// A running gate. Killed when dropped.
pub struct Gate {
    child: Child,
    pub ca: Ca,
    /// Holds `tls.crt`, `tls.key` and `wsgate.yaml`.
    pub dir: TempDir,
    pub https: SocketAddr,
    pub status: SocketAddr,
    pub http_redirect: Option<SocketAddr>,
    /// As `--admin` takes it.
    pub admin: Option<String>,
    log: Arc<Mutex<Vec<Value>>>,
}

impl Gate {
    /// A gate in front of `backends`, with no limit by client and the rest as it is by default.
    pub async fn start(backends: &[SocketAddr]) -> Self {
        Self::with(backends, "").await
    }

    /// The same with `more` YAML; its top-level keys replace the ones of these tests.
    pub async fn with(backends: &[SocketAddr], more: &str) -> Self {
        Self::with_files(backends, more, None).await
    }

    /// The same with a limit on open files.
    pub async fn with_files(backends: &[SocketAddr], more: &str, files: Option<u32>) -> Self {
        let dir = TempDir::new().unwrap();
        let ca = Ca::new();
        let (cert, key) = ca.write(dir.path(), &["localhost", "127.0.0.1"]);
        let servers: Vec<String> = backends.iter().map(|at| format!("\"{at}\"")).collect();
        let servers = servers.join(", ");
        let mut sections = BTreeMap::from([
            ("listen", "listen: {https: \"127.0.0.1:0\"}".to_owned()),
            (
                "tls",
                format!(
                    "tls: {{certificates: [{{cert: {}, key: {}}}], reload_interval: 1s}}",
                    cert.display(),
                    key.display()
                ),
            ),
            ("limits", "limits: {upgrades_per_client: null, connections_per_client: null}".into()),
            ("upstreams", format!("upstreams: {{servers: [{servers}], health: null}}")),
            ("status", "status: {listen: \"127.0.0.1:0\"}".to_owned()),
            ("admin", "admin: {listen: \"127.0.0.1:0\"}".to_owned()),
            ("drain", "drain: {delay: 0s, timeout: 300d, spread: 300d}".to_owned()),
            ("log", "log: {format: json, level: debug}".to_owned()),
        ]);
        sections.retain(|name, _| !more.lines().any(|line| line.starts_with(&format!("{name}:"))));
        let mut yaml: String = sections.into_values().map(|section| section + "\n").collect();
        yaml.push_str(&more.replace("SERVERS", &servers));
        let yaml = yaml
            .replace("CERT", &cert.display().to_string())
            .replace("KEY", &key.display().to_string());
        std::fs::write(dir.path().join("wsgate.yaml"), yaml).unwrap();
        Self::spawn(dir, ca, files).await
    }

    async fn spawn(dir: TempDir, ca: Ca, files: Option<u32>) -> Self {
        let mut command = Command::new("sh");
        let limit = files.map_or_else(String::new, |most| format!("ulimit -n {most} && "));
        command.arg("-c").arg(format!("{limit}exec \"$0\" \"$@\""));
        let mut child = command
            .arg(env!("CARGO_BIN_EXE_wsgate"))
            .arg("run")
            .arg("-c")
            .arg(dir.path().join("wsgate.yaml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let writer = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.lock().unwrap().push(line);
            }
        });
        let find = |event: &'static str| {
            let log = Arc::clone(&log);
            eventually(event, move || {
                let log = log.lock().unwrap();
                let found = log.iter().find(|line| line["event"] == event).cloned();
                assert!(
                    found.is_some() || !log.iter().any(Value::is_string),
                    "the gate did not start: {log:?}"
                );
                std::future::ready(found)
            })
        };
        let started = find("gate.started").await;
        let address = |field: &str| {
            let text = started[field].as_str()?;
            text.split(", ").next()?.parse::<SocketAddr>().ok()
        };
        let https = address("listen.https").expect("where https is");
        let status = address("listen.status").expect("where status is");
        let http_redirect = address("listen.http_redirect");
        let admin = started["listen.admin"].as_str().map(str::to_owned);
        Self { child, ca, dir, https, status, http_redirect, admin, log }
    }

    /// Waits for an event of the log that `wanted` accepts.
    pub async fn event(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("event {name}"), || {
            let log = self.log.lock().unwrap();
            let found = log.iter().find(|line| line["event"] == name && wanted(line)).cloned();
            std::future::ready(found)
        })
        .await
    }

    /// The events of one name so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.log().into_iter().filter(|line| line["event"] == name).collect()
    }

    /// Everything logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// The status listener's answer: status code and body.
    pub async fn status(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(self.status).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("a status answer", stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    /// One sample of `/metrics` by its full name and labels; 0 when there is none.
    pub async fn metric(&self, sample: &str) -> f64 {
        let (_, text) = self.status("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The sum over all label values of a family, or of those samples whose line begins so.
    pub async fn sum(&self, prefix: &str) -> f64 {
        let (_, text) = self.status("/metrics").await;
        let samples = text.lines().filter(|line| line.starts_with(prefix));
        samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Waits until a sample is `value`.
    pub async fn metric_becomes(&self, sample: &str, value: f64) {
        eventually(&format!("{sample} = {value}"), || async move {
            (self.metric(sample).await == value).then_some(())
        })
        .await;
    }

    /// `https://localhost:PORT`, the Origin that is same-origin with the default Host.
    pub fn origin(&self) -> String {
        format!("https://{}", self.host())
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.https.port())
    }

    /// A TLS connection to the gate.
    pub async fn connect(&self) -> Client {
        Client::connect(self.https, self.ca.client()).await.unwrap()
    }

    /// The same whatever the certificate.
    pub async fn connect_blindly(&self) -> Client {
        Client::connect(self.https, super::pki::client_that_trusts_anybody()).await.unwrap()
    }

    /// A WebSocket through the gate to `path`.
    pub async fn websocket(&self, path: &str) -> Client {
        let mut client = self.connect().await;
        let answer = client.ask(&self.handshake(path, "")).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        client
    }

    /// A good opening handshake, with `more` field lines.
    pub fn handshake(&self, path: &str, more: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nOrigin: {}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{more}\r\n",
            self.host(),
            self.origin()
        )
    }

    /// Sends a signal by its name, `HUP` or `TERM`.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and returns the exit code.
    pub async fn exit_code(&mut self) -> i32 {
        soon("the gate's end", self.child.wait()).await.unwrap().code().expect("an exit, no signal")
    }

    /// Runs `wsgate COMMAND… --admin` for this gate: exit code, standard output, standard error.
    pub async fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = self.admin.as_ref().expect("an admin listener");
        let asked = Command::new(env!("CARGO_BIN_EXE_wsgate"))
            .args(arguments)
            .args(["--admin", admin])
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = soon("a command's end", asked).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("no signal");
        (code, text(output.stdout), text(output.stderr))
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("a running gate")
    }

    /// Open files.
    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// The resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
