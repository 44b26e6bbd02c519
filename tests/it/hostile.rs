//! Clients that are slow, too large, or that end in the middle of TLS or a head.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::raw::client_hello;
use crate::support::soon;

/// A short time for TLS, and as long again for a head.
const HASTY: &str = "listen: {https: \"127.0.0.1:0\", handshake_timeout: 1s}\n";

/// The pace of a slow attacker: faster than any timeout of a single read, slower than the budget.
const PACE: Duration = Duration::from_millis(100);

const FAILURES: &str = "wsgate_tls_handshake_failures_total";

async fn failures_become(gate: &Gate, reason: &str, count: f64) {
    gate.metric_becomes(&format!("{FAILURES}{{reason=\"{reason}\"}}"), count).await;
}

/// The good handshake, made `length` bytes long by a field of padding.
fn of_length(gate: &Gate, length: usize) -> String {
    let bare = gate.handshake("/ws", "X-Pad: \r\n").len();
    let text = gate.handshake("/ws", &format!("X-Pad: {}\r\n", "p".repeat(length - bare)));
    assert_eq!(text.len(), length);
    text
}

#[tokio::test]
async fn a_head_may_be_as_long_as_the_limit_and_not_a_byte_longer() {
    let backend = Backend::echo().await;
    let limits = "limits: {header_size: 4KiB, upgrades_per_client: null, \
                  connections_per_client: null}\n";
    let large = limits.replace("4KiB", "1MiB");
    for (gate, limit) in [
        (Gate::with(&[backend.address], limits).await, 4096),
        (Gate::with(&[backend.address], &large).await, 1024 * 1024),
        (Gate::start(&[backend.address]).await, 16 * 1024),
    ] {
        let before = backend.connections();
        let at_limit = gate.connect().await.ask(&of_length(&gate, limit)).await;
        assert_eq!(at_limit.status, 101);
        for beyond in [1, 1024, 48 * 1024] {
            let answer = gate.refuses(of_length(&gate, limit + beyond)).await;
            assert_eq!(answer.status, 431, "{beyond} bytes beyond");
        }
        // A line that never ends is not waited for.
        let endless = format!("GET /{}", "x".repeat(limit));
        assert_eq!(gate.refuses(endless).await.status, 431);
        let page = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(limit), gate.host());
        assert_eq!(gate.refuses(page).await.status, 431);
        assert_eq!(gate.outcomes().await["bad_request"], 5);
        assert_eq!(backend.connections(), before + 1);
        gate.still_serves().await;
    }
}

#[tokio::test]
async fn a_head_has_a_hundred_fields_at_most() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let fields = |count: usize| {
        let own = gate.handshake("/ws", "").matches(": ").count();
        gate.handshake("/ws", &"X: y\r\n".repeat(count - own))
    };
    assert_eq!(gate.connect().await.ask(&fields(100)).await.status, 101);
    for count in [101, 1000] {
        assert_eq!(gate.refuses(fields(count)).await.status, 431, "{count} fields");
    }
    let page = |count: usize| {
        let more = "X: y\r\n".repeat(count - 2);
        format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}\r\n", gate.host())
    };
    assert_eq!(gate.connect().await.ask(&page(100)).await.status, 200);
    assert_eq!(gate.refuses(page(101)).await.status, 431);
    assert_eq!(backend.connections(), 2);
    gate.still_serves().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_whole_all_the_same() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    for byte in format!("\r\n{}", gate.handshake("/ws", "")).as_bytes() {
        client.send(&[*byte]).await;
    }
    assert_eq!(client.answer().await.status, 101);
    client.send(b"ping").await;
    assert_eq!(client.read(4).await, b"ping");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], HASTY).await;
    let client = gate.connect().await;
    let (mut read, mut write) = tokio::io::split(client.stream);
    let head = gate.handshake("/ws", "");
    let trickle = async {
        for byte in head.as_bytes() {
            if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
            // The attack itself: allow-sleep
            tokio::time::sleep(PACE).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = trickle => {}
        read = soon("a refusal", read.read_to_end(&mut answer)) => drop(read.unwrap()),
    }
    let answer = crate::support::raw::whole_answer(&answer);
    assert_eq!(answer.status, 408);
    crate::support::raw::assert_own_fields(&answer);
    assert_eq!(gate.outcomes().await["bad_request"], 1);

    // Half a head, then nothing.
    assert_eq!(gate.refuses("GET /ws HTTP/1.1\r\nHo").await.status, 408);
    // Nothing at all is not worth an answer.
    let (nothing, _) = gate.connect().await.until_the_end().await;
    assert!(nothing.is_empty(), "{nothing:?}");
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
}

