//! Meta, documents and login records of one user: text, until somebody reads it.
//!
//! As objects with parsed keys they take seven times the room of their text, and most users who
//! are logged in are silent. So they are read when they are needed, and put away again when
//! nobody has asked for a while; which devices there are stays known.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use serde_json::Value;

use super::user::terminal_of;
use crate::crypto::identity::{Proven, verify_keys};
use crate::crypto::key::{SealKey, VerifyKey};
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json;
use crate::proto::meta::Meta;

/// See the module.
#[derive(Debug)]
pub(super) struct Papers {
    owner: Id,
    /// An object.
    meta: Option<Box<[u8]>>,
    /// An array of objects.
    documents: Option<Box<[u8]>>,
    /// An array of objects.
    logins: Option<Box<[u8]>>,
    open: OnceCell<Box<Open>>,
    routing: OnceCell<Routing>,
    /// Somebody has asked since the last look.
    asked: Cell<bool>,
}

/// What the texts say.
#[derive(Debug, Default)]
struct Open {
    meta: Option<Proven<Meta>>,
    documents: Vec<Proven<Document>>,
    logins: Vec<Value>,
    keys: OnceCell<Option<Arc<Vec<VerifyKey>>>>,
}

/// What every message for the user asks.
#[derive(Debug)]
struct Routing {
    devices: Box<[Arc<str>]>,
    can_be_answered: bool,
}

impl Papers {
    /// From what the store has. What is there was proven before it was stored; what cannot be
    /// read any more is left out.
    pub(super) fn restore(
        owner: Id,
        meta: Option<&[u8]>,
        documents: Option<&[u8]>,
        logins: Option<&[u8]>,
    ) -> Self {
        Self {
            owner,
            meta: meta.map(Box::from),
            documents: documents.map(Box::from),
            logins: logins.map(Box::from),
            open: OnceCell::new(),
            routing: OnceCell::new(),
            asked: Cell::new(false),
        }
    }

    fn open(&self) -> &Open {
        self.asked.set(true);
        self.open.get_or_init(|| Box::new(self.read()))
    }

    fn read(&self) -> Open {
        let list = |text: &Option<Box<[u8]>>| match text.as_deref().map(json::parse) {
            Some(Ok(Value::Array(list))) => list,
            _ => Vec::new(),
        };
        let meta = self.meta.as_deref().and_then(|text| json::parse_object(text).ok());
        let meta = meta.and_then(|map| Meta::from_map(&map).ok());
        let documents = list(&self.documents).into_iter();
        Open {
            meta: meta.map(|meta| Proven::restore(&self.owner, meta)),
            documents: documents
                .filter_map(|value| Document::from_map(value.as_object()?).ok())
                .map(|document| Proven::restore(&self.owner, document))
                .collect(),
            logins: list(&self.logins),
            keys: OnceCell::new(),
        }
    }

    pub(super) fn meta(&self) -> Option<&Proven<Meta>> {
        self.open().meta.as_ref()
    }

    pub(super) fn documents(&self) -> &[Proven<Document>] {
        &self.open().documents
    }

    pub(super) fn logins(&self) -> &[Value] {
        match self.logins {
            Some(_) => &self.open().logins,
            None => &[],
        }
    }

    /// Keys that a message may be signed with: of the visas, then of the meta.
    pub(super) fn keys(&self) -> Option<Arc<Vec<VerifyKey>>> {
        let open = self.open();
        let keys = || Some(Arc::new(verify_keys(open.meta.as_ref()?, &open.documents)));
        open.keys.get_or_init(keys).clone()
    }

    /// Devices that a message is kept for: those with a visa; any, while none is known.
    pub(super) fn devices(&self) -> &[Arc<str>] {
        &self.routing().devices
    }

    /// Whether there is a key that an answer can be sealed with.
    pub(super) fn can_be_answered(&self) -> bool {
        self.routing().can_be_answered
    }

