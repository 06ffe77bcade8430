//! Messages between stations: brought by neighbours, spread to them, sent after users who are at
//! another station.
//!
//! A neighbour is trusted to bring messages of others, never to have written them: each is checked
//! by the keys of its sender, on the sender's shard. Mail goes on only to stations that have not had
//! it, so that it stays where the way ends; the reference has the same rule by its traces.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Map;

use super::effect::Outbox;
use super::input::{ConnId, Outcome, Parcel, ReplyTo, Ticket};
use super::intake::Way;
use super::mail::{copy_digest, digest_of, sent_digest};
use super::route::{Route, for_bridge};
use super::session::AckTo;
use super::ticket::{Sink, Stored};
use super::{Shard, Work};
use crate::base::table::{Set, Table};
use crate::crypto::sign::{Verified, verify};
use crate::proto::address::EntityKind;
use crate::proto::content::{emit, kind};
use crate::proto::id::Id;
use crate::proto::message::ReliableMessage;
use crate::store::{MailDigest, QueueKey, StoreAnswer, StoreOp};
use crate::wire::limits::MESSAGE_BYTES_MAX;

/// Stands for the connection of a message that came by a neighbour and another shard.
pub(super) const NO_CONN: ConnId = ConnId(u64::MAX);
/// Messages of unknown senders that wait on a shard, and their bytes.
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// How long they wait for their sender's account, in milliseconds.
const WAITING_MS_MAX: u64 = 60_000;
/// The time in which neighbours are asked once for an account, in milliseconds.
const ASK_EVERY_MS: u64 = 600_000;
/// The same while a message waits for it: a question reaches only who is there.
const ASK_AGAIN_MS: u64 = 5_000;
/// Accounts that a shard asks for in that time.
const ASKED_MAX: usize = 4096;
/// Stored messages that are sent after their user at once.
const MOVING_MAX: usize = 64;

/// Work between stations that waits for its outcome.
#[derive(Debug)]
pub(super) enum Transit {
    /// A neighbour has brought a message and wants it acknowledged.
    Brought { conn: ConnId, ack: AckTo, bytes: usize },
    /// An answer is held back until a neighbour's copy of a broadcast is safe.
    Spread { ticket: Ticket, slot: usize },
    /// Mail goes on to the station that its user is at.
    Onward { replies: Vec<ReplyTo>, hop: MailDigest },
    /// Stored mail goes after its user.
    Moved { user: Id, stored: StoredMail },
}

/// A message in a queue of the store.
#[derive(Debug)]
pub(super) struct StoredMail {
    device: Arc<str>,
    seq: u64,
    bytes: usize,
    digest: MailDigest,
}

/// The mail of a user who is elsewhere, on its way there.
#[derive(Debug)]
pub(super) struct Moving {
    to: Id,
    /// Queues still to be read, and where to go on in the first of them.
    queues: VecDeque<Arc<str>>,
    from_seq: u64,
    under_way: Set<Ticket>,
    /// The user came back meanwhile.
    stayed: bool,
}

/// What is known between stations beyond single messages.
#[derive(Debug, Default)]
pub(super) struct Federation {
    transits: Table<Ticket, Transit>,
    moving: Table<Id, Moving>,
    /// Mail on its way onward, by what it is known by.
    onward: Table<MailDigest, Ticket>,
    /// Messages of senders whose account has been asked for.
    waiting: Table<Id, Vec<Waiting>>,
    waiting_count: usize,
    waiting_bytes: usize,
    /// Whether a message is remembered by its way.
    knows_ways: bool,
    /// When neighbours were asked for an account.
    asked: Table<Id, u64>,
}

impl Federation {
    /// Whether some of a user's stored mail may be gone or not.
    pub(super) fn is_leaving(&self, user: &Id) -> bool {
        self.moving.get(user).is_some_and(|moving| !moving.under_way.is_empty())
    }
}

#[derive(Debug)]
struct Waiting {
    message: Box<ReliableMessage>,
    by: Id,
    reply: ReplyTo,
    until_ms: u64,
}

impl Shard {
    pub(super) fn transit(&mut self, transit: Transit) -> ReplyTo {
        let ticket = self.ticket();
        self.federation.transits.insert(ticket, transit);
        ReplyTo { shard: self.index, ticket, slot: 0 }
    }

