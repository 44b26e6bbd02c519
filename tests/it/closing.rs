//! How the gate ends sockets: a Close frame to each side at a frame boundary, a bounded wait for
//! the answers, then the end; whatever the peers are in the middle of.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::backend::{Backend, Conversation};
use crate::support::client::Client;
use crate::support::frames::{
    BINARY, CLOSE, Frame, PING, PONG, TEXT, code, header, masked, unmasked,
};
use crate::support::gate::Gate;
use crate::support::raw::Ending;
use crate::support::{eventually, soon};

/// One socket, both ends of it in the test's hands.
struct Socket {
    client: Client,
    backend: Conversation,
}

/// A gate and what it has behind it.
struct Setup {
    gate: Gate,
    _backend: Backend,
    conversations: UnboundedReceiver<Conversation>,
}

impl Setup {
    async fn new(more: &str) -> Self {
        let (backend, conversations) = Backend::handing_over().await;
        let gate = Gate::with(&[backend.address], more).await;
        Self { gate, _backend: backend, conversations }
    }

    async fn socket(&mut self) -> Socket {
        let client = self.gate.websocket("/ws").await;
        let backend = soon("the backend's end", self.conversations.recv()).await.unwrap();
        Socket { client, backend }
    }

    async fn ends_with(&mut self, sockets: usize) -> Vec<serde_json::Value> {
        assert_eq!(self.gate.exit_code().await, 0);
        // Its last line.
        self.gate.event("gate.stopped", |_| true).await;
        let closed = self.gate.events("ws.closed");
        assert_eq!(closed.len(), sockets, "{closed:?}");
        closed
    }
}

impl Socket {
    /// Both sides read their Close frame.
    async fn both_are_told(&mut self) {
        assert_eq!(self.client.frame().await, from_gate(false));
        self.backend_is_told().await;
    }

    async fn backend_is_told(&mut self) {
        let told = soon("a Close frame", self.backend.frame()).await;
        assert_eq!(told, Some(from_gate(true)));
    }

    async fn client_answers(&mut self) {
        self.client.push(&masked(CLOSE, &code(1012))).await;
    }

    async fn backend_answers(&mut self) {
        self.backend.send(unmasked(CLOSE, &code(1012))).await;
    }

    /// Nothing more comes to either side, in good order.
    async fn both_end(&mut self) {
        assert_eq!(self.client.until_the_end().await, (Vec::new(), Ending::Orderly));
        assert_eq!(soon("the end", self.backend.frame()).await, None);
        assert!(self.backend.early.is_empty(), "{:?}", self.backend.early);
    }
}

/// Far beyond what these tests wait for anything.
const LONG: &str = "drain: {delay: 0s, timeout: 600s, spread: 0s, close_code: 1012}";

fn from_gate(masked: bool) -> Frame {
    Frame { first: CLOSE, masked, payload: code(1012).to_vec() }
}

fn assert_drained(line: &serde_json::Value) {
    assert_eq!(line["close.reason"], "drain", "{line}");
    assert_eq!((&line["close.code"], &line["close.initiator"]), (&1012.into(), &"gate".into()));
}

