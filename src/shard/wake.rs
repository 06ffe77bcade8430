//! Waking who is away: when a message was stored since no session acknowledged it, the bot of the
//! name `announcer` is asked to tell the user's devices that there is one.
//!
//! A wake goes round: the receiver's shard knows the mute list, the language and the badge, the
//! group's and the sender's know what these are called. It is not kept: who misses it finds the mail.

mod text;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::effect::Outbox;
use super::input::{ConnId, Parcel};
use super::user::User;
use super::{Shard, Work};
use crate::proto::address::EntityKind;
use crate::proto::command::{Push, PushItem};
use crate::proto::content::{Content, kind_of};
use crate::proto::id::Id;
use crate::proto::message::{Field, ReliableMessage};
use text::Sort;

/// The bot's name in the configuration.
const ANNOUNCER: &str = "announcer";
/// Seconds after which a message is no news any more.
const AGE_S_MAX: f64 = 128.0;
/// How long ago a session that does not acknowledge must have been heard of to be one that is there, in
/// milliseconds: it reads older mail, or is slow. Others are of devices that sleep.
const HERE_MS: u64 = 5000;
/// How long wakes are gathered, in milliseconds.
const GATHER_MS: u64 = 1000;
/// Wakes in one command.
const ITEMS_MAX: usize = 50;
/// Wakes that one shard gathers in that time; more are dropped, and counted.
const GATHERED_MAX: usize = 1000;
/// Characters of a name in a sentence.
const NAME_CHARS_MAX: usize = 64;
/// Bytes of a picture's URL.
const URL_BYTES_MAX: usize = 1024;

/// What the devices of a user are to say, as far as it is known.
#[derive(Debug, Clone)]
pub struct Wake {
    receiver: Id,
    sender: Id,
    group: Option<Id>,
    sort: Sort,
    /// Notifications since the user was last here.
    badge: u64,
    /// The receiver's, as its visa has it.
    language: String,
    receiver_name: String,
    group_name: Option<String>,
}

impl Wake {
    fn new(user: &User, message: &ReliableMessage, sort: Sort) -> Self {
        Self {
            receiver: user.id.clone(),
            sender: message.sender().naked(),
            group: message.group().map(Id::naked),
            sort,
            badge: user.badge,
            language: language(user).unwrap_or_default().to_owned(),
            receiver_name: short(user.called()),
            group_name: None,
        }
    }

    /// Whose name comes next.
    fn next(&self) -> &Id {
        match &self.group {
            Some(group) if self.group_name.is_none() => group,
            _ => &self.sender,
        }
    }

    fn item(&self, sender: &User) -> PushItem {
        let names = text::Names {
            sender: &short(sender.called()),
            receiver: &self.receiver_name,
            group: self.group_name.as_deref(),
        };
        PushItem {
            receiver: self.receiver.clone(),
            title: Some(self.sort.title().to_owned()),
            subtitle: None,
            body: text::sentence(&self.language, self.sort, &names),
            image: picture(sender),
            sound: None,
            badge: Some(self.badge),
            category: None,
        }
    }
}

/// Wakes that are gathered for one command.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    items: Vec<PushItem>,
    /// When they go, on the monotonic clock.
    due_ms: Option<u64>,
}

impl Wakes {
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.due_ms
    }
}

impl Shard {
    /// A message for a user of this shard has been stored, since nobody acknowledged it.
    pub(super) fn wake(&mut self, to: &Id, body: Bytes, out: &mut Outbox) {
        if self.bot_of(ANNOUNCER).is_none() || self.stopping || to.kind() != EntityKind::User {
            return;
        }
        let Ok(message) = ReliableMessage::parse(body, &mut self.parser, &mut self.names) else {
            return;
        };
        if let Some(wake) = self.wake_for(to, &message) {
            self.send_wake(Box::new(wake), out);
        }
    }

    /// What to say of a message; none if the user is here, or does not want to be woken by it.
    fn wake_for(&mut self, to: &Id, message: &ReliableMessage) -> Option<Wake> {
        let (sender, group) = (message.sender(), message.group());
        // An assistant's copy of what a member said.
        let passed = sender.kind() == EntityKind::Bot && group.is_some();
        let old = message.time().is_some_and(|time| time < self.now.wall_s() - AGE_S_MAX);
        if sender.kind() == EntityKind::Station
            || passed
            || old
            || message.receiver().is_broadcast()
        {
            return None;
        }
        let kind = kind_of(message.value(Field::Type, &mut self.parser).as_ref());
        let sort = Sort::of(kind)?;
        let quiet_ms = self.now.mono_ms.saturating_sub(HERE_MS);
        let user = self.users.get_mut(to)?;
        let mut sessions = user.sessions.iter().filter_map(|conn| self.sessions.get(conn));
        let here = sessions.any(|session| session.active && session.heard_ms > quiet_ms);
        if here || user.mutes(sender, group) {
            return None;
        }
        user.badge += 1;
        Some(Wake::new(user, message, sort))
    }

