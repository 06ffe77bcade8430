//! RFC 6455 after the upgrade, for either side.
//!
//! A message is a payload or one of a few words. Clients may send unmasked frames: the reference
//! takes them, and some old clients do. A station that sends masked ones is refused.

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::deframe::Step;
use super::encode::{SmallHead, text_key};
use super::error::WireError;
use super::event::{Ack, Event, PushKey};
use super::limits::{CONTROL_BYTES_MAX, DeframeLimits};
use crate::base::random::split_mix;

/// Opcode of the frames that the station sends: browsers read only texts.
pub const TEXT: u8 = 1;

/// Opcode of frames of any bytes: those that clients send.
pub const BINARY: u8 = 2;

/// Opcode of the frame that ends a connection.
pub const CLOSE: u8 = 8;

/// Opcode of the answer to a PING frame.
pub const PONG: u8 = 10;

const CONTINUATION: u8 = 0;
const PING: u8 = 9;

/// Statuses of CLOSE frames: the peer breaks the rules; a text is not UTF-8.
const PROTOCOL_ERROR: u16 = 1002;
const INCONSISTENT: u16 = 1007;

/// Answers the word `PING`.
const WORD_PONG: &[u8] = b"PONG";

pub(super) const ACK_WORD: &[u8] = b"ACK:";

/// Header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whether the frame is the last one of its message.
    pub fin: bool,
    /// What the frame is; always one of RFC 6455.
    pub opcode: u8,
    /// With what the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub len: u64,
    /// Bytes of the header: 2 to 14.
    pub head_len: u8,
}

/// The header at the start of `bytes`; none until all of it is there.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    let (masked, short_len) = (second & 0x80 != 0, second & 0x7f);
    if first & 0x70 != 0 {
        return Err(WireError::ReservedBits);
    }
    if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(WireError::UnknownOpcode(opcode));
    }
    if opcode >= CLOSE && (!fin || usize::from(short_len) > CONTROL_BYTES_MAX) {
        return Err(WireError::ControlFrame);
    }
    let (len, len_bytes) = match short_len {
        126 => (rest.first_chunk().map(|len| u16::from_be_bytes(*len).into()), 2),
        127 => (rest.first_chunk().map(|len| u64::from_be_bytes(*len)), 8),
        _ => (Some(short_len.into()), 0),
    };
    let Some(len) = len else { return Ok(None) };
    let mask = rest.get(usize::from(len_bytes)..).and_then(|rest| rest.first_chunk().copied());
    Ok(match (masked, mask) {
        (true, None) => None,
        (true, mask) => Some(Head { fin, opcode, mask, len, head_len: 2 + len_bytes + 4 }),
        (false, _) => Some(Head { fin, opcode, mask: None, len, head_len: 2 + len_bytes }),
    })
}

/// Header of an unmasked whole message in the shortest form, as the station sends it.
pub fn encode_head(opcode: u8, len: u32) -> SmallHead {
    let first = &[0x80 | opcode];
    match len {
        0..=125 => SmallHead::join(&[first, &len.to_be_bytes()[3..]]),
        126..=0xffff => SmallHead::join(&[first, &[126], &len.to_be_bytes()[2..]]),
        _ => SmallHead::join(&[first, &[127], &u64::from(len).to_be_bytes()]),
    }
}

/// Remove `mask` from `payload`, or put it on.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Header of a whole masked message, as a client sends it.
pub fn encode_masked_head(opcode: u8, len: u32, mask: [u8; 4]) -> SmallHead {
    let head = encode_head(opcode, len);
    let (first, rest) = head.split_at(1);
    let (second, rest) = rest.split_at(1);
    let second = second.first().map_or(0x80, |byte| byte | 0x80);
    SmallHead::join(&[first, &[second], rest, &mask])
}

