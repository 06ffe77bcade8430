//! What users leave with a station and ask of it, over real sockets, on two shards.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use kit::{Client, Form, Person, Station, command};
use serde_json::{Value, json};

/// Here a message is stored only when its receiver is away, however slow the machine is.
const FLAGS: [&str; 4] = ["--shards", "2", "--set", "mail.acknowledge_ms=60000"];

/// Asks the station something, and the first content of its answer that fits.
fn answer(at: &mut Client, content: &Value, fits: impl Fn(&Value) -> bool) -> Value {
    let from = at.inbox.len();
    let question = at.who.ask(content);
    at.send(&question);
    let came = at.wait_from(from, "an answer", |message| message.contents.iter().any(&fits));
    came.contents.into_iter().find(fits).unwrap()
}

/// The same for a receipt's text.
fn receipt(at: &mut Client, content: &Value) -> String {
    let said = answer(at, content, |content| content["command"] == "receipt");
    said["text"].as_str().unwrap().to_owned()
}

fn list(name: &str, entries: &[&str], time: f64) -> Value {
    let mut content = command(name, json!({"list": entries}));
    content["time"] = time.into();
    content
}

#[test]
fn a_block_list_is_kept_shown_and_honoured() {
    let mut station = Station::start(&FLAGS);
    let (alice, bob, group) = (Person::new(), Person::new(), Person::of(1, "Group-1"));
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_bob = station.login(&bob, Form::Mtp);
    let query = command("block", json!({}));
    let is_list = |content: &Value| content["command"] == "block";
    assert_eq!(answer(&mut at_bob, &query, is_list)["list"], json!([]));
    assert_eq!(receipt(&mut at_bob, &list("block", &[alice.id()], 2000.0)), "Block received.");
    assert_eq!(receipt(&mut at_bob, &list("block", &[], 1999.0)), "Block not changed.");
    assert_eq!(receipt(&mut at_bob, &list("block", &[], 9e9)), "Block not changed.");
    assert_eq!(answer(&mut at_bob, &query, is_list)["list"], json!([alice.id()]));

    let unwanted = alice.letter(&bob, 10);
    at_alice.send(&unwanted);
    assert_eq!(at_alice.wait_receipt(&unwanted), "Message is blocked by \"somebody\"");
    // A group's mail is told by the group, whoever of it speaks.
    let grouped = alice.letter(&bob, 10).with("group", group.id());
    at_alice.send(&grouped);
    at_bob.wait_letter(&grouped);
    assert_eq!(at_alice.wait_receipt(&grouped), "Message delivered.");
    assert_eq!(receipt(&mut at_bob, &list("block", &[group.id()], 2001.0)), "Block received.");
    let grouped = alice.letter(&bob, 10).with("group", group.id());
    at_alice.send(&grouped);
    let told = format!("Message is blocked by \"somebody\" in group \"{}\"", group.id());
    assert_eq!(at_alice.wait_receipt(&grouped), told);
    let wanted = alice.letter(&bob, 10);
    at_alice.send(&wanted);
    at_bob.wait_letter(&wanted);
    assert_eq!((at_bob.copies_of(&unwanted), at_bob.copies_of(&grouped)), (0, 0));

    station.kill();
    station.restart();
    let mut at_bob = station.login(&bob, Form::WebSocket);
    assert_eq!(answer(&mut at_bob, &query, is_list)["list"], json!([group.id()]));
}

#[test]
fn a_mute_list_is_kept_and_shown_and_its_mail_comes() {
    let station = Station::start(&FLAGS);
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut at_bob = station.login(&bob, Form::Mtp);
    assert_eq!(receipt(&mut at_bob, &list("mute", &[alice.id()], 2000.0)), "Mute received.");
    let query = command("mute", json!({}));
    let shown = answer(&mut at_bob, &query, |content| content["command"] == "mute");
    assert_eq!(shown["list"], json!([alice.id()]));
    let letter = alice.letter(&bob, 10);
    at_alice.send(&letter);
    at_bob.wait_letter(&letter);
}

