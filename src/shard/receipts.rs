//! Receipts of a burst, gathered: one signed answer for all of them, since the signature is the
//! most that a relayed message costs.
//!
//! Nothing is owed to who waits: the transport's acknowledgement goes at once, the first receipt
//! after a while goes at once, and a sender that was seen to wait for its receipts before it goes
//! on gets each at once for a while, whenever nothing else of it is on its way.

use super::Shard;
use super::effect::Outbox;
use super::input::{ConnId, Outcome, ReplyTo};
use super::ticket::{Echo, Reply, Sink};
use crate::proto::command::{News, Stamp, write_array_head, write_receipt};
use crate::proto::content::kind;
use crate::wire::Framing;

/// Receipts in one array; with this many it goes before its time.
const GATHERED_MAX: usize = 64;
/// Milliseconds without gathering after a wait in which no second receipt came.
const EAGER_MS: u64 = 1_000;
/// About what a receipt takes.
const RECEIPT_BYTES: usize = 1_100;

/// What a session has of receipts.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// An array that is not ended yet; empty while there are none.
    text: String,
    /// Where its first receipt begins.
    from: usize,
    count: usize,
    /// Whether the shard will come back to it.
    queued: bool,
    /// Receipts since the shard was asked to.
    awaited: usize,
    /// When the last receipt went, if one did.
    last_ms: Option<u64>,
    /// Until when each goes at once.
    eager_ms: u64,
}

impl Gathered {
    /// Whether nothing is remembered here that matters later.
    pub(super) fn is_spent(&self, now_ms: u64) -> bool {
        self.count == 0 && !self.queued && self.eager_ms <= now_ms
    }

    /// Whether what waits here is not forgotten.
    pub(super) fn is_sound(&self) -> bool {
        self.queued || self.count == 0
    }
}

impl Shard {
    /// Tells a sender that a message is safe, by a receipt that may wait for others; false if it
    /// has to be told in another way.
    pub(super) fn give_news(
        &mut self,
        reply: ReplyTo,
        outcome: &Outcome,
        out: &mut Outbox,
    ) -> bool {
        let news = match outcome {
            Outcome::Redirected { neighbor } => News::Redirected(neighbor.as_str()),
            Outcome::Delivered { recipient } => News::Delivered(recipient.as_str()),
            Outcome::Cached => News::Cached,
            _ => return false,
        };
        *match news {
            News::Redirected(_) => &mut self.stats.redirected,
            News::Delivered(_) => &mut self.stats.delivered,
            News::Cached => &mut self.stats.cached,
        } += 1;
        let owed = self.replies.get(&reply.ticket).is_some_and(|owed| self.may_gather(owed));
        let Some(owed) = owed.then(|| self.replies.remove(&reply.ticket)).flatten() else {
            return false;
        };
        self.calm(owed.conn, owed.bytes, out);
        self.acknowledge(owed.conn, owed.ack, out);
        if let Echo::Relayed(origin) = owed.origin {
            let group = owed.group.as_deref();
            let write = |text: &mut String, stamp| write_receipt(text, stamp, news, group, &origin);
            self.gather(owed.conn, write, out);
        }
        true
    }

    /// Whether a receipt may go with others: only in framings whose clients all read arrays, only to
    /// the session's own user, and only if nothing else holds the answer back.
    fn may_gather(&self, owed: &Reply) -> bool {
        let plain = matches!(owed.origin, Echo::Relayed(_)) && owed.sink == Sink::Conn;
        if !plain || owed.left != 1 || owed.failed || self.stopping || self.is_neighbor(&owed.user)
        {
            return false;
        }
        self.sessions.get(&owed.conn).is_some_and(|session| {
            session.deframer.framing() == Some(Framing::Mtp)
                && session.user.as_ref() == Some(&owed.user)
        })
    }