/// A whole masked message, as a client sends it. Payloads of 4 GiB and more do not exist.
pub fn encode_masked(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Bytes {
    let head = encode_masked_head(opcode, u32::try_from(payload.len()).unwrap_or_default(), mask);
    let mut frame = BytesMut::with_capacity(head.len() + payload.len());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload);
    if let Some(payload) = frame.get_mut(head.len()..) {
        unmask(payload, mask);
    }
    frame.freeze()
}

/// The masks of a client's frames: numbers that follow from a seed, which has to be drawn at
/// random, since a proxy must not be made to read a payload as something else.
#[derive(Debug, Clone)]
pub struct Masks(u64);

impl Masks {
    /// Masks from a random seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = split_mix(&mut self.0).to_be_bytes();
        [a, b, c, d]
    }
}

/// What a peer says: a whole message, or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A message that is valid UTF-8.
    Text(Bytes),
    /// A message of any bytes.
    Binary(Bytes),
    /// To be answered by [`control`] with [`PONG`] and the same bytes.
    Ping(Bytes),
    /// An answer, or a sign of life.
    Pong,
    /// The connection is to be closed, after these bytes: a whole frame.
    Close(Bytes),
}

/// RFC 6455 by itself, without the words that the station reads out of messages.
#[derive(Debug)]
pub struct Reader {
    limits: DeframeLimits,
    buffer: Buffer,
    frames: Frames,
}

impl Reader {
    /// A reader of what follows the upgrade.
    pub fn new(limits: DeframeLimits) -> Self {
        Self { limits, buffer: Buffer::default(), frames: Frames::default() }
    }

    /// Add bytes that were read.
    pub fn feed(&mut self, bytes: Bytes) {
        self.buffer.push(bytes);
    }

    /// What was said next; none until more bytes are fed. Nothing is to be read after an error or
    /// a [`Said::Close`].
    pub fn next_said(&mut self) -> Result<Option<Said>, WireError> {
        self.frames.next_said(&mut self.buffer, &self.limits)
    }
}

/// One connection's frames.
#[derive(Debug, Default)]
struct Frames {
    /// Whether we are the client, whose frames are masked.
    masks: Option<Masks>,
    /// The message of which only the beginning has come.
    joining: Option<Joining>,
}

#[derive(Debug)]
struct Joining {
    text: bool,
    payload: Vec<u8>,
    /// Bytes of the payload that are UTF-8.
    checked: usize,
}

impl Joining {
    fn add(&mut self, payload: &[u8]) -> Result<(), WireError> {
        self.payload.extend_from_slice(payload);
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(self.payload.get(self.checked..).unwrap_or_default()) {
            Ok(_) => self.checked = self.payload.len(),
            // A character may be cut between two frames.
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(WireError::NotUtf8),
        }
        Ok(())
    }

    fn end(self) -> Result<Said, WireError> {
        match (self.text, self.checked == self.payload.len()) {
            (false, _) => Ok(Said::Binary(self.payload.into())),
            (true, true) => Ok(Said::Text(self.payload.into())),
            (true, false) => Err(WireError::NotUtf8),
        }
    }
}

impl Frames {
    /// A short frame to the peer.
    fn short(&mut self, opcode: u8, payload: &[u8]) -> Bytes {
        match &mut self.masks {
            Some(masks) => encode_masked(opcode, payload, masks.draw()),
            None => control(opcode, payload),
        }
    }

