//! Each form of a header, each violation, both sides of each limit.

use super::*;

/// A direction as a relay drives it, with what came of it.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) follower: Follower,
    pub(super) held: Held,
    /// What the other side got.
    pub(super) out: Vec<u8>,
    /// With the offset in the stream each stands at.
    pub(super) events: Vec<(usize, Event)>,
    /// The ping we sent; the pong to it is withheld.
    pub(super) own: Option<Token>,
    taken: usize,
}

impl Direction {
    pub(super) fn new(follower: Follower) -> Self {
        let held = Held::default();
        Self { follower, held, out: Vec::new(), events: Vec::new(), own: None, taken: 0 }
    }

    pub(super) fn read(&mut self, chunk: &[u8]) {
        let buffer = [self.held.as_bytes(), chunk].concat();
        let taken = self.go_over(&buffer);
        self.held.keep(&buffer[taken..]);
    }

    /// What has no answer is `None` at the end of the stream.
    fn go_over(&mut self, bytes: &[u8]) -> usize {
        let start = self.taken;
        loop {
            let at = self.taken - start;
            let step = self.follower.next(&bytes[at..]);
            self.out.extend(&bytes[at..at + step.taken]);
            self.taken += step.taken;
            let Some(event) = step.event else { return self.taken - start };
            self.events.push((self.taken, event));
            if let Event::Pong(Some(token)) = event
                && Some(token) == self.own
            {
                self.taken += self.follower.withhold();
            }
        }
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.iter().map(|&(_, event)| event).collect()
    }
}

fn following(sender: Sender, bytes: &[u8]) -> Direction {
    let mut direction = Direction::new(Follower::new(sender, Extensions::None));
    direction.read(bytes);
    direction
}

fn data(first: bool, last: bool, announced: u64, message: u64) -> Event {
    Event::Data(DataFrame { first, last, announced, message })
}

fn message(kind: Kind, bytes: u64) -> Event {
    Event::Message(Message { kind, compressed: false, bytes })
}

#[test]
fn every_form_of_length_is_read() {
    let forms: [(&[u8], usize); 7] = [
        (&[0], 0),
        (&[1], 1),
        (&[125], 125),
        (&[126, 0, 126], 126),
        (&[126, 0xff, 0xff], 65535),
        (&[127, 0, 0, 0, 0, 0, 1, 0, 0], 65536),
        (&[127, 0, 0, 0, 0, 0, 1, 2, 3], 0x10203),
    ];
    for (length, payload) in forms {
        for sender in [Sender::Client, Sender::Backend] {
            let mut frame = [&[0x82], length].concat();
            if sender == Sender::Client {
                frame[1] |= 0x80;
                frame.extend([1, 2, 3, 4]);
            }
            frame.resize(frame.len() + payload, b'x');
            let twice = [&frame[..], &frame[..]].concat();
            let direction = following(sender, &twice);
            let size = payload as u64;
            let (begins, ends) = (data(true, true, size, size), message(Kind::Binary, size));
            let (one, two) = (frame.len(), twice.len());
            assert_eq!(
                direction.events,
                [(0, begins), (one, ends), (one, begins), (two, ends)],
                "{sender:?} {payload}"
            );
            assert_eq!(direction.out, twice);
            assert_eq!(direction.follower.messages(), 2);
        }
    }
}

#[test]
fn the_longest_length_is_followed_without_its_payload() {
    let header = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let direction = following(Sender::Backend, &header);
    let size = (1 << 63) - 1;
    assert_eq!(direction.events(), [data(true, true, size, size)]);
    assert_eq!(direction.follower.place(), Place::Inside { left: size });
}

#[test]
fn fragments_make_one_message_with_control_frames_between() {
    let bytes = b"\x01\x02ab\x89\x01p\x00\x00\x8a\x00\x80\x03cde\x82\x00";
    let direction = following(Sender::Backend, bytes);
    let expected = [
        (0, data(true, false, 2, 2)),
        (4, Event::Ping),
        (7, data(false, false, 0, 2)),
        (9, Event::Pong(None)),
        (11, data(false, true, 3, 5)),
        (16, message(Kind::Text, 5)),
        (16, data(true, true, 0, 0)),
        (18, message(Kind::Binary, 0)),
    ];
    assert_eq!(direction.events, expected);
    assert_eq!(direction.follower.messages(), 2);
}

