//! What the bot of the name `monitor` is told now and then: who logged in, and how many messages of
//! which sort came from which sort of sender. Each shard tells its own; nothing is kept for a bot that
//! is not there, and without one nothing is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::Shard;
use super::effect::Outbox;
use super::input::ConnId;
use crate::proto::content::{emit, kind, kind_of};
use crate::proto::id::Id;
use crate::proto::message::{Field, ReliableMessage};

/// The bot's name in the configuration.
const MONITOR: &str = "monitor";
/// Users who are remembered in that time.
const USERS_MAX: usize = 65_536;
/// Users in one content.
const USERS_A_CONTENT: usize = 1000;
/// Pairs of senders' and messages' sorts; what else comes is counted as of no sort.
const SORTS_MAX: usize = 256;

/// What has been seen since the bot was told last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    users: BTreeSet<(Id, Option<IpAddr>)>,
    /// By the sender's network number and the content's.
    messages: BTreeMap<(u8, u32), u64>,
    /// When it is told, on the monotonic clock; none while there is nothing.
    due_ms: Option<u64>,
}

impl Seen {
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.due_ms
    }
}

impl Shard {
    /// Takes down who has logged in on a connection.
    pub(super) fn see_user(&mut self, user: &Id, conn: ConnId) {
        if self.bot_of(MONITOR).is_none() || self.monitored.users.len() >= USERS_MAX {
            return;
        }
        let peer = self.sessions.get(&conn).map(|session| session.peer.ip());
        let address = peer.filter(|_| self.policy.monitor_addresses);
        self.monitored.users.insert((user.clone(), address));
        self.monitored.due_ms.get_or_insert(self.now.mono_ms + self.policy.monitor_every_ms);
    }

    /// Counts a message.
    pub(super) fn see_message(&mut self, message: &ReliableMessage) {
        if self.bot_of(MONITOR).is_none() {
            return;
        }
        let sort = kind_of(message.value(Field::Type, &mut self.parser).as_ref());
        let counts = &mut self.monitored.messages;
        let mut key = (message.sender().kind().code(), sort);
        if counts.len() >= SORTS_MAX && !counts.contains_key(&key) {
            key = (0, 0);
        }
        *counts.entry(key).or_default() += 1;
        self.monitored.due_ms.get_or_insert(self.now.mono_ms + self.policy.monitor_every_ms);
    }

    /// Tells the monitor what has been seen.
    pub(super) fn tell_monitor(&mut self, out: &mut Outbox) {
        if self.monitored.due_ms.is_none_or(|due| due > self.now.mono_ms) {
            return;
        }
        let seen = std::mem::take(&mut self.monitored);
        let Some(bot) = self.bot_of(MONITOR) else {
            return;
        };
        let user = |(id, address): &(Id, Option<IpAddr>)| match address {
            Some(address) => json!({"U": id.as_str(), "IP": address.to_string()}),
            None => json!({"U": id.as_str()}),
        };
        let users: Vec<Value> = seen.users.iter().map(user).collect();
        for users in users.chunks(USERS_A_CONTENT) {
            self.post(&bot, "users", users.to_vec(), out);
        }
        let count = |((sender, sort), count): (&(u8, u32), &u64)| json!({"S": sender, "T": sort, "C": count});
        let stats: Vec<Value> = seen.messages.iter().map(count).collect();
        if !stats.is_empty() {
            self.post(&bot, "stats", stats, out);
        }
    }

    fn post(&mut self, bot: &Id, module: &str, rows: Vec<Value>, out: &mut Outbox) {
        let mut fields = Map::new();
        fields.insert("app".into(), "chat.dim.monitor".into());
        fields.insert("mod".into(), module.into());
        fields.insert("act".into(), "post".into());
        fields.insert(module.into(), rows.into());
        let stamp = self.stamp();
        let content = emit(kind::CUSTOMIZED, stamp.sn, stamp.time, fields);
        self.tell(bot, content, out);
    }
}
