//! Stations that are neighbours, in virtual time: users who wander between them, links that break
//! and stations that end without warning. What a station has promised to keep arrives in the end.
//! `DIM_NEIGHBORS_SEEDS` says how many worlds are tried.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    dead_code,
    reason = "the test reads its settings from the environment and stops at the first surprise"
)]

#[path = "kit/person.rs"]
mod person;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dim::base::time::Now;
use dim::client::account::Account;
use dim::proto::directory::Ans;
use dim::shard::effect::Effect;
use dim::shard::input::{ConnId, Input, Ticket};
use dim::shard::neighbor::Neighbor;
use dim::shard::ring::{Ring, ShardIndex};
use dim::shard::session::ANY_DEVICE;
use dim::shard::{Policy, Shard, Station};
use dim::store::memory::MemoryStore;
use dim::store::{QueueKey, Store, StoreAnswer, StoreOp};
use dim::wire::{DeframeLimits, Deframer, Event, encode_ack, mtp, mtp_ping};
use person::{Letter, Person, command};
use serde_json::{Value, json};

const STATIONS: usize = 3;
const SHARDS: u16 = 2;
const USERS: usize = 4;
const DELAY_US: u64 = 300;
/// The bridge of the second station, which is logged in elsewhere as that station: a user more.
const BRIDGE: usize = USERS;

/// A shard of a station.
type Place = (usize, ShardIndex);

enum Happening {
    Input(Place, Input),
    Bytes(ConnId, Bytes),
    /// For whichever shard has the connection then.
    Arrive(ConnId, Bytes),
    Gone(ConnId),
    Commit(usize),
    Read(Place, Ticket, StoreOp),
}

#[derive(Clone, Copy)]
enum Peer {
    User(usize),
    Station(ConnId),
}

struct House {
    account: Account,
    shards: Vec<Shard>,
    store: MemoryStore,
    writes: Vec<(Place, Ticket, StoreOp)>,
    up: bool,
}

struct User {
    person: Person,
    at: Option<(ConnId, usize)>,
    deframer: Deframer,
    announced: bool,
    arrived: HashSet<String>,
    /// Letters that came, repetitions among them.
    copies: usize,
    /// Does not acknowledge what comes.
    deaf: bool,
}

struct World {
    random: u64,
    start_us: u64,
    now_us: u64,
    order: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    houses: Vec<House>,
    users: Vec<User>,
    ends: HashMap<ConnId, (Place, Peer)>,
    last_conn: u64,
    /// Stations that cannot dial each other, or only the other way.
    apart: HashSet<(usize, usize)>,
    /// How much longer than to users it takes to another station.
    far_us: u64,
    /// Letters by signature: for whom, and whether a station promised to keep it.
    letters: BTreeMap<String, (usize, bool)>,
}

fn stations() -> &'static Vec<Person> {
    static MADE: OnceLock<Vec<Person>> = OnceLock::new();
    let make = |n| Person::of(2, &format!("house{n}"));
    MADE.get_or_init(|| (0..STATIONS).map(make).collect())
}