#[test]
fn before_the_login_a_list_is_neither_kept_nor_shown() {
    let station = Station::start(&FLAGS);
    let bob = Person::new();
    let mut at_bob = station.connect(&bob, Form::Mtp);
    at_bob.hello();
    for content in [list("block", &[bob.id()], 2000.0), command("block", json!({}))] {
        let said = answer(&mut at_bob, &content, |content| content["command"] != "receipt");
        assert_eq!((&said["command"], &said["title"]), (&json!("handshake"), &json!("DIM?")));
    }
}

#[test]
fn administrators_are_told_who_is_here_and_nobody_else() {
    let (admin, others) = (Person::new(), [(); 6].map(|()| Person::new()));
    let admins = format!("policy.admins=[\"{}\"]", admin.id());
    let station = Station::start(&[&FLAGS[..], &["--set", &admins]].concat());
    let mut at_admin = station.login(&admin, Form::Mtp);
    let mut here: Vec<Client> = others.iter().map(|who| station.login(who, Form::Mtp)).collect();
    let text = |words: &str| json!({"type": 1, "sn": 7, "text": words});
    let is_text = |content: &Value| content["type"] == 1;
    let all = answer(&mut at_admin, &text("All users"), is_text);
    assert_eq!(all["format"], "markdown");
    let all = all["text"].as_str().unwrap().to_owned();
    assert!(all.starts_with("7 users\n"), "{all}");
    assert!(others.iter().all(|who| all.contains(who.id())), "{all}");

    let away = command("report", json!({"title": "offline"}));
    let first = &mut here[0];
    first.send(&others[0].ask(&away));
    first.ping();
    let active = answer(&mut at_admin, &text("active users"), is_text)["text"].to_string();
    assert!(active.contains("6 active users.") && !active.contains(others[0].id()), "{active}");
    let places: Vec<String> = here.iter().map(|at| at.local_address().to_string()).collect();
    assert!(active.contains(&places[1]), "{active}");
    let handlers = answer(&mut at_admin, &text("request handlers"), is_text)["text"].to_string();
    assert!(places.iter().all(|place| handlers.contains(place)), "{handlers}");

    let second = &mut here[1];
    assert_eq!(receipt(second, &text("active users")), "Content not support.");
    assert_eq!(receipt(&mut at_admin, &text("how are you?")), "Content not support.");
}

#[test]
fn the_document_command_of_2019_is_answered_in_its_own_form() {
    let station = Station::start(&FLAGS);
    let (alice, bob) = (Person::new(), Person::new());
    station.login(&bob, Form::Mtp).leave();
    let mut at_alice = station.login(&alice, Form::Lines);
    let query = json!({"type": 136, "sn": 3, "command": "profile", "ID": bob.id()});
    let said = answer(&mut at_alice, &query, |content| content["command"] == "profile");
    assert_eq!(said["profile"], bob.visa()["data"]);
    assert_eq!(said["signature"], bob.visa()["signature"]);
    assert_eq!((&said["ID"], &said["meta"]["key"]), (&json!(bob.id()), &bob.meta()["key"]));
    for (state, title) in [("background", "offline"), ("foreground", "online")] {
        let report = json!({
            "type": 136, "sn": 4, "command": "broadcast", "title": "report", "state": state
        });
        at_alice.send(&alice.ask(&report));
        if title == "online" {
            at_alice.wait("a receipt", |m| {
                m.command("receipt").is_some_and(|said| said["text"] == "Online received.")
            });
        }
    }
}

#[test]
fn a_group_message_goes_to_the_assistant_where_there_is_one() {
    let (alice, bot, group) = (Person::new(), Person::of(4, "assistant"), Person::of(1, "Group-1"));
    let keys = json!({alice.id(): "YQ==", "digest": "x"});
    for known in [true, false] {
        let ans = format!("assistant={}", bot.id());
        let flags = if known { vec!["--ans", &ans] } else { Vec::new() };
        let station = Station::start(&[&FLAGS[..], &flags].concat());
        let mut at_alice = station.login(&alice, Form::Mtp);
        let letter = alice.letter_with_keys(&group, keys.clone());
        at_alice.send(&letter);
        let told = at_alice.wait_receipt(&letter);
        if !known {
            assert_eq!(told, "Group message not allow for this station");
            continue;
        }
        assert_eq!(told, "Message cached.");
        let mut at_bot = station.login(&bot, Form::Mtp);
        let got = at_bot.wait_letter(&letter);
        assert_eq!(
            (&got.map["receiver"], &got.map["rcpt"]),
            (&json!(group.id()), &json!(bot.id()))
        );
        assert_eq!(got.map["keys"], keys);
    }
}

