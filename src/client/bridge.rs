//! A bridge between a station and its neighbours, as a state machine: it is logged in at all of them
//! as the station, and takes messages from one to the other as they are.
//!
//! Whoever sent a message is given the acknowledgement when the other side has given it; so the
//! bridge keeps nothing that is not kept by its sender, and may end at any time.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::Value;

use super::account::Account;
use super::directory::Directory;
use super::keys::KeyStore;
use super::login::{Login, Step};
use super::messenger::{Incoming, Messenger};
use super::say;
use crate::base::random::split_mix;
use crate::base::time::Now;
use crate::proto::command::Command;
use crate::proto::content::Body;
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::ReliableMessage;
use crate::proto::splice::without;
use crate::wire::{
    Ack, DeframeLimits, Deframer, Event, Framing, PushKey, encode_ack, lines_of, mtp_ping,
    push_head,
};

/// Messages on their way at once, and bytes of them. What comes beyond them is left with its sender.
pub const PASSAGES_MAX: usize = 65_536;
/// See [`PASSAGES_MAX`].
pub const PASSAGE_BYTES_MAX: usize = 128 << 20;
/// Patience with a login, in milliseconds.
const LOGIN_MS_MAX: u64 = 30_000;
/// Silence after which a sign of life is asked for, and after which a connection is given up.
const PING_MS: u64 = 16_000;
/// See [`PING_MS`].
const SILENCE_MS_MAX: u64 = 128_000;
/// How long a station may take to acknowledge a message before it is sent again.
const AGAIN_MS: u64 = 120_000;
/// The first and the longest wait before a station is dialled again, in milliseconds.
const REDIAL_MS: (u64, u64) = (500, 30_000);

/// A station to be connected with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its ID; without one, whoever stands there is believed to be it.
    pub id: Option<Id>,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is dialled under TLS.
    pub tls: bool,
}

/// A connection's place among the others; [`INNER`] is the own station's.
pub type LinkNo = u64;
/// The link to the own station.
pub const INNER: LinkNo = 0;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// These are the neighbours now.
    Neighbors(Vec<Place>),
    /// The connection that was asked for stands.
    Connected(LinkNo),
    /// Bytes were read.
    Received(LinkNo, Bytes),
    /// The connection is over, or could not be made.
    Closed(LinkNo),
    /// A deadline has passed.
    Timer,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Connect with the place, and say [`Input::Connected`] or [`Input::Closed`].
    Dial(LinkNo, Place),
    /// Write these bytes.
    Write(LinkNo, Bytes),
    /// Close; nothing of it is of interest any more.
    Close(LinkNo),
}

/// The bridge.
#[derive(Debug)]
pub struct Bridge {
    messenger: Messenger<Directory>,
    links: BTreeMap<LinkNo, Link>,
    last_link: LinkNo,
    /// Acknowledgements that are owed, by number.
    owed: HashMap<u64, Owed>,
    last_number: u64,
    passages: usize,
    bytes: usize,
    /// Something was left with the own station, which says it again at the next login.
    missed: bool,
    random: u64,
}

#[derive(Debug)]
struct Link {
    place: Place,
    login: Login,
    state: State,
    /// Counts connections: an acknowledgement belongs to one.
    epoch: u64,
    failures: u32,
    /// What goes there, in order, by the number of its package.
    queue: BTreeMap<u64, Passage>,
}

#[derive(Debug)]
enum State {
    Due(u64),
    Dialing,
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    deframer: Deframer,
    opened_ms: u64,
    heard_ms: u64,
    pinged_ms: u64,
    ready: bool,
}

/// A message on its way to a link.
#[derive(Debug)]
struct Passage {
    body: Bytes,
    signature: Vec<u8>,
    rcpt: Option<String>,
    owed: Vec<u64>,
    /// When it was last sent on the connection that stands.
    sent_ms: Option<u64>,
}

/// An acknowledgement that is given when all that it stands for has been.
#[derive(Debug)]
struct Owed {
    link: LinkNo,
    epoch: u64,
    ack: Ack,
    left: usize,
}

type Effects = Vec<Effect>;

impl Bridge {
    /// A bridge of the station `account`, which is at `place`.
    pub fn new(account: Account, place: Place, mut seed: u64) -> Self {
        let mut directory = Directory::with(account.clone());
        super::source::People::save_meta(&mut directory, account.meta().clone());
        let sn = u32::try_from(split_mix(&mut seed) >> 33).unwrap_or_default();
        let last_number = split_mix(&mut seed) >> 1;
        Self {
            messenger: Messenger::new(account, directory, KeyStore::default(), sn),
            links: BTreeMap::from([(INNER, Link::new(place, 0))]),
            last_link: INNER,
            owed: HashMap::new(),
            last_number,
            passages: 0,
            bytes: 0,
            missed: false,
            random: seed,
        }
    }

