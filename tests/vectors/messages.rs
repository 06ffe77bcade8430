//! Messages: who may be believed, what is inside, and what a relayed copy keeps.

use std::collections::HashMap;

use bytes::Bytes;
use dim::base::digest::sha256;
use dim::base::encode::{base64_decode, hex_encode, ted_decode_str};
use dim::crypto::identity::{
    Acceptance, Proven, accept_document, prove_document, prove_meta, verify_keys,
};
use dim::crypto::key::{OpenKey, SealKey};
use dim::crypto::seal;
use dim::crypto::sign::{Verified, verify};
use dim::proto::compat::expand_message;
use dim::proto::content::Content;
use dim::proto::directory::Names;
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::message::ReliableMessage;
use dim::proto::meta::Meta;
use dim::proto::splice::{Routing, relay};
use serde_json::Value;

use crate::identity::restore;
use crate::set::{self, Outcome, Wrong, judge, list, map, same, text, wrong};

/// An actor of the vectors.
pub(crate) struct Actor {
    meta: Proven<Meta>,
    documents: Vec<Proven<Document>>,
    open: Vec<OpenKey>,
}

type Actors = HashMap<String, Actor>;

pub(crate) fn actors() -> Actors {
    let file = set::file("accounts.json");
    let actors = map(&file, "accounts").iter().map(|(name, account)| {
        let (meta, documents) = restore(account);
        let keys = list(account, "message_keys").iter();
        let open = keys.map(|key| OpenKey::from_map(key.as_object().unwrap()).unwrap()).collect();
        (name.clone(), Actor { meta, documents, open })
    });
    actors.collect()
}

/// What a node knows of a message's sender: its records, or what came along and held.
fn known(
    message: &ReliableMessage,
    actor: Option<&Actor>,
    parser: &mut Parser,
) -> Option<(Proven<Meta>, Vec<Proven<Document>>)> {
    let id = message.sender().naked();
    let mut meta = actor.map(|actor| actor.meta.clone());
    let mut documents = actor.map(|actor| actor.documents.clone()).unwrap_or_default();
    if let Some(map) = message.meta(parser) {
        let attached = prove_meta(&id, Meta::from_map(&map).ok()?).ok()?;
        meta.get_or_insert(attached);
    }
    let meta = meta?;
    if let Some(map) = message.visa(parser)
        && let Ok(visa) = Document::from_map(&map)
        && let Ok(visa) = prove_document(&meta, &id, visa)
        && let Acceptance::Stored(all) = accept_document(&documents, visa, 4e9)
    {
        documents = all;
    }
    Some((meta, documents))
}

/// The station's own rule: a sender it could not answer is not let in.
fn check(wire: Bytes, actors: &Actors, vector: &Value) -> Option<Verified> {
    let (mut parser, mut names) = (Parser::default(), Names::default());
    let message = ReliableMessage::parse(wire, &mut parser, &mut names).ok()?;
    if !message.sender().is_user() {
        return None;
    }
    let sender = message.sender();
    let actor = actors.values().find(|actor| actor.meta.id().is_same_as(sender));
    let actor = actor.filter(|_| vector["sender_known"] != false);
    let (meta, documents) = known(&message, actor, &mut parser)?;
    let answerable = documents.iter().any(|document| document.visa_key().is_some())
        || meta.key().is_some_and(|key| SealKey::from_map(key).is_ok());
    if !answerable {
        return None;
    }
    verify(message, &verify_keys(&meta, &documents)).ok()
}

pub(crate) fn good(vector: &Value, actors: &Actors) -> Outcome {
    let wire = Bytes::copy_from_slice(text(vector, "wire").as_bytes());
    let Some(message) = check(wire, actors, vector) else {
        return judge(vector, false);
    };
    let sender = actors[text(vector, "sender")].meta.id();
    same("sender", message.sender().is_same_as(sender), true)?;
    same("plain", Some(message.is_plain()), vector["broadcast"].as_bool())?;
    let signed = message.signed_bytes().unwrap_or_default();
    let digest = hex_encode(&sha256(&signed));
    same("digest", digest.as_str(), text(vector, "signed_bytes_sha256"))?;
    for (name, expected) in map(vector, "readers") {
        read(&message, &actors[name], expected)?;
    }
    relayed(&message, text(vector, "wire"))?;
    judge(vector, true)
}

/// Opens a message and holds what is inside to the expected key, text and content.
fn read(message: &Verified, reader: &Actor, expected: &Value) -> Result<(), Wrong> {
    let mut parser = Parser::default();
    let (me, mut heard) = (reader.meta.id(), None);
    let opened = seal::open(message, me, &reader.open, &mut heard, &mut parser);
    let opened = opened.map_err(|error| wrong("opened", error.to_string()))?;
    let plaintext = text(expected, "plaintext");
    same("plaintext", String::from_utf8_lossy(&opened).as_ref(), plaintext)?;
    if let Some(json) = expected["key_json"].as_str() {
        let entries = message.keys(&mut parser);
        let mut keys = entries.iter().filter_map(|(_, text)| {
            let sealed = ted_decode_str(text).ok()?;
            reader.open.iter().find_map(|key| key.decrypt(&sealed).ok())
        });
        same("key", keys.any(|key| key == json.as_bytes()), true)?;
        same("key used", heard.map(|(_, key)| key), seal::content_key(json.as_bytes()))?;
    }
    let content = Content::read(parser.value(&opened).unwrap());
    let mut content = Value::Object(content.map_err(|e| wrong("a content", e.to_string()))?.map);
    // The reference's page class blanks the title of the object that it was made from;
    // contents.json has the same content with it.
    if expected["content"]["type"] == 32 && expected["content"]["title"].is_null() {
        content["title"] = Value::Null;
    }
    same("content", &content, &expected["content"])
}

/// A copy for somebody keeps every value that is not routing, under its long name.
fn relayed(message: &ReliableMessage, wire: &str) -> Result<(), Wrong> {
    let mut parser = Parser::default();
    let station = Id::station_any();
    let rcpt = message.receiver().naked();
    let routing = Routing {
        from: "/",
        rcpt: &rcpt,
        station: &station,
        time: 0.0,
        traces: &[],
        recipients: &[],
    };
    let copy = relay(message, routing, &mut parser);
    let (copy, original) = (parser.value(&copy).unwrap(), parser.value(wire.as_bytes()).unwrap());
    let Value::Object(mut original) = original else { unreachable!("it was verified") };
    original = expand_message(original).map_err(|error| wrong("long names", error.to_string()))?;
    for routing in ["traces", "rcpt", "from", "recipients", "neighbor", "error"] {
        original.remove(routing);
    }
    for (name, value) in &original {
        same(name, &copy[name], value)?;
    }
    let added = ["from", "rcpt", "traces"].len();
    same("members", copy.as_object().map(|map| map.len()), Some(original.len() + added))
}

pub(crate) fn malformed(vector: &Value, actors: &Actors) -> Outcome {
    let wire = match vector["wire_base64"].as_str() {
        Some(base64) => base64_decode(base64).unwrap(),
        None => text(vector, "wire").as_bytes().to_vec(),
    };
    let reader = &actors[text(vector, "reader")];
    let accepted = check(Bytes::from(wire), actors, vector).is_some_and(|message| {
        let mut parser = Parser::default();
        seal::open(&message, reader.meta.id(), &reader.open, &mut None, &mut parser)
            .ok()
            .and_then(|bytes| parser.value(&bytes).ok())
            .is_some_and(|value| Content::read(value).is_ok())
    });
    judge(vector, accepted)
}
