//! The announcer alone: whose tokens it keeps, whom it lets push, what it says to Apple and Google, and
//! what it makes of their answers.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use dim::bot::announcer::service::{Answer, Apns, PAYLOAD_BYTES_MAX, Service, Services};
use dim::bot::announcer::{Announcer, COMMAND_AGE_S_MAX, Delivery, TRIED_S_MAX};
use dim::bot::{Bot, Heard, Post};
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::messenger::{Incoming, Messenger};
use dim::client::source::People;
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::id::Id;
use dim::proto::meta::MetaKind;
use serde_json::{Map, Value, json};

const NOW_S: f64 = 1_700_000_000.0;

type Person = Messenger<Directory>;

fn person(network: u8) -> Person {
    let (sign, message) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
    let account =
        Account::create(MetaKind::Mkm, network, Some("a"), sign, message, NOW_S, Map::new());
    Messenger::new(account.unwrap(), Directory::default(), KeyStore::default(), 1)
}

fn meet(one: &mut Person, other: &Account) {
    one.source_mut().save_meta(other.meta().clone());
    for document in other.documents() {
        one.source_mut().save_document(document.clone(), NOW_S + 60.0);
    }
}

struct World {
    station: Person,
    alice: Person,
    bot: Person,
    announcer: Announcer,
}

fn services() -> Services {
    let apns = Apns { topic: "chat.dim.sechat".to_owned(), sandbox: false };
    Services { apns: Some(apns), fcm_project: Some("project-1".to_owned()) }
}

impl World {
    fn new() -> Self {
        let (mut station, mut alice, mut bot) = (person(2), person(0), person(4));
        for one in [&mut station, &mut alice] {
            meet(&mut bot, one.account());
            meet(one, bot.account());
        }
        let mut announcer = Announcer::new(services(), Vec::new()).unwrap();
        announcer.logged_in(station.account().id());
        Self { station, alice, bot, announcer }
    }

    fn alice_id(&self) -> &Id {
        self.alice.account().id()
    }

    /// What the bot answers to a command of Alice's or of the station's, said and heard then.
    fn tell(&mut self, by_station: bool, fields: Value, said_s: f64, now_s: f64) -> Vec<Post> {
        let mut content = fields.as_object().unwrap().clone();
        content.extend([
            ("type".to_owned(), 136.into()),
            ("sn".to_owned(), 7.into()),
            ("time".to_owned(), said_s.into()),
        ]);
        let to = self.bot.account().id().clone();
        let sender = if by_station { &mut self.station } else { &mut self.alice };
        let packed = sender.encrypt_sign(&content, &to, said_s).unwrap();
        let bytes = packed.ready[0].bytes.clone();
        let Incoming::Opened(came) = self.bot.verify_decrypt(bytes, now_s).unwrap() else {
            panic!("not opened")
        };
        let heard = Heard { message: &came.message, content: &came.content, now_s };
        self.announcer.hear(heard, self.bot.source())
    }

    fn report(&mut self, fields: Value) -> String {
        let mut report = json!({"command": "report"});
        report.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let posts = self.tell(false, report, NOW_S, NOW_S);
        posts.iter().map(|post| post.content["text"].as_str().unwrap()).collect()
    }

    fn token(&mut self, token: &str) {
        let device = json!({"title": "apns", "device": {"token": token, "platform": "iOS"}});
        assert_eq!(self.report(device), "Device token received.");
    }

    fn push(&mut self, aps: Value) {
        let item = json!({"receiver": self.alice_id().as_str(), "aps": aps});
        let push = json!({"command": "push", "items": [item]});
        assert_eq!(self.tell(true, push, NOW_S, NOW_S), []);
    }

    fn one(&mut self, now_s: f64) -> Delivery {
        let mut deliveries = self.announcer.take_deliveries(now_s, 8);
        assert_eq!(deliveries.len(), 1, "{deliveries:?}");
        deliveries.remove(0)
    }

    fn answer(&mut self, delivery: &Delivery, status: u16, body: Value, now_s: f64) {
        let body = body.to_string().into_bytes();
        let answer = Answer::Came { status, retry_after_s: None, body };
        self.announcer.answered(delivery.number, &answer, now_s);
    }
}

fn hello() -> Value {
    json!({"alert": {"title": "Text Message", "body": "hello"}, "badge": 3})
}

fn body(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.request.body).unwrap()
}

