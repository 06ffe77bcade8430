//! What one account knows, kept in files: others' metas and documents where every account of the
//! folder finds them, and its own contacts, names, lists and groups in `chat/{ADDRESS}/book.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Refusal;
use crate::client::account::Account;
use crate::client::directory::{Directory, ENTITIES_MAX};
use crate::client::folder::{self, Folder, FolderError};
use crate::client::keys::KeyStore;
use crate::client::source::{Contacts, Groups, People, Users};
use crate::crypto::identity::{Acceptance, Proven};
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json;
use crate::proto::meta::Meta;

/// Contacts, nicknames, blocked and muted ones, and groups that are kept, of each.
const KEPT_MAX: usize = 4096;

/// Faults that wait to be told.
const FAULTS_MAX: usize = 16;

const BOOK: &str = "book.json";
const KEYS: &str = "keys.json";

/// The file. IDs are texts here; what is none is not found by any name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) contacts: Vec<String>,
    pub(super) nicknames: BTreeMap<String, String>,
    pub(super) blocked: Vec<String>,
    pub(super) muted: Vec<String>,
    pub(super) groups: BTreeMap<String, Group>,
}

/// A group that we belong to, or did.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Group {
    pub(super) members: Vec<String>,
    /// When its members were last set as a whole, in seconds since 1970.
    pub(super) reset_s: f64,
    /// The message that did so, for members who ask.
    pub(super) reset: Option<Value>,
}

/// Whom a word stands for.
pub(super) enum Found {
    Nobody,
    One(Id),
    Several(Vec<Id>),
}

/// A [`Source`](crate::client::source::Source) that writes down what it learns.
pub(super) struct Book {
    folder: Folder,
    /// What only this account sees.
    own: PathBuf,
    me: Id,
    directory: Directory,
    pub(super) kept: Kept,
    saved_keys: Value,
    faults: Vec<String>,
}

/// Accounts in a folder that can be used: their private keys are here.
pub(super) fn accounts(folder: &Folder) -> Result<Vec<(Id, String)>, Refusal> {
    let mut found = Vec::new();
    for address in folder.addresses()?.take(ENTITIES_MAX) {
        let Some(meta) = folder.meta_at(&address?)? else { continue };
        let id = meta.id().clone();
        if id.is_user() && folder.sign_key(&id)?.is_some() {
            let documents = folder.documents(&meta)?.into_iter().flatten().collect::<Vec<_>>();
            found.push((id, name_in(&documents).unwrap_or_default()));
        }
    }
    found.sort();
    Ok(found)
}

fn name_in(documents: &[Proven<Document>]) -> Option<String> {
    let name = documents.iter().find_map(|document| document.properties().get("name")?.as_str());
    // One word a person can type, whatever the owner wrote.
    name.map(|name| name.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|n| !n.is_empty())
}

impl Book {
    /// Opens the book of `account` below `root`.
    pub(super) fn open(folder: &Folder, root: &Path, account: &Account) -> Result<Self, Refusal> {
        let own = root.join("chat").join(account.id().address());
        let path = own.join(BOOK);
        let kept = match folder::read_json(&path)? {
            Some(value) => serde_json::from_value(value)
                .map_err(|error| Refusal::here(format!("{}: {error}", path.display())))?,
            None => Kept::default(),
        };
        let (me, directory) = (account.id().clone(), Directory::with(account.clone()));
        let (saved_keys, faults) = (Value::Null, Vec::new());
        let folder = folder.clone();
        let mut book = Self { folder, own, me, directory, kept, saved_keys, faults };
        book.read_people()?;
        for (group, members) in &book.kept.groups {
            if let Ok(group) = Id::parse(group) {
                book.directory.save_members(&group, ids(&members.members));
            }
        }
        Ok(book)
    }

    fn read_people(&mut self) -> Result<(), Refusal> {
        let folder = self.folder.clone();
        for address in folder.addresses()?.take(ENTITIES_MAX) {
            match address.and_then(|address| folder.meta_at(&address)) {
                Ok(Some(meta)) => self.read_person(meta.id()),
                Ok(None) => {}
                Err(error) => self.fault(&error),
            }
        }
        Ok(())
    }