impl World {
    fn new(seed: u64) -> Self {
        let houses = stations().iter().map(|station| House {
            account: station.account().clone(),
            shards: Vec::new(),
            store: MemoryStore::new(),
            writes: Vec::new(),
            up: false,
        });
        let bridge = stations()[1].clone();
        let users = (0..USERS).map(|_| Person::new()).chain([bridge]).map(|person| User {
            person,
            at: None,
            deframer: Deframer::new(DeframeLimits::default()),
            announced: false,
            arrived: HashSet::new(),
            copies: 0,
            deaf: false,
        });
        // The people's clock is the real one.
        let start_us = u64::try_from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros(),
        )
        .unwrap();
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            start_us,
            now_us: start_us,
            order: 0,
            agenda: BTreeMap::new(),
            houses: houses.collect(),
            users: users.collect(),
            ends: HashMap::new(),
            last_conn: 0,
            apart: HashSet::new(),
            far_us: 0,
            letters: BTreeMap::new(),
        };
        for at in 0..STATIONS {
            world.raise(at);
        }
        world
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % below as u64).unwrap()
    }

    fn later(&mut self, delay_us: u64, happening: Happening) {
        self.order += 1;
        self.agenda.insert((self.now_us + delay_us, self.order), happening);
    }

    /// A station begins, on the store that it had.
    fn raise(&mut self, at: usize) {
        let house = &mut self.houses[at];
        house.up = true;
        let station = Arc::new(Station {
            id: house.account.id().clone(),
            meta: house.account.meta().to_map(),
            visa: house.account.document().unwrap().to_map(),
            sign: house.account.sign_key().clone(),
            open: house.account.message_keys().to_vec(),
        });
        let policy = Policy { acknowledge_ms: 50, flying_max: 4, ..Policy::default() };
        let (policy, ring) = (Arc::new(policy), Ring::new(SHARDS));
        let shard = |n| {
            let (station, ans) = (station.clone(), Arc::new(Ans::default()));
            let seed = 1 + at as u64 * 10 + u64::from(n);
            Shard::new(ShardIndex(n), ring, station, policy.clone(), ans, seed)
        };
        house.shards = (0..SHARDS).map(shard).collect();
        let list = Self::listed(at);
        for n in 0..SHARDS {
            self.tell((at, ShardIndex(n)), Input::Neighbors(list.clone()));
        }
    }

    /// All others: the first two are listed by ID, the third is met.
    fn listed(at: usize) -> Arc<[Neighbor]> {
        let list = stations().iter().enumerate().filter(|(other, _)| *other != at);
        let list: Vec<Neighbor> = list
            .map(|(other, station)| Neighbor {
                id: (other < 2).then(|| station.account().id().clone()),
                host: other.to_string(),
                port: 1,
                tls: false,
            })
            .collect();
        list.into()
    }

    /// A station takes others off its list for a moment, one shard after the other.
    fn forget(&mut self, at: usize) {
        let mut some = Self::listed(at).to_vec();
        some.remove(self.draw(STATIONS - 1));
        for list in [some.into(), Self::listed(at)] {
            for n in 0..SHARDS {
                let input = Input::Neighbors(Arc::clone(&list));
                let delay = self.draw(5_000) as u64;
                self.later(delay, Happening::Input((at, ShardIndex(n)), input));
            }
            let wait = self.draw(50_000) as u64;
            self.run_for(5_000 + wait);
        }
    }

    /// A station ends at once; what was not synced is lost.
    fn fell(&mut self, at: usize) {
        self.houses[at].up = false;
        self.houses[at].writes.clear();
        let ended: Vec<ConnId> =
            self.ends.iter().filter(|(_, ((house, _), _))| *house == at).map(|(c, _)| *c).collect();
        for conn in ended {
            self.cut(conn);
        }
        let agenda = std::mem::take(&mut self.agenda);
        self.agenda = agenda
            .into_iter()
            .filter(|(_, happening)| match happening {
                Happening::Input((house, _), _) | Happening::Read((house, _), ..) => *house != at,
                Happening::Commit(house) => *house != at,
                _ => true,
            })
            .collect();
    }

    fn tell(&mut self, place: Place, input: Input) {
        let now = Now { mono_ms: (self.now_us - self.start_us) / 1000, wall_us: self.now_us };
        let house = &mut self.houses[place.0];
        if !house.up {
            return;
        }
        let mut effects = Vec::new();
        let shard = &mut house.shards[usize::from(place.1.0)];
        shard.handle(now, input, &mut effects);
        shard.check();
        for effect in effects {
            self.carry_out(place, effect);
        }
    }

    fn carry_out(&mut self, place: Place, effect: Effect) {
        match effect {
            Effect::Send { conn, bytes } => match self.ends.get(&conn) {
                Some((_, Peer::User(_))) => self.later(DELAY_US, Happening::Bytes(conn, bytes)),
                Some((_, Peer::Station(other))) => {
                    let other = *other;
                    self.later(DELAY_US + self.far_us, Happening::Arrive(other, bytes));
                }
                None => {}
            },
            Effect::Forward { to, parcel } => {
                self.later(50, Happening::Input((place.0, to), Input::Parcel(parcel)));
            }
            Effect::Move { conn, to, session } => {
                if let Some(end) = self.ends.get_mut(&conn) {
                    end.0.1 = to;
                }
                self.tell((place.0, to), Input::Adopted { conn, session });
            }
            Effect::Dial { link, host, .. } => {
                let other: usize = host.parse().unwrap();
                if !self.houses[other].up || self.apart.contains(&(place.0, other)) {
                    let input = Input::NotDialed { link };
                    return self.later(DELAY_US, Happening::Input(place, input));
                }
                let (here, there) = (self.conn(), self.conn());
                let shard = ShardIndex(u16::try_from(self.draw(usize::from(SHARDS))).unwrap());
                self.ends.insert(here, (place, Peer::Station(there)));
                self.ends.insert(there, ((other, shard), Peer::Station(here)));
                let (peer, secret) = (([127, 0, 0, 1], 1).into(), [7; 32]);
                let opened = Input::Opened { conn: there, peer, secret };
                self.later(DELAY_US, Happening::Input((other, shard), opened));
                let dialed = Input::Dialed { link, conn: here, peer, secret };
                self.later(DELAY_US, Happening::Input(place, dialed));
            }
            Effect::Store { ticket, op } if op.is_read() => {
                let delay = 100 + self.draw(2000) as u64;
                self.later(delay, Happening::Read(place, ticket, op));
            }
            Effect::Store { ticket, op } => {
                if self.houses[place.0].writes.is_empty() {
                    let delay = 100 + self.draw(3000) as u64;
                    self.later(delay, Happening::Commit(place.0));
                }
                self.houses[place.0].writes.push((place, ticket, op));
            }
            Effect::Close { conn, .. } => self.cut(conn),
            _ => {}
        }
    }

    fn conn(&mut self) -> ConnId {
        self.last_conn += 1;
        ConnId(self.last_conn)
    }

    /// A connection ends; both sides hear of it.
    fn cut(&mut self, conn: ConnId) {
        self.later(DELAY_US, Happening::Gone(conn));
        if let Some((_, Peer::Station(other))) = self.ends.get(&conn).copied() {
            self.later(DELAY_US, Happening::Gone(other));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input(place, input) => self.tell(place, input),
            Happening::Arrive(conn, bytes) => {
                if let Some((place, _)) = self.ends.get(&conn).copied() {
                    self.tell(place, Input::Received { conn, bytes });
                }
            }
            Happening::Gone(conn) => {
                let Some((place, peer)) = self.ends.remove(&conn) else { return };
                if let Peer::User(who) = peer
                    && self.users[who].at.is_some_and(|(at, _)| at == conn)
                {
                    self.users[who].at = None;
                }
                self.tell(place, Input::Closed { conn });
            }
            Happening::Commit(at) => {
                let batch = std::mem::take(&mut self.houses[at].writes);
                let ops: Vec<StoreOp> = batch.iter().map(|(_, _, op)| op.clone()).collect();
                let answers = self.houses[at].store.commit(&ops).unwrap();
                for ((place, ticket, _), answer) in batch.into_iter().zip(answers) {
                    let input = Input::Stored { ticket, answer };
                    self.later(20, Happening::Input(place, input));
                }
            }
            Happening::Read(place, ticket, op) => {
                let answer = self.houses[place.0].store.read(&op);
                // What is written after this may be answered before.
                let delay = self.draw(1000) as u64;
                self.later(delay, Happening::Input(place, Input::Stored { ticket, answer }));
            }
            Happening::Bytes(conn, bytes) => self.hear(conn, bytes),
        }
    }

    fn run_for(&mut self, span_us: u64) {
        let until = self.now_us + span_us;
        while self.now_us < until {
            // The shells' own clock.
            let slice = (self.now_us + 10_000).min(until);
            while let Some((&(at, order), _)) = self.agenda.first_key_value() {
                if at > slice {
                    break;
                }
                self.now_us = at;
                let happening = self.agenda.remove(&(at, order)).unwrap();
                self.happen(happening);
            }
            self.now_us = slice;
            for at in 0..STATIONS {
                for n in 0..SHARDS {
                    let due = self.houses[at].shards[usize::from(n)].next_deadline();
                    let now_ms = (self.now_us - self.start_us) / 1000;
                    if due.is_some_and(|due| due <= now_ms) {
                        self.tell((at, ShardIndex(n)), Input::Tick);
                    }
                }
            }
        }
    }

    fn send(&mut self, conn: ConnId, letter: &Letter) {
        self.order += 1;
        let id = self.order.to_be_bytes();
        let len = u32::try_from(letter.text.len()).unwrap();
        let head = mtp::encode_head(mtp::Kind::Message, id, 1, 0, len);
        let bytes = [&Bytes::from(head)[..], &letter.text].concat().into();
        self.later(DELAY_US, Happening::Arrive(conn, bytes));
    }

    /// A user connects somewhere, says who and where, and reads what is there.
    fn connect(&mut self, who: usize, at: usize) {
        if self.users[who].at.is_some() || !self.houses[at].up {
            return;
        }
        let conn = self.conn();
        let shard = ShardIndex(u16::try_from(self.draw(usize::from(SHARDS))).unwrap());
        self.ends.insert(conn, ((at, shard), Peer::User(who)));
        let user = &mut self.users[who];
        user.at = Some((conn, at));
        user.announced = false;
        user.deframer = Deframer::mtp_client(DeframeLimits::default());
        let hello = user.person.hello(None);
        let (peer, secret) = (([127, 0, 0, 1], 2).into(), [9; 32]);
        let opened = Input::Opened { conn, peer, secret };
        self.tell((at, shard), opened);
        self.send(conn, &hello);
    }

    fn leave(&mut self, who: usize) {
        if let Some((conn, _)) = self.users[who].at.take() {
            self.later(0, Happening::Gone(conn));
        }
    }

    fn hear(&mut self, conn: ConnId, bytes: Bytes) {
        let Some((_, Peer::User(who))) = self.ends.get(&conn).copied() else { return };
        if self.users[who].at.is_none_or(|(at, _)| at != conn) {
            return;
        }
        self.users[who].deframer.feed(bytes);
        while let Some(event) = self.users[who].deframer.next_event().unwrap() {
            let Event::Message { ack, body } = event else { continue };
            if let Some(bytes) = encode_ack(&ack).filter(|_| !self.users[who].deaf) {
                self.later(DELAY_US, Happening::Arrive(conn, bytes.into()));
            }
            let message: Value = serde_json::from_slice(&body).unwrap();
            self.read(who, conn, message.as_object().unwrap());
        }
    }

    fn read(&mut self, who: usize, conn: ConnId, message: &serde_json::Map<String, Value>) {
        let signature = message["signature"].as_str().unwrap().to_owned();
        if let Some((to, _)) = self.letters.get(&signature) {
            assert!(*to == who || who == BRIDGE, "a letter came to somebody else");
            self.users[who].copies += 1;
            self.users[who].arrived.insert(signature);
            return;
        }
        let Some(content) = self.users[who].person.open(message, &mut None) else { return };
        match content.get("contents").and_then(Value::as_array) {
            Some(parts) => parts.iter().for_each(|part| self.told(who, conn, part)),
            None => self.told(who, conn, &content),
        }
    }

    fn told(&mut self, who: usize, conn: ConnId, content: &Value) {
        match content["command"].as_str() {
            Some("handshake") if content["title"] == "DIM?" => {
                let hello = self.users[who].person.hello(content["session"].as_str());
                self.send(conn, &hello);
            }
            Some("handshake") => self.announce(who),
            Some("receipt") => {
                let about = content["origin"]["signature"].as_str().unwrap_or_default();
                if let Some((_, kept)) = self.letters.get_mut(about) {
                    *kept |= content["text"] != "Message not accepted.";
                }
            }
            _ => {}
        }
    }

    fn announce(&mut self, who: usize) {
        let Some((conn, at)) = self.users[who].at else { return };
        if std::mem::replace(&mut self.users[who].announced, true) || who == BRIDGE {
            return;
        }
        let person = self.users[who].person.clone();
        // In the world's time, which runs ahead of the clock that commands are dated by.
        let place = json!({"did": stations()[at].id(), "host": "h", "port": 1});
        let mut login = command("login", json!({"did": person.id(), "station": place}));
        login["time"] = json!(self.now_us as f64 / 1e6);
        self.send(conn, &person.say("everyone@everywhere", &login));
        self.send(conn, &person.publish());
    }

    fn write(&mut self, from: usize, to: usize) {
        let Some((conn, _)) = self.users[from].at.filter(|_| self.users[from].announced) else {
            return;
        };
        let letter = self.users[from].person.letter(&self.users[to].person, 50);
        self.letters.insert(letter.signature.clone(), (to, false));
        self.send(conn, &letter);
    }

    fn step(&mut self) {
        let (who, other) = (self.draw(USERS), self.draw(USERS));
        let at = self.draw(STATIONS);
        match self.draw(100) {
            0..50 if who != other => self.write(who, other),
            50..75 => self.connect(who, at),
            75..85 => self.leave(who),
            85..92 => {
                let links = self.ends.iter().filter(|(_, (_, p))| matches!(p, Peer::Station(_)));
                let mut links: Vec<ConnId> = links.map(|(conn, _)| *conn).collect();
                links.sort_unstable();
                if !links.is_empty() {
                    let cut = links[self.draw(links.len())];
                    self.cut(cut);
                }
            }
            92..95 => {
                self.fell(at);
                self.run_for(100_000);
                self.raise(at);
            }
            95..100 => self.forget(at),
            _ => {}
        }
        let wait = self.draw(60_000) as u64;
        self.run_for(wait);
    }

    /// The queues that a letter lies in: station, owner and place.
    fn kept(&self, signature: &str) -> Vec<String> {
        let people = self.users[..USERS].iter().map(|user| user.person.id().to_owned());
        let owners: Vec<String> =
            people.chain(stations().iter().map(|s| s.id().to_owned())).collect();
        let mut found = Vec::new();
        for (at, house) in self.houses.iter().enumerate() {
            for owner in &owners {
                let user = Arc::from(owner.as_str());
                let queue = QueueKey { user, device: Arc::from(ANY_DEVICE) };
                let all = usize::MAX;
                let op = StoreOp::Page { queue, from_seq: 0, count_max: all, bytes_max: all };
                let StoreAnswer::Page { mails, .. } = house.store.read(&op) else { continue };
                for (seq, mail) in mails {
                    if mail.body.windows(signature.len()).any(|w| w == signature.as_bytes()) {
                        found.push(format!("{at}: {owner} {seq}"));
                    }
                }
            }
        }
        found
    }

    /// Ends what runs between two stations, one of which, or both, cannot dial the other for a while.
    fn part(&mut self, ways: &[(usize, usize)]) {
        self.apart.extend(ways);
        let mut ends: Vec<(ConnId, usize, ConnId)> = Vec::new();
        for (conn, ((at, _), peer)) in &self.ends {
            if let Peer::Station(other) = peer {
                ends.push((*conn, *at, *other));
            }
        }
        for (conn, at, other) in ends {
            let there = self.ends.get(&other).map(|((there, _), _)| *there);
            if there.is_some_and(|there| ways.iter().any(|(a, b)| (at, there) == (*a, *b))) {
                self.cut(conn);
            }
        }
    }

    /// Time in which links are dialled again, however long they could not be.
    fn mend(&mut self) {
        self.apart.clear();
        self.run_for(40_000_000);
    }

    fn lost(&self) -> Vec<&String> {
        let lost = |(signature, (to, kept)): (&String, &(usize, bool))| {
            *kept && !self.users[*to].arrived.contains(signature)
        };
        self.letters.iter().filter(|entry| lost(*entry)).map(|(signature, _)| signature).collect()
    }
}

