//! Stations that are neighbours: real programs, with users at each.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts programs, writes their settings and stops at the first surprise"
)]

mod kit;

use kit::{Client, Form, Heard, PATIENCE, Person, Station, command};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Instant;

/// Stations with identities and ports, and their settings still to be written.
fn stations(count: usize) -> Vec<Station> {
    let start = |_| {
        let mut station = Station::start(&["--set", "log.level=debug"]);
        assert!(station.terminate(PATIENCE).unwrap().success());
        station
    };
    (0..count).map(start).collect()
}

fn listed(station: &Station) -> String {
    let (id, port) = (&station.id, station.address.port());
    format!("{{ id = \"{id}\", host = \"127.0.0.1\", port = {port} }}")
}

fn settings(neighbors: &[String]) -> String {
    format!("[neighbors]\nlist = [{}]\n", neighbors.join(", "))
}

/// So many stations that all know each other, running.
fn federation(count: usize) -> Vec<Station> {
    let mut all = stations(count);
    let places: Vec<String> = all.iter().map(listed).collect();
    for (at, station) in all.iter_mut().enumerate() {
        let others = places.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<String> = others.map(|(_, place)| place.clone()).collect();
        station.write_settings(&settings(&others));
        station.restart_here();
    }
    for station in &all {
        wait_log(station, "neighbour reached", count - 1);
    }
    all
}

/// Waits until a station has said something so often.
fn wait_log(station: &Station, words: &str, times: usize) {
    let until = Instant::now() + PATIENCE;
    while station.log().matches(words).count() < times {
        assert!(Instant::now() < until, "never said {times} times: {words}\n{}", station.log());
        std::thread::yield_now();
    }
}

/// Says where a user is, which the neighbours hear too.
fn announce(client: &mut Client, station: &Station) {
    let did = client.who.id().to_owned();
    let place = json!({"did": station.id, "host": "127.0.0.1", "port": station.address.port()});
    let login = command("login", json!({"did": did, "ID": did, "station": place}));
    let letter = client.who.say("everyone@everywhere", &login);
    client.send(&letter);
    assert_eq!(client.wait_receipt(&letter), "Login received.");
    let letter = client.who.publish();
    client.send(&letter);
    assert_eq!(client.wait_receipt(&letter), "Document received.");
}

/// Logs in and lets everybody know.
fn arrive(who: &Person, station: &Station) -> Client {
    let mut client = station.login(who, Form::Mtp);
    announce(&mut client, station);
    client
}

/// The receipt about a letter, whole.
fn receipt(client: &mut Client, letter: &kit::Letter) -> Value {
    let message = client.wait("a receipt", |m| m.receipt(&letter.signature).is_some());
    message.receipt(&letter.signature).unwrap().clone()
}

/// Whatever came until the station has answered a question asked now.
fn catch_up(client: &mut Client) {
    client.ping();
}

#[test]
fn users_of_two_stations_write_to_each_other() {
    let all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    let mut b = arrive(&bob, &all[1]);
    for (from, to, other) in [(0, 1, &all[1].id), (1, 0, &all[0].id)] {
        let (sender, receiver) = if from == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let letter = sender.who.letter(&receiver.who, 300);
        sender.send(&letter);
        let said = receipt(sender, &letter);
        assert_eq!(said["text"], "Message redirected.", "{from} to {to}");
        assert_eq!(said["neighbor"], other.as_str());
        let came = receiver.wait_letter(&letter);
        assert_eq!(came.map["rcpt"], receiver.who.id());
        let traces = came.map["traces"].as_array().unwrap();
        let passed: Vec<&str> = traces.iter().map(|t| t["did"].as_str().unwrap()).collect();
        assert_eq!(passed, [&all[from].id, &all[to].id]);
        catch_up(receiver);
        assert_eq!(receiver.copies_of(&letter), 1);
    }
}

#[test]
fn mail_for_who_is_away_waits_at_the_station_of_the_last_login() {
    let all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    arrive(&bob, &all[1]).leave();
    let letter = alice.letter(&bob, 300);
    a.send(&letter);
    assert_eq!(a.wait_receipt(&letter), "Message redirected.");
    let mut b = all[1].login(&bob, Form::Mtp);
    b.wait_letter(&letter);
}

#[test]
fn mail_follows_a_user_to_another_station() {
    let all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    arrive(&bob, &all[0]).leave();
    let letters: Vec<_> = (0..100).map(|_| alice.letter(&bob, 300)).collect();
    for letter in &letters {
        a.send(letter);
        assert_eq!(a.wait_receipt(letter), "Message cached.");
    }
    let mut b = arrive(&bob, &all[1]);
    for letter in &letters {
        b.wait_letter(letter);
    }
    // Nothing is left behind, and later mail goes the same way.
    let later = alice.letter(&bob, 300);
    a.send(&later);
    assert_eq!(a.wait_receipt(&later), "Message redirected.");
    b.wait_letter(&later);
    b.leave();
    // Home again, and nothing comes twice.
    let mut b = arrive(&bob, &all[0]);
    let last = alice.letter(&bob, 300);
    a.send(&last);
    b.wait_letter(&last);
    assert_eq!(a.wait_receipt(&last), "Message delivered.");
    catch_up(&mut b);
    assert!(letters.iter().all(|letter| b.copies_of(letter) == 0));
}

