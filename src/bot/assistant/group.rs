//! Who is in a group, by whose command.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::client::directory::LIST_MAX;
use crate::proto::command::Change;
use crate::proto::id::Id;
use crate::proto::json;
use crate::proto::message::ReliableMessage;

/// Commands that are kept for members who ask how the group came about; the first, which says who all
/// the members are, stays.
pub(super) const HISTORY_MAX: usize = 64;
/// Bytes of them; the second oldest go first. One that does not fit beside the first is not kept.
pub(super) const HISTORY_BYTES_MAX: usize = 256 << 10;

/// What is known of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Everyone in it, the owner first.
    #[serde(serialize_with = "write_ids", deserialize_with = "read_ids")]
    pub(super) members: Vec<Id>,
    /// When the last command was given, in seconds since 1970.
    pub(super) time: f64,
    /// The commands, as messages that anybody can read and prove.
    pub(super) history: Vec<Value>,
}

/// What a command comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Changed,
    /// Its sender may not say so.
    Denied,
    /// It says nothing new, or nothing that an assistant needs to know.
    Nothing,
}

impl Group {
    /// Obeys a command, if its sender may give it and it is newer than the last one.
    pub(super) fn judge(
        &mut self,
        sender: &Id,
        owner: &Id,
        administrators: &[Id],
        change: &Change,
        time: Option<f64>,
    ) -> Verdict {
        let is_admin = |id: &Id| administrators.iter().any(|admin| admin.is_same_as(id));
        let is_boss = |id: &Id| owner.is_same_as(id) || is_admin(id);
        let Some(time) = time.filter(|time| *time > self.time) else {
            return Verdict::Nothing;
        };
        let new = match change {
            Change::Reset(members) => {
                let all = naked(members);
                let whole = administrators.iter().all(|admin| all.contains(&admin.naked()));
                if !is_boss(sender) || !whole || all.first() != Some(&owner.naked()) {
                    return Verdict::Denied;
                }
                all
            }
            Change::Invite(more) | Change::Expel(more) if !is_boss(sender) || self.is_empty() => {
                tracing::debug!(members = more.len(), "a change of members is denied");
                return Verdict::Denied;
            }
            Change::Invite(more) => naked(&[&self.members[..], more].concat()),
            Change::Expel(gone) if gone.iter().any(is_boss) => return Verdict::Denied,
            Change::Expel(gone) => self.without(&naked(gone)),
            Change::Quit if is_boss(sender) || !self.members.contains(sender) => {
                return Verdict::Denied;
            }
            Change::Quit => self.without(std::slice::from_ref(sender)),
            Change::Join
            | Change::Resign
            | Change::Hire(_)
            | Change::Fire(_)
            | Change::Query { .. } => return Verdict::Nothing,
        };
        (self.members, self.time) = (new, time);
        Verdict::Changed
    }

    /// Keeps a command that was obeyed, if others can read it.
    pub(super) fn remember(&mut self, message: &ReliableMessage, change: &Change) {
        if matches!(change, Change::Reset(_)) {
            self.history.clear();
        }
        if let (true, Ok(message)) = (message.is_plain(), json::parse(message.raw())) {
            let bytes = |message: &Value| message.to_string().len();
            self.history.push(message);
            let mut held: usize = self.history.iter().map(bytes).sum();
            while self.history.len() > 1
                && (self.history.len() > HISTORY_MAX || held > HISTORY_BYTES_MAX)
            {
                held -= bytes(&self.history.remove(1));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn without(&self, gone: &[Id]) -> Vec<Id> {
        self.members.iter().filter(|member| !gone.contains(member)).cloned().collect()
    }
}

/// Each once, without terminals, and not too many.
fn naked(ids: &[Id]) -> Vec<Id> {
    let mut seen = std::collections::HashSet::new();
    let users = ids.iter().map(Id::naked).filter(|id| id.is_user() && !id.is_broadcast());
    users.filter(|id| seen.insert(id.clone())).take(LIST_MAX).collect()
}

fn write_ids<S: Serializer>(ids: &[Id], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(Id::as_str))
}

fn read_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Id>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| Id::parse(text).map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::directory::Names;

    fn user(n: u8) -> Id {
        Id::build(Some("user"), &crate::proto::address::Address::btc(0, &[n])).unwrap()
    }

    #[test]
    fn only_who_may_changes_the_members_and_only_by_a_newer_word() {
        use Verdict::{Changed, Denied, Nothing};
        let (owner, admin, bob, eve) = (user(1), user(2), user(3), user(4));
        let admins = [admin.clone()];
        let mut group = Group::default();
        let mut judge = |sender: &Id, change: Change, time: f64| {
            group.judge(sender, &owner, &admins, &change, Some(time))
        };
        let all = |ids: &[&Id]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
        let three = || Change::Reset(all(&[&owner, &admin, &bob]));
        assert_eq!(judge(&owner, Change::Invite(all(&[&bob])), 1.0), Denied);
        assert_eq!(judge(&eve, three(), 1.0), Denied);
        assert_eq!(judge(&owner, Change::Reset(all(&[&owner, &bob])), 1.0), Denied);
        assert_eq!(judge(&owner, Change::Reset(all(&[&bob, &owner, &admin])), 1.0), Denied);
        assert_eq!(judge(&admin, three(), 1.0), Changed);
        assert_eq!(judge(&owner, three(), 1.0), Nothing);
        assert_eq!(judge(&bob, Change::Invite(all(&[&eve])), 2.0), Denied);
        assert_eq!(judge(&owner, Change::Invite(all(&[&eve])), 2.0), Changed);
        assert_eq!(judge(&owner, Change::Expel(all(&[&admin])), 3.0), Denied);
        assert_eq!(judge(&owner, Change::Expel(all(&[&bob])), 3.0), Changed);
        assert_eq!(judge(&bob, Change::Quit, 4.0), Denied);
        assert_eq!(judge(&admin, Change::Quit, 4.0), Denied);
        assert_eq!(judge(&eve, Change::Join, 4.0), Nothing);
        assert_eq!(judge(&eve, Change::Quit, 4.0), Changed);
        assert_eq!(judge(&owner, three(), 1.0), Nothing);
        assert_eq!(group.members, all(&[&owner, &admin]));
        let text = serde_json::to_string(&group).unwrap();
        assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), group);
    }
    #[test]
    fn what_a_history_takes_is_bounded_and_the_first_command_stays() {
        let mut group = Group::default();
        let invite = Change::Invite(Vec::new());
        let (mut parser, mut names) = (json::Parser::new(), Names::default());
        let mut keep = |group: &mut Group, n: usize, bytes: usize| {
            let text = serde_json::json!({
                "sender": user(1).as_str(), "receiver": "everyone@everywhere", "time": n,
                "type": 137, "data": "x".repeat(bytes), "signature": "AAAA",
            });
            let raw = text.to_string().into();
            group.remember(&ReliableMessage::parse(raw, &mut parser, &mut names).unwrap(), &invite);
        };
        for n in 0..4 {
            keep(&mut group, n, HISTORY_BYTES_MAX / 3);
        }
        let times: Vec<u64> = group.history.iter().filter_map(|m| m["time"].as_u64()).collect();
        assert_eq!(times, [0, 3]);
        keep(&mut group, 4, HISTORY_BYTES_MAX);
        assert_eq!(group.history.len(), 1, "too long for its place");
        for n in 5..5 + 2 * HISTORY_MAX {
            keep(&mut group, n, 1);
        }
        assert_eq!(group.history.len(), HISTORY_MAX);
        assert_eq!(group.history[0]["time"], 0);
    }
}
