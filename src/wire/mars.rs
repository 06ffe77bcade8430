//! Mars: packages with a header of 20 bytes and options, as old native clients send them.
//!
//! A body may begin with a line `Mars SN:` that carries a serial number; without it the sequence
//! number serves. Whatever comes under the number of a push acknowledges it.

use base64_simd::{AsOut, STANDARD};
use bytes::Bytes;

use super::buffer::Buffer;
use super::deframe::Step;
use super::encode::SmallHead;
use super::error::WireError;
use super::event::{Ack, Event, PushKey};
use super::limits::{DeframeLimits, MARS_HEAD_BYTES_MAX};
use super::scan::{Scan, be32, search};

/// Command: a message, or a word, from the client.
pub const SEND_MSG: u32 = 3;

/// Command: a heartbeat.
pub const NOOP: u32 = 6;

/// Command: a push from the station, or the client's answer to one.
pub const PUSH_MESSAGE: u32 = 10_001;

/// First byte of a header, by which to search.
pub(super) const FIRST: u8 = 0;

const HEAD_BYTES: u32 = 20;
const CLIENT_VERSION: u32 = 200;
const SN_START: &[u8] = b"Mars SN:";

/// Base64 of the four bytes of a serial number.
const SN_CHARS: usize = 8;

/// A whole serial line.
const SN_LINE_BYTES: u32 = (SN_START.len() + SN_CHARS + 1) as u32;

/// A valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the header with its options.
    pub head_len: u32,
    /// What the package is: one of the three commands.
    pub cmd: u32,
    /// The sender's number of the package.
    pub seq: u32,
    /// Bytes of the body.
    pub body_len: u32,
}

/// What `bytes` begin with. Options need not have come yet.
pub fn parse_head(bytes: &[u8]) -> Scan<Head> {
    // Judged field by field: the sooner noise is known as noise, the less it can hide.
    let (head_len, version, cmd) = (be32(bytes, 0), be32(bytes, 4), be32(bytes, 8));
    let noise = !may_begin_head_len(bytes)
        || head_len.is_some_and(|len| !(HEAD_BYTES..=MARS_HEAD_BYTES_MAX).contains(&len))
        || version.is_some_and(|version| version != CLIENT_VERSION)
        || cmd.is_some_and(|cmd| !matches!(cmd, SEND_MSG | NOOP | PUSH_MESSAGE));
    if noise {
        return Scan::No;
    }
    match (head_len, cmd, be32(bytes, 12), be32(bytes, 16)) {
        (Some(head_len), Some(cmd), Some(seq), Some(body_len)) => {
            Scan::Found(Head { head_len, cmd, seq, body_len })
        }
        _ => Scan::Partial,
    }
}

/// Whether the first one or two bytes could be the upper half of a length within the limit.
fn may_begin_head_len(bytes: &[u8]) -> bool {
    match bytes {
        [FIRST, high, ..] => u32::from(*high) <= MARS_HEAD_BYTES_MAX >> 16,
        [FIRST] | [] => true,
        _ => false,
    }
}

/// Header without options of a package with `body_len` bytes of body.
pub fn encode_head(cmd: u32, seq: u32, body_len: u32) -> SmallHead {
    SmallHead::join(&[&head_bytes(cmd, seq, body_len)])
}

/// Header and serial line of a push with `body_len` bytes of payload.
pub fn encode_push_head(sn: u32, body_len: u32) -> SmallHead {
    let mut chars = [0; SN_CHARS];
    let sn = STANDARD.encode(&sn.to_be_bytes(), chars.as_mut_slice().as_out());
    let head = head_bytes(PUSH_MESSAGE, 0, SN_LINE_BYTES.saturating_add(body_len));
    SmallHead::join(&[&head, SN_START, sn, b"\n"])
}

/// One connection's packages; nothing need be remembered between them.
pub(super) fn step(buffer: &mut Buffer, limits: &DeframeLimits) -> Result<Step, WireError> {
    let (noise, found) = search(buffer.view(), FIRST, parse_head);
    buffer.skip(noise);
    let Scan::Found(head) = found else {
        return Ok(Step::NeedBytes);
    };
    let (head_len, body_len) = (head.head_len as usize, head.body_len as usize);
    if body_len > limits.message_bytes_max {
        return Err(WireError::FrameTooLong { bytes: head.body_len.into() });
    }
    if buffer.len() < head_len + body_len {
        return Ok(Step::NeedBytes);
    }
    let package = buffer.take(head_len + body_len);
    Ok(on_package(&head, &package))
}

fn on_package(head: &Head, package: &Bytes) -> Step {
    let body = package.slice(head.head_len as usize..);
    if head.cmd == SEND_MSG && body.is_empty() {
        return Step::Event(Event::Heartbeat);
    }
    let (key, payload) = match split_serial_line(&body) {
        Some((sn, payload)) => (sn, body.slice_ref(payload)),
        None => (Some(head.seq), body),
    };
    match (head.cmd, payload.as_ref()) {
        (NOOP, b"" | b"NOOP") => Step::Event(Event::Reply(package.clone())),
        (SEND_MSG | NOOP, b"PING") => {
            let pong = SmallHead::join(&[&head_bytes(head.cmd, head.seq, 4), b"PONG"]);
            Step::Event(Event::Reply(pong.into()))
        }
        (_, b"PING" | b"PONG" | b"NOOP") => Step::Event(Event::Heartbeat),
        (cmd, words) => {
            // Only requests are answered; an acknowledgement never, or both sides would go on for ever.
            let answered = cmd == SEND_MSG && !matches!(words, b"" | b"OK");
            let ack = match answered {
                true => Ack::Mars { cmd, seq: head.seq },
                false => Ack::None,
            };
            Step::from_events(
                key.map(|sn| Event::Acknowledged(PushKey::Mars(sn))),
                Some(Event::Message { ack, body: payload }),
            )
        }
    }
}