#[test]
fn a_document_that_is_published_is_known_at_both_stations() {
    let all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    let _b = arrive(&bob, &all[1]);
    // Bob's broadcast came to the other station without his account, which was asked for then.
    let until = Instant::now() + PATIENCE;
    loop {
        let from = a.inbox.len();
        a.send(&alice.ask(&command("documents", json!({"did": bob.id()}))));
        let answer = a.wait_from(from, "an answer", |m| !m.contents.is_empty());
        if answer.command("document").is_some() || answer.command("documents").is_some() {
            break;
        }
        assert!(Instant::now() < until, "not known: {answer:?}");
    }
}

#[test]
fn an_account_that_is_not_known_is_fetched_from_the_neighbours() {
    let all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    // Only introduced in the handshake, never published.
    let _b = all[1].login(&bob, Form::Mtp);
    let mut a = all[0].login(&alice, Form::Mtp);
    let until = Instant::now() + PATIENCE;
    let mut first = true;
    loop {
        let from = a.inbox.len();
        a.send(&alice.ask(&command("meta", json!({"did": bob.id()}))));
        let answer = a.wait_from(from, "an answer", |m| !m.contents.is_empty());
        if let Some(said) = answer.command("meta") {
            assert_eq!(said["meta"]["key"], bob.meta()["key"]);
            break;
        }
        assert_eq!(answer.command("receipt").unwrap()["text"], "Meta not found.");
        assert!(first || Instant::now() < until, "not fetched");
        first = false;
    }
}

#[test]
fn in_a_ring_of_three_everything_comes_once() {
    let all = federation(3);
    let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    let mut b = arrive(&bob, &all[1]);
    let mut c = arrive(&carol, &all[2]);
    let letters: Vec<_> =
        (0..20).map(|_| (alice.letter(&bob, 200), alice.letter(&carol, 200))).collect();
    for (to_bob, to_carol) in &letters {
        a.send(to_bob);
        a.send(to_carol);
        assert_eq!(a.wait_receipt(to_bob), "Message redirected.");
        assert_eq!(a.wait_receipt(to_carol), "Message redirected.");
    }
    for (to_bob, to_carol) in &letters {
        b.wait_letter(to_bob);
        c.wait_letter(to_carol);
    }
    // The way back, and around: when this is there, so is whatever followed the broadcasts.
    let (one, two) = (bob.letter(&carol, 200), carol.letter(&alice, 200));
    b.send(&one);
    c.wait_letter(&one);
    c.send(&two);
    a.wait_letter(&two);
    catch_up(&mut b);
    catch_up(&mut c);
    for (to_bob, to_carol) in &letters {
        assert_eq!((b.copies_of(to_bob), c.copies_of(to_carol)), (1, 1));
    }
    let mut looped = 0;
    for mut station in all {
        assert!(station.terminate(PATIENCE).unwrap().success());
        looped += station.log().matches("looped ").count();
    }
    assert_eq!(looped, 0, "no broadcast came round");
}

#[test]
fn mail_for_a_neighbour_that_was_killed_arrives_once_when_it_is_back() {
    let mut all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    drop(arrive(&bob, &all[1]));
    all[1].kill();
    let letters: Vec<_> = (0..50).map(|_| alice.letter(&bob, 300)).collect();
    for letter in &letters {
        a.send(letter);
        let said = receipt(&mut a, letter);
        assert_eq!(said["text"], "Message redirected.");
    }
    // Also the one that holds it may end in between.
    all[0].kill();
    all[0].restart_here();
    all[1].restart_here();
    let mut b = all[1].login(&bob, Form::Mtp);
    for letter in &letters {
        b.wait_letter(letter);
    }
    catch_up(&mut b);
    assert!(letters.iter().all(|letter| b.copies_of(letter) == 1));
}

#[test]
fn a_station_that_nobody_listed_is_no_neighbour() {
    let all = federation(2);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    let mut b = arrive(&bob, &all[1]);
    let rogue = Person::of(2, "rogue");
    let mut r = all[0].login(&rogue, Form::Mtp);
    // In another's name: the login record that would send Bob's mail to the rogue.
    let place = json!({"did": rogue.id(), "host": "127.0.0.1", "port": 1});
    let login = command("login", json!({"did": bob.id(), "ID": bob.id(), "station": place}));
    let forged = bob.say("everyone@everywhere", &login);
    r.send(&forged);
    assert_eq!(receipt(&mut r, &forged)["text"], "Message not accepted.");
    // Nor may it bring a message that is genuine.
    let genuine = bob.letter(&alice, 200);
    r.send(&genuine);
    assert_eq!(receipt(&mut r, &genuine)["text"], "Message not accepted.");
    // Nor is anything sent to it.
    let to_rogue = alice.letter(&rogue, 200);
    a.send(&to_rogue);
    let said = receipt(&mut a, &to_rogue);
    assert_eq!(said["text"], "Message not accepted.");
    let letter = alice.letter(&bob, 200);
    a.send(&letter);
    assert_eq!(a.wait_receipt(&letter), "Message redirected.");
    b.wait_letter(&letter);
    catch_up(&mut r);
    assert_eq!((r.copies_of(&letter), a.copies_of(&genuine)), (0, 0));
}

