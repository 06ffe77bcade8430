//! One connection, as its shard knows it. Everything in here moves with it to another shard.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::effect::{Effect, Outbox};
use super::flight::Flight;
use super::input::{ConnId, ReplyTo, Ticket};
use super::neighbor::Outgoing;
use super::rate::Bucket;
use super::receipts::Gathered;
use super::seal::Cipher;
use crate::base::encode;
use crate::base::table::Table;
use crate::crypto::seal::HeardKey;
use crate::proto::id::Id;
use crate::wire::delivery::PendingPushes;
use crate::wire::{Ack, DeframeLimits, Deframer};

/// A connection and what it has proven.
#[derive(Debug)]
pub struct Session {
    /// The other end.
    pub(super) peer: SocketAddr,
    /// The session key that a login has to sign.
    secret: [u8; 32],
    pub(super) deframer: Deframer,
    /// Who proved to be here; naked.
    pub(super) user: Option<Id>,
    /// The device: terminal of the visa that came along, empty when it names none.
    pub(super) terminal: Arc<str>,
    /// Whether mail is pushed: false after `report offline`.
    pub(super) active: bool,
    /// Messages that wait for the login.
    pub(super) parked: VecDeque<(Bytes, AckTo)>,
    pub(super) opened_ms: u64,
    pub(super) heard_ms: u64,
    /// When the frame that is not whole yet began; none between frames.
    pub(super) frame_ms: Option<u64>,
    /// Bytes given out to be written since the connection was opened.
    pub(super) sent: u64,
    /// Serial number of the last package pushed; never 0.
    pub(super) last_sn: u64,
    /// Packages that wait for the peer's acknowledgement.
    pub(super) pushes: PendingPushes<Bytes>,
    /// What each of them is.
    pub(super) flying: Flight,
    pub(super) flying_bytes: usize,
    /// Pushes to a peer that never acknowledges: done when its kernel has so many bytes.
    pub(super) arriving: VecDeque<(u64, u64)>,
    pub(super) reading: Reading,
    /// The content key in use with this peer, and its encryptions.
    pub(super) cipher: Option<Box<Cipher>>,
    /// The last content key that came, by its encrypted text.
    pub(super) heard_key: HeardKey,
    /// Receipts that go together.
    pub(super) receipts: Option<Box<Gathered>>,
    /// Bytes of messages that wait for an answer.
    pub(super) waiting_bytes: usize,
    /// Why nothing is read now, a bit for each `Hold`.
    pub(super) holds: u8,
    /// Spared the bounds on rates.
    pub(super) spared: bool,
    /// Packages that came before the login.
    pub(super) early: u32,
    /// What was refused lately.
    pub(super) refused: Bucket,
    pub(super) closing: bool,
    /// If it was opened from here: the link that it is.
    pub(super) link: Option<Box<Outgoing>>,
}

/// Which transport acknowledgement is owed when a message is done.
#[derive(Debug, Clone)]
pub(super) enum AckTo {
    /// None: the framing has none, or it was given.
    None,
    /// This one.
    One(Ack),
    /// One for several messages of a package, counted there.
    Package(Ticket),
    /// To the neighbour that brought it, on another shard perhaps; answers go there too.
    Neighbor(Id, ReplyTo),
}

/// A message on its way to a peer.
#[derive(Debug, Clone)]
pub(super) struct Push {
    pub(super) device: Arc<str>,
    pub(super) seq: u64,
    pub(super) bytes: usize,
    /// The mail it is a copy of, while that is not yet safe.
    pub(super) mail: Option<Ticket>,
}

/// How far a session is with what is stored for it.
#[derive(Debug)]
pub(super) enum Reading {
    /// Nobody is logged in, or the user reported to be offline: nothing is pushed.
    Idle,
    /// Nothing stored is left; new mail is pushed at once.
    Live,
    /// Stored mail comes first.
    Behind {
        /// For each queue that is read: the next place wanted.
        cursors: Vec<(Arc<str>, u64)>,
        /// A page was asked for.
        asked: bool,
    },
}