    /// Takes what files of the folder say of somebody.
    fn read_person(&mut self, id: &Id) {
        let now_s = super::super::now_s();
        let read = self.folder.meta(id).and_then(|meta| match meta {
            Some(meta) => self.folder.documents(&meta).map(|documents| Some((meta, documents))),
            None => Ok(None),
        });
        match read {
            Ok(Some((meta, documents))) => {
                self.directory.save_meta(meta);
                for document in documents {
                    match document {
                        Ok(document) => drop(self.directory.save_document(document, now_s)),
                        Err(error) => self.fault(&error),
                    }
                }
            }
            Ok(None) => {}
            Err(error) => self.fault(&error),
        }
    }

    /// The content keys of earlier runs: what others send may go on using them.
    pub(super) fn keys(&self) -> Result<KeyStore, FolderError> {
        let saved = folder::read_json(&self.own.join(KEYS))?;
        Ok(saved.map(|saved| KeyStore::load(&saved)).unwrap_or_default())
    }

    /// Keeps the content keys, as [`KeyStore::save`] wrote them, if they have changed.
    pub(super) fn save_keys(&mut self, keys: Value) -> Result<(), FolderError> {
        if keys != self.saved_keys {
            let text = json::write(&keys);
            folder::write_bytes(&self.own.join(KEYS), text.as_bytes(), true)?;
            self.saved_keys = keys;
        }
        Ok(())
    }

    /// Where the record of a conversation lies.
    pub(super) fn record(&self, with: &Id) -> PathBuf {
        self.own.join("history").join(format!("{}.jsonl", with.address()))
    }

    /// Changes what is kept, and writes it down.
    pub(super) fn keep(&mut self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.kept);
        for list in [&mut self.kept.contacts, &mut self.kept.blocked, &mut self.kept.muted] {
            list.truncate(KEPT_MAX);
        }
        while self.kept.nicknames.len() > KEPT_MAX {
            self.kept.nicknames.pop_first();
        }
        while self.kept.groups.len() > KEPT_MAX {
            self.kept.groups.pop_first();
        }
        let written = serde_json::to_vec(&self.kept).map_err(|error| error.to_string());
        let saved = written.and_then(|bytes| {
            folder::write_bytes(&self.own.join(BOOK), &bytes, true).map_err(|e| e.to_string())
        });
        if let Err(error) = saved {
            self.fault(&error);
        }
    }

    /// Somebody is one of our contacts from now on.
    pub(super) fn meet(&mut self, id: &Id) {
        let text = id.naked().as_str().to_owned();
        if id.is_user() && !id.is_same_as(&self.me) && !self.kept.contacts.contains(&text) {
            self.keep(|kept| kept.contacts.push(text));
        }
    }

    /// A group as we know it.
    pub(super) fn group(&self, group: &Id) -> Group {
        self.kept.groups.get(group.naked().as_str()).cloned().unwrap_or_default()
    }

    /// Keeps who is in a group, and the message that said so, if all of them were said.
    pub(super) fn keep_group(&mut self, id: &Id, members: &[Id], reset: Option<(f64, Value)>) {
        let mut group = self.group(id);
        group.members = members.iter().map(|member| member.naked().as_str().to_owned()).collect();
        if let Some((time, message)) = reset {
            (group.reset_s, group.reset) = (time, Some(message));
        }
        self.directory.save_members(id, members.to_vec());
        self.keep(|kept| drop(kept.groups.insert(id.naked().as_str().to_owned(), group)));
    }

    pub(super) fn is_blocked(&self, id: &Id) -> bool {
        self.kept
            .blocked
            .iter()
            .any(|blocked| id.is_named_by(blocked) || *blocked == id.naked().as_str())
    }

    /// What somebody is called: by us, by themselves, or by the ID.
    pub(super) fn name_of(&self, id: &Id) -> String {
        let naked = id.naked();
        let ours = self.kept.nicknames.iter().find(|(_, known)| *known == naked.as_str());
        ours.map(|(name, _)| name.clone())
            .or_else(|| name_in(&self.directory.documents(id)))
            .or_else(|| id.name().map(str::to_owned))
            .unwrap_or_else(|| short(id))
    }

    /// Whom a word stands for: an ID, a name that we gave, a name that they gave themselves.
    pub(super) fn find(&mut self, word: &str) -> Found {
        if let Ok(id) = Id::parse(word) {
            return Found::One(id);
        }
        if let Some(id) = self.kept.nicknames.get(word).and_then(|id| Id::parse(id).ok()) {
            return Found::One(id);
        }
        let mut all = self.known();
        all.retain(|id| self.name_of(id) == word || id.name() == Some(word));
        if all.is_empty() {
            // Perhaps an account that was made in this folder a moment ago.
            let fresh = accounts(&self.folder).unwrap_or_default().into_iter();
            let others = fresh.filter(|(id, name)| name == word && !id.is_same_as(&self.me));
            all.extend(others.map(|(id, _)| id));
            for id in &all {
                self.read_person(id);
            }
        }
        match <[Id; 1]>::try_from(all) {
            Ok([id]) => Found::One(id),
            Err(all) if all.is_empty() => Found::Nobody,
            Err(all) => Found::Several(all),
        }
    }

    /// Contacts and groups.
    pub(super) fn known(&self) -> Vec<Id> {
        let mut all = ids(&self.kept.contacts);
        all.extend(self.kept.groups.keys().filter_map(|id| Id::parse(id).ok()));
        all.retain(|id| !id.is_same_as(&self.me));
        all.sort();
        all.dedup();
        all
    }

    /// What could not be written down since the last question.
    pub(super) fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    fn fault(&mut self, error: &impl ToString) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(error.to_string());
        }
    }
}

