//! What a user leaves with a bot for later: contacts, sealed keys.

use serde_json::{Map, Value};

use crate::proto::content::ContentError;
use crate::proto::field::Source;
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, set};

/// Leaves something under a title, or asks for it back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Storage {
    /// What it is: `contacts`, `private_key` or another word.
    pub title: String,
    /// Whose it is.
    pub did: Option<Id>,
    /// The bytes, sealed by `key`; none in a question.
    pub data: Option<Vec<u8>>,
    /// The content key of `data`, sealed for the owner.
    pub key: Option<Vec<u8>>,
    /// Contacts in the open, instead of `data`.
    pub contacts: Option<Vec<Id>>,
}

/// Title and, in old commands, the name itself.
const CONTACTS: &str = "contacts";

impl Kind for Storage {
    const KEYS: &'static [Key<'static>] =
        &[Key::Command("storage"), Key::Command(CONTACTS), Key::Command("private_key")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let title: Option<String> = source.field(&["title"])?;
        let title = title.unwrap_or_else(|| source.text("command").to_owned());
        if title == "storage" {
            return Err(ContentError::Missing("title"));
        }
        Ok(Self {
            title,
            did: source.field(&["ID", "did"])?,
            data: source.field(&["data"])?,
            key: source.field(&["key"])?,
            contacts: source.field(&[CONTACTS])?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["title"], &self.title);
        // Only this command is still asked for by the old name.
        set(map, &["ID", "did"], &self.did);
        set(map, &["data"], &self.data);
        set(map, &["key"], &self.key);
        set(map, &[CONTACTS], &self.contacts);
    }
}
