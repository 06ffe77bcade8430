//! Streams made from seeds: whatever is sent comes out, however it is cut, between any noise.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads files and stops at the first surprise"
)]

use bytes::Bytes;
use dim::wire::websocket::unmask;
use dim::wire::{
    Ack, DeframeLimits, Deframer, Event, Framing, PushKey, WireError, encode_ack, mars, mtp,
    push_head, push_key,
};

const SEEDS: u64 = 150;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn bytes(&mut self, len: usize, alphabet: &[u8]) -> Vec<u8> {
        (0..len).map(|_| self.of(alphabet)).collect()
    }

    /// Bytes in which no header begins, though some look like it.
    fn noise(&mut self) -> Vec<u8> {
        let len = if self.one_in(2) { 0 } else { self.below(60) };
        self.bytes(len, b"DIDIdim\x01\x14\xc8\xff{}\r\n")
    }

    /// A payload that is no control word.
    fn payload(&mut self) -> Vec<u8> {
        let len = match self.below(10) {
            0 => self.below(5000),
            1 => 65_535 + self.below(3),
            _ => self.below(300),
        };
        [b"{".as_slice(), &self.bytes(len, b"DIMB\x00\x14\xc8 abc\n")].concat()
    }

    fn id(&mut self) -> [u8; 8] {
        (self.next() | 1).to_be_bytes()
    }
}

/// Every event of a stream, and how it ended.
fn events(pieces: &[&[u8]]) -> (Vec<Event>, Result<(), WireError>) {
    let mut deframer = Deframer::new(DeframeLimits::default());
    let mut events = Vec::new();
    for piece in pieces {
        deframer.feed(Bytes::copy_from_slice(piece));
        loop {
            match deframer.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, Ok(()))
}

fn random_cuts<'a>(random: &mut Random, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let longest = random.of(&[2, 30, 1500, 40_000]);
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(stream.len().min(1 + random.below(longest)));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// The stream, cut in several ways, says `want` and nothing else.
fn assert_says(random: &mut Random, stream: &[u8], want: &[Event], seed: u64) {
    for _ in 0..3 {
        let (got, end) = events(&random_cuts(random, stream));
        assert_eq!(end, Ok(()), "seed {seed}");
        assert!(got == want, "seed {seed}: {} events for {}", got.len(), want.len());
    }
}

fn message(ack: Ack, body: &[u8]) -> Event {
    Event::Message { ack, body: Bytes::copy_from_slice(body) }
}

fn reply(parts: &[&[u8]]) -> Event {
    Event::Reply(parts.concat().into())
}

fn mtp_package(kind: mtp::Kind, id: [u8; 8], pages: u32, index: u32, body: &[u8]) -> Vec<u8> {
    [&mtp::encode_head(kind, id, pages, index, body.len() as u32), body].concat()
}

#[test]
fn mtp_packages_come_out_of_noise() {
    use mtp::Kind::*;
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (mut stream, mut want) = (Vec::new(), Vec::new());
        for _ in 0..1 + random.below(12) {
            stream.extend(random.noise());
            let (id, body) = (random.id(), random.payload());
            let ack = |command| Ack::Mtp { command, id, pages: 1, index: 0 };
            let package = match random.below(6) {
                0 => {
                    want.push(message(ack(false), &body));
                    mtp_package(Message, id, 1, 0, &body)
                }
                1 => {
                    want.push(message(ack(true), &body));
                    mtp_package(Command, id, 1, 0, &body)
                }
                2 => {
                    want.push(reply(&[&mtp_package(CommandResponse, id, 1, 0, b"PONG")]));
                    mtp_package(Command, id, 1, 0, b"PING")
                }
                3 => {
                    want.push(Event::Acknowledged(PushKey::Mtp(id)));
                    mtp_package(random.of(&[MessageResponse, CommandResponse]), id, 1, 0, b"OK")
                }
                4 => {
                    let key = PushKey::Mtp(id);
                    want.extend([Event::Acknowledged(key), message(Ack::None, &body)]);
                    mtp_package(MessageResponse, id, 1, 0, &body)
                }
                _ => mtp_fragments(&mut random, id, &[&*body, b"}"].concat(), &mut want),
            };
            stream.extend(package);
        }
        assert_says(&mut random, &stream, &want, seed);
    }
}

