use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::tunnel::end::Plain;
use crate::tunnel::frames::Extensions;
use crate::tunnel::inject::{ControlFrame, Token};
use crate::tunnel::pipe::SCRATCH_BYTES;
use crate::tunnel::{BrokenFraming, Heartbeat};

const LIMITS: TunnelLimits = TunnelLimits {
    idle_timeout: None,
    max_age: None,
    heartbeat: None,
    message_size: None,
    messages_per_second: None,
    broken_framing: BrokenFraming::Pass,
    drain_code: CloseCode::GOING_AWAY,
    drain_spread: Duration::ZERO,
};

fn tunnel(
    limits: TunnelLimits,
    early: (&[u8], &[u8]),
) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Closed>) {
    let (client, client_end) = duplex(1024);
    let (backend, backend_end) = duplex(1024);
    let ends = Ends {
        client: Plain::new(client_end),
        backend: Plain::new(backend_end),
        from_client: early.0.to_vec(),
        from_backend: early.1.to_vec(),
        extensions: Extensions::None,
        place: 0.0,
    };
    let running =
        tokio::spawn(async move { open(ends, &limits).run(&Drain::new(), &tally()).await });
    (client, backend, running)
}

fn tally() -> Tally {
    let counter = || prometheus::IntCounter::new("test", "test").unwrap();
    Tally {
        bytes_in: counter(),
        bytes_out: counter(),
        messages_in: counter(),
        messages_out: counter(),
    }
}

#[tokio::test]
async fn early_bytes_come_first_in_both_directions() {
    let (mut client, mut backend, running) = tunnel(LIMITS, (b"from client,", b"from backend,"));
    client.write_all(b"more").await.unwrap();
    backend.write_all(b"more").await.unwrap();
    client.shutdown().await.unwrap();
    backend.shutdown().await.unwrap();
    let (mut at_backend, mut at_client) = (Vec::new(), Vec::new());
    backend.read_to_end(&mut at_backend).await.unwrap();
    client.read_to_end(&mut at_client).await.unwrap();
    assert_eq!(at_backend, b"from client,more");
    assert_eq!(at_client, b"from backend,more");
    let closed = running.await.unwrap();
    assert_eq!((closed.bytes_in, closed.bytes_out), (16, 17));
}

#[tokio::test]
async fn half_close_keeps_the_other_direction_open() {
    let (mut client, mut backend, running) = tunnel(LIMITS, (b"", b""));
    client.shutdown().await.unwrap();
    assert_eq!(backend.read(&mut [0; 8]).await.unwrap(), 0);
    backend.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");
    backend.shutdown().await.unwrap();
    let closed = running.await.unwrap();
    assert_eq!((closed.initiator, closed.reason), (Side::Client, Reason::Eof));
}

#[tokio::test]
async fn a_reader_that_stops_stops_its_writer() {
    let (mut client, mut backend, running) = tunnel(LIMITS, (b"", b""));
    let chunk = [7u8; 4096];
    let mut accepted = 0usize;
    // Nobody reads at the backend: the writer must come to a halt within the bounds.
    while let Ok(written) = timeout(Duration::from_millis(200), client.write(&chunk)).await {
        accepted += written.unwrap();
        assert!(accepted <= SCRATCH_BYTES + 8192, "{accepted} bytes and no halt");
    }
    client.shutdown().await.ok();
    let mut all = Vec::new();
    let reading = backend.read_to_end(&mut all);
    reading.await.unwrap();
    assert_eq!(all.len(), accepted, "nothing is lost");
    drop((client, backend));
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_and_traffic_keeps_it() {
    let limits = TunnelLimits { idle_timeout: Some(Duration::from_secs(10)), ..LIMITS };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    let begun = Instant::now();
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(9)).await;
        client.write_all(b"x").await.unwrap();
        backend.read_exact(&mut [0]).await.unwrap();
    }
    let closed = running.await.unwrap();
    assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::IdleTimeout));
    let lived = begun.elapsed().as_secs();
    assert!((55..=61).contains(&lived), "and the wait for an answer: {lived} s");
}

#[tokio::test(start_paused = true)]
async fn age_ends_a_tunnel_however_busy() {
    let limits = TunnelLimits {
        idle_timeout: Some(Duration::from_secs(3600)),
        max_age: Some(Duration::from_secs(60)),
        ..LIMITS
    };
    let (_client, _backend, running) = tunnel(limits, (b"", b""));
    let closed = running.await.unwrap();
    assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::MaxAge));
}

/// A masked frame of zeros with this key, as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
    frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![first, u8::try_from(payload.len()).unwrap()];
    frame.extend_from_slice(payload);
    frame
}

/// Reads one frame without extended length and gives its first byte and its payload, unmasked.
async fn frame(stream: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut key = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut key).await.unwrap();
    }
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).await.unwrap();
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    (head[0], payload)
}

