//! What a backend is told of the client, and what a client cannot make it believe.

use crate::support::backend::{Backend, field};
use crate::support::gate::Gate;

/// Everything a client might forge, as field lines.
const FORGED: &str = "X-Real-IP: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nx-REAL-ip: 6.6.6.6\r\n\
    X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\n\
    X-Forwarded-For: 6.6.6.7, 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
    X-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 666\r\nX-Forwarded-Server: evil\r\n\
    X-Forwarded-Ssl: off\r\nX-Forwarded-Scheme: http\r\nX-Forwarded-Prefix: /evil\r\n\
    X-Forwarded-User: root\r\nX-Forwarded-Uri: /evil\r\nX_Forwarded_Groups: wheel\r\n\
    X-Url-Scheme: http\r\nForwarded: for=6.6.6.6;proto=http;host=evil.example\r\n";

/// What may be about the client, and stands in a head: lower-case names with their values.
fn told(head: &str) -> Vec<(String, String)> {
    let mut told: Vec<(String, String)> = head
        .split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase().replace('_', "-"), value.to_owned()))
        .filter(|(name, _)| {
            name.contains("forward") || name.contains("real-ip") || name.contains("scheme")
        })
        .collect();
    told.sort();
    told
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The head that a backend gets of an opening handshake, then of a page, with these lines.
async fn both(gate: &Gate, backend: &Backend, more: &str) -> [String; 2] {
    let first = backend.heads().len();
    let mut client = gate.connect().await;
    assert_eq!(client.ask(&gate.handshake("/ws", more)).await.status, 101);
    let opening = backend.head(first).await;
    let more = more.replace("Connection: ", "Connection: keep-alive, ");
    let page = format!("GET /page HTTP/1.1\r\nHost: {}\r\n{more}\r\n", gate.host());
    assert_eq!(gate.connect().await.ask(&page).await.status, 200);
    [opening, backend.head(first + 1).await]
}

