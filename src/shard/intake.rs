//! From bytes to verified messages, and where each of them goes.

use bytes::Bytes;
use serde_json::{Value, json};

use super::account::Taken;
use super::effect::{Close, Effect, Outbox};
use super::input::{ConnId, ReplyTo};
use super::rate::Hold;
use super::route::Route;
use super::session::AckTo;
use super::ticket::{Echo, Sink};
use super::user::{is_device, terminal_of};
use super::{Shard, Verify, Work};
use crate::crypto::sign::{Verified, verify};
use crate::proto::address::EntityKind;
use crate::proto::command::{Origin, ReceiptText};
use crate::proto::id::Id;
use crate::proto::message::ReliableMessage;
use crate::store::StoreOp;
use crate::wire::{Ack, Event, lines_of};

/// Where a message is going.
pub(super) enum Way {
    /// To this station.
    Here,
    /// To every station, so to this one too; only from who is logged in.
    HereWhenLoggedIn,
    /// To a user, or to a bot by its configured name.
    Mail(Id),
    /// Nowhere: a name that nobody has.
    Unknown,
    /// Nowhere: groups are no business of a relay.
    Group,
}

impl Shard {
    /// Bytes of a connection.
    pub(super) fn received(&mut self, conn: ConnId, bytes: Bytes, out: &mut Outbox) {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        let now_ms = self.now.mono_ms;
        session.heard_ms = now_ms;
        session.deframer.feed(bytes);
        self.deframe(conn, out);
        if let Some(session) = self.sessions.get_mut(&conn) {
            let begun = session.deframer.has_partial() && !session.is_held();
            session.frame_ms = begun.then(|| session.frame_ms.unwrap_or(now_ms));
        }
    }

    /// Handles every whole frame that has arrived.
    pub(super) fn deframe(&mut self, conn: ConnId, out: &mut Outbox) {
        loop {
            let Some(session) = self.sessions.get_mut(&conn) else {
                return;
            };
            if session.closing || session.holds & Hold::Pace as u8 != 0 {
                return;
            }
            match session.deframer.next_event() {
                Ok(None) => return,
                // Not acknowledged, so it comes again; else a busy station would never stop.
                Ok(Some(Event::Message { .. })) if self.stopping => {}
                Ok(Some(Event::Message { ack, body })) => {
                    if let Some(away) = self.belongs_elsewhere(conn, &body) {
                        return self.move_away(conn, away, ack, body, out);
                    }
                    let bytes = body.len();
                    let lines = self.package(conn, ack, body, out);
                    self.pace(conn, lines, bytes, out);
                }
                Ok(Some(Event::Reply(bytes))) => self.send(conn, bytes, out),
                Ok(Some(Event::Acknowledged(key))) => self.acknowledged(conn, &key, out),
                Ok(Some(Event::Heartbeat)) => {}
                Ok(Some(Event::Close(bytes))) => {
                    self.send(conn, bytes, out);
                    return self.close(conn, Close::Asked, out);
                }
                Err(error) => {
                    tracing::debug!(%conn, %error, "closing: not a framing we know");
                    self.stats.refused_frames += 1;
                    let last_words = error.last_words(session.deframer.framing());
                    self.send(conn, Bytes::from_static(last_words), out);
                    return self.close(conn, Close::Framing, out);
                }
            }
        }
    }

    /// Before the login a connection belongs to the owner of whoever speaks on it.
    fn belongs_elsewhere(&mut self, conn: ConnId, body: &Bytes) -> Option<super::ring::ShardIndex> {
        if self.ring.len() == 1 || self.sessions.get(&conn)?.user.is_some() {
            return None;
        }
        // What was dialled from here stays here.
        if self.sessions.get(&conn)?.link.is_some() {
            return None;
        }
        let line = lines_of(body).next()?;
        let message = ReliableMessage::parse(line, &mut self.parser, &mut self.names).ok()?;
        let owner = self.ring.owner_of(message.sender());
        (owner != self.index).then_some(owner)
    }

    fn move_away(
        &mut self,
        conn: ConnId,
        to: super::ring::ShardIndex,
        ack: Ack,
        body: Bytes,
        out: &mut Outbox,
    ) {
        if let Some(mut session) = self.sessions.remove(&conn) {
            session.deframer.put_back(Event::Message { ack, body });
            // What the old place counted stays there.
            session.waiting_bytes = 0;
            if std::mem::take(&mut session.holds) != 0 {
                out.push(Effect::Resume { conn });
            }
            out.push(Effect::Move { conn, to, session });
        }
    }

