//! One shard's thread: inputs in, effects out, and nothing decided in between.
//!
//! A turn: the tasks that have something to read feed the shard one after the other; then the
//! flusher, woken by the first of them and so behind all of them in the queue, makes one write for
//! each receiver, one batch for each other shard and one for the store.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::net::TcpStream;

use super::connection::{Flushed, Heard, Opening, PAUSED_BY_SHARD, PAUSED_CONGESTED, Socket};
use super::dial::Reached;
use super::listen::Permit;
use super::mesh::{Connection, Letter, Mailbox, ticket};
use super::tls::Tls;
use super::tls::trust::Trust;
use super::{neighbors, sys};
use crate::base::table::Table;
use crate::base::time::Now;
use crate::shard::Shard;
use crate::shard::effect::{Close, Effect, Outbox};
use crate::shard::input::{ConnId, Input};
use crate::shard::neighbor::LinkId;
use crate::shard::ring::ShardIndex;
use crate::shard::stats::Stats;
use crate::store::StoreOp;
use crate::store::writer::Writer;

/// Bytes read in one call: about a dozen messages, so that one peer that pours does not hold up the
/// others for longer than a millisecond or two of checking signatures.
const READ_BYTES_MAX: usize = 16 << 10;
/// Letters opened before others may have the thread.
const LETTERS_A_TURN: usize = 128;
/// A turn in which this much time has passed is written out before it goes on. Only a shard that has
/// more to do than it can has such turns; the longer they are, the more goes out in one write.
const TURN: Duration = Duration::from_millis(4);
/// How often due work, arrivals and refused batches are looked at.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// How long a closed peer may take what is still to be written.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// Ops or letters that wait for room; beyond it this shard takes in nothing more.
const CONGESTED: usize = 8192;

/// What a shard's thread is given.
pub(super) struct Job {
    pub(super) shard: Shard,
    pub(super) index: ShardIndex,
    pub(super) mailboxes: Vec<Arc<Mailbox<Letter>>>,
    pub(super) store: Arc<Writer>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) trust: Arc<Trust>,
}

/// A shard and everything its thread does for it.
struct Host {
    shard: RefCell<Shard>,
    index: ShardIndex,
    started: Instant,
    sockets: RefCell<Table<ConnId, Rc<Socket>>>,
    last_conn: Cell<u64>,
    scratch: RefCell<Vec<u8>>,
    dirty: RefCell<Vec<Rc<Socket>>>,
    watched: RefCell<Vec<(ConnId, Rc<Socket>)>>,
    closing: RefCell<Vec<(Instant, Rc<Socket>)>>,
    flusher: RefCell<Option<Waker>>,
    mailboxes: Vec<Arc<Mailbox<Letter>>>,
    letters: RefCell<Vec<Vec<Letter>>>,
    store: Arc<Writer>,
    tls: Option<Arc<Tls>>,
    trust: Arc<Trust>,
    ops: RefCell<Vec<(u16, u64, StoreOp)>>,
    stopped: Cell<bool>,
    outbox: RefCell<Outbox>,
    flushed: Cell<Instant>,
    /// Not read until what waits for room has found it.
    congested: RefCell<Vec<Rc<Socket>>>,
}

/// Runs a shard until it has stopped; `ready` is called when it can be woken.
pub(super) async fn run(job: Job, ready: impl FnOnce()) {
    let mailbox = job.mailboxes.get(usize::from(job.index.0)).cloned();
    if let Some(mailbox) = &mailbox {
        poll_fn(|context| {
            mailbox.set_thread(context.waker());
            Poll::Ready(())
        })
        .await;
    }
    ready();
    let host = Rc::new(Host {
        shard: RefCell::new(job.shard),
        index: job.index,
        started: now_instant(),
        sockets: RefCell::new(Table::default()),
        last_conn: Cell::new(u64::from(job.index.0) << 48),
        scratch: RefCell::new(vec![0; READ_BYTES_MAX]),
        dirty: RefCell::new(Vec::new()),
        watched: RefCell::new(Vec::new()),
        closing: RefCell::new(Vec::new()),
        flusher: RefCell::new(None),
        letters: RefCell::new(job.mailboxes.iter().map(|_| Vec::new()).collect()),
        mailboxes: job.mailboxes,
        store: job.store,
        tls: job.tls,
        trust: job.trust,
        ops: RefCell::new(Vec::new()),
        stopped: Cell::new(false),
        outbox: RefCell::new(Vec::new()),
        flushed: Cell::new(now_instant()),
        congested: RefCell::new(Vec::new()),
    });
    let reader = host.clone();
    let letters = glommio::spawn_local(async move {
        let Some(mailbox) = mailbox else { return };
        let mut opened = 0;
        while !reader.stopped.get() {
            let batch = poll_fn(|context| mailbox.poll(context)).await;
            opened += batch.len();
            reader.open_letters(batch);
            // An idle shard sends many small batches; yielding after each of them would let a
            // busy one hear a single letter a turn.
            if opened >= LETTERS_A_TURN {
                opened = 0;
                let_others().await;
            }
        }
    });
    let flushing = host.clone();
    let flusher = glommio::spawn_local(async move { flushing.flush_turns().await });
    letters.await;
    flusher.cancel().await;
    host.flush();
    for socket in host.sockets.borrow().values().filter(|socket| !socket.blocked.get()) {
        socket.closing.set(true);
        socket.flush();
    }
}

