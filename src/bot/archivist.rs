//! The archivist: finds users by words, says who was here lately, and keeps address books.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::index::{self, Index, Put};
use super::turn::{Turn, content};
use super::{Bot, Heard, NoteError, Post};
use crate::client::source::Source;
use crate::proto::command::{Command, Search, Storage};
use crate::proto::content::{Body, Content};
use crate::proto::id::Id;
use crate::proto::json;
use crate::proto::processors::{Answers, Processors};
use crate::proto::registry::{Registry, RegistryError};

/// Hits when the question names no limit.
pub const HITS: usize = 20;
/// Hits when the limit is 0.
pub const HITS_AT_0: usize = 50;
/// Users who are online, when the limit is 0.
pub const ONLINE_AT_0: usize = 100;
/// Hits at most, and when the limit is negative, as archivists of other stations ask.
pub const HITS_MAX: usize = 10_240;

/// How long somebody who has said where he is counts as online, in seconds: clients say so every
/// five minutes.
pub const ONLINE_S: f64 = 660.0;
/// Users who are remembered as online; who has been silent longest makes room.
pub const ONLINE_MAX: usize = 65_536;

/// Accounts whose metas are kept for answers of before 2023.
pub const METAS_MAX: usize = 65_536;

/// Longest address book, in bytes of its command.
pub const CONTACTS_BYTES_MAX: usize = 256 * 1024;
/// All address books together, in bytes.
pub const CONTACTS_ALL_BYTES_MAX: usize = 1 << 30;

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    /// Somebody's ID and name.
    Account(String, String),
    /// Somebody's ID and address book: the command that brought it.
    Contacts(String, Map<String, Value>),
    /// Somebody's ID and meta.
    Meta(String, Map<String, Value>),
}

/// Finds users, and keeps their address books.
#[derive(Debug)]
pub struct Archivist {
    table: Processors<Desk>,
    desk: Desk,
}

#[derive(Debug)]
struct Desk {
    me: Id,
    index: Index,
    /// When each was last heard of.
    online: HashMap<Id, f64>,
    contacts: HashMap<Id, Map<String, Value>>,
    contacts_bytes: usize,
    /// By ID; none unless answers are to bring them.
    metas: Option<HashMap<Id, Map<String, Value>>>,
    notes: Vec<String>,
    turn: Option<Turn>,
}

impl Archivist {
    /// An archivist that knows nobody; `me` is who answers.
    pub fn new(me: &Id) -> Result<Self, RegistryError> {
        let mut table = Processors::new();
        table.on(Desk::search)?;
        table.on(Desk::storage)?;
        let desk = Desk {
            me: me.naked(),
            index: Index::default(),
            online: HashMap::new(),
            contacts: HashMap::new(),
            contacts_bytes: 0,
            metas: None,
            notes: Vec::new(),
            turn: None,
        };
        Ok(Self { table, desk })
    }

    /// Lets answers bring the metas of those who are found, and say how many they are: clients of
    /// before August 2023 learn metas from there.
    pub fn bring_metas(&mut self) {
        self.desk.metas.get_or_insert_default();
    }

    /// Lets an account be found, whose meta is known.
    pub fn learn(&mut self, id: &Id, name: &str) {
        let (id, name) = (id.naked(), index::clean(name));
        if id.is_broadcast() || id.as_str().contains(char::is_control) {
            return;
        }
        match self.desk.index.put(id.as_str(), &name) {
            Put::Changed => self.desk.note(&Note::Account(id.as_str().to_owned(), name)),
            Put::Same => {}
            Put::Full => tracing::warn!(%id, "the index is full; this account is not found"),
        }
    }

    /// How many accounts are found.
    pub fn accounts(&self) -> usize {
        self.desk.index.len()
    }
}

impl Bot for Archivist {
    fn hear(&mut self, heard: Heard<'_>, _: &dyn Source) -> Vec<Post> {
        let turn = Turn::about(&heard);
        self.desk.see(&turn.sender, heard.content, heard.now_s);
        self.desk.turn = Some(turn.clone());
        match self.table.process(&mut self.desk, heard.content, Registry::none()) {
            Ok(answers) => turn.posts(answers.unwrap_or_default()),
            Err(error) => turn.content_error(&error),
        }
    }

