//! Messages that were taken lately, so that a repetition is not delivered twice.
//!
//! Two sets take turns: when the younger one is full or old enough, the older one is forgotten. A
//! repetition is known for at least one turn, in bounded memory and without a clock per entry.

use crate::base::table::Set;
use crate::store::MailDigest;

/// Digests in one set. Two full ones take about 32 MiB on a shard.
pub(super) const SEEN_SET_MAX: usize = 400_000;
/// How long a set is filled, in milliseconds: clients repeat a package for six minutes and
/// remember signatures for five hours.
pub(super) const SEEN_TURN_MS: u64 = 5 * 3600 * 1000;

#[derive(Debug, Default)]
pub(super) struct Seen {
    young: Set<MailDigest>,
    old: Set<MailDigest>,
    turned_ms: u64,
}

impl Seen {
    pub(super) fn contains(&self, digest: &MailDigest) -> bool {
        self.young.contains(digest) || self.old.contains(digest)
    }

    pub(super) fn insert(&mut self, digest: MailDigest, now_ms: u64) {
        if self.young.len() >= SEEN_SET_MAX || now_ms >= self.turned_ms + SEEN_TURN_MS {
            self.old = std::mem::take(&mut self.young);
            self.turned_ms = now_ms;
        }
        self.young.insert(digest);
    }

    /// Forgets one: it could not be kept, and its repetition is welcome.
    pub(super) fn remove(&mut self, digest: &MailDigest) {
        self.young.remove(digest);
        self.old.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_known_for_one_turn_at_least() {
        let mut seen = Seen::default();
        seen.insert([1; 16], 0);
        seen.insert([2; 16], SEEN_TURN_MS);
        assert!(seen.contains(&[1; 16]) && seen.contains(&[2; 16]));
        seen.insert([3; 16], 2 * SEEN_TURN_MS);
        assert!(!seen.contains(&[1; 16]) && seen.contains(&[2; 16]));
        seen.remove(&[2; 16]);
        assert!(!seen.contains(&[2; 16]));
    }
}
