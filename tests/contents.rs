//! Contents made from seeds: whatever a type says is read again as it was, old names included, and
//! what a type does not know survives it.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads its vectors and stops at the first surprise"
)]

use std::fmt::Debug;

use dim::base::encode::base64_encode;
use dim::proto::command::{
    Ans, Block, Change, Device, DocumentsCommand, GroupCommand, Handshake, Login, MetaCommand,
    Mute, Push, PushItem, PushService, Receipt, Report, Search, Stamp, StationPlace, Storage,
};
use dim::proto::content::{
    Application, Array, Attachment, Audio, Card, Combine, Content, ContentError, Customized, File,
    Forward, GroupAsk, GroupContent, Image, Money, Page, Quote, SealedKeys, Text, Transfer, Video,
};
use dim::proto::document::Document;
use dim::proto::field::Resource;
use dim::proto::id::Id;
use dim::proto::json;
use dim::proto::kind::Kind;
use dim::proto::meta::{Meta, MetaKind};
use dim::proto::registry::Registry;
use serde_json::{Map, Number, Value, json};

const SEEDS: u64 = 64;

/// Numbers from a seed: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(3) > 0).then(|| make(self))
    }

    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn word(&mut self) -> String {
        let words = ["a", "你好", "x\"y\\", "line\nbreak", "null", "1", "😀", "/"];
        format!("{}{}", words[self.below(8) as usize], self.below(100))
    }

    /// Without blanks, since some fields are split there.
    fn name(&mut self) -> String {
        format!("n{}", self.below(1000))
    }

    fn id(&mut self) -> Id {
        let n = self.below(1_000_000);
        let text = match n % 3 {
            0 => format!("u{n}@anywhere"),
            1 => format!("hulk@4YeVEN3aUnvC1DNUufCq1bs9zoBSJTzVEj/t{n}"),
            _ => format!("0x{n:040x}"),
        };
        Id::parse(&text).unwrap()
    }

    fn seconds(&mut self) -> f64 {
        self.below(1 << 40) as f64 / 4.0
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.some(|r| r.below(256) as u8)
    }

    fn map(&mut self) -> Map<String, Value> {
        let pairs = self.some(|r| (r.name(), json!([r.word(), {"n": r.below(9)}, null])));
        pairs.into_iter().collect()
    }

    fn resource(&mut self) -> Resource {
        match self.below(2) {
            0 => Resource::Text(self.word()),
            _ => Resource::Object(self.map()),
        }
    }

    fn amount(&mut self) -> Number {
        match self.below(2) {
            0 => self.below(1000).into(),
            _ => Number::from_f64(self.below(1000) as f64 / 8.0 + 0.125).unwrap(),
        }
    }

    fn attachment(&mut self) -> Attachment {
        Attachment {
            data: self.maybe(Self::bytes),
            url: self.maybe(Self::word),
            filename: self.maybe(Self::word),
            key: self.maybe(Self::map),
        }
    }

    fn meta(&mut self) -> Meta {
        Meta::build(MetaKind::Eth, self.map(), None).unwrap()
    }

    fn document(&mut self) -> Document {
        let data = json!({"time": self.seconds(), "name": self.word()}).to_string();
        Document::build(&self.id(), "visa", &data, &base64_encode(b"signature")).unwrap()
    }

    fn sealed(&mut self) -> SealedKeys {
        let mut sealed = self.some(|r| (r.id(), r.word()));
        sealed.dedup_by(|a, b| a.0 == b.0);
        SealedKeys { digest: self.maybe(Self::word), sealed }
    }
}

fn sent(content: &Content) -> Content {
    let text = json::write_object(&content.to_map());
    Content::read(json::parse(text.as_bytes()).unwrap()).unwrap()
}

