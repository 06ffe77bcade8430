//! The same talk in every framing that a station reads, with the client's bytes cut at many places,
//! and what each framing asks for besides. Real sockets, the real program.
//!
//! `DIM_CUT_STEP=n` tries every n-th place to cut the first bytes of a connection (default 7 in the
//! middle of a text; 1 tries them all, as it is always done where a header is).
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use std::net::TcpStream;
use std::time::Instant;

use kit::{Client, Form, Letter, PATIENCE, Person, Station, command, frame, handshake_request};
use serde_json::json;

/// Here a message is stored only when its receiver is away or gone, however slow the machine is.
fn station() -> Station {
    Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=60000"])
}

/// Here it is soon, for receivers that do not acknowledge.
fn station_in_a_hurry() -> Station {
    Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=100"])
}

/// Everything two people and a station say to each other; `form` and `piece` are the first one's.
fn talk(station: &Station, form: Form, piece: usize) {
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_bob = station.login(&bob, Form::Mtp);
    let mut at_alice = station.connect(&alice, form);
    at_alice.piece = piece;
    at_alice.login();

    let there = alice.letter(&bob, 300);
    let id = at_alice.send(&there);
    let got = at_bob.wait_letter(&there);
    assert_eq!(got.map["rcpt"], bob.id());
    assert_eq!(got.map["traces"][0]["did"], station.id.as_str());
    let told = at_alice.wait_receipt(&there);
    assert!(told == "Message delivered." || form == Form::MtpSilent, "{form:?}: {told}");
    if form.is_mtp() || form == Form::Mars {
        at_alice.wait_ok(id);
    }
    let back = bob.letter(&alice, 300);
    at_bob.send(&back);
    at_alice.wait_letter(&back);
    let told = at_bob.wait_receipt(&back);
    // Nobody says that it has come: then the store has it.
    assert_eq!(told == "Message cached.", form == Form::MtpSilent, "{form:?}: {told}");

    let from = at_alice.inbox.len();
    at_alice.send(&alice.ask(&command("documents", json!({"did": bob.id(), "ID": bob.id()}))));
    let answer = at_alice.wait_from(from, "a document", |m| m.command("document").is_some());
    let document = &answer.command("document").unwrap()["document"];
    assert_eq!(document["signature"], bob.visa_signature());
    at_alice.ping();
    let gone = at_alice.leave();
    assert_eq!(gone.copies_of(&there) + gone.copies_of(&back), 1, "{form:?}");

    away_and_back(station, (&alice, form, piece), (&bob, &mut at_bob), &back);
}

/// A message for somebody who is away, and what comes again at which login.
fn away_and_back(
    station: &Station,
    (alice, form, piece): (&Person, Form, usize),
    (bob, at_bob): (&Person, &mut Client),
    before: &Letter,
) {
    let kept = bob.letter(alice, 300);
    at_bob.send(&kept);
    assert_eq!(at_bob.wait_receipt(&kept), "Message cached.");
    for login in 0..2 {
        let mut at_alice = station.connect(alice, form);
        at_alice.piece = piece;
        at_alice.login();
        // What is stored comes first, so after this letter nothing older can come.
        let last = bob.letter(alice, 10);
        at_bob.send(&last);
        at_alice.wait_letter(&last);
        let again = form == Form::MtpSilent;
        assert_eq!(at_alice.copies_of(&kept), usize::from(login == 0 || again), "{form:?} {login}");
        assert_eq!(at_alice.copies_of(before), usize::from(again), "{form:?} {login}");
        at_bob.wait_receipt(&last);
        at_alice.leave();
    }
}

#[test]
fn two_people_talk_over_mtp() {
    talk(&station(), Form::Mtp, 0);
    talk(&station_in_a_hurry(), Form::MtpSilent, 0);
}

#[test]
fn two_people_talk_over_a_websocket() {
    let station = station();
    talk(&station, Form::WebSocket, 0);
    talk(&station, Form::WebSocketAck, 0);
}

#[test]
fn two_people_talk_over_mars() {
    talk(&station(), Form::Mars, 0);
}

#[test]
fn a_mars_request_has_one_response_with_the_first_answer_in_it() {
    let station = station();
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_bob = station.login(&bob, Form::Mtp);
    let mut at_alice = station.connect(&alice, Form::Mars);
    // Before the login: the question for it is the response.
    let early = alice.letter(&bob, 20);
    for letter in [&alice.hello(None), &early] {
        let id = at_alice.send(letter);
        at_alice.wait_ok(id);
    }
    let asked = at_alice.inbox.iter().filter(|m| m.command("handshake").is_some()).count();
    assert_eq!(asked, 2);
    at_alice.login();
    at_bob.wait_letter(&early);
    assert_eq!(at_alice.wait_receipt(&early), "Message delivered.");
    // Nothing to say: an empty response.
    let own = command("meta", json!({"did": alice.id(), "ID": alice.id()}));
    let id = at_alice.send(&alice.ask(&own));
    at_alice.wait_ok(id);
    assert_eq!(at_alice.oks.iter().filter(|ok| **ok == id).count(), 1);
}

