//! Every way to get an opening handshake or an HTTP head wrong (RFC 6455 §4.2.1, RFC 9112), and
//! the few odd ones that are right.

use crate::support::backend::Backend;
use crate::support::gate::Gate;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const LINE: &str = "GET /ws HTTP/1.1\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";

/// The good handshake with `from` in place of `to`.
struct Change(&'static str, &'static str, u16);

impl Change {
    fn apply(&self, gate: &Gate) -> String {
        let good = gate.handshake("/ws", "");
        let Self(from, to, _) = self;
        let (from, to) = (from.replace("HOST", &gate.host()), to.replace("HOST", &gate.host()));
        assert!(good.contains(&from), "{from:?} is not in {good:?}");
        good.replacen(&from, &to, 1)
    }
}

/// Each is refused with its status in order, counted once, and nothing reaches the backend.
async fn are_refused(changes: &[Change]) {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    for (counted, change) in (1..).zip(changes) {
        let bytes = change.apply(&gate);
        let answer = gate.refuses(&bytes).await;
        assert_eq!(answer.status, change.2, "{bytes:?} {answer:?}");
        let outcomes = gate.outcomes().await;
        assert_eq!(outcomes.get("bad_request"), Some(&counted), "{bytes:?} {outcomes:?}");
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    }
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn each_clause_of_rfc_6455_is_required() {
    are_refused(&[
        Change("GET", "POST", 400),
        Change("GET", "HEAD", 400),
        Change("GET", "OPTIONS", 400),
        Change("GET", "get", 400),
        Change("GET", "TRACE", 400),
        Change("HTTP/1.1", "HTTP/1.0", 400),
        Change(UPGRADE, "", 400),
        Change(UPGRADE, "Upgrade: h2c\r\n", 400),
        Change(UPGRADE, "Upgrade: websocketx\r\n", 400),
        Change(UPGRADE, "Upgrade: websocket/13\r\n", 400),
        Change(UPGRADE, "Upgrade:\r\n", 400),
        Change(CONNECTION, "", 400),
        Change(CONNECTION, "Connection: close\r\n", 400),
        Change(CONNECTION, "Connection: keep-alive\r\n", 400),
        Change(CONNECTION, "Connection: Upgrades\r\n", 400),
        Change(KEY, "", 400),
        Change(KEY, "Sec-WebSocket-Key:\r\n", 400),
        Change(KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", 400),
        Change(KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEyMw==\r\n", 400),
        Change(KEY, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400),
        Change(KEY, "Sec-WebSocket-Key: dGhlIHNhbXBs-_Bub25jZQ==\r\n", 400),
        Change(KEY, "Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ==\r\n", 400),
        Change(KEY, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n", 400),
        Change(
            KEY,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            400,
        ),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nContent-Length: 5\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn another_version_is_told_which_one_is_spoken() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    for version in ["8", "0", "14", "013", "13, 8", "x", ""] {
        let line = format!("Sec-WebSocket-Version: {version}\r\n");
        let answer = gate.refuses(gate.handshake("/ws", "").replace(VERSION, &line)).await;
        assert_eq!(answer.status, 426, "{version:?}");
        assert_eq!(answer.one("sec-websocket-version"), Some("13"));
        assert_eq!(answer.one("upgrade"), Some("websocket"));
        assert_eq!(answer.one("connection"), Some("close, Upgrade"));
    }
    let missing = gate.refuses(gate.handshake("/ws", "").replace(VERSION, "")).await;
    assert_eq!((missing.status, missing.one("sec-websocket-version")), (426, Some("13")));
    assert_eq!(gate.outcomes().await["bad_request"], 8);
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
}

#[tokio::test]
async fn a_request_line_is_a_method_a_target_and_a_version() {
    are_refused(&[
        Change(LINE, "GET  /ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET /ws  HTTP/1.1\r\n", 400),
        Change(LINE, "GET /ws HTTP/1.1 \r\n", 400),
        Change(LINE, " GET /ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET\t/ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET /ws\r\n", 400),
        Change(LINE, "GET /w s HTTP/1.1\r\n", 400),
        Change(LINE, "GET ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET * HTTP/1.1\r\n", 400),
        Change(LINE, "GET /ws#part HTTP/1.1\r\n", 400),
        Change(LINE, "GET /<ws> HTTP/1.1\r\n", 400),
        Change(LINE, "GET /w`s HTTP/1.1\r\n", 400),
        Change(LINE, "GET /w\u{e9}s HTTP/1.1\r\n", 400),
        Change(LINE, "GET HOST HTTP/1.1\r\n", 400),
        Change(LINE, "CONNECT HOST HTTP/1.1\r\n", 400),
        Change(LINE, "GET https://elsewhere.example/ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET https://user@HOST/ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET ftp://HOST/ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET https:///ws HTTP/1.1\r\n", 400),
        Change(LINE, "G(T /ws HTTP/1.1\r\n", 400),
        Change(LINE, "GET /ws HTTP/2.0\r\n", 505),
        Change(LINE, "GET /ws HTTP/1.2\r\n", 505),
        Change(LINE, "GET /ws HTTP/0.9\r\n", 505),
        Change(LINE, "GET /ws http/1.1\r\n", 505),
    ])
    .await;
}

#[tokio::test]
async fn there_is_one_host_and_it_is_a_host() {
    are_refused(&[
        Change("Host: HOST\r\n", "", 400),
        Change("Host: HOST\r\n", "Host: HOST\r\nHost: HOST\r\n", 400),
        Change("Host: HOST\r\n", "Host: HOST\r\nhOST: elsewhere.example\r\n", 400),
        Change("Host: HOST\r\n", "Host:\r\n", 400),
        Change("Host: HOST\r\n", "Host: local host\r\n", 400),
        Change("Host: HOST\r\n", "Host: localhost/x\r\n", 400),
        Change("Host: HOST\r\n", "Host: user@localhost\r\n", 400),
        Change("Host: HOST\r\n", "Host: localhost:99999\r\n", 400),
        Change("Host: HOST\r\n", "Host: localhost:+443\r\n", 400),
        Change("Host: HOST\r\n", "Host: localhost:\r\n", 400),
        Change("Host: HOST\r\n", "Host: [::1\r\n", 400),
        Change("Host: HOST\r\n", "Host: ::1\r\n", 400),
        Change("Host: HOST\r\n", "Host: a.example, b.example\r\n", 400),
        Change("Host: HOST\r\n", "Host: a..example\r\n", 400),
        Change("Host: HOST\r\n", "Host: \u{e9}.example\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn lines_that_two_parsers_read_in_two_ways_are_refused() {
    are_refused(&[
        Change(VERSION, "Sec-WebSocket-Version: 13\n", 400),
        Change(LINE, "GET /ws HTTP/1.1\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\n\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\rb\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\r\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\r\n b\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\r\n\tb\r\n", 400),
        Change(LINE, "GET /ws HTTP/1.1\r\n X: a\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\0b\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\u{1}b\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\u{b}b\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: a\u{7f}b\r\n", 400),
        Change("Host: HOST", "Host : HOST", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX\t: a\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX y: a\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX(y): a\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX\u{e9}: a\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\n: a\r\n", 400),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn framing_that_can_be_doubted_is_refused() {
    let framings = [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
    ];
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    for framing in framings {
        let post = format!("POST /form HTTP/1.1\r\nHost: {}\r\n{framing}\r\n", gate.host());
        assert_eq!(gate.refuses(&post).await.status, 400, "{framing:?}");
        let opening = gate.refuses(gate.handshake("/ws", framing)).await;
        assert_eq!(opening.status, 400, "{framing:?}");
    }
    assert_eq!(gate.outcomes().await["bad_request"], 2 * framings.len() as u64);
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
}

#[tokio::test]
async fn what_is_not_http_is_refused_without_waiting() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let hello = crate::support::raw::client_hello(&gate);
    let cases: [(&[u8], u16); 6] = [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505),
        (&hello, 400),
        (b"\0\0\0\0\0\0\0\0", 400),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", 400),
        (b"hello\n", 400),
        (b"\x81\x85\x01\x02\x03\x04abcde\r\n\r\n", 400),
    ];
    for (counted, (bytes, status)) in (1..).zip(cases) {
        assert_eq!(gate.refuses(bytes).await.status, status, "{}", bytes.escape_ascii());
        assert_eq!(gate.outcomes().await["bad_request"], counted);
    }
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
}

#[tokio::test]
async fn odd_but_right_handshakes_pass() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let cases = [
        Change(UPGRADE, "UPGRADE: WebSocket\r\n", 101),
        Change(UPGRADE, "Upgrade: h2c, websocket\r\n", 101),
        Change(CONNECTION, "Connection: keep-alive, UPGRADE\r\n", 101),
        Change(CONNECTION, "Connection: keep-alive\r\nConnection: upgrade\r\n", 101),
        Change(VERSION, "Sec-WebSocket-Version:13\r\n", 101),
        Change(VERSION, "Sec-WebSocket-Version: \t13\t \r\n", 101),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n", 101),
        Change(VERSION, "Sec-WebSocket-Version: 13\r\nX: caf\u{e9}\r\n", 101),
        Change(LINE, "\r\n\r\nGET /ws HTTP/1.1\r\n", 101),
        Change(LINE, "GET https://HOST/ws HTTP/1.1\r\n", 101),
        Change(LINE, "GET /ws?a=%22&b={c}|d HTTP/1.1\r\n", 101),
        Change(LINE, "GET //ws/../x HTTP/1.1\r\n", 101),
    ];
    for (number, change) in cases.iter().enumerate() {
        let text = change.apply(&gate);
        let mut client = gate.connect().await;
        let answer = client.ask(&text).await;
        assert_eq!(answer.status, change.2, "{text:?} {answer:?}");
        assert_eq!(answer.one("connection"), Some("Upgrade"), "{text:?}");
        assert_eq!(answer.one("upgrade"), Some("websocket"), "{text:?}");
        crate::support::raw::assert_own_fields(&answer);
        client.send(b"ping").await;
        assert_eq!(client.read(4).await, b"ping");
        let head = backend.head(number).await;
        assert!(head.contains("\r\nconnection: Upgrade\r\n"), "{head:?}");
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head:?}");
        assert!(!head.contains("content-length"), "{head:?}");
    }
    assert!(backend.head(9).await.starts_with("GET /ws HTTP/1.1\r\n"), "origin-form again");
}