/// Says one thing, then another in its place, and reads both where they arrive.
fn round<T: Kind + Clone + Debug + PartialEq + Send + 'static>(make: impl Fn(&mut Random) -> T) {
    let mut registry = Registry::new();
    registry.add::<T>().unwrap();
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (one, two) = (make(&mut random), make(&mut random));
        let stamp = Stamp { sn: random.below(1 << 31), time: random.seconds() };
        let mut content = Content::of(stamp, &one);
        content.map.insert("x-new".to_owned(), json!({"y": [1, null]}));

        let mut read = sent(&content);
        assert_eq!((read.kind, read.time), (content.kind, Some(stamp.time)), "seed {seed}");
        assert_eq!(read.view::<T>().as_ref(), Ok(&one), "seed {seed}");
        let opened = registry.open(&read).unwrap().unwrap();
        assert_eq!(opened.downcast_ref(), Some(&one), "seed {seed}");

        read.put(&two);
        let again = sent(&read);
        assert_eq!(again.view::<T>().as_ref(), Ok(&two), "seed {seed}: in place of {one:?}");
        assert_eq!(again.map["x-new"], json!({"y": [1, null]}), "seed {seed}");

        // A change that is taken back leaves no trace.
        read.put(&one);
        let fresh = Content::of(stamp, &one).to_map();
        let mut back = sent(&read).to_map();
        back.remove("x-new");
        assert_eq!(Value::Object(back), Value::Object(sent_map(&fresh)), "seed {seed}");
    }
}

fn sent_map(map: &Map<String, Value>) -> Map<String, Value> {
    Content::read(Value::Object(map.clone())).unwrap().to_map()
}

#[test]
fn what_people_say_is_read_as_it_was_said() {
    round(|r| Text { text: r.word() });
    round(|r| Quote { text: r.word(), origin: r.map() });
    round(|r| Page {
        title: r.word(),
        url: r.maybe(Random::word),
        html: r.maybe(Random::word),
        desc: r.maybe(Random::word),
        icon: r.maybe(Random::resource),
        mime_type: r.maybe(Random::word),
        encoding: r.maybe(Random::word),
        base: r.maybe(Random::word),
    });
    round(|r| Card { did: r.id(), name: r.word(), avatar: r.maybe(Random::resource) });
    round(|r| Money { currency: r.word(), amount: r.amount() });
    round(|r| Transfer {
        currency: r.word(),
        amount: r.amount(),
        remitter: r.maybe(Random::id),
        remittee: r.maybe(Random::id),
    });
}

#[test]
fn files_keep_their_bytes_places_and_keys() {
    round(|r| File { file: r.attachment() });
    round(|r| Image { file: r.attachment(), thumbnail: r.maybe(Random::resource) });
    round(|r| Audio {
        file: r.attachment(),
        duration: r.maybe(Random::seconds),
        text: r.maybe(Random::word),
    });
    round(|r| Video { file: r.attachment(), snapshot: r.maybe(Random::resource) });
}

#[test]
fn what_carries_others_carries_them_whole() {
    round(|r| Array { contents: r.some(|r| r.map().into()) });
    round(|r| Forward { secrets: r.some(|r| r.map().into()) });
    round(|r| Combine { title: r.word(), messages: r.some(|r| r.map().into()) });
    round(|r| Application { app: r.word() });
    round(|r| Customized { app: r.word(), module: r.word(), act: r.word() });
}

#[test]
fn groups_are_spoken_of_in_both_ways() {
    round(|r| GroupContent {
        group: r.id(),
        ask: match r.below(5) {
            0 => GroupAsk::History { last_time: r.maybe(Random::seconds) },
            1 => GroupAsk::Query {
                from: r.id(),
                members: r.some(Random::id),
                digest: r.maybe(Random::word),
            },
            2 => GroupAsk::Update { from: r.id(), keys: r.sealed() },
            3 => GroupAsk::Request { from: r.id(), digest: r.maybe(Random::word) },
            _ => GroupAsk::Respond { from: r.id(), keys: r.sealed() },
        },
    });
    round(|r| GroupCommand {
        group: r.id(),
        change: match r.below(9) {
            0 => Change::Invite(r.some(Random::id)),
            1 => Change::Expel(r.some(Random::id)),
            2 => Change::Join,
            3 => Change::Quit,
            4 => Change::Reset(r.some(Random::id)),
            5 => Change::Resign,
            6 => Change::Hire(r.some(Random::id)),
            7 => Change::Fire(r.some(Random::id)),
            _ => Change::Query { last_time: r.maybe(Random::seconds) },
        },
        text: r.maybe(Random::word),
    });
}

