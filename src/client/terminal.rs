//! The whole client as a state machine: what happened and what time it is go in, what is to be
//! done comes out. It opens no socket and reads no clock; whoever drives it writes what it wants
//! written, tells it what was read, and calls again at [`next_deadline_ms`](Terminal::next_deadline_ms).
//!
//! It logs in and stays logged in, sends again what the station did not acknowledge, finds out who
//! strangers are, and tells the application what came, each message once.

mod effect;
mod incoming;
mod outgoing;
mod settings;
mod unconfirmed;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::account::Account;
use super::keys::KeyStore;
use super::login::{Login, Step};
use super::messenger::Messenger;
use super::names::NameBook;
use super::outbox::{Due, Outbox};
use super::say;
use super::seen::Seen;
use super::source::Source;
use crate::base::encode::base64_encode;
use crate::base::random::split_mix;
use crate::base::time::Now;
use crate::proto::address::EntityKind;
use crate::proto::id::Id;
use crate::wire::websocket::{self, Masks};
use crate::wire::{DeframeLimits, Deframer, Framing, mtp_ping, push_head, upgrade};

use unconfirmed::Unconfirmed;

pub use effect::{Effect, Event, Failure, Input};
pub use settings::{
    CONTACTS_TOLD_MAX, DEPTH_MAX, LOGIN_MS_MAX, MEMBERS_MS_MAX, ONLINE_MS, OWN, PARTS_MAX,
    QUERIES_MAX, QUERY_AGAIN_MS, SILENCE_MS_MAX, Settings, UNCONFIRMED_MAX, VISA_AGE_S_MAX,
};

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
    unconfirmed: Unconfirmed,
}

#[derive(Debug)]
enum Link {
    /// To be dialled again at that time, if at all.
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
            unconfirmed: Unconfirmed::default(),
            settings,
        }
    }

    /// Takes what happened at `now`, and appends what is to be done.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Effects) {
        match input {
            Input::Start if matches!(self.link, Link::Down(_)) => self.dial(out),
            Input::Confirm(package) => {
                out.extend(self.unconfirmed.confirm(package).map(Effect::Write));
            }
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
                self.unconfirmed.clear();
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
        self.unconfirmed.clear();
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
