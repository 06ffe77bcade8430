//! What a terminal makes of what it reads.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{DEPTH_MAX, Effect, Effects, Event, OWN, PARTS_MAX, Terminal, tell};
use crate::base::time::Now;
use crate::client::messenger::{Incoming, Opened, Outgoing};
use crate::client::say;
use crate::client::source::Source;
use crate::proto::address::EntityKind;
use crate::proto::command::Command;
use crate::proto::content::{Body, Content, kind};
use crate::proto::id::Id;
use crate::wire::{Event as WireEvent, Framing, PushKey, encode_ack, lines_of, text_ack};

impl<S: Source> Terminal<S> {
    pub(super) fn on_event(&mut self, event: WireEvent, now: Now, out: &mut Effects) {
        match event {
            WireEvent::Heartbeat => {}
            WireEvent::Reply(bytes) => out.push(Effect::Write(bytes)),
            WireEvent::Acknowledged(PushKey::Mtp(id)) => {
                if let Some(token) = self.outbox.acknowledged(u64::from_be_bytes(id)) {
                    tell(token, Event::Acknowledged { token }, out);
                }
            }
            WireEvent::Acknowledged(PushKey::Mars(_) | PushKey::Text(_)) => {}
            WireEvent::Close(last) => {
                out.push(Effect::Write(last));
                self.hang_up(now, out);
            }
            WireEvent::Message { ack, body } => {
                for line in lines_of(&body) {
                    self.deliver(line, 0, now, out);
                }
                // Only now: before, the application had not been told.
                let ack = match self.settings.framing {
                    Framing::WebSocket => text_ack(&body).map(|ack| self.frame(0, &ack)),
                    _ => encode_ack(&ack).map(Bytes::from),
                };
                self.acknowledge(ack, out);
            }
        }
    }

    /// Acknowledges a package, or leaves that to the application.
    fn acknowledge(&mut self, ack: Option<Bytes>, out: &mut Effects) {
        // Of a login, nothing has to be kept.
        if !self.settings.confirms || !self.is_logged_in() {
            return out.extend(ack.map(Effect::Write));
        }
        let whole = self.unconfirmed.add(ack);
        out.extend(whole.map(|package| Effect::Event(Event::Whole { package })));
    }

    /// One message, or one inside another.
    fn deliver(&mut self, line: Bytes, depth: u8, now: Now, out: &mut Effects) {
        let opened = self.messenger.parse(line.clone()).and_then(|message| {
            let known = self.seen.contains(message.signature());
            (!known).then(|| self.messenger.open(message, now.wall_s())).transpose()
        });
        match opened {
            Ok(None) => {}
            Ok(Some(Incoming::Opened(opened))) => {
                self.seen.insert(opened.message.signature());
                self.opened(*opened, depth, now, out);
            }
            Ok(Some(Incoming::Sealed(message))) => {
                self.seen.insert(message.signature());
                out.push(Effect::Event(Event::Sealed(message)));
            }
            Ok(Some(Incoming::Missing(sender, _))) => {
                self.want(&sender, now, out);
                if self.settings.confirms {
                    self.unconfirmed.waits_for(sender.clone());
                }
                let dropped = self.messenger.park_in(sender, line);
                out.extend(dropped.map(|sender| Effect::Event(Event::Dropped(sender))));
            }
            Err(refusal) => out.push(Effect::Event(Event::Refused(refusal))),
        }
    }

    fn opened(&mut self, opened: Opened, depth: u8, now: Now, out: &mut Effects) {
        let sender = opened.message.sender().clone();
        let from_station = self.login.is_station(&sender);
        match &opened.content.body {
            Body::Command(Command::Handshake { title, session }) => {
                return self.handshake(&sender, title, session.as_deref(), now, out);
            }
            Body::Command(Command::Meta { did: Some(did), meta: Some(meta) }) => {
                self.learn(did, Some(meta), &[], now);
            }
            Body::Command(Command::Documents {
                did: Some(did),
                meta,
                documents: Some(all),
                ..
            }) => {
                self.learn(did, meta.as_ref(), all, now);
            }
            // A name means what our own station says, and nobody else.
            Body::Command(Command::Ans { .. }) if from_station => {
                if let Some(Value::Object(records)) = opened.content.map.get("records") {
                    self.names.learn(records);
                }
            }
            Body::Command(Command::Receipt) if from_station => {
                let origin = opened.content.map.get("origin").and_then(|o| o.get("signature"));
                let answered = origin.and_then(Value::as_str).and_then(|s| self.outbox.answered(s));
                if let Some(token) = answered {
                    tell(token, Event::Acknowledged { token }, out);
                }
            }
            Body::Array(parts) if depth < DEPTH_MAX => {
                for part in parts.iter().take(PARTS_MAX) {
                    if let Ok(content) = Content::read(part.clone()) {
                        let message = opened.message.clone();
                        self.opened(Opened { message, content }, depth + 1, now, out);
                    }
                }
                return;
            }
            Body::Forward(secrets) if depth < DEPTH_MAX => {
                for secret in secrets.iter().take(PARTS_MAX) {
                    self.deliver(secret.to_string().into(), depth + 1, now, out);
                }
            }
            Body::Command(_) | Body::Array(_) | Body::Forward(_) | Body::Other => {}
        }
        let receipt = (depth == 0).then(|| self.receipt_for(&opened, now)).flatten();
        out.push(Effect::Event(Event::Received(Box::new(opened))));
        if let Some(content) = receipt {
            // Waits, as anything else, until there is a key to write to its reader with.
            let outgoing = Outgoing { token: OWN, receiver: sender, content };
            self.send(outgoing, now.mono_ms, now, out);
        }
    }

    /// What a person is told whose message came. Never an answer to a command, or receipts would
    /// be answered by receipts.
    fn receipt_for(&mut self, opened: &Opened, now: Now) -> Option<Map<String, Value>> {
        let Opened { message, content } = opened;
        let person = message.sender().kind() == EntityKind::User;
        let ours = message.receiver().is_same_as(self.messenger.account().id());
        let command = matches!(content.kind, kind::COMMAND | kind::HISTORY);
        if !self.settings.receipts || !person || !ours || command {
            return None;
        }
        let stamp = self.messenger.stamp(now.wall_s());
        Some(say::received(stamp, message, content.sn))
    }

    /// Takes what is said of an account, whoever says it: it proves itself or is left.
    fn learn(&mut self, did: &str, meta: Option<&Value>, documents: &[Value], now: Now) {
        let Ok(id) = Id::parse(did) else { return };
        if let Some(meta) = meta {
            self.messenger.learn_meta(&id, meta).ok();
        }
        // They come newest first, and one that is older than a kept one is not taken.
        for document in documents.iter().take(PARTS_MAX).rev() {
            self.messenger.learn_document(&id, document, now.wall_s()).ok();
        }
    }

    /// Takes up again what waited for accounts that are known now.
    pub(super) fn wake(&mut self, now: Now, out: &mut Effects) {
        while let Some(id) = self.messenger.take_learned() {
            for line in self.messenger.unpark_in(&id) {
                self.deliver(line, 0, now, out);
            }
            for package in self.unconfirmed.met(&id) {
                out.push(Effect::Event(Event::Whole { package }));
            }
            self.try_parked(now, out);
            out.push(Effect::Event(Event::Learned(id)));
        }
    }

    pub(super) fn try_parked(&mut self, now: Now, out: &mut Effects) {
        for (since_ms, outgoing) in self.messenger.unpark_out() {
            self.send(outgoing, since_ms, now, out);
        }
    }
}
