//! The whole client as a state machine: what happened and what time it is go in, what is to be
//! done comes out. It opens no socket and reads no clock; whoever drives it writes what it wants
//! written, tells it what was read, and calls again at [`next_deadline_ms`](Terminal::next_deadline_ms).
//!
//! It logs in and stays logged in, sends again what the station did not acknowledge, finds out who
//! strangers are, and tells the application what came, each message once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::account::Account;
use super::keys::KeyStore;
use super::login::{Login, Step};
use super::messenger::{Incoming, Messenger, Opened, Outgoing, PARKED_MAX, Refusal};
use super::names::NameBook;
use super::outbox::{Due, Outbox};
use super::say;
use super::seen::Seen;
use super::source::Source;
use crate::base::encode::base64_encode;
use crate::base::random::split_mix;
use crate::base::time::Now;
use crate::crypto::error::CryptoError;
use crate::proto::address::EntityKind;
use crate::proto::command::Command;
use crate::proto::content::{Body, Content, kind};
use crate::proto::id::Id;
use crate::wire::websocket::{self, Masks};
use crate::wire::{
    DeframeLimits, Deframer, Event as WireEvent, Framing, PushKey, encode_ack, lines_of, mtp_ping,
    push_head, text_ack, upgrade,
};

/// Silence after which a connection is given up, in milliseconds; stations do the same.
pub const SILENCE_MS_MAX: u64 = 128_000;

/// Patience with an upgrade and a handshake, in milliseconds.
pub const LOGIN_MS_MAX: u64 = 30_000;

/// How often a client says where it is logged in, in milliseconds.
pub const ONLINE_MS: u64 = 300_000;

/// How soon a question for an account is asked again, in milliseconds.
pub const QUERY_AGAIN_MS: u64 = 30_000;

/// How long a message to a group waits for members who are not known, in milliseconds; then it
/// goes to the others. Some may be gone for ever.
pub const MEMBERS_MS_MAX: u64 = 2 * QUERY_AGAIN_MS;

/// Accounts that were asked for lately; when full, all are forgotten.
pub const QUERIES_MAX: usize = 256;

/// Age at which a visa is signed anew before a login, in seconds, so that stations keep preferring
/// it.
pub const VISA_AGE_S_MAX: f64 = 24.0 * 3600.0;

/// Contacts that are sent a new visa at a login; the others get it with the next message.
pub const CONTACTS_TOLD_MAX: usize = 64;

/// Contents in one array, or messages in one forward, that are looked at.
pub const PARTS_MAX: usize = 256;

/// How deep arrays and forwards may lie in each other.
pub const DEPTH_MAX: u8 = 3;

/// Token of what a terminal sends by itself and keeps until it is acknowledged. An application that
/// uses it for its own is not told what becomes of it.
pub const OWN: u64 = 0;

/// How a terminal behaves. Terminals may share one.
#[derive(Debug, Clone)]
pub struct Settings {
    /// [`Framing::Mtp`] or [`Framing::WebSocket`]; clients have no other, so all else is MTP.
    pub framing: Framing,
    /// The station's host name or address.
    pub host: String,
    /// The station's port.
    pub port: u16,
    /// Which station it must be, if that is known.
    pub station: Option<Id>,
    /// What the client calls itself.
    pub agent: String,
    /// Whether visa and whereabouts are broadcast after a login. Without, other stations do not
    /// learn where this user is.
    pub announces: bool,
    /// Whether a person's message is answered with "Message received.".
    pub receipts: bool,
    /// Silence of the station after which it is asked for a sign of life, in milliseconds.
    pub ping_ms: u64,
    /// The first pause before dialling again, in milliseconds; it doubles each time.
    pub pause_ms_min: u64,
    /// The longest pause before dialling again, in milliseconds.
    pub pause_ms_max: u64,
}

