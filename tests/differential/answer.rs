//! Our side of the differential runs: a question a line in, an answer a line out, both JSON. What is
//! judged comes as text and goes through our own parser, as it would on a connection.
#![allow(
    clippy::unwrap_used,
    reason = "questions come from our own driver, which must see a crash"
)]

use std::collections::HashMap;
use std::io::{BufRead, Write};

use bytes::Bytes;
use dim::base::digest::sha256;
use dim::base::encode::{
    base58_decode, base64_decode, base64_encode, hex_decode, hex_encode, ted_decode,
};
use dim::client::account::Account;
use dim::crypto::aes::AesKey;
use dim::crypto::identity::{
    Acceptance, Proven, accept_document, generate_id, prove_document, prove_meta, seal_keys,
    verify_keys,
};
use dim::crypto::key::{CipherKey, OpenKey, SealKey, SignKey, VerifyKey};
use dim::crypto::seal;
use dim::crypto::sign::{Verified, verify};
use dim::proto::compat;
use dim::proto::content::Content;
use dim::proto::directory::Names;
use dim::proto::document::Document;
use dim::proto::id::Id;
use dim::proto::json::{self, Parser};
use dim::proto::message::ReliableMessage;
use dim::proto::meta::{Meta, MetaKind};
use serde_json::{Map, Value, json};

type Answer = Result<Value, String>;

/// An account that the driver made, and what opens its mail.
struct Actor {
    meta: Proven<Meta>,
    documents: Vec<Proven<Document>>,
    open: Vec<OpenKey>,
}

#[derive(Default)]
struct Node {
    actors: HashMap<String, Actor>,
    parser: Parser,
}

fn main() {
    let (mut node, mut out) = (Node::default(), std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match node.answer(&question) {
            Ok(value) => json!({ "accept": value }),
            Err(why) => json!({ "reject": why }),
        };
        writeln!(out, "{answer}").unwrap();
        out.flush().unwrap();
    }
}

fn text<'a>(question: &'a Value, name: &str) -> &'a str {
    question[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {question}"))
}

