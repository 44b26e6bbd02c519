//! Origin, judged before anything is dialled (RFC 6454, RFC 6455 §10.2).

use crate::support::backend::Backend;
use crate::support::gate::Gate;

/// A good handshake with these lines in place of its Origin.
fn with_origin(gate: &Gate, lines: &str) -> String {
    let good = gate.handshake("/ws", "");
    good.replace(&format!("Origin: {}\r\n", gate.origin()), lines)
}

#[tokio::test]
async fn an_evil_origin_is_refused_before_any_backend_is_dialled() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let request = with_origin(&gate, "Origin: https://evil.example\r\nUser-Agent: curl/8\r\n");
    let answer = gate.refuses(&request).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body, b"this Origin is not allowed\n");
    assert_eq!(answer.one("connection"), Some("close"));
    assert_eq!(answer.one("cache-control"), Some("no-store"));
    assert_eq!(backend.connections(), 0);
    assert_eq!(gate.outcomes().await, [("origin_denied".to_owned(), 1)].into());
    let line = gate.event("ws.rejected", |_| true).await;
    assert_eq!(line["error.type"], "origin_denied");
    assert_eq!(line["origin"], "https://evil.example");
    assert_eq!(line["http.response.status_code"], 403);
    assert_eq!(line["url.path"], "/ws");
    assert_eq!(line["client.address"], "127.0.0.1");
    assert_eq!(line["user_agent.original"], "curl/8");
    assert_eq!(line["level"], "info");
    gate.still_serves().await;
}

#[tokio::test]
async fn only_the_origin_that_was_asked_for_is_the_same() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let (origin, host) = (gate.origin(), gate.host());
    let denied = [
        "Origin: null\r\n".to_owned(),
        "Origin:\r\n".to_owned(),
        "Origin: garbage\r\n".to_owned(),
        format!("Origin: {host}\r\n"),
        format!("Origin: http://{host}\r\n"),
        format!("Origin: wss://{host}\r\n"),
        format!("Origin: {origin}/\r\n"),
        format!("Origin: {origin}.evil.example\r\n"),
        format!("Origin: https://evil.example.{host}\r\n"),
        format!("Origin: https://user@{host}\r\n"),
        format!("Origin: {origin} https://evil.example\r\n"),
        format!("Origin: {origin}, {origin}\r\n"),
        format!("Origin: {origin}\r\nOrigin: {origin}\r\n"),
        format!("Origin: {origin}\r\nOrigin: https://evil.example\r\n"),
        "Origin: https://localhost\r\n".to_owned(),
        format!("Origin: https://127.0.0.1:{}\r\n", gate.https.port()),
        "Origin: https://localhos\u{e9}\r\n".to_owned(),
        "Origin: https://evil.example\r\nReferer: ORIGIN/\r\n".replace("ORIGIN", &origin),
        format!("Origin: https://evil.example\r\nSec-WebSocket-Origin: {origin}\r\n"),
        "Sec-WebSocket-Origin: https://evil.example\r\n".to_owned(),
        "Sec-WebSocket-Origin: null\r\n".to_owned(),
        format!("Sec-WebSocket-Origin: {origin}\r\nSec-WebSocket-Origin: {origin}\r\n"),
    ];
    for (counted, lines) in (1..).zip(&denied) {
        let answer = gate.refuses(with_origin(&gate, lines)).await;
        assert_eq!(answer.status, 403, "{lines:?}");
        assert_eq!(gate.outcomes().await, [("origin_denied".to_owned(), counted)].into());
    }
    assert_eq!(backend.connections(), 0);
    let allowed = [
        format!("Origin: HTTPS://LOCALHOST:{}\r\n", gate.https.port()),
        format!("Sec-WebSocket-Origin: {origin}\r\n"),
    ];
    for lines in &allowed {
        let answer = gate.connect().await.ask(&with_origin(&gate, lines)).await;
        assert_eq!(answer.status, 101, "{lines:?}");
    }
}

#[tokio::test]
async fn a_missing_origin_is_refused_until_it_is_allowed() {
    let backend = Backend::echo().await;
    let strict = Gate::start(&[backend.address]).await;
    let answer = strict.refuses(with_origin(&strict, "")).await;
    assert_eq!((answer.status, answer.body.as_slice()), (403, &b"an Origin is required\n"[..]));
    // A Host, even the right one, and a Referer prove nothing.
    let referer = format!("Referer: {}/\r\n", strict.origin());
    assert_eq!(strict.refuses(with_origin(&strict, &referer)).await.status, 403);
    assert_eq!(strict.outcomes().await, [("origin_missing".to_owned(), 2)].into());
    assert_eq!(backend.connections(), 0);

    let lenient = Gate::with(&[backend.address], "security: {missing_origin: allow}\n").await;
    let answer = lenient.connect().await.ask(&with_origin(&lenient, "")).await;
    assert_eq!(answer.status, 101);
    for lines in ["Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin:\r\n"] {
        assert_eq!(lenient.refuses(with_origin(&lenient, lines)).await.status, 403, "{lines:?}");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn rules_match_whole_labels_schemes_and_ports() {
    let backend = Backend::echo().await;
    let security =
        "security: {origins: [\"https://app.example.com\", \"https://*.example.org\"]}\n";
    let gate = Gate::with(&[backend.address], security).await;
    let cases = [
        ("https://app.example.com", 101),
        ("https://app.example.com:443", 101),
        ("https://APP.example.com", 101),
        ("https://a.example.org", 101),
        ("https://a.b.example.org", 101),
        ("https://example.com", 403),
        ("https://x.app.example.com", 403),
        ("https://app.example.com:8443", 403),
        ("http://app.example.com", 403),
        ("https://example.org", 403),
        ("https://evilexample.org", 403),
        ("https://.example.org", 403),
        ("https://a.example.org.evil.example", 403),
        ("https://a.example.org:8443", 403),
        ("http://a.example.org", 403),
        ("null", 403),
    ];
    for (origin, status) in cases {
        let request = with_origin(&gate, &format!("Origin: {origin}\r\n"));
        let answer = gate.connect().await.ask(&request).await;
        assert_eq!(answer.status, status, "{origin}");
    }
    // What the client asked for is not allowed where it is not in the list.
    assert_eq!(gate.refuses(gate.handshake("/ws", "")).await.status, 403);
    assert_eq!(backend.connections(), 5);
}

#[tokio::test]
async fn any_origin_still_has_to_be_one() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], "security: {origins: [\"*\"]}\n").await;
    let foreign = with_origin(&gate, "Origin: https://evil.example\r\n");
    assert_eq!(gate.connect().await.ask(&foreign).await.status, 101);
    for lines in ["", "Origin: null\r\n", "Origin: x\r\n", "Origin:\r\n"] {
        assert_eq!(gate.refuses(with_origin(&gate, lines)).await.status, 403, "{lines:?}");
    }
    assert_eq!(backend.connections(), 1);
}
