//! The status listener over real sockets, in raw bytes.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::drained::WAITING_MAX;
use super::listener::{CONNECTIONS_MAX, HEAD_BYTES};
use super::*;
use crate::drain::{Drain, Phase};

/// A listener whose checks the test sets.
struct Running {
    addr: SocketAddr,
    metrics: Arc<Metrics>,
    checks: Arc<Mutex<Vec<Check>>>,
    drain: Arc<Drain>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn start() -> Running {
    start_on("127.0.0.1:0").await
}

async fn start_on(addr: &str) -> Running {
    let listener = TcpListener::bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new());
    let checks = Arc::new(Mutex::new(vec![
        Check { name: "listeners", failing: None },
        Check { name: "backend", failing: None },
    ]));
    let (shown, gauge) = (Arc::clone(&checks), metrics.connections_limit.clone());
    let drain = Drain::new();
    let status = Arc::new(Status {
        drained: Drained::new(Arc::clone(&drain)),
        metrics: Arc::clone(&metrics),
        ready: Box::new(move || shown.lock().unwrap().clone()),
        before_metrics: Box::new(move || gauge.set(4711)),
    });
    let (stop, stopped) = oneshot::channel();
    let cancel = async {
        let _ = stopped.await;
    };
    let served = tokio::spawn(serve(listener, status, cancel));
    Running { addr, metrics, checks, drain, stop, served }
}

impl Running {
    fn fail_backend(&self) {
        self.checks.lock().unwrap()[1].failing = Some("none of 3 is up".into());
    }

    /// What comes back for `request` until the connection closes.
    async fn raw(&self, request: &str) -> String {
        let mut tcp = TcpStream::connect(self.addr).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        rest(&mut tcp).await
    }