impl Settings {
    /// The usual behaviour, over MTP.
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            framing: Framing::Mtp,
            host: host.to_owned(),
            port,
            station: None,
            agent: concat!("dim-station/", env!("CARGO_PKG_VERSION")).to_owned(),
            announces: true,
            receipts: true,
            ping_ms: 16_000,
            pause_ms_min: 1000,
            pause_ms_max: 128_000,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Dial.
    Start,
    /// The connection that was asked for stands.
    Connected,
    /// Bytes were read.
    Received(Bytes),
    /// The connection is over, or could not be made.
    Closed,
    /// The application wants this sent.
    Send(Outgoing),
    /// A deadline has passed.
    Timer,
    /// The application leaves. What was not sent yet is not sent.
    Leave,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Connect to the station, and say [`Input::Connected`] or [`Input::Closed`].
    Dial,
    /// Write these bytes.
    Write(Bytes),
    /// Close the connection when all is written; nothing of it is of interest any more.
    Close,
    /// Tell the application.
    Event(Event),
}

/// What an application is told.
#[derive(Debug)]
pub enum Event {
    /// The station has accepted us.
    LoggedIn {
        /// Which station it is.
        station: Id,
    },
    /// A message for us, and what it says; commands that the terminal has acted upon, too. Of an
    /// array each part comes by itself.
    Received(Box<Opened>),
    /// A content became a message, by whose signature receipts will speak of it. To a group, once
    /// for each member.
    Packed {
        /// The caller's name for it.
        token: u64,
        /// Base64.
        signature: String,
    },
    /// The station has acknowledged a message: it will not be sent again.
    Acknowledged {
        /// The caller's name for it.
        token: u64,
    },
    /// A content is not sent, or not to everybody.
    Failed {
        /// The caller's name for it.
        token: u64,
        /// Why.
        why: Failure,
    },
    /// Something became known of an account.
    Learned(Id),
    /// A message came that cannot be read.
    Refused(Refusal),
    /// A message of this sender was dropped: too many wait for accounts.
    Dropped(Id),
    /// There is no connection.
    Disconnected {
        /// When the next one is tried, from now on, in milliseconds; none after leaving.
        pause_ms: Option<u64>,
    },
}

/// Why a content was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Too much waits for the station already.
    Full,
    /// Nothing became known of its receiver, and others wait too.
    Unknown,
    /// It was sent, but not to these members of the group, who are not known.
    Partly(Vec<Id>),
    /// The station did not acknowledge it.
    Silent,
    /// It could not be sealed or signed.
    Crypto(CryptoError),
}

/// A client of one account at one station.
#[derive(Debug)]
pub struct Terminal<S> {
    settings: Arc<Settings>,
    messenger: Messenger<S>,
    names: NameBook,
    login: Login,
    link: Link,
    outbox: Outbox,
    seen: Seen,
    /// When each account was last asked for.
    queries: HashMap<Id, u64>,
    query_ms: Option<u64>,
    random: u64,
    masks: Masks,
    last_id: u64,
    failures: u32,
    visa_is_new: bool,
}

#[derive(Debug)]
enum Link {
    /// Dialled at that time, if at all.
    Down(Option<u64>),
    Dialling,
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    deframer: Deframer,
    /// When something was last heard, and when that was last asked for.
    heard_ms: u64,
    pinged_ms: u64,
    asked: bool,
    /// When patience with the login ends; none when logged in.
    login_ms: Option<u64>,
    /// When we last said where we are.
    online_ms: u64,
}

type Effects = Vec<Effect>;

impl<S: Source> Terminal<S> {
    /// A terminal that has not dialled yet. `seed` is random; numbers, masks and pauses follow
    /// from it.
    pub fn new(
        settings: Arc<Settings>,
        account: Account,
        source: S,
        keys: KeyStore,
        mut seed: u64,
    ) -> Self {
        let sn = split_mix(&mut seed).to_be_bytes();
        let sn = sn.first_chunk().copied().map_or(0, u32::from_be_bytes);
        Self {
            messenger: Messenger::new(account, source, keys, sn),
            names: NameBook::default(),
            login: Login::new(settings.station.clone()),
            link: Link::Down(None),
            outbox: Outbox::default(),
            seen: Seen::default(),
            queries: HashMap::new(),
            query_ms: None,
            last_id: split_mix(&mut seed),
            masks: Masks::new(split_mix(&mut seed)),
            random: seed,
            failures: 0,
            visa_is_new: false,
            settings,
        }
    }

