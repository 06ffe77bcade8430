//! Messages that came before, so that a repetition is told to nobody twice.
//!
//! Two sets take turns: when the younger one is full, the older one is forgotten. Known by the whole
//! signature, and noted only after it was proved, or a stranger could keep a message out.

use std::collections::HashSet;

use crate::base::digest::sha256;

/// Signatures in one set. Two full ones take about 200 KiB.
pub const SEEN_SET_MAX: usize = 4096;

type Digest = [u8; 16];

/// What came to one client lately. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct Seen {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

impl Seen {
    /// Whether a message with this signature was noted.
    pub fn contains(&self, signature: &[u8]) -> bool {
        let digest = digest(signature);
        self.young.contains(&digest) || self.old.contains(&digest)
    }

    /// Notes a message.
    pub fn insert(&mut self, signature: &[u8]) {
        if self.young.len() >= SEEN_SET_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest(signature));
    }
}

fn digest(signature: &[u8]) -> Digest {
    let mut short = Digest::default();
    short.iter_mut().zip(sha256(signature)).for_each(|(to, from)| *to = from);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_known_for_one_set_at_least() {
        let mut seen = Seen::default();
        let signature = |n: usize| n.to_be_bytes();
        (0..=SEEN_SET_MAX).for_each(|n| seen.insert(&signature(n)));
        assert!(seen.contains(&signature(0)) && seen.contains(&signature(SEEN_SET_MAX)));
        (SEEN_SET_MAX + 1..=2 * SEEN_SET_MAX).for_each(|n| seen.insert(&signature(n)));
        assert!(!seen.contains(&signature(0)) && seen.contains(&signature(SEEN_SET_MAX)));
        assert!(seen.young.len() <= SEEN_SET_MAX && seen.old.len() <= SEEN_SET_MAX);
    }
}
