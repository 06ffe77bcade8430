//! One socket: what is to be written, and whether it is read. It knows no protocol but TLS, which it
//! takes off what is read and puts around what is written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::net::Shutdown;

use super::listen::Permit;
use super::sys;
use super::tls::Tls;
use super::tls::session::{FIRST_BYTE, Session, advance};

/// Slices handed to the kernel in one call: the heads and bodies of some thirty messages.
const SLICES_MAX: usize = 64;

/// Bytes that may wait to be written to one peer before nothing more is read from it. Mail is
/// bounded by itself; these are mostly answers to what the peer keeps asking.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// The shard asked not to read: too much of this connection waits for an answer.
pub(super) const PAUSED_BY_SHARD: u8 = 1;
/// Another shard or the store has no room for what this one has to say.
pub(super) const PAUSED_CONGESTED: u8 = 4;
/// The peer does not take what is written.
const PAUSED_FULL: u8 = 2;

/// Told to who asks for a page, or a WebSocket, where only TLS is spoken. Other framings have no
/// word for it.
const TLS_ONLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 29\r\nConnection: close\r\n\r\nonly https: and wss: are here\n";

/// How a connection may begin.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// What TLS is made with.
    pub(super) tls: Arc<Tls>,
    /// Whether it may go without.
    pub(super) plain: bool,
}

/// What was heard of the peer.
#[derive(Debug)]
pub(super) enum Heard {
    /// Bytes for the shard.
    Bytes(Bytes),
    /// Something that concerns the socket alone.
    Nothing,
    /// Nothing more will come.
    End,
}

/// A socket on its way to another shard.
#[derive(Debug)]
pub(super) struct Luggage {
    /// The only owner of the socket while it is on its way.
    pub(super) socket: OwnedFd,
    /// What could not be written yet.
    pub(super) unwritten: Vec<Bytes>,
    pub(super) tls: Option<Box<Session>>,
    pub(super) permit: Option<Permit>,
}

/// A socket of this shard.
#[derive(Debug)]
pub(super) struct Socket {
    stream: RefCell<TcpStream>,
    /// Until the first byte tells: how the connection may begin. None where there is no TLS.
    opening: RefCell<Option<Opening>>,
    tls: RefCell<Option<Box<Session>>>,
    /// What the kernel is to have: with TLS, records.
    unwritten: RefCell<VecDeque<Bytes>>,
    /// Bytes the kernel has taken since the connection was opened.
    written: Cell<u64>,
    /// A task waits for room in the kernel's buffer.
    pub(super) blocked: Cell<bool>,
    /// Bytes that wait to be written, encrypted or not.
    waiting: Cell<usize>,
    /// Reasons not to read, as bits.
    paused: Cell<u8>,
    /// Nothing more will be written; shut down when all is out.
    pub(super) closing: Cell<bool>,
    /// It is out.
    shut: Cell<bool>,
    /// The peer's side is shut down, or broken.
    ended: Cell<bool>,
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
    /// A connection just accepted.
    pub(super) fn new(stream: TcpStream, opening: Option<Opening>, permit: Option<Permit>) -> Self {
        Self {
            stream: RefCell::new(stream),
            opening: RefCell::new(opening),
            tls: RefCell::new(None),
            unwritten: RefCell::new(VecDeque::new()),
            written: Cell::new(0),
            blocked: Cell::new(false),
            waiting: Cell::new(0),
            paused: Cell::new(0),
            closing: Cell::new(false),
            shut: Cell::new(false),
            ended: Cell::new(false),
            gone: Cell::new(false),
            reader: RefCell::new(None),
            dirty: Cell::new(false),
            watched: Cell::new(false),
            told: Cell::new(0),
            permit: RefCell::new(permit),
        }
    }

    /// A connection that was made from here.
    pub(super) fn dialed(stream: TcpStream, tls: Option<Box<Session>>) -> Self {
        Self { tls: RefCell::new(tls), ..Self::new(stream, None, None) }
    }

