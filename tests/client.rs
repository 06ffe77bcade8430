//! The client library against the real station: over both framings, absent, across a crash, with
//! strangers, files and kept keys.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs and stops at the first surprise"
)]

mod kit;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dim::client::account::Account;
use dim::client::blocking::{Client, now_s};
use dim::client::directory::Directory;
use dim::client::file::{self, FileServer};
use dim::client::keys::KeyStore;
use dim::client::messenger::Opened;
use dim::client::say;
use dim::client::source::{Groups, People};
use dim::client::terminal::{Event, Settings, Terminal};
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::id::Id;
use dim::proto::meta::MetaKind;
use dim::wire::Framing;
use kit::{PATIENCE, Station};
use serde_json::{Map, Value, json};

const BOTH: [Framing; 2] = [Framing::Mtp, Framing::WebSocket];

/// A client, and what has happened to it.
struct User {
    client: Client<Directory>,
    id: Id,
    events: Vec<Event>,
}

/// A key as quickly made as the published clients make theirs.
fn account(name: &str) -> Account {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let properties = Map::from_iter([("name".to_owned(), name.into())]);
    // A moment ago, so that two clocks need not agree to the millisecond.
    Account::create(MetaKind::Eth, 0, None, sign, message, now_s() - 1.0, properties).unwrap()
}

fn settings(station: &Station, framing: Framing) -> Settings {
    let host = station.address.ip().to_string();
    let station_id = Some(Id::parse(&station.id).unwrap());
    Settings {
        framing,
        station: station_id,
        pause_ms_min: 50,
        pause_ms_max: 400,
        ..Settings::new(&host, station.address.port())
    }
}

impl User {
    fn start(station: &Station, framing: Framing, account: Account, keys: KeyStore) -> Self {
        let id = account.id().clone();
        let settings = settings(station, framing);
        let client = Client::start(settings, account, Directory::default(), keys).unwrap();
        Self { client, id, events: Vec::new() }
    }

    /// A new user who has logged in.
    fn login(station: &Station, framing: Framing, name: &str) -> Self {
        let mut user = Self::start(station, framing, account(name), KeyStore::default());
        user.wait("a login", |event| matches!(event, Event::LoggedIn { .. }));
        user
    }

