//! Writing: ops become one batch, and one sync stands behind all their answers.

use std::mem;

use rocksdb::{WriteBatch, WriteOptions};

use super::view::{Sighting, View};
use crate::store::key::{self, AccountPart};
use crate::store::op::{Durable, ExpiredQueue, Mail, QueueKey, StoreAnswer, StoreOp};
use crate::store::record::{self, Head};
use crate::store::{EXPIRE_HEADS_MAX, StoreError};

/// A commit in the making. Its answers may be given away only after [`Draft::finish`].
pub(super) struct Draft<'a> {
    view: &'a View<'a>,
    batch: WriteBatch,
    /// Changes of mail by key; nothing is a deletion. They go into the batch in the keys' order:
    /// neighbours in a table in memory are found in a warm cache.
    mails: Vec<(Vec<u8>, Option<Records>)>,
    /// Whether saves are to be synced at all.
    syncing: bool,
    full: bool,
    /// Whether something in this commit asks for the sync.
    sync: bool,
    expire_from: &'a mut Vec<u8>,
    seen: Vec<Sighting>,
}

/// A message as it is stored.
struct Records {
    body: Vec<u8>,
    head: Vec<u8>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        view: &'a View<'a>,
        syncing: bool,
        full: bool,
        expire_from: &'a mut Vec<u8>,
    ) -> Self {
        let (batch, mails) = (WriteBatch::default(), Vec::new());
        Self { view, batch, mails, syncing, full, sync: false, expire_from, seen: Vec::new() }
    }

    /// Adds an op and gives the answer that it will have if the commit succeeds.
    pub(super) fn carry_out(&mut self, op: &StoreOp) -> Result<StoreAnswer, StoreError> {
        if self.full && op.is_save() {
            return Ok(StoreAnswer::Failed(StoreError::Full));
        }
        match op {
            StoreOp::Save { user, part, json } => self.save(user, *part, json),
            StoreOp::Enqueue { queue, seq, mail } => self.enqueue(queue, *seq, mail),
            StoreOp::Delete { queue, seqs } => {
                for seq in seqs {
                    self.mails.push((key::mail_key(queue, *seq), None));
                }
                Ok(StoreAnswer::Deleted)
            }
            // What cannot be read fails alone; it is no reason not to save the rest.
            StoreOp::Expire { before_ms, limit } => {
                self.write(false)?;
                Ok(self.expire(*before_ms, *limit).unwrap_or_else(StoreAnswer::Failed))
            }
            StoreOp::LoadUser { .. } | StoreOp::Page { .. } => {
                self.write(false)?;
                let answer = self.view.answer(op, &mut self.seen);
                Ok(answer.unwrap_or_else(StoreAnswer::Failed))
            }
            StoreOp::Flush => {
                self.sync = true;
                Ok(StoreAnswer::Saved(Durable::proven()))
            }
        }
    }

    /// Writes and syncs; gives what was met damaged on the way.
    pub(super) fn finish(mut self) -> Result<Vec<Sighting>, StoreError> {
        if self.sync && self.batch.is_empty() && self.mails.is_empty() {
            // What there was has been written already, for the sake of a read in between.
            self.view.db.flush_wal(true).map_err(|error| self.view.fault(&error))?;
        } else {
            self.write(self.sync)?;
        }
        Ok(self.seen)
    }

    /// Without `sync` the batch only becomes visible to reads of this commit; the sync at the end
    /// covers it, as it covers all of the log.
    fn write(&mut self, sync: bool) -> Result<(), StoreError> {
        self.sort_in();
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let batch = mem::take(&mut self.batch);
        self.view.db.write_opt(batch, &options).map_err(|error| self.view.fault(&error))
    }

    fn save(
        &mut self,
        user: &str,
        part: AccountPart,
        json: &[u8],
    ) -> Result<StoreAnswer, StoreError> {
        let key = key::account_key(user, part);
        self.batch.put_cf(self.view.account, &key, record::encode_account(&key, json)?);
        self.sync |= self.syncing;
        Ok(StoreAnswer::Saved(Durable::proven()))
    }

    fn enqueue(
        &mut self,
        queue: &QueueKey,
        seq: u64,
        mail: &Mail,
    ) -> Result<StoreAnswer, StoreError> {
        let key = key::mail_key(queue, seq);
        let body = record::encode_mail(&key, mail)?;
        let head = record::encode_head(&key, &Head::of(mail))?;
        self.mails.push((key, Some(Records { body, head })));
        self.sync |= self.syncing;
        Ok(StoreAnswer::Saved(Durable::proven()))
    }

    /// Changes of the same key stay in their order.
    fn sort_in(&mut self) {
        self.mails.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (key, kept) in &self.mails {
            match kept {
                Some(records) => self.batch.put_cf(self.view.mail, key, &records.body),
                None => self.batch.delete_cf(self.view.mail, key),
            }
        }
        for (key, kept) in self.mails.drain(..) {
            match kept {
                Some(records) => self.batch.put_cf(self.view.head, key, records.head),
                None => self.batch.delete_cf(self.view.head, key),
            }
        }
    }

    fn expire(&mut self, before_ms: u64, limit: usize) -> Result<StoreAnswer, StoreError> {
        let from = mem::take(self.expire_from);
        let mut queues: Vec<ExpiredQueue> = Vec::new();
        let mut gone: Vec<Vec<u8>> = Vec::new();
        let mut next = None;
        let mut looked = 0_usize;
        let mut seen = mem::take(&mut self.seen);
        self.view.walk_heads(&from, &mut seen, |key, head| {
            if looked >= EXPIRE_HEADS_MAX || gone.len() >= limit {
                next = Some(key.to_vec());
                return false;
            }
            looked += 1;
            let Some(head) = head.filter(|head| head.received_ms < before_ms) else {
                return true;
            };
            let Ok((queue, seq)) = key::parse_mail_key(key) else {
                return true;
            };
            match queues.last_mut() {
                Some(last) if last.queue == queue => {
                    last.seqs.push(seq);
                    last.bytes = last.bytes.saturating_add(head.bytes);
                }
                _ => queues.push(ExpiredQueue { queue, seqs: vec![seq], bytes: head.bytes }),
            }
            gone.push(key.to_vec());
            true
        })?;
        self.seen = seen;
        self.mails.extend(gone.into_iter().map(|key| (key, None)));
        let done = next.is_none();
        *self.expire_from = next.unwrap_or_default();
        Ok(StoreAnswer::Expired { queues, done })
    }
}
