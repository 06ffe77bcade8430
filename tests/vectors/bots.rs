//! What the bots of the reference answered, as its public history has it (`bots/*.json`, each with
//! the commit), played to ours. An answer has at least the fields that are written down; `whole`
//! names those that have nothing more inside, `ours` marks what only ours gives.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use dim::bot::{Archivist, Assistant, Bot, Heard, Post};
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::source::People;
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::content::Content;
use dim::proto::directory::Names;
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::message::ReliableMessage;
use dim::proto::meta::MetaKind;
use serde_json::{Map, Value, json};

const NOW_S: f64 = 1_700_000_000.0;
const BOT_NETWORK: u8 = 200;

/// Who is spoken of, and what a bot knows of them.
struct Cast {
    people: HashMap<&'static str, Account>,
    ids: HashMap<String, Id>,
    known: Directory,
    messages: u8,
}

impl Cast {
    fn new() -> Self {
        let people: HashMap<_, _> = [
            ("$alice", "Alice Liddell", 0),
            ("$bob", "Bob Burns", 0),
            ("$carol", "Carol", 0),
            ("$eve", "Eve", 0),
            ("$bot", "bot", BOT_NETWORK),
        ]
        .map(|(word, name, network)| (word, account(name, network)))
        .into();
        let group = people["$alice"].found("people", NOW_S).unwrap();
        let mut ids: HashMap<_, _> =
            people.iter().map(|(word, it)| ((*word).to_owned(), it.id().clone())).collect();
        ids.insert("$group".to_owned(), group.id().clone());
        let mut known = Directory::default();
        for account in people.values().chain([&group]) {
            known.save_meta(account.meta().clone());
            known.save_document(account.document().unwrap().clone(), NOW_S);
        }
        Self { people, ids, known, messages: 0 }
    }

    fn bot(&self, capture: &Value, name: &str) -> Box<dyn Bot> {
        if name == "assistant" {
            return Box::new(Assistant::new().unwrap());
        }
        let mut archivist = Archivist::new(&self.ids["$bot"]).unwrap();
        if capture["metas"] == json!(true) {
            archivist.bring_metas();
        }
        for word in ["$alice", "$bob", "$carol"] {
            archivist.learned(&self.ids[word], &self.known, NOW_S);
        }
        Box::new(archivist)
    }

    /// Words that stand for IDs become them.
    fn named(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.ids.get(text).map_or(text.as_str(), Id::as_str).into(),
            Value::Array(all) => all.iter().map(|one| self.named(one)).collect(),
            Value::Object(map) => {
                let entries = map.iter().map(|(name, value)| {
                    let id = self.ids.get(name).map(Id::to_string).unwrap_or(name.clone());
                    // Whose meta it is says the name.
                    let value = match value.as_str() {
                        Some("$meta") => self.people[name.as_str()].meta().to_map().into(),
                        _ => self.named(value),
                    };
                    (id, value)
                });
                Value::Object(entries.collect())
            }
            other => other.clone(),
        }
    }

    /// A message whose proof has been seen to.
    fn message(&mut self, from: &Id, to: &Id, keys: Option<&Value>) -> ReliableMessage {
        self.messages += 1;
        let mut message = json!({"sender": from.as_str(), "receiver": to.as_str(), "time": NOW_S,
            "data": "ZGF0YQ==", "signature": format!("AAAA{:04}", self.messages)});
        if let Some(keys) = keys {
            message["keys"] = keys.clone();
        }
        let bytes = Bytes::from(message.to_string());
        ReliableMessage::parse(bytes, &mut Parser::new(), &mut Names::default()).unwrap()
    }

    fn says(&mut self, bot: &mut dyn Bot, from: &Id, content: &Value) -> Vec<Post> {
        let mut content = content.as_object().unwrap().clone();
        content.entry("sn").or_insert(json!(self.messages + 1));
        content.entry("time").or_insert(json!(NOW_S));
        let content = Content::read(Value::Object(content)).unwrap();
        let to = self.ids["$bot"].clone();
        let message = self.message(from, &to, None);
        bot.hear(Heard { message: &message, content: &content, now_s: NOW_S }, &self.known)
    }

    fn play(&mut self, bot: &mut dyn Bot, turn: &Value) -> Vec<Post> {
        let turn = self.named(turn);
        let from = Id::parse(turn["from"].as_str().unwrap()).unwrap();
        match turn.get("says") {
            Some(content) => self.says(bot, &from, content),
            None => {
                let group = self.ids["$group"].clone();
                let message = self.message(&from, &group, turn["passes"].get("keys"));
                bot.pass(&message, &self.known, NOW_S)
            }
        }
    }
}

fn account(name: &str, network: u8) -> Account {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let properties = Map::from_iter([("name".to_owned(), name.into())]);
    let (kind, seed) = match network {
        0 => (MetaKind::Eth, None),
        _ => (MetaKind::Mkm, Some(name)),
    };
    Account::create(kind, network, seed, sign, message, NOW_S - 1.0, properties).unwrap()
}

/// Whether everything that is wanted is there; numbers may come as texts.
fn has(got: &Value, wanted: &Value) -> bool {
    match (got, wanted) {
        (Value::Object(got), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| got.get(name).is_some_and(|value| has(value, wanted))),
        (Value::Array(got), Value::Array(wanted)) => {
            got.len() == wanted.len() && got.iter().zip(wanted).all(|(got, one)| has(got, one))
        }
        (Value::String(got), Value::Number(wanted)) => *got == wanted.to_string(),
        (got, wanted) => got == wanted,
    }
}

fn check(cast: &Cast, of: &str, turn: &Value, mut posts: Vec<Post>) {
    for wanted in turn["answers"].as_array().unwrap() {
        let answer = cast.named(wanted);
        let whole = wanted["whole"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let whole: Vec<&str> = whole.collect();
        let found = posts.iter().position(|post| {
            let content = Value::Object(post.content.clone());
            post.to.as_str() == answer["to"]
                && has(&content, &answer["content"])
                && whole.iter().all(|name| content[name] == answer["content"][name])
        });
        let Some(at) = found else { panic!("{of}: {turn}: no {answer} in {posts:#?}") };
        posts.remove(at);
    }
    assert!(posts.is_empty(), "{of}: {turn}: also {posts:#?}");
}

pub(crate) fn answers_are_those_recorded(file: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/bots").join(file);
    let set: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = set["bot"].as_str().unwrap();
    let captures = set["captures"].as_array().unwrap();
    for capture in captures {
        let mut cast = Cast::new();
        let mut bot = cast.bot(capture, name);
        if name == "assistant" {
            let reset = json!({"type": 137, "command": "reset", "group": "$group", "time": NOW_S,
                "members": ["$alice", "$bob", "$carol"]});
            let (alice, reset) = (cast.ids["$alice"].clone(), cast.named(&reset));
            assert_eq!(cast.says(&mut *bot, &alice, &reset), []);
        }
        for turn in capture["turns"].as_array().unwrap() {
            let posts = cast.play(&mut *bot, turn);
            check(&cast, capture["of"].as_str().unwrap(), turn, posts);
        }
    }
    captures.len()
}
