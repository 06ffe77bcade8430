//! Two results of one scenario: what has changed, and how sure that is.
//!
//! The seconds of a run are its samples. They are drawn anew, with replacement, from both runs, many
//! times; the middle 95 % of the ratios of their means are the interval. It knows the noise within a run,
//! not that between runs: a machine that was busier the second time looks like a slower station.

use dim::base::random::split_mix;

use crate::error::Failure;
use crate::outcome::{Measured, Outcome, Second};

/// Times that the samples are drawn.
const DRAWS: usize = 2000;
/// Fewer seconds than these say nothing about their spread.
const SAMPLES_MIN: usize = 3;
/// The draws are the same each time.
const SEED: u64 = 0x6469_6d6c_6f61_6431;

/// One figure of one phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) phase: String,
    pub(crate) what: &'static str,
    pub(crate) old: f64,
    pub(crate) new: f64,
    /// Of new to old, with 95 % confidence; none if there are too few seconds.
    pub(crate) ratio: Option<(f64, f64)>,
    pub(crate) more_is_better: bool,
}

impl Change {
    /// In a word.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.ratio {
            None => "too short to tell",
            Some((low, high)) if low <= 1.0 && high >= 1.0 => "no difference shown",
            Some((low, _)) if (low > 1.0) == self.more_is_better => "better",
            Some(_) => "worse",
        }
    }
}

/// A figure of a second; none where it has none.
type Figure = fn(&Second) -> Option<f64>;

const FIGURES: [(&str, bool, Figure); 4] = [
    ("rate a second", true, |second| Some(second.rate())),
    ("server us each", false, |second| {
        let us = second.server_us.filter(|_| second.count > 0)?;
        Some(us as f64 / second.count as f64)
    }),
    ("p50 us", false, |second| (second.p50 > 0).then_some(second.p50 as f64)),
    ("p99 us", false, |second| (second.p99 > 0).then_some(second.p99 as f64)),
];

/// Compares phase by phase.
pub(crate) fn compare(old: &Outcome, new: &Outcome) -> Result<Vec<Change>, Failure> {
    if (&old.scenario, old.small, &old.set) != (&new.scenario, new.small, &new.set) {
        return Err(Failure::new(format!(
            "{} and {} are not the same scenario with the same settings",
            old.scenario, new.scenario
        )));
    }
    let find = |name: &str| old.measured.iter().find(|measured| measured.name == name);
    let pairs = new.measured.iter().filter_map(|new| Some((find(&new.name)?, new)));
    Ok(pairs.flat_map(|(old, new)| changes(old, new)).collect())
}

fn changes(old: &Measured, new: &Measured) -> Vec<Change> {
    let mut changes = Vec::new();
    for (what, more_is_better, figure) in FIGURES {
        let samples = |one: &Measured| one.series.iter().filter_map(figure).collect::<Vec<_>>();
        let (before, after) = (samples(old), samples(new));
        if before.is_empty() || after.is_empty() {
            continue;
        }
        changes.push(Change {
            phase: new.name.clone(),
            what,
            old: mean(&before),
            new: mean(&after),
            ratio: interval(&before, &after),
            more_is_better,
        });
    }
    changes
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len().max(1) as f64
}

/// Where the ratio of the means of `new` to `old` lies, with 95 % confidence.
fn interval(old: &[f64], new: &[f64]) -> Option<(f64, f64)> {
    if old.len().min(new.len()) < SAMPLES_MIN || mean(old) <= 0.0 {
        return None;
    }
    let mut state = SEED;
    let mut drawn = |samples: &[f64]| {
        let pick = |_| samples[(split_mix(&mut state) % samples.len() as u64) as usize];
        (0..samples.len()).map(pick).sum::<f64>() / samples.len() as f64
    };
    let mut ratios: Vec<f64> =
        (0..DRAWS).map(|_| drawn(new) / drawn(old)).filter(|ratio| ratio.is_finite()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios.get((ratios.len() as f64 * share) as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}

/// For a terminal.
pub(crate) fn text(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        let interval = change.ratio.map_or(String::new(), |(low, high)| {
            format!(" ({:+.1} % to {:+.1} %)", percent(low), percent(high))
        });
        let Change { phase, what, old, new, .. } = change;
        let verdict = change.verdict();
        text += &format!("{phase}: {what}: {old:.1} -> {new:.1}{interval}: {verdict}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rates: &[u64]) -> Outcome {
        let second = |count: &u64| Second { span_s: 1.0, count: *count, ..Second::default() };
        let series = rates.iter().map(second).collect();
        let measured = Measured { name: "p".to_owned(), series, ..Measured::default() };
        Outcome { measured: vec![measured], ..Outcome::default() }
    }

    fn verdict(old: &[u64], new: &[u64]) -> &'static str {
        let changes = compare(&outcome(old), &outcome(new)).unwrap();
        assert_eq!(changes.len(), 1);
        changes[0].verdict()
    }

    #[test]
    fn a_difference_is_shown_only_beyond_the_noise() {
        let noisy = [90, 110, 95, 105, 100, 120, 80, 99];
        assert_eq!(verdict(&noisy, &noisy.map(|n| n + 3)), "no difference shown");
        assert_eq!(verdict(&noisy, &noisy.map(|n| n * 2)), "better");
        assert_eq!(verdict(&noisy.map(|n| n * 2), &noisy), "worse");
        assert_eq!(verdict(&[1, 2], &[5, 6, 7]), "too short to tell");
    }

    #[test]
    fn an_interval_is_the_same_each_time_and_holds_the_ratio() {
        let (old, new) = ([10.0, 11.0, 9.0, 10.0], [15.0, 15.5, 14.5, 15.0]);
        let (low, high) = interval(&old, &new).unwrap();
        assert_eq!(interval(&old, &new), Some((low, high)));
        assert!(low < 1.5 && 1.5 < high && low > 1.3 && high < 1.7, "{low} {high}");
        assert_eq!(interval(&[0.0; 4], &new), None);
    }

    #[test]
    fn less_is_better_where_it_is() {
        let change = |ratio, more_is_better| Change {
            phase: String::new(),
            what: "",
            old: 0.0,
            new: 0.0,
            ratio: Some(ratio),
            more_is_better,
        };
        assert_eq!(change((1.1, 1.2), false).verdict(), "worse");
        assert_eq!(change((0.8, 0.9), false).verdict(), "better");
    }

    #[test]
    fn different_scenarios_are_not_compared() {
        let other = Outcome { small: true, ..outcome(&[1]) };
        assert!(compare(&outcome(&[1]), &other).is_err());
    }
}
