//! Packages that we write, and when a pushed message counts as delivered.

use bytes::Bytes;
use dim::wire::delivery::{Due, PendingPushes, Push};
use dim::wire::{
    Ack, DeframeLimits, Deframer, Event, Framing, PushKey, WireError, encode_ack, mtp, push_head,
    push_key, push_tail, response_head,
};
use serde_json::Value;

use crate::set::{Outcome, bytes, exact, list, number, same, text, wrong};
use crate::streams::Seen;

fn len(body: &[u8]) -> u32 {
    u32::try_from(body.len()).unwrap()
}

pub(crate) fn packed(vector: &Value) -> Outcome {
    let body = |field: &str| bytes(vector, field);
    let packed = match (text(vector, "framing"), vector["what"].as_str()) {
        ("mtp", None) => {
            let (id, body) = (body("sn").try_into().unwrap(), body("body_hex"));
            let (pages, index) = (number(vector, "pages"), number(vector, "index"));
            let kind = match text(vector, "type") {
                "command" => mtp::Kind::Command,
                "command_response" => mtp::Kind::CommandResponse,
                "message" => mtp::Kind::Message,
                "message_response" => mtp::Kind::MessageResponse,
                "message_fragment" => mtp::Kind::Fragment,
                other => return Err(wrong("a known type", other)),
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
            let ack = Ack::Mars { cmd: number(vector, "cmd"), seq: number(vector, "seq") };
            [&response_head(&ack, len(&body)).unwrap(), &*body].concat()
        }
        ("mars", Some("push")) => {
            let (sn, body) = (body("sn_hex").try_into().unwrap(), body("payload_hex"));
            let sn = u32::from_be_bytes(sn).into();
            [&push_head(Framing::Mars, sn, len(&body)), &*body].concat()
        }
        other => return Err(wrong("a known framing", format!("{other:?}"))),
    };
    same("packed", packed, bytes(vector, "packed_hex"))?;
    exact()
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

pub(crate) fn delivery(vector: &Value) -> Outcome {
    let mut station = Station::new();
    station.read(&bytes(vector, "hello_hex")).unwrap();
    station.read(&bytes(vector, "first_hex")).unwrap();
    station.written.clear();
    let steps = list(vector, "steps");
    let framing = station.deframer.framing().unwrap();
    let sn = sn_of(framing, &bytes(&steps[0], "station_sends_hex"));
    station.push(sn, &bytes(vector, "payload_hex"));
    for step in steps {
        let now_ms = (step["at"].as_f64().unwrap() * 1000.0) as u64;
        if step["client_sends_hex"].is_string() {
            station.read(&bytes(step, "client_sends_hex")).unwrap();
        }
        station.tick(now_ms);
        let written = std::mem::take(&mut station.written);
        same(&format!("written at {now_ms} ms"), written, bytes(step, "station_sends_hex"))?;
        let delivered = step["delivered"].as_bool();
        same(&format!("delivered at {now_ms} ms"), Some(station.delivered), delivered)?;
        let failed = step["failed"].as_bool().unwrap_or_default();
        same(&format!("failed at {now_ms} ms"), station.failed, failed)?;
    }
    exact()
}