#[tokio::test]
async fn a_close_frame_names_its_code_and_who_sent_it() {
    let (mut client, mut backend, running) = tunnel(LIMITS, (b"", b""));
    client.write_all(&masked(0x81, b"hello")).await.unwrap();
    client.write_all(&masked(0x88, &4001u16.to_be_bytes())).await.unwrap();
    assert_eq!(frame(&mut backend).await, (0x81, b"hello".to_vec()));
    assert_eq!(frame(&mut backend).await, (0x88, 4001u16.to_be_bytes().to_vec()));
    backend.write_all(&unmasked(0x88, &4001u16.to_be_bytes())).await.unwrap();
    drop(backend);
    assert_eq!(frame(&mut client).await.0, 0x88);
    drop(client);
    let closed = running.await.unwrap();
    assert_eq!((closed.code.get(), closed.initiator), (4001, Side::Client));
    assert_eq!((closed.messages_in, closed.messages_out), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_its_pong_stays_here() {
    let limits = TunnelLimits {
        heartbeat: Some(Heartbeat { interval: Duration::from_secs(30), misses: 2 }),
        ..LIMITS
    };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    let (first, token) = frame(&mut client).await;
    assert_eq!((first, token.len()), (0x89, Token::LEN));
    client.write_all(&masked(0x8a, &token)).await.unwrap();
    client.write_all(&masked(0x8a, b"another!")).await.unwrap();
    client.write_all(&masked(0x81, b"x")).await.unwrap();
    assert_eq!(frame(&mut backend).await, (0x8a, b"another!".to_vec()), "every other pong passes");
    assert_eq!(frame(&mut backend).await, (0x81, b"x".to_vec()));
    // Two pings stay unanswered, then the end: within three intervals.
    let heard = Instant::now();
    assert_eq!(frame(&mut client).await.0, 0x89);
    assert_eq!(frame(&mut client).await.0, 0x89);
    let going_away = 1001u16.to_be_bytes().to_vec();
    assert_eq!(frame(&mut backend).await, (0x88, going_away.clone()));
    assert!(heard.elapsed() <= Duration::from_secs(90), "{:?}", heard.elapsed());
    assert_eq!(frame(&mut client).await, (0x88, going_away));
    let closed = running.await.unwrap();
    assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::Heartbeat));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_at_its_header() {
    let limits = TunnelLimits { message_size: Some(10), ..LIMITS };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    client.write_all(&masked(0x81, b"0123456789")).await.unwrap();
    client.write_all(&masked(0x01, b"01234")).await.unwrap();
    client.write_all(&masked(0x80, b"012345")).await.unwrap();
    assert_eq!(frame(&mut backend).await, (0x81, b"0123456789".to_vec()), "at the limit");
    assert_eq!(frame(&mut backend).await, (0x01, b"01234".to_vec()));
    let going_away = 1001u16.to_be_bytes().to_vec();
    assert_eq!(frame(&mut backend).await, (0x88, going_away), "and not the rest");
    assert_eq!(frame(&mut client).await, (0x88, 1009u16.to_be_bytes().to_vec()));
    client.write_all(&masked(0x88, &1009u16.to_be_bytes())).await.unwrap();
    backend.write_all(&unmasked(0x88, &1001u16.to_be_bytes())).await.unwrap();
    let closed = running.await.unwrap();
    assert_eq!(closed.reason, Reason::Guard(Guard::MessageSize));
    assert_eq!((closed.code.get(), closed.initiator), (1009, Side::Gate));
    assert_eq!(closed.messages_in, 1, "what did not pass is not counted");
}

#[tokio::test]
async fn a_guard_does_not_take_over_a_close_of_the_peers() {
    let limits = TunnelLimits { message_size: Some(10), ..LIMITS };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    backend.write_all(&unmasked(0x88, &4001u16.to_be_bytes())).await.unwrap();
    assert_eq!(frame(&mut client).await, (0x88, 4001u16.to_be_bytes().to_vec()));
    client.write_all(&masked(0x81, b"0123456789+")).await.unwrap();
    assert_eq!(frame(&mut backend).await, (0x88, 1001u16.to_be_bytes().to_vec()));
    client.write_all(&masked(0x88, &4001u16.to_be_bytes())).await.unwrap();
    let closed = running.await.unwrap();
    assert_eq!(closed.reason, Reason::Guard(Guard::MessageSize));
    assert_eq!((closed.code.get(), closed.initiator), (4001, Side::Backend));
    let mut more = Vec::new();
    client.read_to_end(&mut more).await.unwrap();
    assert!(more.is_empty(), "one Close frame is enough");
}

#[tokio::test(start_paused = true)]
async fn messages_beyond_the_rate_end_the_socket() {
    let limits = TunnelLimits { messages_per_second: std::num::NonZeroU32::new(3), ..LIMITS };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    for _ in 0..4 {
        client.write_all(&masked(0x81, b"x")).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(frame(&mut backend).await.0, 0x81);
    }
    assert_eq!(frame(&mut backend).await.0, 0x88);
    assert_eq!(frame(&mut client).await, (0x88, 1008u16.to_be_bytes().to_vec()));
    drop((client, backend));
    assert_eq!(running.await.unwrap().reason, Reason::Guard(Guard::MessageRate));
}

#[tokio::test]
async fn broken_framing_passes_and_is_told_unless_it_is_to_be_closed() {
    let (mut client, mut backend, running) = tunnel(LIMITS, (b"", b""));
    client.write_all(b"SSH-2.0").await.unwrap();
    let mut got = [0; 7];
    backend.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"SSH-2.0");
    drop((client, backend));
    let closed = running.await.unwrap();
    assert_eq!((closed.broken, closed.code.get()), (Some(Side::Client), 1006));

    let strict = TunnelLimits { broken_framing: BrokenFraming::Close, ..LIMITS };
    let (mut client, mut backend, running) = tunnel(strict, (b"", b""));
    client.write_all(b"SSH-2.0").await.unwrap();
    assert_eq!(frame(&mut client).await, (0x88, 1002u16.to_be_bytes().to_vec()));
    assert_eq!(frame(&mut backend).await, (0x88, 1001u16.to_be_bytes().to_vec()));
    drop((client, backend));
    assert_eq!(running.await.unwrap().reason, Reason::Guard(Guard::Framing));
}

