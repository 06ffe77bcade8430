//! Mail of the users that this shard owns: pushed to who is there, kept for who is not.
//!
//! Nothing is acknowledged to a sender before each device's copy is safe: acknowledged by a session
//! of that device, or on disk. A copy that nobody acknowledges in time goes to the disk then.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::effect::Outbox;
use super::input::{ConnId, Outcome, Parcel, ReplyTo, Ticket};
use super::route::{ROOM_BYTES, Route, for_bridge};
use super::session::{ANY_DEVICE, Push, Reading};
use super::ticket::Stored;
use super::user::is_device;
use super::{Shard, Work};
use crate::crypto::sign::Verified;
use crate::proto::id::Id;
use crate::proto::splice::{Routing, relay};
use crate::store::{Mail as StoredMail, MailDigest, QueueKey, StoreOp};

/// A message that is not safe yet.
#[derive(Debug)]
pub(super) struct Mail {
    user: Id,
    digest: MailDigest,
    /// The same with the way that it came by, if a neighbour brought it.
    hop: Option<MailDigest>,
    received_ms: u64,
    seq: u64,
    copies: SmallVec<[Copy; 1]>,
    /// The station that it is for, or somebody there.
    next: Option<Id>,
    /// Who wants to know; more than one when the sender repeated it meanwhile.
    replies: SmallVec<[ReplyTo; 1]>,
    /// The receiver as receipts name it, once one of its sessions has acknowledged.
    recipient: Option<Id>,
}

/// One device's copy.
#[derive(Debug)]
struct Copy {
    device: Arc<str>,
    body: Bytes,
    state: CopyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyState {
    /// So many sessions have it on its way to them.
    Flying(usize),
    /// The store is keeping it; `acknowledged` meanwhile by a session.
    Storing {
        acknowledged: bool,
    },
    Safe,
}

impl Mail {
    pub(super) fn user(&self) -> &Id {
        &self.user
    }
}

impl Shard {
    /// Hands a message to the shard of its receiver.
    pub(super) fn send_mail(
        &mut self,
        to: Id,
        message: Verified,
        route: Route,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        let owner = self.ring.owner_of(&to);
        if owner == self.index && self.is_at_hand(&to) {
            return self.take_mail(&to, &message, route, reply, out);
        }
        let (message, route) = (Box::new(message), Box::new(route));
        if owner == self.index {
            self.with_user(to.clone(), Work::Mail { to, message, route, reply }, out);
        } else {
            self.forward(owner, Parcel::Mail { to, message, route, reply }, out);
        }
    }

    /// A message for a user of this shard, who is loaded.
    pub(super) fn take_mail(
        &mut self,
        to: &Id,
        message: &Verified,
        route: Route,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        if self.is_neighbor(to) && route.passed(to) {
            return self.outcome(reply, Outcome::Taken, out);
        }
        if self.is_bridged(to) {
            let (bridge, route) = (self.station.id.naked(), self.by_bridge(to, route));
            return self.send_mail(bridge, message.clone(), route, reply, out);
        }
        let next = route.neighbor.clone().or_else(|| self.is_neighbor(to).then(|| to.clone()));
        let (onward, whose) = (next.is_some(), next.as_ref().unwrap_or(to));
        if let Some(user) = lost(to, message.receiver(), &route).filter(|_| !onward) {
            // The shards learn of another list one after the other, and the user's knew an older
            // one: without its link this station must not have mail of others. Asked again, that
            // shard knows better.
            let device = route.rcpt.as_ref().and_then(|rcpt| rcpt.terminal()).map(Arc::from);
            let route = Route { rcpt: None, device, ..route };
            return self.send_mail(user, message.clone(), route, reply, out);
        }
        let digest = match (&route.rcpt, &route.device) {
            (Some(rcpt), _) if onward => copy_digest(&digest_of(message, whose), rcpt.as_str()),
            (_, Some(device)) => copy_digest(&digest_of(message, to), device),
            _ => digest_of(message, whose),
        };
        if let Some(user) = self.users.get(to)
            && user.blocks(message.sender(), message.group())
        {
            self.stats.blocked += 1;
            let group = message.group().map(|group| group.to_string());
            return self.outcome(reply, Outcome::Blocked { by: user.called().into(), group }, out);
        }
        let by_way = !onward && (route.by.is_some() || self.knows_ways());
        let hop = by_way.then(|| hop_digest(&digest, &route));
        if self.is_known(&digest, onward) || hop.is_some_and(|hop| self.seen.contains(&hop)) {
            return self.repeated(to, &digest, reply, out);
        }
        if hop.is_some_and(|hop| self.is_onward(&hop, &reply)) {
            return;
        }
        let roams = self.roams_to(to).filter(|next| !route.passed(next) && !route.is_long());
        if let Some(next) = roams.filter(|_| !onward && self.may_go_on(message.raw().len())) {
            let rcpt = dressed(to, route.device.as_deref().unwrap_or_default());
            let hop = hop.unwrap_or_else(|| hop_digest(&digest, &route));
            let route = Route { rcpt: Some(rcpt), device: None, ..route };
            let reply = self.onward(hop, reply);
            return self.send_mail(next, message.clone(), route, reply, out);
        }
        if onward && !self.may_go_on(message.raw().len()) {
            return self.outcome(reply, Outcome::TooLong, out);
        }
        // Broadcasts for a neighbour that is away leave room for mail.
        let share = if onward && message.receiver().is_broadcast() { 2 } else { 1 };
        if self.is_full(to, message.raw().len(), share) {
            self.stats.mailbox_full += 1;
            return self.outcome(reply, Outcome::Full, out);
        }
        let copies = self.copies(to, message, &route, onward);
        let received_ms = self.now.wall_ms();
        // It may leave with its user and come back, by a longer way; the same way is a repetition.
        let hop = hop.filter(|_| route.by.is_some());
        if let Some(hop) = hop {
            self.remember_way(hop);
        }
        self.begin_mail(to, next, digest, hop, received_ms, copies, reply, out);
    }