    /// Who wants to know what becomes of mail that goes onward, and is the first to.
    pub(super) fn onward(&mut self, hop: MailDigest, reply: ReplyTo) -> ReplyTo {
        let reply = self.transit(Transit::Onward { replies: vec![reply], hop });
        self.federation.onward.insert(hop, reply.ticket);
        self.federation.knows_ways = true;
        reply
    }

    /// Keeps in mind by which way a message came, or was sent.
    pub(super) fn remember_way(&mut self, hop: MailDigest) {
        self.federation.knows_ways = true;
        self.seen.insert(hop, self.now.mono_ms);
    }

    /// Whether any message was remembered by its way.
    pub(super) fn knows_ways(&self) -> bool {
        self.federation.knows_ways
    }

    /// Whether the same mail is on its way onward; then whoever said it again is told with the first.
    pub(super) fn is_onward(&mut self, hop: &MailDigest, reply: &ReplyTo) -> bool {
        let federation = &mut self.federation;
        let ticket = federation.onward.get(hop);
        match ticket.and_then(|ticket| federation.transits.get_mut(ticket)) {
            Some(Transit::Onward { replies, .. }) => {
                replies.push(*reply);
                true
            }
            _ => false,
        }
    }

    /// Whether a neighbour's message has been here before and is not to go round again. Mail for a
    /// user may come back, if its user did; a repetition is known by its signature.
    pub(super) fn is_loop(&mut self, by: &Id, message: &ReliableMessage) -> bool {
        let station = EntityKind::Station;
        let (sender, receiver) = (message.sender().kind(), message.receiver());
        let route = Route::read(message, by, &mut self.names, &mut self.parser);
        let own = self.station.id.clone();
        let once = receiver.is_broadcast() || [sender, receiver.kind()].contains(&station);
        once && (route.passed(&own) || route.is_long())
    }

    /// A neighbour brings a message of somebody else, to be checked where that one's account is.
    pub(super) fn bring(
        &mut self,
        conn: ConnId,
        by: Id,
        message: ReliableMessage,
        ack: AckTo,
        out: &mut Outbox,
    ) {
        self.stats.brought += 1;
        let sender = message.sender().naked();
        if !sender.is_user() || sender.is_same_as(&self.station.id) {
            return self.acknowledge(conn, ack, out);
        }
        let (bytes, message) = (message.raw().len(), Box::new(message));
        let reply = self.transit(Transit::Brought { conn, ack, bytes });
        self.strain(conn, bytes, out);
        let owner = self.ring.owner_of(&sender);
        match owner == self.index {
            true => self.with_user(sender, Work::Brought { message, by, reply }, out),
            false => self.forward(owner, Parcel::Brought { message, by, reply }, out),
        }
    }

    /// A brought message of a user of this shard, who is loaded.
    pub(super) fn brought(
        &mut self,
        message: ReliableMessage,
        by: Id,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        let sender = message.sender().naked();
        let Ok(saves) = self.take_attachments(NO_CONN, &message) else {
            self.stats.refused_messages += 1;
            return self.outcome(reply, Outcome::Taken, out);
        };
        let news = !saves.is_empty();
        let Some(keys) = self.users.get_mut(&sender).and_then(|user| user.papers.keys()) else {
            self.save_all(saves, out);
            return self.await_account(message, by, reply, out);
        };
        match verify(message, &keys) {
            Ok(message) => {
                self.saves = saves;
                self.go_on(message, by, reply, out);
                let saves = std::mem::take(&mut self.saves);
                self.save_all(saves, out);
            }
            Err(message) => {
                self.stats.refused_signatures += 1;
                tracing::debug!(%by, sender = %message.sender(), "a signature does not match");
                self.save_all(saves, out);
                self.outcome(reply, Outcome::Taken, out);
            }
        }
        if news {
            self.account_came(&sender, out);
        }
    }

