//! MTP: packages with a header of 8, 16 or 24 bytes that starts with `DIM`.
//!
//! Every command and message is answered by a response with its own id. Headers of the other
//! lengths have no body length; they are made for datagrams and are noise on a stream.

use bytes::Bytes;

use super::buffer::Buffer;
use super::deframe::Step;
use super::encode::{SmallHead, encode_ack};
use super::error::WireError;
use super::event::{Ack, Event, PushKey};
use super::fragments::Fragments;
use super::limits::DeframeLimits;
use super::scan::{Scan, be32, search};

/// Bodies are shorter than this many bytes: the reference's packer refuses the value itself.
pub const BODY_BYTES_LIMIT: u32 = 0x4000_0000;

/// Most pages of one message, by the format.
pub const PAGES_MAX: u32 = 2 * 1024 * 1024;

/// First byte of a header, by which to search.
pub(super) const FIRST: u8 = b'D';

/// Received.
pub(super) const OK: &[u8] = b"OK";

const MAGIC: &[u8; 3] = b"DIM";
const AGAIN: &[u8] = b"AGAIN";
const NOOP: &[u8] = b"NOOP";
pub(super) const PING: &[u8] = b"PING";
const PONG: &[u8] = b"PONG";

/// What a package is for: the low nibble of the fourth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Wants a command response.
    Command = 0,
    /// Answers a command.
    CommandResponse = 1,
    /// Wants a message response.
    Message = 2,
    /// Answers a message or a fragment.
    MessageResponse = 3,
    /// One page of a message; each wants a message response.
    Fragment = 10,
}

impl Kind {
    fn from_nibble(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0 => Self::Command,
            1 => Self::CommandResponse,
            2 => Self::Message,
            3 => Self::MessageResponse,
            10 => Self::Fragment,
            _ => return None,
        })
    }
}

/// A valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the package is for.
    pub kind: Kind,
    /// Transaction id; all zero where the header has none.
    pub id: [u8; 8],
    /// Page count, at least 1.
    pub pages: u32,
    /// Page number, below `pages`.
    pub index: u32,
    /// Bytes of the body.
    pub body_len: u32,
    /// Bytes of the header: 8, 16 or 24.
    pub head_len: u8,
}

/// What `bytes` begin with.
pub fn parse_head(bytes: &[u8]) -> Scan<Head> {
    let Some((magic, rest)) = bytes.split_at_checked(MAGIC.len()) else {
        return if MAGIC.starts_with(bytes) { Scan::Partial } else { Scan::No };
    };
    if magic != MAGIC {
        return Scan::No;
    }
    let Some(form) = rest.first() else {
        return Scan::Partial;
    };
    let (words, kind) = (form >> 4, Kind::from_nibble(form & 15));
    let (Some(kind), 2 | 4 | 6) = (kind, words) else {
        return Scan::No;
    };
    parse_fields(bytes, kind, words * 4).map_or(Scan::Partial, |head| {
        let in_range = (1..=PAGES_MAX).contains(&head.pages)
            && head.index < head.pages
            && head.body_len <= BODY_BYTES_LIMIT;
        if in_range { Scan::Found(head) } else { Scan::No }
    })
}

/// The fields as they are; none if bytes are missing.
fn parse_fields(bytes: &[u8], kind: Kind, head_len: u8) -> Option<Head> {
    let bytes = bytes.get(..usize::from(head_len))?;
    let id = match head_len {
        8 => [0; 8],
        _ => *bytes.get(4..)?.first_chunk()?,
    };
    let (pages, index) = match head_len {
        24 => (be32(bytes, 12)?, be32(bytes, 16)?),
        _ => (1, 0),
    };
    let body_len = be32(bytes, bytes.len() - 4)?;
    Some(Head { kind, id, pages, index, body_len, head_len })
}

/// Header of a package with `body_len` bytes of body. As the reference writes it: an all-zero id
/// is left out, and so are pages and index of a whole message.
pub fn encode_head(kind: Kind, id: [u8; 8], pages: u32, index: u32, body_len: u32) -> SmallHead {
    encode_whole(kind, id, pages, index, body_len, &[])
}