/// Two users at these stations who know each other.
fn two_users(at: [usize; 2]) -> World {
    let mut world = World::new(1);
    world.run_for(3_000_000);
    for (who, at) in at.into_iter().enumerate() {
        world.connect(who, at);
    }
    world.run_for(3_000_000);
    world
}

/// The same at the first and the second station, of which the first has never reached the second;
/// the second user is away.
fn never_reached() -> World {
    let mut world = World::new(1);
    world.fell(0);
    world.apart.insert((0, 1));
    world.raise(0);
    world.run_for(3_000_000);
    world.connect(0, 0);
    world.connect(1, 1);
    world.run_for(3_000_000);
    world.leave(1);
    world.run_for(1_000_000);
    world
}

#[test]
fn a_letter_on_its_way_to_a_connection_that_is_dead_comes_by_the_next_one() {
    for lingers_us in [1_000, 30_000, 2_000_000] {
        let mut world = two_users([0, 0]);
        let (dead, _) = world.users[1].at.take().unwrap();
        world.write(0, 1);
        world.run_for(2_000);
        world.connect(1, 0);
        world.run_for(lingers_us);
        world.later(0, Happening::Gone(dead));
        world.run_for(5_000_000);
        assert_eq!(world.users[1].copies, 1, "the old one ended {lingers_us} us later");
    }
}

