//! What is acknowledged is durable: senders pour messages, the station is killed in the middle,
//! started again on the same folder, and what it had answered for must be there.
//!
//! The rule, for every device of a receiver:
//!
//! - A message for which its sender was told so (the transport's `OK`, or "Message cached." or
//!   "Message delivered.") has come before the kill or comes after it.
//! - On one connection nothing comes twice, whatever was sent again: clients repeat the same bytes
//!   when they have heard nothing, and some of these have been stored by then.
//! - What had come before the kill may come once more after it, since the acknowledgement, or the
//!   taking out of the store, may have died with the station. It may not where the sender was told
//!   "Message delivered." and the message was never stored, which is so when the station gives
//!   receivers a minute to acknowledge; rounds with and without such patience take turns.
//!
//! Receivers are of every kind: with and without acknowledgements, over MTP and WebSocket, away,
//! with a second device that is away, and deaf: logged in, and never reading.
//!
//! `DIM_KILL_ROUNDS=n` plays so many rounds (default 3), `DIM_SEED=n` begins with that seed, which
//! is printed; when the kill comes depends on the machine as well.
#![cfg(feature = "station")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test starts threads and programs and stops at the first surprise"
)]

mod kit;

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kit::{Client, Form, Heard, Letter, PATIENCE, Person, Random, Station};

const SENDERS: usize = 3;
/// Messages of one sender that wait for their answer.
const WINDOW: usize = 16;
/// At most so many acknowledged messages before the kill.
const TOLD_MAX: usize = 250;

/// What a device does while messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Listens(Form),
    /// Logged in, but nothing is read.
    Deaf,
    Away,
}

/// A device of a receiver.
struct Device {
    person: Person,
    habit: Habit,
}

/// Whoever is written to.
struct Addressee {
    devices: Vec<Device>,
}

impl Addressee {
    fn new(habits: &[Habit]) -> Self {
        let person = Person::new();
        let devices = match habits {
            [habit] => vec![Device { person, habit: *habit }],
            _ => habits
                .iter()
                .enumerate()
                .map(|(n, habit)| Device {
                    person: person.on(&format!("device-{n}")),
                    habit: *habit,
                })
                .collect(),
        };
        Self { devices }
    }
}

/// How the station ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
}

/// A message and what its sender was told.
struct Sent {
    letter: Letter,
    to: usize,
    ok: bool,
    receipt: Option<String>,
}

impl Sent {
    fn is_told(&self) -> bool {
        self.ok || self.receipt.as_deref().is_some_and(is_positive)
    }
}

fn is_positive(text: &str) -> bool {
    matches!(text, "Message cached." | "Message delivered.")
}

/// Sends until the connection ends; says each time that a message was answered for.
fn pour(
    mut client: Client,
    to: Vec<Person>,
    mut random: Random,
    told: Sender<()>,
) -> JoinHandle<Vec<Sent>> {
    std::thread::spawn(move || {
        let mut all: Vec<Sent> = Vec::new();
        let mut by_id: HashMap<[u8; 8], usize> = HashMap::new();
        let mut by_signature: HashMap<String, usize> = HashMap::new();
        let (mut oks, mut read, mut answered) = (0, client.inbox.len(), 0);
        loop {
            let mut open = true;
            while open && all.len() < answered + WINDOW {
                let to_whom = random.below(to.len());
                let len = 1 + random.below(1500);
                let letter = client.who.letter(&to[to_whom], len);
                let id = client.try_send(&letter);
                open = id.is_some();
                by_id.extend(id.map(|id| (id, all.len())));
                by_signature.insert(letter.signature.clone(), all.len());
                all.push(Sent { letter, to: to_whom, ok: false, receipt: None });
            }
            let heard = client.hear(Instant::now() + PATIENCE);
            for id in &client.oks[oks..] {
                if let Some(at) = by_id.get(id) {
                    all[*at].ok = true;
                    let _ = told.send(());
                }
            }
            oks = client.oks.len();
            for message in &client.inbox[read..] {
                for content in &message.contents {
                    let signature = content["origin"]["signature"].as_str().unwrap_or_default();
                    if let Some(at) = by_signature.get(signature) {
                        all[*at].receipt = content["text"].as_str().map(str::to_owned);
                        answered += 1;
                        let _ = told.send(());
                    }
                }
            }
            read = client.inbox.len();
            match heard {
                Heard::Something => {}
                Heard::End => return all,
                Heard::Nothing => panic!("the station does not answer its senders"),
            }
        }
    })
}

