//! Lock-free, bounded mailboxes: how shards and the store's threads reach a shard.
//!
//! A batch is one item of the queue, so the cost of crossing a core is shared by all that one turn
//! had to say. A full mailbox refuses; the sender keeps its batch and stops taking in work.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use super::listen::Permit;
use crate::shard::input::{ConnId, Parcel, Ticket};
use crate::shard::session::Session;
use crate::store::StoreAnswer;

/// Batches that wait in a mailbox at most. A batch is what one turn of a shard had for another, so
/// this is some thousand messages in flight.
pub(super) const MAILBOX_BATCHES_MAX: usize = 1024;

/// What comes to a shard from outside its thread.
#[derive(Debug)]
pub(super) enum Letter {
    Accepted { socket: OwnedFd, peer: SocketAddr, permit: Permit },
    Parcel(Parcel),
    Connection(Box<Connection>),
    Answers(Vec<(u64, StoreAnswer)>),
    Stop,
}

/// A connection on its way to another shard.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) conn: ConnId,
    /// The only owner of the socket while it is on its way.
    pub(super) socket: OwnedFd,
    /// What could not be written yet.
    pub(super) unwritten: Vec<Bytes>,
    pub(super) session: Box<Session>,
    pub(super) permit: Option<Permit>,
}

/// One shard's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    queue: ArrayQueue<Vec<Letter>>,
    waker: AtomicWaker,
    refused: AtomicUsize,
}

impl Mailbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: ArrayQueue::new(MAILBOX_BATCHES_MAX),
            waker: AtomicWaker::new(),
            refused: AtomicUsize::new(0),
        })
    }

    /// Puts a batch in, or gives it back when there is no room.
    pub(super) fn send(&self, batch: Vec<Letter>) -> Result<(), Vec<Letter>> {
        let sent = self.queue.push(batch);
        if sent.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.waker.wake();
        sent
    }

    /// The next batch, if one is there.
    pub(super) fn take(&self) -> Option<Vec<Letter>> {
        self.queue.pop()
    }

    /// The next batch; wakes the task when there is one.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Vec<Letter>> {
        if let Some(batch) = self.queue.pop() {
            return Poll::Ready(batch);
        }
        self.waker.register(context.waker());
        // Once more: a batch may have come between the look and the registration.
        self.queue.pop().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The tickets of a shard as the store's threads carry them.
pub(super) fn ticket(number: u64) -> Ticket {
    Ticket(number)
}