#[test]
fn two_people_talk_in_json_lines() {
    talk(&station(), Form::Lines, 0);
}

#[test]
fn a_talk_goes_on_in_pieces_of_any_length() {
    let (station, hurried) = (station(), station_in_a_hurry());
    for (form, piece) in [
        (Form::Mtp, 1),
        (Form::Mtp, 17),
        (Form::MtpSilent, 61),
        (Form::WebSocketAck, 1),
        (Form::WebSocketAck, 13),
        (Form::WebSocket, 89),
        (Form::Mars, 1),
        (Form::Mars, 23),
        (Form::Lines, 1),
        (Form::Lines, 100),
    ] {
        talk(if form == Form::MtpSilent { &hurried } else { &station }, form, piece);
    }
}

/// Opens connections whose first bytes come in two parts, cut at each of `places`, and expects
/// on each the answer to the first handshake.
fn cut_first_bytes(station: &Station, form: Form, places: impl Iterator<Item = usize>) {
    let alice = Person::new();
    let hello = alice.hello(None);
    let mut first = if form.is_web() { handshake_request() } else { Vec::new() };
    first.extend(frame(form, *b"a number", &hello.text));
    let mut barrier = station.connect(&alice, Form::Mtp);
    let mut places = places.filter(|at| (1..first.len()).contains(at)).peekable();
    while places.peek().is_some() {
        let begun: Vec<(usize, Client)> = places
            .by_ref()
            .take(100)
            .map(|at| {
                let stream = TcpStream::connect(station.address).unwrap();
                let mut client = Client::bare(stream, &station.id, &alice, form);
                client.write(&first[..at]).unwrap();
                (at, client)
            })
            .collect();
        // The station has had a turn, so it has most likely read the first parts by themselves.
        barrier.ping();
        for (at, mut client) in begun {
            client.write(&first[at..]).unwrap();
            if form.is_web() {
                client.http_answer();
            }
            let answer = client.wait("DIM?", |m| m.command("handshake").is_some());
            assert_eq!(answer.command("handshake").unwrap()["title"], "DIM?", "cut at {at}");
            assert_eq!(client.inbox.len(), 1, "cut at {at}");
        }
    }
}

/// Every place in the first `dense` bytes, and in the rest as many as are asked for.
fn places(dense: usize) -> impl Iterator<Item = usize> {
    let step = kit::setting("DIM_CUT_STEP").map_or(7, |step| usize::try_from(step).unwrap());
    (1..dense).chain((dense..4000).step_by(step.max(1)))
}

#[test]
fn the_first_mtp_package_may_be_cut_anywhere() {
    cut_first_bytes(&station(), Form::Mtp, places(64));
}

#[test]
fn an_upgrade_and_its_first_frame_may_be_cut_anywhere() {
    cut_first_bytes(&station(), Form::WebSocket, places(handshake_request().len() + 32));
}

#[test]
fn the_first_json_line_may_be_cut_anywhere() {
    cut_first_bytes(&station(), Form::Lines, places(16).step_by(5));
}

#[test]
fn a_browser_is_answered_with_these_lines_and_no_extension() {
    let station = station();
    let alice = Person::new();
    let stream = TcpStream::connect(station.address).unwrap();
    let mut client = Client::bare(stream, &station.id, &alice, Form::WebSocket);
    client.write(&handshake_request()).unwrap();
    assert_eq!(
        client.http_answer(),
        "HTTP/1.1 101 Switching Protocol\r\n\
        Server: DIM-Station\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        WebSocket-Protocol: DIMP\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    // A client reads nothing but text frames, so this also says that the answer is one.
    client.login();
}

#[test]
fn a_text_longer_than_a_short_frame_passes_both_ways() {
    let station = station();
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::WebSocketAck);
    let mut at_bob = station.login(&bob, Form::WebSocket);
    for len in [100, 10_000, 100_000, 200] {
        let letter = alice.letter(&bob, len);
        at_alice.send(&letter);
        assert_eq!(
            at_bob.wait_letter(&letter).map["data"].as_str().unwrap().len(),
            len.div_ceil(3) * 4
        );
        assert_eq!(at_alice.wait_receipt(&letter), "Message delivered.");
    }
}

