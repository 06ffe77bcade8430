//! The terminal alone, in virtual time, at a station that is a few lines of this file.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::sync::Arc;

use bytes::Bytes;
use dim::base::time::Now;
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::messenger::{Incoming, Messenger, Outgoing, PARKED_MAX};
use dim::client::outbox::ANSWER_MS_MAX;
use dim::client::say;
use dim::client::source::People;
use dim::client::terminal::{
    Effect, Event, Failure, Input, LOGIN_MS_MAX, ONLINE_MS, QUERY_AGAIN_MS, SILENCE_MS_MAX,
    Settings, Terminal,
};
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::command;
use dim::proto::content::{Content, kind};
use dim::proto::id::Id;
use dim::proto::meta::MetaKind;
use dim::wire::{Ack, DeframeLimits, Deframer, Event as WireEvent, Framing, encode_ack, push_head};
use serde_json::{Map, Value, json};

const BOTH: [Framing; 2] = [Framing::Mtp, Framing::WebSocket];
const START_S: u64 = 1_700_000_000;

fn account(name: &str, network: u8) -> Account {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let (kind, seed) =
        if network == 0 { (MetaKind::Eth, None) } else { (MetaKind::Mkm, Some(name)) };
    Account::create(kind, network, seed, sign, message, START_S as f64 - 9.0, Map::new()).unwrap()
}

fn messenger(account: Account) -> Messenger<Directory> {
    Messenger::new(account, Directory::default(), KeyStore::default(), 1)
}

/// A terminal, its station, and the wire between them.
struct World {
    terminal: Terminal<Directory>,
    station: Messenger<Directory>,
    deframer: Deframer,
    framing: Framing,
    now: Now,
    events: Vec<Event>,
    /// What the station could read, and what it could not; heartbeats.
    heard: Vec<Content>,
    sealed: Vec<Bytes>,
    pings: usize,
    /// Acknowledgements of what the station has pushed.
    oks: usize,
    last_ack: Ack,
    /// Whether the station acknowledges and answers.
    deaf: bool,
    dialled: usize,
    closed: bool,
}

impl World {
    fn new(framing: Framing) -> Self {
        Self::with(Settings { framing, ..Settings::new("127.0.0.1", 9394) })
    }

    fn with(settings: Settings) -> Self {
        let framing = settings.framing;
        let (user, keys) = (account("alice", 0), KeyStore::default());
        let source = Directory::default();
        let terminal = Terminal::new(Arc::new(settings), user, source, keys, 42);
        Self {
            terminal,
            station: messenger(account("station", 2)),
            deframer: Deframer::new(DeframeLimits::default()),
            framing,
            now: Now { mono_ms: 1000, wall_us: START_S * 1_000_000 },
            events: Vec::new(),
            heard: Vec::new(),
            sealed: Vec::new(),
            pings: 0,
            oks: 0,
            last_ack: Ack::None,
            deaf: false,
            dialled: 0,
            closed: false,
        }
    }

    fn logged_in(framing: Framing) -> Self {
        let mut world = Self::new(framing);
        world.log_in();
        world
    }

    fn log_in(&mut self) {
        self.run(Input::Start);
        self.connect();
        assert!(self.terminal.is_logged_in());
    }

    /// Packages that the terminal has told whole, since the last question.
    fn take_whole(&mut self) -> Vec<u64> {
        let whole = std::mem::take(&mut self.events).into_iter();
        whole
            .filter_map(|e| if let Event::Whole { package } = e { Some(package) } else { None })
            .collect()
    }

    fn connect(&mut self) {
        self.deframer = Deframer::new(DeframeLimits::default());
        self.closed = false;
        self.run(Input::Connected);
    }

