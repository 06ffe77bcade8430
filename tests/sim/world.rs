//! The world around the shards: time, network, store, clients, and what must be true of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dim::base::encode::{base64_decode, base64_encode};
use dim::base::time::Now;
use dim::client::account::Account;
use dim::crypto::key::{OpenKey, SignKey};
use dim::proto::directory::Ans;
use dim::proto::meta::MetaKind;
use dim::shard::effect::Effect;
use dim::shard::input::{ConnId, Input, Ticket};
use dim::shard::ring::{Ring, ShardIndex};
use dim::shard::{Policy, Shard, Station};
use dim::store::memory::MemoryStore;
use dim::store::{Store, StoreAnswer, StoreOp};
use dim::wire::{DeframeLimits, Deframer, Event, PushKey, encode_ack, mtp};
use serde_json::{Map, Value, json};

const SHARDS: u16 = 3;
const USERS: usize = 5;
/// Microseconds since 1970 at which every world begins.
const EPOCH_US: u64 = 1_790_000_000_000_000;

/// What will happen, and to whom.
enum Happening {
    Input(ShardIndex, Input),
    /// Bytes for a client, on the connection that it had then.
    Bytes(usize, ConnId, Bytes),
    /// The writer commits what has queued up.
    Commit,
    Read(ShardIndex, Ticket, StoreOp),
    /// A client hears that its connection is gone.
    Ended(usize, ConnId),
}

struct Client {
    account: Account,
    conn: Option<ConnId>,
    deframer: Deframer,
    /// Sent and not acknowledged: transaction id, message number, bytes.
    unsafe_mail: BTreeMap<u64, (u64, Bytes)>,
    /// Acknowledges what it gets.
    polite: bool,
    hellos: u64,
}

pub(crate) struct World {
    random: u64,
    now_us: u64,
    order: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    station: Arc<Station>,
    shards: Vec<Shard>,
    store: MemoryStore,
    writes: Vec<(ShardIndex, Ticket, StoreOp)>,
    owners: HashMap<ConnId, (ShardIndex, usize)>,
    clients: Vec<Client>,
    last_conn: u64,
    last_number: u64,
    /// Which life of the station this is.
    life: u32,
    /// Message number: receiver.
    sent: BTreeMap<u64, usize>,
    told_safe: BTreeSet<u64>,
    arrived: HashMap<u64, u32>,
    /// Acknowledgements that reached the station: in which life.
    settled: HashMap<u64, u32>,
    /// Which push, by its transaction id, carried which message.
    carried: HashMap<(ConnId, [u8; 8]), u64>,
    story: Vec<String>,
    mailbox_max: u64,
}

/// The same keys in every run, so that a seed means the same world: who owns an ID depends on it.
fn keys() -> &'static Vec<(SignKey, OpenKey)> {
    static KEYS: OnceLock<Vec<(SignKey, OpenKey)>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let accounts = include_str!("../vectors/data/accounts.json");
        let accounts: Value = serde_json::from_str(accounts).unwrap();
        let open = &accounts["accounts"]["alice"]["message_keys"][0];
        let open = OpenKey::from_map(open.as_object().unwrap()).unwrap();
        let sign = |n| {
            let key = json!({"algorithm": "ECC", "data": format!("{:064x}", n + 0x00c0_ffee)});
            SignKey::from_map(key.as_object().unwrap()).unwrap()
        };
        (0..=USERS).map(|n| (sign(n), open.clone())).collect()
    })
}

fn account(n: usize, kind: MetaKind, network: u8, seed: Option<&str>) -> Account {
    let (sign, open) = keys()[n].clone();
    let profile = Map::from_iter([("name".to_owned(), json!(format!("user {n}")))]);
    Account::create(kind, network, seed, sign, open, EPOCH_US as f64 / 1e6, profile).unwrap()
}

