//! The group assistant: takes a message to a group once and passes it on to every member, with that
//! member's key. It sees who writes to whom, and cannot read a word: no key is sealed for it.

mod group;
mod keys;
mod shelf;
mod waiting;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::turn::{Turn, content};
use super::{Bot, Heard, NoteError, Post};
use crate::base::limits::DOCUMENT_AHEAD_S_MAX;
use crate::client::say;
use crate::client::source::Source;
use crate::proto::command::{Change, GroupCommand};
use crate::proto::content::{Content, GroupAsk, GroupContent, SealedKeys};
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::{Field, ReliableMessage};
use crate::proto::processors::Processors;
use crate::proto::registry::{Registry, RegistryError};
use group::{Group, Verdict};
use keys::{KeyBook, Sealed};
use waiting::{Held, Order, Pending, Waiting, Waits};

/// Groups that are served; a further one is not learned.
pub const GROUPS_MAX: usize = 65_536;
/// Messages that wait for an account, a member or a key.
pub const WAITING_MAX: usize = 4096;
/// The same in bytes.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
/// How soon an account is asked for again, in seconds.
pub const ASK_AGAIN_S: f64 = 30.0;

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    /// A group's ID and state.
    Group(String, Group),
    /// Sender, group, digest, seals.
    Keys(String, String, String, std::collections::BTreeMap<String, String>),
    /// Something waits, under a number.
    Waits(u64, Waits),
    /// It waits no longer.
    Over(u64),
}

/// What a content wants.
enum Task {
    Command(GroupCommand),
    Ask(GroupContent),
}

/// Passes messages to groups on.
#[derive(Debug)]
pub struct Assistant {
    table: Processors<Option<Task>>,
    groups: HashMap<Id, Group>,
    keys: KeyBook,
    waiting: Waiting,
    asked: HashMap<Id, f64>,
    notes: Vec<String>,
}

impl Assistant {
    /// An assistant that knows no group.
    pub fn new() -> Result<Self, RegistryError> {
        let mut table = Processors::new();
        table.on(|task: &mut Option<Task>, _, command: GroupCommand| {
            *task = Some(Task::Command(command));
            Vec::new()
        })?;
        table.on(|task: &mut Option<Task>, _, asked: GroupContent| {
            *task = Some(Task::Ask(asked));
            Vec::new()
        })?;
        Ok(Self {
            table,
            groups: HashMap::new(),
            keys: KeyBook::default(),
            waiting: Waiting::default(),
            asked: HashMap::new(),
            notes: Vec::new(),
        })
    }

    /// Who is in a group, as far as it is known.
    pub fn members(&self, group: &Id) -> &[Id] {
        self.groups.get(&group.naked()).map(|group| group.members.as_slice()).unwrap_or_default()
    }

    fn note(&mut self, note: &Note) {
        self.notes.extend(serde_json::to_string(note).ok());
    }

    /// Asks the station for an account, unless that was done just now.
    fn ask(&mut self, id: &Id, now_s: f64) -> Vec<Post> {
        let id = id.naked();
        if self.asked.get(&id).is_some_and(|at| (*at..*at + ASK_AGAIN_S).contains(&now_s)) {
            return Vec::new();
        }
        if self.asked.len() >= WAITING_MAX {
            self.asked.clear();
        }
        self.asked.insert(id.clone(), now_s);
        let questions = [say::meta_query(&id), say::documents_query(&id)];
        questions.map(|content| Post { to: Id::station_any(), content }).into()
    }

    /// Asks for what is missing to know who owns a group.
    fn ask_for_owner(&mut self, group: &Id, known: &dyn Source, now_s: f64) -> Vec<Post> {
        let documents = known.documents(group);
        let founder = documents.iter().find_map(|d| d.properties().get("founder")?.as_str());
        match founder.and_then(|text| Id::parse(text).ok()) {
            Some(founder) if known.meta(group).is_some() => self.ask(&founder, now_s),
            _ => self.ask(group, now_s),
        }
    }

    fn wait(&mut self, group: &Id, message: &ReliableMessage, order: Option<Box<Order>>) {
        let pending = Pending { group: group.naked(), message: message.clone(), order };
        if self.waiting.push(pending) {
            tracing::warn!(%group, "too much waits for groups that are not known: some is dropped");
        }
    }