impl Host {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// A connection that was accepted for this shard.
    fn open(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, permit: Permit, plain: bool) {
        let conn = ConnId(self.last_conn.get() + 1);
        self.last_conn.set(conn.0);
        let mut secret = [0; 32];
        if aws_lc_rs::rand::fill(&mut secret).is_err() {
            // Without randomness there is no login; better no connection either.
            tracing::error!("no random bytes from the system");
            return;
        }
        let opening = self.tls.clone().map(|tls| Opening { tls, plain });
        let socket = Rc::new(Socket::new(stream, opening, Some(permit)));
        self.clone().attach(conn, socket);
        self.input(Input::Opened { conn, peer, secret });
    }

    /// Connects to a neighbour on a thread of its own, since looking up a name waits.
    fn dial(&self, link: LinkId, host: String, port: u16, tls: bool) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(self.index.0)) {
            let trust = tls.then(|| self.trust.clone());
            neighbors::dial(mailbox.clone(), link, host, port, trust);
        }
    }

    /// A connection that a neighbour took.
    fn dialed(self: &Rc<Self>, link: LinkId, reached: Reached) {
        let Reached { stream, peer, tls } = reached;
        let conn = ConnId(self.last_conn.get() + 1);
        self.last_conn.set(conn.0);
        let mut secret = [0; 32];
        if aws_lc_rs::rand::fill(&mut secret).is_err() {
            tracing::error!("no random bytes from the system");
            return self.input(Input::NotDialed { link });
        }
        let socket = Socket::dialed(sys::adopt(stream.into()), tls);
        self.clone().attach(conn, Rc::new(socket));
        self.input(Input::Dialed { link, conn, peer, secret });
    }

    /// Begins to read a socket.
    fn attach(self: Rc<Self>, conn: ConnId, socket: Rc<Socket>) {
        self.sockets.borrow_mut().insert(conn, socket.clone());
        // One small future for each connection: an `async fn` of the same took 800 bytes.
        let (host, mut ended) = (self, false);
        let reading = poll_fn(move |context| host.poll_peer(conn, &socket, &mut ended, context));
        glommio::spawn_local(reading).detach();
    }

    /// Hears a peer once, and comes back behind the tasks that are ready, until it has `ended`; then
    /// what else it says is read for nobody, as long as something is still to be written.
    fn poll_peer(
        self: &Rc<Self>,
        conn: ConnId,
        socket: &Rc<Socket>,
        ended: &mut bool,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if *ended {
            ready!(socket.poll_discard(context, &self.scratch));
        } else {
            let heard = ready!(socket.poll_heard(context, &self.scratch));
            match heard {
                Ok(Heard::Bytes(bytes)) if !socket.gone.get() => {
                    self.input(Input::Received { conn, bytes });
                }
                Ok(Heard::Nothing) => {}
                Ok(_) => *ended = true,
                Err(error) => {
                    tracing::debug!(%conn, %error, "cannot read");
                    *ended = true;
                }
            }
            if socket.gone.get() {
                return Poll::Ready(());
            }
            match *ended {
                true => self.peer_ended(conn, socket),
                false => self.peer_heard(socket),
            }
        }
        if *ended && (!socket.closing.get() || socket.has_ended()) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn peer_heard(self: &Rc<Self>, socket: &Rc<Socket>) {
        if socket.has_records() {
            self.soil(socket);
            self.wake_flusher();
        }
        self.end_turn();
        if self.is_congested() {
            socket.pause(PAUSED_CONGESTED, true);
            self.congested.borrow_mut().push(socket.clone());
        }
    }

    fn peer_ended(self: &Rc<Self>, conn: ConnId, socket: &Rc<Socket>) {
        if socket.watched.get() {
            self.input(Input::Arrived { conn, total: socket.arrived() });
        }
        self.sockets.borrow_mut().remove(&conn);
        if socket.owes() && !socket.closing.get() {
            self.end(socket.clone());
        }
        self.input(Input::Closed { conn });
    }

    /// When a turn has taken long enough: writes out what it made, and hears what other shards and
    /// the store have said meanwhile. Left to the scheduler, a shard with fifty busy peers opened
    /// its letters seconds late, whatever shares and latency their queue was given.
    fn end_turn(self: &Rc<Self>) {
        if self.flushed.get().elapsed() < TURN {
            return;
        }
        self.flush();
        let Some(mailbox) = self.mailboxes.get(usize::from(self.index.0)) else { return };
        let mut opened = 0;
        while opened < LETTERS_A_TURN
            && let Some(batch) = mailbox.take()
        {
            opened += batch.len();
            self.open_letters(batch);
        }
    }

    fn is_congested(&self) -> bool {
        self.ops.borrow().len() > CONGESTED
            || self.letters.borrow().iter().any(|batch| batch.len() > CONGESTED)
    }

    /// Gives the shard an input and carries out what it wants.
    fn input(self: &Rc<Self>, input: Input) {
        let mut outbox = std::mem::take(&mut *self.outbox.borrow_mut());
        self.shard.borrow_mut().handle(self.now(), input, &mut outbox);
        for effect in outbox.drain(..) {
            self.carry_out(effect);
        }
        *self.outbox.borrow_mut() = outbox;
        self.wake_flusher();
    }

    fn wake_flusher(&self) {
        if let Some(waker) = self.flusher.borrow_mut().take() {
            waker.wake();
        }
    }

    fn carry_out(self: &Rc<Self>, effect: Effect) {
        match effect {
            Effect::Send { conn, bytes } => {
                if let Some(socket) = self.sockets.borrow().get(&conn) {
                    socket.push(bytes);
                    self.soil(socket);
                }
            }
            Effect::WatchArrival { conn } => {
                if let Some(socket) = self.socket(conn)
                    && !socket.watched.replace(true)
                {
                    self.watched.borrow_mut().push((conn, socket));
                }
            }
            Effect::Pause { conn } => self.pause(conn, true),
            Effect::Resume { conn } => self.pause(conn, false),
            Effect::Close { conn, why } => self.close(conn, why),
            Effect::Move { conn, to, session } => self.move_away(conn, to, session),
            Effect::Dial { link, host, port, tls } => self.dial(link, host, port, tls),
            Effect::Forward { to, parcel } => self.letter(to, Letter::Parcel(parcel)),
            Effect::Store { ticket, op } => {
                self.ops.borrow_mut().push((self.index.0, ticket.0, op));
            }
            Effect::Stopped => {
                if !self.stopped.replace(true) {
                    self.say_counts();
                }
            }
        }
    }

    /// What the shard has counted, for the log's last lines.
    fn say_counts(&self) {
        let stats = self.shard.borrow().stats;
        let rows = Stats::TABLE.iter().zip(stats.values()).filter(|(_, value)| *value > 0);
        let counts: Vec<String> =
            rows.map(|(row, value)| format!("{} {value}", row.name)).collect();
        tracing::info!(shard = self.index.0, counts = counts.join(", "), "shard stopped");
    }

    fn socket(&self, conn: ConnId) -> Option<Rc<Socket>> {
        self.sockets.borrow().get(&conn).cloned()
    }

    fn soil(&self, socket: &Rc<Socket>) {
        if !socket.dirty.replace(true) {
            self.dirty.borrow_mut().push(socket.clone());
        }
    }

    fn pause(&self, conn: ConnId, paused: bool) {
        if let Some(socket) = self.socket(conn) {
            socket.pause(PAUSED_BY_SHARD, paused);
        }
    }

    fn close(&self, conn: ConnId, why: Close) {
        if let Some(socket) = self.socket(conn) {
            tracing::debug!(%conn, why = why.word(), "closing");
            self.end(socket);
        }
    }

    /// What is still to be written has a little time, then the connection is over.
    fn end(&self, socket: Rc<Socket>) {
        socket.closing.set(true);
        socket.unpause();
        self.soil(&socket);
        self.closing.borrow_mut().push((now_instant() + CLOSE_PATIENCE, socket));
    }

    fn move_away(
        &self,
        conn: ConnId,
        to: ShardIndex,
        session: Box<crate::shard::session::Session>,
    ) {
        let Some(socket) = self.sockets.borrow_mut().remove(&conn) else {
            return;
        };
        // What was written before must not be counted as unwritten there.
        if socket.blocked.get() || socket.flush() == Flushed::Broken {
            // Of what the kernel is just taking, nobody could say how much is left. Before its
            // login a peer that reads is owed too little for this.
            tracing::debug!(%conn, "not handed over: the peer does not read");
            socket.gone.set(true);
            return socket.cut();
        }
        match socket.hand_over() {
            Ok(luggage) => {
                let moved = Connection { conn, luggage, session };
                self.letter(to, Letter::Connection(Box::new(moved)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot move a connection");
                socket.gone.set(true);
                socket.cut();
            }
        }
    }

    fn letter(&self, to: ShardIndex, letter: Letter) {
        if let Some(batch) = self.letters.borrow_mut().get_mut(usize::from(to.0)) {
            batch.push(letter);
        }
    }

    fn open_letters(self: &Rc<Self>, batch: Vec<Letter>) {
        for letter in batch {
            match letter {
                Letter::Parcel(parcel) => self.input(Input::Parcel(parcel)),
                Letter::Answers(answers) => {
                    for (number, answer) in answers {
                        self.input(Input::Stored { ticket: ticket(number), answer });
                    }
                }
                Letter::Connection(moved) => {
                    let Connection { conn, luggage, session } = *moved;
                    let written = session.sent_before(&luggage.unwritten);
                    let socket = Rc::new(Socket::adopt(luggage, written));
                    self.clone().attach(conn, socket.clone());
                    if socket.owes() {
                        self.soil(&socket);
                    }
                    self.input(Input::Adopted { conn, session });
                }
                Letter::Neighbors(list) => self.input(Input::Neighbors(list)),
                Letter::Dialed { link, reached: None } => self.input(Input::NotDialed { link }),
                Letter::Dialed { link, reached: Some(reached) } => self.dialed(link, reached),
                Letter::Accepted { socket, peer, permit, plain } => {
                    self.open(sys::adopt(socket), peer, permit, plain);
                }
                Letter::Tick => self.tick(),
                Letter::Reload { policy, ans } => self.input(Input::Reload { policy, ans }),
                Letter::Stop => self.input(Input::Stop),
            }
        }
    }

    async fn flush_turns(self: Rc<Self>) {
        loop {
            self.flush();
            let mut woken = false;
            poll_fn(|context| {
                if std::mem::replace(&mut woken, true) {
                    return Poll::Ready(());
                }
                *self.flusher.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }

    /// One write a receiver, one batch a shard, one for the store.
    fn flush(self: &Rc<Self>) {
        self.flushed.set(now_instant());
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for socket in dirty {
            socket.dirty.set(false);
            if !socket.blocked.get() && socket.flush() == Flushed::Blocked {
                socket.blocked.set(true);
                glommio::spawn_local(drain(socket)).detach();
            }
        }
        let ops = std::mem::take(&mut *self.ops.borrow_mut());
        if !ops.is_empty()
            && let Err(ops) = self.store.submit(ops)
        {
            // Tried again with the next turn or tick, before anything newer.
            let mut waiting = self.ops.borrow_mut();
            let newer = std::mem::replace(&mut *waiting, ops);
            waiting.extend(newer);
        }
        for (batch, mailbox) in self.letters.borrow_mut().iter_mut().zip(&self.mailboxes) {
            if !batch.is_empty()
                && let Err(back) = mailbox.send(std::mem::take(batch))
            {
                *batch = back;
            }
        }
        if !self.congested.borrow().is_empty() && !self.is_congested() {
            for socket in self.congested.borrow_mut().drain(..) {
                socket.pause(PAUSED_CONGESTED, false);
            }
        }
    }

    /// Due work; the station's clock thread asks for it at a steady pace.
    fn tick(self: &Rc<Self>) {
        self.tell_arrivals();
        let due = self.shard.borrow().next_deadline();
        if due.is_some_and(|due| due <= self.now().mono_ms) || self.started_second() {
            self.input(Input::Tick);
        }
        let now = now_instant();
        self.closing.borrow_mut().retain(|(until, socket)| {
            if *until <= now {
                socket.cut();
            }
            *until > now && !socket.is_over()
        });
        self.flush();
    }

    /// Once a second the shard looks for what has no deadline of its own.
    fn started_second(&self) -> bool {
        let elapsed = self.started.elapsed().as_millis();
        elapsed % 1000 < TICK.as_millis()
    }

    fn tell_arrivals(self: &Rc<Self>) {
        let watched = std::mem::take(&mut *self.watched.borrow_mut());
        for (conn, socket) in watched {
            if socket.gone.get() || self.socket(conn).is_none() {
                continue;
            }
            let total = socket.arrived();
            if total == socket.told.replace(total) && socket.is_settled(total) {
                socket.watched.set(false);
                continue;
            }
            self.watched.borrow_mut().push((conn, socket));
            self.input(Input::Arrived { conn, total });
        }
    }
}

/// Writes on when the kernel's buffer has room again.
async fn drain(socket: Rc<Socket>) {
    loop {
        if socket.wait_for_room().await.is_err() || socket.gone.get() {
            break;
        }
        if socket.flush() != Flushed::Blocked {
            break;
        }
    }
    socket.blocked.set(false);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell's own clock, handed to the shard as a number"
)]
fn now_instant() -> Instant {
    Instant::now()
}

/// Goes to the end of the queue of tasks that are ready.
async fn let_others() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
