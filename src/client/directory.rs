//! A [`Source`](super::source::Source) in memory, bounded.

use std::collections::{HashMap, VecDeque};

use super::account::Account;
use super::source::{Contacts, Groups, People, Users};
use crate::crypto::identity::{Acceptance, Proven, accept_document, is_made_by};
use crate::crypto::key::VerifyKey;
use crate::proto::document::{Document, DocumentKind};
use crate::proto::id::Id;
use crate::proto::meta::Meta;

/// Entities that are known at once; the one that came first makes room. A visa takes some KiB, so
/// a full directory stays below 100 MiB.
pub const ENTITIES_MAX: usize = 16_384;

/// Longest list of contacts or members.
pub const LIST_MAX: usize = 4096;

/// What one client knows. Empty, it holds no memory.
#[derive(Debug, Default)]
pub struct Directory {
    entities: HashMap<Id, Entity>,
    /// IDs in the order in which they came.
    order: VecDeque<Id>,
    accounts: Vec<Account>,
    contacts: HashMap<Id, Vec<Id>>,
}

#[derive(Debug, Default)]
struct Entity {
    meta: Option<Proven<Meta>>,
    documents: Vec<Proven<Document>>,
    members: Vec<Id>,
}

impl Directory {
    /// A directory that knows one account of our own.
    pub fn with(account: Account) -> Self {
        let mut directory = Self::default();
        directory.save_account(account);
        directory
    }

    fn entity(&mut self, id: &Id) -> &mut Entity {
        let id = id.naked();
        if !self.entities.contains_key(&id) {
            if self.order.len() >= ENTITIES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.entities.remove(&oldest);
            }
            self.order.push_back(id.clone());
        }
        self.entities.entry(id).or_default()
    }

    /// The IDs that a group's bulletin names under `field`.
    fn named(&self, group: &Id, field: &str) -> Vec<Id> {
        let documents = self.documents(group);
        let bulletin = documents.iter().find(|d| d.kind() == DocumentKind::Bulletin);
        let listed = bulletin.and_then(|bulletin| bulletin.properties().get(field)?.as_array());
        let texts = listed.into_iter().flatten().filter_map(|id| id.as_str());
        texts.filter_map(|text| Id::parse(text).ok()).take(LIST_MAX).collect()
    }
}

impl People for Directory {
    fn meta(&self, id: &Id) -> Option<Proven<Meta>> {
        let own = || self.account(id).map(|account| account.meta().clone());
        self.entities.get(&id.naked()).and_then(|entity| entity.meta.clone()).or_else(own)
    }

    fn documents(&self, id: &Id) -> Vec<Proven<Document>> {
        let own = || self.account(id).map(|account| account.documents().to_vec());
        let known = self.entities.get(&id.naked()).map(|entity| entity.documents.clone());
        known.filter(|known| !known.is_empty()).or_else(own).unwrap_or_default()
    }

    fn save_meta(&mut self, meta: Proven<Meta>) {
        let id = meta.id().clone();
        self.entity(&id).meta.get_or_insert(meta);
    }

    fn save_document(&mut self, document: Proven<Document>, now_s: f64) -> Acceptance {
        let id = document.id().clone();
        let entity = self.entity(&id);
        let acceptance = accept_document(&entity.documents, document, now_s);
        if let Acceptance::Stored(all) = &acceptance {
            entity.documents.clone_from(all);
        }
        acceptance
    }
}

impl Users for Directory {
    fn users(&self) -> Vec<Id> {
        self.accounts.iter().map(|account| account.id().clone()).collect()
    }

    fn account(&self, id: &Id) -> Option<Account> {
        self.accounts.iter().find(|account| account.id().is_same_as(id)).cloned()
    }

    fn save_account(&mut self, account: Account) {
        match self.accounts.iter_mut().find(|old| old.id() == account.id()) {
            Some(old) => *old = account,
            None => self.accounts.push(account),
        }
    }
}

impl Contacts for Directory {
    fn contacts(&self, user: &Id) -> Vec<Id> {
        self.contacts.get(&user.naked()).cloned().unwrap_or_default()
    }

    fn save_contacts(&mut self, user: &Id, mut contacts: Vec<Id>) {
        contacts.truncate(LIST_MAX);
        self.contacts.insert(user.naked(), contacts);
    }
}

impl Groups for Directory {
    /// The founder whom the bulletin names and whose key made the group's meta.
    fn founder(&self, group: &Id) -> Option<Id> {
        let documents = self.documents(group);
        let named = documents.iter().find_map(|d| d.properties().get("founder")?.as_str());
        let founder = Id::parse(named?).ok()?;
        let key = VerifyKey::from_map(self.meta(&founder)?.key()?).ok()?;
        is_made_by(&self.meta(group)?, &key).then_some(founder)
    }

    fn owner(&self, group: &Id) -> Option<Id> {
        self.founder(group)
    }

    fn members(&self, group: &Id) -> Vec<Id> {
        self.entities.get(&group.naked()).map(|group| group.members.clone()).unwrap_or_default()
    }

    fn administrators(&self, group: &Id) -> Vec<Id> {
        self.named(group, "administrators")
    }

    fn assistants(&self, group: &Id) -> Vec<Id> {
        self.named(group, "assistants")
    }

    fn save_members(&mut self, group: &Id, mut members: Vec<Id>) {
        members.truncate(LIST_MAX);
        self.entity(group).members = members;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::account::tests::person;

    #[test]
    fn what_it_knows_is_bounded_and_the_first_makes_room() {
        let mut directory = Directory::default();
        let id = |n: usize| Id::parse(&format!("somebody-{n}@anywhere")).unwrap();
        for n in 0..=ENTITIES_MAX {
            directory.save_members(&id(n), vec![id(0)]);
        }
        assert_eq!(directory.entities.len(), ENTITIES_MAX);
        assert!(directory.members(&id(0)).is_empty());
        assert_eq!(directory.members(&id(ENTITIES_MAX)), [id(0)]);
    }

    #[test]
    fn a_founder_is_believed_when_the_key_made_the_group() {
        let (founder, other) = (person("founder"), person("other"));
        let group = founder.found("people", 2000.0).unwrap();
        let mut directory = Directory::with(founder.clone());
        directory.save_meta(group.meta().clone());
        directory.save_document(group.document().unwrap().clone(), 2000.0);
        assert_eq!(directory.founder(group.id()), Some(founder.id().clone()));
        let mut properties = serde_json::Map::new();
        properties.insert("founder".into(), other.id().as_str().into());
        properties.insert("assistants".into(), vec![other.id().as_str()].into());
        let forged = group.clone().publish(properties, 3000.0).unwrap();
        directory.save_meta(other.meta().clone());
        directory.save_document(forged, 3000.0);
        assert_eq!(directory.founder(group.id()), None);
        assert_eq!(directory.assistants(group.id()), [other.id().clone()]);
    }
}
