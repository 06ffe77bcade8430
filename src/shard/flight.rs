//! Messages on their way to one peer.

use std::collections::VecDeque;

use super::session::Push;

/// By serial number. Numbers only grow and peers acknowledge in order as a rule, so the one that is
/// looked for is nearly always the first.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pushes: VecDeque<(u64, Push)>,
}

impl Flight {
    /// `sn` is above those before it.
    pub(super) fn insert(&mut self, sn: u64, push: Push) {
        debug_assert!(self.pushes.back().is_none_or(|(last, _)| *last < sn));
        self.pushes.push_back((sn, push));
    }

    pub(super) fn remove(&mut self, sn: u64) -> Option<Push> {
        if self.pushes.front().is_some_and(|(first, _)| *first == sn) {
            return self.pushes.pop_front().map(|(_, push)| push);
        }
        let at = self.pushes.binary_search_by_key(&sn, |(sn, _)| *sn).ok()?;
        self.pushes.remove(at).map(|(_, push)| push)
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Push> {
        self.pushes.iter().map(|(_, push)| push)
    }

    pub(super) fn len(&self) -> usize {
        self.pushes.len()
    }

    pub(super) fn clear(&mut self) {
        self.pushes.clear();
    }

    /// Gives back room that nothing uses.
    pub(super) fn shrink(&mut self) {
        self.pushes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn pushes_are_found_by_number_in_any_order() {
        let mut flight = Flight::default();
        for sn in [5, 6, 9, 10] {
            let push = Push { device: Arc::from(""), seq: sn * 10, bytes: 1, mail: None };
            flight.insert(sn, push);
        }
        let mut seq = |sn| flight.remove(sn).map(|push| push.seq);
        assert_eq!([seq(9), seq(7), seq(5), seq(9)], [Some(90), None, Some(50), None]);
        assert_eq!(flight.iter().map(|push| push.seq).collect::<Vec<_>>(), [60, 100]);
    }
}
