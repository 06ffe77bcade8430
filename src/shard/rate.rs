//! How fast somebody may go, and what is refused before a connection ends.
//!
//! Too fast is no fault: reading stops until there is room again, and nothing is lost. Messages that
//! had to be refused are one: who sends many of them costs signature checks and says nothing.

use serde_json::json;

use super::Shard;
use super::effect::{Close, Effect, Outbox};
use super::input::ConnId;
use super::session::Session;
use crate::proto::command::{ReceiptText, receipt};

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// So many units a time, and so many at once. A `count` of 0 is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units in each `per_s` seconds.
    pub count: u64,
    /// Seconds.
    pub per_s: u64,
    /// Units that may come at once after a silence.
    pub burst: u64,
}

impl Rate {
    /// `count` a second, ten seconds' worth at once.
    pub const fn per_second(count: u64) -> Self {
        Self { count, per_s: 1, burst: count.saturating_mul(10) }
    }

    /// `count` in so many seconds, all of them at once.
    pub const fn within(count: u64, per_s: u64) -> Self {
        Self { count, per_s, burst: count }
    }

    const fn cost_ns(self, units: u64) -> u64 {
        let all = self.per_s.saturating_mul(NS_PER_S);
        match all.checked_mul(units) {
            Some(all) => all / self.count,
            None => (all / self.count).saturating_mul(units),
        }
    }
}

/// What has been used up of a rate, as the time at which all of it is free again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    free_ns: u64,
}

impl Bucket {
    /// Uses units up, more than there are if need be. Gives the milliseconds until there is room
    /// for more; none while there is.
    pub fn take(&mut self, rate: Rate, units: u64, now_ms: u64) -> Option<u64> {
        if rate.count == 0 {
            return None;
        }
        let now_ns = now_ms.saturating_mul(NS_PER_MS);
        self.free_ns = self.free_ns.max(now_ns).saturating_add(rate.cost_ns(units));
        let room_ns = now_ns.saturating_add(rate.cost_ns(rate.burst));
        let over_ns = self.free_ns.saturating_sub(room_ns);
        (over_ns > 0).then(|| over_ns.div_ceil(NS_PER_MS))
    }

    /// Uses a unit up if there is one.
    pub fn try_take(&mut self, rate: Rate, now_ms: u64) -> bool {
        let mut after = *self;
        let fits = after.take(rate, 1, now_ms).is_none();
        if fits {
            *self = after;
        }
        fits
    }

    /// Whether all of it is free.
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.free_ns <= now_ms.saturating_mul(NS_PER_MS)
    }
}

/// Why reading from a connection has stopped; it goes on when no reason is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Too much of it waits for an answer.
    Waiting = 1,
    /// Its user goes too fast.
    Pace = 2,
}

