//! What an operator sees with curl.

use crate::gate::{Certificate, Gate, Settings};
use crate::tools::{Backend, run};

const HSTS: (&str, &str) = ("strict-transport-security", "max-age=63072000");
const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");

/// RFC 6455 §1.3: the key and what must come back for it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

#[test]
fn a_foreign_origin_is_refused_before_the_backend_and_the_own_one_opens() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");

    for origin in ["Origin: https://evil.example", "Origin: null", "Origin;"] {
        let answer = handshake(&gate, &[origin]);
        assert_eq!(answer.status, 403, "{origin}");
        answer.assert_once(HSTS);
        answer.assert_once(NOSNIFF);
        answer.assert_once(("connection", "close"));
    }
    let answer = handshake(&gate, &[&format!("Origin: {}", own_origin(&gate))]);
    assert_eq!(answer.status, 101);
    answer.assert_once(HSTS);
    answer.assert_once(NOSNIFF);
    answer.assert_once(ACCEPT);
    assert!(answer.body.ends_with("good bye"), "{:?}", answer.body);
    // One for the socket, and at most one for the health check at the start.
    let connections = backend.count_until("connection", ("open", "/bye"));
    assert!(connections <= 2, "{connections} connections: refusals reached the backend");
}

#[test]
fn a_missing_origin_is_refused() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");
    let answer = handshake(&gate, &[]);
    assert_eq!(answer.status, 403);
    answer.assert_once(HSTS);
    answer.assert_once(NOSNIFF);
}

#[test]
fn a_missing_origin_opens_once_allowed_and_a_foreign_one_does_not() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "security: {missing_origin: allow}\n");
    assert_eq!(handshake(&gate, &["Origin: https://evil.example"]).status, 403);
    let answer = handshake(&gate, &[]);
    assert_eq!(answer.status, 101);
    answer.assert_once(ACCEPT);
}

#[test]
fn a_page_comes_over_http_1_1_also_when_http_2_is_offered() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let gate = Gate::start(&[&backend], "");
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&gate, "/page", &[version, "--cacert", &authority(&gate)]);
        assert_eq!(answer.status, 200, "{version}");
        assert_eq!(answer.version, "HTTP/1.1", "{version}");
        answer.assert_once(HSTS);
        answer.assert_once(NOSNIFF);
        assert!(answer.body.contains("a page of the app"), "{:?}", answer.body);
    }
    let forwarded = &backend.event("request", "/page")["headers"];
    assert_eq!(forwarded["x-forwarded-proto"], "https", "{forwarded}");
    assert_eq!(forwarded["x-real-ip"], "127.0.0.1", "{forwarded}");
}

/// A browser that kept HSTS for a certificate nobody can verify would lock its user out.
#[test]
fn hsts_is_not_sent_with_the_certificate_made_in_memory() {
    let backend = Backend::start("ws_backend.mjs", &[]);
    let settings = Settings { certificate: Certificate::InMemory, ..Settings::DEFAULT };
    let gate = settings.start(&[&backend], "");

    let origin = format!("Origin: {}", own_origin(&gate));
    for (answer, status) in [
        (curl(&gate, "/", &["--insecure"]), 200),
        (upgrade(&gate, &["--insecure"], &["Origin: https://evil.example"]), 403),
        (upgrade(&gate, &["--insecure"], &[&origin]), 101),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.values(HSTS.0), [""; 0]);
        answer.assert_once(NOSNIFF);
    }
}

/// An answer as `curl -i` prints it.
struct Answer {
    version: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn parse(output: &str) -> Self {
        let (head, body) = output.split_once("\r\n\r\n").expect("a head in curl's output");
        let mut lines = head.split("\r\n");
        let (version, rest) = lines.next().unwrap().split_once(' ').unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            version: version.to_owned(),
            status: rest[..3].parse().unwrap(),
            headers,
            body: body.to_owned(),
        }
    }

    fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(own, _)| own == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn assert_once(&self, (name, value): (&str, &str)) {
        assert_eq!(self.values(name), [value], "{name} in {:?}", self.headers);
    }
}

fn own_origin(gate: &Gate) -> String {
    format!("https://localhost:{}", gate.https.port())
}

fn authority(gate: &Gate) -> String {
    gate.authority().display().to_string()
}

/// The opening handshake that operators type, against a path that closes after its greeting.
fn handshake(gate: &Gate, headers: &[&str]) -> Answer {
    upgrade(gate, &["--cacert", &authority(gate)], headers)
}

fn upgrade(gate: &Gate, options: &[&str], headers: &[&str]) -> Answer {
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let standard = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", &key];
    let headers = standard.iter().chain(headers).flat_map(|header| ["-H", header]);
    let arguments: Vec<_> =
        ["-N", "--http1.1"].iter().chain(options).copied().chain(headers).collect();
    curl(gate, "/bye", &arguments)
}

fn curl(gate: &Gate, path: &str, arguments: &[&str]) -> Answer {
    let url = own_origin(gate) + path;
    let mut all = vec!["-i", "-sS", "--max-time", "30", "--noproxy", "*"];
    all.extend(arguments);
    all.push(&url);
    let finished = run("curl", &all);
    assert!(finished.status.success(), "curl {all:?}: {finished}");
    Answer::parse(&finished.stdout)
}
