//! Documents: what an entity says of itself, signed. As sent; unproven.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::ProtoError;
use super::id::Id;
use super::json;
use super::registry::Registry;
use crate::base::encode::ted_decode;

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// A user's card, with the key to write to.
    Visa,
    /// A group's card.
    Bulletin,
    /// A visa of before 2021. Kept and served, but not taken for a visa.
    Profile,
    /// Anything else; kept and served.
    Other,
}

/// A type of documents that an application adds; see [`super::registry`]. Documents of all types
/// are kept and served; this is for who wants to read one.
pub trait DocumentForm: Sized {
    /// What stands in a document's `type`.
    const TYPE: &'static str;

    /// Reads what the owner says. An error is the owner's fault.
    fn read(document: &Document) -> Result<Self, ProtoError>;
}

/// A document that has the shape of one. Whether its owner signed it says `crypto::identity`.
/// A clone shares everything.
#[derive(Clone, PartialEq)]
pub struct Document(Arc<Fields>);

#[derive(PartialEq)]
struct Fields {
    did: Id,
    kind: DocumentKind,
    signature: Vec<u8>,
    properties: Map<String, Value>,
    time: Option<f64>,
    /// The object with `did`, `ID` and `type` present, everything else as it came.
    map: Map<String, Value>,
}

impl Document {
    /// Reads a document of any age: owner as `did` or `ID`, kind derived when missing.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, ProtoError> {
        Self::from_map_with(map, Registry::none())
    }

    /// The same, where the owner's address may have an application's form.
    pub fn from_map_with(
        map: &Map<String, Value>,
        registry: &Registry,
    ) -> Result<Self, ProtoError> {
        let mut map = map.clone();
        let did = fix_did(&mut map)?;
        let did = registry.id(&did)?;
        Self::shape(map, did)
    }

    fn shape(mut map: Map<String, Value>, did: Id) -> Result<Self, ProtoError> {
        let kind = fix_kind(&mut map, &did)?;
        let signature = map
            .get("signature")
            .and_then(|value| ted_decode(value).ok())
            .ok_or(ProtoError::new("document.signature", "a signature in base64"))?;
        let properties = map
            .get("data")
            .and_then(Value::as_str)
            .and_then(|text| json::parse_object(text.as_bytes()).ok())
            .ok_or(ProtoError::new("document.data", "the text of a json object"))?;
        let time = read_time(properties.get("time"))?;
        Ok(Self(Arc::new(Fields { did, kind, signature, properties, time, map })))
    }

    /// A document from its parts; `data` is the text that was signed, `signature` is in base64.
    pub fn build(did: &Id, kind: &str, data: &str, signature: &str) -> Result<Self, ProtoError> {
        let mut map = Map::new();
        map.insert("type".into(), kind.into());
        map.insert("did".into(), did.as_str().into());
        map.insert("ID".into(), did.as_str().into());
        map.insert("data".into(), data.into());
        map.insert("signature".into(), signature.into());
        Self::shape(map, did.clone())
    }

    /// The object to send and to store: `did`, `ID` and `type`, other fields as they came. The
    /// texts of `data` and `signature` are the received ones, since the first is what was signed.
    pub fn to_map(&self) -> Map<String, Value> {
        self.0.map.clone()
    }

    /// Whom it is about, as it was sent: perhaps with a terminal.
    pub fn did(&self) -> &Id {
        &self.0.did
    }

    /// What it is about. Not covered by the signature.
    pub fn kind(&self) -> DocumentKind {
        self.0.kind
    }

    /// The kind as a text, which for [`DocumentKind::Other`] is all there is.
    pub fn kind_text(&self) -> &str {
        self.0.map.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The terminal a visa is for; none when it is for all. Not covered by the signature.
    pub fn terminal(&self) -> Option<&str> {
        let outer = self.0.map.get("terminal").and_then(Value::as_str);
        let own = outer.filter(|text| !text.is_empty()).or_else(|| self.0.did.terminal());
        // A star stands for all.
        own.filter(|text| !matches!(*text, "" | "*"))
    }

    /// The text that the signature covers, as UTF-8 bytes.
    pub fn data(&self) -> &str {
        self.0.map.get("data").and_then(Value::as_str).unwrap_or_default()
    }

    /// The signature of [`Document::data`].
    pub fn signature(&self) -> &[u8] {
        &self.0.signature
    }

    /// What the owner says: the object in `data`.
    pub fn properties(&self) -> &Map<String, Value> {
        &self.0.properties
    }

    /// When it was signed, in seconds since 1970, by the owner's clock. Finite, not negative.
    pub fn time(&self) -> Option<f64> {
        self.0.time
    }

    /// The key that a visa offers for writing to its owner, and that may sign messages.
    /// A profile offers none: it is not a visa.
    pub fn visa_key(&self) -> Option<&Map<String, Value>> {
        match self.0.kind {
            DocumentKind::Visa => self.0.properties.get("key")?.as_object(),
            _ => None,
        }
    }

    /// Whether both carry the same signature, so that one adds nothing to the other.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.0.signature == other.0.signature && self.data() == other.data()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("did", &self.0.did)
            .field("kind", &self.kind_text())
            .field("time", &self.0.time)
            .finish_non_exhaustive()
    }
}

