//! Work in flight: answers that are being gathered, and what waits for the store.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::Shard;
use super::census::Census;
use super::effect::Outbox;
use super::input::{AccountAnswer, ConnId, Outcome, Parcel, ReplyTo, Ticket};
use super::session::AckTo;
use crate::proto::command::{self, News, Origin, ReceiptText, Stamp};
use crate::proto::id::Id;
use crate::proto::json;

/// The answer to one message: gathered slot by slot, sent when the last is there.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) conn: ConnId,
    /// For whom the answer is sealed.
    pub(super) user: Id,
    pub(super) ack: AckTo,
    /// What receipts repeat of the message.
    pub(super) origin: Echo,
    /// Documents are wanted in the form of 2019.
    pub(super) profile: bool,
    /// The group a content was about.
    pub(super) group: Option<String>,
    /// Attach the station's meta and visa.
    pub(super) introduce: bool,
    pub(super) wrap: Wrap,
    pub(super) slots: SmallVec<[Vec<Map<String, Value>>; 1]>,
    pub(super) left: usize,
    pub(super) sink: Sink,
    pub(super) after: After,
    /// Bytes of the message, counted against the session while it waits.
    pub(super) bytes: usize,
    /// Nothing may be acknowledged: the station could not keep it.
    pub(super) failed: bool,
}

/// What a receipt repeats.
#[derive(Debug)]
pub(super) enum Echo {
    /// Of what was said to the station.
    Fields(Map<String, Value>),
    /// Of a relayed message.
    Relayed(Origin),
}

impl Echo {
    fn fields(&self) -> Map<String, Value> {
        match self {
            Self::Fields(map) => map.clone(),
            Self::Relayed(origin) => {
                json::parse_object(origin.as_str().as_bytes()).unwrap_or_default()
            }
        }
    }
}

/// How several contents become one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrap {
    /// Each as a message of its own, in order: not every client reads arrays, and those that do
    /// know inside them only the names of their own generation.
    Apart,
    /// One array, as the question was one.
    Array,
    /// Messages inside a forward content.
    Forward,
    /// Parts of a text about who is here.
    Census(Census),
}

/// Where a finished answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// To the connection.
    Conn,
    /// Into a slot of another answer.
    Slot(Ticket, usize),
}

/// What follows when an answer has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    /// The login is done: parked messages go on, stored mail is read.
    Begin,
}

/// What waits for the store.
#[derive(Debug)]
pub(super) enum Stored {
    /// Nobody.
    Nothing,
    /// An answer that may be given when it is kept.
    Answer { reply: ReplyTo, answer: AccountAnswer },
    /// A slot that holds an answer back until then.
    Slot { ticket: Ticket, slot: usize, user: Id },
    /// Work on a user that is being read.
    Load(Id),
    /// Account pieces are read again after a failed write.
    Reload(Id),
    /// A session reads its mail.
    Page { conn: ConnId, user: Id, device: Arc<str>, span: Range<u64> },
    /// Mail of a user who is elsewhere is read, to be sent there.
    Move { user: Id, device: Arc<str>, span: Range<u64> },
    /// Messages are being deleted.
    Deleted { user: Id, device: Arc<str>, seqs: Vec<u64> },
    /// A copy of a mail is being kept.
    Copy { mail: Ticket, copy: usize },
    /// Old mail is being thrown out.
    Expire,
}

impl Shard {
    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    pub(super) fn stamp(&mut self) -> Stamp {
        self.last_sn = self.last_sn % 0x7fff_ffff + 1;
        Stamp { sn: self.last_sn, time: self.now.wall_s() }
    }

    /// Gives the answer about an account to whoever asked.
    pub(super) fn answer(&mut self, reply: ReplyTo, answer: AccountAnswer, out: &mut Outbox) {
        if reply.shard == self.index {
            self.answered(reply, answer, out);
        } else {
            self.forward(reply.shard, Parcel::Answer { reply, answer }, out);
        }
    }

    /// An answer about an account arrived where it was asked for.
    pub(super) fn answered(&mut self, reply: ReplyTo, answer: AccountAnswer, out: &mut Outbox) {
        let mut contents = Vec::new();
        match answer {
            AccountAnswer::Nothing => {}
            AccountAnswer::Say(text) => contents.extend(self.receipt(reply.ticket, text)),
            AccountAnswer::Meta { did, meta } => {
                contents.push(command::meta(self.stamp(), &did, meta));
            }
            AccountAnswer::Documents { did, meta, documents, logins } => {
                let profile = self.replies.get(&reply.ticket).is_some_and(|reply| reply.profile);
                contents.push(match documents.first().filter(|_| profile) {
                    Some(newest) => command::profile(self.stamp(), &did, meta, newest),
                    None => command::documents(self.stamp(), &did, meta, documents),
                });
                if !logins.is_empty() {
                    contents.push(command::forward(self.stamp(), logins));
                }
            }
        }
        self.fill(reply.ticket, reply.slot, contents, out);
    }

