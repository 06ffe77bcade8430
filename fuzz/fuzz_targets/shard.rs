//! Two shards under any list of things that can happen to them, by users, by other stations, by the
//! operator: whatever comes, no shard is at odds with itself, and of connections that are gone nothing is left.
#![no_main]

#[path = "../../benches/kit/mod.rs"]
mod kit;

use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use bytes::Bytes;
use dim::base::encode::hex_encode;
use dim::client::account::Account;
use dim::proto::directory::Ans;
use dim::shard::input::{ConnId, Input};
use dim::shard::neighbor::Neighbor;
use dim::shard::ring::{Ring, ShardIndex};
use dim::shard::{Policy, Verify};
use dim::wire::Framing;
use kit::{Pen, World, client_frame, hello, person_of, said};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const SHARDS: u16 = 2;
/// Operations of one input; more are cut off, so that an execution stays short.
const OPS_MAX: usize = 40;

#[derive(Debug, Arbitrary)]
enum Op {
    Open,
    Login {
        who: u8,
    },
    /// Half of a login, on a connection where somebody may be logged in.
    Hello {
        conn: u8,
        who: u8,
        with_key: bool,
    },
    Send {
        from: u8,
        to: u8,
        conn: u8,
    },
    /// A content said to the station in the open.
    Say {
        who: u8,
        conn: u8,
        which: u8,
        about: u8,
    },
    Text {
        who: u8,
        conn: u8,
        content: String,
    },
    /// A content that is not JSON at all, framed.
    Frame {
        conn: u8,
        framing: u8,
        body: Vec<u8>,
    },
    Bytes {
        conn: u8,
        bytes: Vec<u8>,
    },
    /// A message, cut into two reads.
    Halves {
        from: u8,
        to: u8,
        conn: u8,
        at: u16,
    },
    Close {
        conn: u8,
    },
    Pass {
        ms: u32,
    },
    Reload {
        trust: bool,
        narrow: bool,
    },
    /// The message sent last, once more.
    Repeat {
        conn: u8,
    },
    /// A login over WebSocket, and what is said afterwards.
    Web {
        who: u8,
        body: Vec<u8>,
    },
    /// Which of the stations are neighbours, and whether by their IDs.
    Neighbors {
        which: u8,
        named: bool,
    },
    /// What was to be dialled first is reached, or not, and says who it is.
    Dialed {
        is_there: bool,
        who: u8,
        greets: bool,
    },
    /// A message as a station passes it on.
    Passed {
        from: u8,
        to: u8,
        conn: u8,
        rcpt: u8,
        traces: u8,
    },
    Kill,
    Stop {
        shard: u8,
    },
}

#[derive(Debug, Arbitrary)]
struct Story {
    narrow: bool,
    trust: bool,
    ops: Vec<Op>,
}

/// Three users, two other stations.
fn people() -> &'static [Account; 5] {
    static PEOPLE: OnceLock<[Account; 5]> = OnceLock::new();
    PEOPLE.get_or_init(|| {
        let ring = Ring::new(SHARDS);
        let [a, b, c] = [(0, 1), (0, 50), (1, 100)]
            .map(|(shard, from)| person_of(ShardIndex(shard), ring, from));
        [a, b, c, kit::neighbor(3), kit::neighbor(4)]
    })
}

fn person(who: u8) -> &'static Account {
    let people = people();
    &people[usize::from(who) % people.len()]
}

/// For each pair; made once, since a wrapped key takes longer than a whole story.
fn pens() -> &'static [Pen] {
    static PENS: OnceLock<Vec<Pen>> = OnceLock::new();
    PENS.get_or_init(|| {
        let people = people();
        people.iter().flat_map(|from| people.iter().map(|to| Pen::new(from, to))).collect()
    })
}

fn policy(trust: bool, narrow: bool) -> Policy {
    let verify = if trust { Verify::Session } else { Verify::Every };
    match narrow {
        false => Policy { verify, ..Policy::default() },
        true => Policy {
            verify,
            flying_max: 1,
            flying_bytes_max: 1500,
            waiting_bytes_max: 3000,
            parked_messages_max: 2,
            mailbox_messages_max: 3,
            users_idle_max: 1,
            early_messages_max: 4,
            spare_loopback: false,
            ..Policy::default()
        },
    }
}