    /// The first event that fits, waited for.
    fn wait(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> &Event {
        let until = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            if at < self.events.len() {
                if fits(&self.events[at]) {
                    return &self.events[at];
                }
                at += 1;
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.client.next_event(left) {
                Some(event) => self.events.push(event),
                None => panic!("{what} did not come, only {:#?}", self.events),
            }
        }
    }

    fn wait_opened(&mut self, what: &str, fits: impl Fn(&Opened) -> bool) -> Opened {
        let fits = |event: &Event| matches!(event, Event::Received(came) if fits(came));
        match self.wait(what, fits) {
            Event::Received(came) => Opened::clone(came),
            _ => unreachable!(),
        }
    }

    fn say(&self, to: &Id, text: &str) -> u64 {
        self.client.send(to, say::text(text))
    }

    fn wait_text(&mut self, text: &str) -> Opened {
        self.wait_opened(text, |came| came.content.map.get("text") == Some(&json!(text)))
    }

    fn wait_acknowledged(&mut self, token: u64) {
        self.wait(
            "an acknowledgement",
            |event| matches!(event, Event::Acknowledged { token: told } if *told == token),
        );
    }

    /// A receipt with this text about the message sent with `token`, from the one given.
    fn wait_receipt(&mut self, token: u64, from: &Id, text: &str) {
        let packed = |event: &Event| matches!(event, Event::Packed { token: t, .. } if *t == token);
        let signature = match self.wait("a signature", packed) {
            Event::Packed { signature, .. } => json!(signature),
            _ => unreachable!(),
        };
        self.wait_opened(text, |came| {
            came.message.sender().is_same_as(from)
                && came.content.map.get("text") == Some(&json!(text))
                && came.content.map["origin"]["signature"] == signature
        });
    }

    fn count(&self, text: &str) -> usize {
        let said = |event: &&Event| match event {
            Event::Received(came) => came.content.map.get("text") == Some(&json!(text)),
            _ => false,
        };
        self.events.iter().filter(said).count()
    }

    fn close(self) -> Terminal<Directory> {
        self.client.close().unwrap()
    }
}

fn id_of(station: &Station) -> Id {
    Id::parse(&station.id).unwrap()
}

#[test]
fn strangers_talk_both_ways_in_every_pair_of_framings() {
    let station = Station::start(&[]);
    for (a, b) in BOTH.into_iter().flat_map(|a| BOTH.map(|b| (a, b))) {
        let mut alice = User::login(&station, a, "Alice");
        let mut bob = User::login(&station, b, "Bob");
        // Alice has never heard of Bob: the station is asked, and the text goes afterwards.
        let token = alice.say(&bob.id, "hello Bob");
        let came = bob.wait_text("hello Bob");
        assert_eq!(came.message.sender(), &alice.id);
        alice.wait_acknowledged(token);
        alice.wait_receipt(token, &id_of(&station), "Message delivered.");
        alice.wait_receipt(token, &bob.id.clone(), "Message received.");
        bob.say(&alice.id, "hello Alice");
        alice.wait_text("hello Alice");
        assert_eq!((alice.count("hello Alice"), bob.count("hello Bob")), (1, 1));
    }
}

#[test]
fn mail_waits_for_who_is_away() {
    let station = Station::start(&[]);
    for framing in BOTH {
        let bob = account("Bob");
        User::start(&station, framing, bob.clone(), KeyStore::default())
            .wait("a login", |event| matches!(event, Event::LoggedIn { .. }));
        let mut alice = User::login(&station, framing, "Alice");
        for n in 0..5 {
            let token = alice.say(bob.id(), &format!("mail {n}"));
            alice.wait_receipt(token, &id_of(&station), "Message cached.");
        }
        let mut bob = User::start(&station, framing, bob, KeyStore::default());
        bob.wait_text("mail 4");
        let order: Vec<_> = bob
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Received(came) => came.content.map.get("text")?.as_str(),
                _ => None,
            })
            .filter(|text| text.starts_with("mail"))
            .collect();
        assert_eq!(order, ["mail 0", "mail 1", "mail 2", "mail 3", "mail 4"]);
    }
}

#[test]
fn a_client_survives_its_station_and_says_everything_once() {
    let mut station = Station::start(&[]);
    for framing in BOTH {
        let mut alice = User::login(&station, framing, "Alice");
        let mut bob = User::login(&station, framing, "Bob");
        let token = alice.say(&bob.id, "before");
        bob.wait_text("before");
        alice.wait_acknowledged(token);
        // Stored or not when the end comes, and nobody knows which.
        let midway = alice.say(&bob.id, "midway");
        station.kill();
        for user in [&mut alice, &mut bob] {
            user.wait("the end", |event| matches!(event, Event::Disconnected { .. }));
        }
        let early = bob.count("midway");
        let acknowledged =
            |event: &Event| matches!(event, Event::Acknowledged { token } if *token == midway);
        let told_early = alice.events.iter().any(acknowledged);
        [&mut alice, &mut bob].into_iter().for_each(|user| user.events.clear());
        let tokens = ["first", "second"].map(|text| alice.say(&bob.id, text));
        station.restart_here();
        for user in [&mut alice, &mut bob] {
            user.wait("a new login", |event| matches!(event, Event::LoggedIn { .. }));
        }
        tokens.into_iter().for_each(|token| alice.wait_acknowledged(token));
        if !told_early {
            alice.wait_acknowledged(midway);
        }
        alice.say(&bob.id, "after");
        bob.wait_text("after");
        assert_eq!(["first", "second", "before"].map(|text| bob.count(text)), [1, 1, 0]);
        assert_eq!(early + bob.count("midway"), 1);
    }
}

