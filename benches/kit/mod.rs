//! What is measured, and driven by fuzzers: people whose keys are the same in every run, what they
//! write, and a station of shards in memory that carries out its own effects.
#![allow(dead_code, reason = "each bench and fuzz target uses some of it")]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dim::base::encode::{base64_encode, hex_encode};
use dim::base::time::Now;
use dim::client::account::Account;
use dim::client::message::{Envelope, Instant, Reliable};
use dim::crypto::aes::AesKey;
use dim::crypto::identity::seal_keys;
use dim::crypto::key::{CipherKey, OpenKey, SignKey};
use dim::crypto::seal::wrap_key;
use dim::proto::directory::{Ans, Names};
use dim::proto::id::Id;
use dim::proto::json::Parser;
use dim::proto::message::{MessageError, ReliableMessage};
use dim::proto::meta::MetaKind;
use dim::shard::effect::Effect;
use dim::shard::input::{ConnId, Input};
use dim::shard::neighbor::LinkId;
use dim::shard::ring::{Ring, ShardIndex};
use dim::shard::{Policy, Shard, Station};
use dim::store::Store;
use dim::store::memory::MemoryStore;
use dim::wire::{Deframer, Event, Framing, encode_ack, mars, push_head, push_tail, websocket};
use serde_json::{Map, Value, json};

/// Microseconds since 1970 at which everything begins.
pub(crate) const EPOCH_US: u64 = 1_790_000_000_000_000;
/// Characters of a text that make its sealed and signed message some 1,200 bytes long.
const TEXT_CHARS: usize = 280;

/// Accounts that were made by the reference's packages.
pub(crate) fn vectors() -> &'static Value {
    static ACCOUNTS: OnceLock<Value> = OnceLock::new();
    ACCOUNTS.get_or_init(|| {
        let text = include_str!("../../tests/vectors/data/accounts.json");
        let whole: Value = serde_json::from_str(text).expect("the vectors are JSON");
        whole["accounts"].clone()
    })
}

/// An object in the vectors.
pub(crate) fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// An RSA-1024 key, as the reference's clients have one for what is sealed for them.
pub(crate) fn open_key() -> OpenKey {
    static KEY: OnceLock<OpenKey> = OnceLock::new();
    let make = || OpenKey::from_map(object(&vectors()["alice"]["message_keys"][0])).expect("a key");
    KEY.get_or_init(make).clone()
}

/// The ECC key number `n`.
pub(crate) fn sign_key(n: usize) -> SignKey {
    let key = json!({"algorithm": "ECC", "data": format!("{:064x}", n + 0x00c0_ffee)});
    SignKey::from_map(object(&key)).expect("a key")
}

fn account(n: usize, kind: MetaKind, network: u8, seed: Option<&str>) -> Account {
    let profile = Map::from_iter([("name".to_owned(), json!(format!("user {n}")))]);
    let time = EPOCH_US as f64 / 1e6;
    Account::create(kind, network, seed, sign_key(n), open_key(), time, profile)
        .expect("an account")
}

/// The user number `n`, from 1.
pub(crate) fn person(n: usize) -> Account {
    account(n, MetaKind::Eth, 0, None)
}

/// Another station, with number `n`.
pub(crate) fn neighbor(n: usize) -> Account {
    account(n, MetaKind::Mkm, 2, Some("other"))
}

/// The first user from number `from` on that is owned by a shard.
pub(crate) fn person_of(shard: ShardIndex, ring: Ring, from: usize) -> Account {
    (from..)
        .map(person)
        .find(|person| ring.owner_of(person.id()) == shard)
        .expect("IDs are spread over all shards")
}

/// The station.
pub(crate) fn station() -> Arc<Station> {
    static STATION: OnceLock<Arc<Station>> = OnceLock::new();
    let make = || {
        let own = account(0, MetaKind::Mkm, 2, Some("bench"));
        Arc::new(Station {
            id: own.id().clone(),
            meta: own.meta().to_map(),
            visa: own.document().expect("a visa").to_map(),
            sign: own.sign_key().clone(),
            open: own.message_keys().to_vec(),
        })
    };
    STATION.get_or_init(make).clone()
}

/// Writes to somebody, each message another one.
#[derive(Clone)]
pub(crate) struct Pen {
    from: Account,
    to: Id,
    key: CipherKey,
    keys: Map<String, Value>,
    number: u64,
}

impl Pen {
    pub(crate) fn new(from: &Account, to: &Account) -> Self {
        let key = CipherKey::Aes(AesKey::from_passphrase("between the two"));
        let keys = wrap_key(&key, &seal_keys(to.meta(), to.documents()));
        Self { from: from.clone(), to: to.id().clone(), key, keys, number: 0 }
    }

    /// A text as a client of today sends it: some 1,200 bytes.
    pub(crate) fn message(&mut self) -> Bytes {
        self.reliable().to_bytes()
    }