#[test]
fn mail_for_a_bots_short_name_waits_for_the_bot() {
    let (alice, bot) = (Person::new(), Person::of(4, "archivist"));
    let ans = format!("archivist={}", bot.id());
    let station = Station::start(&[&FLAGS[..], &["--ans", &ans]].concat());
    let mut at_alice = station.login(&alice, Form::Mtp);
    let search = alice.say("archivist@anywhere", &command("search", json!({"keywords": "x"})));
    at_alice.send(&search);
    assert_eq!(at_alice.wait_receipt(&search), "Message cached.");
    let got = station.login(&bot, Form::Mtp).wait_letter(&search);
    assert_eq!(got.map["receiver"], "archivist@anywhere");
    let query = command("ans", json!({"names": "archivist nobody"}));
    let said = answer(&mut at_alice, &query, |content| content["command"] == "ans");
    assert_eq!(said["records"], json!({"archivist": bot.id()}));
    assert_eq!(said["missed"], json!(["nobody"]));
}

#[test]
fn a_login_cannot_be_dated_back_or_ahead() {
    let station = Station::start(&FLAGS);
    let alice = Person::new();
    let mut at_alice = station.login(&alice, Form::Mtp);
    let mut login = |ahead_s: f64| {
        let here = json!({"did": station.id, "host": "127.0.0.1", "port": 9394});
        let mut content = command("login", json!({"did": alice.id(), "station": here}));
        content["time"] = (content["time"].as_f64().unwrap() + ahead_s).into();
        receipt(&mut at_alice, &content)
    };
    assert_eq!(login(0.0), "Login received.");
    assert_eq!(login(-60.0), "Login not changed.");
    assert_eq!(login(86_400.0), "Login not accepted.");
    assert_eq!(login(1.0), "Login received.");
}

#[test]
fn an_array_is_answered_by_an_array_and_messages_inside_a_message_are_sent_on() {
    let station = Station::start(&FLAGS);
    let (alice, bob) = (Person::new(), Person::new());
    let mut at_bob = station.login(&bob, Form::Mtp);
    let mut at_alice = station.login(&alice, Form::Mtp);
    let query = command("meta", json!({"did": bob.id()}));
    let parts = [json!({"type": 1, "sn": 5, "text": "hi"}), query];
    let from = at_alice.inbox.len();
    at_alice.send(&alice.ask(&json!({"type": 202, "sn": 6, "contents": parts})));
    let answer = at_alice.wait_from(from, "an array", |message| message.array);
    assert_eq!(answer.command("receipt").unwrap()["text"], "Content not support.");
    assert_eq!(answer.command("meta").unwrap()["meta"]["key"], bob.meta()["key"]);

    let own = alice.letter(&bob, 10);
    let anothers = bob.letter(&alice, 10);
    let secrets =
        [&own, &anothers].map(|letter| serde_json::from_slice::<Value>(&letter.text).unwrap());
    let from = at_alice.inbox.len();
    at_alice.send(&alice.ask(&json!({"type": 255, "sn": 7, "secrets": secrets})));
    at_bob.wait_letter(&own);
    // Each is answered inside, sealed and signed like any message of the station.
    let answer = at_alice
        .wait_from(from, "a forward", |m| m.contents.iter().any(|content| content["type"] == 255));
    assert_eq!(answer.contents[0]["secrets"].as_array().map(Vec::len), Some(2));
    assert_eq!(at_alice.copies_of(&anothers), 0);
}

#[test]
fn a_device_is_told_the_visas_of_the_others() {
    let station = Station::start(&FLAGS);
    let bob = Person::new();
    station.login(&bob.on("phone"), Form::Mtp).leave();
    let mut at_pad = station.login(&bob.on("pad"), Form::Mtp);
    let told = at_pad.wait("the other visas", |m| m.command("document").is_some());
    let told = &told.command("document").unwrap()["document"];
    assert_eq!((&told["terminal"], &told["did"]), (&json!("phone"), &json!(bob.id())));
}
