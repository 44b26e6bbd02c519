//! The admin listener and the commands that ask it, and what waits for the end of a drain.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::support::backend::Backend;
use crate::support::gate::Gate;
use crate::support::{DEADLINE, eventually, soon};

const TOKEN: &str = "correct-horse-battery";

/// Sends a request whose head is `lines`, and returns status and the whole answer.
async fn ask(gate: &Gate, lines: &str) -> (u16, String) {
    let stream = TcpStream::connect(gate.admin.as_ref().unwrap()).await.unwrap();
    ask_over(stream, lines).await
}

async fn ask_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, lines: &str) -> (u16, String) {
    let head = lines.replace('\n', "\r\n") + "\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn status_says_what_runs() {
    let backend = Backend::echo().await;
    let gone = "127.0.0.1:1".parse().unwrap();
    let gate = Gate::with(
        &[backend.address, gone],
        "upstreams: {servers: [SERVERS], health: {interval: 50ms, fall: 1}}",
    )
    .await;
    gate.event("backend.down", |_| true).await;
    let _sockets = [gate.websocket("/a").await, gate.websocket("/b").await];
    let _page = gate.connect().await;
    gate.metric_becomes("wsgate_connections_active", 3.0).await;
    let (status, answer) = ask(&gate, "GET /api/v1/status HTTP/1.1\nHost: localhost").await;
    assert_eq!(status, 200, "{answer}");
    let head = answer.to_ascii_lowercase();
    for field in ["content-type: application/json", "cache-control: no-store"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{answer}");
    }
    let report = body(&answer);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["uptime_s"].is_u64());
    assert_eq!(report["phase"], "serving");
    assert_eq!(report["drained"], false);
    assert_eq!(report["config_hash"], gate.events("gate.started")[0]["config.hash"]);
    assert_eq!(report["connections"]["active"], 3);
    let limit = gate.metric("wsgate_connections_limit").await;
    assert_eq!(report["connections"]["limit"].as_f64(), Some(limit));
    assert_eq!(report["websockets"]["active"], 2);
    let expected = serde_json::json!([
        {"name": backend.address.to_string(), "up": true, "active": 2},
        {"name": "127.0.0.1:1", "up": false, "active": 0},
    ]);
    assert_eq!(report["backends"], expected);
    let loaded = &gate.events("tls.cert.loaded")[0];
    let certificate = &report["certificates"][0];
    assert_eq!(certificate["names"], serde_json::json!(["localhost", "127.0.0.1"]));
    assert_eq!(certificate["sha256"], loaded["tls.certificate.sha256"]);
    assert_eq!(certificate["not_after"], loaded["tls.certificate.not_after"]);

    let (code, out, err) = gate.command(&["status", "--json"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["certificates"], report["certificates"]);
    let (code, out, _) = gate.command(&["status"]).await;
    assert_eq!(code, 0);
    for words in ["serving", "websockets   2", "127.0.0.1:1", "down  0", "localhost, 127.0.0.1"] {
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[tokio::test]
async fn only_an_operator_is_answered() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let port = gate.admin.as_ref().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let get = "GET /api/v1/status HTTP/1.1\nHost: ";
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(ask(&gate, &format!("{get}{host}:{port}")).await.0, 200, "{host}");
    }
    // What a page gets to send whose name was pointed at loopback.
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        let (status, answer) = ask(&gate, &format!("{get}{host}:{port}")).await;
        assert_eq!(status, 403, "{host}: {answer}");
        assert!(!answer.contains("backends"), "{answer}");
    }
    let absolute = "GET http://evil.example/api/v1/status HTTP/1.1\nHost: localhost";
    assert_eq!(ask(&gate, absolute).await.0, 403);
    for action in ["reload", "drain"] {
        let post = format!("POST /api/v1/{action} HTTP/1.1\nContent-Length: 0\nHost: localhost");
        assert_eq!(ask(&gate, &post).await.0, 403, "without the header");
        assert_eq!(ask(&gate, &format!("{post}\nX-Wsgate-Admin: 0")).await.0, 403);
        let foreign = format!("{}\nX-Wsgate-Admin: 1", post.replace("localhost", "evil.example"));
        assert_eq!(ask(&gate, &foreign).await.0, 403);
        let (status, answer) = ask(&gate, &format!("GET{}", &post[4..])).await;
        assert_eq!(status, 405, "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nallow: post\r\n"), "{answer}");
    }
    let post = "POST /api/v1/status HTTP/1.1\nHost: localhost\nX-Wsgate-Admin: 1";
    assert_eq!(ask(&gate, post).await.0, 405);
    assert_eq!(ask(&gate, "GET /ui HTTP/1.1\nHost: localhost").await.0, 404);
    let refused = |line: &Value, kind: &str| {
        line["error.type"] == kind && line["http.response.status_code"] == 403
    };
    for kind in ["host", "header"] {
        gate.event("admin.action", |line| line["action"] == "drain" && refused(line, kind)).await;
    }
    assert!(gate.events("drain.started").is_empty());
    gate.websocket("/ws").await;
}

