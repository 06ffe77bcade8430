//! What the owner shard knows of one user: account, sessions, queues.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::input::ConnId;
use super::lists::Listed;
use super::papers::Papers;
use super::rate::Bucket;
use super::session::ANY_DEVICE;
use crate::base::table::Set;
use crate::crypto::identity::Proven;
use crate::proto::content::seconds;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::meta::Meta;
use crate::store::{QueueSummary, StoreAnswer, UserRecord};

/// Login records kept per user, one a device, newest first (station.md 2.5).
pub(super) const LOGINS_MAX: usize = 8;

/// Seconds until a login record says nothing any more about where its user is.
const LOGIN_S_MAX: f64 = 7.0 * 86_400.0;

#[derive(Debug)]
pub(super) struct User {
    pub(super) id: Id,
    pub(super) text: Arc<str>,
    pub(super) papers: Papers,
    pub(super) blocked: Listed,
    pub(super) muted: Listed,
    pub(super) sessions: Vec<ConnId>,
    pub(super) queues: Vec<Queue>,
    /// Whether something was stored when this was read: a new message may be one of those again.
    pub(super) had_mail: bool,
    /// Place of the newest message, in microseconds since 1970 where the clock allows.
    pub(super) last_seq: u64,
    /// Counts changes of the documents, so that ciphers made for older ones are renewed.
    pub(super) edition: u32,
    /// Notifications since the user was last here, as far as this station's memory goes.
    pub(super) badge: u64,
    pub(super) used_ms: u64,
    /// What is known of it is put away.
    pub(super) resting: bool,
    /// When the user last logged in here, in seconds since 1970; 0 if not since it was read.
    pub(super) here_s: f64,
    /// What has been used up of the user's rates.
    pub(super) messages: Bucket,
    pub(super) bytes: Bucket,
    pub(super) uploads: Bucket,
}

/// One device's stored mail, by its figures only.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) device: Arc<str>,
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Newest place that the store has been asked to keep, and that it has kept.
    pub(super) asked_seq: u64,
    pub(super) stored_seq: u64,
    /// Acknowledged by one session while another still has to get it: place and length.
    pub(super) deferred: Vec<(u64, usize)>,
    /// Acknowledged, but perhaps still in the store: a page that is read now may show them.
    gone: Set<u64>,
    /// The store was seen to have nothing before this place.
    empty_before: u64,
    /// Those of `gone` that the store has deleted while a page was being read.
    deleted: Vec<u64>,
    pages_asked: u32,
}

impl User {
    /// From what the store has. What is there was proven before it was stored; what cannot be
    /// read any more is left out and said so.
    pub(super) fn restore(id: Id, record: UserRecord, now_ms: u64) -> Self {
        let last_seq = record.queues.iter().map(|queue| queue.last_seq).max().unwrap_or(0);
        Self {
            text: id.shared_text(),
            blocked: Listed::restore(record.blocked.as_deref()),
            muted: Listed::restore(record.muted.as_deref()),
            papers: Papers::restore(
                id.clone(),
                record.meta.as_deref(),
                record.documents.as_deref(),
                record.logins.as_deref(),
            ),
            id,
            sessions: Vec::new(),
            had_mail: !record.queues.is_empty(),
            queues: record.queues.into_iter().map(Queue::restore).collect(),
            last_seq,
            edition: 0,
            badge: 0,
            used_ms: now_ms,
            resting: true,
            here_s: 0.0,
            messages: Bucket::default(),
            bytes: Bucket::default(),
            uploads: Bucket::default(),
        }
    }

    /// Replaces the account by what the store has.
    pub(super) fn take_account(&mut self, fresh: Self) {
        self.papers = fresh.papers;
        self.blocked = fresh.blocked;
        self.muted = fresh.muted;
        self.changed();
    }

    pub(super) fn set_meta(&mut self, meta: Proven<Meta>) -> Bytes {
        let text = Bytes::copy_from_slice(self.papers.set_meta(meta));
        self.changed();
        text
    }

    pub(super) fn set_documents(&mut self, documents: Vec<Proven<Document>>) {
        self.papers.set_documents(documents);
        self.changed();
    }

    fn changed(&mut self) {
        self.edition = self.edition.wrapping_add(1);
    }

    /// What people call the user: the name in its visa, else its ID.
    pub(super) fn called(&self) -> &str {
        let named =
            self.papers.documents().iter().find_map(|d| d.properties().get("name")?.as_str());
        named.filter(|name| !name.is_empty()).unwrap_or(&self.text)
    }

    /// The next place in this user's queues.
    pub(super) fn next_seq(&mut self, wall_us: u64) -> u64 {
        self.last_seq = wall_us.max(self.last_seq.saturating_add(1));
        self.last_seq
    }

    pub(super) fn queue(&mut self, device: &str) -> &mut Queue {
        let at = self.queues.iter().position(|queue| *queue.device == *device);
        let at = at.unwrap_or_else(|| {
            self.queues.push(Queue::new(device));
            self.queues.len() - 1
        });
        &mut self.queues[at]
    }

    /// The signed login messages that are not too old to be worth showing, newest first.
    pub(super) fn fresh_logins(&self, now_s: f64) -> Vec<Value> {
        let time = |record: &Value| {
            let received = record.get("received").and_then(Value::as_f64);
            received.or_else(|| record.get("cmd")?.get("time").and_then(seconds))
        };
        let fresh = |record: &&Value| time(record).is_some_and(|at| at >= now_s - LOGIN_S_MAX);
        self.papers
            .logins()
            .iter()
            .filter(fresh)
            .filter_map(|record| record.get("msg").cloned())
            .collect()
    }

