//! Where a client's knowledge comes from: of others, of its own accounts, of contacts and groups.
//!
//! Traits, so that an application may keep these things where it likes;
//! [`Directory`](super::directory::Directory) keeps them in memory. What others say of themselves
//! enters only with its proof. Values are handed out as clones, which share what is inside.

use super::account::Account;
use crate::crypto::identity::{Acceptance, Proven};
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::meta::Meta;

/// What is known of others: users, stations, groups. IDs may come with a terminal, which plays no
/// role.
pub trait People {
    /// Somebody's meta.
    fn meta(&self, id: &Id) -> Option<Proven<Meta>>;

    /// Somebody's documents, newest first.
    fn documents(&self, id: &Id) -> Vec<Proven<Document>>;

    /// Keeps a meta. One that is there already is as good: metas never change.
    fn save_meta(&mut self, meta: Proven<Meta>);

    /// Keeps a document if it is as new as the ones that are there; `now_s` is in seconds since
    /// 1970. [`accept_document`](crate::crypto::identity::accept_document) decides.
    fn save_document(&mut self, document: Proven<Document>, now_s: f64) -> Acceptance;
}

/// Accounts of our own, with their private keys.
pub trait Users {
    /// Their IDs, without terminals; the first one is the current one.
    fn users(&self) -> Vec<Id>;

    /// One of them.
    fn account(&self, id: &Id) -> Option<Account>;

    /// Keeps an account, in place of an older state of it.
    fn save_account(&mut self, account: Account);
}

/// Who our users know.
pub trait Contacts {
    /// A user's contacts.
    fn contacts(&self, user: &Id) -> Vec<Id>;

    /// Keeps a user's contacts in place of the earlier ones.
    fn save_contacts(&mut self, user: &Id, contacts: Vec<Id>);
}

/// Who is who in a group.
pub trait Groups {
    /// Who made it.
    fn founder(&self, group: &Id) -> Option<Id>;

    /// Who owns it: its founder, unless it was handed over.
    fn owner(&self, group: &Id) -> Option<Id>;

    /// Everyone in it, the owner too. Empty while unknown.
    fn members(&self, group: &Id) -> Vec<Id>;

    /// Who may change its members, besides the owner.
    fn administrators(&self, group: &Id) -> Vec<Id>;

    /// Bots that pass its messages on to the members.
    fn assistants(&self, group: &Id) -> Vec<Id>;

    /// Keeps its members in place of the earlier ones.
    fn save_members(&mut self, group: &Id, members: Vec<Id>);
}

/// All that a messenger draws on.
pub trait Source: People + Users + Contacts + Groups {}

impl<T: People + Users + Contacts + Groups> Source for T {}