    /// Takes what happened at `now`, and appends what is to be done.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Effects) {
        match input {
            Input::Neighbors(list) => self.take_neighbors(list, now, out),
            Input::Connected(no) => self.connected(no, now, out),
            Input::Received(no, bytes) => self.received(no, bytes, now, out),
            Input::Closed(no) => self.closed(no, now),
            Input::Timer => {}
        }
        self.on_time(now, out);
    }

    /// When [`Input::Timer`] is due at the latest, on the clock of [`Now::mono_ms`].
    pub fn next_deadline_ms(&self) -> u64 {
        let deadline = |link: &Link| match &link.state {
            State::Due(at) => *at,
            State::Dialing => u64::MAX,
            State::Open(open) if !open.ready => open.opened_ms + LOGIN_MS_MAX,
            State::Open(open) => {
                let again = link.queue.values().filter_map(|p| Some(p.sent_ms? + AGAIN_MS)).min();
                (open.heard_ms.max(open.pinged_ms) + PING_MS).min(again.unwrap_or(u64::MAX))
            }
        };
        self.links.values().map(deadline).min().unwrap_or(u64::MAX)
    }

    fn take_neighbors(&mut self, list: Vec<Place>, now: Now, out: &mut Effects) {
        let gone = |(no, link): (&LinkNo, &Link)| {
            (*no != INNER && !list.contains(&link.place)).then_some(*no)
        };
        for no in self.links.iter().filter_map(gone).collect::<Vec<_>>() {
            out.push(Effect::Close(no));
            if let Some(link) = self.links.remove(&no) {
                self.passages -= link.queue.len();
                self.bytes -= link.queue.values().map(|p| p.body.len()).sum::<usize>();
            }
        }
        for place in list {
            if !self.links.values().any(|link| link.place == place) {
                self.last_link += 1;
                self.links.insert(self.last_link, Link::new(place, now.mono_ms));
            }
        }
    }

    fn connected(&mut self, no: LinkNo, now: Now, out: &mut Effects) {
        let Some(link) = self.links.get_mut(&no) else { return out.push(Effect::Close(no)) };
        link.epoch += 1;
        link.login.reset();
        link.login.begin();
        link.state = State::Open(Box::new(Open {
            deframer: Deframer::mtp_client(DeframeLimits::default()),
            opened_ms: now.mono_ms,
            heard_ms: now.mono_ms,
            pinged_ms: now.mono_ms,
            ready: false,
        }));
        self.shake(no, None, now, out);
    }

    /// Says a handshake, with the account attached.
    fn shake(&mut self, no: LinkNo, session: Option<&str>, now: Now, out: &mut Effects) {
        let anywhere = Id::station_any();
        self.messenger.set_introduced(&anywhere, false);
        let hello = say::handshake(session);
        let packed = self.messenger.encrypt_sign(&hello, &anywhere, now.wall_s());
        for letter in packed.map(|packed| packed.ready).unwrap_or_default() {
            let number = self.number();
            out.push(Effect::Write(no, framed(number, &letter.bytes)));
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number = self.last_number.wrapping_add(1).max(1);
        self.last_number
    }

    fn closed(&mut self, no: LinkNo, now: Now) {
        let Some(link) = self.links.get_mut(&no) else { return };
        if matches!(link.state, State::Due(_)) {
            return;
        }
        let whole = REDIAL_MS.0.saturating_mul(1 << link.failures.min(16)).min(REDIAL_MS.1);
        let wait = whole / 2 + split_mix(&mut self.random) % (whole / 2 + 1);
        link.failures = link.failures.saturating_add(1);
        link.state = State::Due(now.mono_ms + wait);
        link.queue.values_mut().for_each(|passage| passage.sent_ms = None);
        self.owed.retain(|_, owed| owed.link != no);
        let Place { host, port, .. } = &link.place;
        tracing::debug!(host, port, wait, "no connection");
    }

    fn hang_up(&mut self, no: LinkNo, now: Now, out: &mut Effects) {
        out.push(Effect::Close(no));
        self.closed(no, now);
    }

    fn received(&mut self, no: LinkNo, bytes: Bytes, now: Now, out: &mut Effects) {
        if let Some(open) = self.open(no) {
            open.heard_ms = now.mono_ms;
            open.deframer.feed(bytes);
        }
        while let Some(open) = self.open(no) {
            match open.deframer.next_event() {
                Ok(None) => return,
                Ok(Some(Event::Heartbeat)) => {}
                Ok(Some(Event::Reply(bytes))) => out.push(Effect::Write(no, bytes)),
                Ok(Some(Event::Acknowledged(PushKey::Mtp(id)))) => {
                    self.arrived(no, u64::from_be_bytes(id), out);
                }
                Ok(Some(Event::Acknowledged(_))) => {}
                Ok(Some(Event::Message { ack, body })) => self.package(no, ack, &body, now, out),
                Ok(Some(Event::Close(_))) | Err(_) => return self.hang_up(no, now, out),
            }
        }
    }

    fn open(&mut self, no: LinkNo) -> Option<&mut Open> {
        match &mut self.links.get_mut(&no)?.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// A package: taken to whom it is for, or acted upon.
    fn package(&mut self, no: LinkNo, ack: Ack, body: &Bytes, now: Now, out: &mut Effects) {
        let owed = self.number();
        let mut ways = Vec::new();
        for line in lines_of(body) {
            let Ok(message) = self.messenger.parse(line) else { continue };
            if self.is_for_us(no, &message, now, out) {
                continue;
            }
            let Some(to) = self.ways(no, &message) else {
                tracing::debug!(sender = %message.sender(), "left with its station");
                self.missed |= no == INNER;
                return;
            };
            ways.extend(to.into_iter().map(|to| (to, message.clone())));
        }
        let more: usize = ways.iter().map(|(_, message)| message.raw().len()).sum();
        if self.passages + ways.len() > PASSAGES_MAX || self.bytes + more > PASSAGE_BYTES_MAX {
            tracing::warn!("too much is on its way: a message is left with its station");
            self.missed |= no == INNER;
            return;
        }
        let Some(link) = self.links.get(&no) else { return };
        let left = ways.len();
        self.owed.insert(owed, Owed { link: no, epoch: link.epoch, ack, left: left.max(1) });
        if left == 0 {
            return self.give(owed, out);
        }
        for (to, message) in ways {
            self.pass(to, &message, owed, now, out);
        }
    }

    /// Where a message is to go, perhaps nowhere. None if it cannot go where it should.
    fn ways(&self, no: LinkNo, message: &ReliableMessage) -> Option<Vec<LinkNo>> {
        let own = self.messenger.account().id();
        let ready = |no: &LinkNo| matches!(self.links.get(no).map(|l| &l.state), Some(State::Open(open)) if open.ready);
        if !ready(&no) {
            // Whoever stands there has not proven to be that station.
            return None;
        }
        if no != INNER {
            // What was the own station's has come round.
            return Some(if message.sender().is_same_as(own) { Vec::new() } else { vec![INNER] });
        }
        if message.receiver().is_same_as(own) {
            return Some(Vec::new());
        }
        let routing = message.routing(&mut Parser::new());
        let outers = || self.links.iter().filter(|(no, _)| **no != INNER);
        let is = |link: &Link, id: &str| link.login.station().is_some_and(|s| s.is_named_by(id));
        if let Some(id) = routing.get("neighbor").and_then(Value::as_str) {
            return outers().find(|(_, link)| is(link, id)).map(|(no, _)| vec![*no]);
        }
        let served: Vec<&str> = match routing.get("recipients") {
            Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let lacks = |(no, link): (&LinkNo, &Link)| {
            (ready(no) && !served.iter().any(|id| is(link, id))).then_some(*no)
        };
        Some(outers().filter_map(lacks).collect())
    }

    fn pass(
        &mut self,
        to: LinkNo,
        message: &ReliableMessage,
        owed: u64,
        now: Now,
        out: &mut Effects,
    ) {
        let rcpt = message.routing(&mut Parser::new());
        let rcpt = rcpt.get("rcpt").and_then(Value::as_str).map(str::to_owned);
        let number = self.number();
        let Some(link) = self.links.get_mut(&to) else { return };
        let known = |p: &&mut Passage| *p.signature == *message.signature() && p.rcpt == rcpt;
        if let Some(passage) = link.queue.values_mut().find(known) {
            // Said again on a new connection, or since it takes long.
            passage.owed.push(owed);
            return;
        }
        let body = without(message, "neighbor");
        self.passages += 1;
        self.bytes += body.len();
        let signature = message.signature().to_vec();
        let passage = Passage { body, signature, rcpt, owed: vec![owed], sent_ms: None };
        link.queue.insert(number, passage);
        link.send_due(to, now, out);
    }

    /// A station has acknowledged a message.
    fn arrived(&mut self, no: LinkNo, number: u64, out: &mut Effects) {
        let Some(link) = self.links.get_mut(&no) else { return };
        let Some(passage) = link.queue.remove(&number) else { return };
        self.passages -= 1;
        self.bytes -= passage.body.len();
        for owed in passage.owed {
            self.give(owed, out);
        }
    }

    /// One of the things that an acknowledgement stands for is done.
    fn give(&mut self, number: u64, out: &mut Effects) {
        let Some(owed) = self.owed.get_mut(&number) else { return };
        owed.left -= 1;
        if owed.left > 0 {
            return;
        }
        if let Some(Owed { link: no, epoch, ack, .. }) = self.owed.remove(&number)
            && self.links.get(&no).is_some_and(|link| link.epoch == epoch)
            && let Some(bytes) = encode_ack(&ack)
        {
            out.push(Effect::Write(no, bytes.into()));
        }
    }

    /// Whether a message is a handshake with the bridge, which is gone through with.
    fn is_for_us(
        &mut self,
        no: LinkNo,
        message: &ReliableMessage,
        now: Now,
        out: &mut Effects,
    ) -> bool {
        let own = self.messenger.account().id().clone();
        let sender = message.sender().naked();
        let to_us = message.receiver().is_same_as(&own);
        let known = self.links.get(&no).and_then(|link| link.login.station());
        if !to_us || known.is_some_and(|station| !station.is_same_as(&sender)) {
            return false;
        }
        let opened = self.messenger.open(message.clone(), now.wall_s());
        let Ok(Incoming::Opened(opened)) = opened else { return false };
        let Body::Command(Command::Handshake { title, session }) = &opened.content.body else {
            return false;
        };
        let Some(link) = self.links.get_mut(&no) else { return true };
        match link.login.heard(&sender, title, session.as_deref()) {
            Step::Sign { session } => self.shake(no, Some(&session), now, out),
            Step::Done => self.ready(no, &sender, now, out),
            Step::Ask | Step::Nothing => {}
        }
        true
    }

    fn ready(&mut self, no: LinkNo, station: &Id, now: Now, out: &mut Effects) {
        let Some(link) = self.links.get_mut(&no) else { return };
        link.failures = 0;
        let Place { host, port, .. } = &link.place;
        tracing::info!(%station, host, port, "bridge: logged in");
        if let State::Open(open) = &mut link.state {
            open.ready = true;
        }
        link.send_due(no, now, out);
    }

    fn on_time(&mut self, now: Now, out: &mut Effects) {
        for no in self.links.keys().copied().collect::<Vec<_>>() {
            self.link_on_time(no, now, out);
        }
        // What it has left with its station is said again at a new login. There is somebody to take
        // it only when a neighbour has come, and room only when half has gone.
        let room = 2 * self.passages <= PASSAGES_MAX && 2 * self.bytes <= PASSAGE_BYTES_MAX;
        let since = self.open(INNER).filter(|open| open.ready).map(|open| open.opened_ms);
        if self.missed && room && since.is_some_and(|at| at + REDIAL_MS.1 <= now.mono_ms) {
            self.missed = false;
            self.hang_up(INNER, now, out);
        }
    }

    fn link_on_time(&mut self, no: LinkNo, now: Now, out: &mut Effects) {
        let number = self.number();
        let Some(link) = self.links.get_mut(&no) else { return };
        match &mut link.state {
            State::Due(at) if *at <= now.mono_ms => {
                link.state = State::Dialing;
                out.push(Effect::Dial(no, link.place.clone()));
            }
            State::Due(_) | State::Dialing => {}
            State::Open(open) => {
                let silent = open.heard_ms + SILENCE_MS_MAX <= now.mono_ms;
                if silent || !open.ready && open.opened_ms + LOGIN_MS_MAX <= now.mono_ms {
                    return self.hang_up(no, now, out);
                }
                if open.ready && open.heard_ms.max(open.pinged_ms) + PING_MS <= now.mono_ms {
                    open.pinged_ms = now.mono_ms;
                    out.push(Effect::Write(no, mtp_ping(number).into()));
                }
                link.send_due(no, now, out);
            }
        }
    }
}

impl Link {
    fn new(place: Place, now_ms: u64) -> Self {
        Self {
            login: Login::new(place.id.clone()),
            place,
            state: State::Due(now_ms),
            epoch: 0,
            failures: 0,
            queue: BTreeMap::new(),
        }
    }

    /// Sends what has not been sent on this connection, or too long ago.
    fn send_due(&mut self, no: LinkNo, now: Now, out: &mut Effects) {
        if !matches!(&self.state, State::Open(open) if open.ready) {
            return;
        }
        for (number, passage) in &mut self.queue {
            if passage.sent_ms.is_none_or(|at| at + AGAIN_MS <= now.mono_ms) {
                passage.sent_ms = Some(now.mono_ms);
                out.push(Effect::Write(no, framed(*number, &passage.body)));
            }
        }
    }
}

fn framed(number: u64, body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).unwrap_or_default();
    [&push_head(Framing::Mtp, number, len), body].concat().into()
}