/// Serial number and payload of a body that begins with a serial line. The number is none if it
/// has not the four bytes of ours.
fn split_serial_line(body: &[u8]) -> Option<(Option<u32>, &[u8])> {
    let line = body.strip_prefix(SN_START)?;
    let (chars, rest) = line.split_at_checked(memchr::memchr(b'\n', line)?)?;
    Some((decode_sn(chars), rest.strip_prefix(b"\n")?))
}

fn decode_sn(chars: &[u8]) -> Option<u32> {
    if chars.len() != SN_CHARS {
        return None;
    }
    let mut bytes = [0; SN_CHARS];
    let decoded = STANDARD.decode(chars, bytes.as_mut_slice().as_out()).ok()?;
    Some(u32::from_be_bytes((&*decoded).try_into().ok()?))
}

fn head_bytes(cmd: u32, seq: u32, body_len: u32) -> [u8; 20] {
    let mut head = [0; 20];
    let fields = [HEAD_BYTES, CLIENT_VERSION, cmd, seq, body_len].map(u32::to_be_bytes);
    for (to, from) in head.iter_mut().zip(fields.as_flattened()) {
        *to = *from;
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_of(cmd: u32, seq: u32, body: &[u8]) -> Step {
        let mut buffer = Buffer::default();
        buffer.push([&head_bytes(cmd, seq, body.len() as u32), body].concat().into());
        step(&mut buffer, &DeframeLimits::default()).unwrap()
    }

    fn message(ack: Ack, body: &'static str) -> Event {
        Event::Message { ack, body: Bytes::from(body) }
    }

    #[test]
    fn heads_are_what_they_were_packed_from() {
        let packed = encode_head(SEND_MSG, 7, 9);
        let head = Head { head_len: 20, cmd: SEND_MSG, seq: 7, body_len: 9 };
        assert_eq!(parse_head(&packed), Scan::Found(head));
        for cut in 0..packed.len() {
            assert_eq!(parse_head(&packed[..cut]), Scan::Partial);
        }
    }

    #[test]
    fn noise_is_known_by_its_first_wrong_field() {
        assert_eq!(parse_head(b"\x01"), Scan::No);
        assert_eq!(parse_head(b"\0\x02"), Scan::No);
        assert_eq!(parse_head(b"\0\0\0\x13"), Scan::No);
        assert_eq!(parse_head(b"\0\x01\0\x01"), Scan::No);
        assert_eq!(parse_head(b"\0\x01\0\0"), Scan::Partial);
        assert_eq!(parse_head(b"\0\0\0\x14\0\0\0\xc9"), Scan::No);
        assert_eq!(parse_head(b"\0\0\0\x14\0\0\0\xc8\0\0\0\x04"), Scan::No);
    }

    #[test]
    fn a_package_acknowledges_under_its_serial_number() {
        let send = Ack::Mars { cmd: SEND_MSG, seq: 5 };
        let acknowledged = |sn| Event::Acknowledged(PushKey::Mars(sn));
        let line = "Mars SN:AAABAg==\n{}";
        assert_eq!(
            step_of(SEND_MSG, 5, line.as_bytes()),
            Step::Pair(acknowledged(0x102), message(send, "{}"))
        );
        assert_eq!(step_of(SEND_MSG, 5, b"{}"), Step::Pair(acknowledged(5), message(send, "{}")));
        assert_eq!(
            step_of(PUSH_MESSAGE, 5, b"Mars SN:AAABAg==\nOK"),
            Step::Pair(acknowledged(0x102), message(Ack::None, "OK"))
        );
        // A number that cannot be ours acknowledges nothing.
        for line in ["Mars SN:AAAB\n{}", "Mars SN:AAABAgME\n{}", "Mars SN:????????\n{}"] {
            assert_eq!(step_of(SEND_MSG, 5, line.as_bytes()), Step::Event(message(send, "{}")));
        }
        let no_line = "Mars SN:AAABAg==";
        assert_eq!(
            step_of(SEND_MSG, 5, no_line.as_bytes()),
            Step::Pair(acknowledged(5), message(send, no_line))
        );
    }

    #[test]
    fn words_are_answered_or_swallowed() {
        let reply = |bytes: Vec<u8>| Step::Event(Event::Reply(bytes.into()));
        let heartbeat = Step::Event(Event::Heartbeat);
        assert_eq!(step_of(NOOP, 5, b""), reply(head_bytes(NOOP, 5, 0).to_vec()));
        let pong = [&head_bytes(NOOP, 5, 4), b"PONG".as_slice()].concat();
        assert_eq!(step_of(NOOP, 5, b"PING"), reply(pong));
        assert_eq!(step_of(SEND_MSG, 5, b""), heartbeat);
        assert_eq!(step_of(PUSH_MESSAGE, 5, b"PING"), heartbeat);
        assert_eq!(step_of(SEND_MSG, 5, b"NOOP"), heartbeat);
    }
}
