//! When each message is due, and who writes to whom: numbers to numbers.

use serde::Deserialize;

/// Who writes to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pattern {
    /// Everybody to everybody in turn.
    Mesh,
    /// Each sender to a receiver of its own.
    Pairs,
    /// Each message to the next receiver.
    RoundRobin,
    /// Each message to all.
    Everybody,
}

/// Steps between the receivers that neighbouring senders begin with: a prime, so that they meet late.
const MESH_STEP: usize = 37;

/// Messages in an order that is the same each time: the senders take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) pattern: Pattern,
    pub(crate) senders: usize,
    pub(crate) receivers: usize,
}

impl Plan {
    /// Sender of message `number`, and its receiver among the receivers. For
    /// [`Pattern::Everybody`], the first of them.
    pub(crate) fn pair(&self, number: usize) -> (usize, usize) {
        let (sender, turn) = (number % self.senders, number / self.senders);
        let receiver = match self.pattern {
            Pattern::Mesh => (sender * MESH_STEP + turn) % self.receivers,
            Pattern::Pairs => sender % self.receivers,
            Pattern::RoundRobin => number % self.receivers,
            Pattern::Everybody => 0,
        };
        (sender, receiver)
    }

    /// Number of the message that `sender` sends as its `turn`-th.
    pub(crate) fn number(&self, sender: usize, turn: usize) -> usize {
        turn * self.senders + sender
    }

    /// Copies of each message.
    pub(crate) fn copies(&self) -> usize {
        match self.pattern {
            Pattern::Everybody => self.receivers,
            _ => 1,
        }
    }
}

/// An open loop: message after message at fixed times, whatever the station does.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    rate: f64,
    /// Shares of the rate, each for an equal part of the time; straight lines between them.
    curve: Vec<f64>,
    /// Nanoseconds that the curve spans.
    span_ns: u64,
    /// Messages that have been due so far, and up to when that is known.
    due: f64,
    at_ns: u64,
    given: u64,
}

/// The curve is followed in steps of a millisecond.
const STEP_NS: u64 = 1_000_000;

impl Pace {
    /// `rate` messages a second times the curve, which is spread over `span_ns`.
    pub(crate) fn new(rate: f64, curve: &[f64], span_ns: u64) -> Self {
        let curve = if curve.is_empty() { vec![1.0] } else { curve.to_vec() };
        Self { rate, curve, span_ns: span_ns.max(1), due: 0.0, at_ns: 0, given: 0 }
    }

    /// The share of the rate at a time.
    fn share(&self, at_ns: u64) -> f64 {
        let last = self.curve.len() - 1;
        let place = at_ns.min(self.span_ns) as f64 / self.span_ns as f64 * last as f64;
        let before = (place.floor() as usize).min(last);
        let (a, b) = (self.curve[before], self.curve[(before + 1).min(last)]);
        a + (b - a) * (place - before as f64)
    }

    /// When the next message that is due at `now_ns` was due, both counted from the start; none
    /// while none is.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        loop {
            let (step_end, per_ns) =
                (self.at_ns + STEP_NS, self.share(self.at_ns) * self.rate / 1e9);
            let gains = per_ns * STEP_NS as f64;
            let wanted = self.given as f64;
            if self.due + gains > wanted && per_ns > 0.0 {
                let into_step = ((wanted - self.due).max(0.0) / per_ns) as u64;
                let scheduled = self.at_ns + into_step;
                if scheduled > now_ns {
                    return None;
                }
                self.given += 1;
                return Some(scheduled);
            }
            if step_end > now_ns {
                return None;
            }
            self.due += gains;
            self.at_ns = step_end;
        }
    }
}

/// How many messages a pace has until `until_ns`, with a few to spare.
pub(crate) fn messages_until(rate: f64, curve: &[f64], until_ns: u64) -> usize {
    let highest = curve.iter().copied().fold(0.0, f64::max);
    let highest = if curve.is_empty() { 1.0 } else { highest };
    (rate * highest * until_ns as f64 / 1e9) as usize + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pace: &mut Pace, until_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| pace.take(until_ns)).collect()
    }

    #[test]
    fn a_pace_is_even_and_does_not_forget_what_was_missed() {
        let mut pace = Pace::new(1000.0, &[], 1);
        assert_eq!(pace.take(0), Some(0));
        assert_eq!(pace.take(999_999), None);
        assert_eq!(pace.take(1_000_000), Some(1_000_000));
        // Nobody asked for a second: all of it is still due, at the times it was due.
        let late = all(&mut pace, 1_000_000_000);
        assert_eq!((late.len(), late[0], late[998]), (999, 2_000_000, 1_000_000_000));
        assert!(late.is_sorted_by(|a, b| b - a == 1_000_000));
    }

    #[test]
    fn a_pace_faster_than_its_steps_is_as_even() {
        let times = all(&mut Pace::new(2.5e6, &[], 1), 10_000_000);
        assert!(times.len().abs_diff(25_000) <= 1, "{}", times.len());
        assert!(times.is_sorted_by(|a, b| (399..=401).contains(&(b - a))));
    }

    #[test]
    fn a_curve_shapes_the_rate() {
        const SECOND: u64 = 1_000_000_000;
        let times = all(&mut Pace::new(1000.0, &[0.0, 1.0, 0.0], 10 * SECOND), 10 * SECOND);
        let within = |from: u64, to: u64| {
            times.iter().filter(|at| (from * SECOND..to * SECOND).contains(*at)).count()
        };
        assert!(times.len().abs_diff(5000) < 20, "{}", times.len());
        assert!(within(4, 6) > 1700 && within(0, 1) < 120 && within(9, 10) < 120);
        assert!(messages_until(1000.0, &[0.0, 1.0, 0.0], 10 * SECOND) >= times.len());
    }

    #[test]
    fn senders_take_turns_and_a_mesh_reaches_everybody() {
        let plan = Plan { pattern: Pattern::Mesh, senders: 3, receivers: 4 };
        let reached: std::collections::HashSet<_> = (0..12).map(|n| plan.pair(n)).collect();
        assert_eq!(reached.len(), 12);
        for number in 0..100 {
            let (sender, _) = plan.pair(number);
            assert_eq!(plan.number(sender, number / 3), number);
        }
        let plan = Plan { pattern: Pattern::Pairs, ..plan };
        assert!((0..100).all(|n| plan.pair(n) == (n % 3, n % 3)));
        let plan = Plan { pattern: Pattern::RoundRobin, ..plan };
        assert_eq!([0, 3, 5].map(|n| plan.pair(n)), [(0, 0), (0, 3), (2, 1)]);
        assert_eq!(Plan { pattern: Pattern::Everybody, ..plan }.copies(), 4);
    }
}
