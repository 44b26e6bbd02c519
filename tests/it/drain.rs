//! The way down: who is told, who may still come, who may stay, and until when.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::backend::Backend;
use crate::support::client::Client;
use crate::support::gate::Gate;
use crate::support::{DEADLINE, eventually, soon};

#[tokio::test]
async fn first_not_ready_then_no_newcomers_then_the_last_one_leaves() {
    let backend = Backend::echo().await;
    let mut gate =
        Gate::with(&[backend.address], "drain: {delay: 4s, timeout: 300d, spread: 300d}").await;
    gate.event("gate.ready", |_| true).await;
    assert_eq!(gate.status("/readyz").await.0, 200);
    let mut old = gate.websocket("/ws").await;
    gate.signal("TERM").await;
    gate.event("drain.started", |line| line["signal"] == "SIGTERM" && line["sockets"] == 1).await;
    let (code, text) = gate.status("/readyz").await;
    assert_eq!(code, 503);
    assert!(text.contains("[-]drain failed: draining"), "{text}");
    assert_eq!(gate.status("/livez").await.0, 200);
    assert_eq!(gate.metric("wsgate_draining").await, 1.0);
    let mut new = gate.websocket("/ws").await;
    echoes(&mut new).await;

    refuses(&gate).await;
    assert_eq!(gate.status("/livez").await.0, 200);
    echoes(&mut old).await;
    echoes(&mut new).await;
    drop((old, new));
    assert_eq!(gate.exit_code().await, 0);
    gate.event("drain.finished", |line| line["sockets_cut"] == 0).await;
    gate.event("gate.stopped", |_| true).await;
}