    /// One package: a message, or several lines that are one each. How many there were.
    fn package(&mut self, conn: ConnId, ack: Ack, body: Bytes, out: &mut Outbox) -> usize {
        let mut lines = lines_of(&body);
        let Some(first) = lines.next() else {
            self.acknowledge(conn, AckTo::One(ack), out);
            return 0;
        };
        let Some(second) = lines.next() else {
            self.line(conn, first, AckTo::One(ack), out);
            return 1;
        };
        let lines: Vec<Bytes> = [first, second].into_iter().chain(lines).collect();
        let (count, ticket) = (lines.len(), self.ticket());
        self.packages.insert(ticket, (ack, count));
        for line in lines {
            self.line(conn, line, AckTo::Package(ticket), out);
        }
        count
    }

    /// One message's text.
    pub(super) fn line(&mut self, conn: ConnId, raw: Bytes, ack: AckTo, out: &mut Outbox) {
        let message = match ReliableMessage::parse(raw, &mut self.parser, &mut self.names) {
            Ok(message) => message,
            Err(error) => {
                // There is nobody to answer: what is no message has no sender.
                self.stats.refused_messages += 1;
                tracing::debug!(%conn, %error, "not a message");
                self.refused(conn, out);
                return self.acknowledge(conn, ack, out);
            }
        };
        let user = self.sessions.get(&conn).and_then(|session| session.user.clone());
        let sender = message.sender().naked();
        let by = user.as_ref().and_then(|user| self.bearer(user, &message));
        if let Some(by) = &by
            && self.is_loop(by, &message)
        {
            self.stats.looped += 1;
            return self.acknowledge(conn, ack, out);
        }
        if user.is_none() && !self.is_awaited(conn, &message, out) {
            return self.acknowledge(conn, ack, out);
        }
        if let Some(by) = by.filter(|_| user.as_ref() != Some(&sender)) {
            return self.bring(conn, by, message, ack, out);
        }
        match user {
            Some(user) if user == sender => self.checked(conn, message, ack, Sink::Conn, out),
            // Perhaps somebody else logs in on this connection.
            Some(_) if sender.is_user() && matches!(self.way_of(message.receiver()), Way::Here) => {
                self.ask_switch(conn, message, ack, out);
            }
            Some(user) => {
                // A station that is no neighbour yet keeps what it brings.
                let ack = match user.kind() {
                    EntityKind::Station => {
                        self.withhold(&ack);
                        AckTo::None
                    }
                    _ => ack,
                };
                self.not_the_user(conn, &user, &message, ack, Sink::Conn, out);
            }
            None if self.ring.owner_of(&sender) == self.index && sender.is_user() => {
                self.with_user(sender, Work::Line { conn, message: Box::new(message), ack }, out);
            }
            None => self.acknowledge(conn, ack, out),
        }
    }

    /// A message in somebody else's name: refused, and its bearer told.
    pub(super) fn not_the_user(
        &mut self,
        conn: ConnId,
        user: &Id,
        message: &ReliableMessage,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) {
        self.stats.refused_messages += 1;
        self.refused(conn, out);
        let said = ReceiptText::new(
            "Message not accepted.",
            "Message not accepted: ${reason}.",
            json!({"reason": format!("the sender is not {user}, who is logged in here")}),
        );
        self.refuse(conn, user, message, said, ack, sink, out);
    }

    /// Says no to a message, to the session's user.
    #[expect(clippy::too_many_arguments, reason = "each says a different thing, once")]
    fn refuse(
        &mut self,
        conn: ConnId,
        user: &Id,
        message: &ReliableMessage,
        said: ReceiptText,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) {
        let unproven = Verified::by_session(message.clone());
        let ticket = self.expect(conn, &unproven, ack, sink, out);
        if let Some(reply) = self.replies.get_mut(&ticket) {
            reply.user = user.clone();
            reply.introduce = false;
        }
        let contents = self.receipt(ticket, said).into_iter().collect();
        self.fill(ticket, 0, contents, out);
    }

    /// A message that was inside another.
    pub(super) fn inner_message(&mut self, conn: ConnId, raw: Bytes, sink: Sink, out: &mut Outbox) {
        let Sink::Slot(parent, slot) = sink else {
            return;
        };
        let message = ReliableMessage::parse(raw, &mut self.parser, &mut self.names);
        let user = self.sessions.get(&conn).and_then(|session| session.user.clone());
        match (message, user) {
            (Ok(message), Some(user)) if message.sender().is_same_as(&user) => {
                self.checked(conn, message, AckTo::None, sink, out);
            }
            (Ok(message), Some(user)) => {
                self.not_the_user(conn, &user, &message, AckTo::None, sink, out);
            }
            _ => self.fill(parent, slot, Vec::new(), out),
        }
    }

