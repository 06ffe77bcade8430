//! Reading: accounts, summaries and pages, around whatever is damaged.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, DBRawIterator, ErrorKind, ReadOptions, WriteBatch};

use super::fault;
use crate::store::columns::{ACCOUNT, Column, DAMAGED, HEAD, MAIL};
use crate::store::key::{self, AccountPart};
use crate::store::op::{Mail, QueueKey, QueueSummary, StoreAnswer, StoreOp, UserRecord};
use crate::store::record::{self, Head};
use crate::store::{StoreError, record::damaged};

/// Something damaged that a read has met.
pub(super) enum Sighting {
    /// One record.
    Record(Column, Vec<u8>),
    /// Somewhere behind this key; RocksDB does not say where.
    Behind(Column, Vec<u8>),
}

/// An open database with its families looked up.
pub(super) struct View<'a> {
    pub(super) db: &'a DB,
    pub(super) account: &'a ColumnFamily,
    pub(super) head: &'a ColumnFamily,
    pub(super) mail: &'a ColumnFamily,
    damaged: &'a ColumnFamily,
}

/// Why a walk over keys ended early.
enum Halt {
    /// RocksDB met a block that fails its checksum.
    Damaged,
    Failed(StoreError),
}

/// A page in the making.
struct PageBound {
    count_max: usize,
    bytes_max: usize,
    bytes: usize,
    mails: Vec<(u64, Mail)>,
    more: bool,
}

impl PageBound {
    const fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { count_max, bytes_max, bytes: 0, mails: Vec::new(), more: false }
    }

    /// Whether another one may be looked at; if not, there is more.
    fn is_open(&mut self) -> bool {
        self.more |= self.mails.len() >= self.count_max;
        !self.more
    }

    fn take(&mut self, seq: u64, mail: Mail) {
        self.bytes = self.bytes.saturating_add(mail.body.len());
        if !self.mails.is_empty() && self.bytes > self.bytes_max {
            self.more = true;
        } else {
            self.mails.push((seq, mail));
        }
    }

    fn answer(self) -> StoreAnswer {
        StoreAnswer::Page { mails: self.mails, more: self.more }
    }
}

impl<'a> View<'a> {
    pub(super) fn of(db: &'a DB) -> Result<Self, StoreError> {
        let family = |column: Column| {
            db.cf_handle(column.name)
                .ok_or(StoreError::Misused("a column family of the table was not opened"))
        };
        Ok(Self {
            db,
            account: family(ACCOUNT)?,
            head: family(HEAD)?,
            mail: family(MAIL)?,
            damaged: family(DAMAGED)?,
        })
    }

    pub(super) fn fault(&self, error: &rocksdb::Error) -> StoreError {
        fault(self.db.path(), error)
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        for family in [self.account, self.head, self.mail, self.damaged] {
            self.db.flush_cf(family).map_err(|error| self.fault(&error))?;
        }
        Ok(())
    }

    pub(super) fn answer(
        &self,
        op: &StoreOp,
        seen: &mut Vec<Sighting>,
    ) -> Result<StoreAnswer, StoreError> {
        match op {
            StoreOp::LoadUser { user } => self.load(user, seen).map(StoreAnswer::User),
            StoreOp::Page { queue, from_seq, count_max, bytes_max } => {
                self.page(queue, *from_seq, || PageBound::new(*count_max, *bytes_max), seen)
            }
            _ => Err(StoreError::Misused("only reads may be read")),
        }
    }

