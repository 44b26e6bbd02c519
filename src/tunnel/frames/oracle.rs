//! The follower against tungstenite: the same streams, valid, damaged and random, cut anywhere.

use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio_tungstenite::tungstenite;
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::tests::Direction;
use super::*;

/// What both tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Message(Kind, u64),
    Ping,
    Pong(Option<Token>),
    Close(u16),
}

/// How tungstenite came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stream,
    Closed,
    Violation,
    /// Of a text or a close reason.
    NotUtf8,
    TooLong,
}

/// A frame to be written.
#[derive(Clone, Debug)]
struct Written {
    opcode: OpCode,
    last: bool,
    payload: Vec<u8>,
    key: [u8; 4],
}

proptest! {
    #[test]
    fn valid_streams_are_told_as_tungstenite_tells_them(
        sender in sender(),
        written in stream(prop_oneof![6 => 0..300usize, 2 => 65_530..65_540usize]),
        behind in vec(any::<u8>(), 0..20),
        cuts in cuts(),
    ) {
        let mut bytes = encode(&written, sender);
        let closes = written.iter().any(|one| one.opcode == OpCode::Control(Control::Close));
        if closes {
            bytes.extend(&behind);
        }
        let (theirs, end) = oracle(&bytes, sender);
        prop_assert_eq!(end, if closes { End::Closed } else { End::Stream });

        let direction = follow(&bytes, &cuts, sender, Extensions::None);
        prop_assert_eq!(seen(&direction), theirs);
        prop_assert_eq!(&direction.out, &bytes);
        let place = if closes { Place::Closed } else { Place::Boundary };
        prop_assert_eq!(direction.follower.place(), place);
    }

    #[test]
    fn boundaries_are_where_frames_begin(
        sender in sender(), written in stream(0..300usize), cuts in cuts(),
    ) {
        let mut starts = vec![0];
        for one in &written {
            starts.push(starts[starts.len() - 1] + encode(std::slice::from_ref(one), sender).len());
        }
        let bytes = encode(&written, sender);
        let mut direction = Direction::new(Follower::new(sender, Extensions::None));
        let mut at = 0;
        for chunk in chunks(&bytes, &cuts) {
            direction.read(chunk);
            at += chunk.len();
            let sent = direction.out.len();
            prop_assert_eq!(sent + direction.held.as_bytes().len(), at);
            let next = *starts.iter().find(|&&start| start >= sent).unwrap();
            let left = (next - sent) as u64;
            let inside = Place::Inside { left };
            match direction.follower.place() {
                Place::Closed => prop_assert_eq!(sent, bytes.len()),
                place => prop_assert_eq!(place, if left == 0 { Place::Boundary } else { inside }),
            }
        }
        for (offset, event) in direction.events {
            prop_assert!(starts.contains(&offset), "{event:?} at {offset}");
        }
    }

    /// Both refuse the same streams at the same place, but for what is listed in [`agree`].
    #[test]
    fn damaged_streams_break_where_tungstenite_breaks(
        sender in sender(),
        written in stream(0..300usize),
        damage in vec((any::<prop::sample::Index>(), damage()), 1..4),
        near_headers: bool,
        cuts in cuts(),
    ) {
        let mut bytes = encode(&written, sender);
        let mut starts = vec![0];
        for one in &written {
            starts.push(starts[starts.len() - 1] + encode(std::slice::from_ref(one), sender).len());
        }
        for (index, (offset, flip)) in damage {
            let at = if near_headers { starts[index.index(starts.len())] + offset } else { index.index(bytes.len().max(1)) };
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        // Whatever was announced is there in full: tungstenite judges whole frames.
        bytes.resize(bytes.len() + FRAME_MAX + 64, 0);
        let direction = follow(&bytes, &cuts, sender, Extensions::None);
        agree(&direction, oracle(&bytes, sender))?;
    }

    #[test]
    fn random_bytes_never_panic_and_always_add_up(
        sender in sender(),
        bytes in vec(prop_oneof![any::<u8>(), select(&b"\0\x01\x02\x03\x08\x7e\x7f\x80\x81\x82\x88\x89\x8a\xfe\xff"[..])], 0..200),
        extensions in select(vec![Extensions::None, Extensions::PermessageDeflate, Extensions::Unknown]),
        cuts in cuts(),
    ) {
        let direction = follow(&bytes, &cuts, sender, extensions);
        prop_assert_eq!([&direction.out, direction.held.as_bytes()].concat(), &bytes[..]);

        let at_once = follow(&bytes, &[bytes.len()], sender, extensions);
        prop_assert_eq!(&direction.events, &at_once.events);
        prop_assert_eq!(direction.follower.place(), at_once.follower.place());
        let broken = direction.events().iter().filter(|event| matches!(event, Event::Broken(_))).count();
        prop_assert_eq!(broken, usize::from(direction.follower.place() == Place::Opaque));
    }
}

/// The verdicts are equal but for these, where we differ on purpose:
/// - We refuse lengths that are not minimal, for control frames before reading them (as too long);
///   tungstenite reads them.
/// - We refuse a Close with a bad code; tungstenite tells it as 1002, and 1014 (registered with IANA
///   for gateways) as well.
/// - Payloads are not ours to look at: tungstenite refuses text and reasons that are not UTF-8.
/// - Frames above [`FRAME_MAX`] end tungstenite's reading; we tell their size.
fn agree(direction: &Direction, (theirs, end): (Vec<Seen>, End)) -> Result<(), TestCaseError> {
    let mut ours = seen(direction);
    if let Some(Seen::Close(code @ 1014)) = ours.last_mut() {
        *code = 1002;
    }
    let broken = direction.events().iter().find_map(|event| match event {
        Event::Broken(violation) => Some(*violation),
        _ => None,
    });
    match (broken, end) {
        (_, End::NotUtf8) => prop_assert!(ours.starts_with(&theirs)),
        (_, End::TooLong) => {
            prop_assert!(ours.starts_with(&theirs));
            let told = direction.events().iter().any(|event| match event {
                Event::Data(frame) => frame.announced > FRAME_MAX as u64,
                _ => false,
            });
            prop_assert!(told || broken.is_some());
        }
        (Some(Violation::BadLength | Violation::LongControl), _) => {
            prop_assert!(theirs.starts_with(&ours))
        }
        (Some(Violation::BadClose), End::Closed) => {
            let (last, before) = theirs.split_last().expect("at least the Close");
            prop_assert_eq!((*last, before), (Seen::Close(1002), &ours[..]));
        }
        (Some(_), _) => prop_assert_eq!((end, theirs), (End::Violation, ours)),
        (None, _) => {
            prop_assert_ne!(end, End::Violation);
            prop_assert_eq!(theirs, ours);
        }
    }
    Ok(())
}

fn sender() -> impl Strategy<Value = Sender> {
    select(vec![Sender::Client, Sender::Backend])
}

/// Sizes of reads, repeated as long as there are bytes.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..4usize, 1..40usize, 1..70_000usize], 1..8)
}

