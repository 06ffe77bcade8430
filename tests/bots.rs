//! The bots as programs of their own, at the real station, asked by clients of the library.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts programs and stops at the first surprise"
)]

mod kit;

use std::io::{Read, Write};
use std::process::Command;
use std::time::Instant;

use dim::client::account::Account;
use dim::client::blocking::now_s;
use dim::client::folder::Folder;
use dim::client::say;
use dim::client::source::{Groups, People};
use dim::proto::command::{Change, GroupCommand, Search, Stamp, Storage};
use dim::proto::content::Content;
use dim::proto::id::Id;
use kit::{Bot, PATIENCE, User, account, unstamped, with_bot, with_bot_in, write_bot_settings};
use serde_json::{Value, json};

fn search(keywords: &str) -> Search {
    Search { keywords: keywords.to_owned(), limit: 10, ..Search::default() }
}

const ARCHIVIST: &str = "archivist@anywhere";

/// Asks until so many are found: what users say to everybody reaches the bot in its own time.
fn find(user: &mut User, bot: &Id, question: &Search, count: usize) -> Vec<String> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = user.ask(ARCHIVIST, bot, question);
        assert_eq!(
            (&answer["command"], &answer["station"]),
            (&json!("search"), &json!(bot.as_str()))
        );
        assert_eq!(answer["keywords"], json!(question.keywords));
        let users = answer["users"].as_array().unwrap();
        let users: Vec<_> = users.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        if users.len() == count || Instant::now() > until {
            return users;
        }
    }
}

#[test]
fn users_are_found_who_have_logged_in_and_after_a_restart_of_the_bot() {
    let (station, bot, place) = with_bot("archivist");
    let mut alice = User::login(&station, account("Alice Liddell"));
    let bob = User::login(&station, account("Bob"));
    let alice_id = alice.id.as_str().to_owned();
    assert_eq!(find(&mut alice, &bot.id, &search("LIDDELL alice"), 1), [alice_id.as_str()]);
    assert_eq!(find(&mut alice, &bot.id, &search("bob"), 1), [bob.id.as_str()]);
    let both = find(&mut alice, &bot.id, &search("0x"), 2);
    assert_eq!(find(&mut alice, &bot.id, &Search { start: 1, ..search("0x") }, 1), both[1..]);
    assert_eq!(find(&mut alice, &bot.id, &search("nobody at all"), 0), [""; 0]);
    assert_eq!(find(&mut alice, &bot.id, &search(Search::ONLINE), 2).len(), 2);
    let none = alice.ask(ARCHIVIST, &bot.id, &search(" "));
    assert_eq!(none["text"], "Search command error.");

    let id = bot.id.clone();
    assert!(bot.terminate().success());
    // Asked while the bot is away: answered when it is back.
    let again = Bot::start("archivist", place.path(), station.address.port());
    assert_eq!(again.id, id);
    assert_eq!(find(&mut alice, &id, &search("liddell"), 1), [alice_id]);
}

#[test]
fn whoever_logs_in_while_the_archivist_is_away_is_found_later() {
    let (station, bot, place) = with_bot("archivist");
    let id = bot.id.clone();
    assert!(bot.terminate().success());
    let mut carol = User::login(&station, account("Carol"));
    let again = Bot::start("archivist", place.path(), station.address.port());
    assert_eq!(find(&mut carol, &again.id, &search("carol"), 1), [carol.id.as_str()]);
    assert_eq!(again.id, id);
}

