//! What is inside a message once it is open: one content, by its kind, with the fields kept as
//! they came.
//!
//! Clients of several generations write the same things under different names; [`Content::read`]
//! applies the filters that make them one (see [`super::compat`]), [`emit`] writes what all of
//! them can read.

use serde_json::{Map, Value};

use super::command::Command;
use super::compat;

/// Kinds that a station tells apart; all others are carried or declined by their number.
pub mod kind {
    /// A text.
    pub const TEXT: u32 = 1;
    /// A command, `command` names it.
    pub const COMMAND: u32 = 136;
    /// A group's history command.
    pub const HISTORY: u32 = 137;
    /// Several contents in one.
    pub const ARRAY: u32 = 202;
    /// Whole messages inside.
    pub const FORWARD: u32 = 255;
    /// Files: file, image, audio, video.
    pub const FILES: [u32; 4] = [16, 18, 20, 22];
    /// A name card.
    pub const CARD: u32 = 51;
}

/// Text that stands for a kind where a number is usual.
const ALIASES: [(&str, u32); 19] = [
    ("text", 1),
    ("file", 16),
    ("image", 18),
    ("audio", 20),
    ("video", 22),
    ("page", 32),
    ("card", kind::CARD),
    ("quote", 55),
    ("money", 64),
    ("transfer", 65),
    ("command", kind::COMMAND),
    ("history", kind::HISTORY),
    ("application", 160),
    ("app", 160),
    ("array", kind::ARRAY),
    ("customized", 204),
    ("combine", 207),
    ("forward", kind::FORWARD),
    ("*", 0),
];

/// Why a content cannot be read; its sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentError {
    /// Not a JSON object.
    NotAnObject,
    /// A command without a name, or with two that differ.
    CommandName,
    /// `did` and `ID` name different entities.
    TwoIds,
    /// A field has a wrong kind of value.
    Kind(&'static str),
}

impl std::fmt::Display for ContentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAnObject => write!(f, "content is not an object"),
            Self::CommandName => write!(f, "command has no name, or two that differ"),
            Self::TwoIds => write!(f, "did and ID differ"),
            Self::Kind(field) => write!(f, "field {field} has a wrong kind of value"),
        }
    }
}

impl std::error::Error for ContentError {}

/// One content, read.
#[derive(Debug, Clone)]
pub struct Content {
    /// Number of its kind; 0 where none was given or known.
    pub kind: u32,
    /// Serial number, 0 when missing.
    pub sn: u64,
    /// Seconds since 1970 by the sender's clock.
    pub time: Option<f64>,
    /// The group it is about, as text.
    pub group: Option<String>,
    /// What a station does with it.
    pub body: Body,
    /// Every field, names of all generations filled in.
    pub map: Map<String, Value>,
}

/// What a station tells apart.
#[derive(Debug, Clone)]
pub enum Body {
    /// A command.
    Command(Command),
    /// Whole messages, each to be handled as if it had come by itself.
    Forward(Vec<Value>),
    /// Contents, each to be handled and answered.
    Array(Vec<Value>),
    /// Anything else: users' business.
    Other,
}

impl Content {
    /// Reads a content from its JSON object.
    pub fn read(value: Value) -> Result<Self, ContentError> {
        let Value::Object(map) = value else {
            return Err(ContentError::NotAnObject);
        };
        let map = compat::receive(compat::expand_content(map)?)?;
        let kind = kind_of(map.get("type"));
        let body = match kind {
            kind::COMMAND => Body::Command(Command::read(&map)),
            kind::ARRAY => Body::Array(list(map.get("contents"))),
            kind::FORWARD => Body::Forward(match (map.get("secrets"), map.get("forward")) {
                (Some(Value::Array(secrets)), _) => secrets.clone(),
                (_, Some(one @ Value::Object(_))) => vec![one.clone()],
                _ => Vec::new(),
            }),
            _ => Body::Other,
        };
        Ok(Self {
            kind,
            sn: map.get("sn").and_then(number).unwrap_or(0),
            time: map.get("time").and_then(seconds),
            group: map.get("group").and_then(Value::as_str).map(str::to_owned),
            body,
            map,
        })
    }
}

/// The number of a kind given as number, decimal text or name.
pub fn kind_of(value: Option<&Value>) -> u32 {
    match value {
        Some(Value::Number(n)) => n.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        Some(Value::String(text)) => text.parse().ok().unwrap_or_else(|| {
            ALIASES.iter().find(|(name, _)| name == text).map_or(0, |(_, kind)| *kind)
        }),
        _ => 0,
    }
}

/// A time in seconds since 1970, given as number or as decimal text.
pub fn seconds(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    seconds.filter(|s| s.is_finite() && *s >= 0.0)
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => {
            n.as_u64().or_else(|| n.as_f64().filter(|x| *x >= 0.0).map(|x| x as u64))
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn list(value: Option<&Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    }
}

/// A content to be sent: `kind`, `sn`, `time` and the fields given, under the names that every
/// generation reads.
pub fn emit(kind: u32, sn: u64, time: f64, fields: Map<String, Value>) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("type".into(), kind.into());
    map.insert("sn".into(), sn.into());
    map.insert("time".into(), time.into());
    map.extend(fields);
    compat::send(map)
}