    /// Whether a message is short enough for what other stations add to it.
    pub(super) fn may_go_on(&self, bytes: usize) -> bool {
        bytes.saturating_add(ROOM_BYTES) <= self.policy.framing.message_bytes_max
    }

    /// Mail from the store of a user who is at the neighbour `to`, which is loaded.
    pub(super) fn take_moved(
        &mut self,
        to: &Id,
        digest: MailDigest,
        received_ms: u64,
        body: Bytes,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        if self.is_bridged(to) {
            let (bridge, body) = (self.station.id.naked(), for_bridge(&body, to));
            let parcel = Parcel::Moved { to: bridge.clone(), digest, received_ms, body, reply };
            let owner = self.ring.owner_of(&bridge);
            return match owner == self.index {
                true => self.parcel(parcel, out),
                false => self.forward(owner, parcel, out),
            };
        }
        if !self.is_neighbor(to) && !to.is_same_as(&self.station.id) {
            // No longer, or not yet: it stays where it is.
            return self.outcome(reply, Outcome::Failed, out);
        }
        if self.is_known(&digest, true) {
            return self.repeated(to, &digest, reply, out);
        }
        if self.is_full(to, body.len(), 1) {
            self.stats.mailbox_full += 1;
            return self.outcome(reply, Outcome::Full, out);
        }
        let state = CopyState::Flying(0);
        let copies = smallvec![Copy { device: self.any_device.clone(), body, state }];
        self.begin_mail(to, Some(to.clone()), digest, None, received_ms, copies, reply, out);
    }

    /// Takes copies on: each is handed out or kept.
    #[expect(clippy::too_many_arguments, reason = "each says a different thing, once")]
    fn begin_mail(
        &mut self,
        to: &Id,
        next: Option<Id>,
        digest: MailDigest,
        hop: Option<MailDigest>,
        received_ms: u64,
        mut copies: SmallVec<[Copy; 1]>,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        if next.is_none() {
            self.seen.insert(digest, self.now.mono_ms);
            for copy in &mut copies {
                if self.is_kept(to, &digest, &copy.device) {
                    copy.state = CopyState::Safe;
                }
            }
        }
        let wall_us = self.now.wall_us;
        let Some(user) = self.users.get_mut(to) else {
            return;
        };
        let seq = user.next_seq(wall_us);
        let ticket = self.ticket();
        self.flying.insert(digest, ticket);
        self.mails.insert(
            ticket,
            Mail {
                user: to.clone(),
                digest,
                hop,
                received_ms,
                seq,
                copies,
                next,
                replies: smallvec![reply],
                recipient: None,
            },
        );
        self.due_mail.push_back((self.now.mono_ms + self.policy.acknowledge_ms, ticket));
        self.hand_out(ticket, out);
        if self.stopping {
            // It came from another shard, or waited for its receiver to be read.
            self.keep_flying(ticket, out);
        }
    }

