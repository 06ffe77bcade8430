//! The transport vectors: streams and what a station makes of them, packages, deliveries.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads files and stops at the first surprise"
)]

use std::path::PathBuf;

use bytes::Bytes;
use dim::wire::delivery::{Due, PendingPushes, Push};
use dim::wire::{
    Ack, DeframeLimits, Deframer, Event, Framing, PushKey, WireError, encode_ack, lines_of, mtp,
    push_head, push_key, push_tail, response_head, split_lines,
};
use serde_json::Value;

/// Longest stream that is cut at every position; longer ones at a sample.
const CUT_EVERYWHERE_BYTES_MAX: usize = 4000;

fn vectors(file: &str) -> Vec<Value> {
    let folder = std::env::var_os("DIM_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors")),
        PathBuf::from,
    );
    let path = folder.join("transport").join(file);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let whole: Value = serde_json::from_slice(&text).unwrap();
    let vectors = whole["vectors"].as_array().unwrap().clone();
    assert_eq!(whole["count"].as_u64(), Some(vectors.len() as u64));
    vectors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn hexes(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(hex).collect()
}

/// What came out of a stream.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    delivered: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    reply: Vec<u8>,
    framing: Option<Framing>,
    closed: bool,
}

impl Seen {
    /// A station that acknowledges every message at once.
    fn of<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Self {
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
                self.messages.extend(split_lines(&body).map(|line| line.to_vec()));
                let long = split_lines(&body).filter(|line| line.len() > 4);
                assert!(lines_of(&body).eq(long));
                self.delivered.push(body.to_vec());
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
        Self {
            delivered: hexes(&expect["delivered"]),
            messages: hexes(&expect["messages"]),
            reply: hex(&expect["reply_hex"]),
            framing: match expect["framing"].as_str() {
                None => None,
                Some("mtp") => Some(Framing::Mtp),
                Some("ws") => Some(Framing::WebSocket),
                Some("mars") => Some(Framing::Mars),
                Some(other) => panic!("unknown framing {other}"),
            },
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
}

fn run_streams(file: &str) {
    for vector in vectors(file) {
        let id = text(&vector["id"]);
        let input = hex(&vector["input_hex"]);
        let may_close = vector["may_close"].as_bool().unwrap_or_default();
        let want = Seen::expected(&vector);
        let check = |seen: Seen, how: &str| {
            assert!(seen.fulfils(&want, may_close), "{file} {id}, {how}\n{seen:?}\n{want:?}");
        };

        let mut rest = input.as_slice();
        let chunks = vector["chunks"].as_array().unwrap().iter().map(|len| {
            let (chunk, after) = rest.split_at(number(len) as usize);
            rest = after;
            chunk
        });
        check(Seen::of(chunks), "in its chunks");
        assert!(rest.is_empty());
        if vector["any_split"] != Value::Bool(true) {
            continue;
        }
        check(Seen::of([input.as_slice()].into_iter()), "whole");
        check(Seen::of(input.chunks(1)), "byte by byte");
        check(Seen::of(input.chunks(7)), "by seven bytes");
        let stride = input.len().div_ceil(CUT_EVERYWHERE_BYTES_MAX).pow(2);
        for at in (1..input.len().min(64)).chain((64..input.len()).step_by(stride)) {
            let (head, tail) = input.split_at(at);
            check(Seen::of([head, tail].into_iter()), &format!("cut at {at}"));
        }
    }
}

#[test]
fn good_streams_are_understood_however_they_are_cut() {
    run_streams("good.json");
}

#[test]
fn malformed_streams_are_survived_however_they_are_cut() {
    run_streams("malformed.json");
}

#[test]
fn packages_are_packed_as_the_reference_packs_them() {
    for vector in vectors("pack.json") {
        let body = |field: &str| hex(&vector[field]);
        let len = |body: &[u8]| u32::try_from(body.len()).unwrap();
        let packed = match (text(&vector["framing"]), vector["what"].as_str()) {
            ("mtp", None) => {
                let (id, body) = (body("sn").try_into().unwrap(), body("body_hex"));
                let (pages, index) = (number(&vector["pages"]), number(&vector["index"]));
                let kind = match text(&vector["type"]) {
                    "command" => mtp::Kind::Command,
                    "command_response" => mtp::Kind::CommandResponse,
                    "message" => mtp::Kind::Message,
                    "message_response" => mtp::Kind::MessageResponse,
                    "message_fragment" => mtp::Kind::Fragment,
                    other => panic!("unknown type {other}"),
                };
                [&mtp::encode_head(kind, id, pages, index, len(&body)), &*body].concat()
            }
            ("ws", None) => {
                let body = body("payload_hex");
                [&push_head(Framing::WebSocket, 1, len(&body)), &*body].concat()
            }
            ("ws-handshake", None) => Seen::of([&*body("request_hex")].into_iter()).reply,
            ("mars", Some("response")) => {
                let body = body("body_hex");
                let ack = Ack::Mars { cmd: number(&vector["cmd"]), seq: number(&vector["seq"]) };
                [&response_head(&ack, len(&body)).unwrap(), &*body].concat()
            }
            ("mars", Some("push")) => {
                let (sn, body) = (body("sn_hex").try_into().unwrap(), body("payload_hex"));
                let sn = u32::from_be_bytes(sn).into();
                [&push_head(Framing::Mars, sn, len(&body)), &*body].concat()
            }
            other => panic!("unknown vector {other:?}"),
        };
        assert_eq!(packed, hex(&vector["packed_hex"]), "{vector}");
    }
}

/// One connection of a station that pushes one message.
struct Station {
    deframer: Deframer,
    pending: PendingPushes<Vec<u8>>,
    written: Vec<u8>,
    delivered: bool,
    failed: bool,
}

impl Station {
    fn new() -> Self {
        Self {
            deframer: Deframer::new(DeframeLimits::default()),
            pending: PendingPushes::default(),
            written: Vec::new(),
            delivered: false,
            failed: false,
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.deframer.feed(Bytes::copy_from_slice(bytes));
        while let Some(event) = self.deframer.next_event()? {
            match event {
                Event::Message { ack, .. } => {
                    self.written.extend_from_slice(encode_ack(&ack).as_deref().unwrap_or_default());
                }
                Event::Reply(bytes) | Event::Close(bytes) => self.written.extend_from_slice(&bytes),
                Event::Acknowledged(key) => {
                    self.delivered |= self.pending.acknowledged(&key).is_some();
                }
                Event::Heartbeat => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, sn: u64, body: &[u8]) {
        let framing = self.deframer.framing().unwrap();
        let head = push_head(framing, sn, u32::try_from(body.len()).unwrap());
        let frame = [&head, body, push_tail(framing)].concat();
        self.written.extend_from_slice(&frame);
        if !self.deframer.acknowledges() {
            self.delivered = true;
            return;
        }
        let key = push_key(framing, sn, body).unwrap();
        let frame_bytes = frame.len();
        let push = Push { key, signature: None, token: 1, frame_bytes, frame };
        self.pending.sent(push, 0).unwrap();
    }

    fn tick(&mut self, now_ms: u64) {
        while let Some(due) = self.pending.due(now_ms) {
            match due {
                Due::Resend { frame, .. } => self.written.extend(frame),
                Due::GivenUp { .. } => self.failed = true,
            }
        }
    }
}

/// The number that the recorded station gave its push.
fn sn_of(framing: Framing, push: &[u8]) -> u64 {
    let key = match framing {
        Framing::Mtp => return u64::from_be_bytes(push[4..12].try_into().unwrap()),
        Framing::Mars => {
            let mut reader = Station::new();
            reader.deframer.feed(Bytes::copy_from_slice(push));
            reader.deframer.next_event().unwrap()
        }
        Framing::WebSocket | Framing::Lines => return 1,
    };
    match key {
        Some(Event::Acknowledged(PushKey::Mars(sn))) => sn.into(),
        other => panic!("no serial number: {other:?}"),
    }
}

#[test]
fn the_right_answers_count_as_delivered() {
    for vector in vectors("delivery.json") {
        let id = text(&vector["id"]);
        let mut station = Station::new();
        station.read(&hex(&vector["hello_hex"])).unwrap();
        station.read(&hex(&vector["first_hex"])).unwrap();
        station.written.clear();
        let steps = vector["steps"].as_array().unwrap();
        let framing = station.deframer.framing().unwrap();
        let sn = sn_of(framing, &hex(&steps[0]["station_sends_hex"]));
        station.push(sn, &hex(&vector["payload_hex"]));
        for step in steps {
            let now_ms = (step["at"].as_f64().unwrap() * 1000.0) as u64;
            if step["client_sends_hex"].is_string() {
                station.read(&hex(&step["client_sends_hex"])).unwrap();
            }
            station.tick(now_ms);
            let written = std::mem::take(&mut station.written);
            assert_eq!(written, hex(&step["station_sends_hex"]), "{id} at {now_ms} ms");
            assert_eq!(Value::from(station.delivered), step["delivered"], "{id} at {now_ms} ms");
            let failed = step["failed"].as_bool().unwrap_or_default();
            assert_eq!(station.failed, failed, "{id} at {now_ms} ms");
        }
    }
}