    /// Hands an input over, and lets both sides talk until they have said all.
    fn run(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.terminal.handle(input, self.now, &mut out);
            let mut answers = Vec::new();
            for effect in out {
                match effect {
                    Effect::Dial => self.dialled += 1,
                    Effect::Write(bytes) => answers.extend(self.station_reads(bytes)),
                    Effect::Close => self.closed = true,
                    Effect::Event(event) => self.events.push(event),
                }
            }
            if !answers.is_empty() {
                inputs.push(Input::Received(answers.concat().into()));
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(at) = self.terminal.next_deadline_ms().filter(|at| *at <= end) {
            self.set_clock(at.max(self.now.mono_ms));
            let before = (at, self.dialled, self.pings, self.events.len(), self.heard.len());
            self.run(Input::Timer);
            let after = self.terminal.next_deadline_ms();
            assert!(after != Some(at), "a deadline stays: {before:?}");
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, mono_ms: u64) {
        self.now.wall_us += (mono_ms - self.now.mono_ms) * 1000;
        self.now.mono_ms = mono_ms;
    }

    fn station_reads(&mut self, bytes: Bytes) -> Vec<Bytes> {
        let mut answers = Vec::new();
        self.deframer.feed(bytes);
        while let Some(event) = self.deframer.next_event().unwrap() {
            match event {
                WireEvent::Reply(pong) if self.deaf => drop(pong),
                WireEvent::Reply(pong) => {
                    self.pings += 1;
                    answers.push(pong);
                }
                WireEvent::Acknowledged(_) => self.oks += 1,
                WireEvent::Message { ack, body } => {
                    self.last_ack = ack;
                    if !self.deaf {
                        answers.extend(encode_ack(&ack).map(Bytes::from));
                        answers.extend(self.station_answers(body));
                    } else {
                        self.sealed.push(body);
                    }
                }
                _ => {}
            }
        }
        answers
    }

    fn station_answers(&mut self, body: Bytes) -> Option<Bytes> {
        let now_s = self.now.wall_s();
        let opened = match self.station.verify_decrypt(body.clone(), now_s) {
            Ok(Incoming::Opened(opened)) => opened,
            _ => {
                self.sealed.push(body);
                return None;
            }
        };
        self.heard.push(opened.content.clone());
        if opened.content.map.get("command") != Some(&json!("handshake")) {
            return None;
        }
        let session = opened.content.map.get("session").and_then(Value::as_str);
        let title = if session == Some("key") { "DIM!" } else { "DIM?" };
        let content = command::handshake(self.station.stamp(now_s), title, Some("key"), None);
        Some(self.packed(&content))
    }

    /// What the station says to the user, framed.
    fn packed(&mut self, content: &Map<String, Value>) -> Bytes {
        let user = self.terminal.messenger().account().id().clone();
        let packed = self.station.encrypt_sign(content, &user, self.now.wall_s()).unwrap();
        self.framed(&packed.ready[0].bytes)
    }

    fn framed(&self, body: &[u8]) -> Bytes {
        let head = push_head(self.framing, 7, u32::try_from(body.len()).unwrap());
        [&head, body].concat().into()
    }

    fn push(&mut self, body: &[u8]) {
        let bytes = self.framed(body);
        self.run(Input::Received(bytes));
    }

    fn station_says(&mut self, content: Map<String, Value>) {
        let bytes = self.packed(&content);
        self.run(Input::Received(bytes));
    }

    fn send(&mut self, token: u64, receiver: &Id, text: &str) {
        let (receiver, content) = (receiver.clone(), say::text(text));
        self.run(Input::Send(Outgoing { token, receiver, content }));
    }

    fn commands(&self) -> Vec<&str> {
        self.heard.iter().filter_map(|content| content.map.get("command")?.as_str()).collect()
    }

    fn texts(&self) -> Vec<&str> {
        let came = self.events.iter().filter_map(|event| match event {
            Event::Received(came) => Some(&came.content),
            _ => None,
        });
        let texts = came.filter(|content| content.kind == say::TEXT);
        texts.filter_map(|content| content.map["text"].as_str()).collect()
    }

    fn id(&self) -> Id {
        self.terminal.messenger().account().id().clone()
    }

    /// Somebody who knows the user, and whom the user does not.
    fn stranger(&self, name: &str) -> Messenger<Directory> {
        let mut stranger = messenger(account(name, 0));
        let user = self.terminal.messenger().account();
        stranger.source_mut().save_meta(user.meta().clone());
        stranger.source_mut().save_document(user.document().unwrap().clone(), START_S as f64);
        stranger
    }
}

/// A text for the user; the second one of a stranger comes without meta and visa.
fn letter(from: &mut Messenger<Directory>, to: &Id, text: &str) -> Bytes {
    let packed = from.encrypt_sign(&say::text(text), to, START_S as f64).unwrap();
    packed.ready[0].bytes.clone()
}

fn documents_of(who: &Messenger<Directory>) -> Map<String, Value> {
    let (account, mut all) = (who.account(), Map::new());
    all.insert("type".into(), kind::COMMAND.into());
    all.insert("command".into(), "documents".into());
    all.insert("did".into(), account.id().as_str().into());
    all.insert("meta".into(), account.meta().to_map().into());
    all.insert("documents".into(), json!([account.document().unwrap().to_map()]));
    all
}

#[test]
fn a_login_introduces_signs_and_announces() {
    for framing in BOTH {
        let world = World::logged_in(framing);
        assert_eq!(world.commands(), ["handshake", "handshake", "documents", "login"]);
        let station = world.station.account().id();
        let told =
            |event: &Event| matches!(event, Event::LoggedIn { station: id } if id == station);
        assert!(world.events.iter().any(told));
        assert_eq!(world.terminal.station(), Some(station));
        assert_eq!(world.heard[3].map["station"]["did"], station.as_str());
    }
}

#[test]
fn silence_is_asked_about_and_then_ended() {
    for framing in BOTH {
        let mut world = World::logged_in(framing);
        world.pings = 0;
        world.wait(60_000);
        assert_eq!(world.pings, 3);
        world.deaf = true;
        world.wait(SILENCE_MS_MAX - 16_001);
        assert!(!world.closed);
        world.wait(16_001);
        assert!(world.closed && !world.terminal.is_logged_in());
    }
}

#[test]
fn whereabouts_are_told_again_and_again() {
    let mut world = World::logged_in(Framing::Mtp);
    world.wait(2 * ONLINE_MS + 1);
    assert_eq!(world.commands().iter().filter(|name| **name == "login").count(), 3);
}

#[test]
fn pauses_double_with_some_chance_and_are_bounded() {
    let mut world = World::new(Framing::Mtp);
    world.run(Input::Start);
    for failures in 0..12 {
        world.run(Input::Closed);
        let Some(Event::Disconnected { pause_ms: Some(pause) }) = world.events.pop() else {
            panic!("{:?}", world.events);
        };
        let longest = (1000_u64 << failures).min(128_000);
        assert!((longest / 2..=longest).contains(&pause), "{failures}: {pause}");
        world.wait(pause);
        assert_eq!(world.dialled, failures + 2);
    }
    world.run(Input::Leave);
    assert_eq!(world.terminal.next_deadline_ms(), None);
}

#[test]
fn a_station_that_does_not_answer_a_login_is_left() {
    let mut world = World::new(Framing::WebSocket);
    world.deaf = true;
    world.run(Input::Start);
    world.connect();
    world.wait(LOGIN_MS_MAX);
    assert!(world.closed);
}

#[test]
fn what_was_not_acknowledged_goes_again_as_the_same_bytes() {
    let mut world = World::logged_in(Framing::Mtp);
    let mut bob = world.stranger("bob");
    let hello = letter(&mut bob, &world.id(), "hello");
    world.push(&hello);
    world.deaf = true;
    world.sealed.clear();
    world.send(5, bob.account().id(), "text");
    let (first, ack) = (world.sealed[0].clone(), world.last_ack);
    world.wait(ANSWER_MS_MAX);
    assert_eq!((&world.sealed[1], world.last_ack), (&first, ack));
    world.run(Input::Closed);
    world.wait(1000);
    world.sealed.clear();
    world.deaf = false;
    world.connect();
    assert!(world.sealed.contains(&first));
    assert!(world.events.iter().any(|e| matches!(e, Event::Acknowledged { token: 5 })));
    assert_eq!(world.terminal.unacknowledged(), 0);
}

#[test]
fn what_is_said_before_the_login_goes_after_it_in_order() {
    let mut world = World::new(Framing::Mtp);
    let mut bob = world.stranger("bob");
    world.run(Input::Start);
    let source = world.terminal.messenger_mut().source_mut();
    source.save_meta(bob.account().meta().clone());
    source.save_document(bob.account().document().unwrap().clone(), START_S as f64);
    ["one", "two"].iter().for_each(|text| world.send(1, bob.account().id(), text));
    world.connect();
    let texts = world.sealed.clone().into_iter().map(|body| {
        match bob.verify_decrypt(body, START_S as f64).unwrap() {
            Incoming::Opened(opened) => opened.content.map["text"].clone(),
            Incoming::Sealed(_) | Incoming::Missing(..) => Value::Null,
        }
    });
    assert_eq!(texts.collect::<Vec<_>>(), [json!("one"), json!("two")]);
}

#[test]
fn a_repetition_is_told_once_and_acknowledged_each_time() {
    let mut world = World::logged_in(Framing::Mtp);
    let mut bob = world.stranger("bob");
    let hello = letter(&mut bob, &world.id(), "hello");
    // The same signature under other bytes: it proves nothing, and keeps nothing out.
    let mut forged: Value = serde_json::from_slice(&hello).unwrap();
    forged["data"] = "AAAAAAAAAAAAAAAAAAAAAA==".into();
    world.push(forged.to_string().as_bytes());
    assert!(world.events.iter().any(|event| matches!(event, Event::Refused(_))));
    world.oks = 0;
    for _ in 0..3 {
        world.push(&hello);
    }
    assert_eq!((world.texts(), world.oks), (vec!["hello"], 3));
}

#[test]
fn a_package_is_acknowledged_when_the_application_says_so() {
    for framing in BOTH {
        let settings = Settings { framing, ..Settings::new("127.0.0.1", 9394) };
        let mut world = World::with(Settings { confirms: true, ..settings });
        world.log_in();
        let (mut bob, id) = (world.stranger("bob"), world.id());
        (world.oks, world.events) = (0, Vec::new());
        world.push(&letter(&mut bob, &id, "hello"));
        assert_eq!((world.texts(), world.oks), (vec!["hello"], 0), "{framing:?}");
        let whole = world.take_whole();
        assert_eq!(whole.len(), 1);
        world.run(Input::Confirm(whole[0]));
        world.run(Input::Confirm(whole[0]));
        assert_eq!(world.oks, 1, "{framing:?}");
        // Whose sender is not known is whole when he is.
        let mut carol = world.stranger("carol");
        letter(&mut carol, &id, "introduces her, and is lost");
        world.push(&letter(&mut carol, &id, "who I am you know"));
        assert_eq!(world.take_whole(), [0; 0]);
        world.station_says(documents_of(&carol));
        assert_eq!(world.texts(), ["who I am you know"]);
        let whole = world.take_whole();
        assert_eq!((whole.len(), world.oks), (2, 1), "{framing:?}");
        // On another connection it comes again, and what was told is not told again.
        world.run(Input::Closed);
        world.run(Input::Confirm(whole[0]));
        assert_eq!(world.oks, 1, "{framing:?}");
        world.log_in();
        (world.oks, world.events) = (0, Vec::new());
        world.push(&letter(&mut bob, &id, "hello again"));
        let whole = world.take_whole();
        world.run(Input::Confirm(whole[0]));
        assert_eq!((whole.len(), world.oks), (1, 1), "{framing:?}");
    }
}

#[test]
fn strangers_are_asked_for_in_good_time_and_believed_when_they_prove_it() {
    let mut world = World::logged_in(Framing::Mtp);
    let (mut bob, eve) = (world.stranger("bob"), world.stranger("eve"));
    letter(&mut bob, &world.id(), "introduces him, and is lost");
    world.heard.clear();
    for n in 0..3 {
        let text = letter(&mut bob, &world.id(), &format!("text {n}"));
        world.push(&text);
    }
    assert_eq!(world.commands(), ["meta", "documents"]);
    world.wait(QUERY_AGAIN_MS);
    assert_eq!(world.commands(), ["meta", "documents", "meta", "documents"]);
    // Somebody else's account under his name.
    let mut false_answer = documents_of(&eve);
    false_answer.insert("did".into(), bob.account().id().as_str().into());
    world.station_says(false_answer);
    assert!(world.texts().is_empty());
    world.station_says(documents_of(&bob));
    assert_eq!(world.texts(), ["text 0", "text 1", "text 2"]);
}

#[test]
fn what_waits_for_accounts_is_bounded_and_told() {
    let mut world = World::logged_in(Framing::Mtp);
    let nobody = account("nobody", 0).id().clone();
    for token in 1..=PARKED_MAX as u64 + 1 {
        world.send(token, &nobody, "anybody there?");
    }
    let failed = world.events.iter().filter_map(|event| match event {
        Event::Failed { token, why } => Some((*token, why)),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), [(1, &Failure::Unknown)]);
    let mut bob = world.stranger("bob");
    letter(&mut bob, &world.id(), "introduces him, and is lost");
    for n in 0..=PARKED_MAX {
        let text = letter(&mut bob, &world.id(), &format!("text {n}"));
        world.push(&text);
    }
    let dropped = world.events.iter().filter(|event| matches!(event, Event::Dropped(_)));
    assert_eq!(dropped.count(), 1);
    world.station_says(documents_of(&bob));
    assert_eq!(world.texts().len(), PARKED_MAX);
}

#[test]
fn a_name_means_what_our_own_station_says() {
    let mut world = World::logged_in(Framing::Mtp);
    let (mut bob, eve) = (world.stranger("bob"), world.stranger("eve"));
    let records = |id: &Id| {
        let mut map = Map::new();
        map.insert("type".into(), kind::COMMAND.into());
        map.insert("command".into(), "ans".into());
        map.insert("records".into(), json!({"archivist": id.as_str(), "all": id.as_str()}));
        map
    };
    let id = world.id();
    let lie = bob.encrypt_sign(&records(eve.account().id()), &id, START_S as f64).unwrap();
    world.push(&lie.ready[0].bytes);
    assert_eq!(world.terminal.names().resolve("archivist"), None);
    let truth = records(bob.account().id());
    world.station_says(truth);
    assert_eq!(world.terminal.names().resolve("archivist"), Some(bob.account().id()));
    assert_eq!(world.terminal.names().resolve("all"), None);
}

#[test]
fn an_unknown_content_reaches_the_application_untouched() {
    let mut world = World::logged_in(Framing::WebSocket);
    let mut bob = world.stranger("bob");
    let strange = json!({"type": 9999, "x": [1, {"y": null}], "sn": 5, "time": 6.5});
    let id = world.id();
    let sent = bob.encrypt_sign(strange.as_object().unwrap(), &id, START_S as f64).unwrap();
    world.push(&sent.ready[0].bytes);
    let came = world.events.iter().find_map(|event| match event {
        Event::Received(came) if came.content.kind == 9999 => Some(&came.content.map),
        _ => None,
    });
    assert_eq!(came, strange.as_object());
}
