//! Both bots under whatever people say to them, and notes that somebody else may have written: what
//! they answer is a content, and a bot that reads the notes knows what the one knew that wrote them.
#![no_main]

#[path = "../../benches/kit/mod.rs"]
mod kit;

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use bytes::Bytes;
use dim::bot::{Archivist, Assistant, Bot, Heard, Post};
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::source::People;
use dim::proto::content::Content;
use dim::proto::id::Id;
use dim::proto::json;
use dim::proto::message::ReliableMessage;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// Operations of one input; more are cut off, so that an execution stays short.
const OPS_MAX: usize = 32;

#[derive(Debug, Arbitrary)]
enum Op {
    /// Any content at all.
    Text {
        who: u8,
        content: String,
    },
    /// One that the bots have answers for, with `more` in it.
    Say {
        who: u8,
        which: u8,
        about: u8,
        time: u8,
        text: String,
        more: String,
    },
    /// A message to the group, with these keys.
    Pass {
        who: u8,
        keys: String,
    },
    /// Something about somebody becomes known.
    Meet {
        who: u8,
    },
    /// A line of a file.
    Recall {
        note: String,
    },
    Wait {
        s: u16,
    },
    /// It is started again.
    Restart,
}

#[derive(Debug, Arbitrary)]
struct Story {
    archivist: bool,
    /// Everybody is known, and who the members of the group are.
    ready: bool,
    ops: Vec<Op>,
}

/// Three people, and the group of the first.
fn accounts() -> &'static [Account; 4] {
    static ACCOUNTS: OnceLock<[Account; 4]> = OnceLock::new();
    ACCOUNTS.get_or_init(|| {
        let now_s = kit::EPOCH_US as f64 / 1e6;
        let founder = kit::person(1);
        let group = founder.found("people", now_s).expect("a group");
        [founder, kit::person(2), kit::person(3), group]
    })
}

fn person(who: u8) -> &'static Account {
    &accounts()[usize::from(who) % 3]
}

fn group() -> &'static Id {
    accounts()[3].id()
}

fn fresh(archivist: bool) -> Box<dyn Bot> {
    match archivist {
        true => Box::new(Archivist::new(&Id::moky()).expect("a table")),
        false => Box::new(Assistant::new().expect("a table")),
    }
}

/// Everything that a bot knows, in an order that does not change with hash maps.
fn state(bot: &dyn Bot) -> Vec<String> {
    let mut notes = Vec::new();
    bot.tell_all(&mut |note| notes.push(note));
    assert_eq!(notes.len(), bot.size(), "one note for each thing");
    notes.sort();
    notes
}

fn content(which: u8, about: &Id, text: &str) -> Value {
    let (about, group) = (about.as_str(), group().as_str());
    let all: Vec<&str> = (0..3).map(|who| person(who).id().as_str()).collect();
    let custom = |act: &str| {
        json!({"type": 204, "app": "chat.dim.group", "mod": "keys", "act": act,
        "group": group, "from": about, "digest": text,
        "keys": {"digest": text, about: text, all[0]: "AAAA"}})
    };
    match which % 15 {
        0 => json!({"type": 136, "command": "search", "keywords": text}),
        1 => json!({"type": 136, "command": "search", "keywords": "all users", "limit": 0}),
        2 => json!({"type": 136, "command": "storage", "title": "contacts", "data": text}),
        3 => json!({"type": 136, "command": "storage", "title": "contacts"}),
        4 => json!({"type": 136, "command": "login", "did": about}),
        5 => json!({"type": 136, "command": "report", "title": "offline"}),
        6 => json!({"type": 137, "command": "reset", "group": group, "members": all}),
        7 => json!({"type": 137, "command": "invite", "group": group, "members": [about]}),
        8 => json!({"type": 137, "command": "expel", "group": group, "members": [about]}),
        9 => json!({"type": 137, "command": "quit", "group": group}),
        10 => json!({"type": 137, "command": "query", "group": group}),
        11 => custom("update"),
        12 => custom("request"),
        13 => custom("query"),
        _ => json!({"type": 137, "command": "join", "group": about}),
    }
}

struct Run {
    archivist: bool,
    bot: Box<dyn Bot>,
    known: Directory,
    now_s: f64,
    /// The file: what the bot has handed out, and what somebody wrote into it.
    notes: Vec<String>,
}