/// A tunnel that can be drained.
fn drained(
    drain: &std::sync::Arc<Drain>,
) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Closed>) {
    let (client, client_end) = duplex(1024);
    let (backend, backend_end) = duplex(1024);
    let ends = Ends {
        client: Plain::new(client_end),
        backend: Plain::new(backend_end),
        from_client: Vec::new(),
        from_backend: Vec::new(),
        extensions: Extensions::None,
        place: 0.5,
    };
    let drain = std::sync::Arc::clone(drain);
    let limits = TunnelLimits { drain_spread: Duration::from_secs(10), ..LIMITS };
    let running = tokio::spawn(async move { open(ends, &limits).run(&drain, &tally()).await });
    (client, backend, running)
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_each_socket_in_its_turn_at_a_frame_boundary() {
    let drain = Drain::new();
    let (mut client, mut backend, running) = drained(&drain);
    // The backend is in the middle of a frame of 100 bytes when the turn comes.
    backend.write_all(&[0x82, 100]).await.unwrap();
    backend.write_all(&[7; 40]).await.unwrap();
    client.read_exact(&mut [0; 42]).await.unwrap();
    let begun = Instant::now();
    drain.advance(Phase::Draining);
    let code = 1001u16.to_be_bytes().to_vec();
    assert_eq!(frame(&mut backend).await, (0x88, code.clone()), "masked, in its turn");
    assert_eq!(begun.elapsed().as_secs(), 5, "half of the spread");
    backend.write_all(&[7; 60]).await.unwrap();
    backend.write_all(&unmasked(0x81, b"too late")).await.unwrap();
    client.read_exact(&mut [0; 60]).await.unwrap();
    assert_eq!(frame(&mut client).await, (0x88, code.clone()), "behind the whole frame");
    client.write_all(&masked(0x88, &code)).await.unwrap();
    backend.write_all(&unmasked(0x88, &code)).await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    let closed = running.await.unwrap();
    assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::Drain));
    assert_eq!(closed.code.get(), 1001);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_not_waited_for_long() {
    let drain = Drain::new();
    let (mut client, _backend, running) = drained(&drain);
    drain.advance(Phase::Draining);
    assert_eq!(frame(&mut client).await.0, 0x88);
    let closed = running.await.unwrap();
    assert_eq!((closed.initiator, closed.reason), (Side::Gate, Reason::Drain));
}

