//! One account: meta, documents, login records, private keys.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::super::Refusal;
use super::{Import, logins, refused};
use crate::client::folder::{Fault, Folder, FolderError};
use crate::crypto::identity::{
    Acceptance, Proven, accept_document, is_made_by, prove_document, verify_keys,
};
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::address::Address;
use crate::proto::command::List;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::proto::meta::Meta;
use crate::store::{AccountPart, Store, StoreAnswer, StoreOp, UserRecord};

impl Import<'_> {
    pub(super) fn account(&mut self, address: &Address) -> Result<(), Refusal> {
        let meta = match self.source.meta_at(address) {
            Ok(Some(meta)) => meta,
            Ok(None) => {
                let path = self.source.public.join(address.as_str()).join("meta.js");
                let fault = Fault::Shape("the meta; without it nothing else here can be proven");
                self.tally.damaged(&FolderError { path, fault });
                return Ok(());
            }
            Err(error) => {
                self.tally.damaged(&error);
                return Ok(());
            }
        };
        let user: Arc<str> = meta.id().as_str().into();
        let stored = match self.store.read(&StoreOp::LoadUser { user: user.clone() }) {
            StoreAnswer::User(record) => record,
            StoreAnswer::Failed(error) => return Err(refused(error)),
            _ => UserRecord::default(),
        };
        if stored.meta.is_some() {
            self.tally.metas.known += 1;
        } else {
            self.tally.metas.new += 1;
            let json = text::write_object(&meta.to_map()).into();
            self.put(StoreOp::Save { user: user.clone(), part: AccountPart::Meta, json })?;
        }
        let documents = self.documents(&meta, &user, stored.documents.as_ref())?;
        self.logins(&meta, &documents, &user, stored.logins.as_ref())?;
        self.list(&meta, List::Block, &user, stored.blocked.is_some())?;
        self.list(&meta, List::Mute, &user, stored.muted.is_some())?;
        self.keys(&meta, &documents)
    }

    /// Gives the documents that are kept from now on.
    fn documents(
        &mut self,
        meta: &Proven<Meta>,
        user: &Arc<str>,
        stored: Option<&Bytes>,
    ) -> Result<Vec<Proven<Document>>, Refusal> {
        let stored = kept_documents(meta, stored);
        let mut found = self.sound_documents(meta);
        // Oldest first, or the newest would keep the others out. No date counts as 0.
        let time = |document: &Proven<Document>| document.time().unwrap_or_default();
        found.sort_by(|a, b| time(a).total_cmp(&time(b)));
        let mut kept = stored.clone();
        let mut candidates = Vec::new();
        for document in found {
            match accept_document(&kept, document.clone(), self.now_s) {
                Acceptance::Stored(all) => kept = all,
                Acceptance::TooNew => {
                    let path = self.source.documents_path(meta.id());
                    let fault = Fault::Shape("no document of the future");
                    self.tally.damaged(&FolderError { path, fault });
                    continue;
                }
                Acceptance::Same | Acceptance::Older | Acceptance::Foreign => {}
            }
            candidates.push(document);
        }
        for document in &candidates {
            let among = |all: &[Proven<Document>]| all.iter().any(|d| d.is_same_as(document));
            let count = &mut self.tally.documents;
            match (among(&stored), among(&kept)) {
                (true, _) => count.known += 1,
                (false, true) => count.new += 1,
                (false, false) => count.old += 1,
            }
        }
        if kept != stored {
            let list: Vec<Value> = kept.iter().map(|d| Value::Object(d.to_map())).collect();
            let json = text::write(&list.into()).into();
            self.put(StoreOp::Save { user: user.clone(), part: AccountPart::Documents, json })?;
        }
        Ok(kept)
    }

    fn sound_documents(&mut self, meta: &Proven<Meta>) -> Vec<Proven<Document>> {
        let found = match self.source.documents(meta) {
            Ok(found) => found,
            Err(error) => {
                self.tally.damaged(&error);
                return Vec::new();
            }
        };
        let mut sound = Vec::new();
        for document in found {
            match document {
                Ok(document) => sound.push(document),
                Err(error) => self.tally.damaged(&error),
            }
        }
        sound
    }

    fn logins(
        &mut self,
        meta: &Proven<Meta>,
        documents: &[Proven<Document>],
        user: &Arc<str>,
        stored: Option<&Bytes>,
    ) -> Result<(), Refusal> {
        let found = match self.source.logins(meta.id()) {
            Ok(found) => found,
            Err(error) => {
                self.tally.damaged(&error);
                return Ok(());
            }
        };
        let keys = verify_keys(meta, documents);
        let path = self.source.logins_path(meta.id());
        let stored = logins::read(stored);
        let mut kept = stored.clone();
        let mut sound = Vec::new();
        for (record, number) in found.into_iter().zip(1..) {
            let proven = record.and_then(|record| {
                logins::prove(meta.id(), record, &keys, &mut self.parser, &mut self.names).map_err(
                    |fault| FolderError {
                        path: path.clone(),
                        fault: Fault::Entry(number, Box::new(fault)),
                    },
                )
            });
            match proven {
                Ok(record) => sound.push(record),
                Err(error) => self.tally.damaged(&error),
            }
        }
        for record in &sound {
            logins::keep(&mut kept, record);
        }
        for record in &sound {
            let count = &mut self.tally.logins;
            match (stored.contains(record), kept.contains(record)) {
                (true, _) => count.known += 1,
                (false, true) => count.new += 1,
                (false, false) => count.old += 1,
            }
        }
        if kept != stored {
            let json = text::write(&kept.into()).into();
            self.put(StoreOp::Save { user: user.clone(), part: AccountPart::Logins, json })?;
        }
        Ok(())
    }

    /// Whom the user blocks or mutes: the operator's own files, which nobody has signed. What the user
    /// has told this station since stays.
    fn list(
        &mut self,
        meta: &Proven<Meta>,
        which: List,
        user: &Arc<str>,
        known: bool,
    ) -> Result<(), Refusal> {
        let command = match self.source.list(meta.id(), which) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.tally.damaged(&error);
                return Ok(());
            }
        };
        if known {
            self.tally.lists.known += 1;
            return Ok(());
        }
        self.tally.lists.new += 1;
        let json = text::write_object(&command).into();
        self.put(StoreOp::Save { user: user.clone(), part: AccountPart::of(which), json })
    }

    /// Private keys stay files; with them, in another folder, what the station and the tool need to
    /// use them.
    fn keys(&mut self, meta: &Proven<Meta>, documents: &[Proven<Document>]) -> Result<(), Refusal> {
        let id = meta.id();
        let found = match self.source.sign_key(id) {
            Ok(Some(key)) => key,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.tally.damaged(&error);
                return Ok(());
            }
        };
        let secret = |folder: &Folder| folder.private.join(id.address()).join("secret.js");
        if !found.verify_key().is_ok_and(|key| is_made_by(meta, &key)) {
            let fault = Fault::Shape("the key of the meta");
            self.tally.damaged(&FolderError { path: secret(self.source), fault });
            return Ok(());
        }
        let message_keys = self.sound_message_keys(id);
        if self.source.private == self.target.private {
            self.tally.keys.known += 1;
            return Ok(());
        }
        let old_keys = self.target.message_keys(id)?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let present = self.target.sign_key(id)?;
        if present.as_ref().is_some_and(|present| !is_same(present, &found)) {
            let fault = Fault::Shape("the same key as the source; it is left as it is");
            self.tally.damaged(&FolderError { path: secret(self.target), fault });
            return Ok(());
        }
        let merged = merged(&old_keys, &message_keys);
        if present.is_some() && merged.len() == old_keys.len() {
            self.tally.keys.known += 1;
        } else {
            self.tally.keys.new += 1;
            self.target.save_keys(id, &found, &merged)?;
        }
        Ok(save_if_newer(self.target, meta, documents)?)
    }

    fn sound_message_keys(&mut self, id: &Id) -> Vec<OpenKey> {
        let mut keys = Vec::new();
        match self.source.message_keys(id) {
            Ok(found) => {
                for key in found {
                    match key {
                        Ok(key) => keys.push(key),
                        Err(error) => self.tally.damaged(&error),
                    }
                }
            }
            Err(error) => self.tally.damaged(&error),
        }
        keys
    }
}