    fn next_said(
        &mut self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Option<Said>, WireError> {
        while let Some((head, payload)) = self.next_frame(buffer, limits)? {
            let said = match head.opcode {
                CLOSE => Some(Said::Close(self.short(CLOSE, &close_status(&payload)))),
                PING => Some(Said::Ping(payload)),
                PONG => Some(Said::Pong),
                _ => self.on_data(&head, payload)?,
            };
            if said.is_some() {
                return Ok(said);
            }
        }
        Ok(None)
    }

    fn next_frame(
        &self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Option<(Head, Bytes)>, WireError> {
        let Some(head) = parse_head(buffer.view())? else {
            return Ok(None);
        };
        self.check_order(&head)?;
        if self.masks.is_some() && head.mask.is_some() {
            return Err(WireError::Masked);
        }
        let joined = match (&self.joining, head.opcode) {
            (Some(joining), CONTINUATION) => joining.payload.len(),
            _ => 0,
        };
        let len = match usize::try_from(head.len) {
            Ok(len) if len <= limits.message_bytes_max.saturating_sub(joined) => len,
            _ => {
                let bytes = head.len.saturating_add(joined as u64);
                return Err(WireError::FrameTooLong { bytes });
            }
        };
        let head_len = usize::from(head.head_len);
        if buffer.len() < head_len + len {
            return Ok(None);
        }
        buffer.skip(head_len);
        Ok(Some((head, take_payload(buffer, len, head.mask))))
    }

    /// A message must end before the next one begins, and begin before it goes on.
    fn check_order(&self, head: &Head) -> Result<(), WireError> {
        match (head.opcode, self.joining.is_some()) {
            (CONTINUATION, false) => Err(WireError::LooseContinuation),
            (TEXT | BINARY, true) => Err(WireError::MessageInside),
            _ => Ok(()),
        }
    }

    fn on_data(&mut self, head: &Head, payload: Bytes) -> Result<Option<Said>, WireError> {
        let text = head.opcode == TEXT;
        let mut joining = match (self.joining.take(), head.fin) {
            (Some(joining), _) => joining,
            (None, true) if !text => return Ok(Some(Said::Binary(payload))),
            (None, true) if std::str::from_utf8(&payload).is_ok() => {
                return Ok(Some(Said::Text(payload)));
            }
            (None, true) => return Err(WireError::NotUtf8),
            (None, false) => Joining { text, payload: Vec::new(), checked: 0 },
        };
        joining.add(&payload)?;
        if head.fin {
            return joining.end().map(Some);
        }
        self.joining = Some(joining);
        Ok(None)
    }
}

/// One connection's messages and words.
#[derive(Debug, Default)]
pub(super) struct Stream {
    frames: Frames,
    /// Whether the client has ever acknowledged something: then it will acknowledge everything.
    pub(super) acknowledges: bool,
}

impl Stream {
    /// The stream of a client.
    pub(super) fn client(masks: Masks) -> Self {
        let frames = Frames { masks: Some(masks), ..Frames::default() };
        Self { frames, ..Self::default() }
    }

    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        limits: &DeframeLimits,
    ) -> Result<Step, WireError> {
        Ok(match self.frames.next_said(buffer, limits)? {
            None => Step::NeedBytes,
            Some(Said::Close(answer)) => Step::Last(Event::Close(answer)),
            Some(Said::Ping(payload)) => {
                Step::Event(Event::Reply(self.frames.short(PONG, &payload)))
            }
            Some(Said::Pong) => Step::Event(Event::Heartbeat),
            Some(Said::Text(body) | Said::Binary(body)) => Step::Event(self.on_message(body)),
        })
    }

    pub(super) fn is_joining(&self) -> bool {
        self.frames.joining.is_some()
    }

    fn on_message(&mut self, body: Bytes) -> Event {
        match body.as_ref() {
            b"" | b"PONG" | b"NOOP" | b"OK" => Event::Heartbeat,
            b"PING" => Event::Reply(self.frames.short(TEXT, WORD_PONG)),
            ack if ack.starts_with(ACK_WORD) => {
                self.acknowledges = true;
                text_key(ack)
                    .map_or(Event::Heartbeat, |key| Event::Acknowledged(PushKey::Text(key)))
            }
            _ => Event::Message { ack: Ack::None, body },
        }
    }
}

fn take_payload(buffer: &mut Buffer, len: usize, mask: Option<[u8; 4]>) -> Bytes {
    let Some(mask) = mask else {
        return buffer.take(len);
    };
    let mut payload: BytesMut = buffer.take_mut(len);
    unmask(&mut payload, mask);
    payload.freeze()
}

/// A whole control frame to the client. Its payload has at most [`CONTROL_BYTES_MAX`] bytes, as any
/// that came in one.
pub fn control(opcode: u8, payload: &[u8]) -> Bytes {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
    let len = u32::try_from(payload.len()).unwrap_or_default();
    [&encode_head(opcode, len), payload].concat().into()
}

/// A CLOSE frame to the client; the reason has a few words.
pub fn close(status: u16, reason: &str) -> Bytes {
    control(CLOSE, &[&status.to_be_bytes(), reason.as_bytes()].concat())
}

/// The peer's status without its reason, as the reference model echoes it, or what is wrong with
/// either (RFC 6455, 7.4).
fn close_status(payload: &[u8]) -> Vec<u8> {
    let answer = match payload.split_first_chunk() {
        None if payload.is_empty() => return Vec::new(),
        None => PROTOCOL_ERROR,
        Some((status, reason)) => match u16::from_be_bytes(*status) {
            status @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
                if std::str::from_utf8(reason).is_ok() { status } else { INCONSISTENT }
            }
            _ => PROTOCOL_ERROR,
        },
    };
    answer.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(frames: &[&[u8]]) -> Vec<Result<Event, WireError>> {
        let limits = DeframeLimits { message_bytes_max: 100_000, ..DeframeLimits::default() };
        let mut buffer = Buffer::default();
        buffer.push(Bytes::from(frames.concat()));
        let (mut stream, mut events) = (Stream::default(), Vec::new());
        loop {
            match stream.step(&mut buffer, &limits) {
                Ok(Step::Event(event)) => events.push(Ok(event)),
                Ok(Step::Again) => {}
                Ok(Step::Last(event)) => {
                    events.push(Ok(event));
                    return events;
                }
                Ok(Step::NeedBytes | Step::Pair(..)) => return events,
                Err(error) => {
                    events.push(Err(error));
                    return events;
                }
            }
        }
    }

