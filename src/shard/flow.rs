//! The life of a connection: opened, moved, read from the store, written to, closed.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::effect::{Close, Effect, Outbox};
use super::federation::NO_CONN;
use super::input::{ConnId, Outcome, Parcel, Ticket};
use super::rate::Hold;
use super::seal::{self, Cipher};
use super::session::{ANY_DEVICE, AckTo, Push, Reading, Session};
use super::ticket::Stored;
use super::{EXPIRE_EVERY_MS, EXPIRE_STEP, Shard};
use crate::base::chunk::Chunk;
use crate::base::table::Set;
use crate::proto::content::kind_of;
use crate::proto::directory::Names;
use crate::proto::id::Id;
use crate::proto::json::{self, Parser};
use crate::proto::message::ReliableMessage;
use crate::store::{ExpiredQueue, Mail, QueueKey, StoreAnswer, StoreOp};
use crate::wire::{self, Ack, PushKey, delivery::Due};

/// Messages asked of the store at once, and their bytes.
const PAGE_MESSAGES_MAX: usize = 64;

impl Shard {
    pub(super) fn opened(
        &mut self,
        conn: ConnId,
        peer: SocketAddr,
        secret: [u8; 32],
        out: &mut Outbox,
    ) {
        self.stats.accepted += 1;
        let mut session = Session::new(peer, secret, self.policy.framing, self.now.mono_ms);
        session.spared = self.policy.spare_loopback && peer.ip().to_canonical().is_loopback();
        self.sessions.insert(conn, Box::new(session));
        if self.stopping {
            return self.close(conn, Close::Stopping, out);
        }
        self.watch(conn);
    }

    /// A connection from another shard goes on where it was.
    pub(super) fn adopted(&mut self, conn: ConnId, session: Box<Session>, out: &mut Outbox) {
        self.sessions.insert(conn, session);
        if self.stopping {
            return self.close(conn, Close::Stopping, out);
        }
        self.watch(conn);
        self.deframe(conn, out);
    }