#[test]
fn receipts_of_a_burst_come_in_one_answer_where_clients_read_that() {
    let station = station();
    let bob = Person::new();
    let mut at_bob = station.login(&bob, Form::Mtp);
    for form in Form::ALL {
        let alice = Person::new();
        let mut at_alice = station.login(&alice, form);
        let from = at_alice.inbox.len();
        // More than one answer holds.
        let letters: Vec<_> = (0..100).map(|_| alice.letter(&bob, 50)).collect();
        for letter in &letters {
            at_alice.send(letter);
        }
        for letter in &letters {
            at_bob.wait_letter(letter);
            assert_eq!(at_alice.wait_receipt(letter), "Message delivered.", "{form:?}");
        }
        let answers = &at_alice.inbox[from..];
        let told: usize = answers.iter().map(|answer| answer.contents.len()).sum();
        assert_eq!(told, letters.len(), "{form:?}: each once");
        // On a busy machine it may be no burst.
        let apart = answers.iter().all(|answer| !answer.array);
        assert!(apart || form.is_mtp(), "{form:?}");
        // One that comes alone is told alone.
        let from = at_alice.inbox.len();
        let last = alice.letter(&bob, 50);
        at_alice.send(&last);
        at_bob.wait_letter(&last);
        at_alice.wait_receipt(&last);
        assert!(!at_alice.inbox[from].array, "{form:?}");
    }
}

#[test]
fn two_first_handshakes_are_told_the_same_session_key() {
    let station = station();
    for form in Form::ALL {
        let alice = Person::new();
        let mut client = station.connect(&alice, form);
        // At once, as web clients do.
        client.send(&alice.hello(None));
        client.send(&alice.hello(None));
        let first = client.wait_handshake(0, "DIM?");
        let second = client.wait_handshake(1, "DIM?");
        assert_eq!(first["session"], second["session"], "{form:?}");
        assert_eq!(first["session"].as_str().unwrap().len(), 64);
        client.send(&alice.hello(first["session"].as_str()));
        let done = client.wait_handshake(2, "DIM!");
        assert_eq!(done["session"], first["session"]);
    }
}

#[test]
fn a_handshake_is_told_where_it_came_from() {
    let station = station();
    for form in Form::ALL {
        let mut client = station.connect(&Person::new(), form);
        let here = client.local_address();
        let here = json!([here.ip().to_string(), here.port()]);
        assert_eq!(client.hello()["remote_address"], here, "{form:?}");
        assert_eq!(client.login()["remote_address"], here, "{form:?}");
    }
}

#[test]
fn every_heartbeat_has_its_answer() {
    let station = station();
    for form in Form::ALL {
        let mut client = station.login(&Person::new(), form);
        for _ in 0..3 {
            client.ping();
        }
        assert_eq!(client.words.len(), 3, "{form:?}");
    }
}

#[test]
fn documents_come_alone_over_a_websocket_and_with_the_login_over_mtp() {
    let station = station();
    let bob = Person::new();
    let mut at_bob = station.login(&bob, Form::Mtp);
    let login = json!({
        "did": bob.id(), "ID": bob.id(),
        "station": {"did": station.id, "ID": station.id, "host": "127.0.0.1", "port": 9394},
    });
    let login = bob.ask(&command("login", login));
    at_bob.send(&login);
    assert_eq!(at_bob.wait_receipt(&login), "Login received.");
    for form in Form::ALL {
        let alice = Person::new();
        let mut client = station.login(&alice, form);
        let from = client.inbox.len();
        client.send(&alice.ask(&command("document", json!({"did": bob.id(), "ID": bob.id()}))));
        client.wait_from(from, "a document", |m| m.command("document").is_some());
        // The answer to the next question shows what belonged to this one.
        let nobody = Person::new();
        client.send(&alice.ask(&command("meta", json!({"did": nobody.id(), "ID": nobody.id()}))));
        client.wait_from(from, "no meta", |m| m.contents[0]["text"] == "Meta not found.");
        let answers = &client.inbox[from..client.inbox.len() - 1];
        assert!(answers.iter().all(|m| !m.array && m.contents.len() == 1), "{form:?}");
        let document = &answers[0].contents[0];
        assert_eq!(document["command"], "document", "{form:?}");
        assert_eq!(document["document"]["signature"], bob.visa_signature());
        assert_eq!(document["meta"]["type"], 4);
        if !form.is_mtp() {
            assert_eq!(answers.len(), 1, "{form:?}");
            continue;
        }
        assert_eq!(answers.len(), 2, "{form:?}");
        let passed_on = &answers[1].contents[0]["secrets"];
        assert_eq!(passed_on.as_array().unwrap().len(), 1);
        assert_eq!(passed_on[0]["signature"], login.signature.as_str());
    }
}