    /// The user of a connection has come back.
    pub(super) fn forget_badge(&mut self, conn: ConnId) {
        let user = self.sessions.get(&conn).and_then(|session| session.user.as_ref());
        if let Some(user) = user.and_then(|user| self.users.get_mut(user)) {
            user.badge = 0;
        }
    }

    fn send_wake(&mut self, wake: Box<Wake>, out: &mut Outbox) {
        let of = wake.next().clone();
        let owner = self.ring.owner_of(&of);
        match owner == self.index {
            true => self.with_user(of.clone(), Work::Wake { of, wake }, out),
            false => self.forward(owner, Parcel::Wake { of, wake }, out),
        }
    }

    /// Puts in what `of` is called, who is loaded, and sends the wake on.
    pub(super) fn name_wake(&mut self, of: &Id, mut wake: Box<Wake>, out: &mut Outbox) {
        let Some(user) = self.users.get(of) else {
            return;
        };
        if wake.group_name.is_none() && wake.group.as_ref() == Some(of) {
            wake.group_name = Some(short(user.called()));
            return self.send_wake(wake, out);
        }
        if self.wakes.items.len() >= GATHERED_MAX {
            self.stats.wakes_dropped += 1;
            return;
        }
        self.stats.wakes += 1;
        self.wakes.items.push(wake.item(user));
        self.wakes.due_ms.get_or_insert(self.now.mono_ms + GATHER_MS);
    }

    /// Hands gathered wakes to the announcer.
    pub(super) fn wake_due(&mut self, out: &mut Outbox) {
        if self.wakes.due_ms.is_none_or(|due| due > self.now.mono_ms) {
            return;
        }
        let items = std::mem::take(&mut self.wakes).items;
        let Some(bot) = self.bot_of(ANNOUNCER) else {
            return;
        };
        for items in items.chunks(ITEMS_MAX) {
            let push = Push { items: items.to_vec() };
            let content = Content::of(self.stamp(), &push).to_map();
            self.tell(&bot, content, out);
        }
    }

    /// The bot of a configured name, if that is another than the station.
    pub(super) fn bot_of(&self, name: &str) -> Option<Id> {
        let id = self.names.ans().resolve(name)?.naked();
        (id != self.station.id).then_some(id)
    }

    /// Says something to a user who is here; it is not kept for who is not.
    pub(super) fn tell(&mut self, to: &Id, content: Map<String, Value>, out: &mut Outbox) {
        let owner = self.ring.owner_of(to);
        if owner != self.index {
            return self.forward(owner, Parcel::Tell { to: to.clone(), content }, out);
        }
        let conns = self.users.get(to).map(|user| user.sessions.as_slice()).unwrap_or_default();
        let active = |conn: &&_| self.sessions.get(conn).is_some_and(|session| session.active);
        let Some(conn) = conns.iter().find(active).copied() else {
            return;
        };
        if let Some(body) = self.sealed(conn, to, &content, false) {
            self.send_message(conn, body, out);
        }
    }
}

/// The language that a visa says the application or the device speaks.
fn language(user: &User) -> Option<&str> {
    let said = |part: &str, name: &str| {
        let parts =
            user.papers.documents().iter().filter_map(|d| d.properties().get(part)?.as_object());
        parts.filter_map(|part| part.get(name)?.as_str()).find(|text| !text.is_empty())
    };
    said("app", "language").or_else(|| said("sys", "locale"))
}

/// The picture in a visa, if it is at a place that a device can fetch it from.
fn picture(user: &User) -> Option<String> {
    let url = user.papers.documents().iter().find_map(|document| {
        let avatar = document.properties().get("avatar")?;
        let url = avatar.as_object().and_then(|file| file.get("URL").or_else(|| file.get("url")));
        url.unwrap_or(avatar).as_str()
    })?;
    let fits = url.len() <= URL_BYTES_MAX
        && ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
    fits.then(|| url.to_owned())
}

fn short(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(NAME_CHARS_MAX).collect()
}