#[tokio::test]
async fn a_close_frame_waits_for_the_end_of_a_frame_and_not_of_a_message() {
    let mut setup = Setup::new(LONG).await;
    let (mut one, mut two) = (setup.socket().await, setup.socket().await);
    // A client and a backend in the middle of a frame, which is not the last of its message.
    let from_client = masked(0x02, &[3; 70_000]);
    let from_backend = unmasked(0x01, &[b'b'; 70_000]);
    one.client.send(&from_client[..50_000]).await;
    let mut at_backend = vec![0; from_client.len()];
    soon("a part", one.backend.stream.read_exact(&mut at_backend[..50_000])).await.unwrap();
    two.backend.send(&from_backend[..50_000]).await;
    let mut at_client = two.client.read(50_000).await;
    setup.gate.signal("TERM").await;

    // The other direction stands between frames: it is told at once.
    assert_eq!(one.client.frame().await, from_gate(false));
    one.client.push(&from_client[50_000..]).await;
    one.client.push(&masked(0x80, b"too late")).await;
    soon("the rest", one.backend.stream.read_exact(&mut at_backend[50_000..])).await.unwrap();
    assert!(at_backend == from_client);
    one.backend_is_told().await;

    two.backend_is_told().await;
    two.backend.send(&from_backend[50_000..]).await;
    two.backend.send(unmasked(0x80, b"too late")).await;
    at_client.extend(two.client.read(from_backend.len() - 50_000).await);
    assert!(at_client == from_backend);
    assert_eq!(two.client.frame().await, from_gate(false));

    for mut socket in [one, two] {
        socket.client_answers().await;
        socket.backend_answers().await;
        socket.both_end().await;
    }
    for line in setup.ends_with(2).await {
        assert_drained(&line);
        assert_eq!((&line["messages_in"], &line["messages_out"]), (&0.into(), &0.into()));
    }
}

#[tokio::test]
async fn a_close_frame_may_stand_between_fragments() {
    let mut setup = Setup::new(LONG).await;
    let mut socket = setup.socket().await;
    socket.client.send(&masked(0x01, b"one, ")).await;
    socket.backend.send(unmasked(0x02, b"eins, ")).await;
    let fragment = soon("a fragment", socket.backend.frame()).await.unwrap();
    assert_eq!((fragment.first, &fragment.payload[..]), (0x01, &b"one, "[..]));
    assert_eq!(socket.client.frame().await.payload, b"eins, ");
    setup.gate.signal("TERM").await;
    socket.both_are_told().await;
    socket.client.send(&masked(0x80, b"two")).await;
    socket.backend.send(unmasked(0x80, b"zwei")).await;
    socket.client_answers().await;
    socket.backend_answers().await;
    socket.both_end().await;
    assert_drained(&setup.ends_with(1).await[0]);
}

