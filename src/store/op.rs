//! What a shard may ask of a store, and what it may be told.

use std::sync::Arc;

use bytes::Bytes;

use super::StoreError;
pub use super::key::AccountPart;

/// First half of the SHA-256 of a message: enough to know it again.
pub type MailDigest = [u8; 16];

/// One mail queue: a user's device. A user may have any number of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueKey {
    /// The user's naked ID, without terminal.
    pub user: Arc<str>,
    /// The terminal; may be empty.
    pub device: Arc<str>,
}

/// A stored message, as it goes to the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// When the station took it, in milliseconds since 1970.
    pub received_ms: u64,
    /// Its digest, given by the caller.
    pub digest: MailDigest,
    /// The message's original bytes.
    pub body: Bytes,
}

/// A request to a store. Texts and bodies are shared, so an op is cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Keeps a part of a user's account, in place of an earlier one. Answer: `Saved`.
    Save {
        /// Naked ID.
        user: Arc<str>,
        /// Which part.
        part: AccountPart,
        /// The part as JSON text; not looked into.
        json: Bytes,
    },
    /// Puts a message into a queue. The same `seq` again replaces it. Answer: `Saved`.
    Enqueue {
        /// The queue.
        queue: QueueKey,
        /// Its place: larger than all before in the queues of this user.
        seq: u64,
        /// The message.
        mail: Mail,
    },
    /// Takes messages out of a queue; unknown ones are passed over. Answer: `Deleted`.
    Delete {
        /// The queue.
        queue: QueueKey,
        /// Their places, in any order.
        seqs: Vec<u64>,
    },
    /// Reads what is known of a user. Answer: `User`.
    LoadUser {
        /// Naked ID.
        user: Arc<str>,
    },
    /// Reads a part of a queue, in order. Answer: `Page`.
    Page {
        /// The queue.
        queue: QueueKey,
        /// The first place wanted; what lies before is not even walked over.
        from_seq: u64,
        /// At most so many messages.
        count_max: usize,
        /// At most so many bytes of bodies, but the first message is given whatever its length.
        bytes_max: usize,
    },
    /// Takes out messages received before a time; continues where the last one ended and begins
    /// again after the last queue. Answer: `Expired`.
    Expire {
        /// Milliseconds since 1970; a message received at this time stays.
        before_ms: u64,
        /// At most so many messages, and never more than [`super::EXPIRE_HEADS_MAX`] looked at.
        limit: usize,
    },
    /// Syncs whatever was not yet. Answer: `Saved`.
    Flush,
}

impl StoreOp {
    /// Whether the op only reads, and so belongs to [`super::Store::read`].
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::LoadUser { .. } | Self::Page { .. })
    }

    /// Whether its answer promises something that must outlive a loss of power.
    #[must_use]
    pub const fn is_save(&self) -> bool {
        matches!(self, Self::Save { .. } | Self::Enqueue { .. })
    }

    /// Bytes that the op brings with it, for bounds on a batch.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Save { json, .. } => json.len(),
            Self::Enqueue { mail, .. } => mail.body.len(),
            Self::Delete { seqs, .. } => seqs.len().saturating_mul(size_of::<u64>()),
            Self::LoadUser { .. } | Self::Page { .. } | Self::Expire { .. } | Self::Flush => 0,
        }
    }
}

/// The proof that something was synced as the store's settings demand. Only a store makes one, and
/// it cannot be copied: one proof, one receipt.
#[derive(Debug, PartialEq, Eq)]
pub struct Durable(());

impl Durable {
    pub(in crate::store) const fn proven() -> Self {
        Self(())
    }
}

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// The meta's JSON text.
    pub meta: Option<Bytes>,
    /// The documents' JSON text.
    pub documents: Option<Bytes>,
    /// The logins' JSON text.
    pub logins: Option<Bytes>,
    /// JSON text of the command that says whom the user blocks.
    pub blocked: Option<Bytes>,
    /// JSON text of the command that says whose mail comes without a notification.
    pub muted: Option<Bytes>,
    /// The queues that hold something, ordered by device.
    pub queues: Vec<QueueSummary>,
}

/// What a queue holds, without the bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSummary {
    /// The terminal; may be empty.
    pub device: Arc<str>,
    /// Messages in the queue.
    pub count: u64,
    /// Sum of their bodies' lengths.
    pub bytes: u64,
    /// The newest one's place.
    pub last_seq: u64,
    /// Their digests, in the queue's order.
    pub digests: Vec<MailDigest>,
}

/// What an expiry took out of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredQueue {
    /// The queue.
    pub queue: QueueKey,
    /// The places of the messages taken out, in order.
    pub seqs: Vec<u64>,
    /// Sum of their bodies' lengths.
    pub bytes: u64,
}

impl ExpiredQueue {
    /// Messages taken out of this queue.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.seqs.len()
    }
}

/// The answer to a [`StoreOp`].
#[derive(Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// It is kept.
    Saved(Durable),
    /// It is gone, though after a loss of power it may be there again.
    Deleted,
    /// What is known of the user; all empty if nothing is.
    User(UserRecord),
    /// A part of a queue.
    Page {
        /// Places and messages, in order.
        mails: Vec<(u64, Mail)>,
        /// Whether the queue holds more after the last of them.
        more: bool,
    },
    /// What was taken out.
    Expired {
        /// By queue, in order; only queues that lost something.
        queues: Vec<ExpiredQueue>,
        /// Whether the last queue was reached, so that the next step begins a new round.
        done: bool,
    },
    /// Not done, or not known to be done; the sender may try again.
    Failed(StoreError),
}