    /// A connection that comes from another shard, where the kernel took `written` bytes of it.
    pub(super) fn adopt(luggage: Luggage, written: u64) -> Self {
        let Luggage { socket, unwritten, tls, permit } = luggage;
        let waiting = unwritten.iter().map(Bytes::len).sum::<usize>();
        Self {
            waiting: Cell::new(waiting + tls.as_ref().map_or(0, |tls| tls.waiting())),
            tls: RefCell::new(tls),
            unwritten: RefCell::new(unwritten.into()),
            written: Cell::new(written),
            ..Self::new(sys::adopt(socket), None, permit)
        }
    }

    pub(super) fn push(&self, bytes: Bytes) {
        self.waiting.set(self.waiting.get() + bytes.len());
        match &mut *self.tls.borrow_mut() {
            Some(tls) => tls.push(bytes),
            None => self.unwritten.borrow_mut().push_back(bytes),
        }
    }

    /// Waits for bytes and copies them once, right-sized: a slice of a bigger buffer would keep all
    /// of it alive for one short message.
    pub(super) fn poll_heard(
        &self,
        context: &mut Context<'_>,
        scratch: &RefCell<Vec<u8>>,
    ) -> Poll<std::io::Result<Heard>> {
        if self.gone.get() || self.shut.get() || self.tls_has_ended() {
            // What there is to read is for the new owner, or for nobody.
            return Poll::Ready(Ok(Heard::End));
        }
        let mut reader = self.reader.borrow_mut();
        if reader.as_ref().is_none_or(|reader| !reader.will_wake(context.waker())) {
            *reader = Some(context.waker().clone());
        }
        drop(reader);
        if self.paused.get() != 0 {
            return Poll::Pending;
        }
        let mut scratch = scratch.borrow_mut();
        self.poll_read(context, &mut scratch).map(|read| self.heard(read?))
    }

    /// Reads for nobody, some of it, until [`is_over`](Self::is_over). A socket that is closed with
    /// unread bytes takes back what was written last.
    pub(super) fn poll_discard(
        &self,
        context: &mut Context<'_>,
        scratch: &RefCell<Vec<u8>>,
    ) -> Poll<()> {
        let mut scratch = scratch.borrow_mut();
        self.poll_read(context, &mut scratch).map(drop)
    }

