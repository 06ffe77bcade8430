//! One socket: what is to be written, and whether it is read. It knows no protocol.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Poll, Waker};

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::listen::Permit;
use super::sys;

/// Slices handed to the kernel in one call; more than that many small frames go in the next.
const SLICES_MAX: usize = 256;

/// Bytes that may wait to be written to one peer before nothing more is read from it. Mail is
/// bounded by itself; these are mostly answers to what the peer keeps asking.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// The shard asked not to read: too much of this connection waits for an answer.
pub(super) const PAUSED_BY_SHARD: u8 = 1;
/// Another shard or the store has no room for what this one has to say.
pub(super) const PAUSED_CONGESTED: u8 = 4;
/// The peer does not take what is written.
const PAUSED_FULL: u8 = 2;

/// A socket of this shard.
#[derive(Debug)]
pub(super) struct Socket {
    stream: RefCell<TcpStream>,
    unwritten: RefCell<VecDeque<Bytes>>,
    /// Bytes the kernel has taken since the connection was opened.
    written: Cell<u64>,
    /// A task waits for room in the kernel's buffer.
    pub(super) blocked: Cell<bool>,
    /// Bytes that wait to be written.
    waiting: Cell<usize>,
    /// Reasons not to read, as bits.
    paused: Cell<u8>,
    /// Nothing more will be written; shut down when all is out.
    pub(super) closing: Cell<bool>,
    /// The socket is another shard's now.
    pub(super) gone: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    /// In the list of sockets that have something to write.
    pub(super) dirty: Cell<bool>,
    /// Arrivals are wanted, and the last total that was told.
    pub(super) watched: Cell<bool>,
    pub(super) told: Cell<u64>,
    /// Goes with the socket.
    permit: RefCell<Option<Permit>>,
}

