//! The monitor alone: what it takes from whom, what it keeps, shows and passes on.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use bytes::Bytes;
use dim::bot::monitor::{Monitor, Rules, Subject};
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

/// 2023-11-14 22:13:20 UTC.
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
    one.source_mut().save_document(other.document().unwrap().clone(), NOW_S + 60.0);
}

struct World {
    station: Person,
    alice: Person,
    bot: Person,
    monitor: Monitor,
}

impl World {
    fn new(rules: Rules) -> Self {
        let (mut station, mut alice, mut bot) = (person(2), person(0), person(4));
        for one in [&mut station, &mut alice] {
            meet(one, bot.account());
            meet(&mut bot, one.account());
        }
        let mut monitor = Monitor::new(rules);
        monitor.logged_in(station.account().id());
        Self { station, alice, bot, monitor }
    }

    fn tell(&mut self, by_station: bool, module: &str, fields: Value, now_s: f64) -> Vec<Post> {
        let mut content = json!({"type": 204, "sn": 7, "time": now_s, "app": "chat.dim.monitor",
            "mod": module, "act": "post"});
        content.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let to = self.bot.account().id().clone();
        let sender = if by_station { &mut self.station } else { &mut self.alice };
        let packed = sender.encrypt_sign(content.as_object().unwrap(), &to, now_s).unwrap();
        let bytes: Bytes = packed.ready[0].bytes.clone();
        let Incoming::Opened(came) = self.bot.verify_decrypt(bytes, now_s).unwrap() else {
            panic!("not opened")
        };
        let heard = Heard { message: &came.message, content: &came.content, now_s };
        self.monitor.hear(heard, self.bot.source())
    }

    /// The logs by name, all there is.
    fn logs(&mut self, now_s: f64) -> BTreeMap<String, Value> {
        let files = self.monitor.take_logs(now_s, true);
        files
            .into_iter()
            .map(|file| (file.name, serde_json::from_str(&file.text).unwrap()))
            .collect()
    }
}

fn users() -> Value {
    json!({"users": [{"U": "moky@anywhere", "IP": "192.0.2.1"}, {"U": "no id"}, 7]})
}

fn stats() -> Value {
    json!({"stats": [{"S": 0, "T": 1, "C": 5}, {"S": 0, "T": 136, "C": 2}, {"S": 0}]})
}

#[test]
fn a_stations_counts_are_kept_by_the_minute_and_summed_up() {
    let mut world = World::new(Rules::default());
    assert_eq!(world.tell(true, "users", users(), NOW_S), []);
    for now_s in [NOW_S, NOW_S + 30.0, NOW_S + 60.0] {
        assert_eq!(world.tell(true, "stats", stats(), now_s), []);
    }
    let logs = world.logs(NOW_S + 60.0);
    let rows = json!([{"S": 0, "T": 1, "C": 5}, {"S": 0, "T": 136, "C": 2}]);
    let expected = json!({"2023-11-14 22:13": [rows[0], rows[1], rows[0], rows[1]],
        "2023-11-14 22:14": rows});
    assert_eq!(logs["stats_log-2023-11-14.js"]["2023-11-14 22:14"], expected["2023-11-14 22:14"]);
    assert_eq!(logs["stats_log-2023-11-14.js"].as_object().unwrap().len(), 2);
    let users = json!({"2023-11-14 22:13": [{"U": "moky@anywhere"}]});
    assert_eq!(logs["users_log-2023-11-14.js"], users, "without the address");
    let metrics = world.monitor.metrics();
    for line in [
        "dim_messages_total{sender=\"0\",type=\"1\"} 15",
        "dim_messages_total{sender=\"0\",type=\"136\"} 6",
        "dim_logins_total 1",
        "dim_monitor_refused_total 0",
    ] {
        assert!(metrics.lines().any(|said| said == line), "{line}\n{metrics}");
    }
}

