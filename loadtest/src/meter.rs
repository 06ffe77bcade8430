//! Latencies and rates while they happen.

use hdrhistogram::Histogram;

use crate::machine::{self, Server, Usage};
use crate::outcome::{Latency, Measured, Second};

/// Longer latencies count as this long: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// Percentiles to three digits, from a microsecond to an hour.
#[derive(Debug)]
pub(crate) struct Spread(Histogram<u64>);

impl Spread {
    #[expect(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("valid bounds"))
    }

    pub(crate) fn add(&mut self, latency_ns: u64) {
        self.0.saturating_record((latency_ns / 1000).max(1));
    }

    /// None if there is nothing.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let at = |quantile| self.0.value_at_quantile(quantile);
        (!self.0.is_empty()).then(|| Latency {
            mean: self.0.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max(),
        })
    }
}

/// One look at all clocks.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    at_ns: u64,
    server: Option<Usage>,
    own_us: u64,
    busy_us: u64,
}

impl Look {
    fn now(at_ns: u64, server: Option<Server>) -> Self {
        let (own_us, busy_us) = (machine::own_cpu_us(), machine::busy_us());
        Self { at_ns, server: server.and_then(Server::usage), own_us, busy_us }
    }
}

/// What is measured now.
#[derive(Debug)]
pub(crate) struct Meter {
    server: Option<Server>,
    running: bool,
    count: u64,
    all: Spread,
    second: Spread,
    counted_before: u64,
    begin: Look,
    last: Look,
    series: Vec<Second>,
    pub(crate) completion: Spread,
}

impl Meter {
    pub(crate) fn new(server: Option<Server>) -> Self {
        Self {
            server,
            running: false,
            count: 0,
            all: Spread::new(),
            second: Spread::new(),
            counted_before: 0,
            begin: Look::default(),
            last: Look::default(),
            series: Vec::new(),
            completion: Spread::new(),
        }
    }

    /// Forgets what was and measures from now on.
    pub(crate) fn start(&mut self, now_ns: u64) {
        *self = Self::new(self.server);
        self.running = true;
        self.begin = Look::now(now_ns, self.server);
        self.last = self.begin;
    }

    /// One more.
    pub(crate) fn count(&mut self) {
        self.count += u64::from(self.running);
    }

    /// How long it took.
    pub(crate) fn took(&mut self, latency_ns: u64) {
        if self.running {
            self.all.add(latency_ns);
            self.second.add(latency_ns);
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.running
    }

    /// A second is over; what to show of it.
    pub(crate) fn tick(&mut self, now_ns: u64) -> Second {
        let look = Look::now(now_ns, self.server);
        let latency = self.second.latency().unwrap_or_default();
        let cpu = |look: &Look| look.server.map(|usage| usage.cpu_us);
        let second = Second {
            at_s: seconds(now_ns - self.begin.at_ns),
            span_s: seconds(now_ns - self.last.at_ns),
            count: self.count - self.counted_before,
            p50: latency.p50,
            p99: latency.p99,
            server_us: cpu(&look).zip(cpu(&self.last)).map(|(now, then)| now.saturating_sub(then)),
            rss_kib: look.server.map(|usage| usage.rss_kib),
        };
        (self.counted_before, self.last) = (self.count, look);
        self.second.0.reset();
        if self.running {
            self.series.push(second.clone());
        }
        second
    }

    /// Ends the measurement.
    pub(crate) fn stop(&mut self, now_ns: u64, name: &str, unit: &str) -> Measured {
        // A rest that is short says little about the rate.
        if now_ns - self.last.at_ns > 500_000_000 || self.series.is_empty() {
            self.tick(now_ns);
        }
        self.running = false;
        let end = Look::now(now_ns, self.server);
        let span_us = ((now_ns - self.begin.at_ns) / 1000).max(1) as f64;
        let used = end.server.zip(self.begin.server);
        let server_us = used.map(|(end, begin)| end.cpu_us.saturating_sub(begin.cpu_us) as f64);
        let own_us = (end.own_us - self.begin.own_us) as f64;
        let busy_us = end.busy_us.saturating_sub(self.begin.busy_us) as f64;
        Measured {
            name: name.to_owned(),
            unit: unit.to_owned(),
            seconds: span_us / 1e6,
            count: self.count,
            per_second: self.count as f64 * 1e6 / span_us,
            latency: self.all.latency(),
            completion: self.completion.latency(),
            server_us: server_us.filter(|_| self.count > 0).map(|us| us / self.count as f64),
            server_cores: server_us.map(|us| us / span_us),
            client_cores: own_us / span_us,
            other_cores: (busy_us - own_us - server_us.unwrap_or(0.0)).max(0.0) / span_us,
            rss_mib: end.server.map(|usage| usage.rss_kib as f64 / 1024.0),
            series: std::mem::take(&mut self.series),
            ..Measured::default()
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_what_happens_meanwhile_counts() {
        let mut meter = Meter::new(None);
        meter.count();
        meter.took(5000);
        meter.start(SECOND);
        for latency_us in 1..=100 {
            meter.count();
            meter.took(latency_us * 1000);
        }
        let second = meter.tick(2 * SECOND);
        assert_eq!((second.count, second.p50, second.p99, second.at_s), (100, 50, 99, 1.0));
        meter.count();
        let measured = meter.stop(3 * SECOND, "n", "messages");
        meter.count();
        assert_eq!((measured.count, measured.seconds, measured.per_second), (101, 2.0, 50.5));
        assert_eq!(measured.series.len(), 2);
        let latency = measured.latency.unwrap();
        assert_eq!((latency.p50, latency.p90, latency.max), (50, 90, 100));
        assert_eq!((measured.completion, measured.server_us), (None, None));
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_the_longest() {
        let mut spread = Spread::new();
        spread.add(0);
        spread.add(u64::MAX);
        let latency = spread.latency().unwrap();
        assert_eq!(latency.p50, 1);
        assert!(latency.max >= LONGEST_US);
    }
}
