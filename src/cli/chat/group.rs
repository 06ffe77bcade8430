//! Groups: founding them, saying who belongs to them, and believing those who may say it.
//!
//! Who belongs to a group is its history: signed messages in the open, which members hand on in
//! forwards. The newest `reset` of the owner counts, and what came after it.

use serde_json::Value;

use super::super::now_s;
use super::said::Said;
use super::talk::{Done, Talk};
use crate::client::account::Account;
use crate::client::messenger::Opened;
use crate::client::say;
use crate::client::source::{Groups, People};
use crate::crypto::error::CryptoError;
use crate::crypto::identity::Proven;
use crate::proto::address::EntityKind;
use crate::proto::command::{Change, GroupCommand};
use crate::proto::content::{GroupAsk, GroupContent};
use crate::proto::id::Id;

/// Members of a group that one chat keeps together; each message goes to each of them.
const MEMBERS_MAX: usize = 128;

/// How far ahead of our clock a command may be dated, in seconds; what the reference grants.
const AHEAD_S_MAX: f64 = 30.0 * 60.0;

/// Groups that are asked for in one run.
const ASKED_MAX: usize = 256;

impl Talk {
    /// A group that is known here.
    pub(super) fn group(&self, word: &str) -> Done<Id> {
        let id = self.whom(word)?;
        match id.is_group() {
            true => Ok(id),
            false => Err(format!("{word} is no group").into()),
        }
    }

    fn owns(&self, group: &Id) -> bool {
        self.book(|book| book.owner(group)).is_some_and(|owner| owner.is_same_as(&self.me))
    }

    fn users(&self, words: &[&str]) -> Done<Vec<Id>> {
        words
            .iter()
            .map(|word| {
                let id = self.whom(word)?;
                if id.is_user() { Ok(id) } else { Err(format!("{word} is no user").into()) }
            })
            .collect()
    }

    pub(super) fn found_group(&mut self, name: &str, members: &[&str]) -> Done<()> {
        let mut all = vec![self.me.clone()];
        all.extend(self.users(members)?);
        let account = self.client.with(|t| t.messenger().account().clone());
        let group = account.found(name, now_s()).map_err(|error| match error {
            CryptoError::Proto(error) => format!("the name cannot be part of an ID: {error}"),
            other => other.to_string(),
        })?;
        if !self.members_of(group.id()).is_empty() {
            return Err(format!("you have a group {name} already").into());
        }
        self.book(|book| {
            book.save_meta(group.meta().clone());
            for document in group.documents() {
                book.save_document(document.clone(), now_s());
            }
        });
        // So that members who come later find it.
        self.client.send(&Id::station_any(), introduction(&group));
        self.reset(group.id(), all)?;
        self.to = Some(group.id().clone());
        Ok(())
    }

    pub(super) fn invite(&mut self, group: &str, members: &[&str]) -> Done<()> {
        let (group, new) = (self.group(group)?, self.users(members)?);
        if self.owns(&group) {
            let all = [self.members_of(&group), new].concat();
            return self.reset(&group, all);
        }
        self.tell_members(&group, Change::Invite(new))?;
        self.note("proposed; its owner decides");
        Ok(())
    }

    pub(super) fn expel(&mut self, group: &str, members: &[&str]) -> Done<()> {
        let (group, gone) = (self.group(group)?, self.users(members)?);
        if !self.owns(&group) {
            return Err("only its owner can do that".into());
        }
        if gone.iter().any(|member| member.is_same_as(&self.me)) {
            return Err("its owner stays".into());
        }
        let mut all = self.members_of(&group);
        all.retain(|member| !gone.iter().any(|other| other.is_same_as(member)));
        self.reset(&group, all)
    }

    pub(super) fn quit_group(&mut self, group: &str) -> Done<()> {
        let group = self.group(group)?;
        if self.owns(&group) {
            return Err("its owner cannot leave it".into());
        }
        self.tell_members(&group, Change::Quit)?;
        let mut members = self.members_of(&group);
        members.retain(|member| !member.is_same_as(&self.me));
        self.book(|book| book.keep_group(&group, &members, None));
        if self.to.as_ref() == Some(&group) {
            self.to = None;
        }
        let name = self.name_of(&group);
        self.note(&format!("you have left {name}"));
        Ok(())
    }

    pub(super) fn members(&mut self, group: Option<&str>) -> Done<()> {
        let group = match group {
            Some(group) => self.group(group)?,
            None => self.to.clone().filter(Id::is_group).ok_or("of which group?")?,
        };
        let members = self.members_of(&group);
        if members.is_empty() {
            self.note("its members are not known here");
        }
        for member in members {
            self.show_user("member", &member);
        }
        Ok(())
    }

