//! Contents to messages and back, for one account of our own.
//!
//! What cannot be sent or read yet, because an account is not known, is parked: bounded, and told
//! when it has to be dropped. When the account comes to be known, it goes on.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::account::Account;
use super::keys::KeyStore;
use super::message::{Envelope, Instant, Reliable};
use super::say;
use super::source::Source;
use crate::base::digest::sha256;
use crate::crypto::error::CryptoError;
use crate::crypto::identity::{
    Acceptance, Proven, prove_document, prove_meta, seal_keys, verify_keys,
};
use crate::crypto::key::{CipherKey, VerifyKey};
use crate::crypto::seal::open;
use crate::crypto::sign::{Verified, verify};
use crate::proto::command::Stamp;
use crate::proto::content::{Content, ContentError, emit, kind_of};
use crate::proto::directory::Names;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::{Field, MessageError, ReliableMessage};
use crate::proto::meta::Meta;

/// Messages that wait for an account in each direction; what the reference keeps.
pub const PARKED_MAX: usize = 32;
/// Bytes of parked messages in each direction: one longest message, and as much again.
pub const PARKED_BYTES_MAX: usize = 2 * crate::wire::limits::MESSAGE_BYTES_MAX;
/// Senders whose keys are kept parsed; all are forgotten when it is full.
const CHECKERS_MAX: usize = 256;
/// Receivers that have had our meta and visa; all are forgotten when it is full.
const INTRODUCED_MAX: usize = 1024;

/// A content on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The caller's name for it.
    pub token: u64,
    /// To a user, a group, a station or everybody.
    pub receiver: Id,
    /// With `type`, and without `sn` and `time` unless these are to be kept.
    pub content: Map<String, Value>,
}

/// A message ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Whom it goes to; for a split group message, one of the members.
    pub receiver: Id,
    /// Base64; receipts speak of the message by it.
    pub signature: String,
    /// What travels.
    pub bytes: Bytes,
}

/// What became of a content that was to be sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packed {
    /// One message, or one for each member of a group.
    pub ready: Vec<Letter>,
    /// Who gets none, since the account is not known; of a group, perhaps some members.
    pub missing: Vec<Id>,
}

impl Packed {
    fn ready(message: &Reliable) -> Self {
        Self { ready: vec![letter(message)], missing: Vec::new() }
    }

    fn missing(missing: Vec<Id>) -> Self {
        Self { ready: Vec::new(), missing }
    }
}

/// A message that came, opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The message, whose sender is proved.
    pub message: Verified,
    /// What it says.
    pub content: Content,
}

/// What became of a message that came.
#[derive(Debug)]
pub enum Incoming {
    /// It can be read.
    Opened(Box<Opened>),
    /// It is to a group, and sealed for others: an assistant passes it on to them.
    Sealed(Box<Verified>),
    /// It is not proved yet: this account is not known.
    Missing(Id, Box<ReliableMessage>),
}