    /// A message to a group, from a proven sender, for all its other members.
    fn pass_on(&mut self, message: &ReliableMessage, known: &dyn Source, now_s: f64) -> Vec<Post> {
        let (group, sender) = (message.receiver().naked(), message.sender().naked());
        let turn = Turn::of(message, now_s);
        let members = self.members(&group).to_vec();
        if members.is_empty() {
            let mut posts = self.ask_for_owner(&group, known, now_s);
            if !posts.is_empty() {
                // Not with every message: who was asked just now will answer.
                let history = GroupAsk::History { last_time: None };
                let asked = content(&GroupContent { group: group.clone(), ask: history });
                posts.push(Post { to: sender, content: asked });
            }
            self.wait(&group, message, None);
            return posts;
        }
        if !members.contains(&sender) {
            return turn.posts(vec![receipt(&turn, &group, "Permission denied.", None, &[])]);
        }
        let digest = self.take_keys(message, &group, &members);
        let others: Vec<Id> = members.into_iter().filter(|member| *member != sender).collect();
        let total = others.len();
        let (mut posts, missed) =
            self.split(message, &group, digest.as_deref(), others, known, now_s);
        let count = total - missed.len();
        if !missed.is_empty() {
            let ask = GroupAsk::Query {
                from: sender.clone(),
                members: missed.clone(),
                digest: digest.clone(),
            };
            let query = content(&GroupContent { group: group.clone(), ask });
            posts.extend(turn.posts(vec![query]));
            let (group, message) = (group.clone(), message.clone());
            self.waiting.push(Held { group, digest, message, members: missed });
        }
        let template = Some("Group message split for ${count}/${total} member(s).");
        let values = [("count", count.to_string()), ("total", total.to_string())];
        let said = receipt(&turn, &group, "Group message delivering.", template, &values);
        posts.extend(turn.posts(vec![said]));
        posts
    }

    /// Keeps the keys that came with a message; the digest that names its key.
    fn take_keys(
        &mut self,
        message: &ReliableMessage,
        group: &Id,
        members: &[Id],
    ) -> Option<String> {
        let parser = &mut Parser::new();
        let named = message.value(Field::Keys, parser);
        let named = named.as_ref().and_then(|keys| keys.get("digest")?.as_str());
        let digest = named.map(str::to_owned);
        let keys = message.keys(parser);
        self.add_keys(message.sender(), group, digest.as_deref(), keys, members);
        digest
    }

    /// Keeps keys that are sealed for members; whether any is new.
    fn add_keys(
        &mut self,
        sender: &Id,
        group: &Id,
        digest: Option<&str>,
        keys: Vec<(String, String)>,
        members: &[Id],
    ) -> bool {
        let keys = keys.into_iter().filter(|(name, _)| is_one_of(members, name)).collect();
        let sealed = Sealed { digest: digest.unwrap_or_default().to_owned(), keys };
        let direction = (sender.naked(), group.naked());
        if !self.keys.add(&direction, sealed) {
            return false;
        }
        let digest = digest.unwrap_or_default();
        if let Some(Sealed { digest, keys }) = self.keys.sealed(&direction, Some(digest)).cloned() {
            let (sender, group) = (direction.0.to_string(), direction.1.to_string());
            self.note(&Note::Keys(sender, group, digest, keys));
        }
        true
    }

    /// One copy for each member who has a key; and who has none.
    fn split(
        &mut self,
        message: &ReliableMessage,
        group: &Id,
        digest: Option<&str>,
        members: Vec<Id>,
        known: &dyn Source,
        now_s: f64,
    ) -> (Vec<Post>, Vec<Id>) {
        let direction = (message.sender().naked(), group.naked());
        let sealed = self.keys.sealed(&direction, digest).cloned().unwrap_or_default();
        let (mut posts, mut missed) = (Vec::new(), Vec::new());
        for member in members {
            let mut keys: Map<String, Value> =
                sealed.of(&member).map(|(name, key)| (name.to_owned(), key.into())).collect();
            if keys.is_empty() {
                missed.push(member);
                continue;
            }
            if !sealed.digest.is_empty() {
                keys.insert("digest".into(), sealed.digest.as_str().into());
            }
            let copy = message.for_member(group, &member, keys, &mut Parser::new());
            let post = Post { to: member.clone(), content: say::forward(vec![copy.into()]) };
            if known.documents(&member).is_empty() {
                posts.extend(self.ask(&member, now_s));
                self.waiting.push(post);
            } else {
                posts.push(post);
            }
        }
        (posts, missed)
    }

    /// What was held back for want of keys that `sender` has sent now.
    fn release(&mut self, sender: &Id, group: &Id, known: &dyn Source, now_s: f64) -> Vec<Post> {
        let sent = |held: &Held| held.group == *group && held.message.sender().is_same_as(sender);
        let mut posts = Vec::new();
        for Held { group, digest, message, members } in self.waiting.take(sent) {
            let still = self.members(&group).to_vec();
            let members = members.into_iter().filter(|member| still.contains(member)).collect();
            let (copies, members) =
                self.split(&message, &group, digest.as_deref(), members, known, now_s);
            posts.extend(copies);
            if !members.is_empty() {
                self.waiting.push(Held { group, digest, message, members });
            }
        }
        posts
    }

