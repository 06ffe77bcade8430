//! As much of HTTP/2 (RFC 9113) as a client needs that asks several things at a time over one
//! connection: bytes in, bytes and answers out. What waits for sockets is in `line.rs`.

use std::collections::BTreeMap;

use loona_hpack::Decoder;

use crate::bot::announcer::service::{Answer, Request};

/// Questions that are open at a time, whatever the server allows.
const OPEN_MAX: u32 = 100;
/// Longest answer's body, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest block of headers, in bytes.
const HEADERS_BYTES_MAX: usize = 32 << 10;
/// Longest frame that a server may send as we do not ask for longer ones, in bytes.
const FRAME_BYTES_MAX: usize = 16 << 10;
/// Flow control's window, until somebody says otherwise.
const WINDOW: i64 = 65_535;
/// The last number of a stream.
const STREAM_MAX: u32 = 0x7fff_ffff;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// Why a connection cannot be gone on with: the server's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault(&'static str);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server does not speak HTTP/2 as it should: {}", self.0)
    }
}

/// A question that is open.
#[derive(Debug)]
struct Stream {
    tag: u64,
    unsent: Vec<u8>,
    /// Bytes that the server takes of it now.
    window: i64,
    status: Option<u16>,
    retry_after_s: Option<u32>,
    body: Vec<u8>,
}

/// A client's side of a connection.
pub(super) struct Connection {
    authority: String,
    read: Vec<u8>,
    written: Vec<u8>,
    decoder: Decoder<'static>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    /// A block of headers that is not whole: of which stream, its first frame's flags.
    block: Option<(u32, u8, Vec<u8>)>,
    window: i64,
    stream_window: i64,
    frame_bytes_max: usize,
    /// One until the server has said how many.
    open_max: u32,
    closing: bool,
}

impl Connection {
    /// Begins to speak to a server, which is called `authority` in requests.
    pub(super) fn new(authority: &str) -> Self {
        let mut decoder = Decoder::new();
        // No table of headers has to be kept for a few short answers.
        decoder.set_max_allowed_table_size(0);
        let mut connection = Self {
            authority: authority.to_owned(),
            read: Vec::new(),
            written: PREFACE.to_vec(),
            decoder,
            streams: BTreeMap::new(),
            next_stream: 1,
            block: None,
            window: WINDOW,
            stream_window: WINDOW,
            frame_bytes_max: FRAME_BYTES_MAX,
            open_max: 1,
            closing: false,
        };
        let settings = [(HEADER_TABLE_SIZE, 0u32), (ENABLE_PUSH, 0)];
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        connection.frame(SETTINGS, 0, 0, &settings);
        connection
    }

    /// Bytes for the server.
    pub(super) fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    /// Questions that may be asked now.
    pub(super) fn room(&self) -> usize {
        let open = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        if self.is_over() { 0 } else { self.open_max.saturating_sub(open) as usize }
    }

    /// Whether another connection is needed for further questions.
    pub(super) fn is_over(&self) -> bool {
        self.closing || self.next_stream > STREAM_MAX
    }