#[tokio::test]
async fn who_answers_late_is_waited_for() {
    for late in ["client", "backend"] {
        let mut setup = Setup::new(LONG).await;
        let mut socket = setup.socket().await;
        setup.gate.signal("TERM").await;
        socket.both_are_told().await;
        let open = format!(
            "wsgate_websockets_active{{backend=\"{}\"}}",
            socket.backend.stream.local_addr().unwrap()
        );
        // What was on its way when the Close frame came is allowed, and dropped.
        if late == "client" {
            socket.backend_answers().await;
            socket.client.send(&masked(TEXT, b"one more thing")).await;
            assert_eq!(setup.gate.metric(&open).await, 1.0);
            socket.client_answers().await;
        } else {
            socket.client_answers().await;
            socket.backend.send(unmasked(TEXT, b"one more thing")).await;
            assert_eq!(setup.gate.metric(&open).await, 1.0);
            socket.backend_answers().await;
        }
        socket.both_end().await;
        assert_drained(&setup.ends_with(1).await[0]);
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for_until_the_drain_time_is_over() {
    let mut setup = Setup::new(LONG).await;
    let mut socket = setup.socket().await;
    setup.gate.signal("TERM").await;
    socket.both_are_told().await;
    socket.backend_answers().await;
    // Not a word from the client.
    socket.both_end().await;
    assert_drained(&setup.ends_with(1).await[0]);
}

#[tokio::test]
async fn a_close_frame_that_crosses_the_gates_is_its_answer() {
    let mut setup = Setup::new(LONG).await;
    let (mut one, mut two) = (setup.socket().await, setup.socket().await);
    setup.gate.signal("TERM").await;
    // The gate has spoken, the client has not read it and closes by itself.
    one.backend_is_told().await;
    one.client.send(&masked(TEXT, b"bye")).await;
    one.client.send(&masked(CLOSE, &code(4001))).await;
    assert_eq!(one.client.frame().await, from_gate(false));
    one.backend_answers().await;
    one.both_end().await;
    // And a backend that does so.
    assert_eq!(two.client.frame().await, from_gate(false));
    two.backend.send(unmasked(TEXT, b"bye")).await;
    two.backend.send(unmasked(CLOSE, &code(4001))).await;
    two.backend_is_told().await;
    two.client_answers().await;
    two.both_end().await;
    for line in setup.ends_with(2).await {
        assert_drained(&line);
    }
}

#[tokio::test]
async fn a_peers_own_close_frame_is_the_only_one_the_other_side_gets() {
    let mut setup = Setup::new(LONG).await;
    let mut socket = setup.socket().await;
    socket.client.send(&masked(CLOSE, &code(4001))).await;
    let first = soon("a Close frame", socket.backend.frame()).await.unwrap();
    assert_eq!(first.code(), Some(4001));
    // The backend has not answered yet: the gate does.
    setup.gate.signal("TERM").await;
    assert_eq!(socket.client.frame().await, from_gate(false));
    socket.backend.send(unmasked(CLOSE, &code(4001))).await;
    socket.both_end().await;
    let line = setup.ends_with(1).await.remove(0);
    assert_eq!((&line["close.code"], &line["close.initiator"]), (&4001.into(), &"client".into()));
    assert_eq!(line["close.reason"], "drain");
}

#[tokio::test]
async fn the_side_that_still_listens_is_told_on_a_half_closed_socket() {
    let mut setup = Setup::new(LONG).await;
    let (mut one, mut two) = (setup.socket().await, setup.socket().await);
    // One client sends no more, and one backend.
    one.client.stream.shutdown().await.unwrap();
    assert_eq!(soon("the client's end", one.backend.frame()).await, None);
    one.backend.send(unmasked(TEXT, b"still here")).await;
    assert_eq!(one.client.frame().await.payload, b"still here");
    two.backend.stream.shutdown().await.unwrap();
    assert_eq!(two.client.until_the_end().await, (Vec::new(), Ending::Orderly));
    two.client.send(&masked(TEXT, b"still here")).await;
    assert_eq!(soon("a message", two.backend.frame()).await.unwrap().payload, b"still here");

    setup.gate.signal("TERM").await;
    assert_eq!(one.client.frame().await, from_gate(false));
    one.backend.stream.shutdown().await.unwrap();
    assert_eq!(one.client.until_the_end().await, (Vec::new(), Ending::Orderly));
    two.backend_is_told().await;
    two.client_answers().await;
    assert_eq!(soon("the end", two.backend.frame()).await, None);
    for line in setup.ends_with(2).await {
        assert_eq!(line["close.reason"], "drain", "{line}");
    }
}

#[tokio::test]
async fn a_reader_that_stopped_in_a_long_frame_holds_nobody_else() {
    for resumes in [true, false] {
        let time = if resumes { "600s" } else { "5s" };
        let drain = format!("drain: {{delay: 0s, timeout: {time}, spread: 0s, close_code: 1012}}");
        let mut setup = Setup::new(&drain).await;
        let mut stuck = setup.socket().await;
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(setup.socket().await);
        }
        // Beyond what all the sockets in between take.
        let size = 64 * 1024 * 1024;
        let mut sending = stuck.backend;
        let flood = tokio::spawn(async move {
            sending.send(header(BINARY, size, 0)).await;
            sending.send(vec![7; size]).await;
            sending
        });
        stuck.client.read(10).await;
        setup.gate.signal("TERM").await;
        for other in &mut others {
            other.both_are_told().await;
            other.client_answers().await;
            other.backend_answers().await;
            other.both_end().await;
        }
        let ended = || {
            let closed = setup.gate.events("ws.closed").into_iter();
            closed.filter(|line| line["close.reason"] == "drain").count()
        };
        eventually("five ends", || std::future::ready((ended() == 5).then_some(()))).await;
        if resumes {
            let mut left = size;
            while left > 0 {
                left -= stuck.client.read(left.min(1 << 20)).await.len();
            }
            let mut sending = soon("all is sent", flood).await.unwrap();
            assert_eq!(stuck.client.frame().await, from_gate(false));
            stuck.client.push(&masked(CLOSE, &code(1012))).await;
            assert_eq!(soon("a Close frame", sending.frame()).await, Some(from_gate(true)));
            sending.send(unmasked(CLOSE, &code(1012))).await;
            assert_eq!(stuck.client.until_the_end().await, (Vec::new(), Ending::Orderly));
            setup.ends_with(6).await.iter().for_each(assert_drained);
        } else {
            let closed = setup.ends_with(6).await;
            let cut = closed.iter().filter(|line| line["close.reason"] == "drain_cut");
            assert_eq!(cut.count(), 1, "{closed:?}");
            let mut sending = soon("an end of it", flood).await.unwrap();
            assert_eq!(soon("a Close frame", sending.frame()).await, Some(from_gate(true)));
        }
    }
}

#[tokio::test]
async fn sockets_that_are_too_old_end_like_those_of_a_drain() {
    let limits = "drain: {close_code: 1012}
limits: {upgrades_per_client: null, connections_per_client: null, max_age: 1s}";
    let mut setup = Setup::new(limits).await;
    let mut socket = setup.socket().await;
    socket.both_are_told().await;
    socket.client_answers().await;
    socket.backend_answers().await;
    socket.both_end().await;
    let line = setup.gate.event("ws.closed", |_| true).await;
    assert_eq!((&line["close.code"], &line["close.initiator"]), (&1012.into(), &"gate".into()));
    assert_eq!(line["close.reason"], "max_age");
}

#[tokio::test]
async fn silence_is_answered_with_close_1001() {
    let limits =
        "limits: {upgrades_per_client: null, connections_per_client: null, idle_timeout: 1s}";
    let mut setup = Setup::new(limits).await;
    let mut socket = setup.socket().await;
    assert_eq!(socket.client.frame().await.code(), Some(1001));
    let told = soon("a Close frame", socket.backend.frame()).await.unwrap();
    assert_eq!((told.code(), told.masked), (Some(1001), true));
    socket.client.send(&masked(CLOSE, &code(1001))).await;
    socket.backend.send(unmasked(CLOSE, &code(1001))).await;
    socket.both_end().await;
    let line = setup.gate.event("ws.closed", |_| true).await;
    assert_eq!(
        (&line["close.code"], &line["close.reason"]),
        (&1001.into(), &"idle_timeout".into())
    );
}

#[tokio::test]
async fn only_the_pong_to_the_gates_own_ping_stays_here() {
    let mut setup = Setup::new("heartbeat: {interval: 1s, misses: 100}").await;
    let mut socket = setup.socket().await;
    // Between the fragments of a message.
    socket.backend.send(unmasked(0x01, b"half ")).await;
    assert_eq!(socket.client.frame().await.payload, b"half ");
    let ping = socket.client.frame().await;
    assert_eq!((ping.first, ping.masked, ping.payload.len()), (PING, false, 8));
    socket.client.send(&masked(PONG, b"unasked!")).await;
    socket.client.send(&masked(PONG, &ping.payload)).await;
    socket.backend.send(unmasked(PING, b"from me!")).await;
    let asked = loop {
        let asked = socket.client.frame().await;
        if asked.payload == b"from me!" {
            break asked;
        }
        assert_eq!(asked.first, PING);
    };
    socket.client.send(&masked(PONG, &asked.payload)).await;
    for expected in [b"unasked!", b"from me!"] {
        let pong = soon("a pong", socket.backend.frame()).await.unwrap();
        assert_eq!((pong.first, &pong.payload[..]), (PONG, &expected[..]));
    }
}