    /// What became of a message, where it was sent from.
    pub(super) fn came_of(&mut self, reply: ReplyTo, outcome: Outcome, out: &mut Outbox) {
        if self.transit_done(reply, &outcome, out) {
            return;
        }
        if self.give_news(reply, &outcome, out) {
            return;
        }
        let text = match outcome {
            Outcome::Taken => return self.fill(reply.ticket, reply.slot, Vec::new(), out),
            Outcome::Redirected { neighbor } => ReceiptText::plain(News::Redirected("").text())
                .with(serde_json::json!({"neighbor": neighbor.as_str()})),
            Outcome::Delivered { recipient } => ReceiptText::plain(News::Delivered("").text())
                .with(serde_json::json!({"recipient": recipient.as_str()})),
            Outcome::Cached => ReceiptText::plain(News::Cached.text()),
            Outcome::Blocked { by, group: None } => ReceiptText::new(
                format!("Message is blocked by \"{by}\""),
                "Message is blocked by \"${receiver}\"",
                serde_json::json!({"receiver": by}),
            ),
            Outcome::Blocked { by, group: Some(group) } => ReceiptText::new(
                format!("Message is blocked by \"{by}\" in group \"{group}\""),
                "Message is blocked by \"${receiver}\" in group \"${group}\"",
                serde_json::json!({"receiver": by, "group": group}),
            ),
            Outcome::Full => ReceiptText::new(
                "Message not accepted.",
                "Message not accepted: ${reason}.",
                serde_json::json!({"reason": "the receiver's mailbox is full"}),
            ),
            Outcome::TooLong => ReceiptText::new(
                "Message not accepted.",
                "Message not accepted: ${reason}.",
                serde_json::json!({"reason": "it is too long to be sent on to another station"}),
            ),
            Outcome::Failed => {
                self.fail(reply.ticket);
                ReceiptText::new(
                    "Message not accepted.",
                    "Message not accepted: ${reason}.",
                    serde_json::json!({"reason": "the station cannot store it now"}),
                )
            }
        };
        let contents = self.receipt(reply.ticket, text).into_iter().collect();
        self.fill(reply.ticket, reply.slot, contents, out);
    }

    /// A receipt about the message that a ticket stands for. Stations get none from each other.
    pub(super) fn receipt(
        &mut self,
        ticket: Ticket,
        mut text: ReceiptText,
    ) -> Option<Map<String, Value>> {
        let stamp = self.stamp();
        let reply = self.replies.get(&ticket)?;
        if self.is_neighbor(&reply.user) {
            return None;
        }
        if text.group.is_none() {
            text.group.clone_from(&reply.group);
        }
        Some(command::receipt(stamp, text, reply.origin.fields()))
    }

    /// Fills one slot; the last one sends the answer.
    pub(super) fn fill(
        &mut self,
        ticket: Ticket,
        slot: usize,
        contents: Vec<Map<String, Value>>,
        out: &mut Outbox,
    ) {
        let Some(reply) = self.replies.get_mut(&ticket) else {
            return;
        };
        if let Some(place) = reply.slots.get_mut(slot) {
            *place = contents;
        }
        reply.left = reply.left.saturating_sub(1);
        if reply.left == 0
            && let Some(reply) = self.replies.remove(&ticket)
        {
            self.finish(reply, out);
        }
    }

    /// Marks an answer: nothing may be acknowledged.
    pub(super) fn fail(&mut self, ticket: Ticket) {
        if let Some(reply) = self.replies.get_mut(&ticket) {
            reply.failed = true;
        }
    }

    fn finish(&mut self, mut reply: Reply, out: &mut Outbox) {
        let contents: Vec<_> = reply.slots.drain(..).flatten().collect();
        let contents = match reply.wrap {
            _ if contents.is_empty() => contents,
            Wrap::Apart => contents,
            Wrap::Array => vec![command::array(self.stamp(), contents)],
            Wrap::Census(asked) => vec![self.census_text(asked, &contents)],
            Wrap::Forward => {
                let secrets = contents.into_iter().map(Value::Object).collect();
                vec![command::forward(self.stamp(), secrets)]
            }
        };
        let mut messages = Vec::with_capacity(contents.len());
        for content in contents {
            let introduce = reply.introduce && messages.is_empty();
            messages.extend(self.sealed(reply.conn, &reply.user, &content, introduce));
        }
        match reply.sink {
            Sink::Slot(parent, slot) => {
                let inner = messages.iter().filter_map(|bytes| json::parse_object(bytes).ok());
                let inner = inner.collect();
                if reply.failed {
                    self.fail(parent);
                }
                self.fill(parent, slot, inner, out);
            }
            Sink::Conn => {
                self.calm(reply.conn, reply.bytes, out);
                let ack = match reply.ack {
                    AckTo::Neighbor(_, reply_to) if reply.failed => {
                        return self.outcome(reply_to, Outcome::Failed, out);
                    }
                    ack if reply.failed => {
                        self.withhold(&ack);
                        AckTo::None
                    }
                    ack => ack,
                };
                self.give(reply.conn, ack, messages, out);
                if reply.after == After::Begin {
                    self.begin(reply.conn, out);
                }
            }
        }
    }
}

/// What is said when the disk does not take something.
pub(super) fn storage_failed() -> ReceiptText {
    ReceiptText::new(
        "Station error.",
        "Station error: ${reason}.",
        serde_json::json!({"reason": "the station cannot store it now, try again later"}),
    )
}
