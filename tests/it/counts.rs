//! What goes through sockets and how they end, counted by who did it, while it happens.

use tokio::io::AsyncWriteExt as _;

use crate::support::backend::Backend;
use crate::support::frames::{BINARY, CLOSE, PING, TEXT, code, header, masked, unmasked};
use crate::support::gate::Gate;
use crate::support::{eventually, soon};

const BYTES_IN: &str = "wsgate_websocket_bytes_total{direction=\"in\"}";
const BYTES_OUT: &str = "wsgate_websocket_bytes_total{direction=\"out\"}";
const MESSAGES_IN: &str = "wsgate_websocket_messages_total{direction=\"in\"}";
const MESSAGES_OUT: &str = "wsgate_websocket_messages_total{direction=\"out\"}";

#[tokio::test]
async fn messages_and_bytes_are_counted_while_the_socket_is_open() {
    let (backend, mut conversations) = Backend::handing_over().await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.websocket("/ws").await;
    let mut talk = soon("the backend's end", conversations.recv()).await.unwrap();

    // Two messages, one of them in three frames with a ping between.
    let parts = [
        masked(TEXT, b"one"),
        masked(0x02, &[0; 300]),
        masked(PING, b"?"),
        masked(0x00, b""),
        masked(0x80, &[1; 70_000]),
    ];
    let bytes = parts.concat();
    client.send(&bytes).await;
    gate.metric_becomes(MESSAGES_IN, 2.0).await;
    gate.metric_becomes(BYTES_IN, bytes.len() as f64).await;
    assert_eq!(gate.metric(MESSAGES_OUT).await, 0.0);

    // Inside a message its bytes count already.
    let first = [header(BINARY, 1000, 0), vec![7; 400]].concat();
    talk.send(&first).await;
    gate.metric_becomes(BYTES_OUT, first.len() as f64).await;
    assert_eq!(gate.metric(MESSAGES_OUT).await, 0.0);
    talk.send(vec![7; 600]).await;
    gate.metric_becomes(MESSAGES_OUT, 1.0).await;
    assert_eq!(gate.metric(BYTES_OUT).await, 1004.0);
    assert!(gate.events("ws.closed").is_empty());

    client.send(&masked(CLOSE, &code(1000))).await;
    talk.send(unmasked(CLOSE, &code(1000))).await;
    drop((client, talk));
    let line = gate.event("ws.closed", |_| true).await;
    assert_eq!((&line["messages_in"], &line["messages_out"]), (&2.into(), &1.into()));
    assert_eq!(line["bytes_in"], bytes.len() + 8, "and the Close frame");
    assert_eq!(line["bytes_out"], 1004 + 4);
}

/// How a peer ends a socket, and what that is called.
#[derive(Clone, Copy, Debug)]
enum End {
    Close(Option<u16>),
    /// Without a Close frame.
    Eof,
    Reset,
}

const ENDS: [(End, u16, &str); 10] = [
    (End::Close(Some(1000)), 1000, "1000"),
    (End::Close(Some(1001)), 1001, "1001"),
    (End::Close(Some(1011)), 1011, "1011"),
    (End::Close(Some(1012)), 1012, "1012"),
    (End::Close(Some(3000)), 3000, "3xxx"),
    (End::Close(Some(4001)), 4001, "4xxx"),
    (End::Close(Some(4999)), 4999, "4xxx"),
    (End::Close(None), 1005, "1005"),
    (End::Eof, 1006, "1006"),
    (End::Reset, 1006, "1006"),
];

#[tokio::test]
async fn ends_are_counted_by_code_and_by_who_was_first() {
    let (backend, mut conversations) = Backend::handing_over().await;
    let gate = Gate::start(&[backend.address]).await;
    for by in ["client", "backend"] {
        for (end, number, label) in ENDS {
            let sample =
                format!("wsgate_websocket_closes_total{{code=\"{label}\",initiator=\"{by}\"}}");
            let before = gate.metric(&sample).await;
            let lines = gate.events("ws.closed").len();
            let mut client = gate.websocket("/ws").await;
            let mut talk = soon("the backend's end", conversations.recv()).await.unwrap();
            let payload = match end {
                End::Close(number) => number.map(code).map(Vec::from).unwrap_or_default(),
                End::Eof | End::Reset => Vec::new(),
            };
            match (end, by) {
                (End::Close(_), "client") => {
                    client.send(&masked(CLOSE, &payload)).await;
                    soon("a Close frame", talk.frame()).await.unwrap();
                    // Who answers with another code is not who closed.
                    talk.send(unmasked(CLOSE, &code(4444))).await;
                    drop(talk);
                    assert_eq!(client.frame().await.code(), Some(4444));
                    drop(client);
                }
                (End::Close(_), _) => {
                    talk.send(unmasked(CLOSE, &payload)).await;
                    assert_eq!(client.frame().await.payload, payload);
                    client.send(&masked(CLOSE, &code(4444))).await;
                    let answer = soon("a Close frame", talk.frame()).await.unwrap();
                    assert_eq!(answer.code(), Some(4444));
                    drop((client, talk));
                }
                (End::Eof, "client") => {
                    client.stream.shutdown().await.unwrap();
                    assert_eq!(soon("the end", talk.frame()).await, None);
                    drop((client, talk));
                }
                (End::Eof, _) => {
                    drop(talk);
                    client.until_the_end().await;
                    drop(client);
                }
                (End::Reset, "client") => {
                    client.stream.get_ref().0.set_zero_linger().unwrap();
                    drop(client);
                    assert_eq!(soon("the end", talk.frame()).await, None);
                }
                (End::Reset, _) => {
                    talk.stream.set_zero_linger().unwrap();
                    drop(talk);
                    client.until_the_end().await;
                    drop(client);
                }
            }
            gate.metric_becomes(&sample, before + 1.0).await;
            // The line follows the count.
            let line = eventually("its line", || {
                std::future::ready(gate.events("ws.closed").into_iter().nth(lines))
            })
            .await;
            assert_eq!(line["close.code"], number, "{end:?} by {by}");
            assert_eq!(line["close.initiator"], by, "{end:?}");
        }
    }
    let all = (2 * ENDS.len()) as f64;
    assert_eq!(gate.sum("wsgate_websocket_closes_total").await, all, "and nothing else");
    assert_eq!(gate.metric("wsgate_websocket_duration_seconds_count").await, all);
}

#[tokio::test]
async fn broken_framing_is_counted_by_who_broke_it_and_passes() {
    let (backend, mut conversations) = Backend::handing_over().await;
    let gate = Gate::start(&[backend.address]).await;
    for by in ["client", "backend"] {
        let mut client = gate.websocket("/ws").await;
        let mut talk = soon("the backend's end", conversations.recv()).await.unwrap();
        if by == "client" {
            client.send(&unmasked(TEXT, b"no mask")).await;
            let passed = soon("a frame", talk.frame()).await.unwrap();
            assert_eq!((passed.masked, &passed.payload[..]), (false, &b"no mask"[..]));
        } else {
            talk.send(masked(TEXT, b"a mask")).await;
            assert_eq!(client.frame().await.payload, b"a mask");
        }
        drop((client, talk));
        let sample = format!("wsgate_websocket_framing_errors_total{{side=\"{by}\"}}");
        gate.metric_becomes(&sample, 1.0).await;
    }
}