/// How a flush ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    All,
    /// The kernel's buffer is full.
    Blocked,
    /// The peer is gone; the reader will hear of it.
    Broken,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        written: u64,
        unwritten: Vec<Bytes>,
        permit: Option<Permit>,
    ) -> Self {
        let waiting = unwritten.iter().map(Bytes::len).sum();
        Self {
            stream: RefCell::new(stream),
            unwritten: RefCell::new(unwritten.into()),
            written: Cell::new(written),
            blocked: Cell::new(false),
            waiting: Cell::new(waiting),
            paused: Cell::new(0),
            closing: Cell::new(false),
            gone: Cell::new(false),
            reader: RefCell::new(None),
            dirty: Cell::new(false),
            watched: Cell::new(false),
            told: Cell::new(0),
            permit: RefCell::new(permit),
        }
    }

    pub(super) fn push(&self, bytes: Bytes) {
        self.waiting.set(self.waiting.get() + bytes.len());
        self.unwritten.borrow_mut().push_back(bytes);
    }

    /// Waits for bytes and copies them once, right-sized: a slice of a bigger buffer would keep all
    /// of it alive for one short message.
    pub(super) async fn read(&self, scratch: &RefCell<Vec<u8>>) -> std::io::Result<Bytes> {
        poll_fn(|context| {
            if self.gone.get() {
                // What there is to read is for the new owner.
                return Poll::Ready(Ok(Bytes::new()));
            }
            *self.reader.borrow_mut() = Some(context.waker().clone());
            if self.paused.get() != 0 {
                return Poll::Pending;
            }
            let mut scratch = scratch.borrow_mut();
            let mut stream = self.stream.borrow_mut();
            match Pin::new(&mut *stream).poll_read(context, &mut scratch) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(count)) => {
                    Poll::Ready(Ok(Bytes::copy_from_slice(scratch.get(..count).unwrap_or(&[]))))
                }
            }
        })
        .await
    }

    /// Stops reading for a reason, or drops that reason.
    pub(super) fn pause(&self, reason: u8, paused: bool) {
        let reasons = self.paused.get();
        self.paused.set(if paused { reasons | reason } else { reasons & !reason });
        if self.paused.get() == 0
            && let Some(waker) = self.reader.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Reads whatever there was against it, so that the end of the connection is heard.
    pub(super) fn unpause(&self) {
        self.pause(u8::MAX, false);
    }

    /// Reads no more from a peer that does not take its answers, until it has taken half of them.
    fn balance(&self) {
        let waiting = self.waiting.get();
        if waiting > UNWRITTEN_BYTES_MAX && !self.closing.get() {
            self.pause(PAUSED_FULL, true);
        } else if waiting <= UNWRITTEN_BYTES_MAX / 2 && self.paused.get() & PAUSED_FULL != 0 {
            self.pause(PAUSED_FULL, false);
        }
    }

    /// Writes what there is, as much as the kernel takes.
    pub(super) fn flush(&self) -> Flushed {
        let mut queue = self.unwritten.borrow_mut();
        let stream = self.stream.borrow();
        while !queue.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                queue.iter().take(SLICES_MAX).map(|bytes| IoSlice::new(bytes)).collect();
            match sys::send(&stream, &slices) {
                Ok(count) => {
                    self.count_written(count);
                    advance(&mut queue, count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.balance();
                    return Flushed::Blocked;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    queue.clear();
                    self.waiting.set(0);
                    return Flushed::Broken;
                }
            }
        }
        self.balance();
        // An idle connection keeps no buffer.
        if queue.capacity() > 64 {
            *queue = VecDeque::new();
        }
        if self.closing.get() {
            sys::shut_down(&stream);
        }
        Flushed::All
    }

    /// Waits until the kernel has taken something of the first slice.
    pub(super) async fn wait_for_room(&self) -> std::io::Result<()> {
        let Some(first) = self.unwritten.borrow().front().cloned() else {
            return Ok(());
        };
        let count = poll_fn(|context| {
            if self.gone.get() {
                // The new owner has these bytes to write.
                return Poll::Ready(Err(ErrorKind::NotConnected.into()));
            }
            let mut stream = self.stream.borrow_mut();
            Pin::new(&mut *stream).poll_write(context, &first)
        })
        .await?;
        self.count_written(count);
        advance(&mut self.unwritten.borrow_mut(), count);
        self.balance();
        Ok(())
    }

    fn count_written(&self, count: usize) {
        self.written.set(self.written.get() + count as u64);
        self.waiting.set(self.waiting.get().saturating_sub(count));
    }

    /// Ends the connection at once.
    pub(super) fn cut(&self) {
        self.unwritten.borrow_mut().clear();
        self.waiting.set(0);
        self.unpause();
        sys::shut_down(&self.stream.borrow());
    }

    /// Bytes that the peer's kernel has.
    pub(super) fn arrived(&self) -> u64 {
        let outstanding = sys::unacknowledged(&self.stream.borrow()).unwrap_or(u64::MAX);
        self.written.get().saturating_sub(outstanding)
    }

    /// Whether the peer's kernel has everything, and nothing waits to be written.
    pub(super) fn is_settled(&self, arrived: u64) -> bool {
        arrived == self.written.get() && self.unwritten.borrow().is_empty()
    }

    /// The socket with a new owner, what was not written, and the right to be open.
    pub(super) fn hand_over(&self) -> std::io::Result<(OwnedFd, Vec<Bytes>, Option<Permit>)> {
        let socket = sys::second_owner(&self.stream.borrow())?;
        self.gone.set(true);
        // Whoever still waits here would read or write in the new owner's place.
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
        let unwritten = self.unwritten.borrow_mut().drain(..).collect();
        Ok((socket, unwritten, self.permit.borrow_mut().take()))
    }
}

fn advance(queue: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(first) = queue.front_mut() {
        if count < first.len() {
            first.advance(count);
            return;
        }
        count -= first.len();
        queue.pop_front();
    }
}
