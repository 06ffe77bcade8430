//! Group commit: one thread drains what has queued up into one batch with one sync, another reads.
//!
//! While a sync runs, new ops queue up, so groups form by themselves and nobody waits for a timer.
//! Reads have their own thread, so that a login does not stand behind a sync.
//!
//! Between the two threads one thing holds: what has been answered is visible to every read that
//! is submitted later. A shard that wants more, waits for its own answers.
#![expect(
    clippy::disallowed_methods,
    reason = "the disk's side of the store: here is where it waits"
)]

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::{io, mem};

use crossbeam_queue::ArrayQueue;

use super::op::{StoreAnswer, StoreOp};
use super::{Store, StoreError};

/// Ops of one shard or several: the shard, its ticket, the op.
pub type Batch = Vec<(u16, u64, StoreOp)>;

/// Where the answers go: a shard, and its tickets with their answers in the order of the ops.
/// Called from the store's threads; must not block.
pub type Answers = Arc<dyn Fn(u16, Vec<(u64, StoreAnswer)>) + Send + Sync>;

/// Default for waiting batches; a shard sends one a turn, so this is a second or so of backlog.
pub const QUEUE_BATCHES_MAX: usize = 4096;
/// Default for ops in a group: beyond, a sync no longer gets cheaper a message, only later.
pub const GROUP_OPS_MAX: usize = 1024;
/// Default for the payload of a group: what is copied into one batch, and torn at worst.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// How long unsynced changes may lie about when saves are not synced one by one.
pub const RELAXED_FLUSH: Duration = Duration::from_millis(100);

/// How a [`Writer`] is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSettings {
    /// Batches that may wait, in each of the two queues.
    pub queue_batches_max: usize,
    /// A group takes no further batch with this many ops.
    pub group_ops_max: usize,
    /// A group takes no further batch with this much payload, in bytes.
    pub group_bytes_max: usize,
    /// Flush this long after a commit, however busy; for a store that does not sync by itself.
    pub flush_after: Option<Duration>,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            queue_batches_max: QUEUE_BATCHES_MAX,
            group_ops_max: GROUP_OPS_MAX,
            group_bytes_max: GROUP_BYTES_MAX,
            flush_after: None,
        }
    }
}

/// The two threads of a store. Shared by all shards.
pub struct Writer {
    writes: Arc<Lane>,
    reads: Arc<Lane>,
    answers: Answers,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("queued", &self.queued()).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the threads. Fails only if the system gives none.
    pub fn spawn(
        store: Arc<dyn Store>,
        settings: WriterSettings,
        answers: Answers,
    ) -> io::Result<Self> {
        let writes = Arc::new(Lane::new(settings.queue_batches_max));
        let reads = Arc::new(Lane::new(settings.queue_batches_max));
        let writer = Self {
            writes: Arc::clone(&writes),
            reads: Arc::clone(&reads),
            answers: Arc::clone(&answers),
            threads: Mutex::default(),
        };
        let (read_store, read_answers) = (Arc::clone(&store), Arc::clone(&answers));
        // If the second cannot be started, dropping `writer` ends the first.
        writer.keep(&reads, "dim-read", {
            let reads = Arc::clone(&reads);
            move || read_all(&reads, &*read_store, &read_answers)
        })?;
        writer.keep(&writes, "dim-write", {
            let writes = Arc::clone(&writes);
            move || write_all(&writes, &*store, &settings, &answers)
        })?;
        Ok(writer)
    }

    fn keep(&self, lane: &Lane, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let handle = thread::Builder::new().name(name.into()).spawn(run)?;
        lane.serve(handle.thread().clone());
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        Ok(())
    }

