//! What was sent and what came, message by message.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// What became of everything that was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Copies that were sent: a message to a group counts for each member.
    pub(crate) sent: u64,
    /// Of these, the ones that came to their receivers.
    pub(crate) delivered: u64,
    /// The ones that did not.
    pub(crate) lost: u64,
    /// Arrivals of what had come before.
    pub(crate) repeated: u64,
    /// Arrivals before an older message of the same sender to the same receiver.
    pub(crate) disordered: u64,
    /// Arrivals with other bytes under the same signature.
    pub(crate) changed: u64,
    /// Arrivals at somebody else.
    pub(crate) misdirected: u64,
    /// Messages that the station said it would not take.
    pub(crate) refused: u64,
    /// Connections that ended by themselves, and logins that failed.
    pub(crate) broken: u64,
}

impl Check {
    /// Whether everything came once, in order, as it was sent, and nobody was cut off.
    pub(crate) fn is_perfect(&self) -> bool {
        let faults = self.lost
            + self.repeated
            + self.disordered
            + self.changed
            + self.misdirected
            + self.refused
            + self.broken;
        faults == 0 && self.delivered == self.sent
    }
}

/// An arrival that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When the message was to be sent, in nanoseconds.
    pub(crate) scheduled_ns: u64,
    /// Which of the sender's messages it is.
    pub(crate) number: usize,
    /// Whether all copies of it have come now.
    pub(crate) complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Copy {
    scheduled_ns: u64,
    came: bool,
}

const UNSENT: u64 = u64::MAX;

/// Keeps the account of one phase.
#[derive(Debug)]
pub(crate) struct Checker {
    /// All copies of message 0, then those of message 1, …
    copies: Vec<Copy>,
    per_message: usize,
    /// Copies of each message that are still to come.
    missing: Vec<u32>,
    /// Newest number that came, by sender and receiver.
    newest: HashMap<(usize, usize), usize>,
    /// Counted as it happens; what is lost is known at the end.
    pub(crate) check: Check,
}

impl Checker {
    /// For `messages` messages, each to `per_message` receivers.
    pub(crate) fn new(messages: usize, per_message: usize) -> Self {
        let unsent = Copy { scheduled_ns: UNSENT, came: false };
        Self {
            copies: vec![unsent; messages * per_message],
            per_message,
            missing: vec![u32::try_from(per_message).unwrap_or(u32::MAX); messages],
            newest: HashMap::new(),
            check: Check::default(),
        }
    }

    /// A copy of message `number` leaves.
    pub(crate) fn sent(&mut self, number: usize, copy: usize, scheduled_ns: u64) {
        if let Some(one) = self.copies.get_mut(number * self.per_message + copy) {
            one.scheduled_ns = scheduled_ns;
            self.check.sent += 1;
        }
    }

    /// A copy has come to `receiver` and should have: yields it if it is the first time.
    pub(crate) fn came(
        &mut self,
        number: usize,
        copy: usize,
        sender: usize,
        receiver: usize,
    ) -> Option<Arrival> {
        let one = self.copies.get_mut(number * self.per_message + copy)?;
        if one.scheduled_ns == UNSENT {
            // Somebody else's message: an earlier run's, on the same station.
            return None;
        }
        if one.came {
            self.check.repeated += 1;
            return None;
        }
        one.came = true;
        self.check.delivered += 1;
        let newest = self.newest.entry((sender, receiver)).or_insert(number);
        if number < *newest {
            self.check.disordered += 1;
        }
        *newest = number.max(*newest);
        let missing = self.missing.get_mut(number)?;
        *missing -= 1;
        Some(Arrival { scheduled_ns: one.scheduled_ns, number, complete: *missing == 0 })
    }

    /// When the first copy of a message was to be sent; none if it was not.
    pub(crate) fn scheduled_ns(&self, number: usize) -> Option<u64> {
        let copy = self.copies.get(number * self.per_message)?;
        (copy.scheduled_ns != UNSENT).then_some(copy.scheduled_ns)
    }

    /// Copies on their way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.check.sent - self.check.delivered
    }

    /// The account, closed.
    pub(crate) fn finish(&self) -> Check {
        Check { lost: self.in_flight(), ..self.check.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_once_and_in_order_is_perfect() {
        let mut checker = Checker::new(3, 1);
        for number in 0..2 {
            checker.sent(number, 0, 5);
            let arrival = checker.came(number, 0, 0, 0);
            assert_eq!(arrival, Some(Arrival { scheduled_ns: 5, number, complete: true }));
        }
        assert!(checker.finish().is_perfect());
        // It was never sent here, so nothing is wrong with it.
        assert_eq!(checker.came(2, 0, 0, 0), None);
        assert!(checker.finish().is_perfect());
    }

    #[test]
    fn every_fault_is_counted_and_spoils_it() {
        let mut checker = Checker::new(3, 1);
        (0..3).for_each(|number| checker.sent(number, 0, 0));
        assert!(checker.came(1, 0, 0, 0).is_some() && checker.came(0, 0, 0, 0).is_some());
        assert_eq!(checker.came(1, 0, 0, 0), None);
        let check = checker.finish();
        assert_eq!((check.lost, check.repeated, check.disordered), (1, 1, 1));
        assert!(!check.is_perfect());
        let perfect = Check { sent: 1, delivered: 1, ..Check::default() };
        assert!(perfect.is_perfect());
        assert!(!Check { lost: 1, sent: 2, ..perfect.clone() }.is_perfect());
        assert!(!Check { repeated: 1, ..perfect.clone() }.is_perfect());
        assert!(!Check { disordered: 1, ..perfect.clone() }.is_perfect());
        assert!(!Check { changed: 1, ..perfect.clone() }.is_perfect());
        assert!(!Check { misdirected: 1, ..perfect.clone() }.is_perfect());
        assert!(!Check { refused: 1, ..perfect.clone() }.is_perfect());
        assert!(!Check { broken: 1, ..perfect }.is_perfect());
    }

    #[test]
    fn messages_of_other_pairs_may_overtake() {
        let mut checker = Checker::new(2, 1);
        (0..2).for_each(|number| checker.sent(number, 0, 0));
        assert!(checker.came(1, 0, 1, 0).is_some() && checker.came(0, 0, 0, 0).is_some());
        assert!(checker.finish().is_perfect());
    }

    #[test]
    fn a_message_to_many_is_complete_with_its_last_copy() {
        let mut checker = Checker::new(1, 2);
        (0..2).for_each(|copy| checker.sent(0, copy, 0));
        assert!(!checker.came(0, 1, 0, 1).unwrap().complete);
        assert_eq!(checker.in_flight(), 1);
        assert!(checker.came(0, 0, 0, 0).unwrap().complete);
    }
}