/// An ID that fits beside a name.
pub(super) fn short(id: &Id) -> String {
    let address = id.address();
    match (address.get(..6), address.get(address.len().saturating_sub(4)..)) {
        (Some(head), Some(tail)) if address.len() > 12 => format!("{head}…{tail}"),
        _ => address.to_owned(),
    }
}

/// The IDs among texts.
pub(super) fn ids(texts: &[String]) -> Vec<Id> {
    texts.iter().filter_map(|text| Id::parse(text).ok()).collect()
}

impl People for Book {
    fn meta(&self, id: &Id) -> Option<Proven<Meta>> {
        self.directory.meta(id)
    }

    fn documents(&self, id: &Id) -> Vec<Proven<Document>> {
        self.directory.documents(id)
    }

    fn save_meta(&mut self, meta: Proven<Meta>) {
        if self.directory.meta(meta.id()).is_none()
            && let Err(error) = self.folder.save_meta(&meta)
        {
            self.fault(&error);
        }
        self.directory.save_meta(meta);
    }

    fn save_document(&mut self, document: Proven<Document>, now_s: f64) -> Acceptance {
        let id = document.id().clone();
        let acceptance = self.directory.save_document(document, now_s);
        if let Acceptance::Stored(all) = &acceptance
            && let Err(error) = self.folder.save_documents(&id, all)
        {
            self.fault(&error);
        }
        acceptance
    }
}

impl Users for Book {
    fn users(&self) -> Vec<Id> {
        self.directory.users()
    }

    fn account(&self, id: &Id) -> Option<Account> {
        self.directory.account(id)
    }

    fn save_account(&mut self, account: Account) {
        if let Err(error) = self.folder.save(&account) {
            self.fault(&error);
        }
        for document in account.documents() {
            self.directory.save_document(document.clone(), super::super::now_s());
        }
        self.directory.save_account(account);
    }
}

impl Contacts for Book {
    fn contacts(&self, _: &Id) -> Vec<Id> {
        ids(&self.kept.contacts)
    }

    fn save_contacts(&mut self, _: &Id, contacts: Vec<Id>) {
        let texts = contacts.iter().map(|id| id.as_str().to_owned()).collect();
        self.keep(|kept| kept.contacts = texts);
    }
}

impl Groups for Book {
    fn founder(&self, group: &Id) -> Option<Id> {
        self.directory.founder(group)
    }

    fn owner(&self, group: &Id) -> Option<Id> {
        self.directory.owner(group)
    }

    fn members(&self, group: &Id) -> Vec<Id> {
        self.directory.members(group)
    }

    fn administrators(&self, group: &Id) -> Vec<Id> {
        self.directory.administrators(group)
    }

    fn assistants(&self, group: &Id) -> Vec<Id> {
        self.directory.assistants(group)
    }

    fn save_members(&mut self, group: &Id, members: Vec<Id>) {
        self.keep_group(group, &members, None);
    }
}