#[test]
fn the_three_newest_tokens_are_kept_also_over_a_restart() {
    let mut world = World::new();
    for token in ["aa", "bb", "cc", "dd", "bb"] {
        world.token(token);
    }
    let mut again = Announcer::new(services(), Vec::new()).unwrap();
    again.logged_in(world.station.account().id());
    for note in world.announcer.take_notes() {
        again.recall(note.as_bytes()).unwrap();
    }
    world.announcer = again;
    world.push(hello());
    for token in ["bb", "dd", "cc"] {
        let delivery = world.one(NOW_S);
        assert_eq!(delivery.request.path, format!("/3/device/{token}"));
        world.answer(&delivery, 410, json!({"reason": "Unregistered"}), NOW_S);
    }
    assert_eq!(world.announcer.take_deliveries(NOW_S, 8), []);
    assert_eq!((world.announcer.size(), world.announcer.waiting()), (0, 0), "all forgotten");
}

#[test]
fn tokens_of_all_shapes_are_understood_and_what_is_none_is_refused() {
    for device in [
        json!({"title": "apns", "device_token": "ab12"}),
        json!({"title": "apns", "token": "ab12"}),
        json!({"title": "apns", "device": {"token": "ab12"}}),
        json!({"title": "apns", "device": {"token": "ab12", "platform": "iOS", "sandbox": true}}),
        json!({"title": "c2dm", "device": {"token": "x:Y-z_1", "platform": "Android",
            "channel": "Firebase"}}),
    ] {
        assert_eq!(World::new().report(device.clone()), "Device token received.", "{device}");
    }
    for device in [
        json!({"title": "apns", "device": {"token": "../../4"}}),
        json!({"title": "apns", "device": {"token": ""}}),
        json!({"title": "apns", "device": {"token": "ab", "topic": "a\r\nb"}}),
        json!({"title": "apns", "device": {"token": "a".repeat(2000)}}),
        json!({"title": "c2dm", "device": {"token": "a b"}}),
        json!({"title": "c2dm", "device": {"token": "ab", "platform": "Android", "channel": "x"}}),
    ] {
        assert_eq!(World::new().report(device.clone()), "Device token not accepted.", "{device}");
    }
}

#[test]
fn only_stations_may_push_and_only_news() {
    let mut world = World::new();
    world.token("ab");
    let push = json!({"command": "push", "receiver": world.alice_id().as_str(), "aps": hello()});
    let posts = world.tell(false, push.clone(), NOW_S, NOW_S);
    assert_eq!(posts[0].content["text"], "Permission denied.");
    let late_s = NOW_S + COMMAND_AGE_S_MAX + 1.0;
    assert_eq!(world.tell(true, push.clone(), NOW_S, late_s), []);
    assert_eq!(world.announcer.waiting(), 0);
    assert_eq!(world.tell(true, push.clone(), NOW_S, late_s - 2.0), []);
    assert_eq!(world.announcer.waiting(), 1);
    // Another station that the operator has named.
    let me = world.alice_id().clone();
    world.announcer = Announcer::new(services(), vec![me]).unwrap();
    world.token("ab");
    assert_eq!(world.tell(false, push, NOW_S, NOW_S), []);
    assert_eq!(world.announcer.waiting(), 1);
}

#[test]
fn apple_is_told_what_it_expects() {
    let mut world = World::new();
    world.token("ab12");
    world.push(json!({"alert": {"title": "Image", "body": "hello", "image": "https://x/y"},
        "badge": 3}));
    let delivery = world.one(NOW_S);
    assert_eq!(delivery.service, Service::Apns);
    let until = (NOW_S + TRIED_S_MAX) as u64;
    let expected = [
        ("apns-topic", "chat.dim.sechat".to_owned()),
        ("apns-push-type", "alert".to_owned()),
        ("apns-priority", "10".to_owned()),
        ("apns-expiration", until.to_string()),
        ("content-type", "application/json".to_owned()),
    ];
    assert_eq!(delivery.request.headers, expected);
    let alert = json!({"title": "Image", "body": "hello"});
    let aps = json!({"alert": alert, "badge": 3, "sound": "default", "mutable-content": 1});
    assert_eq!(body(&delivery), json!({"image": "https://x/y", "aps": aps}));
    world.answer(&delivery, 200, json!({}), NOW_S);
    assert_eq!(world.announcer.waiting(), 0);

    // The device's own application, at the test system.
    let device = json!({"token": "cd", "topic": "a.b", "sandbox": true});
    world.report(json!({"title": "apns", "device": device}));
    world.push(hello());
    let delivery = world.one(NOW_S);
    assert_eq!(delivery.service, Service::ApnsSandbox);
    assert_eq!(delivery.request.headers[0].1, "a.b");
}

