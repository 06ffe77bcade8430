//! Commands that make the history of a group: who belongs to it, by whose word.

use serde_json::{Map, Value};

use crate::proto::content::ContentError;
use crate::proto::field::Source;
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, set};

/// A command of a group's history. It proves nothing: the message around it does.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupCommand {
    /// The group.
    pub group: Id,
    /// What is to change.
    pub change: Change,
    /// A word along with it.
    pub text: Option<String>,
}

/// What a group's command changes or asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// These become members.
    Invite(Vec<Id>),
    /// These are no longer members. Clients of today write `Reset` instead.
    Expel(Vec<Id>),
    /// The sender wants to become a member.
    Join,
    /// The sender is no longer a member.
    Quit,
    /// These are the members, all of them.
    Reset(Vec<Id>),
    /// The sender is no longer an administrator.
    Resign,
    /// These become administrators.
    Hire(Vec<Id>),
    /// These are no longer administrators.
    Fire(Vec<Id>),
    /// Asks for the history. Clients of today ask by a customized content instead.
    Query {
        /// Only if something is newer than this, in seconds since 1970.
        last_time: Option<f64>,
    },
}

impl Change {
    const fn name(&self) -> &'static str {
        match self {
            Self::Invite(_) => "invite",
            Self::Expel(_) => "expel",
            Self::Join => "join",
            Self::Quit => "quit",
            Self::Reset(_) => "reset",
            Self::Resign => "resign",
            Self::Hire(_) => "hire",
            Self::Fire(_) => "fire",
            Self::Query { .. } => "query",
        }
    }
}

/// The list, or the single member of old commands.
fn members(source: &Source<'_>) -> Result<Vec<Id>, ContentError> {
    match (source.value("members"), source.value("member")) {
        (None, Some(_)) => Ok(vec![source.field(&["member"])?]),
        (None, None) => Err(ContentError::Missing("members")),
        (Some(_), _) => source.field(&["members"]),
    }
}

fn administrators(source: &Source<'_>) -> Result<Vec<Id>, ContentError> {
    match source.value("administrators") {
        Some(_) => source.field(&["administrators"]),
        None => Err(ContentError::Missing("administrators")),
    }
}

impl Kind for GroupCommand {
    const KEYS: &'static [Key<'static>] = &[
        Key::History("invite"),
        Key::History("expel"),
        Key::History("join"),
        Key::History("quit"),
        Key::History("reset"),
        Key::History("resign"),
        Key::History("hire"),
        Key::History("fire"),
        Key::History("query"),
    ];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let change = match source.text("command") {
            "invite" => Change::Invite(members(source)?),
            "expel" => Change::Expel(members(source)?),
            "join" => Change::Join,
            "quit" => Change::Quit,
            "reset" => Change::Reset(members(source)?),
            "resign" => Change::Resign,
            "hire" => Change::Hire(administrators(source)?),
            "fire" => Change::Fire(administrators(source)?),
            "query" => Change::Query { last_time: source.field(&["last_time"])? },
            _ => return Err(ContentError::CommandName),
        };
        Ok(Self { group: source.field(&["group"])?, change, text: source.field(&["text"])? })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        for name in ["member", "members", "administrators", "last_time"] {
            map.shift_remove(name);
        }
        map.insert("command".into(), self.change.name().into());
        set(map, &["group"], &self.group);
        match &self.change {
            Change::Invite(ids) | Change::Expel(ids) | Change::Reset(ids) => {
                set(map, &["members"], ids);
            }
            Change::Hire(ids) | Change::Fire(ids) => set(map, &["administrators"], ids),
            Change::Query { last_time } => set(map, &["last_time"], last_time),
            Change::Join | Change::Quit | Change::Resign => {}
        }
        set(map, &["text"], &self.text);
    }
}