/// Reads until the connection ends.
fn listen(mut client: Client) -> JoinHandle<Client> {
    std::thread::spawn(move || {
        loop {
            match client.hear(Instant::now() + PATIENCE) {
                Heard::Something => {}
                Heard::End => return client,
                Heard::Nothing => panic!("neither messages nor the end came"),
            }
        }
    })
}

/// What a device got before the kill and after it, by connection.
#[derive(Default)]
struct Got {
    before: HashMap<String, usize>,
    after: HashMap<String, usize>,
}

fn count(copies: &HashMap<String, usize>, letter: &Letter) -> usize {
    copies.get(&letter.signature).copied().unwrap_or_default()
}

struct Round {
    station: Station,
    patient: bool,
    addressees: Vec<Addressee>,
    senders: Vec<(Person, Form)>,
    sent: Vec<Vec<Sent>>,
    got: Vec<Vec<Got>>,
    again: HashSet<String>,
}

impl Round {
    fn begin(patient: bool) -> Self {
        let wait = if patient { 60_000 } else { 30 };
        let wait = format!("mail.acknowledge_ms={wait}");
        let station = Station::start(&["--shards", "2", "--set", &wait]);
        let silent = Habit::Listens(Form::MtpSilent);
        let mut kinds = vec![
            vec![Habit::Listens(Form::Mtp)],
            vec![Habit::Listens(Form::WebSocketAck)],
            vec![Habit::Listens(Form::WebSocket)],
            vec![Habit::Listens(Form::Lines)],
            vec![Habit::Away],
            vec![Habit::Listens(Form::Mtp), Habit::Away],
        ];
        // A patient station answers for these only when they are gone, and senders wait for it.
        if !patient {
            kinds.extend([vec![silent], vec![Habit::Deaf], vec![Habit::Deaf, Habit::Away, silent]]);
        }
        let addressees: Vec<_> = kinds.iter().map(|habits| Addressee::new(habits)).collect();
        let got = addressees.iter().map(|to| to.devices.iter().map(|_| Got::default()).collect());
        let got = got.collect();
        let forms = [Form::Mtp, Form::WebSocketAck, Form::Mtp];
        let senders = forms[..SENDERS].iter().map(|form| (Person::new(), *form)).collect();
        Self { station, patient, addressees, senders, sent: Vec::new(), got, again: HashSet::new() }
    }

    /// Everybody in their place, messages pour, and in the middle the station ends.
    fn pour_and_end(&mut self, random: &mut Random, end: End) {
        // Each device is known before the first message comes.
        for device in self.addressees.iter().flat_map(|to| &to.devices) {
            self.station.login(&device.person, Form::Mtp).leave();
        }
        let mut listening = Vec::new();
        let mut deaf = Vec::new();
        for (a, addressee) in self.addressees.iter().enumerate() {
            for (d, device) in addressee.devices.iter().enumerate() {
                match device.habit {
                    Habit::Listens(form) => {
                        let client = self.station.login(&device.person, form);
                        listening.push((a, d, listen(client)));
                    }
                    Habit::Deaf => deaf.push(self.station.login(&device.person, Form::Mtp)),
                    Habit::Away => {}
                }
            }
        }
        let (told, tellings) = channel();
        let to: Vec<_> = self.addressees.iter().map(|to| to.devices[0].person.clone()).collect();
        let senders: Vec<_> = self
            .senders
            .iter()
            .map(|(who, form)| {
                let client = self.station.login(who, *form);
                pour(client, to.clone(), Random(random.next()), told.clone())
            })
            .collect();
        await_tellings(&tellings, random.below(TOLD_MAX));
        match end {
            End::Kill => self.station.kill(),
            End::Terminate => {
                let begun = Instant::now();
                let ended = self.station.terminate(PATIENCE).expect("it ends");
                assert!(ended.success(), "{ended}");
                let took = begun.elapsed();
                assert!(took < Duration::from_secs(10), "{took:?}");
            }
        }
        self.sent = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        for (a, d, listener) in listening {
            self.got[a][d].before = listener.join().unwrap().copies;
        }
    }

