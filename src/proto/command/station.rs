//! Commands a station understands, and the answers it gives.
//!
//! Every read is total: a command that is known by its name but lacks what it needs still becomes
//! a value, so that its sender gets an answer (weakness 19 of the reference: silence).

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::account;
use super::session::report_title;
use crate::proto::content::{emit, kind, seconds};

type Fields = Map<String, Value>;

/// Titles of the handshake.
pub mod title {
    /// From a client: I want to log in (with `session`: here is the key).
    pub const HELLO: &str = "Hello world!";
    /// From a station: sign this session key.
    pub const AGAIN: &str = "DIM?";
    /// From a station: accepted.
    pub const SUCCESS: &str = "DIM!";
    /// From a client: how fast are you?
    pub const PING: &str = "Nice to meet you!";
    /// From a station: this fast.
    pub const PONG: &str = "Nice to meet you too!";
}

/// A command by its name, with the fields a station uses.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Log in, or measure speed.
    Handshake {
        /// One of [`title`], or nonsense.
        title: String,
        /// The session key, in hex.
        session: Option<String>,
    },
    /// Ask for a meta, or bring one.
    Meta {
        /// Whose.
        did: Option<String>,
        /// The meta brought.
        meta: Option<Value>,
    },
    /// Ask for documents, or bring some.
    Documents {
        /// Whose.
        did: Option<String>,
        /// A meta brought along.
        meta: Option<Value>,
        /// The documents brought; none in a query.
        documents: Option<Vec<Value>>,
        /// Query: only if something is newer than this, in seconds since 1970.
        last_time: Option<f64>,
        /// In the form of 2019, so that the answer has to be.
        profile: bool,
    },
    /// Where a user is logged in.
    Login {
        /// Who.
        did: Option<String>,
        /// ID of the station that is named, if one is.
        station: Option<String>,
        /// The device.
        terminal: Option<String>,
    },
    /// Online or offline.
    Report {
        /// `online`, `offline`, or something unknown.
        title: String,
    },
    /// Ask what names stand for.
    Ans {
        /// Names, separated by blanks.
        names: String,
    },
    /// Say whom one does not want to hear, or ask what one said last.
    List {
        /// Not at all, or without a notification.
        which: List,
        /// IDs; none in a query.
        entries: Option<Vec<Value>>,
    },
    /// An answer to something; never answered.
    Receipt,
    /// None of these.
    Unknown {
        /// Its name.
        name: String,
    },
}

/// The lists that a user can leave with a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Whose messages do not come.
    Block,
    /// Whose messages come without a notification.
    Mute,
}

impl List {
    /// The command's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Mute => "mute",
        }
    }
}

impl Command {
    /// Reads a command whose names have been made one ([`crate::proto::compat::receive`]).
    pub fn read(map: &Fields) -> Self {
        let text = |name: &str| map.get(name).and_then(Value::as_str).map(str::to_owned);
        let name = text("command").unwrap_or_default();
        match name.as_str() {
            "handshake" => Self::Handshake {
                // Old clients say `message` only.
                title: text("title").or_else(|| text("message")).unwrap_or_default(),
                session: text("session").filter(|s| !s.is_empty()),
            },
            "meta" => Self::Meta { did: text("did"), meta: filled(map.get("meta")) },
            "documents" => Self::Documents {
                did: text("did"),
                meta: filled(map.get("meta")),
                documents: entries(map.get("documents")),
                last_time: map.get("last_time").and_then(seconds),
                profile: false,
            },
            // The document command of 2019.
            "profile" => Self::Documents {
                did: text("did").or_else(|| text("ID")),
                meta: filled(map.get("meta")),
                documents: account::profile(map),
                last_time: None,
                profile: true,
            },
            "login" => Self::Login {
                did: text("did"),
                station: map.get("station").and_then(entity),
                terminal: text("terminal"),
            },
            // 2019's clients say by `broadcast` whether their window is in front.
            "report" | "online" | "offline" | "broadcast" => {
                Self::Report { title: report_title(map).to_owned() }
            }
            "ans" => Self::Ans { names: text("names").unwrap_or_default() },
            "block" => Self::List { which: List::Block, entries: entries(map.get("list")) },
            "mute" => Self::List { which: List::Mute, entries: entries(map.get("list")) },
            "receipt" => Self::Receipt,
            _ => Self::Unknown { name },
        }
    }
}

fn entries(value: Option<&Value>) -> Option<Vec<Value>> {
    match value {
        Some(Value::Array(list)) => Some(list.clone()),
        Some(Value::Null) | None => None,
        Some(_) => Some(Vec::new()),
    }
}

fn filled(value: Option<&Value>) -> Option<Value> {
    value.filter(|v| !v.is_null()).cloned()
}

fn entity(value: &Value) -> Option<String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    text("did").or_else(|| text("ID"))
}

