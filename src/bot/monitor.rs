//! The monitor: takes what stations count and what clients measure, passes it on to who listens, and
//! keeps it, as logs of a day and as sums.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Bot, Heard, NoteError, Post};
use crate::base::time::utc;
use crate::client::source::Source;
use crate::proto::address::EntityKind;
use crate::proto::content::{Content, kind};
use crate::proto::id::Id;
use crate::proto::json as text;

/// Rows in one day's log; further ones are counted, and left out.
pub const ROWS_A_DAY_MAX: usize = 200_000;
/// Rows that are taken of one content.
pub const ROWS_A_CONTENT_MAX: usize = 4096;
/// Pairs of sorts of senders and messages, and places of stations, that are summed apart; the rest goes
/// to a sum of its own.
pub const SUMS_MAX: usize = 1024;
/// Longest text that is kept of a row, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// How soon a log is written again, in seconds.
const WRITE_EVERY_S: f64 = 10.0;

const APP: &str = "chat.dim.monitor";

/// What there is a log of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Who has logged in.
    Users,
    /// How many messages, by sort.
    Stats,
    /// How fast stations answer clients.
    Speeds,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Users, Self::Stats, Self::Speeds];

    /// Its word, as contents and files have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Stats => "stats",
            Self::Speeds => "speeds",
        }
    }
}

/// What an operator decides.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Stations that may post, besides the one it is logged in at.
    pub stations: Vec<Id>,
    /// Who is passed what.
    pub listeners: BTreeMap<Subject, Vec<Id>>,
    /// Whether addresses of users are kept and passed on.
    pub addresses: bool,
}

/// A day's rows of one subject, by the minute.
#[derive(Debug, Default)]
struct Log {
    /// `YYYY-MM-DD`.
    day: String,
    minutes: Map<String, Value>,
    rows: usize,
    changed: bool,
    /// In seconds since 1970.
    written_s: f64,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// `users_log-YYYY-MM-DD.js`.
    pub name: String,
    /// JSON.
    pub text: String,
}

#[derive(Debug, Default)]
struct Sums {
    /// By sorts of sender and message.
    messages: BTreeMap<(u64, u64), u64>,
    logins: u64,
    /// By the station's place: how often, and seconds together.
    speeds: BTreeMap<String, (u64, f64)>,
    /// Contents of whoever may not post, or without any row.
    refused: u64,
    /// Rows that a full log has no room for.
    left_out: u64,
}

/// Keeps counts and speeds.
#[derive(Debug, Default)]
pub struct Monitor {
    rules: Rules,
    station: Option<Id>,
    logs: BTreeMap<Subject, Log>,
    /// Of days that are over, not written yet.
    done: Vec<LogFile>,
    sums: Sums,
}

impl Monitor {
    /// A monitor that has heard nothing.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The name of a log that would be kept at that time, in seconds since 1970.
    pub fn log_name(subject: Subject, now_s: f64) -> String {
        name_of(subject, &day_of(now_s))
    }

    /// Goes on with a log that was written before; whether it was one.
    pub fn recall_log(&mut self, subject: Subject, bytes: &[u8], now_s: f64) -> bool {
        let Ok(minutes) = text::parse_object(bytes) else { return false };
        if !minutes.values().all(Value::is_array) {
            return false;
        }
        let rows = minutes.values().filter_map(Value::as_array).map(Vec::len).sum();
        let log = Log { day: day_of(now_s), minutes, rows, changed: false, written_s: now_s };
        self.logs.insert(subject, log);
        true
    }

    /// Logs to be written: those that have changed, not too often; all of them at the end.
    pub fn take_logs(&mut self, now_s: f64, end: bool) -> Vec<LogFile> {
        let mut files = std::mem::take(&mut self.done);
        for (subject, log) in &mut self.logs {
            if log.changed && (end || now_s >= log.written_s + WRITE_EVERY_S) {
                (log.changed, log.written_s) = (false, now_s);
                files.push(log.file(*subject));
            }
        }
        files
    }

