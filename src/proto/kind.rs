//! What makes a Rust type stand for a kind of content: the keys it is known by, how it is read
//! from a content's fields and written into them.
//!
//! A type reads and writes its own fields only. What else a content carries stays where it is, so
//! fields of newer clients survive when a content is changed and sent on.

use serde_json::{Map, Value};

use super::content::{Content, ContentError, kind};
use super::field::{Field, Source};

/// What a content is, from the broadest to the narrowest that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key<'a> {
    /// Any content of this number.
    Content(u32),
    /// The command of this name.
    Command(&'a str),
    /// The group's history command of this name.
    History(&'a str),
    /// What a module of an application writes: `app` and `mod`.
    Customized(&'a str, &'a str),
    /// One action of it: `app`, `mod` and `act`.
    Action(&'a str, &'a str, &'a str),
}

/// Most keys of one content: action, module, number.
const KEYS_MAX: usize = 3;

impl Key<'_> {
    /// Number of the contents that have this key. An application's own contents are written as
    /// customized ones and read as application contents too.
    pub const fn number(&self) -> u32 {
        match self {
            Self::Content(number) => *number,
            Self::Command(_) => kind::COMMAND,
            Self::History(_) => kind::HISTORY,
            Self::Customized(..) | Self::Action(..) => kind::CUSTOMIZED,
        }
    }

    /// Writes the names that make this the key of a content.
    fn write(&self, map: &mut Map<String, Value>) {
        match self {
            Self::Content(_) => {}
            Self::Command(name) | Self::History(name) => {
                map.insert("command".into(), (*name).into());
                // The old name of the same; it is added again when the content is sent.
                map.shift_remove("cmd");
            }
            Self::Customized(app, module) | Self::Action(app, module, _) => {
                map.insert("app".into(), (*app).into());
                map.insert("mod".into(), (*module).into());
            }
        }
        if let Self::Action(.., act) = self {
            map.insert("act".into(), (*act).into());
        }
    }
}

impl Content {
    /// What this content is, narrowest first.
    pub fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        let text = |name: &str| self.map.get(name).and_then(Value::as_str);
        let mut keys: [Option<Key<'_>>; KEYS_MAX] = [None; KEYS_MAX];
        match self.kind {
            kind::COMMAND => keys[1] = text("command").map(Key::Command),
            kind::HISTORY => keys[1] = text("command").map(Key::History),
            kind::APPLICATION | kind::CUSTOMIZED => {
                if let (Some(app), Some(module)) = (text("app"), text("mod")) {
                    keys[0] = text("act").map(|act| Key::Action(app, module, act));
                    keys[1] = Some(Key::Customized(app, module));
                }
            }
            _ => {}
        }
        keys[2] = Some(Key::Content(self.kind));
        keys.into_iter().flatten()
    }
}

/// A type that stands for a kind of content.
pub trait Kind: Sized {
    /// The keys it is known by; it is written under the first. Never empty, and all of one
    /// number.
    const KEYS: &'static [Key<'static>];

    /// Reads its fields. An error is the fault of whoever wrote the content.
    fn read(source: &Source<'_>) -> Result<Self, ContentError>;

    /// Writes its fields among those that stand there, and takes off those of its own that it
    /// does not have. `type`, `sn`, `time` and the names of the first key are written before.
    fn write(&self, map: &mut Map<String, Value>);
}

/// Puts `value` among `map`'s fields: its key's names, then its own fields.
pub(super) fn put<T: Kind>(value: &T, map: &mut Map<String, Value>) {
    if let Some(key) = T::KEYS.first() {
        key.write(map);
    }
    value.write(map);
}

/// Whether `content` is one of those that `T` stands for.
pub(super) fn stands_for<T: Kind>(content: &Content) -> bool {
    content.keys().any(|key| T::KEYS.contains(&key))
}

/// Writes a field under the first of `names` and takes off the others, which are older names of
/// the same and are added again when the content is sent.
pub(super) fn set<F: Field>(map: &mut Map<String, Value>, names: &[&'static str], field: &F) {
    let Some((name, older)) = names.split_first() else {
        return;
    };
    for old in older {
        map.shift_remove(*old);
    }
    match field.write() {
        Some(value) => map.insert((*name).into(), value),
        None => map.shift_remove(*name),
    };
}

/// A struct whose fields are those of a content, each with its name on the wire and, after `|`,
/// the older names that are read in its place.
macro_rules! record {
    (
        $(#[$attribute:meta])*
        $name:ident: $($key:expr),+;
        $($(#[$doc:meta])* $field:ident: $type:ty = $($wire:literal)|+,)*
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $crate::proto::kind::Kind for $name {
            const KEYS: &'static [$crate::proto::kind::Key<'static>] = &[$($key),+];

            fn read(
                source: &$crate::proto::field::Source<'_>,
            ) -> Result<Self, $crate::proto::content::ContentError> {
                Ok(Self { $($field: source.field(&[$($wire),+])?,)* })
            }

            fn write(&self, map: &mut serde_json::Map<String, serde_json::Value>) {
                $($crate::proto::kind::set(map, &[$($wire),+], &self.$field);)*
            }
        }
    };
}
pub(super) use record;