    /// A brought message that is its sender's.
    fn go_on(&mut self, message: Verified, by: Id, reply: ReplyTo, out: &mut Outbox) {
        let route = Route::read(&message, &by, &mut self.names, &mut self.parser);
        let way = match (self.way_of(message.receiver()), &route.rcpt) {
            // The neighbour knows who has that name.
            (Way::Unknown, Some(rcpt)) if rcpt.is_user() && !rcpt.is_broadcast() => {
                self.way_of(&rcpt.naked())
            }
            (way, _) => way,
        };
        match way {
            Way::Mail(to) if to.kind() == EntityKind::Station && !self.is_neighbor(&to) => {
                self.outcome(reply, Outcome::Taken, out);
            }
            Way::Mail(to) => {
                self.stats.relayed += 1;
                self.send_mail(to, message, route, reply, out);
            }
            Way::HereWhenLoggedIn | Way::Here => {
                let digest = digest_of(&message, &self.station.id);
                if self.seen.contains(&digest) {
                    self.stats.looped += 1;
                    return self.outcome(reply, Outcome::Taken, out);
                }
                self.seen.insert(digest, self.now.mono_ms);
                self.hear(NO_CONN, message, AckTo::Neighbor(by, reply), Sink::Conn, out);
            }
            Way::Unknown | Way::Group => self.outcome(reply, Outcome::Taken, out),
        }
    }

    /// Keeps a message back until its sender's account is known, and asks for that.
    fn await_account(
        &mut self,
        message: ReliableMessage,
        by: Id,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        let (sender, bytes) = (message.sender().naked(), message.raw().len());
        let federation = &mut self.federation;
        if federation.waiting_count >= WAITING_MAX
            || federation.waiting_bytes.saturating_add(bytes) > WAITING_BYTES_MAX
        {
            self.stats.strangers += 1;
            return self.outcome(reply, Outcome::Failed, out);
        }
        federation.waiting_count += 1;
        federation.waiting_bytes += bytes;
        let until_ms = self.now.mono_ms + WAITING_MS_MAX;
        let waiting = Waiting { message: Box::new(message), by, reply, until_ms };
        federation.waiting.entry(sender.clone()).or_default().push(waiting);
        self.ask_within(&sender, ASK_AGAIN_MS, out);
    }

    /// Asks again for the accounts that messages wait for.
    pub(super) fn ask_for_strangers(&mut self, out: &mut Outbox) {
        let senders: Vec<Id> = self.federation.waiting.keys().cloned().collect();
        for sender in senders {
            self.ask_within(&sender, ASK_AGAIN_MS, out);
        }
    }

    /// An account has come to be known, or to be known better: who waited for it goes on.
    pub(super) fn account_came(&mut self, of: &Id, out: &mut Outbox) {
        if self.users.get_mut(of).and_then(|user| user.papers.keys()).is_none() {
            return;
        }
        for waiting in self.federation.waiting.remove(of).unwrap_or_default() {
            self.federation.waiting_count -= 1;
            self.federation.waiting_bytes -= waiting.message.raw().len();
            self.brought(*waiting.message, waiting.by, waiting.reply, out);
        }
    }

    /// Gives up what waited for too long: unacknowledged, so that the neighbour keeps it.
    pub(super) fn give_up_strangers(&mut self, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let federation = &mut self.federation;
        let mut late = Vec::new();
        for waiting in federation.waiting.values_mut() {
            late.extend(waiting.extract_if(.., |waiting| waiting.until_ms <= now_ms));
        }
        federation.waiting.retain(|_, waiting| !waiting.is_empty());
        for waiting in late {
            self.federation.waiting_count -= 1;
            self.federation.waiting_bytes -= waiting.message.raw().len();
            self.stats.strangers += 1;
            // The question may have been lost with a link: the repetition asks it again.
            self.federation.asked.remove(&waiting.message.sender().naked());
            self.outcome(waiting.reply, Outcome::Failed, out);
        }
    }

    /// Asks all neighbours for an account, unless that was done lately. The question is not kept:
    /// who is not there does not answer.
    pub(super) fn ask_neighbors(&mut self, of: &Id, out: &mut Outbox) {
        self.ask_within(of, ASK_EVERY_MS, out);
    }