    /// All sums, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, help: &str, rows: Vec<(String, String)>| {
            // Writing to a text cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let messages = self.sums.messages.iter().map(|((sender, sort), count)| {
            (format!("{{sender=\"{sender}\",type=\"{sort}\"}}"), count.to_string())
        });
        family("dim_messages_total", "messages that stations took, by numbers", messages.collect());
        let one = |count: u64| vec![(String::new(), count.to_string())];
        family("dim_logins_total", "users who logged in, once a minute", one(self.sums.logins));
        let speeds = |value: fn(&(u64, f64)) -> String| {
            let rows = self.sums.speeds.iter();
            rows.map(|(place, sum)| (format!("{{station=\"{}\"}}", label(place)), value(sum)))
                .collect()
        };
        family(
            "dim_response_seconds_count",
            "measurements of stations' answers",
            speeds(|(count, _)| count.to_string()),
        );
        family(
            "dim_response_seconds_sum",
            "seconds that stations took to answer",
            speeds(|(_, seconds)| seconds.to_string()),
        );
        family("dim_monitor_refused_total", "contents not taken", one(self.sums.refused));
        family("dim_monitor_left_out_total", "rows left out of a log", one(self.sums.left_out));
        out
    }

    fn may_post(&self, sender: &Id, subject: Subject) -> bool {
        let mut stations = self.station.iter().chain(&self.rules.stations);
        stations.any(|id| id.is_same_as(sender))
            || (subject == Subject::Speeds && sender.kind() == EntityKind::User)
    }

    /// The rows of a content, with what is known of each and nothing else.
    fn rows(&self, content: &Content, subject: Subject, sender: &Id) -> Vec<Value> {
        let list = |name: &str| {
            let rows = content.map.get(name).and_then(Value::as_array);
            rows.into_iter().flatten().filter_map(Value::as_object).take(ROWS_A_CONTENT_MAX)
        };
        match subject {
            Subject::Users => list("users").filter_map(|row| self.user(row)).collect(),
            Subject::Stats => list("stats").filter_map(stat).collect(),
            Subject::Speeds if content.map.contains_key("stations") => {
                let rows = list("stations");
                rows.filter_map(|row| self.speed(&content.map, row, sender)).collect()
            }
            Subject::Speeds => self.speed(&content.map, &content.map, sender).into_iter().collect(),
        }
    }

    fn user(&self, row: &Map<String, Value>) -> Option<Value> {
        let user = Id::parse(word(row, "U")?).ok()?;
        let address = word(row, "IP").filter(|_| self.rules.addresses);
        Some(match address {
            Some(address) => json!({"U": user.as_str(), "IP": address}),
            None => json!({"U": user.as_str()}),
        })
    }

    fn speed(
        &self,
        whole: &Map<String, Value>,
        row: &Map<String, Value>,
        sender: &Id,
    ) -> Option<Value> {
        let seconds = row.get("response_time").and_then(crate::proto::content::seconds);
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
        let place = match (word(row, "host"), row.get("port").and_then(Value::as_u64)) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            _ => word(row, "station")?.to_owned(),
        };
        let mut speed = Map::new();
        // A user speaks for itself only; a station may pass on what users have said.
        let user = word(whole, "U").filter(|_| sender.kind() != EntityKind::User);
        speed.insert("U".into(), user.unwrap_or(sender.naked().as_str()).into());
        speed.extend(word(whole, "provider").map(|id| ("provider".to_owned(), id.into())));
        speed.insert("station".into(), place.into());
        let client = word(row, "socket_address").or(word(row, "client"));
        let client = client.filter(|_| self.rules.addresses);
        speed.extend(client.map(|client| ("client".to_owned(), client.into())));
        speed.insert("response_time".into(), seconds.into());
        Some(speed.into())
    }

    fn sum(&mut self, subject: Subject, row: &Value) {
        let number = |name: &str| row.get(name).and_then(Value::as_u64).unwrap_or_default();
        match subject {
            Subject::Users => self.sums.logins += 1,
            Subject::Stats => {
                let sums = &mut self.sums.messages;
                let key = (number("S"), number("T"));
                let known = sums.len() < SUMS_MAX || sums.contains_key(&key);
                let sum = sums.entry(if known { key } else { (0, 0) }).or_default();
                *sum = sum.saturating_add(number("C"));
            }
            Subject::Speeds => {
                let place = row.get("station").and_then(Value::as_str).unwrap_or_default();
                let seconds = row.get("response_time").and_then(Value::as_f64).unwrap_or_default();
                let sums = &mut self.sums.speeds;
                let known = sums.len() < SUMS_MAX || sums.contains_key(place);
                let sum = sums.entry(if known { place } else { "" }.to_owned()).or_default();
                *sum = (sum.0 + 1, sum.1 + seconds);
            }
        }
    }

    fn log(&mut self, subject: Subject, rows: Vec<Value>, now_s: f64) {
        let log = self.logs.entry(subject).or_default();
        let day = day_of(now_s);
        if log.day != day {
            let before = std::mem::replace(log, Log { day, ..Log::default() });
            if before.changed {
                self.done.push(before.file(subject));
            }
        }
        let room = ROWS_A_DAY_MAX.saturating_sub(log.rows);
        self.sums.left_out += rows.len().saturating_sub(room) as u64;
        let minute = utc(now_s).chars().take(16).collect::<String>();
        let place = log.minutes.entry(minute).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(place) = place {
            let before = place.len();
            place.extend(rows.into_iter().take(room));
            log.rows += place.len() - before;
            log.changed = true;
        }
    }

    fn pass_on(&self, subject: Subject, mut map: Map<String, Value>, rows: &[Value]) -> Vec<Post> {
        let Some(listeners) = self.rules.listeners.get(&subject) else { return Vec::new() };
        if !self.rules.addresses {
            for name in ["IP", "client", "remote_address"] {
                map.shift_remove(name);
            }
            strip_addresses(&mut map);
        }
        for name in ["sn", "time"] {
            map.shift_remove(name);
        }
        map.insert("type".into(), kind::CUSTOMIZED.into());
        if let (Subject::Speeds, Some(user)) = (subject, rows.first().and_then(|row| row.get("U")))
        {
            map.insert("U".into(), user.clone());
        }
        listeners.iter().map(|to| Post { to: to.clone(), content: map.clone() }).collect()
    }
}