impl Run {
    fn message(&self, who: u8, to: &Id, keys: Value) -> Option<ReliableMessage> {
        let message = json!({"sender": person(who).id().as_str(), "receiver": to.as_str(),
            "time": self.now_s, "data": "AAAA", "signature": "AAAA", "keys": keys});
        kit::try_parse(&Bytes::from(message.to_string())).ok()
    }

    fn hear(&mut self, who: u8, content: Value) -> Vec<Post> {
        // As it comes: through bytes.
        let Ok(value) = json::parse(content.to_string().as_bytes()) else { return Vec::new() };
        let Ok(content) = Content::read(value) else { return Vec::new() };
        let to = Id::moky();
        let Some(message) = self.message(who, &to, Value::Null) else { return Vec::new() };
        let heard = Heard { message: &message, content: &content, now_s: self.now_s };
        self.bot.hear(heard, &self.known)
    }

    fn op(&mut self, op: Op) -> Vec<Post> {
        match op {
            Op::Text { who, content } => match serde_json::from_str(&content) {
                Ok(content) => self.hear(who, content),
                Err(_) => Vec::new(),
            },
            Op::Say { who, which, about, time, text, more } => {
                let about = accounts()[usize::from(about) % 4].id();
                let mut content = content(which, about, &text);
                content["sn"] = 7.into();
                content["time"] = (self.now_s - 10.0 + f64::from(time)).into();
                if let (Some(map), Ok(Value::Object(more))) =
                    (content.as_object_mut(), serde_json::from_str::<Value>(&more))
                {
                    map.extend(more);
                }
                self.hear(who, content)
            }
            Op::Pass { who, keys } => {
                let about = person(who.wrapping_add(1)).id().as_str();
                let keys = serde_json::from_str::<Map<String, Value>>(&keys);
                let keys =
                    keys.map_or(json!({about: keys_text(who), "digest": "d"}), Value::Object);
                let Some(message) = self.message(who, group(), keys) else { return Vec::new() };
                self.bot.pass(&message, &self.known, self.now_s)
            }
            Op::Meet { who } => {
                let account = &accounts()[usize::from(who) % 4];
                self.known.save_meta(account.meta().clone());
                for document in account.documents() {
                    self.known.save_document(document.clone(), self.now_s);
                }
                self.bot.learned(account.id(), &self.known, self.now_s)
            }
            Op::Recall { note } => {
                // One line; JSON has its own way to write the end of one.
                if !note.contains('\n') && self.bot.recall(note.as_bytes()).is_ok() {
                    self.notes.push(note);
                }
                Vec::new()
            }
            Op::Wait { s } => {
                self.now_s += f64::from(s);
                Vec::new()
            }
            Op::Restart => {
                self.bot = self.again();
                Vec::new()
            }
        }
    }

    /// A bot that has read the file.
    fn again(&self) -> Box<dyn Bot> {
        let mut bot = fresh(self.archivist);
        for note in &self.notes {
            bot.recall(note.as_bytes()).expect("a note of its own");
        }
        bot
    }
}

fn keys_text(who: u8) -> String {
    format!("key{who}")
}

fuzz_target!(|story: Story| {
    let archivist = story.archivist;
    let bot = fresh(archivist);
    let known = Directory::with(kit::person(9));
    let now_s = kit::EPOCH_US as f64 / 1e6;
    let mut run = Run { archivist, bot, known, now_s, notes: Vec::new() };
    let text = String::new;
    let ready = (0..4).map(|who| Op::Meet { who }).chain([Op::Say {
        who: 0,
        which: 6,
        about: 0,
        time: 0,
        text: text(),
        more: text(),
    }]);
    let first = ready.filter(|_| story.ready);
    for op in first.chain(story.ops.into_iter().take(OPS_MAX)) {
        for post in run.op(op) {
            let map = post.content;
            assert!(map.contains_key("type"), "{map:?}");
            Content::read(Value::Object(map)).expect("an answer is a content");
        }
        let notes = run.bot.take_notes();
        assert!(notes.iter().all(|note| !note.contains('\n')), "a note is a line");
        run.notes.extend(notes);
        let known = state(&*run.bot);
        assert_eq!(state(&*run.again()), known, "what was written down is what is known");
    }
    // The whole state, told at once, is the state.
    let whole = state(&*run.bot);
    let mut told = fresh(archivist);
    run.bot.tell_all(&mut |note| told.recall(note.as_bytes()).expect("a note of its own"));
    assert_eq!(state(&*told), whole);
});
