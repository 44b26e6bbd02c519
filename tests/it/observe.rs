//! What the gate says of itself: enough to follow every socket, nothing that a client would mind.

use std::collections::{BTreeMap, BTreeSet};

use tokio::io::AsyncWriteExt as _;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::gate::Gate;

#[tokio::test]
async fn the_start_is_one_event_with_what_is_in_force() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let started = gate.event("gate.started", |_| true).await;
    for field in [
        "ts",
        "version",
        "config",
        "config.hash",
        "listen.https",
        "listen.status",
        "tls.certificate.name",
        "tls.certificate.sha256",
        "tls.certificate.not_after",
        "tls.versions",
        "backends",
        "hash",
        "origins",
        "limits",
        "msg",
    ] {
        assert!(started[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {started}");
    }
    assert_eq!(started["level"], "info");
    assert_eq!(started["backends"], backend.address.to_string());
    assert!(started["max_connections"].as_u64().unwrap() > 0);
    assert!(started["file_limit"].as_u64().unwrap() > 0);
    assert_eq!(gate.events("gate.started").len(), 1);
    gate.event("gate.ready", |_| true).await;
}

#[tokio::test]
async fn the_lines_of_the_documentation_are_those_of_the_program() {
    let docs = include_str!("../../docs/observability.md");
    let samples: Vec<serde_json::Value> = docs
        .lines()
        .filter(|line| line.starts_with("{\"ts\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (alive, gone) = (Backend::echo().await, Backend::echo().await);
    let servers = [alive.address, gone.address];
    drop(gone);
    let more = "upstreams: {servers: [SERVERS], health: {interval: 100ms}}\n";
    let mut gate = Gate::with(&servers, more).await;
    gate.event("backend.down", |_| true).await;
    gate.event("gate.ready", |_| true).await;
    let mut socket = gate.websocket("/ws").await;
    let page = format!("GET /page HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    assert_eq!(gate.connect().await.ask(&page).await.status, 200);
    let foreign = gate.handshake("/ws", "").replace(&gate.origin(), "https://evil.test");
    assert_eq!(gate.connect().await.ask(&foreign).await.status, 403);
    let mut no_tls = tokio::net::TcpStream::connect(gate.https).await.unwrap();
    no_tls.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    gate.event("tls.client_error", |_| true).await;
    socket.stream.shutdown().await.unwrap();
    gate.event("ws.closed", |_| true).await;
    gate.signal("TERM").await;
    assert_eq!(gate.exit_code().await, 0);
    gate.event("gate.stopped", |_| true).await;

    let mut compared = BTreeSet::new();
    for line in gate.log() {
        let sample = samples.iter().find(|sample| {
            ["event", "level", "msg"].iter().all(|field| sample[field] == line[field])
        });
        let sample = sample.unwrap_or_else(|| panic!("no line of the documentation is as {line}"));
        // What has no value is absent; the rest is there, and in this order.
        let mut fields = sample.as_object().unwrap().keys();
        for field in line.as_object().unwrap().keys() {
            assert!(fields.any(|other| other == field), "`{field}` of {line} in {sample}");
            let kind = |value: &serde_json::Value| std::mem::discriminant(value);
            assert_eq!(kind(&sample[field]), kind(&line[field]), "`{field}` of {line}");
        }
        compared.insert(line["event"].as_str().unwrap().to_owned());
    }
    for event in ["gate.started", "http.request", "ws.opened", "ws.closed", "ws.rejected"] {
        assert!(compared.contains(event), "{event}: {compared:?}");
    }
}

#[tokio::test]
async fn every_socket_has_one_line_at_each_end_joined_by_an_id() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    for _ in 0..10 {
        let mut socket = gate.websocket("/room/7").await;
        socket.send(b"hello").await;
        socket.read(5).await;
        socket.stream.shutdown().await.unwrap();
        socket.rest().await;
    }
    eventually("ten ends", || {
        std::future::ready((gate.events("ws.closed").len() == 10).then_some(()))
    })
    .await;
    let by_id = |name| -> BTreeMap<String, serde_json::Value> {
        let lines = gate.events(name).into_iter();
        lines.map(|line| (line["conn_id"].as_str().unwrap().to_owned(), line)).collect()
    };
    let (opened, closed) = (by_id("ws.opened"), by_id("ws.closed"));
    assert_eq!(opened.len(), 10, "ids repeat");
    assert!(opened.keys().eq(closed.keys()));
    for (id, line) in &opened {
        assert_eq!(line["tls.protocol.version"], "1.3", "{id}");
        assert_eq!(line["tls.cipher"], "TLS_AES_256_GCM_SHA384", "{id}");
        assert_eq!(line["server.address"], "localhost", "{id}");
        assert_eq!(line["client.address"], "127.0.0.1", "{id}");
        assert_eq!(line["network.peer.address"], "127.0.0.1", "{id}");
        assert_eq!(line["origin"], gate.origin().as_str(), "{id}");
        assert_eq!(line["url.path"], "/room/7", "{id}");
        assert_eq!(line["backend"], backend.address.to_string(), "{id}");
    }
    for (id, line) in &closed {
        assert_eq!(line["close.initiator"], "client", "{id}");
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&5.into(), &5.into()), "{id}");
        assert!(line["duration_s"].as_f64().is_some(), "{id}");
        assert_eq!(line["backend"], backend.address.to_string(), "{id}");
    }
}

#[tokio::test]
async fn no_secret_of_a_client_is_ever_said() {
    let backend = Backend::start(|mut talk| async move {
        match &talk.head {
            head if head.contains(" /refused") => {
                talk.send(
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nSet-Cookie: s=SECRET-a\r\n\r\n",
                )
                .await;
            }
            head if head.contains(" /broken") => talk.send("SECRET-b not HTTP\r\n\r\n").await,
            _ => {
                let answer = talk.switching("X-Token: SECRET-c\r\n");
                talk.send(answer).await;
                talk.echo().await;
            }
        }
    })
    .await;
    let settings = "log: {format: json, level: trace, query_allow: [room]}";
    let gate = Gate::with(&[backend.address], settings).await;
    let fields = "Cookie: sid=SECRET-d\r\nAuthorization: Bearer SECRET-e\r\n\
                  Sec-WebSocket-Protocol: chat, bearer.eyJSECRET-f.x.y\r\nX-Api-Key: SECRET-g\r\n\
                  Referer: https://x/?t=SECRET-h\r\n";
    let target =
        |path: &str| format!("{path};jsessionid=SECRET-i?token=SECRET-j&room=7&x=SECRET-k");
    let with_key = |head: String| head.replace("dGhlIHNhbXBsZSBub25jZQ==", KEY);

    let mut socket = gate.connect().await;
    let answer = socket.ask(&with_key(gate.handshake(&target("/ws"), fields))).await;
    assert_eq!(answer.status, 101);
    // A text message, then a Close frame with a reason, both masked with zeroes.
    socket.send(b"\x81\x88\0\0\0\0SECRET-l\x88\x8a\0\0\0\0\x03\xe8SECRET-m").await;
    socket.read(30).await;
    drop(socket);

    let evil = |head: String| head.replace("Origin: https://", "Origin: https://u:SECRET-n@evil.");
    let bad_version = |head: String| head.replace("Version: 13", "Version: 8");
    let bad_head = |head: String| head.replace("Cookie:", "Cookie :");
    let asked = [
        (evil(gate.handshake(&target("/ws"), fields)), 403),
        (bad_version(gate.handshake(&target("/ws"), fields)), 426),
        (bad_head(gate.handshake(&target("/ws"), fields)), 400),
        (gate.handshake(&target("/refused"), fields), 404),
        (gate.handshake(&target("/broken"), fields), 502),
        (format!("GET {} HTTP/1.1\r\nHost: h\r\n{fields}\r\n", target("/refused")), 404),
        (format!("SECRET-o {} HTTP/1.1\r\nHost: h\r\n\r\n", target("/refused")), 404),
        (format!("GET {} HTTP/1.1\r\nHost: h\r\nSECRET-p\r\n\r\n", target("/x")), 400),
    ];
    for (head, status) in asked {
        let answer = gate.connect().await.ask(&with_key(head.clone())).await;
        assert_eq!(answer.status, status, "{head}");
        let body = String::from_utf8_lossy(&answer.body);
        assert!(!body.contains("SECRET"), "{head}: {body}");
    }
    gate.event("ws.closed", |_| true).await;
    gate.event("ws.rejected", |line| line["http.response.status_code"] == 502).await;
    let opened = gate.event("ws.opened", |_| true).await;
    assert_eq!(opened["url.path"], "/ws?room=7", "what is allowed is said");
    assert_eq!(opened["subprotocol"], "chat, bearer.[redacted]");

    let mut said: String = gate.log().iter().map(|line| format!("{line}\n")).collect();
    for path in ["/metrics", "/readyz?verbose", "/healthz?verbose", "/livez"] {
        said += &gate.status(path).await.1;
    }
    for secret in ["SECRET", KEY, "jsessionid", "eyJ", "token="] {
        let line = said.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is said");
    }
}

#[tokio::test]
async fn the_counters_add_up_after_a_mix_of_outcomes() {
    let backend = Backend::start(|mut talk| async move {
        let path = talk.head.split(' ').nth(1).unwrap_or_default().to_owned();
        let good = talk.switching("");
        match path.as_str() {
            "/404" => talk.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await,
            "/wrong" => talk.send(good.replace("Accept: ", "Accept: x")).await,
            "/hangs" => drop(tokio::io::AsyncReadExt::read(&mut talk.stream, &mut [0]).await),
            _ => {
                talk.send(good).await;
                talk.echo().await;
            }
        }
    })
    .await;
    let settings = "limits: {upgrades_per_client: null, connections_per_client: 3}\n\
                    upstreams: {servers: [SERVERS], health: null, response_timeout: 1s}";
    let gate = Gate::with(&[backend.address], settings).await;
    let mut live = Vec::new();
    for _ in 0..3 {
        live.push(gate.websocket("/marker-path").await);
    }
    let mut gone = gate.connect().await;
    // Three are open: the fourth is one too many, until one of them has gone.
    let answer = gone.ask(&gate.handshake("/ws", "")).await;
    assert_eq!(answer.status, 429);
    live.pop();
    gate.metric_becomes("wsgate_connections_active", 2.0).await;
    let change = |from: &'static str, to: &'static str| gate.handshake("/ws", "").replace(from, to);
    let asked = [
        (change("Origin: https://", "Origin: https://marker-origin."), 403),
        (change("Origin:", "X-Marker-Field:"), 403),
        (change("Version: 13", "Version: 7"), 426),
        (change("dGhl", "marker"), 400),
        (gate.handshake("/404", "User-Agent: marker-agent\r\n"), 404),
        (gate.handshake("/wrong", ""), 502),
        (gate.handshake("/hangs", ""), 504),
    ];
    let handshakes = 3 + 1 + asked.len() + 1;
    for (head, status) in asked {
        assert_eq!(gate.connect().await.ask(&head).await.status, status, "{head}");
    }
    let before = backend.connections();
    let mut impatient = gate.connect().await;
    impatient.send(gate.handshake("/hangs", "").as_bytes()).await;
    eventually("the backend to have it", || {
        std::future::ready((backend.connections() > before).then_some(()))
    })
    .await;
    drop(impatient);

    let outcomes = [
        ("accepted", 3.0),
        ("too_many_connections", 1.0),
        ("origin_denied", 1.0),
        ("origin_missing", 1.0),
        ("bad_request", 2.0),
        ("backend_refused", 1.0),
        ("backend_error", 1.0),
        ("backend_timeout", 1.0),
        ("client_gone", 1.0),
    ];
    for (outcome, count) in outcomes {
        gate.metric_becomes(&format!("wsgate_upgrades_total{{outcome=\"{outcome}\"}}"), count)
            .await;
    }
    assert_eq!(gate.sum("wsgate_upgrades_total").await, handshakes as f64);
    gate.metric_becomes("wsgate_connections_active", 2.0).await;
    let accepted = gate.metric("wsgate_connections_accepted_total").await;
    assert_eq!(accepted, handshakes as f64, "one connection each");
    assert_eq!(gate.sum("wsgate_tls_handshakes_total").await, accepted);
    assert_eq!(gate.sum("wsgate_websockets_active").await, 2.0);
    assert_eq!(gate.metric("wsgate_websocket_duration_seconds_count").await, 1.0);
    assert_eq!(gate.metric("wsgate_upgrade_duration_seconds_count").await, 3.0);

    drop(live);
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
    assert_eq!(gate.metric("wsgate_websocket_duration_seconds_count").await, 3.0);
    let (_, metrics) = gate.status("/metrics").await;
    let marked = metrics.lines().find(|line| {
        let line = line.to_ascii_lowercase();
        line.contains("marker") || line.contains("/ws") || line.contains("localhost:")
    });
    assert_eq!(marked, None, "a label holds what a client sent");
}

/// Sixteen bytes in Base64, as RFC 6455 §4.1 wants them, and a secret to search for.
const KEY: &str = "U0VDUkVULWtleS0wMTIzNA==";

#[tokio::test]
async fn a_head_that_cannot_be_read_is_charged_and_counted_as_what_it_is_answered() {
    let backend = Backend::echo().await;
    let limits = "limits: {upgrades_per_client: {rate: 1/h, burst: 1}}";
    let gate = Gate::with(&[backend.address], limits).await;
    for (status, outcome) in [(400, "bad_request"), (429, "rate_limited")] {
        let answer = gate.connect().await.ask("GET / HTTP/1.1\r\nHost : h\r\n\r\n").await;
        assert_eq!(answer.status, status);
        gate.metric_becomes(&format!("wsgate_upgrades_total{{outcome=\"{outcome}\"}}"), 1.0).await;
    }
    assert_eq!(gate.sum("wsgate_upgrades_total").await, 2.0);
    assert_eq!(gate.metric("wsgate_ratelimit_rejections_total{limit=\"upgrades\"}").await, 1.0);
    assert_eq!(backend.connections(), 0);
}
