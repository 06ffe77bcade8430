//! IDs that have been read before, and bare names that stand for an ID (ANS).
//!
//! Reading an ID costs two hashes; a shard reads the same few thousand again and again.

use std::sync::Arc;

use super::id::Id;
use super::registry::Registry;
use crate::base::table::Table;

/// IDs kept for reading again; when full, all are forgotten and gathered anew, which needs no
/// bookkeeping on the hot path.
pub const NAMES_KEPT_MAX: usize = 65_536;

/// The address name service of a station: short names and what they stand for.
#[derive(Debug, Default)]
pub struct Ans {
    records: Table<String, Id>,
}

impl Ans {
    /// A table of configured names. Built-in names cannot be replaced: see [`Id::parse_with`].
    pub fn new(records: impl IntoIterator<Item = (String, Id)>) -> Self {
        Self { records: records.into_iter().collect() }
    }

    /// The ID that a configured name stands for.
    pub fn resolve(&self, name: &str) -> Option<&Id> {
        self.records.get(name)
    }
}

/// Reads IDs and remembers them.
#[derive(Debug, Default)]
pub struct Names {
    /// By the text that was read; nearly always the ID's own, so it is shared.
    known: Table<Arc<str>, Id>,
    ans: Arc<Ans>,
    registry: Arc<Registry>,
}

impl Names {
    /// With the station's configured names.
    pub fn new(ans: Arc<Ans>) -> Self {
        Self::with(ans, Arc::default())
    }

    /// With an application's address forms too.
    pub fn with(ans: Arc<Ans>, registry: Arc<Registry>) -> Self {
        Self { known: Table::default(), ans, registry }
    }

    /// The configured names.
    pub fn ans(&self) -> &Ans {
        &self.ans
    }

    /// The ID that a text stands for, or none.
    pub fn read(&mut self, text: &str) -> Option<Id> {
        if let Some(id) = self.known.get(text) {
            return Some(id.clone());
        }
        let id = Id::parse_in(text, |name| self.ans.resolve(name).cloned(), &self.registry).ok()?;
        if self.known.len() >= NAMES_KEPT_MAX {
            self.known.clear();
        }
        let own = id.as_str() == text;
        self.known.insert(if own { id.shared_text() } else { text.into() }, id.clone());
        Some(id)
    }
}
