//! A client under whatever a station writes to it, at whatever time: it neither fails nor runs on,
//! and always has a reason to wake up, or none.
#![no_main]

#[path = "../../benches/kit/mod.rs"]
mod kit;

use std::sync::{Arc, OnceLock};

use arbitrary::Arbitrary;
use bytes::Bytes;
use dim::base::time::Now;
use dim::client::account::Account;
use dim::client::directory::Directory;
use dim::client::keys::KeyStore;
use dim::client::messenger::Outgoing;
use dim::client::say;
use dim::client::terminal::{Effect, Input, Settings, Terminal};
use dim::proto::id::Id;
use dim::wire::{Framing, push_head, upgrade};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// Operations of one input; more are cut off, so that an execution stays short.
const OPS_MAX: usize = 24;
/// What one operation may lead to; far more than any does.
const EFFECTS_MAX: usize = 4096;

#[derive(Debug, Arbitrary)]
enum Op {
    Start,
    Connected,
    /// The WebSocket that was asked for is open.
    Upgrade,
    /// As it stands.
    Bytes(Vec<u8>),
    /// As a package of the framing in use.
    Body(Vec<u8>),
    /// A content that somebody signed and said in the open.
    Said {
        who: u8,
        to_us: bool,
        content: String,
    },
    /// A handshake of the station.
    Handshake {
        title: u8,
        session: Option<String>,
    },
    /// A text under seal.
    Mail {
        who: u8,
    },
    Closed,
    Timer,
    Leave,
    Send {
        to: u8,
    },
    Pass {
        ms: u32,
    },
}

#[derive(Debug, Arbitrary)]
struct Story {
    web: bool,
    ops: Vec<Op>,
}

fn people() -> &'static [Account; 3] {
    static PEOPLE: OnceLock<[Account; 3]> = OnceLock::new();
    PEOPLE.get_or_init(|| [1, 2, 3].map(kit::person))
}

fn person(who: u8) -> &'static Account {
    let people = people();
    &people[usize::from(who) % people.len()]
}

/// A package as a station writes it.
fn frame(web: bool, body: &[u8]) -> Input {
    let framing = if web { Framing::WebSocket } else { Framing::Mtp };
    let len = u32::try_from(body.len()).expect("a short body");
    Input::Received([&push_head(framing, 1, len), body].concat().into())
}

fn input(op: Op, web: bool, asked: &[u8], now: &mut Now) -> Input {
    let us = person(0);
    match op {
        Op::Start => Input::Start,
        Op::Connected => Input::Connected,
        Op::Upgrade => {
            let key = upgrade::request_key(asked).unwrap_or_default();
            Input::Received(upgrade::answer(key))
        }
        Op::Bytes(bytes) => Input::Received(bytes.into()),
        Op::Body(body) => frame(web, &body),
        Op::Said { who, to_us, content } => {
            let content = serde_json::from_str(&content).unwrap_or(json!({"type": 1}));
            let to = if to_us { us.id().as_str() } else { "everyone@everywhere" };
            frame(web, &kit::said(person(who), to, &content, *now))
        }
        Op::Handshake { title, session } => {
            let titles = ["DIM?", "DIM!", "Hello world!", "anything"];
            let content = json!({"type": 136, "sn": 1, "command": "handshake",
                "title": titles[usize::from(title) % titles.len()], "session": session});
            frame(web, &kit::said(person(2), "everyone@everywhere", &content, *now))
        }
        Op::Mail { who } => frame(web, &kit::Pen::new(person(who), us).message()),
        Op::Closed => Input::Closed,
        Op::Timer => Input::Timer,
        Op::Leave => Input::Leave,
        Op::Send { to } => {
            let receiver = match to % 4 {
                0 => Id::everyone(),
                1 => Id::station_any(),
                to => person(to).id().clone(),
            };
            Input::Send(Outgoing { token: 7, receiver, content: say::text("hello") })
        }
        Op::Pass { ms } => {
            now.mono_ms += u64::from(ms);
            now.wall_us += u64::from(ms) * 1000;
            Input::Timer
        }
    }
}

fuzz_target!(|story: Story| {
    let framing = if story.web { Framing::WebSocket } else { Framing::Mtp };
    let settings = Arc::new(Settings { framing, ..Settings::new("127.0.0.1", 9394) });
    let account = person(0).clone();
    let directory = Directory::with(account.clone());
    let mut terminal = Terminal::new(settings, account, directory, KeyStore::default(), 1);
    let mut now = Now { mono_ms: 0, wall_us: kit::EPOCH_US };
    let (mut out, mut asked) = (Vec::new(), Bytes::new());
    for op in story.ops.into_iter().take(OPS_MAX) {
        let input = input(op, story.web, &asked, &mut now);
        terminal.handle(input, now, &mut out);
        assert!(out.len() < EFFECTS_MAX, "too much from one input");
        for effect in out.drain(..) {
            if let Effect::Write(bytes) = effect {
                assert!(!bytes.is_empty());
                if bytes.starts_with(b"GET ") {
                    asked = bytes;
                }
            }
        }
        // What was due is done, so that whoever drives it does not turn in circles.
        terminal.handle(Input::Timer, now, &mut out);
        out.clear();
        if let Some(due) = terminal.next_deadline_ms() {
            assert!(due > now.mono_ms, "due at {due}, and it is {}", now.mono_ms);
        }
    }
});
