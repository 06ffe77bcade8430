//! The reference store: ordered maps, and the faults that a simulation needs.
//!
//! It says by example what the ops mean; RocksDB is held to the same answers by a differential
//! test. It must never be used by a station, since it forgets.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::columns::MAIL;
use super::key::{self, AccountPart};
use super::op::{
    Durable, ExpiredQueue, Mail, QueueKey, QueueSummary, StoreAnswer, StoreOp, UserRecord,
};
use super::record::damaged;
use super::{Damage, EXPIRE_HEADS_MAX, Store, StoreError};

/// A store in memory, with faults on demand.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: BTreeMap<Vec<u8>, Bytes>,
    mails: BTreeMap<Vec<u8>, Mail>,
    expire_from: Vec<u8>,
    /// How to take back, last first, what no sync has covered yet.
    unsynced: Vec<Undo>,
    relaxed: bool,
    full: bool,
    op_fault: Option<(u64, StoreError)>,
    commit_fault: Option<(u64, StoreError)>,
    damage: Damage,
}

#[derive(Debug)]
enum Undo {
    Account(Vec<u8>, Option<Bytes>),
    Mail(Vec<u8>, Option<Mail>),
}

impl MemoryStore {
    /// An empty store that syncs each batch with a save in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops syncing, as the setting `sync = false` does; only [`StoreOp::Flush`] still syncs.
    pub fn relax(&self) {
        self.inner().relaxed = true;
    }

    /// Loses the power: everything since the last sync is undone.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Loses the power after the disk has, unasked, written the first `changes` of what was not
    /// synced. Returns how many were lost.
    pub fn crash_keeping(&self, changes: usize) -> usize {
        let mut inner = self.inner();
        inner.expire_from.clear();
        let kept = changes.min(inner.unsynced.len());
        let lost = inner.unsynced.split_off(kept);
        inner.unsynced.clear();
        let count = lost.len();
        for undo in lost.into_iter().rev() {
            inner.take_back(undo);
        }
        count
    }

    /// Makes the op after the next `after` ones fail alone with `error`, once.
    pub fn fail_op(&self, after: u64, error: StoreError) {
        self.inner().op_fault = Some((after, error));
    }

    /// Makes the commit after the next `after` ones fail as a whole with `error`, once.
    pub fn fail_commit(&self, after: u64, error: StoreError) {
        self.inner().commit_fault = Some((after, error));
    }

    /// Fills the disk, or makes room again. While full, saves fail; reads and deletes go on.
    pub fn set_full(&self, full: bool) {
        self.inner().full = full;
    }

    /// Damages one stored message, so that it is no longer served. Returns whether it was there.
    pub fn damage_mail(&self, queue: &QueueKey, seq: u64) -> bool {
        let mut inner = self.inner();
        let key = key::mail_key(queue, seq);
        let found = inner.mails.remove(&key).is_some();
        if found {
            inner.damage.note(damaged(MAIL, &key));
        }
        found
    }

    /// Messages in all queues.
    #[must_use]
    pub fn mail_count(&self) -> usize {
        self.inner().mails.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere is that thread's end; every change here leaves the maps whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn read(&self, op: &StoreOp) -> StoreAnswer {
        if !op.is_read() {
            return StoreAnswer::Failed(StoreError::Misused("only reads may be read"));
        }
        let mut inner = self.inner();
        match due(&mut inner.op_fault) {
            Some(error) => StoreAnswer::Failed(error),
            None => inner.apply(op),
        }
    }

    fn commit(&self, ops: &[StoreOp]) -> Result<Vec<StoreAnswer>, StoreError> {
        let mut inner = self.inner();
        if let Some(error) = due(&mut inner.commit_fault) {
            return Err(error);
        }
        let mut answers = Vec::with_capacity(ops.len());
        let mut sync = false;
        for op in ops {
            let answer = match due(&mut inner.op_fault) {
                Some(error) => StoreAnswer::Failed(error),
                None if inner.full && op.is_save() => StoreAnswer::Failed(StoreError::Full),
                None => inner.apply(op),
            };
            let saved = matches!(answer, StoreAnswer::Saved(_));
            sync |= saved && (!inner.relaxed || matches!(op, StoreOp::Flush));
            answers.push(answer);
        }
        if sync {
            inner.unsynced.clear();
        }
        Ok(answers)
    }

    fn damage(&self) -> Damage {
        self.inner().damage.clone()
    }
}

/// Counts a fault down; gives its error when it is due.
fn due(fault: &mut Option<(u64, StoreError)>) -> Option<StoreError> {
    match fault {
        Some((0, _)) => fault.take().map(|(_, error)| error),
        Some((left, _)) => {
            *left -= 1;
            None
        }
        None => None,
    }
}