    /// Whether a message was taken before. What went on to a neighbour may come back with its user
    /// and go there again; a repetition is known where the user is.
    fn is_known(&self, digest: &MailDigest, onward: bool) -> bool {
        match onward {
            true => self.flying.contains_key(digest),
            false => self.seen.contains(digest),
        }
    }

    /// A message that was taken before: not delivered again, but answered, once it is safe.
    fn repeated(&mut self, to: &Id, digest: &MailDigest, reply: ReplyTo, out: &mut Outbox) {
        self.stats.repeated += 1;
        if let Some(mail) = self.flying.get(digest).and_then(|ticket| self.mails.get_mut(ticket)) {
            mail.replies.push(reply);
            return;
        }
        let sessions = self.users.get(to).map(|user| user.sessions.as_slice()).unwrap_or_default();
        let here = sessions.iter().any(|conn| self.sessions.get(conn).is_some_and(|s| s.active));
        let outcome = match here {
            true => Outcome::Delivered { recipient: to.clone() },
            false => Outcome::Cached,
        };
        self.outcome(reply, outcome, out);
    }

    /// Whether a device's copy was stored already when its user was read from the store.
    fn is_kept(&self, user: &Id, digest: &MailDigest, device: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.had_mail)
            && [device, ANY_DEVICE]
                .iter()
                .any(|queue| self.seen.contains(&copy_digest(digest, queue)))
    }

    /// Whether a part of the mailbox, one of so many, is full.
    fn is_full(&self, to: &Id, bytes: usize, share: u64) -> bool {
        let Some(user) = self.users.get(to) else {
            return false;
        };
        let count: u64 = user.queues.iter().map(|queue| queue.count).max().unwrap_or(0);
        let held: u64 = user.queues.iter().map(|queue| queue.bytes).sum();
        count >= self.policy.mailbox_messages_max / share
            || held.saturating_add(bytes as u64) > self.policy.mailbox_bytes_max / share
    }

    /// The copies of a message: one for each device that is known by its visa, by a live session or
    /// by a key made for it; a single one for whoever comes first, while none is known.
    fn copies(
        &mut self,
        to: &Id,
        message: &Verified,
        route: &Route,
        onward: bool,
    ) -> SmallVec<[Copy; 1]> {
        let devices = match &route.device {
            _ if onward => smallvec![self.any_device.clone()],
            Some(device) => smallvec![device.clone()],
            None => self.devices_of(to, message),
        };
        let mut naked: Option<Bytes> = None;
        let mut copies = SmallVec::with_capacity(devices.len());
        for device in devices {
            let rcpt = match &route.rcpt {
                Some(rcpt) if onward => rcpt.clone(),
                _ => dressed(route.neighbor.as_ref().unwrap_or(to), &device),
            };
            let routing = Routing {
                from: &route.from,
                rcpt: &rcpt,
                station: &self.station.id,
                time: self.now.wall_s(),
                traces: &route.traces,
                recipients: &route.recipients,
            };
            let body = match (is_device(&device), &naked) {
                (false, Some(body)) => body.clone(),
                _ => relay(message, routing, &mut self.parser),
            };
            let body = match &route.neighbor {
                Some(neighbor) => for_bridge(&body, neighbor),
                None => body,
            };
            if !is_device(&device) {
                naked = Some(body.clone());
            }
            copies.push(Copy { device, body, state: CopyState::Flying(0) });
        }
        copies
    }