#[tokio::test]
async fn forged_fields_never_arrive() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let host = gate.host();
    let expected = pairs(&[
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", &host),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "127.0.0.1"),
    ]);
    let named = "Connection: x-real-ip, X-Forwarded-For, x-forwarded-proto, x-forwarded-host, \
                 forwarded, x_real_ip\r\n";
    let bodies = [FORGED.to_owned(), format!("{named}{FORGED}"), format!("{FORGED}{named}")];
    for more in bodies.iter().map(String::as_str).chain([named, ""]) {
        for head in both(&gate, &backend, more).await {
            assert_eq!(told(&head), expected, "{more:?} {head:?}");
            assert!(!head.contains("6.6.6") && !head.contains("evil"), "{head:?}");
        }
    }
    gate.metric_becomes("wsgate_forwarded_headers_stripped_total", 6.0).await;
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let backend = Backend::echo().await;
    let security = "security: {trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]}\n";
    let gate = Gate::with(&[backend.address], security).await;
    let cases = [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.0.0.2, 10.0.0.1", "203.0.113.9"),
        ("6.6.6.6, garbage, 10.0.0.1", "10.0.0.1"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("\"[2001:db8::9]\", [2001:db8::7]:80", "2001:db8::7"),
        ("unknown", "127.0.0.1"),
    ];
    for (chain, address) in cases {
        let more = format!(
            "X-Forwarded-For: {chain}\r\nX-Forwarded-Proto: http\r\nX-Real-IP: 6.6.6.6\r\n\
             X-Forwarded-Host: front.example\r\nX-Forwarded-Port: 8443\r\nX_Real_IP: 6.6.6.6\r\n"
        );
        let appended = format!("{chain}, 127.0.0.1");
        let expected = pairs(&[
            ("x-forwarded-for", &appended),
            ("x-forwarded-host", "front.example"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", address),
        ]);
        for head in both(&gate, &backend, &more).await {
            assert_eq!(told(&head), expected, "{chain}");
        }
        gate.event("ws.opened", |line| line["client.address"] == address).await;
    }
    // Several lines are one list, and the walk begins at its right end.
    let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7\r\n";
    for head in both(&gate, &backend, lines).await {
        assert_eq!(field(&head, "x-real-ip"), ["203.0.113.7"]);
        assert_eq!(field(&head, "x-forwarded-for"), ["6.6.6.6, 203.0.113.7, 127.0.0.1"]);
    }
    gate.metric_becomes("wsgate_forwarded_headers_stripped_total", 0.0).await;
}

#[tokio::test]
async fn forwarded_and_the_scheme_follow_their_settings() {
    let backend = Backend::echo().await;
    let config = "forward: {proto: wss, forwarded: true}\n";
    let gate = Gate::with(&[backend.address], config).await;
    let host = gate.host();
    let [opening, page] = both(&gate, &backend, FORGED).await;
    let line = |scheme: &str| format!("for=127.0.0.1;proto={scheme};host=\"{host}\"");
    assert_eq!(field(&opening, "forwarded"), [line("wss")]);
    assert_eq!(field(&opening, "x-forwarded-proto"), ["wss"]);
    assert_eq!(field(&page, "forwarded"), [line("https")]);
    assert_eq!(field(&page, "x-forwarded-proto"), ["https"]);

    let trusting = format!("{config}security: {{trusted_proxies: [127.0.0.1/32]}}\n");
    let gate = Gate::with(&[backend.address], &trusting).await;
    let host = gate.host();
    let more = "Forwarded: for=203.0.113.9;proto=https\r\n";
    let [opening, _] = both(&gate, &backend, more).await;
    let expected = format!("for=203.0.113.9;proto=https, for=127.0.0.1;proto=wss;host=\"{host}\"");
    assert_eq!(field(&opening, "forwarded"), [expected]);
}

#[tokio::test]
async fn hop_by_hop_fields_stop_at_the_gate_in_both_directions() {
    let answer_fields = "Keep-Alive: timeout=5\r\nX-Private: 1\r\nProxy-Connection: x\r\n\
        Proxy-Authenticate: Basic\r\nStrict-Transport-Security: max-age=1\r\n\
        Strict-Transport-Security: max-age=2\r\nX-Content-Type-Options: other\r\n\
        Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Public: 1\r\n";
    let backend = Backend::start(move |mut talk| async move {
        if talk.field("upgrade").is_empty() {
            let text = format!(
                "HTTP/1.1 200 OK\r\nConnection: close, X-Private\r\n{answer_fields}\
                 Upgrade: h2c\r\nContent-Length: 0\r\n\r\n"
            );
            talk.send(text).await;
        } else {
            let more = format!("Connection: X-Private\r\n{answer_fields}Content-Length: 0\r\n");
            let answer = talk.switching(&more);
            talk.send(answer).await;
            talk.echo().await;
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let host = gate.host();
    let request_fields = "Keep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X\r\n\
        Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\n\
        HTTP2-Settings: AAMAAABkAAQ\r\nX-Private: 1\r\nX-Public: 1\r\nCookie: a=1; b=2\r\n\
        Connection: x-private, host, origin, sec-websocket-key, sec-websocket-version\r\n";
    let opening = gate.handshake("/ws", request_fields);
    let page = format!(
        "GET /page HTTP/1.1\r\nHost: {host}\r\nUpgrade: h2c\r\nOrigin: {}\r\n{request_fields}\r\n",
        gate.origin()
    );
    for (number, text) in [opening, page].iter().enumerate() {
        let answer = gate.connect().await.ask(text).await;
        assert!([101, 200].contains(&answer.status), "{answer:?}");
        crate::support::raw::assert_own_fields(&answer);
        for gone in ["keep-alive", "x-private", "proxy-connection", "proxy-authenticate"] {
            assert_eq!(answer.one(gone), None, "{answer:?}");
        }
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.one("x-public"), Some("1"));
        if answer.status == 101 {
            assert_eq!(answer.one("connection"), Some("Upgrade"));
            assert_eq!(answer.one("content-length"), None);
        } else {
            assert_eq!(answer.one("upgrade"), None);
        }

        let head = backend.head(number).await;
        for gone in [
            "keep-alive",
            "te",
            "trailer",
            "proxy-authorization",
            "proxy-connection",
            "http2-settings",
            "x-private",
        ] {
            assert!(field(&head, gone).is_empty(), "{gone} in {head:?}");
        }
        assert_eq!(field(&head, "x-public"), ["1"]);
        assert_eq!(field(&head, "cookie"), ["a=1; b=2"]);
        assert_eq!(field(&head, "host"), [host.as_str()]);
        assert_eq!(field(&head, "origin"), [gate.origin()]);
        let upgrade: &[&str] = if number == 0 { &["websocket"] } else { &[] };
        assert_eq!(field(&head, "upgrade"), upgrade, "{head:?}");
        assert!(!head.contains("h2c"), "{head:?}");
    }
}

#[tokio::test]
async fn subprotocols_and_extensions_pass_unchanged() {
    let backend = Backend::start(|mut talk| async move {
        let answer = talk.switching(
            "Sec-WebSocket-Protocol: superchat\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
        );
        talk.send(answer).await;
        talk.echo().await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let offer = "Sec-WebSocket-Protocol: chat , superchat\r\nSec-WebSocket-Protocol: Third\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-own;a=\"b\"\r\n";
    let answer = gate.connect().await.ask(&gate.handshake("/ws", offer)).await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.one("sec-websocket-protocol"), Some("superchat"));
    let extensions = "permessage-deflate; server_max_window_bits=10";
    assert_eq!(answer.one("sec-websocket-extensions"), Some(extensions));
    let head = backend.head(0).await;
    assert_eq!(field(&head, "sec-websocket-protocol"), ["chat , superchat", "Third"]);
    let extensions = "permessage-deflate; client_max_window_bits, x-own;a=\"b\"";
    assert_eq!(field(&head, "sec-websocket-extensions"), [extensions]);
    assert_eq!(field(&head, "sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
}
