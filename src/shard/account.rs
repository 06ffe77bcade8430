//! Accounts: questions and uploads, answered by the shard that owns them.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Shard;
use super::effect::Outbox;
use super::input::{AccountAnswer, AccountOp, ReplyTo};
use super::ticket::Stored;
use crate::base::limits::{DOCUMENT_BYTES_MAX, META_BYTES_MAX};
use crate::crypto::identity::{Acceptance, Proven, accept_document, prove_document, prove_meta};
use crate::proto::command::ReceiptText;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::proto::meta::Meta;
use crate::store::{AccountPart, StoreOp};

impl Shard {
    /// Answers a question about an account of this shard; it is loaded.
    pub(super) fn account(
        &mut self,
        of: &Id,
        asker: &Id,
        op: AccountOp,
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        let answer = match op {
            AccountOp::MetaQuery => self.meta_query(of, asker),
            AccountOp::DocumentsQuery { last_time, logins } => {
                self.documents_query(of, asker, last_time, logins)
            }
            AccountOp::MetaUpload(meta) => {
                self.meta_upload(of, &meta, reply, out);
                return self.account_came(of, out);
            }
            AccountOp::DocumentsUpload { meta, documents } => {
                self.documents_upload(of, meta.as_ref(), &documents, reply, out);
                return self.account_came(of, out);
            }
        };
        let unknown = self.users.get(of).is_none_or(|user| user.papers.documents().is_empty());
        if unknown && !self.is_neighbor(asker) {
            // So that the next question finds it.
            self.ask_neighbors(of, out);
        }
        self.answer(reply, answer, out);
    }

    fn meta_query(&mut self, of: &Id, asker: &Id) -> AccountAnswer {
        let Some(meta) = self.users.get(of).and_then(|user| user.papers.meta()) else {
            return say("Meta not found.", "Meta not found: ${did}.", of);
        };
        if asker.is_same_as(of) {
            return AccountAnswer::Nothing;
        }
        AccountAnswer::Meta { did: of.as_str().to_owned(), meta: meta.to_map() }
    }

    fn documents_query(
        &mut self,
        of: &Id,
        asker: &Id,
        last_time: Option<f64>,
        logins: bool,
    ) -> AccountAnswer {
        let now_s = self.now.wall_s();
        let user = self.users.get(of).filter(|user| !user.papers.documents().is_empty());
        let Some(user) = user else {
            return say("Document not found.", "Document not found: ${did}.", of);
        };
        let newest = user
            .papers
            .documents()
            .iter()
            .filter_map(|d| d.time())
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        if let (Some(last), Some(newest)) = (last_time, newest)
            && newest <= last
        {
            let values = json!({"did": of.as_str(), "time": newest});
            return AccountAnswer::Say(ReceiptText::new(
                "Document not updated.",
                "Document not updated: ${did}, last time: ${time}.",
                values,
            ));
        }
        if asker == of {
            return AccountAnswer::Nothing;
        }
        AccountAnswer::Documents {
            did: of.as_str().to_owned(),
            meta: user.papers.meta().map(|meta| meta.to_map()),
            documents: user.papers.documents().iter().map(|d| Value::Object(d.to_map())).collect(),
            logins: if logins { user.fresh_logins(now_s) } else { Vec::new() },
        }
    }

    fn meta_upload(&mut self, of: &Id, meta: &Value, reply: ReplyTo, out: &mut Outbox) {
        let answer = say("Meta received.", "Meta received: ${did}.", of);
        match self.take_meta(of, meta) {
            Ok(Some(op)) => self.store(op, Stored::Answer { reply, answer }, out),
            Ok(None) => self.answer(reply, answer, out),
            Err(()) => {
                self.answer(reply, say("Meta not valid.", "Meta not valid: ${did}.", of), out);
            }
        }
    }