    /// A question about keys or history, or keys.
    fn answer(&mut self, turn: &Turn, asked: GroupContent, known: &dyn Source) -> Vec<Post> {
        let group = asked.group.naked();
        let say = |text| turn.posts(vec![receipt(turn, &group, text, None, &[])]);
        if !self.members(&group).contains(&turn.sender) {
            return say("Permission denied.");
        }
        let members = self.members(&group).to_vec();
        match asked.ask {
            GroupAsk::History { last_time } => self.tell_history(turn, &group, last_time),
            GroupAsk::Update { keys, .. } => {
                let SealedKeys { digest, sealed } = keys;
                let sealed: Vec<(String, String)> =
                    sealed.into_iter().map(|(id, key)| (id.to_string(), key)).collect();
                if !sealed_for(&sealed, &members) {
                    return say("Failed to update group keys.");
                }
                self.add_keys(&turn.sender, &group, digest.as_deref(), sealed, &members);
                let mut posts = say("Group keys updated.");
                posts.extend(self.release(&turn.sender, &group, known, turn.now_s));
                posts
            }
            GroupAsk::Request { from, digest } => {
                let sealed = self.keys.sealed(&(from.naked(), group.clone()), digest.as_deref());
                let own: Vec<(Id, String)> = sealed
                    .iter()
                    .flat_map(|sealed| sealed.of(&turn.sender))
                    .filter_map(|(name, key)| Some((Id::parse(name).ok()?, key.to_owned())))
                    .collect();
                let Some(sealed) = sealed.filter(|_| !own.is_empty()) else {
                    return say("Failed to get group key.");
                };
                let digest = Some(sealed.digest.clone()).filter(|digest| !digest.is_empty());
                let keys = SealedKeys { digest, sealed: own };
                let ask = GroupAsk::Respond { from, keys };
                turn.posts(vec![content(&GroupContent { group, ask })])
            }
            // What only an assistant says.
            GroupAsk::Query { .. } | GroupAsk::Respond { .. } => Vec::new(),
        }
    }

    fn tell_history(&self, turn: &Turn, group: &Id, last_time: Option<f64>) -> Vec<Post> {
        let news = self.groups.get(group).filter(|g| last_time.is_none_or(|last| g.time > last));
        turn.posts(match news {
            Some(group) if !group.history.is_empty() => vec![say::forward(group.history.clone())],
            _ => vec![receipt(turn, group, "Group history not updated.", None, &[])],
        })
    }

    /// A command of a group's history.
    fn obey(&mut self, message: &ReliableMessage, order: Order, known: &dyn Source) -> Vec<Post> {
        let (group, turn) = (order.command.group.naked(), &order.turn);
        if !group.is_group() || group.is_broadcast() {
            return Vec::new();
        }
        if let Change::Query { last_time } = order.command.change {
            let ask = GroupAsk::History { last_time };
            return self.answer(turn, GroupContent { group, ask }, known);
        }
        let Some(owner) = known.owner(&group) else {
            let posts = self.ask_for_owner(&group, known, turn.now_s);
            self.wait(&group, message, Some(Box::new(order)));
            return posts;
        };
        if !self.groups.contains_key(&group) && self.groups.len() >= GROUPS_MAX {
            tracing::warn!(%group, "too many groups: this one is not served");
            return Vec::new();
        }
        let administrators = known.administrators(&group);
        let mut state = self.groups.get(&group).cloned().unwrap_or_default();
        let change = &order.command.change;
        // What is dated ahead would keep all that follows out.
        let time = order.time.filter(|time| *time <= turn.now_s + DOCUMENT_AHEAD_S_MAX);
        match state.judge(&turn.sender, &owner, &administrators, change, time) {
            Verdict::Denied => {
                turn.posts(vec![receipt(turn, &group, "Permission denied.", None, &[])])
            }
            Verdict::Nothing => Vec::new(),
            Verdict::Changed => {
                state.remember(message, change);
                self.note(&Note::Group(group.to_string(), state.clone()));
                self.groups.insert(group.clone(), state);
                self.retry(&group, known, turn.now_s)
            }
        }
    }

    /// Takes up what waited for a group, and asks for what is still missing.
    fn retry(&mut self, group: &Id, known: &dyn Source, now_s: f64) -> Vec<Post> {
        let mut posts = Vec::new();
        if known.owner(group).is_none() {
            posts.extend(self.ask_for_owner(group, known, now_s));
        } else {
            // Commands first: they say who the members are.
            let is_order = |it: &Pending| it.group == *group && it.order.is_some();
            for Pending { message, order, .. } in self.waiting.take(is_order) {
                posts.extend(
                    order.map(|order| self.obey(&message, *order, known)).unwrap_or_default(),
                );
            }
        }
        if !self.members(group).is_empty() {
            for Pending { message, .. } in
                self.waiting.take(|it: &Pending| it.group == *group && it.order.is_none())
            {
                posts.extend(self.pass_on(&message, known, now_s));
            }
        }
        posts
    }
}

