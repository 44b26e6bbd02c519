//! The plain listener: to https, and nothing else.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::client::Answer;
use crate::support::gate::Gate;
use crate::support::raw::whole_answer;
use crate::support::soon;

async fn ask(gate: &Gate, text: &str) -> Answer {
    let mut stream = TcpStream::connect(gate.http_redirect.unwrap()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    soon("an answer and the end", stream.read_to_end(&mut bytes)).await.unwrap();
    whole_answer(&bytes)
}

#[tokio::test]
async fn every_request_is_sent_to_https() {
    let backend = Backend::echo().await;
    let listen = "listen: {https: \"127.0.0.1:0\", http_redirect: \"127.0.0.1:0\"}\n";
    let gate = Gate::with(&[backend.address], listen).await;
    let https = gate.https.port();
    let cases = [
        ("GET /a?b=c HTTP/1.1\r\nHost: app.example\r\n\r\n", 301, "https://app.example/a?b=c"),
        ("HEAD / HTTP/1.1\r\nHost: app.example:80\r\n\r\n", 301, "https://app.example/"),
        (
            "POST /form HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0\r\n\r\n",
            308,
            "https://app.example/form",
        ),
        ("DELETE /x HTTP/1.1\r\nHost: app.example\r\n\r\n", 308, "https://app.example/x"),
        ("GET /x HTTP/1.1\r\nHost: app.example:8080\r\n\r\n", 301, "https://app.example:PORT/x"),
        (
            "GET /ws HTTP/1.1\r\nHost: app.example\r\nUpgrade: websocket\r\n\
          Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Version: 13\r\n\r\n",
            301,
            "https://app.example/ws",
        ),
    ];
    for (text, status, location) in cases {
        let answer = ask(&gate, text).await;
        assert_eq!(answer.status, status, "{text:?}");
        let location = location.replace("PORT", &https.to_string());
        assert_eq!(answer.one("location"), Some(location.as_str()), "{text:?}");
        assert_eq!(answer.one("connection"), Some("close"));
        assert_eq!(answer.one("strict-transport-security"), None, "RFC 6797 §7.2");
    }
    let bad = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "garbage\r\n\r\n",
    ];
    for text in bad {
        let answer = ask(&gate, text).await;
        assert_eq!((answer.status, answer.one("location")), (400, None), "{text:?}");
    }
    assert_eq!(backend.connections(), 0);
}