/// Where in a header, and which bits.
fn damage() -> impl Strategy<Value = (usize, u8)> {
    (0..5usize, prop_oneof![(0..8u32).prop_map(|bit| 1 << bit), any::<u8>()])
}

/// Whole messages, some in fragments with control frames between, at the end maybe a Close.
fn stream(size: impl Strategy<Value = usize> + Clone) -> impl Strategy<Value = Vec<Written>> {
    let fragment = (size, any::<[u8; 4]>(), vec(control(), 0..2));
    let message = (any::<bool>(), vec(fragment, 1..4), vec(control(), 0..2));
    let messages = vec(message, 0..5).prop_map(|messages| {
        let mut written = Vec::new();
        for (text, fragments, behind) in messages {
            let count = fragments.len();
            for (i, (size, key, between)) in fragments.into_iter().enumerate() {
                let kind = if text { Data::Text } else { Data::Binary };
                let opcode = OpCode::Data(if i == 0 { kind } else { Data::Continue });
                let last = i + 1 == count;
                written.push(Written { opcode, last, payload: vec![b'a'; size], key });
                written.extend(if last { Vec::new() } else { between });
            }
            written.extend(behind);
        }
        written
    });
    (messages, prop::option::of(close())).prop_map(|(mut written, close)| {
        written.extend(close);
        written
    })
}

