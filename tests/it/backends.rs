//! Backends that are away, late, wrong or odd when an opening handshake comes to them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Conversation};
use crate::support::gate::Gate;
use crate::support::raw::{Ending, assert_own_fields, whole_answer};
use crate::support::{eventually, soon};

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A backend that says `answer` to whatever comes, then waits for the gate to leave.
async fn saying(answer: &'static [u8]) -> Backend {
    Backend::start(move |mut talk| async move {
        talk.send(answer).await;
        until_left(talk).await;
    })
    .await
}

async fn until_left(mut talk: Conversation) {
    let mut sink = [0; 1024];
    while let Ok(1..) = talk.stream.read(&mut sink).await {}
}

#[tokio::test]
async fn the_next_in_order_is_tried_when_one_refuses() {
    let alive = Backend::echo().await;
    let away = nobody().await;
    for servers in [[away, alive.address], [alive.address, away]] {
        let gate = Gate::with(
            &servers,
            "upstreams: {servers: [SERVERS], health: null, \
                                         hash: path}\n",
        )
        .await;
        // Some of these keys belong to the one that is away.
        for n in 0..16 {
            let mut socket = gate.websocket(&format!("/{n}")).await;
            socket.send(b"x").await;
            assert_eq!(socket.read(1).await, b"x");
        }
        let sample = format!(
            "wsgate_backend_connect_failures_total{{backend=\"{away}\",reason=\"refused\"}}"
        );
        assert!(gate.metric(&sample).await > 0.0);
        gate.outcome_becomes("accepted", 16.0).await;
    }
}

#[tokio::test]
async fn nobody_there_is_502_with_a_time_to_come_back() {
    let gate = Gate::start(&[nobody().await, nobody().await]).await;
    let answer = gate.refuses(gate.handshake("/ws", "")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.one("retry-after").is_some());
    assert_eq!(gate.outcomes().await, [("no_backend".to_owned(), 1)].into());
    let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    let answer = gate.refuses(&page).await;
    assert_eq!(answer.status, 502);
    assert!(answer.one("retry-after").is_some());
}

#[tokio::test]
async fn a_backend_that_never_answers_is_504() {
    let backend = Backend::start(until_left).await;
    let config = "upstreams: {servers: [SERVERS], health: null, response_timeout: 500ms}\n";
    let gate = Gate::with(&[backend.address], config).await;
    let answer = gate.refuses(gate.handshake("/ws", "")).await;
    assert_eq!(answer.status, 504);
    assert!(answer.one("retry-after").is_some());
    assert_eq!(gate.outcomes().await, [("backend_timeout".to_owned(), 1)].into());
    let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    assert_eq!(gate.refuses(&page).await.status, 504);
    assert_eq!(backend.connections(), 2, "a handshake that was sent is not sent to another");
}