    fn routing(&self) -> &Routing {
        self.routing.get_or_init(|| {
            let mut devices: Vec<Arc<str>> = Vec::new();
            let documents = self.documents();
            for document in documents.iter().filter(|document| document.visa_key().is_some()) {
                let terminal = terminal_of(document);
                if !devices.iter().any(|known| **known == *terminal) {
                    devices.push(Arc::from(terminal));
                }
            }
            let own = || SealKey::from_map(self.meta()?.key()?).ok();
            let can_be_answered = !devices.is_empty() || own().is_some();
            Routing { devices: devices.into(), can_be_answered }
        })
    }

    /// The meta's text, as it is to be stored.
    pub(super) fn set_meta(&mut self, meta: Proven<Meta>) -> &[u8] {
        let mut open = self.take_open();
        let text = self.meta.insert(packed(&Value::Object(meta.to_map())));
        open.meta = Some(meta);
        let _ = self.open.set(open);
        text
    }

    /// The documents' text, as it is to be stored.
    pub(super) fn set_documents(&mut self, documents: Vec<Proven<Document>>) {
        let mut open = self.take_open();
        let all = documents.iter().map(|document| Value::Object(document.to_map())).collect();
        self.documents = Some(packed(&all));
        open.documents = documents;
        let _ = self.open.set(open);
    }

    pub(super) fn set_logins(&mut self, logins: Vec<Value>) {
        let mut open = self.take_open();
        let logins = Value::Array(logins);
        self.logins = Some(packed(&logins));
        if let Value::Array(logins) = logins {
            open.logins = logins;
        }
        let _ = self.open.set(open);
    }

    /// Texts as they are to be stored; an empty list where there is none.
    pub(super) fn documents_text(&self) -> &[u8] {
        self.documents.as_deref().unwrap_or(b"[]")
    }

    pub(super) fn logins_text(&self) -> &[u8] {
        self.logins.as_deref().unwrap_or(b"[]")
    }

    /// What has been read, to be changed: what was made of it is made anew.
    fn take_open(&mut self) -> Box<Open> {
        self.open();
        self.routing.take();
        let mut open = self.open.take().unwrap_or_default();
        open.keys.take();
        open
    }

    /// Puts the objects away unless somebody has asked since the last call. Whether they are away.
    pub(super) fn rest(&mut self) -> bool {
        if self.asked.replace(false) {
            return false;
        }
        self.open.take();
        true
    }
}

fn packed(value: &Value) -> Box<[u8]> {
    json::write(value).into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::account::Account;
    use crate::crypto::key::{OpenKey, SignKey};
    use crate::proto::meta::MetaKind;

    fn account() -> Account {
        let (sign, open) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
        let profile = serde_json::Map::new();
        Account::create(MetaKind::Mkm, 0, Some("alice"), sign, open, 1e9, profile).unwrap()
    }

    #[test]
    fn papers_say_the_same_after_a_rest() {
        let account = account();
        let id = account.id().clone();
        let mut papers = Papers::restore(id.clone(), None, None, None);
        assert!(papers.keys().is_none() && !papers.can_be_answered());
        papers.set_meta(account.meta().clone());
        papers.set_documents(vec![account.document().unwrap().clone()]);
        let (meta, documents) = (papers.meta().cloned(), papers.documents().to_vec());
        let keys = papers.keys().unwrap();
        assert!(!papers.rest(), "just asked");
        assert!(papers.rest() && papers.open.get().is_none());
        assert!(papers.can_be_answered());
        assert_eq!(papers.devices().len(), 1);
        assert_eq!((papers.meta().cloned(), papers.documents().to_vec()), (meta, documents));
        assert!(papers.keys().unwrap() == keys);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_written_over() {
        let account = account();
        let id = account.id().clone();
        let mut papers = Papers::restore(id.clone(), Some(b"{"), Some(b"[{}]"), Some(b"1"));
        assert!(papers.meta().is_none() && papers.documents().is_empty());
        assert!(papers.logins().is_empty());
        papers.set_documents(vec![account.document().unwrap().clone()]);
        let text = json::parse(papers.documents_text()).unwrap();
        assert_eq!(text.as_array().map(Vec::len), Some(1));
    }
}
