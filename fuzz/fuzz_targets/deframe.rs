//! Bytes of a peer, in each role and however they are cut: the same events, and the same end.
#![no_main]

use bytes::Bytes;
use dim::wire::websocket::Masks;
use dim::wire::{DeframeLimits, Deframer, Event, Framing, WireError, lines_of};
use libfuzzer_sys::fuzz_target;

/// Small enough that inputs of some hundred bytes reach every bound.
const NARROW: DeframeLimits = DeframeLimits {
    message_bytes_max: 200,
    undecided_bytes_max: 100,
    upgrade_bytes_max: 300,
    fragment_sets_max: 2,
    fragment_pieces_max: 4,
    fragment_bytes_max: 200,
    bare_lines: true,
};

fn deframer(role: u8) -> Deframer {
    let limits = if role & 4 == 0 { DeframeLimits::default() } else { NARROW };
    match role & 3 {
        0 => Deframer::new(limits),
        1 => Deframer::new(DeframeLimits { bare_lines: true, ..limits }),
        2 => Deframer::mtp_client(limits),
        _ => Deframer::websocket_client("dGhlIHNhbXBsZSBub25jZQ==", Masks::new(1), limits),
    }
}

#[derive(Debug, PartialEq)]
struct Heard {
    events: Vec<Event>,
    error: Option<WireError>,
    framing: Option<Framing>,
    acknowledges: bool,
    unread: usize,
}

fn hear(role: u8, pieces: impl Iterator<Item = Bytes>) -> Heard {
    let (mut deframer, mut events, mut error) = (deframer(role), Vec::new(), None);
    for piece in pieces {
        deframer.feed(piece);
        loop {
            match deframer.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(found) => {
                    assert_eq!(deframer.next_event(), Err(found), "an error is final");
                    error = Some(found);
                    break;
                }
            }
        }
    }
    let (framing, acknowledges) = (deframer.framing(), deframer.acknowledges());
    Heard { events, error, framing, acknowledges, unread: deframer.unread() }
}

fuzz_target!(|input: &[u8]| {
    let Some(([role, cut], bytes)) = input.split_first_chunk::<2>() else { return };
    let whole = hear(*role, std::iter::once(Bytes::copy_from_slice(bytes)));
    assert!(whole.unread <= bytes.len());
    for size in [usize::from(*cut).max(1), 1] {
        let cut = hear(*role, bytes.chunks(size).map(Bytes::copy_from_slice));
        assert_eq!(whole, cut, "cut at each {size}");
    }
    for event in whole.events {
        if let Event::Message { body, .. } = event {
            let lines: usize = lines_of(&body).map(|line| line.len()).sum();
            assert!(lines <= body.len());
        }
    }
});