#[test]
fn a_message_is_announced_before_any_of_its_frame_passes() {
    let mut follower = Follower::new(Sender::Client, Extensions::None);
    let bytes = b"\x01\x81key!a\x80\xfe\x01\x00key!bcd";
    assert_eq!(follower.next(bytes).event, Some(data(true, false, 1, 1)));
    assert_eq!(follower.place(), Place::Boundary);
    let step = follower.next(bytes);
    assert_eq!(step, Step { taken: 7, event: Some(data(false, true, 256, 257)) });
    assert_eq!(follower.place(), Place::Boundary);
    assert_eq!(follower.next(&bytes[7..]), Step { taken: 11, event: None });
    assert_eq!(follower.place(), Place::Inside { left: 253 });
}

#[test]
fn close_codes_are_unmasked() {
    let cases: [(Sender, &[u8], CloseCode); 4] = [
        (Sender::Backend, b"\x88\x00", CloseCode::NONE),
        (Sender::Client, b"\x88\x80\x01\x02\x03\x04", CloseCode::NONE),
        (Sender::Backend, b"\x88\x05\x03\xe9bye", CloseCode::GOING_AWAY),
        (Sender::Client, b"\x88\x82\x01\x02\x03\x04\x02\xeb", CloseCode::GOING_AWAY),
    ];
    for (sender, bytes, code) in cases {
        let direction = following(sender, bytes);
        assert_eq!(direction.events, [(0, Event::Close(code))]);
        assert_eq!(direction.out, bytes);
        assert_eq!(direction.follower.place(), Place::Closed);

        let mut bytewise = Direction::new(Follower::new(sender, Extensions::None));
        bytes.chunks(1).for_each(|byte| bytewise.read(byte));
        assert_eq!(bytewise.events, direction.events);
        assert_eq!(bytewise.out, bytes);
    }
}

#[test]
fn bytes_behind_a_close_are_counted_and_pass() {
    let mut direction = following(Sender::Backend, b"\x88\x00\xff\xffgarbage");
    direction.read(b"\x81\x01a");
    assert_eq!(direction.events(), [Event::Close(CloseCode::NONE)]);
    assert_eq!(direction.follower.messages(), 0);
    assert_eq!(direction.out, b"\x88\x00\xff\xffgarbage\x81\x01a");
}

#[test]
fn only_pongs_as_long_as_our_pings_show_their_payload() {
    let token = Token(*b"01234567");
    let cases: [(Sender, &[u8], Option<Token>); 5] = [
        (Sender::Backend, b"\x8a\x0801234567", Some(token)),
        (Sender::Client, b"\x8a\x88\0\x01\0\x0100224466", Some(token)),
        (Sender::Backend, b"\x8a\x070123456", None),
        (Sender::Backend, b"\x8a\x09012345678", None),
        (Sender::Client, b"\x8a\x80mask", None),
    ];
    for (sender, bytes, payload) in cases {
        let direction = following(sender, bytes);
        assert_eq!(direction.events, [(0, Event::Pong(payload))]);
        assert_eq!(direction.out, bytes);
    }
}

#[test]
fn the_pong_to_our_ping_is_left_out_however_it_is_cut() {
    let before = b"\x01\x81mask-";
    let pong = b"\x8a\x88\0\0\0\0our ping";
    let after = b"\x8a\x88\0\0\0\0not ours\x80\x80mask\x81\x80mask";
    let stream = [&before[..], pong, after].concat();
    {
        for cut in 0..stream.len() {
            for second in cut..stream.len() {
                let follower = Follower::new(Sender::Client, Extensions::None);
                let mut direction = Direction::new(follower);
                direction.own = Some(Token(*b"our ping"));
                for part in [&stream[..cut], &stream[cut..second], &stream[second..]] {
                    direction.read(part);
                }
                assert_eq!(direction.out, [&before[..], after].concat(), "{cut} {second}");
                assert_eq!(direction.follower.messages(), 2);
                assert_eq!(direction.follower.place(), Place::Boundary);
            }
        }
    }
}

