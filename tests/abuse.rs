//! What must not work: the attacks that succeed against the reference (N1 to N8 of its flows), and
//! whoever sends too much, too fast or nonsense. Over real sockets, on two shards; bounds that spare
//! this machine by default are asked not to.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use std::time::Instant;

use kit::{Client, Form, Heard, PATIENCE, Person, Station, command};
use serde_json::{Value, json};

/// Here a message is stored only when its receiver is away, however slow the machine is.
const FLAGS: [&str; 4] = ["--shards", "2", "--set", "mail.acknowledge_ms=60000"];

fn strict(sets: &[&str]) -> Station {
    let mut flags = FLAGS.to_vec();
    for set in [&["limits.spare_loopback=false"], sets].concat() {
        flags.extend(["--set", set]);
    }
    Station::start(&flags)
}

/// What a receipt about a message says, with its reason.
fn told(at: &mut Client, letter: &kit::Letter) -> (String, String) {
    let message = at.wait("a receipt", |m| m.receipt(&letter.signature).is_some());
    let said = message.receipt(&letter.signature).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (word(&said["text"]), word(&said["replacements"]["reason"]))
}

/// The text of the receipt that answers a command.
fn answer(at: &mut Client, content: &Value) -> String {
    let question = at.who.ask(content);
    at.send(&question);
    at.wait_receipt(&question)
}

/// Sends a letter that nothing older can come after, and waits for it.
fn settle(from: &mut Client, at: &mut Client) {
    let last = from.who.letter(&at.who, 10);
    from.send(&last);
    at.wait_letter(&last);
}

/// Waits until the station ends the connection.
fn ended(at: &mut Client) {
    let until = Instant::now() + PATIENCE;
    loop {
        match at.hear(until) {
            Heard::Something => {}
            Heard::End => return,
            Heard::Nothing => panic!("the connection goes on"),
        }
    }
}

#[test]
fn n1_nobody_sends_in_the_name_of_another() {
    let station = Station::start(&FLAGS);
    let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_carol = station.login(&carol, Form::Mtp);
    station.login(&bob, Form::Mtp).leave();
    // Even a message that Bob did sign: it is not Alice's to send.
    for letter in [bob.letter(&carol, 10), alice.letter(&carol, 10).with("sender", bob.id())] {
        at_alice.send(&letter);
        let (text, reason) = told(&mut at_alice, &letter);
        assert_eq!(text, "Message not accepted.");
        assert!(reason.contains(alice.id()), "{reason}");
        settle(&mut at_alice, &mut at_carol);
        assert_eq!(at_carol.copies_of(&letter), 0);
    }
}

#[test]
fn n2_a_message_whose_signature_does_not_match_goes_nowhere() {
    let station = Station::start(&FLAGS);
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_bob = station.login(&bob, Form::Mtp);
    let other = alice.letter(&bob, 10);
    let forged = alice.letter(&bob, 10).with("signature", other.signature.as_str());
    let changed = alice.letter(&bob, 10).with("data", "AAAA");
    for letter in [forged, changed] {
        at_alice.send(&letter);
        let reason = "the signature does not match".to_owned();
        assert_eq!(told(&mut at_alice, &letter), ("Message not accepted.".to_owned(), reason));
        settle(&mut at_alice, &mut at_bob);
        assert_eq!(at_bob.copies_of(&letter), 0);
    }
}

#[test]
fn n3_a_handshake_in_anothers_name_changes_nothing() {
    let station = Station::start(&FLAGS);
    let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_carol = station.login(&carol, Form::Mtp);
    station.login(&bob, Form::Mtp).leave();
    let session = at_alice.session.clone().unwrap();
    let takeover = alice.hello(Some(&session)).with("sender", bob.id());
    at_alice.send(&takeover);
    assert_eq!(at_alice.wait_receipt(&takeover), "Message not accepted.");
    let for_bob = carol.letter(&bob, 10);
    at_carol.send(&for_bob);
    assert_eq!(at_carol.wait_receipt(&for_bob), "Message cached.");
    settle(&mut at_carol, &mut at_alice);
    assert_eq!(at_alice.copies_of(&for_bob), 0);
}