impl Shard {
    /// Stops reading for a reason.
    pub(super) fn pause(&mut self, conn: ConnId, why: Hold, out: &mut Outbox) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            if session.holds == 0 {
                out.push(Effect::Pause { conn });
            }
            session.holds |= why as u8;
        }
    }

    /// Takes a reason away.
    pub(super) fn resume(&mut self, conn: ConnId, why: Hold, out: &mut Outbox) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && session.holds & why as u8 != 0
        {
            session.holds &= !(why as u8);
            if session.holds == 0 {
                out.push(Effect::Resume { conn });
            }
        }
    }

    /// Counts a package of so many messages and bytes against the pace of its user, and stops reading when
    /// that was too much. Before the login it counts against what may come until then.
    pub(super) fn pace(&mut self, conn: ConnId, lines: usize, bytes: usize, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(&conn).filter(|session| !session.spared) else {
            return;
        };
        let Some(user) = session.user.as_ref().and_then(|user| self.users.get_mut(user)) else {
            session.early += 1;
            if session.early > self.policy.early_messages_max {
                self.stats.closed_no_login += 1;
                self.close(conn, Close::NoLogin, out);
            }
            return;
        };
        let messages = user.messages.take(self.policy.messages, lines.max(1) as u64, now_ms);
        let bytes = user.bytes.take(self.policy.bytes, bytes as u64, now_ms);
        if let Some(wait_ms) = messages.max(bytes) {
            self.stats.slowed += 1;
            self.pause(conn, Hold::Pace, out);
            self.due_paced.insert((now_ms + wait_ms, conn), ());
        }
    }

    /// Goes on with connections whose users have waited long enough.
    pub(super) fn pace_due(&mut self, out: &mut Outbox) {
        while let Some((due, conn)) = self.due_paced.keys().next().copied() {
            if due > self.now.mono_ms {
                return;
            }
            self.due_paced.remove(&(due, conn));
            self.resume(conn, Hold::Pace, out);
            self.deframe(conn, out);
        }
    }

    /// Counts a message that was refused; after too many of them the connection ends.
    pub(super) fn refused(&mut self, conn: ConnId, out: &mut Outbox) {
        let now_ms = self.now.mono_ms;
        let Some(session) = self.sessions.get_mut(&conn).filter(|session| !session.spared) else {
            return;
        };
        if session.refused.take(self.policy.refusals, 1, now_ms).is_none() || session.closing {
            return;
        }
        self.stats.closed_refused += 1;
        self.say_goodbye(conn, out);
        self.close(conn, Close::Refused, out);
    }

    /// Tells a logged-in user why the connection ends.
    fn say_goodbye(&mut self, conn: ConnId, out: &mut Outbox) {
        let user = self.sessions.get(&conn).and_then(|session| session.user.clone());
        let Some(user) = user else { return };
        let said = ReceiptText::new(
            "Connection closed.",
            "Connection closed: ${reason}.",
            json!({"reason": Close::Refused.word()}),
        );
        let content = receipt(self.stamp(), said, serde_json::Map::new());
        if let Some(bytes) = self.sealed(conn, &user, &content, false) {
            self.send_message(conn, bytes, out);
        }
    }

    /// Whether one more account of others may be brought by a session's user.
    pub(super) fn may_bring(&mut self, conn: ConnId) -> bool {
        let now_ms = self.now.mono_ms;
        if self.neighbor_on(conn).is_some() {
            return true;
        }
        let Some(session) = self.sessions.get(&conn) else { return false };
        let Some(user) = session.user.as_ref().and_then(|user| self.users.get_mut(user)) else {
            return false;
        };
        session.spared || user.uploads.try_take(self.policy.uploads, now_ms)
    }
}

impl Session {
    /// Whether nothing more is read, so that a frame that has begun cannot become whole.
    pub(super) fn is_held(&self) -> bool {
        self.holds != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_pace_holds() {
        let (rate, mut bucket) = (Rate::per_second(100), Bucket::default());
        for _ in 0..1000 {
            assert_eq!(bucket.take(rate, 1, 5000), None);
        }
        assert_eq!(bucket.take(rate, 1, 5000), Some(10));
        assert_eq!(bucket.take(rate, 1, 5020), None);
        assert_eq!(bucket.take(rate, 1, 5020), Some(10));
        assert_eq!(bucket.take(rate, 100_000, 5020), Some(1_000_010));
    }

    #[test]
    fn what_does_not_fit_is_not_counted() {
        let (rate, mut bucket) = (Rate::within(2, 60), Bucket::default());
        let tries = [0, 0, 0, 0].map(|now_ms| bucket.try_take(rate, now_ms));
        assert_eq!(tries, [true, true, false, false]);
        assert!(bucket.try_take(rate, 30_000) && !bucket.try_take(rate, 30_000));
        assert!(!bucket.is_full(60_000) && bucket.is_full(90_000));
    }

    #[test]
    fn no_bound_is_none() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(Rate::per_second(0), u64::MAX, 0), None);
    }

    #[test]
    fn a_large_amount_does_not_overflow() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(Rate::within(1, 3600), u64::MAX, 0).is_some());
        assert!(bucket.take(Rate::within(1, 3600), u64::MAX, u64::MAX).is_none());
    }
}