    /// The devices that a message is for.
    fn devices_of(&mut self, to: &Id, message: &Verified) -> SmallVec<[Arc<str>; 1]> {
        let Some(user) = self.users.get(to) else {
            return SmallVec::new();
        };
        let mut live = user.sessions.iter().filter_map(|conn| self.sessions.get(conn));
        if let [only] = user.papers.devices()
            && live.all(|session| session.terminal == *only)
        {
            return smallvec![only.clone()];
        }
        let mut devices = SmallVec::from(user.papers.devices());
        let live = user.sessions.iter().filter_map(|conn| self.sessions.get(conn));
        devices.extend(live.map(|session| session.terminal.clone()));
        if devices.is_empty() {
            for (name, _) in message.keys(&mut self.parser) {
                let id = self.names.read(&name).filter(|id| id.is_same_as(to));
                if let Some(terminal) =
                    id.as_ref().and_then(|id| id.terminal()).filter(|t| is_device(t))
                {
                    devices.push(Arc::from(terminal));
                }
            }
        }
        if devices.is_empty() {
            devices.push(self.any_device.clone());
        }
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// Pushes each copy to the sessions of its device; a copy without any goes to the store.
    fn hand_out(&mut self, ticket: Ticket, out: &mut Outbox) {
        let Some(mail) = self.mails.get(&ticket) else {
            return;
        };
        let (user, seq, count) = (mail.user.clone(), mail.seq, mail.copies.len());
        let sessions: SmallVec<[ConnId; 4]> =
            self.users.get(&user).map(|u| u.sessions.as_slice().into()).unwrap_or_default();
        for at in 0..count {
            let Some(copy) = self.mails.get(&ticket).and_then(|mail| mail.copies.get(at)) else {
                return;
            };
            if copy.state == CopyState::Safe {
                continue;
            }
            let (device, body) = (copy.device.clone(), copy.body.clone());
            let (mut flying, mut behind) = (0, false);
            for conn in &sessions {
                match self.push_now(*conn, &device, seq, &body, ticket, out) {
                    Pushed::Yes => flying += 1,
                    Pushed::Behind => behind = true,
                    Pushed::No => {}
                }
            }
            if let Some(copy) = self.copy(ticket, at) {
                copy.state = CopyState::Flying(flying);
            }
            if flying == 0 || behind {
                self.keep(ticket, at, out);
            }
        }
        self.settle(ticket, out);
    }

    /// Pushes a new message to a session that has nothing older to read first.
    fn push_now(
        &mut self,
        conn: ConnId,
        device: &Arc<str>,
        seq: u64,
        body: &Bytes,
        mail: Ticket,
        out: &mut Outbox,
    ) -> Pushed {
        let (count_max, bytes_max) = self.window(conn);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return Pushed::No;
        };
        if !session.active || session.closing || !session.claims(device) {
            return Pushed::No;
        }
        match &session.reading {
            Reading::Idle => return Pushed::No,
            Reading::Behind { .. } => return Pushed::Behind,
            Reading::Live => {}
        }
        if session.flying.len() >= count_max || session.flying_bytes >= bytes_max {
            // It reads the rest from the store, at its own pace.
            let queues = [Arc::from(ANY_DEVICE), session.terminal.clone()];
            let cursors = queues.into_iter().map(|queue| (queue, seq)).collect();
            session.reading = Reading::Behind { cursors, asked: false };
            self.stats.slow_sessions += 1;
            return Pushed::Behind;
        }
        let push = Push { device: device.clone(), seq, bytes: body.len(), mail: Some(mail) };
        self.push(conn, push, body.clone(), out);
        Pushed::Yes
    }

    fn copy(&mut self, ticket: Ticket, at: usize) -> Option<&mut Copy> {
        self.mails.get_mut(&ticket)?.copies.get_mut(at)
    }

    /// Asks the store to keep a copy.
    fn keep(&mut self, ticket: Ticket, at: usize, out: &mut Outbox) {
        let Some(mail) = self.mails.get_mut(&ticket) else {
            return;
        };
        let (user, seq) = (mail.user.clone(), mail.seq);
        let stored =
            StoredMail { received_ms: mail.received_ms, digest: mail.digest, body: Bytes::new() };
        let Some(copy) = mail.copies.get_mut(at) else {
            return;
        };
        if !matches!(copy.state, CopyState::Flying(_)) {
            return;
        }
        copy.state = CopyState::Storing { acknowledged: false };
        let (device, body) = (copy.device.clone(), copy.body.clone());
        let Some(user) = self.users.get_mut(&user) else {
            return;
        };
        let queue = user.queue(&device);
        queue.count += 1;
        queue.bytes += body.len() as u64;
        queue.asked_seq = queue.asked_seq.max(seq);
        let queue = QueueKey { user: user.text.clone(), device };
        let op = StoreOp::Enqueue { queue, seq, mail: StoredMail { body, ..stored } };
        self.store(op, Stored::Copy { mail: ticket, copy: at }, out);
    }

