//! How a station remembers: accounts and mail queues, asked for by value and answered by value.
//!
//! A shard never waits for a disk. It hands out [`StoreOp`]s and is given [`StoreAnswer`]s later;
//! what lies between is a [`Store`]: [`memory::MemoryStore`] for tests and simulation, and with the
//! feature `station` RocksDB behind a thread that makes one batch and one sync of all that has
//! queued up. Nothing here decides who may have what; nothing here reads a clock for a decision
//! about a message.
//!
//! It is apart from the shard so that the promise "acknowledged is durable" has one place: only
//! this module can make a [`Durable`].

pub mod columns;
pub mod error;
pub mod key;
pub mod memory;
#[cfg(feature = "station")]
pub mod migrate;
pub mod op;
pub mod record;
#[cfg(feature = "station")]
pub mod rocks;
#[cfg(feature = "station")]
pub mod writer;

pub use error::StoreError;
pub use op::{
    AccountPart, Durable, ExpiredQueue, Mail, MailDigest, QueueKey, QueueSummary, StoreAnswer,
    StoreOp, UserRecord,
};

/// Heads that one [`StoreOp::Expire`] looks at, whatever its `limit`: at under a microsecond a
/// head, a step stays in the low milliseconds and the sends behind it do not notice.
pub const EXPIRE_HEADS_MAX: usize = 4096;

/// Something that carries out [`StoreOp`]s. Every store gives the same answers to the same ops.
pub trait Store: Send + Sync {
    /// Answers a [`StoreOp::LoadUser`] or [`StoreOp::Page`]. May be called while another thread is
    /// in [`Store::commit`]; sees at least everything that `commit` has answered. Any other op is
    /// answered [`StoreError::Misused`].
    fn read(&self, op: &StoreOp) -> StoreAnswer;

    /// Carries out `ops` in order, as one batch with one sync, and gives one answer for each.
    ///
    /// A batch that holds nothing but deletes and expiry is not synced: a delete that is lost with
    /// the power means a message delivered twice, and receivers drop those. `Err` means that no
    /// op in `ops` may be counted as done; some may be all the same, so the sender sends again.
    fn commit(&self, ops: &[StoreOp]) -> Result<Vec<StoreAnswer>, StoreError>;

    /// What has been found damaged since the store was opened.
    fn damage(&self) -> Damage;
}

/// Records that could not be read. They are kept aside; all others are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Records found damaged, each counted once.
    pub count: u64,
    /// The newest of them, for a person to look at.
    pub last: Option<StoreError>,
}

impl Damage {
    fn note(&mut self, error: StoreError) {
        self.count = self.count.saturating_add(1);
        self.last = Some(error);
    }
}
