//! Lock-free, bounded mailboxes: how shards and the store's threads reach a shard.
//!
//! A batch is one item of the queue, so the cost of crossing a core is shared by all that one turn
//! had to say. A full mailbox refuses; the sender keeps its batch and stops taking in work.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use super::connection::Luggage;
use super::dial::Reached;
use super::listen::Permit;
use crate::proto::directory::Ans;
use crate::shard::Policy;
use crate::shard::input::{ConnId, Parcel, Ticket};
use crate::shard::neighbor::{LinkId, Neighbor};
use crate::shard::session::Session;
use crate::store::StoreAnswer;

/// Batches that wait in a mailbox at most. A batch is what one turn of a shard had for another, so
/// this is some thousand messages in flight.
pub const MAILBOX_BATCHES_MAX: usize = 1024;

/// What comes to a shard from outside its thread.
#[derive(Debug)]
pub(super) enum Letter {
    Accepted {
        socket: OwnedFd,
        peer: SocketAddr,
        permit: Permit,
        /// Whether it may go without TLS.
        plain: bool,
    },
    Parcel(Parcel),
    /// Other stations, in place of those of before.
    Neighbors(Arc<[Neighbor]>),
    /// A neighbour was dialled: its connection, if it took one.
    Dialed {
        link: LinkId,
        reached: Option<Reached>,
    },
    Connection(Box<Connection>),
    Answers(Vec<(u64, StoreAnswer)>),
    /// Time has passed. Sent by a thread of its own, see [`Mailbox::beat`].
    Tick,
    /// The operator has changed settings.
    Reload {
        policy: Arc<Policy>,
        ans: Arc<Ans>,
    },
    Stop,
}

/// A connection on its way to another shard.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) conn: ConnId,
    pub(super) luggage: Luggage,
    pub(super) session: Box<Session>,
}

/// One shard's mailbox, for letters of any kind: what crosses a core does not depend on them.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: ArrayQueue<Vec<T>>,
    waker: AtomicWaker,
    /// Wakes the shard's thread, whatever the state of the task that reads the mailbox.
    thread: OnceLock<Waker>,
    /// Batches taken out so far.
    opened: AtomicU64,
}

impl<T> Mailbox<T> {
    /// An empty one, with room for [`MAILBOX_BATCHES_MAX`] batches.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(MAILBOX_BATCHES_MAX),
            waker: AtomicWaker::new(),
            thread: OnceLock::new(),
            opened: AtomicU64::new(0),
        })
    }

    /// Puts a batch in, or gives it back when there is no room.
    pub fn send(&self, batch: Vec<T>) -> Result<(), Vec<T>> {
        let sent = self.queue.push(batch);
        self.waker.wake();
        sent
    }

    /// Puts a letter in, and waits until there is room: not for shards.
    pub(super) fn deliver(&self, letter: T) {
        let mut batch = vec![letter];
        while let Err(back) = self.send(batch) {
            batch = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Batches that the shard has taken out so far; it goes on if they become more.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Says by what the shard's thread can be woken: a task that lives as long as the shard.
    pub(super) fn set_thread(&self, waker: &Waker) {
        self.thread.get_or_init(|| waker.clone());
    }

    /// Wakes the shard's thread, as has to be done steadily: glommio 0.9 can go to sleep with tasks
    /// that are ready to run. When its preemption timer is due at the very moment it would run them
    /// (the system had the thread off the core for that long), it takes them for nothing to do. If
    /// the task of this mailbox is one of them, nothing that is sent here wakes it any more.
    pub(super) fn beat(&self) {
        if let Some(thread) = self.thread.get() {
            thread.wake_by_ref();
        }
    }

    /// The next batch, if one is there.
    pub fn take(&self) -> Option<Vec<T>> {
        let batch = self.queue.pop()?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Some(batch)
    }

    /// The next batch; wakes the task when there is one.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Vec<T>> {
        if let Some(batch) = self.take() {
            return Poll::Ready(batch);
        }
        self.waker.register(context.waker());
        // Once more: a batch may have come between the look and the registration.
        self.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The tickets of a shard as the store's threads carry them.
pub(super) fn ticket(number: u64) -> Ticket {
    Ticket(number)
}