#[test]
fn n4_a_self_made_station_is_trusted_with_nothing() {
    let station = Station::start(&FLAGS);
    let (rogue, alice, bob) = (Person::of(2, "rogue"), Person::new(), Person::new());
    station.login(&bob, Form::Mtp).leave();
    let mut at_rogue = station.login(&rogue, Form::Mtp);
    let there = json!({"did": rogue.id(), "host": "127.0.0.1", "port": 1});
    let login = || command("login", json!({"did": bob.id(), "station": &there}));
    // In Bob's name, with the rogue's signature; and in its own name about Bob.
    let forged = rogue.say("everyone@everywhere", &login()).with("sender", bob.id());
    at_rogue.send(&forged);
    assert_eq!(at_rogue.wait_receipt(&forged), "Message not accepted.");
    assert_eq!(answer(&mut at_rogue, &login()), "Login not accepted.");
    let mut at_alice = station.login(&alice, Form::Mtp);
    let letter = alice.letter(&bob, 10);
    at_alice.send(&letter);
    assert_eq!(at_alice.wait_receipt(&letter), "Message cached.");
    let query = command("documents", json!({"did": bob.id()}));
    at_alice.send(&alice.ask(&query));
    let shown = at_alice.wait("documents", |m| m.command("document").is_some());
    assert!(shown.contents.iter().all(|content| content["type"] != 255), "no login is shown");
    station.login(&bob, Form::Mtp).wait_letter(&letter);
}

#[test]
fn n5_a_meta_with_another_key_is_not_the_ids() {
    let station = Station::start(&FLAGS);
    let (alice, bot) = (Person::new(), Person::of(4, "bot"));
    let mut at_alice = station.login(&alice, Form::Mtp);
    let vectors: Value = serde_json::from_str(include_str!("vectors/data/accounts.json")).unwrap();
    let rsa = &vectors["accounts"]["alice"]["visa_key"];
    let other = Person::new().meta()["key"].clone();
    for key in [rsa, &other].into_iter().filter(|key| key.is_object()) {
        let mut meta = bot.meta();
        meta["key"] = key.clone();
        let upload = command("meta", json!({"did": bot.id(), "meta": meta}));
        assert_eq!(answer(&mut at_alice, &upload), "Meta not valid.");
    }
    let upload = command("meta", json!({"did": bot.id(), "meta": bot.meta()}));
    assert_eq!(answer(&mut at_alice, &upload), "Meta received.");
}

#[test]
fn n6_a_client_cannot_say_where_a_message_goes_or_came_from() {
    let station = Station::start(&FLAGS);
    let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_bob = station.login(&bob, Form::Mtp);
    let mut at_carol = station.login(&carol, Form::Mtp);
    let letter = alice
        .letter(&bob, 10)
        .with("rcpt", carol.id())
        .with("from", carol.id())
        .with("neighbor", carol.id())
        .with("recipients", json!([station.id]))
        .with("traces", json!([station.id]));
    at_alice.send(&letter);
    let got = at_bob.wait_letter(&letter);
    assert_eq!((&got.map["rcpt"], &got.map["from"]), (&json!(bob.id()), &json!("/")));
    assert_eq!(got.map["traces"].as_array().map(Vec::len), Some(1));
    assert!(!got.map.contains_key("neighbor") && !got.map.contains_key("recipients"));
    settle(&mut at_alice, &mut at_carol);
    assert_eq!(at_carol.copies_of(&letter), 0);
}

#[test]
fn n7_accounts_of_strangers_are_taken_after_the_login_and_not_without_end() {
    let station = strict(&["limits.uploads_per_hour_max=3"]);
    let alice = Person::new();
    let upload = |who: &Person| command("meta", json!({"did": who.id(), "meta": who.meta()}));
    let mut at_alice = station.connect(&alice, Form::Mtp);
    at_alice.hello();
    let reason = "log in first, or bring fewer of others";
    let question = alice.ask(&upload(&Person::new()));
    at_alice.send(&question);
    assert_eq!(told(&mut at_alice, &question).1, reason);
    assert_eq!(answer(&mut at_alice, &upload(&alice)), "Meta received.");
    let own = json!({"did": alice.id(), "documents": [alice.visa()]});
    assert_eq!(answer(&mut at_alice, &command("documents", own.clone())), "Document received.");
    at_alice.login();
    for _ in 0..3 {
        assert_eq!(answer(&mut at_alice, &upload(&Person::new())), "Meta received.");
    }
    let question = alice.ask(&upload(&Person::new()));
    at_alice.send(&question);
    assert_eq!(told(&mut at_alice, &question).1, reason);
    assert_eq!(answer(&mut at_alice, &command("documents", own)), "Document received.");
}