#[test]
fn mail_that_a_bridge_does_not_acknowledge_stays_and_is_offered_again() {
    let mut world = never_reached();
    world.fell(1);
    world.users[BRIDGE].deaf = true;
    world.connect(BRIDGE, 0);
    world.run_for(1_000_000);
    world.write(0, 1);
    for minute in 0..30 {
        if minute == 15 {
            assert!(world.users[BRIDGE].copies > 1, "not offered");
            let letter = world.letters.keys().next().unwrap();
            assert_eq!(world.kept(letter).len(), 1, "it is gone");
            world.users[BRIDGE].deaf = false;
        }
        let (conn, _) = world.users[BRIDGE].at.unwrap();
        world.later(0, Happening::Arrive(conn, mtp_ping(minute + 1).into()));
        world.run_for(60_000_000);
    }
    let letter = world.letters.keys().next().unwrap();
    assert_eq!(world.kept(letter), [""; 0], "acknowledged, and still there");
}

#[test]
fn mail_goes_by_the_own_link_where_a_bridge_is_logged_in_too() {
    let mut world = never_reached();
    world.part(&[(1, 0)]);
    world.run_for(1_000_000);
    world.connect(BRIDGE, 0);
    world.connect(1, 1);
    world.run_for(1_000_000);
    world.write(0, 1);
    world.run_for(1_000_000);
    assert_eq!(world.users[BRIDGE].copies, 1, "there is no other way");
    world.mend();
    world.write(0, 1);
    world.run_for(1_000_000);
    assert_eq!((world.users[BRIDGE].copies, world.users[1].copies), (1, 1));
    world.part(&[(0, 1)]);
    world.run_for(1_000_000);
    world.mend();
    world.write(0, 1);
    world.run_for(1_000_000);
    assert_eq!((world.users[BRIDGE].copies, world.users[1].copies), (1, 2), "the link was second");
}

