//! What is inside a message once it is open: one content, by its kind, with the fields kept as
//! they came.
//!
//! Clients of several generations write the same things under different names; [`Content::read`]
//! applies the filters that make them one (see [`super::compat`]), [`emit`] writes what all of
//! them can read.
//!
//! A content is a map of fields first: a station reads what it acts on and carries the rest. Who
//! wants to know what one says takes a view of it as the type that stands for its kind:
//!
//! ```
//! use dim::proto::command::Stamp;
//! use dim::proto::content::{Content, Text};
//!
//! let stamp = Stamp { sn: 7, time: 1.5 };
//! let mut content = Content::of(stamp, &Text { text: "hello".to_owned() });
//! assert_eq!(content.view::<Text>()?.text, "hello");
//!
//! // What the type does not know stays when it is written again.
//! content.map.insert("mood".to_owned(), "good".into());
//! content.put(&Text { text: "hello again".to_owned() });
//! let sent = content.to_map();
//! assert_eq!((&sent["type"], &sent["mood"]), (&1.into(), &"good".into()));
//! # Ok::<(), dim::proto::content::ContentError>(())
//! ```

mod app;
mod bundle;
mod file;
mod money;
mod text;

use serde_json::{Map, Value};

use super::command::{Command, Stamp};
use super::compat;
use super::id::Id;
use super::kind::{Key, Kind, put, stands_for};
use super::registry::Registry;

pub use app::{Application, Customized, GroupAsk, GroupContent, SealedKeys};
pub use bundle::{Array, Combine, Forward};
pub use file::{Attachment, Audio, File, Image, Video};
pub use money::{Money, Transfer};
pub use text::{Card, Page, Quote, Text};

/// Numbers of kinds. Contents of all others are carried or declined by their number.
pub mod kind {
    /// A text.
    pub const TEXT: u32 = 1;
    /// A file of any sort.
    pub const FILE: u32 = 16;
    /// A picture.
    pub const IMAGE: u32 = 18;
    /// A sound.
    pub const AUDIO: u32 = 20;
    /// A film.
    pub const VIDEO: u32 = 22;
    /// A web page.
    pub const PAGE: u32 = 32;
    /// A text about an earlier message.
    pub const QUOTE: u32 = 55;
    /// An amount of money.
    pub const MONEY: u32 = 64;
    /// Money from one to another.
    pub const TRANSFER: u32 = 65;
    /// Money for the lucky ones of a group; has no fields of its own.
    pub const LUCKY_MONEY: u32 = 66;
    /// A demand for money; has no fields of its own.
    pub const CLAIM: u32 = 72;
    /// A bill that several share; has no fields of its own.
    pub const SPLIT_BILL: u32 = 73;
    /// An application's own, by `app`.
    pub const APPLICATION: u32 = 160;
    /// An application's own, by `app`, `mod` and `act`.
    pub const CUSTOMIZED: u32 = 204;
    /// A part of a conversation, shown to somebody else.
    pub const COMBINE: u32 = 207;
    /// A command, `command` names it.
    pub const COMMAND: u32 = 136;
    /// A group's history command.
    pub const HISTORY: u32 = 137;
    /// Several contents in one.
    pub const ARRAY: u32 = 202;
    /// Whole messages inside.
    pub const FORWARD: u32 = 255;
    /// Files: file, image, audio, video.
    pub const FILES: [u32; 4] = [FILE, IMAGE, AUDIO, VIDEO];
    /// A name card.
    pub const CARD: u32 = 51;
}

/// Text that stands for a kind where a number is usual.
const ALIASES: [(&str, u32); 19] = [
    ("text", kind::TEXT),
    ("file", kind::FILE),
    ("image", kind::IMAGE),
    ("audio", kind::AUDIO),
    ("video", kind::VIDEO),
    ("page", kind::PAGE),
    ("card", kind::CARD),
    ("quote", kind::QUOTE),
    ("money", kind::MONEY),
    ("transfer", kind::TRANSFER),
    ("command", kind::COMMAND),
    ("history", kind::HISTORY),
    ("application", kind::APPLICATION),
    ("app", kind::APPLICATION),
    ("array", kind::ARRAY),
    ("customized", kind::CUSTOMIZED),
    ("combine", kind::COMBINE),
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
    /// A field that has to be there is not.
    Missing(&'static str),
    /// The content is of another kind than the one asked for. The reader's fault.
    OtherKind,
}

impl std::fmt::Display for ContentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAnObject => write!(f, "content is not an object"),
            Self::CommandName => write!(f, "command has no name, or two that differ"),
            Self::TwoIds => write!(f, "did and ID differ"),
            Self::Kind(field) => write!(f, "field {field} has a wrong kind of value"),
            Self::Missing(field) => write!(f, "field {field} is missing"),
            Self::OtherKind => write!(f, "content is of another kind"),
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
        Self::read_with(value, Registry::none())
    }

    /// Reads a content whose kind may be named by a text that an application has registered.
    pub fn read_with(value: Value, registry: &Registry) -> Result<Self, ContentError> {
        let Value::Object(map) = value else {
            return Err(ContentError::NotAnObject);
        };
        let map = compat::receive(compat::expand_content(map)?)?;
        let kind = match map.get("type") {
            Some(Value::String(text)) => registry.number(text),
            _ => None,
        };
        Ok(Self::sort(kind.unwrap_or_else(|| kind_of(map.get("type"))), map))
    }

    /// A new content that says `value`.
    pub fn of<T: Kind>(stamp: Stamp, value: &T) -> Self {
        let mut map = Map::new();
        map.insert("type".into(), T::KEYS.first().map_or(0, Key::number).into());
        map.insert("sn".into(), stamp.sn.into());
        map.insert("time".into(), stamp.time.into());
        put(value, &mut map);
        Self::sort(kind_of(map.get("type")), map)
    }

    /// The same, about a group.
    pub fn in_group(mut self, group: &Id) -> Self {
        self.map.insert("group".into(), group.as_str().into());
        self.group = Some(group.as_str().to_owned());
        self
    }

    /// What it says, if `T` stands for its kind.
    pub fn view<T: Kind>(&self) -> Result<T, ContentError> {
        Registry::none().view(self)
    }

    /// Lets it say `value`: its kind is that of `T` from now on, fields that `T` does not know stay.
    pub fn put<T: Kind>(&mut self, value: &T) {
        let same = stands_for::<T>(self);
        let mut map = std::mem::take(&mut self.map);
        // An application's number, or its name for one, stays as it was written.
        if !same {
            self.kind = T::KEYS.first().map_or(0, Key::number);
            map.insert("type".into(), self.kind.into());
        }
        put(value, &mut map);
        *self = Self::sort(self.kind, map);
    }

    /// The fields to send, under the names that every generation reads.
    pub fn to_map(&self) -> Map<String, Value> {
        compat::send(self.map.clone())
    }

    /// A content of fields that have the names of today.
    fn sort(kind: u32, map: Map<String, Value>) -> Self {
        let body = match kind {
            kind::COMMAND => Body::Command(Command::read(&map)),
            kind::ARRAY => Body::Array(list(map.get("contents"))),
            kind::FORWARD => Body::Forward(bundle::secrets(&map)),
            _ => Body::Other,
        };
        Self {
            kind,
            sn: map.get("sn").and_then(number).unwrap_or(0),
            time: map.get("time").and_then(seconds),
            group: map.get("group").and_then(Value::as_str).map(str::to_owned),
            body,
            map,
        }
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

/// A count, given as number or as decimal text.
pub(super) fn number(value: &Value) -> Option<u64> {
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
