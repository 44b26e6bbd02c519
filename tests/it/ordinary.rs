//! Requests that are not opening handshakes: proxied, streamed, pooled.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::support::backend::{Backend, Conversation, field};
use crate::support::gate::Gate;
use crate::support::raw::{Ending, assert_own_fields, whole_answer};
use crate::support::soon;

/// One request on a kept backend connection: its head, and what followed it so far.
pub struct Asked {
    head: String,
    rest: Vec<u8>,
}

/// Reads the next head on a connection; `None` at its end.
async fn next(talk: &mut Conversation, mut rest: Vec<u8>) -> Option<Asked> {
    loop {
        if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = rest.split_off(at + 4);
            return Some(Asked { head: String::from_utf8(rest).unwrap(), rest: body });
        }
        if !matches!(talk.stream.read_buf(&mut rest).await, Ok(1..)) {
            return None;
        }
    }
}

/// A backend that keeps its connections and answers each request with its line as the body.
async fn keeping() -> Backend {
    Backend::start(|mut talk| async move {
        let rest = std::mem::take(&mut talk.early);
        let mut asked = Asked { head: talk.head.clone(), rest };
        loop {
            let length = field(&asked.head, "content-length");
            let length: usize = length.first().map_or(0, |length| length.parse().unwrap());
            while asked.rest.len() < length {
                assert!(talk.stream.read_buf(&mut asked.rest).await.unwrap() > 0);
            }
            let behind = asked.rest.split_off(length);
            let line = asked.head.lines().next().unwrap();
            let body = [line.as_bytes(), b"\n", &asked.rest].concat();
            let to_head = line.starts_with("HEAD");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            talk.send(head).await;
            if !to_head {
                talk.send(body).await;
            }
            match next(&mut talk, behind).await {
                Some(more) => asked = more,
                None => return,
            }
        }
    })
    .await
}

fn request(gate: &Gate, method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", gate.host())
}

#[tokio::test]
async fn methods_pass_over_one_connection_on_both_sides() {
    let backend = keeping().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    for (method, path, more, body) in [
        ("GET", "/a?b=c", "", ""),
        ("POST", "/form", "Content-Length: 5\r\n", "hello"),
        ("POST", "/nothing", "Content-Length: 0\r\n", ""),
        ("PUT", "/x", "Content-Length: 1\r\n", "y"),
        ("DELETE", "/x", "", ""),
        ("OPTIONS", "/x", "", ""),
        ("OPTIONS", "*", "", ""),
        ("PROPFIND", "/dav", "", ""),
        ("GET", "//double/../dots", "", ""),
    ] {
        let answer = client.ask(&(request(&gate, method, path, more) + body)).await;
        assert_eq!(answer.status, 200, "{method} {path}");
        let expected = format!("{method} {path} HTTP/1.1\n{body}");
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
        assert_own_fields(&answer);
        assert_eq!(answer.one("connection"), None);
    }
    client.send(request(&gate, "HEAD", "/x", "Connection: close\r\n").as_bytes()).await;
    let (bytes, ending) = client.until_the_end().await;
    let answer = whole_answer(&bytes);
    assert_eq!((answer.status, answer.body.len(), ending), (200, 0, Ending::Orderly));
    assert_eq!(answer.one("content-length"), Some("17"));
    assert_eq!(backend.connections(), 1, "pooled");
    gate.metric_becomes("wsgate_http_requests_total{code=\"2xx\"}", 10.0).await;
    assert!(gate.outcomes().await.is_empty(), "no opening handshakes");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = keeping().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    let mut text: String = (0..20)
        .map(|n| request(&gate, "POST", &format!("/{n}"), "Content-Length: 1\r\n") + "x")
        .collect();
    text += &gate.handshake("/ws", "").replace("https://", "https://evil.");
    client.send(text.as_bytes()).await;
    for n in 0..20 {
        let answer = client.answer().await;
        assert_eq!(answer.body, format!("POST /{n} HTTP/1.1\nx").as_bytes());
    }
    assert_eq!(client.refusal().await.status, 403);
}