    /// Gives a receipt, now or with others.
    fn gather(&mut self, conn: ConnId, write: impl FnOnce(&mut String, Stamp), out: &mut Outbox) {
        let (now_ms, span_ms) = (self.now.mono_ms, self.policy.receipts_ms);
        let (stamp, head) = (self.stamp(), self.stamp());
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let (gathered, more) =
            (session.receipts.get_or_insert_default(), session.waiting_bytes > 0);
        let first = gathered.last_ms.is_none_or(|last_ms| last_ms + span_ms <= now_ms)
            || (now_ms < gathered.eager_ms && !more);
        if gathered.count == 0 && (first || span_ms == 0) {
            gathered.last_ms = Some(now_ms);
            let mut text = String::with_capacity(RECEIPT_BYTES);
            write(&mut text, stamp);
            return self.tell_here(conn, (kind::COMMAND, &text), out);
        }
        if gathered.count == 0 {
            gathered.text.reserve(4 * RECEIPT_BYTES);
            write_array_head(&mut gathered.text, head);
            gathered.from = gathered.text.len();
        } else {
            gathered.text.push(',');
        }
        gathered.count += 1;
        gathered.awaited += 1;
        write(&mut gathered.text, stamp);
        let full = gathered.count >= GATHERED_MAX;
        if !std::mem::replace(&mut gathered.queued, true) {
            self.due_receipts.push_back((now_ms + span_ms, conn));
        }
        if full {
            self.give_receipts(conn, out);
        }
    }

    /// Gives what has been gathered for long enough.
    pub(super) fn receipts_due(&mut self, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        while let Some((due, conn)) = self.due_receipts.front().copied() {
            if due > now_ms {
                return;
            }
            self.due_receipts.pop_front();
            let Some(session) = self.sessions.get_mut(&conn) else { continue };
            if let Some(gathered) = &mut session.receipts {
                gathered.queued = false;
                // What was gathered before and went as it became full counts too, and who has more
                // on the way does not wait.
                if std::mem::take(&mut gathered.awaited) == 1 && session.waiting_bytes == 0 {
                    gathered.eager_ms = now_ms + EAGER_MS;
                }
            }
            self.give_receipts(conn, out);
        }
    }

    /// Gives what has been gathered.
    pub(super) fn give_receipts(&mut self, conn: ConnId, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let session = self.sessions.get_mut(&conn);
        let Some(gathered) = session.and_then(|session| session.receipts.as_mut()) else { return };
        gathered.last_ms = Some(now_ms);
        let mut text = std::mem::take(&mut gathered.text);
        match std::mem::take(&mut gathered.count) {
            0 => {}
            1 => {
                let one = text.get(gathered.from..).unwrap_or_default();
                self.tell_here(conn, (kind::COMMAND, one), out);
            }
            _ => {
                text.push_str("]}");
                self.tell_here(conn, (kind::ARRAY, &text), out);
            }
        }
    }