impl Inner {
    fn apply(&mut self, op: &StoreOp) -> StoreAnswer {
        match op {
            StoreOp::Save { user, part, json } => self.save(user, *part, json),
            StoreOp::Enqueue { queue, seq, mail } => {
                let key = key::mail_key(queue, *seq);
                let old = self.mails.insert(key.clone(), mail.clone());
                self.unsynced.push(Undo::Mail(key, old));
                StoreAnswer::Saved(Durable::proven())
            }
            StoreOp::Delete { queue, seqs } => {
                for seq in seqs {
                    self.remove(key::mail_key(queue, *seq));
                }
                StoreAnswer::Deleted
            }
            StoreOp::LoadUser { user } => StoreAnswer::User(self.load(user)),
            StoreOp::Page { queue, from_seq, count_max, bytes_max } => {
                self.page(queue, *from_seq, *count_max, *bytes_max)
            }
            StoreOp::Expire { before_ms, limit } => self.expire(*before_ms, *limit),
            StoreOp::Flush => StoreAnswer::Saved(Durable::proven()),
        }
    }

    fn save(&mut self, user: &str, part: AccountPart, json: &Bytes) -> StoreAnswer {
        let key = key::account_key(user, part);
        let old = self.accounts.insert(key.clone(), json.clone());
        self.unsynced.push(Undo::Account(key, old));
        StoreAnswer::Saved(Durable::proven())
    }