    fn poll_read<'a>(
        &self,
        context: &mut Context<'_>,
        scratch: &'a mut [u8],
    ) -> Poll<std::io::Result<&'a [u8]>> {
        let read = Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, scratch);
        read.map(|read| {
            self.ended.set(matches!(read, Ok(0) | Err(_)));
            Ok(scratch.get(..read?).unwrap_or_default())
        })
    }

    /// Whether both sides have said all they had to say.
    pub(super) fn is_over(&self) -> bool {
        self.ended.get() && (self.shut.get() || !self.closing.get())
    }

    /// Whether the peer's side is shut down.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    fn tls_has_ended(&self) -> bool {
        self.tls.borrow().as_ref().is_some_and(|tls| tls.has_ended())
    }

    fn heard(&self, bytes: &[u8]) -> std::io::Result<Heard> {
        let Some(first) = bytes.first() else {
            return Ok(Heard::End);
        };
        if let Some(opening) = self.opening.borrow_mut().take() {
            self.begin(*first, &opening)?;
        }
        let mut tls = self.tls.borrow_mut();
        let Some(tls) = &mut *tls else {
            return Ok(Heard::Bytes(Bytes::copy_from_slice(bytes)));
        };
        let opened = tls.open(bytes)?;
        Ok(match (opened.is_empty(), tls.has_ended()) {
            (false, _) => Heard::Bytes(opened),
            (true, false) => Heard::Nothing,
            (true, true) => Heard::End,
        })
    }

    /// With or without TLS, as the first byte says.
    fn begin(&self, first: u8, opening: &Opening) -> std::io::Result<()> {
        if first == FIRST_BYTE {
            let session = Session::new(opening.tls.config()).map_err(std::io::Error::other)?;
            *self.tls.borrow_mut() = Some(Box::new(session));
        } else if !opening.plain {
            if first == b'G' {
                self.push(Bytes::from_static(TLS_ONLY));
            }
            return Err(std::io::Error::other("no TLS where it is required"));
        }
        Ok(())
    }

    /// Whether there are records to be written that no effect of the shard asks for.
    pub(super) fn has_records(&self) -> bool {
        self.tls.borrow().as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether the peer should still be told something when it says no more.
    pub(super) fn owes(&self) -> bool {
        self.waiting.get() > 0 || self.tls.borrow().is_some()
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
        loop {
            if queue.is_empty() {
                self.seal(&mut queue);
            }
            if queue.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, bytes) in slices.iter_mut().zip(queue.iter()) {
                *slice = IoSlice::new(bytes);
            }
            match sys::send(&stream, slices.get(..queue.len()).unwrap_or(&slices)) {
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
                    self.forget(&mut queue);
                    self.shut.set(true);
                    self.unpause();
                    return Flushed::Broken;
                }
            }
        }
        self.balance();
        // An idle connection keeps no buffer.
        *queue = VecDeque::new();
        if self.closing.get() && !self.shut.replace(true) {
            sys::shut_down(&stream, Shutdown::Write);
            if let Some(waker) = self.reader.borrow_mut().take() {
                waker.wake();
            }
        }
        Flushed::All
    }

    /// With TLS: makes records of what waits, now that the kernel has the ones before.
    fn seal(&self, queue: &mut VecDeque<Bytes>) {
        if let Some(tls) = &mut *self.tls.borrow_mut() {
            let sealed = tls.seal(self.closing.get(), queue);
            self.waiting.set(self.waiting.get().saturating_sub(sealed.plain) + sealed.records);
        }
    }

    fn forget(&self, queue: &mut VecDeque<Bytes>) {
        queue.clear();
        if let Some(tls) = &mut *self.tls.borrow_mut() {
            tls.clear();
        }
        self.waiting.set(0);
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
        self.forget(&mut self.unwritten.borrow_mut());
        self.unpause();
        self.shut.set(true);
        sys::shut_down(&self.stream.borrow(), Shutdown::Both);
    }

    /// Bytes of the shard's that the peer's kernel has.
    pub(super) fn arrived(&self) -> u64 {
        let in_kernel = sys::unacknowledged(&self.stream.borrow()).unwrap_or(u64::MAX);
        match &mut *self.tls.borrow_mut() {
            None => self.written.get().saturating_sub(in_kernel),
            Some(tls) => {
                let here: usize = self.unwritten.borrow().iter().map(Bytes::len).sum();
                tls.arrived(in_kernel.saturating_add(here as u64))
            }
        }
    }

    /// Whether the peer's kernel has everything, and nothing waits to be written.
    pub(super) fn is_settled(&self, arrived: u64) -> bool {
        let all = match &*self.tls.borrow() {
            None => arrived == self.written.get(),
            Some(tls) => tls.is_settled(arrived),
        };
        all && self.unwritten.borrow().is_empty()
    }

    /// The socket for a new owner, with everything that belongs to it.
    pub(super) fn hand_over(&self) -> std::io::Result<Luggage> {
        let socket = sys::second_owner(&self.stream.borrow())?;
        self.gone.set(true);
        // Whoever still waits here would read or write in the new owner's place.
        if let Some(waker) = self.reader.borrow_mut().take() {
            waker.wake();
        }
        let unwritten = self.unwritten.borrow_mut().drain(..).collect();
        let (tls, permit) = (self.tls.borrow_mut().take(), self.permit.borrow_mut().take());
        Ok(Luggage { socket, unwritten, tls, permit })
    }
}