    fn ask_within(&mut self, of: &Id, every_ms: u64, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let asked = &mut self.federation.asked;
        if asked.get(of).is_some_and(|at| now_ms < at + every_ms) {
            return;
        }
        if asked.len() >= ASKED_MAX {
            asked.retain(|_, at| now_ms < *at + ASK_EVERY_MS);
        }
        let neighbors: Vec<Id> = self.neighbors.ids().filter(|id| *id != of).cloned().collect();
        if neighbors.is_empty() || self.federation.asked.len() >= ASKED_MAX {
            return;
        }
        self.federation.asked.insert(of.clone(), now_ms);
        for name in ["meta", "documents"] {
            let mut fields = Map::new();
            fields.insert("command".into(), name.into());
            fields.insert("did".into(), of.as_str().into());
            let stamp = self.stamp();
            let content = emit(kind::COMMAND, stamp.sn, stamp.time, fields);
            let Some(body) = self.in_the_open(content) else { return };
            for to in &neighbors {
                self.say_to(to, body.clone(), out);
            }
        }
    }

    /// A message of this station for a neighbour, not kept if it is not there.
    pub(super) fn say_to(&mut self, to: &Id, body: Bytes, out: &mut Outbox) {
        if self.is_bridged(to) {
            let (bridge, body) = (self.station.id.naked(), for_bridge(&body, to));
            return self.say_to(&bridge, body, out);
        }
        let owner = self.ring.owner_of(to);
        if owner != self.index {
            return self.forward(owner, Parcel::Say { to: to.clone(), body }, out);
        }
        let conns = self.users.get(to).map(|user| user.sessions.clone()).unwrap_or_default();
        let active = |conn: &&ConnId| self.sessions.get(conn).is_some_and(|s| s.active);
        // Nothing is lost with what is not kept: any way is good that there is.
        if let Some(conn) = conns.iter().find(active).or(conns.first()) {
            self.send_message(*conn, body, out);
        }
    }

    /// Gives each neighbour its copy of a broadcast, unless somebody else does; the answer to it
    /// waits until all are safe.
    pub(super) fn spread(
        &mut self,
        ticket: Ticket,
        message: &Verified,
        mut route: Route,
        out: &mut Outbox,
    ) {
        let served = |id: &Id| {
            route.passed(id)
                || message.sender().is_same_as(id)
                || route.recipients.iter().any(|served| served.is_same_as(id))
        };
        let all: Vec<Id> = self.neighbors.ids().map(Id::naked).collect();
        let (done, targets): (Vec<Id>, Vec<Id>) = all.into_iter().partition(served);
        let own = self.station.id.naked();
        for id in done.into_iter().chain(targets.iter().cloned()).chain([own]) {
            if !route.recipients.iter().any(|served| served.is_same_as(&id)) {
                route.recipients.push(id);
            }
        }
        for to in targets {
            let Some(reply) = self.replies.get_mut(&ticket) else { return };
            let slot = reply.slots.len();
            reply.slots.push(Vec::new());
            reply.left += 1;
            let reply = self.transit(Transit::Spread { ticket, slot });
            self.send_mail(to, message.clone(), route.clone(), reply, out);
        }
    }

    /// Whether an outcome was one of a message between stations; then it is dealt with.
    pub(super) fn transit_done(
        &mut self,
        reply: ReplyTo,
        outcome: &Outcome,
        out: &mut Outbox,
    ) -> bool {
        let Some(transit) = self.federation.transits.remove(&reply.ticket) else { return false };
        let failed = *outcome == Outcome::Failed;
        match transit {
            Transit::Brought { conn, ack, bytes } => {
                self.calm(conn, bytes, out);
                // The neighbour keeps what is not acknowledged and tries again: its sender was told
                // that it is safe.
                match failed || *outcome == Outcome::Full {
                    true => self.withhold(&ack),
                    false => self.acknowledge(conn, ack, out),
                }
            }
            Transit::Spread { ticket, slot } => {
                if failed {
                    self.fail(ticket);
                }
                self.fill(ticket, slot, Vec::new(), out);
            }
            Transit::Onward { replies, hop } => {
                self.federation.onward.remove(&hop);
                if matches!(outcome, Outcome::Redirected { .. }) {
                    self.remember_way(hop);
                }
                for reply in replies {
                    self.outcome(reply, outcome.clone(), out);
                }
            }
            Transit::Moved { user, stored } => {
                let safe = matches!(outcome, Outcome::Redirected { .. });
                self.moved(&user, reply.ticket, &stored, safe, out);
            }
        }
        true
    }

