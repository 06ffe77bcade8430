//! A reliable message as it travels: its original bytes, and where its parts are.
//!
//! One SIMD parse over a scratch copy checks the whole text and decides every value. A second,
//! plain walk over the untouched original finds the byte range of each top-level member, so that a
//! relayed message leaves as the bytes that came in. The walk trusts the parse for names and kinds
//! and must agree with it member by member; a text on which they differ is refused.
//!
//! Nothing here is proven yet: see [`crate::crypto::sign`] for that step.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};
use simd_json::Node;

use super::directory::Names;
use super::id::Id;
use super::json::Parser;
use crate::base::encode;

/// Five bytes are the shortest text that could be a message (message.md section 2).
pub const MESSAGE_BYTES_MIN: usize = 5;
/// A message has about a dozen members; a generous bound keeps the duplicate check cheap.
pub const MESSAGE_MEMBERS_MAX: usize = 64;

/// Why a text is no message; always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageError {
    /// Not one JSON object in UTF-8 within the limits of depth and size.
    NotJson,
    /// A required field is not there.
    Missing(&'static str),
    /// A field that has another kind of value than it may have.
    Kind(&'static str),
    /// A field is there twice, perhaps under its short and its long name.
    Twice(String),
    /// A field should be an ID and is none.
    NotAnId(&'static str),
    /// A field should be base64 and is not.
    NotBase64(&'static str),
}

impl std::fmt::Display for MessageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotJson => write!(f, "not a JSON object"),
            Self::Missing(field) => write!(f, "field {field} is missing"),
            Self::Kind(field) => write!(f, "field {field} has a wrong kind of value"),
            Self::Twice(field) => write!(f, "field {field} is there twice"),
            Self::NotAnId(field) => write!(f, "field {field} is not an ID"),
            Self::NotBase64(field) => write!(f, "field {field} is not base64"),
        }
    }
}

impl std::error::Error for MessageError {}

/// The members that mean something to a station; others are carried as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Who claims to have sent it.
    Sender,
    /// For whom it is.
    Receiver,
    /// When the sender says it was sent.
    Time,
    /// Kind of content, a copy for relays.
    Type,
    /// Overt group.
    Group,
    /// The signed bytes.
    Data,
    /// The AES initialisation vector.
    Iv,
    /// Content keys by receiver.
    Keys,
    /// Content key for the one receiver (old form).
    Key,
    /// Over the decoded bytes of `data`.
    Signature,
    /// The sender's meta.
    Meta,
    /// The sender's visa.
    Visa,
    /// What only stations may say: `traces`, `rcpt`, `from`, `recipients`, `neighbor`, `error`.
    Routing,
    /// Anything else.
    Other,
}

impl Field {
    fn of(name: &str) -> Self {
        match name {
            "sender" | "F" => Self::Sender,
            "receiver" | "R" => Self::Receiver,
            "time" | "W" => Self::Time,
            "type" | "T" => Self::Type,
            "group" | "G" => Self::Group,
            "data" | "D" => Self::Data,
            "IV" | "iv" => Self::Iv,
            "keys" => Self::Keys,
            "key" => Self::Key,
            "signature" | "V" => Self::Signature,
            "meta" | "M" => Self::Meta,
            "visa" | "P" => Self::Visa,
            "traces" | "rcpt" | "from" | "recipients" | "neighbor" | "error" => Self::Routing,
            _ => Self::Other,
        }
    }

    /// The name it leaves under; empty for fields that have no short one.
    pub(crate) fn long_name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::Time => "time",
            Self::Type => "type",
            Self::Group => "group",
            Self::Data => "data",
            Self::Iv => "IV",
            Self::Keys => "keys",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Meta => "meta",
            Self::Visa => "visa",
            Self::Routing | Self::Other => "",
        }
    }
}

/// Where one member stands in the original bytes.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) field: Field,
    /// From the opening quote of the name to the end of the value.
    pub(crate) whole: Range<usize>,
    pub(crate) value: Range<usize>,
    /// The name as it stands is a short one and leaves as the long one.
    pub(crate) short: bool,
}

/// A message that has the shape of one: parts are there and of the right kind, nothing is proven.
#[derive(Debug, Clone)]
pub struct ReliableMessage {
    raw: Bytes,
    pub(crate) members: Vec<Member>,
    sender: Id,
    receiver: Id,
    group: Option<Id>,
    time: Option<f64>,
    signature: Vec<u8>,
    /// `data` is the content's text itself.
    plain: bool,
}

