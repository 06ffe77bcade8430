//! Two shards under any list of things that can happen to them: whatever comes, no shard is at odds
//! with itself, and of connections that are gone nothing is left.
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

fn people() -> &'static [Account; 3] {
    static PEOPLE: OnceLock<[Account; 3]> = OnceLock::new();
    PEOPLE.get_or_init(|| {
        let ring = Ring::new(SHARDS);
        [(0, 1), (0, 50), (1, 100)].map(|(shard, from)| person_of(ShardIndex(shard), ring, from))
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
    match which % 9 {
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
        _ => json!({"type": 136, "sn": 9, "command": "login", "did": id, "time": 1.79e9,
            "station": {"did": "gsp@everywhere", "host": "127.0.0.1", "port": 9394}}),
    }
}

struct Run {
    world: World,
    conns: Vec<ConnId>,
    pens: Vec<Pen>,
}

impl Run {
    fn conn(&self, conn: u8) -> ConnId {
        match self.conns.len() {
            0 => ConnId(0),
            count => self.conns[usize::from(conn) % count],
        }
    }

    fn message(&mut self, from: u8, to: u8) -> Bytes {
        let count = people().len();
        let pen = usize::from(from) % count * count + usize::from(to) % count;
        self.pens[pen].frame(Framing::Mtp)
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
    let mut run = Run { world, conns: Vec::new(), pens: pens().to_vec() };
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