#[test]
fn google_is_told_what_it_expects() {
    let mut world = World::new();
    let device = json!({"token": "t:1", "platform": "Android", "channel": "firebase"});
    world.report(json!({"title": "c2dm", "device": device}));
    world.push(hello());
    let delivery = world.one(NOW_S + 100.0);
    assert_eq!(delivery.service, Service::Fcm);
    assert_eq!(delivery.request.path, "/v1/projects/project-1/messages:send");
    let notification = json!({"title": "Text Message", "body": "hello", "notification_count": 3});
    let android = json!({"priority": "HIGH", "ttl": "200s", "notification": notification,
        "data": {"badge_count": "3"}});
    let data = json!({"badge": "3", "time": "1700000100"});
    let message = json!({"token": "t:1", "android": android, "data": data});
    assert_eq!(body(&delivery), json!({"message": message}));
    let details = json!([{"errorCode": "UNREGISTERED"}]);
    let error = json!({"error": {"status": "NOT_FOUND", "details": details}});
    world.answer(&delivery, 404, error, NOW_S);
    assert_eq!(world.announcer.size(), 0, "the token is forgotten");
}

#[test]
fn a_payload_is_never_too_long() {
    let mut world = World::new();
    world.token("ab");
    for letter in ["x", "\u{1}", "é", "𝄞"] {
        let long = letter.repeat(5000);
        world.push(json!({"alert": {"title": long, "subtitle": long, "body": long, "image": long},
            "sound": long, "category": long}));
        let delivery = world.one(NOW_S);
        assert!(delivery.request.body.len() <= PAYLOAD_BYTES_MAX);
        let said = body(&delivery)["aps"]["alert"]["body"].as_str().unwrap().to_owned();
        assert!(!said.is_empty() && long.starts_with(&said));
        world.answer(&delivery, 200, json!({}), NOW_S);
    }
}

#[test]
fn a_service_that_is_busy_is_asked_again_with_growing_pauses_until_it_is_too_late() {
    let mut world = World::new();
    world.token("ab");
    world.push(hello());
    let (mut now_s, mut tries) = (NOW_S, Vec::new());
    while world.announcer.waiting() > 0 && now_s < NOW_S + 2.0 * TRIED_S_MAX {
        for delivery in world.announcer.take_deliveries(now_s, 8) {
            tries.push((now_s - NOW_S) as u64);
            world.answer(&delivery, 503, json!({"reason": "ServiceUnavailable"}), now_s);
        }
        now_s += 1.0;
    }
    assert_eq!(tries, [0, 2, 6, 14, 30, 62, 126, 254]);
    assert_eq!(world.announcer.size(), 1, "the token stays");

    world.push(hello());
    let delivery = world.one(NOW_S);
    let answer = Answer::Came { status: 429, retry_after_s: Some(60), body: Vec::new() };
    world.announcer.answered(delivery.number, &answer, NOW_S);
    assert_eq!(world.announcer.take_deliveries(NOW_S + 59.0, 8), []);
    let again = world.one(NOW_S + 60.0);
    let none = Answer::None { why: "no connection".to_owned() };
    world.announcer.answered(again.number, &none, NOW_S + 60.0);
    assert_eq!(world.one(NOW_S + 64.0).request, delivery.request);
}

#[test]
fn what_a_service_does_not_take_is_tried_on_the_next_device() {
    let mut world = World::new();
    for token in ["aa", "bb", "cc"] {
        world.token(token);
    }
    world.push(hello());
    let delivery = world.one(NOW_S);
    world.answer(&delivery, 400, json!({"reason": "BadDeviceToken"}), NOW_S);
    let delivery = world.one(NOW_S);
    assert_eq!(delivery.request.path, "/3/device/bb");
    world.answer(&delivery, 400, json!({"reason": "BadTopic"}), NOW_S);
    let delivery = world.one(NOW_S);
    // Gone before it was reported again: this one is newer.
    let gone = json!({"reason": "Unregistered", "timestamp": (NOW_S - 60.0) * 1000.0});
    world.answer(&delivery, 410, gone, NOW_S);
    assert_eq!(world.announcer.waiting(), 0);
    world.push(hello());
    assert_eq!(world.one(NOW_S).request.path, "/3/device/bb", "only the bad one is forgotten");
}

#[test]
fn notifications_without_a_number_are_counted_until_the_user_is_back() {
    let mut world = World::new();
    world.token("ab");
    let badge = |world: &mut World| {
        world.push(json!({"alert": {"body": "hello"}}));
        let delivery = world.one(NOW_S);
        world.answer(&delivery, 200, json!({}), NOW_S);
        body(&delivery)["aps"]["badge"].clone()
    };
    assert_eq!((badge(&mut world), badge(&mut world)), (json!(1), json!(2)));
    assert_eq!(world.report(json!({"title": "online"})), "");
    assert_eq!(badge(&mut world), json!(1));
    assert_eq!(world.report(json!({"state": "background"})), "");
    assert_eq!(badge(&mut world), json!(2));
}
