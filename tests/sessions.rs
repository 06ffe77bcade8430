//! The recorded sessions of the reference's clients with the reference's station, played again with
//! this one: the first words of each connection as they were sent, and then everybody's part by
//! somebody new, since the private keys are not recorded.
//!
//! Where this station differs on purpose, `expected` says so. Mars is played as far as its first
//! words.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test opens sockets and stops at the first surprise"
)]

mod kit;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use kit::{Client, Form, Heard, PATIENCE, Person, Station, take};
use serde_json::{Map, Value, json};

/// What the reference's clients write into a content that they have read.
const OF_THE_CLIENT: [&str; 4] = ["envelope", "sender", "receiver", "signature"];
/// What the reference's receipts quote of an envelope besides, and nobody looks at: the routing that
/// the station itself wrote, and what is about the message's body.
const NOT_QUOTED: [&str; 5] = ["from", "rcpt", "traces", "IV", "SDT"];

fn session(name: &str) -> Value {
    let folder = std::env::var_os("DIM_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/data")),
        PathBuf::from,
    );
    let path = folder.join("transport").join(format!("session-{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

fn hex(value: &Value) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text(value).as_bytes().chunks(2).map(pair).collect()
}

fn form(connection: &Value) -> Option<Form> {
    match (text(&connection["mode"]), connection["ack"].as_bool().unwrap()) {
        ("mtp", true) => Some(Form::Mtp),
        ("mtp" | "deaf", false) | ("deaf", true) => Some(Form::MtpSilent),
        ("ws", true) => Some(Form::WebSocketAck),
        ("ws", false) => Some(Form::WebSocket),
        ("mars", _) => None,
        other => panic!("unknown mode {other:?}"),
    }
}

/// What was written one after the other in one direction.
fn turns(connection: &Value) -> Vec<(&str, Vec<u8>)> {
    let mut turns: Vec<(&str, Vec<u8>)> = Vec::new();
    for part in list(&connection["stream"]) {
        let (direction, bytes) = (text(&part["dir"]), hex(&part["hex"]));
        match turns.last_mut() {
            Some((last, all)) if *last == direction => all.extend(bytes),
            _ => turns.push((direction, bytes)),
        }
    }
    turns
}

fn names(map: &Map<String, Value>) -> BTreeSet<String> {
    map.keys().cloned().collect()
}

type Message = Map<String, Value>;

/// Packages up to the first message: each type, and the message's members. In Mars the message
/// alone: this station may answer under another command.
fn first_packages(form: Option<Form>, bytes: &mut Vec<u8>) -> (Vec<u8>, Option<Message>) {
    let mut kinds = Vec::new();
    while let Some((kind, body)) = match form {
        Some(form) => take(form, bytes).map(|package| (Some(package.kind), package.body)),
        None => take_mars(bytes).map(|body| (None, body)),
    } {
        kinds.extend(kind);
        if body.starts_with(b"{") {
            return (kinds, Some(serde_json::from_slice(&body).unwrap()));
        }
    }
    (kinds, None)
}

/// The body of a Mars package, without the line that numbers it.
fn take_mars(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let head: [u8; 20] = *bytes.first_chunk()?;
    let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().unwrap()) as usize;
    let (from, to) = (number(0), number(0) + number(16));
    let body = bytes.get(from..to)?.to_vec();
    bytes.drain(..to);
    let line =
        body.iter().position(|byte| *byte == b'\n').filter(|_| body.starts_with(b"Mars SN:"));
    Some(body[line.map_or(0, |end| end + 1)..].to_vec())
}

