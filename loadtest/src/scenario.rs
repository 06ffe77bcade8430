//! Scenarios: TOML text to values that make sense together.

use serde::Deserialize;

use crate::error::Failure;
use crate::light::Form;
use crate::schedule::Pattern;

/// Most users of one scenario: each is a socket, and some KiB.
const USERS_MAX: usize = 1_000_000;
/// Block of the cipher that contents are sealed with.
const BLOCK_BYTES: usize = 16;

/// A list of phases, done one after the other on the same station.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// One sentence for the report.
    pub(crate) about: String,
    pub(crate) phase: Vec<Phase>,
}

/// What a phase does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Users who are here write to users who are here.
    Relay,
    /// Connections that say nothing.
    Idle,
    /// Everybody logs in at once, again and again.
    Logins,
    /// Users write to users who are away, and who then come and fetch it.
    Offline,
    /// One user writes to a group.
    FanOut,
}

/// One phase. What a key means to a kind that does not use it: nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Phase {
    pub(crate) name: String,
    #[serde(deserialize_with = "kind")]
    pub(crate) kind: Option<Kind>,
    pub(crate) framing: Form,
    pub(crate) pattern: Pattern,
    /// Users who send; of a fan-out, always one.
    pub(crate) senders: usize,
    /// Users who receive; connections, where nobody sends.
    pub(crate) receivers: usize,
    /// Closed loop: messages that each sender has on the way. 0: open loop.
    pub(crate) window: usize,
    /// Open loop: messages a second of all senders together. Logins a second in `logins`.
    pub(crate) rate: f64,
    /// Shares of the rate over the time.
    pub(crate) curve: Vec<f64>,
    pub(crate) warmup_s: f64,
    /// Time measured; of `idle`, the quiet.
    pub(crate) seconds: f64,
    /// Messages at most; of `offline`, exactly.
    pub(crate) messages: usize,
    /// Ciphertext of a message.
    pub(crate) data_bytes: usize,
    /// Logins under way at once.
    pub(crate) at_once: usize,
    /// How often everybody logs in.
    pub(crate) rounds: usize,
    /// Of the receivers, those who read slowly, and how fast.
    pub(crate) slow_receivers: usize,
    pub(crate) slow_bytes_per_second: usize,
    /// Receivers a second who go away, each for a while.
    pub(crate) leaves_per_second: f64,
    pub(crate) away_s: f64,
    /// Receipts of the station for one message to somebody absent.
    pub(crate) receipts: usize,
    /// Without any progress for so long, what has not come is lost.
    pub(crate) patience_s: f64,
    /// Keys in place of the above, for slow stations and quick looks.
    pub(crate) small: toml::Table,
}

impl Default for Phase {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: None,
            framing: Form::Mtp,
            pattern: Pattern::Mesh,
            senders: 100,
            receivers: 100,
            window: 0,
            rate: 0.0,
            curve: Vec::new(),
            warmup_s: 2.0,
            seconds: 20.0,
            messages: 200_000,
            data_bytes: 496,
            at_once: 100,
            rounds: 1,
            slow_receivers: 0,
            slow_bytes_per_second: 20_000,
            leaves_per_second: 0.0,
            away_s: 2.0,
            receipts: 1,
            patience_s: 10.0,
            small: toml::Table::new(),
        }
    }
}

fn kind<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Kind>, D::Error> {
    Kind::deserialize(from).map(Some)
}

impl Scenario {
    /// Reads a scenario. `small` puts each phase's small keys in place of its own; `set` are
    /// `key=value` for every phase, stronger than both.
    pub(crate) fn read(text: &str, small: bool, set: &[String]) -> Result<Self, Failure> {
        let mut table: toml::Table = text.parse().map_err(|error| said(&error))?;
        let overrides = set.iter().map(|pair| override_of(pair)).collect::<Result<Vec<_>, _>>()?;
        let phases = table.get_mut("phase").and_then(toml::Value::as_array_mut);
        for phase in phases.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            let own = phase.get("small").and_then(toml::Value::as_table).cloned();
            if small {
                phase.extend(own.unwrap_or_default());
            }
            phase.extend(overrides.iter().cloned());
        }
        let scenario: Self = table.try_into().map_err(|error| said(&error))?;
        if scenario.phase.is_empty() {
            return Err(Failure::new("a scenario needs a [[phase]]"));
        }
        for (number, phase) in scenario.phase.iter().enumerate() {
            let name = |fault: &str| {
                Failure::new(format!("phase {} ({:?}): {fault}", number + 1, phase.name))
            };
            phase.check().map_err(name)?;
        }
        Ok(scenario)
    }

    /// Users that it needs.
    pub(crate) fn users(&self) -> usize {
        self.phase.iter().map(Phase::users).max().unwrap_or(0)
    }
}

fn said(error: &toml::de::Error) -> Failure {
    Failure::new(error.to_string().trim_end())
}