#[test]
fn a_users_measurements_are_taken_in_its_own_name_and_its_counts_are_not() {
    let mut world = World::new(Rules::default());
    let alice = world.alice.account().id().as_str().to_owned();
    let stations = json!([
        {"host": "192.0.2.7", "port": 9394, "response_time": 0.125, "socket_address": "192.0.2.9:1"},
        {"host": "a\"b", "port": 1, "response_time": 0.5},
        {"host": "slow", "port": 1, "response_time": -1},
        {"host": "silent", "port": 1}]);
    let speeds = json!({"provider": "gsp@everywhere", "stations": stations, "U": "moky@anywhere"});
    assert_eq!(world.tell(false, "speeds", speeds, NOW_S), []);
    let flat = json!({"station": "192.0.2.7:9394", "client": "x", "response_time": 0.25});
    assert_eq!(world.tell(false, "speeds", flat, NOW_S), []);
    for (module, fields) in [("users", users()), ("stats", stats()), ("other", users())] {
        assert_eq!(world.tell(false, module, fields, NOW_S), []);
    }
    let logs = world.logs(NOW_S);
    assert_eq!(logs.len(), 1, "{logs:?}");
    let rows = logs["speeds_log-2023-11-14.js"]["2023-11-14 22:13"].as_array().unwrap();
    let first = json!({"U": alice, "provider": "gsp@everywhere", "station": "192.0.2.7:9394",
        "response_time": 0.125});
    assert_eq!((rows.len(), &rows[0]), (3, &first));
    let metrics = world.monitor.metrics();
    for line in [
        "dim_response_seconds_count{station=\"192.0.2.7:9394\"} 2",
        "dim_response_seconds_sum{station=\"192.0.2.7:9394\"} 0.375",
        "dim_response_seconds_sum{station=\"a\\\"b:1\"} 0.5",
        "dim_monitor_refused_total 3",
    ] {
        assert!(metrics.lines().any(|said| said == line), "{line}\n{metrics}");
    }
}

#[test]
fn who_listens_is_passed_what_came_and_addresses_only_where_that_is_allowed() {
    for addresses in [false, true] {
        let listeners = BTreeMap::from([(Subject::Users, vec![Id::moky()])]);
        let mut world = World::new(Rules { addresses, listeners, ..Rules::default() });
        let posts = world.tell(true, "users", users(), NOW_S);
        assert_eq!((posts.len(), &posts[0].to), (1, &Id::moky()));
        let said = &posts[0].content;
        assert_eq!((&said["app"], &said["mod"]), (&json!("chat.dim.monitor"), &json!("users")));
        assert_eq!(said["users"][0].get("IP").is_some(), addresses);
        assert!(!said.contains_key("sn"));
        assert_eq!(world.tell(true, "stats", stats(), NOW_S), []);
        let row = &world.logs(NOW_S)["users_log-2023-11-14.js"]["2023-11-14 22:13"][0];
        assert_eq!(row.get("IP").is_some(), addresses);
    }
}

#[test]
fn a_day_ends_with_its_log_and_a_restart_goes_on_with_it() {
    let mut world = World::new(Rules::default());
    let (end_s, next_s) = (1_700_006_390.0, 1_700_006_410.0);
    world.tell(true, "stats", stats(), end_s);
    world.tell(true, "stats", stats(), next_s);
    let logs = world.logs(next_s);
    let names: Vec<_> = logs.keys().cloned().collect();
    assert_eq!(names, ["stats_log-2023-11-14.js", "stats_log-2023-11-15.js"]);
    assert_eq!(logs[&names[0]]["2023-11-14 23:59"].as_array().unwrap().len(), 2);
    assert_eq!(world.logs(next_s).len(), 0, "nothing new");

    assert_eq!(Monitor::log_name(Subject::Stats, next_s), names[1]);
    let written = logs[&names[1]].to_string();
    let mut again = World::new(Rules::default());
    assert!(again.monitor.recall_log(Subject::Stats, written.as_bytes(), next_s));
    again.tell(true, "stats", stats(), next_s + 1.0);
    assert_eq!(again.logs(next_s)[&names[1]]["2023-11-15 00:00"].as_array().unwrap().len(), 4);
    for bytes in [&b"[]"[..], b"{\"a\": 1}", b"x"] {
        assert!(!again.monitor.recall_log(Subject::Stats, bytes, next_s));
    }
}

#[test]
fn a_log_is_not_written_with_every_row() {
    let mut world = World::new(Rules::default());
    world.tell(true, "stats", stats(), NOW_S);
    assert_eq!(world.monitor.take_logs(NOW_S, false).len(), 1);
    world.tell(true, "stats", stats(), NOW_S + 1.0);
    assert_eq!(world.monitor.take_logs(NOW_S + 1.0, false).len(), 0);
    assert_eq!(world.monitor.take_logs(NOW_S + 10.0, false).len(), 1);
}