/// A whole package with a control word as its body.
pub(super) fn encode_small(
    kind: Kind,
    id: [u8; 8],
    pages: u32,
    index: u32,
    word: &[u8],
) -> SmallHead {
    let body_len = u32::try_from(word.len()).unwrap_or(BODY_BYTES_LIMIT);
    encode_whole(kind, id, pages, index, body_len, word)
}

fn encode_whole(
    kind: Kind,
    id: [u8; 8],
    pages: u32,
    index: u32,
    body_len: u32,
    body: &[u8],
) -> SmallHead {
    let form = |words: u8| [words << 4 | kind as u8];
    let len = &body_len.to_be_bytes();
    if pages > 1 {
        // A zero id stays here: pages and index alone would be read as one.
        let (pages, index) = (&pages.to_be_bytes(), &index.to_be_bytes());
        SmallHead::join(&[MAGIC, &form(6), &id, pages, index, len, body])
    } else if id == [0; 8] {
        SmallHead::join(&[MAGIC, &form(2), len, body])
    } else {
        SmallHead::join(&[MAGIC, &form(4), &id, len, body])
    }
}

/// One connection's packages.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Only datagram peers split messages, so hardly any stream needs this.
    fragments: Option<Box<Fragments>>,
}

impl Stream {
    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Step, WireError> {
        let (noise, found) = search(buffer.view(), FIRST, parse_head);
        buffer.skip(noise);
        let Scan::Found(head) = found else {
            return Ok(Step::NeedBytes);
        };
        let body_len = head.body_len as usize;
        if body_len > limits.message_bytes_max {
            return Err(WireError::FrameTooLong { bytes: head.body_len.into() });
        }
        let head_len = usize::from(head.head_len);
        if buffer.len() < head_len + body_len {
            return Ok(Step::NeedBytes);
        }
        buffer.skip(head_len);
        self.on_package(&head, buffer.take(body_len), limits)
    }

    pub(super) fn is_joining(&self) -> bool {
        self.fragments.as_ref().is_some_and(|fragments| !fragments.is_empty())
    }

    fn on_package(
        &mut self,
        head: &Head,
        body: Bytes,
        limits: &DeframeLimits,
    ) -> Result<Step, WireError> {
        Ok(match head.kind {
            Kind::Command => Step::Event(on_command(head, body)),
            Kind::Message => Step::Event(on_message(head, body)),
            Kind::Fragment if head.pages == 1 => Step::Event(on_message(head, body)),
            Kind::Fragment => Step::Event(self.on_fragment(head, &body, limits)?),
            Kind::CommandResponse | Kind::MessageResponse => on_response(head, body),
        })
    }

    fn on_fragment(
        &mut self,
        head: &Head,
        piece: &[u8],
        limits: &DeframeLimits,
    ) -> Result<Event, WireError> {
        let ack = ack_of(head);
        // A joined message is delivered whatever it says: control words are never split.
        Ok(match self.fragments.get_or_insert_default().add(head, piece, limits)? {
            Some(body) => Event::Message { ack, body },
            None => reply_ok(&ack),
        })
    }
}

fn on_command(head: &Head, body: Bytes) -> Event {
    let ack = ack_of(head);
    match body.as_ref() {
        PING => Event::Reply(encode_small(Kind::CommandResponse, head.id, 1, 0, PONG).into()),
        NOOP | PONG => reply_ok(&ack),
        _ => Event::Message { ack, body },
    }
}

fn on_message(head: &Head, body: Bytes) -> Event {
    let ack = ack_of(head);
    match body.as_ref() {
        NOOP | PING | PONG => reply_ok(&ack),
        _ => Event::Message { ack, body },
    }
}

/// A response acknowledges by its id, unless it says `AGAIN` or answers a later page than the one
/// we sent; a body that is no control word is a message besides.
fn on_response(head: &Head, body: Bytes) -> Step {
    let again = body == AGAIN;
    let acknowledged = (!again && head.index == 0 && head.id != [0; 8])
        .then_some(Event::Acknowledged(PushKey::Mtp(head.id)));
    // The table of answers knows `AGAIN` only as an answer to a message.
    let swallowed = match body.as_ref() {
        b"" | OK | NOOP | PING | PONG => true,
        _ => again && head.kind == Kind::MessageResponse,
    };
    let message = (!swallowed).then_some(Event::Message { ack: Ack::None, body });
    Step::from_events(acknowledged, message)
}