fn override_of(pair: &str) -> Result<(String, toml::Value), Failure> {
    let wrong = || Failure::new(format!("--set {pair}: not key=value with a TOML value"));
    let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
    let parsed: Option<toml::Table> = format!("value = {value}").parse().ok();
    let value = parsed.and_then(|mut table| table.remove("value")).ok_or_else(wrong)?;
    Ok((key.to_owned(), value))
}

impl Phase {
    pub(crate) fn users(&self) -> usize {
        match self.kind {
            Some(Kind::Idle | Kind::Logins) => self.receivers,
            _ => self.senders + self.receivers,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let kind = self.kind.ok_or("kind is missing")?;
        let seconds = [self.seconds, self.warmup_s, self.patience_s, self.away_s];
        let rates = [self.rate, self.leaves_per_second];
        let ranges = seconds.iter().all(|s| (0.0..=86_400.0).contains(s))
            && rates.iter().chain(&self.curve).all(|rate| (0.0..=1e7).contains(rate));
        let loops = matches!(kind, Kind::Relay | Kind::FanOut);
        let checks = [
            (self.name.is_empty(), "name is missing"),
            (!ranges, "seconds lie between 0 and 86400, rates between 0 and 1e7"),
            (self.senders == 0 || self.receivers == 0, "nobody sends or receives"),
            (self.senders.max(self.receivers) > USERS_MAX, "more than a million users"),
            (self.at_once == 0 || self.rounds == 0, "at_once and rounds begin at 1"),
            (self.messages == 0 || self.messages > 50_000_000, "messages: 1 to 50 million"),
            (
                self.data_bytes < 160
                    || self.data_bytes > 1 << 20
                    || !self.data_bytes.is_multiple_of(BLOCK_BYTES),
                "data_bytes is a multiple of 16 from 160 to 1048576",
            ),
            (kind == Kind::FanOut && self.senders != 1, "a fan-out has one sender"),
            (loops && (self.window > 0) == (self.rate > 0.0), "either window or rate"),
            (loops && self.seconds <= 0.0, "seconds is more than 0"),
            (kind == Kind::Offline && self.window == 0, "window is missing"),
            (self.slow_receivers > self.receivers, "more slow receivers than receivers"),
            (
                self.window > 0 && (self.slow_receivers > 0 || self.leaves_per_second > 0.0),
                "who reads slowly or goes away needs an open loop (rate)",
            ),
            (self.slow_bytes_per_second == 0, "slow_bytes_per_second begins at 1"),
            (
                matches!(self.pattern, Pattern::RoundRobin | Pattern::Everybody),
                "pattern is mesh or pairs",
            ),
        ];
        checks.iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, fault)| Err(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = \"n\"\nabout = \"a\"\n[[phase]]\nname = \"p\"\nkind = \"relay\"\n\
        window = 4\nsmall = { senders = 3 }\n";

    fn fault(text: &str, set: &str) -> String {
        let set = if set.is_empty() { vec![] } else { vec![set.to_owned()] };
        Scenario::read(text, false, &set).unwrap_err().to_string()
    }

    #[test]
    fn small_keys_and_settings_replace_the_others() {
        let read = |small, set: &[String]| Scenario::read(TEXT, small, set).unwrap();
        assert_eq!(read(false, &[]).phase[0].senders, 100);
        assert_eq!(read(true, &[]).phase[0].senders, 3);
        let set = ["senders=5".to_owned(), "pattern=\"pairs\"".to_owned()];
        let phase = &read(true, &set).phase[0];
        assert_eq!((phase.senders, phase.pattern), (5, Pattern::Pairs));
        assert_eq!(read(true, &set).users(), 105);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        assert!(fault(TEXT, "windw=3").contains("windw"));
        assert!(fault(TEXT, "window").contains("--set window"));
        assert!(fault(TEXT, "rate=5").contains("either window or rate"));
        assert!(fault(TEXT, "data_bytes=100").contains("multiple of 16"));
        assert!(fault(TEXT, "seconds=-1").contains("seconds"));
        assert!(fault(TEXT, "kind=\"dance\"").contains("dance"));
        assert!(fault(TEXT, "leaves_per_second=1").contains("open loop"));
        assert!(fault("name = \"n\"\nabout = \"a\"\nphase = []", "").contains("[[phase]]"));
    }

    #[test]
    fn the_scenarios_that_come_along_are_valid() {
        #[expect(clippy::disallowed_methods, reason = "the test reads the folder")]
        let found = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
        let mut count = 0;
        for path in found.map(|entry| entry.unwrap().path()) {
            let text = crate::files::read_text(&path).unwrap();
            for small in [false, true] {
                let read = Scenario::read(&text, small, &[]);
                read.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
            }
            count += 1;
        }
        assert!(count >= 8, "{count}");
    }
}
