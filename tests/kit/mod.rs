//! What the tests with real sockets share: the station as a program, people, and clients that
//! block. Whatever is waited for has one generous deadline; nothing sleeps.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    reason = "tests open sockets, start programs and stop at the first surprise; each takes a part"
)]

mod bots;
mod client;
mod frames;
mod link;
mod person;
mod station;

use std::time::Duration;

pub(crate) use bots::{Bot, User, account, unstamped, with_bot, with_bot_in, write_bot_settings};
pub(crate) use client::{Client, Heard};
pub(crate) use frames::{Form, Package, frame, handshake_request, take};
pub(crate) use link::{Link, Pieces};
pub(crate) use person::{Letter, Person, command};
pub(crate) use station::Station;

/// How long anything may take on a slow, loaded machine. Nothing waits so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A setting from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Numbers from a seed: splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}