#[test]
fn mail_that_leaves_while_its_user_comes_back_is_had_once() {
    for back_us in (0..80_000).step_by(2_500) {
        let mut world = two_users([0, 0]);
        world.leave(1);
        world.run_for(1_000_000);
        world.write(0, 1);
        world.run_for(1_000_000);
        world.far_us = 20_000;
        world.connect(1, 1);
        while !world.users[1].announced {
            world.run_for(100);
        }
        // The login record goes out and its user away; then the mail follows.
        world.run_for(1_000);
        world.leave(1);
        world.run_for(back_us);
        world.connect(1, 0);
        world.run_for(3_000_000);
        // As clients do every five minutes.
        world.users[1].announced = false;
        world.announce(1);
        world.run_for(3_000_000);
        assert_eq!(world.users[1].copies, 1, "back after {back_us} us");
    }
}

#[test]
fn what_a_neighbour_says_again_after_it_has_gone_on_is_had_once() {
    for cut_us in (0..6_000).step_by(300) {
        let mut world = two_users([0, 1]);
        world.leave(1);
        // The first station still believes the user to be at the second.
        world.part(&[(0, 2), (2, 0)]);
        world.run_for(1_000_000);
        world.connect(1, 2);
        world.run_for(1_000_000);
        world.leave(1);
        world.run_for(1_000_000);
        world.write(0, 1);
        world.run_for(cut_us);
        world.part(&[(0, 1), (1, 0)]);
        world.apart.retain(|(a, b)| a + b == 1);
        world.run_for(10_000_000);
        // Had at the first, and then said again to the second, where the user is now.
        world.connect(1, 0);
        world.run_for(2_000_000);
        world.leave(1);
        world.run_for(1_000_000);
        world.connect(1, 1);
        world.mend();
        assert_eq!(world.users[1].copies, 1, "cut after {cut_us} us");
    }
}