#[test]
fn sessions_are_spoken_of_in_the_names_of_all_generations() {
    round(|r| {
        let remote = r.maybe(|r| (r.word(), r.below(65_536) as u16));
        match r.below(6) {
            0 => Handshake::Start,
            1 => Handshake::Again { session: r.name(), remote },
            2 => Handshake::Restart { session: r.name() },
            3 => Handshake::Success { session: r.maybe(Random::name), remote },
            4 => Handshake::Ping { session: r.maybe(Random::name) },
            _ => Handshake::Pong { session: r.maybe(Random::name) },
        }
    });
    round(|r| Login {
        did: r.id(),
        agent: r.maybe(Random::word),
        device: r.maybe(Random::word),
        terminal: r.maybe(Random::word),
        station: r.maybe(|r| StationPlace {
            did: r.maybe(Random::id),
            host: r.maybe(Random::word),
            port: r.maybe(|r| r.below(65_536)),
        }),
        provider: r.maybe(Random::id),
    });
    round(|r| match r.below(3) {
        0 => Report::Online,
        1 => Report::Offline,
        _ => Report::Device(Device {
            service: [PushService::Apns, PushService::C2dm][r.below(2) as usize],
            token: r.word(),
            platform: r.maybe(Random::word),
            topic: r.maybe(Random::word),
            sandbox: r.maybe(|r| r.below(2) == 0),
            channel: r.maybe(Random::word),
            model: r.maybe(Random::word),
            system: r.maybe(Random::word),
        }),
    });
    round(|r| MetaCommand { did: r.id(), meta: r.maybe(Random::meta) });
    round(|r| DocumentsCommand {
        did: r.id(),
        meta: r.maybe(Random::meta),
        documents: r.maybe(|r| r.some(Random::document)),
        last_time: r.maybe(Random::seconds),
    });
}

#[test]
fn questions_to_stations_and_bots_are_read_as_they_were_asked() {
    round(|r| Receipt {
        text: r.word(),
        template: r.maybe(Random::word),
        replacements: r.maybe(Random::map),
        origin: r.maybe(|r| {
            let origin = json!({"sender": r.id().as_str(), "sn": r.below(9), "signature": "QUJD"});
            origin.as_object().unwrap().clone()
        }),
    });
    round(|r| Ans {
        names: r.some(Random::name),
        records: r.maybe(|r| r.some(|r| (r.name(), r.id())).into_iter().collect()),
        missed: r.maybe(|r| r.some(Random::word)),
    });
    round(|r| Search {
        keywords: r.word(),
        start: r.below(100),
        limit: r.below(100) as i64 - 50,
        station: r.maybe(Random::id),
        users: r.maybe(|r| r.some(Random::id)),
        results: r.maybe(Random::map),
    });
    round(|r| Storage {
        title: r.name(),
        did: r.maybe(Random::id),
        data: r.maybe(Random::bytes),
        key: r.maybe(Random::bytes),
        contacts: r.maybe(|r| r.some(Random::id)),
    });
    round(|r| Block { list: r.maybe(|r| r.some(Random::id)) });
    round(|r| Mute { list: r.maybe(|r| r.some(Random::id)) });
    round(|r| Push {
        items: r.some(|r| PushItem {
            receiver: r.id(),
            title: r.maybe(Random::word),
            subtitle: r.maybe(Random::word),
            body: r.word(),
            image: r.maybe(Random::word),
            sound: r.maybe(Random::word),
            badge: r.maybe(|r| r.below(100)),
            category: r.maybe(Random::word),
        }),
    });
}