#[tokio::test]
async fn a_tls_handshake_that_stalls_or_trickles_is_cut_off() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], HASTY).await;
    let hello = client_hello(&gate);
    let mut silent = TcpStream::connect(gate.https).await.unwrap();
    let mut halfway = TcpStream::connect(gate.https).await.unwrap();
    halfway.write_all(&hello[..hello.len() / 2]).await.unwrap();
    let mut unfinished = TcpStream::connect(gate.https).await.unwrap();
    unfinished.write_all(&hello).await.unwrap();
    let (mut slow, mut slow_write) = TcpStream::connect(gate.https).await.unwrap().into_split();
    let trickle = async {
        for byte in &hello {
            if slow_write.write_all(&[*byte]).await.is_err() {
                break;
            }
            // The attack itself: allow-sleep
            tokio::time::sleep(PACE).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = trickle => {}
        () = ends(&mut slow) => {}
    }
    ends(&mut silent).await;
    ends(&mut halfway).await;
    ends(&mut unfinished).await;
    failures_become(&gate, "timeout", 4.0).await;
    let line = gate.event("tls.client_error", |line| line["error.type"] == "timeout").await;
    assert_eq!(line["network.peer.address"], "127.0.0.1");
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
}

/// Reads until the gate has ended the connection, one way or the other.
async fn ends(stream: &mut (impl AsyncRead + Unpin)) {
    let mut sink = [0; 4096];
    soon("the end", async { while let Ok(1..) = stream.read(&mut sink).await {} }).await;
}

#[tokio::test]
async fn an_end_in_the_middle_of_the_tls_handshake_is_counted() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let hello = client_hello(&gate);
    for (count, length) in [(1.0, 0), (2.0, hello.len() / 2), (3.0, hello.len())] {
        let mut stream = TcpStream::connect(gate.https).await.unwrap();
        stream.write_all(&hello[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        ends(&mut stream).await;
        failures_become(&gate, "eof", count).await;
    }
    let mut reset = TcpStream::connect(gate.https).await.unwrap();
    reset.write_all(&hello[..40]).await.unwrap();
    SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
    drop(reset);
    failures_become(&gate, "eof", 4.0).await;
    gate.event("tls.client_error", |line| line["error.type"] == "eof").await;
    gate.still_serves().await;
}

#[tokio::test]
async fn tls_that_comes_byte_by_byte_is_tls_all_the_same() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    // A pipe of one byte between the client and its socket.
    let (near, mut far) = tokio::io::duplex(1);
    let mut tcp = TcpStream::connect(gate.https).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let carrying = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut far, &mut tcp, 1, 1).await;
    });
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(gate.ca.client()).connect(name, near);
    let mut stream = soon("a TLS handshake", connecting).await.unwrap();
    stream.write_all(gate.handshake("/ws", "").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 12];
    soon("a 101", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    carrying.abort();
}

#[tokio::test]
async fn what_is_not_tls_is_refused_and_counted() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let cases: [&[u8]; 3] =
        [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n", &[0xff; 64]];
    for (count, bytes) in (1u8..).zip(cases) {
        let mut stream = TcpStream::connect(gate.https).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        ends(&mut stream).await;
        failures_become(&gate, "other", f64::from(count)).await;
    }
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
}

#[tokio::test]
async fn an_old_protocol_or_a_foreign_suite_is_refused_by_name() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let old = client_config(&gate, &[&rustls::version::TLS12], |_| true);
    assert!(Client::connect(gate.https, old).await.is_err());
    failures_become(&gate, "protocol_version", 1.0).await;
    // Not one of the two that are offered by default.
    let foreign = client_config(&gate, &[&rustls::version::TLS13], |suite| {
        suite == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    });
    assert!(Client::connect(gate.https, foreign).await.is_err());
    failures_become(&gate, "cipher", 1.0).await;
    gate.still_serves().await;
}

fn client_config(
    gate: &Gate,
    versions: &[&'static rustls::SupportedProtocolVersion],
    suites: impl Fn(rustls::CipherSuite) -> bool,
) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suites(suite.suite()));
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(gate.ca.roots())
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn a_gate_without_files_says_so_now_and_then_and_recovers_once_some_are_closed() {
    let backend = Backend::echo().await;
    let more = "listen: {https: \"127.0.0.1:0\", max_connections: 500}\n";
    let gate = Gate::with_files(&[backend.address], more, Some(96)).await;
    let mut before = gate.websocket("/ws").await;
    let mut crowd = Vec::new();
    for _ in 0..120 {
        crowd.push(TcpStream::connect(gate.https).await.unwrap());
    }
    // An attempt every 50 ms, of which most are only counted.
    let failed = |line: &serde_json::Value| {
        let message = line["error.message"].as_str().unwrap_or_default();
        message.contains("os error 24") && line["msg"] == "accept failed, trying again"
    };
    gate.event("log", |line| failed(line) && line["suppressed"] == 0).await;
    gate.event("log", |line| failed(line) && line["suppressed"].as_u64() > Some(1)).await;
    before.send(b"still here").await;
    assert_eq!(before.read(10).await, b"still here");
    drop(crowd);
    gate.metric_becomes("wsgate_connections_accepted_total", 121.0).await;
    gate.metric_becomes("wsgate_connections_active", 1.0).await;
    gate.still_serves().await;
}