fn content(which: u8, about: &Account) -> serde_json::Value {
    let id = about.id().as_str();
    match which % 15 {
        0 => json!({"type": 136, "sn": 1, "command": "meta", "did": id}),
        1 => json!({"type": 136, "sn": 2, "command": "documents", "did": id}),
        2 => json!({"type": 136, "sn": 3, "command": "meta", "did": id, "ID": id,
            "meta": about.meta().to_map()}),
        3 => json!({"type": 136, "sn": 4, "command": "documents", "did": id,
            "meta": about.meta().to_map(),
            "documents": about.documents().iter().map(|d| d.to_map()).collect::<Vec<_>>()}),
        4 => json!({"type": 136, "sn": 5, "command": "report", "title": "offline"}),
        5 => json!({"type": 136, "sn": 6, "command": "report", "title": "online"}),
        6 => json!({"type": 136, "sn": 7, "command": "block", "list": [id]}),
        7 => json!({"type": 136, "sn": 8, "command": "users"}),
        8 => json!({"type": 136, "sn": 9, "command": "block"}),
        9 => json!({"type": 136, "sn": 10, "command": "mute", "time": 1.8e9, "list": [id]}),
        10 => json!({"type": 136, "sn": 11, "command": "ans", "names": "station monkey-king"}),
        11 => json!({"type": 1, "sn": 12, "text": id}),
        12 => json!({"type": 136, "sn": 13, "command": "documents", "did": id, "last_time": 7}),
        13 => json!({"type": 136, "sn": 14, "command": "handshake", "title": "DIM?",
            "session": "key"}),
        _ => json!({"type": 136, "sn": 9, "command": "login", "did": id, "time": 1.79e9,
            "station": {"did": "gsp@everywhere", "host": "127.0.0.1", "port": 9394}}),
    }
}

struct Run {
    world: World,
    conns: Vec<ConnId>,
    pens: Vec<Pen>,
    last: Bytes,
}

impl Run {
    fn conn(&self, conn: u8) -> ConnId {
        match self.conns.len() {
            0 => ConnId(0),
            count => self.conns[usize::from(conn) % count],
        }
    }

    fn pen(&mut self, from: u8, to: u8) -> &mut Pen {
        let count = people().len();
        &mut self.pens[usize::from(from) % count * count + usize::from(to) % count]
    }

    fn message(&mut self, from: u8, to: u8) -> Bytes {
        self.last = self.pen(from, to).frame(Framing::Mtp);
        self.last.clone()
    }

    fn handshake(&mut self, conn: ConnId, who: &Account, title: &str) {
        let content = json!({"type": 136, "sn": 7, "time": self.world.now.wall_s(),
            "command": "handshake", "title": title, "session": "key"});
        let said = said(who, "station@anywhere", &content, self.world.now);
        self.world.write(conn, client_frame(Framing::Mtp, 11, &said));
    }

    /// A login in a browser's way.
    fn web(&mut self, who: &Account, body: &[u8]) {
        let conn = self.world.open();
        self.conns.push(conn);
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        self.world.write(conn, dim::wire::upgrade::request("127.0.0.1", 9394, key));
        for session in [None, Some(hex_encode(&kit::secret(conn)))] {
            let hello = hello(who, session, self.world.now);
            self.world.write(conn, client_frame(Framing::WebSocket, 7, &hello));
        }
        self.world.write(conn, client_frame(Framing::WebSocket, 8, body));
    }

    fn dialed(&mut self, is_there: bool, who: u8, greets: bool) {
        if self.world.dials.is_empty() {
            return;
        }
        let (shard, link, host) = self.world.dials.remove(0);
        if !is_there {
            return self.world.tell(shard, Input::NotDialed { link });
        }
        let conn = self.world.dialed(shard, link);
        self.conns.push(conn);
        // Mostly who is looked for.
        let who = host.parse().unwrap_or(who).wrapping_add(u8::from(who == 0xff));
        if greets {
            self.handshake(conn, person(who), "DIM?");
            self.handshake(conn, person(who), "DIM!");
        }
    }

    /// Members that stations add stand before the message's own.
    fn passed(&mut self, from: u8, to: u8, rcpt: u8, traces: u8) -> Bytes {
        let message = self.pen(from, to).message();
        let stations: Vec<_> = people()[3..].iter().map(|account| account.id().as_str()).collect();
        let traces = &stations[..usize::from(traces) % (stations.len() + 1)];
        let route = json!({"rcpt": person(rcpt).id().as_str(), "traces": traces}).to_string();
        let body = [&route.as_bytes()[..route.len() - 1], b",", &message[1..]].concat();
        client_frame(Framing::Mtp, 12, &body)
    }