    /// The store has kept a copy, or could not.
    pub(super) fn kept(&mut self, ticket: Ticket, at: usize, kept: bool, out: &mut Outbox) {
        let Some(mail) = self.mails.get_mut(&ticket) else {
            return;
        };
        let (user, seq) = (mail.user.clone(), mail.seq);
        let Some(copy) = mail.copies.get_mut(at) else {
            return;
        };
        let (device, bytes) = (copy.device.clone(), copy.body.len());
        let acknowledged = copy.state == CopyState::Storing { acknowledged: true };
        if !kept && !acknowledged {
            let (digest, hop) = (mail.digest, mail.hop);
            let replies = std::mem::take(&mut mail.replies);
            // The sender has no acknowledgement and will repeat it, which must be welcome then.
            self.seen.remove(&digest);
            if let Some(hop) = hop {
                self.seen.remove(&hop);
            }
            for reply in replies {
                self.outcome(reply, Outcome::Failed, out);
            }
        }
        if let Some(copy) = self.copy(ticket, at) {
            copy.state = CopyState::Safe;
        }
        if let Some(user) = self.users.get_mut(&user) {
            let queue = user.queue(&device);
            if kept {
                queue.stored_seq = queue.stored_seq.max(seq);
            } else {
                queue.forget(bytes);
            }
            for conn in user.sessions.iter().filter(|_| kept && !acknowledged) {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.read_back(&device, seq);
                }
            }
        }
        if kept && acknowledged {
            self.delete(&user, &device, seq, bytes);
        }
        self.settle(ticket, out);
        self.read_on(&user, out);
    }

    /// Tells the sender as soon as every copy is safe.
    fn settle(&mut self, ticket: Ticket, out: &mut Outbox) {
        let done = self
            .mails
            .get(&ticket)
            .is_some_and(|mail| mail.copies.iter().all(|copy| copy.state == CopyState::Safe));
        if !done {
            return;
        }
        let Some(mail) = self.mails.remove(&ticket) else {
            return;
        };
        self.flying.remove(&mail.digest);
        let user = mail.user;
        let outcome = match (mail.next, mail.recipient) {
            (Some(neighbor), _) => Outcome::Redirected { neighbor },
            (None, Some(recipient)) => Outcome::Delivered { recipient },
            (None, None) => Outcome::Cached,
        };
        // Without anybody to tell it was not stored.
        let stored = outcome == Outcome::Cached && !mail.replies.is_empty();
        for reply in mail.replies {
            self.outcome(reply, outcome.clone(), out);
        }
        if let Some(copy) = mail.copies.first().filter(|_| stored) {
            self.wake(&user, copy.body.clone(), out);
        }
    }

    pub(super) fn outcome(&mut self, reply: ReplyTo, outcome: Outcome, out: &mut Outbox) {
        if reply.shard == self.index {
            self.came_of(reply, outcome, out);
        } else {
            self.forward(reply.shard, Parcel::Outcome { reply, outcome }, out);
        }
    }

    /// A session has acknowledged a message: that device has it.
    pub(super) fn got_it(&mut self, conn: ConnId, push: &Push, out: &mut Outbox) {
        let Some(user) = self.sessions.get(&conn).and_then(|session| session.user.clone()) else {
            return;
        };
        if let Some(ticket) = push.mail
            && let Some(mail) = self.mails.get_mut(&ticket)
            && let Some(copy) = mail.copies.iter_mut().find(|copy| *copy.device == *push.device)
        {
            mail.recipient = Some(dressed(&mail.user, &push.device));
            match copy.state {
                CopyState::Flying(_) => {
                    copy.state = CopyState::Safe;
                    return self.settle(ticket, out);
                }
                CopyState::Storing { .. } => {
                    copy.state = CopyState::Storing { acknowledged: true };
                    if let Some(user) = self.users.get_mut(&user) {
                        user.queue(&push.device).settle(push.seq);
                    }
                    return;
                }
                CopyState::Safe => {}
            }
        }
        self.delete(&user, &push.device, push.seq, push.bytes);
    }

    /// Takes a stored message out, unless another session of the device still has to get it.
    pub(super) fn delete(&mut self, user: &Id, device: &Arc<str>, seq: u64, bytes: usize) {
        let Some(entry) = self.users.get_mut(user) else {
            return;
        };
        let wanted = entry
            .sessions
            .iter()
            .any(|conn| self.sessions.get(conn).is_some_and(|session| session.lacks(device, seq)));
        if wanted {
            let deferred = &mut entry.queue(device).deferred;
            if !deferred.contains(&(seq, bytes)) {
                deferred.push((seq, bytes));
            }
            return;
        }
        self.take_out(user, device, seq, bytes);
    }

    /// Takes a stored message out, whoever may want it.
    pub(super) fn take_out(&mut self, user: &Id, device: &Arc<str>, seq: u64, bytes: usize) {
        let Some(entry) = self.users.get_mut(user) else {
            return;
        };
        let queue = entry.queue(device);
        queue.deferred.retain(|(other, _)| *other != seq);
        queue.forget(bytes);
        queue.settle(seq);
        self.deletions.push((user.clone(), device.clone(), seq));
    }

    /// Looks again at what was kept for a session that is gone or has caught up.
    pub(super) fn release(&mut self, user: &Id) {
        let Some(entry) = self.users.get_mut(user) else {
            return;
        };
        let mut again = Vec::new();
        for queue in &mut entry.queues {
            again.extend(
                queue.deferred.drain(..).map(|(seq, bytes)| (queue.device.clone(), seq, bytes)),
            );
        }
        for (device, seq, bytes) in again {
            self.delete(user, &device, seq, bytes);
        }
    }

    /// Copies that nobody acknowledged in time are kept.
    pub(super) fn keep_due(&mut self, now_ms: u64, out: &mut Outbox) {
        while let Some((due, ticket)) = self.due_mail.front().copied() {
            if due > now_ms {
                return;
            }
            self.due_mail.pop_front();
            self.keep_flying(ticket, out);
        }
    }

    /// Keeps every copy of a mail that is still only on its way.
    pub(super) fn keep_flying(&mut self, ticket: Ticket, out: &mut Outbox) {
        let count = self.mails.get(&ticket).map_or(0, |mail| mail.copies.len());
        for at in 0..count {
            self.keep(ticket, at, out);
        }
    }

    /// A session will not acknowledge a message any more.
    pub(super) fn drop_push(&mut self, push: &Push, out: &mut Outbox) {
        let Some(ticket) = push.mail else { return };
        let Some(mail) = self.mails.get_mut(&ticket) else {
            return;
        };
        let at = mail.copies.iter().position(|copy| *copy.device == *push.device);
        let Some(at) = at else { return };
        if let Some(copy) = mail.copies.get_mut(at)
            && let CopyState::Flying(holders) = &mut copy.state
        {
            *holders = holders.saturating_sub(1);
            if *holders == 0 {
                self.keep(ticket, at, out);
            }
        }
    }
}