    /// The newest login record that is worth something: its time in seconds since 1970, and the
    /// station that it names.
    pub(super) fn newest_login(&self, now_s: f64) -> Option<(f64, String)> {
        let read = |record: &Value| {
            let command = record.get("cmd")?;
            let station = command.get("station")?;
            let id = station.get("did").or_else(|| station.get("ID"))?.as_str()?;
            Some((command.get("time").and_then(seconds)?, id.to_owned()))
        };
        let newest =
            self.papers.logins().iter().filter_map(read).max_by(|a, b| a.0.total_cmp(&b.0));
        newest.filter(|(time, _)| *time >= now_s - LOGIN_S_MAX)
    }

    /// Whether nothing is lost when this entry is forgotten and read again when needed.
    pub(super) fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.queues.iter().all(Queue::is_idle)
    }

    /// Keeps a login record; answers whether it is newer than the one of that device.
    pub(super) fn keep_login(
        &mut self,
        command: &Map<String, Value>,
        message: Value,
        now_s: f64,
    ) -> bool {
        let device = |map: &Map<String, Value>| {
            map.get("terminal").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let time = |map: &Map<String, Value>| map.get("time").and_then(seconds).unwrap_or(0.0);
        let mut logins = self.papers.logins().to_vec();
        let old = logins.iter().position(|record| {
            record
                .get("cmd")
                .and_then(Value::as_object)
                .is_some_and(|c| device(c) == device(command))
        });
        if let Some(at) = old {
            let stored = logins.get(at).and_then(|r| r.get("cmd")).and_then(Value::as_object);
            if stored.is_some_and(|stored| time(stored) > time(command)) {
                return false;
            }
            logins.remove(at);
        }
        let record = serde_json::json!({"cmd": command, "msg": message, "received": now_s});
        logins.insert(0, record);
        logins.truncate(LOGINS_MAX);
        self.papers.set_logins(logins);
        true
    }
}

/// The device of a visa; empty when it names none.
pub(super) fn terminal_of(document: &Document) -> &str {
    document.terminal().unwrap_or_default()
}

impl Queue {
    fn new(device: &str) -> Self {
        Self {
            device: Arc::from(device),
            count: 0,
            bytes: 0,
            asked_seq: 0,
            stored_seq: 0,
            deferred: Vec::new(),
            gone: Set::default(),
            empty_before: 1,
            deleted: Vec::new(),
            pages_asked: 0,
        }
    }

    fn restore(summary: QueueSummary) -> Self {
        Self {
            count: summary.count,
            bytes: summary.bytes,
            asked_seq: summary.last_seq,
            stored_seq: summary.last_seq,
            ..Self::new(&summary.device)
        }
    }

    /// Whether nothing is under way that would be forgotten with it.
    fn is_idle(&self) -> bool {
        self.asked_seq == self.stored_seq
            && self.deferred.is_empty()
            && self.gone.is_empty()
            && self.pages_asked == 0
    }

    /// A message has been acknowledged: it is not to be given out again.
    pub(super) fn settle(&mut self, seq: u64) {
        self.gone.insert(seq);
    }

    pub(super) fn is_settled(&self, seq: u64) -> bool {
        self.gone.contains(&seq)
    }

    /// The store has deleted messages: pages asked for from now on do not show them.
    pub(super) fn confirm_deleted(&mut self, seqs: &[u64]) {
        self.deleted.extend(seqs);
        self.forget_deleted();
    }

    /// Whether there may be something in the store. The count alone is no proof of it: what two
    /// sessions acknowledge may have been taken off it twice.
    pub(super) fn may_hold(&self) -> bool {
        self.count > 0 || self.stored_seq >= self.empty_before
    }

    /// The places that a page asked for now shows for certain.
    pub(super) fn page_asked(&mut self, from: u64) -> Range<u64> {
        self.pages_asked += 1;
        from..self.stored_seq.saturating_add(1)
    }

    pub(super) fn page_answered(&mut self, span: &Range<u64>, answer: &StoreAnswer) {
        self.pages_asked = self.pages_asked.saturating_sub(1);
        let empty = matches!(answer, StoreAnswer::Page { mails, more: false } if mails.is_empty());
        if empty && span.start == 0 {
            self.empty_before = self.empty_before.max(span.end);
        }
    }

    /// Call when the messages of a page have been looked at.
    pub(super) fn forget_deleted(&mut self) {
        if self.pages_asked == 0 {
            for seq in self.deleted.drain(..) {
                self.gone.remove(&seq);
            }
        }
    }

    /// Takes a message off the figures.
    pub(super) fn forget(&mut self, bytes: usize) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        if self.count == 0 {
            self.bytes = 0;
        }
    }
}

/// Whether a queue's name is that of a device.
pub(super) fn is_device(name: &str) -> bool {
    !name.is_empty() && name != ANY_DEVICE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_page_says_nothing_of_what_was_stored_after_it_was_asked_for() {
        let mut queue = Queue::new(ANY_DEVICE);
        queue.stored_seq = 5;
        let span = queue.page_asked(0);
        queue.stored_seq = 8;
        queue.page_answered(&span, &StoreAnswer::Page { mails: Vec::new(), more: false });
        assert_eq!(span, 0..6);
        // Two acknowledgements of one message may have lowered the count twice.
        assert_eq!(queue.count, 0);
        assert!(queue.may_hold());
        let span = queue.page_asked(0);
        queue.page_answered(&span, &StoreAnswer::Page { mails: Vec::new(), more: false });
        assert!(!queue.may_hold());
    }
}