    /// Hands over a batch; reads and writes in it go their own ways. Gives back what found no
    /// room: the caller keeps it and tries again, and takes in less meanwhile. After
    /// [`Writer::shutdown`] everything comes back.
    pub fn submit(&self, batch: Batch) -> Result<(), Batch> {
        let reads = batch.iter().filter(|(_, _, op)| op.is_read()).count();
        if reads == 0 {
            return self.push(&self.writes, batch);
        }
        if reads == batch.len() {
            return self.push(&self.reads, batch);
        }
        let (reads, writes): (Batch, Batch) =
            batch.into_iter().partition(|(_, _, op)| op.is_read());
        match (self.push(&self.writes, writes), self.push(&self.reads, reads)) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(back), Ok(())) | (Ok(()), Err(back)) => Err(back),
            (Err(mut back), Err(reads)) => {
                back.extend(reads);
                Err(back)
            }
        }
    }

    /// Batches that wait, to be written and to be read.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        (self.writes.queue.len(), self.reads.queue.len())
    }

    /// Takes nothing more, carries out and answers what waits, syncs, and ends the threads. May be
    /// called again.
    pub fn shutdown(&self) {
        self.writes.close();
        self.reads.close();
        let threads = mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that has panicked has said so; what it left is answered below.
            let _ = thread.join();
        }
        self.writes.ended.store(true, Ordering::SeqCst);
        self.reads.ended.store(true, Ordering::SeqCst);
        self.refuse_rest(&self.writes);
        self.refuse_rest(&self.reads);
    }

    fn push(&self, lane: &Lane, batch: Batch) -> Result<(), Batch> {
        if batch.is_empty() {
            return Ok(());
        }
        lane.push(batch)?;
        // The thread may have ended between the look at `closed` and the push.
        if lane.ended.load(Ordering::SeqCst) {
            self.refuse_rest(lane);
        }
        Ok(())
    }

    fn refuse_rest(&self, lane: &Lane) {
        while let Some(batch) = lane.queue.pop() {
            let closed = || StoreAnswer::Failed(StoreError::Closed);
            deliver(
                &self.answers,
                batch.into_iter().map(|(shard, ticket, _)| (shard, ticket, closed())),
            );
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A bounded queue and the one thread that serves it.
struct Lane {
    queue: ArrayQueue<Batch>,
    thread: OnceLock<Thread>,
    /// Set by the thread before it parks; whoever takes it back wakes the thread. So a busy thread
    /// costs its senders no system call.
    parked: AtomicBool,
    closed: AtomicBool,
    ended: AtomicBool,
}

impl Lane {
    fn new(batches_max: usize) -> Self {
        Self {
            queue: ArrayQueue::new(batches_max.max(1)),
            thread: OnceLock::new(),
            parked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    fn serve(&self, thread: Thread) {
        let _ = self.thread.set(thread);
        self.wake();
    }

    fn push(&self, batch: Batch) -> Result<(), Batch> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(batch);
        }
        self.queue.push(batch)?;
        // Pairs with the fence in `wait`: either this sees `parked`, or the thread sees the batch.
        fence(Ordering::SeqCst);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if self.parked.load(Ordering::Relaxed)
            && self.parked.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.wake();
    }

    /// Parks until there is something to do, the lane is closed, or `at_most` has passed.
    fn wait(&self, at_most: Option<Duration>) {
        // Before the handle is known nobody can wake this thread, so it must not sleep for long.
        let at_most =
            if self.thread.get().is_some() { at_most } else { Some(Duration::from_millis(1)) };
        self.parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() && !self.closed.load(Ordering::SeqCst) {
            match at_most {
                Some(at_most) => thread::park_timeout(at_most),
                None => thread::park(),
            }
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}

fn write_all(lane: &Lane, store: &dyn Store, settings: &WriterSettings, answers: &Answers) {
    let mut tickets = Vec::new();
    let mut ops = Vec::new();
    let mut flush_at: Option<Instant> = None;
    loop {
        let closed = lane.closed.load(Ordering::SeqCst);
        gather(lane, settings, &mut tickets, &mut ops);
        let idle = ops.is_empty();
        if !idle {
            let done = store.commit(&ops);
            answer_group(answers, &mut tickets, done);
            ops.clear();
            flush_at =
                flush_at.or_else(|| settings.flush_after.map(|after| Instant::now() + after));
        }
        if idle && closed {
            // Whoever waits for the shutdown waits for this; there is nobody else to tell.
            let _ = store.commit(&[StoreOp::Flush]);
            return;
        }
        let left = flush_at.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let failed = store.commit(&[StoreOp::Flush]).is_err();
            flush_at = settings.flush_after.filter(|_| failed).map(|after| Instant::now() + after);
        } else if idle {
            lane.wait(left);
        }
    }
}

fn gather(
    lane: &Lane,
    settings: &WriterSettings,
    tickets: &mut Vec<(u16, u64)>,
    ops: &mut Vec<StoreOp>,
) {
    let mut bytes = 0_usize;
    while ops.len() < settings.group_ops_max && bytes < settings.group_bytes_max {
        let Some(batch) = lane.queue.pop() else {
            return;
        };
        for (shard, ticket, op) in batch {
            bytes = bytes.saturating_add(op.payload_bytes());
            tickets.push((shard, ticket));
            ops.push(op);
        }
    }
}

/// A failed commit fails all its ops. They are not tried one by one: what fails a batch is the
/// disk, and a sync for each op would be a hundred times the load for it. What the disk can still
/// bear (deletes, while it is full) the store itself tells apart.
fn answer_group(
    answers: &Answers,
    tickets: &mut Vec<(u16, u64)>,
    done: Result<Vec<StoreAnswer>, StoreError>,
) {
    let tickets = tickets.drain(..);
    match done {
        Ok(all) => {
            assert_eq!(all.len(), tickets.len(), "a store answers each op once");
            let joined = tickets.zip(all).map(|((shard, ticket), answer)| (shard, ticket, answer));
            deliver(answers, joined);
        }
        Err(error) => deliver(
            answers,
            tickets.map(|(shard, ticket)| (shard, ticket, StoreAnswer::Failed(error.clone()))),
        ),
    }
}

fn read_all(lane: &Lane, store: &dyn Store, answers: &Answers) {
    loop {
        let closed = lane.closed.load(Ordering::SeqCst);
        while let Some(batch) = lane.queue.pop() {
            deliver(
                answers,
                batch.into_iter().map(|(shard, ticket, op)| (shard, ticket, store.read(&op))),
            );
        }
        if closed {
            return;
        }
        lane.wait(None);
    }
}

/// Sorts answers by shard, keeping their order, and hands them out: one wake a shard.
fn deliver(answers: &Answers, all: impl Iterator<Item = (u16, u64, StoreAnswer)>) {
    let mut shards: Vec<(u16, Vec<(u64, StoreAnswer)>)> = Vec::new();
    for (shard, ticket, answer) in all {
        // A station has few shards, and a search through them is cheaper than a map.
        match shards.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, list)) => list.push((ticket, answer)),
            None => shards.push((shard, vec![(ticket, answer)])),
        }
    }
    for (shard, list) in shards {
        answers(shard, list);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use bytes::Bytes;

    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::op::{Mail, QueueKey};

    fn start(
        settings: WriterSettings,
    ) -> (Arc<MemoryStore>, Writer, Receiver<(u16, u64, StoreAnswer)>) {
        let store = Arc::new(MemoryStore::new());
        let (send, receive) = channel();
        let answers: Answers = Arc::new(move |shard, list| {
            for (ticket, answer) in list {
                send.send((shard, ticket, answer)).unwrap();
            }
        });
        let writer =
            Writer::spawn(Arc::clone(&store) as Arc<dyn Store>, settings, answers).unwrap();
        (store, writer, receive)
    }

    fn put(shard: u16, seq: u64) -> (u16, u64, StoreOp) {
        let queue = QueueKey { user: format!("user{shard}").into(), device: "".into() };
        let mail = Mail { received_ms: seq, digest: [0; 16], body: Bytes::from_static(b"x") };
        (shard, seq, StoreOp::Enqueue { queue, seq, mail })
    }

    fn load(shard: u16, ticket: u64) -> (u16, u64, StoreOp) {
        (shard, ticket, StoreOp::LoadUser { user: format!("user{shard}").into() })
    }

    #[test]
    fn each_op_is_answered_once_in_its_shards_order() {
        let (_, writer, receive) = start(WriterSettings::default());
        thread::scope(|scope| {
            for shard in 0..4 {
                let writer = &writer;
                scope.spawn(move || {
                    for seq in 0..1000 {
                        let mut batch = vec![put(shard, seq)];
                        while let Err(back) = writer.submit(batch) {
                            batch = back;
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        writer.shutdown();
        drop(writer);
        let mut next = [0; 4];
        for (shard, ticket, answer) in receive {
            assert!(matches!(answer, StoreAnswer::Saved(_)));
            assert_eq!(ticket, next[usize::from(shard)]);
            next[usize::from(shard)] += 1;
        }
        assert_eq!(next, [1000; 4]);
    }

    #[test]
    fn what_was_answered_is_seen_by_a_later_read() {
        let (_, writer, receive) = start(WriterSettings::default());
        for seq in 1..200 {
            writer.submit(vec![put(1, seq)]).unwrap();
            assert!(matches!(receive.recv().unwrap(), (1, _, StoreAnswer::Saved(_))));
            writer.submit(vec![load(1, 0)]).unwrap();
            let StoreAnswer::User(record) = receive.recv().unwrap().2 else { panic!() };
            assert_eq!((record.queues[0].count, record.queues[0].last_seq), (seq, seq));
        }
    }

    #[test]
    fn a_mixed_batch_is_parted() {
        let (_, writer, receive) = start(WriterSettings::default());
        writer.submit(vec![load(2, 8), put(2, 9)]).unwrap();
        let mut tickets = [receive.recv().unwrap().1, receive.recv().unwrap().1];
        tickets.sort_unstable();
        assert_eq!(tickets, [8, 9]);
    }

    #[test]
    fn a_failed_commit_fails_its_ops_and_no_others() {
        let (store, writer, receive) = start(WriterSettings::default());
        store.fail_commit(0, StoreError::Io("cable".into()));
        writer.submit(vec![put(1, 1), put(2, 2)]).unwrap();
        for _ in 0..2 {
            assert!(matches!(receive.recv().unwrap().2, StoreAnswer::Failed(StoreError::Io(_))));
        }
        writer.submit(vec![put(1, 3)]).unwrap();
        assert!(matches!(receive.recv().unwrap().2, StoreAnswer::Saved(_)));
    }

    #[test]
    fn a_full_queue_and_a_closed_one_give_the_batch_back() {
        let lane = Lane::new(1);
        assert_eq!(lane.push(vec![put(1, 1)]), Ok(()));
        assert_eq!(lane.push(vec![put(1, 2)]), Err(vec![put(1, 2)]));
        let (_, writer, _receive) = start(WriterSettings::default());
        writer.shutdown();
        assert_eq!(writer.submit(vec![put(1, 1), load(1, 2)]).unwrap_err().len(), 2);
    }

    #[test]
    fn a_relaxed_store_is_flushed_when_it_rests() {
        let flush_after = Some(Duration::from_millis(5));
        let (store, writer, receive) = start(WriterSettings { flush_after, ..Default::default() });
        store.relax();
        writer.submit(vec![put(1, 1)]).unwrap();
        receive.recv().unwrap();
        for _ in 0..1000 {
            thread::sleep(Duration::from_millis(5));
            if store.crash_keeping(usize::MAX) == 0 && store.mail_count() == 1 {
                break;
            }
        }
        store.crash();
        assert_eq!(store.mail_count(), 1);
    }
}