    fn only_error(frames: &[&[u8]]) -> WireError {
        match events(frames).as_slice() {
            [Err(error)] => *error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn heads_are_parsed_once_they_are_whole() {
        for (len, head_len) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let packed = encode_head(TEXT, len);
            let head = Head { fin: true, opcode: TEXT, mask: None, len: len.into(), head_len };
            assert_eq!(parse_head(&packed), Ok(Some(head)));
            for cut in 0..packed.len() {
                assert_eq!(parse_head(&packed[..cut]), Ok(None));
            }
        }
        assert_eq!(parse_head(b"\x81\x80abc"), Ok(None));
        assert_eq!(parse_head(b"\x81\x80abcd").unwrap().unwrap().mask, Some(*b"abcd"));
    }

    #[test]
    fn a_clients_frame_is_what_a_station_reads() {
        let mut masks = Masks::new(7);
        for len in [0_usize, 125, 126, 65_535, 65_536] {
            let payload = vec![b'a'; len];
            let frame = encode_masked(BINARY, &payload, masks.draw());
            let expected = match len {
                0 => Event::Heartbeat,
                _ => Event::Message { ack: Ack::None, body: payload.into() },
            };
            assert_eq!(events(&[&frame]), [Ok(expected)]);
        }
    }

    #[test]
    fn a_client_answers_masked_and_takes_nothing_masked() {
        let mut stream = Stream::client(Masks::new(7));
        let mut buffer = Buffer::default();
        let mut step = |bytes: &[u8]| {
            buffer.push(Bytes::copy_from_slice(bytes));
            stream.step(&mut buffer, &DeframeLimits::default())
        };
        let Ok(Step::Event(Event::Reply(pong))) = step(b"\x89\x02hi") else { panic!() };
        let head = parse_head(&pong).unwrap().unwrap();
        assert_eq!((head.opcode, head.mask.is_some(), head.len), (PONG, true, 2));
        let masked = encode_masked(TEXT, b"{}", [1; 4]);
        assert_eq!(step(&masked), Err(WireError::Masked));
    }

    #[test]
    fn unmasking_is_bytewise() {
        for len in 0..40_u8 {
            let plain: Vec<u8> = (0..len).collect();
            let mut masked = plain.clone();
            unmask(&mut masked, *b"mask");
            let by_byte = plain.iter().zip(b"mask".iter().cycle()).map(|(a, b)| a ^ b);
            assert!(by_byte.eq(masked.iter().copied()));
        }
    }

    #[test]
    fn what_breaks_the_rfc_is_refused() {
        assert_eq!(only_error(&[b"\xc1\x00"]), WireError::ReservedBits);
        assert_eq!(only_error(&[b"\x83\x00"]), WireError::UnknownOpcode(3));
        assert_eq!(only_error(&[b"\x80\x00"]), WireError::LooseContinuation);
        assert_eq!(only_error(&[b"\x01\x00", b"\x81\x00"]), WireError::MessageInside);
        assert_eq!(only_error(&[b"\x09\x00"]), WireError::ControlFrame);
        assert_eq!(only_error(&[b"\x89\x7e"]), WireError::ControlFrame);
        assert_eq!(only_error(&[b"\x81\x02\xc3\x28"]), WireError::NotUtf8);
        // As soon as it is known, or at the end.
        assert_eq!(only_error(&[b"\x01\x02a\xc3", b"\x00\x01\x28"]), WireError::NotUtf8);
        assert_eq!(only_error(&[b"\x01\x02a\xc3", b"\x80\x00"]), WireError::NotUtf8);
        let long = b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(only_error(&[long]), WireError::FrameTooLong { bytes: u64::MAX });
        // The sum counts, however short the frames are.
        let half = [&encode_head(TEXT, 60_000), [b'a'; 60_000].as_slice()].concat();
        let first = [b"\x01", &half[1..]].concat();
        let second = [b"\x80", &half[1..]].concat();
        let error = only_error(&[&first, &second]);
        assert_eq!(error, WireError::FrameTooLong { bytes: 120_000 });
    }

    #[test]
    fn control_frames_pass_between_the_parts_of_a_message() {
        // A character is cut between two frames: only the whole text has to be UTF-8.
        let frames: [&[u8]; 4] = [b"\x01\x02{\xc3", b"\x89\x02hi", b"\x00\x00", b"\x80\x02\xa4}"];
        let message = Event::Message { ack: Ack::None, body: Bytes::from("{ä}") };
        let pong = Event::Reply(Bytes::from_static(b"\x8a\x02hi"));
        assert_eq!(events(&frames), [Ok(pong), Ok(message)]);
    }

    #[test]
    fn close_is_echoed_with_its_status() {
        let close = |frame: &'static [u8]| events(&[frame, b"\x81\x04PING"]);
        let answer = |bytes: &'static [u8]| vec![Ok(Event::Close(Bytes::from_static(bytes)))];
        assert_eq!(close(b"\x88\x00"), answer(b"\x88\x00"));
        assert_eq!(close(b"\x88\x05\x03\xe8bye"), answer(b"\x88\x02\x03\xe8"));
        assert_eq!(close(b"\x88\x02\x13\x87"), answer(b"\x88\x02\x13\x87"));
        // One byte is no status, and not every number is one; a reason is a text.
        let protocol_error = answer(b"\x88\x02\x03\xea");
        for wrong in [b"\x88\x01x".as_slice(), b"\x88\x02\x03\xed", b"\x88\x02\x0b\xb7"] {
            assert_eq!(close(wrong), protocol_error);
        }
        assert_eq!(close(b"\x88\x03\x03\xe8\xff"), answer(b"\x88\x02\x03\xef"));
    }
}