    async fn get(&self, target: &str) -> String {
        self.raw(&format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }
}

async fn rest(tcp: &mut TcpStream) -> String {
    let mut answer = String::new();
    timeout(DEADLINE, tcp.read_to_string(&mut answer)).await.expect("an end in time").unwrap();
    answer
}

/// One answer of a connection that stays open, up to and with its `ok`.
async fn answer_ok(tcp: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let read = timeout(DEADLINE, tcp.read_buf(&mut answer)).await.expect("an answer in time");
        assert!(read.unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn readiness_follows_its_checks_and_liveness_does_not() {
    let gate = start().await;
    for path in ["/livez", "/readyz", "/healthz", "/readyz?x=verbose"] {
        let answer = gate.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(body(&answer), "ok\n");
    }
    let verbose = gate.get("/readyz?verbose").await;
    assert_eq!(body(&verbose), "[+]listeners ok\n[+]backend ok\nreadyz check passed\n");

    gate.fail_backend();
    for target in ["/readyz", "/readyz?verbose=1"] {
        let answer = gate.get(target).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert_eq!(
            body(&answer),
            "[+]listeners ok\n[-]backend failed: none of 3 is up\nreadyz check failed\n"
        );
    }
    assert!(gate.get("/healthz").await.ends_with("healthz check failed\n"));
    assert!(gate.get("/livez").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn metrics_are_refreshed_and_rendered_as_prometheus_text() {
    let gate = start().await;
    gate.metrics.connections_accepted.inc_by(3);
    let answer = gate.get("/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let head = answer.to_lowercase();
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(body(&answer).contains("\nwsgate_connections_accepted_total 3\n"), "{answer}");
    assert!(body(&answer).contains("\nwsgate_connections_limit 4711\n"), "{answer}");
}

#[tokio::test]
async fn every_answer_forbids_caching_and_sniffing() {
    let gate = start().await;
    for target in ["/livez", "/readyz", "/metrics", "/nothing"] {
        let answer = gate.get(target).await.to_lowercase();
        for field in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert_eq!(answer.matches(&format!("\r\n{field}\r\n")).count(), 1, "{answer}");
        }
    }
}

#[tokio::test]
async fn drained_is_answered_when_nobody_is_left_and_nobody_can_come() {
    let gate = start().await;
    let last = gate.drain.enter();
    let answer = gate.get("/drained?timeout=0").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(&answer), "not draining: 1 connection left\n");
    gate.drain.advance(Phase::Announced);
    drop(last);
    let answer = gate.get("/drained?timeout=0").await;
    assert_eq!(body(&answer), "draining: 0 connections left\n", "the next one may still come");

    let (one, two) = (gate.drain.enter(), gate.drain.enter());
    let (answer, head) = tokio::join!(gate.get("/drained?timeout=3600"), async {
        let waiting = gate.raw("HEAD /drained HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (head, ()) = tokio::join!(waiting, async {
            gate.drain.advance(Phase::Draining);
            drop(one);
            let answer = gate.get("/drained?timeout=0").await;
            assert_eq!(body(&answer), "draining: 1 connection left\n");
            drop(two);
        });
        head
    });
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(body(&answer), "drained\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body(&head).is_empty(), "{head}");
    let answer = gate.get("/drained?timeout=3601").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn polls_that_wait_leave_room_for_probes() {
    let gate = start().await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING_MAX {
        let mut tcp = TcpStream::connect(gate.addr).await.unwrap();
        tcp.write_all(b"GET /drained HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        waiting.push(tcp);
    }
    // Who waits and who is one too many is decided as requests are read.
    let refused = timeout(DEADLINE, async {
        loop {
            let answer = gate.get("/drained?timeout=0").await;
            if body(&answer) == "too many wait already\n" {
                return answer;
            }
        }
    });
    let refused = refused.await.expect("a poll beyond the bound");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(gate.get("/livez").await.ends_with("ok\n"));

    // Who goes away gives its place back.
    drop(waiting.pop());
    let place = timeout(DEADLINE, async {
        while !body(&gate.get("/drained?timeout=0").await).starts_with("not draining") {}
    });
    place.await.expect("a place given back");
    gate.drain.advance(Phase::Draining);
    for mut tcp in waiting {
        assert!(rest(&mut tcp).await.ends_with("drained\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_outlives_what_is_usual_and_still_ends() {
    let gate = start().await;
    let _last = gate.drain.enter();
    let begun = tokio::time::Instant::now();
    let mut tcp = TcpStream::connect(gate.addr).await.unwrap();
    tcp.write_all(b"GET /drained?timeout=1800 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"left\n") {
        assert!(tcp.read_buf(&mut answer).await.unwrap() > 0, "closed before the answer");
    }
    assert!(begun.elapsed() >= Duration::from_secs(1800));
    assert_eq!(tcp.read_buf(&mut answer).await.unwrap(), 0);
}

#[tokio::test]
async fn an_unknown_path_lists_the_known_ones() {
    let gate = start().await;
    for target in ["/", "/livez/", "/readyz%3Fverbose", "/drained/", "/../metrics"] {
        let answer = gate.get(target).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        for path in ["/livez", "/readyz", "/healthz", "/drained", "/metrics"] {
            assert!(body(&answer).contains(path), "{answer}");
        }
    }
}

#[tokio::test]
async fn head_is_get_without_a_body_and_other_methods_are_refused() {
    let gate = start().await;
    let close = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let head = gate.raw(&format!("HEAD /livez {close}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\ncontent-length: 3\r\n"), "{head}");
    assert_eq!(body(&head), "");

    for request in [
        format!("POST /livez {close}Content-Length: 4\r\n\r\nbody"),
        format!("DELETE /metrics {close}\r\n"),
        format!("OPTIONS * {close}\r\n"),
    ] {
        let answer = gate.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nallow: get, head\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let gate = start().await;
    let mut tcp = TcpStream::connect(gate.addr).await.unwrap();
    for _ in 0..3 {
        tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        answer_ok(&mut tcp).await;
    }
}

#[tokio::test]
async fn garbage_closes_its_connection_and_the_listener_goes_on() {
    let gate = start().await;
    let answer = gate.raw("\x16\x03\x01\x02\x00\x01\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = gate.raw(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES))).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(gate.get("/livez").await.ends_with("ok\n"));
}

#[tokio::test]
async fn no_more_than_the_bound_are_served_at_once() {
    let gate = start().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut tcp = TcpStream::connect(gate.addr).await.unwrap();
        tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        answer_ok(&mut tcp).await;
        held.push(tcp);
    }
    let mut late = TcpStream::connect(gate.addr).await.unwrap();
    late.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answered = timeout(Duration::from_millis(200), late.read_u8()).await;
    assert!(answered.is_err(), "answered beyond the bound: {answered:?}");
    held.pop();
    answer_ok(&mut late).await;
}

#[tokio::test]
async fn cancelling_ends_idle_connections_and_the_listener() {
    let gate = start().await;
    let mut idle = TcpStream::connect(gate.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    answer_ok(&mut idle).await;
    gate.stop.send(()).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    timeout(DEADLINE, gate.served).await.expect("an end in time").unwrap();
    assert!(TcpStream::connect(gate.addr).await.is_err());
}

#[tokio::test]
async fn healthcheck_agrees_with_readyz() {
    let gate = start().await;
    assert_eq!(healthcheck(gate.addr, DEADLINE).await, Ok(()));
    gate.fail_backend();
    let why = healthcheck(gate.addr, DEADLINE).await.unwrap_err();
    assert!(why.contains("503") && why.contains("[-]backend failed: none of 3 is up"), "{why}");

    let anywhere = start_on("0.0.0.0:0").await;
    assert!(anywhere.addr.ip().is_unspecified());
    assert_eq!(healthcheck(anywhere.addr, DEADLINE).await, Ok(()));
}

#[tokio::test]
async fn healthcheck_fails_on_silence_garbage_and_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    let why = healthcheck(addr, Duration::from_millis(50)).await.unwrap_err();
    assert!(why.contains("no answer within 50ms"), "{why}");
    drop(silent);
    let why = healthcheck(addr, DEADLINE).await.unwrap_err();
    assert!(why.contains("cannot connect"), "{why}");

    let odd = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = odd.local_addr().unwrap();
    let (asked, ()) = tokio::join!(healthcheck(addr, DEADLINE), async {
        let (mut tcp, _) = odd.accept().await.unwrap();
        tcp.write_all(b"SSH-2.0-x\r\n\r\n 200").await.unwrap();
        // Read the request, so that closing does not reset what was written.
        let mut request = [0; 1024];
        assert!(tcp.read(&mut request).await.unwrap() > 0);
    });
    assert!(asked.unwrap_err().contains("not an HTTP answer"));
}
