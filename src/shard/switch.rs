//! Another user on a connection that somebody is logged in on.
//!
//! The newcomer's shard, which has the account, checks the handshake; the session is touched only
//! when that is proven. Then it is let go here, and the connection goes to its new owner with the
//! same message, to be logged in there as if nobody had been before.

use bytes::Bytes;
use serde_json::json;

use super::account::Taken;
use super::effect::Outbox;
use super::input::{ConnId, Parcel, ReplyTo, Ticket, Verdict};
use super::seal::{self, Cipher};
use super::session::{AckTo, Reading};
use super::ticket::Sink;
use super::{Shard, Work};
use crate::crypto::seal::open;
use crate::crypto::sign::verify;
use crate::proto::command::{self, Command, title};
use crate::proto::content::{Body, Content, kind};
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::proto::message::ReliableMessage;
use crate::wire::{Ack, Event};

/// A message that waits for its sender's shard to say who it is.
#[derive(Debug)]
pub(super) struct Switching {
    conn: ConnId,
    message: ReliableMessage,
    ack: AckTo,
}

impl Shard {
    /// Asks the shard of a message's sender whether this is a handshake of theirs.
    pub(super) fn ask_switch(
        &mut self,
        conn: ConnId,
        message: ReliableMessage,
        ack: AckTo,
        out: &mut Outbox,
    ) {
        let Some(key) = self.sessions.get(&conn).map(|session| session.key()) else {
            return;
        };
        let of = message.sender().naked();
        let ticket = self.ticket();
        let reply = ReplyTo { shard: self.index, ticket, slot: 0 };
        let asked = Box::new(message.clone());
        self.switching.insert(ticket, Switching { conn, message, ack });
        let owner = self.ring.owner_of(&of);
        if owner == self.index {
            self.with_user(of, Work::Switch { message: asked, key, reply }, out);
        } else {
            self.forward(owner, Parcel::Switch { of, message: asked, key, reply }, out);
        }
    }

    /// Says what a handshake of this shard's user is worth on somebody else's connection.
    pub(super) fn judge(
        &mut self,
        message: ReliableMessage,
        key: &str,
        out: &mut Outbox,
    ) -> Verdict {
        if self.take_attached(&message, out).is_err() {
            return Verdict::Refused;
        }
        let sender = message.sender().naked();
        let keys = self.users.get_mut(&sender).and_then(|user| user.papers.keys());
        let Some(keys) = keys else { return Verdict::Refused };
        let Ok(message) = verify(message, &keys) else { return Verdict::Refused };
        let station = self.station.clone();
        let opened = open(&message, &station.id, &station.open, &mut None, &mut self.parser).ok();
        let content = opened.and_then(|bytes| text::parse(&bytes).ok()).map(Content::read);
        let Some(Ok(Content { body: Body::Command(command), .. })) = content else {
            return Verdict::Refused;
        };
        match command {
            Command::Handshake { title: said, session } if said == title::HELLO => {
                if session.is_some_and(|offered| super::talk::same_text(&offered, key)) {
                    return Verdict::Proven;
                }
                let again = command::handshake(self.stamp(), title::AGAIN, Some(key), None);
                let Some(user) = self.users.get(&sender) else { return Verdict::Refused };
                let Some(cipher) = Cipher::new(user) else { return Verdict::Refused };
                let (none, time) = ("".into(), self.now.wall_s());
                let again = (kind::COMMAND, &*text::write_object(&again));
                let sealed = seal::seal(&station, &cipher, user, &none, again, time, true);
                sealed.map_or(Verdict::Refused, Verdict::Answer)
            }
            _ => Verdict::Refused,
        }
    }

    /// The verdict arrived where the connection is.
    pub(super) fn judged(&mut self, ticket: Ticket, verdict: Verdict, out: &mut Outbox) {
        let Some(Switching { conn, message, ack }) = self.switching.remove(&ticket) else { return };
        let Some(user) = self.sessions.get(&conn).and_then(|session| session.user.clone()) else {
            return;
        };
        match verdict {
            Verdict::Refused => self.not_the_user(conn, &user, &message, ack, Sink::Conn, out),
            Verdict::Answer(bytes) => {
                self.give(conn, ack, [bytes], out);
            }
            Verdict::Proven => {
                tracing::debug!(%conn, from = %user, to = %message.sender(), "user switch");
                self.let_go(conn, &user, out);
                let ack = match ack {
                    AckTo::One(ack) => ack,
                    _ => Ack::None,
                };
                let body: Bytes = message.raw().clone();
                if let Some(session) = self.sessions.get_mut(&conn) {
                    session.deframer.put_back(Event::Message { ack, body });
                }
                self.deframe(conn, out);
            }
        }
    }

    /// Unbinds a connection from its user; what it did not acknowledge is kept.
    fn let_go(&mut self, conn: ConnId, user: &Id, out: &mut Outbox) {
        self.give_receipts(conn, out);
        self.give_up_pushes(conn, out);
        if let Some(entry) = self.users.get_mut(user) {
            entry.sessions.retain(|other| *other != conn);
        }
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.user = None;
            session.terminal = "".into();
            session.reading = Reading::Idle;
            session.cipher = None;
            session.receipts = None;
            session.heard_key = None;
            session.flying.clear();
            session.flying_bytes = 0;
            session.arriving.clear();
            session.pushes = Default::default();
            session.opened_ms = self.now.mono_ms;
        }
    }

    /// Takes the account attached to a message, which proves itself, and has it stored.
    fn take_attached(&mut self, message: &ReliableMessage, out: &mut Outbox) -> Result<(), ()> {
        let sender = message.sender().naked();
        let mut saves = Vec::new();
        if let Some(meta) = message.meta(&mut self.parser) {
            saves.extend(self.take_meta(&sender, &json!(meta))?);
        }
        if let Some(visa) = message.visa(&mut self.parser)
            && self.take_document(&sender, &json!(visa)) == Taken::New
        {
            saves.extend(self.documents_op(&sender));
        }
        self.save_all(saves, out);
        Ok(())
    }
}