/// Why a message that came is not read; always its sender's fault, or that of who passed it on.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Not a message.
    Message(MessageError),
    /// The attached meta does not belong to the sender.
    Meta,
    /// The sender is no single entity, so nobody can have signed.
    Sender,
    /// The signature is not the sender's.
    Signature,
    /// It is for somebody else.
    NotForUs,
    /// It was not sealed for our keys, or is damaged.
    Sealed(CryptoError),
    /// What is inside is not a content.
    Content(ContentError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(error) => write!(f, "sender's message: {error}"),
            Self::Meta => f.write_str("attached meta is not the sender's"),
            Self::Sender => f.write_str("sender is not a user"),
            Self::Signature => f.write_str("signature is not the sender's"),
            Self::NotForUs => f.write_str("message is for somebody else"),
            Self::Sealed(error) => write!(f, "message for us: {error}"),
            Self::Content(error) => write!(f, "sender's content: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What takes messages to a station, where no [`Terminal`](super::terminal::Terminal) does it.
pub trait Carrier {
    /// Why it could not be done, in the application's words.
    type Error;

    /// Sends one message as it is.
    fn send_package(&mut self, message: Bytes) -> Result<(), Self::Error>;
}

/// Why a content was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostError<E> {
    /// It could not be sealed or signed.
    Crypto(CryptoError),
    /// The carrier did not take it.
    Carrier(E),
}

/// Packs and unpacks for one account.
#[derive(Debug)]
pub struct Messenger<S> {
    account: Account,
    source: S,
    keys: KeyStore,
    /// The last serial number given out.
    sn: u32,
    checkers: HashMap<Id, Vec<VerifyKey>>,
    introduced: HashMap<Id, ()>,
    parked_out: VecDeque<(u64, Outgoing)>,
    parked_in: VecDeque<(Id, Bytes)>,
    /// Of whom something became known that was not asked after yet.
    learned: Vec<Id>,
}

impl<S: Source> Messenger<S> {
    /// For `account`, drawing on `source`. Serial numbers go on from `sn`, which is random.
    pub fn new(account: Account, source: S, keys: KeyStore, sn: u32) -> Self {
        Self {
            account,
            source,
            keys,
            sn: sn >> 1,
            checkers: HashMap::new(),
            introduced: HashMap::new(),
            parked_out: VecDeque::new(),
            parked_in: VecDeque::new(),
            learned: Vec::new(),
        }
    }

    /// Whom it speaks for.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Where it looks things up.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The same, to be changed. What is learned here wakes no parked message:
    /// [`learn_meta`](Self::learn_meta) and [`learn_document`](Self::learn_document) do.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// The content keys, to be saved.
    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Number and time of the next content.
    pub fn stamp(&mut self, now_s: f64) -> Stamp {
        self.sn = (self.sn % 0x7fff_ffff) + 1;
        Stamp { sn: self.sn.into(), time: now_s }
    }

    /// Signs a new visa with the properties of the present one, and introduces it to everybody
    /// again.
    pub fn renew_visa(&mut self, now_s: f64) -> Result<(), CryptoError> {
        let visa = self.account.document().map(|visa| visa.properties().clone());
        self.publish(visa.unwrap_or_default(), now_s)
    }

    /// Signs a new visa of `properties`, and introduces it to everybody again.
    pub fn publish(
        &mut self,
        properties: Map<String, Value>,
        now_s: f64,
    ) -> Result<(), CryptoError> {
        self.account.publish(properties, now_s)?;
        self.source.save_account(self.account.clone());
        self.introduced.clear();
        Ok(())
    }

    /// A content to what travels. A message to a group goes to each member, or, if the group has
    /// an assistant, to that bot with everybody's keys.
    pub fn encrypt_sign(
        &mut self,
        content: &Map<String, Value>,
        receiver: &Id,
        now_s: f64,
    ) -> Result<Packed, CryptoError> {
        let content = self.stamped(content.clone(), now_s);
        if receiver.is_broadcast() {
            let instant = self.envelope(receiver, None, now_s, content);
            let secure = instant.seal(&CipherKey::Plain, Map::new())?;
            let message = self.introduce(secure.sign(self.account.sign_key())?, receiver);
            return Ok(Packed::ready(&message));
        }
        if receiver.is_group() {
            return self.for_group(content, receiver, now_s);
        }
        let missing = self.missing_for(receiver);
        if !missing.is_empty() {
            return Ok(Packed::missing(missing));
        }
        let message = self.sealed(content, receiver, &[receiver.naked()], now_s)?;
        Ok(Packed::ready(&self.introduce(message, receiver)))
    }

    /// Packs a content and hands it to `carrier`; yields who gets none, since the account is not
    /// known.
    pub fn post<C: Carrier>(
        &mut self,
        carrier: &mut C,
        content: &Map<String, Value>,
        receiver: &Id,
        now_s: f64,
    ) -> Result<Vec<Id>, PostError<C::Error>> {
        let packed = self.encrypt_sign(content, receiver, now_s).map_err(PostError::Crypto)?;
        for letter in packed.ready {
            carrier.send_package(letter.bytes).map_err(PostError::Carrier)?;
        }
        Ok(packed.missing)
    }

    /// What travels to what it says: [`parse`](Self::parse), then [`open`](Self::open).
    pub fn verify_decrypt(&mut self, bytes: Bytes, now_s: f64) -> Result<Incoming, Refusal> {
        let message = self.parse(bytes)?;
        self.open(message, now_s)
    }

    /// Reads a message, and proves nothing yet.
    pub fn parse(&self, bytes: Bytes) -> Result<ReliableMessage, Refusal> {
        // Neither keeps its buffers: a client that is idle holds none.
        let (mut parser, mut names) = (Parser::new(), Names::default());
        ReliableMessage::parse(bytes, &mut parser, &mut names).map_err(Refusal::Message)
    }

    /// Proves a message and opens it.
    pub fn open(&mut self, message: ReliableMessage, now_s: f64) -> Result<Incoming, Refusal> {
        let parser = &mut Parser::new();
        let sender = message.sender().naked();
        if !sender.is_user() || sender.is_broadcast() {
            return Err(Refusal::Sender);
        }
        self.learn_attached(&message, &sender, parser, now_s)?;
        let message = match self.prove(message, &sender) {
            Ok(message) => message,
            Err(message) => {
                let known = self.source.meta(&sender).is_some();
                return match known && !self.source.documents(&sender).is_empty() {
                    true => Err(Refusal::Signature),
                    false => Ok(Incoming::Missing(sender, Box::new(message))),
                };
            }
        };
        let to_group = message.receiver().is_group() && !message.receiver().is_broadcast();
        let text = match self.uncover(&message, parser) {
            Err(Refusal::Sealed(_)) if to_group => return Ok(Incoming::Sealed(Box::new(message))),
            uncovered => uncovered?,
        };
        let value = parser.value(&text).map_err(|_| Refusal::Content(ContentError::NotAnObject))?;
        let content = Content::read(value).map_err(Refusal::Content)?;
        Ok(Incoming::Opened(Box::new(Opened { message, content })))
    }

    /// Takes a meta if it makes `id`.
    pub fn learn_meta(&mut self, id: &Id, meta: &Value) -> Result<(), CryptoError> {
        let map = meta.as_object().ok_or(CryptoError::Identity)?;
        let known = self.source.meta(id).is_some();
        self.source.save_meta(prove_meta(id, Meta::from_map(map)?)?);
        if !known {
            self.learned(id);
        }
        Ok(())
    }

    /// Takes a document if its owner signed it and none that is kept is newer.
    pub fn learn_document(
        &mut self,
        id: &Id,
        document: &Value,
        now_s: f64,
    ) -> Result<Acceptance, CryptoError> {
        let map = document.as_object().ok_or(CryptoError::Identity)?;
        let meta = self.source.meta(id).ok_or(CryptoError::Identity)?;
        let document = prove_document(&meta, id, Document::from_map(map)?)?;
        let acceptance = self.source.save_document(document, now_s);
        if matches!(acceptance, Acceptance::Stored(_)) {
            self.learned(id);
        }
        Ok(acceptance)
    }

    /// Of whom something became known since the last question: what was parked for them may go on.
    pub fn take_learned(&mut self) -> Option<Id> {
        self.learned.pop()
    }

    /// Who must come to be known before a message for `receiver` can be sealed; of a group, the
    /// members, or the group itself as long as it has none.
    pub fn missing_for(&self, receiver: &Id) -> Vec<Id> {
        if receiver.is_broadcast() {
            return Vec::new();
        }
        let mut readers = vec![receiver.naked()];
        if receiver.is_group() {
            let members = self.other_members(receiver);
            readers = if members.is_empty() { return readers } else { members };
        }
        readers.retain(|id| !self.has_key(id));
        readers
    }

    /// Keeps a content until its receiver is known; `since_ms` says since when it has waited.
    /// Yields the one that had to make room.
    pub fn park_out(&mut self, outgoing: Outgoing, since_ms: u64) -> Option<Outgoing> {
        self.parked_out.push_back((since_ms, outgoing));
        let full = self.parked_out.len() > PARKED_MAX;
        full.then(|| self.parked_out.pop_front()).flatten().map(|(_, outgoing)| outgoing)
    }

    /// Keeps a message until its sender is known; yields the sender of one that had to make room.
    pub fn park_in(&mut self, sender: Id, bytes: Bytes) -> Option<Id> {
        self.parked_in.push_back((sender, bytes));
        let held: usize = self.parked_in.iter().map(|(_, bytes)| bytes.len()).sum();
        let full = self.parked_in.len() > PARKED_MAX || held > PARKED_BYTES_MAX;
        full.then(|| self.parked_in.pop_front()).flatten().map(|(sender, _)| sender)
    }

    /// How many contents wait to be sent.
    pub fn parked_out(&self) -> usize {
        self.parked_out.len()
    }

    /// Takes out all that waits to be sent, to be tried again, with the time since when.
    pub fn unpark_out(&mut self) -> VecDeque<(u64, Outgoing)> {
        std::mem::take(&mut self.parked_out)
    }

    /// Takes out what waits for the account of `sender`, to be tried again.
    pub fn unpark_in(&mut self, sender: &Id) -> Vec<Bytes> {
        let (ready, rest): (VecDeque<_>, _) = std::mem::take(&mut self.parked_in)
            .into_iter()
            .partition(|(id, _)| id.is_same_as(sender));
        self.parked_in = rest;
        ready.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Accounts that something waits for.
    pub fn missing(&self) -> Vec<Id> {
        let mut all: Vec<Id> = self.parked_in.iter().map(|(sender, _)| sender.clone()).collect();
        let receivers = self.parked_out.iter().map(|(_, outgoing)| &outgoing.receiver);
        all.extend(receivers.flat_map(|receiver| self.missing_for(receiver)));
        all.sort();
        all.dedup();
        all
    }

    /// A content with number and time, in the names of all generations.
    fn stamped(&mut self, content: Map<String, Value>, now_s: f64) -> Map<String, Value> {
        let stamp = self.stamp(now_s);
        emit(kind_of(content.get("type")), stamp.sn, stamp.time, content)
    }

    fn learned(&mut self, id: &Id) {
        let id = id.naked();
        self.checkers.remove(&id);
        if !self.learned.contains(&id) {
            self.learned.push(id);
        }
    }

    fn envelope(
        &self,
        receiver: &Id,
        group: Option<Id>,
        time: f64,
        content: Map<String, Value>,
    ) -> Instant {
        let (sender, receiver) = (self.account.id().clone(), receiver.clone());
        Instant { envelope: Envelope { sender, receiver, group, time }, content }
    }

    /// Whether somebody has offered a key to write to. Whether it is any good turns out in use.
    fn has_key(&self, id: &Id) -> bool {
        let Some(meta) = self.source.meta(id) else {
            return false;
        };
        let offers = |visa: &Proven<Document>| visa.visa_key().is_some();
        self.source.documents(id).iter().any(offers) || !seal_keys(&meta, &[]).is_empty()
    }

    fn other_members(&self, group: &Id) -> Vec<Id> {
        let mut members = self.source.members(group);
        members.retain(|member| !member.is_same_as(self.account.id()));
        members
    }

    /// A message under one key for all devices of `readers`.
    fn sealed(
        &mut self,
        content: Map<String, Value>,
        receiver: &Id,
        readers: &[Id],
        now_s: f64,
    ) -> Result<Reliable, CryptoError> {
        let me = self.account.id().clone();
        let source = &self.source;
        let mut signatures = Vec::new();
        for document in readers.iter().flat_map(|id| source.documents(id)) {
            signatures.extend_from_slice(document.signature());
        }
        let all = || readers.iter().filter_map(|id| Some((id, source.meta(id)?)));
        let sealers =
            || all().flat_map(|(id, meta)| seal_keys(&meta, &source.documents(id))).collect();
        let (key, keys) = self.keys.wrapped(&me, receiver, sha256(&signatures), sealers)?;
        let group = receiver.is_group().then(|| receiver.naked());
        let instant = self.envelope(receiver, group, now_s, content);
        instant.seal(&key, keys)?.sign(self.account.sign_key())
    }

    fn for_group(
        &mut self,
        mut content: Map<String, Value>,
        group: &Id,
        now_s: f64,
    ) -> Result<Packed, CryptoError> {
        let unknown = self.missing_for(group);
        let mut members = self.other_members(group);
        members.retain(|member| !unknown.contains(&member.naked()));
        if members.is_empty() {
            return Ok(Packed::missing(unknown));
        }
        content.insert("group".into(), group.as_str().into());
        let message = self.sealed(content, group, &members, now_s)?;
        if let Some(assistant) = self.source.assistants(group).first().cloned() {
            let forward = say::forward(vec![message.to_map().into()]);
            let packed = self.encrypt_sign(&forward, &assistant, now_s)?;
            return Ok(Packed { missing: [packed.missing, unknown].concat(), ..packed });
        }
        let split = |member| letter(&self.introduce(message.split(member), member));
        Ok(Packed { ready: members.iter().map(split).collect(), missing: unknown })
    }

    /// Attaches meta and visa to the first message for somebody.
    fn introduce(&mut self, message: Reliable, receiver: &Id) -> Reliable {
        let receiver = receiver.naked();
        if self.introduced.contains_key(&receiver) {
            return message;
        }
        if self.introduced.len() >= INTRODUCED_MAX {
            self.introduced.clear();
        }
        self.introduced.insert(receiver, ());
        let visa = self.account.document().map(|visa| visa.to_map());
        message.attach(self.account.meta().to_map(), visa)
    }

    /// Says whether somebody has our meta and visa: of a station on a new connection it is not
    /// known, of one that answered it is.
    pub fn set_introduced(&mut self, receiver: &Id, introduced: bool) {
        match introduced {
            true => self.introduced.insert(receiver.naked(), ()),
            false => self.introduced.remove(&receiver.naked()),
        };
    }

    /// Whether anything is parked.
    pub fn is_waiting(&self) -> bool {
        !self.parked_in.is_empty() || !self.parked_out.is_empty()
    }

    fn learn_attached(
        &mut self,
        message: &ReliableMessage,
        sender: &Id,
        parser: &mut Parser,
        now_s: f64,
    ) -> Result<(), Refusal> {
        if let Some(meta) = message.meta(parser)
            && self.source.meta(sender).is_none()
        {
            self.learn_meta(sender, &Value::Object(meta)).map_err(|_| Refusal::Meta)?;
        }
        // An old or foreign visa is no reason to refuse what came with it.
        if let Some(visa) = message.visa(parser)
            && !self.source.documents(sender).iter().any(|known| is_signed_so(known, &visa))
        {
            self.learn_document(sender, &Value::Object(visa), now_s).ok();
        }
        Ok(())
    }

    #[expect(clippy::result_large_err, reason = "the message goes on either way")]
    fn prove(
        &mut self,
        message: ReliableMessage,
        sender: &Id,
    ) -> Result<Verified, ReliableMessage> {
        let message = match self.checkers.get(sender) {
            Some(keys) => match verify(message, keys) {
                Ok(verified) => return Ok(verified),
                Err(message) => message,
            },
            None => message,
        };
        // The source may know more than it did.
        let Some(meta) = self.source.meta(sender) else {
            return Err(message);
        };
        let keys = verify_keys(&meta, &self.source.documents(sender));
        let verified = verify(message, &keys)?;
        if self.checkers.len() >= CHECKERS_MAX {
            self.checkers.clear();
        }
        self.checkers.insert(sender.clone(), keys);
        Ok(verified)
    }

    fn uncover(&mut self, message: &Verified, parser: &mut Parser) -> Result<Vec<u8>, Refusal> {
        let me = self.account.id();
        let receiver = message.receiver();
        let group = message.group().filter(|group| !group.is_broadcast());
        let for_us = receiver.is_same_as(me) || receiver.is_broadcast() || receiver.is_group();
        if !for_us {
            return Err(Refusal::NotForUs);
        }
        let to = group.unwrap_or(if receiver.is_group() { receiver } else { me });
        let mut heard = self.keys.heard(message.sender(), to);
        let before = heard.clone();
        // A key that is only named has to be the one that is meant.
        if let Some(Value::Object(keys)) = message.value(Field::Keys, parser)
            && let Some(named) = keys.get("digest").and_then(Value::as_str)
            && keys.len() == 1
        {
            heard = heard.filter(|(_, key)| is_named(key, named));
        }
        let text = open(message, me, self.account.message_keys(), &mut heard, parser)
            .map_err(Refusal::Sealed)?;
        if !message.is_plain() && heard != before {
            self.keys.hear(message.sender(), &to.clone(), heard);
        }
        Ok(text)
    }
}

fn is_named(key: &CipherKey, digest: &str) -> bool {
    matches!(key, CipherKey::Aes(key) if key.digest() == digest)
}

fn letter(message: &Reliable) -> Letter {
    Letter {
        receiver: message.receiver().clone(),
        signature: message.signature().to_owned(),
        bytes: message.to_bytes(),
    }
}

fn is_signed_so(known: &Proven<Document>, visa: &Map<String, Value>) -> bool {
    visa.get("data").and_then(Value::as_str) == Some(known.data())
}
