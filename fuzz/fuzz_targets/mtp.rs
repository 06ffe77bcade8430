//! Packages of MTP and Mars as one side writes them, in pages of any order, with noise between
//! them: the other side hears the same messages, and each answer finds what it answers.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use dim::wire::mtp::{self, Kind};
use dim::wire::{
    Ack, DeframeLimits, Deframer, Event, Framing, PushKey, encode_ack, mars, push_head, push_key,
    response_head,
};
use libfuzzer_sys::fuzz_target;

/// Packages of one input; as many messages may be unfinished at once.
const PACKAGES_MAX: usize = 16;
const PAGES_MAX: usize = 8;

#[derive(Debug, Arbitrary)]
enum Package {
    Whole {
        command: bool,
        body: Vec<u8>,
    },
    /// In pages, which come in an order that `order` picks, some of them twice.
    Pages {
        body: Vec<u8>,
        cuts: Vec<u8>,
        order: Vec<u8>,
    },
    /// What no header begins in.
    Noise(Vec<u8>),
    Ping,
}

#[derive(Debug, Arbitrary)]
struct Input {
    mars: bool,
    packages: Vec<Package>,
    cut: u8,
}

/// No control word begins so.
fn body_of(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.insert(0, b'{');
    bytes
}

fn len(body: &[u8]) -> u32 {
    u32::try_from(body.len()).expect("short")
}

fn id(number: usize) -> [u8; 8] {
    (number as u64 + 1).to_be_bytes()
}

/// Packages of a message in pages; the last one that was missing completes it.
fn pages(id: [u8; 8], body: &[u8], cuts: &[u8], order: &[u8]) -> Vec<Vec<u8>> {
    let (mut pieces, mut rest) = (Vec::new(), body);
    for cut in cuts.iter().take(PAGES_MAX - 1) {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    let count = u32::try_from(pieces.len()).expect("few");
    let mut packages: Vec<Vec<u8>> = (0..count)
        .zip(pieces)
        .map(|(index, piece)| {
            let head = mtp::encode_head(Kind::Fragment, id, count, index, len(piece));
            [&head, piece].concat()
        })
        .collect();
    for (turn, pick) in order.iter().take(PAGES_MAX).enumerate() {
        let pick = usize::from(*pick);
        match pick & 1 {
            0 => packages.swap(turn % count as usize, (pick >> 1) % count as usize),
            // Once more, which changes nothing; a whole message is only recognised further up.
            _ if count == 1 => {}
            _ => packages.push(packages[(pick >> 1) % count as usize].clone()),
        }
    }
    packages
}

/// The stream, and the messages in it.
fn write(input: &Input) -> (Vec<u8>, Vec<Bytes>) {
    let (mut bytes, mut said) = (Vec::new(), Vec::new());
    for (number, package) in input.packages.iter().take(PACKAGES_MAX).enumerate() {
        match package {
            Package::Whole { body, .. } if input.mars => {
                let body = body_of(body.clone());
                let seq = u32::try_from(number).expect("few") + 1;
                bytes.extend_from_slice(&mars::encode_head(mars::SEND_MSG, seq, len(&body)));
                bytes.extend_from_slice(&body);
                said.push(body.into());
            }
            Package::Whole { command, body } => {
                let body = body_of(body.clone());
                let kind = if *command { Kind::Command } else { Kind::Message };
                bytes.extend_from_slice(&mtp::encode_head(kind, id(number), 1, 0, len(&body)));
                bytes.extend_from_slice(&body);
                said.push(body.into());
            }
            Package::Pages { body, cuts, order } if !input.mars => {
                let body = body_of(body.clone());
                bytes.extend(pages(id(number), &body, cuts, order).concat());
                said.push(body.into());
            }
            // The first package decides the framing, and Mars has none.
            Package::Noise(noise) if !said.is_empty() && !input.mars => {
                bytes.extend(noise.iter().filter(|byte| **byte != b'D'));
            }
            Package::Ping if !input.mars => {
                bytes.extend_from_slice(&mtp::encode_head(Kind::Command, id(number), 1, 0, 4));
                bytes.extend_from_slice(b"PING");
            }
            Package::Pages { .. } | Package::Noise(_) | Package::Ping => {}
        }
    }
    (bytes, said)
}

fn next(deframer: &mut Deframer) -> Option<Event> {
    deframer.next_event().expect("what one side writes the other side reads")
}

/// What a station's push says to its client, and the client's answer to the station.
fn push(framing: Framing, sn: u64, body: &Bytes, station: &mut Deframer) {
    let mut client = Deframer::mtp_client(DeframeLimits::default());
    client.feed([&push_head(framing, sn, len(body)), &body[..]].concat().into());
    let Some(Event::Message { ack, body: heard }) = next(&mut client) else { panic!("no push") };
    assert_eq!(&heard, body);
    station.feed(encode_ack(&ack).expect("MTP answers").into());
    let key = push_key(framing, sn, body).expect("MTP has keys");
    assert_eq!(next(station), Some(Event::Acknowledged(key)));
}

fuzz_target!(|input: Input| {
    let (bytes, said) = write(&input);
    let framing = if input.mars { Framing::Mars } else { Framing::Mtp };
    let mut station = Deframer::new(DeframeLimits::default());
    let mut heard = Vec::new();
    for piece in bytes.chunks(usize::from(input.cut).max(1)) {
        station.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = next(&mut station) {
            match event {
                Event::Message { ack, body } => {
                    assert!(encode_ack(&ack).or(response_head(&ack, 0)).is_some());
                    assert_eq!(matches!(ack, Ack::Mars { .. }), input.mars);
                    heard.push(body);
                }
                Event::Reply(answer) => assert!(answer.starts_with(b"DIM")),
                // A request of Mars answers what was pushed under the same number, if anything.
                Event::Acknowledged(PushKey::Mars(_)) if input.mars => {}
                other => panic!("nobody said {other:?}"),
            }
        }
    }
    assert_eq!(heard, said);
    let Some(last) = said.last() else { return };
    assert_eq!(station.framing(), Some(framing));
    assert!(station.acknowledges());
    // Noise may end like a header that has just begun.
    let has_noise = input.packages.iter().any(|package| matches!(package, Package::Noise(_)));
    assert!(has_noise || !station.has_partial());
    if !input.mars {
        push(framing, said.len() as u64, last, &mut station);
    }
});
