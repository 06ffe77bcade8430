//! Questions for users, which a search bot answers.

use serde_json::{Map, Value};

use crate::proto::content::ContentError;
use crate::proto::field::Source;
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, set};

/// Asks for users by words, or answers that.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Search {
    /// Words that all have to occur in name or ID, with blanks between; [`Search::ONLINE`] asks
    /// who is online.
    pub keywords: String,
    /// How many hits to leave out at the beginning.
    pub start: u64,
    /// How many hits at most; 0 leaves it to the bot.
    pub limit: i64,
    /// Who answers.
    pub station: Option<Id>,
    /// The hits; none in a question.
    pub users: Option<Vec<Id>>,
    /// Metas of the hits by ID, for clients of before 2022.
    pub results: Option<Map<String, Value>>,
}

impl Search {
    /// The word that asks for users who are online.
    pub const ONLINE: &'static str = "users";
}

impl Kind for Search {
    const KEYS: &'static [Key<'static>] = &[Key::Command("search"), Key::Command(Self::ONLINE)];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let keywords: Option<String> = source.field(&["keywords", "keyword", "kw"])?;
        let named = || match source.text("command") {
            Self::ONLINE => Self::ONLINE.to_owned(),
            _ => String::new(),
        };
        Ok(Self {
            keywords: keywords.unwrap_or_else(named),
            start: source.field(&["start"])?,
            limit: source.field(&["limit"])?,
            station: source.field(&["station"])?,
            users: source.field(&["users"])?,
            results: source.field(&["results"])?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        set(map, &["keywords", "keyword", "kw"], &self.keywords);
        set(map, &["start"], &self.start);
        set(map, &["limit"], &self.limit);
        set(map, &["station"], &self.station);
        set(map, &["users"], &self.users);
        set(map, &["results"], &self.results);
    }
}