#[test]
fn a_neighbour_cannot_forge_what_it_brings() {
    let mut all = stations(1);
    let (alice, bob) = (Person::new(), Person::new());
    let neighbor = Person::of(2, "neighbor");
    let place = format!("{{ id = \"{}\", host = \"127.0.0.1\", port = 1 }}", neighbor.id());
    all[0].write_settings(&settings(&[place]));
    all[0].restart_here();
    wait_log(&all[0], "other stations", 1);
    let mut a = all[0].login(&alice, Form::Mtp);
    drop(all[0].login(&bob, Form::Mtp));
    let mut n = all[0].login(&neighbor, Form::Mtp);
    let (good, other) = (bob.letter(&alice, 200), bob.letter(&alice, 200));
    let value: Value = serde_json::from_slice(&other.text).unwrap();
    let forged = good.with("data", value["data"].clone());
    let id = n.send(&forged);
    n.wait_ok(id);
    let traced = good.with("traces", json!([{"did": neighbor.id(), "time": 1.0}]));
    let id = n.send(&traced);
    n.wait_ok(id);
    let came = a.wait_letter(&good);
    assert_eq!(came.map["data"], serde_json::from_slice::<Value>(&good.text).unwrap()["data"]);
    assert_eq!(came.map["traces"].as_array().unwrap().len(), 2);
    assert_eq!(a.copies_of(&good), 1);
    // A broadcast that was here before is not taken again, and acknowledged.
    let looped = bob.publish().with("traces", json!([{"did": all[0].id}]));
    let id = n.send(&looped);
    n.wait_ok(id);
    assert!(n.inbox.iter().all(|m| m.command("receipt").is_none()), "no receipts to stations");
}

#[test]
fn a_message_of_an_unknown_sender_waits_for_the_account() {
    let mut all = stations(1);
    let (alice, stranger) = (Person::new(), Person::new());
    let neighbor = Person::of(2, "neighbor");
    let place = format!("{{ id = \"{}\", host = \"127.0.0.1\", port = 1 }}", neighbor.id());
    all[0].write_settings(&settings(&[place]));
    all[0].restart_here();
    wait_log(&all[0], "other stations", 1);
    let mut a = all[0].login(&alice, Form::Mtp);
    let mut n = all[0].login(&neighbor, Form::Mtp);
    let letter = stranger.letter(&alice, 200);
    let id = n.send(&letter);
    let asked = n.wait("a question", |m| {
        m.map["data"].as_str().is_some_and(|data| data.contains("\"document\""))
    });
    let data: Value = serde_json::from_str(asked.map["data"].as_str().unwrap()).unwrap();
    assert_eq!((&data["did"], &asked.map["sender"]), (&json!(stranger.id()), &json!(all[0].id)));
    assert!(!n.oks.contains(&id), "not acknowledged before it is proven");
    let fields = json!({
        "did": stranger.id(), "meta": stranger.meta(), "documents": [stranger.visa()],
    });
    n.send(&neighbor.ask(&command("documents", fields)));
    n.wait_ok(id);
    a.wait_letter(&letter);
}

#[test]
fn a_station_that_is_listed_later_is_used_at_once() {
    let mut all = stations(2);
    let list = all[0].folder().join("stations.json");
    std::fs::write(&list, "[]").unwrap();
    all[0].write_settings(&format!("[neighbors]\noutput = \"{}\"\n", list.display()));
    for station in &mut all {
        station.restart_here();
    }
    // The file says where, and the station there says who it is. The other one has to list it too.
    let place = json!({"stations": [
        {"host": "127.0.0.1", "port": all[1].address.port()},
        {"host": "127.0.0.1", "port": all[0].address.port(), "ID": all[0].id},
    ]});
    std::fs::write(&list, place.to_string()).unwrap();
    all[1].write_settings(&settings(&[listed(&all[0])]));
    all[0].signal(Signal::HUP);
    all[1].signal(Signal::HUP);
    wait_log(&all[0], "neighbour reached", 1);
    wait_log(&all[1], "neighbour reached", 1);
    let (alice, bob) = (Person::new(), Person::new());
    let mut a = arrive(&alice, &all[0]);
    let mut b = arrive(&bob, &all[1]);
    let letter = alice.letter(&bob, 200);
    a.send(&letter);
    assert_eq!(a.wait_receipt(&letter), "Message redirected.");
    b.wait_letter(&letter);
    // And taken off the list, it is nobody special any more.
    std::fs::write(&list, "[]").unwrap();
    all[0].signal(Signal::HUP);
    for shard in 0..2 {
        wait_log(&all[0], &format!("taken over shard={shard} neighbors=0"), 1);
    }
    let letter = alice.letter(&bob, 200);
    a.send(&letter);
    assert_eq!(a.wait_receipt(&letter), "Message cached.");
    assert_ne!(b.hear(Instant::now()), Heard::End);
}
