//! A client that blocks: one connection, and everything that came over it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dim::crypto::key::CipherKey;
use serde_json::{Map, Value};
use socket2::{Domain, Socket, Type};

use super::frames::{self, Form, Package};
use super::link::Link;
use super::person::random_bytes;
use super::{Letter, PATIENCE, Person};

/// Receive buffer of a client that shall not have much in its kernel.
const NARROW_BYTES: usize = 16 << 10;

/// A message that came.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) map: Map<String, Value>,
    /// What the station said, opened; an array in its parts.
    pub(crate) contents: Vec<Value>,
    /// Whether it came as an array.
    pub(crate) array: bool,
}

impl Message {
    pub(crate) fn signature(&self) -> &str {
        self.map["signature"].as_str().unwrap()
    }

    pub(crate) fn command(&self, name: &str) -> Option<&Value> {
        self.contents.iter().find(|content| content["command"] == name)
    }

    /// The receipt about a message, known by its signature.
    pub(crate) fn receipt(&self, signature: &str) -> Option<&Value> {
        self.contents.iter().find(|content| {
            content["command"] == "receipt" && content["origin"]["signature"] == signature
        })
    }
}

/// How a look at the socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Something,
    Nothing,
    /// The connection is over.
    End,
}

pub(crate) struct Client {
    pub(crate) who: Person,
    pub(crate) form: Form,
    station: String,
    stream: Link,
    read: Vec<u8>,
    key: Option<(String, CipherKey)>,
    last_id: u64,
    /// Bytes are written in pieces of this length, if not 0.
    pub(crate) piece: usize,
    pub(crate) session: Option<String>,
    pub(crate) inbox: Vec<Message>,
    /// How often each message came, by its signature.
    pub(crate) copies: HashMap<String, usize>,
    /// Transaction ids of MTP messages that the station has taken.
    pub(crate) oks: Vec<[u8; 8]>,
    /// Whatever is no message: `PONG`, an empty line.
    pub(crate) words: Vec<Vec<u8>>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, station: &str, who: &Person, form: Form) -> Self {
        Self::over(TcpStream::connect(address).unwrap(), station, who, form)
    }

    /// A client whose kernel takes little.
    pub(crate) fn connect_narrow(
        address: SocketAddr,
        station: &str,
        who: &Person,
        form: Form,
    ) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(NARROW_BYTES).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(TcpStream::from(socket), station, who, form)
    }

    /// A client over a connection that stands; over a WebSocket if that is its form.
    pub(crate) fn over(stream: impl Into<Link>, station: &str, who: &Person, form: Form) -> Self {
        let mut client = Self::bare(stream, station, who, form);
        if form.is_web() {
            client.write(&frames::handshake_request()).unwrap();
            let answer = client.http_answer();
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        }
        client
    }

    /// A client that has not said anything, not even that it wants a WebSocket.
    pub(crate) fn bare(stream: impl Into<Link>, station: &str, who: &Person, form: Form) -> Self {
        let stream = stream.into();
        stream.socket().set_nodelay(true).unwrap();
        Self {
            who: who.clone(),
            form,
            station: station.to_owned(),
            stream,
            read: Vec::new(),
            key: None,
            last_id: u64::from_be_bytes(*random_bytes(8).first_chunk().unwrap()) | 1,
            piece: 0,
            session: None,
            inbox: Vec::new(),
            copies: HashMap::new(),
            oks: Vec::new(),
            words: Vec::new(),
        }
    }

    /// What answers an upgrade, up to the blank line.
    pub(crate) fn http_answer(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                return String::from_utf8(self.read.drain(..at + 4).collect()).unwrap();
            }
            assert_eq!(self.fill(until), Heard::Something, "no answer to the upgrade");
        }
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.socket().local_addr().unwrap()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let piece = if self.piece == 0 { bytes.len().max(1) } else { self.piece };
        bytes.chunks(piece).try_for_each(|part| self.stream.write_all(part))
    }

    pub(crate) fn next_id(&mut self) -> [u8; 8] {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        if self.form == Form::Mars {
            self.last_id &= u64::from(u32::MAX);
        }
        self.last_id.to_be_bytes()
    }

    /// Sends a message; the transaction id that an `OK` will name. None if the connection is over.
    pub(crate) fn try_send(&mut self, letter: &Letter) -> Option<[u8; 8]> {
        let id = self.next_id();
        self.write(&frames::frame(self.form, id, &letter.text)).ok()?;
        Some(id)
    }

    pub(crate) fn send(&mut self, letter: &Letter) -> [u8; 8] {
        self.try_send(letter).expect("the connection stands")
    }

    /// Sends a heartbeat and waits for the answer.
    pub(crate) fn ping(&mut self) {
        let (ping, pong): (Vec<u8>, &[u8]) = match self.form {
            Form::Mtp | Form::MtpSilent => {
                (frames::mtp(frames::COMMAND, self.next_id(), b"PING"), b"PONG")
            }
            Form::WebSocket | Form::WebSocketAck | Form::Mars => {
                (frames::frame(self.form, [0; 8], b"PING"), b"PONG")
            }
            Form::Lines => (b"\n".to_vec(), b""),
        };
        let before = self.words.len();
        self.write(&ping).unwrap();
        let until = Instant::now() + PATIENCE;
        while self.words.len() == before {
            assert_eq!(self.hear(until), Heard::Something, "no answer to a heartbeat");
        }
        assert_eq!(self.words[before], pong);
    }

    /// Sends an MTP heartbeat, if the connection stands; the answer becomes one of the words.
    pub(crate) fn try_ping(&mut self) {
        let id = self.next_id();
        let _ = self.write(&frames::mtp(frames::COMMAND, id, b"PING"));
    }

    /// Reads until something came: a package, whatever it was.
    pub(crate) fn hear(&mut self, until: Instant) -> Heard {
        loop {
            if let Some(package) = frames::take(self.form, &mut self.read) {
                self.package(package);
                return Heard::Something;
            }
            match self.fill(until) {
                Heard::Something => {}
                other => return other,
            }
        }
    }

    /// Reads some bytes.
    fn fill(&mut self, until: Instant) -> Heard {
        let patience = until.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Heard::Nothing;
        }
        self.stream
            .socket()
            .set_read_timeout(Some(patience.max(Duration::from_millis(1))))
            .unwrap();
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Heard::End,
            Ok(count) => {
                self.read.extend_from_slice(&bytes[..count]);
                Heard::Something
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Heard::Nothing
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Heard::Something,
            Err(_) => Heard::End,
        }
    }

    fn package(&mut self, package: Package) {
        let Package { kind, id, body } = package;
        if kind == frames::MESSAGE_RESPONSE {
            self.oks.push(id);
            if self.form != Form::Mars {
                assert_eq!(body, b"OK");
            }
            if matches!(body.as_slice(), b"OK" | b"") {
                return;
            }
        } else {
            assert!(
                !body.starts_with(b"{") || kind == frames::MESSAGE,
                "a package of another type"
            );
        }
        if !body.starts_with(b"{") {
            self.words.push(body);
            return;
        }
        let acknowledgement = match self.form {
            Form::Mars if kind == frames::MESSAGE_RESPONSE => Vec::new(),
            Form::Mars => {
                let words = [b"Mars SN:", &id[..], b"\nOK"].concat();
                frames::mars(frames::PUSH_MESSAGE, 0, &words)
            }
            Form::Mtp => frames::mtp(frames::MESSAGE_RESPONSE, id, b"OK"),
            Form::WebSocketAck => frames::frame(self.form, id, &frames::web_acknowledgement(&body)),
            Form::MtpSilent | Form::WebSocket | Form::Lines => Vec::new(),
        };
        // If the station is gone, the next read tells.
        let _ = self.write(&acknowledgement);
        let map: Map<String, Value> = serde_json::from_slice(&body).unwrap();
        let mut message = Message { map, contents: Vec::new(), array: false };
        *self.copies.entry(message.signature().to_owned()).or_default() += 1;
        if message.map["sender"] == self.station.as_str() {
            let content = self.who.open(&message.map, &mut self.key);
            let mut content = content.expect("the station's messages can be opened");
            message.array = content["type"] == 202;
            message.contents = match content.get_mut("contents").map(Value::take) {
                Some(Value::Array(parts)) => parts,
                _ => vec![content],
            };
        }
        self.inbox.push(message);
    }

    /// The first message from place `from` of the inbox on that fits, waited for.
    pub(crate) fn wait_from(
        &mut self,
        from: usize,
        what: &str,
        fits: impl Fn(&Message) -> bool,
    ) -> Message {
        let until = Instant::now() + PATIENCE;
        let mut at = from;
        loop {
            if let Some(message) = self.inbox.get(at) {
                if fits(message) {
                    return message.clone();
                }
                at += 1;
                continue;
            }
            let heard = self.hear(until);
            assert_eq!(
                heard,
                Heard::Something,
                "{:?}: {what} did not come, only {:#?}",
                self.form,
                self.inbox.iter().skip(from).map(|m| &m.contents).collect::<Vec<_>>()
            );
        }
    }

    pub(crate) fn wait(&mut self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        self.wait_from(0, what, fits)
    }

    /// The status and reason of a WebSocket's CLOSE, which is the last thing that comes.
    pub(crate) fn wait_close(&mut self) -> (u16, String) {
        let until = Instant::now() + PATIENCE;
        while frames::close(&self.read).is_none() {
            assert_eq!(self.fill(until), Heard::Something, "no CLOSE");
        }
        frames::close(&self.read).unwrap()
    }

    /// A user's message, waited for.
    pub(crate) fn wait_letter(&mut self, letter: &Letter) -> Message {
        self.wait("a letter", |message| message.signature() == letter.signature)
    }

    /// The text of the receipt about a message, waited for.
    pub(crate) fn wait_receipt(&mut self, letter: &Letter) -> String {
        let message = self.wait("a receipt", |m| m.receipt(&letter.signature).is_some());
        message.receipt(&letter.signature).unwrap()["text"].as_str().unwrap().to_owned()
    }

    /// An `OK`, waited for.
    pub(crate) fn wait_ok(&mut self, id: [u8; 8]) {
        let until = Instant::now() + PATIENCE;
        while !self.oks.contains(&id) {
            assert_eq!(self.hear(until), Heard::Something, "no OK");
        }
    }

    /// How often a letter came.
    pub(crate) fn copies_of(&self, letter: &Letter) -> usize {
        self.copies.get(&letter.signature).copied().unwrap_or_default()
    }

    /// The first half of the login: the session key that the station wants signed.
    pub(crate) fn hello(&mut self) -> Value {
        let from = self.inbox.len();
        self.send(&self.who.hello(None));
        self.wait_handshake(from, "DIM?")
    }

    /// The answer to a handshake.
    pub(crate) fn wait_handshake(&mut self, from: usize, title: &str) -> Value {
        let answer = self.wait_from(from, "a handshake", |m| m.command("handshake").is_some());
        let said = answer.command("handshake").unwrap().clone();
        assert_eq!(said["title"], title);
        said
    }

    /// The whole login.
    pub(crate) fn login(&mut self) -> Value {
        let session = self.hello()["session"].as_str().unwrap().to_owned();
        let from = self.inbox.len();
        self.send(&self.who.hello(Some(&session)));
        self.session = Some(session);
        self.wait_handshake(from, "DIM!")
    }

    /// The connection, without the client.
    pub(crate) fn into_link(self) -> Link {
        assert!(self.read.is_empty());
        self.stream
    }

    /// Ends the connection; when this returns, the station knows.
    pub(crate) fn leave(mut self) -> Self {
        let _ = self.stream.end();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.hear(until) {
                Heard::Something => {}
                Heard::End => return self,
                Heard::Nothing => panic!("the station does not end the connection"),
            }
        }
    }
}