    /// Says something to the session's user.
    fn tell_here(&mut self, conn: ConnId, content: (u32, &str), out: &mut Outbox) {
        let user = self.sessions.get(&conn).and_then(|session| session.user.clone());
        let body = user.and_then(|user| self.sealed_text(conn, &user, content, false));
        if let Some(body) = body {
            self.send_message(conn, body, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::effect::Effect;
    use super::super::ring::{Ring, ShardIndex};
    use super::super::session::Session;
    use super::super::tests::station;
    use super::super::user::User;
    use super::super::{Input, Policy};
    use super::*;
    use crate::base::time::Now;
    use crate::proto::directory::Ans;
    use crate::proto::json;
    use crate::store::UserRecord;
    use crate::wire::{DeframeLimits, Deframer};

    const CONN: ConnId = ConnId(1);

    /// A shard with one user; the station's own account serves for that.
    fn shard() -> Shard {
        let (station, policy) = (Arc::new(station()), Arc::new(Policy::default()));
        let id = station.id.naked();
        let documents = serde_json::Value::Array(vec![station.visa.clone().into()]);
        let record = UserRecord {
            meta: Some(json::write_object(&station.meta).into()),
            documents: Some(documents.to_string().into()),
            ..UserRecord::default()
        };
        let index = ShardIndex(0);
        let mut shard =
            Shard::new(index, Ring::new(1), station, policy, Arc::new(Ans::default()), 1);
        let mut user = User::restore(id.clone(), record, 0);
        user.sessions.push(CONN);
        shard.users.insert(id.clone(), Box::new(user));
        let limits = DeframeLimits::default();
        let mut session = Session::new(([127, 0, 0, 1], 1).into(), [1; 32], limits, 0);
        session.deframer = Deframer::mtp_client(limits);
        session.user = Some(id);
        shard.sessions.insert(CONN, Box::new(session));
        shard
    }

    /// Messages that go out when so many receipts become ready at a time.
    fn ready(shard: &mut Shard, at_ms: u64, receipts: usize) -> usize {
        let mut out = Vec::new();
        shard.now = Now { mono_ms: at_ms, wall_us: at_ms * 1000 };
        for _ in 0..receipts {
            shard.gather(
                CONN,
                |text, stamp| text.push_str(&format!("{{\"sn\":{}}}", stamp.sn)),
                &mut out,
            );
        }
        shard.handle(shard.now, Input::Tick, &mut out);
        shard.check();
        // Each is a head and a body.
        out.iter().filter(|effect| matches!(effect, Effect::Send { .. })).count() / 2
    }

    #[test]
    fn the_first_receipt_goes_at_once_and_the_rest_of_a_burst_together() {
        let mut shard = shard();
        assert_eq!(ready(&mut shard, 1_000, 30), 1, "the first");
        assert_eq!(shard.next_deadline(), Some(1_100));
        assert_eq!(ready(&mut shard, 1_099, 33), 0);
        assert_eq!(ready(&mut shard, 1_099, 1), 0);
        assert_eq!(ready(&mut shard, 1_099, 1), 1, "as many as go into one");
        assert_eq!(ready(&mut shard, 1_100, 5), 1, "in their time");
        assert_eq!(ready(&mut shard, 1_150, 3), 0);
        assert_eq!(ready(&mut shard, 1_300, 0), 1, "at the latest");
        assert_eq!(ready(&mut shard, 5_000, 1), 1, "after a while the first one again");
        assert_eq!(shard.due_receipts.len(), 0);
    }

    #[test]
    fn who_waits_for_each_receipt_gets_each_at_once() {
        let mut shard = shard();
        assert_eq!(ready(&mut shard, 1_000, 1), 1);
        assert_eq!(ready(&mut shard, 1_001, 1), 0, "perhaps there are more");
        assert_eq!(ready(&mut shard, 1_101, 0), 1, "there were none");
        for at_ms in 1_102..1_200 {
            assert_eq!(ready(&mut shard, at_ms, 1), 1);
        }
        assert_eq!(ready(&mut shard, 2_101, 20), 1, "the others are gathered again after a second");
        assert_eq!(ready(&mut shard, 2_201, 0), 1);
        assert_eq!(ready(&mut shard, 2_202, 5), 0, "it does not wait any more");
    }

    #[test]
    fn one_that_is_left_over_by_full_arrays_is_not_waited_for() {
        let mut shard = shard();
        assert_eq!(ready(&mut shard, 1_000, 1), 1);
        assert_eq!(ready(&mut shard, 1_001, 65), 1, "a full one");
        assert_eq!(ready(&mut shard, 1_101, 0), 1, "the one left over");
        assert_eq!(ready(&mut shard, 1_102, 20), 0, "it is a burst all the same");
    }

    #[test]
    fn a_sender_with_more_on_the_way_does_not_wait_for_a_receipt() {
        let mut shard = shard();
        let waiting = |shard: &mut Shard, bytes| {
            shard.sessions.get_mut(&CONN).unwrap().waiting_bytes = bytes;
        };
        waiting(&mut shard, 10_000);
        assert_eq!(ready(&mut shard, 1_000, 1), 1);
        assert_eq!(ready(&mut shard, 1_001, 1), 0);
        assert_eq!(ready(&mut shard, 1_101, 0), 1, "the only one in its time");
        assert_eq!(ready(&mut shard, 1_102, 1), 0, "but others were under way");
        waiting(&mut shard, 0);
        assert_eq!(ready(&mut shard, 1_202, 0), 1);
        assert_eq!(ready(&mut shard, 1_203, 1), 1, "now it waits for each");
        waiting(&mut shard, 10_000);
        assert_eq!(ready(&mut shard, 1_204, 5), 0, "until it sends without waiting");
    }
}