/// `body` in shuffled pages, some of them twice.
fn mtp_fragments(random: &mut Random, id: [u8; 8], body: &[u8], want: &mut Vec<Event>) -> Vec<u8> {
    let pages: Vec<&[u8]> = body.chunks(body.len().div_ceil(2 + random.below(5))).collect();
    let count = pages.len() as u32;
    let mut order: Vec<usize> = (0..pages.len()).chain([random.below(pages.len())]).collect();
    for at in 0..order.len() {
        let other = random.below(order.len());
        order.swap(at, other);
    }
    let (mut stream, mut sent) = (Vec::new(), vec![false; pages.len()]);
    for at in order {
        let joined_before = sent.iter().all(|sent| *sent);
        sent[at] = true;
        let index = at as u32;
        stream.extend(random.noise());
        stream.extend(mtp_package(mtp::Kind::Fragment, id, count, index, pages[at]));
        let ack = Ack::Mtp { command: false, id, pages: count, index };
        want.push(match !joined_before && sent.iter().all(|sent| *sent) {
            true => message(ack, body),
            false => reply(&[&encode_ack(&ack).unwrap()]),
        });
    }
    stream
}

#[test]
fn mars_packages_come_out_of_noise() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (mut stream, mut want) = (Vec::new(), Vec::new());
        for _ in 0..1 + random.below(12) {
            stream.extend(random.noise());
            let (sn, body) = (random.next() as u32 | 1, random.payload());
            let len = body.len() as u32;
            let acknowledged = Event::Acknowledged(PushKey::Mars(sn));
            match random.below(4) {
                0 => {
                    let cmd = random.of(&[mars::SEND_MSG, mars::NOOP]);
                    let ack = match cmd {
                        mars::SEND_MSG => Ack::Mars { cmd, seq: sn },
                        _ => Ack::None,
                    };
                    want.extend([acknowledged, message(ack, &body)]);
                    stream.extend([&mars::encode_head(cmd, sn, len), &*body].concat());
                }
                1 => {
                    want.extend([acknowledged, message(Ack::None, &body)]);
                    stream.extend([&mars::encode_push_head(sn, len), &*body].concat());
                }
                2 => {
                    let mut heartbeat = mars::encode_head(mars::NOOP, sn, 0).to_vec();
                    let options = 4 * random.below(4);
                    heartbeat[3] += options as u8;
                    heartbeat.extend(random.bytes(options, b"\0DIM\x14"));
                    want.push(reply(&[&heartbeat]));
                    stream.extend(heartbeat);
                }
                _ => {
                    want.push(reply(&[&mars::encode_head(mars::SEND_MSG, sn, 4), b"PONG"]));
                    stream
                        .extend([&mars::encode_head(mars::SEND_MSG, sn, 4), &b"PING"[..]].concat());
                }
            }
        }
        assert_says(&mut random, &stream, &want, seed);
    }
}