    /// Sets the members of a group of ours, and tells them and those who were it.
    fn reset(&mut self, group: &Id, all: Vec<Id>) -> Done<()> {
        let mut members: Vec<Id> = Vec::new();
        for member in all {
            if !members.iter().any(|known| known.is_same_as(&member)) {
                members.push(member);
            }
        }
        if members.len() > MEMBERS_MAX {
            return Err(format!("a group here has at most {MEMBERS_MAX} members").into());
        }
        let mut told = self.members_of(group);
        told.extend(members.iter().cloned());
        told.sort();
        told.dedup();
        let time = now_s();
        let reset = self.signed(group, Change::Reset(members.clone()))?;
        self.book(|book| book.keep_group(group, &members, Some((time, reset))));
        self.tell(group, &told, &self.history_of(group)?);
        self.show_group(group);
        Ok(())
    }

    /// Sends messages of a group's history to members, and to bots that pass its messages on.
    fn tell(&self, group: &Id, members: &[Id], history: &[Value]) {
        let assistants = self.book(|book| book.assistants(group));
        for one in members.iter().chain(&assistants).filter(|one| !one.is_same_as(&self.me)) {
            self.client.send(one, say::forward(history.to_vec()));
        }
    }

    /// Has a bot pass on the messages of a group of ours.
    pub(super) fn assist(&mut self, group: &str, bot: &str) -> Done<()> {
        let (group, bot) = (self.group(group)?, self.whom(bot)?);
        if !self.owns(&group) {
            return Err("only its owner can do that".into());
        }
        if bot.kind() != EntityKind::Bot {
            return Err(format!("{bot} is no bot").into());
        }
        let (meta, documents) = self.book(|book| (book.meta(&group), book.documents(&group)));
        let meta = meta.ok_or("the group is not known here")?.into_inner();
        let documents = documents.into_iter().map(Proven::into_inner).collect();
        let sign = self.client.with(|t| t.messenger().account().sign_key().clone());
        let mut account = Account::restore(&group, meta, documents, sign, Vec::new())
            .map_err(|error| error.to_string())?;
        let bulletin = account.document().map(|bulletin| bulletin.properties().clone());
        let mut properties = bulletin.unwrap_or_default();
        properties.insert("assistants".into(), vec![bot.as_str()].into());
        let bulletin = account.publish(properties, now_s()).map_err(|error| error.to_string())?;
        self.book(|book| book.save_document(bulletin, now_s()));
        self.client.send(&Id::station_any(), introduction(&account));
        let (members, history) = (self.members_of(&group), self.history_of(&group)?);
        self.tell(&group, &members, &history);
        let (bot, group) = (self.called(&bot), self.name_of(&group));
        self.note(&format!("{bot} passes on what is said in {group}"));
        Ok(())
    }

    /// Tells the members of a group something that becomes part of its history.
    fn tell_members(&mut self, group: &Id, change: Change) -> Done<()> {
        let members = self.members_of(group);
        if !members.iter().any(|member| member.is_same_as(&self.me)) {
            return Err("you are no member of it".into());
        }
        let message = self.signed(group, change)?;
        self.tell(group, &members, &[message]);
        Ok(())
    }

    /// A command of a group's history as a message in the open, which others may hand on.
    fn signed(&self, group: &Id, change: Change) -> Done<Value> {
        let command = GroupCommand { group: group.clone(), change, text: None };
        self.in_the_open(&Self::content(&command))
    }

    fn in_the_open(&self, content: &serde_json::Map<String, Value>) -> Done<Value> {
        let packed = self.client.with(|terminal| {
            let messenger = terminal.messenger_mut();
            messenger.encrypt_sign(content, &Id::anyone(), now_s())
        });
        let letters = packed.map_err(|error| error.to_string())?.ready;
        let letter = letters.first().and_then(|it| serde_json::from_slice(&it.bytes).ok());
        letter.ok_or_else(|| "it could not be signed".into())
    }

    /// The messages that make a group: what it is, and who belongs to it.
    fn history_of(&self, group: &Id) -> Done<Vec<Value>> {
        let (meta, documents) = self.book(|book| (book.meta(group), book.documents(group)));
        let mut content = say::documents(group, documents.iter().map(|document| &**document));
        if let Some(meta) = meta {
            content.insert("meta".into(), meta.to_map().into());
        }
        let mut history = vec![self.in_the_open(&content)?];
        history.extend(self.book(|book| book.group(group).reset));
        Ok(history)
    }