    /// Takes what happened at `now`, and appends what is to be done.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Effects) {
        match input {
            Input::Start if matches!(self.link, Link::Down(_)) => self.dial(out),
            Input::Start | Input::Timer => {}
            Input::Connected => self.connected(now, out),
            Input::Received(bytes) => self.received(bytes, now, out),
            Input::Closed => self.disconnected(now, out),
            Input::Send(outgoing) => self.send(outgoing, now.mono_ms, now, out),
            Input::Leave => {
                if !matches!(self.link, Link::Down(_)) {
                    out.push(Effect::Close);
                }
                self.outbox.disconnected();
                self.link = Link::Down(None);
                out.push(Effect::Event(Event::Disconnected { pause_ms: None }));
            }
        }
        self.wake(now, out);
        self.on_time(now, out);
    }

    /// When [`Input::Timer`] is due, on the clock of [`Now::mono_ms`]; none if only input counts.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let open = match &self.link {
            Link::Down(at) => return *at,
            Link::Dialling => return None,
            Link::Open(open) => open,
        };
        let mut deadline = open.heard_ms.saturating_add(SILENCE_MS_MAX);
        if open.asked {
            let quiet_since = open.heard_ms.max(open.pinged_ms);
            deadline = deadline.min(quiet_since.saturating_add(self.settings.ping_ms));
        }
        match open.login_ms {
            Some(login_ms) => deadline = deadline.min(login_ms),
            None => {
                let more = [self.outbox.next_deadline_ms(), self.query_ms, self.online_at(open)];
                deadline = more.into_iter().flatten().fold(deadline, u64::min);
            }
        }
        Some(deadline)
    }

    /// What packs and unpacks for it.
    pub fn messenger(&self) -> &Messenger<S> {
        &self.messenger
    }

    /// The same, to be changed.
    pub fn messenger_mut(&mut self) -> &mut Messenger<S> {
        &mut self.messenger
    }

    /// Short names that the station has told. Ask with [`say::names_query`].
    pub fn names(&self) -> &NameBook {
        &self.names
    }

    /// The station, once it is known.
    pub fn station(&self) -> Option<&Id> {
        self.login.station()
    }

    /// Whether it is logged in.
    pub fn is_logged_in(&self) -> bool {
        matches!(&self.link, Link::Open(open) if open.login_ms.is_none())
    }

    /// Messages that the station has not acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.outbox.len()
    }

    fn dial(&mut self, out: &mut Effects) {
        self.link = Link::Dialling;
        out.push(Effect::Dial);
    }

    fn connected(&mut self, now: Now, out: &mut Effects) {
        let limits = DeframeLimits::default();
        let deframer = match self.settings.framing {
            Framing::WebSocket => {
                let (a, b) = (split_mix(&mut self.random), split_mix(&mut self.random));
                let key = base64_encode([a.to_be_bytes(), b.to_be_bytes()].as_flattened());
                let Settings { host, port, .. } = &*self.settings;
                out.push(Effect::Write(upgrade::request(host, *port, &key)));
                let masks = Masks::new(split_mix(&mut self.random));
                Deframer::websocket_client(&key, masks, limits)
            }
            Framing::Mtp | Framing::Mars | Framing::Lines => Deframer::mtp_client(limits),
        };
        self.link = Link::Open(Box::new(Open {
            deframer,
            heard_ms: now.mono_ms,
            pinged_ms: now.mono_ms,
            asked: false,
            login_ms: Some(now.mono_ms.saturating_add(LOGIN_MS_MAX)),
            online_ms: now.mono_ms,
        }));
        self.ask_when_open(now, out);
    }

    fn disconnected(&mut self, now: Now, out: &mut Effects) {
        if matches!(self.link, Link::Down(_)) {
            return;
        }
        let Settings { pause_ms_min, pause_ms_max, .. } = *self.settings;
        let doubled = pause_ms_min.saturating_mul(1 << self.failures.min(30));
        let longest = doubled.min(pause_ms_max).max(1);
        // Clients of a station that was restarted must not come back all at once.
        let pause_ms = longest / 2 + split_mix(&mut self.random) % (longest / 2 + 1);
        self.failures = self.failures.saturating_add(1);
        self.outbox.disconnected();
        self.login.reset();
        self.link = Link::Down(Some(now.mono_ms.saturating_add(pause_ms)));
        out.push(Effect::Event(Event::Disconnected { pause_ms: Some(pause_ms) }));
    }

    fn hang_up(&mut self, now: Now, out: &mut Effects) {
        out.push(Effect::Close);
        self.disconnected(now, out);
    }

    fn received(&mut self, bytes: Bytes, now: Now, out: &mut Effects) {
        if let Link::Open(open) = &mut self.link {
            open.heard_ms = now.mono_ms;
            open.deframer.feed(bytes);
        }
        // What is found may end the connection.
        while let Link::Open(open) = &mut self.link {
            match open.deframer.next_event() {
                Ok(Some(event)) => self.on_event(event, now, out),
                Ok(None) => break,
                Err(_) => self.hang_up(now, out),
            }
        }
        self.ask_when_open(now, out);
    }

    fn on_event(&mut self, event: WireEvent, now: Now, out: &mut Effects) {
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
                out.extend(ack.map(Effect::Write));
            }
        }
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
            Ok(Some(Incoming::Missing(sender, _))) => {
                self.want(&sender, now, out);
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
    fn wake(&mut self, now: Now, out: &mut Effects) {
        while let Some(id) = self.messenger.take_learned() {
            for line in self.messenger.unpark_in(&id) {
                self.deliver(line, 0, now, out);
            }
            self.try_parked(now, out);
            out.push(Effect::Event(Event::Learned(id)));
        }
    }

    fn try_parked(&mut self, now: Now, out: &mut Effects) {
        for (since_ms, outgoing) in self.messenger.unpark_out() {
            self.send(outgoing, since_ms, now, out);
        }
    }

    fn ask_when_open(&mut self, now: Now, out: &mut Effects) {
        let Link::Open(open) = &mut self.link else { return };
        if open.asked || open.deframer.framing().is_none() {
            return;
        }
        open.asked = true;
        let account = self.messenger.account();
        let signed = account.document().and_then(|visa| visa.time());
        // Stations take no visa that is older than that of another device.
        let one_of_several = account.terminal().is_some();
        if one_of_several || signed.is_none_or(|time| time + VISA_AGE_S_MAX < now.wall_s()) {
            // A clock that was set back leaves the present one in place.
            self.visa_is_new |= self.messenger.renew_visa(now.wall_s()).is_ok();
        }
        self.login.begin();
        self.messenger.set_introduced(&Id::station_any(), false);
        self.say(&say::handshake(None), &Id::station_any(), now, out);
    }

    fn handshake(
        &mut self,
        sender: &Id,
        title: &str,
        session: Option<&str>,
        now: Now,
        out: &mut Effects,
    ) {
        match self.login.heard(sender, title, session) {
            Step::Sign { session } => {
                let (station, hello) = (sender.naked(), say::handshake(Some(&session)));
                self.messenger.set_introduced(&station, true);
                if !self.say(&hello, &station, now, out) {
                    // A station that keeps its key to itself reads it in the open.
                    self.say(&hello, &Id::station_any(), now, out);
                }
            }
            Step::Done => self.logged_in(sender.naked(), now, out),
            Step::Ask | Step::Nothing => {}
        }
    }

    fn logged_in(&mut self, station: Id, now: Now, out: &mut Effects) {
        let Link::Open(open) = &mut self.link else { return };
        if open.login_ms.take().is_none() {
            return;
        }
        self.failures = 0;
        self.queries.clear();
        out.push(Effect::Event(Event::LoggedIn { station }));
        if self.settings.announces {
            self.announce_visa(now, out);
            self.announce_login(now, out);
        }
        self.ask_for_missing(now, out);
    }

    fn announce_visa(&mut self, now: Now, out: &mut Effects) {
        let account = self.messenger.account();
        let id = account.id().clone();
        let documents = account.documents().iter().map(|document| &**document);
        let content = say::documents(&id, documents);
        self.say(&content, &Id::everyone(), now, out);
        if std::mem::take(&mut self.visa_is_new) {
            for contact in self.messenger.source().contacts(&id).iter().take(CONTACTS_TOLD_MAX) {
                self.say(&content, contact, now, out);
            }
        }
    }

    fn announce_login(&mut self, now: Now, out: &mut Effects) {
        if let (Link::Open(open), Some(station)) = (&mut self.link, self.login.station().cloned()) {
            open.online_ms = now.mono_ms;
            let user = self.messenger.account().id().clone();
            let settings = self.settings.clone();
            let Settings { agent, host, port, .. } = &*settings;
            // A station is not logged in at another one, it only stands there.
            let (content, to) = match user.kind() {
                EntityKind::Station => (say::report(true), station),
                _ => (say::login(&user, agent, &station, host, *port), Id::everyone()),
            };
            self.say(&content, &to, now, out);
        }
    }

    fn online_at(&self, open: &Open) -> Option<u64> {
        self.settings.announces.then(|| open.online_ms.saturating_add(ONLINE_MS))
    }

    /// Asks the station for an account, unless that was done just now.
    fn want(&mut self, id: &Id, now: Now, out: &mut Effects) {
        self.query_ms.get_or_insert(now.mono_ms.saturating_add(QUERY_AGAIN_MS));
        let asked = self.queries.get(id);
        let lately = asked.is_some_and(|at| now.mono_ms < at.saturating_add(QUERY_AGAIN_MS));
        if lately || id.is_broadcast() || !self.is_logged_in() {
            return;
        }
        if self.queries.len() >= QUERIES_MAX {
            self.queries.clear();
        }
        self.queries.insert(id.clone(), now.mono_ms);
        let anywhere = Id::station_any();
        if self.messenger.source().meta(id).is_none() {
            self.say(&say::meta_query(id), &anywhere, now, out);
        }
        self.say(&say::documents_query(id), &anywhere, now, out);
    }

    fn ask_for_missing(&mut self, now: Now, out: &mut Effects) {
        self.query_ms = None;
        if self.messenger.is_waiting() {
            self.try_parked(now, out);
            for id in self.messenger.missing() {
                self.want(&id, now, out);
            }
        }
    }

    /// Packs a content that has waited since `since_ms`, or parks it.
    fn send(&mut self, outgoing: Outgoing, since_ms: u64, now: Now, out: &mut Effects) {
        let missing = self.messenger.missing_for(&outgoing.receiver);
        for id in &missing {
            self.want(id, now, out);
        }
        let patient = now.mono_ms < since_ms.saturating_add(MEMBERS_MS_MAX);
        if !missing.is_empty() && (patient || !outgoing.receiver.is_group()) {
            return self.park(outgoing, since_ms, out);
        }
        let Outgoing { token, receiver, content } = &outgoing;
        let token = *token;
        let failed = |why, out: &mut Effects| tell(token, Event::Failed { token, why }, out);
        let packed = match self.messenger.encrypt_sign(content, receiver, now.wall_s()) {
            Ok(packed) => packed,
            Err(error) => return failed(Failure::Crypto(error), out),
        };
        if packed.ready.is_empty() {
            return self.park(outgoing, since_ms, out);
        }
        let bytes = packed.ready.iter().map(|letter| letter.bytes.len()).sum();
        if !self.outbox.has_room(packed.ready.len(), bytes) {
            return failed(Failure::Full, out);
        }
        for letter in packed.ready {
            let signature = letter.signature.clone();
            tell(token, Event::Packed { token, signature }, out);
            // Over WebSocket only receipts acknowledge, and only messages to users have them.
            let to = &letter.receiver;
            let receipted = !to.is_broadcast() && to.kind() != EntityKind::Station;
            let awaits = receipted || self.settings.framing != Framing::WebSocket;
            let id = self.next_id();
            self.outbox.push(token, id, letter, awaits);
        }
        if !packed.missing.is_empty() {
            failed(Failure::Partly(packed.missing), out);
        }
    }

    fn park(&mut self, outgoing: Outgoing, since_ms: u64, out: &mut Effects) {
        // Receipts for strangers leave the application its half.
        if outgoing.token == OWN && self.messenger.parked_out() >= PARKED_MAX / 2 {
            return;
        }
        if let Some(Outgoing { token, .. }) = self.messenger.park_out(outgoing, since_ms) {
            tell(token, Event::Failed { token, why: Failure::Unknown }, out);
        }
    }

    /// Sends something of our own at once, if there is a connection; it is not sent again.
    fn say(&mut self, content: &Map<String, Value>, to: &Id, now: Now, out: &mut Effects) -> bool {
        let packed = self.messenger.encrypt_sign(content, to, now.wall_s());
        let letters = packed.map(|packed| packed.ready).unwrap_or_default();
        for letter in &letters {
            let id = self.next_id();
            self.write(id, &letter.bytes, out);
        }
        !letters.is_empty()
    }

    fn next_id(&mut self) -> u64 {
        // 0 would leave the field out.
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.last_id
    }

    fn write(&mut self, id: u64, body: &[u8], out: &mut Effects) {
        if matches!(self.link, Link::Open(_)) {
            let frame = self.frame(id, body);
            out.push(Effect::Write(frame));
        }
    }

    fn frame(&mut self, id: u64, body: &[u8]) -> Bytes {
        match self.settings.framing {
            Framing::WebSocket => {
                websocket::encode_masked(websocket::BINARY, body, self.masks.draw())
            }
            _ => {
                let len = u32::try_from(body.len()).unwrap_or_default();
                [&push_head(Framing::Mtp, id, len), body].concat().into()
            }
        }
    }

    fn on_time(&mut self, now: Now, out: &mut Effects) {
        let now_ms = now.mono_ms;
        let open = match &mut self.link {
            Link::Down(Some(at)) if *at <= now_ms => return self.dial(out),
            Link::Down(_) | Link::Dialling => return,
            Link::Open(open) => open,
        };
        let silent = open.heard_ms.saturating_add(SILENCE_MS_MAX) <= now_ms;
        if silent || open.login_ms.is_some_and(|end| end <= now_ms) {
            return self.hang_up(now, out);
        }
        let quiet_since = open.heard_ms.max(open.pinged_ms);
        if open.asked && quiet_since.saturating_add(self.settings.ping_ms) <= now_ms {
            open.pinged_ms = now_ms;
            let ping = match self.settings.framing {
                Framing::WebSocket => self.frame(0, b"PING"),
                _ => mtp_ping(self.next_id()).into(),
            };
            out.push(Effect::Write(ping));
        }
        if !self.is_logged_in() {
            return;
        }
        while let Some(due) = self.outbox.due(now_ms) {
            match due {
                Due::Send { id, bytes } => self.write(id, &bytes, out),
                Due::GivenUp { token } => {
                    tell(token, Event::Failed { token, why: Failure::Silent }, out);
                }
            }
        }
        if self.query_ms.is_some_and(|at| at <= now_ms) {
            self.ask_for_missing(now, out);
        }
        if let Link::Open(open) = &self.link
            && self.online_at(open).is_some_and(|at| at <= now_ms)
        {
            self.announce_login(now, out);
        }
    }
}

/// Tells the application what became of a content, unless it is the terminal's own.
fn tell(token: u64, event: Event, out: &mut Effects) {
    if token != OWN {
        out.push(Effect::Event(event));
    }
}