fn first_words(name: &str) {
    let station = Station::start(&["--shards", "2"]);
    let session = session(name);
    for connection in list(&session["connections"]) {
        let form = form(connection);
        let mut socket = TcpStream::connect(station.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let turns = turns(connection);
        let mut turns = turns.iter().map(|(_, bytes)| bytes);
        if form.is_some_and(Form::is_web) {
            socket.write_all(turns.next().unwrap()).unwrap();
            let want = turns.next().unwrap();
            let mut answer = vec![0; want.len()];
            socket.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *want, "{name}: the answer to an upgrade");
        }
        socket.write_all(turns.next().unwrap()).unwrap();
        let (want_kinds, want) = first_packages(form, &mut turns.next().unwrap().clone());
        let (mut kinds, mut bytes) = (Vec::new(), Vec::new());
        let message = loop {
            let (more, message) = first_packages(form, &mut bytes);
            kinds.extend(more);
            if let Some(message) = message {
                break message;
            }
            let mut some = [0; 4096];
            let count = socket.read(&mut some).unwrap();
            assert!(count > 0, "{name}: no answer");
            bytes.extend_from_slice(&some[..count]);
        };
        let want = want.unwrap();
        assert_eq!(kinds, want_kinds, "{name}");
        assert_eq!(names(&message), names(&want), "{name}");
        assert_eq!(message["receiver"], want["receiver"]);
        assert_eq!(message["sender"], station.id.as_str());
        for of in ["meta", "visa"] {
            let members = |message: &Message| names(message[of].as_object().unwrap());
            assert!(members(&message).is_superset(&members(&want)), "{name}: {message:?}");
        }
    }
}

#[test]
fn what_real_clients_said_first_is_answered_as_it_was() {
    for name in
        ["mtp-handshake", "ws-handshake", "mars-handshake", "mtp-chat", "mtp-offline", "ws-offline"]
    {
        first_words(name);
    }
}

/// One connection of the recording, played.
struct Part<'a> {
    connection: &'a Value,
    client: Client,
    /// Letters of others that were seen in it.
    letters: usize,
}

/// What a station said, without what is new each time: the command, its title or text, the names
/// of its members and of those of the envelope that it quotes.
type Told = (String, String, BTreeSet<String>, BTreeSet<String>);

fn told(content: &Value) -> Told {
    let map = content.as_object().unwrap();
    let said = map.get("title").or_else(|| map.get("text")).and_then(Value::as_str);
    let of_client = |name: &String| OF_THE_CLIENT.contains(&name.as_str());
    let not_quoted = |name: &String| NOT_QUOTED.contains(&name.as_str());
    let origin = map.get("origin").and_then(Value::as_object).map(names).unwrap_or_default();
    (
        text(&content["command"]).to_owned(),
        said.unwrap_or_default().to_owned(),
        names(map).into_iter().filter(|name| !of_client(name)).collect(),
        origin.into_iter().filter(|name| !not_quoted(name)).collect(),
    )
}

/// What the recorded client heard of the station, as this one says it: one receipt a message. The
/// reference sends one when it has handed a message over and a second one, "Message cached.",
/// whatever became of it.
fn expected(connection: &Value, station: &str) -> Vec<Told> {
    let mut seen = HashSet::new();
    list(&connection["client_saw"])
        .iter()
        .filter(|saw| saw["from"] == station)
        .map(|saw| &saw["content"])
        .filter(|said| said["command"] != "receipt" || seen.insert(&said["origin"]["signature"]))
        .map(told)
        .collect()
}