    fn neighbors(&mut self, which: u8, named: bool) {
        let listed = [3_u8, 4].into_iter().filter(|n| which & n != 0).map(|n| Neighbor {
            id: named.then(|| person(n).id().clone()),
            host: n.to_string(),
            port: 9394,
            tls: n == 4,
        });
        let list: Arc<[Neighbor]> = listed.collect();
        for index in 0..SHARDS {
            self.world.tell(ShardIndex(index), Input::Neighbors(list.clone()));
        }
    }

    fn op(&mut self, op: Op) {
        match op {
            Op::Open => self.conns.push(self.world.open()),
            Op::Login { who } => self.conns.push(self.world.login(person(who))),
            Op::Hello { conn, who, with_key } => {
                let conn = self.conn(conn);
                let [.., low] = conn.0.to_be_bytes();
                let key = with_key.then(|| hex_encode(&[low; 32]));
                let hello = hello(person(who), key, self.world.now);
                self.world.write(conn, client_frame(Framing::Mtp, 7, &hello));
            }
            Op::Send { from, to, conn } => {
                let (conn, message) = (self.conn(conn), self.message(from, to));
                self.world.write(conn, message);
            }
            Op::Say { who, conn, which, about } => {
                let content = content(which, person(about));
                let said = said(person(who), "station@anywhere", &content, self.world.now);
                self.world.write(self.conn(conn), client_frame(Framing::Mtp, 8, &said));
            }
            Op::Text { who, conn, content } => {
                let content = serde_json::from_str(&content).unwrap_or(json!({"type": 136}));
                let said = said(person(who), "station@anywhere", &content, self.world.now);
                self.world.write(self.conn(conn), client_frame(Framing::Mtp, 9, &said));
            }
            Op::Frame { conn, framing, body } => {
                let all = [Framing::Mtp, Framing::Mars, Framing::WebSocket, Framing::Lines];
                let framing = all[usize::from(framing) % all.len()];
                self.world.write(self.conn(conn), client_frame(framing, 10, &body));
            }
            Op::Bytes { conn, bytes } => self.world.write(self.conn(conn), bytes.into()),
            Op::Halves { from, to, conn, at } => {
                let (conn, mut message) = (self.conn(conn), self.message(from, to));
                let first = message.split_to(usize::from(at).min(message.len()));
                self.world.write(conn, first);
                self.world.pass(1);
                self.world.write(conn, message);
            }
            Op::Repeat { conn } => {
                let last = self.last.clone();
                self.world.write(self.conn(conn), last);
            }
            Op::Web { who, body } => self.web(person(who), &body),
            Op::Neighbors { which, named } => self.neighbors(which, named),
            Op::Dialed { is_there, who, greets } => self.dialed(is_there, who, greets),
            Op::Passed { from, to, conn, rcpt, traces } => {
                let passed = self.passed(from, to, rcpt, traces);
                self.world.write(self.conn(conn), passed);
            }
            Op::Close { conn } => self.world.close(self.conn(conn)),
            Op::Pass { ms } => self.world.pass(u64::from(ms)),
            Op::Reload { trust, narrow } => {
                for index in 0..SHARDS {
                    let (policy, ans) = (Arc::new(policy(trust, narrow)), Arc::<Ans>::default());
                    self.world.tell(ShardIndex(index), Input::Reload { policy, ans });
                }
            }
            Op::Kill => self.world.start(SHARDS),
            Op::Stop { shard } => {
                self.world.tell(ShardIndex(u16::from(shard) % SHARDS), Input::Stop);
            }
        }
    }
}

fuzz_target!(|story: Story| {
    let world = World::new(SHARDS, policy(story.trust, story.narrow));
    let mut run = Run { world, conns: Vec::new(), pens: pens().to_vec(), last: Bytes::new() };
    for op in story.ops.into_iter().take(OPS_MAX) {
        run.op(op);
        run.world.shards.iter().for_each(|shard| shard.check());
    }
    // Everybody leaves; nothing may be left of them.
    for conn in std::mem::take(&mut run.conns) {
        run.world.close(conn);
    }
    run.world.pass(1000);
    for shard in &run.world.shards {
        shard.check();
        assert_eq!(shard.connections(), 0, "a connection that was closed");
    }
});
