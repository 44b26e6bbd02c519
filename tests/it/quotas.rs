//! How often, and how many at once: by client, and in all.

use crate::support::backend::Backend;
use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::gate::Gate;

const RATE: &str = "limits: {upgrades_per_client: {rate: 1/h, burst: 3}, \
                    connections_per_client: null, exempt: EXEMPT}\n";

fn rate(exempt: &str) -> String {
    RATE.replace("EXEMPT", exempt)
}

/// The answer to a handshake of its own connection, which is closed again.
async fn ask(gate: &Gate, more: &str) -> Answer {
    gate.connect().await.ask(&gate.handshake("/ws", more)).await
}

fn assert_limited(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    let seconds: u64 = answer.one("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_burst_passes_and_the_next_is_told_to_wait() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], &rate("[]")).await;
    for _ in 0..3 {
        assert_eq!(ask(&gate, "").await.status, 101);
    }
    for _ in 0..2 {
        assert_limited(&gate.refuses(gate.handshake("/ws", "")).await, 429);
    }
    assert_eq!(backend.connections(), 3);
    assert_eq!(gate.outcomes().await["rate_limited"], 2);
    gate.metric_becomes("wsgate_ratelimit_rejections_total{limit=\"upgrades\"}", 2.0).await;
    gate.metric_becomes("wsgate_ratelimit_tracked_clients", 1.0).await;
    gate.event("ws.rejected", |line| line["error.type"] == "rate_limited").await;
    // Pages are not charged.
    let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    assert_eq!(gate.connect().await.ask(&page).await.status, 200);
}

#[tokio::test]
async fn refused_handshakes_are_charged_as_well() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], &rate("[]")).await;
    let evil = gate.handshake("/ws", "").replace("Origin: https://", "Origin: https://evil.");
    assert_eq!(gate.refuses(&evil).await.status, 403);
    let keyless = gate.handshake("/ws", "").replace("Sec-WebSocket-Key", "X-Key");
    assert_eq!(gate.refuses(&keyless).await.status, 400);
    let unreadable = gate.handshake("/ws", "X : y\r\n");
    assert_eq!(gate.refuses(&unreadable).await.status, 400);
    for bytes in [gate.handshake("/ws", ""), evil, keyless, unreadable] {
        assert_limited(&gate.refuses(&bytes).await, 429);
    }
    assert_eq!(backend.connections(), 0);
    let outcomes = gate.outcomes().await;
    let expected = [("bad_request", 2), ("origin_denied", 1), ("rate_limited", 4)];
    assert_eq!(outcomes, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[tokio::test]
async fn exempt_networks_are_not_limited() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], &rate("[127.0.0.0/8]")).await;
    for _ in 0..10 {
        assert_eq!(ask(&gate, "").await.status, 101);
    }
    gate.metric_becomes("wsgate_ratelimit_tracked_clients", 0.0).await;
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_told_apart() {
    let backend = Backend::echo().await;
    let config = rate("[]") + "security: {trusted_proxies: [127.0.0.0/8]}\n";
    let gate = Gate::with(&[backend.address], &config).await;
    for client in ["203.0.113.1", "203.0.113.2"] {
        let more = format!("X-Forwarded-For: 203.0.113.9, {client}\r\n");
        for _ in 0..3 {
            assert_eq!(ask(&gate, &more).await.status, 101, "{client}");
        }
        assert_limited(&ask(&gate, &more).await, 429);
    }
    // IPv6 by its /64.
    for host in 1..=4 {
        let answer = ask(&gate, &format!("X-Forwarded-For: 2001:db8::{host}\r\n")).await;
        assert_eq!(answer.status, if host < 4 { 101 } else { 429 }, "{host}");
    }
    assert_eq!(ask(&gate, "X-Forwarded-For: 2001:db8:0:1::1\r\n").await.status, 101);
}

#[tokio::test]
async fn an_untrusted_client_cannot_name_another_address() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], &rate("[203.0.113.0/24]")).await;
    for n in 0..5 {
        let answer = ask(&gate, &format!("X-Forwarded-For: 203.0.113.{n}\r\n")).await;
        assert_eq!(answer.status, if n < 3 { 101 } else { 429 });
    }
}

#[tokio::test]
async fn a_client_holds_so_many_sockets_and_one_that_closes_makes_room() {
    let backend = Backend::echo().await;
    let limits = "limits: {upgrades_per_client: null, connections_per_client: 2}\n";
    let gate = Gate::with(&[backend.address], limits).await;
    let first = gate.websocket("/ws").await;
    let mut second = gate.websocket("/ws").await;
    assert_limited(&gate.refuses(gate.handshake("/ws", "")).await, 429);
    gate.outcome_becomes("too_many_connections", 1.0).await;
    gate.metric_becomes("wsgate_ratelimit_rejections_total{limit=\"connections\"}", 1.0).await;
    assert_eq!(backend.connections(), 2);
    drop(first);
    gate.metric_becomes("wsgate_connections_active", 1.0).await;
    gate.still_serves().await;
    second.send(b"untouched").await;
    assert_eq!(second.read(9).await, b"untouched");
    // One that was refused by the backend gives its slot back too.
    drop(second);
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
    for _ in 0..5 {
        let evil = gate.handshake("/ws", "").replace("Origin: https://", "Origin: https://evil.");
        assert_eq!(gate.refuses(&evil).await.status, 403);
    }
    let _pair = (gate.websocket("/ws").await, gate.websocket("/ws").await);
}

#[tokio::test]
async fn a_full_gate_says_so_and_takes_the_next_when_one_leaves() {
    let backend = Backend::echo().await;
    let listen = "listen: {https: \"127.0.0.1:0\", max_connections: 2}\n";
    let gate = Gate::with(&[backend.address], listen).await;
    let first = gate.websocket("/ws").await;
    let mut second = gate.websocket("/ws").await;
    assert_limited(&gate.refuses(gate.handshake("/ws", "")).await, 503);
    let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    assert_limited(&gate.refuses(&page).await, 503);
    assert_eq!(backend.connections(), 2);
    gate.outcome_becomes("too_many_connections", 1.0).await;
    gate.metric_becomes("wsgate_connections_rejected_total{reason=\"max_connections\"}", 2.0).await;
    let (status, _) = gate.status("/readyz").await;
    assert_eq!(status, 503, "a full gate is not ready");
    drop(first);
    eventually("room for another", || async {
        let answer = ask(&gate, "").await;
        (answer.status == 101).then_some(())
    })
    .await;
    second.send(b"untouched").await;
    assert_eq!(second.read(9).await, b"untouched");
}

#[tokio::test]
async fn beyond_what_is_answered_connections_are_closed() {
    let backend = Backend::echo().await;
    let listen = "listen: {https: \"127.0.0.1:0\", max_connections: 1}\n";
    let gate = Gate::with(&[backend.address], listen).await;
    let _held = gate.websocket("/ws").await;
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(gate.connect().await);
    }
    let closed = crate::support::client::Client::connect(gate.https, gate.ca.client()).await;
    assert!(closed.is_err());
    assert_limited(&idle[0].ask(&gate.handshake("/ws", "")).await, 503);
    drop(idle);
    eventually("room for another answer", || async {
        let client = crate::support::client::Client::connect(gate.https, gate.ca.client()).await;
        client.ok()
    })
    .await;
}
