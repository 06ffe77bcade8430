//! The group assistant alone: what it passes on, to whom, and what it asks for. Its client here is a
//! messenger without a connection.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use bytes::Bytes;
use dim::bot::{Assistant, Bot, Heard, Post};
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::messenger::{Incoming, Messenger};
use dim::client::say;
use dim::client::source::{Groups, People};
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::command::{Change, GroupCommand, Stamp};
use dim::proto::content::{Content, GroupAsk, GroupContent, SealedKeys};
use dim::proto::id::Id;
use dim::proto::json;
use dim::proto::kind::Kind;
use dim::proto::meta::MetaKind;
use serde_json::{Map, Value};

const NOW_S: f64 = 1_700_000_000.0;

type Person = Messenger<Directory>;

fn person(network: u8) -> Person {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let seed = Some("somebody");
    let account =
        Account::create(MetaKind::Mkm, network, seed, sign, message, NOW_S, Map::new()).unwrap();
    Messenger::new(account, Directory::default(), KeyStore::default(), 1)
}

fn id(person: &Person) -> Id {
    person.account().id().clone()
}

fn meet(one: &mut Person, other: &Account) {
    one.source_mut().save_meta(other.meta().clone());
    for document in other.documents() {
        one.source_mut().save_document(document.clone(), NOW_S + 60.0);
    }
}

/// A group of Alice (who owns it), Bob and Carol, and a bot.
struct World {
    alice: Person,
    bob: Person,
    carol: Person,
    bot: Person,
    assistant: Assistant,
    group: Account,
}

impl World {
    /// The bot has met everybody, and knows nothing of the group.
    fn new() -> Self {
        let (mut alice, mut bob, mut carol, mut bot) = (person(0), person(0), person(0), person(4));
        let group = alice.account().found("people", NOW_S).unwrap();
        let everybody = [&alice, &bob, &carol, &bot].map(|person| person.account().clone());
        for person in [&mut alice, &mut bob, &mut carol, &mut bot] {
            everybody.iter().for_each(|account| meet(person, account));
        }
        let members = [&alice, &bob, &carol].map(id).to_vec();
        alice.source_mut().save_members(group.id(), members);
        let assistant = Assistant::new().unwrap();
        Self { alice, bob, carol, bot, assistant, group }
    }

    /// The bot also knows who the members are.
    fn ready() -> Self {
        let mut world = Self::new();
        meet(&mut world.bot, &world.group);
        let reset = world.reset();
        assert_eq!(world.tell(reset), []);
        assert_eq!(world.assistant.members(world.group.id()).len(), 3);
        world
    }

    /// Alice's word who the members are, as a message that anybody can read.
    fn reset(&mut self) -> Bytes {
        let members = [&self.alice, &self.bob, &self.carol].map(id).to_vec();
        self.by_alice(Change::Reset(members), NOW_S + 1.0)
    }

    fn by_alice(&mut self, change: Change, time: f64) -> Bytes {
        let command = GroupCommand { group: self.group.id().clone(), change, text: None };
        let content = Content::of(Stamp { sn: 7, time }, &command).to_map();
        let packed = self.alice.encrypt_sign(&content, &Id::anyone(), time).unwrap();
        packed.ready[0].bytes.clone()
    }

    /// A message of Alice's to the group, as she hands it to the bot.
    fn letter(&mut self) -> Bytes {
        let mut properties = self.group.document().unwrap().properties().clone();
        properties.insert("assistants".into(), vec![id(&self.bot).to_string()].into());
        let mut group = self.group.clone();
        group.publish(properties, NOW_S + 2.0).unwrap();
        meet(&mut self.alice, &group);
        let packed = self.alice.encrypt_sign(&say::text("hello"), group.id(), NOW_S).unwrap();
        let Incoming::Opened(forward) =
            self.bot.verify_decrypt(packed.ready[0].bytes.clone(), NOW_S).unwrap()
        else {
            panic!("no forward")
        };
        Bytes::from(forward.content.map["secrets"][0].to_string())
    }