    /// Gives out bytes to be written.
    pub(super) fn send(&mut self, conn: ConnId, bytes: Bytes, out: &mut Outbox) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.send(conn, [bytes], out);
        }
    }

    /// Acknowledges a package, or one of its lines.
    pub(super) fn acknowledge(&mut self, conn: ConnId, ack: AckTo, out: &mut Outbox) {
        let ack = match ack {
            AckTo::None => return,
            AckTo::One(ack) => ack,
            AckTo::Neighbor(_, reply) => return self.outcome(reply, Outcome::Taken, out),
            AckTo::Package(ticket) => {
                let Some((ack, left)) = self.packages.get_mut(&ticket) else {
                    return;
                };
                *left -= 1;
                if *left > 0 {
                    return;
                }
                let ack = *ack;
                self.packages.remove(&ticket);
                ack
            }
        };
        // Mars clients wait for a response under their request's number, be it an empty one.
        let bytes = wire::encode_ack(&ack).or_else(|| wire::response_head(&ack, 0));
        if let Some(bytes) = bytes {
            let bytes = self.chunk.copy(&bytes);
            self.send(conn, bytes, out);
        }
    }

    /// Lets a message come again: neither it nor the package that it came in is acknowledged.
    pub(super) fn withhold(&mut self, ack: &AckTo) {
        if let AckTo::Package(ticket) = ack {
            self.packages.remove(ticket);
        }
    }

    /// Acknowledges a message and gives its answers, the first of them as the transport's response
    /// where the framing has one.
    pub(super) fn give(
        &mut self,
        conn: ConnId,
        ack: AckTo,
        answers: impl IntoIterator<Item = Bytes>,
        out: &mut Outbox,
    ) {
        let mut answers = answers.into_iter();
        match ack {
            AckTo::One(ack @ Ack::Mars { .. }) => {
                let body = answers.next().unwrap_or_default();
                let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
                let head = wire::response_head(&ack, len).map(Bytes::from).unwrap_or_default();
                self.send(conn, head, out);
                self.send(conn, body, out);
            }
            AckTo::Neighbor(by, reply) => {
                self.outcome(reply, Outcome::Taken, out);
                for body in answers {
                    self.say_to(&by, body, out);
                }
                return;
            }
            ack => self.acknowledge(conn, ack, out),
        }
        for body in answers {
            self.send_message(conn, body, out);
        }
    }

    /// A message of the station, sealed for a session's user; none when there is no key for it.
    pub(super) fn sealed(
        &mut self,
        conn: ConnId,
        user: &Id,
        content: &Map<String, Value>,
        introduce: bool,
    ) -> Option<Bytes> {
        let (kind, text) = (kind_of(content.get("type")), json::write_object(content));
        self.sealed_text(conn, user, (kind, &text), introduce)
    }

    /// The same with a content that is written already, of this kind.
    pub(super) fn sealed_text(
        &mut self,
        conn: ConnId,
        user: &Id,
        content: (u32, &str),
        introduce: bool,
    ) -> Option<Bytes> {
        self.rouse(user);
        let user = self.users.get(user)?;
        if conn == NO_CONN {
            let (cipher, anywhere) = (Cipher::new(user)?, Arc::from(""));
            let time = self.now.wall_s();
            return seal::seal(&self.station, &cipher, user, &anywhere, content, time, introduce);
        }
        let session = self.sessions.get_mut(&conn)?;
        let own = session.user.as_ref().is_none_or(|own| *own == user.id);
        if !own || session.cipher.as_ref().is_none_or(|cipher| !cipher.fits(user)) {
            session.cipher = Cipher::new(user).map(Box::new);
        }
        let cipher = session.cipher.as_ref()?;
        let time = self.now.wall_s();
        seal::seal(&self.station, cipher, user, &session.terminal, content, time, introduce)
    }

    /// Sends a message of the station. It is not kept: who misses it asks again.
    pub(super) fn send_message(&mut self, conn: ConnId, body: Bytes, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let Some(framing) = session.deframer.framing() else {
            return;
        };
        let sn = session.next_sn();
        session.send(conn, frame(framing, sn, body, &mut self.chunk), out);
    }

    /// Pushes a user's message and remembers it until it is acknowledged.
    pub(super) fn push(&mut self, conn: ConnId, push: Push, body: Bytes, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let Some(framing) = session.deframer.framing() else {
            return;
        };
        let sn = session.next_sn();
        let acknowledges = session.deframer.acknowledges();
        session.flying_bytes += push.bytes;
        session.flying.insert(sn, push);
        session.send(conn, frame(framing, sn, body.clone(), &mut self.chunk), out);
        let key = wire::push_key(framing, sn, &body).filter(|_| acknowledges);
        let awaited = key.is_some_and(|key| {
            let text = matches!(key, PushKey::Text(_)).then(|| body.clone());
            let signature =
                text.and_then(|text| signature_text(text, &mut self.parser, &mut self.names));
            // Sent again, it is put around the body anew.
            let frame_bytes = body.len();
            let push = wire::delivery::Push { key, signature, token: sn, frame_bytes, frame: body };
            session.pushes.sent(push, now_ms).is_ok()
        });
        // Without an acknowledgement to wait for, what the peer's kernel has counts as delivered.
        if !awaited {
            session.arriving.push_back((session.sent, sn));
            out.push(Effect::WatchArrival { conn });
        }
    }

    /// The peer acknowledges something.
    pub(super) fn acknowledged(&mut self, conn: ConnId, key: &PushKey, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let Some(sn) = session.pushes.acknowledged(key) else {
            return;
        };
        self.landed(conn, sn, out);
        self.read_more(conn, out);
    }

    /// The peer's kernel has so many bytes; that is all that some clients ever say.
    pub(super) fn arrived(&mut self, conn: ConnId, total: u64, out: &mut Outbox) {
        loop {
            let Some(session) = self.sessions.get_mut(&conn) else {
                return;
            };
            match session.arriving.front().copied() {
                Some((end, sn)) if end <= total => {
                    session.arriving.pop_front();
                    self.landed(conn, sn, out);
                }
                _ => break,
            }
        }
        self.read_more(conn, out);
    }

    fn landed(&mut self, conn: ConnId, sn: u64, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let Some(push) = session.flying.remove(sn) else {
            return;
        };
        session.flying_bytes -= push.bytes;
        self.got_it(conn, &push, out);
        let user = self.sessions.get(&conn).and_then(|session| session.user.clone());
        if let Some(user) = user.filter(|user| self.has_deferred(user)) {
            self.release(&user);
        }
    }

    fn has_deferred(&self, user: &Id) -> bool {
        self.users.get(user).is_some_and(|u| u.queues.iter().any(|q| !q.deferred.is_empty()))
    }

    /// The login is done: what waited for it goes on, then stored mail is read.
    pub(super) fn begin(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        for (raw, ack) in std::mem::take(&mut session.parked) {
            self.line(conn, raw, ack, out);
        }
        self.read_from_start(conn, out);
    }

    /// Reads all that is stored for a session, unless it is reading or has read already.
    pub(super) fn read_from_start(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if !session.active || session.user.is_none() || !matches!(session.reading, Reading::Idle) {
            return;
        }
        let queues = [Arc::from(ANY_DEVICE), session.terminal.clone()];
        let cursors = queues.into_iter().map(|queue| (queue, 0)).collect();
        session.reading = Reading::Behind { cursors, asked: false };
        self.read_more(conn, out);
    }

    /// Mail goes on in the store for every session of a user that is behind.
    pub(super) fn read_on(&mut self, user: &Id, out: &mut Outbox) {
        let sessions = self.users.get(user).map(|u| u.sessions.clone()).unwrap_or_default();
        for conn in sessions {
            self.read_more(conn, out);
        }
    }

    /// Asks the store for the next page of a session that is behind, if there is room for it.
    pub(super) fn read_more(&mut self, conn: ConnId, out: &mut Outbox) {
        let (count_max, bytes_max) = self.window(conn);
        let page_bytes_max = self.policy.flying_bytes_max;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        if session.user.as_ref().is_some_and(|user| self.federation.is_leaving(user)) {
            return;
        }
        let room = bytes_max.saturating_sub(session.flying_bytes).min(page_bytes_max);
        let places = count_max.saturating_sub(session.flying.len());
        let Some(user) = session.user.as_ref().and_then(|user| self.users.get_mut(user)) else {
            return;
        };
        let Reading::Behind { cursors, asked } = &mut session.reading else {
            return;
        };
        // A page is asked for when half of the room is free: fewer, fuller pages.
        if *asked || session.closing || room < page_bytes_max / 2 || places == 0 {
            return;
        }
        let mut being_kept = false;
        for (device, from) in cursors.iter() {
            let Some(queue) = user.queues.iter_mut().find(|q| q.device == *device) else {
                continue;
            };
            if queue.stored_seq >= *from && queue.may_hold() {
                *asked = true;
                let span = queue.page_asked(*from);
                let queue = QueueKey { user: user.text.clone(), device: device.clone() };
                let op = StoreOp::Page {
                    queue,
                    from_seq: *from,
                    count_max: places.min(PAGE_MESSAGES_MAX),
                    bytes_max: room,
                };
                let (user, device) = (user.id.clone(), device.clone());
                let then = Stored::Page { conn, user, device, span };
                return self.store(op, then, out);
            }
            being_kept |= queue.asked_seq >= *from && queue.asked_seq > queue.stored_seq;
        }
        if !being_kept {
            session.reading = Reading::Live;
        }
    }

    /// The store's answer to a question for a page.
    pub(super) fn page_answered(
        &mut self,
        conn: ConnId,
        user: &Id,
        device: &Arc<str>,
        span: Range<u64>,
        answer: StoreAnswer,
        out: &mut Outbox,
    ) {
        if let Some(user) = self.users.get_mut(user) {
            user.queue(device).page_answered(&span, &answer);
        }
        match answer {
            StoreAnswer::Page { mails, more } => self.page(conn, device, span, mails, more, out),
            _ => self.page_failed(conn),
        }
        if let Some(user) = self.users.get_mut(user) {
            user.queue(device).forget_deleted();
        }
    }

    /// A page of stored mail for a session.
    fn page(
        &mut self,
        conn: ConnId,
        device: &Arc<str>,
        span: Range<u64>,
        mails: Vec<(u64, Mail)>,
        more: bool,
        out: &mut Outbox,
    ) {
        let oldest_ms = self.now.wall_ms().saturating_sub(self.policy.mail_ms_max);
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let user = session.user.clone();
        let Reading::Behind { cursors, asked } = &mut session.reading else {
            return;
        };
        *asked = false;
        let last = mails.last().map(|(seq, _)| *seq);
        if let Some((_, cursor)) = cursors.iter_mut().find(|(queue, _)| queue == device)
            && *cursor == span.start
        {
            *cursor = match (last, more) {
                (Some(last), _) => last + 1,
                // Nothing is left of what was stored when this was asked; what has been stored since
                // then may be missing in it, though it was answered first.
                (None, false) => span.end,
                (None, true) => span.start,
            };
        } else {
            // The session began to read anew meanwhile.
            return self.read_more(conn, out);
        }
        for (seq, mail) in mails {
            let Some(session) = self.sessions.get(&conn) else {
                return;
            };
            let flies = session.flying.iter().any(|p| p.seq == seq && p.device == *device);
            let settled = user.as_ref().and_then(|user| self.users.get_mut(user));
            let settled = settled.is_some_and(|user| user.queue(device).is_settled(seq));
            if flies || settled || mail.received_ms < oldest_ms {
                continue;
            }
            let push = Push { device: device.clone(), seq, bytes: mail.body.len(), mail: None };
            self.push(conn, push, mail.body, out);
        }
        self.read_more(conn, out);
    }

    /// The store could not give a page: the session goes on with what it has and reads again when
    /// something new is stored or it logs in again.
    fn page_failed(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && let Reading::Behind { asked, .. } = &mut session.reading
        {
            *asked = false;
        }
    }

    /// Nothing more is pushed; what is on its way is kept for the next time.
    pub(super) fn give_up_pushes(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.reading = Reading::Idle;
        let flying: Vec<Push> = session.flying.iter().cloned().collect();
        for push in flying {
            self.drop_push(&push, out);
        }
        let user = self.sessions.get(&conn).and_then(|session| session.user.clone());
        if let Some(user) = user {
            self.release(&user);
        }
    }

    /// Counts a message that waits for its answer, and stops reading when too many do.
    pub(super) fn strain(&mut self, conn: ConnId, bytes: usize, out: &mut Outbox) {
        let max = self.policy.waiting_bytes_max;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.waiting_bytes += bytes;
        if session.waiting_bytes > max {
            self.pause(conn, Hold::Waiting, out);
        }
    }

    /// The opposite of `strain`.
    pub(super) fn calm(&mut self, conn: ConnId, bytes: usize, out: &mut Outbox) {
        let max = self.policy.waiting_bytes_max;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.waiting_bytes = session.waiting_bytes.saturating_sub(bytes);
        if session.waiting_bytes <= max / 2 {
            self.resume(conn, Hold::Waiting, out);
        }
    }

    /// Ends a connection from this side. It is forgotten when the shell says that it is closed.
    pub(super) fn close(&mut self, conn: ConnId, why: Close, out: &mut Outbox) {
        let Some(session) = self.sessions.get(&conn).filter(|session| !session.closing) else {
            return;
        };
        // Browsers show it; other framings have no word for it.
        if let (Some(wire::Framing::WebSocket), Some(status)) =
            (session.deframer.framing(), why.web_status())
        {
            self.send(conn, wire::websocket::close(status, why.word()), out);
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.closing = true;
            out.push(Effect::Close { conn, why });
        }
    }

    /// A connection is gone: what it did not acknowledge is kept.
    pub(super) fn closed(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(mut session) = self.sessions.remove(&conn) else {
            return;
        };
        if let Some(outgoing) = session.link.take() {
            self.link_closed(conn, &outgoing);
        }
        let Some(user) = session.user.take() else {
            return;
        };
        if let Some(entry) = self.users.get_mut(&user) {
            entry.sessions.retain(|other| *other != conn);
            entry.used_ms = self.now.mono_ms;
        }
        let mut flying: Vec<&Push> = session.flying.iter().collect();
        flying.sort_by_key(|push| push.seq);
        for push in flying {
            self.drop_push(push, out);
        }
        self.release(&user);
        self.lead_session(&user, out);
    }

    pub(super) fn watch(&mut self, conn: ConnId) {
        let due = self.now.mono_ms + self.policy.login_ms_max.min(self.policy.idle_ms_max);
        self.due_conns.insert((due, conn), ());
    }

    /// Everything that is due.
    pub(super) fn tick(&mut self, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        self.keep_due(now_ms, out);
        self.receipts_due(out);
        self.wake_due(out);
        self.tell_monitor(out);
        self.pace_due(out);
        self.rest_due();
        self.ask_for_strangers(out);
        self.dial_due(out);
        while let Some((due, conn)) = self.due_conns.keys().next().copied() {
            if due > now_ms {
                break;
            }
            self.due_conns.remove(&(due, conn));
            self.look_at(conn, out);
        }
        if now_ms >= self.expire_ms {
            self.expire_ms = now_ms + EXPIRE_EVERY_MS;
            self.forget_idle_users();
            self.give_up_strangers(out);
            // One shard does it for all: the store is one.
            if self.index.0 == 0 {
                self.expire(out);
            }
        }
    }

    fn look_at(&mut self, conn: ConnId, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let policy = self.policy.clone();
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let mut again = session.heard_ms + policy.idle_ms_max;
        if again <= now_ms {
            self.stats.closed_idle += 1;
            return self.close(conn, Close::Idle, out);
        }
        if let Some(begun) = session.frame_ms {
            if begun + policy.frame_ms_max <= now_ms {
                self.stats.refused_frames += 1;
                return self.close(conn, Close::Framing, out);
            }
            again = again.min(begun + policy.frame_ms_max);
        }
        if session.user.is_none() {
            let login = session.opened_ms + policy.login_ms_max;
            if login <= now_ms {
                self.stats.closed_no_login += 1;
                return self.close(conn, Close::NoLogin, out);
            }
            again = again.min(login);
        }
        let mut resend = Vec::new();
        let mut given_up = Vec::new();
        while let Some(due) = session.pushes.due(now_ms) {
            match due {
                Due::Resend { token, frame } => resend.push((token, frame)),
                Due::GivenUp { token } => given_up.push(token),
            }
        }
        // Looked at every eighth of the idle time at least: repetitions are not urgent.
        again = again.min(now_ms + policy.idle_ms_max / 8);
        self.due_conns.insert((again, conn), ());
        self.ping(conn, out);
        if let Some(session) = self.sessions.get_mut(&conn)
            && let Some(framing) = session.deframer.framing()
        {
            for (sn, body) in resend {
                session.send(conn, frame(framing, sn, body, &mut self.chunk), out);
            }
        }
        let mut again_from_start = false;
        for token in given_up {
            let push = self.sessions.get_mut(&conn).and_then(|session| {
                let push = session.flying.remove(token)?;
                session.flying_bytes -= push.bytes;
                Some(push)
            });
            if let Some(push) = push {
                self.drop_push(&push, out);
                again_from_start = true;
            }
        }
        // A link may stand for weeks, and what it did not take is to be offered again.
        if again_from_start && self.neighbor_on(conn).is_some() {
            if let Some(session) = self.sessions.get_mut(&conn) {
                session.reading = Reading::Idle;
            }
            self.read_from_start(conn, out);
        }
    }

    fn forget_idle_users(&mut self) {
        let idle_ms = self.now.mono_ms.saturating_sub(EXPIRE_EVERY_MS);
        if self.users.len() <= self.policy.users_idle_max {
            return;
        }
        let busy: Set<&Id> = self.mails.values().map(|mail| mail.user()).collect();
        self.users
            .retain(|id, user| user.used_ms > idle_ms || !user.is_idle() || busy.contains(id));
    }

    fn expire(&mut self, out: &mut Outbox) {
        let before_ms = self.now.wall_ms().saturating_sub(self.policy.mail_ms_max);
        let op = StoreOp::Expire { before_ms, limit: EXPIRE_STEP };
        self.store(op, Stored::Expire, out);
    }

    /// Old mail was thrown out; the owners of its queues correct their figures.
    pub(super) fn expired(&mut self, queues: Vec<ExpiredQueue>, done: bool, out: &mut Outbox) {
        for queue in queues {
            self.stats.expired += queue.count() as u64;
            let Ok(id) = Id::parse(&queue.queue.user) else { continue };
            let owner = self.ring.owner_of(&id);
            if owner == self.index {
                self.lost_mail(&id, &queue);
            } else {
                self.forward(owner, Parcel::Expired { of: id, queue }, out);
            }
        }
        if !done {
            // The rest soon, but not at once: senders come first.
            self.expire_ms = self.now.mono_ms + 100;
        }
    }

    pub(super) fn lost_mail(&mut self, of: &Id, lost: &ExpiredQueue) {
        if let Some(user) = self.users.get_mut(of) {
            let figures = user.queue(&lost.queue.device);
            figures.count = figures.count.saturating_sub(lost.count() as u64);
            figures.bytes = figures.bytes.saturating_sub(lost.bytes);
        }
    }

    /// No more from clients: what is in flight is kept, then every connection ends.
    pub(super) fn stop(&mut self, out: &mut Outbox) {
        self.stopping = true;
        let mails: Vec<Ticket> = self.mails.keys().copied().collect();
        for ticket in mails {
            self.keep_flying(ticket, out);
        }
    }

    /// After `stop`: closes the connections when everything is safe, and says so once.
    pub(super) fn say_stopped(&mut self, out: &mut Outbox) {
        if !self.stopping || !self.mails.is_empty() || !self.stored.is_empty() {
            return;
        }
        let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
        for conn in conns {
            self.give_receipts(conn, out);
            self.close(conn, Close::Stopping, out);
        }
        if self.sessions.is_empty() {
            out.push(Effect::Stopped);
        }
    }
}

/// A message's own signature: what a web client cuts out of the text may be another one.
fn signature_text(body: Bytes, parser: &mut Parser, names: &mut Names) -> Option<Bytes> {
    let message = ReliableMessage::parse(body, parser, names).ok()?;
    Some(Bytes::from(message.signature_text()))
}

/// A push as it is written: the body is shared, and only what is around it is new.
fn frame(framing: wire::Framing, sn: u64, body: Bytes, chunk: &mut Chunk) -> [Bytes; 3] {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let head = chunk.copy(&wire::push_head(framing, sn, len));
    [head, body, Bytes::from_static(wire::push_tail(framing))]
}