    /// The neighbour that a user of this shard is at, by the newest login record, unless the user
    /// is here too or came here later.
    pub(super) fn roams_to(&self, user: &Id) -> Option<Id> {
        let entry = self.users.get(user)?;
        let here = |conn: &ConnId| self.sessions.get(conn).is_some_and(|s| s.active);
        if entry.sessions.iter().any(here) || self.is_neighbor(user) {
            return None;
        }
        let (time, station) = entry.newest_login(self.now.wall_s())?;
        if entry.here_s >= time {
            return None;
        }
        self.neighbors.ids().find(|id| id.is_named_by(&station)).cloned()
    }

    /// Sends what is stored for a user to the neighbour that the user is at.
    pub(super) fn follow(&mut self, user: &Id, out: &mut Outbox) {
        if self.federation.moving.contains_key(user) || self.stopping {
            return;
        }
        let Some(to) = self.roams_to(user) else { return };
        let Some(entry) = self.users.get(user) else { return };
        let queues: VecDeque<_> = entry
            .queues
            .iter()
            .filter(|queue| queue.may_hold())
            .map(|queue| queue.device.clone())
            .collect();
        let moving = Moving { to, queues, from_seq: 0, under_way: Set::default(), stayed: false };
        self.federation.moving.insert(user.clone(), moving);
        self.move_on(user, out);
    }

    /// The user has come back: what has not left stays. What is leaving is waited for, or the user
    /// would have it here and, from there, once more.
    pub(super) fn stay(&mut self, user: &Id) {
        match self.federation.moving.get_mut(user) {
            Some(moving) if !moving.under_way.is_empty() => moving.stayed = true,
            _ => drop(self.federation.moving.remove(user)),
        }
    }

    fn move_on(&mut self, user: &Id, out: &mut Outbox) {
        let Some(moving) = self.federation.moving.get(user) else { return };
        if !moving.under_way.is_empty() {
            return;
        }
        if moving.stayed {
            self.federation.moving.remove(user);
            self.read_on(user, out);
            // Or has left again.
            return self.follow(user, out);
        }
        let Some(device) = moving.queues.front().cloned() else {
            self.federation.moving.remove(user);
            return;
        };
        let from_seq = moving.from_seq;
        let bytes_max = self.policy.flying_bytes_max;
        let Some(entry) = self.users.get_mut(user) else { return };
        let span = entry.queue(&device).page_asked(from_seq);
        let queue = QueueKey { user: entry.text.clone(), device: device.clone() };
        let op = StoreOp::Page { queue, from_seq, count_max: MOVING_MAX, bytes_max };
        self.store(op, Stored::Move { user: user.clone(), device, span }, out);
    }

    /// A page of the mail that is to be moved.
    pub(super) fn move_page(
        &mut self,
        user: &Id,
        device: &Arc<str>,
        span: Range<u64>,
        answer: StoreAnswer,
        out: &mut Outbox,
    ) {
        if let Some(entry) = self.users.get_mut(user) {
            entry.queue(device).page_answered(&span, &answer);
        }
        let StoreAnswer::Page { mails, more } = answer else {
            // Tried again with the next login record.
            self.end_page(user, device);
            return self.stay(user);
        };
        let Some(moving) = self.federation.moving.get_mut(user) else {
            return self.end_page(user, device);
        };
        match mails.last() {
            Some((last, _)) if more => moving.from_seq = last + 1,
            _ => {
                moving.queues.pop_front();
                moving.from_seq = 0;
            }
        }
        let to = moving.to.clone();
        let owner = self.ring.owner_of(&to);
        let mut parcels = Vec::with_capacity(mails.len());
        for (seq, mail) in mails {
            let entry = self.users.get_mut(user);
            let settled = entry.is_some_and(|entry| entry.queue(device).is_settled(seq));
            if settled || !self.may_go_on(mail.body.len()) {
                continue;
            }
            let stored = StoredMail {
                device: device.clone(),
                seq,
                bytes: mail.body.len(),
                digest: mail.digest,
            };
            let digest = copy_digest(&mail.digest, device);
            let reply = self.transit(Transit::Moved { user: user.clone(), stored });
            if let Some(moving) = self.federation.moving.get_mut(user) {
                moving.under_way.insert(reply.ticket);
            }
            let (to, received_ms, body) = (to.clone(), mail.received_ms, mail.body);
            parcels.push(Parcel::Moved { to, digest, received_ms, body, reply });
        }
        self.end_page(user, device);
        for parcel in parcels {
            match owner == self.index {
                true => self.parcel(parcel, out),
                false => self.forward(owner, parcel, out),
            }
        }
        self.move_on(user, out);
    }