impl World {
    pub(crate) fn seeded(seed: u64) -> Self {
        let own = account(USERS, MetaKind::Mkm, 2, Some("sim"));
        let station = Arc::new(Station {
            id: own.id().clone(),
            meta: own.meta().to_map(),
            visa: own.document().unwrap().to_map(),
            sign: own.sign_key().clone(),
            open: own.message_keys().to_vec(),
        });
        let clients = (0..USERS).map(|n| Client {
            account: account(n, MetaKind::Eth, 0, None),
            conn: None,
            deframer: Deframer::new(DeframeLimits::default()),
            unsafe_mail: BTreeMap::new(),
            polite: true,
            hellos: 0,
        });
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_us: EPOCH_US,
            order: 0,
            agenda: BTreeMap::new(),
            station,
            shards: Vec::new(),
            store: MemoryStore::new(),
            writes: Vec::new(),
            owners: HashMap::new(),
            clients: clients.collect(),
            last_conn: 0,
            last_number: 0,
            life: 0,
            sent: BTreeMap::new(),
            told_safe: BTreeSet::new(),
            arrived: HashMap::new(),
            settled: HashMap::new(),
            carried: HashMap::new(),
            story: Vec::new(),
            mailbox_max: 20_480,
        };
        world.begin_life();
        world
    }

    fn begin_life(&mut self) {
        self.life += 1;
        let policy = Arc::new(Policy {
            flying_max: 3,
            flying_bytes_max: 4 << 10,
            acknowledge_ms: 300,
            mailbox_messages_max: self.mailbox_max,
            ..Policy::default()
        });
        let ring = Ring::new(SHARDS);
        self.shards = (0..SHARDS)
            .map(|n| {
                let (station, ans) = (self.station.clone(), Arc::new(Ans::default()));
                Shard::new(ShardIndex(n), ring, station, policy.clone(), ans, 1)
            })
            .collect();
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn later(&mut self, delay_us: u64, happening: Happening) {
        self.order += 1;
        self.agenda.insert((self.now_us + delay_us, self.order), happening);
    }

    /// Bytes travel in order: a constant delay for each direction.
    fn say(&mut self, conn: ConnId, bytes: Bytes) {
        self.order += 1;
        let at = (self.now_us + 200, self.order);
        let shard = self.owners.get(&conn).map_or(ShardIndex(0), |(shard, _)| *shard);
        self.agenda.insert(at, Happening::Input(shard, Input::Received { conn, bytes }));
    }

    /// One thing that somebody does, then time until the next.
    pub(crate) fn step(&mut self) {
        let who = usize::try_from(self.draw(USERS as u64)).unwrap();
        match self.draw(100) {
            0..50 => self.send(who),
            50..75 => self.connect(who),
            75..85 => self.vanish(who),
            85..92 => self.clients[who].polite = !self.clients[who].polite,
            92..97 => self.resend(who),
            97..98 => self.kill(),
            _ => {}
        }
        let wait = self.draw(40_000);
        self.run_for(wait);
    }

    fn run_for(&mut self, span_us: u64) {
        let until = self.now_us + span_us;
        while let Some((&(at, order), _)) = self.agenda.first_key_value() {
            if at > until {
                break;
            }
            self.now_us = at;
            let happening = self.agenda.remove(&(at, order)).unwrap();
            self.happen(happening);
        }
        self.now_us = until;
        for n in 0..SHARDS {
            let due = self.shards[usize::from(n)].next_deadline();
            if due.is_some_and(|due| due <= self.now().mono_ms) {
                self.tell(ShardIndex(n), Input::Tick);
            }
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: (self.now_us - EPOCH_US) / 1000, wall_us: self.now_us }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input(shard, input) => {
                // A connection may have moved while the bytes were under way.
                let shard = match &input {
                    Input::Received { conn, .. } | Input::Closed { conn } => {
                        match self.owners.get(conn) {
                            Some((owner, _)) => *owner,
                            None => return,
                        }
                    }
                    _ => shard,
                };
                self.tell(shard, input);
            }
            Happening::Bytes(who, conn, bytes) => self.hear(who, conn, bytes),
            Happening::Commit => self.commit(),
            Happening::Read(shard, ticket, op) => {
                let answer = self.store.read(&op);
                // What is written after this may be answered before.
                let delay = self.draw(1000);
                self.later(delay, Happening::Input(shard, Input::Stored { ticket, answer }));
            }
            Happening::Ended(who, conn) => {
                if self.clients[who].conn == Some(conn) {
                    self.clients[who].conn = None;
                }
            }
        }
    }

    fn tell(&mut self, shard: ShardIndex, input: Input) {
        if let Input::Received { conn, bytes } = &input {
            self.note_settled(*conn, bytes);
        }
        // What is still under way on a connection that is gone reaches nobody.
        if let Input::Closed { conn } = &input {
            self.owners.remove(conn);
        }
        let mut effects = Vec::new();
        let now = self.now();
        let host = &mut self.shards[usize::from(shard.0)];
        host.handle(now, input, &mut effects);
        host.check();
        for effect in effects {
            self.carry_out(shard, effect);
        }
    }

    fn carry_out(&mut self, shard: ShardIndex, effect: Effect) {
        match effect {
            Effect::Send { conn, bytes } => {
                if let Some((_, who)) = self.owners.get(&conn).copied() {
                    self.later(300, Happening::Bytes(who, conn, bytes));
                }
            }
            Effect::Forward { to, parcel } => {
                self.later(50, Happening::Input(to, Input::Parcel(parcel)));
            }
            Effect::Dial { .. } => {}
            Effect::Move { conn, to, session } => {
                if let Some(owner) = self.owners.get_mut(&conn) {
                    owner.0 = to;
                }
                // Nothing else for this connection can be first: bytes under way follow it.
                self.tell(to, Input::Adopted { conn, session });
            }
            Effect::Store { ticket, op } if op.is_read() => {
                let delay = 100 + self.draw(3000);
                self.later(delay, Happening::Read(shard, ticket, op));
            }
            Effect::Store { ticket, op } => {
                if self.writes.is_empty() {
                    let delay = 100 + self.draw(5000);
                    self.later(delay, Happening::Commit);
                }
                self.writes.push((shard, ticket, op));
            }
            Effect::Close { conn, .. } => self.cut(conn),
            _ => {}
        }
    }

    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.writes);
        let ops: Vec<StoreOp> = batch.iter().map(|(_, _, op)| op.clone()).collect();
        let answers = self.store.commit(&ops).unwrap();
        for ((shard, ticket, _), answer) in batch.into_iter().zip(answers) {
            assert!(!matches!(answer, StoreAnswer::Failed(_)));
            self.later(20, Happening::Input(shard, Input::Stored { ticket, answer }));
        }
    }

    fn cut(&mut self, conn: ConnId) {
        if let Some((_, who)) = self.owners.get(&conn).copied() {
            self.later(300, Happening::Ended(who, conn));
            self.later(100, Happening::Input(ShardIndex(0), Input::Closed { conn }));
        }
    }

    /// A client connects, if it is not, and logs in; then it sends again what is not safe.
    fn connect(&mut self, who: usize) {
        if self.clients[who].conn.is_some() {
            return;
        }
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let secret = [u8::try_from(self.last_conn % 251).unwrap(); 32];
        let shard = ShardIndex(u16::try_from(self.last_conn).unwrap() % SHARDS);
        self.owners.insert(conn, (shard, who));
        let client = &mut self.clients[who];
        client.conn = Some(conn);
        client.deframer = Deframer::new(DeframeLimits::default());
        let peer = "127.0.0.1:5000".parse().unwrap();
        self.tell(shard, Input::Opened { conn, peer, secret });
        let key: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        for session in [None, Some(key)] {
            let hello = self.hello(who, session);
            let frame = frame(mtp::Kind::Message, 1 << 40, &hello);
            self.say(conn, frame);
        }
        self.resend(who);
    }

    fn hello(&mut self, who: usize, session: Option<String>) -> Bytes {
        let client = &mut self.clients[who];
        client.hellos += 1;
        let content = json!({"type": 136, "sn": client.hellos, "command": "handshake",
            "title": "Hello world!", "session": session, "group": "stations@everywhere"});
        let data = content.to_string();
        let signature = client.account.sign_key().sign(data.as_bytes()).unwrap();
        let message = json!({"sender": client.account.id().as_str(),
            "receiver": "station@anywhere", "time": self.now_us as f64 / 1e6, "data": data,
            "signature": base64_encode(&signature), "meta": client.account.meta().to_map(),
            "visa": client.account.document().unwrap().to_map()});
        Bytes::from(message.to_string())
    }

    fn send(&mut self, who: usize) {
        let to = usize::try_from(self.draw(USERS as u64)).unwrap();
        if to != who {
            self.send_to(who, to);
        }
    }

    fn send_to(&mut self, who: usize, to: usize) {
        let Some(conn) = self.clients[who].conn else { return };
        self.last_number += 1;
        let number = self.last_number;
        let data = number.to_be_bytes();
        let client = &self.clients[who];
        let signature = client.account.sign_key().sign(&data).unwrap();
        let message = json!({"sender": client.account.id().as_str(),
            "receiver": self.clients[to].account.id().as_str(), "time": 1.0,
            "data": base64_encode(&data), "key": "AAAA", "signature": base64_encode(&signature)});
        let body = Bytes::from(message.to_string());
        self.sent.insert(number, to);
        self.story.push(format!("{number} sent by {who} on {conn} at {}", self.now_us));
        self.clients[who].unsafe_mail.insert(number, (number, body.clone()));
        self.say(conn, frame(mtp::Kind::Message, number, &body));
    }

    /// The same bytes again, as clients do for what was not acknowledged.
    fn resend(&mut self, who: usize) {
        let Some(conn) = self.clients[who].conn else { return };
        let again: Vec<(u64, Bytes)> =
            self.clients[who].unsafe_mail.iter().map(|(id, (_, b))| (*id, b.clone())).collect();
        for (id, body) in again {
            self.story.push(format!("{id} sent again on {conn} at {}", self.now_us));
            self.say(conn, frame(mtp::Kind::Message, id, &body));
        }
    }

    fn vanish(&mut self, who: usize) {
        if let Some(conn) = self.clients[who].conn.take() {
            self.later(100, Happening::Input(ShardIndex(0), Input::Closed { conn }));
        }
    }

    /// kill -9: what was not synced is gone, and every connection.
    fn kill(&mut self) {
        self.story.push(format!("killed at {}", self.now_us));
        self.agenda.clear();
        self.writes.clear();
        self.owners.clear();
        self.store.crash();
        for client in &mut self.clients {
            client.conn = None;
        }
        self.begin_life();
    }

    fn hear(&mut self, who: usize, conn: ConnId, bytes: Bytes) {
        if self.clients[who].conn != Some(conn) {
            return;
        }
        self.clients[who].deframer.feed(bytes);
        while let Ok(Some(event)) = self.clients[who].deframer.next_event() {
            match event {
                Event::Acknowledged(PushKey::Mtp(id)) => {
                    let id = u64::from_be_bytes(id);
                    if let Some((number, _)) = self.clients[who].unsafe_mail.remove(&id) {
                        self.told_safe.insert(number);
                    }
                }
                Event::Message { ack, body } => self.receive(who, conn, &ack, &body),
                _ => {}
            }
        }
    }

    fn receive(&mut self, who: usize, conn: ConnId, ack: &dim::wire::Ack, body: &Bytes) {
        let message: Value = serde_json::from_slice(body).unwrap();
        let from_station = message["sender"] == self.station.id.as_str();
        let reply: Option<Bytes> = encode_ack(ack).map(Bytes::from);
        if !from_station {
            let data = base64_decode(message["data"].as_str().unwrap()).unwrap();
            let number = u64::from_be_bytes(data.try_into().unwrap());
            assert_eq!(self.sent.get(&number), Some(&who), "misdirected: {number}");
            self.story.push(format!("{number} to {who} on {conn} at {}", self.now_us));
            *self.arrived.entry(number).or_default() += 1;
            assert_ne!(
                self.settled.get(&number),
                Some(&self.life),
                "message {number} came again after its acknowledgement: {:#?}",
                self.about(number)
            );
            if let dim::wire::Ack::Mtp { id, .. } = ack {
                self.carried.insert((conn, *id), number);
            }
            if !self.clients[who].polite {
                return;
            }
        }
        if let Some(reply) = reply {
            self.say(conn, reply);
        }
    }

    fn about(&self, number: u64) -> Vec<&String> {
        let (of, killed) = (format!("{number} "), "killed");
        self.story.iter().filter(|s| s.starts_with(&of) || s.starts_with(killed)).collect()
    }

    /// An acknowledgement reached the station: from now on the message may not come again.
    fn note_settled(&mut self, conn: ConnId, bytes: &Bytes) {
        if bytes.len() == 18
            && let Some(id) = bytes.get(4..12).and_then(|id| <[u8; 8]>::try_from(id).ok())
            && let Some(number) = self.carried.get(&(conn, id))
        {
            self.story.push(format!("{number} settled by {conn} at {}", self.now_us));
            self.settled.insert(*number, self.life);
        }
    }

    /// One user sends to another, who is away and has room for 40.
    pub(crate) fn leave_mail(&mut self, from: usize, to: usize, count: usize) {
        self.mailbox_max = 40;
        self.begin_life();
        self.connect(from);
        for _ in 0..count {
            self.send_to(from, to);
            self.run_for(20_000);
        }
        self.run_for(2_000_000);
    }

    pub(crate) fn stored(&self) -> usize {
        self.store.mail_count()
    }

    pub(crate) fn arrived(&self) -> usize {
        self.arrived.len()
    }

    pub(crate) fn days_pass(&mut self, days: u64) {
        self.now_us += days * 24 * 3600 * 1_000_000;
        for _ in 0..5 {
            for n in 0..SHARDS {
                self.tell(ShardIndex(n), Input::Tick);
            }
            self.run_for(1_000_000);
        }
    }

    /// Everybody comes, reads and acknowledges, until nothing happens any more.
    pub(crate) fn come_to_rest(&mut self) {
        for who in 0..USERS {
            self.vanish(who);
        }
        self.run_for(1_000_000);
        for who in 0..USERS {
            self.clients[who].polite = true;
            self.connect(who);
        }
        for _ in 0..200 {
            self.run_for(50_000);
        }
    }

    pub(crate) fn judge(&self) {
        let lost: Vec<&u64> =
            self.told_safe.iter().filter(|number| !self.arrived.contains_key(number)).collect();
        assert!(lost.is_empty(), "told safe and never arrived: {lost:?}");
        let unsafe_mail: HashSet<u64> =
            self.clients.iter().flat_map(|c| c.unsafe_mail.keys().copied()).collect();
        assert!(unsafe_mail.is_empty(), "never acknowledged: {unsafe_mail:?}");
        assert!(self.arrived.len() > 50, "only {} messages arrived", self.arrived.len());
        assert_eq!(self.store.mail_count(), 0, "mail is left though everybody has read");
    }

    pub(crate) fn story(&self) -> Vec<String> {
        self.story.clone()
    }
}

fn frame(kind: mtp::Kind, id: u64, body: &Bytes) -> Bytes {
    let len = u32::try_from(body.len()).unwrap();
    let head = mtp::encode_head(kind, id.to_be_bytes(), 1, 0, len);
    Bytes::from([&head[..], body].concat())
}
