//! Short names and what they stand for.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::proto::content::ContentError;
use crate::proto::field::{Field, Source};
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, set};
use crate::proto::registry::Registry;

/// Asks what names stand for, or says it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ans {
    /// The names; on the wire one text, with blanks between.
    pub names: Vec<String>,
    /// What they stand for; none in a question.
    pub records: Option<BTreeMap<String, Id>>,
    /// Names that nobody knows.
    pub missed: Option<Vec<String>>,
}

/// An object of IDs; what is none is left out.
impl Field for BTreeMap<String, Id> {
    fn read(value: Option<&Value>, registry: &Registry) -> Option<Self> {
        let pairs = value?.as_object()?.iter();
        let read =
            |(name, id): (&String, &Value)| Some((name.clone(), registry.id(id.as_str()?).ok()?));
        Some(pairs.filter_map(read).collect())
    }

    fn write(&self) -> Option<Value> {
        let pairs = self.iter().map(|(name, id)| (name.clone(), Value::from(id.as_str())));
        Some(Value::Object(pairs.collect()))
    }
}

/// A list of texts; what is none is left out.
impl Field for Vec<String> {
    fn read(value: Option<&Value>, _: &Registry) -> Option<Self> {
        let texts = value?.as_array()?.iter().filter_map(Value::as_str);
        Some(texts.map(str::to_owned).collect())
    }

    fn write(&self) -> Option<Value> {
        Some(self.iter().map(String::as_str).collect())
    }
}

impl Kind for Ans {
    const KEYS: &'static [Key<'static>] = &[Key::Command("ans")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let names: String = source.field(&["names"])?;
        Ok(Self {
            names: names.split_whitespace().map(str::to_owned).collect(),
            records: source.field(&["records"])?,
            missed: source.field(&["missed"])?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["names"], &self.names.join(" "));
        set(map, &["records"], &self.records);
        set(map, &["missed"], &self.missed);
    }
}