#[test]
fn what_breaks_the_framing_is_named_and_stops_before_the_frame() {
    use Sender::{Backend, Client};
    use Violation::*;
    let cases: [(Sender, &[u8], Violation); 33] = [
        (Backend, b"\x83\x00", ReservedOpcode),
        (Backend, b"\x87\x00", ReservedOpcode),
        (Backend, b"\x8b\x00", ReservedOpcode),
        (Backend, b"\x8f\x00", ReservedOpcode),
        // One byte is enough to tell.
        (Backend, b"\x8f", ReservedOpcode),
        (Backend, b"\xc1\x00", ReservedBits),
        (Backend, b"\xa1\x00", ReservedBits),
        (Backend, b"\x92\x00", ReservedBits),
        (Backend, b"\xc9\x00", ReservedBits),
        (Backend, b"\x08\x00", FragmentedControl),
        (Backend, b"\x09\x00", FragmentedControl),
        (Backend, b"\x0a\x00", FragmentedControl),
        (Backend, b"\x00\x00", StrayContinuation),
        (Backend, b"\x80\x00", StrayContinuation),
        (Backend, b"\x81\x80", Masked),
        (Backend, b"\x89\x80", Masked),
        (Client, b"\x81\x00", Unmasked),
        (Client, b"\x89\x00", Unmasked),
        (Backend, b"\x88\x7e", LongControl),
        (Backend, b"\x89\x7e", LongControl),
        (Client, b"\x8a\xff", LongControl),
        (Backend, b"\x82\x7e\x00\x00", BadLength),
        (Backend, b"\x82\x7e\x00\x7d", BadLength),
        (Client, b"\x82\xfe\x00\x7dmask", BadLength),
        (Backend, b"\x82\x7f\0\0\0\0\0\0\0\x01", BadLength),
        (Backend, b"\x82\x7f\0\0\0\0\0\0\xff\xff", BadLength),
        (Backend, b"\x82\x7f\x80\0\0\0\0\0\0\0", BadLength),
        (Backend, b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", BadLength),
        (Backend, b"\x88\x01", BadClose),
        (Backend, b"\x88\x02\x03\xe7", BadClose),
        (Backend, b"\x88\x02\x03\xed", BadClose),
        (Backend, b"\x88\x03\x13\x88x", BadClose),
        (Client, b"\x88\x82\0\0\xff\xff\x03\xee", BadClose),
    ];
    for (sender, bad, violation) in cases {
        let good: &[u8] = if sender == Client { b"\x81\x81mask." } else { b"\x81\x01." };
        let mut direction = following(sender, &[good, bad].concat());
        let (size, told) = (good.len(), direction.events.clone());
        assert_eq!(told[2..], [(size, Event::Broken(violation))], "{bad:x?}");
        direction.read(good);
        assert_eq!(direction.events, told, "told once");
        assert_eq!(direction.out, [good, bad, good].concat());
        assert_eq!(direction.follower.place(), Place::Opaque);
        assert_eq!(direction.follower.messages(), 1);
    }
}

#[test]
fn a_new_message_inside_a_fragmented_one_is_broken() {
    for second in [&b"\x81\x00"[..], b"\x02\x00"] {
        let direction = following(Sender::Backend, &[b"\x01\x00", second].concat());
        assert_eq!(direction.events[1..], [(2, Event::Broken(Violation::Interleaved))]);
    }
}

#[test]
fn reserved_bits_are_as_negotiated() {
    let of = |extensions, bytes: &[u8]| {
        let mut direction = Direction::new(Follower::new(Sender::Backend, extensions));
        direction.read(bytes);
        direction.events().pop()
    };
    let compressed = |kind| Event::Message(Message { kind, compressed: true, bytes: 0 });
    let broken = Some(Event::Broken(Violation::ReservedBits));

    let deflate = Extensions::PermessageDeflate;
    assert_eq!(of(deflate, b"\xc1\x00"), Some(compressed(Kind::Text)));
    assert_eq!(of(deflate, b"\x42\x00\x80\x00"), Some(compressed(Kind::Binary)));
    assert_eq!(of(deflate, b"\x81\x00"), Some(message(Kind::Text, 0)));
    // RFC 7692 §6.1: only on the first frame of a message, never on control frames.
    assert_eq!(of(deflate, b"\x41\x00\xc0\x00"), broken);
    assert_eq!(of(deflate, b"\xc9\x00"), broken);
    assert_eq!(of(deflate, b"\xe1\x00"), broken);
    assert_eq!(of(deflate, b"\x91\x00"), broken);

    assert_eq!(of(Extensions::Unknown, b"\x71\x00\xf0\x00"), Some(compressed(Kind::Text)));
    assert_eq!(of(Extensions::Unknown, b"\xf9\x00"), Some(Event::Ping));
}
