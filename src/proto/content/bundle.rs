//! Contents that carry others: several contents in one, whole messages, parts of a conversation.

use serde_json::{Map, Value};

use super::{ContentError, kind};
use crate::proto::field::Source;
use crate::proto::kind::{Key, Kind, record, set};

record! {
    /// Several contents in one.
    #[derive(Default)]
    Array: Key::Content(kind::ARRAY);
    /// The contents, as objects. Readers of 2.x do not translate the names in them.
    contents: Vec<Value> = "contents",
}

record! {
    /// A part of a conversation, shown to somebody else. It proves nothing.
    #[derive(Default)]
    Combine: Key::Content(kind::COMBINE);
    /// What the conversation is called.
    title: String = "title",
    /// The messages as objects: `sender`, `receiver`, `time` and `content`.
    messages: Vec<Value> = "messages",
}

/// Whole messages, each signed by its own sender.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forward {
    /// The messages, as objects.
    pub secrets: Vec<Value>,
}

impl Kind for Forward {
    const KEYS: &'static [Key<'static>] = &[Key::Content(kind::FORWARD)];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        Ok(Self { secrets: secrets(source.map) })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["secrets", "forward"], &self.secrets);
    }
}

/// The messages of a list, or the one of the old form.
pub(super) fn secrets(map: &Map<String, Value>) -> Vec<Value> {
    match (map.get("secrets"), map.get("forward")) {
        (Some(Value::Array(secrets)), _) => secrets.clone(),
        (_, Some(one @ Value::Object(_))) => vec![one.clone()],
        _ => Vec::new(),
    }
}