impl Session {
    /// A connection just accepted.
    pub(super) fn new(
        peer: SocketAddr,
        secret: [u8; 32],
        limits: DeframeLimits,
        now_ms: u64,
    ) -> Self {
        // The first serial number is drawn from the same bytes, so that a client that
        // comes back never takes a new push for an old one.
        let seed = secret.iter().take(8).fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
        Self {
            peer,
            secret,
            deframer: Deframer::new(limits),
            user: None,
            terminal: Arc::from(""),
            active: true,
            parked: VecDeque::new(),
            opened_ms: now_ms,
            heard_ms: now_ms,
            frame_ms: None,
            sent: 0,
            last_sn: (seed >> 1).max(1),
            pushes: PendingPushes::default(),
            flying: Flight::default(),
            flying_bytes: 0,
            arriving: VecDeque::new(),
            reading: Reading::Idle,
            cipher: None,
            heard_key: None,
            receipts: None,
            waiting_bytes: 0,
            holds: 0,
            spared: false,
            early: 0,
            refused: Bucket::default(),
            closing: false,
            link: None,
        }
    }

    /// The session key as a login names it: 64 hex digits.
    pub(super) fn key(&self) -> String {
        encode::hex_encode(&self.secret)
    }

    /// Drops what can be made again, and the room of what is empty.
    pub(super) fn rest(&mut self, now_ms: u64) {
        self.cipher = None;
        self.receipts = self.receipts.take().filter(|receipts| !receipts.is_spent(now_ms));
        self.flying.shrink();
        self.arriving.shrink_to_fit();
        self.parked.shrink_to_fit();
        self.pushes.shrink();
    }

    /// The sender's side of a copy: `/terminal`, or `/` when there is none.
    pub(super) fn from(&self) -> Box<str> {
        format!("/{}", self.terminal).into()
    }

    /// Gives out bytes to be written.
    pub(super) fn send(
        &mut self,
        conn: ConnId,
        parts: impl IntoIterator<Item = Bytes>,
        out: &mut Outbox,
    ) {
        for bytes in parts {
            if !bytes.is_empty() {
                self.sent += bytes.len() as u64;
                out.push(Effect::Send { conn, bytes });
            }
        }
    }

    /// Bytes that were written before a move left some unwritten.
    pub fn sent_before(&self, unwritten: &[Bytes]) -> u64 {
        let left: usize = unwritten.iter().map(Bytes::len).sum();
        self.sent.saturating_sub(left as u64)
    }

    pub(super) fn next_sn(&mut self) -> u64 {
        self.last_sn = self.last_sn.wrapping_add(1).max(1);
        self.last_sn
    }

    /// The queues whose mail is for this session, in the order in which they are read.
    pub(super) fn claims(&self, device: &str) -> bool {
        device == ANY_DEVICE || *device == *self.terminal
    }

    /// A message that another session of the device did not acknowledge is in the store now: to be
    /// read there, if this one has read past its place without having been handed it.
    pub(super) fn read_back(&mut self, device: &Arc<str>, seq: u64) {
        let flies = self.flying.iter().any(|p| p.seq == seq && p.device == *device);
        if flies || !self.active || !self.claims(device) {
            return;
        }
        match &mut self.reading {
            Reading::Idle => {}
            Reading::Live => {
                let queues = [Arc::from(ANY_DEVICE), self.terminal.clone()];
                let cursors = queues.into_iter().map(|queue| (queue, seq)).collect();
                self.reading = Reading::Behind { cursors, asked: false };
            }
            Reading::Behind { cursors, .. } => {
                let read = cursors.iter_mut().filter(|(queue, _)| queue == device);
                read.for_each(|(_, from)| *from = seq.min(*from));
            }
        }
    }

    /// Whether a message of a queue has not been handed to this session yet, or is on its way.
    pub(super) fn lacks(&self, device: &str, seq: u64) -> bool {
        if !self.active || !self.claims(device) {
            return false;
        }
        let unread = match &self.reading {
            Reading::Idle | Reading::Live => false,
            Reading::Behind { cursors, .. } => {
                cursors.iter().any(|(queue, from)| **queue == *device && *from <= seq)
            }
        };
        unread || self.flying.iter().any(|p| p.seq == seq && *p.device == *device)
    }
}

/// Queue of mail for a user of whom no device is known yet; the first one that comes has it.
pub const ANY_DEVICE: &str = "*";

/// Names for logs: where a connection comes from, never its key.
impl std::fmt::Display for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.user {
            Some(user) => write!(f, "{user} at {}", self.peer),
            None => write!(f, "{}", self.peer),
        }
    }
}

/// Connections by number.
pub(super) type Sessions = Table<ConnId, Box<Session>>;