fn control() -> impl Strategy<Value = Written> {
    let size = prop_oneof![0..=125usize, Just(Token::LEN)];
    let payload = size.prop_flat_map(|size| vec(any::<u8>(), size));
    (select(vec![Control::Ping, Control::Pong]), payload, any::<[u8; 4]>()).prop_map(
        |(which, payload, key)| Written {
            opcode: OpCode::Control(which),
            last: true,
            payload,
            key,
        },
    )
}

fn close() -> impl Strategy<Value = Written> {
    let codes = prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16];
    let payload = (prop::option::of(codes), "[a-z]{0,123}").prop_map(|(code, reason)| match code {
        Some(code) => [&code.to_be_bytes()[..], reason.as_bytes()].concat(),
        None => Vec::new(),
    });
    (payload, any::<[u8; 4]>()).prop_map(|(payload, key)| {
        let opcode = OpCode::Control(Control::Close);
        Written { opcode, last: true, payload, key }
    })
}

fn encode(written: &[Written], sender: Sender) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in written.iter().cloned() {
        let mask = (sender == Sender::Client).then_some(one.key);
        let (is_final, opcode) = (one.last, one.opcode);
        let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
        Frame::from_payload(header, one.payload.into()).format(&mut bytes).unwrap();
    }
    bytes
}

fn chunks<'a>(bytes: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = bytes;
    cuts.iter().cycle().map_while(move |&cut| {
        let chunk = rest.split_off(..cut.min(rest.len()))?;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn follow(bytes: &[u8], cuts: &[usize], sender: Sender, extensions: Extensions) -> Direction {
    let mut direction = Direction::new(Follower::new(sender, extensions));
    for chunk in chunks(bytes, cuts) {
        direction.read(chunk);
    }
    direction
}

fn seen(direction: &Direction) -> Vec<Seen> {
    let told = |event| match event {
        Event::Message(message) => Some(Seen::Message(message.kind, message.bytes)),
        Event::Ping => Some(Seen::Ping),
        Event::Pong(token) => Some(Seen::Pong(token)),
        Event::Close(code) => Some(Seen::Close(code.get())),
        Event::Data(_) | Event::Broken(_) => None,
    };
    direction.events().into_iter().filter_map(told).collect()
}

/// What tungstenite reads from the whole stream, up to the first Close.
fn oracle(bytes: &[u8], sender: Sender) -> (Vec<Seen>, End) {
    struct Peer<'a>(&'a [u8]);
    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let role = if sender == Sender::Client { Role::Server } else { Role::Client };
    let config = WebSocketConfig::default().max_frame_size(Some(FRAME_MAX)).max_message_size(None);
    let (mut context, mut peer) = (WebSocketContext::new(role, Some(config)), Peer(bytes));
    let mut told = Vec::new();
    loop {
        let end = match context.read(&mut peer) {
            Ok(tungstenite::Message::Close(frame)) => {
                told.push(Seen::Close(frame.map_or(1005, |frame| frame.code.into())));
                End::Closed
            }
            Ok(message) => {
                told.push(match message {
                    tungstenite::Message::Text(text) => {
                        Seen::Message(Kind::Text, text.len() as u64)
                    }
                    tungstenite::Message::Binary(data) => {
                        Seen::Message(Kind::Binary, data.len() as u64)
                    }
                    tungstenite::Message::Ping(_) => Seen::Ping,
                    tungstenite::Message::Pong(payload) => {
                        Seen::Pong(payload[..].try_into().ok().map(Token))
                    }
                    other => panic!("not read: {other:?}"),
                });
                continue;
            }
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => End::Stream,
            Err(Error::Protocol(_)) => End::Violation,
            Err(Error::Capacity(_)) => End::TooLong,
            Err(Error::Utf8(_)) => End::NotUtf8,
            Err(error) => panic!("not expected: {error}"),
        };
        return (told, end);
    }
}

/// More than any frame written here has.
const FRAME_MAX: usize = 70_000;
