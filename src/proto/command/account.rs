//! Questions for metas and documents, and what answers them or brings new ones.

use serde_json::{Map, Value, json};

use crate::proto::content::ContentError;
use crate::proto::document::Document;
use crate::proto::field::{Field, Source};
use crate::proto::id::Id;
use crate::proto::kind::{Key, Kind, record, set};
use crate::proto::meta::Meta;

record! {
    /// Asks for a meta or brings one.
    MetaCommand: Key::Command("meta");
    /// Whose.
    did: Id = "did" | "ID",
    /// The meta; none in a question. Unproven.
    meta: Option<Meta> = "meta",
}

/// Asks for documents or brings some.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentsCommand {
    /// Whose.
    pub did: Id,
    /// A meta brought along. Unproven.
    pub meta: Option<Meta>,
    /// The documents, newest first; none in a question. Unproven; those without the shape of one
    /// are left out.
    pub documents: Option<Vec<Document>>,
    /// Question: only if something is newer than this, in seconds since 1970.
    pub last_time: Option<f64>,
}

impl DocumentsCommand {
    /// Asks for somebody's documents.
    pub fn query(did: Id, last_time: Option<f64>) -> Self {
        Self { did, meta: None, documents: None, last_time }
    }

    /// Brings somebody's documents, newest first.
    pub fn bring(did: Id, meta: Option<Meta>, documents: Vec<Document>) -> Self {
        Self { did, meta, documents: Some(documents), last_time: None }
    }
}

impl Kind for DocumentsCommand {
    const KEYS: &'static [Key<'static>] =
        &[Key::Command("documents"), Key::Command("document"), Key::Command("profile")];

    fn read(source: &Source<'_>) -> Result<Self, ContentError> {
        let documents = match source.text("command") {
            "profile" => profile(source.map).map(Value::Array),
            _ => source.value("documents").cloned(),
        };
        let documents: Option<Vec<Document>> = Field::read(documents.as_ref(), source.registry)
            .ok_or(ContentError::Kind("documents"))?;
        Ok(Self {
            did: source.field(&["did", "ID"])?,
            meta: source.field(&["meta"])?,
            documents,
            last_time: source.field(&["last_time"])?,
        })
    }

    fn write(&self, map: &mut Map<String, Value>) {
        if map.shift_remove("profile").is_some() {
            map.shift_remove("signature");
        }
        set(map, &["did", "ID"], &self.did);
        set(map, &["meta"], &self.meta);
        set(map, &["documents", "document"], &self.documents);
        set(map, &["last_time"], &self.last_time);
    }
}

/// The document of a command of 2019: `profile` is an object, or a text signed beside it.
pub(super) fn profile(map: &Map<String, Value>) -> Option<Vec<Value>> {
    let did = map.get("did").or_else(|| map.get("ID")).and_then(Value::as_str);
    match (map.get("profile"), map.get("signature")) {
        (Some(document @ Value::Object(_)), _) => Some(vec![document.clone()]),
        (Some(Value::String(data)), Some(signature)) => {
            Some(vec![json!({"did": did, "type": "visa", "data": data, "signature": signature})])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::content::Content;

    const HULK: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";

    #[test]
    fn documents_of_all_ages_are_read() {
        let document = json!({"ID": HULK, "data": "{\"time\": 5}", "signature": "YWJj"});
        for command in [
            json!({"cmd": "document", "ID": HULK, "document": document}),
            json!({"command": "documents", "did": HULK, "documents": [document, 7]}),
            json!({"cmd": "profile", "ID": HULK, "profile": "{\"time\": 5}", "signature": "YWJj"}),
        ] {
            let mut map = command.as_object().unwrap().clone();
            map.insert("type".into(), 136.into());
            let mut content = Content::read(map.into()).unwrap();
            let view = content.view::<DocumentsCommand>().unwrap();
            let times: Vec<_> = view.documents.iter().flatten().map(Document::time).collect();
            assert_eq!((view.did.as_str(), times), (HULK, vec![Some(5.0)]), "{command}");
            content.put(&view);
            assert_eq!(content.view::<DocumentsCommand>().unwrap(), view);
            let sent = content.to_map();
            assert_eq!((&sent["cmd"], &sent["ID"]), (&json!("document"), &json!(HULK)));
            assert_eq!(sent["document"]["did"], HULK);
            assert_eq!(sent.get("profile"), None);
        }
        let ask = json!({"type": 136, "cmd": "document", "ID": HULK, "last_time": "4.5"});
        let ask = Content::read(ask).unwrap().view::<DocumentsCommand>();
        let expected = DocumentsCommand::query(Id::parse(HULK).unwrap(), Some(4.5));
        assert_eq!(ask, Ok(expected));
    }
}
