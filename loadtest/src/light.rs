//! A connection as its client sees it: bytes in, bytes out, and what was said. It knows how to log
//! in and to acknowledge, and keeps little more than it must: there are thousands.

use bytes::{Bytes, BytesMut};
use dim::base::encode::base64_encode;
use dim::client::login::{Login, Step};
use dim::crypto::identity::{prove_document, prove_meta, verify_keys};
use dim::crypto::seal::{HeardKey, open};
use dim::crypto::sign::{Verified, verify};
use dim::proto::directory::Names;
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::message::ReliableMessage;
use dim::proto::meta::Meta;
use dim::wire::websocket::{BINARY, Masks, encode_masked};
use dim::wire::{self, DeframeLimits, Deframer, Event, Framing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::corpus::quoted;
use crate::people::Person;

/// How connections are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    #[default]
    Mtp,
    WebSocket,
    /// Every other one.
    Both,
}

/// What all connections of a thread share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    parser: Parser,
    names: Names,
    /// Who proved to be the station, at the first answer.
    pub(crate) station: Option<Id>,
}

/// What was heard.
#[derive(Debug)]
pub(crate) enum Said {
    /// The login is through.
    LoggedIn,
    /// A message, not looked into.
    Message(Bytes),
    /// The station acknowledged, or answered a heartbeat.
    Nothing,
}

/// What the station says about a message.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) text: String,
    /// Of the message that it is about.
    pub(crate) signature: Option<String>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Light {
    framing: Framing,
    deframer: Deframer,
    login: Login,
    heard: HeardKey,
    masks: Masks,
    greeted: bool,
    next_id: u64,
    /// Bytes to be written.
    pub(crate) out: BytesMut,
}

impl Light {
    /// A connection to `host` that was just made. `seed` is random.
    pub(crate) fn new(form: Form, host: (&str, u16), seed: u64) -> Self {
        let limits = DeframeLimits::default();
        let (framing, deframer, out) = match form {
            Form::WebSocket => {
                let key = base64_encode(&[seed.to_be_bytes(); 2].concat());
                let request = wire::upgrade::request(host.0, host.1, &key);
                let deframer = Deframer::websocket_client(&key, Masks::new(seed), limits);
                (Framing::WebSocket, deframer, BytesMut::from(&request[..]))
            }
            Form::Mtp | Form::Both => (Framing::Mtp, Deframer::mtp_client(limits), BytesMut::new()),
        };
        let masks = Masks::new(seed.rotate_left(17));
        // Both ends number their packages; from half of the range on, ids of one run do not meet.
        let next_id = seed | 1 << 63;
        Self {
            framing,
            deframer,
            login: Login::new(None),
            heard: None,
            masks,
            greeted: false,
            next_id,
            out,
        }
    }

    /// Takes what was read and says what it means. An error ends the connection.
    pub(crate) fn hear(
        &mut self,
        bytes: Bytes,
        who: &Person,
        shared: &mut Shared,
        now_s: f64,
        mut tell: impl FnMut(&mut Self, &mut Shared, Said),
    ) -> Result<(), String> {
        self.deframer.feed(bytes);
        while let Some(event) = self.deframer.next_event().map_err(|error| error.to_string())? {
            self.greet(who, now_s);
            match event {
                Event::Message { ack, body } => {
                    if let Some(ack) = wire::encode_ack(&ack) {
                        self.out.extend_from_slice(&ack);
                    } else if self.framing == Framing::WebSocket
                        && let Some(ack) = wire::text_ack(&body)
                    {
                        self.push_web(&ack);
                    }
                    // A package may be empty, and some stations put several messages into one.
                    for line in wire::lines_of(&body) {
                        let said = self.understand(line, who, shared, now_s)?;
                        tell(self, shared, said);
                    }
                }
                Event::Reply(bytes) => self.out.extend_from_slice(&bytes),
                Event::Acknowledged(_) | Event::Heartbeat => tell(self, shared, Said::Nothing),
                Event::Close(_) => return Err("the station closed the WebSocket".to_owned()),
            }
        }
        self.greet(who, now_s);
        Ok(())
    }

    /// Says hello once the framing stands.
    pub(crate) fn greet(&mut self, who: &Person, now_s: f64) {
        if !self.greeted && self.deframer.framing().is_some() {
            self.greeted = true;
            self.login.begin();
            self.handshake(who, None, now_s);
        }
    }

    /// What one message means to a connection that is logging in, or has.
    fn understand(
        &mut self,
        line: Bytes,
        who: &Person,
        shared: &mut Shared,
        now_s: f64,
    ) -> Result<Said, String> {
        if !line.starts_with(b"{") {
            return Ok(Said::Nothing);
        }
        if self.login.session().is_some() {
            return Ok(Said::Message(line));
        }
        self.listen(&line, who, shared, now_s)?;
        Ok(if self.login.session().is_some() { Said::LoggedIn } else { Said::Message(line) })
    }

