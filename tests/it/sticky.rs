//! A key means a backend: for every gate that has the same list, after every restart, and for
//! everybody else while a backend is away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::gate::Gate;

#[tokio::test]
async fn the_same_key_means_the_same_backend_for_every_gate_and_after_a_restart() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let addresses = backends.each_ref().map(|backend| backend.address);
    let mut turned = addresses;
    turned.rotate_left(1);
    for hash in ["client_ip", "cookie:sid", "header:X-Room", "query:room", "path"] {
        let settings = format!(
            "upstreams: {{servers: [SERVERS], health: null, hash: \"{hash}\"}}\n\
             security: {{trusted_proxies: [127.0.0.0/8]}}"
        );
        let first = Gate::with(&addresses, &settings).await;
        let chosen = choices(&first, hash).await;
        let second = Gate::with(&turned, &settings).await;
        assert_eq!(chosen, choices(&second, hash).await, "{hash}: two gates, one list");
        drop(first);
        let restarted = Gate::with(&addresses, &settings).await;
        assert_eq!(chosen, choices(&restarted, hash).await, "{hash}: after a restart");
        let used: BTreeSet<&String> = chosen.values().collect();
        assert!(used.len() > 1, "{hash}: {KEYS} keys on one backend");
    }
}

#[tokio::test]
async fn ordinary_requests_go_where_the_websocket_goes() {
    let backends =
        [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await];
    let gate = Gate::with(
        &backends.each_ref().map(|backend| backend.address),
        "upstreams: {servers: [SERVERS], health: null, hash: \"cookie:sid\"}",
    )
    .await;
    for (key, backend) in choices(&gate, "cookie:sid").await {
        let mut client = gate.connect().await;
        let host = gate.host();
        let page = format!("GET /page HTTP/1.1\r\nHost: {host}\r\nCookie: a=b; sid={key}\r\n\r\n");
        assert_eq!(client.ask(&page).await.one("x-backend"), Some(backend.as_str()), "{key}");
    }
}

#[tokio::test]
async fn the_clients_of_a_dead_backend_move_to_their_next_and_nobody_else_moves() {
    let (a, b, c) =
        (Backend::named("a").await, Backend::named("b").await, Backend::named("c").await);
    let settings = "upstreams: {servers: [SERVERS], health: null, hash: path}";
    let gate = Gate::with(&[a.address, b.address, c.address], settings).await;
    let before = choices(&gate, "path").await;
    // Each key's next is what it would mean if the list had never held the dead one.
    let without = Gate::with(&[a.address, c.address], settings).await;
    let next = choices(&without, "path").await;
    let dead = b.address;
    drop(b);
    refuses(dead).await;
    let after = choices(&gate, "path").await;
    for (key, backend) in &before {
        let expected = if backend == "b" { &next[key] } else { backend };
        assert_eq!(&after[key], expected, "{key}");
    }
    assert!(before.values().any(|backend| backend == "b"), "no key was on the dead one");
    let failures = "wsgate_backend_connect_failures_total";
    let refused =
        gate.metric(&format!("{failures}{{backend=\"{dead}\",reason=\"refused\"}}")).await;
    assert!(refused >= 1.0);
    assert_eq!(gate.sum(failures).await, refused, "one reason, one backend");
}

#[tokio::test]
async fn a_backend_that_is_down_gets_no_sockets_until_it_is_back() {
    let (a, b) = (Backend::named("a").await, Backend::named("b").await);
    let gate = Gate::with(
        &[a.address, b.address],
        "upstreams: {servers: [SERVERS], hash: path, health: {interval: 50ms, timeout: 5s, rise: 2, fall: 2}}",
    )
    .await;
    let before = choices(&gate, "path").await;
    let address = b.address;
    let is = |up: bool| {
        let gate = &gate;
        async move {
            let [up, state] = if up { [1.0, 0.0] } else { [0.0, 1.0] };
            gate.metric_becomes(&format!("wsgate_backend_up{{backend=\"{address}\"}}"), up).await;
            gate.metric_becomes("wsgate_backends{state=\"down\"}", state).await;
        }
    };
    let named = |line: &serde_json::Value| line["backend"] == address.to_string().as_str();
    is(true).await;
    drop(b);
    gate.event("backend.down", named).await;
    is(false).await;
    assert_eq!(gate.status("/readyz").await.0, 200, "one of two is enough");
    let attempts = || async {
        gate.sum(&format!("wsgate_backend_connect_failures_total{{backend=\"{address}\"")).await
    };
    let before_down = attempts().await;
    assert!(choices(&gate, "path").await.values().all(|backend| backend == "a"));
    assert_eq!(attempts().await, before_down, "a down backend was dialled");

    let b = Backend::named_at(address, "b").await;
    gate.event("backend.up", named).await;
    is(true).await;
    assert_eq!(choices(&gate, "path").await, before, "everybody is back home");
    drop((a, b));
    gate.metric_becomes("wsgate_backends{state=\"up\"}", 0.0).await;
    let (code, text) = gate.status("/readyz?verbose").await;
    assert_eq!(code, 503);
    assert!(text.contains("[-]backend failed: none of 2 is up"), "{text}");
}

#[tokio::test]
async fn a_name_is_a_backend_too() {
    let backend = Backend::named("a").await;
    let port = backend.address.port();
    let upstreams = format!("upstreams: {{servers: [\"localhost:{port}\"], health: null}}");
    let gate = Gate::with(&[], &upstreams).await;
    let mut socket = gate.websocket("/ws").await;
    socket.send(b"hello").await;
    assert_eq!(socket.read(5).await, b"hello");
    let opened = gate.event("ws.opened", |_| true).await;
    assert_eq!(opened["backend"], format!("localhost:{port}"));
}

/// Which backend each of some keys means to a gate.
async fn choices(gate: &Gate, hash: &str) -> BTreeMap<String, String> {
    let mut chosen = BTreeMap::new();
    for number in 1..=KEYS {
        let key = match hash {
            "client_ip" => format!("203.0.113.{number}"),
            _ => format!("key-{number}"),
        };
        let (path, field) = match hash {
            "client_ip" => ("/ws".to_owned(), format!("X-Forwarded-For: {key}\r\n")),
            "cookie:sid" => ("/ws".to_owned(), format!("Cookie: other=1; sid={key}\r\n")),
            "header:X-Room" => ("/ws".to_owned(), format!("X-Room: {key}\r\n")),
            "query:room" => (format!("/ws?a=b&room={key}"), String::new()),
            _ => (format!("/{key}"), String::new()),
        };
        let mut client = gate.connect().await;
        let answer = client.ask(&gate.handshake(&path, &field)).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        chosen.insert(key, answer.one("x-backend").unwrap().to_owned());
    }
    chosen
}

async fn refuses(address: SocketAddr) {
    eventually("the backend to be gone", || async {
        tokio::net::TcpStream::connect(address).await.err()
    })
    .await;
}

const KEYS: usize = 16;
