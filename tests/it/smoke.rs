//! The shortest way through everything.

use crate::support::backend::Backend;
use crate::support::gate::Gate;

#[tokio::test]
async fn a_websocket_echoes_and_a_page_is_proxied() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut socket = gate.websocket("/ws").await;
    socket.send(b"hello").await;
    assert_eq!(socket.read(5).await, b"hello");

    let mut page = gate.connect().await;
    let answer = page.ask(&format!("GET /page HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host())).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(b"GET /page HTTP/1.1\r\n"));
    assert_eq!(answer.one("strict-transport-security"), Some("max-age=63072000"));
    assert_eq!(answer.one("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_terminated_gate_stops_cleanly() {
    let backend = Backend::echo().await;
    let mut gate = Gate::start(&[backend.address]).await;
    let mut socket = gate.websocket("/ws").await;
    gate.signal("TERM").await;
    gate.event("drain.started", |_| true).await;
    socket.send(b"still here").await;
    assert_eq!(socket.read(10).await, b"still here");
    drop(socket);
    assert_eq!(gate.exit_code().await, 0);
}
