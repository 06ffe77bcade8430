//! Contents that clients send, without number and time: the messenger puts these in.

use serde_json::{Map, Value, json};

use crate::proto::command::{ReceiptText, Stamp, receipt, title};
use crate::proto::content::kind;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json::Parser;
use crate::proto::message::ReliableMessage;

/// Number of the kind "text".
pub const TEXT: u32 = 1;

type Fields = Map<String, Value>;

fn content(kind: u32, fields: Value) -> Fields {
    let mut map = Map::new();
    map.insert("type".into(), kind.into());
    if let Value::Object(fields) = fields {
        map.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    map
}

fn command(name: &str, fields: Value) -> Fields {
    let mut map = content(kind::COMMAND, json!({"command": name}));
    map.extend(content(kind::COMMAND, fields));
    map
}

/// A text.
pub fn text(text: &str) -> Fields {
    content(TEXT, json!({"text": text}))
}

/// A handshake; the first one comes without a session key.
pub fn handshake(session: Option<&str>) -> Fields {
    // The group makes old stations read the first one in the open.
    let group = session.is_none().then(|| Id::stations_every().as_str().to_owned());
    let fields =
        json!({"title": title::HELLO, "message": title::HELLO, "session": session, "group": group});
    command("handshake", fields)
}

/// Where `user` is logged in, for everybody.
pub fn login(user: &Id, agent: &str, station: &Id, host: &str, port: u16) -> Fields {
    let station = json!({"did": station.as_str(), "host": host, "port": port});
    command("login", json!({"did": user.as_str(), "agent": agent, "station": station}))
}

/// `online` or `offline`: whether mail is wanted on this connection.
pub fn report(online: bool) -> Fields {
    command("report", json!({"title": if online { "online" } else { "offline" }}))
}

/// A question for somebody's meta.
pub fn meta_query(id: &Id) -> Fields {
    command("meta", json!({"did": id.as_str()}))
}

/// A question for somebody's documents.
pub fn documents_query(id: &Id) -> Fields {
    command("documents", json!({"did": id.as_str()}))
}

/// Documents of ours, newest first.
pub fn documents<'a>(id: &Id, documents: impl Iterator<Item = &'a Document>) -> Fields {
    let documents: Vec<Value> = documents.map(|document| document.to_map().into()).collect();
    command("documents", json!({"did": id.as_str(), "documents": documents}))
}

/// A question for the IDs behind short names, separated by blanks.
pub fn names_query(names: &str) -> Fields {
    command("ans", json!({"names": names}))
}

/// Whole messages in one content.
pub fn forward(secrets: Vec<Value>) -> Fields {
    content(kind::FORWARD, json!({"secrets": secrets}))
}

/// That a message was received; `sn` is the number of its content.
pub fn received(stamp: Stamp, message: &ReliableMessage, sn: u64) -> Fields {
    let mut origin = message.envelope(&mut Parser::new());
    origin.insert("sn".into(), sn.into());
    origin.insert("signature".into(), message.signature_text().into());
    receipt(stamp, ReceiptText::plain("Message received."), origin)
}