    /// What the bot does when it gets a message.
    fn tell(&mut self, bytes: Bytes) -> Vec<Post> {
        let (assistant, bot) = (&mut self.assistant, &mut self.bot);
        match bot.verify_decrypt(bytes, NOW_S).unwrap() {
            Incoming::Sealed(message) => assistant.pass(&message, bot.source(), NOW_S),
            Incoming::Opened(came) => {
                let (message, content) = (&*came.message, &came.content);
                assistant.hear(Heard { message, content, now_s: NOW_S }, bot.source())
            }
            Incoming::Missing(id, _) => panic!("{id} is not known"),
        }
    }

    fn ask(&mut self, who: fn(&mut Self) -> &mut Person, value: &impl Kind) -> Vec<Post> {
        let to = id(&self.bot);
        let content = Content::of(Stamp { sn: 8, time: NOW_S }, value).to_map();
        let packed = who(self).encrypt_sign(&content, &to, NOW_S).unwrap();
        self.tell(packed.ready[0].bytes.clone())
    }

    /// The bot has been killed: what it has written down is all it knows, and it has met nobody.
    fn restart(&mut self) {
        let mut notes = self.assistant.take_notes();
        self.assistant.tell_all(&mut |note| notes.push(note));
        self.assistant = Assistant::new().unwrap();
        notes.iter().for_each(|note| self.assistant.recall(note.as_bytes()).unwrap());
        assert_eq!(self.assistant.take_notes(), [""; 0]);
    }

    /// The station has all answers.
    fn settle(&mut self) {
        let things = self.assistant.take_ending();
        things.into_iter().for_each(|thing| self.assistant.end(thing));
    }

    fn about(&self, ask: GroupAsk) -> GroupContent {
        GroupContent { group: self.group.id().clone(), ask }
    }
}

fn texts(posts: &[Post]) -> Vec<&str> {
    posts.iter().filter_map(|post| post.content.get("text")?.as_str()).collect()
}

/// The message inside a forward.
fn inside(post: &Post) -> Bytes {
    Bytes::from(post.content["secrets"][0].to_string())
}