    /// Users of whom something but mail is kept, in the keys' order, from behind `after` on.
    pub(super) fn users(
        &self,
        after: Option<&str>,
        count_max: usize,
    ) -> Result<Vec<Arc<str>>, StoreError> {
        let first = after.map(|user| key::user_range(user).1).unwrap_or_default();
        let mut users: Vec<Arc<str>> = Vec::new();
        let walked = self.walk(self.account, &first, None, false, |key, _| {
            let Ok((user, _)) = key::parse_account_key(key) else {
                return true;
            };
            if users.last() != Some(&user) {
                users.push(user);
            }
            users.len() <= count_max
        });
        users.truncate(count_max);
        match walked {
            Ok(()) => Ok(users),
            Err(Halt::Damaged) => Err(damaged(ACCOUNT, &first)),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn load(&self, user: &str, seen: &mut Vec<Sighting>) -> Result<UserRecord, StoreError> {
        Ok(UserRecord {
            meta: self.part(user, AccountPart::Meta, seen)?,
            documents: self.part(user, AccountPart::Documents, seen)?,
            logins: self.part(user, AccountPart::Logins, seen)?,
            blocked: self.part(user, AccountPart::Blocked, seen)?,
            muted: self.part(user, AccountPart::Muted, seen)?,
            queues: self.summaries(user, seen)?,
        })
    }

    fn part(
        &self,
        user: &str,
        part: AccountPart,
        seen: &mut Vec<Sighting>,
    ) -> Result<Option<Bytes>, StoreError> {
        let key = key::account_key(user, part);
        let found = match self.db.get_pinned_cf(self.account, &key) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => record::decode_account(&key, &bytes),
            Err(error) if is_damage(&error) => Err(damaged(ACCOUNT, &key)),
            Err(error) => return Err(self.fault(&error)),
        };
        // Without the part the user is still served: clients send theirs again when asked.
        found.map(Some).or_else(|_| {
            seen.push(Sighting::Record(ACCOUNT, key));
            Ok(None)
        })
    }

    fn summaries(
        &self,
        user: &str,
        seen: &mut Vec<Sighting>,
    ) -> Result<Vec<QueueSummary>, StoreError> {
        let (first, end) = key::user_range(user);
        let mut summaries = Summaries::default();
        let walked = self.walk(self.head, &first, Some(&end), true, |key, value| {
            match record::decode_head(key, value) {
                Ok(head) => summaries.add(key, &head),
                Err(_) => {
                    if let Some(head) = self.head_of_mail(key) {
                        summaries.add(key, &head);
                    }
                    seen.push(Sighting::Record(HEAD, key.to_vec()));
                }
            }
            true
        });
        match walked {
            Ok(()) => return Ok(summaries.all),
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::Damaged) => seen.push(Sighting::Behind(HEAD, first.clone())),
        }
        // The messages themselves tell the same, only slower.
        let mut summaries = Summaries::default();
        let walked = self.walk(self.mail, &first, Some(&end), false, |key, value| {
            match record::decode_mail(key, value) {
                Ok(mail) => summaries.add(key, &Head::of(&mail)),
                Err(_) => seen.push(Sighting::Record(MAIL, key.to_vec())),
            }
            true
        });
        match walked {
            Ok(()) => Ok(summaries.all),
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Damaged) => Err(damaged(MAIL, &first)),
        }
    }

    fn page(
        &self,
        queue: &QueueKey,
        from_seq: u64,
        empty: impl Fn() -> PageBound,
        seen: &mut Vec<Sighting>,
    ) -> Result<StoreAnswer, StoreError> {
        let (first, end) = key::queue_range(queue, from_seq);
        let mut page = empty();
        let walked = self.walk(self.mail, &first, Some(&end), false, |key, value| {
            if !page.is_open() {
                return false;
            }
            match (key::seq_part(key), record::decode_mail(key, value)) {
                (Ok(seq), Ok(mail)) => page.take(seq, mail),
                _ => seen.push(Sighting::Record(MAIL, key.to_vec())),
            }
            !page.more
        });
        match walked {
            Ok(()) => return Ok(page.answer()),
            Err(Halt::Failed(error)) => return Err(error),
            Err(Halt::Damaged) => {}
        }
        // A walk cannot step over a damaged block, but the heads say what lies behind it.
        let mut page = empty();
        let mut failed = None;
        let walked = self.walk(self.head, &first, Some(&end), true, |key, _| {
            if !page.is_open() {
                return false;
            }
            match (key::seq_part(key), self.mail_at(key)) {
                (Ok(seq), Ok(Some(mail))) => page.take(seq, mail),
                (_, Err(Halt::Damaged)) => seen.push(Sighting::Record(MAIL, key.to_vec())),
                (_, Err(Halt::Failed(error))) => failed = Some(error),
                _ => {}
            }
            failed.is_none() && !page.more
        });
        match (walked, failed) {
            (Ok(()), None) => Ok(page.answer()),
            (Err(Halt::Damaged), _) => Err(damaged(HEAD, &first)),
            (Err(Halt::Failed(error)), _) | (_, Some(error)) => Err(error),
        }
    }

    fn mail_at(&self, key: &[u8]) -> Result<Option<Mail>, Halt> {
        match self.db.get_pinned_cf(self.mail, key) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => {
                record::decode_mail(key, &bytes).map(Some).map_err(|_| Halt::Damaged)
            }
            Err(error) => Err(self.halt(&error)),
        }
    }

    fn head_of_mail(&self, key: &[u8]) -> Option<Head> {
        self.mail_at(key).ok().flatten().map(|mail| Head::of(&mail))
    }

    /// Calls `each` with keys and values in order until it says no. `cached` keeps the blocks for
    /// the next reader; bodies are read once and would only push out what is of use.
    fn walk(
        &self,
        family: &ColumnFamily,
        first: &[u8],
        end: Option<&[u8]>,
        cached: bool,
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), Halt> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        options.fill_cache(cached);
        let mut at: DBRawIterator<'_> = self.db.raw_iterator_cf_opt(family, options);
        at.seek(first);
        while let Some((key, value)) = at.item() {
            if !each(key, value) {
                return Ok(());
            }
            at.next();
        }
        at.status().map_err(|error| self.halt(&error))
    }

    /// Walks over heads for an expiry, over all users from `first` on. `None` in place of a head
    /// that is damaged, and for the rest if RocksDB cannot go on.
    pub(super) fn walk_heads(
        &self,
        first: &[u8],
        seen: &mut Vec<Sighting>,
        mut each: impl FnMut(&[u8], Option<Head>) -> bool,
    ) -> Result<(), StoreError> {
        let mut damaged = Vec::new();
        let walked = self.walk(self.head, first, None, false, |key, value| {
            let head = record::decode_head(key, value).ok();
            if head.is_none() {
                damaged.push(Sighting::Record(HEAD, key.to_vec()));
            }
            each(key, head)
        });
        seen.append(&mut damaged);
        match walked {
            Ok(()) => Ok(()),
            Err(Halt::Damaged) => {
                seen.push(Sighting::Behind(HEAD, first.to_vec()));
                Ok(())
            }
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn halt(&self, error: &rocksdb::Error) -> Halt {
        if is_damage(error) { Halt::Damaged } else { Halt::Failed(self.fault(error)) }
    }

    /// Puts a damaged record aside, with the writer's lock held. Gives the error that says so, or
    /// nothing if it is sound by now, gone, or was put aside before.
    pub(super) fn set_aside(
        &self,
        sighting: &Sighting,
    ) -> Result<Option<StoreError>, rocksdb::Error> {
        let (column, key, family) = match sighting {
            Sighting::Behind(column, key) => {
                return self.note(*column, key, &[], WriteBatch::default());
            }
            Sighting::Record(column, key) if *column == ACCOUNT => (*column, key, self.account),
            Sighting::Record(column, key) if *column == HEAD => (*column, key, self.head),
            Sighting::Record(column, key) => (*column, key, self.mail),
        };
        let found = match self.db.get_cf(family, key) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) if is_sound(column, key, &bytes) => return Ok(None),
            Ok(Some(bytes)) => Some(bytes),
            Err(error) if is_damage(&error) => None,
            Err(error) => return Err(error),
        };
        let mut batch = WriteBatch::default();
        if column == HEAD
            && let Some(head) = self.head_of_mail(key)
        {
            if let Ok(bytes) = record::encode_head(key, &head) {
                batch.put_cf(self.head, key, bytes);
            }
        } else if found.is_some() {
            batch.delete_cf(family, key);
        }
        if column == MAIL {
            // Not to be announced any more, as it cannot be delivered. A record in a damaged block
            // itself stays where it is: the next read of the disk may be luckier.
            batch.delete_cf(self.head, key);
        }
        self.note(column, key, found.as_deref().unwrap_or_default(), batch)
    }

    fn note(
        &self,
        column: Column,
        key: &[u8],
        found: &[u8],
        mut batch: WriteBatch,
    ) -> Result<Option<StoreError>, rocksdb::Error> {
        let aside = [column.name.as_bytes(), b":", key].concat();
        let known = self.db.get_pinned_cf(self.damaged, &aside)?.is_some();
        batch.put_cf(self.damaged, &aside, found);
        // No sync: if this is lost, the record is found damaged once more.
        self.db.write(batch)?;
        Ok((!known).then(|| damaged(column, key)))
    }
}