fn is_one_of(members: &[Id], name: &str) -> bool {
    Id::parse(name).is_ok_and(|id| members.contains(&id.naked()))
}

fn sealed_for(keys: &[(String, String)], members: &[Id]) -> bool {
    keys.iter().any(|(name, _)| is_one_of(members, name))
}

fn command_in(table: &mut Processors<Option<Task>>, content: &Content) -> Option<GroupCommand> {
    let mut task = None;
    table.process(&mut task, content, Registry::none()).ok()?;
    match task? {
        Task::Command(command) => Some(command),
        Task::Ask(_) => None,
    }
}

fn receipt(
    turn: &Turn,
    group: &Id,
    text: &str,
    template: Option<&str>,
    values: &[(&str, String)],
) -> Map<String, Value> {
    let mut said = turn.receipt(text, template, values);
    said.insert("group".into(), group.as_str().into());
    said
}

impl Bot for Assistant {
    fn hear(&mut self, heard: Heard<'_>, known: &dyn Source) -> Vec<Post> {
        let (turn, mut task) = (Turn::about(&heard), None);
        if let Err(error) = self.table.process(&mut task, heard.content, Registry::none()) {
            let (template, error) = (Some("Content error: ${error}."), error.to_string());
            return turn.posts(vec![turn.receipt(
                "Content not support.",
                template,
                &[("error", error)],
            )]);
        }
        match task {
            None => Vec::new(),
            Some(Task::Ask(asked)) => self.answer(&turn, asked, known),
            Some(Task::Command(command)) => {
                let (said, time) = (heard.content.map.clone(), heard.content.time);
                let order = Order { command, said, time, turn };
                self.obey(heard.message, order, known)
            }
        }
    }

    fn pass(&mut self, message: &ReliableMessage, known: &dyn Source, now_s: f64) -> Vec<Post> {
        self.pass_on(message, known, now_s)
    }

    fn learned(&mut self, id: &Id, known: &dyn Source, now_s: f64) -> Vec<Post> {
        let mut posts = Vec::new();
        if !known.documents(id).is_empty() {
            posts.extend(self.waiting.take(|post: &Post| post.to.is_same_as(id)));
        }
        if self.asked.remove(&id.naked()).is_some() {
            for group in self.waiting.groups() {
                posts.extend(self.retry(&group, known, now_s));
            }
        }
        posts
    }

    fn take_notes(&mut self) -> Vec<String> {
        for note in std::mem::take(&mut self.waiting.notes) {
            self.note(&note);
        }
        std::mem::take(&mut self.notes)
    }

    fn resume(&mut self, known: &dyn Source, now_s: f64) -> Vec<Post> {
        self.asked.clear();
        let mut posts = Vec::new();
        for group in self.waiting.groups() {
            posts.extend(self.retry(&group, known, now_s));
        }
        for stranger in self.waiting.strangers() {
            posts.extend(self.ask(&stranger, now_s));
        }
        posts
    }

    fn take_ending(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.waiting.ending)
    }

    fn end(&mut self, number: u64) {
        self.waiting.end(number);
    }

    fn recall(&mut self, note: &[u8]) -> Result<(), NoteError> {
        let id = |id: String| Id::parse(&id).map_err(|_| NoteError(format!("no ID: {id}")));
        match serde_json::from_slice(note)? {
            Note::Group(group, state) => {
                self.groups.insert(id(group)?, state);
            }
            Note::Keys(sender, group, digest, keys) => {
                self.keys.add(&(id(sender)?, id(group)?), Sealed { digest, keys });
            }
            Note::Waits(number, waits) => {
                let table = &mut self.table;
                self.waiting.recall(number, waits, |content| command_in(table, content))?;
            }
            Note::Over(number) => self.waiting.forget(number),
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.groups.len() + self.keys.len() + self.waiting.len()
    }

    fn tell_all(&self, write: &mut dyn FnMut(String)) {
        let groups =
            self.groups.iter().map(|(id, state)| Note::Group(id.to_string(), state.clone()));
        let keys = self.keys.iter().map(|((sender, group), Sealed { digest, keys })| {
            Note::Keys(sender.to_string(), group.to_string(), digest.clone(), keys.clone())
        });
        let waiting = self.waiting.tell_all();
        groups
            .chain(keys)
            .chain(waiting)
            .filter_map(|note| serde_json::to_string(&note).ok())
            .for_each(write);
    }
}