fn play(name: &str) {
    // Whoever is there acknowledges, however slow the machine is.
    let station = Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=60000"]);
    let session = session(name);
    let connections = list(&session["connections"]);
    let mut people: BTreeMap<&str, Person> = BTreeMap::new();
    for connection in connections {
        people.entry(text(&connection["user"])).or_insert_with(Person::new);
    }
    let recorded_station = connections
        .iter()
        .flat_map(|connection| list(&connection["client_saw"]))
        .map(|saw| text(&saw["from"]))
        .find(|from| from.starts_with("test_station@"))
        .unwrap();
    // Everything that happened, in the order of the clock.
    let mut steps: Vec<(f64, usize, &Value)> = Vec::new();
    for (connection, number) in connections.iter().zip(0..) {
        let start = connection["starts_at"].as_f64().unwrap();
        for step in list(&connection["explained"]) {
            steps.push((start + step["t"].as_f64().unwrap(), number, step));
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut left: HashMap<usize, usize> = HashMap::new();
    steps.iter().for_each(|(_, number, _)| *left.entry(*number).or_default() += 1);
    let mut parts: BTreeMap<usize, Part<'_>> = BTreeMap::new();
    for (_, number, step) in steps {
        let connection = &connections[number];
        let who = &people[text(&connection["user"])];
        if !parts.contains_key(&number) {
            // Those who have said and heard everything leave before somebody comes.
            let gone: Vec<usize> = parts.keys().copied().filter(|n| left[n] == 0).collect();
            for part in gone.iter().filter_map(|number| parts.remove(number)) {
                part.end(name, recorded_station);
            }
            let client = station.connect(who, form(connection).unwrap());
            parts.insert(number, Part { connection, client, letters: 0 });
        }
        parts.get_mut(&number).unwrap().step(step, who, &people, recorded_station);
        *left.get_mut(&number).unwrap() -= 1;
    }
    parts.into_values().for_each(|part| part.end(name, recorded_station));
}

impl Part<'_> {
    fn step(
        &mut self,
        step: &Value,
        who: &Person,
        people: &BTreeMap<&str, Person>,
        recorded_station: &str,
    ) {
        let body = &step["body"];
        if step["dir"] == "S>C" {
            let sender = body["sender"].as_str().unwrap_or(recorded_station);
            if sender != recorded_station {
                self.letters += 1;
                self.wait_letters();
            }
            return;
        }
        if body == "PING" {
            return self.client.ping();
        }
        let Some(receiver) = body["receiver"].as_str() else { return };
        let content = &body["data"];
        if let Some(peer) = people.get(receiver) {
            self.client.send(&who.letter(peer, 100));
        } else if receiver == "station@anywhere" {
            assert_eq!(content["command"], "handshake");
            self.client.hello();
        } else if receiver == recorded_station {
            // The only thing that was said to it in secret: the session key of the handshake.
            let key = self.client.inbox[0].command("handshake").unwrap()["session"].clone();
            let from = self.client.inbox.len();
            self.client.send(&who.hello(key.as_str()));
            self.client.wait_handshake(from, "DIM!");
        } else {
            assert_eq!(
                (receiver, &content["command"]),
                ("everyone@everywhere", &json!("document"))
            );
            self.client.send(&who.publish());
        }
    }

    /// Waits for everything that came to the recorded client, and for nothing else.
    fn end(mut self, name: &str, recorded_station: &str) {
        let mut want = expected(self.connection, recorded_station);
        let until = Instant::now() + PATIENCE;
        let of_station = |client: &Client| -> Vec<Told> {
            client.inbox.iter().flat_map(|message| &message.contents).map(told).collect()
        };
        while of_station(&self.client).len() < want.len() {
            let heard = self.client.hear(until);
            let got = of_station(&self.client);
            assert_eq!(heard, Heard::Something, "{name}: {got:#?}\n{want:#?}");
        }
        // Whatever else was on its way has come before the answer, or before the end.
        self.client.ping();
        let letters = self.letters;
        let client = self.client.leave();
        let mut got = of_station(&client);
        // Which of two receipts comes first is a matter of the disk.
        got.sort();
        want.sort();
        assert_eq!(got, want, "{name}");
        assert_eq!(
            client.inbox.iter().filter(|m| m.contents.is_empty()).count(),
            letters,
            "{name}"
        );
    }

    fn wait_letters(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.letters() < self.letters {
            assert_eq!(self.client.hear(until), Heard::Something, "a letter did not come");
        }
    }

    fn letters(&self) -> usize {
        self.client.inbox.iter().filter(|message| message.contents.is_empty()).count()
    }
}

#[test]
fn one_client_over_mtp() {
    play("mtp-handshake");
}

#[test]
fn one_client_over_a_websocket() {
    play("ws-handshake");
}

#[test]
fn two_clients_talk() {
    play("mtp-chat");
}

#[test]
fn a_message_waits_for_a_client_that_acknowledges_it_late() {
    play("mtp-offline");
}

#[test]
fn a_message_waits_for_a_client_that_never_acknowledges() {
    play("ws-offline");
}
