//! What waits for something: on shelves, and as it is written down.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::super::{Heard, NoteError, Post};
use super::shelf::Shelf;
use super::{Note, WAITING_BYTES_MAX, WAITING_MAX};
use crate::proto::command::GroupCommand;
use crate::proto::content::Content;
use crate::proto::directory::Names;
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::ReliableMessage;

/// Waits for its group to become known.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) group: Id,
    pub(super) message: ReliableMessage,
    /// What it says, if it is not a message to be passed on.
    pub(super) order: Option<Box<Order>>,
}

/// A command, and who gave it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) command: GroupCommand,
    /// The content that it was read from.
    pub(super) said: Map<String, Value>,
    /// Seconds since 1970, by its sender's clock.
    pub(super) time: Option<f64>,
    pub(super) turn: Turn,
}

/// A message that some members have not had, for want of a key.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) group: Id,
    pub(super) digest: Option<String>,
    pub(super) message: ReliableMessage,
    pub(super) members: Vec<Id>,
}

/// The same as a note: IDs and messages are texts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Waits {
    /// Group, message, content of a command, when it came.
    Pending(String, String, Option<Map<String, Value>>, f64),
    /// Group, digest, message, members.
    Held(String, Option<String>, String, Vec<String>),
    /// To whom, what.
    Unsent(String, Map<String, Value>),
}

/// Something that waits.
pub(super) trait Waiter: Clone {
    fn bytes(&self) -> usize;
    fn as_note(&self) -> Waits;
    fn shelf(waiting: &mut Waiting) -> &mut Shelf<Self>;
}

/// All that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pending: Shelf<Pending>,
    held: Shelf<Held>,
    /// For members whose own keys are not known yet.
    unsent: Shelf<Post>,
    last: u64,
    pub(super) notes: Vec<Note>,
    /// What ends when the station has the answers that were given last.
    pub(super) ending: Vec<u64>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            pending: Shelf::new(WAITING_MAX, WAITING_BYTES_MAX),
            held: Shelf::new(WAITING_MAX, WAITING_BYTES_MAX),
            unsent: Shelf::new(WAITING_MAX, WAITING_BYTES_MAX),
            last: 0,
            notes: Vec::new(),
            ending: Vec::new(),
        }
    }
}

impl Waiting {
    /// Lets something wait; whether something else had to go for it.
    pub(super) fn push<T: Waiter>(&mut self, thing: T) -> bool {
        self.last += 1;
        self.notes.push(Note::Waits(self.last, thing.as_note()));
        let (number, bytes) = (self.last, thing.bytes());
        let gone = T::shelf(self).push(number, bytes, thing);
        self.notes.extend(gone.iter().map(|gone| Note::Over(*gone)));
        !gone.is_empty()
    }

    /// What fits, and is dealt with now: it stays on the shelf until it has [ended](Self::end).
    pub(super) fn take<T: Waiter>(&mut self, fits: impl Fn(&T) -> bool) -> Vec<T> {
        let taken = T::shelf(self).take(fits);
        self.ending.extend(taken.iter().map(|(number, _)| *number));
        taken.into_iter().map(|(_, thing)| thing).collect()
    }

    /// What came of it is with the station.
    pub(super) fn end(&mut self, number: u64) {
        self.remove(number);
        self.notes.push(Note::Over(number));
    }

    fn remove(&mut self, number: u64) {
        self.pending.remove(number);
        self.held.remove(number);
        self.unsent.remove(number);
    }

    /// Reads back a note; `command` reads the command of a content.
    pub(super) fn recall(
        &mut self,
        number: u64,
        waits: Waits,
        command: impl FnOnce(&Content) -> Option<GroupCommand>,
    ) -> Result<(), NoteError> {
        self.last = self.last.max(number);
        self.remove(number);
        match waits {
            Waits::Pending(group, message, said, now_s) => {
                let message = message_of(message)?;
                let order =
                    said.map(|said| order_of(&message, said, now_s, command)).transpose()?;
                let pending = Pending { group: id(&group)?, message, order };
                self.pending.push(number, pending.bytes(), pending);
            }
            Waits::Held(group, digest, message, members) => {
                let members = members.iter().map(|member| id(member)).collect::<Result<_, _>>()?;
                let (group, message) = (id(&group)?, message_of(message)?);
                let held = Held { group, digest, message, members };
                self.held.push(number, held.bytes(), held);
            }
            Waits::Unsent(to, content) => {
                let post = Post { to: id(&to)?, content };
                self.unsent.push(number, post.bytes(), post);
            }
        }
        Ok(())
    }