    fn end_page(&mut self, user: &Id, device: &Arc<str>) {
        if let Some(entry) = self.users.get_mut(user) {
            entry.queue(device).forget_deleted();
        }
    }

    /// A moved message is safe with its new station's mail, or has to stay.
    fn moved(
        &mut self,
        user: &Id,
        ticket: Ticket,
        stored: &StoredMail,
        safe: bool,
        out: &mut Outbox,
    ) {
        let Some(moving) = self.federation.moving.get_mut(user) else { return };
        if !moving.under_way.remove(&ticket) {
            return;
        }
        if safe {
            self.stats.redirected += 1;
            // It may come back with its user, and is welcome then.
            self.seen.remove(&stored.digest);
            self.seen.remove(&copy_digest(&stored.digest, &stored.device));
            // Unless its sender only says it again.
            self.remember_way(sent_digest(&stored.digest));
            self.take_out(user, &stored.device, stored.seq, stored.bytes);
        }
        self.move_on(user, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Now;
    use crate::proto::directory::Ans;
    use crate::shard::Policy;
    use crate::shard::effect::Effect;
    use crate::shard::input::Input;
    use crate::shard::neighbor::Neighbor;
    use crate::shard::ring::{Ring, ShardIndex};

    fn message(shard: &mut Shard, n: usize) -> ReliableMessage {
        let sender = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";
        let text = format!(
            r#"{{"sender":"{sender}","receiver":"{sender}","data":"AAAA","signature":"{n:08}"}}"#
        );
        ReliableMessage::parse(text.into(), &mut shard.parser, &mut shard.names).unwrap()
    }

    #[test]
    fn strangers_wait_in_bounds_and_are_given_up_unacknowledged() {
        let station = Arc::new(crate::shard::tests::station());
        let (here, there) = (ShardIndex(0), ShardIndex(1));
        let (policy, ans) = (Arc::new(Policy::default()), Arc::new(Ans::default()));
        let mut shard = Shard::new(here, Ring::new(2), station, policy, ans, 1);
        let mut out = Vec::new();
        let moky = Id::parse("moky-s@2PVvMPm1j74HFWAGnDSZFkLsbEgM3KCGkTR").unwrap();
        let id = Some(moky.clone());
        let list = [Neighbor { id, host: "a".to_owned(), port: 1, tls: false }];
        let now = |mono_ms| Now { mono_ms, wall_us: 1_790_000_000_000_000 };
        shard.handle(now(0), Input::Neighbors(list.into()), &mut out);
        out.clear();
        let failed = |out: &[Effect]| {
            let failed = |effect: &&Effect| {
                matches!(
                    effect,
                    Effect::Forward {
                        parcel: Parcel::Outcome { outcome: Outcome::Failed, .. },
                        ..
                    }
                )
            };
            out.iter().filter(failed).count()
        };
        for n in 0..=WAITING_MAX {
            let reply = ReplyTo { shard: there, ticket: Ticket(n as u64), slot: 0 };
            let message = message(&mut shard, n);
            shard.await_account(message, moky.clone(), reply, &mut out);
        }
        assert_eq!(failed(&out), 1, "the one for which there is no room");
        assert_eq!(shard.federation.asked.len(), 1, "one question for all of them");
        out.clear();
        shard.handle(now(WAITING_MS_MAX - 1), Input::Tick, &mut out);
        assert_eq!(failed(&out), 0);
        shard.handle(now(2 * WAITING_MS_MAX), Input::Tick, &mut out);
        assert_eq!(failed(&out), WAITING_MAX);
        let left = &shard.federation;
        assert_eq!((left.waiting_count, left.waiting_bytes, left.waiting.len()), (0, 0, 0));
        assert_eq!(left.asked.len(), 0, "a repetition asks for the account again");
        assert_eq!(shard.stats.strangers, WAITING_MAX as u64 + 1);
    }
}