#[test]
fn what_a_station_promised_to_keep_arrives_wherever_its_receiver_goes() {
    let seeds = std::env::var("DIM_NEIGHBORS_SEEDS").ok().and_then(|n| n.parse().ok());
    let mut arrived = 0;
    for seed in 1..=seeds.unwrap_or(4) {
        let mut world = World::new(seed);
        world.run_for(3_000_000);
        for _ in 0..300 {
            world.step();
        }
        // Peace: everybody ends up somewhere, says so, and stays.
        for who in 0..USERS {
            world.leave(who);
        }
        world.run_for(40_000_000);
        for who in 0..USERS {
            world.connect(who, who % STATIONS);
        }
        world.run_for(5_000_000);
        assert!(
            world.users[..USERS].iter().all(|user| user.announced),
            "seed {seed}: not logged in"
        );
        // Clients say so again every five minutes: mail that had crossed the first word of it on its
        // way goes after them then.
        for _ in 0..3 {
            world.run_for(100_000_000);
            for who in 0..USERS {
                world.users[who].announced = false;
                world.announce(who);
            }
        }
        world.run_for(60_000_000);
        let lost = world.lost();
        assert!(
            lost.is_empty(),
            "seed {seed}: {} of {}: {lost:?} lie in {:?}",
            lost.len(),
            world.letters.len(),
            lost.iter().map(|lost| world.kept(lost)).collect::<Vec<_>>()
        );
        arrived += world.users.iter().map(|user| user.arrived.len()).sum::<usize>();
    }
    assert!(arrived > 100, "only {arrived} letters in all worlds: nothing was tried");
}