#[test]
fn an_unknown_sender_is_asked_for_and_then_read() {
    let station = Station::start(&[]);
    let mut bob = User::login(&station, Framing::Mtp, "Bob");
    let mut alice = User::login(&station, Framing::Mtp, "Alice");
    // The second message comes without meta and visa, and Bob, started again, has forgotten both.
    let token = alice.say(&bob.id, "introduced");
    bob.wait_text("introduced");
    alice.wait_acknowledged(token);
    let account = bob.close().messenger().account().clone();
    let token = alice.say(account.id(), "by name only");
    alice.wait_receipt(token, &id_of(&station), "Message cached.");
    let mut bob = User::start(&station, Framing::Mtp, account, KeyStore::default());
    let came = bob.wait_text("by name only");
    assert!(!String::from_utf8_lossy(came.message.raw()).contains("\"visa\""));
    let id = alice.id.clone();
    bob.wait("what was learned", |event| matches!(event, Event::Learned(who) if *who == id));
    let known = bob.client.with(|terminal| terminal.messenger().source().documents(&id).len());
    assert_eq!(known, 1);
}

/// Files in memory.
#[derive(Default)]
struct Shelf(HashMap<String, Vec<u8>>);

impl FileServer for Shelf {
    type Error = std::convert::Infallible;

    fn upload(&mut self, covered: &[u8], name: &str) -> Result<String, Self::Error> {
        let url = format!("shelf:{name}");
        self.0.insert(url.clone(), covered.to_vec());
        Ok(url)
    }

    fn download(&mut self, url: &str) -> Result<Vec<u8>, Self::Error> {
        Ok(self.0.get(url).cloned().unwrap_or_default())
    }
}

#[test]
fn a_file_reaches_its_reader_and_nobody_else() {
    let station = Station::start(&[]);
    let mut bob = User::login(&station, Framing::WebSocket, "Bob");
    let alice = User::login(&station, Framing::Mtp, "Alice");
    let (mut shelf, picture) = (Shelf::default(), vec![7; 100_000]);
    let content = file::upload(&mut shelf, &picture, "cat.png").unwrap();
    alice.client.send(&bob.id, content);
    let came = bob.wait_opened("a file", |came| came.content.kind == 18);
    assert_ne!(shelf.0["shelf:cat.png"], picture);
    assert_eq!(file::download(&mut shelf, &came.content).unwrap(), picture);
}

fn digest_of(came: &Opened) -> Value {
    let map: Value = serde_json::from_slice(came.message.raw()).unwrap();
    map["keys"]["digest"].clone()
}

#[test]
fn content_keys_are_kept_and_used_again() {
    let station = Station::start(&[]);
    let mut bob = User::login(&station, Framing::Mtp, "Bob");
    let mut alice = User::login(&station, Framing::Mtp, "Alice");
    let token = alice.say(&bob.id, "one");
    let first = digest_of(&bob.wait_text("one"));
    assert!(first.is_string());
    alice.wait_acknowledged(token);
    let alice = alice.close();
    let saved = alice.messenger().keys().save().to_string();
    let keys = KeyStore::load(&serde_json::from_str(&saved).unwrap());
    let account = alice.messenger().account().clone();
    let alice = User::start(&station, Framing::Mtp, account, keys);
    alice.say(&bob.id, "two");
    let second = bob.wait_text("two");
    assert_eq!(digest_of(&second), first);

    // A message that only names its key can be read, by who has kept that one.
    let mut bob = bob.close();
    let keys = KeyStore::load(&bob.messenger().keys().save());
    assert!(keys.known(&alice.id, bob.messenger().account().id()).is_some());
    let mut stripped: Value = serde_json::from_slice(second.message.raw()).unwrap();
    for (digest, readable) in [(first, true), (json!("AAAAAAAA"), false)] {
        stripped["keys"] = json!({ "digest": digest });
        let came = bob.messenger_mut().verify_decrypt(stripped.to_string().into(), now_s());
        assert_eq!(came.is_ok(), readable, "{came:?}");
    }
}