fn read(person: &mut Person, bytes: Bytes) -> String {
    match person.verify_decrypt(bytes, NOW_S) {
        Ok(Incoming::Opened(came)) => came.content.map["text"].as_str().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn seals(letter: &Bytes) -> Map<String, Value> {
    json::parse_object(letter).unwrap()["keys"].as_object().unwrap().clone()
}

/// The same message, with these keys only.
fn with_keys(letter: &Bytes, keep: impl Fn(&str) -> bool) -> Bytes {
    let mut map = json::parse_object(letter).unwrap();
    let keys = seals(letter).into_iter().filter(|(name, _)| name == "digest" || keep(name));
    map.insert("keys".into(), Value::Object(keys.collect()));
    json::write_object(&map).into()
}

#[test]
fn every_member_gets_a_copy_that_the_bot_itself_cannot_read() {
    let mut world = World::ready();
    let letter = world.letter();
    assert!(seals(&letter).keys().all(|name| !name.starts_with(id(&world.bot).as_str())));
    let posts = world.tell(letter.clone());
    let to: Vec<_> = posts.iter().map(|post| post.to.clone()).collect();
    assert_eq!(to, [id(&world.bob), id(&world.carol), id(&world.alice)]);
    assert_eq!(read(&mut world.bob, inside(&posts[0])), "hello");
    assert_eq!(read(&mut world.carol, inside(&posts[1])), "hello");
    let receipt = &posts[2].content;
    assert_eq!(receipt["text"], "Group message delivering.");
    assert_eq!(receipt["template"], "Group message split for ${count}/${total} member(s).");
    assert_eq!(receipt["replacements"], serde_json::json!({"count": "2", "total": "2"}));
    assert_eq!(receipt["group"], world.group.id().as_str());
    // One entry and the digest: no member is shown the seals of another.
    assert_eq!(seals(&inside(&posts[0])).len(), 2);
    // Neither the whole nor a copy opens with the keys of the bot.
    for bytes in [letter, inside(&posts[0])] {
        let opened = world.bot.verify_decrypt(bytes, NOW_S);
        assert!(!matches!(opened, Ok(Incoming::Opened(_))), "{opened:?}");
    }
}

#[test]
fn keys_are_remembered_for_messages_that_come_without_and_across_a_restart() {
    let mut world = World::ready();
    let letter = world.letter();
    assert_eq!(world.tell(letter.clone()).len(), 3);
    let mut again = Assistant::new().unwrap();
    for note in world.assistant.take_notes() {
        again.recall(note.as_bytes()).unwrap();
    }
    let mut whole = Vec::new();
    again.tell_all(&mut |note| whole.push(note));
    assert_eq!((again.size(), whole.len()), (2, 2));
    let mut third = Assistant::new().unwrap();
    whole.iter().for_each(|note| third.recall(note.as_bytes()).unwrap());
    world.assistant = third;
    let posts = world.tell(with_keys(&letter, |_| false));
    assert_eq!(texts(&posts), ["Group message delivering."]);
    assert_eq!(read(&mut world.bob, inside(&posts[0])), "hello");
    assert!(Assistant::new().unwrap().recall(b"{}").is_err());
}

#[test]
fn a_missing_key_is_asked_for_and_the_message_goes_on_when_it_comes() {
    let mut world = World::ready();
    let letter = world.letter();
    let bob = id(&world.bob);
    let posts = world.tell(with_keys(&letter, |name| name.starts_with(bob.as_str())));
    assert_eq!(posts.len(), 3, "{posts:?}");
    let query = &posts[1].content;
    assert_eq!((&query["act"], &query["mod"]), (&"query".into(), &"keys".into()));
    assert_eq!(query["to"], serde_json::json!([id(&world.carol).as_str()]));
    assert_eq!(query["digest"], seals(&letter)["digest"]);
    assert_eq!(posts[1].to, id(&world.alice));
    assert_eq!(posts[2].content["replacements"]["count"], "1");

    // Carol asks too early, then Alice answers.
    let digest = seals(&letter)["digest"].as_str().map(str::to_owned);
    let from = id(&world.alice);
    let request = world.about(GroupAsk::Request { from: from.clone(), digest: digest.clone() });
    assert_eq!(texts(&world.ask(|w| &mut w.carol, &request)), ["Failed to get group key."]);
    let sealed: Vec<_> = seals(&letter)
        .into_iter()
        .filter_map(|(name, key)| Some((Id::parse(&name).ok()?, key.as_str()?.to_owned())))
        .collect();
    let keys = SealedKeys { digest, sealed };
    let update = world.about(GroupAsk::Update { from, keys: keys.clone() });
    let posts = world.ask(|w| &mut w.alice, &update);
    assert_eq!(texts(&posts), ["Group keys updated."]);
    assert_eq!((posts.len(), &posts[1].to), (2, &id(&world.carol)));
    assert_eq!(read(&mut world.carol, inside(&posts[1])), "hello");
    // Once more is no fault, and nothing goes out again; for nobody is one.
    assert_eq!(texts(&world.ask(|w| &mut w.alice, &update)), ["Group keys updated."]);
    let nothing =
        world.about(GroupAsk::Update { from: id(&world.alice), keys: SealedKeys::default() });
    assert_eq!(texts(&world.ask(|w| &mut w.alice, &nothing)), ["Failed to update group keys."]);
    let posts = world.ask(|w| &mut w.carol, &request);
    assert_eq!(posts[0].content["act"], "respond");
    let given = posts[0].content["keys"].as_object().unwrap();
    assert_eq!(given.get("digest"), seals(&letter).get("digest"));
    let whose = |name: &String| name == "digest" || name.starts_with(id(&world.carol).as_str());
    assert!(given.len() > 1 && given.keys().all(whose), "{given:?}");
}

#[test]
fn a_command_that_is_dated_far_ahead_does_not_keep_later_ones_out() {
    let mut world = World::ready();
    let bob = id(&world.bob);
    let content =
        GroupCommand { group: world.group.id().clone(), change: Change::Quit, text: None };
    let content = Content::of(Stamp { sn: 8, time: NOW_S + 1e9 }, &content).to_map();
    let packed = world.bob.encrypt_sign(&content, &id(&world.bot), NOW_S).unwrap();
    assert_eq!(world.tell(packed.ready[0].bytes.clone()), []);
    assert!(world.assistant.members(world.group.id()).contains(&bob));
    let expel = world.by_alice(Change::Expel(vec![bob.clone()]), NOW_S + 5.0);
    assert_eq!(world.tell(expel), []);
    assert!(!world.assistant.members(world.group.id()).contains(&bob));
}

#[test]
fn who_is_no_member_is_told_so() {
    let mut world = World::ready();
    let letter = world.letter();
    let carol = id(&world.carol);
    let expel = world.by_alice(Change::Expel(vec![carol.clone()]), NOW_S + 5.0);
    assert_eq!(world.tell(expel), []);
    let posts = world.tell(letter);
    assert!(posts.iter().all(|post| post.to != carol), "{posts:?}");
    let request = world.about(GroupAsk::Request { from: id(&world.alice), digest: None });
    assert_eq!(texts(&world.ask(|w| &mut w.carol, &request)), ["Permission denied."]);
    // Nor may she bring herself back, nor does Alice's older word.
    let again = GroupCommand {
        group: world.group.id().clone(),
        change: Change::Reset([&world.alice, &world.carol].map(id).to_vec()),
        text: None,
    };
    let mut content = Content::of(Stamp { sn: 9, time: NOW_S + 6.0 }, &again).to_map();
    content.insert("time".into(), (NOW_S + 6.0).into());
    let packed = world.carol.encrypt_sign(&content, &Id::anyone(), NOW_S).unwrap();
    assert_eq!(texts(&world.tell(packed.ready[0].bytes.clone())), ["Permission denied."]);
    let reset = world.reset();
    assert_eq!(world.tell(reset), []);
    assert_eq!(world.assistant.members(world.group.id()).len(), 2);

    // A stranger's message to the group.
    let group = world.group.id().clone();
    world.carol.source_mut().save_members(&group, vec![carol, id(&world.bob)]);
    let packed = world.carol.encrypt_sign(&say::text("hello"), &group, NOW_S).unwrap();
    let mut whole = json::parse_object(&packed.ready[0].bytes).unwrap();
    whole.insert("receiver".into(), group.as_str().into());
    let posts = world.tell(json::write_object(&whole).into());
    assert_eq!(texts(&posts), ["Permission denied."]);
    assert_eq!(posts.len(), 1);
}

#[test]
fn what_comes_before_the_group_is_known_waits_for_it() {
    let mut world = World::new();
    let letter = world.letter();
    let posts = world.tell(letter);
    // The station is asked who the group is, and the sender who is in it.
    let asked: Vec<_> =
        posts.iter().map(|post| (post.to.clone(), post.content["type"].clone())).collect();
    assert_eq!(asked.len(), 3, "{posts:?}");
    assert!(posts[..2].iter().all(|post| post.to == Id::station_any()));
    assert_eq!(posts[2].to, id(&world.alice));
    assert_eq!(posts[2].content["act"], "query");
    let reset = world.reset();
    assert_eq!(world.tell(reset), [], "asked just now");
    meet(&mut world.bot, &world.group);
    let posts = world.assistant.learned(world.group.id(), world.bot.source(), NOW_S);
    assert_eq!(texts(&posts), ["Group message delivering."]);
    assert_eq!(posts.len(), 3);
    assert_eq!(read(&mut world.bob, inside(&posts[0])), "hello");
    // Members can ask how the group came about.
    let history = world.about(GroupAsk::History { last_time: None });
    let posts = world.ask(|w| &mut w.bob, &history);
    let inner = json::parse_object(&inside(&posts[0])).unwrap();
    assert_eq!(inner["sender"], id(&world.alice).as_str());
    assert_eq!(inner["receiver"], "anyone@anywhere");
}

#[test]
fn what_waits_outlives_the_bot_until_the_station_has_it() {
    // Before the group is known.
    let mut world = World::new();
    let (letter, reset) = (world.letter(), world.reset());
    assert_eq!(world.tell(letter).len(), 3);
    assert_eq!(world.tell(reset), []);
    world.settle();
    world.restart();
    let asked = world.assistant.resume(world.bot.source(), NOW_S);
    assert!(asked.iter().all(|post| post.to == Id::station_any()), "{asked:?}");
    assert_eq!(asked.len(), 2, "meta and documents of the group");
    let group = world.group.clone();
    meet(&mut world.bot, &group);
    for turn in 0..2 {
        let posts = match turn {
            0 => world.assistant.learned(group.id(), world.bot.source(), NOW_S),
            // Killed before the station had the copies.
            _ => {
                world.restart();
                world.assistant.resume(world.bot.source(), NOW_S)
            }
        };
        assert_eq!(texts(&posts), ["Group message delivering."], "{turn}");
        assert_eq!(posts.len(), 3);
    }
    assert_eq!(world.assistant.resume(world.bot.source(), NOW_S), [], "it is on its way");
    world.restart();
    let posts = world.assistant.resume(world.bot.source(), NOW_S);
    assert_eq!(read(&mut world.bob, inside(&posts[0])), "hello");
    world.settle();
    world.restart();
    assert_eq!(world.assistant.resume(world.bot.source(), NOW_S), []);
    assert_eq!(world.assistant.size(), 2, "a group and its keys");
}

#[test]
fn a_message_that_lacks_a_key_outlives_the_bot() {
    let mut world = World::ready();
    let letter = world.letter();
    let bob = id(&world.bob);
    let posts = world.tell(with_keys(&letter, |name| name.starts_with(bob.as_str())));
    assert_eq!(posts[2].content["replacements"]["count"], "1");
    world.settle();
    world.restart();
    let sealed = seals(&letter)
        .into_iter()
        .filter_map(|(name, key)| Some((Id::parse(&name).ok()?, key.as_str()?.to_owned())));
    let digest = seals(&letter)["digest"].as_str().map(str::to_owned);
    let keys = SealedKeys { digest, sealed: sealed.collect() };
    let update = world.about(GroupAsk::Update { from: id(&world.alice), keys });
    let posts = world.ask(|w| &mut w.alice, &update);
    assert_eq!((posts.len(), &posts[1].to), (2, &id(&world.carol)));
    assert_eq!(read(&mut world.carol, inside(&posts[1])), "hello");
    // She is not known to the bot after a restart: her copy waits for her, on paper too.
    let mut bot = person(4);
    meet(&mut bot, world.alice.account());
    world.bot = bot;
    let carol = world.carol.account().clone();
    let again = world.tell(letter);
    assert!(again.iter().all(|post| post.to != id(&world.carol)));
    world.restart();
    let asked = world.assistant.resume(world.bot.source(), NOW_S);
    assert_eq!(asked.len(), 4, "meta and documents of two members");
    meet(&mut world.bot, &carol);
    let posts = world.assistant.learned(carol.id(), world.bot.source(), NOW_S);
    assert_eq!(posts.len(), 1);
    assert_eq!(read(&mut world.carol, inside(&posts[0])), "hello");
}

#[test]
fn a_member_who_is_not_known_yet_gets_the_message_afterwards() {
    let mut world = World::ready();
    let letter = world.letter();
    let mut bot = person(4);
    for account in [world.alice.account(), world.carol.account(), &world.group] {
        meet(&mut bot, account);
    }
    world.bot = bot;
    let posts = world.tell(letter);
    let to: Vec<_> = posts.iter().map(|post| post.to.clone()).collect();
    let any = Id::station_any();
    assert_eq!(to, [any.clone(), any, id(&world.carol), id(&world.alice)]);
    assert_eq!(posts[3].content["replacements"]["count"], "2");
    meet(&mut world.bot, world.bob.account());
    let posts = world.assistant.learned(&id(&world.bob), world.bot.source(), NOW_S);
    assert_eq!(posts.len(), 1);
    assert_eq!(read(&mut world.bob, inside(&posts[0])), "hello");
}