    /// Asks a member who else is in a group, once in a run.
    pub(super) fn ask_members(&mut self, group: &Id, member: &Id) {
        if self.groups_asked.contains(group) || self.groups_asked.len() >= ASKED_MAX {
            return;
        }
        self.groups_asked.push(group.clone());
        self.client.send(&Id::station_any(), say::meta_query(group));
        self.client.send(&Id::station_any(), say::documents_query(group));
        let change = Change::Query { last_time: None };
        let query = GroupCommand { group: group.clone(), change, text: None };
        self.client.send(member, Self::content(&query));
    }

    fn show_group(&mut self, group: &Id) {
        let members = self.members_of(group);
        let list: Vec<String> = members.iter().map(|member| self.name_of(member)).collect();
        let texts: Vec<&str> = members.iter().map(Id::as_str).collect();
        let name = self.name_of(group);
        let fields = vec![
            ("id", group.as_str().into()),
            ("name", name.clone().into()),
            ("members", texts.join(" ").into()),
        ];
        let screen = format!("- group {name}: {}", list.join(", "));
        self.show(Said::new("group", fields).shown(screen));
    }

    /// A command of a group's history came.
    pub(super) fn on_history(&mut self, opened: &Opened) {
        let Ok(GroupCommand { group, change, .. }) = opened.content.view() else { return };
        let (sender, group) = (opened.message.sender().naked(), group.naked());
        if let Change::Query { .. } = change {
            return self.answer_members(&group, &sender);
        }
        let time = opened.content.time.unwrap_or_default();
        if time <= self.book(|book| book.group(&group).reset_s) || time > now_s() + AHEAD_S_MAX {
            return;
        }
        let (owner, administrators) =
            self.book(|book| (book.owner(&group), book.administrators(&group)));
        let Some(owner) = owner else {
            return self.ask_members(&group, &sender);
        };
        let directs = owner.is_same_as(&sender)
            || administrators.iter().any(|administrator| administrator.is_same_as(&sender));
        let mut members = self.members_of(&group);
        let is_in = |members: &[Id], id: &Id| members.iter().any(|member| member.is_same_as(id));
        let mut reset = None;
        let quits = matches!(change, Change::Quit);
        match change {
            Change::Reset(all)
                if directs && all.first().is_some_and(|it| it.is_same_as(&owner)) =>
            {
                members = all;
                reset = serde_json::from_slice(opened.message.raw()).ok().map(|it| (time, it));
            }
            Change::Invite(new) if directs => {
                members.extend(new.into_iter().filter(|id| !is_in(&self.members_of(&group), id)));
            }
            Change::Invite(new) if is_in(&members, &sender) => {
                let names: Vec<String> = new.iter().map(|id| self.called(id)).collect();
                let (who, name) = (self.called(&sender), self.name_of(&group));
                return self.note(&format!("{who} proposes {} for {name}", names.join(", ")));
            }
            Change::Expel(gone) if directs => members.retain(|member| !is_in(&gone, member)),
            Change::Quit if !directs => members.retain(|member| !member.is_same_as(&sender)),
            _ => return,
        }
        if members.len() <= MEMBERS_MAX {
            self.book(|book| book.keep_group(&group, &members, reset));
            self.show_group(&group);
        }
        // Who leaves tells the members only.
        if quits
            && owner.is_same_as(&self.me)
            && let Ok(message) = serde_json::from_slice(opened.message.raw())
        {
            self.tell(&group, &[], &[message]);
        }
    }

    pub(super) fn on_customized(&mut self, opened: &Opened) {
        if let Ok(GroupContent { group, ask: GroupAsk::History { .. } }) = opened.content.view() {
            let sender = opened.message.sender().naked();
            self.answer_members(&group.naked(), &sender);
        }
    }

    /// A member asks who is in a group.
    fn answer_members(&mut self, group: &Id, sender: &Id) {
        let member = self.members_of(group).iter().any(|member| member.is_same_as(sender));
        let whole = self.book(|book| book.group(group).reset.is_some());
        if member
            && whole
            && let Ok(history) = self.history_of(group)
        {
            self.client.send(sender, say::forward(history));
        }
    }
}

/// Meta and bulletin of a new group.
fn introduction(group: &Account) -> serde_json::Map<String, Value> {
    let documents = group.documents().iter().map(|document| &**document);
    let mut content = say::documents(group.id(), documents);
    content.insert("meta".into(), group.meta().to_map().into());
    content
}