    /// A message on a connection that nobody has logged in on; its sender's account is loaded.
    pub(super) fn before_login(
        &mut self,
        conn: ConnId,
        message: ReliableMessage,
        ack: AckTo,
        out: &mut Outbox,
    ) {
        // It may have closed while the account was being read.
        let Some(session) = self.sessions.get(&conn) else { return };
        if session.user.is_some() {
            // The login was completed by a message before this one.
            return self.line(conn, message.raw().clone(), ack, out);
        }
        self.checked(conn, message, ack, Sink::Conn, out);
    }

    /// Takes what is attached, checks the signature, and sends the message on its way.
    fn checked(
        &mut self,
        conn: ConnId,
        message: ReliableMessage,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) {
        let sender = message.sender().naked();
        self.rouse(&sender);
        let logged_in = self.sessions.get(&conn).is_some_and(|session| session.user.is_some());
        let Ok(saves) = self.take_attachments(conn, &message) else {
            self.stats.refused_messages += 1;
            self.refused(conn, out);
            return self.acknowledge_or_fill(conn, ack, sink, out);
        };
        let keys = self.users.get_mut(&sender).and_then(|user| user.papers.keys());
        let Some(keys) = keys.filter(|_| self.can_answer(&sender)) else {
            // Without an account there is no telling who it is: the message waits for a login.
            self.save_all(saves, out);
            let ack = self.park(conn, message.raw().clone(), ack, sink, out);
            return self.acknowledge(conn, ack, out);
        };
        let trusted = logged_in && self.policy.verify == Verify::Session;
        let verified = match trusted {
            true => Ok(Verified::by_session(message)),
            false => verify(message, &keys),
        };
        match verified {
            Ok(message) => {
                // Taken up by the answer, which waits for them; if there is none, stored at least.
                self.saves = saves;
                self.route(conn, message, ack, sink, logged_in, out);
                let saves = std::mem::take(&mut self.saves);
                self.save_all(saves, out);
            }
            Err(message) => {
                self.stats.refused_signatures += 1;
                self.refused(conn, out);
                self.save_all(saves, out);
                if !logged_in {
                    // Whoever it is knows that it is not the sender.
                    return self.acknowledge_or_fill(conn, ack, sink, out);
                }
                let said = ReceiptText::new(
                    "Message not accepted.",
                    "Message not accepted: ${reason}.",
                    json!({"reason": "the signature does not match"}),
                );
                self.refuse(conn, &sender, &message, said, ack, sink, out);
            }
        }
    }

    fn acknowledge_or_fill(&mut self, conn: ConnId, ack: AckTo, sink: Sink, out: &mut Outbox) {
        match sink {
            Sink::Conn => self.acknowledge(conn, ack, out),
            Sink::Slot(ticket, slot) => self.fill(ticket, slot, Vec::new(), out),
        }
    }

    fn can_answer(&self, user: &Id) -> bool {
        self.users.get(user).is_some_and(|user| user.papers.can_be_answered())
    }

    /// Accepts the account attached to a message: what is to be stored of it, or an error when the
    /// meta is not the sender's.
    pub(super) fn take_attachments(
        &mut self,
        conn: ConnId,
        message: &ReliableMessage,
    ) -> Result<Vec<StoreOp>, ()> {
        let sender = message.sender().naked();
        let mut saves = Vec::new();
        if let Some(meta) = message.meta(&mut self.parser) {
            saves.extend(self.take_meta(&sender, &Value::Object(meta))?);
        }
        if let Some(visa) = message.visa(&mut self.parser) {
            let device =
                visa.get("terminal").and_then(Value::as_str).unwrap_or_default().to_owned();
            let taken = self.take_document(&sender, &Value::Object(visa));
            if taken == Taken::New {
                saves.extend(self.documents_op(&sender));
            }
            if taken != Taken::Bad {
                self.note_device(conn, &sender, &device);
            }
        }
        Ok(saves)
    }

    /// The device of a connection is the one whose visa came before the login.
    fn note_device(&mut self, conn: ConnId, user: &Id, device: &str) {
        let known = self.users.get(user).is_some_and(|user| {
            user.papers.documents().iter().any(|document| terminal_of(document) == device)
        });
        if let Some(session) = self.sessions.get_mut(&conn)
            && session.user.is_none()
            && known
            && (device.is_empty() || is_device(device))
        {
            session.terminal = device.into();
        }
    }

    pub(super) fn save_all(&mut self, saves: Vec<StoreOp>, out: &mut Outbox) {
        for op in saves {
            self.store(op, super::ticket::Stored::Nothing, out);
        }
    }