    /// Asks; `tag` names the answer.
    pub(super) fn ask(&mut self, tag: u64, request: &Request, authorization: Option<&str>) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut block = Vec::new();
        let fixed = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", self.authority.as_str()),
            (":path", request.path.as_str()),
        ];
        let own = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let secret = authorization.map(|value| ("authorization", value));
        for (name, value) in fixed.into_iter().chain(own).chain(secret) {
            put_header(&mut block, name, value);
        }
        let frames = block.len().div_ceil(self.frame_bytes_max);
        let (mut kind, mut flags) = (HEADERS, if request.body.is_empty() { END_STREAM } else { 0 });
        for (at, part) in block.chunks(self.frame_bytes_max).enumerate() {
            flags |= if at + 1 == frames { END_HEADERS } else { 0 };
            self.frame(kind, flags, stream, part);
            (kind, flags) = (CONTINUATION, 0);
        }
        let unsent = request.body.clone();
        let window = self.stream_window;
        let open =
            Stream { tag, unsent, window, status: None, retry_after_s: None, body: Vec::new() };
        self.streams.insert(stream, open);
        self.send_bodies();
    }

    /// Takes what the server has said; answers that have become whole come out.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Vec<(u64, Answer)>, Fault> {
        self.read.extend_from_slice(bytes);
        let (mut answers, mut at) = (Vec::new(), 0);
        while let Some(head) = self.read.get(at..).and_then(|rest| rest.first_chunk::<9>()) {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if len > FRAME_BYTES_MAX {
                return Err(Fault("a frame is too long"));
            }
            let Some(payload) = self.read.get(at + 9..at + 9 + len).map(<[u8]>::to_vec) else {
                break;
            };
            at += 9 + len;
            let stream = u32::from_be_bytes(stream) & STREAM_MAX;
            self.take_frame(kind, flags, stream, &payload, &mut answers)?;
        }
        self.read.drain(..at);
        Ok(answers)
    }

    /// Gives up all questions that are open.
    pub(super) fn give_up(&mut self, why: &str) -> Vec<(u64, Answer)> {
        self.closing = true;
        let streams = std::mem::take(&mut self.streams).into_values();
        streams.map(|stream| (stream.tag, Answer::None { why: why.to_owned() })).collect()
    }

    fn take_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        answers: &mut Vec<(u64, Answer)>,
    ) -> Result<(), Fault> {
        if self.block.is_some() && kind != CONTINUATION {
            return Err(Fault("a block of headers is interrupted"));
        }
        match kind {
            DATA => {
                self.credit(stream, flags, payload.len());
                let part = unpadded(flags, payload)?;
                let Some(open) = self.streams.get_mut(&stream) else { return Ok(()) };
                if open.body.len() + part.len() > BODY_BYTES_MAX {
                    return Err(Fault("an answer is too long"));
                }
                open.body.extend_from_slice(part);
                self.end(stream, flags, answers);
            }
            HEADERS => {
                let part = unpadded(flags, payload)?;
                let skipped = if flags & PRIORITY == 0 { 0 } else { 5 };
                let part = part.get(skipped..).ok_or(Fault("headers are too short"))?;
                self.block = Some((stream, flags, part.to_vec()));
                self.headers(flags, answers)?;
            }
            CONTINUATION => {
                let block = self.block.as_mut().filter(|(of, ..)| *of == stream);
                let (.., block) = block.ok_or(Fault("headers go on that did not begin"))?;
                block.extend_from_slice(payload);
                if block.len() > HEADERS_BYTES_MAX {
                    return Err(Fault("headers are too long"));
                }
                self.headers(flags, answers)?;
            }
            RST_STREAM => {
                if let Some(open) = self.streams.remove(&stream) {
                    let why = "the service has dropped the question".to_owned();
                    answers.push((open.tag, Answer::None { why }));
                }
            }
            SETTINGS if flags & ACK == 0 => self.settings(payload)?,
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
            GOAWAY => self.go_away(payload, answers)?,
            WINDOW_UPDATE => self.widen(stream, payload)?,
            PUSH_PROMISE => return Err(Fault("it pushes, which was forbidden")),
            _ => {}
        }
        Ok(())
    }

    fn headers(&mut self, flags: u8, answers: &mut Vec<(u64, Answer)>) -> Result<(), Fault> {
        if flags & END_HEADERS == 0 {
            return Ok(());
        }
        let Some((stream, first, block)) = self.block.take() else { return Ok(()) };
        let headers = self.decoder.decode(&block).map_err(|_| Fault("headers cannot be read"))?;
        let Some(open) = self.streams.get_mut(&stream) else { return Ok(()) };
        for (name, value) in headers {
            let number = || std::str::from_utf8(&value).ok()?.trim().parse::<u32>().ok();
            match &name[..] {
                b":status" => open.status = number().and_then(|status| status.try_into().ok()),
                b"retry-after" => open.retry_after_s = number(),
                _ => {}
            }
        }
        // An interim answer; the final one follows.
        if open.status.is_some_and(|status| status < 200) {
            open.status = None;
            return Ok(());
        }
        self.end(stream, first, answers);
        Ok(())
    }

    fn end(&mut self, stream: u32, flags: u8, answers: &mut Vec<(u64, Answer)>) {
        if flags & END_STREAM == 0 {
            return;
        }
        let Some(open) = self.streams.remove(&stream) else { return };
        if !open.unsent.is_empty() {
            // It needs no more of the question; we must not leave the stream half open.
            self.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        }
        let answer = match open.status {
            Some(status) => {
                Answer::Came { status, retry_after_s: open.retry_after_s, body: open.body }
            }
            None => Answer::None { why: "the service's answer has no status".to_owned() },
        };
        answers.push((open.tag, answer));
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if !payload.len().is_multiple_of(6) {
            return Err(Fault("settings have an odd length"));
        }
        self.open_max = OPEN_MAX;
        for setting in payload.chunks_exact(6) {
            let [a, b, c, d, e, f] = *setting else { continue };
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                MAX_CONCURRENT_STREAMS => self.open_max = value.min(OPEN_MAX),
                INITIAL_WINDOW_SIZE if value <= STREAM_MAX => {
                    let change = i64::from(value) - self.stream_window;
                    self.stream_window = i64::from(value);
                    self.streams.values_mut().for_each(|stream| stream.window += change);
                }
                MAX_FRAME_SIZE if value >= 1 << 14 => {
                    // More than we ever send in one.
                    self.frame_bytes_max = FRAME_BYTES_MAX;
                }
                INITIAL_WINDOW_SIZE | MAX_FRAME_SIZE => {
                    return Err(Fault("a setting is out of its bounds"));
                }
                _ => {}
            }
        }
        self.frame(SETTINGS, ACK, 0, &[]);
        self.send_bodies();
        Ok(())
    }

    fn go_away(&mut self, payload: &[u8], answers: &mut Vec<(u64, Answer)>) -> Result<(), Fault> {
        let last = payload.first_chunk().ok_or(Fault("a farewell is too short"))?;
        let last = u32::from_be_bytes(*last) & STREAM_MAX;
        self.closing = true;
        let reason = payload.get(8..).map(String::from_utf8_lossy).unwrap_or_default();
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
        for (_, open) in self.streams.split_off(&last.saturating_add(1)) {
            answers.push((open.tag, Answer::None { why: format!("the service leaves: {reason}") }));
        }
        Ok(())
    }

    fn widen(&mut self, stream: u32, payload: &[u8]) -> Result<(), Fault> {
        let more = payload.first_chunk().ok_or(Fault("a window is too short"))?;
        let more = i64::from(u32::from_be_bytes(*more) & STREAM_MAX);
        let window = match stream {
            0 => Some(&mut self.window),
            stream => self.streams.get_mut(&stream).map(|stream| &mut stream.window),
        };
        if let Some(window) = window {
            *window += more;
            if *window > i64::from(STREAM_MAX) {
                return Err(Fault("a window is too wide"));
            }
        }
        self.send_bodies();
        Ok(())
    }

    /// Sends as much of the questions' bodies as the server takes.
    fn send_bodies(&mut self) {
        let mut frames = Vec::new();
        for (number, stream) in &mut self.streams {
            while !stream.unsent.is_empty() {
                let room = self.window.min(stream.window);
                let room = usize::try_from(room).unwrap_or(0).min(self.frame_bytes_max);
                if room == 0 {
                    break;
                }
                let rest = stream.unsent.split_off(room.min(stream.unsent.len()));
                let part = std::mem::replace(&mut stream.unsent, rest);
                let len = i64::try_from(part.len()).unwrap_or(i64::MAX);
                self.window -= len;
                stream.window -= len;
                let flags = if stream.unsent.is_empty() { END_STREAM } else { 0 };
                frames.push((*number, flags, part));
            }
        }
        for (stream, flags, part) in frames {
            self.frame(DATA, flags, stream, &part);
        }
    }

    /// Gives back the room that a part of an answer took.
    fn credit(&mut self, stream: u32, flags: u8, len: usize) {
        let Some(len) = u32::try_from(len).ok().filter(|len| *len > 0) else { return };
        self.frame(WINDOW_UPDATE, 0, 0, &len.to_be_bytes());
        if flags & END_STREAM == 0 && self.streams.contains_key(&stream) {
            self.frame(WINDOW_UPDATE, 0, stream, &len.to_be_bytes());
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.written.extend_from_slice(&len[1..]);
        self.written.extend_from_slice(&[kind, flags]);
        self.written.extend_from_slice(&stream.to_be_bytes());
        self.written.extend_from_slice(payload);
    }
}

