//! Contents of applications, and those of groups that travel in their form.

use serde_json::{Map, Value};

use super::{ContentError, kind};
use crate::proto::field::{Field, Source};
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, record, set};
use crate::proto::registry::Registry;

record! {
    /// An application's own content.
    #[derive(Default)]
    Application: Key::Content(kind::APPLICATION);
    /// The application, such as `chat.dim.sechat`.
    app: String = "app",
}

record! {
    /// An application's own content, by module and action.
    #[derive(Default)]
    Customized: Key::Content(kind::CUSTOMIZED);
    /// The application, such as `chat.dim.sechat`.
    app: String = "app",
    /// Its part.
    module: String = "mod",
    /// What that is to do.
    act: String = "act",
}

/// The application of a group's keys and history.
const GROUP: &str = "chat.dim.group";

/// What members of a group and its assistant ask of each other.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupContent {
    /// The group.
    pub group: Id,
    /// What is asked or brought.
    pub ask: GroupAsk,
}

/// A question about a group, or the answer to one.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupAsk {
    /// Who are the members, by whose command?
    History {
        /// Only if something is newer than this, in seconds since 1970.
        last_time: Option<f64>,
    },
    /// Assistant to a sender: seal your key for these members.
    Query {
        /// The sender of the messages.
        from: Id,
        /// For whom a key is missing.
        members: Vec<Id>,
        /// Short digest of the key that is meant.
        digest: Option<String>,
    },
    /// Sender to assistant: my key, sealed for each member.
    Update {
        /// The sender of the messages.
        from: Id,
        /// The keys.
        keys: SealedKeys,
    },
    /// Member to assistant: I lack the key of this sender.
    Request {
        /// The sender of the messages.
        from: Id,
        /// Short digest of the key that is meant.
        digest: Option<String>,
    },
    /// Assistant to a member: here it is.
    Respond {
        /// The sender of the messages.
        from: Id,
        /// The keys; one, for the member.
        keys: SealedKeys,
    },
}

/// A group's content key, sealed for members.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SealedKeys {
    /// Short digest of the key.
    pub digest: Option<String>,
    /// For each member, perhaps with terminal: the sealed key in base64.
    pub sealed: Vec<(Id, String)>,
}

/// One object on the wire, the digest among the members; what is no ID is left out.
impl Field for SealedKeys {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        let map = value?.as_object()?;
        let sealed = map.iter().filter_map(|(member, key)| {
            Some((registry.id(member).ok()?, key.as_str()?.to_owned()))
        });
        let digest = map.get("digest").and_then(Value::as_str).map(str::to_owned);
        Some(Self { digest, sealed: sealed.collect() })
    }

    fn write(&self) -> Option<Value> {
        let digest = self.digest.iter().map(|digest| ("digest".to_owned(), digest.as_str().into()));
        let sealed =
            self.sealed.iter().map(|(id, key)| (id.as_str().to_owned(), key.as_str().into()));
        Some(Value::Object(digest.chain(sealed).collect()))
    }
}

impl GroupAsk {
    const fn act(&self) -> &'static str {
        match self {
            Self::History { .. } | Self::Query { .. } => "query",
            Self::Update { .. } => "update",
            Self::Request { .. } => "request",
            Self::Respond { .. } => "respond",
        }
    }
}

impl Kind for GroupContent {
    // The published packages ask for the history under `keys` as well, though they describe it
    // under a name of its own; only a question for keys names a sender.
    const KEYS: &'static [Key<'static>] =
        &[Key::Customized(GROUP, "keys"), Key::Customized(GROUP, "history")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let from = || source.field(&["from"]);
        let ask = match (source.text("act"), source.value("from")) {
            ("query", None) => GroupAsk::History { last_time: source.field(&["last_time"])? },
            ("query", Some(_)) => GroupAsk::Query {
                from: from()?,
                members: source.field(&["to"])?,
                digest: source.field(&["digest"])?,
            },
            ("update", _) => GroupAsk::Update { from: from()?, keys: source.field(&["keys"])? },
            ("request", _) => {
                GroupAsk::Request { from: from()?, digest: source.field(&["digest"])? }
            }
            ("respond", _) => GroupAsk::Respond { from: from()?, keys: source.field(&["keys"])? },
            _ => return Err(ContentError::Kind("act")),
        };
        Ok(Self { group: source.field(&["group"])?, ask })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        for name in ["from", "to", "digest", "keys", "last_time"] {
            map.shift_remove(name);
        }
        map.insert("act".into(), self.ask.act().into());
        set(map, &["group"], &self.group);
        match &self.ask {
            GroupAsk::History { last_time } => set(map, &["last_time"], last_time),
            GroupAsk::Query { from, members, digest } => {
                set(map, &["from"], from);
                set(map, &["to"], members);
                set(map, &["digest"], digest);
            }
            GroupAsk::Request { from, digest } => {
                set(map, &["from"], from);
                set(map, &["digest"], digest);
            }
            GroupAsk::Update { from, keys } | GroupAsk::Respond { from, keys } => {
                set(map, &["from"], from);
                set(map, &["keys"], keys);
            }
        }
    }
}