    /// Keeps a message until its connection has logged in. Gives back what may be acknowledged at
    /// once: a Mars request, whose response is no promise, and which stops the requests behind it.
    fn park(
        &mut self,
        conn: ConnId,
        raw: Bytes,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) -> AckTo {
        if sink != Sink::Conn {
            self.acknowledge_or_fill(conn, ack, sink, out);
            return AckTo::None;
        }
        let (later, at_once) = match ack {
            AckTo::One(Ack::Mars { .. }) => (AckTo::None, ack),
            ack => (ack, AckTo::None),
        };
        let max = self.policy.parked_messages_max;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return AckTo::None;
        };
        session.parked.push_back((raw, later));
        if session.parked.len() > max {
            // The oldest is not acknowledged: its sender will repeat it.
            session.parked.pop_front();
            self.stats.parked_dropped += 1;
        }
        at_once
    }

    fn route(
        &mut self,
        conn: ConnId,
        message: Verified,
        ack: AckTo,
        sink: Sink,
        logged_in: bool,
        out: &mut Outbox,
    ) {
        match self.way_of(message.receiver()) {
            Way::Here => self.hear(conn, message, ack, sink, out),
            _ if !logged_in => {
                let user = message.sender().clone();
                let ack = self.park(conn, message.raw().clone(), ack, sink, out);
                self.ask_to_log_in(conn, &user, ack, out);
            }
            Way::HereWhenLoggedIn => self.hear(conn, message, ack, sink, out),
            Way::Mail(to) if self.is_unknown_station(&to) => {
                let said = ReceiptText::new(
                    "Message not accepted.",
                    "Message not accepted: ${reason}.",
                    json!({"reason": format!("{to} is no neighbour of this station")}),
                );
                let user = message.sender().naked();
                self.refuse(conn, &user, &message, said, ack, sink, out);
            }
            Way::Mail(to) => self.mail(conn, to, message, ack, sink, out),
            Way::Unknown => {
                let said = ReceiptText::new(
                    "Message not accepted.",
                    "Message not accepted: ${reason}.",
                    json!({"reason": format!("nobody is called {}", message.receiver())}),
                );
                let user = message.sender().naked();
                self.refuse(conn, &user, &message, said, ack, sink, out);
            }
            Way::Group => {
                let said = ReceiptText::plain("Group message not allow for this station");
                let user = message.sender().naked();
                self.refuse(conn, &user, &message, said, ack, sink, out);
            }
        }
    }

    fn is_unknown_station(&self, id: &Id) -> bool {
        id.kind() == EntityKind::Station && !self.is_neighbor(id)
    }

    pub(super) fn way_of(&self, receiver: &Id) -> Way {
        if receiver.is_same_as(&self.station.id) {
            return Way::Here;
        }
        let assistant = || self.names.ans().resolve("assistant").map(Id::naked);
        if !receiver.is_broadcast() {
            return match receiver.is_group() {
                // Who splits it for the members, where there is such a one.
                true => assistant().map_or(Way::Group, Way::Mail),
                false => Way::Mail(receiver.naked()),
            };
        }
        match receiver.naked().as_str() {
            "station@anywhere" | "anyone@anywhere" => Way::Here,
            "stations@everywhere" | "everyone@everywhere" => Way::HereWhenLoggedIn,
            _ if receiver.is_group() => Way::Group,
            _ => match receiver.name().and_then(|name| self.names.ans().resolve(name)) {
                Some(bot) if bot.is_same_as(&self.station.id) => Way::Here,
                Some(bot) => Way::Mail(bot.naked()),
                None => Way::Unknown,
            },
        }
    }

    /// Takes a message for relay, and owes its sender an answer.
    fn mail(
        &mut self,
        conn: ConnId,
        to: Id,
        message: Verified,
        ack: AckTo,
        sink: Sink,
        out: &mut Outbox,
    ) {
        self.stats.relayed += 1;
        self.see_message(&message);
        let route = self.route_of(conn, &ack, &message);
        let origin = Echo::Relayed(Origin::of(&message));
        let ticket = self.owe(conn, &message, origin, ack, sink, out);
        if let Some(reply) = self.replies.get_mut(&ticket) {
            reply.introduce = false;
        }
        self.strain(conn, message.raw().len(), out);
        let reply = ReplyTo { shard: self.index, ticket, slot: 0 };
        self.send_mail(to, message, route, reply, out);
    }

    /// What other stations have said on a message's way; nothing, if it comes from its user.
    pub(super) fn route_of(&mut self, conn: ConnId, ack: &AckTo, message: &Verified) -> Route {
        let by = match ack {
            AckTo::Neighbor(by, _) => Some(by.clone()),
            _ => self.neighbor_on(conn),
        };
        match by {
            Some(by) => Route::read(message, &by, &mut self.names, &mut self.parser),
            None => {
                let from = self.sessions.get(&conn).map(|session| session.from());
                Route::new(from.unwrap_or_else(|| "/".into()))
            }
        }
    }
}