    pub(crate) fn reliable(&mut self) -> Reliable {
        self.number += 1;
        let time = (EPOCH_US + self.number) as f64 / 1e6;
        let content = json!({"type": 1, "sn": self.number, "time": time,
            "text": "0123456789".repeat(TEXT_CHARS / 10)});
        let envelope = Envelope {
            sender: self.from.id().clone(),
            receiver: self.to.clone(),
            group: None,
            time,
        };
        let sealed = Instant { envelope, content: object(&content).clone() }
            .seal(&self.key, self.keys.clone())
            .expect("AES seals everything");
        sealed.sign(self.from.sign_key()).expect("a signature")
    }

    /// The same, as a client writes it.
    pub(crate) fn frame(&mut self, framing: Framing) -> Bytes {
        let body = self.message();
        client_frame(framing, self.number, &body)
    }
}

/// `body` as a client wraps it; `id` is not 0.
pub(crate) fn client_frame(framing: Framing, id: u64, body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).expect("a short body");
    match framing {
        Framing::Mtp | Framing::Lines => {
            [&push_head(framing, id, len), body, push_tail(framing)].concat().into()
        }
        Framing::WebSocket => websocket::encode_masked(websocket::TEXT, body, [1, 2, 3, 4]),
        Framing::Mars => {
            let seq = u32::try_from(id % (1 << 31)).expect("it fits");
            [&mars::encode_head(mars::SEND_MSG, seq, len), body].concat().into()
        }
    }
}

/// A message, read.
pub(crate) fn parsed(raw: &Bytes) -> ReliableMessage {
    try_parse(raw).expect("a message")
}

/// A message, read if it is one.
pub(crate) fn try_parse(raw: &Bytes) -> Result<ReliableMessage, MessageError> {
    let mut names = Names::new(Arc::new(Ans::default()));
    ReliableMessage::parse(raw.clone(), &mut Parser::new(), &mut names)
}

/// A client's end of a connection.
struct End {
    shard: ShardIndex,
    deframer: Deframer,
    /// Bytes that the station has written.
    sent: u64,
}

/// A station in memory, with clients that acknowledge what they are sent.
pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) shards: Vec<Shard>,
    store: MemoryStore,
    ends: HashMap<ConnId, End>,
    /// What is still to happen, in order.
    agenda: VecDeque<(ShardIndex, Input)>,
    policy: Policy,
    last_conn: u64,
    /// Neighbours that are to be dialled, by host.
    pub(crate) dials: Vec<(ShardIndex, LinkId, String)>,
    /// Messages that reached clients.
    pub(crate) heard: u64,
    /// Acknowledgements that reached clients.
    pub(crate) acknowledged: u64,
}

impl World {
    pub(crate) fn new(shards: u16, policy: Policy) -> Self {
        let mut world = Self {
            now: Now { mono_ms: 0, wall_us: EPOCH_US },
            shards: Vec::new(),
            store: MemoryStore::new(),
            ends: HashMap::new(),
            agenda: VecDeque::new(),
            policy,
            last_conn: 0,
            dials: Vec::new(),
            heard: 0,
            acknowledged: 0,
        };
        world.start(shards);
        world
    }

    /// All shards anew, as after a kill; what was synced is still there.
    pub(crate) fn start(&mut self, shards: u16) {
        self.agenda.clear();
        self.ends.clear();
        self.dials.clear();
        self.store.crash();
        let (ring, policy) = (Ring::new(shards), Arc::new(self.policy.clone()));
        let shard = |n| {
            let ans = Arc::new(Ans::default());
            Shard::new(ShardIndex(n), ring, station(), policy.clone(), ans, 1)
        };
        self.shards = (0..shards).map(shard).collect();
    }

    /// A new connection, on the shard that its number says.
    pub(crate) fn open(&mut self) -> ConnId {
        let count = self.shards.len() as u64;
        let shard = ShardIndex(u16::try_from((self.last_conn + 1) % count).expect("few shards"));
        let (conn, peer, secret) = self.connect(shard);
        self.tell(shard, Input::Opened { conn, peer, secret });
        conn
    }

    /// A connection to a neighbour that was to be dialled.
    pub(crate) fn dialed(&mut self, shard: ShardIndex, link: LinkId) -> ConnId {
        let (conn, peer, secret) = self.connect(shard);
        self.tell(shard, Input::Dialed { link, conn, peer, secret });
        conn
    }

