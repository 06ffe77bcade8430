//! A user on several devices, and a receiver who does not keep up: each device gets its own copy of
//! every message, once, in order, whoever else is slow or away. Real sockets, the real program.
//!
//! `DIM_SLOW_MESSAGES=n` sends so many long messages to the slow reader (default 300).
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use kit::{Client, Form, Letter, Person, Station};
use serde_json::json;

/// Here a message is stored only when its receiver is away or behind, however slow the machine is.
fn station() -> Station {
    Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=60000"])
}

/// Sends a letter that nothing older can come after, and waits for it.
fn settle(from: &mut Client, to: &Person, at: &mut Client) {
    let last = from.who.letter(to, 10);
    from.send(&last);
    at.wait_letter(&last);
}

#[test]
fn each_of_two_devices_gets_its_copy_with_its_own_key() {
    let station = station();
    for form in Form::ALL {
        let (alice, bob) = (Person::new(), Person::new());
        let (phone, pad) = (bob.on("phone"), bob.on("pad"));
        let mut at_alice = station.login(&alice, Form::Mtp);
        station.login(&pad, form).leave();
        let mut at_phone = station.login(&phone, form);
        let names = [format!("{}/phone", bob.id()), format!("{}/pad", bob.id())];
        let keys = json!({
            names[0].as_str(): "cGhvbmU=", names[1].as_str(): "cGFk", "digest": "x"
        });
        let letter = alice.letter_with_keys(&bob, keys);
        at_alice.send(&letter);
        let got = at_phone.wait_letter(&letter);
        let own = json!({names[0].as_str(): "cGhvbmU=", "digest": "x"});
        assert_eq!(got.map["keys"], own, "{form:?}");
        assert_eq!(got.map["rcpt"], names[0].as_str(), "{form:?}");
        assert!(!got.map.contains_key("key"), "{form:?}");
        if form != Form::MtpSilent {
            assert_eq!(at_alice.wait_receipt(&letter), "Message delivered.", "{form:?}");
        }

        let mut at_pad = station.login(&pad, form);
        let got = at_pad.wait_letter(&letter);
        let own = json!({names[1].as_str(): "cGFk", "digest": "x"});
        assert_eq!(got.map["keys"], own, "{form:?}");
        assert_eq!(got.map["rcpt"], names[1].as_str(), "{form:?}");
        settle(&mut at_alice, &bob, &mut at_pad);
        settle(&mut at_alice, &bob, &mut at_phone);
        assert_eq!((at_phone.copies_of(&letter), at_pad.copies_of(&letter)), (1, 1), "{form:?}");
        at_pad.leave();
        at_phone.leave();
        for device in [&phone, &pad] {
            let mut again = station.login(device, form);
            settle(&mut at_alice, &bob, &mut again);
            let expected = usize::from(form == Form::MtpSilent);
            assert_eq!(again.copies_of(&letter), expected, "{form:?} {:?}", device.terminal);
        }
    }
}

#[test]
fn two_connections_of_one_device_both_get_what_comes() {
    let station = station();
    for form in Form::ALL {
        let (alice, bob) = (Person::new(), Person::new());
        let mut at_alice = station.login(&alice, Form::Mtp);
        let mut first = station.login(&bob, form);
        let mut second = station.login(&bob, Form::Mtp);
        let letters: Vec<Letter> = (0..5).map(|_| alice.letter(&bob, 200)).collect();
        for letter in &letters {
            at_alice.send(letter);
        }
        for letter in &letters {
            first.wait_letter(letter);
            second.wait_letter(letter);
            assert_eq!(at_alice.wait_receipt(letter), "Message delivered.");
        }
        settle(&mut at_alice, &bob, &mut first);
        settle(&mut at_alice, &bob, &mut second);
        let once = |client: &Client| letters.iter().all(|letter| client.copies_of(letter) == 1);
        assert!(once(&first) && once(&second), "{form:?}");
        first.leave();
        second.leave();
        // Both had it, so nothing is left.
        let mut third = station.login(&bob, Form::Mtp);
        settle(&mut at_alice, &bob, &mut third);
        assert!(letters.iter().all(|letter| third.copies_of(letter) == 0), "{form:?}");
    }
}

/// A receiver with little room in its kernel stops reading; another one is served meanwhile, and in
/// the end the first one has everything in the order in which it was sent.
fn slow_reader(form: Form) {
    let count = kit::setting("DIM_SLOW_MESSAGES").unwrap_or(300);
    let station = Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=100"]);
    let (alice, slow, quick) = (Person::new(), Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_quick = station.login(&quick, Form::Mtp);
    let mut at_slow = Client::connect_narrow(station.address, &station.id, &slow, form);
    at_slow.login();
    let mut letters = Vec::new();
    for n in 0..count {
        let letter = alice.letter(&slow, 20_000);
        at_alice.send(&letter);
        letters.push(letter);
        if n % 10 == 0 {
            let beside = alice.letter(&quick, 100);
            at_alice.send(&beside);
            at_quick.wait_letter(&beside);
            at_alice.wait_receipt(&beside);
        }
    }
    // All of it is safe though nothing is read.
    for letter in &letters {
        at_alice.wait_receipt(letter);
    }
    for letter in &letters {
        at_slow.wait_letter(letter);
    }
    settle(&mut at_alice, &slow, &mut at_slow);
    let order: Vec<&str> = at_slow
        .inbox
        .iter()
        .filter(|message| message.map["sender"] == alice.id())
        .map(|message| message.signature())
        .collect();
    let sent: Vec<&str> = letters.iter().map(|letter| letter.signature.as_str()).collect();
    assert_eq!(order.len(), sent.len() + 1, "{form:?}");
    assert!(order.iter().zip(&sent).all(|(got, sent)| got == sent), "{form:?}: the order");
    at_slow.leave();
    let mut again = station.login(&slow, Form::Mtp);
    settle(&mut at_alice, &slow, &mut again);
    assert!(letters.iter().all(|letter| again.copies_of(letter) == 0), "{form:?}");
}

#[test]
fn who_stops_reading_gets_everything_in_order_over_mtp() {
    slow_reader(Form::Mtp);
}

#[test]
fn who_stops_reading_gets_everything_in_order_over_a_websocket() {
    slow_reader(Form::WebSocketAck);
}

#[test]
fn who_stops_reading_and_never_acknowledges_gets_everything_in_order() {
    slow_reader(Form::WebSocket);
}

#[test]
fn who_stops_reading_gets_everything_in_order_in_json_lines() {
    slow_reader(Form::Lines);
}