#[tokio::test]
async fn what_stays_too_long_is_cut() {
    let backend = Backend::start(|mut talk| async move {
        let answer = talk.switching("");
        talk.send(answer).await;
        if talk.head.starts_with("GET /flood") {
            while talk.stream.write_all(&[0; 4096]).await.is_ok() {}
        }
        talk.echo().await;
    })
    .await;
    let drain = "drain: {delay: 0s, timeout: 300ms, spread: 0s}";
    let mut gate = Gate::with(&[backend.address], drain).await;
    let (mut one, mut two) = (gate.websocket("/ws").await, gate.websocket("/ws").await);
    // Takes nothing, so that its end takes a moment, in which the metric of the others is read.
    let flooded = gate.websocket("/flood").await;
    gate.signal("TERM").await;
    eventually("forced closes, counted", || async {
        (gate.metric("wsgate_drain_forced_closes_total").await >= 2.0).then_some(())
    })
    .await;
    // Close 1001, which these do not answer, and the end.
    assert_eq!(one.rest().await, GOING_AWAY);
    assert_eq!(two.rest().await, GOING_AWAY);
    assert_eq!(gate.exit_code().await, 0);
    gate.event("drain.finished", |line| line["sockets_cut"] == 3).await;
    let closed = gate.events("ws.closed");
    assert_eq!(closed.len(), 3, "{closed:?}");
    for line in closed {
        assert_eq!(
            (&line["close.initiator"], &line["close.reason"]),
            (&"gate".into(), &"drain_cut".into())
        );
    }
    drop(flooded);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_every_socket_has_its_last_line() {
    for second in ["TERM", "INT"] {
        let backend = Backend::echo().await;
        // Far beyond what this test waits for anything.
        let delay = 10 * DEADLINE.as_secs();
        let drain = format!("drain: {{delay: {delay}s, timeout: {delay}s}}");
        let mut gate = Gate::with(&[backend.address], &drain).await;
        let mut socket = gate.websocket("/ws").await;
        gate.signal("TERM").await;
        gate.event("drain.started", |_| true).await;
        echoes(&mut socket).await;
        gate.signal(second).await;
        assert!(socket.rest().await.is_empty());
        assert_eq!(gate.exit_code().await, 0, "{second}");
        gate.event("gate.stopped", |_| true).await;
        gate.event("drain.finished", |line| line["sockets_cut"] == 1).await;
        let closed = gate.event("ws.closed", |line| line["close.reason"] == "drain_cut").await;
        assert_eq!((&closed["close.initiator"], &closed["bytes_in"]), (&"gate".into(), &10.into()));
    }
}

#[tokio::test]
async fn an_idle_http_connection_does_not_hold_the_drain() {
    let backend = Backend::echo().await;
    let timeout = 10 * DEADLINE.as_secs();
    let drain = format!("drain: {{delay: 0s, timeout: {timeout}s}}");
    let mut gate = Gate::with(&[backend.address], &drain).await;
    let mut idle = gate.connect().await;
    let page = format!("GET /page HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    assert_eq!(idle.ask(&page).await.status, 200);
    assert_eq!(idle.ask(&page).await.status, 200, "it is kept");
    let fresh = gate.connect().await;
    gate.metric_becomes("wsgate_connections_active", 2.0).await;
    gate.signal("TERM").await;
    assert!(idle.rest().await.is_empty());
    drop(fresh);
    assert_eq!(gate.exit_code().await, 0);
}

#[tokio::test]
async fn who_still_waits_at_the_end_is_told_so_and_half_an_answer_does_not_look_whole() {
    let backend = Backend::start(|mut talk| async move {
        if talk.head.starts_with("GET /half") {
            let chunk = "5\r\nhello\r\n";
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            talk.send(format!("{head}{chunk}")).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let mut gate = Gate::with(&[backend.address], "drain: {delay: 0s, timeout: 300ms}").await;
    let mut opening = gate.connect().await;
    opening.send(gate.handshake("/ws", "").as_bytes()).await;
    let page = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    let mut waiting = gate.connect().await;
    waiting.send(page("/page").as_bytes()).await;
    let mut half = gate.connect().await;
    let answer = half.ask(&page("/half")).await;
    assert_eq!(answer.status, 200);
    let mut silent = gate.connect().await;
    let mut no_tls = TcpStream::connect(gate.https).await.unwrap();
    no_tls.write_all(&[22]).await.unwrap();
    backend.head(2).await;
    gate.metric_becomes("wsgate_connections_active", 5.0).await;

    gate.signal("TERM").await;
    for late in [&mut opening, &mut waiting] {
        let answer = late.answer().await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.one("connection"), Some("close"));
        assert!(answer.one("retry-after").is_some());
    }
    // The one with half an answer holds the gate for a moment, in which this is read.
    eventually("a forced close, counted", || async {
        (gate.metric("wsgate_drain_forced_closes_total").await >= 1.0).then_some(())
    })
    .await;
    assert!(silent.rest().await.is_empty());
    let mut left = Vec::new();
    let ended = soon("the end", half.stream.read_to_end(&mut left)).await;
    assert!(ended.is_err(), "an orderly end would say that {left:?} is all");
    assert_eq!(soon("the end", no_tls.read(&mut [0; 64])).await.unwrap_or(0), 0);
    drop((opening, waiting, silent));
    assert_eq!(gate.exit_code().await, 0);
    gate.event("drain.finished", |line| line["sockets_cut"] == 5).await;
    gate.event("ws.rejected", |line| line["error.type"] == "draining").await;
}

#[tokio::test]
async fn a_handshake_that_is_pending_gets_a_clean_101() {
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let backend = Backend::start(move |mut talk| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            let answer = talk.switching("");
            talk.send(answer).await;
            talk.echo().await;
        }
    })
    .await;
    let mut gate =
        Gate::with(&[backend.address], "drain: {delay: 0s, timeout: 300d, spread: 300d}").await;
    let mut pending = gate.connect().await;
    pending.send(gate.handshake("/ws", "").as_bytes()).await;
    backend.head(0).await;
    gate.signal("TERM").await;
    refuses(&gate).await;
    release.notify_one();
    let answer = pending.answer().await;
    assert_eq!(answer.status, 101, "{answer:?}");
    let connection = answer.one("connection").unwrap();
    assert!(connection.eq_ignore_ascii_case("upgrade"), "strict clients refuse `{connection}`");
    echoes(&mut pending).await;
    drop(pending);
    assert_eq!(gate.exit_code().await, 0);
}

#[tokio::test]
async fn a_handshake_that_comes_too_late_is_told_so() {
    let backend = Backend::echo().await;
    let drain = "drain: {delay: 0s, timeout: 300d, spread: 300d}";
    let mut gate = Gate::with(&[backend.address], drain).await;
    let mut socket = gate.websocket("/ws").await;
    let mut late = gate.connect().await;
    // Half a head keeps the connection from being idle.
    let handshake = gate.handshake("/ws", "");
    let (half, rest) = handshake.split_at(40);
    late.send(half.as_bytes()).await;
    gate.signal("TERM").await;
    refuses(&gate).await;
    late.send(rest.as_bytes()).await;
    let answer = late.answer().await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.one("retry-after").is_some());
    assert_eq!(answer.one("strict-transport-security"), Some("max-age=63072000"));
    assert_eq!(gate.metric("wsgate_upgrades_total{outcome=\"draining\"}").await, 1.0);
    assert!(late.rest().await.is_empty());
    echoes(&mut socket).await;
    drop((socket, late));
    assert_eq!(gate.exit_code().await, 0);
    assert_eq!(backend.connections(), 1);
}

/// A Close frame with 1001, unmasked.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

#[tokio::test]
async fn each_socket_gets_a_close_frame_on_both_sides_and_the_gate_ends_early() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let recorder = Arc::clone(&heard);
    let backend = Backend::start(move |mut talk| {
        let recorder = Arc::clone(&recorder);
        async move {
            let answer = talk.switching("");
            talk.send(answer).await;
            let mut frame = vec![0; 8];
            talk.stream.read_exact(&mut frame).await.unwrap();
            let key: [u8; 4] = frame[2..6].try_into().unwrap();
            frame[6] ^= key[0];
            frame[7] ^= key[1];
            recorder.lock().unwrap().push(frame);
            talk.send(RESTART).await;
        }
    })
    .await;
    let drain = "drain: {delay: 0s, timeout: 600s, spread: 1s, close_code: 1012}";
    let mut gate = Gate::with(&[backend.address], drain).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(gate.websocket("/ws").await);
    }
    gate.signal("TERM").await;
    for socket in &mut sockets {
        assert_eq!(socket.read(4).await, RESTART);
        // The answer, masked with zeros.
        socket.send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).await;
        assert!(socket.rest().await.is_empty());
    }
    assert_eq!(gate.exit_code().await, 0, "long before the drain time is over");
    let closed = gate.events("ws.closed");
    assert_eq!(closed.len(), 20);
    for line in closed {
        assert_eq!(
            (&line["close.code"], &line["close.initiator"], &line["close.reason"]),
            (&1012.into(), &"gate".into(), &"drain".into())
        );
    }
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 20);
    for frame in heard.iter() {
        assert_eq!((frame[0], frame[1], &frame[6..]), (0x88, 0x82, &[0x03, 0xf4][..]), "masked");
    }
}

/// A Close frame with 1012, unmasked.
const RESTART: [u8; 4] = [0x88, 2, 0x03, 0xf4];

async fn echoes(socket: &mut Client) {
    socket.send(b"still here").await;
    assert_eq!(socket.read(10).await, b"still here");
}

/// Waits until nobody listens any more.
async fn refuses(gate: &Gate) {
    eventually("connections to be refused", || async {
        let refused = TcpStream::connect(gate.https).await.err()?;
        (refused.kind() == io::ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
}