#[test]
fn n8_the_senders_clock_decides_neither_order_nor_age() {
    let station = Station::start(&FLAGS);
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let year = 365.0 * 86_400.0;
    let letters = [year, -year, 0.0].map(|ahead| {
        let letter = alice.letter(&bob, 10);
        let map: Value = serde_json::from_slice(&letter.text).unwrap();
        letter.with("time", map["time"].as_f64().unwrap() + ahead)
    });
    for letter in &letters {
        at_alice.send(letter);
        assert_eq!(at_alice.wait_receipt(letter), "Message cached.");
    }
    let mut at_bob = station.login(&bob, Form::Mtp);
    at_bob.wait_letter(&letters[2]);
    let came = at_bob.inbox.iter().filter(|m| m.map["sender"] == alice.id());
    let came: Vec<&str> = came.map(|message| message.signature()).collect();
    assert_eq!(came, letters.each_ref().map(|letter| letter.signature.as_str()));
}

#[test]
fn who_goes_too_fast_is_read_more_slowly_and_nothing_is_lost() {
    let station = strict(&["limits.messages_per_second_max=40"]);
    let (alice, bob) = (Person::new(), Person::new());
    for form in [Form::Mtp, Form::WebSocketAck] {
        let mut at_alice = station.login(&alice, form);
        let letters: Vec<_> = (0..460).map(|_| alice.letter(&bob, 10)).collect();
        for letter in &letters {
            at_alice.send(letter);
        }
        for letter in &letters {
            assert_eq!(at_alice.wait_receipt(letter), "Message cached.");
        }
        at_alice.ping();
        let mut at_bob = station.login(&bob, Form::Mtp);
        for letter in &letters {
            at_bob.wait_letter(letter);
            assert_eq!(at_bob.copies_of(letter), 1);
        }
    }
}

#[test]
fn who_sends_nonsense_without_end_is_let_go() {
    let station = strict(&["limits.refusals_per_minute_max=5"]);
    let (alice, bob) = (Person::new(), Person::new());
    let nonsense: [&dyn Fn() -> kit::Letter; 3] =
        [&|| alice.letter(&bob, 10).with("data", "AAAA"), &|| bob.letter(&alice, 10), &|| {
            kit::Letter { signature: String::new(), text: b"{\"no\": \"message\"}".to_vec() }
        }];
    for make in nonsense {
        let mut at_alice = station.login(&alice, Form::Mtp);
        for _ in 0..10 {
            if at_alice.try_send(&make()).is_none() {
                break;
            }
        }
        ended(&mut at_alice);
        let goodbye = at_alice.inbox.iter().filter_map(|m| m.command("receipt"));
        let goodbye = goodbye.filter(|said| said["text"] == "Connection closed.").count();
        assert_eq!(goodbye, 1, "it is told why");
    }
    station.login(&alice, Form::Mtp).ping();
}

#[test]
fn who_connects_too_often_is_not_let_in() {
    let station = strict(&["limits.connections_per_minute_max=3"]);
    let alice = Person::new();
    let mut inside: Vec<Client> = (0..3).map(|_| station.login(&alice, Form::Mtp)).collect();
    let mut outside = station.connect(&alice, Form::Mtp);
    ended(&mut outside);
    inside.iter_mut().for_each(Client::ping);
}

#[test]
fn a_browser_is_told_why_its_connection_ends() {
    let mut station = strict(&["limits.login_ms_max=1000"]);
    let alice = Person::new();
    let mut logged_in = station.login(&alice, Form::WebSocket);
    let mut silent = station.connect(&alice, Form::WebSocket);
    let (status, reason) = silent.wait_close();
    assert_eq!((status, reason.as_str()), (1008, "no login"));
    logged_in.ping();
    assert!(station.terminate(PATIENCE).expect("it ends").success());
    assert_eq!(logged_in.wait_close(), (1001, "stopping".to_owned()));
}

#[test]
fn who_does_not_log_in_cannot_go_on_asking() {
    let station = strict(&["limits.messages_before_login_max=10"]);
    let alice = Person::new();
    let mut at_alice = station.connect(&alice, Form::Mtp);
    at_alice.hello();
    let query = command("ans", json!({"names": "x"}));
    for _ in 0..12 {
        if at_alice.try_send(&alice.ask(&query)).is_none() {
            break;
        }
    }
    ended(&mut at_alice);
    station.login(&alice, Form::Mtp).ping();
}