    /// Accepts a meta for an account: what is to be stored, nothing if one is known already.
    pub(super) fn take_meta(&mut self, of: &Id, meta: &Value) -> Result<Option<StoreOp>, ()> {
        let map = meta.as_object().filter(|map| text::write_object(map).len() <= META_BYTES_MAX);
        let meta = map.and_then(|map| Meta::from_map(map).ok()).ok_or(())?;
        let user = self.users.get_mut(of).ok_or(())?;
        // Clients bring theirs with every login: proven once is enough.
        if user.papers.meta().is_some_and(|known| **known == meta) {
            return Ok(None);
        }
        let proven = prove_meta(of, meta).map_err(|_| ())?;
        if user.papers.meta().is_some() {
            return Ok(None);
        }
        let json = user.set_meta(proven);
        Ok(Some(StoreOp::Save { user: user.text.clone(), part: AccountPart::Meta, json }))
    }

    fn documents_upload(
        &mut self,
        of: &Id,
        meta: Option<&Value>,
        documents: &[Value],
        reply: ReplyTo,
        out: &mut Outbox,
    ) {
        if let Some(meta) = meta {
            match self.take_meta(of, meta) {
                // Both go into the same batch, in order; the answer follows the second.
                Ok(Some(op)) => self.store(op, Stored::Nothing, out),
                Ok(None) => {}
                Err(()) => {
                    let answer = say("Meta not valid.", "Meta not valid: ${did}.", of);
                    return self.answer(reply, answer, out);
                }
            }
        }
        if self.users.get(of).is_none_or(|user| user.papers.meta().is_none()) {
            let answer = say("Meta not found.", "Meta not found: ${did}.", of);
            return self.answer(reply, answer, out);
        }
        let mut answer = say("Document received.", "Document received: ${did}.", of);
        let mut changed = false;
        for document in documents {
            match self.take_document(of, document) {
                Taken::New => changed = true,
                Taken::Same => {}
                Taken::Older => {
                    answer = say("Document not changed.", "Document not changed: ${did}.", of);
                }
                Taken::Bad => {
                    answer = say("Document not accepted.", "Document not accepted: ${did}.", of);
                }
            }
        }
        match self.documents_op(of).filter(|_| changed) {
            Some(op) => self.store(op, Stored::Answer { reply, answer }, out),
            None => self.answer(reply, answer, out),
        }
    }

    /// Accepts a document for an account whose meta is known. It is not stored yet.
    pub(super) fn take_document(&mut self, of: &Id, document: &Value) -> Taken {
        let now_s = self.now.wall_s();
        let Some(user) = self.users.get_mut(of) else {
            return Taken::Bad;
        };
        let Some(meta) = user.papers.meta() else {
            return Taken::Bad;
        };
        let fits = |map: &&Map<String, Value>| text::write_object(map).len() <= DOCUMENT_BYTES_MAX;
        let document = document.as_object().filter(fits);
        let document = document.and_then(|map| Document::from_map(map).ok());
        let Some(document) = document else {
            return Taken::Bad;
        };
        if user.papers.documents().iter().any(|known| **known == document) {
            return Taken::Same;
        }
        let Ok(proven): Result<Proven<Document>, _> = prove_document(meta, of, document) else {
            return Taken::Bad;
        };
        match accept_document(user.papers.documents(), proven, now_s) {
            Acceptance::Stored(documents) => {
                user.set_documents(documents);
                Taken::New
            }
            Acceptance::Same => Taken::Same,
            Acceptance::Older => Taken::Older,
            _ => Taken::Bad,
        }
    }

    /// What writes an account's documents down.
    pub(super) fn documents_op(&self, of: &Id) -> Option<StoreOp> {
        let user = self.users.get(of)?;
        let json = Bytes::copy_from_slice(user.papers.documents_text());
        Some(StoreOp::Save { user: user.text.clone(), part: AccountPart::Documents, json })
    }
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    New,
    Same,
    Older,
    Bad,
}

fn say(words: &'static str, template: &'static str, of: &Id) -> AccountAnswer {
    AccountAnswer::Say(ReceiptText::new(words, template, json!({"did": of.as_str()})))
}