#[tokio::test]
async fn off_loopback_a_token_is_asked_for() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let more = format!("admin: {{listen: \"0.0.0.0:0\", token_file: {}}}", file.display());
    let gate = Gate::with(&[Backend::echo().await.address], &more).await;
    let get = "GET /api/v1/status HTTP/1.1\nHost: localhost";
    let (status, answer) = ask(&gate, get).await;
    assert_eq!(status, 401, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nwww-authenticate: bearer"), "{answer}");
    for wrong in ["Bearer correct-horse-batterY", "Basic correct-horse-battery", "Bearer "] {
        assert_eq!(ask(&gate, &format!("{get}\nAuthorization: {wrong}")).await.0, 401, "{wrong}");
    }
    assert_eq!(ask(&gate, &format!("{get}\nAuthorization: bearer {TOKEN}")).await.0, 200);

    let (code, _, err) = gate.command(&["drain"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("401"), "{err}");
    let with_token = ["status", "--token-file", file.to_str().unwrap()];
    assert_eq!(gate.command(&with_token).await.0, 0);
    gate.event("admin.action", |line| line["error.type"] == "token").await;
    let log = serde_json::to_string(&gate.log()).unwrap();
    assert!(!log.to_ascii_lowercase().contains("horse"), "{log}");
}

#[tokio::test]
async fn reload_reads_the_certificates_again() {
    let more = "tls: {certificates: [{cert: CERT, key: KEY}], reload_interval: 1d}";
    let gate = Gate::with(&[Backend::echo().await.address], more).await;
    // Asked for, even files that have not changed are worth a line.
    let (code, out, err) = gate.command(&["reload"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    gate.event("admin.action", |line| {
        line["action"] == "reload" && line["network.peer.address"] == "127.0.0.1"
    })
    .await;
    gate.ca.write(gate.dir.path(), &["localhost", "renewed.example"]);
    assert_eq!(gate.command(&["reload"]).await.0, 0);
    gate.event("tls.cert.reloaded", |line| {
        line["tls.certificate.names"].as_str().unwrap().contains("renewed.example")
    })
    .await;
    let (_, out, _) = gate.command(&["status"]).await;
    assert!(out.contains("renewed.example"), "{out}");
}

#[tokio::test]
async fn drain_and_wait_ends_with_the_last_socket() {
    // Opening handshakes under way are what a drain leaves alone.
    let backend = Backend::start(|talk| async move {
        std::future::pending::<()>().await;
        drop(talk);
    })
    .await;
    let mut gate = Gate::with(&[backend.address], "drain: {delay: 0s, timeout: 60s}").await;
    let mut sockets = [gate.connect().await, gate.connect().await];
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.send(gate.handshake("/ws", "").as_bytes()).await;
        backend.head(n).await;
    }
    let (waited, polled, ()) = tokio::join!(
        gate.command(&["drain", "--wait"]),
        gate.status("/drained?timeout=60"),
        async {
            gate.event("drain.started", |line| line["signal"].is_null()).await;
            gate.event("drain.progress", |line| line["sockets"] == 2).await;
            assert_eq!(gate.status("/drained?timeout=0").await.0, 503);
            let (_, out, _) = gate.command(&["status"]).await;
            assert!(out.contains("draining: no newcomers"), "{out}");
            drop(sockets);
        }
    );
    let (code, _, err) = waited;
    assert_eq!(code, 0, "{err}");
    assert!(err.starts_with("draining: 2 connections left\n"), "{err}");
    assert!(err.ends_with("drained\n"), "{err}");
    assert_eq!(polled, (200, "drained\n".to_owned()));
    gate.event("admin.action", |line| line["action"] == "drain").await;
    assert_eq!(gate.exit_code().await, 0);
    gate.event("drain.finished", |line| line["sockets_cut"] == 0).await;
}

#[tokio::test]
async fn after_drain_the_first_signal_changes_nothing_and_the_second_ends_it() {
    let backend = Backend::echo().await;
    let delay = 10 * DEADLINE.as_secs();
    let more = format!("drain: {{delay: {delay}s, timeout: 60s}}");
    let mut gate = Gate::with(&[backend.address], &more).await;
    assert_eq!(gate.command(&["drain"]).await.0, 0);
    gate.event("drain.started", |_| true).await;
    assert_eq!(gate.status("/readyz").await.0, 503);
    gate.signal("TERM").await;
    // A socket that opens after it, and a second request to drain, say that it still serves.
    gate.websocket("/ws").await;
    assert_eq!(gate.command(&["drain"]).await.0, 0);
    gate.signal("TERM").await;
    assert_eq!(gate.exit_code().await, 0);
}

#[tokio::test]
async fn a_signal_lets_those_who_wait_know_before_it_ends() {
    let backend = Backend::echo().await;
    let mut gate = Gate::with(&[backend.address], "drain: {delay: 0s, timeout: 60s}").await;
    let socket = gate.websocket("/ws").await;
    let (polled, ()) = tokio::join!(gate.status("/drained"), async {
        gate.signal("TERM").await;
        gate.event("drain.started", |_| true).await;
        drop(socket);
    });
    assert_eq!(polled.0, 200);
    assert_eq!(gate.exit_code().await, 0);
}

#[tokio::test]
async fn a_unix_socket_is_the_owners_and_goes_with_the_gate() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("admin.sock");
    // Left behind by a gate that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let more = format!("admin: {{listen: \"unix:{}\"}}", path.display());
    let mut gate = Gate::with(&[Backend::echo().await.address], &more).await;
    assert_eq!(gate.admin.as_deref(), Some(&*format!("unix:{}", path.display())));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stream = UnixStream::connect(&path).await.unwrap();
    let get = "GET /api/v1/status HTTP/1.1\nHost: localhost";
    assert_eq!(ask_over(stream, get).await.0, 200);
    assert_eq!(gate.command(&["status"]).await.0, 0);

    // A second gate with the same socket does not start, and leaves it alone.
    let second = tokio::spawn(async move {
        Gate::with(&[Backend::echo().await.address], &more).await;
    });
    assert!(second.await.is_err());
    assert_eq!(gate.command(&["drain", "--wait"]).await.0, 0);
    assert_eq!(gate.exit_code().await, 0);
    assert!(!Path::new(&path).exists());
    let (code, _, err) = gate.command(&["status"]).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("error: cannot reach the gate at unix:/"), "{err}");
    assert_eq!(gate.command(&["drain", "--wait"]).await.0, 1);
}

#[tokio::test]
async fn an_address_that_was_not_spelled_out_is_not_insisted_on() {
    let backend = Backend::echo().await;
    let servers = [backend.address];
    let (gate, _held) = eventually("the default address to be taken", || async {
        // By this test, or by somebody else on this machine.
        let held = TcpListener::bind("127.0.0.1:9181").await.ok();
        let gate = Gate::with(&servers, "admin: {}").await;
        (held.is_some() || gate.admin.is_none()).then_some((gate, held))
    })
    .await;
    assert_eq!(gate.admin, None);
    let warnings = gate.events("gate.started")[0]["warnings"].as_str().unwrap().to_owned();
    assert!(warnings.contains("127.0.0.1:9181") && warnings.contains("admin.listen"), "{warnings}");
    gate.websocket("/ws").await;
    let none = Gate::with(&servers, "admin: {listen: null}").await;
    assert_eq!(none.admin, None);
    assert!(none.events("gate.started")[0]["warnings"].is_null());
    eventually("readiness", || async { (none.status("/readyz").await.0 == 200).then_some(()) })
        .await;
}
