//! What goes in comes out: both ways at once, early, after a half-close, behind a slow reader; and
//! what a tunnel leaves when it ends is nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::backend::{Backend, Conversation};
use crate::support::gate::Gate;
use crate::support::{eventually, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_messages_both_ways_at_once_arrive_as_they_were_sent() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut talk| {
        let report = report.clone();
        async move {
            switch(&mut talk).await;
            let (read, write) = talk.stream.into_split();
            let sending = tokio::spawn(send_all(write, 2));
            let received = hash_to_end(read).await;
            report.send((received, sending.await.unwrap())).unwrap();
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let client = gate.websocket("/ws").await;
    let (read, write) = tokio::io::split(client.stream);
    let read = client.early.as_slice().chain(read);
    let sending = tokio::spawn(send_all(write, 1));
    let received = soon("all of the backend's bytes", hash_to_end(read)).await;
    let sent = sending.await.unwrap();
    let (at_backend, from_backend) = soon("the backend's report", reports.recv()).await.unwrap();
    assert_eq!(at_backend, sent, "client to backend");
    assert_eq!(received, from_backend, "backend to client");
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!((&closed["bytes_in"], &closed["bytes_out"]), (&sent.1.into(), &received.1.into()));
    assert_eq!(gate.metric("wsgate_websocket_bytes_total{direction=\"in\"}").await, sent.1 as f64);
}

#[tokio::test]
async fn early_bytes_come_first_in_both_directions() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut talk| {
        let report = report.clone();
        async move {
            let answer = talk.switching("") + "early from the backend,";
            talk.send(answer).await;
            talk.send("later").await;
            let mut all = std::mem::take(&mut talk.early);
            talk.stream.read_to_end(&mut all).await.unwrap();
            report.send(all).unwrap();
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.connect().await;
    let together = gate.handshake("/ws", "") + "early from the client,";
    assert_eq!(client.ask(&together).await.status, 101);
    client.send(b"later").await;
    assert_eq!(client.read(28).await, b"early from the backend,later");
    client.stream.shutdown().await.unwrap();
    let at_backend = soon("the client's bytes", reports.recv()).await.unwrap();
    assert_eq!(at_backend, b"early from the client,later");
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!((&closed["bytes_in"], &closed["bytes_out"]), (&27.into(), &28.into()));
}

#[tokio::test]
async fn a_client_that_ends_its_direction_still_gets_the_rest() {
    let backend = Backend::start(|mut talk| async move {
        switch(&mut talk).await;
        let (heard, _) = hash_to_end(&mut talk.stream).await;
        assert_eq!(heard, sha256(b"last words"));
        talk.send(vec![7; MIB]).await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.websocket("/ws").await;
    client.send(b"last words").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, vec![7; MIB]);
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!(end(&closed), ("client", "eof"));
}

#[tokio::test]
async fn a_backend_that_ends_its_direction_still_gets_the_rest() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut talk| {
        let report = report.clone();
        async move {
            switch(&mut talk).await;
            talk.send("last words").await;
            talk.stream.shutdown().await.unwrap();
            report.send(hash_to_end(&mut talk.stream).await).unwrap();
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.websocket("/ws").await;
    assert_eq!(client.rest().await, b"last words", "and close_notify behind it");
    client.send(&vec![7; MIB]).await;
    client.stream.shutdown().await.unwrap();
    let heard = soon("the rest at the backend", reports.recv()).await.unwrap();
    assert_eq!(heard, (sha256(&vec![7; MIB]), MIB as u64));
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!(end(&closed), ("backend", "eof"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_cost_bounded_memory_and_lose_nothing() {
    let written = Arc::new(AtomicU64::new(0));
    let (report, mut reports) = mpsc::unbounded_channel();
    let counter = Arc::clone(&written);
    let backend = Backend::start(move |mut talk| {
        let (counter, report) = (Arc::clone(&counter), report.clone());
        async move {
            switch(&mut talk).await;
            if talk.head.starts_with("GET /down") {
                push(&mut talk.stream, &counter).await;
                talk.stream.shutdown().await.unwrap();
            } else {
                // Reads nothing until the test says so, which it does by a new request.
                let resume = report.clone();
                resume.send(Stopped(talk)).unwrap();
            }
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    // Page in what any traffic needs.
    let mut socket = gate.websocket("/up").await;
    socket.send(b"warm").await;
    drop((socket, reports.recv().await));
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
    let before = gate.resident_kib();

    let mut down = Vec::new();
    let mut up = JoinSet::new();
    for _ in 0..STOPPED {
        down.push(gate.websocket("/down").await);
        let mut socket = gate.websocket("/up").await;
        let counter = Arc::clone(&written);
        up.spawn(async move {
            push(&mut socket.stream, &counter).await;
            socket.stream.shutdown().await.unwrap();
            socket
        });
    }
    // Both halves of every socket have a writer that is not taken from: nothing moves any more.
    let (mut last, mut still) = (0, 0);
    eventually("all writers to be stopped", || {
        let now = written.load(Ordering::Relaxed);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        std::future::ready((still >= STILL_LOOKS).then_some(()))
    })
    .await;
    let total = (2 * STOPPED * PUSHED) as u64;
    assert!(last < total, "the kernel took all {total} bytes: push more");
    let grown = gate.resident_kib().saturating_sub(before);
    assert!(grown <= BUFFERED_KIB * 2 * STOPPED as u64, "{grown} KiB behind stopped readers");

    let expected = sha256(&vec![PATTERN; PUSHED]);
    for client in down {
        assert!(client.early.len() < PUSHED);
        let mut hash = Sha256::new();
        hash.update(&client.early);
        let rest = soon("what was pushed down", hash_on(client.stream, &mut hash)).await;
        assert_eq!(rest + client.early.len() as u64, PUSHED as u64);
        assert_eq!(<[u8; 32]>::from(hash.finalize()), expected);
    }
    for _ in 0..STOPPED {
        let Stopped(talk) = soon("a backend to resume", reports.recv()).await.unwrap();
        let (hash, bytes) = soon("what was pushed up", hash_to_end(talk.stream)).await;
        assert_eq!((hash, bytes), (expected, PUSHED as u64));
    }
    while let Some(socket) = soon("the writers' end", up.join_next()).await {
        drop(socket.unwrap());
    }
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
}

#[tokio::test]
async fn a_reset_from_the_client_ends_the_backend() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut talk| {
        let report = report.clone();
        async move {
            switch(&mut talk).await;
            let ended = talk.stream.read(&mut [0; 8]).await;
            report.send(matches!(ended, Ok(0) | Err(_))).unwrap();
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let client = gate.websocket("/ws").await;
    client.stream.get_ref().0.set_zero_linger().unwrap();
    drop(client);
    assert!(soon("the end at the backend", reports.recv()).await.unwrap());
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!(end(&closed), ("client", "reset"));
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
}

#[tokio::test]
async fn a_reset_from_the_backend_ends_the_client() {
    let backend = Backend::start(|mut talk| async move {
        switch(&mut talk).await;
        talk.stream.read_exact(&mut [0; 3]).await.unwrap();
        talk.stream.set_zero_linger().unwrap();
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.websocket("/ws").await;
    client.send(b"bye").await;
    assert!(client.rest().await.is_empty());
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!(end(&closed), ("backend", "reset"));
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
}

#[tokio::test]
async fn a_clients_reset_is_noticed_behind_a_backend_that_does_not_read() {
    let backend = Backend::start(|mut talk| async move {
        switch(&mut talk).await;
        std::future::pending::<()>().await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let mut client = gate.websocket("/ws").await;
    fill(&mut client.stream).await;
    client.stream.get_ref().0.set_zero_linger().unwrap();
    drop(client);
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!(end(&closed), ("client", "reset"));
    gate.metric_becomes("wsgate_connections_active", 0.0).await;
}

#[tokio::test]
async fn what_a_backend_sent_before_its_reset_reaches_a_slow_reader() {
    let (filled, mut fills) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut talk| {
        let filled = filled.clone();
        async move {
            switch(&mut talk).await;
            let sent = fill(&mut talk.stream).await;
            talk.stream.set_zero_linger().unwrap();
            drop(talk);
            filled.send(sent).unwrap();
        }
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    let client = gate.websocket("/ws").await;
    let sent = soon("everything to be full", fills.recv()).await.unwrap();
    let mut client = client;
    let received = client.rest().await.len();
    // What was still in the backend's own buffer went with the reset.
    assert!(received > 0 && received <= sent);
    let closed = gate.event("ws.closed", |_| true).await;
    assert_eq!(end(&closed), ("backend", "reset"));
    assert_eq!(closed["bytes_out"], received, "the gate lost some that it had read");
}

#[tokio::test]
async fn silence_and_age_end_a_socket() {
    let cases = [
        ("idle_timeout: 300ms", "idle_timeout"),
        ("idle_timeout: null, max_age: 300ms", "max_age"),
    ];
    for (limit, reason) in cases {
        let backend = Backend::echo().await;
        let limits =
            format!("limits: {{upgrades_per_client: null, connections_per_client: null, {limit}}}");
        let gate = Gate::with(&[backend.address], &limits).await;
        let mut client = gate.websocket("/ws").await;
        client.send(b"hello").await;
        assert_eq!(client.read(5).await, b"hello", "{limit}");
        assert!(client.rest().await.is_empty(), "{limit}");
        let closed = gate.event("ws.closed", |_| true).await;
        assert_eq!(end(&closed), ("gate", reason));
        assert_eq!((&closed["bytes_in"], &closed["bytes_out"]), (&5.into(), &5.into()));
        assert_eq!(gate.sum("wsgate_websockets_active").await, 0.0, "{limit}");
    }
}

#[tokio::test]
async fn either_peer_is_asked_whether_it_is_still_there() {
    let backend = Backend::echo().await;
    let gate = Gate::start(&[backend.address]).await;
    let client = gate.websocket("/ws").await;
    let client_port = client.stream.get_ref().0.local_addr().unwrap().port();
    for (local, remote) in [(Some(gate.https.port()), client_port), (None, backend.address.port())]
    {
        eventually("a keep-alive timer", || {
            std::future::ready(has_keepalive_timer(local, remote).then_some(()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_sockets_leave_no_file_behind() {
    let backend = Backend::start(|mut talk| async move {
        switch(&mut talk).await;
        if talk.head.starts_with("GET /leave") {
            return;
        }
        talk.echo().await;
    })
    .await;
    let gate = Gate::start(&[backend.address]).await;
    drop(gate.websocket("/ws").await);
    let settled = || async {
        eventually("every socket to be given back", || async {
            let active = gate.sum("wsgate_websockets_active").await
                + gate.metric("wsgate_connections_active").await;
            (active == 0.0).then_some(())
        })
        .await;
    };
    settled().await;
    let before = gate.files();
    for round in 0..10 {
        let mut sockets = Vec::new();
        for number in 0..50 {
            let path = if number % 5 == 0 { "/leave" } else { "/ws" };
            sockets.push(gate.websocket(path).await);
        }
        assert!(gate.files() > before + 50, "two files a socket while it lives");
        for (number, mut socket) in sockets.into_iter().enumerate() {
            match (number + round) % 3 {
                0 => socket.stream.get_ref().0.set_zero_linger().unwrap(),
                // Whose backend has left already may see the reset instead.
                1 => drop(socket.stream.shutdown().await),
                _ => {}
            }
        }
    }
    settled().await;
    eventually("as many files as before", || {
        std::future::ready((gate.files() <= before).then_some(()))
    })
    .await;
    assert_eq!(gate.metric("wsgate_connections_accepted_total").await, 501.0);
    eventually("both ends of every socket in the log", || {
        let lines = ["ws.opened", "ws.closed"].map(|name| gate.events(name).len());
        std::future::ready((lines == [501, 501]).then_some(()))
    })
    .await;
}

/// Whether an established connection to `remote` runs a keep-alive timer, as proc_net_tcp(5) says:
/// local and remote address, state 01, queues, then `02:` and when the timer goes off.
fn has_keepalive_timer(local: Option<u16>, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        let is = |field: &str, port: u16| field.ends_with(&format!(":{port:04X}"));
        fields[3] == "01"
            && local.is_none_or(|port| is(fields[1], port))
            && is(fields[2], remote)
            && fields[5].starts_with("02:")
    })
}

/// A backend's conversation that has not read yet.
struct Stopped(Conversation);

async fn switch(talk: &mut Conversation) {
    let answer = talk.switching("");
    talk.send(answer).await;
}

fn end(closed: &Value) -> (&str, &str) {
    let text = |name: &str| closed[name].as_str().unwrap();
    (text("close.initiator"), text("close.reason"))
}

/// Sends a frame of each size and some of random ones, with payloads that `seed` decides too, then
/// ends.
async fn send_all<W: AsyncWrite + Unpin>(mut to: W, seed: u64) -> ([u8; 32], u64) {
    let (mut state, mut hash, mut bytes) = (seed, Sha256::new(), 0);
    let random: Vec<usize> = (9..25).map(|bits| below(&mut state, 1 << bits)).collect();
    for size in SIZES.into_iter().chain(random) {
        let mut frame = frame_header(size, seed == 1);
        let payload = std::iter::repeat_with(|| next(&mut state).to_le_bytes()).flatten();
        frame.extend(payload.take(size));
        hash.update(&frame);
        bytes += frame.len() as u64;
        // What one write takes is random too.
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let piece = rest.len().min(1 + below(&mut state, 256 * 1024));
            to.write_all(&rest[..piece]).await.unwrap();
            rest = &rest[piece..];
        }
    }
    to.shutdown().await.unwrap();
    (hash.finalize().into(), bytes)
}

/// RFC 6455 §5.2; the masking key is part of the random payload's looks.
fn frame_header(size: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut header = vec![0x82];
    match (u8::try_from(size), u16::try_from(size)) {
        (Ok(short @ ..=125), _) => header.push(mask | short),
        (_, Ok(medium)) => {
            header.push(mask | 126);
            header.extend(medium.to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((size as u64).to_be_bytes());
        }
    }
    if masked {
        header.extend([0x37, 0xfa, 0x21, 0x3d]);
    }
    header
}

fn below(state: &mut u64, bound: u64) -> usize {
    usize::try_from(next(state) % bound).unwrap()
}

/// Xorshift64 (Marsaglia, 2003).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

async fn push<W: AsyncWrite + Unpin>(to: &mut W, written: &AtomicU64) {
    let chunk = vec![PATTERN; 64 * 1024];
    for _ in 0..PUSHED / chunk.len() {
        to.write_all(&chunk).await.unwrap();
        written.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    to.flush().await.unwrap();
}

/// Writes until nothing is taken for a while, and returns how much was.
async fn fill<W: AsyncWrite + Unpin>(to: &mut W) -> usize {
    let (chunk, mut taken) = (vec![PATTERN; 64 * 1024], 0);
    while let Ok(written) = tokio::time::timeout(NOT_TAKEN, to.write(&chunk)).await {
        taken += written.unwrap();
    }
    taken
}

async fn hash_to_end<R: AsyncRead + Unpin>(from: R) -> ([u8; 32], u64) {
    let mut hash = Sha256::new();
    let bytes = hash_on(from, &mut hash).await;
    (hash.finalize().into(), bytes)
}

async fn hash_on<R: AsyncRead + Unpin>(mut from: R, hash: &mut Sha256) -> u64 {
    let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0);
    loop {
        let read = from.read(&mut buffer).await.unwrap();
        if read == 0 {
            return bytes;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

const MIB: usize = 1024 * 1024;

/// The edges of RFC 6455's length forms, sizes between, and the largest asked for.
const SIZES: [usize; 12] =
    [0, 1, 125, 126, 127, 1000, 65_535, 65_536, 300_001, MIB + 7, 5_000_003, 16 * MIB];

/// Sockets in each direction whose reader stops.
const STOPPED: usize = 4;

/// Bytes for each of them: well beyond what two socket buffers hold.
const PUSHED: usize = 64 * MIB;

const PATTERN: u8 = 0xa5;

/// What the gate may keep for one direction that is not taken: the scratch buffer's worth, the
/// ciphertext of it, and the allocator's rounding.
const BUFFERED_KIB: u64 = 512;

/// How long a write waits before everything on its way counts as full.
const NOT_TAKEN: Duration = Duration::from_millis(300);

/// Looks in a row without a byte moved before writers count as stopped.
const STILL_LOOKS: u32 = 30;
