//! Everything that can happen to a shard. Reading this and `effect` is reading the system.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::Policy;
use super::census::{Census, Present};
use super::neighbor::{LinkId, Neighbor};
use super::ring::ShardIndex;
use super::route::Route;
use super::session::Session;
use crate::crypto::sign::Verified;
use crate::proto::command::ReceiptText;
use crate::proto::directory::Ans;
use crate::proto::id::Id;
use crate::proto::message::ReliableMessage;
use crate::store::MailDigest;
use crate::store::op::{ExpiredQueue, StoreAnswer};

/// A connection, unique in the process for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl std::fmt::Display for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Work that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happens to a shard.
#[derive(Debug)]
pub enum Input {
    /// A connection was accepted. `secret` becomes its session key.
    Opened {
        /// The new connection.
        conn: ConnId,
        /// The other end.
        peer: SocketAddr,
        /// Fresh random bytes.
        secret: [u8; 32],
    },
    /// A connection came from another shard, with all that it had not read yet.
    Adopted {
        /// The same connection.
        conn: ConnId,
        /// Its state.
        session: Box<Session>,
    },
    /// Bytes arrived.
    Received {
        /// On which connection.
        conn: ConnId,
        /// What arrived.
        bytes: Bytes,
    },
    /// The peer's kernel has the first `total` bytes that were sent on the connection.
    Arrived {
        /// On which connection.
        conn: ConnId,
        /// Bytes since it was opened.
        total: u64,
    },
    /// The connection is gone.
    Closed {
        /// Which.
        conn: ConnId,
    },
    /// Another shard says something.
    Parcel(Parcel),
    /// The store answers.
    Stored {
        /// What was asked.
        ticket: Ticket,
        /// What it says.
        answer: StoreAnswer,
    },
    /// The operator decides otherwise. Bounds of framing hold for connections from now on.
    Reload {
        /// In place of the present one.
        policy: Arc<Policy>,
        /// In place of the present names.
        ans: Arc<Ans>,
    },
    /// Other stations, in place of those of before.
    Neighbors(Arc<[Neighbor]>),
    /// A neighbour that was to be dialled took the connection. `secret` serves as its session key,
    /// which nobody asks for.
    Dialed {
        /// For which link.
        link: LinkId,
        /// The new connection.
        conn: ConnId,
        /// The other end.
        peer: SocketAddr,
        /// Fresh random bytes.
        secret: [u8; 32],
    },
    /// A neighbour could not be reached.
    NotDialed {
        /// For which link.
        link: LinkId,
    },
    /// Time has passed; due work is done.
    Tick,
    /// No more input will come from clients: make safe what is in flight.
    Stop,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo {
    /// The shard that waits.
    pub shard: ShardIndex,
    /// What it waits with.
    pub ticket: Ticket,
    /// Which part of the answer.
    pub slot: usize,
}

/// What shards say to each other.
#[derive(Debug)]
pub enum Parcel {
    /// A message for one of your users.
    Mail {
        /// Whose mail it is (an ANS name is resolved).
        to: Id,
        /// The message, verified by the sender's shard.
        message: Box<Verified>,
        /// Where it has been and how it goes on.
        route: Box<Route>,
        /// Who wants to know what became of it.
        reply: ReplyTo,
    },
    /// A neighbour brings a message of your user's.
    Brought {
        /// The message, unproven.
        message: Box<ReliableMessage>,
        /// Which neighbour.
        by: Id,
        /// Who wants to know what became of it.
        reply: ReplyTo,
    },
    /// Mail that was stored for a user who is at your neighbour now.
    Moved {
        /// The neighbour.
        to: Id,
        /// What it is known by among the neighbour's mail.
        digest: MailDigest,
        /// When this station took it, in milliseconds since 1970.
        received_ms: u64,
        /// As it is to be sent.
        body: Bytes,
        /// Who wants to know what became of it.
        reply: ReplyTo,
    },
    /// Name this one in what devices of somebody are to say, and send it on.
    Wake {
        /// Whose name is wanted.
        of: Id,
        /// What is known so far.
        wake: Box<super::Wake>,
    },
    /// Say this to your user, if the user is here.
    Tell {
        /// To whom.
        to: Id,
        /// The content.
        content: serde_json::Map<String, Value>,
    },
    /// A message of this station for your neighbour, not kept if it is not there.
    Say {
        /// The neighbour.
        to: Id,
        /// The message.
        body: Bytes,
    },
    /// A shard has learnt of a station without ID, and asks the others whether they have met it.
    Meet {
        /// Where it stands.
        host: String,
        /// Where it stands.
        port: u16,
        /// Who asks.
        asker: ShardIndex,
    },
    /// A station introduced itself where one is listed without ID.
    Met {
        /// Where it stands.
        host: String,
        /// Where it stands.
        port: u16,
        /// What it says, or has proven to be.
        id: Id,
        /// Which of both.
        proven: bool,
    },
    /// What became of a message.
    Outcome {
        /// Who asked.
        reply: ReplyTo,
        /// What became of it.
        outcome: Outcome,
    },
    /// A question about, or a change of, one of your accounts.
    Account {
        /// Whose account.
        of: Id,
        /// Who asks.
        asker: Id,
        /// What is asked.
        op: AccountOp,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Is this a handshake of your user, on a connection that somebody else is logged in on?
    Switch {
        /// Who it says it is.
        of: Id,
        /// The message.
        message: Box<ReliableMessage>,
        /// The connection's session key.
        key: String,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Answer to `Switch`.
    Switched {
        /// Who asked.
        reply: ReplyTo,
        /// The answer.
        verdict: Verdict,
    },
    /// Mail of one of your users was too old and is gone.
    Expired {
        /// Whose.
        of: Id,
        /// What is gone.
        queue: ExpiredQueue,
    },
    /// Who is at your place?
    Census {
        /// What is asked.
        asked: Census,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// Answer to `Census`.
    Present {
        /// Who asked.
        reply: ReplyTo,
        /// The answer.
        present: Present,
    },
    /// Answer to `Account`.
    Answer {
        /// Who asked.
        reply: ReplyTo,
        /// The answer.
        answer: AccountAnswer,
    },
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A session of the receiver has acknowledged it; every other device's copy is stored.
    Delivered {
        /// The receiver (dressed where it was one device).
        recipient: Id,
    },
    /// Its receiver is at another station; that has it, or this one keeps it for that one.
    Redirected {
        /// The other station.
        neighbor: Id,
    },
    /// It is done with and nothing is to be said about it.
    Taken,
    /// Stored for every device: nobody was there, or nobody acknowledged in time.
    Cached,
    /// The receiver does not want it.
    Blocked {
        /// What the receiver is called.
        by: String,
        /// What the group is called that it came by, if it is a group's.
        group: Option<String>,
    },
    /// It is too long to be sent on to another station.
    TooLong,
    /// The receiver's store is full.
    Full,
    /// The station's disk failed or is full: not accepted, try later.
    Failed,
}

/// What a handshake in another name is worth.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing.
    Refused,
    /// It is theirs, without the right session key: this is to be sent.
    Answer(Bytes),
    /// It is theirs, and signs the session key.
    Proven,
}

/// A question about an account, or a change of it.
#[derive(Debug)]
pub enum AccountOp {
    /// Its meta.
    MetaQuery,
    /// A meta for it.
    MetaUpload(Value),
    /// Its documents.
    DocumentsQuery {
        /// Only if something is newer than this (seconds since 1970).
        last_time: Option<f64>,
        /// Login messages too.
        logins: bool,
    },
    /// Documents for it.
    DocumentsUpload {
        /// A meta brought along.
        meta: Option<Value>,
        /// The documents.
        documents: Vec<Value>,
    },
}

impl AccountOp {
    /// Whether it brings something to be kept.
    pub(super) const fn is_upload(&self) -> bool {
        matches!(self, Self::MetaUpload(_) | Self::DocumentsUpload { .. })
    }
}

/// The answer about an account.
#[derive(Debug, Clone)]
pub enum AccountAnswer {
    /// A sentence.
    Say(ReceiptText),
    /// A meta, as it is sent.
    Meta {
        /// Whose.
        did: String,
        /// The meta.
        meta: serde_json::Map<String, Value>,
    },
    /// Documents, newest first, with the signed login messages asked for.
    Documents {
        /// Whose.
        did: String,
        /// The meta.
        meta: Option<serde_json::Map<String, Value>>,
        /// The documents.
        documents: Vec<Value>,
        /// Login messages.
        logins: Vec<Value>,
    },
    /// No answer: who asks for its own account has it.
    Nothing,
}