/// A letter with another letter's signature.
fn forged(who: &Person, to: &Person) -> Letter {
    let (letter, other) = (who.letter(to, 50), who.letter(to, 50));
    let text = String::from_utf8(letter.text).unwrap();
    let text = text.replace(&letter.signature, &other.signature).into_bytes();
    Letter { text, signature: other.signature }
}

#[test]
fn what_is_not_the_users_own_is_refused_and_goes_nowhere() {
    let station = station();
    for form in Form::ALL {
        let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
        let mut at_bob = station.login(&bob, Form::Mtp);
        // Her account is known, so it is not for want of a key.
        station.login(&carol, Form::Mtp).leave();
        let mut at_alice = station.login(&alice, form);
        for wrong in [carol.letter(&bob, 50), forged(&alice, &bob), forged(&carol, &bob)] {
            at_alice.send(&wrong);
            assert_eq!(at_alice.wait_receipt(&wrong), "Message not accepted.", "{form:?}");
            let good = alice.letter(&bob, 50);
            at_alice.send(&good);
            at_bob.wait_letter(&good);
            assert_eq!(at_bob.copies_of(&wrong), 0, "{form:?}");
        }
        // The connection is what it was: Alice's.
        let from = at_alice.inbox.len();
        let hello = bob.letter(&alice, 50);
        at_bob.send(&hello);
        at_alice.wait_from(from, "a letter", |m| m.signature() == hello.signature);
    }
}

#[test]
fn before_the_login_what_is_not_the_users_own_meets_silence() {
    let station = station();
    for form in Form::ALL {
        let (alice, bob, carol) = (Person::new(), Person::new(), Person::new());
        let mut at_bob = station.login(&bob, Form::Mtp);
        station.login(&carol, Form::Mtp).leave();
        station.login(&alice, Form::Mtp).leave();
        let mut client = station.connect(&alice, form);
        let wrong = [forged(&alice, &bob), forged(&carol, &bob), forged(&alice, &bob)];
        for letter in &wrong {
            client.send(letter);
        }
        client.login();
        let titles: Vec<_> =
            client.inbox.iter().map(|m| m.contents[0]["title"].as_str().unwrap_or("?")).collect();
        assert_eq!(titles, ["DIM?", "DIM!"], "{form:?}");
        let good = alice.letter(&bob, 50);
        client.send(&good);
        at_bob.wait_letter(&good);
        assert!(wrong.iter().all(|letter| at_bob.copies_of(letter) == 0), "{form:?}");
        assert_eq!(client.wait_receipt(&good), "Message delivered.");
        assert_eq!(client.inbox.len(), 3, "{form:?}");
    }
}

#[test]
fn a_message_before_the_login_waits_for_it() {
    let station = station();
    for form in Form::ALL {
        let (alice, bob) = (Person::new(), Person::new());
        let mut at_bob = station.login(&bob, Form::Mtp);
        let mut client = station.connect(&alice, form);
        let early = alice.letter(&bob, 50);
        client.send(&early);
        client.login();
        at_bob.wait_letter(&early);
        assert_eq!(client.wait_receipt(&early), "Message delivered.");
        assert_eq!(at_bob.copies_of(&early), 1, "{form:?}");
    }
}

#[test]
fn several_messages_in_one_package_have_one_ok_after_the_last() {
    let station = station();
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_bob = station.login(&bob, Form::Mtp);
    let mut at_alice = station.login(&alice, Form::Mtp);
    let letters: Vec<Letter> = (0..5).map(|_| alice.letter(&bob, 50)).collect();
    let lines: Vec<&[u8]> = letters.iter().map(|letter| letter.text.as_slice()).collect();
    let package = Letter { signature: String::new(), text: lines.join(&b'\n') };
    let before = at_alice.oks.len();
    let id = at_alice.send(&package);
    for letter in &letters {
        at_bob.wait_letter(letter);
    }
    at_alice.wait_ok(id);
    assert_eq!(at_alice.oks.len(), before + 1);
    for letter in &letters {
        assert_eq!(at_alice.wait_receipt(letter), "Message delivered.");
    }
}

#[test]
fn nonsense_ends_its_own_connection_at_most() {
    let station = station();
    let alice = Person::new();
    let mut at_alice = station.login(&alice, Form::Mtp);
    let plain = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
    for (bytes, ends) in
        [(plain, true), (b"DIM\x99DIMx", false), (b"{\"no\": \"message\"}\n", false)]
    {
        let stream = TcpStream::connect(station.address).unwrap();
        let mut client = Client::bare(stream, &station.id, &alice, Form::Lines);
        client.write(bytes).unwrap();
        if ends {
            let until = Instant::now() + PATIENCE;
            while client.hear(until) == kit::Heard::Something {}
            assert!(Instant::now() < until, "it ends");
        }
        at_alice.ping();
    }
}