/// Number and time of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Serial number of the content.
    pub sn: u64,
    /// Seconds since 1970.
    pub time: f64,
}

fn command(stamp: Stamp, name: &str, fields: Value) -> Fields {
    let mut map = Map::new();
    map.insert("command".into(), name.into());
    if let Value::Object(fields) = fields {
        map.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    emit(kind::COMMAND, stamp.sn, stamp.time, map)
}

/// A station's handshake: `title`, session key, and the peer's address as the station sees it.
pub fn handshake(
    stamp: Stamp,
    title: &str,
    session: Option<&str>,
    peer: Option<(&str, u16)>,
) -> Fields {
    let peer = peer.map(|(host, port)| json!([host, port]));
    command(
        stamp,
        "handshake",
        json!({"title": title, "message": title, "session": session, "remote_address": peer}),
    )
}

/// The answer to a meta query.
pub fn meta(stamp: Stamp, did: &str, meta: Fields) -> Fields {
    command(stamp, "meta", json!({"did": did, "meta": meta}))
}

/// The answer to a documents query, newest first.
pub fn documents(stamp: Stamp, did: &str, meta: Option<Fields>, documents: Vec<Value>) -> Fields {
    command(stamp, "documents", json!({"did": did, "meta": meta, "documents": documents}))
}

/// The same for clients of 2019, who know one document and call it profile: its text and signature.
pub fn profile(stamp: Stamp, did: &str, meta: Option<Fields>, newest: &Value) -> Fields {
    let (data, signature) = (newest.get("data"), newest.get("signature"));
    command(
        stamp,
        "profile",
        json!({"did": did, "ID": did, "meta": meta, "profile": data, "signature": signature}),
    )
}

/// The answer to an ANS query; `missed` only where a name is unknown.
pub fn ans(stamp: Stamp, names: &str, records: Fields, missed: Vec<String>) -> Fields {
    let missed = (!missed.is_empty()).then_some(missed);
    command(stamp, "ans", json!({"names": names, "records": records, "missed": missed}))
}

/// The answer to a question for a list that was never left.
pub fn list(stamp: Stamp, which: List) -> Fields {
    command(stamp, which.name(), json!({"list": []}))
}

/// Several contents in one. Clients of 2.x do not translate what is inside, older ones read `cmd`:
/// so documents are named there in both ways at once.
pub fn array(stamp: Stamp, contents: Vec<Fields>) -> Fields {
    let contents = contents.into_iter().map(inside).map(Value::Object).collect::<Vec<_>>();
    let mut map = Map::new();
    map.insert("contents".into(), contents.into());
    emit(kind::ARRAY, stamp.sn, stamp.time, map)
}

fn inside(mut content: Fields) -> Fields {
    if content.get("command").and_then(Value::as_str) == Some("document") {
        content.insert("command".into(), "documents".into());
        if let (None, Some(one)) = (content.get("documents"), content.get("document").cloned()) {
            content.insert("documents".into(), Value::Array(vec![one]));
        }
    }
    content
}

/// Whole messages in one content.
pub fn forward(stamp: Stamp, secrets: Vec<Value>) -> Fields {
    let mut map = Map::new();
    map.insert("secrets".into(), secrets.into());
    emit(kind::FORWARD, stamp.sn, stamp.time, map)
}

/// What a receipt says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReceiptText {
    /// The sentence, as the reference has it.
    pub text: Cow<'static, str>,
    /// The same with variables, for clients that translate.
    pub template: Option<&'static str>,
    /// Values of the variables.
    pub replacements: Option<Value>,
    /// Further fields, such as `recipient`.
    pub more: Option<Value>,
    /// The group it is about.
    pub group: Option<String>,
}

impl ReceiptText {
    /// A sentence alone.
    pub fn plain(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A sentence with its template and values.
    pub fn new(
        text: impl Into<Cow<'static, str>>,
        template: &'static str,
        replacements: Value,
    ) -> Self {
        let text = text.into();
        Self { text, template: Some(template), replacements: Some(replacements), ..Self::default() }
    }

    /// With a field of its own.
    pub fn with(mut self, more: Value) -> Self {
        self.more = Some(more);
        self
    }
}

/// A receipt about the message whose envelope is `origin`.
pub fn receipt(stamp: Stamp, said: ReceiptText, origin: Fields) -> Fields {
    let mut fields = Map::new();
    fields.insert("text".into(), said.text.into());
    if let Some(template) = said.template {
        fields.insert("template".into(), template.into());
    }
    if let Some(replacements) = said.replacements {
        fields.insert("replacements".into(), replacements);
    }
    if let Some(group) = said.group {
        fields.insert("group".into(), group.into());
    }
    if let Some(Value::Object(more)) = said.more {
        fields.extend(more);
    }
    fields.insert("origin".into(), Value::Object(origin));
    command(stamp, "receipt", Value::Object(fields))
}