    /// Half of what was not answered for is sent again and now is; a part of it before the
    /// receivers come, the rest afterwards. All that is safe must come.
    fn come_back(&mut self, random: &mut Random) {
        self.station.restart();
        let mut early = Vec::new();
        let mut late = Vec::new();
        for (s, sent) in self.sent.iter().enumerate() {
            for (n, one) in sent.iter().enumerate().filter(|(_, one)| !one.is_told()) {
                match random.below(4) {
                    0 => early.push((s, n)),
                    1 => late.push((s, n)),
                    _ => continue,
                }
                self.again.insert(one.letter.signature.clone());
            }
        }
        let mut senders: Vec<_> =
            self.senders.iter().map(|(who, form)| self.station.login(who, *form)).collect();
        self.send_again(&mut senders, &early);
        let mut back = Vec::new();
        for (a, addressee) in self.addressees.iter().enumerate() {
            for (d, device) in addressee.devices.iter().enumerate() {
                let form = match device.habit {
                    Habit::Listens(form) => form,
                    Habit::Deaf | Habit::Away => Form::Mtp,
                };
                back.push((a, d, self.station.login(&device.person, form)));
            }
        }
        for (s, n) in &late {
            senders[*s].send(&self.sent[*s][*n].letter);
        }
        // What is stored or sent before comes before; so after the last nothing can.
        let mut last = Vec::new();
        for addressee in &self.addressees {
            let letter = senders[0].who.letter(&addressee.devices[0].person, 10);
            last.push(letter);
        }
        self.read_all(&mut back, &late);
        for letter in &last {
            senders[0].send(letter);
        }
        for (a, d, mut client) in back {
            client.wait_letter(&last[a]);
            self.got[a][d].after = client.copies;
        }
        self.await_answers(&mut senders, &late);
    }

    fn send_again(&mut self, senders: &mut [Client], which: &[(usize, usize)]) {
        for (s, n) in which {
            senders[*s].send(&self.sent[*s][*n].letter);
        }
        self.await_answers(senders, which);
    }

    fn await_answers(&mut self, senders: &mut [Client], which: &[(usize, usize)]) {
        for (s, n) in which {
            let one = &mut self.sent[*s][*n];
            let text = senders[*s].wait_receipt(&one.letter);
            assert!(is_positive(&text), "{text}");
            one.receipt = Some(text);
        }
    }

    /// Waits until every device has what it must get.
    fn read_all(&self, back: &mut [(usize, usize, Client)], late: &[(usize, usize)]) {
        let late: HashSet<_> = late.iter().copied().collect();
        for (a, d, client) in back {
            let before = &self.got[*a][*d].before;
            for (s, sent) in self.sent.iter().enumerate() {
                for (n, one) in sent.iter().enumerate().filter(|(_, one)| one.to == *a) {
                    let due = one.is_told() || late.contains(&(s, n));
                    if due && count(before, &one.letter) == 0 {
                        client.wait_letter(&one.letter);
                    }
                }
            }
        }
    }

    fn judge(&self) -> Counts {
        let mut counts = Counts::default();
        for one in self.sent.iter().flatten() {
            counts.sent += 1;
            counts.told += usize::from(one.is_told());
            let again = self.again.contains(&one.letter.signature);
            counts.again += usize::from(again);
            for (device, got) in self.addressees[one.to].devices.iter().zip(&self.got[one.to]) {
                let before = count(&got.before, &one.letter);
                let after = count(&got.after, &one.letter);
                let story = || {
                    format!(
                        "{:?}: {before} before, {after} after, again: {again}, ok: {}, {:?}\n{}",
                        device.habit, one.ok, one.receipt, one.letter.signature
                    )
                };
                assert!(before <= 1 && after <= 1, "twice on one connection: {}", story());
                assert!(!one.is_told() || before + after >= 1, "lost: {}", story());
                let delivered = one.receipt.as_deref() == Some("Message delivered.");
                let listens = matches!(device.habit, Habit::Listens(_));
                if self.patient && delivered && listens && !again {
                    assert_eq!((before, after), (1, 0), "came again: {}", story());
                }
                counts.twice += usize::from(before + after == 2);
                counts.later += usize::from(before == 0 && after == 1);
            }
        }
        counts
    }
}

