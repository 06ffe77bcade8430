//! Whom a user blocks or mutes: kept as the signed-in user last said it, honoured when mail comes.

use serde_json::{Map, Value, json};

use super::Shard;
use super::effect::Outbox;
use super::talk::Question;
use super::user::User;
use crate::base::limits::DOCUMENT_AHEAD_S_MAX;
use crate::proto::command::{self, List, ReceiptText, title};
use crate::proto::content::seconds;
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::store::{AccountPart, StoreOp};

/// Entries of one list.
pub(super) const LISTED_MAX: usize = 1024;

/// A list as its owner last said it.
#[derive(Debug, Default)]
pub(super) struct Listed {
    command: Option<Map<String, Value>>,
    ids: Vec<Id>,
}

impl Listed {
    /// From what the store has.
    pub(super) fn restore(json: Option<&[u8]>) -> Self {
        match json.map(text::parse_object) {
            Some(Ok(command)) => Self::new(command),
            _ => Self::default(),
        }
    }

    fn new(command: Map<String, Value>) -> Self {
        let entries = command.get("list").and_then(Value::as_array);
        let ids = entries.into_iter().flatten().filter_map(Value::as_str);
        let ids = ids.filter_map(|entry| Id::parse(entry).ok()).map(|id| id.naked()).collect();
        Self { command: Some(command), ids }
    }

    fn names(&self, id: &Id) -> bool {
        self.ids.iter().any(|listed| listed.is_same_as(id))
    }

    fn time(&self) -> f64 {
        self.command.as_ref().and_then(|c| c.get("time")).and_then(seconds).unwrap_or_default()
    }
}

impl User {
    fn list(&mut self, which: List) -> &mut Listed {
        match which {
            List::Block => &mut self.blocked,
            List::Mute => &mut self.muted,
        }
    }

    /// Whether the user does not take a message: a personal one by its sender, another by its group.
    pub(super) fn blocks(&self, sender: &Id, group: Option<&Id>) -> bool {
        self.blocked.names(group.unwrap_or(sender))
    }

    /// Whether the user does not want to be woken by a message; the same of both.
    pub(super) fn mutes(&self, sender: &Id, group: Option<&Id>) -> bool {
        self.muted.names(group.unwrap_or(sender))
    }
}

impl Shard {
    /// Keeps a list, or shows it.
    pub(super) fn list(
        &mut self,
        question: &Question<'_>,
        which: List,
        entries: Option<&[Value]>,
        out: &mut Outbox,
    ) {
        if !self.is_the_user(question) {
            let key = self.sessions.get(&question.conn).map(|s| s.key());
            let again = command::handshake(self.stamp(), title::AGAIN, key.as_deref(), None);
            return self.fill(question.ticket, question.slot, vec![again], out);
        }
        match entries {
            None => self.show_list(question, which, out),
            Some(entries) => self.keep_list(question, which, entries, out),
        }
    }

    fn show_list(&mut self, question: &Question<'_>, which: List, out: &mut Outbox) {
        let stamp = self.stamp();
        let user = self.users.get_mut(&question.message.sender().naked());
        let stored = user.and_then(|user| user.list(which).command.clone());
        let content = stored.unwrap_or_else(|| command::list(stamp, which));
        self.fill(question.ticket, question.slot, vec![content], out);
    }

    fn keep_list(
        &mut self,
        question: &Question<'_>,
        which: List,
        entries: &[Value],
        out: &mut Outbox,
    ) {
        let sender = question.message.sender();
        let time = question.content.time.unwrap_or_default();
        // A date far ahead would keep every later list out.
        let fits = entries.len() <= LISTED_MAX && time <= self.now.wall_s() + DOCUMENT_AHEAD_S_MAX;
        let user = self.users.get_mut(&sender.naked());
        let user = user.and_then(|user| (fits && user.list(which).time() <= time).then_some(user));
        let (said, template) = match (user.is_some(), which) {
            (true, List::Block) => ("Block received.", "Block command received: ${ID}."),
            (true, List::Mute) => ("Mute received.", "Mute command received: ${ID}."),
            (false, List::Block) => ("Block not changed.", "Block command not changed: ${ID}."),
            (false, List::Mute) => ("Mute not changed.", "Mute command not changed: ${ID}."),
        };
        let op = user.map(|user| {
            *user.list(which) = Listed::new(question.content.map.clone());
            let json = text::write_object(&question.content.map).into();
            StoreOp::Save { user: user.text.clone(), part: AccountPart::of(which), json }
        });
        if let Some(op) = op {
            self.hold(question.ticket, op, sender.naked(), out);
        }
        let said = ReceiptText::new(said, template, json!({"ID": sender.as_str()}));
        self.say(question.ticket, question.slot, said, out);
    }

    /// Whether a question comes from the user who is logged in on its connection.
    pub(super) fn is_the_user(&self, question: &Question<'_>) -> bool {
        let user = self.sessions.get(&question.conn).and_then(|session| session.user.as_ref());
        user.is_some_and(|user| user.is_same_as(question.message.sender()))
    }
}