/// A command is answered as a whole; a message is answered with the page that it named.
fn ack_of(head: &Head) -> Ack {
    let command = head.kind == Kind::Command;
    let (pages, index) = if command { (1, 0) } else { (head.pages, head.index) };
    Ack::Mtp { command, id: head.id, pages, index }
}

fn reply_ok(ack: &Ack) -> Event {
    Event::Reply(encode_ack(ack).map(Bytes::from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 8] = *b"8 bytes.";

    #[test]
    fn heads_are_what_they_were_packed_from() {
        for (kind, id, pages, index, head_len) in [
            (Kind::Message, ID, 1, 0, 16),
            (Kind::Command, [0; 8], 1, 0, 8),
            (Kind::Fragment, ID, 3, 2, 24),
            (Kind::MessageResponse, [0; 8], 3, 2, 24),
        ] {
            let packed = encode_head(kind, id, pages, index, 77);
            let head = Head { kind, id, pages, index, body_len: 77, head_len };
            assert_eq!(parse_head(&packed), Scan::Found(head));
            for cut in 0..packed.len() {
                assert_eq!(parse_head(&packed[..cut]), Scan::Partial);
            }
        }
    }

    #[test]
    fn a_form_that_streams_do_not_have_is_noise() {
        for form in 0..=255_u8 {
            let stream = matches!(form >> 4, 2 | 4 | 6) && matches!(form & 15, 0..=3 | 10);
            let head = [b'D', b'I', b'M', form];
            assert_eq!(parse_head(&head) == Scan::Partial, stream, "{form:02x}");
        }
    }

    #[test]
    fn values_out_of_range_are_noise() {
        let head = |pages: u32, index: u32, body_len: u32| {
            let fields = [pages, index, body_len].map(u32::to_be_bytes);
            parse_head(&[b"DIM\x6a".as_slice(), &ID, fields.as_flattened()].concat())
        };
        assert!(matches!(head(1, 0, 0), Scan::Found(_)));
        assert!(matches!(head(PAGES_MAX, PAGES_MAX - 1, BODY_BYTES_LIMIT), Scan::Found(_)));
        assert_eq!(head(0, 0, 0), Scan::No);
        assert_eq!(head(3, 3, 0), Scan::No);
        assert_eq!(head(PAGES_MAX + 1, 0, 0), Scan::No);
        assert_eq!(head(1, 0, BODY_BYTES_LIMIT + 1), Scan::No);
    }

    #[test]
    fn a_response_acknowledges_and_may_be_a_message_too() {
        let step = |kind, pages, index, body: &'static str| {
            let head = Head { kind, id: ID, pages, index, body_len: 0, head_len: 24 };
            on_response(&head, Bytes::from(body))
        };
        let acknowledged = || Event::Acknowledged(PushKey::Mtp(ID));
        let message = |body| Event::Message { ack: Ack::None, body: Bytes::from_static(body) };
        use Kind::{CommandResponse, MessageResponse};
        assert_eq!(step(MessageResponse, 1, 0, "OK"), Step::Event(acknowledged()));
        assert_eq!(step(MessageResponse, 1, 0, ""), Step::Event(acknowledged()));
        assert_eq!(step(CommandResponse, 1, 0, "PONG"), Step::Event(acknowledged()));
        assert_eq!(step(MessageResponse, 2, 1, "OK"), Step::Event(Event::Heartbeat));
        assert_eq!(step(MessageResponse, 1, 0, "AGAIN"), Step::Event(Event::Heartbeat));
        assert_eq!(step(CommandResponse, 1, 0, "AGAIN"), Step::Event(message(b"AGAIN")));
        assert_eq!(step(CommandResponse, 1, 0, "{}"), Step::Pair(acknowledged(), message(b"{}")));
    }
}
