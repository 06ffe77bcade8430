//! Receipts of relayed messages, written as text: what [`super::receipt`] says, without the
//! two hundred small pieces of memory that a tree of it takes.

use std::fmt::Write as _;
use std::ops::Range;

use super::Stamp;
use crate::base::time::Seconds;
use crate::proto::content::kind;
use crate::proto::message::{Field, ReliableMessage};
use crate::proto::splice::{needs_escape, quoted};

/// What the names of its members and the signs between them take at most.
const NAMES_BYTES: usize = 72;

/// What a receipt repeats of a message: the envelope as it came and the signature, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// An object.
    text: String,
    /// Where its first members' values are.
    sender: Range<usize>,
    receiver: Range<usize>,
    signature: Range<usize>,
}

impl Origin {
    /// Of a message that came.
    pub fn of(message: &ReliableMessage) -> Self {
        let fields = [Field::Time, Field::Type, Field::Group, Field::Signature];
        let values = fields.iter().filter_map(|field| message.member_text(*field)).map(str::len);
        let ids = message.sender().as_str().len() + message.receiver().as_str().len();
        let mut text = String::with_capacity(NAMES_BYTES + ids + values.sum::<usize>());
        let sender = member(&mut text, "{\"sender\":", message.sender().as_str());
        let receiver = member(&mut text, ",\"receiver\":", message.receiver().as_str());
        for (field, name) in [
            (Field::Time, ",\"time\":"),
            (Field::Type, ",\"type\":"),
            (Field::Group, ",\"group\":"),
        ] {
            if let Some(value) = message.member_text(field) {
                text.push_str(name);
                text.push_str(value);
            }
        }
        text.push_str(",\"signature\":");
        let from = text.len();
        text.push_str(message.member_text(Field::Signature).unwrap_or("\"\""));
        let signature = from..text.len();
        text.push('}');
        Self { text, sender, receiver, signature }
    }

    /// The object.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn value(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or("\"\"")
    }
}

/// Good news about a relayed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News<'a> {
    /// Kept until its receiver comes.
    Cached,
    /// A device of this ID acknowledged it.
    Delivered(&'a str),
    /// It goes on to this station.
    Redirected(&'a str),
}

impl News<'_> {
    /// The sentence, as the reference has it.
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Cached => "Message cached.",
            Self::Delivered(_) => "Message delivered.",
            Self::Redirected(_) => "Message redirected.",
        }
    }
}

/// Appends a receipt's text: the same members with the same values as [`super::receipt`] gives.
pub fn write_receipt(
    out: &mut String,
    stamp: Stamp,
    news: News<'_>,
    group: Option<&str>,
    origin: &Origin,
) {
    let (kind, sn, time) = (kind::COMMAND, stamp.sn, Seconds(stamp.time));
    // Writing to memory cannot fail.
    let _ = write!(out, "{{\"type\":{kind},\"sn\":{sn},\"time\":{time}");
    out.push_str(",\"command\":\"receipt\",\"cmd\":\"receipt\",\"text\":\"");
    out.push_str(news.text());
    out.push('"');
    if let Some(group) = group {
        member(out, ",\"group\":", group);
    }
    match news {
        News::Cached => {}
        News::Delivered(recipient) => drop(member(out, ",\"recipient\":", recipient)),
        News::Redirected(neighbor) => drop(member(out, ",\"neighbor\":", neighbor)),
    }
    for (name, value) in [
        (",\"origin\":", &*origin.text),
        (",\"sender\":", origin.value(&origin.sender)),
        (",\"receiver\":", origin.value(&origin.receiver)),
        (",\"signature\":", origin.value(&origin.signature)),
        (",\"envelope\":", &*origin.text),
    ] {
        out.push_str(name);
        out.push_str(value);
    }
    out.push('}');
}

/// Appends the beginning of an array; `]}` ends it.
pub fn write_array_head(out: &mut String, stamp: Stamp) {
    let (kind, sn, time) = (kind::ARRAY, stamp.sn, Seconds(stamp.time));
    let _ = write!(out, "{{\"type\":{kind},\"sn\":{sn},\"time\":{time},\"contents\":[");
}

/// Appends a name as it is given and a text in quotes; where the value stands.
fn member(out: &mut String, name: &str, value: &str) -> Range<usize> {
    out.push_str(name);
    let from = out.len();
    match needs_escape(value) {
        false => {
            out.push('"');
            out.push_str(value);
            out.push('"');
        }
        true => out.push_str(&quoted(value)),
    }
    from..out.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::proto::command::{ReceiptText, array, receipt};
    use crate::proto::directory::Names;
    use crate::proto::json::Parser;

    const HULK: &str = "hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj";
    const USER: &str = "0x4C33A4B2e6f267FFA7691d661E21EC01fbD5f13D";

    fn read(value: &Value, parser: &mut Parser) -> ReliableMessage {
        let raw = Bytes::from(value.to_string().replace("A/A=", r"A\/A="));
        ReliableMessage::parse(raw, parser, &mut Names::default()).unwrap()
    }

    #[test]
    fn a_receipt_in_text_says_what_one_in_pieces_says() {
        let mut parser = Parser::default();
        let stamp = Stamp { sn: 7, time: 1_700_000_000.123_456 };
        let mut message = json!({
            "sender": HULK, "receiver": USER, "time": 1_545_405_083.5, "type": "1", "data": "AAAA",
            "group": "g@7WCEMFmXU1rT6Ju7VSpa8xcYwGAfPMhgYn", "signature": "A/A=", "keys": {},
        });
        for news in [News::Cached, News::Delivered(HULK), News::Redirected("a\"b@c")] {
            for group in [None, Some("g@7WCEMFmXU1rT6Ju7VSpa8xcYwGAfPMhgYn")] {
                message
                    .as_object_mut()
                    .unwrap()
                    .retain(|name, _| name != "group" || group.is_some());
                let message = read(&message, &mut parser);
                let mut origin = message.envelope(&mut parser);
                origin.insert("signature".into(), message.signature_text().into());
                let mut said = ReceiptText::plain(news.text());
                said = match news {
                    News::Cached => said,
                    News::Delivered(id) => said.with(json!({"recipient": id})),
                    News::Redirected(id) => said.with(json!({"neighbor": id})),
                };
                said.group = group.map(str::to_owned);
                let pieces = receipt(stamp, said, origin);
                let mut text = String::new();
                write_receipt(&mut text, stamp, news, group, &Origin::of(&message));
                let read: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(read, Value::Object(pieces.clone()));
                let mut all = String::new();
                write_array_head(&mut all, stamp);
                all.push_str(&text);
                all.push_str("]}");
                let read: Value = serde_json::from_str(&all).unwrap();
                assert_eq!(read, Value::Object(array(stamp, vec![pieces])));
            }
            message["group"] = json!("g@7WCEMFmXU1rT6Ju7VSpa8xcYwGAfPMhgYn");
        }
    }
}