/// What a round was worth.
#[derive(Debug, Default)]
struct Counts {
    sent: usize,
    told: usize,
    again: usize,
    /// Copies that came before the kill and after it.
    twice: usize,
    /// Copies that came only after it.
    later: usize,
}

fn await_tellings(tellings: &Receiver<()>, wanted: usize) {
    for _ in 0..wanted {
        tellings.recv_timeout(PATIENCE).expect("messages are answered for");
    }
}

fn play(seed: u64, patient: bool, end: End) {
    let mut random = Random(seed);
    let mut round = Round::begin(patient);
    round.pour_and_end(&mut random, end);
    round.come_back(&mut random);
    println!("DIM_SEED={seed} {end:?}, patient: {patient}: {:?}", round.judge());
}

fn first_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    kit::setting("DIM_SEED").unwrap_or(now.as_secs())
}

#[test]
fn what_is_acknowledged_survives_a_kill() {
    let (first, rounds) = (first_seed(), kit::setting("DIM_KILL_ROUNDS").unwrap_or(3));
    for seed in (0..rounds).map(|n| first.wrapping_add(n)) {
        println!("DIM_SEED={seed}");
        play(seed, seed % 2 == 0, End::Kill);
    }
}

#[test]
fn a_station_told_to_stop_under_load_ends_in_time_and_loses_nothing() {
    let seed = first_seed();
    println!("DIM_SEED={seed}");
    play(seed, false, End::Terminate);
    play(seed, true, End::Terminate);
}

#[test]
fn a_station_told_to_stop_waits_for_no_receiver() {
    let mut station = Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=60000"]);
    let (alice, bob) = (Person::new(), Person::new());
    let _deaf = station.login(&bob, Form::MtpSilent);
    let mut at_alice = station.login(&alice, Form::Mtp);
    let (tell, told) = channel();
    // Not one of these is ever answered for while the station runs, and they never end.
    let sender = std::thread::spawn(move || {
        let mut sent = Vec::new();
        loop {
            let letter = alice.letter(&bob, 200);
            let gone = at_alice.try_send(&letter).is_none();
            sent.push(letter);
            if gone {
                while at_alice.hear(Instant::now() + PATIENCE) == Heard::Something {}
                return (bob, at_alice, sent);
            }
            let _ = tell.send(());
        }
    });
    await_tellings(&told, 100);
    let begun = Instant::now();
    let ended = station.terminate(PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (bob, at_alice, sent) = sender.join().unwrap();
    station.restart();
    let mut at_bob = station.login(&bob, Form::Mtp);
    let mut told = 0;
    for letter in &sent {
        let answer = at_alice.inbox.iter().find_map(|m| m.receipt(&letter.signature));
        if answer.is_some_and(|answer| answer["text"].as_str().is_some_and(is_positive)) {
            at_bob.wait_letter(letter);
            told += 1;
        }
    }
    println!("{} sent, {told} answered for, {took:?}", sent.len());
}

#[test]
fn a_copy_stored_for_one_device_is_not_taken_for_stored_for_another() {
    let mut station = Station::start(&["--shards", "2", "--set", "mail.acknowledge_ms=60000"]);
    let (alice, bob) = (Person::new(), Person::new());
    let (phone, pad) = (bob.on("phone"), bob.on("pad"));
    // Nothing that is on its way to the phone is read.
    let _deaf = station.login(&phone, Form::MtpSilent);
    station.login(&pad, Form::Mtp).leave();
    let mut at_alice = station.login(&alice, Form::Mtp);
    let letter = alice.letter(&bob, 100);
    at_alice.send(&letter);
    // For the pad it is stored by now, and stays so.
    station.login(&pad, Form::MtpSilent).wait_letter(&letter);
    assert!(at_alice.oks.len() < 3, "the phone has not got it, so it is not safe");
    station.kill();
    station.restart();
    let mut at_alice = station.login(&alice, Form::Mtp);
    let id = at_alice.send(&letter);
    at_alice.wait_ok(id);
    assert_eq!(at_alice.wait_receipt(&letter), "Message cached.");
    for device in [phone, pad] {
        let mut client = station.login(&device, Form::Mtp);
        client.wait_letter(&letter);
        let last = alice.letter(&bob, 10);
        at_alice.send(&last);
        client.wait_letter(&last);
        assert_eq!(client.copies_of(&letter), 1);
    }
}