#[derive(Default)]
struct Summaries {
    all: Vec<QueueSummary>,
    queue: Vec<u8>,
}

impl Summaries {
    fn add(&mut self, key: &[u8], head: &Head) {
        let (Ok(queue), Ok(seq)) = (key::queue_part(key), key::seq_part(key)) else {
            return;
        };
        if self.all.is_empty() || self.queue != queue {
            let Ok((whole, _)) = key::parse_mail_key(key) else {
                return;
            };
            self.queue = queue.to_vec();
            self.all.push(QueueSummary {
                device: whole.device,
                count: 0,
                bytes: 0,
                last_seq: 0,
                digests: Vec::new(),
            });
        }
        if let Some(summary) = self.all.last_mut() {
            summary.count += 1;
            summary.bytes = summary.bytes.saturating_add(head.bytes);
            summary.last_seq = seq;
            summary.digests.push(head.digest);
        }
    }
}

fn is_damage(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::Corruption
}

fn is_sound(column: Column, key: &[u8], bytes: &[u8]) -> bool {
    if column == ACCOUNT {
        record::decode_account(key, bytes).is_ok()
    } else if column == HEAD {
        record::decode_head(key, bytes).is_ok()
    } else {
        record::decode_mail(key, bytes).is_ok()
    }
}