#[tokio::test]
async fn what_is_pipelined_behind_a_request_never_cuts_its_answer() {
    let go_on = Arc::new(Notify::new());
    let waiting = Arc::clone(&go_on);
    let backend = Backend::start(move |mut talk| {
        let go_on = Arc::clone(&waiting);
        async move {
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
            go_on.notified().await;
            talk.send("after").await;
        }
    })
    .await;
    let gate = Gate::with(
        &[backend.address],
        "listen: {https: \"127.0.0.1:0\", handshake_timeout: 500ms}\n",
    )
    .await;
    for (behind, status) in [("no HTTP\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHo", 408)] {
        let mut client = gate.connect().await;
        client.send((request(&gate, "GET", "/", "") + behind).as_bytes()).await;
        let mut bytes = Vec::new();
        soon("half an answer", async {
            while !bytes.ends_with(b"first") {
                assert!(client.stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
            }
        })
        .await;
        // Longer than any head may take: allow-sleep
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        go_on.notify_one();
        bytes.extend(client.read(5).await);
        let answer = whole_answer(&bytes);
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"firstafter"[..]));
        assert_eq!(client.refusal().await.status, status);
    }
}

#[tokio::test]
async fn an_opening_handshake_may_follow_a_request() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    assert_eq!(client.ask(&request(&gate, "GET", "/page", "")).await.status, 200);
    assert_eq!(client.ask(&gate.handshake("/ws", "")).await.status, 101);
    client.send(b"through").await;
    assert_eq!(client.read(7).await, b"through");
    // Both in one write, with early bytes behind.
    let mut client = gate.connect().await;
    let both = request(&gate, "GET", "/page", "") + &gate.handshake("/ws", "") + "early";
    client.send(both.as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.read(5).await, b"early");
}