    fn learned(&mut self, id: &Id, known: &dyn Source, _: f64) -> Vec<Post> {
        // A document proves that the meta is known.
        if let Some(document) = known.documents(id).first() {
            let name = document.properties().get("name").and_then(Value::as_str);
            self.learn(id, name.unwrap_or_default());
            if let Some(meta) = known.meta(id) {
                self.desk.learn_meta(&id.naked(), &meta.to_map());
            }
        }
        Vec::new()
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.desk.notes)
    }

    fn recall(&mut self, note: &[u8]) -> Result<(), NoteError> {
        let no_id = |id: String| NoteError(format!("no ID: {id}"));
        match serde_json::from_slice(note)? {
            // A line of the index is one account.
            Note::Account(id, _) if id.contains(char::is_control) => return Err(no_id(id)),
            Note::Account(id, name) => {
                self.desk.index.put(&id, &index::clean(&name));
            }
            Note::Contacts(id, command) => {
                let id = Id::parse(&id).map_err(|_| no_id(id))?;
                self.desk.keep(id, command);
            }
            Note::Meta(id, meta) => {
                let id = Id::parse(&id).map_err(|_| no_id(id))?;
                if let Some(metas) = &mut self.desk.metas {
                    metas.insert(id, meta);
                }
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let metas = self.desk.metas.as_ref().map_or(0, HashMap::len);
        self.desk.index.len() + self.desk.contacts.len() + metas
    }

    fn tell_all(&self, write: &mut dyn FnMut(String)) {
        let accounts =
            self.desk.index.iter().map(|(id, name)| Note::Account(id.to_owned(), name.to_owned()));
        let contacts = self.desk.contacts.iter();
        let contacts =
            contacts.map(|(id, command)| Note::Contacts(id.as_str().to_owned(), command.clone()));
        let metas = self.desk.metas.iter().flatten();
        let metas = metas.map(|(id, meta)| Note::Meta(id.as_str().to_owned(), meta.clone()));
        accounts.chain(contacts).chain(metas).filter_map(|note| text_of(&note)).for_each(write);
    }
}

fn text_of(note: &Note) -> Option<String> {
    // Nothing in a note has a key that is no text, which is all that could fail.
    serde_json::to_string(note).ok()
}

impl Desk {
    fn note(&mut self, note: &Note) {
        self.notes.extend(text_of(note));
    }

    /// Takes down who is here: who says where he is logged in, or brings his own documents, as
    /// clients do at a login. It may have waited for this bot.
    fn see(&mut self, sender: &Id, content: &Content, now_s: f64) {
        let Body::Command(command) = &content.body else { return };
        match command {
            Command::Login { did: Some(did), .. }
            | Command::Documents { did: Some(did), documents: Some(_), .. }
                if Id::parse(did).is_ok_and(|did| did.is_same_as(sender)) =>
            {
                self.forget_silent(now_s);
                let at = content.time.unwrap_or(now_s).min(now_s);
                self.online.insert(sender.clone(), at);
            }
            Command::Report { title } if title == "offline" => drop(self.online.remove(sender)),
            _ => {}
        }
    }

    fn forget_silent(&mut self, now_s: f64) {
        if self.online.len() < ONLINE_MAX {
            return;
        }
        self.online.retain(|_, at| *at + ONLINE_S > now_s);
        if self.online.len() >= ONLINE_MAX {
            let oldest = self.online.iter().min_by(|a, b| a.1.total_cmp(b.1));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.online.remove(&id);
            }
        }
    }

    fn search(&mut self, asked: &Content, search: Search) -> Answers {
        let Some(turn) = self.turn.clone() else { return Vec::new() };
        if search.users.is_some() {
            // It answers somebody's question.
            return Vec::new();
        }
        let online = search.keywords == Search::ONLINE;
        if search.keywords.trim().is_empty() {
            return vec![turn.receipt("Search command error.", None, &[])];
        }
        let at_0 = if online { ONLINE_AT_0 } else { HITS_AT_0 };
        let count = match asked.map.get("limit").map(|_| search.limit) {
            None => HITS,
            Some(0) => at_0,
            Some(limit) => usize::try_from(limit).unwrap_or(HITS_MAX).min(HITS_MAX),
        };
        let start = usize::try_from(search.start).unwrap_or(usize::MAX);
        let users = match online {
            true => self.online(turn.now_s, start, count),
            false => {
                let words = index::words(&search.keywords);
                let found = self.index.find(&words, start, count);
                found.into_iter().filter_map(|id| Id::parse(id).ok()).collect()
            }
        };
        tracing::debug!(hits = users.len(), "searched");
        let (found, results) = (users.len(), self.results(&users));
        let brings = results.is_some();
        let station = Some(self.me.clone());
        let mut answer = content(&Search { users: Some(users), station, results, ..search });
        if brings {
            let state = if online { "connected" } else { "found" };
            answer.insert("message".into(), format!("{found} user(s) {state}").into());
            // Who asked by this name looks for it in the answer.
            if asked.map.get("command").is_some_and(|name| name == Search::ONLINE) {
                answer.insert("command".into(), Search::ONLINE.into());
            }
        }
        vec![answer]
    }

    /// The metas of these, if answers are to bring them.
    fn results(&self, users: &[Id]) -> Option<Map<String, Value>> {
        let metas = self.metas.as_ref()?;
        let known = users.iter().filter_map(|id| Some((id, metas.get(id)?)));
        Some(known.map(|(id, meta)| (id.as_str().to_owned(), meta.clone().into())).collect())
    }

    fn learn_meta(&mut self, id: &Id, meta: &Map<String, Value>) {
        let Some(metas) = &mut self.metas else { return };
        if metas.len() < METAS_MAX && !metas.contains_key(id) {
            metas.insert(id.clone(), meta.clone());
            self.note(&Note::Meta(id.as_str().to_owned(), meta.clone()));
        }
    }

    /// Who is online, the latest first.
    fn online(&self, now_s: f64, start: usize, count: usize) -> Vec<Id> {
        let mut online: Vec<_> =
            self.online.iter().filter(|(_, at)| **at + ONLINE_S > now_s).collect();
        online.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
        online.into_iter().skip(start).take(count).map(|(id, _)| id.clone()).collect()
    }

    fn storage(&mut self, came: &Content, storage: Storage) -> Answers {
        let Some(turn) = self.turn.clone() else { return Vec::new() };
        if storage.title != "contacts" {
            let template = Some("Storage command (title: ${title}) not support yet!");
            return vec![turn.receipt(
                "Command not support.",
                template,
                &[("title", storage.title)],
            )];
        }
        let who = [("ID", turn.sender.as_str().to_owned())];
        if storage.data.is_none() && !came.map.contains_key("contacts") {
            return vec![match self.contacts.get(&turn.sender) {
                Some(kept) => kept.clone(),
                None => {
                    let template = Some("Contacts not found: ${ID}.");
                    turn.receipt("Contacts not found.", template, &who)
                }
            }];
        }
        let text = json::write_object(&came.map);
        let kept = self.contacts.get(&turn.sender);
        let before = kept.map_or(0, |kept| json::write_object(kept).len());
        let all = self.contacts_bytes - before + text.len();
        let newer = kept.is_none_or(|kept| came.time > time_of(kept));
        let fits = text.len() <= CONTACTS_BYTES_MAX && all <= CONTACTS_ALL_BYTES_MAX;
        if !fits {
            tracing::warn!(user = %turn.sender, bytes = text.len(), "no room for these contacts");
        }
        let (said, template) = match fits && newer {
            true => ("Contacts received.", "Contacts received: ${ID}."),
            false => ("Contacts not changed.", "Contacts not changed: ${ID}."),
        };
        if fits && newer {
            self.note(&Note::Contacts(turn.sender.as_str().to_owned(), came.map.clone()));
            self.keep(turn.sender.clone(), came.map.clone());
        }
        vec![turn.receipt(said, Some(template), &who)]
    }

    fn keep(&mut self, user: Id, command: Map<String, Value>) {
        self.contacts_bytes += json::write_object(&command).len();
        if let Some(before) = self.contacts.insert(user, command) {
            self.contacts_bytes -= json::write_object(&before).len();
        }
    }
}

fn time_of(command: &Map<String, Value>) -> Option<f64> {
    command.get("time").and_then(crate::proto::content::seconds)
}