/// Copies whichever of `did` and `ID` is missing from the other; they may not contradict.
fn fix_did(map: &mut Map<String, Value>) -> Result<String, ProtoError> {
    const WRONG: ProtoError = ProtoError::new("document.did", "an id, the same as in ID");
    let text = |field: &str| match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(WRONG),
    };
    let text = match (text("did")?, text("ID")?) {
        (Some(did), Some(id)) if did != id => return Err(WRONG),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(WRONG),
    };
    map.insert("did".into(), text.clone().into());
    map.insert("ID".into(), text.clone().into());
    Ok(text)
}

/// Fills in the kind that follows from the owner when there is none.
fn fix_kind(map: &mut Map<String, Value>, did: &Id) -> Result<DocumentKind, ProtoError> {
    if map.get("type").is_none_or(Value::is_null) {
        let kind = if did.is_group() { "bulletin" } else { "visa" };
        map.insert("type".into(), kind.into());
    }
    match map.get("type") {
        Some(Value::String(kind)) => Ok(match kind.as_str() {
            "visa" => DocumentKind::Visa,
            "bulletin" => DocumentKind::Bulletin,
            "profile" => DocumentKind::Profile,
            _ => DocumentKind::Other,
        }),
        _ => Err(ProtoError::new("document.type", "a text")),
    }
}

/// A time in seconds, as a number or its text.
fn read_time(value: Option<&Value>) -> Result<Option<f64>, ProtoError> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_f64(),
    };
    match seconds {
        Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(Some(seconds)),
        _ => Err(ProtoError::new("document.data.time", "seconds since 1970")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HULK: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";

    fn read(value: Value) -> Result<Document, ProtoError> {
        Document::from_map(value.as_object().unwrap())
    }

    #[test]
    fn owner_and_kind_are_filled_in_and_the_rest_stays() {
        let data = "{\"name\": \"x\",  \"time\": 1.5}";
        let old = json!({"ID": HULK, "data": data, "signature": "YWJj", "x": 1});
        let document = read(old).unwrap();
        assert_eq!(document.kind(), DocumentKind::Visa);
        assert_eq!((document.data(), document.time()), (data, Some(1.5)));
        let sent = Value::Object(document.to_map());
        let new = json!({"ID": HULK, "did": HULK, "type": "visa", "data": data,
            "signature": "YWJj", "x": 1});
        assert_eq!(sent, new);
    }

    #[test]
    fn the_terminal_comes_from_outside_or_from_the_owner() {
        let with = |did: &str, terminal: Value| {
            let map = json!({"did": did, "terminal": terminal, "data": "{}", "signature": "YWJj"});
            read(map).unwrap().terminal().map(str::to_owned)
        };
        let web = format!("{HULK}/web");
        assert_eq!(with(&web, json!("tv")).as_deref(), Some("tv"));
        assert_eq!(with(&web, json!("")).as_deref(), Some("web"));
        assert_eq!(with(HULK, json!(null)), None);
        assert_eq!(with(&web, json!("*")), None);
        assert_eq!(with(&format!("{HULK}/*"), json!("")), None);
    }

    #[test]
    fn what_contradicts_itself_or_says_nothing_is_refused() {
        for bad in [
            json!({"did": HULK, "ID": format!("{HULK}/"), "data": "{}", "signature": "YWJj"}),
            json!({"data": "{}", "signature": "YWJj"}),
            json!({"did": HULK, "data": "", "signature": "YWJj"}),
            json!({"did": HULK, "data": "[]", "signature": "YWJj"}),
            json!({"did": HULK, "data": {}, "signature": "YWJj"}),
            json!({"did": HULK, "data": "{}", "signature": ""}),
            json!({"did": HULK, "data": "{}"}),
            json!({"did": HULK, "data": "{\"time\": -1}", "signature": "YWJj"}),
            json!({"did": HULK, "data": "{\"time\": \"soon\"}", "signature": "YWJj"}),
            json!({"did": HULK, "data": "{\"time\": 1, \"time\": 2}", "signature": "YWJj"}),
            json!({"did": HULK, "type": 1, "data": "{}", "signature": "YWJj"}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_visa_offers_a_key() {
        let with = |kind: &str| {
            let data = "{\"key\": {\"algorithm\": \"RSA\"}}";
            read(json!({"did": HULK, "type": kind, "data": data, "signature": "YWJj"})).unwrap()
        };
        assert!(with("visa").visa_key().is_some());
        assert!(with("profile").visa_key().is_none());
        assert_eq!(with("poem").kind_text(), "poem");
    }
}