#[tokio::test(start_paused = true)]
async fn a_peer_in_the_middle_of_a_frame_has_until_the_drain_time_is_over() {
    for in_time in [true, false] {
        let drain = Drain::new();
        let (mut client, mut backend, running) = drained(&drain);
        backend.write_all(&[0x82, 100]).await.unwrap();
        backend.write_all(&[7; 40]).await.unwrap();
        client.read_exact(&mut [0; 42]).await.unwrap();
        drain.advance(Phase::Draining);
        let code = 1001u16.to_be_bytes().to_vec();
        assert_eq!(frame(&mut backend).await, (0x88, code.clone()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        if in_time {
            backend.write_all(&[7; 60]).await.unwrap();
            client.read_exact(&mut [0; 60]).await.unwrap();
            assert_eq!(frame(&mut client).await, (0x88, code.clone()));
            client.write_all(&masked(0x88, &code)).await.unwrap();
            backend.write_all(&unmasked(0x88, &code)).await.unwrap();
            assert_eq!(running.await.unwrap().reason, Reason::Drain);
        } else {
            drain.advance(Phase::Cutting);
            assert_eq!(running.await.unwrap().reason, Reason::DrainCut);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_backend_was_given_arrives_behind_the_cut() {
    let drain = Drain::new();
    let (mut client, mut backend, running) = drained(&drain);
    let mut message = masked(0x82, &[7; 94]);
    client.write_all(&message).await.unwrap();
    let mut got = vec![0; 100 + 1024];
    backend.read_exact(&mut got[..1]).await.unwrap();
    // Read at once, and more than the backend's end takes while nobody reads there.
    message.extend([0x82, 0xfe, 0x03, 0xf8, 0, 0, 0, 0]);
    message.resize(got.len(), 7);
    client.write_all(&message[100..]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drain.advance(Phase::Cutting);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    backend.read_exact(&mut got[1..]).await.unwrap();
    assert!(got == message);
    assert_eq!(running.await.unwrap().reason, Reason::DrainCut);
}

#[tokio::test(start_paused = true)]
async fn a_frame_without_an_end_does_not_outlive_the_age_for_long() {
    let limits = TunnelLimits { max_age: Some(Duration::from_secs(60)), ..LIMITS };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    let begun = Instant::now();
    backend.write_all(&[0x82, 100, 7]).await.unwrap();
    client.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(frame(&mut backend).await.0, 0x88);
    assert_eq!(running.await.unwrap().reason, Reason::MaxAge);
    let lived = begun.elapsed().as_secs();
    assert!((60..=91).contains(&lived), "{lived} s");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answered_no_ping_is_not_waited_for_again() {
    let limits = TunnelLimits {
        heartbeat: Some(Heartbeat { interval: Duration::from_secs(30), misses: 2 }),
        ..LIMITS
    };
    let begun = Instant::now();
    let (_client, mut backend, running) = tunnel(limits, (b"", b""));
    let going_away = 1001u16.to_be_bytes();
    assert_eq!(frame(&mut backend).await, (0x88, going_away.to_vec()));
    backend.write_all(&unmasked(0x88, &going_away)).await.unwrap();
    assert_eq!(running.await.unwrap().reason, Reason::Heartbeat);
    assert!(begun.elapsed() <= Duration::from_secs(90), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_given_up_for_pings_that_could_not_be_sent() {
    let limits = TunnelLimits {
        heartbeat: Some(Heartbeat { interval: Duration::from_secs(30), misses: 2 }),
        ..LIMITS
    };
    let (mut client, mut backend, running) = tunnel(limits, (b"", b""));
    backend.write_all(b"SSH-2.0").await.unwrap();
    client.read_exact(&mut [0; 7]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    backend.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");
    drop((client, backend));
    assert_eq!(running.await.unwrap().broken, Some(Side::Backend));
}

#[tokio::test(start_paused = true)]
async fn who_still_sends_has_not_read_its_close_frame_and_is_waited_for() {
    let drain = Drain::new();
    let (mut client, mut backend, running) = drained(&drain);
    drain.advance(Phase::Draining);
    let code = 1001u16.to_be_bytes().to_vec();
    assert_eq!(frame(&mut backend).await, (0x88, code.clone()));
    backend.write_all(&unmasked(0x88, &code)).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        client.write_all(&masked(0x81, b"busy")).await.unwrap();
    }
    assert_eq!(frame(&mut client).await, (0x88, code.clone()));
    client.write_all(&masked(0x88, &code)).await.unwrap();
    assert_eq!(running.await.unwrap().reason, Reason::Drain);
}

#[tokio::test(start_paused = true)]
async fn who_sends_for_ever_does_not_outlive_the_age_for_long() {
    let limits = TunnelLimits { max_age: Some(Duration::from_secs(60)), ..LIMITS };
    let (mut client, _backend, running) = tunnel(limits, (b"", b""));
    let begun = Instant::now();
    while client.write_all(&masked(0x81, b"busy")).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(running.await.unwrap().reason, Reason::MaxAge);
    let lived = begun.elapsed().as_secs();
    assert!((60..=93).contains(&lived), "{lived} s");
}

#[tokio::test(start_paused = true)]
async fn cutting_waits_for_nobody() {
    let drain = Drain::new();
    let (_client, _backend, running) = drained(&drain);
    drain.advance(Phase::Cutting);
    assert_eq!(running.await.unwrap().reason, Reason::DrainCut);
}

#[test]
fn our_control_frames_are_what_these_tests_read() {
    let close = ControlFrame::close(CloseCode::GOING_AWAY, "", None);
    assert_eq!(close.as_bytes(), unmasked(0x88, &1001u16.to_be_bytes()));
}