fn unpadded(flags: u8, payload: &[u8]) -> Result<&[u8], Fault> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(Fault("a padding is too long"))?;
    let len =
        rest.len().checked_sub(usize::from(*padding)).ok_or(Fault("a padding is too long"))?;
    Ok(rest.get(..len).unwrap_or_default())
}

/// A header as a literal that is never put into a table: each is said once, and one is a secret.
fn put_header(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x10);
    for text in [name, value] {
        put_length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// A number that begins in the lower seven bits of a byte (RFC 7541, 5.1).
fn put_length(block: &mut Vec<u8>, len: usize) {
    if len < 0x7f {
        return block.push(u8::try_from(len).unwrap_or(u8::MAX));
    }
    block.push(0x7f);
    let mut rest = len - 0x7f;
    while rest >= 0x80 {
        block.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    block.push(u8::try_from(rest).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(len: usize) -> Request {
        Request { path: "/x".to_owned(), headers: Vec::new(), body: vec![7; len] }
    }

    fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut connection = Connection::new("x");
        connection.take_written();
        connection.frame(kind, flags, stream, payload);
        connection.take_written()
    }

    /// A connection whose server has said this, and what it was told before.
    fn ready(settings: &[u8]) -> Connection {
        let mut connection = Connection::new("x");
        assert_eq!(connection.room(), 1, "until the server has said how many");
        assert!(connection.take_written().starts_with(PREFACE));
        assert_eq!(connection.receive(&raw(SETTINGS, 0, 0, settings)).unwrap(), []);
        assert_eq!(connection.take_written(), raw(SETTINGS, ACK, 0, &[]));
        connection
    }

    /// Kinds, flags and lengths of frames.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, usize)> {
        let mut frames = Vec::new();
        while let Some([a, b, c, kind, flags, ..]) = bytes.first_chunk::<9>() {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            frames.push((*kind, *flags, len));
            bytes = &bytes[9 + len..];
        }
        frames
    }

    #[test]
    fn a_body_is_sent_as_the_server_makes_room() {
        let mut connection = ready(&[0, 4, 0, 0, 0, 10]);
        connection.ask(1, &request(25), None);
        let head = frames(&connection.take_written());
        assert_eq!(head[1..], [(DATA, 0, 10)]);
        connection.receive(&raw(WINDOW_UPDATE, 0, 1, &10u32.to_be_bytes())).unwrap();
        assert_eq!(frames(&connection.take_written()), [(DATA, 0, 10)]);
        connection.receive(&raw(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0])).unwrap();
        let rest = frames(&connection.take_written());
        assert_eq!(rest, [(SETTINGS, ACK, 0), (DATA, END_STREAM, 5)]);
    }

    #[test]
    fn an_answer_comes_whole_however_it_is_cut() {
        // `:status: 200` is number 8 of the fixed table.
        let head = raw(HEADERS, END_HEADERS, 1, &[0x88]);
        let body = raw(DATA, END_STREAM, 1, b"{}");
        let whole = [head, body].concat();
        let came = Answer::Came { status: 200, retry_after_s: None, body: b"{}".to_vec() };
        for at in 0..=whole.len() {
            let mut connection = ready(&[]);
            connection.ask(7, &request(1), Some("bearer x"));
            let (first, rest) = whole.split_at(at);
            let mut answers = connection.receive(first).unwrap();
            answers.extend(connection.receive(rest).unwrap());
            assert_eq!(answers, [(7, came.clone())]);
        }
    }

    #[test]
    fn every_question_has_an_answer_when_the_server_leaves() {
        let mut connection = ready(&[]);
        for tag in [1, 2, 3] {
            connection.ask(tag, &request(1), None);
        }
        let reset = connection.receive(&raw(RST_STREAM, 0, 1, &[0; 4])).unwrap();
        assert!(matches!(reset[..], [(1, Answer::None { .. })]), "{reset:?}");
        let left = connection.receive(&raw(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])).unwrap();
        assert!(matches!(left[..], [(3, Answer::None { .. })]), "{left:?}");
        assert!(connection.is_over() && connection.room() == 0);
        let rest = connection.give_up("over");
        assert!(matches!(rest[..], [(2, Answer::None { .. })]), "{rest:?}");
    }

    #[test]
    fn what_breaks_the_rules_ends_the_connection() {
        for bytes in [
            raw(PUSH_PROMISE, END_HEADERS, 1, &[0; 8]),
            raw(CONTINUATION, END_HEADERS, 1, &[]),
            raw(SETTINGS, 0, 0, &[0; 5]),
            raw(HEADERS, END_HEADERS | PADDED, 1, &[9, 0]),
            raw(HEADERS, END_HEADERS, 1, &[0xff; 20]),
            raw(GOAWAY, 0, 0, &[0]),
            raw(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            [raw(HEADERS, 0, 1, &[0x88]), raw(PING, 0, 0, &[0; 8])].concat(),
            vec![0xff; 9],
        ] {
            let mut connection = ready(&[]);
            connection.ask(1, &request(1), None);
            assert!(connection.receive(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn long_headers_have_the_length_that_decoders_read() {
        for len in [0, 1, 126, 127, 128, 300, 20_000] {
            let value = "v".repeat(len);
            let mut block = Vec::new();
            put_header(&mut block, "authorization", &value);
            let read = Decoder::new().decode(&block).unwrap();
            assert_eq!(read, [(b"authorization".to_vec(), value.into_bytes())]);
        }
    }
}
