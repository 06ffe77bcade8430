//! Who is here: told to the station's administrators, who ask in words.
//!
//! Each shard says what it has; the shard that was asked writes it down as one text.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Shard;
use super::effect::Outbox;
use super::input::{Parcel, ReplyTo};
use super::ring::ShardIndex;
use super::talk::Question;
use super::ticket::Wrap;
use crate::proto::content::{emit, kind};

/// Rows that one shard gives; the sums are of all.
const ROWS_MAX: usize = 500;

/// What administrators can ask, in the words of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Census {
    /// Users with a session.
    Users,
    /// Users with an active session, and its address.
    Active,
    /// All connections, logged in or not.
    Connections,
}

impl Census {
    fn read(text: &str) -> Option<Self> {
        match text.trim().to_lowercase().as_str() {
            "all users" => Some(Self::Users),
            "active users" => Some(Self::Active),
            "request handlers" => Some(Self::Connections),
            _ => None,
        }
    }
}

/// What one shard has.
#[derive(Debug, Clone, Default)]
pub struct Present {
    /// Users with a session.
    pub users: usize,
    /// Those with an active one.
    pub active: usize,
    /// Connections.
    pub connections: usize,
    /// Lines of the table asked for.
    pub rows: Vec<String>,
}

impl Shard {
    /// Answers a text that asks who is here; whether it was one, from an administrator.
    pub(super) fn census(&mut self, question: &Question<'_>, out: &mut Outbox) -> bool {
        let asked = question.content.map.get("text").and_then(Value::as_str).and_then(Census::read);
        let sender = question.message.sender();
        let admin = self.policy.admins.iter().any(|admin| admin.is_same_as(sender));
        let (Some(asked), true, true, 0) =
            (asked, admin, self.is_the_user(question), question.slot)
        else {
            return false;
        };
        let first = self.add_slots(question.ticket, self.ring.len().into(), Wrap::Census(asked));
        for (shard, slot) in (0..self.ring.len()).zip(first..) {
            let reply = ReplyTo { shard: self.index, ticket: question.ticket, slot };
            let to = ShardIndex(shard);
            match to == self.index {
                true => {
                    let present = self.present(asked);
                    self.counted(reply, present, out);
                }
                false => self.forward(to, Parcel::Census { asked, reply }, out),
            }
        }
        self.fill(question.ticket, question.slot, Vec::new(), out);
        true
    }

    /// What this shard has.
    pub(super) fn present(&self, asked: Census) -> Present {
        let mut here = Present { connections: self.sessions.len(), ..Present::default() };
        for user in self.users.values().filter(|user| !user.sessions.is_empty()) {
            here.users += 1;
            let sessions = user.sessions.iter().filter_map(|conn| self.sessions.get(conn));
            let mut places = String::new();
            for session in sessions.filter(|session| session.active) {
                let _ = write!(places, " _{}_", session.peer);
            }
            here.active += usize::from(!places.is_empty());
            match asked {
                _ if here.rows.len() >= ROWS_MAX => {}
                Census::Users => here.rows.push(format!("- {}\n", user.id)),
                Census::Active if places.is_empty() => {}
                Census::Active => here.rows.push(format!("| {} |{places} |\n", user.id)),
                Census::Connections => {}
            }
        }
        if asked == Census::Connections {
            for (conn, session) in self.sessions.iter().take(ROWS_MAX) {
                let user = session.user.as_ref().map_or("", |user| user.as_str());
                here.rows.push(format!("| {conn} | _{}_ | {user} |\n", session.peer));
            }
        }
        here
    }

    /// A shard has said what it has.
    pub(super) fn counted(&mut self, reply: ReplyTo, here: Present, out: &mut Outbox) {
        let part = json!({
            "users": here.users, "active": here.active, "connections": here.connections,
            "rows": here.rows,
        });
        let part = part.as_object().cloned().into_iter().collect();
        self.fill(reply.ticket, reply.slot, part, out);
    }

    /// All parts as one text.
    pub(super) fn census_text(
        &mut self,
        asked: Census,
        parts: &[Map<String, Value>],
    ) -> Map<String, Value> {
        let sum = |name: &str| parts.iter().filter_map(|p| p.get(name)?.as_u64()).sum::<u64>();
        let rows: Vec<&str> = parts
            .iter()
            .filter_map(|part| part.get("rows")?.as_array())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let (users, active, connections) = (sum("users"), sum("active"), sum("connections"));
        let (head, total, end) = match asked {
            Census::Users => (format!("{users} users\n\n----\n"), users, String::new()),
            Census::Active => (
                format!("Totally {users} users\n\n| ID | Sockets |\n|----|---------|\n"),
                active,
                format!("\n{active} active users."),
            ),
            Census::Connections => (
                format!(
                    "Totally {connections} handlers\n\n| Tag | Sockets | ID |\n\
                     |-----|---------|----|\n"
                ),
                connections,
                format!("\n{connections} request handlers."),
            ),
        };
        let left_out = total.saturating_sub(rows.len() as u64);
        let more = if left_out > 0 { format!("\n{left_out} more\n") } else { String::new() };
        let text = [head, rows.concat(), more, end].concat();
        let mut fields = Map::new();
        fields.insert("text".into(), text.into());
        fields.insert("format".into(), "markdown".into());
        let stamp = self.stamp();
        emit(kind::TEXT, stamp.sn, stamp.time, fields)
    }
}