    /// A note says that it is over.
    pub(super) fn forget(&mut self, number: u64) {
        self.last = self.last.max(number);
        self.remove(number);
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.held.len() + self.unsent.len()
    }

    /// Everything as notes.
    pub(super) fn tell_all(&self) -> impl Iterator<Item = Note> {
        let pending = self.pending.iter().map(|(number, it)| Note::Waits(number, it.as_note()));
        let held = self.held.iter().map(|(number, it)| Note::Waits(number, it.as_note()));
        let unsent = self.unsent.iter().map(|(number, it)| Note::Waits(number, it.as_note()));
        pending.chain(held).chain(unsent)
    }

    /// Groups that something waits for, each once.
    pub(super) fn groups(&self) -> Vec<Id> {
        let mut groups: Vec<Id> = self.pending.iter().map(|(_, it)| it.group.clone()).collect();
        groups.sort();
        groups.dedup();
        groups
    }

    /// Members that something is to be sent to when they are known, each once.
    pub(super) fn strangers(&self) -> Vec<Id> {
        let mut strangers: Vec<Id> = self.unsent.iter().map(|(_, it)| it.to.clone()).collect();
        strangers.sort();
        strangers.dedup();
        strangers
    }
}

impl Waiter for Pending {
    fn bytes(&self) -> usize {
        self.message.raw().len()
    }

    fn as_note(&self) -> Waits {
        let said = self.order.as_ref().map(|order| order.said.clone());
        let now_s = self.order.as_ref().map(|order| order.turn.now_s).unwrap_or_default();
        Waits::Pending(self.group.to_string(), text_of(&self.message), said, now_s)
    }

    fn shelf(waiting: &mut Waiting) -> &mut Shelf<Self> {
        &mut waiting.pending
    }
}

impl Waiter for Held {
    fn bytes(&self) -> usize {
        self.message.raw().len()
    }

    fn as_note(&self) -> Waits {
        let members = self.members.iter().map(Id::to_string).collect();
        let (group, message) = (self.group.to_string(), text_of(&self.message));
        Waits::Held(group, self.digest.clone(), message, members)
    }

    fn shelf(waiting: &mut Waiting) -> &mut Shelf<Self> {
        &mut waiting.held
    }
}

impl Waiter for Post {
    fn bytes(&self) -> usize {
        crate::proto::json::write_object(&self.content).len()
    }

    fn as_note(&self) -> Waits {
        Waits::Unsent(self.to.to_string(), self.content.clone())
    }

    fn shelf(waiting: &mut Waiting) -> &mut Shelf<Self> {
        &mut waiting.unsent
    }
}

/// A message was read as JSON, so it is a text.
fn text_of(message: &ReliableMessage) -> String {
    String::from_utf8_lossy(message.raw()).into_owned()
}

fn message_of(text: String) -> Result<ReliableMessage, NoteError> {
    let (mut parser, mut names) = (Parser::new(), Names::default());
    let message = ReliableMessage::parse(Bytes::from(text), &mut parser, &mut names);
    message.map_err(|error| NoteError(format!("no message: {error}")))
}

fn order_of(
    message: &ReliableMessage,
    said: Map<String, Value>,
    now_s: f64,
    command: impl FnOnce(&Content) -> Option<GroupCommand>,
) -> Result<Box<Order>, NoteError> {
    let content = Content::read(Value::Object(said));
    let content = content.map_err(|error| NoteError(format!("no content: {error}")))?;
    let command = command(&content).ok_or_else(|| NoteError("no command".to_owned()))?;
    let turn = Turn::about(&Heard { message, content: &content, now_s });
    Ok(Box::new(Order { command, time: content.time, said: content.map, turn }))
}

fn id(text: &str) -> Result<Id, NoteError> {
    Id::parse(text).map_err(|_| NoteError(format!("no ID: {text}")))
}