impl ReliableMessage {
    /// Reads one JSON text. `names` keeps IDs that were read before and resolves bare names.
    pub fn parse(raw: Bytes, parser: &mut Parser, names: &mut Names) -> Result<Self, MessageError> {
        if raw.len() < MESSAGE_BYTES_MIN {
            return Err(MessageError::NotJson);
        }
        let tape = parser.tape(&raw).map_err(|_| MessageError::NotJson)?;
        let nodes = &tape.0;
        let Some(Node::Object { len, .. }) = nodes.first() else {
            return Err(MessageError::NotJson);
        };
        if *len > MESSAGE_MEMBERS_MAX {
            return Err(MessageError::NotJson);
        }
        let mut draft = Draft::new(*len);
        let mut walk = Walk::new(&raw);
        let mut at = 1;
        for _ in 0..*len {
            let (Some(Node::String(name)), Some(value)) = (nodes.get(at), nodes.get(at + 1)) else {
                return Err(MessageError::NotJson);
            };
            let (whole, span) = walk.member().ok_or(MessageError::NotJson)?;
            if matches!(value, Node::String(_)) != (raw.get(span.start) == Some(&b'"')) {
                return Err(MessageError::NotJson);
            }
            draft.member(name, value, whole, span, names)?;
            at += 2 + match value {
                Node::Object { count, .. } | Node::Array { count, .. } => *count,
                _ => 0,
            };
        }
        if !walk.finished() {
            return Err(MessageError::NotJson);
        }
        draft.finish(raw)
    }

    /// Who claims to have sent it.
    pub fn sender(&self) -> &Id {
        &self.sender
    }

    /// For whom it is; `anyone@anywhere` where none was named.
    pub fn receiver(&self) -> &Id {
        &self.receiver
    }

    /// The group named in the open, if any.
    pub fn group(&self) -> Option<&Id> {
        self.group.as_ref()
    }

    /// Seconds since 1970 by the sender's clock, unsigned; none where it is absent or no number.
    pub fn time(&self) -> Option<f64> {
        self.time
    }

    /// The decoded signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The signature's text as it came.
    pub fn signature_text(&self) -> String {
        self.text(Field::Signature).unwrap_or_default()
    }

    /// Whether `data` is the content's text itself (broadcast receiver or group), not encrypted.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The JSON text as it came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The bytes that are signed: the content's text, or the decoded ciphertext.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, MessageError> {
        let text = self.text(Field::Data).ok_or(MessageError::Kind("data"))?;
        if text.is_empty() {
            return Err(MessageError::Missing("data"));
        }
        if self.plain {
            return Ok(text.into_bytes());
        }
        match encode::ted_decode_str(&text) {
            Ok(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(MessageError::NotBase64("data")),
        }
    }

    /// The AES initialisation vector, decoded.
    pub fn iv(&self) -> Option<Vec<u8>> {
        encode::ted_decode_str(&self.text(Field::Iv)?).ok()
    }

    /// The object under `meta`, read anew.
    pub fn meta(&self, parser: &mut Parser) -> Option<Map<String, Value>> {
        self.object(Field::Meta, parser)
    }

    /// The object under `visa`, read anew.
    pub fn visa(&self, parser: &mut Parser) -> Option<Map<String, Value>> {
        self.object(Field::Visa, parser)
    }