/// Commands and contents as clients of before 2022 wrote them.
#[test]
fn old_names_are_read_and_do_not_survive_a_change() {
    let old = |fields: Value| Content::read(fields).unwrap();
    let mut file = old(json!({"type": "16", "password": {"a": 1}, "data": "base64,QUJD"}));
    let mut view = file.view::<File>().unwrap().file;
    assert_eq!(view.data.as_deref(), Some(&b"ABC"[..]));
    assert_eq!(view.key, json!({"a": 1}).as_object().cloned());
    view.key = json!({"a": 2}).as_object().cloned();
    file.put(&File { file: view });
    assert_eq!(file.to_map()["password"], json!({"a": 2}));

    let card = old(json!({"type": 51, "ID": "moky@anywhere", "name": "M"}));
    assert_eq!(card.view::<Card>().unwrap().did, Id::moky());
    let invite = json!({"type": 137, "command": "invite", "group": "all", "member": "founder"});
    let invite = old(invite).view::<GroupCommand>().unwrap();
    assert_eq!((invite.group, invite.change), (Id::everyone(), Change::Invite(vec![Id::moky()])));
    let users = old(json!({"T": 136, "C": "users"})).view::<Search>().unwrap();
    assert_eq!(users.keywords, Search::ONLINE);
    let contacts = old(json!({"type": 136, "cmd": "contacts", "data": "QUJD"}));
    assert_eq!(contacts.view::<Storage>().unwrap().title, "contacts");
    let one = old(json!({"type": 255, "forward": {"a": 1}})).view::<Forward>().unwrap();
    assert_eq!(one.secrets, [json!({"a": 1})]);
    let history = json!({"type": 204, "app": "chat.dim.group", "mod": "history", "act": "query",
        "group": "all", "last_time": 5});
    let asked = old(history).view::<GroupContent>().unwrap().ask;
    assert_eq!(asked, GroupAsk::History { last_time: Some(5.0) });
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let view = |fields: Value| Content::read(fields).unwrap().view::<Card>();
    assert_eq!(view(json!({"type": 51})), Err(ContentError::Missing("did")));
    assert_eq!(view(json!({"type": 51, "did": "nobody"})), Err(ContentError::Kind("did")));
    assert_eq!(view(json!({"type": 1, "did": "founder"})), Err(ContentError::OtherKind));
    let none = json!({"type": 137, "command": "invite", "group": "all"});
    let none = Content::read(none).unwrap().view::<GroupCommand>();
    assert_eq!(none, Err(ContentError::Missing("members")));
    // Any value anywhere is an answer, not a fall.
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let value = [json!(null), json!([1]), json!({"a": []}), json!(-1e300), json!("")];
        let mut pick = || value[random.below(5) as usize].clone();
        let map = json!({"type": 136, "command": "login", "did": pick(), "station": pick(),
            "agent": pick(), "provider": pick(), "group": pick(), "time": pick(), "sn": pick()});
        if let Ok(mut content) = Content::read(map)
            && let Ok(login) = content.view::<Login>()
        {
            content.put(&login);
            assert_eq!(content.view::<Login>(), Ok(login));
        }
    }
}

/// Reads a content as a type, writes what was read, and tells what would be sent now; and the same
/// of what was sent.
fn rewritten<T: Kind>(content: &Content) -> Option<(Value, Value)> {
    let again = written::<T>(content)?;
    let twice = written::<T>(&Content::read(again.clone()).expect("what was sent"))?;
    Some((again, twice))
}

fn written<T: Kind>(content: &Content) -> Option<Value> {
    let value = match content.view::<T>() {
        Ok(value) => value,
        Err(ContentError::OtherKind) => return None,
        Err(error) => panic!("{error}: {:?}", content.map),
    };
    let mut content = content.clone();
    content.put(&value);
    Some(Value::Object(content.to_map()))
}

#[test]
fn contents_that_are_read_and_written_again_stay_what_they_were() {
    let mut count = 0;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/data/contents.json");
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for vector in whole["vectors"].as_array().unwrap() {
        let name = &vector["name"];
        let wire = vector.get("sent").or_else(|| vector.get("input")).expect("a content");
        if vector["expect"].as_str() == Some("reject") {
            continue;
        }
        let content = Content::read(wire.clone()).expect("a content");
        let as_types = [
            rewritten::<Text>(&content),
            rewritten::<File>(&content),
            rewritten::<Image>(&content),
            rewritten::<Page>(&content),
            rewritten::<Card>(&content),
            rewritten::<Quote>(&content),
            rewritten::<Money>(&content),
            rewritten::<Transfer>(&content),
            rewritten::<Array>(&content),
            rewritten::<Forward>(&content),
            rewritten::<Customized>(&content),
            rewritten::<GroupContent>(&content),
            rewritten::<GroupCommand>(&content),
            rewritten::<MetaCommand>(&content),
            rewritten::<DocumentsCommand>(&content),
            rewritten::<Login>(&content),
            rewritten::<Report>(&content),
            rewritten::<Receipt>(&content),
            rewritten::<Ans>(&content),
            rewritten::<Search>(&content),
            rewritten::<Storage>(&content),
            rewritten::<Block>(&content),
            rewritten::<Mute>(&content),
            rewritten::<Handshake>(&content),
        ];
        for (again, twice) in as_types.into_iter().flatten() {
            // Old forms gain the names of today, once.
            match vector["kind"].as_str().unwrap() {
                "emit" => assert_eq!(again, vector["sent"], "{name}"),
                _ => assert_eq!(again, twice, "{name}"),
            }
            count += 1;
        }
    }
    assert!(count >= 40, "only {count} contents of known types");
}