    /// Opens a message of the station; goes on with the login if it is about that, and yields the
    /// receipts in it. Messages of others yield none.
    pub(crate) fn listen(
        &mut self,
        line: &Bytes,
        who: &Person,
        shared: &mut Shared,
        now_s: f64,
    ) -> Result<Vec<Receipt>, String> {
        let message = ReliableMessage::parse(line.clone(), &mut shared.parser, &mut shared.names)
            .map_err(|error| format!("the station sent no message: {error}"))?;
        let sender = message.sender().naked();
        let message = match &shared.station {
            // It has proved itself to this process; checking each receipt would measure the client.
            Some(station) if *station == sender => Verified::by_session(message),
            Some(_) => return Ok(Vec::new()),
            None => {
                let message = prove(message, &sender, &mut shared.parser)?;
                shared.station = Some(sender.clone());
                message
            }
        };
        let keys = std::slice::from_ref(&who.open);
        let text = open(&message, &who.id, keys, &mut self.heard, &mut shared.parser)
            .map_err(|error| format!("the station's message cannot be opened: {error}"))?;
        let content: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("the station's content is not JSON: {error}"))?;
        let parts = content.get("contents").and_then(Value::as_array);
        let parts = parts.map_or(std::slice::from_ref(&content), Vec::as_slice);
        let text = |part: &Value, name: &str| Some(part.get(name)?.as_str()?.to_owned());
        let mut receipts = Vec::new();
        for part in parts {
            match part.get("command").and_then(Value::as_str) {
                Some("handshake") => {
                    let (title, session) = (text(part, "title"), text(part, "session"));
                    let title = title.unwrap_or_default();
                    if let Step::Sign { session } =
                        self.login.heard(&sender, &title, session.as_deref())
                    {
                        self.handshake(who, Some(&session), now_s);
                    }
                }
                Some("receipt") => receipts.push(Receipt {
                    text: text(part, "text").unwrap_or_default(),
                    signature: part.get("origin").and_then(|origin| text(origin, "signature")),
                }),
                _ => {}
            }
        }
        Ok(receipts)
    }

    /// Says hello, or signs the station's session key.
    fn handshake(&mut self, who: &Person, session: Option<&str>, now_s: f64) {
        let title = dim::proto::command::title::HELLO;
        let mut content = json!({
            "type": "136", "sn": self.next_id & 0x7fff_ffff, "time": now_s,
            "command": "handshake", "cmd": "handshake", "title": title, "message": title,
        });
        if let (Some(session), Some(map)) = (session, content.as_object_mut()) {
            map.insert("session".into(), session.into());
        }
        let data = content.to_string();
        // An ECDSA signature cannot fail; an RSA one would lack a key, and the login times out.
        let signature = who.sign.sign(data.as_bytes()).unwrap_or_default();
        let mut text = format!(
            "{{\"sender\":\"{}\",\"receiver\":\"station@anywhere\",\
            \"group\":\"stations@everywhere\",\"time\":{now_s:.6},\"type\":\"136\",\"data\":{},\
            \"signature\":\"{}\"",
            who.id,
            quoted(&data),
            base64_encode(&signature)
        );
        if session.is_none() {
            text.push(',');
            text.push_str(&who.introduction);
        }
        text.push('}');
        self.send(text.as_bytes());
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, text: &[u8]) {
        match self.framing {
            Framing::WebSocket => self.push_web(text),
            _ => {
                self.next_id = self.next_id.wrapping_add(1);
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                self.out.extend_from_slice(&wire::push_head(Framing::Mtp, self.next_id, len));
                self.out.extend_from_slice(text);
            }
        }
    }

    /// Says that it is still there.
    pub(crate) fn ping(&mut self) {
        match self.framing {
            Framing::WebSocket => self.push_web(b"PING"),
            _ => {
                self.next_id = self.next_id.wrapping_add(1);
                self.out.extend_from_slice(&wire::mtp_ping(self.next_id));
            }
        }
    }

    fn push_web(&mut self, payload: &[u8]) {
        let mask = self.masks.draw();
        self.out.extend_from_slice(&encode_masked(BINARY, payload, mask));
    }
}

/// The station's first message brings its meta and visa: whether they made its ID, and signed it.
fn prove(message: ReliableMessage, sender: &Id, parser: &mut Parser) -> Result<Verified, String> {
    let meta = message.meta(parser).ok_or("the station does not introduce itself")?;
    let meta = Meta::from_map(&meta).map_err(|error| format!("the station's meta: {error}"))?;
    let meta = prove_meta(sender, meta).map_err(|error| format!("the station's meta: {error}"))?;
    let visa = message.visa(parser).and_then(|visa| Document::from_map(&visa).ok());
    let visa = visa.and_then(|visa| prove_document(&meta, sender, visa).ok());
    let keys = verify_keys(&meta, visa.as_slice());
    verify(message, &keys).map_err(|_| "the station's signature is not its own".to_owned())
}