    /// Content keys: name (an ID, with or without terminal) and base64 text. The old single `key`
    /// counts as one for the receiver. `digest` is no ID and left out.
    pub fn keys(&self, parser: &mut Parser) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        if let Some(map) = self.object(Field::Keys, parser) {
            for (name, value) in map {
                if let (false, Value::String(text)) = (name == "digest", value) {
                    keys.push((name, text));
                }
            }
        }
        if keys.is_empty()
            && let Some(text) = self.text(Field::Key)
        {
            keys.push((self.receiver.as_str().to_owned(), text));
        }
        keys
    }

    /// What a receipt repeats of this message: all members that are neither content, key, account
    /// nor routing, by their long names.
    pub fn envelope(&self, parser: &mut Parser) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("sender".into(), self.sender.as_str().into());
        map.insert("receiver".into(), self.receiver.as_str().into());
        for field in [Field::Time, Field::Type, Field::Group] {
            if let Some(value) = self.value(field, parser) {
                map.insert(field.long_name().into(), value);
            }
        }
        map
    }

    /// The object that travels to one member of a group: with that member's `keys`, by long names,
    /// without routing.
    pub fn for_member(
        &self,
        group: &Id,
        member: &Id,
        keys: Map<String, Value>,
        parser: &mut Parser,
    ) -> Map<String, Value> {
        let mut one = Map::new();
        let Ok(Value::Object(whole)) = parser.value(&self.raw) else {
            return one;
        };
        for (name, value) in whole {
            let value = match Field::of(&name) {
                Field::Receiver => member.as_str().into(),
                Field::Group | Field::Keys | Field::Key | Field::Routing => continue,
                _ => value,
            };
            let name = match Field::of(&name) {
                Field::Other => name,
                field => field.long_name().to_owned(),
            };
            one.insert(name, value);
        }
        one.insert("group".into(), group.naked().as_str().into());
        one.insert("keys".into(), keys.into());
        one
    }

    /// The value of a member, read anew.
    pub fn value(&self, field: Field, parser: &mut Parser) -> Option<Value> {
        let span = self.member(field)?.value.clone();
        parser.value(self.raw.get(span)?).ok()
    }

    /// What stations on the way have said about routing, by name. Nobody has signed it.
    pub fn routing(&self, parser: &mut Parser) -> Map<String, Value> {
        let mut said = Map::new();
        for member in self.members.iter().filter(|m| m.field == Field::Routing) {
            let whole = self.raw.get(member.whole.clone()).unwrap_or_default();
            if let Ok(Value::Object(one)) = parser.value(&[b"{", whole, b"}"].concat()) {
                said.extend(one);
            }
        }
        said
    }

    /// The JSON text of a member's value, as it came.
    pub fn member_text(&self, field: Field) -> Option<&str> {
        std::str::from_utf8(self.raw.get(self.member(field)?.value.clone())?).ok()
    }

    pub(crate) fn member(&self, field: Field) -> Option<&Member> {
        self.members.iter().find(|m| m.field == field)
    }

    fn object(&self, field: Field, parser: &mut Parser) -> Option<Map<String, Value>> {
        match self.value(field, parser)? {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The decoded text of a string member.
    fn text(&self, field: Field) -> Option<String> {
        let span = self.member(field)?.value.clone();
        let quoted = self.raw.get(span)?;
        let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if memchr::memchr(b'\\', inner).is_none() {
            return String::from_utf8(inner.to_vec()).ok();
        }
        serde_json::from_slice(quoted).ok()
    }
}

/// What has been seen of a message while its members pass.
struct Draft {
    members: Vec<Member>,
    /// Fields that have been named, whatever their value, a bit each; a copy names each once.
    named: u16,
    others: Vec<String>,
    sender: Option<Id>,
    receiver: Option<Id>,
    group: Option<Id>,
    time: Option<f64>,
    signature: Option<Vec<u8>>,
}

impl Draft {
    fn new(len: usize) -> Self {
        Self {
            members: Vec::with_capacity(len),
            named: 0,
            others: Vec::new(),
            sender: None,
            receiver: None,
            group: None,
            time: None,
            signature: None,
        }
    }

    fn member(
        &mut self,
        name: &str,
        value: &Node<'_>,
        whole: Range<usize>,
        span: Range<usize>,
        names: &mut Names,
    ) -> Result<(), MessageError> {
        let mut field = Field::of(name);
        if name == "K" {
            field = match value {
                Node::Object { .. } => Field::Keys,
                Node::String(_) => Field::Key,
                _ => return Err(MessageError::Kind("keys")),
            };
        }
        let bit = 1 << field as u16;
        match field {
            Field::Routing | Field::Other => {
                if self.others.iter().any(|other| other == name) {
                    return Err(MessageError::Twice(name.to_owned()));
                }
                self.others.push(name.to_owned());
            }
            // A message may carry both spellings of its IV; the first one counts.
            Field::Iv => {}
            _ if self.named & bit != 0 => {
                return Err(MessageError::Twice(name.to_owned()));
            }
            _ => self.named |= bit,
        }
        match (field, value) {
            (Field::Sender, Node::String(text)) => self.sender = Some(id(names, text, "sender")?),
            (Field::Receiver, Node::String(text)) => {
                self.receiver = Some(id(names, text, "receiver")?);
            }
            (Field::Group, Node::String(text)) => self.group = Some(id(names, text, "group")?),
            (Field::Signature, Node::String(text)) => {
                let bytes = encode::ted_decode_str(text)
                    .map_err(|_| MessageError::NotBase64("signature"))?;
                self.signature = Some(bytes);
            }
            (Field::Time, Node::String(text)) => self.time = text.trim().parse().ok(),
            (Field::Time, Node::Static(number)) => self.time = seconds(number),
            (Field::Data, Node::String("")) => return Err(MessageError::Missing("data")),
            (Field::Data | Field::Key | Field::Iv, Node::String(_)) => {}
            (Field::Keys | Field::Meta | Field::Visa, Node::Object { .. }) => {}
            // A null stands for an absent value where the value may be absent.
            (
                Field::Receiver | Field::Group | Field::Keys | Field::Key | Field::Iv,
                Node::Static(simd_json::StaticNode::Null),
            )
            | (Field::Meta | Field::Visa, Node::Static(simd_json::StaticNode::Null)) => {
                field = Field::Other;
            }
            (Field::Type | Field::Time | Field::Routing | Field::Other, _) => {}
            (wrong, _) => return Err(MessageError::Kind(wrong.long_name())),
        }
        // `iv` is a spelling of its own that clients look for second; it is not renamed.
        let short = name.len() == 1 && field != Field::Other;
        self.members.push(Member { field, whole, value: span, short });
        Ok(())
    }

    fn finish(self, raw: Bytes) -> Result<ReliableMessage, MessageError> {
        let sender = self.sender.ok_or(MessageError::Missing("sender"))?;
        let signature = self.signature.ok_or(MessageError::Missing("signature"))?;
        if signature.is_empty() {
            return Err(MessageError::Missing("signature"));
        }
        if !self.members.iter().any(|m| m.field == Field::Data) {
            return Err(MessageError::Missing("data"));
        }
        let receiver = self.receiver.unwrap_or_else(Id::anyone);
        let plain = receiver.is_broadcast() || self.group.as_ref().is_some_and(Id::is_broadcast);
        Ok(ReliableMessage {
            raw,
            members: self.members,
            sender,
            receiver,
            group: self.group,
            time: self.time.filter(|t| t.is_finite() && *t >= 0.0),
            signature,
            plain,
        })
    }
}

fn id(names: &mut Names, text: &str, field: &'static str) -> Result<Id, MessageError> {
    names.read(text).ok_or(MessageError::NotAnId(field))
}

fn seconds(number: &simd_json::StaticNode) -> Option<f64> {
    use simd_json::StaticNode as N;
    match number {
        N::F64(x) => Some(*x),
        // Seconds since 1970 stay far below 2^53, so nothing is lost.
        N::I64(x) => Some(*x as f64),
        N::U64(x) => Some(*x as f64),
        _ => None,
    }
}

/// Finds the members of a JSON object whose syntax is known to be right.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut walk = Self { text, at: 0 };
        walk.blanks();
        walk.at += 1; // the opening brace
        walk
    }

    /// The next member: its whole range and that of its value.
    fn member(&mut self) -> Option<(Range<usize>, Range<usize>)> {
        self.blanks();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.blanks();
        }
        let start = self.at;
        self.string()?;
        self.blanks();
        if self.peek() != Some(b':') {
            return None;
        }
        self.at += 1;
        self.blanks();
        let value = self.at;
        self.value()?;
        Some((start..self.at, value..self.at))
    }

    fn finished(&mut self) -> bool {
        self.blanks();
        self.peek() == Some(b'}')
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Option<()> {
        if self.peek() != Some(b'"') {
            return None;
        }
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..)?;
            self.at += memchr::memchr2(b'"', b'\\', rest)?;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 2,
            }
        }
    }

    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                while !matches!(self.peek()?, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
                    self.at += 1;
                }
                Some(())
            }
        }
    }

    fn nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ReliableMessage, MessageError> {
        let raw = Bytes::copy_from_slice(text.as_bytes());
        ReliableMessage::parse(raw, &mut Parser::default(), &mut Names::default())
    }

    const A: &str = "moky@anywhere";

    #[test]
    fn short_names_are_the_same_fields() {
        let long = parse(&format!(
            r#"{{"sender":"{A}","receiver":"{A}","data":"{{}}","signature":"AAAA"}}"#
        ));
        let short = parse(&format!(r#"{{"F":"{A}","R":"{A}","D":"{{}}","V":"AAAA"}}"#));
        let (long, short) = (long.expect("long"), short.expect("short"));
        assert_eq!(long.sender(), short.sender());
        assert_eq!(long.signed_bytes(), short.signed_bytes());
        assert!(short.is_plain());
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        for twice in [
            r#"{"sender":"moky@anywhere","sender":"x@anywhere","data":"a","signature":"AAAA"}"#,
            r#"{"sender":"moky@anywhere","F":"x@anywhere","data":"a","signature":"AAAA"}"#,
            r#"{"sender":"moky@anywhere","s\u0065nder":"x","data":"a","signature":"AAAA"}"#,
            r#"{"sender":"moky@anywhere","x":1,"x":2,"data":"a","signature":"AAAA"}"#,
        ] {
            assert!(matches!(parse(twice), Err(MessageError::Twice(_) | MessageError::NotJson)));
        }
    }

    #[test]
    fn spans_are_the_original_bytes() {
        let text = r#" { "sender" : "moky@anywhere" , "x":[{"a":"}"},"\"]"], "data":"a\"b" ,"time":1.5,"signature":"AAAA" } "#;
        let message = parse(text).expect("message");
        let values: Vec<_> = message.members.iter().map(|m| &text[m.value.clone()]).collect();
        assert_eq!(
            values,
            ["\"moky@anywhere\"", r#"[{"a":"}"},"\"]"]"#, r#""a\"b""#, "1.5", "\"AAAA\""]
        );
        assert_eq!(message.time(), Some(1.5));
        assert_eq!(message.signed_bytes().expect("plain"), b"a\"b");
    }
}