impl Bot for Monitor {
    fn hear(&mut self, heard: Heard<'_>, _: &dyn Source) -> Vec<Post> {
        let said = |name: &str| heard.content.map.get(name).and_then(Value::as_str);
        if heard.content.kind != kind::CUSTOMIZED || said("app") != Some(APP) {
            return Vec::new();
        }
        let subject = Subject::ALL.into_iter().find(|subject| said("mod") == Some(subject.word()));
        let sender = heard.message.sender();
        let subject = subject
            .filter(|subject| said("act") == Some("post") && self.may_post(sender, *subject));
        let rows = subject.map(|subject| (subject, self.rows(heard.content, subject, sender)));
        let Some((subject, rows)) = rows.filter(|(_, rows)| !rows.is_empty()) else {
            tracing::debug!(%sender, "a post that is not taken");
            self.sums.refused += 1;
            return Vec::new();
        };
        for row in &rows {
            self.sum(subject, row);
        }
        let posts = self.pass_on(subject, heard.content.map.clone(), &rows);
        self.log(subject, rows, heard.now_s);
        posts
    }

    fn learned(&mut self, _: &Id, _: &dyn Source, _: f64) -> Vec<Post> {
        Vec::new()
    }

    fn logged_in(&mut self, station: &Id) {
        self.station = Some(station.naked());
    }

    fn take_notes(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn recall(&mut self, _: &[u8]) -> Result<(), NoteError> {
        Err(NoteError("the monitor has no notes".to_owned()))
    }

    fn size(&self) -> usize {
        0
    }

    fn tell_all(&self, _: &mut dyn FnMut(String)) {}
}

impl Log {
    fn file(&self, subject: Subject) -> LogFile {
        LogFile { name: name_of(subject, &self.day), text: text::write_object(&self.minutes) }
    }
}

fn name_of(subject: Subject, day: &str) -> String {
    format!("{}_log-{day}.js", subject.word())
}

fn day_of(now_s: f64) -> String {
    utc(now_s).chars().take(10).collect()
}

/// A text of a row that is not too long.
fn word<'a>(row: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    row.get(name)?.as_str().filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX)
}

fn stat(row: &Map<String, Value>) -> Option<Value> {
    let number = |name: &str| row.get(name).and_then(Value::as_u64);
    Some(json!({"S": number("S")?, "T": number("T")?, "C": number("C")?}))
}

/// Takes users' addresses out of a content's rows.
fn strip_addresses(map: &mut Map<String, Value>) {
    for name in ["users", "stations"] {
        let rows = map.get_mut(name).and_then(Value::as_array_mut);
        for row in rows.into_iter().flatten().filter_map(Value::as_object_mut) {
            for address in ["IP", "socket_address", "client"] {
                row.shift_remove(address);
            }
        }
    }
}

/// A label's value, as Prometheus quotes it.
fn label(value: &str) -> String {
    value
        .chars()
        .filter(|letter| !letter.is_control())
        .flat_map(|letter| match letter {
            '"' | '\\' => vec!['\\', letter],
            _ => vec![letter],
        })
        .collect()
}
