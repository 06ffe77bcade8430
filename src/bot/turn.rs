//! Who is being answered, and in which words.

use serde_json::{Map, Value};

use super::{Heard, Post};
use crate::proto::command::{Receipt, Stamp};
use crate::proto::content::{Content, ContentError};
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::kind::Kind;
use crate::proto::message::ReliableMessage;

/// What an answer needs of the question.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    /// Who asks, without terminal.
    pub(super) sender: Id,
    /// What receipts repeat of the message.
    pub(super) origin: Map<String, Value>,
    pub(super) now_s: f64,
}

impl Turn {
    pub(super) fn of(message: &ReliableMessage, now_s: f64) -> Self {
        let mut origin = message.envelope(&mut Parser::new());
        origin.insert("signature".into(), message.signature_text().into());
        Self { sender: message.sender().naked(), origin, now_s }
    }

    pub(super) fn about(heard: &Heard<'_>) -> Self {
        let mut turn = Self::of(heard.message, heard.now_s);
        turn.origin.insert("sn".into(), heard.content.sn.into());
        turn
    }

    /// A receipt; `variables` are those of `template`, with their values.
    pub(super) fn receipt(
        &self,
        text: &str,
        template: Option<&str>,
        variables: &[(&str, String)],
    ) -> Map<String, Value> {
        let values =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
        let mut receipt = Receipt::about(self.origin.clone(), text);
        receipt.template = template.map(str::to_owned);
        receipt.replacements = template.map(|_| values.collect());
        content(&receipt)
    }

    /// The answer to a content that cannot be read.
    pub(super) fn content_error(&self, error: &ContentError) -> Vec<Post> {
        let template = Some("Content error: ${error}.");
        let values = [("error", error.to_string())];
        self.posts(vec![self.receipt("Content not support.", template, &values)])
    }

    pub(super) fn posts(&self, answers: Vec<Map<String, Value>>) -> Vec<Post> {
        answers.into_iter().map(|content| Post { to: self.sender.clone(), content }).collect()
    }
}

/// A content without number and time: the messenger puts these in.
pub(super) fn content<T: Kind>(value: &T) -> Map<String, Value> {
    let mut map = Content::of(Stamp { sn: 0, time: 0.0 }, value).map;
    map.shift_remove("sn");
    map.shift_remove("time");
    map
}