#[test]
fn a_group_hears_what_a_member_says() {
    let station = Station::start(&[]);
    let founder = account("Founder");
    let group = founder.found("people", now_s() - 1.0).unwrap();
    let users = BOTH.map(|framing| User::login(&station, framing, "Member"));
    let mut founder = User::start(&station, Framing::Mtp, founder, KeyStore::default());
    let members: Vec<Id> = users.iter().map(|user| user.id.clone()).collect();
    founder.client.with(|terminal| {
        let source = terminal.messenger_mut().source_mut();
        source.save_meta(group.meta().clone());
        source.save_members(group.id(), [vec![founder.id.clone()], members].concat());
    });
    founder.say(group.id(), "hello everybody");
    for mut user in users {
        let came = user.wait_text("hello everybody");
        assert_eq!(came.message.group(), Some(group.id()));
        assert_eq!(came.message.sender(), &founder.id);
    }
    founder.wait("a login", |event| matches!(event, Event::LoggedIn { .. }));
}

#[test]
fn threads_share_one_client() {
    let station = Station::start(&[]);
    for framing in BOTH {
        let mut bob = User::login(&station, framing, "Bob");
        let alice = User::login(&station, framing, "Alice");
        // A stranger could be sent only so much before the station has told who it is.
        alice.say(&bob.id, "hello");
        bob.wait_text("hello");
        let to = bob.id.clone();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (alice, to) = (&alice, &to);
                scope.spawn(move || {
                    for n in 0..25 {
                        alice.say(to, &format!("{thread}-{n}"));
                    }
                });
            }
        });
        let mut seen = HashMap::new();
        while seen.len() < 100 {
            let event = bob.client.next_event(PATIENCE).expect("all hundred come");
            if let Event::Received(came) = event
                && let Some(text) = came.content.map.get("text").and_then(Value::as_str)
                && came.message.sender() == &alice.id
                && came.content.kind == say::TEXT
            {
                *seen.entry(text.to_owned()).or_insert(0) += 1;
            }
        }
        assert!(seen.values().all(|count| *count == 1));
    }
}

#[test]
fn every_device_of_a_user_reads_what_comes() {
    let station = Station::start(&[]);
    let user = account("Bob");
    let devices = ["phone", "tablet"].map(|name| {
        let device = user.on(name, now_s()).unwrap();
        let mut user = User::start(&station, Framing::Mtp, device, KeyStore::default());
        user.wait("a login", |event| matches!(event, Event::LoggedIn { .. }));
        user
    });
    let mut alice = User::login(&station, Framing::WebSocket, "Alice");
    let token = alice.say(user.id(), "to all of you");
    for mut device in devices {
        let came = device.wait_text("to all of you");
        assert_eq!(came.message.sender(), &alice.id);
        device.say(&alice.id, "read");
    }
    alice.wait_acknowledged(token);
    alice.wait_text("read");
}

#[test]
fn leaving_is_quick_and_final() {
    let station = Station::start(&[]);
    let bob = User::login(&station, Framing::Mtp, "Bob");
    let mut alice = User::login(&station, Framing::WebSocket, "Alice");
    let at = Instant::now();
    let terminal = bob.close();
    assert!(at.elapsed() < PATIENCE && !terminal.is_logged_in());
    // Said after Bob has left, so it waits for him.
    let token = alice.say(terminal.messenger().account().id(), "anybody there?");
    alice.wait_receipt(token, &id_of(&station), "Message cached.");
    assert!(
        alice.client.next_event(Duration::ZERO).is_none_or(|e| !matches!(e, Event::Failed { .. }))
    );
}