#[tokio::test]
async fn uploads_are_streamed_and_trailers_stop_here() {
    let (seen, mut chunks) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::start(move |mut talk| {
        let seen = seen.clone();
        async move {
            let mut bytes = std::mem::take(&mut talk.early);
            while !bytes.ends_with(b"0\r\n\r\n") {
                seen.send(String::from_utf8_lossy(&bytes).into_owned()).unwrap();
                assert!(talk.stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
            }
            let length = bytes.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            talk.send(head).await;
            talk.send(bytes).await;
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    let more = "Transfer-Encoding: chunked\r\nTrailer: X-Real-IP\r\n";
    client.send((request(&gate, "POST", "/up", more) + "5\r\nfirst\r\n").as_bytes()).await;
    // It is there before the client has sent the rest.
    soon("the first chunk", async { while !chunks.recv().await.unwrap().contains("first") {} })
        .await;
    let answer = client.ask("4\r\nlast\r\n0\r\nX-Real-IP: 6.6.6.6\r\n\r\n").await;
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("first") && body.contains("last"), "{body:?}");
    assert!(!body.contains("6.6.6.6"), "{body:?}");
    let head = backend.head(0).await;
    assert_eq!(field(&head, "transfer-encoding"), ["chunked"]);
    assert!(field(&head, "trailer").is_empty());
}

#[tokio::test]
async fn a_slow_upload_is_not_the_backends_delay() {
    let backend = keeping().await;
    let config = "upstreams: {servers: [SERVERS], health: null, response_timeout: 300ms}\n";
    let gate = Gate::with(&[backend.address], config).await;
    let mut client = gate.connect().await;
    client.send(request(&gate, "POST", "/slow", "Content-Length: 5\r\n").as_bytes()).await;
    for byte in b"hell" {
        // A client that takes longer than the backend may: allow-sleep
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        client.send(&[*byte]).await;
    }
    let answer = client.ask("o").await;
    assert_eq!((answer.status, answer.body), (200, b"POST /slow HTTP/1.1\nhello".to_vec()));
}

#[tokio::test]
async fn a_broken_chunked_body_is_one_refusal() {
    let broken = [
        "3;ext=1\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "3\r\nabc\r\n0\r\nX: y\n\r\n",
        "0\r\nX y\r\n\r\n",
    ];
    let backend = Backend::start(|mut talk| async move {
        let mut sink = Vec::new();
        let _ = talk.stream.read_to_end(&mut sink).await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    for body in broken {
        let text = request(&gate, "POST", "/up", "Transfer-Encoding: chunked\r\n") + body;
        let smuggled = request(&gate, "GET", "/smuggled", "");
        let answer = gate.refuses(text + &smuggled).await;
        assert_eq!(answer.status, 400, "{body:?}");
    }
    assert!(!backend.heads().iter().any(|head| head.contains("smuggled")));
    let codes = gate.metric("wsgate_http_requests_total{code=\"5xx\"}").await;
    assert!(codes == 0.0, "the backend is not to blame");
}

#[tokio::test]
async fn large_bodies_compare_equal_both_ways() {
    let backend = keeping().await;
    let gate = Gate::start(&[backend.address]).await;
    let body: Vec<u8> = (0..8_000_000u32).map(|n| (n % 253) as u8).collect();
    let (read, mut write) = tokio::io::split(gate.connect().await.stream);
    let more = format!("Content-Length: {}\r\nConnection: close\r\n", body.len());
    let head = request(&gate, "POST", "/large", &more);
    let sent = body.clone();
    let writing = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&sent).await.unwrap();
        write.flush().await.unwrap();
        write
    });
    let mut answer = Vec::new();
    let mut read = read;
    soon("the answer", read.read_to_end(&mut answer)).await.unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let echoed = answer[at..].strip_prefix(b"POST /large HTTP/1.1\n").unwrap();
    assert!(echoed == body, "what came back differs");
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let backend = Backend::start(|mut talk| async move {
        let answer = match talk.head.split(' ').nth(1) {
            Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
            Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        talk.send(answer).await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    for (path, status, body) in [("/204", 204, ""), ("/304", 304, ""), ("/", 200, "ok")] {
        let answer = client.ask(&request(&gate, "GET", path, "")).await;
        assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()), "{path}");
        assert_own_fields(&answer);
    }
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_and_the_backend_is_not_asked() {
    let backend = keeping().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    let more = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    client.send(request(&gate, "POST", "/", more).as_bytes()).await;
    let interim = client.read(25).await;
    assert_eq!(interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    let answer = client.ask("hello").await;
    assert_eq!(answer.body, b"POST / HTTP/1.1\nhello");
    assert!(field(&backend.head(0).await, "expect").is_empty());
}

#[tokio::test]
async fn a_stale_pooled_connection_fails_no_get() {
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&served);
    // Says that it keeps the connection, and closes it when the next request is there.
    let backend = Backend::start(move |mut talk| {
        let served = Arc::clone(&counted);
        async move {
            served.fetch_add(1, Ordering::SeqCst);
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            next(&mut talk, Vec::new()).await;
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    for n in 0..10 {
        let answer = client.ask(&request(&gate, "GET", "/", "")).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ok"[..]), "request {n}");
    }
    assert_eq!(served.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn a_backend_that_breaks_off_breaks_the_answer_off() {
    let backend = Backend::start(|mut talk| async move {
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    client.send(request(&gate, "GET", "/", "").as_bytes()).await;
    let (bytes, _) = client.until_the_end().await;
    assert!(bytes.ends_with(b"half"), "nothing is made up: {}", bytes.escape_ascii());
}

#[tokio::test]
async fn http_can_be_switched_off() {
    let backend = Backend::echo().await;
    let gate = Gate::with(&[backend.address], "http: {enabled: false}\n").await;
    for path in ["/", "/socket.io/?transport=polling"] {
        assert_eq!(gate.refuses(request(&gate, "GET", path, "")).await.status, 404);
    }
    let post = request(&gate, "POST", "/", "Content-Length: 5\r\n") + "hello";
    assert_eq!(gate.refuses(post).await.status, 404);
    assert_eq!(backend.connections(), 0);
    gate.still_serves().await;
}

#[tokio::test]
async fn old_clients_get_their_answer_and_the_end() {
    let backend = keeping().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    let text = format!("GET /old HTTP/1.0\r\nHost: {}\r\n\r\n", gate.host());
    client.send(text.as_bytes()).await;
    let (bytes, ending) = client.until_the_end().await;
    let answer = whole_answer(&bytes);
    assert_eq!((answer.body.as_slice(), ending), (&b"GET /old HTTP/1.1\n"[..], Ending::Orderly));
    assert_own_fields(&answer);
}