fn why(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The object whose text stands under `name`.
fn object(question: &Value, name: &str) -> Result<Map<String, Value>, String> {
    json::parse_object(text(question, name).as_bytes()).map_err(why)
}

fn number(question: &Value, name: &str) -> u8 {
    question[name].as_u64().and_then(|number| number.try_into().ok()).unwrap()
}

impl Node {
    fn answer(&mut self, question: &Value) -> Answer {
        match text(question, "ask") {
            "actor" => self.learn(question),
            "id" => id(question),
            "generate" => {
                let meta = Meta::from_map(&object(question, "meta")?).map_err(why)?;
                let id = generate_id(&meta, number(question, "network")).map_err(why)?;
                Ok(id.as_str().into())
            }
            "meta" => meta(question),
            "document" => document(question),
            "receive" => {
                let content = json::parse(text(question, "content").as_bytes()).map_err(why)?;
                Ok(Content::read(content).map_err(why)?.map.into())
            }
            "send" => Ok(compat::send(object(question, "content")?).into()),
            "expand" => {
                let map = object(question, "map")?;
                let expanded = match text(question, "kind") {
                    "message" => compat::expand_message(map),
                    "content" => compat::expand_content(map),
                    _ => compat::expand_key(map),
                };
                expanded.map(Value::Object).map_err(why)
            }
            "key" => {
                let key = VerifyKey::from_map(&object(question, "key")?).map_err(why)?;
                Ok(hex_encode(&key.key_data()).into())
            }
            "decode" => decode(question),
            "passphrase" => {
                let key = AesKey::from_passphrase(text(question, "text"));
                Ok(json!([key.to_map(), key.digest()]))
            }
            "message" => self.message(question),
            "make" => self.make(question),
            other => panic!("unknown question {other}"),
        }
    }

    fn learn(&mut self, question: &Value) -> Answer {
        let account = &question["account"];
        let id = Id::parse(text(account, "id")).map_err(why)?;
        let meta = Meta::from_map(account["meta"].as_object().unwrap()).map_err(why)?;
        let meta = prove_meta(&id, meta).map_err(why)?;
        let objects = |name: &str| {
            let list = account[name].as_array().unwrap().clone();
            list.into_iter().map(|value| value.as_object().unwrap().clone())
        };
        let documents = objects("documents")
            .map(|map| prove_document(&meta, &id, Document::from_map(&map).unwrap()).map_err(why));
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        let open = objects("message_keys").map(|map| OpenKey::from_map(&map).map_err(why));
        let open = open.collect::<Result<Vec<_>, _>>()?;
        self.actors.insert(id.as_str().to_owned(), Actor { meta, documents, open });
        Ok(Value::Null)
    }

    /// What a station lets in, and what the reader then sees.
    fn message(&mut self, question: &Value) -> Answer {
        let wire = base64_decode(text(question, "wire")).map_err(why)?;
        let known = (question["known"] != true).then(|| text(question, "reader"));
        let message = self.admit(wire.into(), known)?;
        let signed = message.signed_bytes().map_err(why)?;
        let reader = self.actors.get(text(question, "reader")).unwrap();
        let me = reader.meta.id();
        let opened = seal::open(&message, me, &reader.open, &mut None, &mut self.parser);
        let opened = opened.map_err(|error| format!("open: {error}"))?;
        let value = self.parser.value(&opened).map_err(|error| format!("content: {error}"))?;
        let content = Content::read(value).map_err(|error| format!("content: {error}"))?;
        Ok(json!({
            "signed": hex_encode(&sha256(&signed)),
            "text": hex_encode(&sha256(&opened)),
            "content": content.map,
        }))
    }

    /// `only` is the one actor that the node knows; without it, it knows all.
    fn admit(&mut self, wire: Bytes, only: Option<&str>) -> Result<Verified, String> {
        let parser = &mut self.parser;
        let message = ReliableMessage::parse(wire, parser, &mut Names::default())
            .map_err(|error| format!("parse: {error}"))?;
        if !message.sender().is_user() {
            return Err("sender is no user".into());
        }
        let id = message.sender().naked();
        let actor = self.actors.get(id.as_str());
        let actor = actor.filter(|_| only.is_none_or(|only| only == id.as_str()));
        let mut meta = actor.map(|actor| actor.meta.clone());
        let mut documents = actor.map(|actor| actor.documents.clone()).unwrap_or_default();
        if let Some(map) = message.meta(parser) {
            let attached = prove_meta(&id, Meta::from_map(&map).map_err(why)?).map_err(why)?;
            meta.get_or_insert(attached);
        }
        let meta = meta.ok_or("unknown sender")?;
        if let Some(map) = message.visa(parser)
            && let Ok(visa) = Document::from_map(&map)
            && let Ok(visa) = prove_document(&meta, &id, visa)
            && let Acceptance::Stored(all) = accept_document(&documents, visa, 4e9)
        {
            documents = all;
        }
        let answerable = documents.iter().any(|document| document.visa_key().is_some())
            || meta.key().is_some_and(|key| SealKey::from_map(key).is_ok());
        if !answerable {
            return Err("no key to answer with".into());
        }
        let keys = verify_keys(&meta, &documents);
        verify(message, &keys).map_err(|_| "not its signature".into())
    }

    /// An account, and a message of it to one of the driver's actors, for the driver to judge.
    fn make(&mut self, question: &Value) -> Answer {
        let kind = match text(question, "kind") {
            "MKM" => MetaKind::Mkm,
            "BTC" => MetaKind::Btc,
            _ => MetaKind::Eth,
        };
        let sign = match question["id_key"].as_object() {
            Some(key) => SignKey::from_map(key),
            None => SignKey::generate_ecc(),
        };
        let sign = sign.map_err(why)?;
        let open = OpenKey::from_map(question["message_key"].as_object().unwrap()).map_err(why)?;
        let properties = Map::from_iter([("name".to_owned(), question["name"].clone())]);
        let (network, now) = (number(question, "network"), question["now"].as_f64().unwrap());
        let seed = kind.has_seed().then(|| text(question, "seed"));
        let account = Account::create(kind, network, seed, sign, open, now, properties);
        let account = account.map_err(why)?;
        let documents: Vec<_> = account.documents().iter().map(|one| one.to_map()).collect();
        let wire = self.seal(&account, question)?;
        Ok(json!({
            "id": account.id().as_str(), "meta": account.meta().to_map(), "documents": documents,
            "wire": base64_encode(wire.as_bytes()),
        }))
    }

    fn seal(&self, from: &Account, question: &Value) -> Result<String, String> {
        let to = self.actors.get(text(question, "to")).unwrap();
        let content = question["content"].as_object().unwrap();
        let content = json::write_object(&compat::send(content.clone()));
        let key = CipherKey::Aes(AesKey::generate().map_err(why)?);
        let (data, iv) = key.encrypt(content.as_bytes()).map_err(why)?;
        let keys = seal::wrap_key(&key, &seal_keys(&to.meta, &to.documents));
        let signature = from.sign_key().sign(&data).map_err(why)?;
        let mut message = json!({
            "sender": from.id().as_str(), "receiver": to.meta.id().as_str(),
            "time": question["now"], "IV": base64_encode(&iv.unwrap()),
            "data": base64_encode(&data), "keys": keys, "signature": base64_encode(&signature),
        });
        message["meta"] = from.meta().to_map().into();
        message["visa"] = from.document().unwrap().to_map().into();
        Ok(json::write(&message))
    }
}

fn id(question: &Value) -> Answer {
    let id = Id::parse(text(question, "text")).map_err(why)?;
    Ok(json!({
        "id": id.as_str(), "name": id.name(), "address": id.address(), "terminal": id.terminal(),
        "network": id.network(), "type": id.kind().code(), "user": id.is_user(),
        "group": id.is_group(), "broadcast": id.is_broadcast(), "naked": id.naked().as_str(),
    }))
}

fn meta(question: &Value) -> Answer {
    let id = Id::parse(text(question, "id")).map_err(why)?;
    let meta = Meta::from_map(&object(question, "meta")?).map_err(why)?;
    Ok(prove_meta(&id, meta).map_err(why)?.to_map().into())
}

fn document(question: &Value) -> Answer {
    let id = Id::parse(text(question, "id")).map_err(why)?;
    let meta = Meta::from_map(question["meta"].as_object().unwrap()).map_err(why)?;
    let meta = prove_meta(&id, meta).map_err(why)?;
    let prove = |map: &Map<String, Value>| {
        let document = Document::from_map(map).map_err(why)?;
        prove_document(&meta, &id, document).map_err(why)
    };
    let stored = question["stored"].as_array().unwrap().iter();
    let stored =
        stored.map(|one| prove(one.as_object().unwrap())).collect::<Result<Vec<_>, _>>()?;
    let shown = |all: &[Proven<Document>]| {
        Value::from_iter(all.iter().map(|one| json!([one.data(), one.kind_text()])))
    };
    match accept_document(
        &stored,
        prove(&object(question, "document")?)?,
        question["now"].as_f64().unwrap(),
    ) {
        Acceptance::Stored(all) => Ok(shown(&all)),
        Acceptance::Same => Ok(shown(&stored)),
        refused => Err(format!("{refused:?}")),
    }
}

fn decode(question: &Value) -> Answer {
    let input = json::parse(text(question, "input").as_bytes()).map_err(why)?;
    let as_text = || input.as_str().ok_or("no text".to_owned());
    let bytes = match text(question, "kind") {
        "ted" => ted_decode(&input),
        "base64" => base64_decode(as_text()?),
        "base58" => base58_decode(as_text()?),
        _ => hex_decode(as_text()?),
    };
    Ok(hex_encode(&bytes.map_err(why)?).into())
}