#[tokio::test]
async fn another_answer_is_relayed_and_the_connection_ends() {
    let cases: [(&'static [u8], u16, &[u8]); 6] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 404 Not Found\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nno", 404, b"no"),
        (b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n2\r\noh\r\n0\r\n\r\n", 500, b"oh"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 401 Who\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n?", 401, b"?"),
    ];
    for (said, status, body) in cases {
        let backend = saying(said).await;
        let gate = Gate::start(&[backend.address]).await;
        let mut client = gate.connect().await;
        let pipelined = format!("GET /smuggled HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
        client.send((gate.handshake("/ws", "") + &pipelined).as_bytes()).await;
        let (bytes, ending) = client.until_the_end().await;
        let answer = whole_answer(&bytes);
        assert_eq!((answer.status, ending), (status, Ending::Orderly), "{answer:?}");
        assert_own_fields(&answer);
        assert_eq!(answer.one("connection"), Some("close"), "{answer:?}");
        let body_is = if answer.one("transfer-encoding").is_some() {
            [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
        } else {
            body.to_vec()
        };
        assert_eq!(answer.body, body_is);
        assert_eq!(gate.outcomes().await, [("backend_refused".to_owned(), 1)].into());
        let line = gate.event("ws.rejected", |_| true).await;
        assert_eq!(line["error.type"], "backend_refused");
        assert_eq!(line["backend"], backend.address.to_string());
        assert_eq!(backend.heads().len(), 1);
        assert!(!backend.heads()[0].contains("smuggled"));
        assert_eq!(backend.connections(), 1, "what was pipelined went nowhere");
    }
}

#[tokio::test]
async fn a_close_delimited_answer_is_relayed_to_its_end() {
    let backend = Backend::start(|mut talk| async move {
        talk.send("HTTP/1.1 403 No\r\n\r\nfirst,").await;
        talk.send("second").await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    client.send(gate.handshake("/ws", "").as_bytes()).await;
    let (bytes, ending) = client.until_the_end().await;
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
    let body: String = text.split("\r\n\r\n").nth(1).unwrap().split("\r\n").collect();
    assert!(body.contains("first,") && body.contains("second"), "{text}");
    assert_eq!(ending, Ending::Orderly);
}

#[tokio::test]
async fn an_untrue_101_and_what_is_not_http_are_502() {
    let cases: [&'static [u8]; 12] = [
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"HTTP/1.0 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        b"\0\0\0\0 this is no HTTP\r\n\r\n",
        b"HTTP/1.1 999999 Eh\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 101 S\r\nUpgrade: web\0socket\r\n\r\n",
        b"HTTP/2.0 101 S\r\n\r\n",
    ];
    for said in cases {
        let backend = saying(said).await;
        let gate = Gate::start(&[backend.address]).await;
        let answer = gate.refuses(gate.handshake("/ws", "")).await;
        assert_eq!(answer.status, 502, "{}", said.escape_ascii());
        assert_eq!(gate.outcomes().await, [("backend_error".to_owned(), 1)].into());
    }
}

#[tokio::test]
async fn half_a_head_and_an_endless_one_are_502() {
    let half = Backend::start(|mut talk| async move {
        talk.send("HTTP/1.1 101 Switching Protocols\r\nUpgr").await;
    })
    .await;
    let silent = Backend::start(|talk| async move { drop(talk) }).await;
    let endless = Backend::start(|mut talk| async move {
        talk.send("HTTP/1.1 200 OK\r\n").await;
        let line = format!("X: {}\r\n", "y".repeat(8192));
        while talk.stream.write_all(line.as_bytes()).await.is_ok() {}
    })
    .await;
    for backend in [half, silent, endless] {
        let gate = Gate::start(&[backend.address]).await;
        assert_eq!(gate.refuses(gate.handshake("/ws", "")).await.status, 502);
        assert_eq!(gate.outcomes().await, [("backend_error".to_owned(), 1)].into());
    }
}

#[tokio::test]
async fn early_bytes_of_both_sides_arrive_first_and_in_order() {
    let backend = Backend::start(|mut talk| async move {
        let answer = talk.switching("") + "early from backend,";
        talk.send(answer).await;
        talk.echo().await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    let early = "0123456789".repeat(1000);
    client.send((gate.handshake("/ws", "") + &early).as_bytes()).await;
    assert_eq!(client.answer().await.status, 101);
    client.send(b"late").await;
    let expected = format!("early from backend,{early}late");
    assert_eq!(client.read(expected.len()).await, expected.as_bytes());
}

#[tokio::test]
async fn more_early_bytes_than_are_kept_wait_and_arrive() {
    let (answer_now, wait) = tokio::sync::watch::channel(false);
    let backend = Backend::start(move |mut talk| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|now| *now).await.unwrap();
            let answer = talk.switching("");
            talk.send(answer).await;
            talk.echo().await;
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let (read, mut write) = tokio::io::split(gate.connect().await.stream);
    let text = gate.handshake("/ws", "");
    let payload: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = payload.clone();
    let writing = tokio::spawn(async move {
        write.write_all(text.as_bytes()).await.unwrap();
        write.write_all(&sent).await.unwrap();
        write.flush().await.unwrap();
        write
    });
    backend.head(0).await;
    answer_now.send(true).unwrap();
    let mut reader = tokio::io::BufReader::new(read);
    let mut head = Vec::new();
    soon("a 101", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(reader.read_u8().await.unwrap());
        }
    })
    .await;
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    let mut echoed = vec![0; payload.len()];
    soon("the echo", reader.read_exact(&mut echoed)).await.unwrap();
    assert!(echoed == payload, "what came back differs");
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn an_answer_in_pieces_with_others_before_it_is_understood() {
    let backend = Backend::start(|mut talk| async move {
        let answer = talk.switching("");
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        for byte in format!("HTTP/1.1 100 Continue\r\n\r\n{hints}{answer}").as_bytes() {
            talk.send([*byte]).await;
        }
        talk.echo().await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    gate.still_serves().await;
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let backend = saying(
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )
    .await;
    let gate = Gate::start(&[backend.address]).await;
    for more in ["", "Upgrade: h2c\r\nConnection: upgrade\r\n"] {
        let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n{more}\r\n", gate.host());
        assert_eq!(gate.refuses(&page).await.status, 502);
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_frees_the_backend() {
    let (left, mut has_left) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::start(move |talk| {
        let left = left.clone();
        async move {
            until_left(talk).await;
            left.send(()).unwrap();
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    for (number, early) in ["", "early bytes"].into_iter().enumerate() {
        let mut client = gate.connect().await;
        client.send((gate.handshake("/ws", "") + early).as_bytes()).await;
        backend.head(number).await;
        drop(client);
        soon("the backend's connection to end", has_left.recv()).await.unwrap();
        gate.outcome_becomes("client_gone", number as f64 + 1.0).await;
    }
    let mut client = gate.connect().await;
    let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gate.host());
    client.send(page.as_bytes()).await;
    backend.head(2).await;
    drop(client);
    soon("the backend's connection to end", has_left.recv()).await.unwrap();
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
    eventually("nothing else to be counted", || async {
        (gate.outcomes().await == [("client_gone".to_owned(), 2)].into()).then_some(())
    })
    .await;
}