    fn connect(&mut self, shard: ShardIndex) -> (ConnId, SocketAddr, [u8; 32]) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let deframer = Deframer::mtp_client(self.policy.framing);
        self.ends.insert(conn, End { shard, deframer, sent: 0 });
        (conn, ([127, 0, 0, 1], 5000).into(), secret(conn))
    }

    /// A connection on which somebody is logged in, over MTP.
    pub(crate) fn login(&mut self, who: &Account) -> ConnId {
        let conn = self.open();
        for session in [None, Some(hex_encode(&secret(conn)))] {
            self.now.mono_ms += 1;
            self.now.wall_us += 1000;
            let hello = hello(who, session, self.now);
            self.write(conn, client_frame(Framing::Mtp, 1 << 40, &hello));
        }
        conn
    }

    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.ends.contains_key(&conn)
    }

    /// A client writes, and everything follows that comes of it.
    pub(crate) fn write(&mut self, conn: ConnId, bytes: Bytes) {
        if let Some(end) = self.ends.get(&conn) {
            self.tell(end.shard, Input::Received { conn, bytes });
        }
    }

    /// A client is gone.
    pub(crate) fn close(&mut self, conn: ConnId) {
        if let Some(end) = self.ends.remove(&conn) {
            self.tell(end.shard, Input::Closed { conn });
        }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_us += ms * 1000;
        for index in 0..self.shards.len() {
            self.tell(ShardIndex(u16::try_from(index).expect("few shards")), Input::Tick);
        }
    }

    /// One input, and everything that follows from it.
    pub(crate) fn tell(&mut self, shard: ShardIndex, input: Input) {
        let mut effects = Vec::new();
        self.handle(shard, input, &mut effects);
        self.carry_out(shard, effects);
    }

    /// One input, and nothing that follows.
    pub(crate) fn handle(&mut self, shard: ShardIndex, input: Input, out: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
            shard.handle(self.now, input, out);
        }
    }

    /// Does what a shard wants, until nothing is left to do.
    pub(crate) fn carry_out(&mut self, shard: ShardIndex, effects: Vec<Effect>) {
        self.effects(shard, effects);
        while let Some((shard, input)) = self.agenda.pop_front() {
            let mut effects = Vec::new();
            self.handle(shard, input, &mut effects);
            self.effects(shard, effects);
        }
    }

    fn effects(&mut self, shard: ShardIndex, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { conn, bytes } => self.hear(conn, bytes),
                Effect::Forward { to, parcel } => {
                    self.agenda.push_back((to, Input::Parcel(parcel)));
                }
                Effect::Move { conn, to, session } => {
                    if let Some(end) = self.ends.get_mut(&conn) {
                        end.shard = to;
                    }
                    self.agenda.push_back((to, Input::Adopted { conn, session }));
                }
                Effect::Store { ticket, op } => {
                    let answer = match op.is_read() {
                        true => Some(self.store.read(&op)),
                        false => self.store.commit(&[op]).expect("memory").pop(),
                    };
                    let answer = answer.expect("an answer for each op");
                    self.agenda.push_back((shard, Input::Stored { ticket, answer }));
                }
                Effect::Close { conn, .. } => {
                    if self.ends.remove(&conn).is_some() {
                        self.agenda.push_back((shard, Input::Closed { conn }));
                    }
                }
                Effect::WatchArrival { conn } => {
                    if let Some(end) = self.ends.get(&conn) {
                        let input = Input::Arrived { conn, total: end.sent };
                        self.agenda.push_back((end.shard, input));
                    }
                }
                Effect::Dial { link, host, .. } => self.dials.push((shard, link, host)),
                Effect::Pause { .. } | Effect::Resume { .. } | Effect::Stopped => {}
            }
        }
    }

    fn hear(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(end) = self.ends.get_mut(&conn) else { return };
        end.sent += bytes.len() as u64;
        end.deframer.feed(bytes);
        while let Ok(Some(event)) = end.deframer.next_event() {
            match event {
                Event::Message { ack, .. } => {
                    self.heard += 1;
                    if let Some(ok) = encode_ack(&ack) {
                        let input = Input::Received { conn, bytes: ok.into() };
                        self.agenda.push_back((end.shard, input));
                    }
                }
                Event::Acknowledged(_) => self.acknowledged += 1,
                _ => {}
            }
        }
    }
}

/// What a connection's session key is made of.
pub(crate) fn secret(conn: ConnId) -> [u8; 32] {
    let [.., low] = conn.0.to_be_bytes();
    [low; 32]
}

/// A handshake, in the open.
pub(crate) fn hello(who: &Account, session: Option<String>, now: Now) -> Bytes {
    let content = json!({"type": 136, "sn": now.wall_ms(), "command": "handshake",
        "title": "Hello world!", "session": session, "group": "stations@everywhere"});
    said(who, "station@anywhere", &content, now)
}

/// A content in the open, with everything that proves its sender.
pub(crate) fn said(who: &Account, to: &str, content: &Value, now: Now) -> Bytes {
    let data = content.to_string();
    let signature = who.sign_key().sign(data.as_bytes()).expect("a signature");
    let message = json!({"sender": who.id().as_str(), "receiver": to,
        "time": now.wall_s(), "data": data, "signature": base64_encode(&signature),
        "meta": who.meta().to_map(), "visa": who.document().map(|visa| visa.to_map())});
    message.to_string().into()
}