#[test]
fn accounts_of_a_folder_are_found_and_answers_bring_metas_where_that_is_wanted() {
    let (station, bot, place) = with_bot("archivist");
    let mut user = User::login(&station, account("Carol"));
    assert!(find(&mut user, &bot.id, &search("dave"), 0).is_empty());
    let plain = user.ask(ARCHIVIST, &bot.id, &search("carol"));
    assert!(!plain.contains_key("results") && !plain.contains_key("message"), "{plain:?}");
    assert!(bot.terminate().success());

    let (old, dave) = (place.path().join("old"), account("Dave"));
    Folder::below(&old).save(&dave).unwrap();
    // The second time it knows him.
    for flags in [&["--metas", "--import", old.to_str().unwrap()][..], &["--metas"]] {
        let port = station.address.port();
        let bot = Bot::start_with("archivist", place.path(), port, flags);
        assert_eq!(find(&mut user, &bot.id, &search("dave"), 1), [dave.id().as_str()]);
        let old = Search { limit: 20, ..search("dave") };
        let answer = user.ask(ARCHIVIST, &bot.id, &old);
        assert_eq!(answer["results"][dave.id().as_str()], Value::from(dave.meta().to_map()));
        assert_eq!(answer["message"], "1 user(s) found");
        let mut online = user.ask(ARCHIVIST, &bot.id, &search(Search::ONLINE));
        online.retain(|name, _| name == "message" || name == "results");
        assert!(online["message"].as_str().unwrap().ends_with("user(s) connected"));
        assert!(online["results"].is_object());
        assert!(bot.terminate().success());
    }
    let refused = Command::new(env!("CARGO_BIN_EXE_dims"))
        .args(["bot", "assistant", "--metas", "--data-dir"])
        .arg(place.path().join("assistant"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn contacts_are_kept_and_given_back_to_their_owner_only() {
    let (station, bot, place) = with_bot("archivist");
    let carol = account("Carol");
    let mut user = User::login(&station, carol.clone());
    let mut eve = User::login(&station, account("Eve"));
    let storage = |title: &str| Storage { title: title.to_owned(), ..Storage::default() };
    let to = bot.id.as_str().to_owned();
    let question = storage("contacts");
    let upload = Storage { contacts: Some(vec![eve.id.clone()]), ..storage("contacts") };
    assert_eq!(user.ask(&to, &bot.id, &question)["text"], "Contacts not found.");
    assert_eq!(user.ask(&to, &bot.id, &upload)["text"], "Contacts received.");
    assert_eq!(user.ask(&to, &bot.id, &question)["contacts"], json!([eve.id.as_str()]));
    assert_eq!(eve.ask(&to, &bot.id, &question)["text"], "Contacts not found.");
    let mine = Storage { did: Some(carol.id().clone()), ..question.clone() };
    assert_eq!(eve.ask(&to, &bot.id, &mine)["text"], "Contacts not found.");
    assert_eq!(user.ask(&to, &bot.id, &storage("private_key"))["text"], "Command not support.");
    // An older one, as another device may have it.
    let mut old = Content::of(Stamp { sn: 9, time: now_s() - 60.0 }, &upload).to_map();
    old.insert("contacts".into(), json!([]));
    user.client.send(&bot.id, old);
    assert_eq!(user.wait_from(&bot.id)["text"], "Contacts not changed.");

    let id = bot.id.clone();
    assert!(bot.terminate().success());
    let _again = Bot::start("archivist", place.path(), station.address.port());
    assert_eq!(user.ask(&to, &id, &question)["contacts"], json!([eve.id.as_str()]));
}

#[test]
fn two_bots_do_not_share_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let _first = Bot::start("archivist", place.path(), 1);
    let second = Command::new(env!("CARGO_BIN_EXE_dims"))
        .args(["bot", "archivist", "--data-dir"])
        .arg(place.path().join("archivist"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("a bot runs in it"), "{said}");
}

/// The owner knows who is in the group, and tells the station of the group and the bot of its members.
fn introduce(owner: &User, bot: &Id, group: &Account, members: Vec<Id>) {
    owner.client.with(|terminal| {
        let source = terminal.messenger_mut().source_mut();
        source.save_meta(group.meta().clone());
        source.save_document(group.document().unwrap().clone(), now_s());
        source.save_members(group.id(), members.clone());
    });
    let meta = json!({"type": 136, "command": "meta", "did": group.id().as_str(),
        "meta": group.meta().to_map()});
    owner.client.send(&Id::station_any(), meta.as_object().unwrap().clone());
    let bulletin = say::documents(group.id(), group.documents().iter().map(|d| &**d));
    owner.client.send(&Id::station_any(), bulletin);
    let reset =
        GroupCommand { group: group.id().clone(), change: Change::Reset(members), text: None };
    owner.client.send(bot, unstamped(&reset));
}

fn group_with(bot: &Id, founder: &Account) -> Account {
    let mut group = founder.found("people", now_s() - 1.0).unwrap();
    let mut properties = group.document().unwrap().properties().clone();
    properties.insert("assistants".into(), json!([bot.as_str()]));
    group.publish(properties, now_s()).unwrap();
    group
}

#[test]
fn a_group_message_for_a_stranger_outlives_a_kill_of_the_assistant() {
    let (station, mut bot, place) = with_bot("assistant");
    let (alice, bob, carol) = (account("Alice"), account("Bob"), account("Carol"));
    let group = group_with(&bot.id, &alice);
    let members: Vec<_> = [&alice, &bob, &carol].map(|member| member.id().clone()).into();
    let mut at_alice = User::login(&station, alice);
    let mut at_bob = User::login(&station, bob);
    introduce(&at_alice, &bot.id, &group, members);
    // Alice has met Carol elsewhere; nobody else knows her.
    at_alice.client.with(|terminal| {
        let source = terminal.messenger_mut().source_mut();
        source.save_meta(carol.meta().clone());
        source.save_document(carol.document().unwrap().clone(), now_s());
    });
    at_alice.client.send(group.id(), say::text("hello stranger"));
    let said = at_alice.wait_text(&bot.id, "Group message delivering.");
    assert_eq!(said["replacements"], json!({"count": "2", "total": "2"}));
    let alice_id = at_alice.id.clone();
    at_bob.wait_text(&alice_id, "hello stranger");
    bot.child.kill().unwrap();
    bot.child.wait().unwrap();
    let mut at_carol = User::login(&station, carol);
    let _again = Bot::start("assistant", place.path(), station.address.port());
    at_carol.wait_text(&alice_id, "hello stranger");
}

/// What comes out of a group's message at one of its members, and how it got there.
#[test]
fn a_group_message_reaches_members_through_the_assistant_also_absent_ones() {
    let (station, bot, place) = with_bot("assistant");
    let (alice, bob, carol) = (account("Alice"), account("Bob"), account("Carol"));
    let group = group_with(&bot.id, &alice);
    let members: Vec<_> = [&alice, &bob, &carol].map(|member| member.id().clone()).into();

    let mut at_alice = User::login(&station, alice);
    let mut at_bob = User::login(&station, bob);
    // Carol has been here and is away.
    drop(User::login(&station, carol.clone()));
    introduce(&at_alice, &bot.id, &group, members);
    at_alice.client.send(group.id(), say::text("hello group"));
    let said = at_alice.wait_text(&bot.id, "Group message delivering.");
    assert_eq!(said["replacements"], json!({"count": "2", "total": "2"}));
    assert_eq!(said["group"], group.id().as_str());
    let alice_id = at_alice.id.clone();
    at_bob.wait_text(&alice_id, "hello group");
    User::login(&station, carol.clone()).wait_text(&alice_id, "hello group");

    // The members and the keys are still known when the bot has been away.
    assert!(bot.terminate().success());
    at_alice.client.send(group.id(), say::text("hello again"));
    let again = Bot::start("assistant", place.path(), station.address.port());
    at_alice.wait_text(&again.id, "Group message delivering.");
    at_bob.wait_text(&alice_id, "hello again");
    User::login(&station, carol).wait_text(&alice_id, "hello again");
}

/// What the monitor shows, once it shows this line.
fn metrics(at: &str, line: &str) -> String {
    let until = Instant::now() + 2 * PATIENCE;
    loop {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        if answer.lines().any(|said| said == line) || Instant::now() > until {
            return answer;
        }
    }
}

#[test]
fn the_monitor_keeps_what_the_station_counts_and_shows_it() {
    let place = tempfile::tempdir().unwrap();
    let settings = "metrics = \"127.0.0.1:0\"";
    write_bot_settings(place.path(), "monitor", settings);
    let (station, mut bot, place) =
        with_bot_in(place, "monitor", &["--shards", "1", "--set", "policy.monitor_every_ms=1000"]);
    let at = bot.lines.next().unwrap().unwrap();
    let at = at.strip_prefix("metrics  http://").unwrap().strip_suffix("/metrics").unwrap();
    let alice = User::login(&station, account("Alice"));
    let speeds = json!({"type": 204, "app": "chat.dim.monitor", "mod": "speeds", "act": "post",
        "stations": [{"host": "192.0.2.1", "port": 9394, "response_time": 0.5}]});
    let to = Id::parse("monitor@anywhere").unwrap();
    alice.client.send(&to, speeds.as_object().unwrap().clone());
    let line = "dim_response_seconds_sum{station=\"192.0.2.1:9394\"} 0.5";
    assert!(metrics(at, line).contains(line));
    // The bot's own login, and Alice's.
    let shown = metrics(at, "dim_logins_total 2");
    assert!(shown.contains("\ndim_logins_total 2\n"), "{shown}");
    let refused = "\ndim_monitor_refused_total 0\n";
    assert!(shown.contains(refused) && shown.contains("dim_messages_total{"), "{shown}");
    assert!(bot.terminate().success());
    for name in ["users", "stats", "speeds"] {
        let files = std::fs::read_dir(place.path().join("monitor")).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let begins = format!("{name}_log-");
        let log = files
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&begins))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect::<String>();
        assert_eq!(log.contains(alice.id.as_str()), name != "stats", "{name}: {log}");
        assert!(!log.is_empty() && !log.contains("127.0.0.1"), "{name}: {log}");
    }
}
