//! What a run yields: plain values, as they lie in the JSON file.

use serde::{Deserialize, Serialize};

use crate::checker::Check;
use crate::error::Failure;

/// One scenario on one station.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Version of this tool.
    pub(crate) version: String,
    /// What was measured, in the words of who measured: `dims`, `reference`.
    pub(crate) label: String,
    pub(crate) scenario: String,
    pub(crate) about: String,
    /// ID of the station.
    pub(crate) station: String,
    pub(crate) machine: Machine,
    /// Seconds since 1970.
    pub(crate) started_s: u64,
    /// Whether the phases' small keys were used.
    pub(crate) small: bool,
    /// `key=value` of the command line.
    pub(crate) set: Vec<String>,
    pub(crate) measured: Vec<Measured>,
}

impl Outcome {
    /// Whether every delivery was perfect.
    pub(crate) fn is_perfect(&self) -> bool {
        self.measured.iter().all(|one| one.check.is_perfect())
    }
}

/// Where it ran, client and station on one machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) model: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
}

/// One thing that was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// What is counted: `messages`, `deliveries`, `logins`, `connections`.
    pub(crate) unit: String,
    pub(crate) seconds: f64,
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// From the time it was due (open loop) or sent (closed loop) until it came.
    pub(crate) latency: Option<Latency>,
    /// Until the last of a group had it.
    pub(crate) completion: Option<Latency>,
    /// CPU of the station for each one, in microseconds.
    pub(crate) server_us: Option<f64>,
    /// Cores that the station kept busy, and this process, and everything else on the machine.
    pub(crate) server_cores: Option<f64>,
    pub(crate) client_cores: f64,
    pub(crate) other_cores: f64,
    /// Memory of the station at the end, in MiB.
    pub(crate) rss_mib: Option<f64>,
    /// Memory that each connection added, in KiB.
    pub(crate) rss_kib_each: Option<f64>,
    /// What else is to be known.
    pub(crate) notes: Vec<String>,
    pub(crate) series: Vec<Second>,
    pub(crate) check: Check,
}

impl Measured {
    /// A phase that could not be finished.
    pub(crate) fn failed(name: &str, why: &Failure) -> Self {
        let check = Check { broken: 1, ..Check::default() };
        Self { name: name.to_owned(), notes: vec![why.to_string()], check, ..Self::default() }
    }
}

/// Percentiles, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// One second of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Its end, in seconds from the beginning.
    pub(crate) at_s: f64,
    /// How long it was really.
    pub(crate) span_s: f64,
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    /// CPU of the station, in microseconds.
    pub(crate) server_us: Option<u64>,
    pub(crate) rss_kib: Option<u64>,
}

impl Second {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.span_s.max(1e-3)
    }
}
