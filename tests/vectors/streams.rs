//! Client streams of every framing, and what a station makes of them however they are cut.

use bytes::Bytes;
use dim::wire::{DeframeLimits, Deframer, Event, Framing, encode_ack, lines_of, split_lines};
use serde_json::Value;

use crate::set::{Outcome, Wrong, bytes, exact, list, number, text, wrong};

/// Longest stream that is cut at every position; longer ones at a sample, since the work grows
/// with the square.
const CUT_EVERYWHERE_BYTES_MAX: usize = 12_000;

/// What came out of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    delivered: Vec<Bytes>,
    messages: Vec<Bytes>,
    pub(crate) reply: Vec<u8>,
    framing: Option<Framing>,
    closed: bool,
}

impl Seen {
    /// A station that acknowledges every message at once.
    pub(crate) fn of<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut deframer = Deframer::new(DeframeLimits::default());
        let mut seen = Self::default();
        for chunk in chunks {
            deframer.feed(Bytes::copy_from_slice(chunk));
            seen.take_all(&mut deframer);
        }
        seen
    }

    fn take_all(&mut self, deframer: &mut Deframer) {
        loop {
            match deframer.next_event() {
                Ok(Some(event)) => self.take(event),
                Ok(None) => break,
                Err(_) => {
                    self.closed = true;
                    break;
                }
            }
        }
        self.framing = self.framing.or(deframer.framing());
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Message { ack, body } => {
                self.reply.extend_from_slice(encode_ack(&ack).as_deref().unwrap_or_default());
                self.messages.extend(split_lines(&body));
                let long = split_lines(&body).filter(|line| line.len() > 4);
                assert!(lines_of(&body).eq(long), "the short lines and no others are left out");
                self.delivered.push(body);
            }
            Event::Reply(bytes) => self.reply.extend_from_slice(&bytes),
            Event::Close(bytes) => {
                self.reply.extend_from_slice(&bytes);
                self.closed = true;
            }
            Event::Acknowledged(_) | Event::Heartbeat => {}
        }
    }

    fn expected(vector: &Value) -> Self {
        let expect = &vector["expect"];
        let bodies = |key: &str| {
            let bodies = list(expect, key).iter();
            bodies.map(|hex| bytes(&serde_json::json!({ "hex": hex }), "hex").into()).collect()
        };
        Self {
            delivered: bodies("delivered"),
            messages: bodies("messages"),
            reply: bytes(expect, "reply_hex"),
            framing: expect["framing"].as_str().map(|name| match name {
                "mtp" => Framing::Mtp,
                "ws" => Framing::WebSocket,
                "mars" => Framing::Mars,
                other => panic!("unknown framing {other}"),
            }),
            closed: expect.get("closed").is_some(),
        }
    }

    fn fulfils(&self, want: &Self, may_close: bool) -> bool {
        let closed_early = may_close && self.closed && !want.closed;
        self == want
            || closed_early
                && want.delivered.starts_with(&self.delivered)
                && want.messages.starts_with(&self.messages)
                && want.reply.starts_with(&self.reply)
    }

    /// The first thing in which two differ: whole streams are too long to be read.
    fn difference(&self, want: &Self, how: &str) -> Wrong {
        let show = |seen: &Self| {
            let lens = |all: &[Bytes]| all.iter().map(Bytes::len).collect::<Vec<_>>();
            let (delivered, messages) = (lens(&seen.delivered), lens(&seen.messages));
            let reply = seen.reply.escape_ascii();
            let (framing, closed) = (seen.framing, seen.closed);
            format!(
                "{how}: {framing:?}, closed {closed}, {delivered:?} bytes delivered, \
                 {messages:?} bytes in messages, reply {reply}"
            )
        };
        wrong(show(want), show(self))
    }
}

pub(crate) fn stream(vector: &Value) -> Outcome {
    let input = bytes(vector, "input_hex");
    let may_close = vector["may_close"] == true;
    let want = Seen::expected(vector);
    let check = |seen: Seen, how: &str| match seen.fulfils(&want, may_close) {
        true => Ok(()),
        false => Err(seen.difference(&want, how)),
    };
    let mut rest = input.as_slice();
    let mut chunks = Vec::new();
    for chunk in list(vector, "chunks") {
        let len = number(&serde_json::json!({ "len": chunk }), "len") as usize;
        let (chunk, after) = rest.split_at(len);
        chunks.push(chunk);
        rest = after;
    }
    assert!(rest.is_empty(), "{}: the chunks are not the input", text(vector, "id"));
    check(Seen::of(chunks.into_iter()), "in its chunks")?;
    if vector["any_split"] != true {
        return exact();
    }
    check(Seen::of([input.as_slice()].into_iter()), "whole")?;
    check(Seen::of(input.chunks(1)), "byte by byte")?;
    check(Seen::of(input.chunks(7)), "by seven bytes")?;
    let stride = input.len().div_ceil(CUT_EVERYWHERE_BYTES_MAX).pow(2);
    for at in (1..input.len().min(64)).chain((64..input.len()).step_by(stride)) {
        let (head, tail) = input.split_at(at);
        check(Seen::of([head, tail].into_iter()), &format!("cut at {at}"))?;
    }
    exact()
}