/// Writes what is public of an account down, unless it is there and as new.
pub(in crate::cli) fn save_if_newer(
    target: &Folder,
    meta: &Proven<Meta>,
    documents: &[Proven<Document>],
) -> Result<(), FolderError> {
    if target.meta(meta.id())?.is_none() {
        target.save_meta(meta)?;
    }
    let there: Vec<_> = target.documents(meta)?.into_iter().collect::<Result<_, _>>()?;
    let newest = |all: &[Proven<Document>]| all.iter().filter_map(|d| d.time()).fold(0.0, f64::max);
    if newest(&there) < newest(documents) || (there.is_empty() && !documents.is_empty()) {
        target.save_documents(meta.id(), documents)?;
    }
    Ok(())
}

/// Documents as the store has them: proven before they were stored, and proven again here, since
/// this is the occasion.
fn kept_documents(meta: &Proven<Meta>, stored: Option<&Bytes>) -> Vec<Proven<Document>> {
    let Some(Ok(Value::Array(list))) = stored.map(|bytes| text::parse(bytes)) else {
        return Vec::new();
    };
    list.iter()
        .filter_map(|value| Document::from_map(value.as_object()?).ok())
        .filter_map(|document| prove_document(meta, meta.id(), document).ok())
        .collect()
}

fn is_same(one: &SignKey, two: &SignKey) -> bool {
    matches!((one.verify_key(), two.verify_key()), (Ok(one), Ok(two)) if one == two)
}

/// The keys that are there, then those of the source that are not among them.
fn merged(there: &[OpenKey], found: &[OpenKey]) -> Vec<OpenKey> {
    let mut all = there.to_vec();
    for key in found {
        if all.iter().all(|known| !is_same(&known.sign_key(), &key.sign_key())) {
            all.push(key.clone());
        }
    }
    all
}

/// Whether a file of an account is read by the above.
pub(super) fn is_account_file(name: &Path) -> bool {
    const NAMES: [&str; 10] = [
        "block_stored.js",
        "mute_stored.js",
        "meta.js",
        "documents.js",
        "document.js",
        "profile.js",
        "login_commands.js",
        "secret.js",
        "secret_keys.js",
        "private_key.js",
    ];
    name.to_str().is_some_and(|name| NAMES.contains(&name))
}