enum Pushed {
    Yes,
    /// The session has older mail to read first; it will find this one in the store.
    Behind,
    No,
}

/// Whom mail is for that was to go on with a station which is no neighbour.
fn lost(to: &Id, receiver: &Id, route: &Route) -> Option<Id> {
    let rcpt = route.rcpt.as_ref()?;
    (!rcpt.is_same_as(to) && rcpt.is_same_as(receiver)).then(|| rcpt.naked())
}

/// A user as the receiver of a device's copy.
fn dressed(user: &Id, device: &str) -> Id {
    match is_device(device) {
        true => user.dressed(device).unwrap_or_else(|_| user.clone()),
        false => user.clone(),
    }
}

/// What a message is known by: its signature, which covers the content, and whose mail it is.
#[must_use]
pub fn digest_of(message: &Verified, to: &Id) -> MailDigest {
    half_digest(message.signature(), to.as_str())
}

/// What a device's copy of a message is known by.
pub(super) fn copy_digest(message: &MailDigest, device: &str) -> MailDigest {
    half_digest(message, device)
}

/// What a message is known by that came, or was sent, by one way. It may have gone on after its user
/// since then, to be welcome when it comes back, but not when it is only said again.
fn hop_digest(digest: &MailDigest, route: &Route) -> MailDigest {
    let mut way = String::from("way");
    for id in route.passed_ids().chain(route.by.as_ref().map(Id::as_str)) {
        way.push(' ');
        way.push_str(id);
    }
    half_digest(digest, &way)
}

/// What a message of this station's own user is known by when it has gone on.
pub(super) fn sent_digest(digest: &MailDigest) -> MailDigest {
    hop_digest(digest, &Route::default())
}

fn half_digest(what: &[u8], whose: &str) -> MailDigest {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(what);
    context.update(whose.as_bytes());
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    half
}