    fn remove(&mut self, key: Vec<u8>) {
        if let Some(mail) = self.mails.remove(&key) {
            self.unsynced.push(Undo::Mail(key, Some(mail)));
        }
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Account(key, Some(json)) => drop(self.accounts.insert(key, json)),
            Undo::Account(key, None) => drop(self.accounts.remove(&key)),
            Undo::Mail(key, Some(mail)) => drop(self.mails.insert(key, mail)),
            Undo::Mail(key, None) => drop(self.mails.remove(&key)),
        }
    }

    fn load(&self, user: &str) -> UserRecord {
        let part = |part| self.accounts.get(&key::account_key(user, part)).cloned();
        let mut record = UserRecord {
            meta: part(AccountPart::Meta),
            documents: part(AccountPart::Documents),
            logins: part(AccountPart::Logins),
            blocked: part(AccountPart::Blocked),
            muted: part(AccountPart::Muted),
            queues: Vec::new(),
        };
        let (first, end) = key::user_range(user);
        for (key, mail) in self.mails.range(first..end) {
            let Ok((queue, seq)) = key::parse_mail_key(key) else {
                continue;
            };
            if record.queues.last().is_none_or(|last| last.device != queue.device) {
                record.queues.push(QueueSummary {
                    device: queue.device,
                    count: 0,
                    bytes: 0,
                    last_seq: 0,
                    digests: Vec::new(),
                });
            }
            if let Some(summary) = record.queues.last_mut() {
                summary.count += 1;
                summary.bytes += mail.body.len() as u64;
                summary.last_seq = seq;
                summary.digests.push(mail.digest);
            }
        }
        record
    }

    fn page(&self, queue: &QueueKey, from: u64, count_max: usize, bytes_max: usize) -> StoreAnswer {
        let (first, end) = key::queue_range(queue, from);
        let mut mails: Vec<(u64, Mail)> = Vec::new();
        let mut bytes = 0_usize;
        for (key, mail) in self.mails.range(first..end) {
            let Ok(seq) = key::seq_part(key) else {
                continue;
            };
            bytes = bytes.saturating_add(mail.body.len());
            if mails.len() >= count_max || (!mails.is_empty() && bytes > bytes_max) {
                return StoreAnswer::Page { mails, more: true };
            }
            mails.push((seq, mail.clone()));
        }
        StoreAnswer::Page { mails, more: false }
    }

    fn expire(&mut self, before_ms: u64, limit: usize) -> StoreAnswer {
        let mut queues: Vec<ExpiredQueue> = Vec::new();
        let mut gone = Vec::new();
        let from = std::mem::take(&mut self.expire_from);
        let mut done = true;
        for (looked, (key, mail)) in
            self.mails.range((Bound::Included(from), Bound::Unbounded)).enumerate()
        {
            if looked >= EXPIRE_HEADS_MAX || gone.len() >= limit {
                self.expire_from.clone_from(key);
                done = false;
                break;
            }
            if mail.received_ms >= before_ms {
                continue;
            }
            let Ok((queue, seq)) = key::parse_mail_key(key) else {
                continue;
            };
            let bytes = mail.body.len() as u64;
            match queues.last_mut() {
                Some(last) if last.queue == queue => {
                    last.seqs.push(seq);
                    last.bytes += bytes;
                }
                _ => queues.push(ExpiredQueue { queue, seqs: vec![seq], bytes }),
            }
            gone.push(key.clone());
        }
        for key in gone {
            self.remove(key);
        }
        StoreAnswer::Expired { queues, done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(user: &str) -> QueueKey {
        QueueKey { user: user.into(), device: "pad".into() }
    }

    fn mail(received_ms: u64) -> Mail {
        Mail { received_ms, digest: [1; 16], body: Bytes::from_static(b"hello") }
    }

    fn put(user: &str, seq: u64) -> StoreOp {
        StoreOp::Enqueue { queue: queue(user), seq, mail: mail(seq) }
    }

    fn page(
        store: &MemoryStore,
        from_seq: u64,
        count_max: usize,
        bytes_max: usize,
    ) -> (Vec<u64>, bool) {
        match store.read(&StoreOp::Page { queue: queue("hulk"), from_seq, count_max, bytes_max }) {
            StoreAnswer::Page { mails, more } => (mails.iter().map(|mail| mail.0).collect(), more),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_ends_at_its_bounds_but_gives_one() {
        let store = MemoryStore::new();
        store.commit(&[put("hulk", 1), put("hulk", 2), put("hulk", 3), put("moki", 2)]).unwrap();
        assert_eq!(page(&store, 0, 9, 99), (vec![1, 2, 3], false));
        assert_eq!(page(&store, 2, 9, 99), (vec![2, 3], false));
        assert_eq!(page(&store, 0, 2, 99), (vec![1, 2], true));
        assert_eq!(page(&store, 0, 9, 10), (vec![1, 2], true));
        assert_eq!(page(&store, 0, 9, 1), (vec![1], true));
        assert_eq!(page(&store, 0, 0, 99), (vec![], true));
        assert_eq!(page(&store, 4, 9, 99), (vec![], false));
    }

    #[test]
    fn a_crash_keeps_what_was_saved_and_may_bring_back_what_was_deleted() {
        let store = MemoryStore::new();
        store.commit(&[put("hulk", 1), put("hulk", 2)]).unwrap();
        store.commit(&[StoreOp::Delete { queue: queue("hulk"), seqs: vec![1, 2, 7] }]).unwrap();
        assert_eq!(store.mail_count(), 0);
        assert_eq!(store.crash_keeping(1), 1);
        assert_eq!(page(&store, 0, 9, 99).0, [2]);
        store.relax();
        store.commit(&[put("hulk", 3)]).unwrap();
        store.crash();
        assert_eq!(page(&store, 0, 9, 99).0, [2]);
        store.commit(&[put("hulk", 4), StoreOp::Flush]).unwrap();
        store.crash();
        assert_eq!(page(&store, 0, 9, 99).0, [2, 4]);
    }

    #[test]
    fn faults_hit_the_op_or_commit_that_was_named() {
        let store = MemoryStore::new();
        store.fail_op(1, StoreError::Closed);
        let answers = store.commit(&[put("hulk", 1), put("hulk", 2), put("hulk", 3)]).unwrap();
        assert_eq!(answers[1], StoreAnswer::Failed(StoreError::Closed));
        assert_eq!(page(&store, 0, 9, 99).0, [1, 3]);
        store.fail_commit(0, StoreError::Full);
        assert_eq!(store.commit(&[put("hulk", 4)]), Err(StoreError::Full));
        store.set_full(true);
        let delete = StoreOp::Delete { queue: queue("hulk"), seqs: vec![1] };
        let answers = store.commit(&[put("hulk", 5), delete]).unwrap();
        assert_eq!(answers, [StoreAnswer::Failed(StoreError::Full), StoreAnswer::Deleted]);
        assert_eq!(page(&store, 0, 9, 99).0, [3]);
        assert!(store.damage_mail(&queue("hulk"), 3));
        assert_eq!((store.damage().count, page(&store, 0, 9, 99).0.len()), (1, 0));
    }

    #[test]
    fn expiry_goes_on_where_it_stopped_and_begins_again() {
        let store = MemoryStore::new();
        let ops: Vec<_> = (1..=3).flat_map(|seq| [put("hulk", seq), put("moki", seq)]).collect();
        store.commit(&ops).unwrap();
        let step =
            || match store.commit(&[StoreOp::Expire { before_ms: 3, limit: 3 }]).unwrap().pop() {
                Some(StoreAnswer::Expired { queues, done }) => (
                    queues
                        .iter()
                        .map(|q| (q.queue.user.to_string(), q.seqs.clone(), q.bytes))
                        .collect::<Vec<_>>(),
                    done,
                ),
                other => panic!("{other:?}"),
            };
        assert_eq!(
            step(),
            (vec![("hulk".into(), vec![1, 2], 10), ("moki".into(), vec![1], 5)], false)
        );
        assert_eq!(step(), (vec![("moki".into(), vec![2], 5)], true));
        assert_eq!(step(), (vec![], true));
        assert_eq!(store.mail_count(), 2);
    }

    #[test]
    fn a_summary_counts_by_device() {
        let store = MemoryStore::new();
        let user: std::sync::Arc<str> = "hulk".into();
        let json = Bytes::from_static(b"{}");
        store
            .commit(&[
                put("hulk", 1),
                put("hulk", 2),
                put("hul", 1),
                StoreOp::Save { user: user.clone(), part: AccountPart::Logins, json: json.clone() },
            ])
            .unwrap();
        let StoreAnswer::User(record) = store.read(&StoreOp::LoadUser { user }) else { panic!() };
        assert_eq!((record.meta, record.documents, record.logins), (None, None, Some(json)));
        assert_eq!(record.queues.len(), 1);
        assert_eq!(
            (record.queues[0].count, record.queues[0].bytes, record.queues[0].last_seq),
            (2, 10, 2)
        );
        assert!(matches!(store.read(&StoreOp::Flush), StoreAnswer::Failed(StoreError::Misused(_))));
    }
}