fn websocket_frame(random: &mut Random, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let masked = !random.one_in(8);
    let mask_bit = u8::from(masked) << 7;
    let mut frame = vec![u8::from(fin) << 7 | opcode];
    let form = random.below(if opcode < 8 { 4 } else { 1 });
    match (payload.len(), form) {
        (len @ 0..126, 0 | 1) => frame.push(mask_bit | len as u8),
        (len @ 0..65_536, 0..3) => {
            frame.push(mask_bit | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        (len, _) => {
            frame.push(mask_bit | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mut payload = payload.to_vec();
    if masked {
        let mask = (random.next() as u32).to_be_bytes();
        frame.extend(mask);
        unmask(&mut payload, mask);
    }
    frame.extend(payload);
    frame
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: x\r\n\r\n";

#[test]
fn websocket_messages_come_out_of_their_frames() {
    let (opened, _) = events(&[REQUEST]);
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (mut stream, mut want) = (REQUEST.to_vec(), opened.clone());
        for _ in 0..1 + random.below(12) {
            let (body, said) = match random.below(5) {
                0 => (b"PING".to_vec(), reply(&[b"\x81\x04PONG"])),
                1 => (random.of(&["", "OK", "NOOP", "PONG"]).into(), Event::Heartbeat),
                2 => {
                    let key = PushKey::Text(Bytes::from_static(b"s=="));
                    let ack = br#"ACK:{"time":1.5,"signature":"s=="}"#;
                    (ack.to_vec(), Event::Acknowledged(key))
                }
                _ => {
                    // A text has to be UTF-8; a binary message, below, need not.
                    let mut body = random.payload();
                    body.iter_mut().for_each(|byte| *byte &= 0x7f);
                    (body.clone(), message(Ack::None, &body))
                }
            };
            let parts = 1 + random.below(4);
            let part_len = body.len().div_ceil(parts).max(1);
            let mut opcode = random.of(&[1, 2]);
            let mut rest = body.as_slice();
            loop {
                let (part, after) = rest.split_at(rest.len().min(part_len));
                rest = after;
                stream.extend(websocket_frame(&mut random, rest.is_empty(), opcode, part));
                opcode = 0;
                if rest.is_empty() {
                    break;
                }
                if random.one_in(3) {
                    stream.extend(websocket_frame(&mut random, true, 9, b"still there?"));
                    want.push(reply(&[b"\x8a\x0cstill there?"]));
                }
            }
            want.push(said);
        }
        assert_says(&mut random, &stream, &want, seed);
    }
}

#[test]
fn a_damaged_stream_says_the_same_however_it_is_cut() {
    for seed in 0..4 * SEEDS {
        let mut random = Random(seed);
        let mut stream = if random.one_in(3) { REQUEST.to_vec() } else { random.noise() };
        for _ in 0..random.below(8) {
            let body = random.payload();
            let package = match random.below(3) {
                0 => mtp_package(mtp::Kind::Message, random.id(), 1, 0, &body),
                1 => [&mars::encode_head(mars::SEND_MSG, 7, body.len() as u32), &*body].concat(),
                _ => websocket_frame(&mut random, true, 1, &body),
            };
            stream.extend(package);
        }
        for _ in 0..random.below(6) {
            let at = random.below(stream.len().max(1));
            if let Some(byte) = stream.get_mut(at) {
                *byte = random.of(&[0, 0x44, 0x7f, 0x80, 0xff, 0x14]);
            }
        }
        stream.truncate(stream.len() - random.below(stream.len() / 4 + 1));
        let want = events(&[&stream]);
        for _ in 0..3 {
            let got = events(&random_cuts(&mut random, &stream));
            assert!(got == want, "seed {seed}: {:?}, {:?}", got.1, want.1);
        }
    }
}

#[test]
fn a_client_reads_a_push_under_the_key_that_it_will_acknowledge() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (sn, body) = (random.next() | 1, random.payload());
        for framing in [Framing::Mtp, Framing::Mars] {
            let push = [&push_head(framing, sn, body.len() as u32), &*body].concat();
            let (seen, end) = events(&[&push]);
            assert_eq!(end, Ok(()));
            let key = match seen.as_slice() {
                [Event::Message { ack: Ack::Mtp { id, .. }, body: read }] => {
                    assert_eq!(read, &body);
                    PushKey::Mtp(*id)
                }
                [Event::Acknowledged(key), Event::Message { ack: Ack::None, body: read }] => {
                    assert_eq!(read, &body);
                    key.clone()
                }
                other => panic!("seed {seed}: {other:?}"),
            };
            assert_eq!(push_key(framing, sn, &body), Some(key));
        }
    }
}

/// Quadratic work would take minutes here.
#[test]
fn long_messages_and_noise_may_trickle() {
    const LONG: usize = 1 << 19;
    let body = [b"{".as_slice(), &vec![b'D'; LONG]].concat();
    let mtp = mtp_package(mtp::Kind::Message, *b"12345678", 1, 0, &body);
    let mars = [&mars::encode_head(mars::SEND_MSG, 7, body.len() as u32), &*body].concat();
    let frame = websocket_frame(&mut Random(1), true, 2, &body);
    let websocket = [REQUEST, &frame].concat();
    let ping = mtp_package(mtp::Kind::Command, *b"12345678", 1, 0, b"PING");
    let noise = [&*ping, &vec![b'D'; LONG], &*mtp].concat();
    for stream in [mtp, mars, websocket, noise] {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let (events, end) = events(&bytes);
        assert_eq!(end, Ok(()));
        let last = events.last();
        assert!(matches!(last, Some(Event::Message { body: read, .. }) if *read == body));
    }
}
