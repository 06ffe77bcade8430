//! `dims bridge`: two stations that do not dial each other, and a bridge beside each or one of them.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the test starts programs and stops at the first surprise"
)]

mod kit;

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kit::{Client, Form, PATIENCE, Person, Station, command};
use serde_json::json;

/// A bridge beside a station, killed when it is dropped.
struct Bridge(Child);

impl Bridge {
    fn start(station: &Station) -> Self {
        let log = std::fs::File::create(station.folder().join("bridge.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_dims"))
            .args(["bridge", "--host", "127.0.0.1", "--log", "debug"])
            .args(["--port", &station.address.port().to_string()])
            .arg("--data-dir")
            .arg(station.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let bridge = Self(child);
        let until = Instant::now() + PATIENCE;
        let path = station.folder().join("bridge.log");
        // At its own station, and at the neighbour.
        while std::fs::read_to_string(&path).unwrap().matches("bridge: logged in").count() < 2 {
            let said = std::fs::read_to_string(&path).unwrap();
            assert!(Instant::now() < until, "no login: {said}\n{}", station.log());
            std::thread::yield_now();
        }
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two stations that know each other, of which the first leaves the dialling to a bridge, and the
/// second dials nobody either.
fn stations() -> Vec<Station> {
    let mut all: Vec<Station> = (0..2)
        .map(|_| {
            let mut station = Station::start(&["--set", "log.level=info,dim::shard=debug"]);
            assert!(station.terminate(PATIENCE).unwrap().success());
            station
        })
        .collect();
    let places: Vec<_> = all.iter().map(|s| (s.id.clone(), s.address.port())).collect();
    for (at, station) in all.iter_mut().enumerate() {
        let (id, port) = &places[1 - at];
        station.write_settings(&format!(
            "[neighbors]\nlinks = false\n\
             list = [{{ id = \"{id}\", host = \"127.0.0.1\", port = {port} }}]\n"
        ));
        station.restart_here();
    }
    all
}

fn arrive(who: &Person, station: &Station) -> Client {
    let mut client = station.login(who, Form::Mtp);
    let place = json!({"did": station.id, "host": "127.0.0.1", "port": station.address.port()});
    let fields = json!({"did": who.id(), "ID": who.id(), "station": place});
    let login = who.say("everyone@everywhere", &command("login", fields));
    for letter in [login, who.publish()] {
        client.send(&letter);
        client.wait_receipt(&letter);
    }
    client
}

#[test]
fn a_bridge_takes_messages_both_ways_once_and_loses_none_when_it_is_killed() {
    let all = stations();
    let (alice, bob) = (Person::new(), Person::new());
    let bridges = (Bridge::start(&all[0]), Bridge::start(&all[1]));
    let mut a = arrive(&alice, &all[0]);
    let mut b = arrive(&bob, &all[1]);
    // Until the login record has come; what was kept before follows it.
    let mut early = Vec::new();
    let until = Instant::now() + PATIENCE;
    for (from, to) in [(&mut a, &bob), (&mut b, &alice)] {
        loop {
            let letter = from.who.letter(to, 100);
            from.send(&letter);
            if from.wait_receipt(&letter) == "Message redirected." {
                break;
            }
            early.extend((to.id() == bob.id()).then_some(letter));
            assert!(Instant::now() < until, "{to} is not known to be there", to = to.id());
        }
    }
    for letter in &early {
        b.wait_letter(letter);
    }
    for _ in 0..2 {
        let (one, two) = (alice.letter(&bob, 300), bob.letter(&alice, 300));
        a.send(&one);
        assert_eq!(a.wait_receipt(&one), "Message redirected.");
        let came = b.wait_letter(&one);
        assert!(came.map.get("neighbor").is_none());
        b.send(&two);
        assert_eq!(b.wait_receipt(&two), "Message redirected.");
        a.wait_letter(&two);
    }
    // kill -9, in the middle of it and for a while.
    let letters: Vec<_> = (0..60).map(|_| alice.letter(&bob, 300)).collect();
    let mut bridges = Some(bridges);
    for (n, letter) in letters.iter().enumerate() {
        if n == 20 {
            bridges = None;
        }
        a.send(letter);
        assert_eq!(a.wait_receipt(letter), "Message redirected.");
    }
    assert!(bridges.is_none());
    let _again = (Bridge::start(&all[0]), Bridge::start(&all[1]));
    for letter in &letters {
        b.wait_letter(letter);
    }
    b.ping();
    assert!(letters.iter().all(|letter| b.copies_of(letter) == 1));
}
